"""The Nitro walk: every fault alone ends in its own code, every changed byte in a refusal."""

import re
from datetime import UTC, datetime, timedelta

import pytest

from proxy_attestation.appraisal.claims import Claims
from proxy_attestation.appraisal.nitro import appraise_nitro, check_fresh
from proxy_attestation.appraisal.nitro_claims import NitroClaims, Register, nitro_to_json
from proxy_attestation.appraisal.roots import AWS_NITRO_ROOT, Roots, same_for_all
from proxy_attestation.codes import Code
from proxy_attestation.errors import AppraisalError, FormatError
from proxy_attestation.formats.nitro import decode_nitro
from proxy_attestation.formats.pins import MINIMUM, Pins
from proxy_attestation.formats.tee import Tee
from proxy_attestation.policy.pins import match_pins
from proxy_attestation_simulator.aws import INSTANCE, LEAF, REGION, ROOT, ZONE, Aws
from proxy_attestation_simulator.aws_faults import NITRO_FAULTS

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
VENDOR = Aws.create(NOW, secret=bytes(range(32)))
ENCLAVE = VENDOR.enclave()
ROOTS = same_for_all({VENDOR.root_pin})
NONCE, KEY, USER_DATA = b"n" * 32, b"k" * 91, b"u" * 64
PINS: Pins = {f"pcr{index}": (value,) for index, value in ENCLAVE.pcrs.items()}
_VALUES = {"missing": "pcrs", "null": "pcrs", "public-key-size": "1025", "user-data-size": "513", "nonce-size": "513"}
_VALUES |= {f"pcr{index}": "11" * 48 for index in ENCLAVE.pcrs}
_PLACES = range(LEAF + 1)


def made(fault: str = "") -> bytes:
    """Make a document over the binder."""
    return ENCLAVE.document(nonce=NONCE, public_key=KEY, user_data=USER_DATA, fault=fault)


GOOD = made()


def body_of(claims: Claims) -> NitroClaims:
    """Return what a document says."""
    assert isinstance(claims.body, NitroClaims)
    return claims.body


def judge(data: bytes, roots: Roots = ROOTS, now: datetime = NOW) -> str:
    """Return the code that the walk, the binder or a strict policy refuses a document with, or `accepted`."""
    try:
        result = appraise_nitro(decode_nitro(data), roots, now)
    except (AppraisalError, FormatError) as error:
        return str(error.code)
    if result.bound != (NONCE, KEY, USER_DATA):
        return str(Code.BINDER_MISMATCH)
    mismatches = list(match_pins(Tee.NITRO, PINS, result.body))
    if result.body.debug:
        return str(Code.NITRO_DEBUG)
    return str(mismatches[0].code) if mismatches else "accepted"


def test_a_genuine_document_is_accepted_and_every_field_is_what_was_signed() -> None:
    assert judge(GOOD) == "accepted"
    result = appraise_nitro(decode_nitro(GOOD), ROOTS, NOW)
    assert body_of(result).measurements == {f"pcr{index}": value for index, value in ENCLAVE.pcrs.items()}
    assert result.anchor == VENDOR.root_pin
    assert result.instance_id is not None
    assert len(result.instance_id) == 32


@pytest.mark.parametrize("name", NITRO_FAULTS)
def test_every_fault_alone_is_refused_with_its_code(name: str) -> None:
    fault = f"{name}={_VALUES[name]}" if name in _VALUES else name
    if name.endswith("-size"):
        data = made(fault)
        assert judge(data) == "nitro.malformed"
        return
    assert judge(made(fault)) in NITRO_FAULTS[name].codes()


def test_every_code_of_the_walk_is_provoked_by_a_fault() -> None:
    provoked = {code for fault in NITRO_FAULTS.values() for code in fault.codes()}
    assert {code for code in Code if code.startswith("nitro.")} - provoked == set()
    assert provoked - {*Code} == {"accepted"}


def test_the_table_of_faults_is_the_registry() -> None:
    from proxy_attestation_simulator import aws_faults  # noqa: PLC0415 - for its docstring

    rows = re.findall(r"^    (\S+(?:, \S+)*)  +(\S+)", aws_faults.__doc__ or "", re.MULTILINE)[1:]
    told = {re.split(r"[=\[]", usage)[0]: code for usages, code in rows for usage in usages.split(", ")}
    assert told == {name: fault.code for name, fault in NITRO_FAULTS.items()}


@pytest.mark.parametrize("place", _PLACES)
@pytest.mark.parametrize("fault", ["expired", "not-yet-valid"])
def test_every_certificate_must_hold_now(fault: str, place: int) -> None:
    assert judge(made(f"{fault}={place}")) == "nitro.expired"


@pytest.mark.parametrize("place", _PLACES)
@pytest.mark.parametrize("fault", ["certificate-signature", "critical-extension"])
def test_every_certificate_is_signed_by_the_one_above_and_understood(fault: str, place: int) -> None:
    assert judge(made(f"{fault}={place}")) == "nitro.chain"


@pytest.mark.parametrize("place", [ROOT, REGION, ZONE, INSTANCE])
@pytest.mark.parametrize("fault", ["not-a-ca", "no-cert-sign"])
def test_every_issuer_is_a_ca(fault: str, place: int) -> None:
    assert judge(made(f"{fault}={place}")) == "nitro.chain"


