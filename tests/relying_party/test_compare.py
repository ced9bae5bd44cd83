"""Every claim that an expectation can demand, alone wrong; and what is refused although nobody asked for it."""

import hashlib
from dataclasses import replace
from typing import Any

import pytest
from mini_authority import MiniAuthority

from proxy_attestation.codes import Code
from proxy_attestation.formats.ear import LeafClaims
from proxy_attestation.formats.request import KeyOrigin, Names
from proxy_attestation.formats.tee import Tee
from proxy_attestation.relying_party.compare import compare
from proxy_attestation.relying_party.expectation import Expectation

WORKLOAD = "example-app"
NAMES = Names(("app.example.org",), (bytes((127, 0, 0, 1)),), ("spiffe://example.org/example-app",))
OTHER = hashlib.sha256(b"other").digest()
FLAGS = bytes.fromhex("0500000000000000")
MEASUREMENTS = (
    ("attributes_flags", FLAGS),
    ("config_id", bytes(64)),
    ("config_svn", b"\0\1"),
    ("mr_enclave", b"\x11" * 32),
)


@pytest.fixture
def claims(authority: MiniAuthority) -> LeafClaims:
    result = authority.claims(b"key", measurements=MEASUREMENTS)
    assert isinstance(result, LeafClaims)
    return result


@pytest.fixture
def strict(claims: LeafClaims) -> Expectation:
    """Demands everything that the claims say."""
    assert claims.signer is not None
    assert claims.application_sha256 is not None
    return Expectation(
        trust_domain="example.org",
        workload=WORKLOAD,
        tee=Tee.SGX,
        measurements=tuple((name, (value,)) for name, value in MEASUREMENTS[1:]),
        masked=(("attributes_flags", bytes.fromhex("0400000000000000"), bytes.fromhex("0600000000000000")),),
        mr_signer=(OTHER, claims.signer),
        isv_prod_id=7,
        min_isv_svn=3,
        application=(OTHER, claims.application_sha256),
        owners=("shared",),
        names=NAMES,
        policy_digests=(claims.policy_digest,),
    )


def found(expectation: Expectation, claims: LeafClaims, workload: str = WORKLOAD) -> list[tuple[Code, str]]:
    return [(m.code, m.field) for m in compare(expectation, claims, workload, NAMES)]


def test_equal_is_accepted(strict: Expectation, claims: LeafClaims) -> None:
    assert found(strict, claims) == []


CLAIMS: dict[str, tuple[dict[str, Any], list[tuple[Code, str]]]] = {
    "tee": ({"tee": Tee.TDX}, [(Code.POLICY_TEE, "tee")]),
    "measurement": (
        {"measurements": (*MEASUREMENTS[:3], ("mr_enclave", OTHER))},
        [(Code.POLICY_MEASUREMENT, "mr_enclave")],
    ),
    "measurement absent": ({"measurements": MEASUREMENTS[:3]}, [(Code.POLICY_MEASUREMENT, "mr_enclave")]),
    "configuration": (
        {"measurements": (MEASUREMENTS[0], ("config_id", b"\1" * 64), *MEASUREMENTS[2:])},
        [(Code.POLICY_CONFIG, "config_id")],
    ),
    "attribute under the mask": (
        {"measurements": (("attributes_flags", bytes.fromhex("0700000000000000")), *MEASUREMENTS[1:])},
        [(Code.POLICY_ATTRIBUTES, "attributes_flags")],
    ),
    "attribute of another length": (
        {"measurements": (("attributes_flags", FLAGS[:7]), *MEASUREMENTS[1:])},
        [(Code.POLICY_ATTRIBUTES, "attributes_flags")],
    ),
    "attribute absent": ({"measurements": MEASUREMENTS[1:]}, [(Code.POLICY_ATTRIBUTES, "attributes_flags")]),
    "signer": ({"signer": hashlib.sha256(b"signer").digest()}, [(Code.POLICY_SIGNER, "mr_signer")]),
    "signer absent": ({"signer": None}, [(Code.POLICY_SIGNER, "mr_signer")]),
    "product": ({"product_id": 8}, [(Code.POLICY_PRODUCT, "isv_prod_id")]),
    "product absent": ({"product_id": None}, [(Code.POLICY_PRODUCT, "isv_prod_id")]),
    "svn": ({"svn": 2}, [(Code.POLICY_SVN, "min_isv_svn")]),
    "svn absent": ({"svn": None}, [(Code.POLICY_SVN, "min_isv_svn")]),
    "application": ({"application_sha256": b"\1" * 32}, [(Code.POLICY_APPLICATION, "application")]),
    "application absent": ({"application_sha256": None}, [(Code.POLICY_APPLICATION, "application")]),
    "debug": ({"debug": True}, [(Code.SGX_DEBUG, "debug")]),
    "tcb": ({"tcb_status": "OutOfDate"}, [(Code.SGX_TCB_STATUS, "tcb")]),
    "advisory": ({"advisories": ("INTEL-SA-00615",)}, [(Code.POLICY_ADVISORY, "advisories")]),
    "key origin": ({"key_origin": KeyOrigin.SOFTWARE}, [(Code.POLICY_KEY_ORIGIN, "key_origin")]),
    "owner": ({"owner": "first_use"}, [(Code.POLICY_OWNER, "owner")]),
    "simulated": ({"simulated": True}, [(Code.POLICY_CLAIM, "simulated")]),
    "policy digest": ({"policy_digest": OTHER}, [(Code.POLICY_CLAIM, "policy_digest")]),
    "status": ({"status": 32}, [(Code.POLICY_CLAIM, "ear_status")]),
    "executables unknown": ({"vector": ((2, 0), (4, 2))}, [(Code.POLICY_CLAIM, "executables")]),
    "executables absent": ({"vector": ((4, 2),)}, [(Code.POLICY_CLAIM, "executables")]),
    "executables unrecognised": ({"vector": ((2, 33), (4, 2))}, [(Code.POLICY_CLAIM, "executables")]),
    "hardware absent": ({"vector": ((2, 3),)}, [(Code.POLICY_CLAIM, "hardware")]),
    "hardware warning": ({"vector": ((2, 3), (4, 32))}, [(Code.POLICY_CLAIM, "hardware")]),
    "instance identity": ({"vector": ((0, 97), (2, 3), (4, 2))}, [(Code.POLICY_CLAIM, "instance_identity")]),
    "contraindicated without debug": (
        {"vector": ((1, 96), (2, 3), (4, 2), (5, 96))},
        [(Code.POLICY_CLAIM, "configuration"), (Code.POLICY_CLAIM, "runtime_opaque")],
    ),
}


