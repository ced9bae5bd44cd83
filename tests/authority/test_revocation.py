"""Revoking: what it takes, what it stops, what the list says that clients read."""

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from proxy_attestation.authority.authority import Authority
from proxy_attestation.authority.issue import Issuer
from proxy_attestation.authority.life_operations import (
    CA_ROTATE,
    CA_SUCCEED,
    REVOKE,
    Revoke,
    RevokedList,
    Rotate,
    Succeed,
)
from proxy_attestation.authority.messages import Issued
from proxy_attestation.authority.revocation import RENEWED_AFTER, VALID_FOR
from proxy_attestation.codes import Code
from proxy_attestation.errors import RefusedError, RequestError, UnavailableError
from proxy_attestation.formats.csr import spki_of, spki_sha256
from proxy_attestation.formats.deny_list import Denied, DenyList, decode_deny_list
from proxy_attestation.formats.ledger_entry import CrlReason, EntryKind, decode_entry
from proxy_attestation.relying_party.deny_list import read_deny_list
from proxy_attestation.relying_party.path import load_roots

KEY = CrlReason.KEY_COMPROMISE


@pytest.fixture
def authority(issuer: Issuer) -> Authority:
    return issuer.authority


@pytest.fixture
def revoke(issuer: Issuer) -> Callable[..., RevokedList]:
    def by(kind: str, value: bytes | int | str, reason: CrlReason = KEY) -> RevokedList:
        data = value.to_bytes(8, "big") if isinstance(value, int) else value
        return REVOKE.run(issuer, Revoke(kind, data.encode() if isinstance(data, str) else data, reason))

    return by


def listed(issuer: Issuer, root: int = 0) -> DenyList:
    """What a client reads that trusts the root of this number."""
    now = datetime.fromtimestamp(issuer.authority.now(), UTC)
    return read_deny_list(issuer.authority.revocations.note, load_roots([issuer.hello().roots[root]]), now).content


def serial_of(issued: Issued) -> bytes:
    return x509.load_der_x509_certificate(issued.chain[0]).serial_number.to_bytes(20, "big")


def refused(issuer: Issuer, order: Any) -> Code:
    (outcome,) = issuer.issue_batch([order])
    assert isinstance(outcome, RequestError)
    return outcome.code


def test_a_new_authority_denies_nothing(issuer: Issuer, clock: Any) -> None:
    now = int(clock().timestamp())
    assert listed(issuer) == DenyList(
        origin=issuer.authority.settings.ledger_origin,
        sequence=1,
        this_update=now,
        next_update=now + VALID_FOR,
        certificates=(issuer.authority.active.ca.certificate,),
        denied=(),
    )
    assert issuer.hello().deny_sequence == 1


@pytest.mark.parametrize("kind", ["serial", "index", "spki", "entry"])
def test_a_stolen_key_gets_nothing_more(
    kind: str, issuer: Issuer, world: Any, issue: Callable[..., Issued], revoke: Callable[..., RevokedList],
) -> None:  # fmt: skip
    order = world.order(issuer.hello())
    issued = issue(order)
    digest, serial = spki_sha256(world.spki), serial_of(issued)
    assert not issuer.authority.ledger.is_revoked(digest)
    value = {"serial": serial, "index": issued.index, "spki": digest, "entry": "example-app"}[kind]
    before = issuer.hello()
    answer = revoke(kind, value)
    what = digest if kind == "spki" else serial
    assert [(one.what, one.not_after) for one in answer.revoked] == [(what, issued.not_after)]
    entry = decode_entry(issuer.authority.ledger.entry(answer.revoked[0].index) or b"")
    assert (entry.kind, entry.revoked, entry.reason) == (EntryKind.REVOCATION, what, KEY)
    assert entry.revoked_at == issuer.authority.now()
    assert listed(issuer).denied == (Denied(what, issued.not_after),)
    assert answer.sequence == listed(issuer).sequence == issuer.hello().deny_sequence == before.deny_sequence + 1
    assert issuer.hello().generation > before.generation
    assert issuer.authority.ledger.is_revoked(digest)
    # Neither the same session again, nor a new one with the same key.
    assert refused(issuer, order) is Code.CERTIFICATE_REVOKED
    assert refused(issuer, world.order(issuer.hello())) is Code.CERTIFICATE_REVOKED
    # The workload itself comes back with a new key.
    other = spki_of(ec.generate_private_key(ec.SECP256R1()).public_key())
    issue(world.order(issuer.hello(), spki=other))
    assert not issuer.authority.ledger.is_revoked(spki_sha256(other))


def test_revoking_again_changes_nothing(
    issuer: Issuer, world: Any, issue: Callable[..., Issued], revoke: Callable[..., RevokedList]
) -> None:
    serial = serial_of(issue(world.order(issuer.hello())))
    first, size = revoke("serial", serial), issuer.authority.ledger.size()
    assert revoke("serial", serial, CrlReason.SUPERSEDED) == first
    assert issuer.authority.ledger.size() == size


