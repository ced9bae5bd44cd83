"""The ledger's file keeps its own rules: dense, append-only, sessions once, floors that only rise."""

import os
import sqlite3
import stat
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from ledgers import signing

from proxy_attestation.appraisal.endorsements import Floor
from proxy_attestation.authority.ledger import Ledger, Row
from proxy_attestation.authority.messages import TokenKey
from proxy_attestation.codes import Code
from proxy_attestation.errors import ConfigurationError, InternalError, UnavailableError
from proxy_attestation.formats.ledger_entry import EntryKind
from proxy_attestation.formats.tee import Tee

POLICY = Row(EntryKind.POLICY, b"policy entry")
FLOOR = Floor(18, 1_700_000_000, 5, (1 << 160) - 1)
FMSPC = b"\x00\x60\x6a\x00\x00\x00"


def leaf(session: int = 0) -> Row:
    return Row(
        EntryKind.LEAF, b"leaf entry", b"tbs", 1_800_000_000, 1_800_003_600, b"\x01" * 32, bytes((session,)) * 16,
        b"\x02" * 32, b"claims",
    )  # fmt: skip


@pytest.fixture
def path(tmp_path: Path) -> Path:
    made = tmp_path / "ledger.sqlite"
    made.touch(0o600)
    return made


@pytest.fixture
def ledger(path: Path) -> Iterator[Ledger]:
    with closing(signing(Ledger.create(path))) as opened:
        yield opened


def add(ledger: Ledger, *rows: Row) -> int:
    with ledger.transaction():
        return ledger.append(rows)


def test_indexes_count_from_zero_over_batches_and_openings(ledger: Ledger, path: Path) -> None:
    assert add(ledger, POLICY) == 0
    assert add(ledger, leaf(1), leaf(2), POLICY) == 1
    ledger.close()
    with closing(signing(Ledger.open(path))) as again:
        assert again.size() == 4
        assert add(again, leaf(3)) == 4
        assert again.find_session(b"\x02" * 16) == (2, leaf(2))
        assert again.find_session(b"\x09" * 16) is None
        assert again.entry(0) == b"policy entry"
        assert again.entry(9) is None


def test_a_transaction_is_all_or_nothing(ledger: Ledger) -> None:
    class StopError(Exception):
        pass

    with pytest.raises(StopError), ledger.transaction():
        ledger.append([leaf(1)])
        ledger.set_meta("x", b"y")
        raise StopError
    assert ledger.size() == 0
    assert ledger.meta("x") is None
    assert add(ledger, leaf(1)) == 0


def test_a_session_is_used_once(ledger: Ledger) -> None:
    add(ledger, leaf(1))
    with pytest.raises(InternalError):
        add(ledger, leaf(2), leaf(1))
    assert ledger.size() == 1
    assert ledger.find_session(b"\x02" * 16) is None


@pytest.mark.parametrize(
    ("name", "row"),
    [
        ("no entry", leaf()._replace(entry=b"")),
        ("an entry beyond 4 KiB", leaf()._replace(entry=b"x" * 4097)),
        ("a leaf without a certificate", leaf()._replace(tbs=None)),
        ("a leaf without a beginning", leaf()._replace(not_before=None)),
        ("a leaf without a key", leaf()._replace(spki_sha256=None)),
        ("a leaf without a session", leaf()._replace(session_id=None)),
        ("a leaf without a request", leaf()._replace(request_sha256=None)),
        ("a leaf without claims", leaf()._replace(claims_set=None)),
        ("a leaf that ends before it begins", leaf()._replace(not_after=1_800_000_000)),
        ("a short session", leaf()._replace(session_id=b"x" * 15)),
        ("a CA event without a certificate", Row(EntryKind.CA_EVENT, b"x")),
    ],
)
def test_the_schema_refuses_what_no_entry_can_be(ledger: Ledger, name: str, row: Row) -> None:
    del name
    with pytest.raises(InternalError):
        add(ledger, row)
    assert ledger.size() == 0


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE entry SET entry = x'00' WHERE idx = 0",
        "DELETE FROM entry",
        "INSERT INTO entry (idx, kind, entry) VALUES (7, 2, x'00')",
        "INSERT INTO entry (idx, kind, entry) VALUES (0, 2, x'00')",
        "INSERT INTO entry (idx, kind, entry) VALUES (NULL, 2, x'00')",
        "INSERT OR REPLACE INTO entry (idx, kind, entry) VALUES (0, 2, x'00')",
        "INSERT INTO entry (idx, kind, entry) VALUES (1, 9, x'00')",
        "UPDATE floor SET evaluation_number = 17",
        "UPDATE floor SET issue_date = 1",
        "UPDATE floor SET pck_crl_number = zeroblob(20)",
        "UPDATE floor SET root_crl_number = zeroblob(20)",
        "DELETE FROM floor",
    ],
)
def test_nothing_goes_back_whoever_writes(ledger: Ledger, path: Path, statement: str) -> None:
    add(ledger, POLICY)
    with ledger.transaction():
        ledger.set_floor(Tee.SGX, FMSPC, FLOOR)
    with closing(sqlite3.connect(path)) as other, pytest.raises(sqlite3.IntegrityError):
        other.execute(statement)


