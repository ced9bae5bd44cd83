"""What a relying party expects of its peer, as data. Nothing that could let anybody in has an open default.

`expectation_file.py` reads it from a file, `compare.py` holds a leaf's claims against it. An expectation that names
neither code nor workload would accept whatever the proxy certifies: it can only be made with `any_workload`, which
stands under `[danger]` in a file.
"""

import re
from dataclasses import dataclass
from typing import Final

from proxy_attestation.codes import Code
from proxy_attestation.errors import ConfigurationError
from proxy_attestation.formats.pins import PINS, TCB_STATUS, UP_TO_DATE, PinKind
from proxy_attestation.formats.request import KeyOrigin, Names, is_workload_name
from proxy_attestation.formats.tee import Tee

TCB_STATUSES: Final = frozenset(word for words in TCB_STATUS.values() for word in words)
"""Status words that an expectation may accept; `Revoked` is none of them."""

# A leaf carries these beside its measurements, under names that are the same for every TEE.
_OWN_CLAIMS: Final = frozenset({"mr_signer", "isv_prod_id", "min_isv_svn"})
_LISTED: Final = (PinKind.ANY_OF, PinKind.EXACT, PinKind.NUMBER)
NUMBERS: Final = frozenset(
    name
    for keys in PINS.values()
    for name, key in keys.items()
    if key.kind is PinKind.NUMBER and name not in _OWN_CLAIMS
)
"""Those of them that are written as one integer."""
SINGLE: Final = frozenset(name for keys in PINS.values() for name, key in keys.items() if key.kind is PinKind.EXACT)
"""Those that are written as one value in hex; all others are lists."""
MEASUREMENTS: Final[dict[Tee, dict[str, int]]] = {
    tee: {name: key.size for name, key in keys.items() if key.kind in _LISTED and name not in _OWN_CLAIMS}
    for tee, keys in PINS.items()
}
"""Fields of a TEE's body of which an expectation may list values, with their length in bytes; numbers big-endian."""

MASKED: Final[dict[Tee, dict[str, int]]] = {
    tee: {name: key.size for name, key in keys.items() if key.kind is PinKind.MASKED} for tee, keys in PINS.items()
}
"""Fields that count under a mask, with their length in bytes."""

LEAST: Final[dict[Tee, dict[str, int]]] = {
    tee: {name: key.size for name, key in keys.items() if key.kind is PinKind.AT_LEAST and name not in _OWN_CLAIMS}
    for tee, keys in PINS.items()
}
"""Numbers of which an expectation may name the least, with their length in bytes."""

WORDS: Final[dict[Tee, dict[str, int]]] = {
    tee: {name: key.size for name, key in keys.items() if key.kind is PinKind.WORD} for tee, keys in PINS.items()
}
"""Texts of which an expectation may list values, with their greatest length."""

HARDWARE_ORIGINS: Final = (KeyOrigin.TEE, KeyOrigin.TPM)

_NO_NAMES: Final = Names()
_CODE_IDENTITY: Final = frozenset({"mr_enclave", "mr_td", "measurement", "pcr0"})
_MACHINE_IDENTITY: Final = frozenset({"pcr4", "pcr11"})
"""What a TPM's machine started; PCR 0 is its firmware alone."""
# SPIFFE ID specification, section 2.1: trust domain names are lower case letters, digits, dots, dashes, underscores.
_TRUST_DOMAIN: Final = re.compile(r"[a-z0-9]([a-z0-9._-]{0,253}[a-z0-9])?\Z")


def is_trust_domain(text: str) -> bool:
    """Tell whether `text` can be a SPIFFE trust domain: 1 to 255 of [a-z0-9._-]."""
    return _TRUST_DOMAIN.match(text) is not None


def _malformed(detail: str) -> ConfigurationError:
    return ConfigurationError(Code.CONFIGURATION_MALFORMED, detail)


