"""Policies as signed history: each attack on one is refused, at a start, at SIGHUP and when it is applied.

Whoever has the disk tries: an edited policy, an edited index, one signed by too few or by a stranger, no signatures, an
older policy with its good signatures, the signatures of another trust domain, other signers.
"""

import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from signers import SIGNERS, note_over, sign, verifier

from proxy_attestation.authority import policy_directory, process
from proxy_attestation.authority import state as layout
from proxy_attestation.authority.authority import Authority
from proxy_attestation.authority.init import init_state
from proxy_attestation.authority.issue import Issuer
from proxy_attestation.authority.operator_client import operate
from proxy_attestation.authority.policy_directory import POLICIES, VERSIONS_MAX, PolicyDirectory, check_names
from proxy_attestation.authority.policy_operations import APPLY_POLICY, Applied, Staged, reload_policy
from proxy_attestation.authority.private_files import write_private
from proxy_attestation.authority.settings import UNSIGNED_POLICY
from proxy_attestation.codes import Code
from proxy_attestation.errors import ConfigurationError, ProxyAttestationError, UnavailableError, UsageError
from proxy_attestation.formats.ledger_entry import EntryKind, decode_entry
from proxy_attestation.formats.request import Names
from proxy_attestation.policy.load import load_policy_files, note_path


@dataclass
class World:
    """An authority with three signers, two of whom must sign, and what its operator does."""

    state: Path
    drafts: Path
    clock: Any
    running: Authority | None = None

    @property
    def policy(self) -> Path:
        return self.state / layout.POLICY

    def open(self) -> Authority:
        self.running = layout.open_authority(self.state, self.clock)
        return self.running

    def draft(self, version: int, *names: str, edit: tuple[str, str] = ("", "")) -> Path:
        """A newer policy with its index, signed by these people."""
        directory = self.drafts / str(version)
        shutil.copytree(self.drafts / "first", directory)
        path = directory / "next.toml"
        text = (directory / "policy.toml").read_text().replace("version = 7", f"version = {version}").replace(*edit)
        path.write_text(text)
        if names:
            sign(path, *names)
        return path

    def apply(self, path: Path) -> Applied:
        """As `policy apply`, on the authority that runs here."""
        assert self.running is not None
        directory = PolicyDirectory(self.state)
        name = directory.stage(load_policy_files(path))
        try:
            return APPLY_POLICY.run(Issuer(self.running, Names()), Staged(name))
        finally:
            directory.discard(name)


@pytest.fixture
def world(tmp_path: Path, policy_file: Path, vendor_root: bytes, clock: Any) -> World:
    drafts = tmp_path / "drafts"
    drafts.mkdir()
    shutil.copytree(policy_file.parent, drafts / "first")
    sign(policy_file, "alice", "bob")
    state = tmp_path / "state"
    make(state, policy_file, vendor_root, clock)
    return World(state, drafts, clock)


def make(state: Path, policy: Path, vendor_root: bytes, clock: Any, **changes: Any) -> Any:
    arguments = {"signers": SIGNERS, "threshold": 2, **changes}
    return init_state(
        state, trust_domain="example.org", dns=["example.org"], policy=policy, simulated_roots=[vendor_root],
        now=clock(), **arguments,
    )  # fmt: skip


def edited(world: World) -> None:
    text = world.policy.read_text()
    world.policy.write_text(text.replace('tcb = ["UpToDate", ', 'tcb = ["OutOfDate", "UpToDate", '))


def edited_comment(world: World) -> None:
    world.policy.write_text(world.policy.read_text() + "# nothing but a comment\n")


def raised(world: World) -> None:
    world.policy.write_text(world.policy.read_text().replace("version = 7", "version = 8"))


def too_few(world: World) -> None:
    raised(world)
    sign(world.policy, "carol")


def stranger(world: World) -> None:
    raised(world)
    sign(world.policy, "carol", "mallory")


def unsigned(world: World) -> None:
    note_path(world.policy).unlink()


