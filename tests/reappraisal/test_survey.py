"""What was issued, judged again: by newer collateral, by another policy, and where something is missing or changed."""

import sqlite3
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509

from proxy_attestation.authority.evidence_store import KEPT_AFTER_EXPIRY
from proxy_attestation.authority.profile import ISSUING_LIFETIME, ISSUING_ROTATION
from proxy_attestation.codes import Code
from proxy_attestation.errors import ConfigurationError, UnavailableError
from proxy_attestation.formats.certificate_id import certificate_id
from proxy_attestation.formats.ledger_entry import CrlReason
from proxy_attestation.policy.load import parse_policy
from proxy_attestation.reappraisal.judge import Outcome
from proxy_attestation.reappraisal.ledger_view import LedgerView
from proxy_attestation_simulator.harness import default_policy

ACCEPTED: tuple[str, tuple[str, ...]] = ("accepted", ())


def changed(state: Path, query: str, *values: object) -> None:
    """Change a row as nobody of ours would."""
    with closing(sqlite3.connect(state / "ledger.sqlite")) as connection:
        connection.execute("DROP TRIGGER IF EXISTS entry_no_update")
        assert connection.execute(query, values).rowcount == 1
        connection.commit()


def test_what_was_just_issued_is_accepted(ground: Any) -> None:
    survey, found = ground.survey(in_force=True)
    assert survey.live == len(found) == 3
    assert {one.index: (one.outcome, one.codes, one.early) for one in found} == dict.fromkeys(
        (ground.old, ground.new, ground.guest), (Outcome.ACCEPTED, (), ())
    )
    by_index = {one.index: one for one in found}
    assert by_index[ground.old].workload == "example-app"
    assert by_index[ground.guest].names == ("vm.example.org",)


def test_the_name_of_a_certificate_is_that_of_its_leaf(ground: Any) -> None:
    response = ground.proxy.issue()
    leaf = x509.load_der_x509_certificate(response.chain[0])
    key_id = leaf.extensions.get_extension_for_class(x509.AuthorityKeyIdentifier).value.key_identifier
    (found,) = [one for one in ground.survey()[1] if one.index == response.ledger_index]
    assert found.certificate_id == certificate_id(key_id or b"", leaf.serial_number)
    assert found.serial == f"{leaf.serial_number:x}"
    assert found.not_after == int(leaf.not_valid_after_utc.timestamp())


def test_a_tcb_recovery_fells_the_old_platform_alone(ground: Any) -> None:
    ground.proxy.write_endorsements("sgx", fault="tcb-recovery")
    assert ground.verdicts() == {
        ground.old: ("refused", ("sgx.tcb_status", "policy.advisory")), ground.new: ACCEPTED, ground.guest: ACCEPTED,
    }  # fmt: skip
    early = {one.index: one.early for one in ground.survey()[1]}
    assert early == {ground.old: (Code.SGX_TCB_STATUS, Code.POLICY_ADVISORY), ground.new: (), ground.guest: ()}


def test_collateral_that_is_away_is_no_verdict(ground: Any) -> None:
    for path in (ground.proxy.state / "endorsements" / "sgx").iterdir():
        path.unlink()
    missing = ("unavailable", ("endorsements.unavailable",))
    assert ground.verdicts() == {ground.old: missing, ground.new: missing, ground.guest: ACCEPTED}
    assert all(not one.early for one in ground.survey()[1])


def test_collateral_below_the_floor_is_not_used(ground: Any) -> None:
    ground.proxy.write_endorsements("sgx", evaluation_number=1)
    survey, _ = ground.survey()
    assert ground.verdicts()[ground.old] == ("unavailable", ("endorsements.unavailable",))
    assert survey.valid_until is not None


def test_collateral_of_tomorrow_is_not_used(ground: Any) -> None:
    ground.proxy.write_endorsements("sgx", issue_date=ground.proxy.now + timedelta(days=1), evaluation_number=40)
    assert ground.verdicts()[ground.old] == ("unavailable", ("endorsements.unavailable",))


