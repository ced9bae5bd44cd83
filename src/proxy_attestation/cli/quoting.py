"""The process of `serve` that quotes the proxy itself: it holds the device, and does nothing but what it is told.

`python -P -m proxy_attestation.cli.quoting SPEC TEE`. Standard input is a socket whose other end the supervisor holds;
frames as in `authority.wire`. A call `QUOTE` has what the authority composed; the answer is a quote with what came with
it, or the error. It says `ready` on standard output. At the end of its input, and with its parent, it ends.
"""

import os
import socket
import sys

from proxy_attestation import hardening, log
from proxy_attestation.attester.model import Attester
from proxy_attestation.attester.select import select_attester
from proxy_attestation.authority import messages, wire
from proxy_attestation.authority.messages import Quote
from proxy_attestation.errors import InternalError, ProxyAttestationError
from proxy_attestation.formats.binder import Binding
from proxy_attestation.formats.tee import Tee

_PIECE = 64 * 1024


def answer(attester: Attester, call: wire.Call) -> bytes:
    """Return the frame that answers a call."""
    try:
        wanted = messages.decode_to_quote(call.body)
        binding = Binding(wanted.report_data, wanted.digest, wanted.nonce, wanted.spki)
        with attester.begin() as enrolment:
            attested = enrolment.attest(binding)
        evidence = attested.evidence
        made = Quote(evidence.tee, evidence.evidence, evidence.platform_certificates, attested.event_log)
        return wire.encode_answer(call.call_id, messages.encode_quote(made))
    except ProxyAttestationError as error:
        return wire.encode_error(call.call_id, error)
    except Exception as error:  # noqa: BLE001 - a device that misbehaves must not keep the next quote from being made
        log.bug(error)
        return wire.encode_error(call.call_id, InternalError(type(error).__name__))


def serve(attester: Attester, line: socket.socket) -> None:
    """Answer calls until the other end is closed.

    Raises:
        FormatError: `proxy.protocol`, for what is no call.
    """
    reader = wire.FrameReader()
    while data := line.recv(_PIECE):
        for frame in reader.feed(data):
            line.sendall(answer(attester, wire.decode_call(frame)))


def main() -> int:
    """Run the process; return its exit status."""
    log.configure("quoter")
    if not (hardening.give_up() and hardening.end_with_parent()):
        log.warning("this system cannot forbid core dumps, debuggers and new privileges, or end us with the supervisor")
    try:
        attester = select_attester(sys.argv[1], Tee(sys.argv[2]))
        line = socket.socket(fileno=0)
        line.setblocking(True)
        os.write(sys.stdout.fileno(), b"ready\n")
        os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # nobody reads it any more
        serve(attester, line)
    except ProxyAttestationError as error:
        log.warning("did not start", code=str(error.code), detail=error.detail)
        return error.exit_status
    return 0


if __name__ == "__main__":
    sys.exit(main())
