"""Who has the disk of the authority: roll-back, a second history, a checkpoint of his own, a policy that he edits.

With keys in files he could mint; here he has what a sealed proxy leaves him: every file, and the right to restart it.
What no start can see, a witness outside does.
"""

import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from http import HTTPStatus
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from issuing import Issuing
from logs import witness_key
from two_workloads import MR_OTHER, policy_of

from proxy_attestation.codes import Code
from proxy_attestation.errors import ConfigurationError, ProxyAttestationError
from proxy_attestation.formats.checkpoint import Checkpoint, open_checkpoint
from proxy_attestation.formats.signed_note import KeyType, Note, Verifier, parse_vkey, sign_note
from proxy_attestation.service.published import PublishedLedger
from proxy_attestation.transparency.witness import Witness
from proxy_attestation.transparency.witness_protocol import AddCheckpoint


class Outside:
    """A witness on another machine, who knows the log's key."""

    def __init__(self, folder: Path, proxy: Issuing) -> None:
        self.log = parse_vkey(proxy.issuer.authority.ledger_key)
        key = witness_key()
        self.witness = Witness(folder, key.verifier, key.private.sign, [self.log], lambda: 1234)
        self.seen = 0

    def look(self, proxy: Issuing) -> HTTPStatus:
        """Show it the proxy's newest checkpoint, with the best proof that this ledger can give."""
        with closing(PublishedLedger(proxy.state / "ledger.sqlite")) as ledger:
            head = ledger.published()
            assert head is not None
            proof = ledger.consistency(self.seen, head.size) if 0 < self.seen < head.size else ()
        answer = self.witness.add_checkpoint(AddCheckpoint(self.seen, proof, head.note).encode())
        if answer.status is HTTPStatus.OK:
            self.seen = head.size
        return answer.status


@pytest.fixture
def outside(proxy: Issuing, tmp_path: Path) -> Outside:
    return Outside(tmp_path / "witness", proxy)


@pytest.fixture
def snapshot(proxy: Issuing, tmp_path: Path) -> Callable[[], Callable[[], None]]:
    """Copy STATE while the proxy stands still; what is returned puts the copy back and starts it."""

    def take() -> Callable[[], None]:
        copy = tmp_path / "snapshot"
        proxy.close()
        shutil.copytree(proxy.state, copy)
        proxy.open()

        def back() -> None:
            proxy.close()
            shutil.rmtree(proxy.state)
            shutil.copytree(copy, proxy.state)
            proxy.open()

        return back

    return take


def test_a_ledger_that_goes_on_is_cosigned(proxy: Issuing, outside: Outside) -> None:
    for _ in range(3):
        proxy.issue()
        assert outside.look(proxy) is HTTPStatus.OK


def test_a_rolled_back_database(proxy: Issuing, outside: Outside, snapshot: Any) -> None:
    """The proxy cannot know; who has seen more does, at once and after the ledger has grown past it."""
    proxy.issue()
    back = snapshot()
    proxy.issue()
    assert outside.look(proxy) is HTTPStatus.OK
    back()
    assert outside.look(proxy) is not HTTPStatus.OK
    for _ in range(4):
        proxy.issue()
    assert proxy.issuer.authority.ledger.size() > outside.seen
    assert outside.look(proxy) is HTTPStatus.UNPROCESSABLE_ENTITY


def test_an_older_policy_file_under_the_newer_ledger(proxy: Issuing) -> None:
    old = (proxy.state / "policy.toml").read_bytes()
    proxy.apply(policy_of(proxy.vendor, version=3).replace(MR_OTHER.hex(), "aa" * 32))
    proxy.close()
    (proxy.state / "policy.toml").write_bytes(old)
    with pytest.raises(ConfigurationError) as caught:
        proxy.open()
    assert caught.value.code is Code.POLICY_STALE
    (proxy.state / "policy.toml").write_text(policy_of(proxy.vendor, version=3).replace(MR_OTHER.hex(), "aa" * 32))
    proxy.open()


def test_a_split_view(proxy: Issuing, outside: Outside, snapshot: Any, tmp_path: Path) -> None:
    """One log key, two histories: whoever is shown one first, is never shown the other with a cosignature."""
    back = snapshot()
    proxy.issue()
    proxy.issue()
    shown = Outside(tmp_path / "another witness", proxy)
    assert outside.look(proxy) is HTTPStatus.OK
    back()
    proxy.issue()
    proxy.issue()
    assert outside.look(proxy) is HTTPStatus.CONFLICT
    # A witness who saw the second first refuses the first: no quorum of both exists.
    assert shown.look(proxy) is HTTPStatus.OK


def test_a_forged_checkpoint_of_another_key(proxy: Issuing, outside: Outside) -> None:
    """Another tree, under the log's name and another key: no witness, no client and no start takes it."""
    proxy.issue()
    assert outside.look(proxy) is HTTPStatus.OK
    stranger = Ed25519PrivateKey.generate()
    name = Verifier(outside.log.name, KeyType.ED25519, stranger.public_key().public_bytes_raw())
    text = Checkpoint(outside.log.name, outside.seen, b"\x0f" * 32).text
    forged = Note(text, (sign_note(text, name, stranger.sign),)).encode()
    answer = outside.witness.add_checkpoint(AddCheckpoint(outside.seen, (), forged).encode())
    assert answer.status is HTTPStatus.FORBIDDEN
    with pytest.raises(ProxyAttestationError) as refused:
        open_checkpoint(forged, outside.log)
    assert refused.value.code in (Code.LEDGER_CHECKPOINT, Code.NOTE_SIGNATURE)
    proxy.close()
    with closing(sqlite3.connect(proxy.state / "ledger.sqlite")) as file, file:
        drop_triggers(file)
        file.execute("UPDATE checkpoint SET note = ? WHERE name = 'signed'", (forged,))
    with pytest.raises(ConfigurationError) as caught:
        proxy.open()
    assert caught.value.code is Code.LEDGER_INCONSISTENT


@pytest.mark.parametrize("index", [0, -1])
def test_an_entry_that_was_edited(proxy: Issuing, index: int) -> None:
    proxy.issue()
    row = index % proxy.issuer.authority.ledger.size()
    proxy.close()
    with closing(sqlite3.connect(proxy.state / "ledger.sqlite")) as file, file:
        drop_triggers(file)
        file.execute("UPDATE entry SET entry = CAST(entry || x'00' AS BLOB) WHERE idx = ?", (row,))
    with pytest.raises(ConfigurationError) as caught:
        proxy.open()
    assert caught.value.code is Code.LEDGER_INCONSISTENT


def test_a_policy_that_was_edited_without_a_new_version(proxy: Issuing) -> None:
    """Even without signers; with signers see tests/authority/test_policy_history.py."""
    path = proxy.state / "policy.toml"
    good = path.read_text()
    proxy.close()
    path.write_text(good.replace(MR_OTHER.hex(), "aa" * 32))
    with pytest.raises(ConfigurationError) as caught:
        proxy.open()
    assert caught.value.code is Code.POLICY_STALE
    path.write_text(good)
    proxy.open()


def drop_triggers(file: sqlite3.Connection) -> None:
    """Take away what the file protects itself with, as somebody with the disk can."""
    for (name,) in file.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall():
        file.execute(f"DROP TRIGGER {name}")
