"""Harnesses for the EKEP front: a side at each step, and records."""

import sys
from pathlib import Path
from typing import Final

from target import Target

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests" / "support"))

from ekep_sides import Drawn, Plain

from proxy_attestation.ekep.frames import MESSAGES, MessageType
from proxy_attestation.ekep.handshake import STEPS, Handshake
from proxy_attestation.ekep.record import Records

_STATES: Final = tuple(STEPS)


def _handshake(data: bytes) -> None:
    """The first byte says which step is due; the rest is a frame of what it takes, or any bytes."""
    if not data:
        return
    state = _STATES[data[0] % len(_STATES)]
    side = Handshake(Plain(), server=state.name.startswith("CLIENT"), random=Drawn(0))
    side.state = state
    kind = STEPS[state].takes.to_bytes(4, "little") if data[0] < 128 else data[1:5]
    content = data[1:]
    side.receive((len(content) + 4).to_bytes(4, "little") + kind + content)


def _record(data: bytes) -> None:
    Records(bytes(16), server=True).open(data)


def _frames() -> list[bytes]:
    """Return the content of each message of a handshake that succeeds, behind the number of its step."""
    client, server = (Handshake(Plain(), server=one, random=Drawn(16 * one)) for one in (False, True))
    found, waiting = [], [(server, frame) for frame in client.start()]
    steps = {step.takes: number for number, step in enumerate(STEPS.values())}
    while waiting:
        receiver, frame = waiting.pop(0)
        number = steps[MessageType(int.from_bytes(frame[4:8], "little"))]
        found.append(bytes((number,)) + frame[8:])
        waiting += [(client if receiver is server else server, answer) for answer in receiver.receive(frame)]
    assert len(found) == len(MESSAGES) - 1
    return found


HANDSHAKES: Final[dict[str, Target]] = {
    "ekep-handshake": Target(_handshake, 1024, _frames),
    "ekep-record": Target(_record, 256, lambda: [Records(bytes(16), server=False).seal(b"a call")]),
}
