"""TCB levels, convergence, TDX module and relaunch: each rule by itself (QVL 4.1.2.4.11, .15, .17)."""

from dataclasses import replace
from datetime import UTC, datetime
from itertools import product

import pytest

from proxy_attestation.appraisal.claims import TdxClaims
from proxy_attestation.appraisal.dcap_collateral import DcapCollateral, verify_collateral
from proxy_attestation.appraisal.endorsements import DcapEndorsements
from proxy_attestation.appraisal.roots import Roots
from proxy_attestation.appraisal.tcb import converge, judge_tcb, match_levels, match_module, match_qe
from proxy_attestation.codes import Code
from proxy_attestation.errors import AppraisalError
from proxy_attestation.formats.dcap_collateral import PlatformLevel, SvnLevel, TcbInfo, TcbStatus, TdxModule
from proxy_attestation.formats.pck import PckExtension
from proxy_attestation.formats.tee import Tee
from proxy_attestation_simulator.documents import qe_body
from proxy_attestation_simulator.intel import Vendor

_DATE = datetime(2026, 1, 1, tzinfo=UTC)
_S = TcbStatus
_INTEL = bytes(48)


def _level(sgx: int, tdx: tuple[int, ...], status: TcbStatus, pce_svn: int = 10) -> PlatformLevel:
    return PlatformLevel((sgx,) * 16, pce_svn, (*tdx, *[0] * (16 - len(tdx))), status, _DATE, (f"SA-{sgx}",))


def _svns(*levels: tuple[int, TcbStatus]) -> tuple[SvnLevel, ...]:
    return tuple(SvnLevel(svn, status, _DATE, (f"SA-module-{svn}",)) for svn, status in levels)


def _module(*levels: tuple[int, TcbStatus], mr_signer: bytes = _INTEL) -> TdxModule:
    return TdxModule(mr_signer, bytes(8), b"\xff" * 8, _svns(*levels))


def _info(*levels: PlatformLevel, identities: dict[int, TdxModule] | None = None) -> TcbInfo:
    return TcbInfo(Tee.TDX, _DATE, _DATE, b"F" * 6, b"\0\0", 17, levels, _module(), identities or {})


def _pck(svn: int, pce_svn: int = 10, **changes: int) -> PckExtension:
    components = [svn] * 16
    for index, value in changes.items():
        components[int(index[1:])] = value
    return PckExtension(bytes(16), tuple(components), pce_svn, b"\xff" * 16, b"\0\0", b"F" * 6, 0, None)


def _td(svn: tuple[int, ...], svn_2: tuple[int, ...] | None = None, **changes: bytes) -> TdxClaims:
    zeros = {name: bytes(48) for name in TdxClaims.__slots__}
    zeros |= {"seam_attributes": bytes(8), "td_attributes": bytes(8), "xfam": b"\3" + bytes(7)}
    zeros |= {"tee_tcb_svn": bytes(svn).ljust(16, b"\0")} | changes
    second = None if svn_2 is None else bytes(svn_2).ljust(16, b"\0")
    return TdxClaims(**{**zeros, "tee_tcb_svn_2": second})  # type: ignore[arg-type]  # every field is given


_LEVELS = (
    _level(5, (4, 1, 7), _S.UP_TO_DATE),
    _level(5, (4, 1, 3), _S.SW_HARDENING_NEEDED),
    _level(3, (2, 0, 2), _S.OUT_OF_DATE),
)


@pytest.mark.parametrize(
    ("pck", "expected"),
    [
        (_pck(5), 0),
        (_pck(255), 0),
        (_pck(5, 9), None),
        (_pck(4), 2),
        (_pck(5, i15=4), 2),
        (_pck(5, i0=4), 2),
        (_pck(3), 2),
        (_pck(2), None),
        (_pck(255, i7=2), None),
    ],
)
def test_an_sgx_platform_reaches_every_component(pck: PckExtension, expected: int | None) -> None:
    level = None if expected is None else _LEVELS[expected]
    assert match_levels(_info(*_LEVELS), pck, None) == (level, level)


@pytest.mark.parametrize(
    ("svn", "newest", "reached"),
    [
        # A module of version 0: all 16 count.
        ((4, 0, 7), 0, 2),
        ((2, 0, 2), 0, 2),
        ((1, 0, 7), 0, None),
        # A module of version 1 and above: SVNs 0 and 1 are its identity's business.
        ((0, 1, 7), 0, 0),
        ((0, 1, 6), 0, 1),
        ((255, 9, 2), 0, 2),
        ((255, 9, 1), 0, None),
    ],
)
def test_a_td_reaches_a_level_by_its_own_svns(svn: tuple[int, ...], newest: int, reached: int | None) -> None:
    tee_tcb_svn = bytes(svn).ljust(16, b"\0")
    found = match_levels(_info(*_LEVELS), _pck(5), tee_tcb_svn)
    assert found == (_LEVELS[newest], None if reached is None else _LEVELS[reached])


