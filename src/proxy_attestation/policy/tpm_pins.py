"""What an entry must pin of a TPM: who vouches for it, and what its registers hold.

    ek_roots = ["…"]          SHA-256 of the SubjectPublicKeyInfo of CAs that vouch for EKs or AKs, 32 bytes each
    hardware = ["snp"]        or the hardware below an Azure vTPM: snp, tdx
    pcr_bank = "sha256"       sha256 (the default), sha384 or sha512; SHA-1 pins nothing
    pcr0 = ["…"] to pcr22     accepted values of a register of that bank; never all zero, which is not measured

At least `ek_roots` or `hardware`, `pcr0`, and one of `pcr4`, `pcr7` and `pcr11`: the firmware, and what it started or
whom it lets start (boot loader, Secure Boot's keys, the unified kernel image). Registers 16 and 23 pin nothing: any
program may reset them. A pinned register whose log has an event of a type that nobody knows is refused, whatever its
value; and so is a quote that rests on an AK named for one run, for whom no policy speaks.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Final

from proxy_attestation.appraisal.tpm_claims import TpmClaims
from proxy_attestation.codes import Code
from proxy_attestation.errors import Mismatch
from proxy_attestation.formats.bounds import PIN_VALUES_MAX
from proxy_attestation.formats.pins import PinKey, PinKind
from proxy_attestation.formats.tpm_codes import HASH_SIZES
from proxy_attestation.policy.pins import compare, readable
from proxy_attestation.policy.reader import Fault, TableReader, show
from proxy_attestation.policy.vocabulary import hex_from

BANKS: Final = ("sha256", "sha384", "sha512")
HARDWARE: Final = ("snp", "tdx")
REGISTERS: Final = tuple(index for index in range(24) if index not in (16, 23))
EK_ROOTS: Final = PinKey("ek_roots", PinKind.ANY_OF, 32, Code.POLICY_SIGNER, zero=False)
TPM_PIN_KEYS: Final = frozenset({"ek_roots", "hardware", "pcr_bank", *(f"pcr{index}" for index in REGISTERS)})
_BOOT: Final = (4, 7, 11)
_MINIMUM: Final = "below the minimum pins of tpm, which are ek_roots or hardware; pcr0; and one of pcr4, pcr7, pcr11"


@dataclass(frozen=True, slots=True)
class TpmPins:
    """What a TPM must say.

    Attributes:
        ek_roots: accepted CAs, SHA-256 of SubjectPublicKeyInfo; empty where only hardware vouches.
        hardware: accepted layers below a vTPM, `snp` or `tdx`; empty where there is none.
        pcr_bank: the hash of the registers.
        pcrs: for each pinned register its accepted values.
    """

    ek_roots: tuple[bytes, ...]
    hardware: tuple[str, ...]
    pcr_bank: str
    pcrs: Mapping[int, tuple[bytes, ...]]


def pcr_key(index: int, bank: str) -> PinKey:
    """Return the key of one register."""
    return PinKey(f"pcr{index}", PinKind.ANY_OF, HASH_SIZES[bank], Code.POLICY_MEASUREMENT, zero=False)


def parse_tpm_pins(reader: TableReader) -> TpmPins | None:
    """Read the pins of an entry; None, with every problem noted, where they are wrong or below the minimum."""
    noted = len(reader.issues)
    bank = reader.value("pcr_bank", partial(_one_of, known=BANKS)) or BANKS[0]
    roots = reader.values("ek_roots", PIN_VALUES_MAX, partial(hex_from, size=EK_ROOTS.size, zero=False))
    hardware = reader.values("hardware", len(HARDWARE), partial(_one_of, known=HARDWARE))
    read = partial(hex_from, size=HASH_SIZES[bank], zero=False)
    pcrs = {index: reader.values(f"pcr{index}", PIN_VALUES_MAX, read) for index in REGISTERS}
    if not reader.has("ek_roots") and not reader.has("hardware"):
        reader.require(["ek_roots"], _MINIMUM)
    reader.require(["pcr0"], _MINIMUM)
    if not any(reader.has(f"pcr{index}") for index in _BOOT):
        reader.require([f"pcr{_BOOT[0]}"], _MINIMUM)
    for index in (16, 23):
        if reader.has(f"pcr{index}"):
            reader.note(f"pcr{index}", f"pcr{index} pins nothing", "remove it: any program may reset that register")
    if len(reader.issues) > noted:
        return None
    return TpmPins(roots, hardware, bank, {index: values for index, values in pcrs.items() if values})


def _one_of(text: str, known: tuple[str, ...]) -> str | Fault:
    return text if text in known else Fault(show(text), f"known: {', '.join(known)}")


def match_tpm(pins: TpmPins, body: TpmClaims, anchor: bytes) -> tuple[Mismatch, ...]:
    """Compare what a TPM said with pins; every mismatch.

    Args:
        pins: of the entry.
        body: what was appraised.
        anchor: the SubjectPublicKeyInfo that its trust ends in, hashed (`TpmResult.anchor`).
    """
    return tuple(_mismatches(pins, body, anchor))


def _mismatches(pins: TpmPins, body: TpmClaims, anchor: bytes) -> Iterator[Mismatch]:
    if body.ak_trust == "hardware":
        layer = "nothing" if body.hcl is None else body.hcl.report_type.lower()
        if layer not in pins.hardware:
            yield Mismatch(Code.POLICY_SIGNER, "hardware", " or ".join(pins.hardware) or "nothing", layer)
    elif body.ak_trust in ("activation", "certificate"):
        mismatch = compare(EK_ROOTS, pins.ek_roots, anchor)
        if mismatch is not None:
            yield mismatch
    else:
        yield Mismatch(Code.POLICY_SIGNER, "ek_roots", readable(EK_ROOTS, pins.ek_roots), f"an AK by {body.ak_trust}")
    values = body.pcrs.get(pins.pcr_bank, {})
    # No file pins less than register 0; pins made in another way that pin nothing match nothing.
    for index, accepted in sorted(pins.pcrs.items() or {0: ()}.items()):
        mismatch = compare(pcr_key(index, pins.pcr_bank), accepted, values.get(index))
        if mismatch is not None:
            yield mismatch
    for layer_ in body.layers:
        if layer_.register in pins.pcrs and layer_.unknown:
            found = ", ".join(f"{event.type:08x}" for event in layer_.unknown[:8])
            yield Mismatch(Code.TPM_EVENT_UNKNOWN, f"pcr{layer_.register}", "events of known types", found)


def match_key(body: TpmClaims, *, software_keys: bool) -> Mismatch | None:
    """Refuse a key that the AK did not certify, unless the entry is named in `[danger] software_keys`."""
    if body.key_certified or software_keys:
        return None
    return Mismatch(Code.TPM_SOFTWARE_KEY, "key_certified", "true", "false")


def tpm_pins_readable(pins: TpmPins) -> dict[str, tuple[str, ...]]:
    """Return what pins demand, for people: by key name, one text for each accepted value."""
    lists = {"ek_roots": tuple(value.hex() for value in pins.ek_roots), "hardware": pins.hardware}
    shown = {name: values for name, values in lists.items() if values} | {"pcr_bank": (pins.pcr_bank,)}
    return shown | {f"pcr{index}": tuple(value.hex() for value in pins.pcrs[index]) for index in sorted(pins.pcrs)}
