"""The readable claims say what the claims set says, name by name."""

import json
from dataclasses import fields, replace
from typing import Any

from proxy_attestation.formats.ear import LeafClaims, claims_set_to_json, decode_claims_set, encode_claims_set
from proxy_attestation.formats.request import KeyOrigin
from proxy_attestation.formats.tee import Tee

CLAIMS = LeafClaims(
    issued_at=1_764_000_000,
    expires_at=1_764_003_600,
    nonce=b"\x01" * 32,
    build="0.1.0",
    tee=Tee.SGX,
    status=2,
    vector=((0, 2), (2, 2)),
    policy_digest=b"\x02" * 32,
    spki=b"\x03" * 91,
    anchor=b"\x04" * 32,
    key_origin=KeyOrigin.TEE,
    measurements=(("mr_enclave", b"\x05" * 32), ("mr_signer", b"\x06" * 32)),
    signer=b"\x06" * 32,
    product_id=1,
    svn=2,
    debug=False,
    tcb_status="UpToDate",
    tcb_date=1_760_000_000,
    tcb_evaluation_number=17,
    advisories=("INTEL-SA-00615",),
    application_sha256=b"\x07" * 32,
    owner="shared",
    evidence_sha256=b"\x08" * 32,
    ledger_origin="example.org/issuance/x",
    simulated=True,
)


def test_every_claim_is_there_under_its_name() -> None:
    described = json.loads(claims_set_to_json(encode_claims_set(CLAIMS)))
    assert set(described) == {field.name for field in fields(LeafClaims)}
    for field in fields(LeafClaims):
        value: Any = getattr(CLAIMS, field.name)
        if isinstance(value, bytes):
            assert described[field.name] == value.hex()
        elif isinstance(value, bool | str) or field.name in {"status", "product_id", "svn", "tcb_evaluation_number"}:
            assert described[field.name] == value
    assert described["issued_at"] == "2025-11-24T16:00:00Z"
    assert described["tcb_date"] == "2025-10-09T08:53:20Z"
    assert described["key_origin"] == "tee"
    assert described["measurements"] == {"mr_enclave": "05" * 32, "mr_signer": "06" * 32}
    assert described["vector"] == {"0": 2, "2": 2}
    assert described["advisories"] == ["INTEL-SA-00615"]


def test_claims_that_are_not_made_are_left_out() -> None:
    claims = replace(CLAIMS, signer=None, product_id=None, svn=None, application_sha256=None, tee=Tee.TDX)
    encoded = encode_claims_set(claims)
    assert decode_claims_set(encoded) == claims
    assert set(json.loads(claims_set_to_json(encoded))) == {field.name for field in fields(LeafClaims)} - {
        "signer", "product_id", "svn", "application_sha256",
    }  # fmt: skip
