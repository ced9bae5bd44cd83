"""The CDDL files and docs/protocol.md say what the code does."""

import hashlib
import re
from pathlib import Path
from typing import Any

import cbor2
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519

from proxy_attestation.authority.issue import Issuer
from proxy_attestation.authority.leaf import body_measurements
from proxy_attestation.authority.messages import TokenKey
from proxy_attestation.authority.token import make_token, token_nonce
from proxy_attestation.codes import Code
from proxy_attestation.formats import binder, cbor, ear, ledger_entry, owner_proof
from proxy_attestation.formats.csr import spki_of
from proxy_attestation.formats.evidence import Evidence, encode_evidence
from proxy_attestation.formats.ledger_entry import EntryKind, LedgerEntry, encode_entry, names_digest
from proxy_attestation.formats.request import (
    ApplicationKind,
    KeyOrigin,
    Request,
    RuntimeClaims,
    encode_request,
    names_from,
)
from proxy_attestation.formats.tee import Tee

ROOT = Path(__file__).resolve().parents[2]
EAR = (ROOT / "proto" / "ear.cddl").read_text()
ENTRY = (ROOT / "proto" / "ledger-entry.cddl").read_text()
PROTOCOL = (ROOT / "docs" / "protocol.md").read_text()


def rules(cddl: str) -> dict[str, str]:
    """Each rule of a CDDL file by its name, without comments."""
    text = re.sub(r";.*", "", cddl)
    found = re.split(r"^([a-z0-9-]+) = ", text, flags=re.MULTILINE)
    return dict(zip(found[1::2], found[2::2], strict=True))


def keys(rule: str) -> tuple[set[int], set[int]]:
    """The required and the optional integer keys at the beginning of a rule's lines."""
    lines = re.findall(r"^ {4}(\? )?(-?\d+) =>", rule, flags=re.MULTILINE)
    return {int(key) for mark, key in lines if not mark}, {int(key) for mark, key in lines if mark}


def decoded(claims_set: bytes) -> Any:
    tag: Any = cbor.decode(claims_set, Code.PEER_CLAIMS_MALFORMED, 4096)
    assert isinstance(tag, cbor2.CBORTag)
    assert tag.tag == int(re.findall(r"#6\.(\d+)\(ear\)", EAR)[0])
    return tag.value


class TestEar:
    """proto/ear.cddl."""

    def test_the_keys_are_the_codec_s_constants(self) -> None:
        items = [item for _, item in ear._SUBMODULE.items]
        assert keys(rules(EAR)["ear"]) == (set(ear._TOP), set())
        required = {item.key for item in items if item.absent is ...}
        assert keys(rules(EAR)["appraisal"]) == (required, {item.key for item in items} - required)

    @pytest.mark.parametrize("tee", ["sgx", "tdx"])
    def test_a_leaf_s_claims_have_these_keys(self, issuer: Issuer, world: Any, tee: str) -> None:
        request = world.request() if tee == "sgx" else world.td_request()
        (issued,) = issuer.issue_batch([world.order(issuer.hello(), request=request)])
        claims = decoded(issued.claims_set)  # type: ignore[union-attr] # an error here fails the test
        top, none = keys(rules(EAR)["ear"])
        assert not none
        assert set(claims) == top
        (submod,) = claims[266].values()
        required, optional = keys(rules(EAR)["appraisal"])
        assert set(submod) - optional == required
        assert (set(submod) & optional == optional) == (tee == "sgx")
        assert set(claims[1004]) == {0, 1}
        assert set(submod[1001]) <= keys(rules(EAR)["vector"])[1]
        assert len(submod[-70017]) == len(re.findall(r"^ {4}[a-z-]+:", rules(EAR)["tcb"], flags=re.MULTILINE))

    def test_the_frame(self) -> None:
        escaped = ear.MEDIA_TYPE.replace('"', '\\"')
        assert f'media-type = "{escaped}"' in EAR
        assert f'265 => "{ear.PROFILE}"' in EAR

    @pytest.mark.parametrize("tee", ["sgx", "tdx"])
    def test_every_measurement_is_named(self, world: Any, tee: str) -> None:
        comment = re.sub(r"\n; ", " ", EAR[EAR.index("; 1 to 32 of them") : EAR.index("\nmeasurements =")])
        listed = re.findall(rf"{tee}: ([^.]*)\.", comment)[0].replace("rtmr0 to rtmr3", "rtmr0 rtmr1 rtmr2 rtmr3")
        claims = world.claims() if tee == "sgx" else world.td_claims()
        assert {name for name, _ in body_measurements(claims)} <= set(re.findall(r"[a-z0-9_]+", listed))


