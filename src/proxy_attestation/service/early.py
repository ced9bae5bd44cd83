"""Which certificates should be renewed before their time: what the process that re-appraises left for the workers.

Of STATE/run/reappraisal.json only ``{"format": 1, "early": {certificate id: {"since": seconds, "codes": [...]}}}``
counts here. A worker looks at it at most once a second and reads it when it has changed. It is ours, and still bounded:
what is too large or has another form tells nobody to renew.
"""

import json
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final, NamedTuple

from proxy_attestation import log
from proxy_attestation.codes import Code
from proxy_attestation.errors import FormatError
from proxy_attestation.formats.bounds import TIME_MAX
from proxy_attestation.formats.certificate_id import check_certificate_id
from proxy_attestation.formats.values import as_uint

FILE: Final = "reappraisal.json"
FORMAT: Final = 1
EARLY_MAX: Final = 10_000
"""Certificates that the file names at most."""
FILE_MAX: Final = 8 * 1024 * 1024
RETRY_AFTER: Final = 600
"""Seconds after which to ask again."""
_LOOK_SECONDS: Final = 1.0


class Early(NamedTuple):
    """Why and since when a certificate should be renewed.

    Attributes:
        since: seconds since the epoch.
        codes: at least one.
    """

    since: int
    codes: tuple[Code, ...]


class EarlyRenewals:
    """Args of `__init__`: STATE/run, seconds that never go back."""

    def __init__(self, run: Path, clock: Callable[[], float] = time.monotonic) -> None:
        self._path = run / FILE
        self._clock = clock
        self._looked = float("-inf")
        self._stamp: tuple[int, int] | None = None
        self._found: Mapping[str, Early] = {}

    def find(self, certificate_id: str) -> Early | None:
        """Return why a certificate should be renewed now, or None."""
        if self._clock() - self._looked >= _LOOK_SECONDS:
            self._looked = self._clock()
            self._look()
        return self._found.get(certificate_id)

    def _look(self) -> None:
        try:
            status = self._path.stat()
            if (status.st_ino, status.st_mtime_ns) == self._stamp:
                return
            self._stamp = status.st_ino, status.st_mtime_ns
            with self._path.open("rb") as file:
                data = file.read(FILE_MAX + 1)
            self._found = read_early(data)
        except FileNotFoundError:
            self._stamp, self._found = None, {}
        except (OSError, FormatError) as error:
            self._found = {}
            log.warning("re-appraisal not read", problem=str(error))


def read_early(data: bytes) -> dict[str, Early]:
    """Return what a file says.

    Raises:
        FormatError: `authority.state`, for anything of another form or beyond the bounds.
    """
    code = Code.AUTHORITY_STATE
    if len(data) > FILE_MAX:
        raise FormatError(code, f"more than {FILE_MAX} bytes")
    try:
        whole = json.loads(data)
        if whole["format"] != FORMAT or len(whole["early"]) > EARLY_MAX:
            raise FormatError(code, "another format, or too many")
        return {
            check_certificate_id(name): Early(as_uint(one["since"], code, TIME_MAX), tuple(map(Code, one["codes"])))
            for name, one in whole["early"].items()
        }
    except (ValueError, TypeError, LookupError, AttributeError, RecursionError) as error:
        raise FormatError(code, "not what re-appraisal writes") from error
