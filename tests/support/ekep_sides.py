"""Two sides of EKEP in memory, whose assertions are the binding itself under a name."""

from dataclasses import dataclass, field

from proxy_attestation.codes import Code
from proxy_attestation.ekep.handshake import CODE_IDENTITY, Handshake, Kind
from proxy_attestation.errors import AppraisalError, ProxyAttestationError
from proxy_attestation.formats.binder import Binding

SGX = Kind(CODE_IDENTITY, "proxy-attestation/sgx")
TDX = Kind(CODE_IDENTITY, "proxy-attestation/tdx")


@dataclass
class Plain:
    """Assertions that anybody can make: what they are bound to, behind a mark."""

    offers: tuple[Kind, ...] = (SGX,)
    requests: tuple[Kind, ...] = (SGX,)
    mark: bytes = b"genuine"
    failure: ProxyAttestationError | None = None
    made: int = 0
    verified: list[Kind] = field(default_factory=list)

    def make(self, kind: Kind, binding: Binding) -> bytes:
        if self.failure is not None:
            raise self.failure
        self.made += 1
        return self.mark + kind.authority_type.encode() + binding.report_data + binding.nonce + binding.spki

    def verify(self, kind: Kind, assertion: bytes, binding: Binding) -> None:
        if self.failure is not None:
            raise self.failure
        wanted = b"genuine" + kind.authority_type.encode() + binding.report_data + binding.nonce + binding.spki
        if assertion != wanted:
            raise AppraisalError(Code.SGX_SIGNATURE)
        self.verified.append(kind)


class Drawn:
    """Random bytes that are the same in each run: the count of the draw, over and over."""

    def __init__(self, start: int) -> None:
        self.count = start

    def __call__(self, length: int) -> bytes:
        self.count += 1
        return bytes((self.count,)) * length


Sides = tuple[Handshake, Handshake]
