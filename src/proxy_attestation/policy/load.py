"""Reads a policy file. Strict: whatever is unknown, empty, doubled, open or below a minimum refuses the whole file.

Every problem is reported at once, each with its line and what to do about it. The indexes that entries name are read
too, from beside or below the policy file, so that a `Policy` is complete in itself.
"""

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Final

from proxy_attestation.codes import Code
from proxy_attestation.errors import ConfigurationError
from proxy_attestation.formats.bounds import (
    INDEX_MAX,
    NOTE_MAX,
    POLICY_FILE_MAX,
    POLICY_TOTAL_MAX,
    POLICY_WORKLOADS_MAX,
)
from proxy_attestation.formats.policy_note import NOTE_SUFFIX, POLICY_FILE, policy_text
from proxy_attestation.policy.application import ReadFile
from proxy_attestation.policy.danger import read_dangers
from proxy_attestation.policy.deny import read_deny
from proxy_attestation.policy.entry import read_entry, read_lifetime
from proxy_attestation.policy.lines import line_of, locate
from proxy_attestation.policy.model import Policy, Workload
from proxy_attestation.policy.names import is_trust_domain
from proxy_attestation.policy.ownership import refuse_shared_names
from proxy_attestation.policy.reader import Fault, Issue, TableReader, show
from proxy_attestation.policy.vocabulary import POLICY_KEYS

