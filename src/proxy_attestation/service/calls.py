"""What both fronts do with a call: admit it, read it, run it, and make one error of whatever goes wrong."""

import secrets
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final, NamedTuple, TypeAlias

from google.protobuf.message import DecodeError, Message

from proxy_attestation import log
from proxy_attestation.authority.bucket import Bucket
from proxy_attestation.codes import Code
from proxy_attestation.errors import FormatError, InternalError, PolicyError, ProxyAttestationError, UnavailableError
from proxy_attestation.formats.bounds import MESSAGE_MAX
from proxy_attestation.service.core import Core
from proxy_attestation.service.errors_wire import WireError, to_wire
from proxy_attestation.service.limits import Admission
from proxy_attestation.service.metrics import Metrics
from proxy_attestation.v1 import proxy_attestation_pb2 as pb

SERVICE: Final = "proxy_attestation.v1.ProxyAttestation"
READ_SECONDS: Final = 10.0
"""How long a peer may take to send a request's body."""
LOG_LINES_A_SECOND: Final = 100
"""Refusals logged; beyond that they are only counted."""


class Method(NamedTuple):
    """One rpc.

    Attributes:
        request: the class of its request message.
        handler: takes and returns messages.
    """

    request: type[Any]
    handler: Callable[[Any], Awaitable[Message]]


Receive: TypeAlias = Callable[[Method], Awaitable[Any]]
"""Reads and decodes the request message; raises errors of ours."""


class Calls:
    """Runs calls against one core.

    Attributes:
        core: answers them.
        admission: admits them.
        methods: by name.
    """

    def __init__(
        self, core: Core, admission: Admission, metrics: Metrics, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        """Take calls; `monotonic` gives seconds that only grow."""
        self._monotonic = monotonic
        self.core, self.admission, self._metrics = core, admission, metrics
        self.methods: Mapping[str, Method] = {
            "GetRootCertificate": Method(pb.GetRootCertificateRequest, core.get_root_certificate),
            "GetChallenge": Method(pb.GetChallengeRequest, core.get_challenge),
            "GetSignedCertificate": Method(pb.GetSignedCertificateRequest, core.get_signed_certificate),
            "GetRenewalInformation": Method(pb.GetRenewalInformationRequest, core.get_renewal_information),
            "GetLedgerProof": Method(pb.GetLedgerProofRequest, core.get_ledger_proof),
        }
        self._log_budget = Bucket(LOG_LINES_A_SECOND, LOG_LINES_A_SECOND, monotonic())
        self._unlogged = 0

    async def run(self, name: str, front: str, peer: str, receive: Receive) -> Message | WireError:
        """Answer one call; nothing but cancellation is raised.

        Args:
            name: of one of `methods`.
            front: `grpc` or `connect`.
            peer: `limits.peer_key` of the caller.
            receive: reads the request.
        """
        method = self.methods[name]
        started = self._monotonic()
        code = "ok"
        try:
            with self.admission.admit(peer):
                self._metrics.in_flight(self.admission.in_flight)
                answer: Message | WireError = await method.handler(await receive(method))
        except Exception as error:  # noqa: BLE001 - of what is not ours a peer learns only that it is a bug
            answer = failure = self._failed(error, {"rpc": name, "front": front, "peer": peer})
            code = str(failure.code)
        finally:
            self._metrics.in_flight(self.admission.in_flight)
        self._metrics.called(name, front, code, self._monotonic() - started)
        return answer

    def _failed(self, error: Exception, where: Mapping[str, str]) -> WireError:
        ours = error if isinstance(error, ProxyAttestationError) else InternalError()
        wire = to_wire(ours, secrets.token_hex(8))
        where = {"request_id": wire.metadata["request_id"], **where, "code": str(ours.code)}
        if not self._log_budget.take(self._monotonic()):
            self._unlogged += 1
        elif wire.code is Code.INTERNAL:
            log.failure("bug", error, **where)
        else:
            self._log_refusal(ours, where)
        return wire

    def _log_refusal(self, error: ProxyAttestationError, where: Mapping[str, str]) -> None:
        fields: dict[str, object] = {**where, "detail": error.detail}
        if isinstance(error, PolicyError):
            fields["mismatches"] = [
                {"code": str(m.code), "field": m.field, "expected": m.expected, "actual": m.actual}
                for m in error.mismatches
            ]
        if self._unlogged:
            fields["unlogged_before"], self._unlogged = self._unlogged, 0
        if isinstance(error, UnavailableError):
            log.warning("unavailable", **fields)
        else:
            log.info("refused", **fields)


def decode_message(method: Method, data: bytes) -> Any:
    """Decode a request message from protobuf; unknown fields are ignored, as protobuf does.

    Raises:
        FormatError: `request.too_large` or `request.malformed`.
    """
    if len(data) > MESSAGE_MAX:
        raise FormatError(Code.REQUEST_TOO_LARGE, f"a message of {len(data)} bytes, at most {MESSAGE_MAX} allowed")
    try:
        return method.request.FromString(data)
    except DecodeError as error:
        raise FormatError(Code.REQUEST_MALFORMED, "not a protobuf message of this rpc") from error
