"""AMD's certificates and revocation lists from its Key Distribution Service (KDS).

A set is one product's: for VCEKs the chain (ASK, ARK) and the CRL that the ARK signs, for VLEKs the same with the ASVK,
and the VCEKs of chips that were named. Checked in this order; nothing is used before the last step:

 1  each answer is 200, within size and time                                                 (`http.Getter`)
 2  chains are PEM with the signing key first and the root second; CRLs and VCEKs are DER
 3  chain and CRL verify to a pinned ARK at `now`                                            (`amd_checks`)
 4  a VCEK is signed by the ASK and is for the chip and the TCB that were asked for
 5  no CRL goes back                                                                         (`fetched.check_not_older`)

A VCEK never changes for a chip and a TCB, so one that the cache has is verified again and not asked for again.

Source: AMD document 57230, "VCEK Certificate and KDS Interface Specification", chapters 3 and 4.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from proxy_attestation.codes import Code
from proxy_attestation.endorsements.amd_checks import (
    HWID_LENGTH,
    TCB_PARTS,
    TURIN_HWID_LENGTH,
    AmdPins,
    ChainPieces,
    VcekRequest,
    check_chain,
    check_vcek,
)
from proxy_attestation.endorsements.fetched import (
    FetchedSet,
    Window,
    check_not_older,
    half_life,
    source,
)
from proxy_attestation.endorsements.http import Getter
from proxy_attestation.errors import FormatError
from proxy_attestation.formats.bounds import CERTIFICATE_MAX, COLLATERAL_DOCUMENT_MAX
from proxy_attestation.formats.pem import CERTIFICATE, decode_pem

KDS_BASE: Final = "https://kdsintf.amd.com"
PRODUCTS: Final = ("Milan", "Genoa", "Turin")
VCEKS_MAX: Final = 64
"""Chips and TCBs of one set."""
_CHAIN_FILE: Final = "{}_cert_chain.pem"
_CRL_FILE: Final = "{}_crl.der"
_VCEK_FILE: Final = re.compile(r"vcek-[0-9a-f]{32}\.der")


@dataclass(frozen=True, slots=True)
class AmdTarget:
    """A product to have endorsements for.

    Attributes:
        product: one of `PRODUCTS`.
        vlek: whether the VLEK chain and its CRL are wanted too.
        vceks: chips whose VCEKs are wanted; evidence usually brings its own.
    """

    product: str
    vlek: bool = False
    vceks: tuple[VcekRequest, ...] = ()

    @property
    def name(self) -> str:
        """`snp-<product in lower case>`."""
        return f"snp-{self.product.lower()}"

    @property
    def kinds(self) -> tuple[str, ...]:
        """The kinds of signing key whose chain and CRL are wanted."""
        return ("vcek", "vlek") if self.vlek else ("vcek",)


def parse_vcek(text: str, product: str) -> VcekRequest:
    """Read `HWID:bl=N,tee=N,snp=N,ucode=N`, for Turin with `fmc=N` too.

    Raises:
        ValueError: for anything else.
    """
    hwid, _, components = text.partition(":")
    turin = product == "Turin"
    length = TURIN_HWID_LENGTH if turin else HWID_LENGTH
    if not re.fullmatch(rf"[0-9A-Fa-f]{{{2 * length}}}", hwid):
        raise ValueError(f"a chip id of {length} bytes in hex was expected before the colon")
    pairs = [item.partition("=") for item in components.split(",")]
    tcb = {name: int(number) for name, _, number in pairs if re.fullmatch(r"[0-9]{1,3}", number)}
    wanted = {name for name in TCB_PARTS if turin or name != "fmc"}
    if len(pairs) != len(wanted) or set(tcb) != wanted or max(tcb.values()) > 0xFF:
        raise ValueError(f"after the colon {', '.join(f'{name}=N' for name in TCB_PARTS if name in wanted)}; N to 255")
    if not any(bytes.fromhex(hwid)):
        raise ValueError("a chip id of zeros names no chip: the platform masks it")
    return VcekRequest(bytes.fromhex(hwid), tcb)


async def fetch_amd(
    getter: Getter,
    base: str,
    target: AmdTarget,
    pins: AmdPins,
    now: datetime,
    *,
    held: Mapping[str, int],
    held_files: Mapping[str, bytes],
) -> FetchedSet:
    """Fetch and check a product's set.

    Args:
        getter: how.
        base: of KDS, without `/vcek/v1/...`.
        target: what.
        pins: the anchors.
        now: aware, UTC.
        held: the numbers of the set that the cache has; none go back.
        held_files: the files of that set, for VCEKs that need not be asked for again.

    Raises:
        UnavailableError: as `Getter.get`; `endorsements.source`, `endorsements.stale`.
        RefusedError: `endorsements.rejected`.
    """
    files: dict[str, bytes] = {}
    for kind in target.kinds:
        where = f"{base}/{kind}/v1/{target.product}"
        chain = await getter.get(f"{where}/cert_chain", limit=4 * CERTIFICATE_MAX)
        files[_CHAIN_FILE.format(kind)] = chain.body
        crl = await getter.get(f"{where}/crl", limit=COLLATERAL_DOCUMENT_MAX)
        files[_CRL_FILE.format(kind)] = crl.body
    for vcek in target.vceks:
        name = vcek.file_name
        if name in held_files:
            files[name] = held_files[name]
        else:
            files[name] = await _get_vcek(getter, base, target.product, vcek)
    return check_amd(files, target, pins, now, held=held)


async def _get_vcek(getter: Getter, base: str, product: str, vcek: VcekRequest) -> bytes:
    query = {f"{part}SPL": f"{vcek.tcb[part]:02}" for part in TCB_PARTS if part in vcek.tcb}
    url = f"{base}/vcek/v1/{product}/{vcek.hwid.hex()}"
    return (await getter.get(url, limit=CERTIFICATE_MAX, query=query)).body


async def fetch_vcek(
    getter: Getter,
    base: str,
    product: str,
    vcek: VcekRequest,
    *,
    held_files: Mapping[str, bytes],
    pins: AmdPins,
    now: datetime,
) -> bytes:
    """Fetch one VCEK and check it under the chain of a set that is held.

    Args:
        getter: how.
        base: of KDS, without `/vcek/v1/...`.
        product: one of `PRODUCTS`.
        vcek: the chip and the TCB.
        held_files: the set's files.
        pins: the anchors.
        now: aware, UTC.

    Returns:
        The VCEK, DER.

    Raises:
        UnavailableError: as `Getter.get`; `endorsements.source`, `endorsements.stale`.
        RefusedError: `endorsements.rejected`.
    """
    pieces = _pieces(f"snp-{product.lower()}", product, "vcek", held_files)
    check_chain(pieces, pins, now)
    der = await _get_vcek(getter, base, product, vcek)
    check_vcek(der, pieces, pins, vcek, now)
    return der


def check_amd(
    files: Mapping[str, bytes],
    target: AmdTarget,
    pins: AmdPins,
    now: datetime,
    *,
    held: Mapping[str, int],
) -> FetchedSet:
    """Check a set that was fetched or imported: steps 2 to 5. Pure.

    Raises:
        UnavailableError: `endorsements.source`, `endorsements.stale`.
        RefusedError: `endorsements.rejected`.
    """
    kept: dict[str, bytes] = {}
    numbers: dict[str, int] = {}
    windows: list[Window] = []
    ends: list[datetime] = []
    chains: dict[str, ChainPieces] = {}
    for kind in target.kinds:
        # 2
        chains[kind] = _pieces(target.name, target.product, kind, files)
        # 3
        found = check_chain(chains[kind], pins, now)
        for file in (_CHAIN_FILE.format(kind), _CRL_FILE.format(kind)):
            kept[file] = files[file]
        windows.append((found.valid_from, found.valid_until))
        ends.append(found.valid_until)
        numbers[f"{kind} crl issue date"] = found.floor.issue_date
        numbers[f"{kind} crl number"] = found.floor.pck_crl_number
    # 4
    wanted = {vcek.file_name: vcek for vcek in target.vceks}
    names = [name for name in files if _VCEK_FILE.fullmatch(name)]
    if len(names) > VCEKS_MAX or not wanted.keys() <= set(names):
        raise source(target.name, f"a VCEK is absent, or there are more than {VCEKS_MAX}")
    for name in names:
        check_vcek(files[name], chains["vcek"], pins, wanted.get(name), now)
        kept[name] = files[name]
    # 5
    check_not_older(target.name, numbers, held)
    return FetchedSet(target.name, kept, numbers, half_life(windows), min(ends))


def _pieces(name: str, product: str, kind: str, files: Mapping[str, bytes]) -> ChainPieces:
    chain_file, crl_file = _CHAIN_FILE.format(kind), _CRL_FILE.format(kind)
    if chain_file not in files or crl_file not in files:
        raise source(name, f"{chain_file} or {crl_file} is absent")
    return ChainPieces(product, kind, *_chain(name, files[chain_file]), files[crl_file])


def _chain(name: str, pem: bytes) -> tuple[bytes, bytes]:
    try:
        ders = decode_pem(pem, CERTIFICATE, Code.ENDORSEMENTS_SOURCE, count=2, limit=CERTIFICATE_MAX)
    except FormatError as error:
        raise source(name, error.detail) from error
    if len(ders) != 2:
        raise source(name, "a chain of one certificate; the signing key and the root were expected")
    return ders[0], ders[1]
