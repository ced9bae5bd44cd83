"""What of each TEE can be pinned: the vendor's field names with their kinds and lengths, as tables.

Policies and expectations are written in these words, and a leaf carries what they can pin. Hex is lower case and in
memory order, as in the vendor's signed structure and as `appraise` prints it.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Final, TypeAlias

from proxy_attestation.codes import Code
from proxy_attestation.formats.dcap_collateral import TcbStatus
from proxy_attestation.formats.snp_report import CSP_ID_MAX
from proxy_attestation.formats.tee import Tee


@dataclass(frozen=True, slots=True)
class MaskedBytes:
    """A value that counts only where the mask has bits.

    Attributes:
        value: already masked.
        mask: as long as the value, never all zero.
    """

    value: bytes
    mask: bytes

    def matches(self, actual: bytes) -> bool:
        """Tell whether `actual` has the same length and the same bits under the mask."""
        if len(actual) != len(self.mask):
            return False
        return int.from_bytes(actual) & int.from_bytes(self.mask) == int.from_bytes(self.value)


PinValue: TypeAlias = tuple[bytes, ...] | tuple[str, ...] | bytes | int | MaskedBytes
Claim: TypeAlias = bytes | int | str
Pins: TypeAlias = Mapping[str, PinValue]
"""What an entry demands of its TEE: by key, in the order of the table. A key that is not there demands nothing."""


class PinKind(Enum):
    """How a key is written, and what it takes to match it."""

    ANY_OF = "list of hex"
    WORD = "list of text"
    EXACT = "hex"
    MASKED = "hex, with a mask"
    NUMBER = "integer"
    AT_LEAST = "integer, a minimum"


@dataclass(frozen=True, slots=True)
class PinKey:
    """One key that pins one claim.

    Attributes:
        name: the key, as written.
        kind: how it is written and compared.
        size: bytes of the value; an integer goes up to what fits in them, a text has at most so many characters.
        code: of the mismatch.
        zero: whether an all-zero value says something. A measurement of zero is none.
        absent: what an entry demands that does not have the key; None where that is nothing.
        missing: what the claim counts as where the evidence does not have it; None agrees with nothing.
        lengths: further lengths that a value may have, in bytes.
    """

    name: str
    kind: PinKind
    size: int
    code: Code
    zero: bool = True
    absent: PinValue | None = None
    missing: Claim | None = None
    lengths: tuple[int, ...] = ()

    @property
    def claim(self) -> str:
        """The claim's name in the vendor's vocabulary."""
        return self.name.removeprefix("min_")

    @property
    def mask(self) -> str:
        """The name of the key that holds its mask."""
        return f"{self.name}_mask"


_NONE_BOUND: Final = bytes(48)
"""MRSERVICETD where no service TD is bound. A TDX 1.0 body has no such field, and a TD of 1.0 no service TD."""

_SGX: Final = (
    PinKey("mr_enclave", PinKind.ANY_OF, 32, Code.POLICY_MEASUREMENT, zero=False),
    PinKey("mr_signer", PinKind.ANY_OF, 32, Code.POLICY_SIGNER, zero=False),
    PinKey("isv_prod_id", PinKind.NUMBER, 2, Code.POLICY_PRODUCT),
    PinKey("min_isv_svn", PinKind.AT_LEAST, 2, Code.POLICY_SVN),
    PinKey("attributes_flags", PinKind.MASKED, 8, Code.POLICY_ATTRIBUTES),
    PinKey("xfrm", PinKind.MASKED, 8, Code.POLICY_ATTRIBUTES),
    PinKey("misc_select", PinKind.MASKED, 4, Code.POLICY_ATTRIBUTES),
    PinKey("config_id", PinKind.EXACT, 64, Code.POLICY_CONFIG, absent=bytes(64)),
    PinKey("config_svn", PinKind.NUMBER, 2, Code.POLICY_CONFIG, absent=0),
    PinKey("isv_ext_prod_id", PinKind.EXACT, 16, Code.POLICY_CONFIG, absent=bytes(16)),
    PinKey("isv_family_id", PinKind.EXACT, 16, Code.POLICY_CONFIG, absent=bytes(16)),
)
"""Intel SDM vol. 3D, table REPORT; lengths as in `appraisal.claims.SgxClaims`. MRENCLAVE does not cover the KSS fields
(the last four), so one that an entry does not name must be zero."""

_TDX: Final = (
    PinKey("mr_td", PinKind.ANY_OF, 48, Code.POLICY_MEASUREMENT, zero=False),
    PinKey("rtmr0", PinKind.ANY_OF, 48, Code.POLICY_MEASUREMENT),
    PinKey("rtmr1", PinKind.ANY_OF, 48, Code.POLICY_MEASUREMENT),
    PinKey("rtmr2", PinKind.ANY_OF, 48, Code.POLICY_MEASUREMENT),
    PinKey("rtmr3", PinKind.ANY_OF, 48, Code.POLICY_MEASUREMENT),
    PinKey("mr_config_id", PinKind.ANY_OF, 48, Code.POLICY_CONFIG),
    PinKey("td_attributes", PinKind.MASKED, 8, Code.POLICY_ATTRIBUTES),
    PinKey("xfam", PinKind.MASKED, 8, Code.POLICY_ATTRIBUTES),
    PinKey("mr_owner", PinKind.EXACT, 48, Code.POLICY_CONFIG),
    PinKey("mr_owner_config", PinKind.EXACT, 48, Code.POLICY_CONFIG),
    PinKey("mr_service_td", PinKind.ANY_OF, 48, Code.TDX_SERVICE_TD, absent=(_NONE_BOUND,), missing=_NONE_BOUND),
)
"""Intel TDX module ABI, TD report body in a quote; lengths as in `appraisal.claims.TdxClaims`. A service TD (for
migration) can reach into the TD: one that is bound must be pinned."""

_SNP: Final = (
    PinKey("measurement", PinKind.ANY_OF, 48, Code.POLICY_MEASUREMENT, zero=False),
    PinKey("vmpl", PinKind.NUMBER, 1, Code.POLICY_ATTRIBUTES),
    PinKey("policy", PinKind.MASKED, 8, Code.POLICY_ATTRIBUTES),
    PinKey("migration_agent", PinKind.NUMBER, 1, Code.SNP_MIGRATION_AGENT, absent=0),
    PinKey("product", PinKind.WORD, 8, Code.POLICY_PRODUCT),
    PinKey("csp_id", PinKind.WORD, CSP_ID_MAX, Code.POLICY_SIGNER, absent=("",), missing=""),
    PinKey("min_tcb_fmc", PinKind.AT_LEAST, 1, Code.SNP_TCB_STATUS, absent=0xFF, missing=0xFF),
    PinKey("min_tcb_bootloader", PinKind.AT_LEAST, 1, Code.SNP_TCB_STATUS),
    PinKey("min_tcb_tee", PinKind.AT_LEAST, 1, Code.SNP_TCB_STATUS),
    PinKey("min_tcb_snp", PinKind.AT_LEAST, 1, Code.SNP_TCB_STATUS),
    PinKey("min_tcb_microcode", PinKind.AT_LEAST, 1, Code.SNP_TCB_STATUS),
    PinKey("platform_info", PinKind.MASKED, 8, Code.POLICY_ATTRIBUTES),
    PinKey("launch_mit_vector", PinKind.MASKED, 8, Code.POLICY_ATTRIBUTES),
    PinKey("current_mit_vector", PinKind.MASKED, 8, Code.POLICY_ATTRIBUTES),
    PinKey("host_data", PinKind.ANY_OF, 32, Code.POLICY_CONFIG),
    PinKey("id_key_digest", PinKind.ANY_OF, 48, Code.POLICY_SIGNER, zero=False),
    PinKey("author_key_digest", PinKind.ANY_OF, 48, Code.POLICY_SIGNER, zero=False),
    PinKey("family_id", PinKind.ANY_OF, 16, Code.POLICY_PRODUCT),
    PinKey("image_id", PinKind.ANY_OF, 16, Code.POLICY_PRODUCT),
    PinKey("min_guest_svn", PinKind.AT_LEAST, 4, Code.POLICY_SVN),
)
"""SEV-SNP firmware ABI, section 7.3; lengths as in `appraisal.snp_claims.SnpClaims`. The measurement covers what the
guest started with, not what asked for the report, so the privilege level counts; nor the guest policy, which the host
passes at launch. TCB numbers mean nothing across processor lines, so a minimum is for one line; every component of
reported, committed and launch TCB must reach it, and on a line that has an FMC that one must be named too. A VLEK
proves a cloud provider's fleet and no chip: whose fleet must be named, or else the report needs a VCEK."""

