"""TCB info and QE identity: JSON with a signature over the exact bytes of the inner object (Intel PCS API v4)."""

import json
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Final

from cryptography.hazmat.primitives.asymmetric import ec

from proxy_attestation_simulator.bodies import SgxBody
from proxy_attestation_simulator.keys import sign_raw
from proxy_attestation_simulator.recipes import (
    CollateralRecipe,
    Document,
    Level,
    SvnLevel,
    components,
    tdx_components,
)

QE_MR_SIGNER: Final = bytes.fromhex("51" * 32)
"""MRSIGNER of the simulated quoting enclaves."""
QE_PRODUCT: Final = {"sgx": 1, "tdx": 2}
QE_SVN: Final = 8

_QE_ATTRIBUTES_MASK: Final = "FBFFFFFFFFFFFFFF0000000000000000"
_TYPES: Final = {0: ("BIOS", "Early Microcode Update"), 1: ("OS/VMM", "SGX Late Microcode Update")}
_LEVEL_AGE: Final = timedelta(days=180)


def qe_body(tee: str) -> SgxBody:
    """Return the report body of the quoting enclave that `qe_identity` describes, without its report data."""
    return SgxBody(
        attributes_flags=bytes.fromhex("1100000000000000"),
        xfrm=bytes.fromhex("e700000000000000"),
        mr_enclave=bytes.fromhex("52" * 32),
        mr_signer=QE_MR_SIGNER,
        isv_prod_id=QE_PRODUCT[tee],
        isv_svn=QE_SVN,
    )


def timestamp(moment: datetime) -> str:
    """Write a UTC time as the documents do."""
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def _day(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%dT00:00:00Z")


def _frame(document: Document) -> dict[str, object]:
    return {
        "id": document.id,
        "version": document.version,
        "issueDate": timestamp(document.issue_date),
        "nextUpdate": timestamp(document.next_update),
    }


def _verdict(date: datetime, status: str, advisories: tuple[str, ...]) -> dict[str, object]:
    verdict: dict[str, object] = {"tcbDate": _day(date), "tcbStatus": status}
    if advisories:
        verdict["advisoryIDs"] = list(advisories)
    return verdict


def _sgx_components(level: Level) -> list[dict[str, object]]:
    result: list[dict[str, object]] = []
    for index, svn in enumerate(components(level.age)):
        component: dict[str, object] = {"svn": svn}
        if index in _TYPES:
            component["category"], component["type"] = _TYPES[index]
        result.append(component)
    return result


def _tcb(recipe: CollateralRecipe, level: Level) -> dict[str, object]:
    if recipe.tcb_info.version == 2:
        flat: dict[str, object] = {
            f"sgxtcbcomp{number:02}svn": svn for number, svn in enumerate(components(level.age), 1)
        }
        return {**flat, "pcesvn": level.pce_svn}
    tcb: dict[str, object] = {"sgxtcbcomponents": _sgx_components(level), "pcesvn": level.pce_svn}
    if recipe.tee == "tdx":
        tcb["tdxtcbcomponents"] = [{"svn": svn} for svn in tdx_components(level.age)]
    return tcb


def _svn_levels(levels: tuple[SvnLevel, ...], date: datetime) -> list[dict[str, object]]:
    return [
        {"tcb": {"isvsvn": level.isv_svn}, **_verdict(date - index * _LEVEL_AGE, level.status, level.advisories)}
        for index, level in enumerate(levels)
    ]


def _module(levels: list[dict[str, object]] | None = None, module_id: str | None = None) -> dict[str, object]:
    module: dict[str, object] = {} if module_id is None else {"id": module_id}
    module |= {"mrsigner": "00" * 48, "attributes": "00" * 8, "attributesMask": "FF" * 8}
    if levels is not None:
        module["tcbLevels"] = levels
    return module


def tcb_info(recipe: CollateralRecipe, key: ec.EllipticCurvePrivateKey) -> bytes:
    """Return the signed TCB info."""
    body = _frame(recipe.tcb_info) | {
        "fmspc": recipe.fmspc.hex().upper(),
        "pceId": recipe.pce_id.hex().upper(),
        "tcbType": 0,
        "tcbEvaluationDataNumber": recipe.tcb_info.evaluation_number,
    }
    if recipe.tee == "tdx":
        newest = [SvnLevel(3, "UpToDate")]
        body["tdxModule"] = _module()
        # Not sorted, like Intel's own.
        body["tdxModuleIdentities"] = [
            _module(_svn_levels(tuple(newest), recipe.tcb_date), "TDX_03"),
            _module(_svn_levels(recipe.module_levels, recipe.tcb_date), "TDX_01"),
        ]
    body["tcbLevels"] = [
        {
            "tcb": _tcb(recipe, level),
            **_verdict(recipe.tcb_date - index * _LEVEL_AGE, level.status, level.advisories),
        }
        for index, level in enumerate(recipe.levels)
    ]
    return _signed("tcbInfo", body, recipe.tcb_info, key)


def qe_identity(recipe: CollateralRecipe, key: ec.EllipticCurvePrivateKey) -> bytes:
    """Return the signed identity of the quoting enclave."""
    qe = qe_body(recipe.tee)
    body = _frame(recipe.qe_identity) | {
        "tcbEvaluationDataNumber": recipe.qe_identity.evaluation_number,
        "miscselect": "00000000",
        "miscselectMask": "FFFFFFFF",
        "attributes": qe.attributes_flags.hex().upper() + "00" * 8,
        "attributesMask": _QE_ATTRIBUTES_MASK,
        "mrsigner": qe.mr_signer.hex().upper(),
        "isvprodid": qe.isv_prod_id,
        "tcbLevels": _svn_levels(recipe.qe_levels, recipe.tcb_date),
    }
    return _signed("enclaveIdentity", body, recipe.qe_identity, key)


def _signed(member: str, body: dict[str, object], document: Document, key: ec.EllipticCurvePrivateKey) -> bytes:
    inner = json.dumps(body, separators=(",", ":")).encode()
    if document.malformed:
        inner = inner.replace(b'"tcbLevels":[{', b'"tcbLevels":[[', 1)
    signature = sign_raw(key, inner)
    if document.flip:
        # One digit of a date that no check of validity reads, so that nothing but the signature can notice.
        at = inner.rindex(b'"tcbDate":"') + len(b'"tcbDate":"')
        inner = inner[:at] + (b"3" if inner[at : at + 1] == b"2" else b"2") + inner[at + 1 :]
    return b'{"%s":%s,"signature":"%s"}' % (member.encode(), inner, signature.hex().encode())


def split_document(document: bytes) -> tuple[str, bytes]:
    """Split a signed document into the exact text of its inner object and the raw signature (64 bytes)."""
    text = document.decode()
    start, end = text.index(":") + 1, text.rindex(',"signature":"')
    return text[start:end], bytes.fromhex(text[end + len(',"signature":"') : -2])


def quote_collateral(pieces: Mapping[str, bytes]) -> dict[str, str | bytes]:
    """Return a whole set of collateral as the fields of Intel's QuoteCollateral, documents apart from signatures.

    They are the keyword arguments of `dcap_qvl.QuoteCollateralV3`.
    """
    fields: dict[str, str | bytes] = {
        "pck_crl": pieces["pck_crl"],
        "root_ca_crl": pieces["root_ca_crl"],
    }
    for chain in ("pck_crl_issuer_chain", "tcb_info_issuer_chain", "qe_identity_issuer_chain"):
        fields[chain] = pieces[chain].decode()
    for document in ("tcb_info", "qe_identity"):
        fields[document], fields[f"{document}_signature"] = split_document(pieces[document])
    return fields
