"""Give Python's `ssl` a private key that signs elsewhere.

`SSLContext.load_cert_chain` takes keys from files alone, and OpenSSL's provider for TPMs, which would let a file stand
for a key in one, has to be preferred in the whole process: it then verifies other people's signatures in the TPM too,
with what curves that has, and takes the NIST curves out of key agreement. So the key is handed to libssl as the object
that it is, an EC_KEY with a method of its own (EC_KEY_METHOD, in every OpenSSL 3): `SSL_CTX_use_PrivateKey`. Nothing
else in the process changes.

Two things are not Python's to promise, and are looked at before anything rests on them: that `ssl` links a libssl whose
functions can be called, and where an `SSLContext` keeps its `SSL_CTX`, the first field of the object (Modules/_ssl.c,
`PySSLContext`, in the versions listed).
"""

import ctypes
import importlib
import itertools
import ssl
import sys
from ctypes import CFUNCTYPE, POINTER, c_char_p, c_int, c_size_t, c_ubyte, c_uint, c_uint64, c_void_p
from functools import cache
from typing import Any, Final

from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from proxy_attestation.attester.model import unavailable
from proxy_attestation.attester.resident_key import ResidentKey
from proxy_attestation.errors import ProxyAttestationError

_VERSIONS: Final = ((3, 11), (3, 12), (3, 13), (3, 14))
_NID_P256: Final = 415
_EVP_PKEY_EC: Final = 408
_EX_INDEX_EC_KEY: Final = 8
_DIGEST_BYTES: Final = 32
_SIGNATURE_MAX: Final = 72
_TICKETS: Final = 5
# (type, digest, length, signature, its length, k inverse, r, key), as EC_KEY_METHOD_set_sign has it.
_SIGN: Final = CFUNCTYPE(
    c_int, c_int, POINTER(c_ubyte), c_int, POINTER(c_ubyte), POINTER(c_uint), c_void_p, c_void_p, c_void_p
)
_FUNCTIONS: Final[dict[str, tuple[Any, tuple[Any, ...]]]] = {
    "CRYPTO_get_ex_new_index": (c_int, (c_int, c_void_p, c_void_p, c_void_p, c_void_p, c_void_p)),
    "EC_KEY_OpenSSL": (c_void_p, ()),
    "EC_KEY_METHOD_new": (c_void_p, (c_void_p,)),
    "EC_KEY_METHOD_set_sign": (None, (c_void_p, _SIGN, c_void_p, c_void_p)),
    "EC_KEY_new_by_curve_name": (c_void_p, (c_int,)),
    "EC_KEY_free": (None, (c_void_p,)),
    "EC_KEY_oct2key": (c_int, (c_void_p, c_char_p, c_size_t, c_void_p)),
    "EC_KEY_set_method": (c_int, (c_void_p, c_void_p)),
    "EC_KEY_set_ex_data": (c_int, (c_void_p, c_int, c_void_p)),
    "EC_KEY_get_ex_data": (c_void_p, (c_void_p, c_int)),
    "ERR_clear_error": (None, ()),
    "EVP_PKEY_new": (c_void_p, ()),
    "EVP_PKEY_free": (None, (c_void_p,)),
    "EVP_PKEY_assign": (c_int, (c_void_p, c_int, c_void_p)),
    "SSL_CTX_get_num_tickets": (c_size_t, (c_void_p,)),
    "SSL_CTX_get_options": (c_uint64, (c_void_p,)),
    "SSL_CTX_use_certificate_chain_file": (c_int, (c_void_p, c_char_p)),
    "SSL_CTX_use_PrivateKey": (c_int, (c_void_p, c_void_p)),
}


