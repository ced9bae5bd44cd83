"""How the walks of the appraisal refuse."""

from typing import NoReturn

from proxy_attestation.appraisal.claims import Body
from proxy_attestation.codes import Code
from proxy_attestation.errors import AppraisalError
from proxy_attestation.formats.dcap_codes import DcapFault, dcap_code


class EvidenceRefusedError(AppraisalError):
    """A refusal of evidence whose own signature was verified, so that what it says of itself may be shown.

    Attributes:
        body: the report body. Only the attestation key vouches for it: never issue anything on it.
    """

    def __init__(self, code: Code, detail: str, body: Body) -> None:
        super().__init__(code, detail)
        self.body = body


def refuse(tee: str, fault: DcapFault, detail: str, cause: BaseException | None = None) -> NoReturn:
    """Raise the refusal.

    Raises:
        AppraisalError: `<tee>.<fault>`, always.
    """
    raise AppraisalError(dcap_code(tee, fault), detail) from cause
