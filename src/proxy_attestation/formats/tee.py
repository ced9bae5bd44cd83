"""The kinds of trusted execution environment that the formats know."""

from enum import StrEnum


class Tee(StrEnum):
    """A kind of TEE, spelled as on the wire, in policies and in claims."""

    SGX = "sgx"
    TDX = "tdx"
