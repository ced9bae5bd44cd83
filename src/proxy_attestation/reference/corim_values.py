"""Which pins a CoRIM's reference triples are: a table, and nothing that is not in it.

==========================  =====================================================  ===================================
of the triple               must be                                                becomes
==========================  =====================================================  ===================================
class                       one of `CLASSES` under its profile, or named by --tee  tee
mkey                        text: a key of the policy's vocabulary, with or        that key
                            without `min_`; a number: PCR of a TPM or Nitro
                            enclave, or of AMD's table
digests (2)                 one digest, of a hash with the key's length            a list of one value
svn (1)                     553(n) for a minimum; n or 552(n) for a number that    the minimum, or the number
                            must be equal
raw-value (4)               560(bytes), or 563([bytes, mask])                      a value; with a mask where the key
                                                                                   has one
integrity-registers (14)    without mkey: number or name of an RTMR or PCR         as digests
==========================  =====================================================  ===================================

An exact svn where a policy has only a minimum, several digests, another code point, two values for one key: refused.
Each triple is an entry of its own: what stands in one triple must all agree, and triples are alternatives.
"""

from collections.abc import Mapping
from typing import Final

import cbor2

from proxy_attestation.codes import Code
from proxy_attestation.errors import FormatError
from proxy_attestation.formats.pins import CLAIM_KEYS, PINS, PinKey, PinKind
from proxy_attestation.formats.tee import Tee
from proxy_attestation.policy.reference import ValuesFile, check_values
from proxy_attestation.reference.corim import Corim, Measurement, Triple
from proxy_attestation.reference.measured import Measured, Value, plain

AMD_PROFILES: Final = ("http://amd.com/2024/snp-corim-profile", "tag:amd.com,2025:snp-corim-profile")
CLASSES: Final[Mapping[str, Tee]] = {
    "oid:1.3.6.1.4.1.3704.3.1": Tee.SNP,
    "oid:1.3.6.1.4.1.3704.3.2": Tee.SNP,
}
"""draft-deeglaze-amd-sev-snp-corim-profile-02, section 3.1.1: reports signed by a chip's key, and by a cloud's."""
AMD_MKEYS: Final[Mapping[int, str]] = {
    1: "min_guest_svn",
    3: "family_id",
    4: "image_id",
    641: "measurement",
    642: "host_data",
    643: "id_key_digest",
    644: "author_key_digest",
}
"""The same, section 3.1.3: the byte strings and the guest SVN. The numbers (policy, VMPL, TCBs) are left to people: the
draft and its writers do not agree on byte order, and a TCB compared as one number is not one compared part by part."""
_HASHES: Final[Mapping[object, int]] = {
    1: 32, "sha-256": 32, "sha256": 32, 7: 48, "sha-384": 48, "sha384": 48, 8: 64, "sha-512": 64, "sha512": 64,
}  # fmt: skip
"""IANA's named information hash algorithms that a pin can have the length of."""
_SVN, _DIGESTS, _RAW, _REGISTERS = 1, 2, 4, 14
_EXACT_SVN, _MIN_SVN, _BYTES, _MASKED = 552, 553, 560, 563
_REGISTER_NAMES: Final[Mapping[Tee, str]] = {Tee.TDX: "rtmr", Tee.TPM: "pcr", Tee.NITRO: "pcr"}


def values_of(corim: Corim, tee: Tee | None, source: str) -> tuple[Measured, ...]:
    """Return the reference values of each triple.

    Args:
        corim: as decoded.
        tee: what the caller says that the environment is; None leaves it to the class.
        source: the file's name.

    Raises:
        FormatError: `reference.tee`, `reference.unsupported`, `reference.values`.
    """
    return tuple(_triple(corim, triple, tee, source) for triple in corim.triples)


def _triple(corim: Corim, triple: Triple, given: Tee | None, source: str) -> Measured:
    known = CLASSES.get(triple.class_id)
    if known is None and given is None:
        raise FormatError(Code.REFERENCE_TEE, f"{triple.environment} says no TEE that is known here")
    if known is not None and given not in (None, known):
        raise FormatError(Code.REFERENCE_TEE, f"{triple.environment} is {known}, not {given}")
    amd = known is Tee.SNP
    # A profile gives code points a meaning of its own: without knowing it nothing is known of them.
    if corim.profile not in (AMD_PROFILES if amd else (None,)):
        raise _unsupported(f"the profile {corim.profile} with {triple.environment}")
    tee = known or given
    assert tee is not None  # noqa: S101 - one of the two is
    pins: dict[str, Value] = {}
    for measurement in triple.measurements:
        for key, value in _measurement(measurement, tee, amd=amd).items():
            if key in pins:
                raise _unsupported(f"two values for {key} in one triple")
            pins[key] = value
    check_values(ValuesFile("imported", 1, tee, None, {key: plain(value) for key, value in pins.items()}))
    notes = [f"environment: {triple.environment}"]
    notes += [] if known is not None else [f"that this is {tee} was said by --tee, not by the manifest"]
    dangers = () if corim.signed else ("nobody signed this manifest",)
    return Measured(tee, f"CoRIM {corim.name} in {source}", pins, tuple(notes), dangers, not_after=corim.not_after)


