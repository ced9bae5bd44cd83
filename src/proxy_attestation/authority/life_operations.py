"""What an operator may have done to CAs and certificates (`operations.py`; docs/life.md)."""

from collections.abc import Callable, Mapping
from typing import Annotated, Any, Final, NamedTuple

from proxy_attestation.authority.cas import IssuingCa, Root
from proxy_attestation.authority.issue import Issuer
from proxy_attestation.authority.ledger_life import Live
from proxy_attestation.authority.messages import Count, Digest, Seconds
from proxy_attestation.authority.operation import Operation
from proxy_attestation.authority.profile import tlv
from proxy_attestation.authority.revocation import Revoked
from proxy_attestation.codes import Code
from proxy_attestation.errors import RefusedError
from proxy_attestation.formats.arrays import Size
from proxy_attestation.formats.bounds import CERTIFICATE_MAX, DENIALS_MAX
from proxy_attestation.formats.ledger_entry import CrlReason
from proxy_attestation.policy.names import spiffe_id


class No(NamedTuple):
    """The argument of an operation that needs none."""


class CaEntry(NamedTuple):
    """A root or issuing CA.

    Attributes:
        root: whether it is a root.
        number: the issuing CA's number, or the root's generation.
        state: `prepared`, `active` or `retired`.
        spki_sha256: 32 bytes: of a root, the pin.
        not_before: seconds since the epoch.
        not_after: seconds since the epoch.
        key: whether its key is there.
        certificate: DER.
    """

    root: bool
    number: Count
    state: Annotated[str, Size(1, 16)]
    spki_sha256: Digest
    not_before: Seconds
    not_after: Seconds
    key: bool
    certificate: Annotated[bytes, Size(1, CERTIFICATE_MAX)]


class CaList(NamedTuple):
    """Every CA that has not expired: the roots, then the issuing CAs."""

    sequence: Count
    cas: Annotated[tuple[CaEntry, ...], Size(1, 64)]


class Rotate(NamedTuple):
    """Whether the next issuing CA shall sign at once."""

    now: bool


class Succeed(NamedTuple):
    """Whether the root that was prepared shall sign, instead of preparing one."""

    activate: bool


class Revoke(NamedTuple):
    """What to revoke.

    Attributes:
        by: `serial` (20 bytes), `spki` (its SHA-256), `index` (8 bytes, big-endian) or `entry` (the workload's name).
        value: see there.
        reason: CRLReason.
    """

    by: Annotated[str, Size(1, 8)]
    value: Annotated[bytes, Size(1, 255)]
    reason: CrlReason


class RevokedList(NamedTuple):
    """Everything that the call revoked, or that was before; and the number of the deny list that says so."""

    sequence: Count
    revoked: Annotated[tuple[Revoked, ...], Size(1, DENIALS_MAX)]


def _list(issuer: Issuer, _: object = None) -> CaList:
    life, now = issuer.authority.life, issuer.authority.now()
    found: list[tuple[int, IssuingCa | Root]] = [(root.generation, root) for root in life.roots]
    found += [(one.ca.number, one) for one in life.issuing]
    entries = [
        CaEntry(
            root=isinstance(one, Root),
            number=number,
            state=life.state_of(one),
            spki_sha256=one.ca.ca_id,
            not_before=one.ca.not_before,
            not_after=one.ca.not_after,
            key=life.has_key(one.ca.number),
            certificate=one.ca.certificate,
        )
        for number, one in found
        if one.ca.not_after > now
    ]
    return CaList(life.bundle.sequence, tuple(entries))


def _rotate(issuer: Issuer, order: Rotate) -> CaList:
    authority = issuer.authority
    made = authority.life.rotate(authority.now(), at_once=order.now)
    authority.saw(made.ca.not_before)
    authority.maintain()  # the deny list is the active one's
    return _list(issuer)


def _succeed(issuer: Issuer, order: Succeed) -> CaList:
    authority = issuer.authority
    change = authority.life.activate_root if order.activate else authority.life.succeed
    authority.saw(change(authority.now()).ca.not_before)
    authority.maintain()
    return _list(issuer)


def _revoke(issuer: Issuer, order: Revoke) -> RevokedList:
    authority, now = issuer.authority, issuer.authority.now()
    ledger, value = authority.ledger, order.value
    # A name of the leaf as it stands in its to-be-signed bytes: uniformResourceIdentifier [6].
    uri = spiffe_id(authority.settings.trust_domain, value.decode("utf-8", "replace")).encode()
    ways: Mapping[str, Callable[[], list[Live]]] = {
        "serial": lambda: ledger.live_with_serial(value, now),
        "spki": lambda: ledger.live_of_key(value, now),
        "index": lambda: ledger.live_at(int.from_bytes(value[-7:], "big"), now),
        "entry": lambda: ledger.live_with_name(tlv(0x86, uri), now),
    }
    if order.by not in ways:
        raise RefusedError(Code.REVOCATION_UNKNOWN, order.by)
    found = authority.revocations.revoke(ways[order.by](), order.reason, now, whole_key=order.by == "spki")
    return RevokedList(authority.revocations.sequence, tuple(found))


CA_LIST: Final = Operation[No, CaList]("ca-list", No, CaList, _list)
CA_ROTATE: Final = Operation[Rotate, CaList]("ca-rotate", Rotate, CaList, _rotate)
CA_SUCCEED: Final = Operation[Succeed, CaList]("ca-succeed", Succeed, CaList, _succeed)
REVOKE: Final = Operation[Revoke, RevokedList]("revoke", Revoke, RevokedList, _revoke)

LIFE_OPERATIONS: Final[tuple[Operation[Any, Any], ...]] = (CA_LIST, CA_ROTATE, CA_SUCCEED, REVOKE)
