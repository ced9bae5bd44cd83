"""The decision on SNP guests and Nitro enclaves, from a policy file to the accepted names: one thing wrong each."""

from collections.abc import Callable, Mapping
from dataclasses import fields, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest

from proxy_attestation.appraisal.claims import Claims, TcbClaims
from proxy_attestation.appraisal.endorsements import SnpEndorsements
from proxy_attestation.appraisal.kinds import Appraiser, decode_evidence_of, verify_endorsements
from proxy_attestation.appraisal.nitro_claims import NitroClaims, Register
from proxy_attestation.appraisal.roots import same_for_all
from proxy_attestation.appraisal.snp_claims import SnpClaims
from proxy_attestation.codes import Code
from proxy_attestation.formats.pins import MINIMUM, PINS
from proxy_attestation.formats.request import (
    ApplicationKind,
    KeyOrigin,
    Names,
    Request,
    RuntimeClaims,
    names_from,
)
from proxy_attestation.formats.snp_report import Product
from proxy_attestation.formats.tee import Tee
from proxy_attestation.policy.decide import decide
from proxy_attestation.policy.load import PolicyFileError, parse_policy
from proxy_attestation.policy.model import Decision, Policy
from proxy_attestation_simulator.amd import AmdVendor
from proxy_attestation_simulator.aws import Aws

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
AMD, AWS = AmdVendor.fixed(NOW), Aws.create(NOW, secret=bytes(range(32)))
ENCLAVE = AWS.enclave()
KINDS = (Tee.SNP, Tee.NITRO)
NOTHING: Mapping[str, str | None] = MappingProxyType({})


def appraised(tee: Tee, fault: str = "", kind: str = "VCEK") -> Claims:
    """Return claims as a worker makes them of a guest's report or an enclave's document."""
    roots = same_for_all({AMD.ark_pin("Milan"), AWS.root_pin})
    if tee is Tee.NITRO:
        document = ENCLAVE.document(nonce=b"n", public_key=b"k", user_data=b"u", fault=fault)
        return Appraiser(roots, {}).appraise(decode_evidence_of(tee, document), (), NOW)[0]
    made = AMD.platform("Milan", kind).evidence(bytes(64), fault=fault)
    held = verify_endorsements(SnpEndorsements(made.certificates[1:], made.crls), roots, NOW)
    appraiser = Appraiser(roots, {(held.tee, held.platform): held})
    return appraiser.appraise(decode_evidence_of(tee, made.report), made.certificates, NOW)[0]


@pytest.fixture(scope="module")
def good() -> Mapping[Tee, Claims]:
    return {tee: appraised(tee) for tee in KINDS}


@pytest.fixture
def render(good: Mapping[Tee, Claims]) -> Callable[..., str]:
    """Return the writer of a policy with one entry; None removes a key."""
    body = good[Tee.SNP].body
    assert isinstance(body, SnpClaims)
    snp = {
        "measurement": f'["{body.measurement.hex()}"]',
        "vmpl": "0",
        "policy": '"0000030000000000"',
        "policy_mask": '"ffffffffffffffff"',
        "product": '["Milan"]',
        "min_tcb_bootloader": "4",
        "min_tcb_tee": "0",
        "min_tcb_snp": "24",
        "min_tcb_microcode": "219",
    }
    nitro = {f"pcr{index}": f'["{ENCLAVE.pcrs[index].hex()}"]' for index in range(3)}

    def write(tee: Tee, entry: Mapping[str, str | None] = NOTHING, danger: str = "") -> str:
        top = {"name": '"app"', "tee": f'"{tee}"', "dns": '["app.example.org"]', "owner": "{ shared = true }"}
        table = {**top, **(snp if tee is Tee.SNP else nitro), **entry}
        lines = ["version = 1", 'trust_domain = "example.org"', danger, "[[workload]]"]
        return "\n".join([*lines, *(f"{key} = {value}" for key, value in table.items() if value is not None), ""])

    return write


