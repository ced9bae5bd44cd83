"""Harnesses for signed notes and for the files, proofs and policies of transparency logs."""

import atexit
import functools
import shutil
import sys
import tempfile
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from cryptography import x509
from target import Target

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests" / "support"))

from ledger_entries import leaf
from logs import TestLog, witness_key

from proxy_attestation.formats.bounds import TREE_SIZE_MAX
from proxy_attestation.formats.checkpoint import open_checkpoint, parse_checkpoint
from proxy_attestation.formats.merkle import consistency_proof, leaf_hash, verify_consistency
from proxy_attestation.formats.signed_note import parse_note, parse_vkey, verify_note
from proxy_attestation.formats.tiles import decode_entries, decode_tile, new_tiles, parse_tile
from proxy_attestation.formats.tlog_policy import TlogPolicy, parse_tlog_policy
from proxy_attestation.formats.tlog_proof import parse_tlog_proof, verify_tlog_proof
from proxy_attestation.loader.ledger_proof import check_ledger_proof
from proxy_attestation.transparency.reader import TreeReader, read_checkpoint
from proxy_attestation.transparency.source import check_url
from proxy_attestation.transparency.verify import decode_logged
from proxy_attestation.transparency.witness import Witness
from proxy_attestation.transparency.witness_protocol import AddCheckpoint, parse_add_checkpoint, parse_size
from proxy_attestation_simulator.intel import Vendor

LEDGER: Final = TestLog().add(leaf(number) for number in range(257))
LOG: Final = TestLog().add(b"%d" % number for number in range(10))
WITNESS: Final = witness_key()


def _note(data: bytes) -> None:
    """Whatever is read as a note is written as the same bytes."""
    note = parse_note(data)
    assert note.encode() == data
    verify_note(note, (LOG.key.verifier, WITNESS.verifier))


def _checkpoint(data: bytes) -> None:
    """Read it under its signature, and any text as if it were signed."""
    text = data.decode("utf-8", "replace")
    if data[:1] != b"\0":
        assert parse_checkpoint(text).text == text
    open_checkpoint(data[1:], LOG.key.verifier, (WITNESS.verifier,))


def _proof(data: bytes) -> None:
    proof = parse_tlog_proof(data)
    assert proof.encode() == data
    verify_tlog_proof(proof, leaf_hash(b"3"), LOG.key.verifier)


@functools.cache
def _issued() -> tuple[bytes, TestLog]:
    """Return some certificate, and a log that holds its entry at index 2."""
    certificate = Vendor.create(datetime(2026, 11, 24, tzinfo=UTC), secret=b"\x05" * 32).root_der
    tbs = x509.load_der_x509_certificate(certificate).tbs_certificate_bytes
    return certificate, TestLog().add(leaf(number, tbs=tbs) for number in range(5))


def _issued_proof(data: bytes) -> None:
    certificate, log = _issued()
    check_ledger_proof(data, 2, certificate, log.key.verifier.name, str(log.key.verifier).encode())


def _issued_proofs() -> list[bytes]:
    _, log = _issued()
    return [replace(log.proof(2), extra=log.entries[2]).encode(), log.proof(2).encode()]


def _consistency(data: bytes) -> None:
    """Two sizes of 8 bytes, two roots, and the path."""
    old, new = (int.from_bytes(data[i : i + 8], "big") & TREE_SIZE_MAX for i in (0, 8))
    hashes = [data[i : i + 32].ljust(32, b"\0") for i in range(16, len(data), 32)]
    verify_consistency(old, new, data[16:48], data[48:80], hashes[2:])


def _text(data: bytes) -> None:
    """The first byte says what the rest is."""
    text = data[1:].decode("utf-8", "replace")
    readers: tuple[Callable[[str], object], ...] = (parse_vkey, parse_tile, parse_tlog_policy, check_url)
    readers[(data[0] if data else 0) % len(readers)](text)


def _texts() -> list[bytes]:
    policy = f"log {LOG.key.verifier}\nwitness w {WITNESS.verifier} https://w.example.org/\ngroup g any w\nquorum g\n"
    texts = (str(WITNESS.verifier), "tile/entries/x001/000.p/12", policy, "https://log.example.org/")
    return [bytes([number]) + text.encode() for number, text in enumerate(texts)]


def _file(data: bytes) -> None:
    """Read a bundle, or a tile, of the width that the second byte says."""
    reader = decode_entries if data[:1] == b"\0" else decode_tile
    reader(data[2:], (data[1] if len(data) > 1 else 0) + 1)


def _files() -> list[bytes]:
    return [bytes([1, 9]) + b"".join(LOG.node(0, i) for i in range(10)), b"\0\1\0\3abc\0\0"]


class _Files:
    """A log's files, one of them replaced."""

    def __init__(self, path: str, data: bytes) -> None:
        self._path, self._data = path, data

    def read(self, path: str, limit: int) -> bytes | None:
        """Return a file; see `Source.read`."""
        if path == self._path:
            return self._data if len(self._data) <= limit else None
        return _GOOD.get(path)


_GOOD: Final = {"checkpoint": LEDGER.checkpoint()} | {tile.path: LEDGER.tile(tile) for tile in new_tiles(0, 257)}
_PATHS: Final = tuple(_GOOD)


def _ledger(data: bytes) -> None:
    """Replace the file that the first byte says."""
    source = _Files(_PATHS[(data[0] if data else 0) % len(_PATHS)], data[1:])
    checkpoint, _ = read_checkpoint(source, LEDGER.key.verifier, TlogPolicy())
    reader = TreeReader(source, checkpoint)
    for index in (1, 0):
        decode_logged(0, reader.entries(index)[0])


def _ledgers() -> list[bytes]:
    return [bytes([number]) + data for number, data in enumerate(_GOOD.values())]


@functools.cache
def _witness() -> Witness:
    folder = Path(tempfile.mkdtemp(prefix="fuzz-witness-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return Witness(folder, WITNESS.verifier, WITNESS.private.sign, [LOG.key.verifier], lambda: 1)


def _witnessed(data: bytes) -> None:
    """Ask for a cosignature; whatever is read as a request is written as the same bytes."""
    _witness().answer("POST", "add-checkpoint", data)
    assert parse_add_checkpoint(data).encode() == data


def _requests() -> list[bytes]:
    sizes = ((0, 3), (3, 10), (10, 10))
    return [
        AddCheckpoint(old, consistency_proof(LOG.node, old, new), LOG.checkpoint(new)).encode() for old, new in sizes
    ]


NOTES: Final[dict[str, Target]] = {
    "signed-note": Target(_note, 4096, lambda: [LOG.checkpoint(None, WITNESS)]),
    "checkpoint": Target(
        _checkpoint, 4096, lambda: [b"\0" + LOG.checkpoint(None, WITNESS), parse_note(LOG.checkpoint()).text.encode()]
    ),
    "tlog-proof": Target(_proof, 4096, lambda: [LOG.proof(3).encode()]),
    "issued-proof": Target(_issued_proof, 8192, _issued_proofs),
    "consistency": Target(_consistency, 1024, lambda: [bytes([0] * 7 + [4] + [0] * 7 + [10]) + bytes(128)]),
    "ledger-text": Target(_text, 4096, _texts),
    "ledger-file": Target(_file, 16384, _files),
    "ledger-walk": Target(_ledger, 65536, _ledgers),
    "witness": Target(_witnessed, 4096, _requests),
    "witness-size": Target(parse_size, 64, lambda: [b"7\n", b"0\n"]),
}
