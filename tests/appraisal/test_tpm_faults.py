"""The TPM walk, one step wrong at a time: every fault of the simulator gives its code, and nothing else is wrong."""

import hashlib
import re
from dataclasses import replace
from datetime import UTC, datetime
from functools import cache

import cbor2
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from proxy_attestation.appraisal.tpm import Activation, TpmEndorsements, TpmResult, appraise_tpm
from proxy_attestation.appraisal.tpm_chain import TpmRoots
from proxy_attestation.appraisal.tpm_claims import tpm_to_json
from proxy_attestation.codes import Code
from proxy_attestation.errors import AppraisalError, FormatError, ProxyAttestationError
from proxy_attestation.formats.tpm_evidence import decode_tpm
from proxy_attestation_simulator import tpm_faults
from proxy_attestation_simulator.keys import derive_key
from proxy_attestation_simulator.tpm import BOOT, TpmMade, TpmRecipe, TpmVendor, ak_certificate_recipe, make
from proxy_attestation_simulator.tpm_faults import TPM_FAULTS
from proxy_attestation_simulator.tpm_structures import AK_ATTRIBUTES, LogEvent, PrivateKey, public_area, sign

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
VENDOR = TpmVendor.create(NOW)
ROOTS = TpmRoots(frozenset({VENDOR.pin}))
# Steps that no recipe reaches: their tests stand below, or in test_azure.py, test_event_log.py and test_tpm_pins.py.
ELSEWHERE = {
    Code.TPM_ENDORSEMENTS_MISSING, Code.TPM_CREDENTIAL, Code.TPM_HCL_MALFORMED, Code.TPM_HCL_REPORT_DATA,
    Code.TPM_HCL_KEY, Code.TPM_HCL_LAYER, Code.TPM_EVENT_UNKNOWN, Code.TPM_SOFTWARE_KEY,
}  # fmt: skip


@cache
def rsa_key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(65537, 2048)


def endorsements(made: TpmMade, recipe: TpmRecipe) -> TpmEndorsements:
    activation = Activation(made.activated_name, made.activated_ek) if recipe.way == "activation" else None
    return TpmEndorsements(made.certificates, activation, event_log=made.event_log)


def appraise(recipe: TpmRecipe, ak_key: PrivateKey | None = None) -> TpmResult:
    made = make(VENDOR, recipe, ak_key=ak_key)
    beside = endorsements(made, recipe)
    csr = made.key_spki if recipe.with_key else None
    return appraise_tpm(decode_tpm(made.evidence), beside, ROOTS, NOW, csr_spki=csr)


def code_of(recipe: TpmRecipe) -> str:
    try:
        appraise(recipe)
    except ProxyAttestationError as error:
        return str(error.code)
    return "accepted"


@pytest.mark.parametrize("name", TPM_FAULTS)
def test_every_fault_gives_its_code(name: str) -> None:
    fault = TPM_FAULTS[name]
    (expected,) = fault.codes()
    assert code_of(fault.apply(TpmRecipe(), "")) == expected


def test_every_code_of_the_walk_has_a_fault_or_a_test_of_its_own() -> None:
    provoked = {code for fault in TPM_FAULTS.values() for code in fault.codes()}
    assert {code for code in Code if code.startswith("tpm.")} - provoked == ELSEWHERE


def test_the_table_is_the_registry() -> None:
    rows = dict(re.findall(r"^    ([a-z0-9-]+) +([a-z0-9_]+)$", tpm_faults.__doc__ or "", re.MULTILINE))
    assert rows.pop("fault") == "code"
    assert rows == {name: fault.code for name, fault in TPM_FAULTS.items()}


def test_what_is_good_is_accepted() -> None:
    recipe = TpmRecipe()
    made, result = make(VENDOR, recipe), appraise(recipe)
    body = result.body
    assert result.bound == (recipe.extra_data,) * 2
    assert (result.certified_spki, body.key_certified, body.ak_trust) == (made.key_spki, True, "activation")
    assert (result.anchor, body.debug, body.quirks) == (VENDOR.pin, False, ("critical_san",))
    assert result.instance_id is not None
    assert result.valid_until is not None
    assert [(layer.register, len(layer.events)) for layer in body.layers] == [(0, 2), (4, 1), (7, 1)]
    shown = tpm_to_json(body)
    assert (shown["pcr_bank"], shown["pcr4"]) == ("sha256", BOOT.registers()[4].hex())


def test_an_ak_with_a_certificate_of_its_own_is_trusted() -> None:
    recipe = ak_certificate_recipe(TpmRecipe())
    result = appraise(recipe)
    assert (result.body.ak_trust, result.instance_id) == ("certificate", None)
    made = make(VENDOR, recipe)
    another = make(VENDOR, replace(recipe, ak_secret=b"x", signed_by=b"x", certify_signed_by=b"x"))
    swapped = TpmEndorsements(another.certificates)
    with pytest.raises(AppraisalError) as refused:
        appraise_tpm(decode_tpm(made.evidence), swapped, ROOTS, NOW)
    assert refused.value.code is Code.TPM_AK_CERTIFICATE


def test_a_named_ak_is_trusted_for_this_run_alone() -> None:
    recipe = TpmRecipe(hash="sha1")
    made = make(VENDOR, recipe)
    evidence = decode_tpm(made.evidence)
    named = TpmEndorsements(ak_anchors=(made.ak_spki,))
    result = appraise_tpm(evidence, named, ROOTS, NOW)
    assert (result.body.ak_trust, result.body.sig_hash, result.valid_until) == ("anchor", "sha1", None)
    with pytest.raises(AppraisalError) as refused:
        appraise_tpm(evidence, TpmEndorsements(ak_anchors=(made.key_spki,)), ROOTS, NOW)
    assert refused.value.code is Code.TPM_AK_UNTRUSTED