@pytest.fixture
def policy_of(render: Callable[..., str], tmp_path: Path) -> Callable[..., Policy]:
    return lambda *args, **kwargs: parse_policy(render(*args, **kwargs), tmp_path)


def request_for(tee: Tee, **changes: Any) -> Request:
    runtime = RuntimeClaims(ApplicationKind.NONE, None, KeyOrigin.TEE)
    return replace(Request("app", tee, names_from(("app.example.org",)), 3600, runtime), **changes)


def found(decision: Decision) -> list[tuple[Code, str]]:
    return [(mismatch.code, mismatch.field) for mismatch in decision.mismatches]


def assert_refused(decision: Decision, *mismatches: tuple[Code, str]) -> None:
    assert found(decision) == list(mismatches)
    assert not decision.accepted
    assert (decision.names, decision.lifetime, decision.application_sha256) == (Names(), 0, None)


@pytest.fixture(params=KINDS)
def tee(request: pytest.FixtureRequest) -> Tee:
    value: Tee = request.param
    return value


def test_what_fits_is_accepted(tee: Tee, good: Mapping[Tee, Claims], policy_of: Any) -> None:
    decision = decide(good[tee], request_for(tee), policy_of(tee))
    assert decision.mismatches == ()
    assert decision.accepted
    assert decision.names.dns == ("app.example.org",)
    assert decision.names.uri == ("spiffe://example.org/app",)
    assert decision.lifetime == 3600
    assert decision.workload is not None
    assert decision.workload.tcb == decision.workload.advisories == ()


@pytest.mark.parametrize(
    ("tee", "code", "also"),
    # Debug is a bit of the guest policy; an enclave in debug mode has measured nothing.
    [
        (Tee.SNP, Code.SNP_DEBUG, [(Code.POLICY_ATTRIBUTES, "policy")]),
        (Tee.NITRO, Code.NITRO_DEBUG, [(Code.POLICY_MEASUREMENT, f"pcr{index}") for index in range(3)]),
    ],
)
def test_debug_is_refused(
    tee: Tee, code: Code, also: list[tuple[Code, str]], good: Mapping[Tee, Claims], policy_of: Any
) -> None:
    claims, policy = appraised(tee, "debug"), policy_of(tee)
    assert claims.debug
    for claimed in (True, False):  # the bit itself counts too
        assert_refused(decide(replace(claims, debug=claimed), request_for(tee), policy), (code, "debug"), *also)
    assert_refused(decide(replace(good[tee], debug=True), request_for(tee), policy), (code, "debug"))


def test_debug_is_accepted_only_by_the_entry_that_danger_names(policy_of: Any) -> None:
    danger = '[danger]\nallow_debug = ["app"]'
    claims = appraised(Tee.SNP, "debug")
    policy = policy_of(Tee.SNP, {"policy": '"00000b0000000000"'}, danger)
    assert decide(claims, request_for(Tee.SNP), policy).accepted
    # Nothing that an enclave in debug mode runs was measured: no policy can say what it is.
    nitro = decide(appraised(Tee.NITRO, "debug"), request_for(Tee.NITRO), policy_of(Tee.NITRO, danger=danger))
    assert_refused(nitro, *((Code.POLICY_MEASUREMENT, f"pcr{index}") for index in range(3)))


