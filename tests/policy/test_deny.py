"""`[deny]`: each thing that can be denied, for each TEE that has it, and what a file with a wrong one gets."""

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from proxy_attestation.appraisal.claims import Claims, HardwareClaims
from proxy_attestation.appraisal.endorsements import SnpEndorsements
from proxy_attestation.appraisal.instance import machine_id
from proxy_attestation.appraisal.kinds import Appraiser, decode_evidence_of, tpm_result_claims, verify_endorsements
from proxy_attestation.appraisal.layers import Layer, MeasuredEvent
from proxy_attestation.appraisal.nitro_claims import NitroClaims
from proxy_attestation.appraisal.roots import same_for_all
from proxy_attestation.appraisal.snp_claims import SnpClaims
from proxy_attestation.appraisal.tpm import Activation, TpmEndorsements, appraise_tpm
from proxy_attestation.appraisal.tpm_chain import TpmRoots
from proxy_attestation.codes import Code
from proxy_attestation.formats.request import Request
from proxy_attestation.formats.tee import Tee
from proxy_attestation.formats.tpm_evidence import decode_tpm
from proxy_attestation.policy.decide import decide
from proxy_attestation.policy.deny import Deny, match_certificate, match_claims
from proxy_attestation.policy.load import PolicyFileError, parse_policy
from proxy_attestation.policy.model import Policy
from proxy_attestation_simulator.amd import AmdVendor
from proxy_attestation_simulator.aws import Aws
from proxy_attestation_simulator.tpm import TpmVendor, make

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
SPKI, SERIAL = b"\x5b" * 32, b"\x5e" * 20
PPID, FMSPC = b"\x99" * 16, bytes.fromhex("00606a000000")


@cache
def snp() -> Claims:
    amd = AmdVendor.fixed(NOW)
    roots = same_for_all({amd.ark_pin("Milan")})
    made = amd.platform("Milan").evidence(bytes(64))
    held = verify_endorsements(SnpEndorsements(made.certificates[1:], made.crls), roots, NOW)
    appraiser = Appraiser(roots, {(held.tee, held.platform): held})
    return appraiser.appraise(decode_evidence_of(Tee.SNP, made.report), made.certificates, NOW)[0]


@cache
def nitro() -> Claims:
    aws = Aws.create(NOW, secret=bytes(range(32)))
    document = aws.enclave().document(nonce=b"n", public_key=b"k", user_data=b"u")
    appraiser = Appraiser(same_for_all({aws.root_pin}), {})
    return appraiser.appraise(decode_evidence_of(Tee.NITRO, document), (), NOW)[0]


@cache
def tpm() -> Claims:
    vendor = TpmVendor.create(NOW)
    made = make(vendor, None)
    given = TpmEndorsements(
        made.certificates, Activation(made.activated_name, made.activated_ek), event_log=made.event_log
    )
    roots = TpmRoots(frozenset({vendor.pin}))
    return tpm_result_claims(appraise_tpm(decode_tpm(made.evidence), given, roots, NOW))


@pytest.fixture
def claims(claims_of: Callable[..., Claims]) -> Callable[[str], Claims]:
    """Return good claims of a TEE, or of a vTPM whose hardware vouches for it."""
    layer = Layer(1, b"\x40" * 48, (MeasuredEvent(3, b"\xee" * 48, None),))
    made: dict[str, Callable[[], Claims]] = {
        "sgx": lambda: claims_of("sgx", tcb={"fmspc": FMSPC, "advisories": ("INTEL-SA-00615",)},
                                 instance_id=machine_id(Tee.SGX, PPID)),
        "tdx": lambda: claims_of("tdx", tcb={"fmspc": FMSPC, "advisories": ("INTEL-SA-00615",)},
                                 instance_id=machine_id(Tee.TDX, PPID), layers=(layer,)),
        "snp": snp,
        "nitro": nitro,
        "tpm": tpm,
        "vtpm": lambda: vtpm(snp()),
        "vtpm-td": lambda: vtpm(made["tdx"]()),
    }  # fmt: skip
    return lambda name: made[name]()


def vtpm(below: Claims) -> Claims:
    hardware = HardwareClaims(below.tee, below.body, below.debug, below.tcb)
    return replace(tpm(), hardware=hardware, instance_id=below.instance_id)


def chip(of: Claims) -> str:
    assert isinstance(of.body, SnpClaims)
    return of.body.chip_id.hex()


def measured(of: Claims, name: str) -> str:
    value = of.body.measurements[name] if isinstance(of.body, NitroClaims) else getattr(of.body, name)
    return bytes(value).hex()


