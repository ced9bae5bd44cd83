"""The walk over a proxy's evidence: a good proxy is accepted, and each thing that can be wrong is, alone."""

import hashlib
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from attested_proxy import LEDGER_KEY, MR_PROXY, NONCE, AttestedProxy, Signer, statement

from proxy_attestation.codes import Code
from proxy_attestation.errors import PeerError, ProxyAttestationError
from proxy_attestation.formats.binder import bind
from proxy_attestation.formats.deployment import Pin
from proxy_attestation.formats.evidence import Evidence, encode_evidence
from proxy_attestation.formats.root_evidence import NoncePath, RootEvidence, decode_root_evidence, encode_root_evidence
from proxy_attestation.formats.tee import Tee
from proxy_attestation.relying_party.proxy_evidence import check_proxy
from proxy_attestation_simulator.intel import Vendor

NOW = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)


@pytest.fixture(scope="module")
def vendor() -> Vendor:
    return Vendor.create(NOW)


@pytest.fixture(scope="module")
def proxy(vendor: Vendor) -> AttestedProxy:
    return AttestedProxy(vendor, NOW)


def check(proxy: AttestedProxy, **changes: Any) -> Any:
    expected = {key: changes.pop(key) for key in ("nonce", "expectation", "vendors", "now") if key in changes}
    return check_proxy(
        proxy.answer(**changes),
        expected.get("nonce", NONCE),
        expected.get("expectation", proxy.expectation()),
        expected.get("vendors", proxy.vendors()),
        expected.get("now", NOW),
    )


def refusal(call: Callable[[], object]) -> ProxyAttestationError:
    with pytest.raises(ProxyAttestationError) as caught:
        call()
    return caught.value


def test_a_proxy_that_is_what_was_expected(proxy: AttestedProxy) -> None:
    checked = check(proxy)
    assert checked.claims.tee is Tee.SGX
    assert checked.statement.pins == proxy.pins


