"""Keys that move: restart, upgrade by hand-over, recovery; and each request that must get none, wrong in one thing.

Keys are sealed under stand-ins for a TEE's secret, evidence is the simulator's. What moves is the same functions that
`keys` and `recover` call, in one process.
"""

import hashlib
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from attested_proxy import Signer
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from proxy_attestation.appraisal.asking_proxy import check_asking
from proxy_attestation.appraisal.endorsements import DcapEndorsements, Floor
from proxy_attestation.authority import key_stores
from proxy_attestation.authority import state as layout
from proxy_attestation.authority.init import init_state
from proxy_attestation.authority.keys_operations import (
    KEYS_CHALLENGE,
    KEYS_HAND_OVER,
    NONCE_LIFETIME,
    Begin,
    HandOver,
    asked_of,
)
from proxy_attestation.authority.operator_client import operate
from proxy_attestation.authority.receive import install_keys, read_settings
from proxy_attestation.authority.settings import Custodian, Settings
from proxy_attestation.codes import Code
from proxy_attestation.errors import ProxyAttestationError, UsageError
from proxy_attestation.formats.deployment import Pin, encode_deployment, make_deployment
from proxy_attestation.formats.key_transfer import (
    KeyBundle,
    KeyRequest,
    Purpose,
    TransferredKey,
    bundle_info,
    decode_key_request,
    encode_key_bundle,
    encode_key_request,
    seal_to,
)
from proxy_attestation.formats.signed_note import Note
from proxy_attestation.formats.tee import Tee
from proxy_attestation.policy.load import load_policy_files, note_path
from proxy_attestation.recovery.asking import Asking, Quoted
from proxy_attestation.recovery.custodian import approve, plan_recovery
from proxy_attestation.recovery.shares import combine, split
from proxy_attestation_simulator.intel import Vendor

FMSPC = bytes.fromhex("00606a000000")
OLD, NEW = b"old secret of the TEE", b"new secret of the TEE"
MR_NEW = hashlib.sha256(b"the newer proxy").digest()
ALICE, BOB, CAROL = map(Signer, ("alice", "bob", "carol"))
CUSTODIANS = {name: X25519PrivateKey.from_private_bytes(bytes([n]) * 32) for n, name in enumerate("pqr", 1)}


def refused(call: Callable[[], object]) -> Code:
    with pytest.raises(ProxyAttestationError) as caught:
        call()
    return caught.value.code


@dataclass
class Case:
    """An authority with signers and custodians in one TEE, and a copy of it in another."""

    state: Path
    copy: Path
    clock: Any
    vendor: Vendor
    collateral: DcapEndorsements
    patch: pytest.MonkeyPatch

    def inside(self, secret: bytes) -> None:
        """From now on code runs in the TEE that has this secret."""
        self.patch.setattr(key_stores, "_SECRETS", {"gramine": lambda: secret})

    @property
    def settings(self) -> Settings:
        return read_settings(self.state)[0]

    def names(self) -> list[str]:
        return [key.name for key in self.open_keys(self.state)]

    def open_keys(self, state: Path) -> tuple[TransferredKey, ...]:
        authority = layout.open_authority(state, self.clock)
        authority.ledger.close()
        return authority.take_keys()

    def note(self, signers: Sequence[Signer] = (ALICE, BOB), measured: bytes = MR_NEW, **other: Any) -> bytes:
        settings = self.settings
        about = {
            "trust_domain": settings.trust_domain,
            "root_spki_sha256": settings.root_spki_sha256,
            "ledger_key": f"{settings.ledger_origin}+00000000+AQ==",
        } | other
        text = encode_deployment(make_deployment(**about, pins=(Pin(Tee.SGX, "mr_enclave", measured),)))
        return Note(text.decode(), tuple(signer.sign(text) for signer in signers)).encode()

    def quoting(self, **options: Any) -> Callable[[Any], Quoted]:
        fields = {"mr_enclave": MR_NEW} | options
        platform = self.vendor.platform("sgx", fmspc=FMSPC)
        return lambda binding: Quoted(Tee.SGX, platform.quote(binding.report_data, **fields))

    def asking(self, purpose: Purpose, nonce: bytes = b"n" * 32, **options: Any) -> Asking:
        settings, data = read_settings(self.copy)
        settings = replace(settings, **options.pop("settings", {}))
        return Asking(purpose, settings, data, nonce, self.quoting(**options))

    def challenge(self) -> bytes:
        return operate(self.state, KEYS_CHALLENGE, Begin(), self.clock).nonce

    def hand_over(self, request: bytes, note: bytes | None = None, collateral: DcapEndorsements | None = None) -> bytes:
        order = HandOver(request, note or self.note(), collateral or self.collateral, None)
        return operate(self.state, KEYS_HAND_OVER, order, self.clock).bundle

    def approve(self, who: str, request: bytes, **changes: Any) -> bytes:
        fields = {
            "statement": self.note(),
            "settings_data": (self.state / layout.SETTINGS).read_bytes(),
            "share": (self.state / layout.RECOVERY / f"{who}.share").read_bytes(),
            "key": CUSTODIANS[who],
            "endorsements": self.collateral,
            "now": self.clock(),
        } | changes
        return approve(request, **fields).sealed