ROWS: list[tuple[str, str, Callable[[Claims], str], Code]] = [
    ("sgx", "fmspcs", lambda _: FMSPC.hex(), Code.DENY_FMSPC),
    ("tdx", "fmspcs", lambda _: FMSPC.hex(), Code.DENY_FMSPC),
    ("vtpm-td", "fmspcs", lambda _: FMSPC.hex(), Code.DENY_FMSPC),
    ("snp", "products", lambda _: "Milan", Code.DENY_PRODUCT),
    ("vtpm", "products", lambda _: "Milan", Code.DENY_PRODUCT),
    ("sgx", "chip_ids", lambda _: PPID.hex(), Code.DENY_CHIP_ID),
    ("tdx", "chip_ids", lambda _: PPID.hex(), Code.DENY_CHIP_ID),
    ("snp", "chip_ids", chip, Code.DENY_CHIP_ID),
    ("vtpm", "chip_ids", lambda _: chip(snp()), Code.DENY_CHIP_ID),
    ("sgx", "measurements", lambda of: measured(of, "mr_enclave"), Code.DENY_MEASUREMENT),
    ("tdx", "measurements", lambda of: measured(of, "mr_td"), Code.DENY_MEASUREMENT),
    ("tdx", "measurements", lambda of: measured(of, "rtmr3"), Code.DENY_MEASUREMENT),
    ("tdx", "measurements", lambda _: "ee" * 48, Code.DENY_MEASUREMENT),
    ("snp", "measurements", lambda of: measured(of, "measurement"), Code.DENY_MEASUREMENT),
    ("nitro", "measurements", lambda of: measured(of, "pcr0"), Code.DENY_MEASUREMENT),
    ("tpm", "measurements", lambda of: of.body.measurements["pcr4"].hex(), Code.DENY_MEASUREMENT),  # type: ignore[union-attr]  # a TPM's
    ("vtpm", "measurements", lambda _: measured(snp(), "measurement"), Code.DENY_MEASUREMENT),
    ("sgx", "advisories", lambda _: "INTEL-SA-00615", Code.DENY_ADVISORY),
    ("tdx", "advisories", lambda _: "INTEL-SA-00615", Code.DENY_ADVISORY),
    ("vtpm-td", "advisories", lambda _: "INTEL-SA-00615", Code.DENY_ADVISORY),
]


OTHER_WORDS = {"products": "Turin", "advisories": "INTEL-SA-00616"}


def read(render: Callable[..., str], table: str) -> Deny:
    return parse_policy(render(more=f"[deny]\n{table}"), Path("/nonexistent")).deny


@pytest.mark.parametrize(
    ("kind", "key", "value", "code"), ROWS, ids=lambda value: value if isinstance(value, str) else ""
)
def test_each_denied_thing_is_its_own_refusal(
    *,
    kind: str,
    key: str,
    value: Callable[[Claims], str],
    code: Code,
    claims: Callable[[str], Claims],
    render: Callable[..., str],
) -> None:
    found = claims(kind)
    denied = value(found)
    mismatches = list(match_claims(read(render, f'{key} = ["{denied}"]'), found))
    assert [(mismatch.code, mismatch.field) for mismatch in mismatches] == [(code, key)]
    # The same list with the neighbour of what is denied refuses nothing.
    other = OTHER_WORDS[key] if key in OTHER_WORDS else f"{int(denied[:2], 16) ^ 1:02x}{denied[2:]}"
    assert list(match_claims(read(render, f'{key} = ["{other}"]'), found)) == []


def test_a_tpm_is_denied_by_its_endorsement_key(claims: Callable[[str], Claims]) -> None:
    ek = b"\xec" * 32
    named = replace(claims("tpm"), instance_id=machine_id(Tee.TPM, ek))
    assert [m.code for m in match_claims(Deny(chip_ids=(ek,)), named)] == [Code.DENY_CHIP_ID]
    assert list(match_claims(Deny(chip_ids=(b"\xed" * 32,)), named)) == []


@pytest.mark.parametrize(
    ("kind", "length", "refused"),
    [("sgx", 16, True), ("sgx", 32, True), ("sgx", 64, False), ("tdx", 16, True), ("snp", 64, True), ("snp", 32, False),
     ("tpm", 32, True), ("tpm", 64, False), ("vtpm", 64, True), ("vtpm", 32, False), ("nitro", 32, False)],
)  # fmt: skip
def test_a_machine_that_says_nothing_may_be_the_denied_one(
    kind: str, length: int, refused: bool, claims: Callable[[str], Claims]
) -> None:
    masked = replace(claims(kind), instance_id=None)
    found = [m.code for m in match_claims(Deny(chip_ids=(b"\x77" * length,)), masked)]
    assert found == ([Code.DENY_CHIP_ID] if refused else [])


def test_a_denied_key_gets_no_certificate(
    policy_of: Callable[..., Policy], claims_of: Callable[..., Claims], request_of: Callable[..., Request]
) -> None:
    policy = policy_of(more=f'[deny]\nspkis = ["{SPKI.hex()}"]')
    denied = decide(claims_of(), request_of(), policy, SPKI)
    assert [(m.code, m.field) for m in denied.mismatches] == [(Code.DENY_SPKI, "spkis")]
    assert not denied.accepted
    assert denied.names.readable() == ()
    assert decide(claims_of(), request_of(), policy, b"\x5c" * 32).accepted


