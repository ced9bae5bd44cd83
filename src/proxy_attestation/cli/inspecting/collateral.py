"""Intel's collateral as trees: TCB info, QE identity, CRLs, certificates, bundles of them."""

from datetime import datetime

from cryptography import x509

from proxy_attestation.cli.inspecting.certificates import certificate_tree, crl_tree
from proxy_attestation.cli.inspecting.tree import Node
from proxy_attestation.codes import Code
from proxy_attestation.endorsements.detect import Kind, Piece
from proxy_attestation.formats.dcap_collateral import (
    SvnLevel,
    TdxModule,
    decode_qe_identity,
    decode_tcb_info,
)
from proxy_attestation.formats.signed_json import decode_signed_document

_CODE = Code.ENDORSEMENTS_MALFORMED


def piece_tree(piece: Piece) -> tuple[Node, ...]:
    """Return one piece of collateral.

    Raises:
        FormatError: `endorsements.malformed`, `input.unknown`.
    """
    if piece.kind is Kind.TCB_INFO:
        return _tcb_info(piece.data)
    if piece.kind is Kind.QE_IDENTITY:
        return _qe_identity(piece.data)
    if piece.kind in (Kind.ROOT_CA_CRL, Kind.PCK_CRL):
        return crl_tree(x509.load_der_x509_crl(piece.data))
    return certificate_tree(piece.data)


def _tcb_info(data: bytes) -> tuple[Node, ...]:
    document = decode_signed_document(data, "tcbInfo", _CODE)
    info = decode_tcb_info(document.content, _CODE)
    levels = [
        (
            Node("sgx_components", " ".join(map(str, level.sgx)), "least security versions"),
            Node("pce_svn", level.pce_svn),
            *((Node("tdx_components", " ".join(map(str, level.tdx))),) if level.tdx else ()),
            Node("status", str(level.status)),
            Node("date", _time(level.date)),
            Node("advisory_ids", list(level.advisories)),
        )
        for level in info.levels
    ]
    modules = [
        (Node("major_version", version), *_module(module)) for version, module in sorted(info.module_identities.items())
    ]
    return (
        Node("tee", str(info.tee)),
        Node("fmspc", info.fmspc.hex(), "platform family that it is about"),
        Node("pce_id", info.pce_id.hex()),
        Node("tcb_evaluation_data_number", info.evaluation_number, "rises with each TCB recovery"),
        Node("issue_date", _time(info.issue_date)),
        Node("next_update", _time(info.next_update)),
        Node("signature", document.signature.hex(), "over the exact bytes of tcbInfo; not checked here"),
        *((Node("tdx_module", _module(info.module)),) if info.module is not None else ()),
        *((Node("tdx_module_identities", modules),) if modules else ()),
        Node("tcb_levels", levels, "highest first; a platform has the first that it reaches"),
    )


def _module(module: TdxModule) -> tuple[Node, ...]:
    return (
        Node("mr_signer", module.mr_signer.hex(), "zero is Intel"),
        Node("attributes", f"{module.attributes.hex()} under mask {module.attributes_mask.hex()}"),
        *((Node("tcb_levels", _svn_levels(module.levels)),) if module.levels else ()),
    )


def _svn_levels(levels: tuple[SvnLevel, ...]) -> list[tuple[Node, ...]]:
    return [
        (
            Node("isv_svn", level.isv_svn),
            Node("status", str(level.status)),
            Node("date", _time(level.date)),
            Node("advisory_ids", list(level.advisories)),
        )
        for level in levels
    ]


def _qe_identity(data: bytes) -> tuple[Node, ...]:
    document = decode_signed_document(data, "enclaveIdentity", _CODE)
    identity = decode_qe_identity(document.content, _CODE)
    return (
        Node("id", identity.id, "QE for SGX, TD_QE for TDX"),
        Node("issue_date", _time(identity.issue_date)),
        Node("next_update", _time(identity.next_update)),
        Node("mr_signer", identity.mr_signer.hex()),
        Node("isv_prod_id", identity.isv_prod_id),
        Node("misc_select", f"{identity.misc_select.hex()} under mask {identity.misc_select_mask.hex()}"),
        Node("attributes", f"{identity.attributes.hex()} under mask {identity.attributes_mask.hex()}"),
        Node("signature", document.signature.hex(), "over the exact bytes of enclaveIdentity; not checked here"),
        Node("tcb_levels", _svn_levels(identity.levels), "highest first"),
    )


def _time(value: datetime) -> str:
    return value.strftime("%Y-%m-%dT%H:%M:%SZ")
