"""Keys inside a PKCS#11 token (OASIS PKCS #11 v3.0): made there, used there, never seen here.

Each key is a pair of objects with one label, ``<object>-root`` or ``<object>-issuing-N``, `object` being the URI's
(RFC 7512): several authorities may share a token. Private keys are made sensitive and not extractable.

The token's library is loaded into the authority's process, as the operator's URI names it, and is trusted like our own
code. `python-pkcs11` is imported only here, and only where an authority was made with such keys.
"""

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any, Final, TypeVar
from urllib.parse import parse_qsl, unquote, urlsplit

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

from proxy_attestation.authority.keys import LOG_NAME, ROOT_NUMBER, key_name
from proxy_attestation.authority.private_files import read_private
from proxy_attestation.codes import Code
from proxy_attestation.errors import ConfigurationError, RefusedError, UnavailableError
from proxy_attestation.formats.csr import spki_of
from proxy_attestation.formats.key_transfer import TransferredKey

URI_MAX: Final = 1024
PIN_MAX: Final = 256

_SCHEME: Final = "pkcs11"
_HALF: Final = 32  # of a P-256 signature: r and s, each in 32 bytes, big-endian (PKCS #11 v3.0, CKM_ECDSA)
_P256: Final = bytes.fromhex("06082a8648ce3d030107")  # CKA_EC_PARAMS: the OID of secp256r1
_ED25519: Final = b"\x13\x0cedwards25519"  # likewise, a curveName (PrintableString; PKCS #11 v3.0 section 2.3.5)
_ED25519_BYTES: Final = 32

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class TokenUri:
    """What of RFC 7512's URI we take; anything else in one is refused, as is a PIN inside it.

    Attributes:
        token: the token's label.
        label: what the labels of the keys begin with.
        module: path of the token's library.
        pin: path of the file with the user's PIN, mode 0600.
    """

    token: str
    label: str
    module: Path
    pin: Path


def parse_uri(text: str) -> TokenUri:
    """Read ``pkcs11:token=T;object=O?module-path=/lib.so&pin-source=file:/pin``.

    Raises:
        ConfigurationError: `configuration.malformed`.
    """
    parts = urlsplit(text)
    path = dict(pair.partition("=")[::2] for pair in parts.path.split(";"))
    query = dict(parse_qsl(parts.query, keep_blank_values=True))
    pin, module = query.get("pin-source", ""), query.get("module-path", "")
    pin = pin.removeprefix("file:")
    fits = (
        len(text) <= URI_MAX
        and text.isprintable()
        and (parts.scheme, parts.netloc, parts.fragment) == (_SCHEME, "", "")
        and set(path) == {"token", "object"}
        and set(query) == {"module-path", "pin-source"}
        and all(path.values())
        and module.startswith("/")
        and pin.startswith("/")
    )
    if not fits:
        wanted = "pkcs11:token=TOKEN;object=PREFIX?module-path=/LIBRARY.so&pin-source=file:/PIN"
        raise ConfigurationError(Code.CONFIGURATION_MALFORMED, f"{text[:URI_MAX]!r}: write {wanted}")
    return TokenUri(unquote(path["token"]), unquote(path["object"]), Path(module), Path(pin))


class TokenSigner:
    """A private key in a token."""

    __slots__ = ("_name", "_token", "spki")

    def __init__(self, token: "TokenKeys", name: str, spki: bytes) -> None:
        self._token = token
        self._name = name
        self.spki = spki

    def sign(self, tbs: bytes) -> bytes:
        """Return the DER of an ecdsa-with-SHA256 signature.

        Raises:
            UnavailableError: `keys.unavailable`, when the token does not answer.
        """
        raw = self._token.sign(self._name, sha256(tbs).digest(), "ECDSA")
        return encode_dss_signature(int.from_bytes(raw[:_HALF]), int.from_bytes(raw[_HALF:]))


