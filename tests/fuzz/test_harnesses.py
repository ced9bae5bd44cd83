"""Every public function that reads bytes or text from outside is reached by a fuzz harness with its first inputs."""

import ast
import re
import sys
import threading
from collections.abc import Iterator
from contextlib import suppress
from functools import cache
from pathlib import Path
from types import FrameType
from typing import Any, Final

import pytest

from proxy_attestation.errors import ProxyAttestationError

pytestmark = pytest.mark.exhaustive

ROOT: Final = Path(__file__).resolve().parents[2]
PACKAGE: Final = ROOT / "src" / "proxy_attestation"
ROOMS: Final = (
    "formats", "appraisal", "endorsements", "policy", "authority", "service", "attester", "relying_party", "loader",
    "transparency", "reference", "reappraisal", "sealing", "ekep", "cli",
)  # fmt: skip
READS: Final = re.compile(
    r"^(decode|parse|appraise|verify|judge|read|load|detect|open|replay|check|find|looks_like|declared|split|is)(_|$)"
)
"""Names of functions that read something, or judge what was read."""
OUTSIDE: Final = re.compile(r"\b(bytes|str)\b")

ELSEWHERE: Final = {
    "authority/cas_loaded.py load_issuing": "the authority's own certificates, out of its ledger",
    "authority/cas_loaded.py load_roots": "the same",
    "authority/cas.py read_ca": "the same",
    "authority/check.py check_leaf": "what the authority built; tests/authority/test_check.py gives it any bytes",
    "authority/check.py is_permitted_dns": "a name that is compared, after `request` and `policy` have read it",
    "authority/escrow.py read_escrow": "opens files; `key-sealed` opens what stands in them",
    "authority/floors.py check_raise": "numbers that are compared, after `authority-wire` has read them",
    "authority/floors.py check_use": "the same",
    "authority/key_stores.py open_store": "a word of authority.toml, which `authority-settings` reads",
    "authority/policy_directory.py check_names": "names of files that are compared, after `policy` has read them",
    "cli/policies/log.py read_log": "the authority's own ledger; `ledger-entry` reads each of its entries",
    "cli/evidence_file.py read_input": "opens a file; what stands in it is read by `appraise-command`",
    "cli/ledgering/options.py open_source": "opens a folder or a connection; `ledger-walk` reads what stands in it",
    "cli/ledger.py verify": "a command; `ledger-walk`, `tlog-proof` and `ledger-text` read what its files hold",
    "cli/acceptance.py find_workload": "a name that is looked up",
    "ekep/client.py open_channel": "opens a connection; `ekep-handshake` and `ekep-record` read what comes over it",
    "loader/config_table.py read_file": "opens a file; `loader-file` and `endorsements-file` read what stands in it",
    "relying_party/deny_list.py read_source": "opens a file or a connection; `deny-list` reads what comes of it",
    "relying_party/connection.py open_connection": "opens a connection; `presented-chain` and `peer-claims` judge it",
}
"""Readers without harness, and why."""


def public_readers() -> Iterator[str]:
    """Return `room/file.py function` for every public function that reads or judges bytes or text."""
    for room in ROOMS:
        for path in sorted((PACKAGE / room).rglob("*.py")):
            for node in ast.parse(path.read_text()).body:
                if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) or not READS.match(node.name):
                    continue
                given = [a.annotation for a in (*node.args.args, *node.args.kwonlyargs) if a.annotation is not None]
                if any(OUTSIDE.search(ast.unparse(annotation)) for annotation in given):
                    yield f"{path.relative_to(PACKAGE)} {node.name}"


@cache
def fuzz() -> Any:
    """Return the harnesses and their first inputs."""
    sys.path.insert(0, str(ROOT / "fuzz"))
    try:
        import seeds  # noqa: PLC0415 - from a folder that is no package

        return seeds
    finally:
        sys.path.remove(str(ROOT / "fuzz"))


@cache
def reached() -> frozenset[str]:
    """Run every harness over its first inputs; return what was called."""
    called: set[str] = set()

    def note(frame: FrameType, event: str, _: object) -> None:
        if event == "call":
            path = Path(frame.f_code.co_filename)
            if path.is_relative_to(PACKAGE):
                called.add(f"{path.relative_to(PACKAGE)} {frame.f_code.co_name}")

    inputs = {name: fuzz().seeds_for(name) for name in fuzz().TARGETS}
    threading.setprofile(note)
    sys.setprofile(note)
    try:
        for name, seeds in inputs.items():
            for seed in seeds[:12]:
                with suppress(ProxyAttestationError):
                    fuzz().TARGETS[name].parse(seed)
    finally:
        sys.setprofile(None)
        threading.setprofile(None)
    return frozenset(called)


def test_every_public_reader_has_a_harness() -> None:
    readers = set(public_readers())
    assert len(readers) > 100
    assert readers - reached() == set(ELSEWHERE)


def test_every_harness_has_inputs_to_begin_with() -> None:
    for name in fuzz().TARGETS:
        assert all(fuzz().seeds_for(name)), name