@pytest.mark.parametrize("size", [1, 2, 3, 7, 256])
def test_each_caller_of_a_batch_has_a_path(proxy: AttestedProxy, size: int) -> None:
    nonces = [hashlib.sha256(bytes([n])).digest() for n in range(size)]
    for index in {0, size // 2, size - 1}:
        check(proxy, evidence=proxy.evidence(nonces, index), nonce=nonces[index])


def other_nonce(proxy: AttestedProxy) -> dict[str, Any]:
    """A nonce of an answer before this one: the evidence is a replay."""
    return {"nonce": b"m" * 32, "evidence": proxy.evidence()}


def path_of_another_caller(proxy: AttestedProxy) -> dict[str, Any]:
    return {"evidence": proxy.evidence((NONCE, b"o" * 32), 1)}


def with_path(evidence: bytes, path: NoncePath) -> bytes:
    return encode_root_evidence(replace(decode_root_evidence(evidence), path=path))


def path_too_long(proxy: AttestedProxy) -> dict[str, Any]:
    return {"evidence": with_path(proxy.evidence(), NoncePath(0, 1, (bytes(32),)))}


def path_beyond_its_batch(proxy: AttestedProxy) -> dict[str, Any]:
    return {"evidence": with_path(proxy.evidence(), NoncePath(3, 2, (bytes(32),)))}


def relayed_evidence(proxy: AttestedProxy) -> dict[str, Any]:
    """This proxy passes on the evidence of another one, that the signers know too: its root is another one."""
    other = AttestedProxy(proxy.vendor, NOW, proxy.signers, root=b"root key of another proxy" * 4)
    return {"evidence": other.evidence()}


def clone(proxy: AttestedProxy) -> dict[str, Any]:
    """The same image with the signed statement, and a root that it made itself."""
    copy = AttestedProxy(proxy.vendor, NOW, proxy.signers, root=b"root key of a clone" * 4)
    return {
        "facts": copy.facts,
        "evidence": copy.evidence(),
        "root_spki_sha256": hashlib.sha256(copy.root).digest(),
    }


def for_a_certificate(proxy: AttestedProxy) -> bytes:
    """The report data of a certificate's binder over the very values of this proxy."""
    facts = proxy.facts
    ca_id = hashlib.sha256(facts.issuing).digest()
    return bind(ca_id=ca_id, session_id=bytes(16), nonce=NONCE, spki=facts.root, request=b"\xa0").report_data


def workload_evidence_in_a_root_record(proxy: AttestedProxy) -> dict[str, Any]:
    quote = proxy.quote(for_a_certificate(proxy))
    return {"evidence": encode_root_evidence(RootEvidence(Tee.SGX, quote, NoncePath(0, 1, ())))}


def workload_record(proxy: AttestedProxy) -> dict[str, Any]:
    return {"evidence": encode_evidence(Evidence(Tee.SGX, proxy.quote(for_a_certificate(proxy))))}


def garbage(proxy: AttestedProxy) -> dict[str, Any]:
    del proxy
    return {"evidence": b"\x83"}


def another_tee(proxy: AttestedProxy) -> dict[str, Any]:
    return {"evidence": encode_root_evidence(replace(decode_root_evidence(proxy.evidence()), tee=Tee.TDX))}


def fact(name: str, value: Any) -> Callable[[AttestedProxy], dict[str, Any]]:
    """A value of the answer is not the one that was quoted; the statement is about the answer."""

    def change(proxy: AttestedProxy) -> dict[str, Any]:
        facts = replace(proxy.facts, **{name: value})
        note = statement(facts, proxy.signers, proxy.pins)
        root = hashlib.sha256(facts.root).digest()
        return {"facts": facts, "evidence": proxy.evidence(), "statement": note, "root_spki_sha256": root}

    return change


def signed_by(*which: int) -> Callable[[AttestedProxy], dict[str, Any]]:
    return lambda proxy: {"statement": statement(proxy.facts, [proxy.signers[n] for n in which], proxy.pins)}


def signed_by_strangers(proxy: AttestedProxy) -> dict[str, Any]:
    return {"statement": statement(proxy.facts, [Signer("alice"), Signer("bob")], proxy.pins)}


def broken_signature(proxy: AttestedProxy) -> dict[str, Any]:
    text = proxy.note.decode().replace("example.org\n", "example.com\n", 1)
    return {"statement": text.encode(), "trust_domain": "example.com"}


def other_ledger(proxy: AttestedProxy) -> dict[str, Any]:
    facts = replace(proxy.facts, ledger_key=LEDGER_KEY.encode() + b"x")
    return {"statement": statement(facts, proxy.signers, proxy.pins)}


def other_domain(proxy: AttestedProxy) -> dict[str, Any]:
    return {"statement": statement(proxy.facts, proxy.signers, proxy.pins, "example.com")}


def other_pins(proxy: AttestedProxy) -> dict[str, Any]:
    return {"statement": statement(proxy.facts, proxy.signers, (Pin(Tee.SGX, "mr_enclave", b"\x01" * 32),))}


def pins_of_another_tee(proxy: AttestedProxy) -> dict[str, Any]:
    return {"statement": statement(proxy.facts, proxy.signers, (Pin(Tee.SNP, "measurement", b"\x01" * 48),))}


def no_statement_at_all(proxy: AttestedProxy) -> dict[str, Any]:
    text = "proxy-attestation/deployment/v2\n"
    return {
        "statement": f"{text}\n{proxy.signers[0].sign(text.encode())}{proxy.signers[1].sign(text.encode())}".encode()
    }


WRONG: dict[Code, tuple[Callable[[AttestedProxy], dict[str, Any]], ...]] = {
    Code.PROXY_NO_EVIDENCE: (lambda _: {"evidence": b""},),
    Code.PROXY_NO_STATEMENT: (lambda _: {"statement": b""},),
    Code.PROXY_EVIDENCE_MALFORMED: (garbage,),
    Code.PROXY_EVIDENCE_KIND: (workload_record,),
    Code.PROXY_NONCE_PATH: (path_too_long, path_beyond_its_batch),
    Code.PROXY_BINDER: (
        other_nonce,
        path_of_another_caller,
        relayed_evidence,
        workload_evidence_in_a_root_record,
        another_tee,
        fact("root", b"another root"),
        fact("issuing", b"another CA"),
        fact("policy_digest", bytes(32)),
        fact("ledger_key", b"another-key"),
        fact("key_origin", "pkcs11"),
    ),
    Code.SGX_SIGNATURE: (lambda proxy: {"evidence": proxy.evidence(fault="wrong-key")},),
    Code.PROXY_MEASUREMENT: (lambda proxy: {"evidence": proxy.evidence(mr_enclave=b"\x02" * 32)},),
    Code.PROXY_STATEMENT_MALFORMED: (no_statement_at_all,),
    Code.PROXY_STATEMENT_SIGNATURES: (signed_by(0), signed_by(0, 0), signed_by_strangers),
    Code.NOTE_SIGNATURE: (broken_signature,),
    Code.PROXY_STATEMENT_OTHER: (clone, other_ledger, other_domain),
    Code.PROXY_STATEMENT_MEASUREMENT: (other_pins, pins_of_another_tee),
}


@pytest.mark.parametrize(("code", "change"), [(code, change) for code, changes in WRONG.items() for change in changes])
def test_one_thing_is_wrong(
    proxy: AttestedProxy, code: Code, change: Callable[[AttestedProxy], dict[str, Any]]
) -> None:
    assert refusal(lambda: check(proxy, **change(proxy))).code is code


def test_a_proxy_of_another_measurement_says_which(proxy: AttestedProxy) -> None:
    error = refusal(lambda: check(proxy, evidence=proxy.evidence(mr_enclave=b"\x02" * 32)))
    assert isinstance(error, PeerError)
    assert [(m.code, m.field) for m in error.mismatches] == [(Code.POLICY_MEASUREMENT, "mr_enclave")]


def test_a_proxy_in_debug_mode_is_refused(proxy: AttestedProxy) -> None:
    error = refusal(lambda: check(proxy, evidence=proxy.evidence(fault="debug")))
    assert isinstance(error, PeerError)
    assert error.code is Code.PROXY_MEASUREMENT
    assert [m.code for m in error.mismatches] == [Code.SGX_DEBUG]


def test_a_proxy_on_a_platform_that_is_out_of_date_is_refused(proxy: AttestedProxy) -> None:
    error = refusal(lambda: check(proxy, vendors=proxy.vendors(fault="tcb-recovery")))
    assert isinstance(error, PeerError)
    assert Code.SGX_TCB_STATUS in [m.code for m in error.mismatches]


def test_stale_collateral_is_refused(proxy: AttestedProxy) -> None:
    stale = proxy.vendors(fault="expired-collateral")
    assert refusal(lambda: check(proxy, vendors=stale)).code is Code.SGX_TCB_INFO_EXPIRED


def test_collateral_that_is_absent_is_refused(proxy: AttestedProxy) -> None:
    none = proxy.vendors()._replace(material=type(proxy.vendors().material)())
    assert refusal(lambda: check(proxy, vendors=none)).code is Code.SGX_ENDORSEMENTS_MISSING


def test_another_vendor_is_refused(proxy: AttestedProxy) -> None:
    other = AttestedProxy(Vendor.create(NOW), NOW).vendors()
    assert refusal(lambda: check(proxy, vendors=other)).code is Code.SGX_ROOT


def test_keys_outside_the_tee_must_be_named(vendor: Vendor, proxy: AttestedProxy) -> None:
    with_files = AttestedProxy(vendor, NOW, proxy.signers, key_origin="file")
    assert refusal(lambda: check(with_files)).code is Code.PROXY_KEY_ORIGIN
    check(with_files, expectation=replace(proxy.expectation(), key_origins=("file",)))


def test_a_measurement_of_an_upgrade_is_accepted(proxy: AttestedProxy) -> None:
    both = (Pin(Tee.SGX, "mr_enclave", b"\x01" * 32), Pin(Tee.SGX, "mr_enclave", MR_PROXY))
    assert len(check(proxy, statement=statement(proxy.facts, proxy.signers, both)).statement.pins) == 2