def test_another_policy_fells_exactly_those_whose_measurement_it_drops(ground: Any) -> None:
    text = default_policy(ground.proxy.vendor, version=2)
    measured = ground.proxy.vendor.platform("sgx").body.mr_enclave.hex()
    policy = parse_policy(text.replace(measured, "ab" * 32), Path())
    dropped = ("refused", ("policy.measurement",))
    assert ground.verdicts(policy) == {ground.old: dropped, ground.new: dropped, ground.guest: ACCEPTED}
    gone = parse_policy(text.replace('"example-vm"', '"another-vm"'), Path())
    assert ground.verdicts(gone) == {
        ground.old: ACCEPTED, ground.new: ACCEPTED, ground.guest: ("refused", ("policy.workload",)),
    }  # fmt: skip


def test_a_policy_of_another_authority_judges_nothing(ground: Any) -> None:
    text = default_policy(ground.proxy.vendor, "other.example", version=2)
    with pytest.raises(ConfigurationError) as caught:
        ground.survey(parse_policy(text, Path()))
    assert caught.value.code is Code.POLICY_MALFORMED


def test_a_policy_that_is_not_in_force_is_not_taken_for_it(ground: Any) -> None:
    text = default_policy(ground.proxy.vendor, version=2)
    (ground.proxy.state / "policy.toml").write_text(text)
    with pytest.raises(UnavailableError) as caught:
        ground.survey(in_force=True)
    assert caught.value.code is Code.REAPPRAISAL_POLICY
    ground.proxy.apply(text)
    assert ground.survey(in_force=True)[0].policy_version == 2


def test_what_has_expired_is_not_judged(ground: Any) -> None:
    ground.proxy.move(minutes=59)
    assert len(ground.survey()[1]) == 3
    ground.proxy.move(minutes=1)
    survey, found = ground.survey()
    assert (survey.live, found) == (0, [])


def test_evidence_that_was_pruned_is_no_verdict(ground: Any) -> None:
    changed(ground.proxy.state, "DELETE FROM evidence WHERE idx = ?", ground.old)
    assert ground.verdicts()[ground.old] == ("unavailable", ("reappraisal.no_evidence",))
    (found,) = [one for one in ground.survey()[1] if one.index == ground.old]
    assert (found.workload, found.names, found.early) == ("", (), ())


def test_pruning_leaves_live_certificates_alone(ground: Any) -> None:
    store = ground.proxy.issuer.authority.ledger.evidence
    assert not store.due(int(ground.proxy.now.timestamp()) + 3600)
    assert store.due(int(ground.proxy.now.timestamp()) + 3600 + KEPT_AFTER_EXPIRY)


@pytest.mark.parametrize(
    "query",
    [
        "UPDATE evidence SET kept = x'00', size = length(request) + length(spki) + 1 WHERE idx = ?",
        "UPDATE evidence SET request = CAST(request || x'00' AS BLOB), size = size + 1 WHERE idx = ?",
        "UPDATE evidence SET spki = CAST(spki || x'00' AS BLOB), size = size + 1 WHERE idx = ?",
        "UPDATE entry SET claims_set = CAST(claims_set || x'00' AS BLOB) WHERE idx = ?",
        "UPDATE entry SET session_id = x'00112233445566778899aabbccddeeff' WHERE idx = ?",
    ],
)
def test_a_row_that_somebody_changed_is_no_verdict(ground: Any, query: str) -> None:
    changed(ground.proxy.state, query, ground.old)
    verdicts = ground.verdicts()
    assert verdicts[ground.old] == ("unavailable", ("reappraisal.unreadable",))
    assert verdicts[ground.new] == ACCEPTED