@dataclass(frozen=True, slots=True)
class Expectation:
    """What the peer must be. Where several values are given, one of them must be found.

    Attributes:
        trust_domain: of the peer's SPIFFE ID.
        root_pin: SHA-256 of the root's SPKI, 32 bytes; None where the root itself is given by other means.
        workload: the policy entry, which is the SPIFFE ID's whole path; None where a measurement is named instead.
        tee: the kind of TEE; must be given with any measurement.
        measurements: (vendor field name, accepted values), names as in `MEASUREMENTS`.
        masked: (vendor field name, value, mask), names as in `MASKED`.
        words: (vendor field name, accepted texts), names as in `WORDS`.
        least: (key, minimum), keys as in `LEAST`. One of a TCB is for one processor line, which `words` names.
        mr_signer: accepted values, 32 bytes each; without mr_enclave it takes isv_prod_id and min_isv_svn too.
        isv_prod_id: or None.
        min_isv_svn: or None.
        tcb: accepted TCB status words.
        advisories: advisory ids that may stand at the platform's level.
        application: accepted application digests, 32 bytes each; empty demands none.
        key_origins: accepted origins of the leaf's key; one that was made in software must be named.
        owners: accepted kinds of owner; empty accepts each.
        names: names that the leaf must carry, every one, beside the name that was connected to.
        policy_digests: accepted digests of the proxy's policy, 32 bytes each; empty accepts each.
        deny_list: an https URL or a file with the proxy's deny list (`deny_list.py`), or None.
        deny_list_max_age: seconds after which a list is too old to accept anybody; None warns instead.
        simulated: whether the leaf must come from a proxy that takes simulated evidence.
        allow_debug: from `[danger]`.
        any_workload: from `[danger]`: neither workload nor code is named.

    Raises:
        ConfigurationError: `configuration.malformed`, where a value cannot be, or the whole is too weak.
    """

    trust_domain: str
    root_pin: bytes | None = None
    workload: str | None = None
    tee: Tee | None = None
    measurements: tuple[tuple[str, tuple[bytes, ...]], ...] = ()
    masked: tuple[tuple[str, bytes, bytes], ...] = ()
    words: tuple[tuple[str, tuple[str, ...]], ...] = ()
    least: tuple[tuple[str, int], ...] = ()
    mr_signer: tuple[bytes, ...] = ()
    isv_prod_id: int | None = None
    min_isv_svn: int | None = None
    tcb: tuple[str, ...] = (UP_TO_DATE,)
    advisories: tuple[str, ...] = ()
    application: tuple[bytes, ...] = ()
    key_origins: tuple[KeyOrigin, ...] = HARDWARE_ORIGINS
    owners: tuple[str, ...] = ()
    names: Names = _NO_NAMES
    policy_digests: tuple[bytes, ...] = ()
    deny_list: str | None = None
    deny_list_max_age: int | None = None
    simulated: bool = False
    allow_debug: bool = False
    any_workload: bool = False

    def __post_init__(self) -> None:
        """Refuse what cannot be meant."""
        if not is_trust_domain(self.trust_domain):
            raise _malformed(f"trust_domain: {self.trust_domain!r} is not a trust domain")
        if self.workload is not None and not is_workload_name(self.workload):
            raise _malformed(f"workload: {self.workload!r} is not the name of a workload")
        if not self.key_origins:
            raise _malformed("key_origins: an empty list")
        if not self.tcb or not TCB_STATUSES.issuperset(self.tcb):
            raise _malformed(f"tcb: one or more of {', '.join(sorted(TCB_STATUSES))} were expected")
        if self.root_pin is not None:
            _digests("root_pin", (self.root_pin,))
        _digests("application", self.application)
        _digests("policy_digest", self.policy_digests)
        if self.deny_list_max_age is not None and (self.deny_list is None or self.deny_list_max_age <= 0):
            raise _malformed("deny_list_max_age: a positive number of seconds, beside deny_list")
        if self.deny_list is not None and (not self.deny_list or self.deny_list.startswith("http://")):
            raise _malformed("deny_list: an https URL or a file was expected")
        self._check_measurements()
        if not self.any_workload and self.workload is None and not self.names_code:
            raise _malformed("too weak: name a workload or a measurement, or set any_workload under [danger]")

    def _check_measurements(self) -> None:
        sgx_only = bool(self.mr_signer) or self.isv_prod_id is not None or self.min_isv_svn is not None
        if (self.of_body or sgx_only) and self.tee is None:
            raise _malformed("tee: must be given with a measurement")
        if sgx_only and self.tee is not Tee.SGX:
            raise _malformed("mr_signer, isv_prod_id and min_isv_svn are of SGX only")
        known = MEASUREMENTS[self.tee] if self.tee is not None else {}
        keys = PINS[self.tee] if self.tee is not None else {}
        for name, values in self.measurements:
            if name not in known:
                raise _malformed(f"{name}: not a field of {self.tee}")
            key = keys[name]
            _values(name, values, key.size, zero=key.zero, others=key.lengths)
        known = MASKED[self.tee] if self.tee is not None else {}
        for name, value, mask in self.masked:
            if name not in known:
                raise _malformed(f"{name}: not a field of {self.tee} that takes a mask")
            _values(name, (value,), known[name], zero=True)
            _values(f"{name}_mask", (mask,), known[name], zero=False)
            if any(v & ~m for v, m in zip(value, mask, strict=True)):
                raise _malformed(f"{name}: has bits that its mask leaves out")
        self._check_words_and_minima()
        names = [name for name, *_ in self.of_body]
        if len(set(names)) != len(names):
            raise _malformed("a field is named twice")
        if self.mr_signer:
            _values("mr_signer", self.mr_signer, 32, zero=False)
            if "mr_enclave" not in dict(self.measurements) and (self.isv_prod_id is None or self.min_isv_svn is None):
                raise _malformed("mr_signer: without mr_enclave it takes isv_prod_id and min_isv_svn too")
        for field, number in (("isv_prod_id", self.isv_prod_id), ("min_isv_svn", self.min_isv_svn)):
            if number is not None and not 0 <= number <= 0xFFFF:
                raise _malformed(f"{field}: 0 to 65535 was expected")

    def _check_words_and_minima(self) -> None:
        known = WORDS[self.tee] if self.tee is not None else {}
        for name, words in self.words:
            if name not in known:
                raise _malformed(f"{name}: not a text of {self.tee}")
            if not words or not all(0 < len(word) <= known[name] and word.isascii() for word in words):
                raise _malformed(f"{name}: texts of 1 to {known[name]} characters were expected")
        known = LEAST[self.tee] if self.tee is not None else {}
        for name, number in self.least:
            if name not in known:
                raise _malformed(f"{name}: not a number of {self.tee} that has a minimum")
            if not 0 <= number < 256 ** known[name]:
                raise _malformed(f"{name}: 0 to {256 ** known[name] - 1} was expected")
        if any(name.startswith("min_tcb_") for name, _ in self.least) and len(dict(self.words).get("product", ())) != 1:
            raise _malformed("product: a minimum of the TCB is for one processor line, which must be named")

    @property
    def of_body(self) -> tuple[tuple[object, ...], ...]:
        """What is demanded of the TEE's body by the vendor's names: the name, and what goes with it."""
        return (*self.measurements, *self.masked, *self.words, *self.least)

    @property
    def names_code(self) -> bool:
        """Whether a measurement is named that tells one program from another."""
        identity = _MACHINE_IDENTITY if self.tee is Tee.TPM else _CODE_IDENTITY
        return bool(self.mr_signer) or not identity.isdisjoint(name for name, _ in self.measurements)


def _values(field: str, values: tuple[bytes, ...], length: int, *, zero: bool, others: tuple[int, ...] = ()) -> None:
    if not values:
        raise _malformed(f"{field}: an empty list")
    for value in values:
        if len(value) not in (length, *others):
            raise _malformed(f"{field}: {len(value)} bytes, {length} were expected")
        if not zero and not any(value):
            raise _malformed(f"{field}: all zero names no code")


def _digests(field: str, values: tuple[bytes, ...]) -> None:
    for value in values:
        _values(field, (value,), 32, zero=False)
