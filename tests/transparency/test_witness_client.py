"""Asking witnesses: what is sent, what of the answers counts, and that a bad witness costs its own line alone."""

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

import httpx
import pytest
from logs import TestKey, TestLog, witness_key

from proxy_attestation.codes import Code
from proxy_attestation.errors import FormatError, ProxyAttestationError, RefusedError, UnavailableError, UsageError
from proxy_attestation.formats.checkpoint import open_checkpoint
from proxy_attestation.formats.merkle import consistency_proof
from proxy_attestation.formats.signed_note import Note, Signature, parse_note
from proxy_attestation.formats.tlog_policy import Party
from proxy_attestation.transparency.source import check_url
from proxy_attestation.transparency.witness import Witness
from proxy_attestation.transparency.witness_client import WitnessClient, cosign_all
from proxy_attestation.transparency.witness_protocol import SIZE_TYPE, parse_add_checkpoint

KEY: Final = witness_key()
LOG: Final = TestLog().add(b"%d" % number for number in range(20))
FORK: Final = TestLog().add([b"other"]).add(b"%d" % number for number in range(1, 20))
PARTY: Final = Party(KEY.verifier, "https://witness.example.org/")
Handler = Callable[[httpx.Request], httpx.Response]


async def prove(old: int, new: int, log: TestLog = LOG) -> Sequence[bytes]:
    return consistency_proof(log.node, old, new)


def ask(handler: Handler, *notes: bytes, party: Party = PARTY) -> list[Signature]:
    """Have one client ask for each note in turn."""

    async def run() -> list[Signature]:
        async with httpx.AsyncClient(transport=httpx.MockTransport(handler)) as http:
            client = WitnessClient(party, http)
            return [await client.cosign(note, prove) for note in notes]

    return asyncio.run(run())


def serving(witness: Witness, asked: list[int] | None = None) -> Handler:
    def handler(request: httpx.Request) -> httpx.Response:
        body = request.read()
        if asked is not None:
            asked.append(parse_add_checkpoint(body).old)
        answer = witness.answer(request.method, request.url.path.removeprefix("/"), body)
        return httpx.Response(int(answer.status), headers={"content-type": answer.kind}, content=answer.body)

    return handler


@pytest.fixture
def witness(tmp_path: Path) -> Witness:
    return Witness(tmp_path, KEY.verifier, KEY.private.sign, [LOG.key.verifier], lambda: 1234)


def test_a_log_s_life(witness: Witness) -> None:
    asked: list[int] = []
    lines = ask(serving(witness, asked), *(LOG.checkpoint(size) for size in (3, 7, 7, 20)))
    for line, size in zip(lines, (3, 7, 7, 20), strict=True):
        note = parse_note(LOG.checkpoint(size))
        whole = Note(note.text, (*note.signatures, line)).encode()
        assert open_checkpoint(whole, LOG.key.verifier, [KEY.verifier])[2] == {KEY.verifier}
    assert asked == [0, 3, 7, 7]


def test_a_client_that_was_restarted_learns_the_size(witness: Witness) -> None:
    ask(serving(witness), LOG.checkpoint(7))
    asked: list[int] = []
    assert ask(serving(witness, asked), LOG.checkpoint(20))
    assert asked == [0, 7]


def refused(handler: Handler, note: bytes, party: Party = PARTY) -> Code:
    with pytest.raises(RefusedError) as caught:
        ask(handler, note, party=party)
    return caught.value.code


def unreachable(handler: Handler) -> None:
    with pytest.raises(UnavailableError) as caught:
        ask(handler, LOG.checkpoint(7))
    assert caught.value.code is Code.LEDGER_UNREACHABLE


def test_a_log_that_was_rolled_back(witness: Witness) -> None:
    ask(serving(witness), LOG.checkpoint(7))
    assert refused(serving(witness), LOG.checkpoint(6)) is Code.LEDGER_WITNESS_REFUSED


def test_a_log_that_was_forked(witness: Witness) -> None:
    ask(serving(witness), FORK.checkpoint(7))
    assert refused(serving(witness), LOG.checkpoint(7)) is Code.LEDGER_WITNESS_REFUSED
    assert refused(serving(witness), LOG.checkpoint(9)) is Code.LEDGER_WITNESS_REFUSED