def other_index(world: World) -> None:
    """The index says something else, and the policy names its digest: both are edited, and only both would load."""
    index, text = world.state / "app.index", world.policy.read_text()
    before = load_policy_files(world.policy).files["app.index"]
    after = before.replace(b"  app.wat", b"  app.wat\n" + b"ee" * 32 + b"  other.wat")
    import hashlib  # noqa: PLC0415 - only here

    index.write_bytes(after)
    world.policy.write_text(text.replace(hashlib.sha256(before).hexdigest(), hashlib.sha256(after).hexdigest()))


def other_trust_domain(world: World) -> None:
    raised(world)
    text = load_policy_files(world.policy).text.replace("example.org", "example.com")
    note_path(world.policy).write_bytes(note_over(text, "alice", "bob", "carol"))


ATTACKS: list[tuple[Callable[[World], None], Code]] = [
    (edited, Code.POLICY_SIGNATURE),
    (edited_comment, Code.POLICY_SIGNATURE),
    (raised, Code.POLICY_SIGNATURE),
    (too_few, Code.POLICY_SIGNATURE),
    (stranger, Code.POLICY_SIGNATURE),
    (unsigned, Code.POLICY_UNSIGNED),
    (other_index, Code.POLICY_SIGNATURE),
    (other_trust_domain, Code.POLICY_SIGNATURE),
]


@pytest.mark.parametrize(("attack", "code"), ATTACKS, ids=lambda value: getattr(value, "__name__", ""))
def test_an_attack_is_refused_at_the_start(attack: Callable[[World], None], code: Code, world: World) -> None:
    attack(world)
    with pytest.raises(ConfigurationError) as caught:
        world.open()
    assert caught.value.code is code


@pytest.mark.parametrize(("attack", "code"), ATTACKS, ids=lambda value: getattr(value, "__name__", ""))
def test_an_attack_is_refused_at_a_reload_and_the_old_policy_stays(
    attack: Callable[[World], None], code: Code, world: World
) -> None:
    authority = world.open()
    before = authority.info(), authority.ledger.size()
    attack(world)
    with pytest.raises(ConfigurationError) as caught:
        reload_policy(authority)
    assert caught.value.code is code
    process._reload(Issuer(authority, Names()))
    assert (authority.info(), authority.ledger.size()) == before


def test_an_index_that_the_policy_does_not_name_so_is_no_policy(world: World) -> None:
    (world.state / "app.index").write_bytes(b"ee" * 32 + b"  app.wat\n")
    with pytest.raises(ConfigurationError) as caught:
        world.open()
    assert caught.value.code is Code.POLICY_MALFORMED


def replay(world: World) -> None:
    """Put the first policy back with its own, good signatures."""
    old = world.state / POLICIES / "7"
    for name in ("policy.toml", "policy.toml.note", "app.index"):
        shutil.copy(old / name, world.state / name)


def test_an_older_policy_is_refused(world: World) -> None:
    authority = world.open()
    world.apply(world.draft(8, "bob", "carol"))
    assert authority.policy.version == 8
    replay(world)
    with pytest.raises(ConfigurationError) as caught:
        reload_policy(authority)
    assert caught.value.code is Code.POLICY_STALE
    assert authority.policy.version == 8
    authority.ledger.close()
    with pytest.raises(ConfigurationError) as caught:
        world.open()
    assert caught.value.code is Code.POLICY_STALE


def test_the_version_is_taken_from_the_entries_and_not_from_what_anybody_can_set(world: World) -> None:
    authority = world.open()
    world.apply(world.draft(8, "alice", "bob"))
    with authority.ledger.transaction():
        authority.ledger.set_meta("policy_version", bytes(8))
    replay(world)
    authority.ledger.close()
    with pytest.raises(ConfigurationError) as caught:
        world.open()
    assert caught.value.code is Code.POLICY_STALE


