"""Issuing CAs prepared, active, retired; roots that succeed each other; nothing lost between two steps."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from proxy_attestation.authority import cas
from proxy_attestation.authority.authority import Authority
from proxy_attestation.authority.issue import Issuer
from proxy_attestation.authority.life_operations import CA_LIST, CA_ROTATE, CaList, No, Rotate
from proxy_attestation.authority.messages import Issued
from proxy_attestation.codes import Code
from proxy_attestation.errors import RequestError
from proxy_attestation.formats.ledger_entry import EntryKind, decode_entry

MINUTE = 60


def states(found: CaList) -> list[tuple[str, int, str, bool]]:
    return [("root" if ca.root else "ca", ca.number, ca.state, ca.key) for ca in found.cas]


def ca_events(authority: Authority) -> int:
    entries = [decode_entry(authority.ledger.entry(index) or b"") for index in range(authority.ledger.size())]
    return sum(entry.kind is EntryKind.CA_EVENT for entry in entries)


@pytest.fixture
def authority(issuer: Issuer) -> Authority:
    return issuer.authority


@pytest.fixture
def reopen(authority: Authority, clock: Any) -> Callable[[], Authority]:
    def again() -> Authority:
        return Authority(authority.settings, authority._keys, authority.ledger, authority.policy, clock=clock)

    return again


class TestIssuing:
    def test_the_schedule(self, issuer: Issuer, authority: Authority, clock: Any) -> None:
        first = authority.info()
        clock.move(days=53, seconds=-61)
        authority.maintain()
        assert authority.info().issuing == first.issuing
        clock.move(seconds=1)
        authority.maintain()
        prepared = authority.info()
        # In the bundle a week before it is used, and known to workers.
        assert (prepared.ca_id, prepared.issuing[0], len(prepared.issuing)) == (first.ca_id, first.issuing[0], 2)
        assert prepared.generation > first.generation
        assert prepared.bundle_sequence > first.bundle_sequence
        assert states(CA_LIST.run(issuer, No())) == [
            ("root", 1, "active", True),
            ("ca", 1, "active", True),
            ("ca", 2, "prepared", True),
        ]
        clock.move(days=7, seconds=-1)
        authority.maintain()
        assert authority.info().ca_id == first.ca_id
        clock.move(seconds=1)
        authority.maintain()
        active = authority.info()
        assert active.issuing == (prepared.issuing[1], first.issuing[0])
        assert active.bundle_sequence > prepared.bundle_sequence
        assert states(CA_LIST.run(issuer, No()))[1:] == [("ca", 2, "active", True), ("ca", 1, "retired", True)]
        clock.move(hours=1)
        authority.maintain()
        assert states(CA_LIST.run(issuer, No()))[1:] == [("ca", 2, "active", True), ("ca", 1, "retired", False)]

    def test_by_command(self, issuer: Issuer, authority: Authority) -> None:
        assert states(CA_ROTATE.run(issuer, Rotate(now=False)))[1:] == [
            ("ca", 1, "active", True),
            ("ca", 2, "prepared", True),
        ]
        # Asked again it is the same one.
        assert states(CA_ROTATE.run(issuer, Rotate(now=False)))[1:] == [
            ("ca", 1, "active", True),
            ("ca", 2, "prepared", True),
        ]
        assert states(CA_ROTATE.run(issuer, Rotate(now=True)))[1:] == [
            ("ca", 2, "active", True),
            ("ca", 1, "retired", True),
        ]
        assert states(CA_ROTATE.run(issuer, Rotate(now=True)))[1:] == [
            ("ca", 3, "active", True),
            ("ca", 2, "retired", True),
            ("ca", 1, "retired", True),
        ]
        assert ca_events(authority) == 4

    def test_what_was_prepared_by_command_is_active_a_week_later(
        self, issuer: Issuer, authority: Authority, clock: Any
    ) -> None:
        CA_ROTATE.run(issuer, Rotate(now=False))
        clock.move(days=7, seconds=-1)
        authority.maintain()
        assert authority.active.ca.number == 1
        clock.move(seconds=1)
        authority.maintain()
        assert authority.active.ca.number == 2

    def test_a_challenge_of_the_one_before_is_good_for_ten_minutes(
        self, issuer: Issuer, world: Any, clock: Any, issue: Callable[..., Issued]
    ) -> None:
        info = issuer.hello()
        CA_ROTATE.run(issuer, Rotate(now=True))
        now = issuer.hello()
        assert now.ca_id != info.ca_id
        clock.move(seconds=cas.RETIRED_SIGNING - 1)
        old = world.order(now, token=world.token(info))
        assert issue(old).chain[1] == info.issuing[0]
        assert issue(world.order(now)).chain[1] == now.issuing[0]
        clock.move(seconds=1)
        (late,) = issuer.issue_batch([world.order(now, token=world.token(info))])
        assert isinstance(late, RequestError)
        assert late.code is Code.CHALLENGE_CA

    def test_one_that_is_prepared_signs_nothing(self, issuer: Issuer, world: Any) -> None:
        CA_ROTATE.run(issuer, Rotate(now=False))
        info = issuer.hello()
        prepared = issuer.authority.life.prepared
        assert prepared is not None
        token = world.token(replace(info, ca_id=prepared.ca.ca_id))
        (early,) = issuer.issue_batch([world.order(info, token=token)])
        assert isinstance(early, RequestError)
        assert early.code is Code.CHALLENGE_CA

    def test_a_crash_between_preparing_and_activating_loses_nothing(
        self, issuer: Issuer, authority: Authority, clock: Any, reopen: Callable[[], Authority], monkeypatch: Any
    ) -> None:
        """The process ends in the middle: the next one goes on with the same CA, key and number."""

        def crash(*_: object) -> None:
            raise KeyboardInterrupt

        monkeypatch.setattr(authority.ledger, "activate", crash)
        with pytest.raises(KeyboardInterrupt):
            CA_ROTATE.run(issuer, Rotate(now=True))
        monkeypatch.undo()
        again = reopen()
        prepared = again.life.prepared
        assert prepared is not None
        assert (prepared.ca.number, prepared.signer is not None, again.active.ca.number) == (2, True, 1)
        assert ca_events(again) == 3
        clock.move(days=7)
        again.maintain()
        assert again.active.ca == prepared.ca
        assert ca_events(again) == 3

    def test_a_crash_before_the_commit_reuses_number_and_file(
        self, issuer: Issuer, authority: Authority, reopen: Callable[[], Authority], monkeypatch: Any
    ) -> None:
        def crash(*_: object) -> None:
            raise KeyboardInterrupt

        monkeypatch.setattr(authority.ledger, "add_ca", crash)
        with pytest.raises(KeyboardInterrupt):
            CA_ROTATE.run(issuer, Rotate(now=False))
        monkeypatch.undo()
        again = reopen()
        assert again.life.prepared is None
        assert ca_events(again) == 2
        made = again.life.rotate(again.now(), at_once=False)
        assert made.ca.number == 2
        assert ca_events(again) == 3
