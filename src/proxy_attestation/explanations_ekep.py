"""The cause and the fix of every code of the EKEP front."""

from typing import Final

from proxy_attestation.codes import Code, Explanation

_EKEP: Final[dict[Code, tuple[str, str]]] = {
    Code.EKEP_BAD_MESSAGE: (
        "A frame of the handshake has another size than it says, or more than a frame may have.",
        "Send one whole frame in each message of the stream: u32le size, u32le type, message; at most 1 MiB.",
    ),
    Code.EKEP_DESERIALIZATION_FAILED: (
        "What a frame of the handshake holds is not the protobuf message of its type.",
        "Encode it as proto/proxy_attestation/ekep/v1/ekep.proto says.",
    ),
    Code.EKEP_BAD_PROTOCOL_VERSION: (
        "The two sides have no version of EKEP in common.",
        'Offer "EKEP v1".',
    ),
    Code.EKEP_BAD_HANDSHAKE_CIPHER: (
        "The two sides have no cipher suite of the handshake in common.",
        "Offer CURVE25519_SHA256 (1).",
    ),
    Code.EKEP_BAD_RECORD_PROTOCOL: (
        "The two sides have no record protocol in common.",
        "Offer ALTSRP_AES128_GCM (1).",
    ),
    Code.EKEP_BAD_AUTHENTICATOR: (
        "The other side did not prove that it has the secrets of this handshake: somebody stands in between.",
        "Find out what lies between the two sides and changes their frames; nothing was sent over the channel.",
    ),
    Code.EKEP_BAD_ASSERTION_TYPE: (
        "One side offers no assertion that the other accepts.",
        "Offer evidence of a TEE that the other side accepts, and accept a kind that it can make.",
    ),
    Code.EKEP_BAD_ASSERTION: (
        "The other side's evidence was refused, is not bound to this handshake, or is not what was agreed.",
        "See the log of the side that refused: it names the verdict on the evidence.",
    ),
    Code.EKEP_PROTOCOL_ERROR: (
        "A frame came that may not come now, or holds what the protocol does not allow.",
        "Follow the order and the bounds in docs/ekep.md.",
    ),
    Code.EKEP_INTERNAL_ERROR: (
        "One side cannot make or verify evidence at the moment, or has a bug.",
        "Try again; see the log of the side that gave up.",
    ),
    Code.EKEP_RECORD: (
        "A record of the channel was changed, lost, repeated or too long.",
        "Open a new channel: this one cannot go on.",
    ),
}

EKEP: Final[dict[Code, Explanation]] = {code: Explanation(cause, fix) for code, (cause, fix) in _EKEP.items()}
