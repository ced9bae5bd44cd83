"""The deny list of a proxy, as a client reads it (`formats.deny_list` has its form).

Reading one, in order:

1. Its bytes: a file, or one GET over TLS. TLS proves nothing here and need not: the list is signed.
2. Its form.
3. The issuing CA that it names, up to a root that is trusted.
4. That CA's signature.
5. It is not from the future.
6. It is not older than what was seen before: neither its number nor its CA, and its CA was not denied meanwhile. A CA
   that was replaced has no say any more, so that a stolen old key cannot give everybody back.

At a handshake the newest list counts that was read. One that is older than five minutes is renewed in the background;
only where none that is young enough is at hand does the handshake wait, for at most five seconds.
"""

import hashlib
import logging
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final

from cryptography import x509

from proxy_attestation.codes import Code
from proxy_attestation.errors import FormatError, PeerError, ProxyAttestationError, UnavailableError
from proxy_attestation.formats.bounds import DENY_LIST_MAX
from proxy_attestation.formats.deny_list import DenyList, decode_deny_list, verify_deny_list
from proxy_attestation.relying_party.path import spki_of, verify_issuing

RENEW_SECONDS: Final = 300.0
"""After which a list is read again."""
RETRY_SECONDS: Final = 30.0
"""After which it is tried again when that failed."""
WAIT_SECONDS: Final = 5.0
"""For which a handshake waits, and a fetch lasts, at most."""
CLOCK_SKEW: Final = 60
_SERIAL_BYTES: Final = 20
_LOG: Final = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Held:
    """A list that was read and verified.

    Attributes:
        content: what it says.
        denied: serial numbers of 20 bytes and digests of keys of 32.
        signer: SHA-256 of the issuing CA's SPKI.
        signer_since: its notBefore, UTC.
    """

    content: DenyList
    denied: frozenset[bytes]
    signer: bytes
    signer_since: datetime


def read_deny_list(data: bytes, roots: Sequence[x509.Certificate], now: datetime, before: Held | None = None) -> Held:
    """Do steps 2 to 6.

    Args:
        data: the list.
        roots: as `path.load_roots` returned them.
        now: UTC.
        before: the list that was seen before.

    Raises:
        PeerError: `certificate.deny_list`, `certificate.deny_list_older`.
    """
    try:
        signed = decode_deny_list(data)  # 2
        issuing = verify_issuing(signed.content.certificates, roots, now)  # 3
        spki = spki_of(issuing)
        content = verify_deny_list(signed, spki)  # 4
    except (FormatError, PeerError) as error:
        raise PeerError(Code.CERTIFICATE_DENY_LIST, error.detail) from error
    if content.this_update > now.timestamp() + CLOCK_SKEW:  # 5
        raise PeerError(Code.CERTIFICATE_DENY_LIST, "a list of the future: compare the clocks")
    signer, since = hashlib.sha256(spki).digest(), issuing.not_valid_before_utc
    if before is not None and (  # 6
        content.sequence < before.content.sequence or since < before.signer_since or signer in before.denied
    ):
        detail = f"list {content.sequence}, after {before.content.sequence}"
        raise PeerError(Code.CERTIFICATE_DENY_LIST_OLDER, detail)
    return Held(content, frozenset(one.what for one in content.denied), signer, since)


