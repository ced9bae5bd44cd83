"""Our errors as a peer sees them: the same code, cause and fix on both fronts, and nothing else.

========================================  ===================  ====================  ====
error                                     gRPC status          Connect code          HTTP
========================================  ===================  ====================  ====
`limits.exhausted`                        RESOURCE_EXHAUSTED   resource_exhausted    429
`ledger.no_proof`                         NOT_FOUND            not_found             404
any `challenge.*`                         FAILED_PRECONDITION  failed_precondition   400
FormatError                               INVALID_ARGUMENT     invalid_argument      400
RefusedError                              PERMISSION_DENIED    permission_denied     403
UnavailableError                          UNAVAILABLE          unavailable           503
anything else                             INTERNAL             internal              500
========================================  ===================  ====================  ====

HTTP statuses are those of the Connect protocol (connectrpc.com/docs/protocol, "Error Codes"). Every error carries a
`google.rpc.ErrorInfo`; where coming back makes sense, a `google.rpc.RetryInfo` too. `detail` never leaves the proxy.
"""

import base64
import json
from collections.abc import Mapping
from typing import Final, NamedTuple

from google.protobuf import json_format
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2

from proxy_attestation.codes import Code
from proxy_attestation.errors import FormatError, PolicyError, ProxyAttestationError, RefusedError, UnavailableError
from proxy_attestation.explanations import EXPLANATIONS
from proxy_attestation.service.limits import RETRY_AFTER

DOMAIN: Final = "proxy-attestation"


class Status(NamedTuple):
    """How the transports say one kind of error.

    Attributes:
        number: google.rpc.Code, the gRPC status.
        connect: the Connect protocol's word.
        http: the HTTP status of a Connect answer.
    """

    number: int
    connect: str
    http: int


_FAILED_PRECONDITION: Final = Status(9, "failed_precondition", 400)
_INTERNAL: Final = Status(13, "internal", 500)
_BY_CODE: Final[Mapping[Code, Status]] = {
    Code.LIMITS_EXHAUSTED: Status(8, "resource_exhausted", 429),
    Code.LEDGER_NO_PROOF: Status(5, "not_found", 404),
}
_BY_CLASS: Final = (
    (FormatError, Status(3, "invalid_argument", 400)),
    (RefusedError, Status(7, "permission_denied", 403)),
    (UnavailableError, Status(14, "unavailable", 503)),
)
_COME_BACK: Final = (429, 503)
"""HTTP statuses after which the same call may succeed."""


class WireError(NamedTuple):
    """An error, ready for either front.

    Attributes:
        status: how the transport says it.
        code: our code, the reason of the ErrorInfo.
        message: one line: code, cause, fix.
        metadata: of the ErrorInfo: `cause`, `fix`, `request_id`, and `mismatches` (codes, comma separated) where a
            policy decided.
        retry_after: seconds, or None where the same call will fail again.
    """

    status: Status
    code: Code
    message: str
    metadata: Mapping[str, str]
    retry_after: int | None

    def details(self) -> list[Message]:
        """Return the ErrorInfo, and the RetryInfo where there is one."""
        info = error_details_pb2.ErrorInfo(reason=str(self.code), domain=DOMAIN, metadata=dict(self.metadata))
        if self.retry_after is None:
            return [info]
        retry = error_details_pb2.RetryInfo()
        retry.retry_delay.FromSeconds(self.retry_after)
        return [info, retry]


def to_wire(error: ProxyAttestationError, request_id: str) -> WireError:
    """Return what a peer is told of an error."""
    status = _status(error)
    code = Code.INTERNAL if status is _INTERNAL else error.code
    cause, fix = EXPLANATIONS[code].cause, EXPLANATIONS[code].fix
    metadata = {"cause": cause, "fix": fix, "request_id": request_id}
    if isinstance(error, PolicyError):
        metadata["mismatches"] = ",".join(dict.fromkeys(str(mismatch.code) for mismatch in error.mismatches))
    retry_after = RETRY_AFTER if status.http in _COME_BACK else None
    return WireError(status, code, f"{code}: {cause}; {fix}", metadata, retry_after)


def _status(error: ProxyAttestationError) -> Status:
    if error.code in _BY_CODE:
        return _BY_CODE[error.code]
    if isinstance(error, RefusedError | FormatError) and error.code.startswith("challenge."):
        return _FAILED_PRECONDITION
    return next((status for kind, status in _BY_CLASS if isinstance(error, kind)), _INTERNAL)


def status_message(error: WireError) -> status_pb2.Status:
    """Return the `google.rpc.Status` that a gRPC answer carries in its trailers."""
    status = status_pb2.Status(code=error.status.number, message=error.message)
    for detail in error.details():
        status.details.add().Pack(detail)
    return status


def connect_body(error: WireError) -> bytes:
    """Return the JSON body of a Connect answer; each detail also stands readably in `debug`."""
    details = [
        {
            "type": detail.DESCRIPTOR.full_name,
            "value": base64.b64encode(detail.SerializeToString()).rstrip(b"=").decode(),
            "debug": json_format.MessageToDict(detail),
        }
        for detail in error.details()
    ]
    return json.dumps({"code": error.status.connect, "message": error.message, "details": details}).encode()
