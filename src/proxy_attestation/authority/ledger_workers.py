"""What the ledger's file holds of what workers are told: floors of collateral, and the keys of session tokens."""

import sqlite3
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, Final

from proxy_attestation.appraisal.endorsements import Floor
from proxy_attestation.authority.messages import TokenKey
from proxy_attestation.formats.tee import Tee

_CRL_NUMBER_BYTES: Final = 20
_ISSUER: Final = "intel"
_SET_FLOOR: Final = (
    "INSERT INTO floor VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET"
    " evaluation_number = excluded.evaluation_number, issue_date = excluded.issue_date,"
    " pck_crl_number = excluded.pck_crl_number, root_crl_number = excluded.root_crl_number"
)
_FLOORS: Final = (
    "SELECT tee, fmspc, evaluation_number, issue_date, pck_crl_number, root_crl_number FROM floor WHERE issuer = ?"
)


class WorkerTables(ABC):
    """The part of `ledger.Ledger` that is about this. What writes is called inside a transaction."""

    _connection: sqlite3.Connection

    @abstractmethod
    def _select(self, query: str, *values: object) -> list[Any]: ...

    def floors(self) -> dict[tuple[Tee, bytes], Floor]:
        """Return every floor by (tee, FMSPC)."""
        return {
            (Tee(tee), fmspc): Floor(number, date, int.from_bytes(pck, "big"), int.from_bytes(root, "big"))
            for tee, fmspc, number, date, pck, root in self._select(_FLOORS, _ISSUER)
        }

    def set_floor(self, tee: Tee, fmspc: bytes, floor: Floor) -> None:
        """Set a floor, inside a transaction; the schema refuses one that sinks."""
        numbers = [
            number.to_bytes(_CRL_NUMBER_BYTES, "big") for number in (floor.pck_crl_number, floor.root_crl_number)
        ]
        values = (_ISSUER, str(tee), fmspc, floor.evaluation_number, floor.issue_date, *numbers)
        self._connection.execute(_SET_FLOOR, values)

    def token_keys(self) -> tuple[TokenKey, ...]:
        """Return the keys of session tokens, the newest first."""
        found = self._select("SELECT key_id, key, not_after FROM token_key ORDER BY not_after DESC, key_id")
        return tuple(TokenKey(*values) for values in found)

    def replace_token_keys(self, keys: Sequence[TokenKey]) -> None:
        """Keep exactly these keys, inside a transaction."""
        self._connection.execute("DELETE FROM token_key")
        values = [(key.key_id, key.key, key.not_after) for key in keys]
        self._connection.executemany("INSERT INTO token_key (key_id, key, not_after) VALUES (?, ?, ?)", values)