@pytest.fixture
def case(  # noqa: PLR0917 - fixtures
    tmp_path: Path, policy_file: Path, clock: Any, vendor: Vendor, collateral: Callable[..., DcapEndorsements],
    monkeypatch: pytest.MonkeyPatch,
) -> Case:  # fmt: skip
    text = load_policy_files(policy_file).text
    note_path(policy_file).write_bytes(Note(text, tuple(one.sign(text.encode()) for one in (ALICE, BOB))).encode())
    plan = plan_recovery([Custodian(name, key.public_key().public_bytes_raw()) for name, key in CUSTODIANS.items()], 2)
    found = Case(tmp_path / "state", tmp_path / "copy", clock, vendor, collateral(), monkeypatch)
    found.inside(OLD)
    init_state(
        found.state, trust_domain="example.org", dns=["example.org"], policy=policy_file,
        simulated_roots=[vendor.root_der], now=clock(), keys="gramine",
        signers=[one.verifier for one in (ALICE, BOB, CAROL)], threshold=2,
        recovery=plan.recovery, shares=plan.shares,
    )  # fmt: skip
    shutil.copytree(found.state, found.copy)
    return found


class TestRestart:
    def test_sealed_keys_open_again_in_the_same_tee_and_in_no_other(self, case: Case) -> None:
        assert case.names() == ["issuing-1", "log", "root"]
        case.inside(NEW)
        assert refused(case.names) is Code.KEYS_SEALED


