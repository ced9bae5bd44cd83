"""Renewal information: the loader asks now and then whether its certificate should be renewed before its time.

The proxy judges again what it has issued. When a platform's TCB falls behind, an issuing CA is replaced or a
certificate is revoked, it answers with a window in the past (RFC 9773 does the same), and the loader renews at once.
Each question is a connection of its own, to the pinned proxy. No answer is no harm: the renewal at 2/3 of the life goes
on as planned, and so does everything when the proxy does not know the question.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final, NamedTuple

from cryptography import x509

from proxy_attestation.errors import ProxyAttestationError
from proxy_attestation.formats.bounds import TIME_MAX
from proxy_attestation.formats.certificate_id import certificate_id
from proxy_attestation.loader.credential import Credential
from proxy_attestation.loader.proxy_client import Timing
from proxy_attestation.v1 import proxy_attestation_pb2 as v1

INTERVAL_S: Final = (60.0, 6 * 3600.0)
"""The shortest and the longest time between two questions, whatever the proxy says."""
_JITTER: Final = 0.2
_SKEW: Final = timedelta(seconds=60)
_CODES_MAX: Final = 16
_CODE_LENGTH_MAX: Final = 64


class Advice(NamedTuple):
    """What the proxy says of one certificate.

    Attributes:
        window: when to renew, UTC, or None for no news.
        codes: why; readable, for people, and bounded.
        retry_after: seconds until the next question, within `INTERVAL_S`.
    """

    window: tuple[datetime, datetime] | None
    codes: tuple[str, ...]
    retry_after: float

    def is_now(self, now: datetime) -> bool:
        """Tell whether the window has passed; the proxy's clock may be ahead of ours by a minute."""
        return self.window is not None and self.window[1] <= now + _SKEW


@dataclass(frozen=True, slots=True)
class Asked:
    """How the last question went.

    Attributes:
        at: when, UTC.
        serial: of the certificate.
        advice: the answer, or None.
        error: why there is none, or None.
        next_at: when the next question is due, UTC.
    """

    at: datetime
    serial: int
    advice: Advice | None
    error: ProxyAttestationError | None
    next_at: datetime


def id_of(credential: Credential) -> str:
    """Return the name of a certificate in questions about its renewal."""
    leaf = x509.load_der_x509_certificate(credential.chain[0])
    key_id = leaf.extensions.get_extension_for_class(x509.AuthorityKeyIdentifier).value.key_identifier
    return certificate_id(key_id or b"", credential.serial)


def read_advice(answer: v1.GetRenewalInformationResponse) -> Advice:
    """Read an answer; a window that is none is no news, and an interval out of bounds is brought into them."""
    window, start, end = None, answer.renewal.start, answer.renewal.end
    if answer.HasField("renewal") and 0 < start <= end <= TIME_MAX:
        window = datetime.fromtimestamp(start, UTC), datetime.fromtimestamp(end, UTC)
    codes = tuple("".join(c for c in code[:_CODE_LENGTH_MAX] if c.isprintable()) for code in answer.codes[:_CODES_MAX])
    return Advice(window, codes, min(max(float(answer.retry_after), INTERVAL_S[0]), INTERVAL_S[1]))


class News:
    """Asks until it is cancelled.

    Args of `__init__`: what asks about one certificate; what gives the certificate in use, or None; clock, sleep and
    chance; what is told that a certificate is to be renewed now, once for each.

    Attributes:
        asked: how the last question went, or None before the first.
    """

    def __init__(
        self,
        ask: Callable[[Credential], Awaitable[Advice]],
        in_use: Callable[[], Credential | None],
        timing: Timing,
        on_early: Callable[[Credential, Advice], None],
    ) -> None:
        self.asked: Asked | None = None
        self._ask = ask
        self._in_use = in_use
        self._timing = timing
        self._on_early = on_early
        self._told: int | None = None

    async def run(self) -> None:
        """Ask for ever; what the proxy cannot answer is asked again, after twice the time."""
        shortest, longest = INTERVAL_S
        interval = shortest
        while True:
            # All loaders of one proxy that started together should not ask together.
            wait = interval * (1 + _JITTER * (2 * self._timing.chance() - 1))
            await self._timing.sleep(min(max(wait, shortest), longest))
            credential = self._in_use()
            if credential is None:
                continue
            advice, error = None, None
            try:
                advice = await self._ask(credential)
                interval = advice.retry_after
            except ProxyAttestationError as failure:
                error, interval = failure, min(2 * interval, longest)
            now = self._timing.clock()
            self.asked = Asked(now, credential.serial, advice, error, now + timedelta(seconds=interval))
            if advice is not None and advice.is_now(now) and self._told != credential.serial:
                self._told = credential.serial
                self._on_early(credential, advice)
