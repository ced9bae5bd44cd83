"""What SQLite raises, as errors of ours."""

import sqlite3
from typing import Final

from proxy_attestation.codes import Code
from proxy_attestation.errors import InternalError, UnavailableError


class _Translation:
    """A class, and no generator, since this stands in the path of every issuance."""

    __slots__ = ()

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, sqlite3.IntegrityError):
            raise InternalError(f"the ledger refused: {error}") from error
        if isinstance(error, sqlite3.Error):
            raise UnavailableError(Code.AUTHORITY_UNAVAILABLE, f"the ledger: {error}") from error


TRANSLATED: Final = _Translation()
"""Around whatever asks SQLite something: InternalError for a constraint that was violated, otherwise UnavailableError
(`authority.unavailable`)."""
