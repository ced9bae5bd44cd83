"""Holds a leaf's names and claims against an expectation and returns every mismatch, typed."""

from collections.abc import Iterator
from typing import Final, Protocol

from proxy_attestation.codes import Code
from proxy_attestation.errors import Mismatch
from proxy_attestation.formats.ear import AFFIRMING, WARNING, LeafClaims
from proxy_attestation.formats.pins import CLAIM_KEYS, TCB_STATUS, UP_TO_DATE, Claim, PinKey, PinKind
from proxy_attestation.formats.request import KeyOrigin, Names
from proxy_attestation.formats.tee import Tee, debug_code, tcb_status_code
from proxy_attestation.relying_party.expectation import Expectation

# AR4SI trustworthiness claims (draft-ietf-rats-ar4si, section 2.3) by key, and the upper ends of two tiers.
_CONFIGURATION, _EXECUTABLES, _HARDWARE, _RUNTIME_OPAQUE = 1, 2, 4, 5
_VECTOR_NAMES: Final = (
    "instance_identity", "configuration", "executables", "file_system", "hardware", "runtime_opaque", "storage_opaque",
    "sourced_data",
)  # fmt: skip
_AFFIRMING_MAX: Final = 31
_WARNING_MAX: Final = 95
_ABSENT: Final = "absent"


def compare(expectation: Expectation, claims: LeafClaims, workload: str, names: Names) -> tuple[Mismatch, ...]:
    """Return everything in which a leaf is not what was expected; empty means accepted.

    Args:
        expectation: what the relying party demands.
        claims: decoded from the leaf, which was validated to the pinned root.
        workload: the path of the leaf's SPIFFE ID.
        names: the leaf's names.
    """
    return (
        *_compare_identity(expectation, claims, workload, names),
        *_compare_code(expectation, claims),
        *_compare_platform(expectation, claims),
        *_compare_vector(expectation, claims),
        *_compare_proxy(expectation, claims),
    )


class Attested(Protocol):
    """What a leaf, or a proxy's own evidence, says of code and platform; see `LeafClaims`."""

    @property
    def tee(self) -> Tee:
        """The kind of TEE."""

    @property
    def measurements(self) -> tuple[tuple[str, bytes], ...]:
        """(vendor field name, value)."""

    @property
    def signer(self) -> bytes | None:
        """MRSIGNER."""

    @property
    def product_id(self) -> int | None:
        """ISVPRODID."""

    @property
    def svn(self) -> int | None:
        """ISVSVN."""

    @property
    def application_sha256(self) -> bytes | None:
        """Of the application, where a claim is made."""

    @property
    def debug(self) -> bool:
        """Whether the TEE can be debugged."""

    @property
    def tcb_status(self) -> str | None:
        """The vendor's word."""

    @property
    def advisories(self) -> tuple[str, ...]:
        """Of the matched level."""

    @property
    def key_origin(self) -> KeyOrigin:
        """Where the key was made."""


def compare_attested(expectation: Expectation, claims: Attested) -> tuple[Mismatch, ...]:
    """Return everything in which code and platform are not what was expected; empty means accepted."""
    return (*_compare_code(expectation, claims), *_compare_platform(expectation, claims))


def _hex(values: tuple[bytes, ...]) -> str:
    return " or ".join(value.hex() for value in values)


def _masked(actual: bytes, mask: bytes) -> bytes | None:
    if len(actual) != len(mask):
        return None
    return bytes(a & m for a, m in zip(actual, mask, strict=True))


def _compare_identity(e: Expectation, claims: LeafClaims, workload: str, names: Names) -> Iterator[Mismatch]:
    if e.workload is not None and workload != e.workload:
        yield Mismatch(Code.POLICY_WORKLOAD, "workload", e.workload, workload)
    carried = names.readable()
    for name in e.names.readable():
        if name not in carried:
            yield Mismatch(Code.POLICY_NAME, "name", name, ", ".join(carried))
    if e.owners and claims.owner not in e.owners:
        yield Mismatch(Code.POLICY_OWNER, "owner", " or ".join(e.owners), claims.owner)


def _compare_code(e: Expectation, claims: Attested) -> Iterator[Mismatch]:
    if e.tee is not None and claims.tee is not e.tee:
        # Measurements of another TEE say nothing about this one.
        yield Mismatch(Code.POLICY_TEE, "tee", str(e.tee), str(claims.tee))
        return
    yield from _compare_body(e, claims)
    if e.mr_signer and claims.signer not in e.mr_signer:
        signer = _ABSENT if claims.signer is None else claims.signer.hex()
        yield Mismatch(Code.POLICY_SIGNER, "mr_signer", _hex(e.mr_signer), signer)
    if e.isv_prod_id is not None and claims.product_id != e.isv_prod_id:
        product = _ABSENT if claims.product_id is None else str(claims.product_id)
        yield Mismatch(Code.POLICY_PRODUCT, "isv_prod_id", str(e.isv_prod_id), product)
    if e.min_isv_svn is not None and (claims.svn is None or claims.svn < e.min_isv_svn):
        svn = _ABSENT if claims.svn is None else str(claims.svn)
        yield Mismatch(Code.POLICY_SVN, "min_isv_svn", f"at least {e.min_isv_svn}", svn)
    if e.application and claims.application_sha256 not in e.application:
        application = _ABSENT if claims.application_sha256 is None else claims.application_sha256.hex()
        yield Mismatch(Code.POLICY_APPLICATION, "application", _hex(e.application), application)


