"""One bounded HTTP getter for vendors' services, over httpx. Only the `endorsements` commands load it.

What it promises for each call, whatever the other side does:

- At most `limit` bytes of body are held. A compressed body is not asked for and refused unread, so that bytes counted
  are bytes held.
- Every try ends after `HttpLimits.total` seconds: name resolution, connection, TLS, headers and body together.
- 429, 5xx and transport failures are tried again, with full jitter, as long as tries and time last. Retry-After is
  obeyed; where it asks for more than `HttpLimits.retry_after` the call ends, since coming back sooner would be rude.
- Requests to one host start at least `HttpLimits.interval` seconds apart.
- No redirect is followed, no proxy, netrc or other setting is taken from the environment, no cookie is kept.

Nothing here is trusted: what comes back is bytes that `pcs` and `kds` verify to a pinned root.
"""

import asyncio
import random
import ssl
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import httpx

from proxy_attestation.codes import Code
from proxy_attestation.errors import ConfigurationError, UnavailableError, UsageError

USER_AGENT: Final = "proxy-attestation"
_OK: Final = 200
_TOO_MANY: Final = 429
_SERVER_ERROR: Final = 500
_UNKNOWN: Final = frozenset({404, 410, 461, 462})
"""Intel: 404 no such platform, 410 evaluation number withdrawn; PCCS: 461 and 462, platform or TCB not cached."""


@dataclass(frozen=True, slots=True)
class HttpLimits:
    """How long and how often. Seconds, but for `attempts`.

    Attributes:
        connect: to connect, TLS included.
        read: without one byte.
        total: for one try, everything included.
        attempts: tries of one call.
        budget: for all tries of one call and the waits between them.
        first_wait: the longest wait after the first failure; it doubles with each further one.
        most_wait: the longest wait after any.
        retry_after: the longest Retry-After that is obeyed.
        interval: between the starts of two requests to one host.
    """

    connect: float = 10.0
    read: float = 15.0
    total: float = 60.0
    attempts: int = 5
    budget: float = 300.0
    first_wait: float = 1.0
    most_wait: float = 30.0
    retry_after: float = 120.0
    interval: float = 0.25


@dataclass(frozen=True, slots=True)
class Answer:
    """A complete answer with status 200.

    Attributes:
        url: what was asked, for messages.
        headers: by name in lower case.
        body: at most the limit that was given.
    """

    url: str
    headers: Mapping[str, str]
    body: bytes


class _Again(Exception):  # noqa: N818 - not an error: the loop's way to hear of a failure that may pass
    """A try failed in a way that may pass. `wait` is what the server asked for, in seconds, or None."""

    def __init__(self, reason: str, wait: float | None = None) -> None:
        super().__init__(reason)
        self.wait = wait


def utc_now() -> datetime:
    """Return the time, UTC."""
    return datetime.now(UTC)


def base_url(text: str) -> str:
    """Return a base URL without its final slash: http or https, a host, perhaps a port and a path, nothing else.

    Plain http is for a PCCS on the same machine: what is fetched is signed, but anyone between can withhold it.

    Raises:
        UsageError: for anything else.
    """
    try:
        url = httpx.URL(text)
    except (httpx.InvalidURL, ValueError) as error:
        raise UsageError(f"{text!r} is not a URL: {error}") from error
    port = 443 if url.port is None else url.port
    good = url.scheme in ("http", "https") and url.host and not url.userinfo and 0 < port <= 0xFFFF
    if not good or "?" in text or "#" in text:
        raise UsageError(f"{text!r}: http(s)://HOST[:PORT][/PATH] was expected")
    return text.rstrip("/")


def tls_context(ca_file: Path | None) -> ssl.SSLContext:
    """Return a context that trusts the system's roots and, for a PCCS of one's own, the certificates (PEM) of a file.

    Raises:
        ConfigurationError: `configuration.malformed`, for a file that holds none.
    """
    context = ssl.create_default_context()
    try:
        if ca_file is not None:
            context.load_verify_locations(ca_file)
    except (OSError, ValueError) as error:
        raise ConfigurationError(Code.CONFIGURATION_MALFORMED, f"{ca_file}: {error}") from error
    return context


