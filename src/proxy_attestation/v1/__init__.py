"""Code generated from proto/proxy_attestation/v1 by `make generate`."""
