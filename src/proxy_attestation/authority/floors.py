"""Floors: the oldest collateral that may still be used for one platform. No number of a floor ever goes back."""

from collections.abc import Mapping
from dataclasses import astuple
from typing import Final

from proxy_attestation.appraisal.claims import Claims
from proxy_attestation.appraisal.endorsements import Floor
from proxy_attestation.appraisal.kinds import platform_of
from proxy_attestation.authority.messages import FLOORS_MAX
from proxy_attestation.codes import Code
from proxy_attestation.errors import UnavailableError
from proxy_attestation.formats.tee import WITH_COLLATERAL, Tee

_EVALUATION_NUMBER_MAX: Final = 0xFFFFFFFF
_CRL_NUMBER_BITS: Final = 160


def check_raise(floors: Mapping[tuple[Tee, bytes], Floor], tee: Tee, fmspc: bytes, floor: Floor, now: int) -> bool:
    """Judge the numbers of a verified set that a worker wants to use; tell whether they are new.

    Args:
        floors: as recorded.
        tee: of the set.
        fmspc: of the set, or AMD's processor line.
        floor: the set's numbers.
        now: seconds since the epoch.

    Raises:
        UnavailableError: `authority.clock`, when the set was issued after now; `endorsements.unavailable`, when a
            number would go back or is beyond what the formats allow; `limits.exhausted`, when there are too many
            platforms.
    """
    if floor.issue_date > now:
        raise UnavailableError(Code.AUTHORITY_CLOCK, f"collateral issued at {floor.issue_date}, it is {now}")
    if min(astuple(floor)) < 0 or floor.evaluation_number > _EVALUATION_NUMBER_MAX:
        raise UnavailableError(Code.ENDORSEMENTS_UNAVAILABLE, "a number that no collateral has")
    if max(floor.pck_crl_number, floor.root_crl_number).bit_length() > _CRL_NUMBER_BITS:
        raise UnavailableError(Code.ENDORSEMENTS_UNAVAILABLE, "a CRL number of more than 20 bytes")
    current = floors.get((tee, fmspc))
    if current is None:
        if len(floors) >= FLOORS_MAX:
            raise UnavailableError(Code.LIMITS_EXHAUSTED, f"floors for {FLOORS_MAX} platforms")
        return True
    if any(new < old for new, old in zip(astuple(floor), astuple(current), strict=True)):
        raise UnavailableError(Code.ENDORSEMENTS_UNAVAILABLE, f"{tee} {fmspc.hex()}: {floor} is below {current}")
    return floor != current


def check_use(floors: Mapping[tuple[Tee, bytes], Floor], claims: Claims, floor: Floor | None) -> None:
    """Check that the collateral behind some claims is the one that was recorded last.

    Older would be below the floor; newer was not recorded, so that it could be rolled back unnoticed. A TEE without
    collateral has no floor; one with collateral whose claims rest on none is refused.

    Raises:
        UnavailableError: `endorsements.unavailable`.
    """
    platform, tee = platform_of(claims), claims.rooted.tee
    current = None if platform is None else floors.get((tee, platform))
    if current != floor or (current is None) is (tee in WITH_COLLATERAL):
        raise UnavailableError(
            Code.ENDORSEMENTS_UNAVAILABLE, f"{tee}: {floor}, while {current or 'nothing'} is recorded"
        )