def test_the_newest_level_is_the_one_that_the_platform_reaches() -> None:
    assert match_levels(_info(*_LEVELS), _pck(4), bytes([4, 1, 7]).ljust(16, b"\0")) == (_LEVELS[2], _LEVELS[2])


def test_convergence() -> None:
    outdated = {
        _S.UP_TO_DATE: _S.OUT_OF_DATE,
        _S.SW_HARDENING_NEEDED: _S.OUT_OF_DATE,
        _S.CONFIGURATION_NEEDED: _S.OUT_OF_DATE_CONFIGURATION_NEEDED,
        _S.CONFIGURATION_AND_SW_HARDENING_NEEDED: _S.OUT_OF_DATE_CONFIGURATION_NEEDED,
    }
    for platform, part in product(_S, (_S.UP_TO_DATE, _S.OUT_OF_DATE)):
        expected = outdated.get(platform, platform) if part is _S.OUT_OF_DATE else platform
        assert converge(platform, SvnLevel(1, part, _DATE, ())) is expected


_IDENTITIES = {
    1: _module((4, _S.UP_TO_DATE), (2, _S.OUT_OF_DATE), (1, _S.REVOKED)),
    0xC1: _module((9, _S.UP_TO_DATE), mr_signer=b"\1" * 48),
}


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (_td((0, 0)), None),
        (_td((4, 1)), 4),
        (_td((255, 1)), 4),
        (_td((3, 1)), 2),
        (_td((9, 0xC1), mr_signer_seam=b"\1" * 48), 9),
        (_td((0, 1)), Code.TDX_MODULE_TCB_NOT_SUPPORTED),
        (_td((1, 1)), Code.TDX_MODULE_TCB_REVOKED),
        (_td((4, 2)), Code.TDX_MODULE_IDENTITY),
        (_td((9, 0xC1)), Code.TDX_MODULE_IDENTITY),
        (_td((4, 1), mr_signer_seam=b"\1" + bytes(47)), Code.TDX_MODULE_IDENTITY),
        (_td((4, 0), mr_signer_seam=b"\1" + bytes(47)), Code.TDX_MODULE_IDENTITY),
        (_td((4, 1), seam_attributes=bytes(7) + b"\1"), Code.TDX_MODULE_IDENTITY),
        (_td((4, 0), seam_attributes=b"\1" + bytes(7)), Code.TDX_MODULE_IDENTITY),
    ],
)
def test_the_tdx_module(body: TdxClaims, expected: int | Code | None) -> None:
    info = _info(*_LEVELS, identities=_IDENTITIES)
    if isinstance(expected, Code):
        with pytest.raises(AppraisalError) as caught:
            match_module(info, body)
        assert caught.value.code is expected
    else:
        level = match_module(info, body)
        assert (level and level.isv_svn) == expected


def test_seam_attributes_are_zero_even_where_the_mask_allows_more() -> None:
    lax = replace(_module((1, _S.UP_TO_DATE)), attributes_mask=bytes(8))
    with pytest.raises(AppraisalError) as caught:
        match_module(_info(*_LEVELS, identities={1: lax}), _td((4, 1), seam_attributes=b"\1" + bytes(7)))
    assert caught.value.code is Code.TDX_MODULE_IDENTITY


@pytest.fixture
def collateral(vendor: Vendor, roots: Roots, now: datetime) -> DcapCollateral:
    return verify_collateral(DcapEndorsements(**vendor.endorsements("tdx")), roots, now)


_QE_REPORT = qe_body("tdx").encode()


def test_the_quoting_enclave(collateral: DcapCollateral) -> None:
    assert match_qe(collateral.qe_identity, _QE_REPORT, Tee.TDX).status is _S.UP_TO_DATE
    # What the masks leave out may be anything: ATTRIBUTES.XFRM, and the fields that no identity names.
    for offset in (0, 32, 56, 64, 192, 304):
        other = bytearray(_QE_REPORT)
        other[offset] ^= 1
        assert match_qe(collateral.qe_identity, bytes(other), Tee.TDX).isv_svn == 8
    for offset in (16, 19, 48, 49, 128, 159, 256, 257):
        other = bytearray(_QE_REPORT)
        other[offset] ^= 1
        with pytest.raises(AppraisalError) as caught:
            match_qe(collateral.qe_identity, bytes(other), Tee.TDX)
        assert caught.value.code is Code.TDX_QE_IDENTITY


# The newest level wants SVN 2 of 7. This TD was launched by module 1.2 (out of date) with SVN 2 of 3.
_LAUNCHED = (2, 1, 3)
_OLD = (_level(5, (4, 1, 7), _S.UP_TO_DATE), _level(5, (2, 1, 3), _S.OUT_OF_DATE))


