"""What each user of the TSS shares: its Python binding, the parent of keys, templates, a signature."""

import importlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

from proxy_attestation.attester.model import unavailable
from proxy_attestation.formats.tpm import decode_public, decode_signature

DEVICE: Final = "device:/dev/tpmrm0"
"""The kernel's resource manager, as a TCTI."""
_OWN: Final = "FIXEDTPM FIXEDPARENT SENSITIVEDATAORIGIN USERWITHAUTH"
# A storage key of the owner hierarchy, the same each time it is made: its children can be loaded again.
_PARENT: Final = ("NODA RESTRICTED DECRYPT", "ecc:aes128cfb")


@dataclass(frozen=True, slots=True)
class KeyBlob:
    """A key that a TPM made, outside of it: encrypted for its parent, which only that TPM has.

    Attributes:
        private: TPM2B_PRIVATE, as the TSS's binding holds it.
        public: TPM2B_PUBLIC, likewise.
    """

    private: Any
    public: Any


def binding() -> tuple[Any, Any]:
    """Return the TSS's binding and its utilities.

    Raises:
        UnavailableError: `attester.unavailable`, where it is not installed.
    """
    try:
        return importlib.import_module("tpm2_pytss"), importlib.import_module("tpm2_pytss.utils")
    except (ImportError, NotImplementedError) as error:
        raise unavailable(f"the TSS's binding is absent (install the extra `tpm`): {error}") from error


def sign_with(tss: Any, esys: Any, handle: Any, key: KeyBlob, digest: bytes) -> bytes:
    """Sign 32 bytes, a SHA-256 digest, with a loaded key: ECDSA, DER. Whatever the TSS raises is the caller's."""
    scheme = tss.TPMT_SIG_SCHEME(scheme=tss.TPM2_ALG.ECDSA)
    scheme.details.any.hashAlg = tss.TPM2_ALG.SHA256
    signature = esys.sign(handle, digest, scheme)
    public = decode_public(bytes(key.public.publicArea.marshal())).key
    return decode_signature(bytes(signature.marshal()), public).value


@contextmanager
def parent_of_keys(tss: Any, esys: Any) -> Iterator[Any]:
    """Load the parent of the subject's keys."""
    parent, *_ = esys.create_primary(None, template(tss, *_PARENT), tss.ESYS_TR.OWNER)
    try:
        yield parent
    finally:
        esys.flush_context(parent)


def template(tss: Any, attributes: str, kind: str) -> Any:
    """Return a template for a key that this TPM makes and never gives away.

    Args:
        tss: the binding.
        attributes: what the key is beside that, names of TPMA_OBJECT with blanks between.
        kind: as the TSS writes it, such as `ecc256:ecdsa-sha256:null`.
    """
    bits = tss.TPMA_OBJECT(0)
    for name in [*_OWN.split(), *attributes.split()]:
        bits |= getattr(tss.TPMA_OBJECT, name)
    return tss.TPM2B_PUBLIC.parse(kind, objectAttributes=bits)
