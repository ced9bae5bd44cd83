"""The handshake of EKEP: its six messages, the vectors of its key schedule, and every abort code."""

import hashlib
import hmac
from collections.abc import Callable
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from ekep_sides import SGX, TDX, Drawn, Plain, Sides
from google.protobuf.message import Message
from hypothesis import given
from hypothesis import strategies as st

from proxy_attestation.codes import Code
from proxy_attestation.ekep import keys
from proxy_attestation.ekep.frames import (
    FRAME_MAX,
    MESSAGES,
    AbortCode,
    HandshakeAborted,
    MessageType,
    decode_frame,
    encode_frame,
)
from proxy_attestation.ekep.handshake import KINDS_MAX, STEPS, Handshake, Kind, State
from proxy_attestation.ekep.v1 import ekep_pb2 as pb
from proxy_attestation.errors import InternalError, UnavailableError

Change = Callable[[Any], None]
ORDER = list(MessageType)[1:]


def shake(sides: Sides, change: Change | None = None, which: MessageType | None = None) -> list[bytes]:
    """Let both sides talk until there is nothing to say, changing one message on its way; return all frames."""
    client, server = sides
    seen: list[bytes] = []
    waiting = [(server, frame) for frame in client.start()]
    while waiting:
        receiver, frame = waiting.pop(0)
        kind = MessageType(int.from_bytes(frame[4:8], "little"))
        if change is not None and kind is which:
            message = decode_frame(frame, kind)
            change(message)
            frame = encode_frame(kind, message)
        seen.append(frame)
        other = client if receiver is server else server
        waiting += [(other, answer) for answer in receiver.receive(frame)]
    return seen


def aborted(work: Callable[[], object]) -> HandshakeAborted:
    with pytest.raises(HandshakeAborted) as caught:
        work()
    return caught.value


def test_both_sides_end_with_one_key(sides: Callable[..., Sides]) -> None:
    client, server = pair = sides()

    frames = shake(pair)

    assert [int.from_bytes(frame[4:8], "little") for frame in frames] == [101, 102, 103, 104, 105, 106]
    assert (client.state, server.state) == (State.DONE, State.DONE)
    assert client.record_key == server.record_key
    assert len(client.record_key) == 16


def test_no_two_handshakes_have_one_key() -> None:
    pairs = [(Handshake(Plain(), server=False), Handshake(Plain(), server=True)) for _ in range(2)]
    for pair in pairs:
        shake(pair)

    assert pairs[0][0].record_key != pairs[1][0].record_key