LIFETIME_MAX: Final = 24 * 3600
MIN_LIFETIME_DEFAULT: Final = 15 * 60
_VERSION_MAX: Final = 0xFFFFFFFF
_TOML_PLACE: Final = re.compile(r" \(at (?:line (?P<line>[0-9]+), column [0-9]+|end of document)\)\Z")
_HINTS: Final = {
    "signers": "who signs policies was fixed at `init`; the signatures stand beside the file (`policy sign`)",
    "allow_debug": "it stands in [danger]",
    "workloads": "entries are written [[workload]]",
}


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing wrong with a file.

    Attributes:
        line: counted from 1.
        message: what is wrong.
        fix: what to do about it.
        code: what kind of thing.
    """

    line: int
    message: str
    fix: str
    code: Code = Code.POLICY_MALFORMED


class PolicyFileError(ConfigurationError):
    """A policy file that cannot be used, with every problem in the order of their lines; `policy.malformed`."""

    def __init__(self, file: str, problems: tuple[Problem, ...]) -> None:
        detail = "\n".join(f"{file}:{problem.line}: {problem.message}; {problem.fix}" for problem in problems)
        super().__init__(Code.POLICY_MALFORMED, detail)
        self.file = file
        self.problems = problems


@dataclass(frozen=True, slots=True)
class PolicyFiles:
    """A policy, and the very bytes that it was read from.

    Attributes:
        policy: what they say.
        files: by name, as in what is signed (`formats.policy_note`): the policy's own, and each further one it names.
        note: what stands beside the policy's file, under its name with `.note` behind; None where nothing does.
    """

    policy: Policy
    files: Mapping[str, bytes] = field(default_factory=dict)
    note: bytes | None = None

    @property
    def text(self) -> str:
        """What its signers sign."""
        return policy_text(self.policy.trust_domain, self.policy.version, self.files)


def load_policy(path: Path) -> Policy:
    """Read a policy file and the files it names.

    Raises:
        PolicyFileError: `policy.malformed`.
    """
    return load_policy_files(path).policy


def load_policy_files(path: Path) -> PolicyFiles:
    """Read a policy file, the files it names, and its signatures, of which nothing is said yet.

    Raises:
        PolicyFileError: `policy.malformed`.
    """
    try:
        content = read_bounded(path, POLICY_FILE_MAX)
        text = content.decode()
        note = note_path(path)
        signatures = read_bounded(note, NOTE_MAX) if note.exists() else None
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        problem = Problem(1, f"cannot be read: {reason}", "name a readable TOML file in UTF-8")
        raise PolicyFileError(str(path), (problem,)) from error
    files = {POLICY_FILE: content}

    def read(name: str) -> bytes:
        if name in (POLICY_FILE, f"{POLICY_FILE}{NOTE_SUFFIX}"):
            raise ValueError("the policy's own file")
        if name not in files:
            room = POLICY_TOTAL_MAX - sum(map(len, files.values()))
            files[name] = read_bounded(path.parent / name, min(INDEX_MAX, room))
        return files[name]

    return PolicyFiles(parse_policy(text, path.parent, str(path), read), files, signatures)


def note_path(policy: Path) -> Path:
    """Return where the signatures of a policy file stand."""
    return policy.with_name(policy.name + NOTE_SUFFIX)


def parse_policy(text: str, base: Path, file: str = "policy.toml", read_file: ReadFile | None = None) -> Policy:
    """Read a policy from its text.

    Args:
        text: the whole file.
        base: the directory that the files it names are relative to.
        file: the file's name in messages.
        read_file: reads those in another way.

    Raises:
        PolicyFileError: `policy.malformed`.
    """
    if len(text) > POLICY_FILE_MAX:
        problem = Problem(1, f"{len(text)} characters", f"at most {POLICY_FILE_MAX}")
        raise PolicyFileError(file, (problem,))
    issues: list[Issue] = []
    policy = _read(
        TableReader(_parse_toml(text, file), (), "policy", issues),
        read_file or (lambda name: read_bounded(base / name, INDEX_MAX)),
    )
    if issues or policy is None:
        lines = locate(text)
        problems = {Problem(line_of(lines, i.place), i.message, i.fix, i.code): None for i in issues}
        raise PolicyFileError(file, tuple(sorted(problems, key=lambda problem: problem.line)))
    return policy


def _parse_toml(text: str, file: str) -> dict[str, object]:
    try:
        return tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        # tomllib tells the place only in its message. A ValueError of another kind is a number that Python refuses.
        message = str(error)
        match = _TOML_PLACE.search(message)
        line = int(match["line"]) if match and match["line"] else text.count("\n") + 1 if match else 1
        problem = Problem(line, _TOML_PLACE.sub("", message), "mend the TOML syntax")
        raise PolicyFileError(file, (problem,)) from error


def _read(reader: TableReader, read_file: ReadFile) -> Policy | None:
    reader.refuse_unknown(POLICY_KEYS, _HINTS)
    reader.require(["version", "trust_domain", "workload"], "a policy has a version, a trust domain and entries")
    version = reader.integer("version", 1, _VERSION_MAX)
    trust_domain = reader.value("trust_domain", _trust_domain)
    tables = _entry_tables(reader)
    names = [table.table.get("name") for table in tables]
    dangers = read_dangers(reader, frozenset(name for name in names if isinstance(name, str)))
    lowest = 1 if dangers.short_lifetimes else MIN_LIFETIME_DEFAULT
    min_lifetime = read_lifetime(reader, "min_lifetime", lowest, LIFETIME_MAX, MIN_LIFETIME_DEFAULT)
    max_lifetime = read_lifetime(reader, "max_lifetime", min_lifetime, LIFETIME_MAX, LIFETIME_MAX)
    workloads: dict[str, Workload] = {}
    read: list[tuple[TableReader, Workload]] = []
    for index, table in enumerate(tables):
        name = names[index]
        if isinstance(name, str) and name in names[:index]:
            table.note("name", f"{show(name)} is the name of two entries", "rename or remove one of them")
        entry = read_entry(table, dangers, min_lifetime, max_lifetime, read_file)
        if entry is not None:
            workloads[entry.name] = entry
            read.append((table, entry))
    refuse_shared_names(read)
    deny = read_deny(reader)
    if version is None or trust_domain is None:
        return None
    return Policy(
        version=version,
        trust_domain=trust_domain,
        min_lifetime=min_lifetime,
        max_lifetime=max_lifetime,
        workloads=MappingProxyType(workloads),
        dangers=dangers.readable(),
        deny=deny,
    )


def _trust_domain(text: str) -> str | Fault:
    fault = Fault(f"{show(text)} is no SPIFFE trust domain", "write it as example.org")
    return text if is_trust_domain(text) else fault


def _entry_tables(reader: TableReader) -> list[TableReader]:
    value = reader.table.get("workload", [])
    if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
        reader.note("workload", "workload is no array of tables", "write [[workload]] above each entry")
        return []
    if reader.has("workload") and not value:
        reader.note("workload", "no entry", "write at least one [[workload]]")
    if len(value) > POLICY_WORKLOADS_MAX:
        reader.note("workload", f"{len(value)} entries", f"write at most {POLICY_WORKLOADS_MAX}")
        return []
    return [
        TableReader(item, ("workload", index), f"[[workload]] {show(item.get('name', index))}", reader.issues)
        for index, item in enumerate(value)
    ]


def read_bounded(path: Path, limit: int) -> bytes:
    """Read a file.

    Raises:
        OSError: when it cannot be read.
        ValueError: when it is longer than `limit` bytes.
    """
    with path.open("rb") as file:
        data = file.read(limit + 1)
    if len(data) > limit:
        raise ValueError(f"longer than {limit} bytes")
    return data