SNP_MISMATCHES: list[tuple[Mapping[str, Any], Mapping[str, str | None], Code, str]] = [
    ({"measurement": b"\x12" * 48}, {}, Code.POLICY_MEASUREMENT, "measurement"),
    ({"measurement": b""}, {}, Code.POLICY_MEASUREMENT, "measurement"),
    ({"vmpl": 1}, {}, Code.POLICY_ATTRIBUTES, "vmpl"),
    ({"policy": bytes.fromhex("0000020000000000")}, {}, Code.POLICY_ATTRIBUTES, "policy"),
    ({"csp_id": "CN=cloud"}, {}, Code.POLICY_SIGNER, "csp_id"),
    ({}, {"csp_id": '["CN=cloud"]'}, Code.POLICY_SIGNER, "csp_id"),
    *(
        ({}, {f"min_tcb_{name}": str(level)}, Code.SNP_TCB_STATUS, f"min_tcb_{name}")
        for name, level in (("bootloader", 5), ("tee", 1), ("snp", 25), ("microcode", 220))
    ),
    ({"platform_info": bytes(8)}, {"platform_info": '"2500000000000000"', "platform_info_mask": f'"{"ff" * 8}"'},
     Code.POLICY_ATTRIBUTES, "platform_info"),
    *(
        ({name: value}, {name: '"0100000000000000"', f"{name}_mask": f'"{"ff" * 8}"'}, Code.POLICY_ATTRIBUTES, name)
        for name in ("launch_mit_vector", "current_mit_vector") for value in (bytes(8), None)
    ),
    ({"host_data": b"\1" * 32}, {"host_data": f'["{"00" * 32}"]'}, Code.POLICY_CONFIG, "host_data"),
    ({}, {"id_key_digest": f'["{"11" * 48}"]'}, Code.POLICY_SIGNER, "id_key_digest"),
    ({}, {"author_key_digest": f'["{"11" * 48}"]'}, Code.POLICY_SIGNER, "author_key_digest"),
    ({}, {"family_id": f'["{"11" * 16}"]'}, Code.POLICY_PRODUCT, "family_id"),
    ({}, {"image_id": f'["{"11" * 16}"]'}, Code.POLICY_PRODUCT, "image_id"),
    ({}, {"min_guest_svn": "2"}, Code.POLICY_SVN, "min_guest_svn"),
    ({}, {"product": '["Genoa"]'}, Code.POLICY_PRODUCT, "product"),
]  # fmt: skip


@pytest.mark.parametrize(("body", "entry", "code", "field"), SNP_MISMATCHES)
def test_each_thing_that_differs_in_a_guest_is_one_mismatch(
    *,
    body: Mapping[str, Any],
    entry: Mapping[str, str | None],
    code: Code,
    field: str,
    good: Mapping[Tee, Claims],
    policy_of: Any,
) -> None:
    claims = good[Tee.SNP]
    assert isinstance(claims.body, SnpClaims)
    changed = replace(claims, body=replace(claims.body, **body))
    assert_refused(decide(changed, request_for(Tee.SNP), policy_of(Tee.SNP, entry)), (code, field))


def test_every_pin_of_a_guest_is_in_the_table() -> None:
    # The agent is pinned below, and an FMC is another line's.
    assert {field for *_, field in SNP_MISMATCHES} == PINS[Tee.SNP].keys() - {"migration_agent", "min_tcb_fmc"}


def test_a_guest_of_another_line(good: Mapping[Tee, Claims], policy_of: Any) -> None:
    """The numbers then mean something else; Turin's FMC must be named too."""
    claims = good[Tee.SNP]
    assert isinstance(claims.body, SnpClaims)
    for line, more in ((Product.GENOA, ()), (Product.TURIN, ("min_tcb_fmc",))):
        level = bytes([255] * 8)
        body = replace(claims.body, product=line, reported_tcb=level, committed_tcb=level, launch_tcb=level)
        high = decide(replace(claims, body=body), request_for(Tee.SNP), policy_of(Tee.SNP))
        assert_refused(high, (Code.POLICY_PRODUCT, "product"))
        low = replace(body, **{f"{name}_tcb": bytes(8) for name in ("reported", "committed", "launch")})  # type: ignore[arg-type]  # by name
        refused = decide(replace(claims, body=low), request_for(Tee.SNP), policy_of(Tee.SNP))
        names = (*more, "min_tcb_bootloader", "min_tcb_snp", "min_tcb_microcode")
        assert_refused(refused, (Code.POLICY_PRODUCT, "product"), *((Code.SNP_TCB_STATUS, name) for name in names))