class Getter:
    """Gets URLs within bounds. An asynchronous context manager; use it in one event loop.

    Args:
        limits: see `HttpLimits`.
        context: for https; None: the system's roots.
        proxy: `http://HOST:PORT` of a forward proxy, as the operator configured it; None: a direct connection.
        clock: seconds that never go back.
        now: the time, for dates in Retry-After.
        sleep: waits.
        chance: a random number, 0 to 1.
        deadline: makes what ends a try with TimeoutError after so many seconds.
    """

    def __init__(
        self,
        limits: HttpLimits | None = None,
        *,
        context: ssl.SSLContext | None = None,
        proxy: str | None = None,
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], datetime] = utc_now,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        chance: Callable[[], float] = random.random,
        deadline: Callable[[float], AbstractAsyncContextManager[object]] = asyncio.timeout,
    ) -> None:
        self._limits = limits if limits is not None else HttpLimits()
        self._clock, self._now, self._sleep, self._chance = clock, now, sleep, chance
        self._deadline = deadline
        self._next_start: dict[str, float] = {}
        self._client = httpx.AsyncClient(
            verify=context if context is not None else tls_context(None),
            proxy=proxy,
            trust_env=False,
            follow_redirects=False,
            timeout=httpx.Timeout(self._limits.read, connect=self._limits.connect),
            headers={"user-agent": USER_AGENT, "accept-encoding": "identity"},
        )

    async def __aenter__(self) -> Self:
        """Open the connection pool."""
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close every connection."""
        await self._client.aclose()

    async def get(
        self,
        url: str,
        *,
        limit: int,
        query: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        """Get one URL.

        Args:
            url: under a base URL that the operator configured.
            limit: the largest body, in bytes.
            query: parameters.
            headers: more headers; their values never stand in an error.

        Raises:
            UnavailableError: `endorsements.unavailable`, when no answer came within tries and time;
                `endorsements.unknown`, for 404 and its like; `endorsements.source`, for an answer that such a service
                does not give: a redirect, another status, a compressed or too large body, an untrusted certificate.
        """
        target = httpx.URL(url, params=dict(query)) if query else httpx.URL(url)
        end = self._clock() + self._limits.budget
        reason, failures = "no time to try", 0
        while failures < self._limits.attempts:
            await self._wait_turn(target.netloc.decode("ascii"))
            if self._clock() >= end:
                break
            try:
                return await self._try(target, limit, headers or {})
            except _Again as failure:
                failures += 1
                reason = str(failure)
                wait = self._pause(failures, failure.wait)
            if wait is None or failures == self._limits.attempts or self._clock() + wait >= end:
                break
            await self._sleep(wait)
        raise UnavailableError(Code.ENDORSEMENTS_UNAVAILABLE, f"{_shown(target)}: {reason} ({failures} tries)")

    async def _wait_turn(self, host: str) -> None:
        start = max(self._clock(), self._next_start.get(host, 0.0))
        self._next_start[host] = start + self._limits.interval
        wait = start - self._clock()
        if wait > 0:
            await self._sleep(wait)

    def _pause(self, failures: int, asked: float | None) -> float | None:
        """Return the seconds to wait, or None where the server asked for more than we are willing to wait."""
        jitter = self._chance() * min(self._limits.most_wait, self._limits.first_wait * 2.0 ** (failures - 1))
        if asked is None:
            return jitter
        # Not before the time it named, and not all of its clients at that very moment.
        return None if asked > self._limits.retry_after else asked + jitter

    async def _try(self, target: httpx.URL, limit: int, headers: Mapping[str, str]) -> Answer:
        self._client.cookies.clear()
        try:
            async with (
                self._deadline(self._limits.total),
                self._client.stream("GET", target, headers=dict(headers)) as response,
            ):
                self._check(response, target, limit)
                body = bytearray()
                async for part in response.aiter_raw():
                    body += part
                    if len(body) > limit:
                        raise _source(target, f"a body of more than {limit} bytes")
                return Answer(_shown(target), dict(response.headers), bytes(body))
        except TimeoutError as error:
            raise _Again(f"no complete answer within {self._limits.total:g} s") from error
        except (httpx.TransportError, OSError) as error:
            if _untrusted(error):
                raise _source(target, f"its TLS certificate is not trusted: {error}") from error
            raise _Again(f"{type(error).__name__}: {error}" if str(error) else type(error).__name__) from error

    def _check(self, response: httpx.Response, target: httpx.URL, limit: int) -> None:
        status = response.status_code
        if status == _TOO_MANY or status >= _SERVER_ERROR:
            raise _Again(f"HTTP status {status}", retry_after(response.headers.get("retry-after"), self._now()))
        if status in _UNKNOWN:
            raise UnavailableError(Code.ENDORSEMENTS_UNKNOWN, f"{_shown(target)}: HTTP status {status}")
        if status != _OK:
            raise _source(target, f"HTTP status {status}")
        if response.headers.get("content-encoding", "identity") != "identity":
            raise _source(target, "a compressed answer that was not asked for")
        length = response.headers.get("content-length", "0")
        if len(length) > len(str(limit)) or (length.isdecimal() and int(length) > limit):
            raise _source(target, f"a body of more than {limit} bytes")


def retry_after(text: str | None, now: datetime) -> float | None:
    """Read Retry-After (RFC 9110 section 10.2.3): seconds or a date. What cannot be read is as if absent."""
    if text is None:
        return None
    if text.isascii() and text.isdecimal():
        return float(text[:9])
    try:
        return max(0.0, (parsedate_to_datetime(text).astimezone(UTC) - now).total_seconds())
    except (ValueError, TypeError, OverflowError, IndexError):
        return None


def _shown(target: httpx.URL) -> str:
    """Return a URL for messages, without its query: that can hold what names a machine (encrypted PPID)."""
    return str(target.copy_with(query=None))


def _source(target: httpx.URL, detail: str) -> UnavailableError:
    return UnavailableError(Code.ENDORSEMENTS_SOURCE, f"{_shown(target)}: {detail}")


def _untrusted(error: BaseException | None) -> bool:
    """Tell whether a failure came from a certificate that the TLS context does not trust."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        if isinstance(error, ssl.SSLCertVerificationError):
            return True
        seen.add(id(error))
        error = error.__cause__ or error.__context__
    return False