class TestHandOver:
    def test_a_newer_proxy_gets_the_keys(self, case: Case) -> None:
        before = case.open_keys(case.state)
        asking = case.asking(Purpose.HAND_OVER, case.challenge())
        answer = case.hand_over(asking.request)
        case.inside(NEW)
        install_keys(case.copy, asking.open_bundle(answer), case.clock)
        assert case.open_keys(case.copy) == before
        assert not {"keys.new", "keys.old"} & {path.name for path in case.copy.iterdir()}
        assert not any(key.pkcs8 in path.read_bytes() for key in before for path in case.copy.rglob("*.sealed"))

    def test_a_nonce_serves_once(self, case: Case) -> None:
        asking = case.asking(Purpose.HAND_OVER, case.challenge())
        case.hand_over(asking.request)
        assert refused(lambda: case.hand_over(asking.request)) is Code.KEYS_ASKED_NONCE

    def test_a_nonce_that_was_never_given_out_or_is_old(self, case: Case) -> None:
        other = case.asking(Purpose.HAND_OVER)
        assert refused(lambda: case.hand_over(other.request)) is Code.KEYS_ASKED_NONCE
        asking = case.asking(Purpose.HAND_OVER, case.challenge())
        assert refused(lambda: case.hand_over(other.request)) is Code.KEYS_ASKED_NONCE
        case.clock.move(seconds=NONCE_LIFETIME)
        assert refused(lambda: case.hand_over(asking.request)) is Code.KEYS_ASKED_NONCE

    def test_collateral_below_what_the_authority_knows(
        self, case: Case, collateral: Callable[..., DcapEndorsements]
    ) -> None:
        authority = layout.open_authority(case.state, case.clock)
        authority.raise_floor(Tee.SGX, FMSPC, Floor(20, 1_795_000_000, 5, 7))
        authority.ledger.close()
        asking = case.asking(Purpose.HAND_OVER, case.challenge())
        assert refused(lambda: case.hand_over(asking.request)) is Code.SGX_ENDORSEMENTS_FLOOR
        case.hand_over(asking.request, collateral=collateral(evaluation_number=20))

    def test_what_opens_for_nobody_else(self, case: Case) -> None:
        nonce = case.challenge()
        asking, other = case.asking(Purpose.HAND_OVER, nonce), case.asking(Purpose.HAND_OVER, nonce)
        answer = case.hand_over(asking.request)
        assert refused(lambda: other.open_bundle(answer)) is Code.KEYS_TRANSFER_SEALED
        assert refused(lambda: asking.open_bundle(answer[:-1] + bytes([answer[-1] ^ 1]))) is Code.KEYS_TRANSFER_SEALED

    def test_the_keys_of_another_authority(self, case: Case) -> None:
        asking = case.asking(Purpose.HAND_OVER)
        bundle = encode_key_bundle(KeyBundle(bytes(32), case.open_keys(case.state)))
        sealed = seal_to(decode_key_request(asking.request).public_key, bundle, bundle_info(asking.request))
        assert refused(lambda: asking.open_bundle(sealed)) is Code.KEYS_TRANSFER_OTHER


def changed(case: Case, **fields: Any) -> bytes:
    return encode_key_request(replace(decode_key_request(case.asking(Purpose.RECOVERY).request), **fields))


def request_of(case: Case, **options: Any) -> bytes:
    return case.asking(Purpose.RECOVERY, **options).request


WRONG: list[tuple[Code, Callable[[Case], dict[str, Any]]]] = [
    (Code.KEYS_TRANSFER_MALFORMED, lambda case: {"request": request_of(case)[:-1]}),
    (Code.KEYS_ASKED_PURPOSE, lambda case: {"request": case.asking(Purpose.HAND_OVER).request}),
    (Code.KEYS_ASKED_OTHER, lambda case: {"request": request_of(case, settings={"root_spki_sha256": bytes(32)})}),
    (Code.KEYS_BINDER, lambda case: {"request": changed(case, public_key=b"k" * 32)}),
    (Code.KEYS_BINDER, lambda case: {"request": changed(case, nonce=b"m" * 32)}),
    (Code.KEYS_BINDER, lambda case: {"request": changed(case, tee=Tee.TDX)}),
    (Code.SGX_SIGNATURE, lambda case: {"request": request_of(case, fault="wrong-key")}),
    (Code.KEYS_DEBUG, lambda case: {"request": request_of(case, fault="debug")}),
    (Code.PROXY_STATEMENT_MEASUREMENT, lambda case: {"request": request_of(case, mr_enclave=b"\x02" * 32)}),
    (Code.PROXY_STATEMENT_MEASUREMENT, lambda case: {"statement": case.note(measured=b"\x02" * 32)}),
    (Code.PROXY_STATEMENT_SIGNATURES, lambda case: {"statement": case.note([ALICE])}),
    (Code.PROXY_STATEMENT_SIGNATURES, lambda case: {"statement": case.note([ALICE, Signer("bob")])}),
    (Code.PROXY_STATEMENT_OTHER, lambda case: {"statement": case.note(trust_domain="example.com")}),
    (Code.PROXY_STATEMENT_OTHER, lambda case: {"statement": case.note(root_spki_sha256=b"\x01" * 32)}),
    (Code.PROXY_STATEMENT_OTHER, lambda case: {"statement": case.note(ledger_key="another+00000000+AQ==")}),
    (Code.KEYS_TCB, lambda _: {"tcb": frozenset({"SWHardeningNeeded"})}),
    (Code.RECOVERY_CUSTODIAN, lambda _: {"key": X25519PrivateKey.generate()}),
    (Code.KEYS_TRANSFER_SEALED, lambda case: {"share": (case.state / layout.RECOVERY / "q.share").read_bytes()}),
    (
        Code.KEYS_TRANSFER_SEALED,
        lambda case: {
            "settings_data": (case.state / layout.SETTINGS).read_bytes().replace(b"\nthreshold = 2", b"\nthreshold = 1")
        },
    ),
]


