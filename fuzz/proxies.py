"""A whole answer of a proxy that shows what it is, in which the evidence or the statement is any bytes."""

import functools
from typing import Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from inputs import NOW, vendor
from target import Target

from proxy_attestation.appraisal.endorsements import DcapEndorsements
from proxy_attestation.appraisal.roots import same_for_all
from proxy_attestation.endorsements.load import Material
from proxy_attestation.formats.deployment import Pin, encode_deployment, make_deployment
from proxy_attestation.formats.merkle import leaf_hash
from proxy_attestation.formats.root_binder import RootFacts, bind_root
from proxy_attestation.formats.root_evidence import NoncePath, RootEvidence, encode_root_evidence
from proxy_attestation.formats.signed_note import KeyType, Note, Verifier, sign_note
from proxy_attestation.formats.tee import Tee
from proxy_attestation.relying_party.expectation import Expectation
from proxy_attestation.relying_party.proxy_evidence import Answer, Vendors, check_proxy
from proxy_attestation.relying_party.proxy_expectation import ProxyExpectation

_NONCE: Final = b"n" * 32
_MEASURED: Final = b"\x0e" * 32
_FACTS: Final = RootFacts(b"r" * 91, b"i" * 91, bytes(32), b"log+key", "tee")
_ROOT: Final = b"\x0a" * 32


@functools.cache
def _good() -> tuple[bytes, bytes, ProxyExpectation, Vendors]:
    """Return evidence and statement of a good proxy, and what it is held against."""
    binding = bind_root(_FACTS, leaf_hash(_NONCE))
    quote = vendor().platform("sgx").quote(binding.report_data, mr_enclave=_MEASURED)
    evidence = encode_root_evidence(RootEvidence(Tee.SGX, quote, NoncePath(0, 1, ())))
    key = Ed25519PrivateKey.from_private_bytes(b"\x01" * 32)
    signer = Verifier("alice", KeyType.ED25519, key.public_key().public_bytes_raw())
    pins = (Pin(Tee.SGX, "mr_enclave", _MEASURED),)
    text = encode_deployment(make_deployment("example.org", _ROOT, "log+key", pins)).decode()
    code = Expectation(trust_domain="example.org", tee=Tee.SGX, measurements=(("mr_enclave", (_MEASURED,)),))
    collateral = DcapEndorsements(**vendor().endorsements("sgx", NOW))
    vendors = Vendors(same_for_all([vendor().root_pin]), Material(dcap=(collateral,)))
    note = Note(text, (sign_note(text, signer, key.sign),)).encode()
    return evidence, note, ProxyExpectation(code, (signer,), 1, ("tee",)), vendors


def _walk(data: bytes) -> None:
    """Check an answer whose evidence (first byte even) or statement is the input."""
    evidence, statement, expectation, vendors = _good()
    if data[:1] and data[0] % 2:
        statement = data[1:]
    else:
        evidence = data[1:]
    check_proxy(Answer(_FACTS, "example.org", _ROOT, evidence, statement), _NONCE, expectation, vendors, NOW)


def _seeds() -> list[bytes]:
    evidence, statement, _, _ = _good()
    return [b"\0" + evidence, b"\1" + statement]


PROXIES: Final = {"proxy-walk": Target(_walk, 16384, _seeds)}
