"""What is in force, how it changes, and that every change is in the ledger."""

import hashlib
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509

from proxy_attestation.appraisal.endorsements import Floor
from proxy_attestation.appraisal.roots import same_for_all
from proxy_attestation.authority import cas
from proxy_attestation.authority.authority import TOKEN_KEY_ACTIVE, TOKEN_KEY_GRACE, Authority
from proxy_attestation.authority.issue import Issuer
from proxy_attestation.authority.keys import MemoryKeys
from proxy_attestation.authority.ledger import Ledger
from proxy_attestation.authority.messages import FLOORS_MAX, Issued, IssueOrder
from proxy_attestation.authority.settings import UNSIGNED_POLICY
from proxy_attestation.codes import Code
from proxy_attestation.errors import ConfigurationError, RequestError, UnavailableError
from proxy_attestation.formats.ledger_entry import EntryKind, LedgerEntry, decode_entry
from proxy_attestation.formats.tee import Tee
from proxy_attestation.policy.digest import policy_digest

NOW = datetime(2026, 11, 24, 12, 0, 0, tzinfo=UTC)
SECONDS = int(NOW.timestamp())
FMSPC = bytes.fromhex("00606a000000")
DAY = 24 * 3600


def entries(ledger: Ledger) -> list[LedgerEntry]:
    found = [ledger.entry(index) for index in range(ledger.size())]
    return [decode_entry(entry) for entry in found if entry is not None]


@pytest.fixture
def authority(issuer: Issuer) -> Authority:
    return issuer.authority


@pytest.fixture
def reopen(authority: Authority, clock: Any) -> Callable[..., Authority]:
    """Open the same authority again, over the same ledger and keys."""

    def again(**changes: Any) -> Authority:
        parts: dict[str, Any] = {
            "settings": authority.settings,
            "keys": authority._keys,
            "ledger": authority.ledger,
            "policy": authority.policy,
        }
        return Authority(**(parts | changes), clock=clock)

    return again


def test_a_new_authority_s_ledger(authority: Authority) -> None:
    root, issuing, *rest = entries(authority.ledger)
    assert [entry.kind for entry in (root, issuing)] == [EntryKind.CA_EVENT, EntryKind.CA_EVENT]
    for entry, der in ((root, authority.root.certificate), (issuing, authority.active.ca.certificate)):
        certificate = x509.load_der_x509_certificate(der)
        assert entry.tbs_sha256 == hashlib.sha256(certificate.tbs_certificate_bytes).digest()
        assert entry.serial == certificate.serial_number.to_bytes(20, "big")
        assert entry.issuer_spki_sha256 == authority.root.ca_id
        assert entry.not_before == int(certificate.not_valid_before_utc.timestamp())
        assert entry.not_after == int(certificate.not_valid_after_utc.timestamp())
    assert root.spki_sha256 == authority.root.ca_id
    assert issuing.spki_sha256 == authority.active.ca.ca_id
    # At the start without floors, then with one, then with two.
    assert [entry.kind for entry in rest] == [EntryKind.POLICY] * 3
    assert rest[-1].policy_digest == authority.policy_digest


def test_what_a_worker_is_told(authority: Authority, vendor: Any) -> None:
    info = authority.info()
    assert (info.trust_domain, info.simulated, info.key_origin) == ("example.org", True, "file")
    assert info.anchors == (vendor.root_pin,)
    assert info.ca_id == authority.active.ca.ca_id
    assert info.roots == (authority.root.certificate,)
    assert info.issuing == (authority.active.ca.certificate,)
    assert info.dangers == (UNSIGNED_POLICY, *authority.policy.dangers)
    assert len(info.dangers) == 2
    assert [(tee, fmspc) for tee, fmspc, _ in info.floors] == [(Tee.SGX, FMSPC), (Tee.TDX, FMSPC)]
    assert [key.not_after for key in info.token_keys] == [SECONDS + TOKEN_KEY_ACTIVE + TOKEN_KEY_GRACE]


def test_the_policy_digest_is_over_policy_roots_and_floors(authority: Authority, vendor: Any) -> None:
    from proxy_attestation import __version__  # noqa: PLC0415 - only here

    roots = same_for_all({vendor.root_pin})
    assert authority.policy_digest == policy_digest(authority.policy, roots, authority.floors, __version__)


