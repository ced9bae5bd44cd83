"""What an operator may have the authority do: a table, and the doing.

A running authority takes operations on STATE/run/operator.sock alone; where none runs, `operator_client` opens STATE
and does the same in its own process. Workers have another socket, on which none of these is answered. Whoever may
write STATE may operate: the socket has mode 0600 in a directory of mode 0700, and peers of another user are cut off.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Final, NamedTuple

from proxy_attestation import log
from proxy_attestation.authority.deployment_operations import DEPLOYMENT_OPERATIONS
from proxy_attestation.authority.issue import Issuer
from proxy_attestation.authority.keys_operations import KEYS_OPERATIONS
from proxy_attestation.authority.life_operations import LIFE_OPERATIONS
from proxy_attestation.authority.messages import Count, Digest, Seconds
from proxy_attestation.authority.operation import Operation
from proxy_attestation.authority.owner_operations import OWNER_LIST, OWNER_RELEASE, OWNER_TOKEN
from proxy_attestation.authority.policy_operations import APPLY_POLICY
from proxy_attestation.authority.wire import MALFORMED
from proxy_attestation.errors import FormatError
from proxy_attestation.formats.arrays import Array, Size
from proxy_attestation.formats.cbor import Value


class Nothing(NamedTuple):
    """The argument of an operation that needs none."""


class CaStatus(NamedTuple):
    """A CA whose certificate has not expired.

    Attributes:
        number: 0 the root, from 1 the issuing CAs.
        spki_sha256: 32 bytes.
        not_before: seconds since the epoch.
        not_after: seconds since the epoch.
        signs: whether it may still sign.
    """

    number: Count
    spki_sha256: Digest
    not_before: Seconds
    not_after: Seconds
    signs: bool


@dataclass(frozen=True, slots=True)
class Status:
    """What is in force.

    Attributes:
        trust_domain: the SPIFFE trust domain.
        simulated: whether it takes simulated evidence.
        key_origin: where its keys are.
        policy_version: of the policy in force.
        policy_digest: 32 bytes, over policy, roots, floors and our version.
        dangers: every dangerous switch that is on, readable.
        entries: in the ledger.
        ledger_key: the log's public key, a C2SP vkey.
        cas: the root, then the issuing CAs, the newest first.
        now: seconds since the epoch, by the authority's clock.
    """

    trust_domain: Annotated[str, Size(1, 255)]
    simulated: bool
    key_origin: Annotated[str, Size(1, 16)]
    policy_version: Count
    policy_digest: Digest
    dangers: Annotated[tuple[Annotated[str, Size(1, 512)], ...], Size(0, 1024)]
    entries: Count
    ledger_key: Annotated[str, Size(1, 512)]
    cas: Annotated[tuple[CaStatus, ...], Size(1, 64)]
    now: Seconds


def _status(issuer: Issuer, _: Nothing) -> Status:
    authority = issuer.authority
    info, now = authority.info(), authority.now()
    cas = [(authority.root, True), *((issuing.ca, issuing.signs(now)) for issuing in authority.issuing)]
    return Status(
        trust_domain=info.trust_domain,
        simulated=info.simulated,
        key_origin=info.key_origin,
        policy_version=authority.policy.version,
        policy_digest=info.policy_digest,
        dangers=info.dangers,
        entries=authority.ledger.size(),
        ledger_key=authority.ledger_key,
        cas=tuple(CaStatus(ca.number, ca.ca_id, ca.not_before, ca.not_after, signs) for ca, signs in cas),
        now=now,
    )


STATUS: Final = Operation[Nothing, Status]("status", Nothing, Status, _status)

_ALL: Final[tuple[Operation[Any, Any], ...]] = (
    STATUS, APPLY_POLICY, *LIFE_OPERATIONS, *DEPLOYMENT_OPERATIONS, *KEYS_OPERATIONS,
    OWNER_LIST, OWNER_RELEASE, OWNER_TOKEN,
)  # fmt: skip
OPERATIONS: Final[Mapping[str, Operation[Any, Any]]] = {operation.name: operation for operation in _ALL}


class _Order(NamedTuple):
    name: Annotated[str, Size(1, 64)]


_NAME: Final = Array[_Order](_Order, MALFORMED)


def encode_operation(operation: Operation[Any, Any], argument: object) -> object:
    """Return the body of a call."""
    return [operation.name, operation.argument.write(argument)]


def operate(issuer: Issuer, body: Value) -> object:
    """Do what the body of a call asks for; return the body of its answer.

    Raises:
        FormatError: `proxy.protocol`, for an operation that does not exist, or an argument of another form.
        ProxyAttestationError: whatever the operation refuses with.
    """
    if not isinstance(body, list) or len(body) != 2:
        raise FormatError(MALFORMED, "not an operation")
    (name,) = _NAME.read(body[:1])
    operation = OPERATIONS.get(name)
    if operation is None:
        raise FormatError(MALFORMED, f"unknown operation {name!r}")
    argument = operation.argument.read(body[1])
    log.info("operator", action=name)
    return operation.answer.write(operation.run(issuer, argument))
