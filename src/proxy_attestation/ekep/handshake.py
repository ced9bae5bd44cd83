"""The handshake of both sides as one table, without input or output of its own.

=======  ====================  ==================  ======================================  ==================
side     state                 takes               then                                    becomes
=======  ====================  ==================  ======================================  ==================
client   START                 (nothing)           sends CLIENT_PRECOMMIT                  SERVER_PRECOMMIT
client   SERVER_PRECOMMIT      SERVER_PRECOMMIT    makes its assertions, sends CLIENT_ID   SERVER_ID
client   SERVER_ID             SERVER_ID           verifies the server's                   SERVER_FINISH
client   SERVER_FINISH         SERVER_FINISH       sends CLIENT_FINISH                     DONE
server   CLIENT_PRECOMMIT      CLIENT_PRECOMMIT    sends SERVER_PRECOMMIT                  CLIENT_ID
server   CLIENT_ID             CLIENT_ID           verifies the client's, makes its own,   CLIENT_FINISH
                                                   sends SERVER_ID, SERVER_FINISH
server   CLIENT_FINISH         CLIENT_FINISH                                               DONE
=======  ====================  ==================  ======================================  ==================

Any state takes an ABORT, and ends. Whatever else comes is PROTOCOL_ERROR. The server spends no quote on a client whose
own evidence it has not verified. After DONE or an error a handshake takes nothing more. Calls of `Assertions` may
block: an event loop makes `receive` in a thread.
"""

import hmac
import secrets
from collections.abc import Callable, Sequence
from enum import Enum, auto
from hashlib import sha256
from typing import Any, Final, NamedTuple, Protocol

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from google.protobuf.message import Message

from proxy_attestation.ekep.frames import AbortCode, HandshakeAborted, MessageType, abort, decode_frame, encode_frame
from proxy_attestation.ekep.keys import (
    CLIENT_FINISH,
    DH_BYTES,
    SERVER_FINISH,
    Secrets,
    assertion_binding,
    authenticator,
    derive_record_key,
    derive_secrets,
)
from proxy_attestation.ekep.v1 import ekep_pb2 as pb
from proxy_attestation.errors import InternalError, ProxyAttestationError, UnavailableError
from proxy_attestation.formats.binder import Binding

VERSION: Final = "EKEP v1"
CURVE25519_SHA256: Final = 1
ALTSRP_AES128_GCM: Final = 1
CHALLENGE_BYTES: Final = 32
CODE_IDENTITY: Final = 2
KINDS_MAX: Final = 16
"""Assertions that a side may offer, ask for or make."""


class Kind(NamedTuple):
    """A kind of assertion.

    Attributes:
        identity_type: Asylo's number; 2 is a code identity.
        authority_type: who makes and verifies it.
    """

    identity_type: int
    authority_type: str


class Assertions(Protocol):
    """What a side can say of itself, and what it believes of the other."""

    @property
    def offers(self) -> tuple[Kind, ...]:
        """What it can make."""

    @property
    def requests(self) -> tuple[Kind, ...]:
        """What it can verify and accepts."""

    def make(self, kind: Kind, binding: Binding) -> bytes:
        """Make an assertion that carries a binding.

        Raises:
            ProxyAttestationError: it cannot be made now.
        """

    def verify(self, kind: Kind, assertion: bytes, binding: Binding) -> None:
        """Verify the other side's assertion; keep of it what is wanted.

        Raises:
            UnavailableError: it cannot be verified now.
            ProxyAttestationError: a verdict.
        """


class State(Enum):
    """What is awaited."""

    START = auto()
    CLIENT_PRECOMMIT = auto()
    SERVER_PRECOMMIT = auto()
    CLIENT_ID = auto()
    SERVER_ID = auto()
    SERVER_FINISH = auto()
    CLIENT_FINISH = auto()
    DONE = auto()
    ENDED = auto()


class _Step(NamedTuple):
    """A row of the table: what the state takes, which function takes it, and what the state becomes."""

    takes: MessageType
    work: Callable[["Handshake", Any], list[bytes]]
    becomes: State