def _judge(
    collateral: DcapCollateral,
    svn_2: tuple[int, ...] | None,
    levels: tuple[PlatformLevel, ...] = _OLD,
    launched: tuple[int, ...] = _LAUNCHED,
    qe_svn: int = 8,
) -> str:
    judged = replace(collateral, tcb_info=_info(*levels, identities=_IDENTITIES))
    report = _QE_REPORT[:258] + qe_svn.to_bytes(2, "little") + _QE_REPORT[260:]
    return judge_tcb(judged, _pck(5), report, _td(launched, svn_2)).status


def test_relaunch_is_advised_where_the_loaded_module_is_new(collateral: DcapCollateral) -> None:
    assert _judge(collateral, (4, 1, 7)) == "TDRelaunchAdvised"
    # By the newest level itself where the loaded module has version 0.
    assert _judge(collateral, (4, 0, 7)) == "TDRelaunchAdvised"


@pytest.mark.parametrize("svn_2", [None, (3, 1, 7), (4, 1, 6), (3, 0, 7), (4, 0, 6), (2, 1, 3)])
def test_no_relaunch_where_it_is_not(svn_2: tuple[int, ...] | None, collateral: DcapCollateral) -> None:
    assert _judge(collateral, svn_2) == "OutOfDate"


def test_no_relaunch_with_a_module_that_nobody_names(collateral: DcapCollateral) -> None:
    with pytest.raises(AppraisalError) as caught:
        _judge(collateral, (4, 7, 7))
    assert caught.value.code is Code.TDX_MODULE_IDENTITY


def test_no_relaunch_where_something_else_is_out_of_date(collateral: DcapCollateral) -> None:
    assert _judge(collateral, (4, 1, 7), qe_svn=6) == "OutOfDate"
    assert _judge(collateral, (4, 1, 7), launched=(4, 1, 3)) == "OutOfDate"
    old_platform = (_level(9, (4, 1, 7), _S.UP_TO_DATE), _level(5, (2, 1, 3), _S.OUT_OF_DATE))
    assert _judge(collateral, (4, 1, 7), old_platform) == "OutOfDate"


@pytest.mark.parametrize(
    ("newest", "reached", "expected"),
    [
        (_S.UP_TO_DATE, _S.OUT_OF_DATE, "TDRelaunchAdvised"),
        (_S.SW_HARDENING_NEEDED, _S.OUT_OF_DATE, "TDRelaunchAdvised"),
        (_S.CONFIGURATION_NEEDED, _S.OUT_OF_DATE, "TDRelaunchAdvisedConfigurationNeeded"),
        (_S.CONFIGURATION_AND_SW_HARDENING_NEEDED, _S.OUT_OF_DATE, "TDRelaunchAdvisedConfigurationNeeded"),
        (_S.UP_TO_DATE, _S.OUT_OF_DATE_CONFIGURATION_NEEDED, "TDRelaunchAdvisedConfigurationNeeded"),
        # An outdated module makes an otherwise good level out of date, and that is what a relaunch mends.
        (_S.UP_TO_DATE, _S.UP_TO_DATE, "TDRelaunchAdvised"),
        (_S.UP_TO_DATE, _S.CONFIGURATION_NEEDED, "TDRelaunchAdvisedConfigurationNeeded"),
        (_S.OUT_OF_DATE, _S.OUT_OF_DATE, "OutOfDate"),
        (_S.REVOKED, _S.OUT_OF_DATE, "OutOfDate"),
    ],
)
def test_relaunch_by_status(newest: TcbStatus, reached: TcbStatus, expected: str, collateral: DcapCollateral) -> None:
    levels = (_level(5, (4, 1, 7), newest), _level(5, (2, 1, 3), reached))
    assert _judge(collateral, (4, 1, 7), levels) == expected


def test_a_revoked_level_is_refused(collateral: DcapCollateral) -> None:
    with pytest.raises(AppraisalError) as caught:
        _judge(collateral, (4, 1, 7), (_level(5, (2, 1, 3), _S.REVOKED),))
    assert caught.value.code is Code.TDX_TCB_REVOKED


def test_advisories_of_every_matched_level(collateral: DcapCollateral) -> None:
    judged = replace(collateral, tcb_info=_info(*_OLD, identities=_IDENTITIES))
    report = _QE_REPORT[:258] + (6).to_bytes(2, "little") + _QE_REPORT[260:]
    tcb = judge_tcb(judged, _pck(5), report, _td(_LAUNCHED))
    assert tcb.advisories == ("INTEL-SA-00477", "SA-5", "SA-module-2")
    assert (tcb.date, tcb.evaluation_number, tcb.fmspc, tcb.pce_id) == (_DATE, 17, b"F" * 6, b"\0\0")