class TestRecovery:
    def test_two_of_three_custodians_bring_the_keys_back(self, case: Case) -> None:
        before = case.open_keys(case.state)
        shutil.rmtree(case.copy / layout.KEYS)
        case.inside(NEW)
        asking = case.asking(Purpose.RECOVERY)
        approvals = [case.approve(who, asking.request) for who in "rp"]
        install_keys(case.copy, asking.open_approvals(approvals, case.copy / layout.RECOVERY), case.clock)
        assert case.open_keys(case.copy) == before

    def test_keys_that_are_made_later_are_in_escrow_and_destroyed_ones_are_not(self, case: Case) -> None:
        authority = layout.open_authority(case.state, case.clock)
        authority.life.rotate(authority.now(), at_once=True)
        assert {path.name for path in (case.state / layout.RECOVERY / "escrow").iterdir()} == {
            "issuing-1.hpke", "issuing-2.hpke", "log.hpke", "root.hpke",
        }  # fmt: skip
        authority.life.drop(1, authority.now())
        authority.ledger.close()
        assert not (case.state / layout.RECOVERY / "escrow" / "issuing-1.hpke").exists()

    @pytest.mark.parametrize(("code", "change"), WRONG)
    def test_what_a_custodian_refuses(self, case: Case, code: Code, change: Callable[[Case], dict[str, Any]]) -> None:
        changes = change(case)
        request = changes.pop("request", None) or request_of(case)
        assert refused(lambda: case.approve("p", request, **changes)) is code

    def test_what_the_authority_refuses_is_the_same(self, case: Case) -> None:
        nonce = case.challenge()
        request = case.asking(Purpose.HAND_OVER, nonce, fault="debug").request
        assert refused(lambda: case.hand_over(request)) is Code.KEYS_DEBUG
        request = case.asking(Purpose.HAND_OVER, nonce).request
        assert refused(lambda: case.hand_over(request, case.note([ALICE]))) is Code.PROXY_STATEMENT_SIGNATURES

    def test_without_signers_nobody_gets_keys(self, case: Case) -> None:
        request = decode_key_request(request_of(case))
        asked = replace(asked_of(case.settings), signers=(), threshold=0)
        assert (
            refused(lambda: check_asking(request, case.note(), asked, case.collateral, case.clock()))
            is Code.KEYS_NO_SIGNERS
        )

    @pytest.mark.parametrize("who", ["p", "pp"])
    def test_too_few_custodians(self, case: Case, who: str) -> None:
        asking = case.asking(Purpose.RECOVERY)
        approvals = [case.approve(name, asking.request) for name in who]
        assert refused(lambda: asking.open_approvals(approvals, case.copy / layout.RECOVERY)) is Code.RECOVERY_SHARES

    def test_an_approval_of_another_request(self, case: Case) -> None:
        asking, other = case.asking(Purpose.RECOVERY), case.asking(Purpose.RECOVERY)
        approvals = [case.approve("p", asking.request), case.approve("q", other.request)]
        assert (
            refused(lambda: asking.open_approvals(approvals, case.copy / layout.RECOVERY)) is Code.KEYS_TRANSFER_SEALED
        )

    def test_keys_in_escrow_that_stand_for_others(self, case: Case) -> None:
        escrow = case.copy / layout.RECOVERY / "escrow"
        shutil.copy(escrow / "issuing-1.hpke", escrow / "root.hpke")
        asking = case.asking(Purpose.RECOVERY)
        approvals = [case.approve(who, asking.request) for who in "pq"]
        assert (
            refused(lambda: asking.open_approvals(approvals, case.copy / layout.RECOVERY)) is Code.KEYS_TRANSFER_SEALED
        )

    def test_an_authority_without_custodians(self, case: Case) -> None:
        assert refused(lambda: case.asking(Purpose.RECOVERY, settings={"recovery": None})) is Code.RECOVERY_NONE
        data = (case.state / layout.SETTINGS).read_bytes()
        without = data[: data.index(b"recovery_key")]
        request = request_of(case)
        assert refused(lambda: case.approve("p", request, settings_data=without)) is Code.RECOVERY_NONE