class Handshake:
    """One handshake, of one side.

    Attributes:
        state: what is awaited.
        record_key: 16 bytes, once the state is DONE.
    """

    def __init__(
        self, assertions: Assertions, *, server: bool, random: Callable[[int], bytes] = secrets.token_bytes
    ) -> None:
        """Begin one.

        Args:
            assertions: of this side.
            server: which side this is.
            random: gives that many random bytes.
        """
        self.state = State.CLIENT_PRECOMMIT if server else State.START
        self.record_key = b""
        self._server = server
        self._assertions = assertions
        self._challenge = random(CHALLENGE_BYTES)
        self._key = X25519PrivateKey.from_private_bytes(random(DH_BYTES))
        self._public = self._key.public_key().public_bytes_raw()
        self._transcript = sha256()
        self._own: tuple[Kind, ...] = ()
        self._peers: tuple[Kind, ...] = ()
        self._peer_challenge = b""
        self._secrets = Secrets(b"", b"")

    def start(self) -> list[bytes]:
        """Return the client's first frame.

        Raises:
            InternalError: when it was called before, or on the server's side.
        """
        if self.state is not State.START:
            raise InternalError(f"a handshake was begun in state {self.state.name}")
        self.state = State.SERVER_PRECOMMIT
        offers, requests = self._assertions.offers, self._assertions.requests
        message = pb.ClientPrecommit(
            available_ekep_versions=[pb.EkepVersion(name=VERSION)],
            available_cipher_suites=[CURVE25519_SHA256],
            available_record_protocols=[ALTSRP_AES128_GCM],
            client_offers=[pb.AssertionOffer(description=_description(kind)) for kind in offers],
            client_requests=[pb.AssertionRequest(description=_description(kind)) for kind in requests],
            challenge=self._challenge,
        )
        return [self._send(MessageType.CLIENT_PRECOMMIT, message)]

    def receive(self, frame: bytes) -> list[bytes]:
        """Take the peer's next frame; return the frames that are to be sent.

        Raises:
            HandshakeAborted: it has ended; its `frame` is to be sent before closing, where there is one.
        """
        step = STEPS.get(self.state)
        if step is None or (self.state in _OF_SERVER) is not self._server:
            self.state = State.ENDED
            abort(AbortCode.PROTOCOL_ERROR, "a frame when none was awaited")
        try:
            message = decode_frame(frame, step.takes)
            if step.takes is not MessageType.CLIENT_ID and step.takes is not MessageType.SERVER_ID:
                self._transcript.update(frame)
                answers = step.work(self, message)
            else:
                answers = self._take_id(message, frame, step)
        except HandshakeAborted:
            self.state = State.ENDED
            raise
        except Exception as error:
            # A bug of ours, or of a library: the peer is told that much, and nothing goes on.
            self.state = State.ENDED
            raise HandshakeAborted(AbortCode.INTERNAL_ERROR, f"{type(error).__name__}: {error}") from error
        self.state = step.becomes
        return answers

    def _take_id(self, message: Any, frame: bytes, step: _Step) -> list[bytes]:
        # Assertions are bound to the transcript up to the frame before theirs.
        self._verify(message)
        self._transcript.update(frame)
        return step.work(self, message)

    def _send(self, kind: MessageType, message: Message) -> bytes:
        frame = encode_frame(kind, message)
        self._transcript.update(frame)
        return frame

    def _on_client_precommit(self, message: pb.ClientPrecommit) -> list[bytes]:
        if VERSION not in [version.name for version in message.available_ekep_versions]:
            abort(AbortCode.BAD_PROTOCOL_VERSION, "no version of ours")
        if CURVE25519_SHA256 not in message.available_cipher_suites:
            abort(AbortCode.BAD_HANDSHAKE_CIPHER, "no cipher suite of ours")
        if ALTSRP_AES128_GCM not in message.available_record_protocols:
            abort(AbortCode.BAD_RECORD_PROTOCOL, "no record protocol of ours")
        self._take_challenge(message.challenge)
        offered, requested = _kinds(message.client_offers), _kinds(message.client_requests)
        self._peers = tuple(kind for kind in self._assertions.requests if kind in offered)
        self._own = tuple(kind for kind in self._assertions.offers if kind in requested)
        if not self._peers or not self._own:
            abort(AbortCode.BAD_ASSERTION_TYPE, f"it offers {offered}, and asks for {requested}")
        answer = pb.ServerPrecommit(
            selected_ekep_version=pb.EkepVersion(name=VERSION),
            selected_cipher_suite=CURVE25519_SHA256,
            selected_record_protocol=ALTSRP_AES128_GCM,
            server_offers=[pb.AssertionOffer(description=_description(kind)) for kind in self._own],
            server_requests=[pb.AssertionRequest(description=_description(kind)) for kind in self._peers],
            challenge=self._challenge,
        )
        return [self._send(MessageType.SERVER_PRECOMMIT, answer)]

    def _on_server_precommit(self, message: pb.ServerPrecommit) -> list[bytes]:
        selected = (
            message.selected_ekep_version.name, message.selected_cipher_suite, message.selected_record_protocol
        )  # fmt: skip
        if selected != (VERSION, CURVE25519_SHA256, ALTSRP_AES128_GCM):
            abort(AbortCode.PROTOCOL_ERROR, f"selected what was not offered: {selected}")
        self._own, self._peers = _kinds(message.server_requests), _kinds(message.server_offers)
        if not self._own or not set(self._own) <= set(self._assertions.offers):
            abort(AbortCode.PROTOCOL_ERROR, f"asks for {self._own}")
        if not self._peers or not set(self._peers) <= set(self._assertions.requests):
            abort(AbortCode.PROTOCOL_ERROR, f"offers {self._peers}")
        self._take_challenge(message.challenge)
        made = self._make()
        return [self._send(MessageType.CLIENT_ID, pb.ClientId(dh_public_key=self._public, assertions=made))]

    def _on_client_id(self, message: pb.ClientId) -> list[bytes]:
        shared = self._exchange(message.dh_public_key)
        made = self._make()
        first = self._send(MessageType.SERVER_ID, pb.ServerId(dh_public_key=self._public, assertions=made))
        self._secrets = derive_secrets(shared, self._transcript.digest())
        finish = pb.ServerFinish(handshake_authenticator=authenticator(self._secrets, SERVER_FINISH))
        return [first, self._send(MessageType.SERVER_FINISH, finish)]

    def _on_server_id(self, message: pb.ServerId) -> list[bytes]:
        self._secrets = derive_secrets(self._exchange(message.dh_public_key), self._transcript.digest())
        return []

    def _on_server_finish(self, message: pb.ServerFinish) -> list[bytes]:
        if not hmac.compare_digest(message.handshake_authenticator, authenticator(self._secrets, SERVER_FINISH)):
            abort(AbortCode.BAD_AUTHENTICATOR, "the server's authenticator")
        finish = pb.ClientFinish(handshake_authenticator=authenticator(self._secrets, CLIENT_FINISH))
        frame = self._send(MessageType.CLIENT_FINISH, finish)
        self.record_key = derive_record_key(self._secrets.primary, self._transcript.digest())
        return [frame]

    def _on_client_finish(self, message: pb.ClientFinish) -> list[bytes]:
        if not hmac.compare_digest(message.handshake_authenticator, authenticator(self._secrets, CLIENT_FINISH)):
            # No handshake message follows a CLIENT_FINISH: the connection is closed without one.
            raise HandshakeAborted(AbortCode.BAD_AUTHENTICATOR, "the client's authenticator", by_peer=True)
        self.record_key = derive_record_key(self._secrets.primary, self._transcript.digest())
        return []

    def _take_challenge(self, challenge: bytes) -> None:
        if len(challenge) != CHALLENGE_BYTES:
            abort(AbortCode.PROTOCOL_ERROR, f"a challenge of {len(challenge)} bytes")
        self._peer_challenge = challenge

    def _exchange(self, public: bytes) -> bytes:
        try:
            return self._key.exchange(X25519PublicKey.from_public_bytes(public))
        except ValueError as error:
            # Not 32 bytes, or a point of small order: X25519 gives zeros (RFC 7748 section 6.1).
            raise HandshakeAborted(AbortCode.PROTOCOL_ERROR, "not an X25519 key to agree with") from error

    def _make(self) -> list[pb.Assertion]:
        binding = assertion_binding(self._public, self._transcript.digest(), self._peer_challenge)
        try:
            return [
                pb.Assertion(description=_description(kind), assertion=self._assertions.make(kind, binding))
                for kind in self._own
            ]
        except ProxyAttestationError as error:
            raise HandshakeAborted(AbortCode.INTERNAL_ERROR, f"an assertion of ours: {error}") from error

    def _verify(self, message: pb.ClientId | pb.ServerId) -> None:
        """Verify what the peer asserts: exactly what was agreed, each bound to its key and the transcript."""
        found = [_kind(assertion.description) for assertion in message.assertions]
        if sorted(found) != sorted(self._peers):
            abort(AbortCode.BAD_ASSERTION, f"asserts {found[:KINDS_MAX]}")
        if len(message.dh_public_key) != DH_BYTES:
            abort(AbortCode.PROTOCOL_ERROR, f"a DH key of {len(message.dh_public_key)} bytes")
        binding = assertion_binding(message.dh_public_key, self._transcript.digest(), self._challenge)
        for kind, assertion in zip(found, message.assertions, strict=True):
            try:
                self._assertions.verify(kind, assertion.assertion, binding)
            except UnavailableError as error:
                raise HandshakeAborted(AbortCode.INTERNAL_ERROR, f"cannot be verified now: {error}") from error
            except ProxyAttestationError as error:
                raise HandshakeAborted(AbortCode.BAD_ASSERTION, str(error)) from error