class TestOpening:
    """An authority that is opened again is the same, and finds out what does not fit."""

    def test_nothing_is_recorded_when_nothing_changed(
        self, authority: Authority, reopen: Callable[..., Authority]
    ) -> None:
        before = authority.info()
        size = authority.ledger.size()
        after = reopen().info()
        assert authority.ledger.size() == size
        assert after.generation > before.generation
        assert replace(after, generation=0) == replace(before, generation=0)

    def test_a_policy_of_a_higher_version_is_recorded(
        self, authority: Authority, reopen: Callable[..., Authority]
    ) -> None:
        newer = reopen(policy=replace(authority.policy, version=8))
        assert entries(authority.ledger)[-1] == LedgerEntry(
            EntryKind.POLICY,
            policy_digest=newer.policy_digest,
            policy_version=8,
            policy_text_sha256=newer.policy_text_sha256,
            policy_time=SECONDS,
        )
        assert newer.policy_digest != authority.policy_digest

    @pytest.mark.parametrize("changes", [{"version": 6}, {"min_lifetime": 1000}])
    def test_an_older_policy_or_another_of_the_same_version_is_refused(
        self, authority: Authority, reopen: Callable[..., Authority], changes: dict[str, Any]
    ) -> None:
        with pytest.raises(ConfigurationError) as caught:
            reopen(policy=replace(authority.policy, **changes))
        assert caught.value.code is Code.POLICY_STALE

    def test_a_policy_for_another_trust_domain_is_refused(
        self, authority: Authority, reopen: Callable[..., Authority]
    ) -> None:
        with pytest.raises(ConfigurationError) as caught:
            reopen(policy=replace(authority.policy, version=8, trust_domain="example.com"))
        assert caught.value.code is Code.POLICY_MALFORMED

    def test_a_name_outside_the_root_s_constraints_is_refused(
        self, authority: Authority, reopen: Callable[..., Authority]
    ) -> None:
        workload = authority.policy.workloads["example-app"]
        outside = replace(workload, names=replace(workload.names, dns=("app.example.com",)))
        policy = replace(authority.policy, version=8, workloads={"example-app": outside})
        with pytest.raises(ConfigurationError) as caught:
            reopen(policy=policy)
        assert caught.value.code is Code.POLICY_MALFORMED

    def test_a_clock_before_what_has_been_is_refused(self, reopen: Callable[..., Authority], clock: Any) -> None:
        clock.now = NOW - timedelta(seconds=61)
        with pytest.raises(UnavailableError) as caught:
            reopen()
        assert caught.value.code is Code.AUTHORITY_CLOCK

    def test_an_expired_root_is_refused(self, reopen: Callable[..., Authority], clock: Any) -> None:
        clock.move(days=3 * 365)
        with pytest.raises(ConfigurationError) as caught:
            reopen()
        assert caught.value.code is Code.AUTHORITY_STATE

    @pytest.mark.parametrize(
        "changes", [{"root_spki_sha256": bytes(32)}, {"simulated": False}, {"trust_domain": "example.com"}]
    )
    def test_settings_that_do_not_describe_the_root_are_refused(
        self, authority: Authority, reopen: Callable[..., Authority], changes: dict[str, Any]
    ) -> None:
        with pytest.raises(ConfigurationError) as caught:
            reopen(settings=replace(authority.settings, **changes))
        assert caught.value.code is Code.AUTHORITY_STATE

    @pytest.mark.parametrize("which", ["root", "issuing"])
    def test_another_key_is_refused(self, authority: Authority, reopen: Callable[..., Authority], which: str) -> None:
        other = MemoryKeys()
        if which == "root":
            other.make(0)
            other._keys[1] = authority._keys.load(1)
        else:
            other._keys[0] = authority._keys.load(0)
            other.make(1)
        with pytest.raises(ConfigurationError) as caught:
            reopen(keys=other)
        assert caught.value.code is Code.AUTHORITY_STATE

    def test_a_ca_of_another_root_is_refused(
        self, authority: Authority, reopen: Callable[..., Authority], issuer: Issuer, world: Any
    ) -> None:
        leaf = issuer.tls_leaf(world.spki)[0]
        for certificate in (leaf, b"no certificate"):
            with authority.ledger.transaction():
                authority.ledger._connection.execute("DELETE FROM ca WHERE number = 1")
                authority.ledger.add_ca(1, 1, certificate)
            with pytest.raises(ConfigurationError) as caught:
                reopen()
            assert caught.value.code is Code.AUTHORITY_STATE

    def test_a_ledger_without_a_root_is_refused(self, reopen: Callable[..., Authority]) -> None:
        with pytest.raises(ConfigurationError) as caught:
            reopen(ledger=Ledger.create(None))
        assert caught.value.code is Code.AUTHORITY_STATE


