"""TCB info (versions 2 and 3) and quoting enclave identity (version 2): the inner objects, strictly typed.

Source: Intel PCS API v3 and v4, "Get TCB Info" and "Get Quoting Enclave Identity". Levels are sorted here, highest
first, and a level that occurs twice is refused: the order in the document decides nothing.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Final

from proxy_attestation.codes import Code
from proxy_attestation.errors import FormatError
from proxy_attestation.formats import signed_json as sj
from proxy_attestation.formats.bounds import ADVISORIES_MAX, TCB_LEVELS_MAX, TDX_MODULE_IDENTITIES_MAX
from proxy_attestation.formats.signed_json import JsonObject
from proxy_attestation.formats.tee import Tee

COMPONENTS: Final = 16
_U16: Final = 0xFFFF
_U32: Final = 0xFFFFFFFF


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
    status: TcbStatus
    date: datetime
    advisories: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class SvnLevel:
    """One TCB level of an enclave or module: the least ISVSVN. Status is UpToDate, OutOfDate or Revoked."""

    isv_svn: int
    status: TcbStatus
    date: datetime
    advisories: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class TdxModule:
    """Who may have signed a TDX module, and its attributes under a mask.

    Attributes:
        mr_signer: 48 bytes; zero means Intel.
        attributes: 8 bytes.
        attributes_mask: 8 bytes.
        levels: highest first; empty for the module that TCB info names without an identity (major version 0).
    """

    mr_signer: bytes
    attributes: bytes
    attributes_mask: bytes
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
    issue_date: datetime
    next_update: datetime
    fmspc: bytes
    pce_id: bytes
    evaluation_number: int
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

    id: str
    issue_date: datetime
    next_update: datetime
    misc_select: bytes
    misc_select_mask: bytes
    attributes: bytes
    attributes_mask: bytes
    mr_signer: bytes
    isv_prod_id: int
    levels: tuple[SvnLevel, ...]


def declared_tee(content: bytes, code: Code) -> Tee:
    """Return the TEE that a TCB info says it is for. Before the signature is checked this only picks an error's code.

    Raises:
        FormatError: with `code`.
    """
    return _tee(sj.decode_object(content, code), code)


def _tee(info: JsonObject, code: Code) -> Tee:
    version = sj.int_value(info, "version", code, _U16)
    if version not in (2, 3):
        raise FormatError(code, f"TCB info of version {version}; 2 and 3 are known")
    if version == 2 and "id" not in info:
        return Tee.SGX
    tee = {"SGX": Tee.SGX, "TDX": Tee.TDX}.get(sj.text_value(info, "id", code))
    if tee is None or (version == 2 and tee is not Tee.SGX):
        raise FormatError(code, "TCB info for an unknown TEE")
    return tee


def decode_tcb_info(content: bytes, code: Code) -> TcbInfo:
    """Decode the verified bytes of `tcbInfo`.

    Raises:
        FormatError: with `code`.
    """
    info = sj.decode_object(content, code)
    tee = _tee(info, code)
    if sj.int_value(info, "tcbType", code, _U16) != 0:
        raise FormatError(code, "an unknown tcbType")
    levels = [_platform_level(item, tee, info["version"] == 2, code) for item in _levels(info, code)]
    levels.sort(key=_platform_key, reverse=True)
    if len({_platform_key(level) for level in levels}) != len(levels):
        raise FormatError(code, "a TCB level occurs twice")
    return TcbInfo(
        tee=tee,
        issue_date=sj.date_value(info, "issueDate", code),
        next_update=sj.date_value(info, "nextUpdate", code),
        fmspc=sj.hex_value(info, "fmspc", 6, code),
        pce_id=sj.hex_value(info, "pceId", 2, code),
        evaluation_number=sj.int_value(info, "tcbEvaluationDataNumber", code, _U32),
        levels=tuple(levels),
        module=_module(sj.object_value(info, "tdxModule", code), (), code) if tee is Tee.TDX else None,
        module_identities=_identities(info, code) if tee is Tee.TDX else {},
    )


def decode_qe_identity(content: bytes, code: Code) -> QeIdentity:
    """Decode the verified bytes of `enclaveIdentity`.

    Raises:
        FormatError: with `code`.
    """
    identity = sj.decode_object(content, code)
    if sj.int_value(identity, "version", code, _U16) != 2:
        raise FormatError(code, "an enclave identity of another version than 2")
    return QeIdentity(
        id=sj.text_value(identity, "id", code),
        issue_date=sj.date_value(identity, "issueDate", code),
        next_update=sj.date_value(identity, "nextUpdate", code),
        misc_select=sj.hex_value(identity, "miscselect", 4, code),
        misc_select_mask=sj.hex_value(identity, "miscselectMask", 4, code),
        attributes=sj.hex_value(identity, "attributes", 16, code),
        attributes_mask=sj.hex_value(identity, "attributesMask", 16, code),
        mr_signer=sj.hex_value(identity, "mrsigner", 32, code),
        isv_prod_id=sj.int_value(identity, "isvprodid", code, _U16),
        levels=_svn_levels(identity, code),
    )


def _levels(parent: JsonObject, code: Code) -> Sequence[JsonObject]:
    return sj.objects_value(parent, "tcbLevels", code, TCB_LEVELS_MAX)


def _status(level: JsonObject, allowed: frozenset[TcbStatus], code: Code) -> TcbStatus:
    text = sj.text_value(level, "tcbStatus", code)
    if text not in allowed:
        raise FormatError(code, f"unknown TCB status {text!r}")
    return TcbStatus(text)


def _platform_level(level: JsonObject, tee: Tee, flat: bool, code: Code) -> PlatformLevel:
    tcb = sj.object_value(level, "tcb", code)
    if flat:
        sgx = tuple(sj.int_value(tcb, f"sgxtcbcomp{i:02}svn", code, _U16) for i in range(1, COMPONENTS + 1))
    else:
        sgx = _components(tcb, "sgxtcbcomponents", code)
    return PlatformLevel(
        sgx=sgx,
        pce_svn=sj.int_value(tcb, "pcesvn", code, _U16),
        tdx=_components(tcb, "tdxtcbcomponents", code) if tee is Tee.TDX else (),
        status=_status(level, _PLATFORM_STATUSES, code),
        date=sj.date_value(level, "tcbDate", code),
        advisories=sj.texts_value(level, "advisoryIDs", code, ADVISORIES_MAX),
    )


def _platform_key(level: PlatformLevel) -> tuple[tuple[int, ...], int, tuple[int, ...]]:
    return level.sgx, level.pce_svn, level.tdx


def _components(tcb: JsonObject, name: str, code: Code) -> tuple[int, ...]:
    items = sj.objects_value(tcb, name, code, COMPONENTS)
    if len(items) != COMPONENTS:
        raise FormatError(code, f"{name}: {len(items)} components, {COMPONENTS} expected")
    return tuple(sj.int_value(item, "svn", code, _U16) for item in items)


def _svn_levels(parent: JsonObject, code: Code) -> tuple[SvnLevel, ...]:
    levels = [
        SvnLevel(
            isv_svn=sj.int_value(sj.object_value(level, "tcb", code), "isvsvn", code, _U16),
            status=_status(level, _ENCLAVE_STATUSES, code),
            date=sj.date_value(level, "tcbDate", code),
            advisories=sj.texts_value(level, "advisoryIDs", code, ADVISORIES_MAX),
        )
        for level in _levels(parent, code)
    ]
    levels.sort(key=lambda level: level.isv_svn, reverse=True)
    if len({level.isv_svn for level in levels}) != len(levels):
        raise FormatError(code, "an SVN level occurs twice")
    return tuple(levels)


def _module(module: JsonObject, levels: tuple[SvnLevel, ...], code: Code) -> TdxModule:
    return TdxModule(
        mr_signer=sj.hex_value(module, "mrsigner", 48, code),
        attributes=sj.hex_value(module, "attributes", 8, code),
        attributes_mask=sj.hex_value(module, "attributesMask", 8, code),
        levels=levels,
    )


def _identities(info: JsonObject, code: Code) -> dict[int, TdxModule]:
    result: dict[int, TdxModule] = {}
    if info.get("tdxModuleIdentities", []) == []:
        return result
    for item in sj.objects_value(info, "tdxModuleIdentities", code, TDX_MODULE_IDENTITIES_MAX):
        text = sj.text_value(item, "id", code).upper()
        version = int(sj.hex_value({"id": text.removeprefix("TDX_")}, "id", 1, code)[0])
        if text != f"TDX_{version:02X}" or version in result:
            raise FormatError(code, f"TDX module identity {text!r}")
        result[version] = _module(item, _svn_levels(item, code), code)
    return result
