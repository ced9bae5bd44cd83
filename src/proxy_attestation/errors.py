"""The error tree. Every error of ours carries one stable code; nothing else leaves a public function.

    ProxyAttestationError
    +-- FormatError            bytes that are not what they claim to be                     exit 4
    +-- ConfigurationError     a file the operator wrote: policy, serve.toml, app.toml ...  exit 4
    +-- UsageError             a command line that cannot be obeyed                         exit 2
    +-- RefusedError           a verdict: somebody was refused                              exit 3
    |   +-- AppraisalError     the evidence is not genuine (appraisal)
    |   +-- PolicyError        genuine, but not acceptable (policy); holds every mismatch
    |   +-- RequestError       the request, its CSR, its binder or its challenge
    |   +-- PeerError          a relying party refused its peer
    +-- UnavailableError       something of ours or a vendor's cannot answer now            exit 5
    +-- InternalError          a bug of ours                                                exit 70

`code` is for machines, `detail` for the local log and the local user. A peer is told the code and the one line that
`explanations.py` has for it, never the detail: it may hold expected values.
"""

from dataclasses import dataclass
from typing import ClassVar

from proxy_attestation.codes import Code


class ProxyAttestationError(Exception):
    """The root of the tree."""

    exit_status: ClassVar[int] = 70

    def __init__(self, code: Code, detail: str = "") -> None:
        super().__init__(f"{code}: {detail}" if detail else str(code))
        self.code = code
        self.detail = detail


class FormatError(ProxyAttestationError):
    """Bytes that do not follow their format."""

    exit_status = 4


class ConfigurationError(ProxyAttestationError):
    """A file of the operator's that cannot be used; the detail names line and fix."""

    exit_status = 4


class UsageError(ProxyAttestationError):
    """A command line that cannot be obeyed."""

    exit_status = 2

    def __init__(self, detail: str) -> None:
        super().__init__(Code.USAGE, detail)


class RefusedError(ProxyAttestationError):
    """A verdict against somebody."""

    exit_status = 3


class AppraisalError(RefusedError):
    """The evidence is not genuine, or what it takes to know was absent."""


@dataclass(frozen=True, slots=True)
class Mismatch:
    """One thing that a decision found different from what was demanded.

    Attributes:
        code: what kind of thing.
        field: its name in the policy's vocabulary, such as `mr_enclave`.
        expected: what was demanded, readable; for the log and the operator only.
        actual: what was found, readable.
    """

    code: Code
    field: str
    expected: str
    actual: str


class PolicyError(RefusedError):
    """Genuine evidence that the policy does not accept, with every mismatch; the code is the first one's."""

    def __init__(self, mismatches: tuple[Mismatch, ...]) -> None:
        first = mismatches[0]
        super().__init__(
            first.code, "; ".join(f"{m.code} {m.field}: expected {m.expected}, found {m.actual}" for m in mismatches)
        )
        self.mismatches = mismatches


class RequestError(RefusedError):
    """The request itself, its signature, its binder or its challenge is refused."""


class PeerError(RefusedError):
    """A relying party refuses the peer it connected to; holds every mismatch where claims were compared."""

    def __init__(self, code: Code, detail: str = "", mismatches: tuple[Mismatch, ...] = ()) -> None:
        super().__init__(code, detail)
        self.mismatches = mismatches


class UnavailableError(ProxyAttestationError):
    """Something of ours or of a vendor's cannot answer now. Never a verdict: the same call may succeed later."""

    exit_status = 5


class InternalError(ProxyAttestationError):
    """A bug of ours, caught at the edge."""

    def __init__(self, detail: str = "") -> None:
        super().__init__(Code.INTERNAL, detail)
