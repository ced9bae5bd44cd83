"""A proxy that proves what it is, in memory, in which each thing can be wrong alone."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from proxy_attestation.appraisal.endorsements import DcapEndorsements
from proxy_attestation.appraisal.roots import same_for_all
from proxy_attestation.endorsements.load import Material
from proxy_attestation.formats.deployment import Pin, encode_deployment, make_deployment
from proxy_attestation.formats.merkle import inclusion_proof, leaf_hash, perfect_root, range_root
from proxy_attestation.formats.root_binder import RootFacts, bind_root
from proxy_attestation.formats.root_evidence import NoncePath, RootEvidence, encode_root_evidence
from proxy_attestation.formats.signed_note import KeyType, Note, Verifier, sign_note
from proxy_attestation.formats.tee import Tee
from proxy_attestation.relying_party.expectation import Expectation
from proxy_attestation.relying_party.proxy_evidence import Answer, Vendors
from proxy_attestation.relying_party.proxy_expectation import ProxyExpectation
from proxy_attestation_simulator.intel import Vendor

NONCE = b"n" * 32
LEDGER_KEY = "example.org/issuance/0011223344556677+8f1c7d2a+AQ=="
MR_PROXY = hashlib.sha256(b"the proxy's image").digest()


class Signer:
    """Somebody with a key who signs texts."""

    def __init__(self, name: str) -> None:
        self._key = Ed25519PrivateKey.generate()
        public = self._key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
        self.verifier = Verifier(name, KeyType.ED25519, public)

    def sign(self, text: bytes) -> Any:
        return sign_note(text.decode(), self.verifier, self._key.sign)


def statement(
    facts: RootFacts, signers: Sequence[Signer], pins: Sequence[Pin], trust_domain: str = "example.org"
) -> bytes:
    """Return a signed deployment statement."""
    root = hashlib.sha256(facts.root).digest()
    text = encode_deployment(make_deployment(trust_domain, root, facts.ledger_key.decode(), pins))
    return Note(text.decode(), tuple(signer.sign(text) for signer in signers)).encode()


@dataclass
class AttestedProxy:
    """A proxy, its signers, and a relying party that expects it."""

    vendor: Vendor
    now: datetime
    signers: tuple[Signer, ...] = field(default_factory=lambda: tuple(map(Signer, ("alice", "bob", "carol"))))
    root: bytes = b"root key of this proxy" * 4
    key_origin: str = "tee"

    @property
    def facts(self) -> RootFacts:
        return RootFacts(self.root, b"issuing key" * 8, bytes([7]) * 32, LEDGER_KEY.encode(), self.key_origin)

    @property
    def pins(self) -> tuple[Pin, ...]:
        return (Pin(Tee.SGX, "mr_enclave", MR_PROXY),)

    @property
    def note(self) -> bytes:
        return statement(self.facts, self.signers[:2], self.pins)

    def quote(self, report_data: bytes, **options: Any) -> bytes:
        return self.vendor.platform("sgx").quote(report_data, **({"mr_enclave": MR_PROXY} | options))

    def evidence(self, nonces: Sequence[bytes] = (NONCE,), index: int = 0, **options: Any) -> bytes:
        """Return the evidence of one caller of a batch."""
        leaves = [leaf_hash(nonce) for nonce in nonces]

        def read(level: int, at: int) -> bytes:
            return perfect_root(leaves[at << level : (at + 1) << level])

        binding = bind_root(options.pop("facts", self.facts), range_root(read, 0, len(leaves)))
        path = NoncePath(index, len(leaves), inclusion_proof(read, index, len(leaves)))
        return encode_root_evidence(RootEvidence(Tee.SGX, self.quote(binding.report_data, **options), path))

    def answer(self, **changes: Any) -> Answer:
        """Return what it answers to NONCE, with changes."""
        fields: dict[str, Any] = {
            "facts": self.facts,
            "trust_domain": "example.org",
            "root_spki_sha256": hashlib.sha256(self.root).digest(),
            "statement": self.note,
        } | changes
        fields.setdefault("evidence", self.evidence() if "evidence" not in fields else b"")
        return Answer(**fields)

    def expectation(self, **code: Any) -> ProxyExpectation:
        fields: dict[str, Any] = {
            "trust_domain": "example.org",
            "tee": Tee.SGX,
            "measurements": (("mr_enclave", (MR_PROXY,)),),
            "simulated": True,
        }
        verifiers = tuple(signer.verifier for signer in self.signers)
        return ProxyExpectation(Expectation(**(fields | code)), verifiers, 2, ("tee",))

    def vendors(self, **options: Any) -> Vendors:
        found = DcapEndorsements(**self.vendor.endorsements("sgx", self.now, **options))
        return Vendors(same_for_all([self.vendor.root_pin]), Material(dcap=(found,)))