def _kinds(offers: Sequence[pb.AssertionOffer | pb.AssertionRequest]) -> tuple[Kind, ...]:
    """Return the kinds in offers or requests: at most `KINDS_MAX`, each once.

    Raises:
        HandshakeAborted: PROTOCOL_ERROR.
    """
    kinds = tuple(_kind(offer.description) for offer in offers)
    if len(kinds) > KINDS_MAX or len(set(kinds)) != len(kinds):
        abort(AbortCode.PROTOCOL_ERROR, f"{len(kinds)} kinds of assertions, or one twice")
    return kinds


def _kind(description: pb.AssertionDescription) -> Kind:
    return Kind(description.identity_type, description.authority_type)


def _description(kind: Kind) -> pb.AssertionDescription:
    return pb.AssertionDescription(identity_type=kind.identity_type, authority_type=kind.authority_type)


_OF_SERVER: Final = frozenset({State.CLIENT_PRECOMMIT, State.CLIENT_ID, State.CLIENT_FINISH})
STEPS: Final = {
    State.SERVER_PRECOMMIT: _Step(MessageType.SERVER_PRECOMMIT, Handshake._on_server_precommit, State.SERVER_ID),
    State.SERVER_ID: _Step(MessageType.SERVER_ID, Handshake._on_server_id, State.SERVER_FINISH),
    State.SERVER_FINISH: _Step(MessageType.SERVER_FINISH, Handshake._on_server_finish, State.DONE),
    State.CLIENT_PRECOMMIT: _Step(MessageType.CLIENT_PRECOMMIT, Handshake._on_client_precommit, State.CLIENT_ID),
    State.CLIENT_ID: _Step(MessageType.CLIENT_ID, Handshake._on_client_id, State.CLIENT_FINISH),
    State.CLIENT_FINISH: _Step(MessageType.CLIENT_FINISH, Handshake._on_client_finish, State.DONE),
}
