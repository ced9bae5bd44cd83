"""Claims sets of TEEs whose vendor has no status words: no TCB in the bytes, and none in what people read."""

import dataclasses
import json
from typing import Any

import pytest

from proxy_attestation.codes import Code
from proxy_attestation.errors import FormatError
from proxy_attestation.formats import cbor, ear
from proxy_attestation.formats.request import KeyOrigin
from proxy_attestation.formats.tee import Tee

CODE = Code.PEER_CLAIMS_MALFORMED
TCB_KEYS = {"tcb", "tcb_status", "tcb_date", "tcb_evaluation_number", "advisories"}
SNP = ear.LeafClaims(
    issued_at=1_800_000_000,
    expires_at=1_800_086_400,
    nonce=b"\x01" * 32,
    build="0.1.0",
    tee=Tee.SNP,
    status=ear.AFFIRMING,
    vector=((0, 2), (2, 3), (4, 2)),
    policy_digest=b"\x02" * 32,
    spki=b"\x03" * 91,
    anchor=b"\x04" * 32,
    key_origin=KeyOrigin.TEE,
    measurements=(("measurement", b"\x05" * 48), ("product", b"Milan"), ("tcb_snp", b"\x18"), ("vmpl", b"\0")),
    signer=None,
    product_id=None,
    svn=None,
    debug=False,
    tcb_status=None,
    tcb_date=None,
    tcb_evaluation_number=None,
    advisories=(),
    application_sha256=None,
    owner="shared",
    evidence_sha256=b"\x08" * 32,
    ledger_origin="example.org/ledger",
    simulated=True,
)
NITRO = dataclasses.replace(
    SNP, tee=Tee.NITRO, measurements=tuple((f"pcr{index}", bytes([index + 1]) * 48) for index in (0, 1, 2, 3, 4, 8))
)
WITH_TCB = dataclasses.replace(
    SNP, tee=Tee.TDX, tcb_status="UpToDate", tcb_date=1_700_000_000, tcb_evaluation_number=0, advisories=()
)
BOTH = pytest.mark.parametrize("claims", [SNP, NITRO], ids=lambda claims: str(claims.tee))


def submodule(claims: ear.LeafClaims) -> tuple[Any, dict[int, Any]]:
    """Return the whole set, and the map in it that may be changed."""
    tag: Any = cbor.decode(ear.encode_claims_set(claims), CODE, 4096)
    return tag, tag.value[266][str(claims.tee)]


@BOTH
def test_round_trip(claims: ear.LeafClaims) -> None:
    value = ear.encode_extension(ear.encode_claims_set(claims))
    assert ear.decode_extension(value) == claims
    assert claims.tcb is None


@BOTH
def test_the_bytes_have_no_tcb(claims: ear.LeafClaims) -> None:
    assert -70017 not in submodule(claims)[1]
    assert -70017 in submodule(WITH_TCB)[1]


@BOTH
def test_people_read_of_no_tcb(claims: ear.LeafClaims) -> None:
    told = json.loads(ear.claims_set_to_json(ear.encode_claims_set(claims)))
    assert TCB_KEYS & told.keys() == set()
    assert told["tee"] == str(claims.tee)
    assert told["measurements"] == {name: value.hex() for name, value in claims.measurements}
    with_one = json.loads(ear.claims_set_to_json(ear.encode_claims_set(WITH_TCB)))
    assert with_one.keys() - told.keys() == TCB_KEYS - {"tcb"}
    assert (with_one["tcb_status"], with_one["tcb_evaluation_number"], with_one["advisories"]) == ("UpToDate", 0, [])


@BOTH
@pytest.mark.parametrize(
    "value", [None, [], False, "", ["UpToDate", 1, 2], [None, None, None, []], ["", 0, 0, []], ["UpToDate", 0, 0, None]]
)
def test_a_tcb_that_is_none_is_refused(value: object, claims: ear.LeafClaims) -> None:
    """Absent is the one way to say that there is none."""
    tag, fields = submodule(claims)
    fields[-70017] = value
    with pytest.raises(FormatError) as caught:
        ear.decode_claims_set(cbor.encode(tag))
    assert caught.value.code is CODE


def test_debug_without_a_tcb() -> None:
    debug = dataclasses.replace(NITRO, debug=True, status=ear.CONTRAINDICATED)
    assert ear.decode_claims_set(ear.encode_claims_set(debug)) == debug
    lying = dataclasses.replace(debug, debug=False)
    with pytest.raises(FormatError) as caught:
        ear.decode_claims_set(ear.encode_claims_set(lying))
    assert caught.value.code is CODE
