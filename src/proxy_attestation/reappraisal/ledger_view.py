"""The ledger as re-appraisal reads it: a read-only connection, a page of rows at a time."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NamedTuple, Self
from urllib.parse import quote

from proxy_attestation.appraisal.endorsements import Floor
from proxy_attestation.authority.cas import Ca, read_ca
from proxy_attestation.authority.ledger_schema import APPLICATION_ID, SCHEMA_VERSION
from proxy_attestation.authority.profile import ISSUING_LIFETIME, ISSUING_ROTATION, LEAF_LIFETIME_MAX
from proxy_attestation.codes import Code
from proxy_attestation.errors import ConfigurationError, UnavailableError
from proxy_attestation.formats.tee import Tee

_PAGE: Final = 64
_BUSY_TIMEOUT_MS: Final = 5000
_SLACK: Final = 3600
"""An issuing CA that was followed sooner than this before its time was followed by command."""
_FIRST: Final = "SELECT min(idx) FROM entry WHERE not_before >= ? AND kind = 1"
_COUNT: Final = "SELECT count(*) FROM entry WHERE not_before >= ? AND not_after > ? AND kind = 1"
_ROWS: Final = (
    "SELECT entry.idx, entry.entry, entry.claims_set, entry.session_id, kept.request, kept.spki, kept.kept"
    " FROM entry LEFT JOIN evidence AS kept ON kept.idx = entry.idx"
    " WHERE entry.idx >= ? AND entry.kind = 1 AND entry.not_after > ? ORDER BY entry.idx LIMIT ?"
)
_FLOORS: Final = "SELECT tee, fmspc, evaluation_number, issue_date, pck_crl_number, root_crl_number FROM floor"


class LeafRow(NamedTuple):
    """A live leaf's row. What stands in it was written by the authority, but for `kept`, which a peer had a part in.

    Attributes:
        idx: the index of its entry.
        entry: the entry's bytes.
        claims_set: as in the leaf.
        session_id: 16 bytes.
        request: the request's bytes, or None where nothing is kept.
        spki: DER, likewise.
        kept: see `formats.kept_evidence`, likewise.
    """

    idx: int
    entry: bytes
    claims_set: bytes
    session_id: bytes
    request: bytes | None
    spki: bytes | None
    kept: bytes | None


@dataclass(frozen=True, slots=True)
class InForce:
    """What the ledger says is in force.

    Attributes:
        policy_digest: 32 bytes, over policy, roots, floors and the version of the software.
        policy_version: of the policy.
        floors: by (tee, platform).
        revoked: serial numbers (20 bytes) and SPKI digests (32 bytes) that are revoked.
        issuers: the issuing CAs, by SHA-256 of their SPKI.
        replaced: those among them that a command replaced before their time, or that are revoked.
    """

    policy_digest: bytes
    policy_version: int
    floors: dict[tuple[Tee, bytes], Floor]
    revoked: frozenset[bytes]
    issuers: dict[bytes, Ca]
    replaced: frozenset[bytes]


class LedgerView:
    """An open read-only connection. Methods raise `UnavailableError` (`authority.unavailable`) when SQLite does."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    @classmethod
    @contextmanager
    def open(cls, path: Path) -> Iterator[Self]:
        """Open a ledger for reading.

        Raises:
            ConfigurationError: `authority.state`, when the file is no ledger of this version.
            UnavailableError: `authority.unavailable`.
        """
        if not path.is_file():
            raise ConfigurationError(Code.AUTHORITY_STATE, f"{path}: no ledger")
        try:
            connection = sqlite3.connect(
                f"file:{quote(str(path.resolve()))}?mode=ro", uri=True, isolation_level=None, check_same_thread=False
            )
            with closing(connection):
                for pragma in ("query_only = ON", "trusted_schema = OFF", f"busy_timeout = {_BUSY_TIMEOUT_MS}"):
                    connection.execute(f"PRAGMA {pragma}")
                (application,) = connection.execute("PRAGMA application_id").fetchone()
                (version,) = connection.execute("PRAGMA user_version").fetchone()
                if (application, version) != (APPLICATION_ID, SCHEMA_VERSION):
                    raise ConfigurationError(Code.AUTHORITY_STATE, f"{path}: no ledger of version {SCHEMA_VERSION}")
                yield cls(connection)
        except sqlite3.Error as error:
            raise UnavailableError(Code.AUTHORITY_UNAVAILABLE, f"the ledger: {error}") from error

    def in_force(self, now: int) -> InForce:
        """Return what is in force, all of it as of one moment.

        Raises:
            ConfigurationError: `authority.state`, for a CA certificate that is none of ours.
        """
        self._connection.execute("BEGIN")
        try:
            meta: dict[str, bytes] = dict(self._select("SELECT name, value FROM meta"))
            floors = {
                (Tee(tee), bytes(fmspc)): Floor(number, date, int.from_bytes(pck, "big"), int.from_bytes(root, "big"))
                for tee, fmspc, number, date, pck, root in self._select(_FLOORS)
            }
            revoked = self._select("SELECT serial, spki_sha256 FROM revoked WHERE not_after > ?", now)
            activations = dict(self._select("SELECT number, at FROM activation"))
            cas = [
                read_ca(*row)
                for row in self._select("SELECT number, certificate FROM ca WHERE number > 0 ORDER BY number")
            ]
        finally:
            self._connection.execute("ROLLBACK")
        return InForce(
            policy_digest=meta.get("policy_digest", b""),
            policy_version=int.from_bytes(meta.get("policy_version", b""), "big"),
            floors=floors,
            revoked=frozenset(spki if serial is None else serial for serial, spki in revoked),
            issuers={ca.ca_id: ca for ca in cas},
            replaced=_replaced(cas, activations, {spki for _, spki in revoked}),
        )

    def policies(self) -> Iterator[tuple[int, bytes]]:
        """Yield (index, bytes) of every entry about a policy, in order."""
        yield from self._connection.execute("SELECT idx, entry FROM entry WHERE kind = 2 ORDER BY idx")

    def count(self, now: int) -> int:
        """Return how many leaves are live."""
        ((count,),) = self._select(_COUNT, _earliest(now), now)
        return int(count)

    def leaves(self, now: int) -> Iterator[LeafRow]:
        """Yield the leaves that are live at `now`, in the order of their entries.

        No transaction stays open between pages: who reads slowly must not keep the ledger's log from being folded in.
        """
        ((first,),) = self._select(_FIRST, _earliest(now))
        while first is not None:
            page = [LeafRow(*row) for row in self._select(_ROWS, first, now, _PAGE)]
            yield from page
            first = page[-1].idx + 1 if len(page) == _PAGE else None

    def _select(self, query: str, *values: object) -> list[Any]:
        return self._connection.execute(query, values).fetchall()


def _earliest(now: int) -> int:
    """Return the earliest notBefore that a leaf can have which is live at `now`."""
    return now - LEAF_LIFETIME_MAX


def _replaced(cas: list[Ca], activations: dict[int, int], revoked: set[bytes]) -> frozenset[bytes]:
    """Return the issuing CAs whose place another one took by command: sooner than the schedule would have it."""
    found = {ca.ca_id for ca in cas if ca.ca_id in revoked}
    for ca in cas:
        later = [at for number, at in activations.items() if number > ca.number]
        if later and min(later) < ca.not_after - (ISSUING_LIFETIME - ISSUING_ROTATION) - _SLACK:
            found.add(ca.ca_id)
    return frozenset(found)
