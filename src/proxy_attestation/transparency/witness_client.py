"""Asks witnesses for cosignatures (C2SP tlog-witness): the client's side, for what publishes a log's checkpoints."""

import asyncio
import ssl
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

import httpx

from proxy_attestation.codes import Code
from proxy_attestation.errors import FormatError, ProxyAttestationError, RefusedError, UnavailableError
from proxy_attestation.formats.bounds import NOTE_MAX
from proxy_attestation.formats.checkpoint import parse_checkpoint
from proxy_attestation.formats.signed_note import Signature, parse_note, parse_signatures
from proxy_attestation.formats.tlog_policy import Party
from proxy_attestation.transparency.source import RETRIES, check_url
from proxy_attestation.transparency.witness_protocol import ADD_CHECKPOINT, SIZE_TYPE, AddCheckpoint, parse_size

Prove = Callable[[int, int], Awaitable[Sequence[bytes]]]
"""Returns the consistency proof between two sizes of the log's own tree."""
_OK: Final = 200
_CONFLICT: Final = 409
_TOO_MANY: Final = 429
_SERVER_ERROR: Final = 500
_ROUNDS: Final = 3
"""Requests for one checkpoint: a guess at what the witness has seen, and after its answer a proof from there."""


def http_client(context: ssl.SSLContext, seconds: float) -> httpx.AsyncClient:
    """Return what witnesses are asked with. Close it.

    Args:
        context: for https.
        seconds: for each step of a request; connecting is tried three times.
    """
    return httpx.AsyncClient(
        transport=httpx.AsyncHTTPTransport(verify=context, trust_env=False, retries=RETRIES),
        follow_redirects=False,
        timeout=seconds,
        headers={"user-agent": "proxy-attestation", "accept-encoding": "identity"},
    )


class WitnessClient:
    """Asks one witness. It remembers the size that the witness has seen, so that later requests take one round.

    Args:
        witness: its key and the URL of its submissions.
        http: shared by all.

    Raises:
        UsageError: for a URL that `source.check_url` refuses.
    """

    def __init__(self, witness: Party, http: httpx.AsyncClient) -> None:
        self.witness = witness
        self._url = f"{check_url(witness.url)}/{ADD_CHECKPOINT}"
        self._http = http
        self._size = 0

    async def cosign(self, checkpoint: bytes, prove: Prove) -> Signature:
        """Return the witness's cosignature on a signed checkpoint.

        Args:
            checkpoint: the note.
            prove: makes the proof from what the witness has seen.

        Raises:
            FormatError: `note.malformed`, `ledger.malformed`, for something that is no checkpoint.
            RefusedError: `ledger.witness_refused`: it does not know the log, has seen a larger tree or another one, or
                does not take the proof; `note.signature`, for a cosignature that is none.
            UnavailableError: `ledger.unreachable`: no answer, or one that is not of this protocol.
        """
        note = parse_note(checkpoint)
        size = parse_checkpoint(note.text).size
        for _ in range(_ROUNDS):
            old = self._size
            if old > size:
                raise _refused(self.witness, f"it has seen a tree of {old}, larger than ours of {size}")
            proof = tuple(await prove(old, size)) if 0 < old < size else ()
            answer = await self._post(AddCheckpoint(old, proof, checkpoint).encode())
            if answer.status_code == _OK:
                signature = self._own(answer.content, note.text)
                self._size = size
                return signature
            if answer.status_code != _CONFLICT or answer.headers.get("content-type", "") != SIZE_TYPE:
                raise _refused(self.witness, f"HTTP status {answer.status_code}")
            try:
                self._size = parse_size(answer.content)
            except FormatError as error:
                raise _unreachable(self.witness, str(error)) from error
            if self._size == old:
                raise _refused(self.witness, f"it has seen another tree of {old} entries")
        raise _unreachable(self.witness, "it changes its mind about what it has seen")

    async def _post(self, body: bytes) -> httpx.Response:
        data = bytearray()
        try:
            async with self._http.stream("POST", self._url, content=body) as answer:
                if "content-encoding" in answer.headers:
                    raise _unreachable(self.witness, "a compressed answer that was not asked for")
                async for part in answer.aiter_bytes():
                    data += part
                    if len(data) > NOTE_MAX:
                        raise _unreachable(self.witness, f"an answer of more than {NOTE_MAX} bytes")
        except (httpx.HTTPError, OSError) as error:
            raise _unreachable(self.witness, f"{type(error).__name__}: {error}") from error
        if answer.status_code >= _SERVER_ERROR or answer.status_code == _TOO_MANY:
            raise _unreachable(self.witness, f"HTTP status {answer.status_code}")
        return httpx.Response(answer.status_code, headers=answer.headers, content=bytes(data))

    def _own(self, body: bytes, text: str) -> Signature:
        key = self.witness.key
        try:
            lines = parse_signatures(body.decode("utf-8", "replace"))
        except FormatError as error:
            raise _unreachable(self.witness, str(error)) from error
        for line in lines:
            if (line.name, line.key_id) == (key.name, key.key_id):
                key.check(text, line.signature)
                return line
        raise _unreachable(self.witness, "its answer is not signed by its key")


async def cosign_all(
    clients: Sequence[WitnessClient], checkpoint: bytes, prove: Prove, seconds: float
) -> tuple[list[Signature], list[ProxyAttestationError]]:
    """Ask all witnesses at once; return what came within so many seconds, and why the others gave nothing."""

    async def one(client: WitnessClient) -> Signature | ProxyAttestationError:
        try:
            async with asyncio.timeout(seconds):
                return await client.cosign(checkpoint, prove)
        except TimeoutError:
            return _unreachable(client.witness, f"no answer within {seconds:g} s")
        except ProxyAttestationError as error:
            return error

    answers = await asyncio.gather(*map(one, clients))
    return [a for a in answers if isinstance(a, Signature)], [a for a in answers if not isinstance(a, Signature)]


def _refused(witness: Party, detail: str) -> RefusedError:
    return RefusedError(Code.LEDGER_WITNESS_REFUSED, f"{witness.key.name}: {detail}")


def _unreachable(witness: Party, detail: str) -> UnavailableError:
    return UnavailableError(Code.LEDGER_UNREACHABLE, f"{witness.key.name}: {detail}")
