"""Faults of collateral: `vendor.endorsements(..., fault="NAME[=VALUE]")`, `collateral --fault NAME[=VALUE]`.

Each is meant to provoke one code:

    fault                        provokes (prefix sgx. or tdx. unless it says otherwise)
    missing=PIECE                endorsements_missing
    malformed=PIECE              endorsements_malformed; a CRL: crl; a chain: chain
    unknown-status               endorsements_malformed
    duplicate-level              endorsements_malformed
    malformed-tcb-info           endorsements_malformed (signed so)
    malformed-qe-identity        endorsements_malformed (signed so)
    tcb-info-version=N           endorsements_malformed (2 is accepted for SGX)
    qe-identity-version=N        endorsements_malformed
    wrong-root                   root
    tcb-signer-signature         chain
    expired-tcb-signer           expired
    revoked-pck[=SERIAL]         revoked
    revoked-pck-ca               revoked
    revoked-tcb-signer           revoked
    crl-signature                crl
    crl-issuer                   crl
    root-crl-signature           crl
    expired-crl                  crl_expired
    expired-root-crl             crl_expired
    crl-not-yet-valid            crl_expired
    crl-without-number           crl
    tcb-info-signature           tcb_info_signature
    tcb-info-signer              tcb_info_signature
    expired-collateral           tcb_info_expired
    tcb-info-not-yet-valid       tcb_info_expired
    fmspc-mismatch[=HEX]         tcb_info_mismatch
    pceid-mismatch[=HEX]         tcb_info_mismatch
    tcb-info-id                  tcb_info_mismatch
    qe-identity-signature        qe_identity_signature
    qe-identity-signer           qe_identity_signature
    expired-qe-identity          qe_identity_expired
    qe-identity-not-yet-valid    qe_identity_expired
    qe-identity-id               qe_identity
    older-evaluation[=N]         endorsements_floor
    older-issue-date             endorsements_floor
    older-crl[=N]                endorsements_floor
    older-root-crl[=N]           endorsements_floor
    level-status=STATUS          tcb_status
    tcb-recovery                 tcb_status (OutOfDate; evaluation number one up)
"""

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any, Final

from proxy_attestation_simulator.errors import SimulatorError
from proxy_attestation_simulator.faults import Registry, choice, hexadecimal, number
from proxy_attestation_simulator.recipes import AGE_OF_STATUS, NEWEST, CollateralRecipe, Document, Level

PIECES: Final = (
    "tcb_info",
    "tcb_info_issuer_chain",
    "qe_identity",
    "qe_identity_issuer_chain",
    "pck_crl",
    "pck_crl_issuer_chain",
    "root_ca_crl",
)
"""The pieces of a set of collateral, by their names in Intel's QuoteCollateral."""

COLLATERAL_FAULTS: Final = Registry[CollateralRecipe]()
"""Every fault of collateral, by name."""

_add = COLLATERAL_FAULTS.add
_fault = COLLATERAL_FAULTS.fault
_DAY: Final = timedelta(days=1)
_YEAR: Final = timedelta(days=365)
_U32: Final = 0xFFFFFFFF

_Apply = Callable[[CollateralRecipe, str], CollateralRecipe]


def _changed(**changes: Any) -> _Apply:
    return lambda recipe, _: replace(recipe, **changes)


def _part(part: str, **changes: Any) -> _Apply:
    """Return a fault that replaces fields of one of the recipe's parts."""

    def apply(recipe: CollateralRecipe, _: str) -> CollateralRecipe:
        parts: dict[str, Any] = {part: replace(getattr(recipe, part), **changes)}
        return replace(recipe, **parts)

    return apply


def _moved(part: str, start: str, years: int) -> _Apply:
    """Return a fault that moves a part's validity so that it ended years ago, or begins in years."""

    def apply(recipe: CollateralRecipe, _: str) -> CollateralRecipe:
        old = getattr(recipe, part)
        dates = {start: getattr(old, start) + years * _YEAR, "next_update": old.next_update + years * _YEAR}
        return _part(part, **dates)(recipe, "")

    return apply


def _ended(part: str) -> _Apply:
    """Return a fault that lets a part end a day before the collateral is made."""

    def apply(recipe: CollateralRecipe, _: str) -> CollateralRecipe:
        start = "issue_date" if isinstance(getattr(recipe, part), Document) else "last_update"
        end = recipe.tcb_info.issue_date
        return _part(part, **{start: end - 30 * _DAY, "next_update": end})(recipe, "")

    return apply