def test_a_migration_agent(policy_of: Any) -> None:
    claims, request = appraised(Tee.SNP, "migration-agent"), request_for(Tee.SNP)
    with_bit = {"policy": '"0000070000000000"'}
    refused = decide(claims, request, policy_of(Tee.SNP, with_bit))
    assert_refused(refused, (Code.SNP_MIGRATION_AGENT, "migration_agent"))
    assert decide(claims, request, policy_of(Tee.SNP, {**with_bit, "migration_agent": "1"})).accepted


def test_a_vlek_is_accepted_for_the_cloud_that_is_named(policy_of: Any) -> None:
    claims, request = appraised(Tee.SNP, kind="VLEK"), request_for(Tee.SNP)
    assert_refused(decide(claims, request, policy_of(Tee.SNP)), (Code.POLICY_SIGNER, "csp_id"))
    assert decide(claims, request, policy_of(Tee.SNP, {"csp_id": '["CN=simulated.example"]'})).accepted


NITRO_CODES = {
    "pcr0": Code.POLICY_MEASUREMENT, "pcr1": Code.POLICY_MEASUREMENT, "pcr2": Code.POLICY_MEASUREMENT,
    "pcr3": Code.POLICY_CONFIG, "pcr4": Code.POLICY_CONFIG, "pcr8": Code.POLICY_SIGNER,
}  # fmt: skip


@pytest.mark.parametrize("value", [b"\x11" * 48, bytes(48), b"\x11" * 32, None], ids=["other", "zero", "short", "none"])
@pytest.mark.parametrize("name", NITRO_CODES)
def test_each_register_that_differs_is_one_mismatch(
    name: str, value: bytes | None, good: Mapping[Tee, Claims], policy_of: Any
) -> None:
    claims, index = good[Tee.NITRO], int(name.removeprefix("pcr"))
    assert isinstance(claims.body, NitroClaims)
    entry = {name: f'["{ENCLAVE.pcrs[index].hex()}"]'}
    policy = policy_of(Tee.NITRO, entry)
    assert decide(claims, request_for(Tee.NITRO), policy).accepted
    rest = [register for register in claims.body.pcrs if register.number != index]
    pcrs = tuple(sorted([*rest, *([] if value is None else [Register(index, value)])]))
    changed = replace(claims, body=replace(claims.body, pcrs=pcrs))
    assert_refused(decide(changed, request_for(Tee.NITRO), policy), (NITRO_CODES[name], name))


def test_every_register_that_can_be_pinned_is_in_the_table() -> None:
    assert NITRO_CODES.keys() == PINS[Tee.NITRO].keys()


def test_all_mismatches_are_told_at_once_in_the_tables_order(good: Mapping[Tee, Claims], policy_of: Any) -> None:
    entry = {"pcr8": f'["{"22" * 48}"]', "pcr3": f'["{"33" * 48}"]', "pcr0": f'["{"44" * 48}"]'}
    decision = decide(good[Tee.NITRO], request_for(Tee.NITRO), policy_of(Tee.NITRO, entry))
    expected = [(NITRO_CODES[name], name) for name in ("pcr0", "pcr3", "pcr8")]
    assert_refused(decision, *expected)


def test_another_tee_than_the_entry_has(good: Mapping[Tee, Claims], policy_of: Any) -> None:
    for tee, other in (KINDS, KINDS[::-1]):
        policy = policy_of(tee)
        assert_refused(decide(good[other], request_for(tee), policy), (Code.POLICY_TEE, "tee"))
        assert_refused(decide(good[tee], request_for(other), policy), (Code.POLICY_TEE, "tee"))
        lying = replace(good[other], tee=tee)
        assert_refused(decide(lying, request_for(tee), policy), (Code.POLICY_TEE, "tee"))


