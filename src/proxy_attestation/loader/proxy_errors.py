"""What the proxy answers instead of a result, turned back into our errors.

An error of the Connect protocol is JSON: `code`, `message` and `details`; ours carry a google.rpc.ErrorInfo whose
readable form stands in `debug`: `reason` is the code, `domain` says whose. Whatever else comes back is no answer of a
proxy's, and never looks like a verdict.
"""

import json
from typing import Final

from proxy_attestation.codes import Code
from proxy_attestation.errors import ProxyAttestationError, RefusedError, RequestError, UnavailableError

DOMAIN: Final = "proxy-attestation"
_ERROR_INFO: Final = "google.rpc.ErrorInfo"
# Connect's words for what errors_wire writes, by the class that the error comes back as.
_VERDICTS: Final[dict[str, type[RefusedError]]] = {
    "permission_denied": RefusedError,
    "failed_precondition": RequestError,
    "invalid_argument": RequestError,
    "not_found": RequestError,
}
_UNAVAILABLE: Final = frozenset({"unavailable", "resource_exhausted", "internal", "unimplemented"})
_TEXT_MAX: Final = 512


def error_from_answer(status: int, body: bytes) -> ProxyAttestationError:
    """Return the error that an answer with an HTTP status other than 200 stands for.

    Returns:
        RefusedError: a verdict, with the proxy's code.
        UnavailableError: the proxy cannot answer now, with the proxy's code; or `proxy.protocol`, for an answer that is
            not a proxy's, and `proxy.unreachable`, for 502, 503 and 504 from something in between.
    """
    try:
        answer = json.loads(body)
    except (ValueError, RecursionError):
        answer = None
    info = _error_info(answer)
    if not isinstance(answer, dict) or info is None:
        code = Code.PROXY_UNREACHABLE if status in (502, 503, 504) else Code.PROXY_PROTOCOL
        return UnavailableError(code, f"HTTP status {status} without an error that we know")
    reason, metadata = info
    detail = _detail(metadata)
    word = answer.get("code")
    if isinstance(word, str) and word in _VERDICTS:
        return _VERDICTS[word](reason, detail)
    if isinstance(word, str) and word in _UNAVAILABLE:
        return UnavailableError(reason, detail)
    return UnavailableError(Code.PROXY_PROTOCOL, f"HTTP status {status} with an unknown kind of error")


def _error_info(answer: object) -> tuple[Code, dict[str, object]] | None:
    details = answer.get("details") if isinstance(answer, dict) else None
    if not isinstance(details, list):
        return None
    for detail in details:
        if not isinstance(detail, dict) or detail.get("type") != _ERROR_INFO:
            continue
        debug = detail.get("debug")
        if not isinstance(debug, dict) or debug.get("domain") != DOMAIN:
            continue
        try:
            reason = Code(str(debug.get("reason")))
        except ValueError:
            return None
        metadata = debug.get("metadata")
        return reason, metadata if isinstance(metadata, dict) else {}
    return None


def _detail(metadata: dict[str, object]) -> str:
    parts = [f"answered by the proxy, request {_text(metadata.get('request_id'))}"]
    if metadata.get("mismatches"):
        parts.append(f"mismatches: {_text(metadata.get('mismatches'))}")
    return "; ".join(parts)


def _text(value: object) -> str:
    """Make a string of the other side's fit for a terminal and a log."""
    text = value if isinstance(value, str) else "unknown"
    return "".join(character for character in text[:_TEXT_MAX] if character.isprintable())