class _OpenSsl:
    """The library that `ssl` uses, and the one method by which our keys sign."""

    def __init__(self) -> None:
        try:
            # A symbol that is looked for in a library is looked for in those that it links too.
            library = ctypes.CDLL(getattr(importlib.import_module("_ssl"), "__file__", None))
            for name, (result, arguments) in _FUNCTIONS.items():
                function = getattr(library, name)
                function.restype, function.argtypes = result, arguments
        except (ImportError, OSError, AttributeError) as error:
            raise _unfit(str(error)) from error
        self.library: Any = library
        _check_layout(library)
        self._sign = _SIGN(self._called)  # OpenSSL keeps its address
        self._method: Final = library.EC_KEY_METHOD_new(library.EC_KEY_OpenSSL())
        library.EC_KEY_METHOD_set_sign(self._method, self._sign, None, None)
        self._index: Final = library.CRYPTO_get_ex_new_index(_EX_INDEX_EC_KEY, None, None, None, None, None)
        self._numbers = itertools.count(1)
        self._keys: dict[int, ResidentKey] = {}

    def use(self, context: ssl.SSLContext, chain_file: str, key: ResidentKey) -> int:
        library, context_address = self.library, _address(context)
        point = key.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
        number = next(self._numbers)
        ec_key, holder = library.EC_KEY_new_by_curve_name(_NID_P256), library.EVP_PKEY_new()
        good = (
            library.EC_KEY_oct2key(ec_key, point, len(point), None)
            and library.EC_KEY_set_method(ec_key, self._method)
            and library.EC_KEY_set_ex_data(ec_key, self._index, number)
            and library.EVP_PKEY_assign(holder, _EVP_PKEY_EC, ec_key)
        )
        if not good:
            library.EC_KEY_free(ec_key)
        good = (
            good
            and library.SSL_CTX_use_certificate_chain_file(context_address, chain_file.encode()) == 1
            # Refused where the certificate is for another key.
            and library.SSL_CTX_use_PrivateKey(context_address, holder) == 1
        )
        library.EVP_PKEY_free(holder)
        if not good:
            library.ERR_clear_error()
            raise unavailable("OpenSSL does not take the certificate with a key in the TPM")
        self._keys[number] = key
        return number

    def forget(self, number: int) -> None:
        self._keys.pop(number, None)

    def _called(
        self, _type: int, digest: Any, length: int, signature: Any, size: Any, _inverse: int, _r: int, ec_key: int
    ) -> int:
        """Sign for libssl; 0 is its failure."""
        key = self._keys.get(self.library.EC_KEY_get_ex_data(ec_key, self._index) or 0)
        if key is None or length != _DIGEST_BYTES:
            return 0
        try:
            made = key.sign_digest(ctypes.string_at(digest, length))
        except ProxyAttestationError:
            return 0
        if len(made) > _SIGNATURE_MAX:
            return 0
        ctypes.memmove(signature, made, len(made))
        size[0] = len(made)
        return 1


def require_foreign_keys() -> None:
    """Check that this Python's `ssl` can be given a key that signs elsewhere.

    Raises:
        UnavailableError: `attester.unavailable`.
    """
    _openssl()


def use_resident_key(context: ssl.SSLContext, chain_file: str, key: ResidentKey) -> int:
    """Have a context serve a certificate whose key is in the TPM.

    Args:
        context: of a server.
        chain_file: PEM, the leaf first; read before this returns.
        key: the leaf's, P-256.

    Returns:
        A number for `forget_resident_key`.

    Raises:
        UnavailableError: `attester.unavailable`.
    """
    return _openssl().use(context, chain_file, key)


def forget_resident_key(number: int) -> None:
    """Sign no more handshakes under what `use_resident_key` returned this number for."""
    _openssl().forget(number)


@cache
def _openssl() -> _OpenSsl:
    return _OpenSsl()


def _address(context: ssl.SSLContext) -> int:
    return int(c_void_p.from_address(id(context) + object.__basicsize__).value or 0)


def _check_layout(library: Any) -> None:
    if sys.implementation.name != "cpython" or sys.version_info[:2] not in _VERSIONS:
        raise _unfit(f"{sys.implementation.name} {sys.version_info[0]}.{sys.version_info[1]} was not looked at")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.num_tickets = _TICKETS
    found = library.SSL_CTX_get_num_tickets(_address(context)), library.SSL_CTX_get_options(_address(context))
    if found != (_TICKETS, int(context.options)):
        raise _unfit("an SSLContext is not what it was")


def _unfit(why: str) -> Exception:
    first, last = (".".join(map(str, version)) for version in (_VERSIONS[0], _VERSIONS[-1]))
    return unavailable(
        f"this Python's OpenSSL cannot be given a key in a TPM ({why}): use CPython {first} to {last} that links the "
        "system's OpenSSL 3, such as the distribution's; or allow a key in memory with [danger] software_key"
    )