@_fault("missing", "a piece is left out", "endorsements_missing", value="PIECE")
def _missing(recipe: CollateralRecipe, value: str) -> CollateralRecipe:
    return replace(recipe, missing=recipe.missing | {choice(value, PIECES)})


@_fault("malformed", "a piece is replaced by bytes that mean nothing", "endorsements_malformed", value="PIECE")
def _malformed(recipe: CollateralRecipe, value: str) -> CollateralRecipe:
    return replace(recipe, garbage=recipe.garbage | {choice(value, PIECES)})


@_fault("unknown-status", "the newest level has a status that nobody knows", "endorsements_malformed")
def _unknown_status(recipe: CollateralRecipe, _: str) -> CollateralRecipe:
    return replace(recipe, levels=(replace(recipe.levels[0], status="Splendid"), *recipe.levels[1:]))


@_fault("duplicate-level", "the newest level stands there twice", "endorsements_malformed")
def _duplicate_level(recipe: CollateralRecipe, _: str) -> CollateralRecipe:
    return replace(recipe, levels=(recipe.levels[0], *recipe.levels))


_add(
    "malformed-tcb-info",
    "the TCB info is no JSON, and signed",
    "endorsements_malformed",
    _part("tcb_info", malformed=True),
)
_add(
    "malformed-qe-identity",
    "the QE identity is no JSON, and signed",
    "endorsements_malformed",
    _part("qe_identity", malformed=True),
)


@_fault(
    "tcb-info-version", "the TCB info has version N; 2 has the layout of version 2", "endorsements_malformed", value="N"
)
def _tcb_info_version(recipe: CollateralRecipe, value: str) -> CollateralRecipe:
    return _part("tcb_info", version=number(value, _U32))(recipe, "")


@_fault("qe-identity-version", "the QE identity says version N", "endorsements_malformed", value="N")
def _qe_identity_version(recipe: CollateralRecipe, value: str) -> CollateralRecipe:
    return _part("qe_identity", version=number(value, _U32))(recipe, "")


_add("wrong-root", "another vendor signed everything; its root stands in the chains", "root", _changed(stranger=True))
_add(
    "tcb-signer-signature",
    "the TCB signer's certificate is not signed by the root",
    "chain",
    _changed(tcb_signer="other"),
)
_add("expired-tcb-signer", "the TCB signer's certificate has expired", "expired", _changed(tcb_signer="expired"))


@_fault("revoked-pck", "the PCK CRL lists the platform's certificate, or SERIAL", "revoked", value="SERIAL", default="")
def _revoked_pck(recipe: CollateralRecipe, value: str) -> CollateralRecipe:
    serial = number(value, 1 << 159) if value else recipe.pck_serial
    return _part("pck_crl", revoked=(*recipe.pck_crl.revoked, serial))(recipe, "")


@_fault("revoked-pck-ca", "the root CRL lists the PCK CA", "revoked")
def _revoked_pck_ca(recipe: CollateralRecipe, _: str) -> CollateralRecipe:
    return replace(recipe, revoked_authorities=(*recipe.revoked_authorities, "pck_ca"))


@_fault("revoked-tcb-signer", "the root CRL lists the TCB signer", "revoked")
def _revoked_tcb_signer(recipe: CollateralRecipe, _: str) -> CollateralRecipe:
    return replace(recipe, revoked_authorities=(*recipe.revoked_authorities, "tcb_signer"))


_add("crl-signature", "the PCK CRL is not signed by the PCK CA", "crl", _part("pck_crl", issuer="other"))
_add("crl-issuer", "the PCK CRL is that of the other PCK CA", "crl", _part("pck_crl", issuer="sibling"))
_add("root-crl-signature", "the root CRL is not signed by the root", "crl", _part("root_crl", issuer="other"))
_add("crl-without-number", "the PCK CRL has no CRL number", "crl", _part("pck_crl", number=None))
_add("expired-crl", "the PCK CRL has expired", "crl_expired", _ended("pck_crl"))
_add("expired-root-crl", "the root CRL has expired", "crl_expired", _ended("root_crl"))
_add("crl-not-yet-valid", "the PCK CRL becomes valid in years", "crl_expired", _moved("pck_crl", "last_update", 5))

_add(
    "tcb-info-signature", "the TCB info changed after it was signed", "tcb_info_signature", _part("tcb_info", flip=True)
)
_add("tcb-info-signer", "another key signed the TCB info", "tcb_info_signature", _part("tcb_info", key="other"))
_add("expired-collateral", "the TCB info has expired", "tcb_info_expired", _ended("tcb_info"))
_add(
    "tcb-info-not-yet-valid",
    "the TCB info was issued in the future",
    "tcb_info_expired",
    _moved("tcb_info", "issue_date", 5),
)


