"""Code generated from proto/proxy_attestation/ekep/v1 by `make generate`."""