def _compare_body(e: Expectation, claims: Attested) -> Iterator[Mismatch]:
    found, keys = dict(claims.measurements), CLAIM_KEYS[claims.tee]
    for field, accepted in e.measurements:
        actual = found.get(field)
        if actual is None or actual not in accepted:
            shown = _ABSENT if actual is None else actual.hex()
            yield Mismatch(keys[field].code, field, _hex(accepted), shown)
    for field, value, mask in e.masked:
        actual = found.get(field)
        if actual is None or _masked(actual, mask) != value:
            wanted = f"{value.hex()} under mask {mask.hex()}"
            yield Mismatch(keys[field].code, field, wanted, _ABSENT if actual is None else actual.hex())
    for field, words in e.words:
        word = _told(keys[field], found.get(field))
        if word not in words:
            yield Mismatch(keys[field].code, field, " or ".join(words), _ABSENT if word is None else str(word))
    for field, least in e.least:
        key = keys[field.removeprefix("min_")]
        number = _told(key, found.get(key.claim))
        if not isinstance(number, int) or number < least:
            yield Mismatch(key.code, field, f"at least {least}", _ABSENT if number is None else str(number))


def _told(key: PinKey, value: bytes | None) -> Claim | None:
    """Return a claim as policies compare it: a leaf has words in ASCII, and numbers big-endian."""
    if value is None:
        return key.missing or None
    return value.decode("ascii", "replace") if key.kind is PinKind.WORD else int.from_bytes(value)


def _compare_platform(e: Expectation, claims: Attested) -> Iterator[Mismatch]:
    if claims.debug and not e.allow_debug:
        yield Mismatch(debug_code(claims.tee), "debug", "false", "true")
    if TCB_STATUS[claims.tee] and claims.tcb_status not in e.tcb:
        yield Mismatch(tcb_status_code(claims.tee), "tcb", " or ".join(e.tcb), claims.tcb_status or "none")
    unlisted = [advisory for advisory in claims.advisories if advisory not in e.advisories]
    if unlisted:
        yield Mismatch(Code.POLICY_ADVISORY, "advisories", ", ".join(e.advisories) or "none", ", ".join(unlisted))
    if claims.key_origin not in e.key_origins:
        origins = " or ".join(origin.name.lower() for origin in e.key_origins)
        yield Mismatch(Code.POLICY_KEY_ORIGIN, "key_origin", origins, claims.key_origin.name.lower())


def _compare_vector(e: Expectation, claims: LeafClaims) -> Iterator[Mismatch]:
    # A warning tier is what an accepted status other than UpToDate looks like; nothing else may cause one.
    warned = claims.tcb_status not in (None, UP_TO_DATE) and claims.tcb_status in e.tcb
    debugged = claims.debug and e.allow_debug
    if claims.status != AFFIRMING and not (warned and claims.status == WARNING) and not debugged:
        yield Mismatch(Code.POLICY_CLAIM, "ear_status", str(AFFIRMING), str(claims.status))
    vector = dict(claims.vector)
    for key in (_EXECUTABLES, _HARDWARE):
        # Values 0 and 1 say that nothing is known.
        if vector.get(key, 0) < AFFIRMING:
            yield Mismatch(Code.POLICY_CLAIM, _VECTOR_NAMES[key], "affirming", str(vector.get(key, _ABSENT)))
    for key, value in claims.vector:
        limit = _AFFIRMING_MAX
        if warned and key in (_CONFIGURATION, _HARDWARE):
            limit = _WARNING_MAX
        if debugged and key in (_CONFIGURATION, _RUNTIME_OPAQUE):
            continue
        if value > limit:
            yield Mismatch(Code.POLICY_CLAIM, _VECTOR_NAMES[key], f"at most {limit}", str(value))


def _compare_proxy(e: Expectation, claims: LeafClaims) -> Iterator[Mismatch]:
    if claims.simulated != e.simulated:
        yield Mismatch(Code.POLICY_CLAIM, "simulated", str(e.simulated).lower(), str(claims.simulated).lower())
    if e.policy_digests and claims.policy_digest not in e.policy_digests:
        yield Mismatch(Code.POLICY_CLAIM, "policy_digest", _hex(e.policy_digests), claims.policy_digest.hex())