def test_a_log_that_is_not_known(witness: Witness) -> None:
    other = TestLog(TestKey("other.example.org")).add([b"a"])
    assert refused(serving(witness), other.checkpoint()) is Code.LEDGER_WITNESS_REFUSED


@pytest.mark.parametrize("status", [400, 403, 404, 409, 422, 301, 204])
def test_statuses_that_refuse(status: int) -> None:
    assert refused(lambda _: httpx.Response(status), LOG.checkpoint(7)) is Code.LEDGER_WITNESS_REFUSED


@pytest.mark.parametrize("status", [429, 500, 502, 503])
def test_statuses_that_may_pass(status: int) -> None:
    unreachable(lambda _: httpx.Response(status))


def test_no_answer() -> None:
    def handler(request: httpx.Request) -> httpx.Response:
        raise httpx.ReadTimeout("late", request=request)

    unreachable(handler)


@pytest.mark.parametrize("body", [b"", b"x", b"x" * 70_000, str(witness_key("other").sign("a\n")).encode()])
def test_answers_that_are_none(body: bytes) -> None:
    unreachable(lambda _: httpx.Response(200, content=body))


def test_a_cosignature_of_something_else() -> None:
    line = str(KEY.sign(parse_note(FORK.checkpoint(7)).text)).encode()
    assert refused(lambda _: httpx.Response(200, content=line), LOG.checkpoint(7)) is Code.NOTE_SIGNATURE


def test_further_lines_are_ignored() -> None:
    text = parse_note(LOG.checkpoint(7)).text
    own = KEY.sign(text)
    body = str(witness_key("other").sign("a\n")) + str(own)
    assert ask(lambda _: httpx.Response(200, content=body.encode()), LOG.checkpoint(7)) == [own]


def test_sizes_without_end() -> None:
    sizes = iter(range(1, 100))
    unreachable(lambda _: httpx.Response(409, headers={"content-type": SIZE_TYPE}, content=b"%d\n" % next(sizes)))


@pytest.mark.parametrize("size", [b"", b"x\n", b"-1\n"])
def test_a_size_that_is_none(size: bytes) -> None:
    unreachable(lambda _: httpx.Response(409, headers={"content-type": SIZE_TYPE}, content=size))


def test_something_that_is_no_checkpoint() -> None:
    with pytest.raises(FormatError):
        ask(lambda _: httpx.Response(200), b"no note")


def test_all_at_once_and_each_by_itself(witness: Witness) -> None:
    hanging = Party(witness_key("hanging").verifier, "https://hanging.example.org")
    refusing = Party(witness_key("refusing").verifier, "https://refusing.example.org")
    good = serving(witness)

    async def handler(request: httpx.Request) -> httpx.Response:
        if request.url.host == "hanging.example.org":
            await asyncio.Event().wait()
        return httpx.Response(403) if request.url.host == "refusing.example.org" else good(request)

    async def run() -> tuple[list[Signature], list[ProxyAttestationError]]:
        async with httpx.AsyncClient(transport=httpx.MockTransport(handler)) as http:
            clients = [WitnessClient(party, http) for party in (hanging, PARTY, refusing)]
            return await cosign_all(clients, LOG.checkpoint(7), prove, 0.2)

    signatures, failures = asyncio.run(run())
    assert [line.name for line in signatures] == [KEY.verifier.name]
    assert [error.code for error in failures] == [Code.LEDGER_UNREACHABLE, Code.LEDGER_WITNESS_REFUSED]


@pytest.mark.parametrize(
    "url", ["https://w.example.org/a/", "http://127.0.0.1:80", "http://localhost", "http://[::1]:1"]
)
def test_urls(url: str) -> None:
    assert check_url(url) == url.rstrip("/")


@pytest.mark.parametrize(
    "url", ["", "w.example.org", "http://w.example.org", "ftp://w", "https://", "https://a@b", "https://a?b", "https://a#b",
     "https://a:x"]
)  # fmt: skip
def test_other_urls(url: str) -> None:
    with pytest.raises(UsageError):
        check_url(url)