class TestRotation:
    """An issuing CA takes over at 60 days; the one before signs for ten minutes, and stays in the bundle."""

    def test_nothing_is_due_before(self, authority: Authority, clock: Any) -> None:
        clock.move(days=60, seconds=-61)
        first = authority.active
        authority.maintain()  # a new token key
        assert authority.active.ca == first.ca
        assert not authority.maintain()

    def test_the_next_one_takes_over(self, authority: Authority, clock: Any) -> None:
        before = authority.info()
        clock.move(days=60, seconds=-60)
        assert authority.maintain()
        after = authority.info()
        assert after.issuing == (authority.active.ca.certificate, *before.issuing)
        assert after.ca_id != before.ca_id
        assert after.bundle_sequence > before.bundle_sequence
        assert after.generation > before.generation
        certificate = x509.load_der_x509_certificate(after.issuing[0])
        assert certificate.not_valid_before_utc == clock.now - timedelta(seconds=60)
        assert certificate.not_valid_after_utc == clock.now - timedelta(seconds=60) + timedelta(days=90)
        assert "CA 2" in certificate.subject.rfc4514_string()
        entry = entries(authority.ledger)[-1]
        assert (entry.kind, entry.spki_sha256) == (EntryKind.CA_EVENT, after.ca_id)

    def test_a_challenge_that_is_out_is_still_good_and_soon_no_more(
        self, issuer: Issuer, world: Any, clock: Any, issue: Callable[[IssueOrder], Issued]
    ) -> None:
        clock.move(days=60, seconds=-61)
        issuer.authority.maintain()
        info = issuer.hello()
        order = world.order(info)
        clock.move(seconds=1)
        issuer.authority.maintain()
        assert issuer.hello().ca_id != info.ca_id
        assert issue(order).chain[1] == info.issuing[0]
        clock.move(seconds=cas.RETIRED_SIGNING)
        (late,) = issuer.issue_batch([world.order(issuer.hello(), token=world.token(info))])
        assert isinstance(late, RequestError)
        assert late.code is Code.CHALLENGE_CA

    def test_the_retired_key_is_destroyed(
        self, authority: Authority, clock: Any, reopen: Callable[..., Authority]
    ) -> None:
        clock.move(days=60)
        authority.maintain()
        clock.move(seconds=cas.RETIRED_KEY_LIFETIME - 1)
        authority.maintain()
        assert authority._keys.load(1).spki == authority.issuing[1].ca.spki
        clock.move(seconds=1)
        authority.maintain()
        with pytest.raises(KeyError):
            authority._keys.load(1)
        again = reopen()
        assert [issuing.signer is None for issuing in again.issuing] == [False, True]
        assert again.info().issuing == authority.info().issuing

    def test_an_expired_one_leaves_the_bundle(
        self, authority: Authority, clock: Any, reopen: Callable[..., Authority]
    ) -> None:
        clock.move(days=60)
        authority.maintain()
        before = authority.info()
        clock.now = NOW - timedelta(seconds=60) + timedelta(days=90)
        assert authority.maintain()
        after = authority.info()
        assert after.issuing == before.issuing[:1]
        assert after.bundle_sequence > before.bundle_sequence
        assert after.generation > before.generation
        assert replace(reopen().info(), generation=0) == replace(after, generation=0)

    def test_one_that_was_away_for_long_gets_a_new_ca_at_its_start(
        self, clock: Any, reopen: Callable[..., Authority]
    ) -> None:
        clock.move(days=200)
        again = reopen()
        assert again.active.ca.number == 2
        assert len(again.issuing) == 1
        assert again.ledger.size() == len(entries(again.ledger))

    def test_no_ca_outlives_the_root(self, authority: Authority, clock: Any) -> None:
        clock.now = datetime.fromtimestamp(authority.root.not_after - 10 * DAY, UTC)
        authority.maintain()
        assert authority.active.ca.not_after == authority.root.not_after

    def test_an_expired_root_issues_no_ca(self, authority: Authority, clock: Any) -> None:
        clock.now = datetime.fromtimestamp(authority.root.not_after, UTC)
        with pytest.raises(UnavailableError) as caught:
            authority.maintain()
        assert caught.value.code is Code.AUTHORITY_LIFETIME

    def test_a_rotation_that_fails_leaves_everything_and_is_tried_again(self, authority: Authority, clock: Any) -> None:
        clock.move(days=60)
        before = authority.info()
        authority.ledger._connection.execute("PRAGMA query_only = ON")
        with pytest.raises(UnavailableError):
            authority.maintain()
        authority.ledger._connection.execute("PRAGMA query_only = OFF")
        assert authority.info() == before
        assert authority.maintain()
        assert authority.active.ca.number == 2


