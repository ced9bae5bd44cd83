"""What appraisal found out: typed claims, each covered by a signature that was checked.

Fields carry the vendor's names in snake_case; byte strings are in memory order, as in the signed structure.
"""

from dataclasses import dataclass, fields
from datetime import datetime
from typing import ClassVar, Final, TypeAlias

from proxy_attestation.formats.tee import Tee

_SGX_DEBUG: Final = 0x02
_TDX_DEBUG: Final = 0x01
_TDX_TUD: Final = 0xFE


@dataclass(frozen=True, slots=True)
class SgxClaims:
    """The report body of an SGX enclave (Intel SDM vol. 3D, REPORT; 384 bytes).

    Attributes:
        cpu_svn: 16 bytes.
        misc_select: 4 bytes.
        attributes_flags: 8 bytes, ATTRIBUTES.FLAGS.
        xfrm: 8 bytes, ATTRIBUTES.XFRM.
        mr_enclave: 32 bytes.
        mr_signer: 32 bytes.
        isv_prod_id: u16.
        isv_svn: u16.
        isv_ext_prod_id: 16 bytes (KSS).
        config_id: 64 bytes (KSS).
        config_svn: u16 (KSS).
        isv_family_id: 16 bytes (KSS).
    """

    tee: ClassVar[Tee] = Tee.SGX
    cpu_svn: bytes
    misc_select: bytes
    attributes_flags: bytes
    xfrm: bytes
    mr_enclave: bytes
    mr_signer: bytes
    isv_prod_id: int
    isv_svn: int
    isv_ext_prod_id: bytes
    config_id: bytes
    config_svn: int
    isv_family_id: bytes

    @property
    def debug(self) -> bool:
        """ATTRIBUTES.FLAGS bit 1."""
        return bool(self.attributes_flags[0] & _SGX_DEBUG)


@dataclass(frozen=True, slots=True)
class TdxClaims:
    """The report body of a TD (TDX 1.0: 584 bytes; TDX 1.5: 648 bytes, the last two fields).

    Attributes:
        tee_tcb_svn: 16 bytes.
        mr_seam: 48 bytes.
        mr_signer_seam: 48 bytes.
        seam_attributes: 8 bytes.
        td_attributes: 8 bytes.
        xfam: 8 bytes.
        mr_td: 48 bytes.
        mr_config_id: 48 bytes.
        mr_owner: 48 bytes.
        mr_owner_config: 48 bytes.
        rtmr0: 48 bytes, and so rtmr1 to rtmr3.
        tee_tcb_svn_2: 16 bytes, or None in a TDX 1.0 body.
        mr_service_td: 48 bytes, or None in a TDX 1.0 body.
    """

    tee: ClassVar[Tee] = Tee.TDX
    tee_tcb_svn: bytes
    mr_seam: bytes
    mr_signer_seam: bytes
    seam_attributes: bytes
    td_attributes: bytes
    xfam: bytes
    mr_td: bytes
    mr_config_id: bytes
    mr_owner: bytes
    mr_owner_config: bytes
    rtmr0: bytes
    rtmr1: bytes
    rtmr2: bytes
    rtmr3: bytes
    tee_tcb_svn_2: bytes | None
    mr_service_td: bytes | None

    @property
    def debug(self) -> bool:
        """TDATTRIBUTES bit 0."""
        return bool(self.td_attributes[0] & _TDX_DEBUG)

    @property
    def tud_nonzero(self) -> bool:
        """Whether a reserved bit of the TUD byte (TDATTRIBUTES bits 1 to 7) is set."""
        return bool(self.td_attributes[0] & _TDX_TUD)


Body: TypeAlias = SgxClaims | TdxClaims


@dataclass(frozen=True, slots=True)
class TcbClaims:
    """The platform's Trusted Computing Base, as the vendor's signed collateral judges it.

    Attributes:
        status: the vendor's word, converged over platform, TDX module and quoting enclave, e.g. `UpToDate`.
        date: the matched level's tcbDate.
        advisories: advisory ids of every matched level, sorted, each once.
        evaluation_number: tcbEvaluationDataNumber of the TCB info.
        fmspc: 6 bytes.
        pce_id: 2 bytes.
    """

    status: str
    date: datetime
    advisories: tuple[str, ...]
    evaluation_number: int
    fmspc: bytes
    pce_id: bytes


@dataclass(frozen=True, slots=True)
class Claims:
    """The outcome of an appraisal.

    Attributes:
        tee: the kind of TEE.
        body: what the TEE measured.
        report_data: 64 bytes.
        debug: whether the TEE can be debugged.
        tcb: the platform's state.
        instance_id: identifies the machine (PPID and platform instance id, hashed; 32 bytes), or None where masked.
            Never leaves the proxy.
        anchor: SHA-256 of the SPKI of the vendor root that everything chains to, 32 bytes.
        evidence_sha256: 32 bytes.
        valid_until: the earliest end of the collateral that this rests on, UTC.
    """

    tee: Tee
    body: Body
    report_data: bytes
    debug: bool
    tcb: TcbClaims
    instance_id: bytes | None
    anchor: bytes
    evidence_sha256: bytes
    valid_until: datetime


def body_to_json(body: Body) -> dict[str, object]:
    """Return a body by the vendor's field names: bytes in hex (memory order), numbers and booleans as they are."""
    result: dict[str, object] = {}
    for field in fields(body):
        value = getattr(body, field.name)
        if value is not None:
            result[field.name] = value.hex() if isinstance(value, bytes) else value
    result["debug"] = body.debug
    if isinstance(body, TdxClaims):
        result["tud_nonzero"] = body.tud_nonzero
    return result


def claims_to_json(claims: Claims) -> dict[str, object]:
    """Return all claims as flat JSON values, in the vocabulary of policies and expectations.

    The instance id is left out: it names a machine.
    """
    return {
        "tee": str(claims.tee),
        **body_to_json(claims.body),
        "report_data": claims.report_data.hex(),
        "tcb_status": claims.tcb.status,
        "tcb_date": claims.tcb.date.strftime("%Y-%m-%dT%H:%M:%SZ"),
        "advisory_ids": list(claims.tcb.advisories),
        "tcb_evaluation_data_number": claims.tcb.evaluation_number,
        "fmspc": claims.tcb.fmspc.hex(),
        "pce_id": claims.tcb.pce_id.hex(),
        "anchor_spki_sha256": claims.anchor.hex(),
        "evidence_sha256": claims.evidence_sha256.hex(),
        "valid_until": claims.valid_until.strftime("%Y-%m-%dT%H:%M:%SZ"),
    }
