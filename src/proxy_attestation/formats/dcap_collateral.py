"""TCB info (versions 2 and 3) and quoting enclave identity (version 2): the inner objects, strictly typed.

Source: Intel PCS API v3 and v4, "Get TCB Info" and "Get Quoting Enclave Identity". Levels are sorted here, highest
first, and a level that occurs twice is refused: the order in the document decides nothing.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from operator import attrgetter
from typing import Annotated, Final, TypeVar

from proxy_attestation.codes import Code
from proxy_attestation.errors import FormatError
from proxy_attestation.formats.bounds import ADVISORIES_MAX, TCB_LEVELS_MAX, TDX_MODULE_IDENTITIES_MAX
from proxy_attestation.formats.signed_json import as_date, as_object, decode_object
from proxy_attestation.formats.tee import Tee
from proxy_attestation.formats.values import Item, Record, as_hex, as_member, as_text, as_tuple, as_uint

COMPONENTS: Final = 16
_U16: Final = (0xFFFF,)
_U32: Final = (0xFFFFFFFF,)


class TcbStatus(StrEnum):
    """What Intel says of a TCB level. The last two are made by the verifier (see `appraisal.tcb`)."""

    UP_TO_DATE = "UpToDate"
    SW_HARDENING_NEEDED = "SWHardeningNeeded"
    CONFIGURATION_NEEDED = "ConfigurationNeeded"
    CONFIGURATION_AND_SW_HARDENING_NEEDED = "ConfigurationAndSWHardeningNeeded"
    OUT_OF_DATE = "OutOfDate"
    OUT_OF_DATE_CONFIGURATION_NEEDED = "OutOfDateConfigurationNeeded"
    REVOKED = "Revoked"
    TD_RELAUNCH_ADVISED = "TDRelaunchAdvised"
    TD_RELAUNCH_ADVISED_CONFIGURATION_NEEDED = "TDRelaunchAdvisedConfigurationNeeded"


_PLATFORM_STATUSES: Final = frozenset(TcbStatus) - {
    TcbStatus.TD_RELAUNCH_ADVISED,
    TcbStatus.TD_RELAUNCH_ADVISED_CONFIGURATION_NEEDED,
}
_ENCLAVE_STATUSES: Final = frozenset({TcbStatus.UP_TO_DATE, TcbStatus.OUT_OF_DATE, TcbStatus.REVOKED})
_ADVISORIES: Final = Item("advisoryIDs", as_tuple, (0, ADVISORIES_MAX, as_text, 32), absent=())


def _status(value: object, code: Code, allowed: frozenset[TcbStatus]) -> TcbStatus:
    status = as_member(value, code, TcbStatus)
    if status not in allowed:
        raise FormatError(code, f"{status} is no status of such a level")
    return status


def _svn(value: object, code: Code, name: str) -> int:
    return as_uint(as_object(value, code).get(name), code, *_U16)


@dataclass(frozen=True, slots=True)
class PlatformLevel:
    """One TCB level of a platform.

    Attributes:
        sgx: the 16 least component SVNs.
        pce_svn: the least SVN of the provisioning certification enclave.
        tdx: the 16 least TDX component SVNs; empty in TCB info for SGX.
        status: Intel's word.
        date: UTC.
        advisories: security advisory ids, as published.
    """

    sgx: tuple[int, ...]
    pce_svn: int
    tdx: tuple[int, ...]
    status: Annotated[TcbStatus, Item("tcbStatus", _status, (_PLATFORM_STATUSES,))]
    date: Annotated[datetime, Item("tcbDate", as_date)]
    advisories: Annotated[tuple[str, ...], _ADVISORIES]


@dataclass(frozen=True, slots=True)
class SvnLevel:
    """One TCB level of an enclave or module: the least ISVSVN. Status is UpToDate, OutOfDate or Revoked."""

    isv_svn: Annotated[int, Item("tcb", _svn, ("isvsvn",))]
    status: Annotated[TcbStatus, Item("tcbStatus", _status, (_ENCLAVE_STATUSES,))]
    date: Annotated[datetime, Item("tcbDate", as_date)]
    advisories: Annotated[tuple[str, ...], _ADVISORIES]


_PLATFORM_LEVEL: Final = Record(PlatformLevel, extensible=True)
_SVN_LEVEL: Final = Record(SvnLevel, extensible=True)
_Level = TypeVar("_Level", PlatformLevel, SvnLevel)


def _highest_first(levels: tuple[_Level, ...], code: Code, *svns: str) -> tuple[_Level, ...]:
    key = attrgetter(*svns)
    if len({key(level) for level in levels}) != len(levels):
        raise FormatError(code, "a TCB level occurs twice")
    return tuple(sorted(levels, key=key, reverse=True))


def _svn_levels(value: object, code: Code) -> tuple[SvnLevel, ...]:
    return _highest_first(as_tuple(value, code, 1, TCB_LEVELS_MAX, _svn_level), code, "isv_svn")


def _svn_level(value: object, code: Code) -> SvnLevel:
    return SvnLevel(**_SVN_LEVEL.read(value, code))


@dataclass(frozen=True, slots=True)
class TdxModule:
    """Who may have signed a TDX module, and its attributes under a mask.

    Attributes:
        mr_signer: 48 bytes; zero means Intel.
        attributes: 8 bytes.
        attributes_mask: 8 bytes.
        levels: highest first; empty for the module that TCB info names without an identity (major version 0).
    """

    mr_signer: Annotated[bytes, Item("mrsigner", as_hex, (48,))]
    attributes: Annotated[bytes, Item("attributes", as_hex, (8,))]
    attributes_mask: Annotated[bytes, Item("attributesMask", as_hex, (8,))]
    levels: tuple[SvnLevel, ...]


@dataclass(frozen=True, slots=True)
class TcbInfo:
    """What is known about one platform family.

    Attributes:
        tee: SGX or TDX; version 2 is always SGX.
        issue_date: UTC.
        next_update: UTC.
        fmspc: 6 bytes.
        pce_id: 2 bytes.
        evaluation_number: tcbEvaluationDataNumber.
        levels: highest first, at least one.
        module: the TDX module of major version 0; None for SGX.
        module_identities: by major version of the module, 0 to 255; empty for SGX.
    """

    tee: Tee
    issue_date: Annotated[datetime, Item("issueDate", as_date)]
    next_update: Annotated[datetime, Item("nextUpdate", as_date)]
    fmspc: Annotated[bytes, Item("fmspc", as_hex, (6,))]
    pce_id: Annotated[bytes, Item("pceId", as_hex, (2,))]
    evaluation_number: Annotated[int, Item("tcbEvaluationDataNumber", as_uint, _U32)]
    levels: tuple[PlatformLevel, ...]
    module: TdxModule | None
    module_identities: Mapping[int, TdxModule]


@dataclass(frozen=True, slots=True)
class QeIdentity:
    """What a quoting enclave must be. Byte strings are in memory order, as in the QE report.

    Attributes:
        id: `QE` for SGX, `TD_QE` for TDX.
        issue_date: UTC.
        next_update: UTC.
        misc_select: 4 bytes, and its mask.
        misc_select_mask: 4 bytes.
        attributes: 16 bytes (FLAGS and XFRM), and their mask.
        attributes_mask: 16 bytes.
        mr_signer: 32 bytes.
        isv_prod_id: u16.
        levels: highest first, at least one.
    """

    id: Annotated[str, Item("id", as_text, (64,))]
    issue_date: Annotated[datetime, Item("issueDate", as_date)]
    next_update: Annotated[datetime, Item("nextUpdate", as_date)]
    misc_select: Annotated[bytes, Item("miscselect", as_hex, (4,))]
    misc_select_mask: Annotated[bytes, Item("miscselectMask", as_hex, (4,))]
    attributes: Annotated[bytes, Item("attributes", as_hex, (16,))]
    attributes_mask: Annotated[bytes, Item("attributesMask", as_hex, (16,))]
    mr_signer: Annotated[bytes, Item("mrsigner", as_hex, (32,))]
    isv_prod_id: Annotated[int, Item("isvprodid", as_uint, _U16)]
    levels: Annotated[tuple[SvnLevel, ...], Item("tcbLevels", _svn_levels)]


_TDX_MODULE: Final = Record(TdxModule, extensible=True)
_TCB_INFO: Final = Record(TcbInfo, extensible=True)
_QE_IDENTITY: Final = Record(QeIdentity, extensible=True)


def declared_tee(content: bytes, code: Code) -> Tee:
    """Return the TEE that a TCB info says it is for. Before the signature is checked this only picks an error's code.

    Raises:
        FormatError: with `code`.
    """
    return _tee(decode_object(content, code), code)


def _tee(info: dict[str, object], code: Code) -> Tee:
    version = as_uint(info.get("version"), code, 3, 2)
    if version == 2 and "id" not in info:
        return Tee.SGX
    tee = {"SGX": Tee.SGX, "TDX": Tee.TDX}.get(as_text(info.get("id"), code, 64))
    if tee is None or (version == 2 and tee is not Tee.SGX):
        raise FormatError(code, "TCB info for an unknown TEE")
    return tee


def decode_tcb_info(content: bytes, code: Code) -> TcbInfo:
    """Decode the verified bytes of `tcbInfo`.

    Raises:
        FormatError: with `code`.
    """
    info = decode_object(content, code)
    tee = _tee(info, code)
    as_uint(info.get("tcbType"), code, 0)
    levels = as_tuple(info.get("tcbLevels"), code, 1, TCB_LEVELS_MAX, _platform_level, tee, info["version"] == 2)
    return TcbInfo(
        tee=tee,
        levels=_highest_first(levels, code, "sgx", "pce_svn", "tdx"),
        module=_module(info.get("tdxModule"), (), code) if tee is Tee.TDX else None,
        module_identities=_identities(info, code) if tee is Tee.TDX else {},
        **_TCB_INFO.read(info, code),
    )


def decode_qe_identity(content: bytes, code: Code) -> QeIdentity:
    """Decode the verified bytes of `enclaveIdentity`, version 2.

    Raises:
        FormatError: with `code`.
    """
    identity = decode_object(content, code)
    as_uint(identity.get("version"), code, 2, 2)
    return QeIdentity(**_QE_IDENTITY.read(identity, code))


def _platform_level(value: object, code: Code, tee: Tee, flat: bool) -> PlatformLevel:
    level = _PLATFORM_LEVEL.read(value, code)
    tcb = as_object(as_object(value, code).get("tcb"), code)
    if flat:
        sgx = tuple(_svn(tcb, code, f"sgxtcbcomp{number:02}svn") for number in range(1, COMPONENTS + 1))
    else:
        sgx = _components(tcb, "sgxtcbcomponents", code)
    tdx = _components(tcb, "tdxtcbcomponents", code) if tee is Tee.TDX else ()
    return PlatformLevel(sgx=sgx, pce_svn=_svn(tcb, code, "pcesvn"), tdx=tdx, **level)


def _components(tcb: dict[str, object], name: str, code: Code) -> tuple[int, ...]:
    return as_tuple(tcb.get(name), code, COMPONENTS, COMPONENTS, _svn, "svn")


def _module(value: object, levels: tuple[SvnLevel, ...], code: Code) -> TdxModule:
    return TdxModule(levels=levels, **_TDX_MODULE.read(value, code))


def _identities(info: dict[str, object], code: Code) -> dict[int, TdxModule]:
    result: dict[int, TdxModule] = {}
    for item in as_tuple(info.get("tdxModuleIdentities", []), code, 0, TDX_MODULE_IDENTITIES_MAX, as_object):
        text = as_text(item.get("id"), code, 64).upper()
        version = int(as_hex(text.removeprefix("TDX_"), code, 1)[0])
        if text != f"TDX_{version:02X}" or version in result:
            raise FormatError(code, f"TDX module identity {text!r}")
        result[version] = _module(item, _svn_levels(item.get("tcbLevels"), code), code)
    return result
