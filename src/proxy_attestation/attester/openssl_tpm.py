"""OpenSSL's provider `tpm2` (Debian package tpm2-openssl), loaded into the OpenSSL that Python's `ssl` uses.

With it `SSLContext.load_cert_chain` takes a `TSS2 PRIVATE KEY`, and handshakes are signed in the TPM. What comes with
it, for the whole process, since Python's `ssl` has no library context of its own to give:

  - the provider is preferred wherever it can do something, else a signature would be tried with OpenSSL's own and a key
    that it does not have; digests and ciphers are excepted;
  - elliptic curve keys are then the provider's, so that libssl drops the NIST curves from its groups: TLS agrees on
    keys with X25519 (or X448), in both directions;
  - `TPM2OPENSSL_TCTI` is set: how the provider reaches the TPM.
"""

import ctypes
import importlib
import os
from typing import Any, Final

from proxy_attestation.attester.model import unavailable

_TCTI: Final = "TPM2OPENSSL_TCTI"
_PROPERTIES: Final = b"?provider=tpm2,tpm2.digest!=yes,tpm2.cipher!=yes"
_loaded: list[str] = []


def load_tpm_provider(tcti: str) -> None:
    """Load the provider, once a process.

    Args:
        tcti: how the TSS reaches the TPM.

    Raises:
        UnavailableError: `attester.unavailable`, where this Python's OpenSSL cannot load it, it is not installed, or
            it was loaded for another TPM.
    """
    if _loaded:
        if _loaded != [tcti]:
            raise unavailable("OpenSSL's tpm2 provider serves one TPM a process")
        return
    libcrypto = _libcrypto()
    # Read by the provider when it is loaded; in the C library's environment too.
    os.environ[_TCTI] = tcti
    # A provider that is loaded by name turns the automatic loading of the default one off.
    for name in (b"default", b"tpm2"):
        if not libcrypto.OSSL_PROVIDER_load(None, name):
            raise unavailable(
                f"OpenSSL has no provider {name.decode()}: install tpm2-openssl, and use a Python that links the "
                "system's OpenSSL; or allow a key in this process's memory with [danger] software_key"
            )
    if libcrypto.EVP_set_default_properties(None, _PROPERTIES) != 1:
        raise unavailable("OpenSSL does not take the tpm2 provider's properties")
    _loaded.append(tcti)


def _libcrypto() -> Any:
    """Return the libcrypto that `ssl` uses: another copy of it in this process would be of no use.

    A symbol that is looked for in a library is looked for in those that it links too.
    """
    try:
        path = getattr(importlib.import_module("_ssl"), "__file__", None)
        library = ctypes.CDLL(path)
        library.OSSL_PROVIDER_load.restype = ctypes.c_void_p
        library.OSSL_PROVIDER_load.argtypes = [ctypes.c_void_p, ctypes.c_char_p]
        library.EVP_set_default_properties.argtypes = [ctypes.c_void_p, ctypes.c_char_p]
    except (ImportError, OSError, AttributeError) as error:
        raise unavailable(
            f"this Python's OpenSSL loads no providers ({error}): use one that links the system's OpenSSL 3, such as "
            "the distribution's; or allow a key in this process's memory with [danger] software_key"
        ) from error
    return library