def test_floors_rise_and_survive(ledger: Ledger, path: Path) -> None:
    higher = Floor(19, FLOOR.issue_date + 1, 6, FLOOR.root_crl_number)
    add(ledger, POLICY)
    with ledger.transaction():
        ledger.set_floor(Tee.SGX, FMSPC, FLOOR)
        ledger.set_floor(Tee.TDX, FMSPC, FLOOR)
    with ledger.transaction():
        ledger.set_floor(Tee.SGX, FMSPC, higher)
    with pytest.raises(InternalError), ledger.transaction():
        ledger.set_floor(Tee.SGX, FMSPC, FLOOR)
    ledger.close()
    with closing(Ledger.open(path)) as again:
        assert again.floors() == {(Tee.SGX, FMSPC): higher, (Tee.TDX, FMSPC): FLOOR}


def test_the_latest_time_is_that_of_an_entry_or_of_collateral(ledger: Ledger) -> None:
    assert ledger.latest_time() == 0
    add(ledger, leaf(1), leaf(2)._replace(not_before=1_800_000_100), leaf(3))
    assert ledger.latest_time() == 1_800_000_100
    with ledger.transaction():
        ledger.set_floor(Tee.SGX, FMSPC, replace(FLOOR, issue_date=1_800_000_200))
    assert ledger.latest_time() == 1_800_000_200


def test_token_keys_are_replaced_as_a_whole(ledger: Ledger) -> None:
    keys = [TokenKey(bytes((n,)) * 4, bytes((n,)) * 32, 100 - n) for n in range(3)]
    with ledger.transaction():
        ledger.replace_token_keys(keys[::-1])
    assert ledger.token_keys() == tuple(keys)
    with ledger.transaction():
        ledger.replace_token_keys(keys[:1])
    assert ledger.token_keys() == tuple(keys[:1])


def test_it_is_as_durable_as_it_says(ledger: Ledger) -> None:
    (mode,) = ledger._connection.execute("PRAGMA journal_mode").fetchone()
    (synchronous,) = ledger._connection.execute("PRAGMA synchronous").fetchone()
    assert (mode, synchronous) == ("wal", 2)


def test_its_files_are_ours_alone(ledger: Ledger, path: Path) -> None:
    add(ledger, POLICY)
    files = sorted(path.parent.glob("ledger.sqlite*"))
    assert len(files) == 3
    assert {stat.S_IMODE(file.stat().st_mode) for file in files} == {0o600}


def test_another_file_is_no_ledger(tmp_path: Path) -> None:
    other = tmp_path / "other.sqlite"
    with closing(sqlite3.connect(other)) as connection:
        connection.execute("CREATE TABLE entry (idx)")
    text = tmp_path / "text.sqlite"
    text.write_bytes(b"this is no database at all" * 100)
    empty = tmp_path / "empty.sqlite"
    empty.touch()
    for path in (other, text, empty):
        with pytest.raises(ConfigurationError) as caught:
            Ledger.open(path)
        assert caught.value.code is Code.AUTHORITY_STATE


def test_a_ledger_of_another_version_is_refused(ledger: Ledger, path: Path) -> None:
    add(ledger, POLICY)
    ledger._connection.execute("PRAGMA user_version = 99")
    ledger.close()
    with pytest.raises(ConfigurationError) as caught:
        Ledger.open(path)
    assert caught.value.code is Code.AUTHORITY_STATE


def test_a_gap_is_found_when_it_is_opened(ledger: Ledger, path: Path) -> None:
    add(ledger, POLICY, POLICY, POLICY)
    ledger._connection.execute("PRAGMA foreign_keys = OFF")
    ledger._connection.execute("DROP TRIGGER entry_no_delete")
    ledger._connection.execute("DELETE FROM entry WHERE idx = 1")
    ledger.close()
    with pytest.raises(ConfigurationError) as caught:
        Ledger.open(path)
    assert caught.value.code is Code.AUTHORITY_STATE


def test_an_empty_ledger_is_refused(ledger: Ledger, path: Path) -> None:
    ledger.close()
    with pytest.raises(ConfigurationError):
        Ledger.open(path)


def test_what_sqlite_cannot_do_is_unavailable(ledger: Ledger, tmp_path: Path) -> None:
    ledger.close()
    with pytest.raises(UnavailableError) as caught:
        add(ledger, POLICY)
    assert caught.value.code is Code.AUTHORITY_UNAVAILABLE
    with pytest.raises(UnavailableError):
        Ledger.open(tmp_path / "nowhere" / "ledger.sqlite")


def test_a_full_disk_loses_nothing_that_was_committed(ledger: Ledger) -> None:
    add(ledger, leaf(1))
    (pages,) = ledger._connection.execute("PRAGMA page_count").fetchone()
    ledger._connection.execute(f"PRAGMA max_page_count = {pages}")
    with pytest.raises(UnavailableError) as caught:
        add(ledger, *(leaf(n)._replace(entry=os.urandom(4000)) for n in range(2, 60)))
    assert caught.value.code is Code.AUTHORITY_UNAVAILABLE
    ledger._connection.execute("PRAGMA max_page_count = 100000")
    assert ledger.size() == 1
    assert add(ledger, leaf(2)) == 1