class TestInstall:
    def test_keys_that_are_not_this_authority_s_leave_what_was_there(self, case: Case) -> None:
        before = case.open_keys(case.state)
        other = Ed25519PrivateKey.generate().private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
        for code, keys in (
            (Code.LEDGER_INCONSISTENT, [key if key.name != "log" else TransferredKey("log", other) for key in before]),
            (Code.AUTHORITY_STATE, [TransferredKey("root", before[0].pkcs8), *before[:2]]),
            (Code.AUTHORITY_STATE, before[:2]),
        ):
            assert refused(partial(install_keys, case.state, list(keys), case.clock)) is code
            assert case.open_keys(case.state) == before

    def test_what_is_no_key(self, case: Case) -> None:
        for key in (TransferredKey("root", b"\x30\x00"), TransferredKey("log", case.open_keys(case.state)[0].pkcs8)):
            assert refused(partial(install_keys, case.copy, [key], case.clock)) is Code.KEYS_TRANSFER_MALFORMED
        assert case.open_keys(case.copy)

    def test_a_start_that_was_interrupted(self, case: Case) -> None:
        keys = case.open_keys(case.state)
        (case.state / layout.KEYS).rename(case.state / "keys.old")
        (case.state / "keys.new").mkdir()
        install_keys(case.state, keys, case.clock)
        assert case.open_keys(case.state) == keys


class TestShares:
    def test_any_two_of_three(self) -> None:
        secret = bytes(range(32))
        one, two, three = split(secret, 2, 3)
        assert {combine(pair, 2) for pair in ([one, two], [three, one], [two, three], [one, two, three])} == {secret}

    @pytest.mark.parametrize("other", ["", "not words at all", split(bytes(32), 2, 2)[1]])
    def test_what_does_not_belong_together(self, other: str) -> None:
        assert refused(lambda: combine([split(b"s" * 32, 2, 2)[0], other], 2)) is Code.RECOVERY_SHARES


def test_memory_and_tokens_give_no_keys(issuer: Any) -> None:
    assert refused(issuer.authority.take_keys) is Code.KEYS_TOKEN


def test_a_request_of_another_version(case: Case) -> None:
    request = decode_key_request(request_of(case))
    assert isinstance(request, KeyRequest)
    data = encode_key_request(request)
    assert data[:3] == b"\xa7\x01\x01"
    assert refused(lambda: decode_key_request(b"\xa7\x01\x02" + data[3:])) is Code.KEYS_TRANSFER_MALFORMED


@pytest.mark.parametrize(
    ("names", "threshold", "keys"),
    [
        ("pq", 1, "file"), ("p", 2, "file"), ("pq", 3, "file"), ("pp", 2, "file"),
        ("pq", 2, "pkcs11:token=t;object=o?module-path=/lib.so&pin-source=file:/pin"),
    ],
)  # fmt: skip
def test_custodians_that_cannot_be(  # noqa: PLR0917 - fixtures and parameters
    tmp_path: Path, policy_file: Path, vendor: Vendor, clock: Any, names: str, threshold: int, keys: str
) -> None:
    plan = plan_recovery([Custodian(name, CUSTODIANS[name].public_key().public_bytes_raw()) for name in "pq"], 2)
    custodians = tuple(Custodian(name, CUSTODIANS[name].public_key().public_bytes_raw()) for name in names)
    with pytest.raises(UsageError):
        init_state(
            tmp_path / "state", trust_domain="example.org", dns=["example.org"], policy=policy_file,
            simulated_roots=[vendor.root_der], now=clock(), keys=keys,
            recovery=replace(plan.recovery, custodians=custodians, threshold=threshold),
        )  # fmt: skip
    assert not (tmp_path / "state").exists()