@pytest.mark.parametrize("place", [ROOT, REGION, ZONE])
def test_path_lengths_are_kept(place: int) -> None:
    assert judge(made(f"path-length={place}")) == "nitro.chain"


@pytest.mark.parametrize("place", _PLACES)
def test_no_certificate_may_be_something_else(place: int) -> None:
    assert judge(made(f"not-a-certificate={place}")) == "nitro.chain"


def test_the_root_of_the_document_is_never_an_anchor() -> None:
    assert judge(GOOD, same_for_all(())) == "nitro.root"
    assert judge(GOOD, same_for_all({AWS_NITRO_ROOT})) == "nitro.root"


def test_the_signing_certificate_must_hold_now_and_does_not_bound_the_leaf() -> None:
    leaf = VENDOR._links("0", NOW)[LEAF]
    assert judge(GOOD, now=leaf.not_after) == "accepted"
    assert judge(GOOD, now=leaf.not_after + timedelta(seconds=1)) == "nitro.expired"
    assert judge(GOOD, now=leaf.not_before - timedelta(seconds=1)) == "nitro.expired"
    # The region's certificate is the first of the long-lived ones to end.
    assert appraise_nitro(decode_nitro(GOOD), ROOTS, NOW).valid_until == VENDOR._links("0", NOW)[REGION].not_after


def test_the_timestamp_may_be_the_last_millisecond_of_the_certificate() -> None:
    leaf = VENDOR._links("0", NOW)[LEAF]
    for timestamp, verdict in (
        (leaf.not_before, "accepted"),
        (leaf.not_after + timedelta(milliseconds=999), "accepted"),
    ):
        recipe = ENCLAVE.recipe(NONCE, KEY, USER_DATA)
        payload = dict(recipe.payload) | {"timestamp": int(timestamp.timestamp() * 1000)}
        assert judge(VENDOR.make(type(recipe)(payload, recipe.links))) == verdict


@pytest.mark.parametrize(
    ("before", "fresh"),
    [(-61, False), (-60, True), (0, True), (120, True), (180, True), (181, False)],
)
def test_a_document_that_answers_a_challenge_is_of_its_life(before: int, fresh: bool) -> None:
    body = body_of(appraise_nitro(decode_nitro(GOOD), ROOTS, NOW))
    now = NOW + timedelta(seconds=before)
    if fresh:
        check_fresh(body.timestamp_ms, now, timedelta(seconds=120))
        return
    with pytest.raises(AppraisalError) as refused:
        check_fresh(body.timestamp_ms, now, timedelta(seconds=120))
    assert refused.value.code is Code.NITRO_TIMESTAMP


def test_the_instance_is_the_parent_and_not_the_enclave() -> None:
    def instance(data: bytes) -> bytes | None:
        return appraise_nitro(decode_nitro(data), ROOTS, NOW).instance_id

    def named(module_id: str) -> bytes:
        recipe = ENCLAVE.recipe(None, None, None)
        return VENDOR.make(type(recipe)(dict(recipe.payload) | {"module_id": module_id}, recipe.links))

    assert instance(named("i-1-enc1")) == instance(named("i-1-enc2")) != instance(named("i-2-enc1"))
    assert instance(named("i-1")) is None
    assert instance(named("-enc1")) is None


def _claims(pcrs: dict[int, bytes]) -> NitroClaims:
    return NitroClaims(
        "i-1-enc1", "SHA384", 1, tuple(Register(*item) for item in sorted(pcrs.items())), None, None, None
    )


def test_debug_is_all_three_registers_zero_or_absent() -> None:
    zero, other = bytes(48), b"\1" * 48
    assert _claims({0: zero, 1: zero, 2: zero, 4: other}).debug
    assert _claims({4: other}).debug
    for index in range(3):
        assert not _claims({0: zero, 1: zero, 2: zero, index: other}).debug


def test_json_has_registers_by_index_and_lists_the_zero_ones() -> None:
    assert nitro_to_json(_claims({0: bytes(48), 3: b"\3" * 48})) == {
        "module_id": "i-1-enc1", "digest": "SHA384", "timestamp_ms": 1, "pcrs": {"3": "03" * 48}, "zero_pcrs": [0],
        "debug": True, "public_key": None, "user_data": None, "nonce": None,
    }  # fmt: skip


def test_pins_match_no_zero_register_and_tell_every_mismatch() -> None:
    good, zero = b"\1" * 48, bytes(48)
    body = _claims({0: good, 1: good, 2: zero, 3: zero})
    pins: Pins = {"pcr0": (good,), "pcr1": (b"\2" * 48, good), "pcr2": (zero,), "pcr3": (good,)}
    mismatches = match_pins(Tee.NITRO, pins, body)
    assert [(mismatch.field, mismatch.code) for mismatch in mismatches] == [
        ("pcr2", Code.POLICY_MEASUREMENT),
        ("pcr3", Code.POLICY_CONFIG),
    ]
    assert [m.field for m in match_pins(Tee.NITRO, {}, body)] == [*MINIMUM[Tee.NITRO][0]]


@pytest.mark.exhaustive
@pytest.mark.parametrize("part", range(4))
def test_every_changed_byte_is_refused(part: int) -> None:
    """One bit of every byte: headers, every field, every certificate, signature."""
    for at in range(part, len(GOOD), 4):
        data = GOOD[:at] + bytes([GOOD[at] ^ (1 << at % 8)]) + GOOD[at + 1 :]
        assert judge(data).startswith("nitro."), at
