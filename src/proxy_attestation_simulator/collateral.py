"""Collateral: what a good set says, and the set that a recipe gives."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Final, TypedDict

from proxy_attestation_simulator import documents
from proxy_attestation_simulator.certificates import pem_chain, revocation_list
from proxy_attestation_simulator.collateral_faults import PIECES
from proxy_attestation_simulator.errors import SimulatorError
from proxy_attestation_simulator.hierarchy import Hierarchy
from proxy_attestation_simulator.recipes import AGE_OF_STATUS, CollateralRecipe, Crl, Document, Level, SvnLevel

FMSPC: Final = {"sgx": b"SIM\0\0\1", "tdx": b"SIM\0\0\2"}
"""FMSPC of the simulated platforms where no other is given, 6 bytes."""
PCE_ID: Final = b"\0\0"
PCE_SVN: Final = 13
EVALUATION_NUMBER: Final = 17
CRL_NUMBER: Final = 3

_DAY: Final = timedelta(days=1)
_TCB_INFO_ID: Final = {"sgx": "SGX", "tdx": "TDX"}
_QE_IDENTITY_ID: Final = {"sgx": "QE", "tdx": "TD_QE"}
_OLD_PCE_SVN: Final = {"OutOfDate": 11, "OutOfDateConfigurationNeeded": 11, "Revoked": 5}
_ADVISORIES: Final = {
    "UpToDate": (),
    "SWHardeningNeeded": ("INTEL-SA-00615",),
    "ConfigurationNeeded": ("INTEL-SA-00657",),
    "ConfigurationAndSWHardeningNeeded": ("INTEL-SA-00615", "INTEL-SA-00657"),
    "OutOfDate": ("INTEL-SA-00615", "INTEL-SA-00828"),
    "OutOfDateConfigurationNeeded": ("INTEL-SA-00615", "INTEL-SA-00657", "INTEL-SA-00828"),
    "Revoked": ("INTEL-SA-00220",),
}
_MODULE_LEVELS: Final = (
    SvnLevel(4, "UpToDate"),
    SvnLevel(2, "OutOfDate", ("INTEL-SA-00960",)),
    SvnLevel(1, "Revoked", ("INTEL-SA-00961",)),
)
_QE_LEVELS: Final = (
    SvnLevel(documents.QE_SVN, "UpToDate"),
    SvnLevel(6, "OutOfDate", ("INTEL-SA-00477",)),
    SvnLevel(5, "Revoked", ("INTEL-SA-00202",)),
)


class Options(TypedDict, total=False):
    """What a set of collateral can be made with.

    Attributes:
        ca: whose PCK CRL, "platform" (default) or "processor".
        fmspc: 6 bytes.
        pce_id: 2 bytes.
        evaluation_number: tcbEvaluationDataNumber of TCB info and QE identity.
        issue_date: of documents and CRLs; by default a day before `now`.
        next_update: of documents and PCK CRL; by default 30 days after the issue date. The root CRL lasts a year.
        crl_number: of both CRLs.
        tcb_info_version: 3, or 2 (SGX only).
        status: of the newest TCB level.
        advisories: of the newest TCB level.
        revoked: serial numbers in the PCK CRL.
        seed: of the machine that the fault `revoked-pck` revokes.
    """

    ca: str
    fmspc: bytes
    pce_id: bytes
    evaluation_number: int
    issue_date: datetime
    next_update: datetime
    crl_number: int
    tcb_info_version: int
    status: str
    advisories: tuple[str, ...]
    revoked: tuple[int, ...]
    seed: int | str


def pck_label(tee: str, seed: int | str) -> str:
    """Return the label of a machine's PCK key and serial number."""
    return f"pck {tee} {seed}"


def pck_ca_label(ca: str) -> str:
    """Return the label of a PCK CA.

    Raises:
        SimulatorError: there is no such CA.
    """
    if ca not in {"platform", "processor"}:
        raise SimulatorError(f"there is no PCK CA {ca!r}; there are platform and processor")
    return f"{ca} ca"


