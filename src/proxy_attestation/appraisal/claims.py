"""What appraisal found out: typed claims, each covered by a signature that was checked.

Fields carry the vendor's names in snake_case; byte strings are in memory order, as in the signed structure. The bounds
in the annotations are those under which claims travel from a worker to the authority (`formats.arrays`).
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from datetime import datetime
from typing import Annotated, ClassVar, Final, TypeAlias

from proxy_attestation.appraisal.layers import LAYERS_MAX, Layer
from proxy_attestation.appraisal.nitro_claims import NitroClaims, nitro_to_json
from proxy_attestation.appraisal.snp_claims import SnpClaims, snp_to_json
from proxy_attestation.appraisal.tpm_body import TpmBody, tpm_body_to_json
from proxy_attestation.formats.arrays import Chosen, Size, exactly
from proxy_attestation.formats.bounds import ADVISORIES_MAX
from proxy_attestation.formats.pins import Claim
from proxy_attestation.formats.tee import DCAP, Tee

_U16: Final = Size(0, 0xFFFF)
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
    cpu_svn: Annotated[bytes, exactly(16)]
    misc_select: Annotated[bytes, exactly(4)]
    attributes_flags: Annotated[bytes, exactly(8)]
    xfrm: Annotated[bytes, exactly(8)]
    mr_enclave: Annotated[bytes, exactly(32)]
    mr_signer: Annotated[bytes, exactly(32)]
    isv_prod_id: Annotated[int, _U16]
    isv_svn: Annotated[int, _U16]
    isv_ext_prod_id: Annotated[bytes, exactly(16)]
    config_id: Annotated[bytes, exactly(64)]
    config_svn: Annotated[int, _U16]
    isv_family_id: Annotated[bytes, exactly(16)]

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
    tee_tcb_svn: Annotated[bytes, exactly(16)]
    mr_seam: Annotated[bytes, exactly(48)]
    mr_signer_seam: Annotated[bytes, exactly(48)]
    seam_attributes: Annotated[bytes, exactly(8)]
    td_attributes: Annotated[bytes, exactly(8)]
    xfam: Annotated[bytes, exactly(8)]
    mr_td: Annotated[bytes, exactly(48)]
    mr_config_id: Annotated[bytes, exactly(48)]
    mr_owner: Annotated[bytes, exactly(48)]
    mr_owner_config: Annotated[bytes, exactly(48)]
    rtmr0: Annotated[bytes, exactly(48)]
    rtmr1: Annotated[bytes, exactly(48)]
    rtmr2: Annotated[bytes, exactly(48)]
    rtmr3: Annotated[bytes, exactly(48)]
    tee_tcb_svn_2: Annotated[bytes | None, exactly(16)]
    mr_service_td: Annotated[bytes | None, exactly(48)]

    @property
    def debug(self) -> bool:
        """TDATTRIBUTES bit 0."""
        return bool(self.td_attributes[0] & _TDX_DEBUG)

    @property
    def tud_nonzero(self) -> bool:
        """Whether a reserved bit of the TUD byte (TDATTRIBUTES bits 1 to 7) is set."""
        return bool(self.td_attributes[0] & _TDX_TUD)


DcapBody: TypeAlias = SgxClaims | TdxClaims
Body: TypeAlias = DcapBody | SnpClaims | NitroClaims | TpmBody
BODIES: Final[Mapping[Tee, type[Body]]] = {
    Tee.SGX: SgxClaims,
    Tee.TDX: TdxClaims,
    Tee.SNP: SnpClaims,
    Tee.NITRO: NitroClaims,
    Tee.TPM: TpmBody,
}
"""What a TEE measures, by its kind."""


def claim_of(body: Body, name: str) -> Claim | None:
    """Return the claim of this name that can be pinned (`formats.pins`), or None where the body does not have it."""
    value: Claim | None = getattr(body, name, None)
    return getattr(body, "measurements", {}).get(name) if value is None else value


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

    status: Annotated[str, Size(1, 64)]
    date: datetime
    advisories: Annotated[tuple[Annotated[str, Size(1, 32)], ...], Size(0, ADVISORIES_MAX)]
    evaluation_number: Annotated[int, Size(0, 0xFFFFFFFF)]
    fmspc: Annotated[bytes, exactly(6)]
    pce_id: Annotated[bytes, exactly(2)]


HARDWARE: Final[Mapping[Tee, type[Body]]] = {Tee.SNP: SnpClaims, Tee.TDX: TdxClaims}
"""What can lie below a vTPM."""


@dataclass(frozen=True, slots=True)
class HardwareClaims:
    """The TEE that a vTPM runs in, which vouches for its attestation key; the fields are as those of `Claims`."""

    tee: Tee
    body: Annotated[Body, Chosen("tee", HARDWARE)]
    debug: bool
    tcb: TcbClaims | None


@dataclass(frozen=True, slots=True)
class Claims:
    """The outcome of an appraisal.

    Attributes:
        tee: the kind of TEE.
        body: what the TEE measured.
        bound: what the attester had attested of its own choice, which the caller's binder must equal
            (`formats.binder`): for SGX and TDX the 64 bytes of report data; for Nitro nonce, public key and user data;
            for a TPM the qualifying data of the quote and, where it came, of the key's certification.
        debug: whether the TEE can be debugged.
        tcb: the platform's state, or None for a TEE whose vendor has no status words.
        instance_id: identifies the machine (PPID and platform instance id, hashed; 32 bytes), or None where masked.
            Never leaves the proxy.
        anchor: SHA-256 of the SPKI of the vendor root that everything chains to, 32 bytes.
        evidence_sha256: 32 bytes.
        valid_until: the earliest end of the collateral that this rests on, UTC.
        layers: the registers that an event log was replayed into; empty where none came.
        hardware: what lies below a vTPM whose attestation key it vouches for; None for everything else.
    """

    tee: Tee
    body: Annotated[Body, Chosen("tee", BODIES)]
    bound: Annotated[tuple[Annotated[bytes, Size(0, 1024)], ...], Size(1, 3)]
    debug: bool
    tcb: TcbClaims | None
    instance_id: Annotated[bytes | None, exactly(32)]
    anchor: Annotated[bytes, exactly(32)]
    evidence_sha256: Annotated[bytes, exactly(32)]
    valid_until: datetime
    layers: Annotated[tuple[Layer, ...], Size(0, LAYERS_MAX)] = ()
    hardware: HardwareClaims | None = None

    @property
    def rooted(self) -> "Claims | HardwareClaims":
        """What the collateral and the anchor are about: the hardware where it vouches, or else these claims."""
        return self if self.hardware is None else self.hardware


def body_to_json(body: Body) -> dict[str, object]:
    """Return a body by the vendor's field names: bytes in hex (memory order), numbers and booleans as they are."""
    if isinstance(body, TpmBody):
        return tpm_body_to_json(body)
    if isinstance(body, NitroClaims):
        return nitro_to_json(body) | {name: value.hex() for name, value in body.measurements.items()}
    if isinstance(body, SnpClaims):
        return snp_to_json(body) | {"migration_agent": body.migration_agent, **body.measurements}
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
    """Return all claims as JSON values, in the vocabulary of policies and expectations; flat, but for an event log.

    The instance id is left out: it names a machine.
    """
    return {
        "tee": str(claims.tee),
        **body_to_json(claims.body),
        **({"report_data": claims.bound[0].hex()} if claims.tee in DCAP else {}),
        **({} if claims.tcb is None else _tcb_to_json(claims.tcb)),
        **({"event_log": _log_to_json(claims)} if claims.layers else {}),
        "anchor_spki_sha256": claims.anchor.hex(),
        "evidence_sha256": claims.evidence_sha256.hex(),
        "valid_until": claims.valid_until.strftime("%Y-%m-%dT%H:%M:%SZ"),
    }


def _tcb_to_json(tcb: TcbClaims) -> dict[str, object]:
    return {
        "tcb_status": tcb.status,
        "tcb_date": tcb.date.strftime("%Y-%m-%dT%H:%M:%SZ"),
        "advisory_ids": list(tcb.advisories),
        "tcb_evaluation_data_number": tcb.evaluation_number,
        "fmspc": tcb.fmspc.hex(),
        "pce_id": tcb.pce_id.hex(),
    }


def _log_to_json(claims: Claims) -> dict[str, list[dict[str, str]]]:
    """Return what was measured into each register, by the register's name; data only where the digest covers it."""
    return {
        layer.name(claims.tee): [
            {
                "type": event.name or f"{event.type:08x}",
                "digest": event.digest.hex(),
                **({} if event.data is None else {"data": event.data.hex()}),
            }
            for event in layer.events
        ]
        for layer in claims.layers
    }