def test_another_leafs_evidence_is_not_taken(ground: Any) -> None:
    query = "UPDATE evidence SET kept = (SELECT kept FROM evidence WHERE idx = ?), size = size WHERE idx = ?"
    with closing(sqlite3.connect(ground.proxy.state / "ledger.sqlite")) as connection:
        connection.execute("PRAGMA ignore_check_constraints = ON")
        connection.execute(query, (ground.new, ground.old))
        connection.commit()
    assert ground.verdicts()[ground.old] == ("unavailable", ("reappraisal.unreadable",))


def test_reading_writes_nothing(ground: Any) -> None:
    with LedgerView.open(ground.proxy.state / "ledger.sqlite") as view, pytest.raises(sqlite3.OperationalError):
        view._connection.execute("DELETE FROM evidence")


def test_a_closed_ledger_is_read_too(ground: Any) -> None:
    ground.proxy.close()
    assert ground.verdicts()[ground.old] == ACCEPTED


def test_pages_miss_nobody(ground: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("proxy_attestation.reappraisal.ledger_view._PAGE", 2)
    assert len(ground.survey()[1]) == 3
    ground.proxy.issue()
    assert len(ground.survey()[1]) == 4


@pytest.mark.parametrize("content", [b"", b"not SQLite" * 100])
def test_what_is_no_ledger_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "ledger.sqlite"
    path.write_bytes(content)
    with pytest.raises((ConfigurationError, UnavailableError)) as caught, LedgerView.open(path):
        pass
    assert caught.value.code in (Code.AUTHORITY_STATE, Code.AUTHORITY_UNAVAILABLE)


def test_an_issuer_that_was_replaced_by_command_asks_for_renewal(ground: Any) -> None:
    ground.proxy.issuer.authority.life.rotate(int(ground.proxy.now.timestamp()), at_once=True)
    assert {one.early for one in ground.survey()[1]} == {(Code.REAPPRAISAL_ISSUER,)}
    assert ground.verdicts()[ground.old] == ACCEPTED


def test_a_rotation_on_schedule_asks_nobody(ground: Any) -> None:
    authority = ground.proxy.issuer.authority
    issued = authority.active.ca
    ground.proxy.now = datetime.fromtimestamp(issued.not_after - (ISSUING_LIFETIME - ISSUING_ROTATION), UTC)
    for days in (0, 8):
        ground.proxy.move(days=days)
        authority.maintain()
    assert authority.active.ca != issued
    with LedgerView.open(ground.proxy.state / "ledger.sqlite") as view:
        in_force = view.in_force(int(ground.proxy.now.timestamp()))
    assert issued.ca_id in in_force.issuers
    assert in_force.replaced == frozenset()


@pytest.mark.parametrize("whole_key", [False, True])
def test_what_was_revoked_asks_for_renewal(ground: Any, whole_key: bool) -> None:
    authority, now = ground.proxy.issuer.authority, int(ground.proxy.now.timestamp())
    live = authority.ledger.live_at(ground.old, now)
    authority.revocations.revoke(live, CrlReason.KEY_COMPROMISE, now, whole_key=whole_key)
    early = {one.index: one.early for one in ground.survey()[1]}
    assert early == {ground.old: (Code.CERTIFICATE_REVOKED,), ground.new: (), ground.guest: ()}
    assert ground.verdicts()[ground.old] == ACCEPTED


@pytest.mark.parametrize("key", ["serials", "spkis"])
def test_another_policy_may_deny_one_certificate(ground: Any, key: str) -> None:
    (live,) = ground.proxy.issuer.authority.ledger.live_at(ground.new, int(ground.proxy.now.timestamp()))
    denied = {"serials": live.serial.hex(), "spkis": live.spki_sha256.hex()}[key]
    text = default_policy(ground.proxy.vendor, version=2) + f'\n[deny]\n{key} = ["{denied}"]\n'
    refused = ("refused", (f"deny.{key[:-1]}",))
    assert ground.verdicts(parse_policy(text, Path())) == {
        ground.old: ACCEPTED, ground.new: refused, ground.guest: ACCEPTED,
    }  # fmt: skip