@pytest.mark.parametrize("fault", CLAIMS)
def test_finds_claim(fault: str, strict: Expectation, claims: LeafClaims) -> None:
    changes, mismatches = CLAIMS[fault]
    assert found(strict, replace(claims, **changes)) == mismatches


def test_higher_svn_and_bits_outside_the_mask_are_accepted(strict: Expectation, claims: LeafClaims) -> None:
    other = (("attributes_flags", bytes.fromhex("0500000000000001")), *MEASUREMENTS[1:])
    assert found(strict, replace(claims, svn=4, measurements=other)) == []


def test_finds_workload(strict: Expectation, claims: LeafClaims) -> None:
    assert found(strict, claims, "other") == [(Code.POLICY_WORKLOAD, "workload")]


@pytest.mark.parametrize(
    "names",
    [
        Names(("other.example.org",)),
        Names((), (bytes((127, 0, 0, 2)),)),
        Names((), (), ("spiffe://example.org/other",)),
    ],
)
def test_finds_name(strict: Expectation, claims: LeafClaims, names: Names) -> None:
    assert found(replace(strict, names=names), claims) == [(Code.POLICY_NAME, "name")]


def test_workload_alone_demands_the_rest_too(claims: LeafClaims) -> None:
    lax = Expectation(trust_domain="example.org", workload=WORKLOAD)
    assert found(lax, claims) == []
    worst = replace(
        claims,
        debug=True,
        tcb_status="OutOfDate",
        advisories=("INTEL-SA-00615",),
        key_origin=KeyOrigin.SOFTWARE,
        simulated=True,
        tee=Tee.TDX,
    )
    assert found(lax, worst) == [
        (Code.TDX_DEBUG, "debug"),
        (Code.TDX_TCB_STATUS, "tcb"),
        (Code.POLICY_ADVISORY, "advisories"),
        (Code.POLICY_KEY_ORIGIN, "key_origin"),
        (Code.POLICY_CLAIM, "simulated"),
    ]


def test_each_relaxation_is_by_name(strict: Expectation, claims: LeafClaims) -> None:
    assert found(replace(strict, simulated=True), replace(claims, simulated=True)) == []
    assert (
        found(replace(strict, key_origins=(KeyOrigin.SOFTWARE,)), replace(claims, key_origin=KeyOrigin.SOFTWARE)) == []
    )
    assert found(replace(strict, advisories=("INTEL-SA-00615",)), replace(claims, advisories=("INTEL-SA-00615",))) == []
    debug = replace(claims, debug=True, status=96, vector=((0, 2), (1, 96), (2, 3), (4, 2), (5, 96)))
    assert found(replace(strict, allow_debug=True), debug) == []
    old = replace(claims, tcb_status="SWHardeningNeeded", status=32, vector=((2, 3), (4, 32)))
    assert found(replace(strict, tcb=("UpToDate", "SWHardeningNeeded")), old) == []


def test_an_accepted_old_tcb_excuses_no_other_warning(strict: Expectation, claims: LeafClaims) -> None:
    lax = replace(strict, tcb=("SWHardeningNeeded",))
    old = replace(claims, tcb_status="SWHardeningNeeded", status=32, vector=((2, 32), (4, 32)))
    assert found(lax, old) == [(Code.POLICY_CLAIM, "executables")]
    worse = replace(claims, tcb_status="SWHardeningNeeded", status=32, vector=((2, 3), (4, 96)))
    assert found(lax, worse) == [(Code.POLICY_CLAIM, "hardware")]


def test_a_simulated_expectation_refuses_the_real_thing(strict: Expectation, claims: LeafClaims) -> None:
    assert found(replace(strict, simulated=True), claims) == [(Code.POLICY_CLAIM, "simulated")]