def test_the_right_one_of_several_named_aks_is_found() -> None:
    made = make(VENDOR, TpmRecipe(with_key=False), ak_key=rsa_key())
    record = cbor2.loads(made.evidence)
    quote = replace(decode_tpm(record[1]), signature=record[2][6:])  # as tools cut it out
    others = TpmEndorsements(ak_anchors=(make(VENDOR).ak_spki, made.ak_spki))
    assert appraise_tpm(quote, others, ROOTS, NOW).body.sig_alg == "RSASSA"
    with pytest.raises(AppraisalError) as refused:
        appraise_tpm(quote, TpmEndorsements(ak_anchors=(b"no key",)), ROOTS, NOW)
    assert refused.value.code is Code.TPM_AK_UNTRUSTED


def test_a_key_that_is_named_by_sha1_is_refused() -> None:
    recipe = TpmRecipe()
    area = public_area(derive_key(b"proxy-attestation simulated TPM", "tpm ak"), AK_ATTRIBUTES, name_alg="sha1")
    named = replace(recipe, parts={3: area}, activated_name=b"\0\x04" + hashlib.sha1(area).digest())  # noqa: S324 - TPM 2.0 allows it as a name's hash
    assert code_of(named) == Code.TPM_HASH


@pytest.mark.parametrize("pss", [False, True])
def test_rsa_attestation_keys_sign_in_both_schemes(pss: bool) -> None:
    made = make(VENDOR, TpmRecipe(with_key=False), ak_key=rsa_key())
    record = cbor2.loads(made.evidence)
    record[2] = sign(rsa_key(), record[1], "sha256", pss=pss)
    evidence = decode_tpm(cbor2.dumps(record))
    activation = Activation(made.activated_name, made.activated_ek)
    body = appraise_tpm(evidence, TpmEndorsements(made.certificates, activation), ROOTS, NOW).body
    assert (body.sig_alg, body.ak is not None and body.ak.kind) == ("RSAPSS" if pss else "RSASSA", "RSA")


@pytest.mark.parametrize("name", ["sha384", "sha512"])
def test_the_digest_is_by_the_signing_hash(name: str) -> None:
    assert appraise(TpmRecipe(hash=name)).body.sig_hash == name


def test_a_quote_alone_lacks_its_signature_and_key() -> None:
    made = make(VENDOR)
    quote = decode_tpm(cbor2.loads(made.evidence)[1])
    signature = cbor2.loads(made.evidence)[2]
    for evidence in (quote, replace(quote, signature=signature)):
        with pytest.raises(AppraisalError) as refused:
            appraise_tpm(evidence, TpmEndorsements(), ROOTS, NOW)
        assert refused.value.code is Code.TPM_ENDORSEMENTS_MISSING
    named = TpmEndorsements(ak_anchors=(made.ak_spki,))
    result = appraise_tpm(replace(quote, signature=signature), named, ROOTS, NOW)
    assert (result.body.pcrs, result.body.ak, result.body.pcr_bank) == ({}, None, None)
    with pytest.raises(AppraisalError) as refused:
        with_log = replace(named, event_log=made.event_log)
        appraise_tpm(replace(quote, signature=signature), with_log, ROOTS, NOW)
    assert refused.value.code is Code.TPM_PCR_VALUES


def test_every_signed_byte_counts() -> None:
    """Quote and certification: whichever byte is flipped, the evidence is refused."""
    recipe = TpmRecipe()
    made = make(VENDOR, recipe)
    record, beside = cbor2.loads(made.evidence), endorsements(made, recipe)
    for part in (1, 5):
        for at in range(len(record[part])):
            flipped = bytearray(record[part])
            flipped[at] ^= 0x01
            with pytest.raises((AppraisalError, FormatError)):
                appraise_tpm(decode_tpm(cbor2.dumps(record | {part: bytes(flipped)})), beside, ROOTS, NOW)


@pytest.mark.parametrize("part", [2, 3, 6, 7])
def test_every_other_byte_counts(part: int) -> None:
    """Signatures by value, public areas by name: the AK's by activation, the key's by certification."""
    recipe = TpmRecipe()
    made = make(VENDOR, recipe)
    record, beside = cbor2.loads(made.evidence), endorsements(made, recipe)
    for at in range(len(record[part])):
        flipped = bytearray(record[part])
        flipped[at] ^= 0x01
        with pytest.raises((AppraisalError, FormatError)):
            appraise_tpm(decode_tpm(cbor2.dumps(record | {part: bytes(flipped)})), beside, ROOTS, NOW)


def test_an_unknown_event_is_told_apart() -> None:
    log = replace(BOOT, events=(*BOOT.events, LogEvent(4, 0x7777, b"what is this")))
    layers = {layer.register: layer for layer in appraise(TpmRecipe(log=log)).body.layers}
    assert [event.type for event in layers[4].unknown] == [0x7777]
    assert layers[7].unknown == ()


def test_a_key_of_another_curve_is_no_ak() -> None:
    key = ec.generate_private_key(ec.SECP384R1())
    assert appraise(TpmRecipe(with_key=False), ak_key=key).body.sig_alg == "ECDSA"