class TestTokenKeys:
    """A new key each day; the one before is kept for an hour."""

    def test_they_are_replaced_and_kept_for_an_hour(self, authority: Authority, clock: Any) -> None:
        (first,) = authority.token_keys
        clock.move(hours=24, seconds=-1)
        authority.maintain()  # a new deny list
        assert [key for key in authority.token_keys if key != first] == []
        clock.move(seconds=1)
        generation = authority.generation
        assert authority.maintain()
        assert authority.generation > generation
        second = authority.token_keys[0]
        assert authority.token_keys == (second, first)
        assert authority.ledger.token_keys() == (second, first)
        assert (len(second.key_id), len(second.key)) == (4, 32)
        assert second.key != first.key
        clock.move(hours=24)
        authority.maintain()
        assert first not in authority.token_keys
        assert authority.token_keys[1:] == (second,)

    def test_they_survive_a_restart(self, authority: Authority, reopen: Callable[..., Authority]) -> None:
        assert reopen().token_keys == authority.token_keys

    def test_a_token_lives_through_the_rotation(
        self, issuer: Issuer, world: Any, clock: Any, issue: Callable[[IssueOrder], Issued]
    ) -> None:
        clock.move(hours=24, seconds=-1)
        order = world.order(issuer.hello())
        clock.move(seconds=60)
        issuer.authority.maintain()
        issue(order)


