"""Where a ledger's files come from: a directory, or an https server. Nothing that comes from there is trusted."""

import ssl
from pathlib import Path
from types import TracebackType
from typing import Final, Protocol, Self

import httpx

from proxy_attestation.codes import Code
from proxy_attestation.errors import UnavailableError, UsageError

_OK: Final = 200
_GONE: Final = frozenset({404, 410})
RETRIES: Final = 2
"""Further tries to connect, of httpx's own."""
SECONDS: Final = 15.0
"""For each step of a request: connect, write, read."""


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


class HttpSource:
    """Reads from a web server. Use it as a context manager.

    Args:
        url: https://HOST[:PORT][/PATH], without the files' own paths. Plain http is taken for loopback addresses alone:
            the files are signed, but whoever stands between could show an old state.
        context: for https.
        server_name: the name that the server must have; None: the URL's host.

    Raises:
        UsageError: for another URL.
    """

    def __init__(self, url: str, context: ssl.SSLContext, server_name: str | None = None) -> None:
        self._base = check_url(url)
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
        """Return a file; see `Source.read`."""
        data = bytearray()
        try:
            with self._client.stream("GET", f"{self._base}/{path}", extensions=self._extensions) as response:
                if response.status_code in _GONE:
                    return None
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