class TokenLogKey:
    """The log's private key in a token."""

    __slots__ = ("_name", "_token", "public_key")

    def __init__(self, token: "TokenKeys", name: str, public_key: bytes) -> None:
        self._token = token
        self._name = name
        self.public_key = public_key

    def sign(self, text: bytes) -> bytes:
        """Return an Ed25519 signature, 64 bytes.

        Raises:
            UnavailableError: `keys.unavailable`, when the token does not answer.
        """
        return self._token.sign(self._name, text, "EDDSA")


class TokenKeys:
    """The authority's keys in one token. A session that broke is opened again at the next use."""

    origin = "pkcs11"

    def __init__(self, uri: str) -> None:
        """Take the URI; nothing is opened yet.

        Raises:
            ConfigurationError: `configuration.malformed`.
        """
        self._uri = parse_uri(uri)
        self._session: Any = None
        self._handles: dict[str, Any] = {}

    def load(self, number: int) -> TokenSigner:
        """Return a key.

        Raises:
            ConfigurationError: `authority.state`, when the token has no such key.
            UnavailableError: `keys.unavailable`, and so in every method here.
        """
        name = self._name(number)
        # An OCTET STRING of 65 bytes around the uncompressed point.
        point = self._point(name).removeprefix(b"\x04\x41")
        try:
            key = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), point)
        except ValueError as error:
            raise ConfigurationError(Code.AUTHORITY_STATE, f"{name!r} in the token: not a P-256 key") from error
        return TokenSigner(self, name, spki_of(key))

    def make(self, number: int) -> TokenSigner:
        """Make a key.

        Raises:
            ConfigurationError: `keys.exist`, for a root whose label is taken: it is another authority's.
        """
        name = self._name(number)
        if number <= ROOT_NUMBER and self._ask(lambda binding, session: self._all(binding, session, name)):
            raise ConfigurationError(Code.KEYS_EXIST, f"the token has {name!r} already: choose another object")
        self._generate(name, "EC", _P256, "EC_KEY_PAIR_GEN")
        return self.load(number)

    def load_log(self) -> TokenLogKey:
        """Return the log's key.

        Raises:
            ConfigurationError: `authority.state`, when the token has no such key.
        """
        name = f"{self._uri.label}-{LOG_NAME}"
        # An OCTET STRING of 32 bytes; some tokens give the bytes alone.
        public_key = self._point(name).removeprefix(b"\x04\x20")
        if len(public_key) != _ED25519_BYTES:
            raise ConfigurationError(Code.AUTHORITY_STATE, f"{name!r} in the token: not an Ed25519 key")
        return TokenLogKey(self, name, public_key)

    def make_log(self) -> TokenLogKey:
        """Make the log's key."""
        self._generate(f"{self._uri.label}-{LOG_NAME}", "EC_EDWARDS", _ED25519, "EC_EDWARDS_KEY_PAIR_GEN")
        return self.load_log()

    def destroy(self, number: int) -> None:
        """Destroy a key; nothing happens where it is gone."""
        self._destroy(self._name(number))

    def _point(self, name: str) -> bytes:
        """Return CKA_EC_POINT of a public key."""

        def read(binding: Any, session: Any) -> list[bytes]:
            found = self._find(binding, session, binding.ObjectClass.PUBLIC_KEY, name)
            return [bytes(key[binding.Attribute.EC_POINT]) for key in found]

        points = self._ask(read)
        if len(points) != 1:
            raise ConfigurationError(Code.AUTHORITY_STATE, f"{len(points)} public keys {name!r} in the token")
        return points[0]

    def _generate(self, name: str, kind: str, curve: bytes, mechanism: str) -> None:
        """Make a pair of objects in the place of those that a start which failed has left."""
        self._destroy(name)

        def generate(binding: Any, session: Any) -> None:
            attribute = binding.Attribute
            parameters = session.create_domain_parameters(
                binding.KeyType[kind], {attribute.EC_PARAMS: curve}, local=True
            )
            parameters.generate_keypair(
                store=True,
                label=name,
                mechanism=binding.Mechanism[mechanism],
                private_template={attribute.SENSITIVE: True, attribute.EXTRACTABLE: False},
            )

        self._ask(generate)

    def _destroy(self, name: str) -> None:
        self._handles.pop(name, None)

        def remove(binding: Any, session: Any) -> None:
            for found in self._all(binding, session, name):
                found.destroy()

        self._ask(remove)

    def bind(self, settings: bytes) -> None:
        """Note nothing: whoever can change authority.toml has the PIN too."""

    def check(self, settings: bytes) -> None:
        """Check nothing, likewise."""

    def take(self) -> tuple[TransferredKey, ...]:
        """Refuse: that they cannot be taken out is what a token is for."""
        raise RefusedError(Code.KEYS_TOKEN)

    def sign(self, name: str, data: bytes, mechanism: str) -> bytes:
        """Sign with the key of a label: ECDSA a SHA-256 digest (r || s, big-endian), or EDDSA a text; 64 bytes."""

        def sign(binding: Any, session: Any) -> bytes:
            handle = self._handles.get(name)
            if handle is None:
                (handle,) = self._find(binding, session, binding.ObjectClass.PRIVATE_KEY, name)
                self._handles[name] = handle
            return bytes(handle.sign(data, mechanism=binding.Mechanism[mechanism]))

        signature = self._ask(sign)
        if len(signature) != 2 * _HALF:
            raise UnavailableError(Code.KEYS_UNAVAILABLE, f"a signature of {len(signature)} bytes from the token")
        return signature

    def _name(self, number: int) -> str:
        return f"{self._uri.label}-{key_name(number)}"

    def _find(self, binding: Any, session: Any, kind: Any, name: str) -> list[Any]:
        wanted = {binding.Attribute.CLASS: kind, binding.Attribute.LABEL: name}
        return list(session.get_objects(wanted))

    def _all(self, binding: Any, session: Any, name: str) -> list[Any]:
        kinds = (binding.ObjectClass.PRIVATE_KEY, binding.ObjectClass.PUBLIC_KEY)
        return [found for kind in kinds for found in self._find(binding, session, kind, name)]

    def _ask(self, work: Callable[[Any, Any], _T]) -> _T:
        """Let the token do something; whatever its library raises is one error of ours."""
        binding = _binding()
        try:
            if self._session is None:
                self._session = self._open(binding)
            return work(binding, self._session)
        except (ConfigurationError, UnavailableError):
            raise
        except Exception as error:
            # The binding raises its own classes, and RuntimeError or ValueError where a library misbehaves. Whatever
            # it was: with a session and handles of which nobody knows anything, the next use begins anew.
            self._session = None
            self._handles.clear()
            detail = f"token {self._uri.token!r}: {type(error).__name__} {error}".rstrip()
            raise UnavailableError(Code.KEYS_UNAVAILABLE, detail) from error

    def _open(self, binding: Any) -> Any:
        try:
            pin = read_private(self._uri.pin, PIN_MAX).decode().strip()
        except (OSError, UnicodeError) as error:
            raise ConfigurationError(Code.AUTHORITY_STATE, f"{self._uri.pin}: {error}") from error
        token = binding.lib(str(self._uri.module)).get_token(token_label=self._uri.token)
        try:
            return token.open(user_pin=pin, rw=True)
        except binding.exceptions.UserAlreadyLoggedIn:
            # A login is the process's, not a session's (PKCS #11 v3.0 section 5.6): another session of ours has it.
            return token.open(rw=True)


def _binding() -> Any:
    try:
        return importlib.import_module("pkcs11")
    except ImportError as error:
        detail = f"python-pkcs11 is absent (install the extra `pkcs11`): {error}"
        raise UnavailableError(Code.KEYS_UNAVAILABLE, detail) from error