class TestLedgerEntry:
    """proto/ledger-entry.cddl."""

    NAMES = {  # noqa: RUF012 - a table that nobody changes
        EntryKind.LEAF: "leaf",
        EntryKind.POLICY: "policy",
        EntryKind.CA_EVENT: "ca-event",
        EntryKind.OWNERSHIP: "ownership",
        EntryKind.PROXY_TLS: "proxy-tls",
        EntryKind.REVOCATION: "revocation",
    }
    OPTIONAL = {EntryKind.LEAF: {15}, EntryKind.OWNERSHIP: {8}}  # noqa: RUF012 - a table that nobody changes

    @pytest.mark.parametrize("kind", list(EntryKind))
    def test_each_kind_has_the_codec_s_keys(self, kind: EntryKind) -> None:
        rule = rules(ENTRY)[self.NAMES[kind]]
        found, optional = keys(rule)
        assert optional == self.OPTIONAL.get(kind, set())
        if "    certificate," in rule:
            found |= keys(rules(ENTRY)["certificate"])[0]
        assert found == ledger_entry._KEYS[kind] | {1, 18}
        assert re.search(rf"18 => {int(kind)},", rule)

    def test_what_is_written_has_these_keys(self, issuer: Issuer, world: Any) -> None:
        issuer.tls_leaf(world.spki)
        issuer.issue_batch([world.order(issuer.hello())])
        ledger = issuer.authority.ledger
        seen = set()
        for index in range(ledger.size()):
            entry: Any = cbor.decode(ledger.entry(index) or b"", Code.AUTHORITY_STATE, 4096)
            seen.add(EntryKind(entry[18]))
            kind = EntryKind(entry[18])
            # The leaf is an enclave's of SGX, which has everything that a leaf may have.
            assert set(entry) == ledger_entry._KEYS[kind] | {1, 18} | self.OPTIONAL.get(kind, set())
        assert seen == set(EntryKind) - {EntryKind.OWNERSHIP, EntryKind.REVOCATION}


def example(label: str) -> str:
    """The hex under a label in docs/protocol.md."""
    found: list[str] = re.findall(rf"^{re.escape(label)}\n((?:[0-9a-f]+\n)+)", PROTOCOL, flags=re.MULTILINE)
    return found[0].replace("\n", "")


def test_every_example_of_the_protocol_document() -> None:
    runtime = RuntimeClaims(ApplicationKind.WASM, hashlib.sha256(b"application").digest(), KeyOrigin.TEE)
    names = names_from(("app.example.org",), ("192.0.2.7",))
    request = encode_request(Request("example-app", Tee.SGX, names, 3600, runtime))
    key = TokenKey(b"key1", b"\x01" * 32, 1_795_611_600)
    session_id, ca_id = bytes(range(16)), hashlib.sha256(b"ca").digest()
    token = make_token(key, session_id=session_id, tee=Tee.SGX, ca_id=ca_id, expires_at=1_795_521_720)
    nonce = token_nonce(key, token)
    spki = spki_of(ec.derive_private_key(1, ec.SECP256R1()).public_key())
    bound = binder.bind(ca_id=ca_id, session_id=session_id, nonce=nonce, spki=spki, request=request)
    granted = names_from(("app.example.org",), ("192.0.2.7",), ("spiffe://example.org/example-app",))
    entry = LedgerEntry(
        EntryKind.POLICY,
        policy_digest=hashlib.sha256(b"policy").digest(),
        policy_version=7,
        policy_text_sha256=hashlib.sha256(b"text").digest(),
        policy_time=1_795_521_600,
    )
    known = owner_proof.prove_token(owner_proof.Token(bytes(range(16)), bytes(range(16, 32))), bound.report_data)
    tenant = ed25519.Ed25519PrivateKey.from_private_bytes(b"\x01" * 32)
    key_digest = hashlib.sha256(spki).digest()
    grant = owner_proof.make_grant(tenant, "example.org", "example-app", key_digest, 1_795_525_200)
    computed = {
        "request": request,
        "SHA-256 of the request": hashlib.sha256(request).digest(),
        "token": token,
        "nonce": nonce,
        "SHA-512(B)": bound.report_data,
        "record": encode_evidence(Evidence(Tee.SGX, b"\xaa\xbb")),
        "mac": known.mac,
        "signature of the grant": grant.signature,
        "proof": owner_proof.encode_proof(owner_proof.OwnerProof(known, grant)),
        "names": names_digest(granted),
        "entry": encode_entry(entry),
    }
    assert {label: example(label) for label in computed} == {label: value.hex() for label, value in computed.items()}
    assert len(re.findall(r"^[0-9a-f]{8,}$", PROTOCOL, flags=re.MULTILINE)) == sum(
        len(value.hex()) // 112 + bool(len(value.hex()) % 112) for value in computed.values()
    )