def test_another_policy_of_the_same_version_is_refused_though_signed(world: World) -> None:
    authority = world.open()
    edited_comment(world)
    sign(world.policy, "alice", "carol")
    with pytest.raises(ConfigurationError) as caught:
        reload_policy(authority)
    assert caught.value.code is Code.POLICY_STALE
    authority.ledger.close()
    with pytest.raises(ConfigurationError) as caught:
        world.open()
    assert caught.value.code is Code.POLICY_STALE


def test_other_signers_in_authority_toml_are_refused(world: World) -> None:
    path = world.state / layout.SETTINGS
    path.write_text(path.read_text().replace(str(verifier("carol")), str(verifier("mallory"))))
    with pytest.raises(ConfigurationError) as caught:
        world.open()
    assert caught.value.code is Code.AUTHORITY_STATE


def test_a_lower_threshold_in_authority_toml_is_refused(world: World) -> None:
    path = world.state / layout.SETTINGS
    path.write_text(path.read_text().replace("threshold = 2", "threshold = 1"))
    sign(world.policy, "alice")
    with pytest.raises(ConfigurationError) as caught:
        world.open()
    assert caught.value.code in (Code.AUTHORITY_STATE, Code.POLICY_SIGNATURE)
    sign(world.policy, "alice", "bob")
    with pytest.raises(ConfigurationError) as caught:
        world.open()
    assert caught.value.code is Code.AUTHORITY_STATE


# Applying.


def test_a_signed_newer_policy_is_put_in_place_and_in_force(world: World) -> None:
    authority = world.open()
    before = authority.info()
    path = world.draft(8, "carol", "alice", edit=("max_lifetime", "max_lifetime"))
    applied = world.apply(path)
    after = authority.info()
    assert applied == Applied(True, 8, after.policy_digest, ("alice", "carol"))
    assert after.policy_digest != before.policy_digest
    assert after.generation > before.generation
    assert world.policy.read_bytes() == path.read_bytes()
    assert note_path(world.policy).read_bytes() == note_path(path).read_bytes()
    entry = decode_entry(authority.ledger.last_policy() or b"")
    assert (entry.kind, entry.policy_version, entry.policy_digest) == (EntryKind.POLICY, 8, after.policy_digest)
    assert entry.policy_time == int(world.clock().timestamp())
    # It is what the next start takes, and there is nothing left of the way.
    authority.ledger.close()
    assert world.open().policy_digest == after.policy_digest
    assert sorted(one.name for one in (world.state / POLICIES).iterdir()) == ["7", "8"]
    # Again: nothing changes.
    again = world.apply(path)
    assert (again.changed, again.version) == (False, 8)


@pytest.mark.parametrize(
    ("version", "names", "edit", "code"),
    [
        (8, (), ("", ""), Code.POLICY_UNSIGNED),
        (8, ("bob",), ("", ""), Code.POLICY_SIGNATURE),
        (8, ("bob", "mallory"), ("", ""), Code.POLICY_SIGNATURE),
        (6, ("alice", "bob"), ("", ""), Code.POLICY_STALE),
        (8, ("alice", "bob"), ('"app.example.org"', '"app.example.net"'), Code.POLICY_MALFORMED),
        (8, ("alice", "bob"), ('trust_domain = "example.org"', 'trust_domain = "example.com"'), Code.POLICY_MALFORMED),
    ],
    ids=["unsigned", "too few", "a stranger", "older", "outside the root's names", "another trust domain"],
)
def test_what_cannot_be_in_force_is_not_put_in_place(
    *, version: int, names: tuple[str, ...], edit: tuple[str, str], code: Code, world: World
) -> None:
    authority = world.open()
    before, held = authority.info(), world.policy.read_bytes()
    with pytest.raises(ConfigurationError) as caught:
        world.apply(world.draft(version, *names, edit=edit))
    assert caught.value.code is code
    assert (authority.info(), world.policy.read_bytes()) == (before, held)
    authority.ledger.close()
    assert world.open().policy.version == 7