@_fault("fmspc-mismatch", "the TCB info is for another FMSPC", "tcb_info_mismatch", value="HEX", default="00ffffff0000")
def _fmspc_mismatch(recipe: CollateralRecipe, value: str) -> CollateralRecipe:
    return replace(recipe, fmspc=_sized(value, 6))


@_fault("pceid-mismatch", "the TCB info is for another PCE", "tcb_info_mismatch", value="HEX", default="0001")
def _pceid_mismatch(recipe: CollateralRecipe, value: str) -> CollateralRecipe:
    return replace(recipe, pce_id=_sized(value, 2))


@_fault("tcb-info-id", "the TCB info says that it is for the other TEE", "tcb_info_mismatch")
def _tcb_info_id(recipe: CollateralRecipe, _: str) -> CollateralRecipe:
    return _part("tcb_info", id="TDX" if recipe.tee == "sgx" else "SGX")(recipe, "")


_add(
    "qe-identity-signature",
    "the QE identity changed after it was signed",
    "qe_identity_signature",
    _part("qe_identity", flip=True),
)
_add(
    "qe-identity-signer",
    "another key signed the QE identity",
    "qe_identity_signature",
    _part("qe_identity", key="other"),
)
_add("expired-qe-identity", "the QE identity has expired", "qe_identity_expired", _ended("qe_identity"))
_add(
    "qe-identity-not-yet-valid",
    "the QE identity was issued in the future",
    "qe_identity_expired",
    _moved("qe_identity", "issue_date", 5),
)


@_fault("qe-identity-id", "the QE identity says that it is the other TEE's", "qe_identity")
def _qe_identity_id(recipe: CollateralRecipe, _: str) -> CollateralRecipe:
    return _part("qe_identity", id="TD_QE" if recipe.tee == "sgx" else "QE")(recipe, "")


@_fault(
    "older-evaluation", "the evaluation number is N (default: one less)", "endorsements_floor", value="N", default=""
)
def _older_evaluation(recipe: CollateralRecipe, value: str) -> CollateralRecipe:
    evaluation = number(value, _U32) if value else recipe.tcb_info.evaluation_number - 1
    recipe = _part("tcb_info", evaluation_number=evaluation)(recipe, "")
    return _part("qe_identity", evaluation_number=evaluation)(recipe, "")


@_fault("older-issue-date", "the TCB info was issued a week earlier", "endorsements_floor")
def _older_issue_date(recipe: CollateralRecipe, _: str) -> CollateralRecipe:
    return _part("tcb_info", issue_date=recipe.tcb_info.issue_date - 7 * _DAY)(recipe, "")


@_fault("older-crl", "the PCK CRL has number N", "endorsements_floor", value="N", default="1")
def _older_crl(recipe: CollateralRecipe, value: str) -> CollateralRecipe:
    return _part("pck_crl", number=number(value, _U32))(recipe, "")


@_fault("older-root-crl", "the root CRL has number N", "endorsements_floor", value="N", default="1")
def _older_root_crl(recipe: CollateralRecipe, value: str) -> CollateralRecipe:
    return _part("root_crl", number=number(value, _U32))(recipe, "")


@_fault("level-status", "the newest level has that status", "tcb_status", value="|".join(AGE_OF_STATUS))
def _level_status(recipe: CollateralRecipe, value: str) -> CollateralRecipe:
    newest = replace(recipe.levels[0], status=choice(value, AGE_OF_STATUS))
    return replace(recipe, levels=(newest, *recipe.levels[1:]))


@_fault(
    "tcb-recovery", "a newer level appears, the former newest is OutOfDate, the evaluation number rises", "tcb_status"
)
def _tcb_recovery(recipe: CollateralRecipe, _: str) -> CollateralRecipe:
    former = recipe.levels[0]
    newer = Level(NEWEST + 1, former.pce_svn, "UpToDate")
    former = replace(former, status="OutOfDate", advisories=("INTEL-SA-00999",))
    recipe = replace(recipe, levels=(newer, former, *recipe.levels[1:]))
    return _older_evaluation(recipe, str(recipe.tcb_info.evaluation_number + 1))


def _sized(value: str, size: int) -> bytes:
    parsed = hexadecimal(value)
    if len(parsed) != size:
        raise SimulatorError(f"{value!r} is not {size} bytes")
    return parsed