def test_pins_below_the_minimum_match_nothing(tee: Tee, good: Mapping[Tee, Claims], policy_of: Any) -> None:
    policy = policy_of(tee)
    workload = policy.workloads["app"]
    for name in MINIMUM[tee][0]:
        fewer = {key: value for key, value in workload.pins.items() if key != name}
        changed = replace(policy, workloads=MappingProxyType({"app": replace(workload, pins=fewer)}))
        assert_refused(decide(good[tee], request_for(tee), changed), (PINS[tee][name].code, name))


def test_no_status_word_is_asked_for(tee: Tee, good: Mapping[Tee, Claims], policy_of: Any) -> None:
    """Where the vendor has none, one that is claimed decides nothing; advisories would still count."""
    tcb = TcbClaims("Revoked", NOW, (), 1, bytes(6), bytes(2))
    policy = policy_of(tee)
    assert decide(replace(good[tee], tcb=tcb), request_for(tee), policy).accepted
    advised = replace(tcb, advisories=("INTEL-SA-00615",))
    decision = decide(replace(good[tee], tcb=advised), request_for(tee), policy)
    assert_refused(decision, (Code.POLICY_ADVISORY, "advisories"))


def test_what_is_no_pin_decides_nothing(good: Mapping[Tee, Claims], policy_of: Any) -> None:
    claims = good[Tee.SNP]
    assert isinstance(claims.body, SnpClaims)
    free = {"report_data": b"\1" * 64, "report_id": b"\1" * 32, "chip_id": b"\1" * 64, "current_tcb": bytes(8)}
    assert free.keys() <= {field.name for field in fields(claims.body)}
    changed = replace(claims, body=replace(claims.body, **free), valid_until=NOW + timedelta(days=1))  # type: ignore[arg-type]  # by name
    assert decide(changed, request_for(Tee.SNP), policy_of(Tee.SNP)).accepted


# Files.


@pytest.mark.parametrize("words", ['["UpToDate"]', '["OutOfDate"]', '["Revoked"]', "[]"])
def test_a_file_with_status_words_is_refused(words: str, tee: Tee, render: Any, tmp_path: Path) -> None:
    text = render(tee, {"tcb": words})
    with pytest.raises(PolicyFileError) as caught:
        parse_policy(text, tmp_path)
    assert caught.value.code is Code.POLICY_MALFORMED
    (problem,) = caught.value.problems
    assert text.split("\n")[problem.line - 1].startswith("tcb")


def test_a_file_below_the_minimum_pins_is_refused(tee: Tee, render: Any, tmp_path: Path) -> None:
    for name in MINIMUM[tee][0]:
        masks: dict[str, None] = {"policy_mask": None} if name == "policy" else {}
        with pytest.raises(PolicyFileError):
            parse_policy(render(tee, {name: None, **masks}), tmp_path)


@pytest.mark.parametrize(
    ("tee", "entry"),
    [
        (Tee.NITRO, {"measurement": f'["{"11" * 48}"]'}),
        (Tee.NITRO, {"pcr5": f'["{"11" * 48}"]'}),
        (Tee.NITRO, {"pcr0": f'["{"00" * 48}"]'}),
        (Tee.NITRO, {"pcr0": f'["{"11" * 32}"]'}),
        (Tee.SNP, {"pcr0": f'["{"11" * 48}"]'}),
        (Tee.SNP, {"mr_td": f'["{"11" * 48}"]'}),
        (Tee.SNP, {"vmpl": "256"}),
    ],
)
def test_a_file_with_one_wrong_pin_is_refused(tee: Tee, entry: Mapping[str, str], render: Any, tmp_path: Path) -> None:
    (name,) = entry
    text = render(tee, entry)
    with pytest.raises(PolicyFileError) as caught:
        parse_policy(text, tmp_path)
    (problem,) = caught.value.problems
    assert text.split("\n")[problem.line - 1].startswith(f"{name} ")