def test_a_policy_can_be_applied_where_none_runs(world: World) -> None:
    path = world.draft(8, "alice", "bob")
    name = PolicyDirectory(world.state).stage(load_policy_files(path))
    applied = operate(world.state, APPLY_POLICY, Staged(name), world.clock)
    assert (applied.changed, applied.version) == (True, 8)
    assert world.open().policy.version == 8


@pytest.mark.parametrize("name", ["", "7", "../state", "staged-", "staged-0123456789abcde", "staged-0123456789abcdeg"])
def test_only_what_was_staged_is_read(name: str, world: World) -> None:
    world.open()
    with pytest.raises(ConfigurationError) as caught:
        APPLY_POLICY.run(Issuer(world.running or world.open(), Names()), Staged(name))
    assert caught.value.code is Code.POLICY_MALFORMED


def test_a_ledger_that_cannot_be_written_leaves_the_old_policy(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    authority = world.open()
    before = authority.info()

    def full(*_: object) -> None:
        raise UnavailableError(Code.AUTHORITY_UNAVAILABLE, "disk full")

    monkeypatch.setattr(authority.ledger, "append", full)
    with pytest.raises(UnavailableError):
        world.apply(world.draft(8, "alice", "bob"))
    assert authority.info() == before
    assert load_policy_files(world.policy).policy.version == 7
    authority.ledger.close()
    assert world.open().policy.version == 7


class Crash(BaseException):
    """The process ends here."""


def crashes(monkeypatch: pytest.MonkeyPatch, after: int) -> None:
    """Let the process end at the write with this number, which is half done: the temporary file is there."""
    count = 0
    genuine = write_private

    def write(path: Path, data: bytes) -> None:
        nonlocal count
        count += 1
        if count > after:
            path.with_name(f".{path.name}.new").write_bytes(data[: len(data) // 2])
            raise Crash
        genuine(path, data)

    monkeypatch.setattr(policy_directory, "write_private", write)


def test_a_crash_at_any_write_leaves_one_version_whole(world: World, tmp_path: Path) -> None:
    path = world.draft(8, "alice", "bob", edit=('"other.example.org"', '"new.example.org"'))
    seen = []
    for after in range(20):
        state = tmp_path / f"crash-{after}"
        shutil.copytree(world.state, state)
        there = World(state, world.drafts, world.clock)
        authority = there.open()
        found = load_policy_files(path)
        name = PolicyDirectory(state).stage(found)
        with pytest.MonkeyPatch.context() as patch:
            crashes(patch, after)
            try:
                APPLY_POLICY.run(Issuer(authority, Names()), Staged(name))
                crashed = False
            except Crash:
                crashed = True
        authority.ledger.close()
        version = there.open().policy.version
        whole = load_policy_files(there.policy)
        assert whole.policy.version == version
        expected = found if version == 8 else load_policy_files(world.policy)
        assert (whole.files, whole.note) == (expected.files, expected.note)
        assert not (state / POLICIES / "next").exists()
        seen.append(version)
        if not crashed:
            break
    assert seen == sorted(seen)
    assert seen[0] == 7
    assert not crashed


@pytest.mark.parametrize("content", [b"", b"0\n", b"x\n", b"\xff", b"-1\n", b"../8\n", b"9\n", b"8" * 100])
def test_what_stands_in_the_way_of_the_next_version_is_refused(content: bytes, world: World) -> None:
    world.open().ledger.close()
    (world.state / POLICIES / "next").write_bytes(content)
    with pytest.raises(ConfigurationError) as caught:
        world.open()
    assert caught.value.code is Code.POLICY_MALFORMED


def test_the_newest_versions_are_kept(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(policy_directory, "VERSIONS_MAX", 3)
    world.open()
    for version in (8, 9, 10, 11):
        world.apply(world.draft(version, "alice", "bob"))
    assert sorted(int(one.name) for one in (world.state / POLICIES).iterdir()) == [9, 10, 11]
    assert PolicyDirectory(world.state).version(10).policy.version == 10
    with pytest.raises(ConfigurationError):
        PolicyDirectory(world.state).version(8)
    assert VERSIONS_MAX == 50


@pytest.mark.parametrize("name", ["keys/root.key", "ledger.sqlite", "run/x", "authority.toml", "policies/8", ".hidden"])
def test_a_file_of_a_policy_takes_no_name_of_the_directory(name: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        check_names({"policy.toml": b"", name: b""})
    assert caught.value.code is Code.POLICY_MALFORMED


# init.


@pytest.fixture
def begin(tmp_path: Path, policy_file: Path, vendor_root: bytes, clock: Any) -> Iterator[Callable[..., Any]]:
    yield lambda **changes: make(tmp_path / "other", policy_file, vendor_root, clock, **changes)


@pytest.mark.parametrize(
    ("names", "code"),
    [((), Code.POLICY_UNSIGNED), (("alice",), Code.POLICY_SIGNATURE), (("alice", "mallory"), Code.POLICY_SIGNATURE)],
)
def test_the_first_policy_is_signed_too(
    names: tuple[str, ...], code: Code, begin: Callable[..., Any], policy_file: Path, tmp_path: Path
) -> None:
    if names:
        sign(policy_file, *names)
    with pytest.raises(ConfigurationError) as caught:
        begin()
    assert caught.value.code is code
    assert not (tmp_path / "other").exists()


@pytest.mark.parametrize(
    "changes",
    [
        {"threshold": 0},
        {"threshold": 4},
        {"signers": (), "threshold": 1},
        {"signers": (SIGNERS[0], SIGNERS[0])},
        {"signers": (SIGNERS[0], verifier("alice"), SIGNERS[1])},
        {"signers": tuple(type(SIGNERS[0])(f"s{n}", SIGNERS[0].type, bytes([n] * 32)) for n in range(17))},
        {"signers": (SIGNERS[0], type(SIGNERS[0])("other", SIGNERS[0].type, SIGNERS[0].public_key))},
        {"signers": (SIGNERS[0], type(SIGNERS[0])('quo"ted', SIGNERS[0].type, SIGNERS[1].public_key))},
    ],
)
def test_signers_that_cannot_be(changes: dict[str, Any], begin: Callable[..., Any], policy_file: Path) -> None:
    sign(policy_file, "alice", "bob", "carol")
    with pytest.raises(UsageError):
        begin(**changes)


def test_an_authority_without_signers_tells_everybody(begin: Callable[..., Any], world: World) -> None:
    made = begin(signers=(), threshold=0)
    assert made.dangers[0] == UNSIGNED_POLICY
    assert world.open().info().dangers == world.open().policy.dangers


def test_an_authority_without_signers_takes_what_is_edited(
    begin: Callable[..., Any], tmp_path: Path, clock: Any, policy_file: Path
) -> None:
    begin(signers=(), threshold=0)
    state = tmp_path / "other"
    authority = layout.open_authority(state, clock)
    assert authority.info().dangers[0] == UNSIGNED_POLICY
    path = state / layout.POLICY
    path.write_text(path.read_text().replace("version = 7", "version = 8"))
    assert reload_policy(authority)
    assert not reload_policy(authority)
    # A comment is no other policy.
    path.write_text(path.read_text() + "# a comment\n")
    assert not reload_policy(authority)
    assert PolicyDirectory(state).version(8).policy.version == 8
    found = load_policy_files(policy_file)
    with pytest.raises(ProxyAttestationError) as caught:
        authority.reload_policy(found)
    assert caught.value.code is Code.POLICY_STALE


def test_the_name_of_a_root_without_signers_says_so() -> None:
    from dataclasses import replace  # noqa: PLC0415 - only here

    from proxy_attestation.authority.settings import Settings  # noqa: PLC0415 - likewise

    kept = Settings(False, "example.org", "gramine", ("example.org",), bytes(32), frozenset(), SIGNERS, 2)
    assert kept.organization is None
    assert replace(kept, signers=(), threshold=0).organization == "UNSIGNED POLICY"
    assert replace(kept, keys="file").organization == "FILE KEYS"