def test_an_entry_is_every_live_leaf_of_it_and_of_no_other(
    issuer: Issuer, world: Any, issue: Callable[..., Issued], revoke: Callable[..., RevokedList]
) -> None:
    keys = [spki_of(ec.generate_private_key(ec.SECP256R1()).public_key()) for _ in range(3)]
    leaves = [issue(world.order(issuer.hello(), spki=key)) for key in keys]
    issue(world.order(issuer.hello(), request=world.td_request(), claims=world.td_claims()))
    found = revoke("entry", "example-app")
    assert [one.what for one in found.revoked] == [serial_of(leaf) for leaf in leaves]


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        ("serial", b"\1" * 20),
        ("spki", b"\1" * 32),
        ("index", 10_000),
        ("entry", "other-app"),
        ("entry", "\x00"),
        ("name", "x"),
    ],
)
def test_what_nobody_issued_is_refused(
    kind: str, value: Any, revoke: Callable[..., RevokedList], issuer: Issuer
) -> None:
    size = issuer.authority.ledger.size()
    with pytest.raises(RefusedError) as caught:
        revoke(kind, value)
    assert caught.value.code is Code.REVOCATION_UNKNOWN
    assert issuer.authority.ledger.size() == size


def test_an_entry_that_is_no_certificate_is_refused(issuer: Issuer, revoke: Callable[..., RevokedList]) -> None:
    ledger = issuer.authority.ledger
    index = next(i for i in range(ledger.size()) if decode_entry(ledger.entry(i) or b"").kind is EntryKind.POLICY)
    with pytest.raises(RefusedError) as caught:
        revoke("index", index)
    assert caught.value.code is Code.REVOCATION_UNKNOWN


def test_what_has_expired_is_neither_revoked_nor_listed(
    issuer: Issuer, world: Any, clock: Any, issue: Callable[..., Issued], revoke: Callable[..., RevokedList],
) -> None:  # fmt: skip
    issued = issue(world.order(issuer.hello()))
    revoke("serial", serial_of(issued))
    clock.now = datetime.fromtimestamp(issued.not_after - 1, UTC)
    issuer.authority.maintain()
    assert len(listed(issuer).denied) == 1
    clock.move(seconds=1)
    issuer.authority.maintain()
    assert listed(issuer).denied == ()
    # The key is still no good.
    assert refused(issuer, world.order(issuer.hello())) is Code.CERTIFICATE_REVOKED
    later = issue(world.order(issuer.hello(), spki=spki_of(ec.generate_private_key(ec.SECP256R1()).public_key())))
    clock.now = datetime.fromtimestamp(later.not_after, UTC)
    with pytest.raises(RefusedError) as caught:
        revoke("serial", serial_of(later))
    assert caught.value.code is Code.REVOCATION_UNKNOWN


class TestIssuingCa:
    """A stolen issuing key: rotate, then revoke it."""

    def test_the_one_that_signs_is_refused(self, authority: Authority, revoke: Callable[..., RevokedList]) -> None:
        for what in (authority.active.ca.ca_id, authority.root.ca_id):
            with pytest.raises(RefusedError) as caught:
                revoke("spki", what)
            assert caught.value.code is Code.REVOCATION_CA

    def test_one_that_is_retired(
        self, issuer: Issuer, authority: Authority, world: Any, revoke: Callable[..., RevokedList], clock: Any,
    ) -> None:  # fmt: skip
        info, stolen = issuer.hello(), authority.active.ca
        CA_ROTATE.run(issuer, Rotate(now=True))
        before = issuer.hello()
        answer = revoke("spki", stolen.ca_id, CrlReason.CA_COMPROMISE)
        assert [(one.what, one.not_after) for one in answer.revoked] == [(stolen.ca_id, stolen.not_after)]
        assert listed(issuer).denied == (Denied(stolen.ca_id, stolen.not_after),)
        after = issuer.hello()
        assert after.issuing == (authority.active.ca.certificate,)
        assert after.bundle_sequence > before.bundle_sequence
        # What challenges still name it for is refused at once, and its key is gone.
        assert refused(issuer, world.order(after, token=world.token(info))) is Code.CHALLENGE_CA
        assert not authority.life.has_key(stolen.number)
        again = Authority(authority.settings, authority._keys, authority.ledger, authority.policy, clock=clock)
        assert again.info().issuing == after.issuing

    def test_one_that_is_prepared_is_followed_by_another(
        self, issuer: Issuer, authority: Authority, revoke: Callable[..., RevokedList]
    ) -> None:
        CA_ROTATE.run(issuer, Rotate(now=False))
        prepared = authority.life.prepared
        assert prepared is not None
        revoke("spki", prepared.ca.ca_id)
        assert authority.life.prepared is None
        assert [ca.number for ca in CA_ROTATE.run(issuer, Rotate(now=True)).cas if not ca.root] == [3, 1]