def known_tee(tee: str) -> str:
    """Return the TEE.

    Raises:
        SimulatorError: there is no such TEE here.
    """
    if tee not in FMSPC:
        raise SimulatorError(f"there is no simulated TEE {tee!r}; there are sgx and tdx")
    return tee


def good(vendor: Hierarchy, tee: str, now: datetime, options: Options) -> CollateralRecipe:
    """Return the recipe of a set that a verifier accepts."""
    known_tee(tee)
    pck_ca_label(options.get("ca", "platform"))
    now = now.astimezone(UTC).replace(microsecond=0)
    issued = options.get("issue_date", now - _DAY)
    ends = options.get("next_update", issued + 30 * _DAY)
    number = options.get("evaluation_number", EVALUATION_NUMBER)
    crl_number = options.get("crl_number", CRL_NUMBER)
    levels = [
        Level(age, _OLD_PCE_SVN.get(status, PCE_SVN), status, _ADVISORIES[status])
        for status, age in AGE_OF_STATUS.items()
    ]
    levels[0] = replace(levels[0], status=options.get("status", "UpToDate"), advisories=options.get("advisories", ()))
    return CollateralRecipe(
        tee=tee,
        ca=options.get("ca", "platform"),
        fmspc=options.get("fmspc", FMSPC[tee]),
        pce_id=options.get("pce_id", PCE_ID),
        tcb_date=vendor.created_at - 90 * _DAY,
        tcb_info=Document(_TCB_INFO_ID[tee], options.get("tcb_info_version", 3), issued, ends, number),
        qe_identity=Document(_QE_IDENTITY_ID[tee], 2, issued, ends, number),
        levels=tuple(levels),
        module_levels=_MODULE_LEVELS,
        qe_levels=_QE_LEVELS,
        pck_crl=Crl(crl_number, issued, ends, options.get("revoked", ())),
        root_crl=Crl(crl_number, issued, issued + 365 * _DAY),
        pck_serial=vendor.serial(pck_label(tee, options.get("seed", 0))),
    )


def make(vendor: Hierarchy, recipe: CollateralRecipe) -> dict[str, bytes]:
    """Make the set that a recipe gives."""
    root, other = vendor.root, vendor.key("other")
    cas = {"platform": vendor.authority("platform ca"), "processor": vendor.authority("processor ca")}
    signer = vendor.authority("tcb signer")
    sibling = cas["processor" if recipe.ca == "platform" else "platform"]
    crl_issuer = sibling if recipe.pck_crl.issuer == "sibling" else cas[recipe.ca]
    revocable = {"pck_ca": cas[recipe.ca], "tcb_signer": signer}
    revoked = tuple(revocable[name].certificate.serial_number for name in recipe.revoked_authorities)
    root_crl = replace(recipe.root_crl, revoked=recipe.root_crl.revoked + revoked)
    tcb_chain = pem_chain([vendor.authority("tcb signer", recipe.tcb_signer).certificate, root.certificate])
    document_keys = {"signer": signer.key, "other": other}
    pieces = {
        "tcb_info": documents.tcb_info(recipe, document_keys[recipe.tcb_info.key]),
        "tcb_info_issuer_chain": tcb_chain,
        "qe_identity": documents.qe_identity(recipe, document_keys[recipe.qe_identity.key]),
        "qe_identity_issuer_chain": tcb_chain,
        "pck_crl": revocation_list(
            recipe.pck_crl, crl_issuer, other if recipe.pck_crl.issuer == "other" else crl_issuer.key
        ),
        "pck_crl_issuer_chain": pem_chain([crl_issuer.certificate, root.certificate]),
        "root_ca_crl": revocation_list(root_crl, root, other if root_crl.issuer == "other" else root.key),
    }
    return {
        piece: b"\0garbage" if piece in recipe.garbage else pieces[piece]
        for piece in PIECES
        if piece not in recipe.missing
    }