def test_a_denied_certificate_is_not_renewed() -> None:
    deny = Deny(serials=(SERIAL,), spkis=(SPKI,))
    other = b"\1" * 32
    assert [m.code for m in match_certificate(deny, other, SERIAL)] == [Code.DENY_SERIAL]
    assert [m.code for m in match_certificate(deny, SPKI, b"\1" * 20)] == [Code.DENY_SPKI]
    assert [m.code for m in match_certificate(deny, SPKI, SERIAL)] == [Code.DENY_SERIAL, Code.DENY_SPKI]
    assert list(match_certificate(deny, other, b"\1" * 20)) == list(match_certificate(deny, other)) == []


def test_deny_is_the_first_step(
    policy_of: Callable[..., Policy], claims_of: Callable[..., Claims], request_of: Callable[..., Request]
) -> None:
    policy = policy_of(more=f'[deny]\nmeasurements = ["{"12" * 32}"]')
    claims = claims_of(body={"mr_enclave": b"\x12" * 32})
    decision = decide(claims, request_of(), policy)
    assert [m.code for m in decision.mismatches] == [Code.DENY_MEASUREMENT, Code.POLICY_MEASUREMENT]
    unknown = decide(claims, request_of(workload="other"), policy)
    assert [m.code for m in unknown.mismatches] == [Code.DENY_MEASUREMENT, Code.POLICY_WORKLOAD]


def test_an_advisory_is_denied_though_the_entry_lists_it(
    policy_of: Callable[..., Policy], claims_of: Callable[..., Claims], request_of: Callable[..., Request]
) -> None:
    claims = claims_of(tcb={"advisories": ("INTEL-SA-00615",)})
    entry = {"advisories": '["INTEL-SA-00615"]'}
    assert decide(claims, request_of(), policy_of(entry=entry)).accepted
    policy = policy_of(entry=entry, more='[deny]\nadvisories = ["INTEL-SA-00615"]')
    assert [m.code for m in decide(claims, request_of(), policy).mismatches] == [Code.DENY_ADVISORY]


def test_a_denied_thing_is_told_once(claims: Callable[[str], Claims]) -> None:
    below = claims("vtpm-td")
    assert below.hardware is not None
    twice = replace(below, tcb=below.hardware.tcb)
    assert [m.code for m in match_claims(Deny(fmspcs=(FMSPC,)), twice)] == [Code.DENY_FMSPC]


def test_every_list_is_read(render: Callable[..., str]) -> None:
    table = f"""
    products = ["Turin", "Milan"]
    fmspcs = ["{FMSPC.hex()}"]
    chip_ids = ["{"02" * 64}", "{"03" * 16}", "{"01" * 32}"]
    measurements = ["{"11" * 32}", "{"12" * 48}", "{"13" * 64}"]
    advisories = ["INTEL-SA-00615"]
    serials = ["{"5e" * 20}", "0a01"]
    spkis = ["{SPKI.hex()}"]
    """
    deny = read(render, table)
    assert deny == Deny(
        products=("Milan", "Turin"),
        fmspcs=(FMSPC,),
        chip_ids=(b"\1" * 32, b"\2" * 64, b"\3" * 16),
        measurements=(b"\x11" * 32, b"\x12" * 48, b"\x13" * 64),
        advisories=("INTEL-SA-00615",),
        serials=(bytes(18) + b"\x0a\1", SERIAL),
        spkis=(SPKI,),
    )


@pytest.mark.parametrize(
    "table",
    [
        "",
        "product = []",
        *(
            f"{key} = []"
            for key in ("products", "fmspcs", "chip_ids", "measurements", "advisories", "serials", "spkis")
        ),
        'products = ["milan"]',
        'fmspcs = ["00606a0000"]',
        'fmspcs = ["00606A000000"]',
        f'chip_ids = ["{"00" * 64}"]',
        f'chip_ids = ["{"11" * 20}"]',
        f'measurements = ["{"11" * 20}"]',
        f'measurements = ["{"00" * 32}"]',
        'advisories = ["see the site"]',
        f'serials = ["{"11" * 21}"]',
        'serials = ["a01"]',
        'serials = ["00"]',
        f'spkis = ["{"11" * 48}"]',
        f'spkis = ["{"11" * 32}", "{"11" * 32}"]',
        "spkis = 7",
    ],
)
def test_a_file_with_a_wrong_one_is_refused(table: str, render: Callable[..., str]) -> None:
    with pytest.raises(PolicyFileError) as caught:
        read(render, table)
    assert caught.value.code is Code.POLICY_MALFORMED
    assert len(caught.value.problems) == 1


def test_what_is_denied_is_in_the_digest(policy_of: Callable[..., Policy]) -> None:
    changed: Any = policy_of(more='[deny]\nproducts = ["Milan"]')
    assert changed != policy_of()