def test_the_list_is_signed_anew_each_hour_and_by_the_ca_that_signs(
    issuer: Issuer, authority: Authority, clock: Any
) -> None:
    assert listed(issuer).sequence == 1
    clock.move(seconds=RENEWED_AFTER - 1)
    assert not authority.maintain()
    clock.move(seconds=1)
    assert authority.maintain()
    assert (listed(issuer).sequence, listed(issuer).this_update) == (2, authority.now())
    CA_ROTATE.run(issuer, Rotate(now=True))
    assert listed(issuer).certificates == (authority.active.ca.certificate,)
    assert listed(issuer).sequence == 3


def test_the_list_serves_whoever_trusts_either_root(issuer: Issuer, clock: Any) -> None:
    clock.move(days=100)
    issuer.authority.maintain()
    CA_SUCCEED.run(issuer, Succeed(activate=False))
    assert listed(issuer) == listed(issuer, 1)
    CA_SUCCEED.run(issuer, Succeed(activate=True))
    CA_ROTATE.run(issuer, Rotate(now=True))
    assert listed(issuer) == listed(issuer, 1)
    assert len(listed(issuer).certificates) == 2


def test_the_list_survives_a_restart(
    issuer: Issuer, world: Any, clock: Any, issue: Callable[..., Issued], revoke: Callable[..., RevokedList]
) -> None:
    authority = issuer.authority
    revoke("serial", serial_of(issue(world.order(issuer.hello()))))
    again = Authority(authority.settings, authority._keys, authority.ledger, authority.policy, clock=clock)
    assert (again.revocations.note, again.revocations.sequence) == (authority.revocations.note, 2)


def test_what_the_policy_denies_is_listed_for_a_day(issuer: Issuer, clock: Any) -> None:
    authority = issuer.authority
    denied = {b"\x0a" * 20, b"\x0b" * 32}
    authority.revocations.deny(denied)
    authority.maintain()
    assert {one.what for one in listed(issuer).denied} == denied
    assert all(one.not_after >= authority.now() + 24 * 3600 for one in listed(issuer).denied)
    # Nothing new within the hour.
    sequence = listed(issuer).sequence
    clock.move(seconds=60)
    authority.maintain()
    assert listed(issuer).sequence == sequence
    authority.revocations.deny(())
    authority.maintain()
    assert listed(issuer).denied == ()


def test_a_policy_that_denies_is_listed_as_soon_as_it_is_in_force(issuer: Issuer) -> None:
    policy = issuer.authority.policy
    deny = replace(policy.deny, serials=(b"\x0a" * 20,), spkis=(b"\x0b" * 32,))
    issuer.authority.reload_policy(replace(policy, version=policy.version + 1, deny=deny))
    assert {one.what for one in listed(issuer).denied} == {b"\x0a" * 20, b"\x0b" * 32}


def test_a_revocation_that_cannot_be_written_is_none(
    issuer: Issuer, world: Any, issue: Callable[..., Issued], revoke: Callable[..., RevokedList]
) -> None:
    serial = serial_of(issue(world.order(issuer.hello())))
    before, note, ledger = issuer.hello(), issuer.authority.revocations.note, issuer.authority.ledger
    ledger._connection.execute("PRAGMA query_only = ON")
    with pytest.raises(UnavailableError):
        revoke("serial", serial)
    ledger._connection.execute("PRAGMA query_only = OFF")
    assert (issuer.hello(), issuer.authority.revocations.note) == (before, note)
    assert not ledger.is_revoked(spki_sha256(world.spki))
    assert len(revoke("serial", serial).revoked) == 1


def test_a_full_list_refuses_more(
    issuer: Issuer, world: Any, issue: Callable[..., Issued], revoke: Callable[..., RevokedList],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr("proxy_attestation.authority.revocation.DENIALS_MAX", 1)
    first, second = (
        serial_of(
            issue(world.order(issuer.hello(), spki=spki_of(ec.generate_private_key(ec.SECP256R1()).public_key())))
        )
        for _ in range(2)
    )
    revoke("serial", first)
    with pytest.raises(RefusedError) as caught:
        revoke("serial", second)
    assert caught.value.code is Code.REVOCATION_FULL
    assert len(revoke("serial", first).revoked) == 1


def test_the_text_can_never_be_a_certificate(issuer: Issuer) -> None:
    """The same key signs both: a to-be-signed certificate begins with the tag of a SEQUENCE."""
    assert decode_deny_list(issuer.authority.revocations.note).note.text[0] == "p"
    assert x509.load_der_x509_certificate(issuer.authority.active.ca.certificate).tbs_certificate_bytes[:1] == b"\x30"