_NITRO: Final = (
    PinKey("pcr0", PinKind.ANY_OF, 48, Code.POLICY_MEASUREMENT, zero=False),
    PinKey("pcr1", PinKind.ANY_OF, 48, Code.POLICY_MEASUREMENT, zero=False),
    PinKey("pcr2", PinKind.ANY_OF, 48, Code.POLICY_MEASUREMENT, zero=False),
    PinKey("pcr3", PinKind.ANY_OF, 48, Code.POLICY_CONFIG, zero=False),
    PinKey("pcr4", PinKind.ANY_OF, 48, Code.POLICY_CONFIG, zero=False),
    PinKey("pcr8", PinKind.ANY_OF, 48, Code.POLICY_SIGNER, zero=False),
)
"""AWS, "Cryptographic attestation", table of platform configuration registers; SHA-384 values. PCR0 to PCR2 cover the
image, its kernel with the boot ramdisk, and the application; PCR3 and PCR4 say where the enclave runs (the parent's IAM
role and instance), PCR8 who signed the image. A register that is zero was never measured into, and matches no pin."""

_CONFIGURATION_REGISTERS: Final = (1, 3, 5, 6)
_RESETTABLE: Final = (16, 23)
EK_ROOT: Final = "ek_root"
HARDWARE: Final = "hardware"
"""Who vouches for a TPM's attestation key: CAs, or the TEE that a vTPM runs in, a table of its own in an entry."""
_TPM: Final = (
    PinKey(EK_ROOT, PinKind.ANY_OF, 32, Code.POLICY_SIGNER, zero=False),
    *(
        PinKey(
            f"pcr{index}",
            PinKind.ANY_OF,
            32,
            Code.POLICY_CONFIG if index in _CONFIGURATION_REGISTERS else Code.POLICY_MEASUREMENT,
            zero=False,
            lengths=(48, 64),
        )
        for index in range(24)
        if index not in _RESETTABLE
    ),
)
"""TCG PC Client Platform Firmware Profile, section 3.3.4: PCR usage. `ek_root` are CAs of EKs or AKs, by the SHA-256
of their SubjectPublicKeyInfo; no vendor is pinned for TPMs. A value has 32, 48 or 64 bytes, by the hash of its bank;
SHA-1 pins nothing. Registers 1, 3, 5 and 6 hold configuration; 16 and 23 any program may reset, so they are no keys."""

