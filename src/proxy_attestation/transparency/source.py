"""Where a ledger's files come from: a directory, or an https server. Nothing that comes from there is trusted."""

import ssl
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Final, NamedTuple, Protocol, Self

import httpx

from proxy_attestation.codes import Code
from proxy_attestation.errors import UnavailableError, UsageError

_OK: Final = 200
_GONE: Final = frozenset({404, 410})
RETRIES: Final = 2
"""Further tries to connect, of httpx's own."""
_BUSY: Final = frozenset({429, 503})
WAITS: Final = 10
"""Tries of one file while the server says that it is busy."""
WAIT_MAX: Final = 30.0
"""The longest wait between two of them, in seconds, whatever the server asks for."""
SECONDS: Final = 15.0
"""For each step of a request: connect, write, read."""


class _Busy(NamedTuple):
    """An answer that asks for patience."""

    seconds: float


class Source(Protocol):
    """Reads files by their path relative to the log."""

    def read(self, path: str, limit: int) -> bytes | None:
        """Return a file, or None where there is none.

        Args:
            path: such as `checkpoint`.
            limit: the largest file, in bytes.

        Raises:
            UnavailableError: `ledger.unreachable`.
        """
        ...


class DirectorySource:
    """Reads a directory."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def read(self, path: str, limit: int) -> bytes | None:
        """Return a file; see `Source.read`."""
        try:
            with (self._folder / path).open("rb") as file:
                data = file.read(limit + 1)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise UnavailableError(Code.LEDGER_UNREACHABLE, f"{path}: {error.strerror or error}") from error
        return _bounded(data, path, limit)


class CopyingSource:
    """Reads from another source, and keeps each file in a folder as it came; but for the checkpoint, which comes last.

    Args:
        source: the other one.
        folder: made where there is none.
    """

    def __init__(self, source: Source, folder: Path) -> None:
        self._source, self._folder = source, folder

    def read(self, path: str, limit: int) -> bytes | None:
        """Return a file; see `Source.read`."""
        data = self._source.read(path, limit)
        if data is not None and path != "checkpoint":
            self._write(path, data)
        return data

    def finish(self, checkpoint: bytes) -> None:
        """Write the checkpoint that covers the files."""
        self._write("checkpoint", checkpoint)

    def _write(self, path: str, data: bytes) -> None:
        file = self._folder / path
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(data)
        except OSError as error:
            raise UnavailableError(Code.LEDGER_UNREACHABLE, f"{file}: {error.strerror or error}") from error


class HttpSource:
    """Reads from a web server. Use it as a context manager.

    Args:
        url: https://HOST[:PORT][/PATH], without the files' own paths. Plain http is taken for loopback addresses alone:
            the files are signed, but whoever stands between could show an old state.
        context: for https.
        server_name: the name that the server must have; None: the URL's host.
        sleep: waits, where a server asks for that: a log bounds how much it reads for everybody.

    Raises:
        UsageError: for another URL.
    """

    def __init__(
        self,
        url: str,
        context: ssl.SSLContext,
        server_name: str | None = None,
        sleep: Callable[[float], object] = time.sleep,
    ) -> None:
        self._base, self._sleep = check_url(url), sleep
        self._extensions = {} if server_name is None else {"sni_hostname": server_name}
        self._client = httpx.Client(
            transport=httpx.HTTPTransport(verify=context, trust_env=False, retries=RETRIES, http2=True),
            follow_redirects=False,
            timeout=SECONDS,
            headers={"user-agent": "proxy-attestation", "accept-encoding": "identity"},
        )

    def __enter__(self) -> Self:
        """Open the connection pool."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close every connection."""
        self._client.close()

    def read(self, path: str, limit: int) -> bytes | None:
        """Return a file; see `Source.read`. What is busy is asked again, `WAITS` times."""
        for _ in range(WAITS):
            found = self._read(path, limit)
            if not isinstance(found, _Busy):
                return found
            self._sleep(found.seconds)
        raise UnavailableError(Code.LEDGER_UNREACHABLE, f"{path}: busy")

    def _read(self, path: str, limit: int) -> "bytes | _Busy | None":
        data = bytearray()
        try:
            with self._client.stream("GET", f"{self._base}/{path}", extensions=self._extensions) as response:
                if response.status_code in _GONE:
                    return None
                if response.status_code in _BUSY:
                    asked = response.headers.get("retry-after", "")
                    return _Busy(min(int(asked), WAIT_MAX) if asked.isascii() and asked.isdigit() else 1.0)
                if response.status_code != _OK or "content-encoding" in response.headers:
                    raise UnavailableError(Code.LEDGER_UNREACHABLE, f"{path}: HTTP status {response.status_code}")
                for part in response.iter_bytes():
                    data += part
                    if len(data) > limit:
                        break
        except (httpx.HTTPError, OSError) as error:
            detail = f"{path}: {type(error).__name__}: {error}"
            raise UnavailableError(Code.LEDGER_UNREACHABLE, detail) from error
        return _bounded(bytes(data), path, limit)


def check_url(text: str) -> str:
    """Return the URL of a ledger or witness, without its final slash.

    Raises:
        UsageError: unless it is https, or http on a loopback address, with a host and perhaps a port and a path.
    """
    try:
        url = httpx.URL(text)
    except (httpx.InvalidURL, ValueError) as error:
        raise UsageError(f"not a URL: {error}") from error
    local = url.scheme == "http" and url.host in ("127.0.0.1", "::1", "localhost")
    if not (url.scheme == "https" or local) or not url.host or url.userinfo or "?" in text or "#" in text:
        raise UsageError("https://HOST[:PORT][/PATH] was expected (http on a loopback address)")
    return text.rstrip("/")


def _bounded(data: bytes, path: str, limit: int) -> bytes:
    if len(data) > limit:
        raise UnavailableError(Code.LEDGER_UNREACHABLE, f"{path}: more than {limit} bytes")
    return data