class TestFloors:
    """Recorded before use, and never lower."""

    FLOOR = Floor(18, 1_795_000_000, 5, 7)

    def test_a_higher_one_is_recorded_with_the_policy_digest_that_has_it(
        self, authority: Authority, reopen: Callable[..., Authority]
    ) -> None:
        before = authority.info()
        higher = replace(self.FLOOR, evaluation_number=19)
        assert authority.raise_floor(Tee.SGX, FMSPC, higher) == higher
        after = authority.info()
        assert {(tee, fmspc): floor for tee, fmspc, floor in after.floors}[Tee.SGX, FMSPC] == higher
        assert after.policy_digest != before.policy_digest
        assert after.generation > before.generation
        assert entries(authority.ledger)[-1].policy_digest == after.policy_digest
        assert reopen().floors == authority.floors

    def test_the_same_changes_nothing(self, authority: Authority) -> None:
        before, size = authority.info(), authority.ledger.size()
        assert authority.raise_floor(Tee.SGX, FMSPC, self.FLOOR) == self.FLOOR
        assert (authority.info(), authority.ledger.size()) == (before, size)

    @pytest.mark.parametrize(
        ("changes", "code"),
        [
            ({"evaluation_number": 17}, Code.ENDORSEMENTS_UNAVAILABLE),
            ({"issue_date": 1_794_999_999}, Code.ENDORSEMENTS_UNAVAILABLE),
            ({"pck_crl_number": 4}, Code.ENDORSEMENTS_UNAVAILABLE),
            ({"root_crl_number": 6}, Code.ENDORSEMENTS_UNAVAILABLE),
            ({"evaluation_number": 19, "root_crl_number": 6}, Code.ENDORSEMENTS_UNAVAILABLE),
            ({"evaluation_number": 1 << 32}, Code.ENDORSEMENTS_UNAVAILABLE),
            ({"pck_crl_number": 1 << 160}, Code.ENDORSEMENTS_UNAVAILABLE),
            ({"root_crl_number": 1 << 160}, Code.ENDORSEMENTS_UNAVAILABLE),
            ({"issue_date": SECONDS + 1}, Code.AUTHORITY_CLOCK),
        ],
    )
    def test_what_goes_back_or_cannot_be_is_unavailable(
        self, authority: Authority, changes: dict[str, int], code: Code
    ) -> None:
        before = authority.info()
        with pytest.raises(UnavailableError) as caught:
            authority.raise_floor(Tee.SGX, FMSPC, replace(self.FLOOR, **changes))
        assert caught.value.code is code
        assert authority.info() == before

    def test_negative_numbers_are_refused(self, authority: Authority) -> None:
        with pytest.raises(UnavailableError):
            authority.raise_floor(Tee.SGX, b"\x01" * 6, Floor(-1, 0, 0, 0))

    def test_crl_numbers_of_20_octets_are_kept(self, authority: Authority, reopen: Callable[..., Authority]) -> None:
        highest = replace(self.FLOOR, pck_crl_number=(1 << 160) - 1)
        authority.raise_floor(Tee.SGX, FMSPC, highest)
        assert reopen().floors[Tee.SGX, FMSPC] == highest

    def test_platforms_are_bounded(self, authority: Authority) -> None:
        authority.floors = {(Tee.SGX, number.to_bytes(6, "big")): self.FLOOR for number in range(FLOORS_MAX)}
        with pytest.raises(UnavailableError) as caught:
            authority.raise_floor(Tee.SGX, b"\xff" * 6, self.FLOOR)
        assert caught.value.code is Code.LIMITS_EXHAUSTED

    def test_their_issue_date_is_a_time_that_has_been(
        self, authority: Authority, clock: Any, reopen: Callable[..., Authority]
    ) -> None:
        authority.raise_floor(Tee.SGX, FMSPC, replace(self.FLOOR, issue_date=SECONDS))
        clock.move(seconds=-1)
        for call in (authority.now, reopen):
            with pytest.raises(UnavailableError) as caught:
                call()
            assert caught.value.code is Code.AUTHORITY_CLOCK

    def test_one_that_cannot_be_written_is_not_in_force(self, authority: Authority) -> None:
        before = authority.info()
        authority.ledger._connection.execute("PRAGMA query_only = ON")
        with pytest.raises(UnavailableError):
            authority.raise_floor(Tee.SGX, FMSPC, replace(self.FLOOR, evaluation_number=19))
        authority.ledger._connection.execute("PRAGMA query_only = OFF")
        assert authority.info() == before


class TestReload:
    """A running authority takes a policy only when its version is higher."""

    def test_a_higher_version(self, authority: Authority) -> None:
        before = authority.info()
        assert authority.reload_policy(replace(authority.policy, version=8))
        after = authority.info()
        assert after.policy_digest != before.policy_digest
        assert after.generation > before.generation
        assert entries(authority.ledger)[-1].policy_digest == after.policy_digest

    def test_the_same_is_no_change(self, authority: Authority) -> None:
        before, size = authority.info(), authority.ledger.size()
        assert not authority.reload_policy(authority.policy)
        assert (authority.info(), authority.ledger.size()) == (before, size)

    @pytest.mark.parametrize(
        ("changes", "code"),
        [
            ({"version": 6}, Code.POLICY_STALE),
            ({"min_lifetime": 1000}, Code.POLICY_STALE),
            ({"version": 8, "trust_domain": "example.com"}, Code.POLICY_MALFORMED),
        ],
    )
    def test_anything_else_keeps_the_old_one(self, authority: Authority, changes: dict[str, Any], code: Code) -> None:
        before, size = authority.info(), authority.ledger.size()
        with pytest.raises(ConfigurationError) as caught:
            authority.reload_policy(replace(authority.policy, **changes))
        assert caught.value.code is code
        assert (authority.info(), authority.ledger.size()) == (before, size)

    def test_orders_under_the_old_one_are_stale(self, issuer: Issuer, world: Any) -> None:
        order = world.order(issuer.hello())
        issuer.authority.reload_policy(replace(issuer.authority.policy, version=8))
        (outcome,) = issuer.issue_batch([order])
        assert isinstance(outcome, UnavailableError)
        assert outcome.code is Code.POLICY_STALE


def test_a_policy_file_s_path_plays_no_role(authority: Authority, tmp_path: Path) -> None:
    assert str(tmp_path).encode() not in b"".join(
        entry for index in range(authority.ledger.size()) if (entry := authority.ledger.entry(index))
    )