class DenyListReader:
    """Keeps the newest list of one source. Thread-safe."""

    def __init__(
        self,
        source: str,
        roots: Sequence[x509.Certificate],
        *,
        max_age: int | None = None,
        read: Callable[[str], bytes] | None = None,
        spawn: Callable[[Callable[[], None]], None] | None = None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """Read nothing yet.

        Args:
            source: an https URL, or a file.
            roots: under one of which the list must be signed.
            max_age: seconds after which a list is too old to accept anybody; None: it warns, once past next-update.
            read: returns the bytes of a source.
            spawn: runs what renews in the background.
            monotonic: seconds, for when to renew.
        """
        self._source, self._roots, self._max_age = source, roots, max_age
        self._read = read or read_source
        self._spawn = spawn or _in_a_thread
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._idle = threading.Event()
        self._idle.set()
        self._held: Held | None = None
        self._failure: ProxyAttestationError | None = None
        self._tried_at: float | None = None
        self._told = False

    def check(self, chain: Sequence[bytes], now: datetime) -> None:
        """Refuse a chain of which anything is denied: the leaf, its key, or its issuing CA.

        Args:
            chain: DER, validated before.
            now: UTC.

        Raises:
            PeerError: `certificate.revoked`; `certificate.deny_list_stale`, where none is young enough;
                `certificate.deny_list` or `certificate.deny_list_older`, where what is served instead of one is not
                the proxy's.
        """
        held = self._newest(now)
        if held is None:
            return
        for der in chain:
            certificate = x509.load_der_x509_certificate(der)
            serial = certificate.serial_number.to_bytes(_SERIAL_BYTES, "big")
            if not held.denied.isdisjoint((serial, hashlib.sha256(spki_of(certificate)).digest())):
                raise PeerError(Code.CERTIFICATE_REVOKED, f"serial {serial.hex()}, list {held.content.sequence}")

    def _newest(self, now: datetime) -> Held | None:
        if self._due():
            self._spawn(lambda: self._renew(now))
        if not self._usable(now):
            self._idle.wait(WAIT_SECONDS)
        with self._lock:
            held, failure = self._held, self._failure
        if self._usable(now):
            return held
        if failure is not None and failure.code is not Code.PROXY_UNREACHABLE:
            raise PeerError(failure.code, failure.detail)
        if self._max_age is not None:
            raise PeerError(Code.CERTIFICATE_DENY_LIST_STALE, f"{self._source}: {failure or 'too old'}")
        with self._lock:
            told, self._told = self._told, True
        if not told:  # once, until it is there again
            _LOG.warning("the deny list %s is too old or not there: %s", self._source, failure or "not renewed")
        return held

    def _usable(self, now: datetime) -> bool:
        held, seconds = self._held, now.timestamp()
        if held is None:
            return False
        if self._max_age is None:
            return seconds <= held.content.next_update
        return seconds - held.content.this_update <= self._max_age

    def _due(self) -> bool:
        """Tell whether to renew now; who is told so does it."""
        with self._lock:
            wait = RENEW_SECONDS if self._failure is None else RETRY_SECONDS
            last, now = self._tried_at, self._monotonic()
            if not self._idle.is_set() or (last is not None and now - last < wait):
                return False
            self._tried_at = now
            self._idle.clear()
            return True

    def _renew(self, now: datetime) -> None:
        held: Held | None = self._held
        failure: ProxyAttestationError | None = None
        try:
            held = read_deny_list(self._read(self._source), self._roots, now, held)
        except ProxyAttestationError as error:
            failure = error
        finally:
            with self._lock:
                self._held, self._failure = held, failure
                self._told = self._told and failure is not None
            self._idle.set()


def read_source(source: str) -> bytes:
    """Return the bytes of a list, at most `DENY_LIST_MAX`: from a file, or by one GET without redirects.

    Raises:
        UnavailableError: `proxy.unreachable`, also for a file that cannot be read.
        PeerError: `certificate.deny_list`, for more bytes.
    """
    if source.startswith("https://"):
        return _fetch(source)
    try:
        with Path(source).open("rb") as file:
            data = file.read(DENY_LIST_MAX + 1)
    except OSError as error:
        raise UnavailableError(Code.PROXY_UNREACHABLE, f"{source}: {error.strerror or error}") from error
    return _bounded(data)


def _bounded(data: bytes) -> bytes:
    if len(data) > DENY_LIST_MAX:
        raise PeerError(Code.CERTIFICATE_DENY_LIST, f"more than {DENY_LIST_MAX} bytes")
    return data


def _fetch(url: str) -> bytes:
    import httpx  # noqa: PLC0415 - only where a list is fetched

    # `proxy` imports the contexts, which import this.
    from proxy_attestation.relying_party.proxy import UnauthenticatedContext  # noqa: PLC0415 - a circle

    deadline, body = time.monotonic() + WAIT_SECONDS, bytearray()
    headers = {"accept-encoding": "identity"}
    try:
        with (
            httpx.Client(verify=UnauthenticatedContext(), trust_env=False, timeout=WAIT_SECONDS) as client,
            client.stream("GET", url, headers=headers) as response,
        ):
            if response.status_code != 200 or response.headers.get("content-encoding", "identity") != "identity":
                raise UnavailableError(Code.PROXY_UNREACHABLE, f"{url}: HTTP status {response.status_code}")
            for part in response.iter_raw():
                body += part
                _bounded(bytes(body))
                if time.monotonic() > deadline:
                    raise UnavailableError(Code.PROXY_UNREACHABLE, f"{url}: not in time")
    except (httpx.HTTPError, httpx.InvalidURL, ValueError) as error:
        raise UnavailableError(Code.PROXY_UNREACHABLE, f"{url}: {error}") from error
    return bytes(body)


def _in_a_thread(work: Callable[[], None]) -> None:
    threading.Thread(target=work, name="deny-list", daemon=True).start()
