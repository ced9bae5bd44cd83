"""What we write is read by Go's own checker of logs, which shares no code with ours, and what it refuses is wrong."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from independent import Checker, build_checker
from ledger_entries import leaf
from logs import TestKey, TestLog, witness_key

VKEY = str(TestKey().verifier)
WITNESS = witness_key()


@pytest.fixture(scope="module")
def checker(tmp_path_factory: pytest.TempPathFactory) -> Checker:
    return build_checker(tmp_path_factory.mktemp("go"))


@pytest.mark.slow
@pytest.mark.parametrize("size", [0, 1, 2, 255, 256, 257, 600])
def test_ledgers_of_several_sizes(
    checker: Checker, log_of: Callable[[int], TestLog], tmp_path: Path, size: int
) -> None:
    log = log_of(size)
    log.write(tmp_path / "log", WITNESS)
    proofs: list[str | Path] = []
    for index in {0, size // 2, size - 1} & set(range(size)):
        path = tmp_path / f"{index}.tlog-proof"
        path.write_bytes(replace(log.proof(index), checkpoint=log.checkpoint(None, WITNESS)).encode())
        proofs.append(path)
    older: list[str | Path] = []
    for before in {1, size // 3, size} & set(range(1, size + 1)):
        path = tmp_path / f"{before}.checkpoint"
        path.write_bytes(log.checkpoint(before))
        older.append(path)
    said = checker.check(tmp_path / "log", VKEY, cosigner=[str(WITNESS.verifier)], proof=proofs, older=older)
    assert said["size"] == size


@pytest.mark.slow
def test_it_refuses_what_is_wrong(checker: Checker, log_of: Callable[[int], TestLog], tmp_path: Path) -> None:
    log = log_of(300)
    folder = log.write(tmp_path / "log")
    assert checker.run(folder, VKEY).returncode == 0
    assert checker.run(folder, str(TestKey(secret="another").verifier)).returncode == 1
    assert checker.run(folder, VKEY, cosigner=[str(WITNESS.verifier)]).returncode == 1
    (tmp_path / "proof").write_bytes(replace(log.proof(7), index=8).encode())
    assert checker.run(folder, VKEY, proof=[tmp_path / "proof"]).returncode == 1
    (tmp_path / "older").write_bytes(TestLog().add([leaf(9)]).checkpoint())
    assert checker.run(folder, VKEY, older=[tmp_path / "older"]).returncode == 1
    for path in ("tile/entries/000", "tile/0/001.p/44", "tile/1/000.p/1"):
        file = folder / path
        good = file.read_bytes()
        file.write_bytes(good[:-1] + bytes([good[-1] ^ 1]))
        assert checker.run(folder, VKEY).returncode == 1, path
        file.write_bytes(good)
