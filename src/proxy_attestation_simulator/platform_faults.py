"""Faults of the platform: its certificates and its TCB; `quote_faults.py` has the table."""

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any, Final

from proxy_attestation_simulator.bodies import SgxBody
from proxy_attestation_simulator.faults import Registry, choice, number
from proxy_attestation_simulator.frame_faults import changed
from proxy_attestation_simulator.quote import with_fields
from proxy_attestation_simulator.recipes import AGE_OF_STATUS, QuoteRecipe, components, tdx_components

PLATFORM_FAULTS: Final = Registry[QuoteRecipe]()
_add = PLATFORM_FAULTS.add
_fault = PLATFORM_FAULTS.fault


def _pck(**changes: Any) -> Callable[[QuoteRecipe, str], QuoteRecipe]:
    return lambda recipe, _: replace(recipe, pck=replace(recipe.pck, **changes))


_add("missing-intermediate", "the chain lacks the PCK CA's certificate", "chain", changed(chain=("pck", "root")))
_add("missing-leaf", "the chain lacks the PCK certificate", "chain", changed(chain=("ca", "root")))
_add("missing-root", "the chain lacks the root, which is pinned anyway", "accepted", changed(chain=("pck", "ca")))
_add("chain-order", "the chain runs from the root to the leaf", "chain", changed(chain=("root", "ca", "pck")))
_add("pck-ca-signature", "the PCK CA's certificate is not signed by the root", "chain", changed(ca="other"))
_add("pck-signature", "the PCK certificate is not signed by its CA", "chain", _pck(issuer="other"))
_add("wrong-root", "another vendor signed everything; its root stands in the chain", "root", changed(stranger=True))
_add("pck-common-name", "by its name the leaf is no PCK certificate", "pck", _pck(common_name="Simulated Certificate"))
_add("expired-pck-ca", "the PCK CA's certificate has expired", "expired", changed(ca="expired"))


@_fault(
    "pck-extension",
    "the PCK's SGX extension is absent, lacks one SVN, or has trailing bytes",
    "pck",
    value="absent|short|trailing",
    default="absent",
)
def _pck_extension(recipe: QuoteRecipe, value: str) -> QuoteRecipe:
    return _pck(extension=choice(value, ("absent", "short", "trailing")))(recipe, "")


@_fault("pck-cpu-svn", "the PCK's CPUSVN is 16 times N, unlike its components", "accepted", value="N", default="1")
def _cpu_svn(recipe: QuoteRecipe, value: str) -> QuoteRecipe:
    return _pck(cpu_svn=bytes([number(value, 0xFF)]) * 16)(recipe, "")


@_fault("expired-pck", "the PCK certificate has expired", "expired")
def _expired_pck(recipe: QuoteRecipe, _: str) -> QuoteRecipe:
    start = recipe.pck.not_before
    return _pck(not_before=start - timedelta(days=2), not_after=start)(recipe, "")


@_fault("not-yet-valid", "the PCK certificate becomes valid in years", "expired")
def _not_yet_valid(recipe: QuoteRecipe, _: str) -> QuoteRecipe:
    end = recipe.pck.not_after
    return _pck(not_before=end, not_after=end + timedelta(days=365))(recipe, "")


def _at_age(age: int) -> Callable[[QuoteRecipe, str], QuoteRecipe]:
    """Return a fault that gives the platform the SVNs of a level: components and CPUSVN alike, and the TDX ones."""

    def apply(recipe: QuoteRecipe, _: str) -> QuoteRecipe:
        svns = components(age)
        body = recipe.body
        if isinstance(body, SgxBody):
            body = with_fields(body, {"cpu_svn": bytes(svns)})
        else:
            body = with_fields(body, {"tee_tcb_svn": body.tee_tcb_svn[:2] + bytes(tdx_components(age)[2:])})
        return replace(recipe, body=body, pck=replace(recipe.pck, svns=svns, cpu_svn=bytes(svns)))

    return apply


_add("no-tcb-level", "the platform's SVNs are below every level", "tcb_not_supported", _at_age(0))
_add("revoked-tcb", "the platform's SVNs are at the level Revoked", "tcb_revoked", _at_age(AGE_OF_STATUS["Revoked"]))
_add("old-tcb", "the platform's SVNs are at the level OutOfDate", "tcb_status", _at_age(AGE_OF_STATUS["OutOfDate"]))


@_fault(
    "tcb-level", "the platform's SVNs are at the level with that status", "tcb_status", value="|".join(AGE_OF_STATUS)
)
def _tcb_level(recipe: QuoteRecipe, value: str) -> QuoteRecipe:
    return _at_age(AGE_OF_STATUS[choice(value, AGE_OF_STATUS)])(recipe, "")
