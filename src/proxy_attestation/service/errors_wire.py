"""Our errors as a peer sees them: the same code, cause and fix on both fronts, and nothing else.

========================================  ===================  ====================  ====
error                                     gRPC status          Connect code          HTTP
========================================  ===================  ====================  ====
`limits.exhausted`                        RESOURCE_EXHAUSTED   resource_exhausted    429
`ledger.no_proof`                         UNIMPLEMENTED        unimplemented         501
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
from dataclasses import dataclass
from typing import Any, Final

from google.protobuf.any_pb2 import Any as AnyMessage
from google.rpc import error_details_pb2, status_pb2

from proxy_attestation.codes import Code
from proxy_attestation.errors import (
    FormatError,
    PolicyError,
    ProxyAttestationError,
    RefusedError,
    UnavailableError,
)
from proxy_attestation.explanations import EXPLANATIONS
from proxy_attestation.service.limits import RETRY_AFTER

DOMAIN: Final = "proxy-attestation"


@dataclass(frozen=True, slots=True)
class Status:
    """One row of the table above.

    Attributes:
        number: google.rpc.Code, the gRPC status.
        connect: the Connect protocol's word.
        http: the HTTP status of a Connect answer.
    """

    number: int
    connect: str
    http: int


INVALID_ARGUMENT: Final = Status(3, "invalid_argument", 400)
PERMISSION_DENIED: Final = Status(7, "permission_denied", 403)
RESOURCE_EXHAUSTED: Final = Status(8, "resource_exhausted", 429)
FAILED_PRECONDITION: Final = Status(9, "failed_precondition", 400)
UNIMPLEMENTED: Final = Status(12, "unimplemented", 501)
INTERNAL: Final = Status(13, "internal", 500)
UNAVAILABLE: Final = Status(14, "unavailable", 503)


@dataclass(frozen=True, slots=True)
class WireError:
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


def to_wire(error: ProxyAttestationError, request_id: str) -> WireError:
    """Return what a peer is told of an error."""
    status = _status(error)
    code = Code.INTERNAL if status is INTERNAL else error.code
    explanation = EXPLANATIONS[code]
    metadata = {"cause": explanation.cause, "fix": explanation.fix, "request_id": request_id}
    if isinstance(error, PolicyError):
        metadata["mismatches"] = ",".join(dict.fromkeys(str(mismatch.code) for mismatch in error.mismatches))
    retry_after = RETRY_AFTER if status in (UNAVAILABLE, RESOURCE_EXHAUSTED) else None
    return WireError(status, code, f"{code}: {explanation.cause}; {explanation.fix}", metadata, retry_after)


def _status(error: ProxyAttestationError) -> Status:
    if error.code is Code.LIMITS_EXHAUSTED:
        return RESOURCE_EXHAUSTED
    if error.code is Code.LEDGER_NO_PROOF:
        return UNIMPLEMENTED
    if isinstance(error, RefusedError | FormatError) and error.code.startswith("challenge."):
        return FAILED_PRECONDITION
    if isinstance(error, FormatError):
        return INVALID_ARGUMENT
    if isinstance(error, RefusedError):
        return PERMISSION_DENIED
    if isinstance(error, UnavailableError):
        return UNAVAILABLE
    return INTERNAL


def status_message(error: WireError) -> status_pb2.Status:
    """Return the `google.rpc.Status` that a gRPC answer carries in its trailers."""
    status = status_pb2.Status(code=error.status.number, message=error.message)
    for detail in _details(error):
        packed = AnyMessage()
        packed.Pack(detail)
        status.details.append(packed)
    return status


def connect_body(error: WireError) -> bytes:
    """Return the JSON body of a Connect answer; each detail also stands readably in `debug`."""
    details = [
        {
            "type": detail.DESCRIPTOR.full_name,
            "value": base64.b64encode(detail.SerializeToString()).rstrip(b"=").decode(),
            "debug": debug,
        }
        for detail, debug in zip(_details(error), _debug(error), strict=True)
    ]
    return json.dumps({"code": error.status.connect, "message": error.message, "details": details}).encode()


def _details(error: WireError) -> list[Any]:
    details: list[Any] = [
        error_details_pb2.ErrorInfo(reason=str(error.code), domain=DOMAIN, metadata=dict(error.metadata))
    ]
    if error.retry_after is not None:
        retry = error_details_pb2.RetryInfo()
        retry.retry_delay.FromSeconds(error.retry_after)
        details.append(retry)
    return details


def _debug(error: WireError) -> list[dict[str, object]]:
    debug: list[dict[str, object]] = [
        {"reason": str(error.code), "domain": DOMAIN, "metadata": dict(error.metadata)},
    ]
    if error.retry_after is not None:
        debug.append({"retryDelay": f"{error.retry_after}s"})
    return debug
