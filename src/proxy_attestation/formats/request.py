"""The request of a workload: which entry, which TEE, which names, how long, and what it says of itself.

Deterministic CBOR ``{1: workload entry, 2: tee, 3: names, 4: lifetime in s, 5: runtime claims}``. Names are text for
DNS names (A-labels, lower case) and URIs (with ``://``), byte strings of 4 or 16 for IP addresses, sorted bytewise by
their encodings, without repetition. Runtime claims: ``{1: application kind, 2: application SHA-256 (kinds other than 0,
where one is claimed), 3: key origin}``. The request travels as these bytes and is hashed as these bytes.
"""

import ipaddress
import re
from dataclasses import dataclass
from enum import IntEnum
from itertools import pairwise
from typing import Annotated, Final

from proxy_attestation.codes import Code
from proxy_attestation.errors import FormatError
from proxy_attestation.formats import cbor
from proxy_attestation.formats.bounds import NAMES_MAX, REQUEST_MAX
from proxy_attestation.formats.tee import Tee
from proxy_attestation.formats.values import Item, Record, as_bytes, as_list, as_member, as_uint

LIFETIME_MAX: Final = 366 * 24 * 3600
_ENTRY: Final = re.compile(r"[a-z0-9]([a-z0-9._-]{0,61}[a-z0-9])?\Z")
_LABEL: Final = r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?"
_DNS: Final = re.compile(rf"{_LABEL}(\.{_LABEL})*\Z")
# RFC 3986, as much as a SPIFFE ID or an https URI needs: no user information, no query, no fragment.
_URI: Final = re.compile(r"[a-z][a-z0-9+.-]{0,31}://[a-z0-9._-]{1,255}(:[0-9]{1,5})?(/[A-Za-z0-9._~-]{1,255}){0,16}\Z")


class ApplicationKind(IntEnum):
    """What the loader terminates TLS for."""

    NONE = 0
    WASM = 1
    CHILD = 2
    ADDRESS = 3


class KeyOrigin(IntEnum):
    """Where a private key was made and lives."""

    SOFTWARE = 0
    TEE = 1
    TPM = 2


@dataclass(frozen=True, slots=True)
class Names:
    """The names of a certificate.

    Attributes:
        dns: A-labels, lower case, sorted.
        ip: 4 or 16 bytes each, sorted.
        uri: absolute URIs, sorted.
    """

    dns: tuple[str, ...] = ()
    ip: tuple[bytes, ...] = ()
    uri: tuple[str, ...] = ()

    def encoded(self) -> list[str | bytes]:
        """Return all names in the order of the request."""
        everything: list[str | bytes] = [*self.dns, *self.uri, *self.ip]
        return sorted(everything, key=_rank)

    def readable(self) -> tuple[str, ...]:
        """Return all names as text, for people."""
        return (*self.dns, *(str(ipaddress.ip_address(raw)) for raw in self.ip), *self.uri)


def _rank(name: str | bytes) -> tuple[bool, int, str | bytes]:
    """Return what puts names into the order of their encodings: byte strings, then text, which is all of it ASCII."""
    return (isinstance(name, str), len(name), name)


def is_workload_name(text: str) -> bool:
    """Tell whether `text` can name a policy entry (and so be a SPIFFE path segment): 1 to 63 of [a-z0-9._-]."""
    return _ENTRY.match(text) is not None


def is_dns_name(text: str) -> bool:
    """Tell whether `text` is a DNS name as certificates carry it: A-labels, lower case, no wildcard, no final dot."""
    # A name whose last label is all digits could be read as an IPv4 address by someone else.
    return len(text) <= 253 and _DNS.match(text) is not None and not text.rpartition(".")[2].isdigit()


def is_uri_name(text: str) -> bool:
    """Tell whether `text` is a URI that a request may name."""
    return len(text) <= 2048 and _URI.match(text) is not None


