"""Records of a channel: each opens once, in its turn, on the other side."""

from collections.abc import Callable

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from hypothesis import given
from hypothesis import strategies as st

from proxy_attestation.codes import Code
from proxy_attestation.ekep.record import CONTENT_MAX, Records
from proxy_attestation.errors import ProxyAttestationError

KEY = bytes(range(16))
LAST = (1 << 40) - 1


def pair(start: int = 0) -> tuple[Records, Records]:
    return Records(KEY, server=False, start=start), Records(KEY, server=True, start=start)


def code_of(work: Callable[[], object]) -> Code:
    with pytest.raises(ProxyAttestationError) as caught:
        work()
    return caught.value.code


def test_both_directions() -> None:
    client, server = pair()

    for content in (b"", b"a call", bytes(CONTENT_MAX)):
        assert server.open(client.seal(content)) == content
        assert client.open(server.seal(content)) == content


def test_the_frame_and_the_nonces_computed_once_more() -> None:
    client, server = pair()
    client.seal(b"the first")

    assert (
        client.seal(b"a call").hex()
        == (
            (4 + 6 + 16).to_bytes(4, "little") + b"\6\0\0\0" + AESGCM(KEY).encrypt(b"\1" + bytes(11), b"a call", None)
        ).hex()
    )
    assert server.seal(b"an answer")[8:] == AESGCM(KEY).encrypt(bytes(11) + b"\x80", b"an answer", None)


def test_what_was_sent_back_does_not_open() -> None:
    client, _ = pair()
    assert code_of(lambda: client.open(client.seal(b"a call"))) is Code.EKEP_RECORD


def test_one_that_came_twice() -> None:
    client, server = pair()
    record = client.seal(b"a call")
    server.open(record)
    assert code_of(lambda: server.open(record)) is Code.EKEP_RECORD


def test_one_that_was_lost() -> None:
    client, server = pair()
    client.seal(b"lost")
    assert code_of(lambda: server.open(client.seal(b"next"))) is Code.EKEP_RECORD


def test_every_changed_byte() -> None:
    for place in range(30):
        client, server = pair()
        record = client.seal(b"a call")
        changed = record[:place] + bytes((record[place] ^ 1,)) + record[place + 1 :]
        assert code_of(lambda server=server, changed=changed: server.open(changed)) is Code.EKEP_RECORD  # type: ignore[misc] # a lambda's defaults have no types


def test_the_last_counter_and_none_after_it() -> None:
    client, server = pair(LAST)
    assert server.open(client.seal(b"the last")) == b"the last"
    assert code_of(lambda: client.seal(b"one more")) is Code.EKEP_RECORD


def test_more_than_fits() -> None:
    assert code_of(lambda: pair()[0].seal(bytes(CONTENT_MAX + 1))) is Code.EKEP_RECORD


@given(st.binary(max_size=100))
def test_any_bytes(data: bytes) -> None:
    assert code_of(lambda: pair()[1].open(data)) is Code.EKEP_RECORD