def test_the_transcript_and_the_keys_computed_once_more(sides: Callable[..., Sides]) -> None:
    """Computed here from the frames and the two private keys, with nothing of the package but protobuf."""
    client, server = pair = sides()
    frames = shake(pair)
    private = X25519PrivateKey.from_private_bytes(bytes((2,)) * 32)
    public = decode_frame(frames[3], MessageType.SERVER_ID).dh_public_key  # type: ignore[attr-defined] # a ServerId
    shared = private.exchange(X25519PublicKey.from_public_bytes(public))

    def hkdf(secret: bytes, salt: bytes, info: bytes, length: int) -> bytes:
        key, output, block = hmac.digest(salt, secret, "sha256"), b"", b""
        for number in range(1, length // 32 + 2):
            block = hmac.digest(key, block + info + bytes((number,)), "sha256")
            output += block
        return output[:length]

    material = hkdf(shared, b"EKEP Handshake v1", hashlib.sha256(b"".join(frames[:4])).digest(), 128)
    finishes = [frame[10:] for frame in frames[4:]]
    texts = (b"EKEP Handshake v1: Server Finish", b"EKEP Handshake v1: Client Finish")
    assert finishes == [hmac.digest(material[64:], text, "sha256") for text in texts]
    record = hkdf(material[:64], b"EKEP Record Protocol v1", hashlib.sha256(b"".join(frames)).digest(), 16)
    assert client.record_key == server.record_key == record


def test_the_frames_of_fixed_randomness_stay_what_they_are(sides: Callable[..., Sides]) -> None:
    """A vector of ours: challenges and keys of one byte over and over; every frame of the six, hashed."""
    frames = shake(sides())

    assert frames[0].hex() == (
        "71000000650000000a090a07454b45502076311201011a0101"
        "2a1b0a190802121570726f78792d6174746573746174696f6e2f736778"
        "321b0a190802121570726f78792d6174746573746174696f6e2f736778"
        "3a20" + "01" * 32
    )
    assert hashlib.sha256(b"".join(frames)).hexdigest() == VECTOR


VECTOR = "99d19d127fd72224ee1e27f08899d89ae6603f20066e54994cfc6fe8d40ce87d"


def test_the_published_vector_of_the_key_schedule() -> None:
    """The inputs are Asylo's (RFC 7748's key pair, SHA-256 of "abc"); the outputs were computed with plain HMACs."""
    private = X25519PrivateKey.from_private_bytes(
        bytes.fromhex("77076d0a7318a57d3c16c17251b26645df4c2f87ebc0992ab177fba51db92c2a")
    )
    public = bytes.fromhex("de9edb7d7b7dc1b4d35b61c2ece435373f8343c85b78674dadfc7e146f882b4f")
    info = hashlib.sha256(b"abc").digest()
    shared = private.exchange(X25519PublicKey.from_public_bytes(public))

    secrets = keys.derive_secrets(shared, info)

    # RFC 7748 section 6.1 has the shared secret.
    assert shared.hex() == "4a5d9d5ba4ce2de1728e3bf480350f25e07e21c947d19e3376f09b3c1e161742"
    prk = hmac.digest(b"EKEP Handshake v1", shared, "sha256")
    first = hmac.digest(prk, info + b"\1", "sha256")
    assert secrets.primary[:32] == first
    assert secrets.primary[32:] == hmac.digest(prk, first + info + b"\2", "sha256")
    prk = hmac.digest(b"EKEP Record Protocol v1", secrets.primary, "sha256")
    assert keys.derive_record_key(secrets.primary, info) == hmac.digest(prk, info + b"\1", "sha256")[:16]


def test_what_evidence_is_bound_to() -> None:
    binding = keys.assertion_binding(b"\1" * 32, b"\2" * 32, b"\3" * 32)

    context = b"\x20\0\0\0" + b"\1" * 32 + b"\x20\0\0\0" + b"\2" * 32
    assert binding.report_data == hashlib.sha256(context).digest() + bytes(16) + b"ASYLO EKEP" + bytes(6)
    assert (binding.digest, binding.nonce, binding.spki) == (hashlib.sha256(context).digest(), b"\3" * 32, b"\1" * 32)


def test_the_first_that_both_have_is_chosen(sides: Callable[..., Sides]) -> None:
    client, server = Plain((TDX, SGX), (SGX, TDX)), Plain((TDX,), (SGX,))

    shake(sides(client, server))

    assert (client.verified, server.verified) == ([TDX], [SGX])


def test_several_assertions_are_all_verified(sides: Callable[..., Sides]) -> None:
    client, server = Plain((SGX, TDX), (SGX, TDX)), Plain((SGX, TDX), (SGX, TDX))

    shake(sides(client, server))

    assert (sorted(client.verified), sorted(server.verified)) == ([SGX, TDX], [SGX, TDX])


def test_a_client_whose_evidence_is_bad_costs_the_server_no_quote(sides: Callable[..., Sides]) -> None:
    server = Plain()

    assert aborted(lambda: shake(sides(Plain(mark=b"forged"), server))).abort is AbortCode.BAD_ASSERTION
    assert server.made == 0


# Each of these makes one thing wrong on the way; the receiver ends the handshake with the code.
CHANGES: dict[str, tuple[MessageType, Change, AbortCode]] = {
    "another version": (
        MessageType.CLIENT_PRECOMMIT,
        lambda m: m.available_ekep_versions[0].MergeFrom(pb.EkepVersion(name="EKEP v2")),
        AbortCode.BAD_PROTOCOL_VERSION,
    ),
    "no version": (
        MessageType.CLIENT_PRECOMMIT, lambda m: m.ClearField("available_ekep_versions"), AbortCode.BAD_PROTOCOL_VERSION
    ),
    "another cipher": (
        MessageType.CLIENT_PRECOMMIT, lambda m: m.available_cipher_suites.__setitem__(0, 2),
        AbortCode.BAD_HANDSHAKE_CIPHER,
    ),
    "another record protocol": (
        MessageType.CLIENT_PRECOMMIT, lambda m: m.available_record_protocols.__setitem__(0, 2),
        AbortCode.BAD_RECORD_PROTOCOL,
    ),
    "a short challenge": (
        MessageType.CLIENT_PRECOMMIT, lambda m: setattr(m, "challenge", bytes(31)), AbortCode.PROTOCOL_ERROR
    ),
    "no challenge": (MessageType.CLIENT_PRECOMMIT, lambda m: m.ClearField("challenge"), AbortCode.PROTOCOL_ERROR),
    "no offer": (MessageType.CLIENT_PRECOMMIT, lambda m: m.ClearField("client_offers"), AbortCode.BAD_ASSERTION_TYPE),
    "no request": (
        MessageType.CLIENT_PRECOMMIT, lambda m: m.ClearField("client_requests"), AbortCode.BAD_ASSERTION_TYPE
    ),
    "an offer twice": (
        MessageType.CLIENT_PRECOMMIT, lambda m: m.client_offers.append(m.client_offers[0]), AbortCode.PROTOCOL_ERROR
    ),
    "too many offers": (
        MessageType.CLIENT_PRECOMMIT,
        lambda m: m.client_offers.extend(
            pb.AssertionOffer(description=pb.AssertionDescription(authority_type=str(n))) for n in range(KINDS_MAX)
        ),
        AbortCode.PROTOCOL_ERROR,
    ),
    "a version that was not offered": (
        MessageType.SERVER_PRECOMMIT, lambda m: setattr(m.selected_ekep_version, "name", "EKEP v2"),
        AbortCode.PROTOCOL_ERROR,
    ),
    "a cipher that was not offered": (
        MessageType.SERVER_PRECOMMIT, lambda m: setattr(m, "selected_cipher_suite", 2), AbortCode.PROTOCOL_ERROR
    ),
    "a record protocol that was not offered": (
        MessageType.SERVER_PRECOMMIT, lambda m: setattr(m, "selected_record_protocol", 2), AbortCode.PROTOCOL_ERROR
    ),
    "a short challenge of the server": (
        MessageType.SERVER_PRECOMMIT, lambda m: setattr(m, "challenge", bytes(33)), AbortCode.PROTOCOL_ERROR
    ),
    "a request for what was not offered": (
        MessageType.SERVER_PRECOMMIT,
        lambda m: setattr(m.server_requests[0].description, "authority_type", TDX.authority_type),
        AbortCode.PROTOCOL_ERROR,
    ),
    "a request for nothing": (
        MessageType.SERVER_PRECOMMIT, lambda m: m.ClearField("server_requests"), AbortCode.PROTOCOL_ERROR
    ),
    "an offer that was not asked for": (
        MessageType.SERVER_PRECOMMIT, lambda m: setattr(m.server_offers[0].description, "identity_type", 3),
        AbortCode.PROTOCOL_ERROR,
    ),
    "an offer of nothing": (
        MessageType.SERVER_PRECOMMIT, lambda m: m.ClearField("server_offers"), AbortCode.PROTOCOL_ERROR
    ),
    "a client without assertions": (
        MessageType.CLIENT_ID, lambda m: m.ClearField("assertions"), AbortCode.BAD_ASSERTION
    ),
    "an assertion twice": (
        MessageType.CLIENT_ID, lambda m: m.assertions.append(m.assertions[0]), AbortCode.BAD_ASSERTION
    ),
    "an assertion of another kind": (
        MessageType.CLIENT_ID,
        lambda m: setattr(m.assertions[0].description, "authority_type", TDX.authority_type), AbortCode.BAD_ASSERTION,
    ),
    "an assertion for another key": (
        MessageType.CLIENT_ID, lambda m: setattr(m, "dh_public_key", b"\x09" + bytes(31)), AbortCode.BAD_ASSERTION
    ),
    "a short key": (
        MessageType.CLIENT_ID, lambda m: setattr(m, "dh_public_key", bytes(31)), AbortCode.PROTOCOL_ERROR
    ),
    "an assertion that was changed": (
        MessageType.CLIENT_ID, lambda m: setattr(m.assertions[0], "assertion", b""), AbortCode.BAD_ASSERTION
    ),
    "a server without assertions": (
        MessageType.SERVER_ID, lambda m: m.ClearField("assertions"), AbortCode.BAD_ASSERTION
    ),
    "a server's assertion for another key": (
        MessageType.SERVER_ID, lambda m: setattr(m, "dh_public_key", b"\x09" + bytes(31)), AbortCode.BAD_ASSERTION
    ),
    "a server's authenticator": (
        MessageType.SERVER_FINISH, lambda m: setattr(m, "handshake_authenticator", bytes(32)),
        AbortCode.BAD_AUTHENTICATOR,
    ),
    "no authenticator of the server": (
        MessageType.SERVER_FINISH, lambda m: m.ClearField("handshake_authenticator"), AbortCode.BAD_AUTHENTICATOR
    ),
    "a client's authenticator": (
        MessageType.CLIENT_FINISH, lambda m: setattr(m, "handshake_authenticator", bytes(32)),
        AbortCode.BAD_AUTHENTICATOR,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CHANGES)
def test_one_thing_wrong(name: str, sides: Callable[..., Sides]) -> None:
    which, change, code = CHANGES[name]

    error = aborted(lambda: shake(sides(), change, which))

    assert (error.abort, error.code) == (code, Code(f"ekep.{code.name.lower()}"))


@pytest.mark.parametrize("which", ORDER[:4])
def test_every_changed_message_is_noticed(which: MessageType, sides: Callable[..., Sides]) -> None:
    """Options, which nobody reads, are in the transcript: whoever adds some in between is found out."""

    def change(message: Any) -> None:
        if isinstance(message, pb.ClientPrecommit | pb.ServerPrecommit):
            message.options.data = b"added"
        else:
            message.assertions[0].assertion += b"added"

    assert aborted(lambda: shake(sides(), change, which)).abort in {
        AbortCode.BAD_ASSERTION,
        AbortCode.BAD_AUTHENTICATOR,
    }


def test_a_key_of_small_order(sides: Callable[..., Sides]) -> None:
    client, server = sides(Plain(), Plain())
    (first,) = client.start()
    (answer,) = server.receive(first)
    precommits = hashlib.sha256(first + answer).digest()
    zero = bytes(32)
    binding = keys.assertion_binding(zero, precommits, server._challenge)
    assertion = pb.Assertion(
        description=pb.AssertionDescription(identity_type=2, authority_type=SGX.authority_type),
        assertion=Plain().make(SGX, binding),
    )
    frame = encode_frame(MessageType.CLIENT_ID, pb.ClientId(dh_public_key=zero, assertions=[assertion]))

    assert aborted(lambda: server.receive(frame)).abort is AbortCode.PROTOCOL_ERROR


def test_a_relay_cannot_use_evidence_of_another_handshake(sides: Callable[..., Sides]) -> None:
    client, server = sides()
    frames = shake((client, server))
    victim = Handshake(Plain(), server=True, random=Drawn(64))
    victim.receive(frames[0])

    assert aborted(lambda: victim.receive(frames[2])).abort is AbortCode.BAD_ASSERTION


@pytest.mark.parametrize("failing", ["client", "server"])
def test_what_cannot_be_made_or_verified_now_is_no_verdict(failing: str, sides: Callable[..., Sides]) -> None:
    away = Plain(failure=UnavailableError(Code.ATTESTER_UNAVAILABLE))
    pair = sides(away) if failing == "client" else sides(None, away)

    assert aborted(lambda: shake(pair)).abort is AbortCode.INTERNAL_ERROR


def test_a_bug_is_an_internal_error(sides: Callable[..., Sides], monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(Plain, "verify", broken)

    assert aborted(lambda: shake(sides())).abort is AbortCode.INTERNAL_ERROR


@pytest.mark.parametrize("code", AbortCode)
def test_a_peer_s_abort_ends_it_and_is_not_answered(code: AbortCode, sides: Callable[..., Sides]) -> None:
    client, _ = sides()
    client.start()

    error = aborted(lambda: client.receive(encode_frame(MessageType.ABORT, pb.Abort(code=code, message="why"))))

    assert (error.abort, error.by_peer, error.frame) == (code, True, None)
    assert client.state is State.ENDED


def test_an_abort_with_an_unknown_code(sides: Callable[..., Sides]) -> None:
    client, _ = sides()
    client.start()

    error = aborted(lambda: client.receive(encode_frame(MessageType.ABORT, pb.Abort(code=99))))

    assert (error.abort, error.by_peer) == (AbortCode.PROTOCOL_ERROR, True)


def test_an_abort_of_ours_says_the_code_and_nothing_else(sides: Callable[..., Sides]) -> None:
    error = aborted(lambda: shake(sides(Plain(mark=b"forged"))))

    assert error.frame == encode_frame(MessageType.ABORT, pb.Abort(code=8))


def test_a_wrong_client_finish_is_not_answered(sides: Callable[..., Sides]) -> None:
    which, change, _ = CHANGES["a client's authenticator"]

    assert aborted(lambda: shake(sides(), change, which)).frame is None


@pytest.mark.parametrize("state", list(STEPS))
def test_whatever_else_comes_is_a_protocol_error(state: State) -> None:
    for kind in ORDER:
        if kind is STEPS[state].takes:
            continue
        side = Handshake(Plain(), server=state.name.startswith("CLIENT"))
        side.state = state
        frame = encode_frame(kind, MESSAGES[kind]())
        assert aborted(lambda side=side, frame=frame: side.receive(frame)).abort is AbortCode.PROTOCOL_ERROR  # type: ignore[misc] # a lambda's defaults have no types
        assert side.state is State.ENDED


@pytest.mark.parametrize("state", [State.START, State.DONE, State.ENDED])
def test_nothing_is_taken_before_and_after(state: State) -> None:
    side = Handshake(Plain(), server=False)
    side.state = state
    frame = encode_frame(MessageType.SERVER_PRECOMMIT, pb.ServerPrecommit())

    assert aborted(lambda: side.receive(frame)).abort is AbortCode.PROTOCOL_ERROR


def test_a_server_does_not_take_the_server_s_part() -> None:
    side = Handshake(Plain(), server=True)
    side.state = State.SERVER_ID

    assert aborted(lambda: side.receive(b"")).abort is AbortCode.PROTOCOL_ERROR


@pytest.mark.parametrize("server", [True, False])
def test_it_is_begun_once_and_by_the_client(server: bool) -> None:
    side = Handshake(Plain(), server=server)
    if not server:
        side.start()
    with pytest.raises(InternalError):
        side.start()


@pytest.mark.parametrize(
    ("frame", "code"),
    [
        (b"", AbortCode.BAD_MESSAGE),
        (bytes(7), AbortCode.BAD_MESSAGE),
        (bytes.fromhex("0500000065000000"), AbortCode.BAD_MESSAGE),
        (bytes.fromhex("040000006500000000"), AbortCode.BAD_MESSAGE),
        (bytes.fromhex("0400000000000000"), AbortCode.PROTOCOL_ERROR),
        (bytes.fromhex("040000006b000000"), AbortCode.PROTOCOL_ERROR),
        (bytes.fromhex("0500000065000000") + b"\xff", AbortCode.DESERIALIZATION_FAILED),
        ((FRAME_MAX - 3).to_bytes(4, "little") + b"\x65\0\0\0" + bytes(FRAME_MAX - 7), AbortCode.BAD_MESSAGE),
    ],
)
def test_frames_that_are_none(frame: bytes, code: AbortCode) -> None:
    assert aborted(lambda: Handshake(Plain(), server=True).receive(frame)).abort is code


@given(st.binary(max_size=300))
def test_any_bytes_end_it_or_go_on(data: bytes) -> None:
    for kind in ORDER:
        try:
            message = decode_frame((len(data) + 4).to_bytes(4, "little") + kind.to_bytes(4, "little") + data, kind)
        except HandshakeAborted as error:
            assert error.abort is AbortCode.DESERIALIZATION_FAILED
        else:
            assert isinstance(message, Message)


@given(st.binary(max_size=300))
def test_any_first_message_is_judged(data: bytes) -> None:
    frame = (len(data) + 4).to_bytes(4, "little") + b"\x65\0\0\0" + data
    side = Handshake(Plain(), server=True)
    try:
        side.receive(frame)
    except HandshakeAborted:
        assert side.state is State.ENDED
    else:
        assert side.state is State.CLIENT_ID


def test_every_abort_code_has_one_of_ours() -> None:
    assert {Code(f"ekep.{code.name.lower()}") for code in AbortCode} <= set(Code)
    assert Kind(2, "x") == (2, "x")
