"""The loader takes no certificate of a proxy with a ledger that is not proven to stand in it."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, replace

import pytest
from cryptography import x509
from logs import TestKey, TestLog

from proxy_attestation.codes import Code
from proxy_attestation.errors import PeerError
from proxy_attestation.formats.ledger_entry import EntryKind, LedgerEntry, encode_entry
from proxy_attestation.loader.credential import Credential
from proxy_attestation.loader.ledger_proof import check_ledger_proof

ORIGIN = "example.org/issuance/0011223344556677"


@dataclass(frozen=True)
class Given:
    proof: bytes
    index: int
    leaf: bytes
    origin: str
    ledger_key: bytes

    def check(self) -> None:
        check_ledger_proof(self.proof, self.index, self.leaf, self.origin, self.ledger_key)


def entry_of(leaf: bytes, kind: EntryKind = EntryKind.LEAF) -> bytes:
    tbs = x509.load_der_x509_certificate(leaf).tbs_certificate_bytes
    certificate = LedgerEntry(
        kind=kind, issuer_spki_sha256=b"i" * 32, serial=b"\x01" + bytes(19), tbs_sha256=hashlib.sha256(tbs).digest(),
        not_before=1, not_after=2, spki_sha256=b"s" * 32,
    )  # fmt: skip
    if kind is not EntryKind.LEAF:
        return encode_entry(certificate)
    more = replace(
        certificate, tee="sgx", evidence_sha256=b"e" * 32, policy_digest=b"p" * 32, status=2, measurements=(b"m" * 32,),
        names_sha256=b"n" * 32, claims_sha256=b"c" * 32, request_sha256=b"r" * 32,
    )  # fmt: skip
    return encode_entry(more)


def log_with(entry: bytes, key: TestKey) -> TestLog:
    return TestLog(key).add([b"one", b"two", entry, b"four", b"five"])


@pytest.fixture
def given(make_credential: Callable[[], Credential]) -> Given:
    leaf = make_credential().chain[0]
    key = TestKey(ORIGIN)
    entry = entry_of(leaf)
    proof = replace(log_with(entry, key).proof(2), extra=entry).encode()
    return Given(proof, 2, leaf, ORIGIN, str(key.verifier).encode())


def test_a_proof_that_verifies(given: Given) -> None:
    given.check()


def other_kind(given: Given) -> Given:
    entry = entry_of(given.leaf, EntryKind.CA_EVENT)
    return replace(given, proof=replace(log_with(entry, TestKey(ORIGIN)).proof(2), extra=entry).encode())


def no_entry(given: Given) -> Given:
    return replace(given, proof=log_with(entry_of(given.leaf), TestKey(ORIGIN)).proof(2).encode())


def another_entry(given: Given) -> Given:
    entry = entry_of(given.leaf)
    proof = log_with(entry, TestKey(ORIGIN)).proof(3)
    return replace(given, index=3, proof=replace(proof, extra=entry).encode())


def another_log(given: Given) -> Given:
    key = TestKey("example.org/issuance/ffffffffffffffff")
    entry = entry_of(given.leaf)
    proof = replace(log_with(entry, key).proof(2), extra=entry).encode()
    return replace(given, proof=proof, ledger_key=str(key.verifier).encode())


SPOILT: dict[str, Callable[[Given, bytes], Given]] = {
    "no proof": lambda given, _: replace(given, proof=b""),
    "a cut proof": lambda given, _: replace(given, proof=given.proof[:-9]),
    "another index": lambda given, _: replace(given, index=1),
    "another certificate": lambda given, other: replace(given, leaf=other),
    "another key of the same name": lambda given, _: replace(
        given, ledger_key=str(TestKey(ORIGIN, secret="other").verifier).encode()
    ),
    "no key": lambda given, _: replace(given, ledger_key=b"\xff\xfe"),
    "another ledger than the certificate's": lambda given, _: another_log(given),
    "no entry": lambda given, _: no_entry(given),
    "a proof of another entry": lambda given, _: another_entry(given),
    "an entry that is no leaf's": lambda given, _: other_kind(given),
}


@pytest.mark.parametrize("spoil", SPOILT.values(), ids=SPOILT)
def test_what_proves_nothing(
    given: Given, make_credential: Callable[[], Credential], spoil: Callable[[Given, bytes], Given]
) -> None:
    spoilt = spoil(given, make_credential().chain[0])
    with pytest.raises(PeerError) as caught:
        spoilt.check()
    assert caught.value.code is Code.PEER_LEDGER_PROOF