def _measurement(measurement: Measurement, tee: Tee, *, amd: bool) -> dict[str, Value]:
    mkey, values = measurement.key, measurement.values
    if len(values) != 1:
        raise _unsupported(f"values {sorted(map(str, values))} together in one measurement")
    ((kind, value),) = values.items()
    if kind == _REGISTERS and mkey is None:
        return _registers(value, tee)
    name = AMD_MKEYS.get(mkey) if amd and isinstance(mkey, int) else _name(mkey, tee)
    key = None if name is None else PINS[tee].get(name) or CLAIM_KEYS[tee].get(name)
    if key is None:
        raise _unsupported(f"mkey {mkey!r} of {tee}")
    if kind == _DIGESTS:
        return {key.name: (_digest(key, value),)}
    if kind == _SVN:
        return {key.name: _svn(key, value)}
    if kind == _RAW:
        return _raw(key, value)
    raise _unsupported(f"value {kind!r} of {key.name}")


def _name(mkey: int | str | None, tee: Tee) -> str | None:
    if isinstance(mkey, int):
        return f"pcr{mkey}" if _REGISTER_NAMES.get(tee) == "pcr" else None
    return mkey


def _registers(value: object, tee: Tee) -> dict[str, Value]:
    prefix = _REGISTER_NAMES.get(tee)
    if prefix is None or not isinstance(value, dict) or not value:
        raise _unsupported(f"integrity registers of {tee}")
    found: dict[str, Value] = {}
    for register, digests in value.items():
        name = register if isinstance(register, str) else f"{prefix}{register}"
        key = PINS[tee].get(name)
        if key is None or not name.startswith(prefix) or name in found:
            raise _unsupported(f"integrity register {register!r} of {tee}")
        found[name] = (_digest(key, digests),)
    return found


def _digest(key: PinKey, value: object) -> bytes:
    if key.kind is not PinKind.ANY_OF:
        raise _unsupported(f"a digest for {key.name}")
    if not isinstance(value, list) or len(value) != 1:
        raise _unsupported(f"other than one digest for {key.name}: a pin has one hash")
    pair = value[0]
    if not isinstance(pair, list) or len(pair) != 2 or isinstance(pair[0], bool) or not isinstance(pair[1], bytes):
        raise _unsupported(f"a digest of another form for {key.name}")
    size = _HASHES.get(pair[0]) if isinstance(pair[0], int | str) else None
    if size != len(pair[1]) or size not in (key.size, *key.lengths):
        raise _unsupported(f"a digest of {len(pair[1])} bytes by {pair[0]!r} for {key.name}")
    return pair[1]


def _svn(key: PinKey, value: object) -> int:
    tag, number = (value.tag, value.value) if isinstance(value, cbor2.CBORTag) else (_EXACT_SVN, value)
    wanted = {_MIN_SVN: PinKind.AT_LEAST, _EXACT_SVN: PinKind.NUMBER}.get(tag)
    if type(number) is not int or key.kind is not wanted:
        raise _unsupported(f"an svn of this kind for {key.name}: policies have {key.kind.value}")
    return number


def _raw(key: PinKey, value: object) -> dict[str, Value]:
    if not isinstance(value, cbor2.CBORTag):
        raise _unsupported(f"a raw value without its tag for {key.name}")
    content = value.value
    if value.tag == _BYTES and isinstance(content, bytes):
        data, mask = content, b"\xff" * len(content)
    elif value.tag == _MASKED and isinstance(content, list) and len(content) == 2:
        data, mask = content
        if not isinstance(data, bytes) or not isinstance(mask, bytes) or len(data) != len(mask):
            raise _unsupported(f"a masked value of another form for {key.name}")
        # Bits outside the mask count for nothing (the draft's rule), and a policy has them zero.
        data = bytes(v & m for v, m in zip(data, mask, strict=True))
    else:
        raise _unsupported(f"a raw value in tag {value.tag} for {key.name}")
    if len(data) not in (key.size, *key.lengths):
        raise _unsupported(f"a raw value of {len(data)} bytes for {key.name}")
    if key.kind is PinKind.MASKED:
        return {key.name: data, key.mask: mask}
    if mask.strip(b"\xff") or key.kind not in (PinKind.ANY_OF, PinKind.EXACT):
        raise _unsupported(f"a masked value, or one of bytes, for {key.name}")
    return {key.name: data if key.kind is PinKind.EXACT else (data,)}


def _unsupported(detail: str) -> FormatError:
    return FormatError(Code.REFERENCE_UNSUPPORTED, detail)
