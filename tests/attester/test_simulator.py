"""The simulator's attester against a socket that answers as it is told."""

import contextlib
import os
import socket
import threading
from collections.abc import Callable, Iterator
from typing import Final

import cbor2
import pytest
from bindings import binding_of
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy_attestation.attester.simulator import REPLY_MAX, SimulatorAttester
from proxy_attestation.codes import Code
from proxy_attestation.errors import InternalError, UnavailableError
from proxy_attestation.formats.request import KeyOrigin
from proxy_attestation.formats.tee import Tee

DATA: Final = bytes(range(64))


class Peer:
    """The other end; `answer` makes bytes out of a request's body."""

    def __init__(self, answer: Callable[[bytes], bytes], timeout: float) -> None:
        ours, theirs = socket.socketpair()
        self.requests: list[bytes] = []
        self.attester = SimulatorAttester(theirs.detach(), Tee.SGX, timeout)
        self._socket = ours
        self._answer = answer
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self) -> None:
        # The attester hangs up on an answer that it does not want.
        with self._socket, contextlib.suppress(OSError):
            while prefix := self._socket.recv(4, socket.MSG_WAITALL):
                body = self._socket.recv(int.from_bytes(prefix, "big"), socket.MSG_WAITALL)
                self.requests.append(body)
                answer = self._answer(body)
                if answer == b"hang up":
                    return
                self._socket.sendall(answer)

    def close(self) -> None:
        self.attester.close()
        self._thread.join()


Connect = Callable[..., Peer]


@pytest.fixture
def connect() -> Iterator[Connect]:
    peers: list[Peer] = []

    def make(answer: Callable[[bytes], bytes], timeout: float = 10.0) -> Peer:
        peers.append(Peer(answer, timeout))
        return peers[-1]

    yield make
    for peer in peers:
        peer.close()


def framed(value: object) -> bytes:
    body = cbor2.dumps(value)
    return len(body).to_bytes(4, "big") + body


def unavailable(attester: SimulatorAttester) -> None:
    with pytest.raises(UnavailableError) as refused:
        attester.attest(binding_of(DATA))
    assert refused.value.code is Code.ATTESTER_UNAVAILABLE


def test_report_data_goes_out_and_a_quote_comes_back(connect: Connect) -> None:
    peer = connect(lambda body: framed({1: b"quote over " + cbor2.loads(body)[1]}))
    for data in (DATA, DATA[::-1]):
        evidence = peer.attester.attest(binding_of(data))
        assert evidence.evidence == b"quote over " + data
        assert evidence.tee is Tee.SGX
    assert peer.attester.key_origin is KeyOrigin.TEE
    assert peer.requests == [cbor2.dumps({1: DATA}), cbor2.dumps({1: DATA[::-1]})]


@pytest.mark.parametrize(
    "answer",
    [
        b"hang up",
        b"\0\0\0\0",
        (REPLY_MAX + 1).to_bytes(4, "big"),
        framed({}),
        framed({1: b""}),
        framed({1: "text"}),
        framed({1: b"quote", 2: "more"}),
        framed({2: ""}),
        framed({2: "x" * 2000}),
        framed([b"quote"]),
        framed({1: bytes(REPLY_MAX - 6)}),
        b"\0\0\0\2\xff\xff",
    ],
)
def test_anything_but_a_quote_is_unavailable_and_stays_so(connect: Connect, answer: bytes) -> None:
    peer = connect(lambda _: answer)
    unavailable(peer.attester)
    unavailable(peer.attester)
    assert len(peer.requests) == 1


def test_a_reason_for_no_quote_is_told_and_the_next_call_may_succeed(connect: Connect) -> None:
    answers = [framed({2: "not \x1b[2J now"}), framed({1: b"quote"})]
    peer = connect(lambda _: answers.pop(0))
    with pytest.raises(UnavailableError) as refused:
        peer.attester.attest(binding_of(DATA))
    assert refused.value.code is Code.ATTESTER_UNAVAILABLE
    assert refused.value.detail.isprintable()
    assert peer.attester.attest(binding_of(DATA)).evidence == b"quote"


def test_a_simulator_that_does_not_answer_is_unavailable(connect: Connect) -> None:
    peer = connect(lambda _: b"\0\0", timeout=0.05)
    unavailable(peer.attester)


@pytest.mark.parametrize("length", [0, 63, 65])
def test_other_lengths_are_a_bug(connect: Connect, length: int) -> None:
    peer = connect(lambda _: framed({1: b"quote"}))
    with pytest.raises(InternalError):
        peer.attester.attest(binding_of(bytes(length)))
    assert peer.requests == []


def test_the_descriptor_is_not_inherited_further() -> None:
    ours, theirs = socket.socketpair()
    descriptor = theirs.detach()
    os.set_inheritable(descriptor, True)
    attester = SimulatorAttester(descriptor, Tee.TDX)
    assert os.get_inheritable(descriptor) is False
    assert attester.tee is Tee.TDX
    attester.close()
    attester.close()
    ours.close()


def test_descriptors_that_are_no_stream_socket() -> None:
    reading, writing = os.pipe()
    datagram = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    absent = os.dup(reading)
    os.close(absent)
    for descriptor in (reading, datagram.detach(), absent):
        with pytest.raises(UnavailableError) as refused:
            SimulatorAttester(descriptor, Tee.SGX)
        assert refused.value.code is Code.ATTESTER_UNAVAILABLE
    os.close(reading)
    os.close(writing)


@given(st.binary(max_size=60))
@settings(deadline=None, max_examples=60)
def test_any_answer_is_a_quote_or_unavailable(body: bytes) -> None:
    peer = Peer(lambda _: len(body).to_bytes(4, "big") + body, 5.0)
    try:
        assert peer.attester.attest(binding_of(DATA)).evidence
    except UnavailableError as error:
        assert error.code is Code.ATTESTER_UNAVAILABLE
    finally:
        peer.close()
