"""Logs with entries of the ledger's own form, in memory and in files."""

from collections.abc import Callable
from pathlib import Path

import pytest
from ledger_entries import leaf
from logs import TestLog

from proxy_attestation.transparency.source import DirectorySource


class CountingSource(DirectorySource):
    """Notes which files were read; a file may be replaced by other bytes, or taken away."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.paths: list[str] = []
        self.instead: dict[str, bytes | None] = {}

    def read(self, path: str, limit: int) -> bytes | None:
        self.paths.append(path)
        return self.instead[path] if path in self.instead else super().read(path, limit)


@pytest.fixture(scope="session")
def log_of() -> Callable[[int], TestLog]:
    """Make a log of so many leaves, certificate i valid from second 1000 + i."""
    return lambda size: TestLog().add(leaf(number) for number in range(size))


@pytest.fixture
def source_of(tmp_path: Path) -> Callable[[TestLog], CountingSource]:
    """Write a log's files and return what reads them."""
    return lambda log: CountingSource(log.write(tmp_path / "log"))