PINS: Final[Mapping[Tee, Mapping[str, PinKey]]] = {
    Tee.SGX: {key.name: key for key in _SGX},
    Tee.TDX: {key.name: key for key in _TDX},
    Tee.SNP: {key.name: key for key in _SNP},
    Tee.NITRO: {key.name: key for key in _NITRO},
    Tee.TPM: {key.name: key for key in _TPM},
}

CLAIM_KEYS: Final[Mapping[Tee, Mapping[str, PinKey]]] = {
    tee: {key.claim: key for key in keys.values()} for tee, keys in PINS.items()
}
"""The same by claim. What does not fit has the code that stands here, whoever compares: a policy, a relying party's
expectation, or a demand of `appraise`."""

MINIMUM: Final[Mapping[Tee, tuple[tuple[str, ...], ...]]] = {
    Tee.SGX: (("mr_enclave",), ("mr_signer", "isv_prod_id", "min_isv_svn", "attributes_flags", "xfrm", "misc_select")),
    Tee.TDX: (("mr_td", "rtmr0", "rtmr1", "rtmr2", "mr_config_id", "td_attributes", "xfam"),),
    Tee.SNP: (
        (
            "measurement",
            "vmpl",
            "policy",
            "product",
            "min_tcb_bootloader",
            "min_tcb_tee",
            "min_tcb_snp",
            "min_tcb_microcode",
        ),
    ),
    Tee.NITRO: (("pcr0", "pcr1", "pcr2"),),
    Tee.TPM: tuple((by, "pcr0", register) for by in (EK_ROOT, HARDWARE) for register in ("pcr4", "pcr7", "pcr11")),
}
"""The forms of minimum pins: an entry pins every key of one.

A signer may sign many enclaves, so MRSIGNER alone pins none. MRTD covers the firmware that a TD starts with and nothing
that it loads, so the registers are not optional; register 3 is free for use at run time. PCR 0 is the firmware; 4, 7 or
11 what it started or whom it lets start: boot loader, Secure Boot's keys, the unified kernel image.
"""

UP_TO_DATE: Final = str(TcbStatus.UP_TO_DATE)
_TDX_ONLY: Final = (TcbStatus.TD_RELAUNCH_ADVISED, TcbStatus.TD_RELAUNCH_ADVISED_CONFIGURATION_NEEDED)
TCB_STATUS: Final[Mapping[Tee, tuple[str, ...]]] = {
    Tee.SGX: tuple(str(word) for word in TcbStatus if word not in (TcbStatus.REVOKED, *_TDX_ONLY)),
    Tee.TDX: tuple(str(word) for word in TcbStatus if word is not TcbStatus.REVOKED),
    Tee.SNP: (),
    Tee.NITRO: (),
    Tee.TPM: (),
}
"""The vendor's words that may be accepted; none where the vendor has no such words. `Revoked` is not among them:
appraisal refuses it whatever a policy says."""


def minimum_form(tee: Tee, has: Callable[[str], bool]) -> tuple[str, ...]:
    """Return the form of minimum pins that is meant: one that is whole, or whose first key is there, or the nearest."""
    forms = MINIMUM[tee]
    whole = next((form for form in forms if all(map(has, form))), None)
    named = next((form for form in forms if has(form[0])), None)
    nearest = (
        max(forms, key=lambda form: sum(map(has, form))) if any(has(key) for form in forms for key in form) else None
    )
    return whole or named or nearest or forms[-1]


def pin_key_names(tee: Tee) -> frozenset[str]:
    """Return every key that pins something of a TEE, masks too."""
    keys = PINS[tee].values()
    return frozenset(key.name for key in keys) | {key.mask for key in keys if key.kind is PinKind.MASKED}