def names_from(dns: tuple[str, ...] = (), ip: tuple[str, ...] = (), uri: tuple[str, ...] = ()) -> Names:
    """Build sorted names from text; repeated names count once.

    Raises:
        FormatError: `request.malformed`, for a name that no certificate may carry.
    """
    for bad in [name for name in dns if not is_dns_name(name)] + [name for name in uri if not is_uri_name(name)]:
        raise FormatError(Code.REQUEST_MALFORMED, f"not a name that a certificate can carry: {bad!r}")
    try:
        packed = tuple(sorted({ipaddress.ip_address(text).packed for text in ip}))
    except ValueError as error:
        raise FormatError(Code.REQUEST_MALFORMED, str(error)) from error
    return Names(tuple(sorted(set(dns))), packed, tuple(sorted(set(uri))))


def _workload(value: object, code: Code) -> str:
    if not isinstance(value, str) or not is_workload_name(value):
        raise FormatError(code, "not the name of a workload entry")
    return value


def _names(value: object, code: Code) -> Names:
    dns: list[str] = []
    ip: list[bytes] = []
    uri: list[str] = []
    items = as_list(value, code, NAMES_MAX)
    for item in items:
        if isinstance(item, bytes) and len(item) in (4, 16):
            ip.append(item)
        elif isinstance(item, str) and is_dns_name(item):
            dns.append(item)
        elif isinstance(item, str) and is_uri_name(item):
            uri.append(item)
        else:
            raise FormatError(code, "not a name that a certificate can carry")
    if len(items) > 1:
        ranks = [_rank(item) for item in items]
        if any(one >= other for one, other in pairwise(ranks)):
            raise FormatError(code, "not sorted, or repeated")
    return Names(tuple(sorted(dns)), tuple(sorted(ip)), tuple(sorted(uri)))


@dataclass(frozen=True, slots=True)
class RuntimeClaims:
    """What the loader says of itself. Nothing here is attested: policy decides what it may rest on.

    Attributes:
        application_kind: what runs behind the loader.
        application_sha256: 32 bytes, or None where no claim is made.
        key_origin: where the key of the certificate was made.
    """

    application_kind: Annotated[ApplicationKind, Item(1, as_member, (ApplicationKind,))]
    application_sha256: Annotated[bytes | None, Item(2, as_bytes, (32,), absent=None)]
    key_origin: Annotated[KeyOrigin, Item(3, as_member, (KeyOrigin,))]


_RUNTIME: Final = Record(RuntimeClaims)


def _runtime(value: object, code: Code) -> RuntimeClaims:
    runtime = RuntimeClaims(**_RUNTIME.read(value, code))
    if runtime.application_kind is ApplicationKind.NONE and runtime.application_sha256 is not None:
        raise FormatError(code, "an application digest without an application")
    return runtime


@dataclass(frozen=True, slots=True)
class Request:
    """One request for a certificate.

    Attributes:
        workload: the name of exactly one policy entry.
        tee: the kind of evidence that comes with it.
        names: the names asked for; the entry's SPIFFE ID is granted with or without being asked for.
        lifetime: in seconds, 1 to `LIFETIME_MAX`.
        runtime: what the loader says of itself.
    """

    workload: Annotated[str, Item(1, _workload)]
    tee: Annotated[Tee, Item(2, as_member, (Tee,))]
    names: Annotated[Names, Item(3, _names, write=Names.encoded)]
    lifetime: Annotated[int, Item(4, as_uint, (LIFETIME_MAX, 1))]
    runtime: Annotated[RuntimeClaims, Item(5, _runtime, write=_RUNTIME.write)]


_REQUEST: Final = Record(Request)


def encode_request(request: Request) -> bytes:
    """Encode a request as it is sent and hashed."""
    return cbor.encode_ordered(_REQUEST.write(request))


def decode_request(data: bytes) -> Request:
    """Decode a request from exactly its bytes.

    Raises:
        FormatError: `request.malformed`.
    """
    code = Code.REQUEST_MALFORMED
    return Request(**_REQUEST.read(cbor.decode(data, code, REQUEST_MAX), code))
