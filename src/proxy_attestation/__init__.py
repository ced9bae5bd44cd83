"""A certificate authority that signs only for attested code."""

__version__ = "0.1.0"
