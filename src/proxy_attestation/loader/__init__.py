"""Key and request in the TEE, evidence, certificate, TLS termination, renewal for ever."""
