"""Faults of Nitro documents: `enclave.document(..., fault="NAME[=VALUE]")`.

Each is meant to provoke one code:

    fault                        provokes (prefix nitro. unless it says otherwise)
    truncated[=N]                malformed
    trailing[=HEX]               malformed
    too-large                    evidence.too_large
    array-of-three               malformed
    wrong-tag[=N]                malformed
    tagged                       accepted (COSE_Sign1's own tag, 18)
    definite                     accepted (the map's length; both occur)
    detached                     malformed (no payload)
    payload-trailing             malformed
    payload-tag                  malformed
    signature-size[=N]           malformed
    duplicate-key                malformed
    duplicate-pcr                malformed
    unknown-key                  malformed
    missing=KEY                  malformed
    omitted                      accepted (optional keys left out instead of null)
    null=KEY                     malformed
    no-module-id                 malformed
    long-module-id               malformed
    digest[=WORD]                malformed
    zero-timestamp               malformed
    negative-timestamp           malformed
    float-timestamp              malformed
    no-pcrs                      malformed
    pcr-index[=N]                malformed
    pcr-size[=N]                 malformed
    pcr16                        accepted (a register beyond the usual 16)
    empty-bundle                 malformed
    long-bundle                  malformed
    large-certificate            malformed
    large-issuer                 malformed
    public-key-size=N            malformed
    user-data-size=N             malformed
    nonce-size=N                 malformed
    algorithm[=N]                algorithm
    protected-extra              algorithm
    protected-empty              algorithm
    unprotected                  algorithm
    wrong-root                   root
    root-in-place-of-root        root (another root's certificate before the genuine chain)
    not-a-certificate[=PLACE]    chain
    p256                         chain
    sha256                       chain
    chain-order                  chain
    missing-intermediate         chain
    issuer-name[=PLACE]          chain
    certificate-signature[=PLACE]  chain
    path-length[=PLACE]          chain
    not-a-ca[=PLACE]             chain
    no-cert-sign[=PLACE]         chain
    critical-extension[=PLACE]   chain
    leaf-is-a-ca                 chain
    leaf-cert-sign               chain
    leaf-path-length             chain
    leaf-usage                   chain
    leaf-no-usage                chain
    expired[=PLACE]              expired
    not-yet-valid[=PLACE]        expired
    tampered[=OFFSET]            signature
    wrong-key                    signature
    reversed-signature           signature
    zero-signature               signature
    early                        timestamp
    late                         timestamp
    debug                        debug
    stale                        binder.mismatch
    pcr0=HEX, pcr1=HEX, pcr2=HEX  policy.measurement
    pcr3=HEX, pcr4=HEX           policy.config
    pcr8=HEX                     policy.signer

PLACE counts from the root, 0, to the signing certificate, 4.
"""

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from functools import partial
from typing import Any, Final, TypeAlias

import cbor2

from proxy_attestation_simulator.aws import (
    INSTANCE,
    LEAF,
    REGION,
    ROOT,
    ZONE,
    NitroRecipe,
    with_link,
    with_payload,
)
from proxy_attestation_simulator.faults import Registry, choice, hexadecimal, number

NITRO_FAULTS: Final = Registry[NitroRecipe]()

_Pairs: TypeAlias = list[tuple[object, object]]
_Bytes: TypeAlias = Callable[[bytes], bytes]
_MANDATORY: Final = ("module_id", "digest", "timestamp", "pcrs", "certificate", "cabundle")
_BASIC_CONSTRAINTS: Final = "2.5.29.19"
_DAY: Final = timedelta(days=1)


def _add(name: str, doc: str, code: str, change: Callable[[NitroRecipe, str], NitroRecipe], value: str = "") -> None:
    """Add a fault; `value` is `NAME`, or `NAME=DEFAULT`, or empty where it takes none."""
    kind, equals, default = value.partition("=")
    NITRO_FAULTS.add(name, doc, code, change, value=kind, default=default if equals else None, tees=("nitro",))


def _set(name: str, doc: str, code: str, **values: Any) -> None:
    """Add a fault that replaces parts of the recipe."""
    _add(name, doc, code, lambda recipe, _: replace(recipe, **values))


def _field(name: str, doc: str, code: str = "malformed", **values: object) -> None:
    """Add a fault that replaces fields of the payload."""
    _add(name, doc, code, lambda recipe, _: with_payload(recipe, **values))


def _register(name: str, doc: str, code: str, value: str, change: Callable[[str], dict[int, bytes]]) -> None:
    """Add a fault that replaces registers."""
    _add(name, doc, code, lambda recipe, text: _registers(recipe, change(text)), value)


def _link(name: str, doc: str, default: int | None, **values: object) -> None:
    """Add a fault of one certificate: of the signing one, or, where there is a default, of any place."""
    place: Callable[[str], int] = (lambda _: LEAF) if default is None else partial(number, largest=LEAF)
    value = "" if default is None else f"PLACE={default}"
    _add(name, doc, "chain", lambda recipe, text: with_link(recipe, place(text), **values), value)


def _registers(recipe: NitroRecipe, values: dict[int, bytes]) -> NitroRecipe:
    held: Any = recipe.payload["pcrs"]
    return with_payload(recipe, pcrs=held | values)


def _expired(recipe: NitroRecipe, value: str) -> NitroRecipe:
    return with_link(recipe, number(value, LEAF), not_after=recipe.links[LEAF].not_before)


def _not_yet_valid(recipe: NitroRecipe, value: str) -> NitroRecipe:
    place, begin = number(value, LEAF), recipe.links[LEAF].not_after
    return with_link(recipe, place, not_before=begin, not_after=recipe.links[place].not_after + _DAY)


def _timestamp(recipe: NitroRecipe, value: int) -> NitroRecipe:
    return with_payload(recipe, timestamp=value)


def _mapped(key: str, change: Callable[[Any], object]) -> Callable[[_Pairs], _Pairs]:
    return lambda pairs: [(name, change(value) if name == key else value) for name, value in pairs]


def _without(key: str) -> Callable[[_Pairs], _Pairs]:
    return lambda pairs: [pair for pair in pairs if pair[0] != key]


def _cose(change: Callable[[Any], object]) -> _Bytes:
    return lambda data: cbor2.dumps(change(cbor2.loads(data)))


def _replaced(old: bytes, new: bytes) -> _Bytes:
    return lambda data: data.replace(old, new, 1)


def _cut(value: str) -> _Bytes:
    return lambda data: data[: -number(value, 4096)]


def _padded(value: str) -> _Bytes:
    return lambda data: data + hexadecimal(value)


def _sized(value: str) -> _Bytes:
    return lambda data: data[: number(value, 96)]


def _flip(value: str) -> _Bytes:
    def flipped(payload: bytes) -> bytes:
        """Change the low bit of a letter or digit of the module id, which stays text."""
        at = payload.index(b"i-") + 2 + number(value, 16)
        return payload[:at] + bytes([payload[at] ^ 1]) + payload[at + 1 :]

    return flipped


# The frame.
_add("truncated", "the last N bytes are missing", "malformed", lambda r, v: replace(r, edit=_cut(v)), "N=1")
_add("trailing", "bytes after the end", "malformed", lambda r, v: replace(r, edit=_padded(v)), "HEX=00")
_set(
    "too-large", "more bytes than a document has", "evidence.too_large", edit=lambda data: data.ljust(17 * 1024, b"\0")
)
_set("array-of-three", "no signature", "malformed", edit=_cose(lambda cose: cose[:3]))
_add("wrong-tag", "another COSE tag", "malformed", lambda r, v: replace(r, tag=number(v, 2**32)), "N=98")
_set("tagged", "COSE_Sign1's tag", "accepted", tag=18)
_set("definite", "the payload's map has a definite length", "accepted", indefinite=False)
_set("detached", "null instead of the payload", "malformed", edit=_cose(lambda cose: [*cose[:2], None, cose[3]]))
_set("payload-trailing", "a byte after the payload's map", "malformed", edit_payload=_padded("00"))
_set("payload-tag", "a tag around a register", "malformed", edit_payload=_replaced(b"\5\x58\x30", b"\5\xc6\x58\x30"))
_add("signature-size", "a signature of N bytes", "malformed", lambda r, v: replace(r, edit_signature=_sized(v)), "N=95")

# The payload's fields.
_set("duplicate-key", "the user data twice", "malformed", edit_map=lambda pairs: [*pairs, ("user_data", b"other")])
_set("duplicate-pcr", "register 1 is called 0", "malformed", edit_payload=_replaced(b"\1\x58\x30", b"\0\x58\x30"))
_set("unknown-key", "a key that AWS does not define", "malformed", edit_map=lambda pairs: [*pairs, ("extra", 1)])
_add("missing", "a mandatory field is missing", "malformed",
     lambda r, v: replace(r, edit_map=_without(choice(v, _MANDATORY))), "KEY")  # fmt: skip
_set(
    "omitted", "optional fields are left out", "accepted", edit_map=lambda pairs: [p for p in pairs if p[1] is not None]
)
_add("null", "a mandatory field is null", "malformed",
     lambda r, v: replace(r, edit_map=_mapped(choice(v, _MANDATORY), lambda _: None)), "KEY")  # fmt: skip
_field("no-module-id", "an empty module id", module_id="")
_field("long-module-id", "a module id of 257 characters", module_id="i" * 257)
_add("digest", "registers of another hash", "malformed", lambda r, v: with_payload(r, digest=v), "WORD=SHA256")
_field("zero-timestamp", "timestamp 0", timestamp=0)
_field("negative-timestamp", "timestamp -1", timestamp=-1)
_field("float-timestamp", "a timestamp with a point", timestamp=1.5)
_field("no-pcrs", "no register", pcrs={})
_register("pcr-index", "a register with index N", "malformed", "N=32", lambda v: {number(v, 255): bytes(48)})
_register("pcr-size", "register 5 has N bytes", "malformed", "N=47", lambda v: {5: bytes(number(v, 255))})
_register("pcr16", "a register beyond the usual 16", "accepted", "", lambda _: {16: b"\x16" * 48})
_set("empty-bundle", "no issuers", "malformed", edit_map=_mapped("cabundle", lambda _: []))
_set("long-bundle", "nine issuers", "malformed", edit_map=_mapped("cabundle", lambda value: (value * 3)[:9]))
_set("large-certificate", "a signing certificate of 1025 bytes", "malformed",
     edit_map=_mapped("certificate", lambda _: bytes(1025)))  # fmt: skip
_set("large-issuer", "an issuer of 1025 bytes", "malformed", edit_map=_mapped("cabundle", lambda _: [bytes(1025)]))
_add("public-key-size", "a public key of N bytes", "malformed",
     lambda r, v: with_payload(r, public_key=bytes(number(v, 8192))), "N")  # fmt: skip
_add("user-data-size", "user data of N bytes", "malformed",
     lambda r, v: with_payload(r, user_data=bytes(number(v, 8192))), "N")  # fmt: skip
_add("nonce-size", "a nonce of N bytes", "malformed", lambda r, v: with_payload(r, nonce=bytes(number(v, 8192))), "N")

# The headers.
_add("algorithm", "another algorithm", "algorithm", lambda r, v: replace(r, protected=cbor2.dumps({1: int(v)})), "N=-7")
_set("protected-extra", "a second protected header", "algorithm", protected=cbor2.dumps({1: -35, 4: b"key"}))
_set("protected-empty", "no protected header", "algorithm", protected=b"")
_set("unprotected", "an unprotected header", "algorithm", unprotected={4: b"key"})

# The chain.
_set("wrong-root", "another vendor with the same names", "root", stranger=True)
_add("root-in-place-of-root", "another key in the root's place", "root", lambda r, _: with_link(r, ROOT, label="other"))
_link("not-a-certificate", "bytes that are no certificate", LEAF, der=b"\x30\x03\x02\x01\x00")
_link("p256", "a signing certificate for a P-256 key", None, p256=True)
_link("sha256", "a signing certificate signed with SHA-256", None, sha256=True)
_set("chain-order", "two issuers changed places", "chain", order=(ROOT, ZONE, REGION, INSTANCE))
_set("missing-intermediate", "the zone's certificate is missing", "chain", order=(ROOT, REGION, INSTANCE))
_link("issuer-name", "names another issuer", ZONE, issuer_name="somebody else")
_link("certificate-signature", "signed by another key", ZONE, signer="other")
_link("path-length", "allows no CA below it", REGION, path_length=0)
_link("not-a-ca", "an issuer that is no CA", ZONE, path_length=None)
_link("no-cert-sign", "an issuer whose key may not sign certificates", ZONE, usage=("digital_signature",))
_link("critical-extension", "an unknown critical extension", ZONE, extensions=(("1.2.3.4", True, b"\x05\x00"),))
_link("leaf-is-a-ca", "a signing certificate that is a CA's", None, path_length=0)
_link("leaf-cert-sign", "a signing key that may sign certificates", None, usage=("digital_signature", "key_cert_sign"))
_link("leaf-path-length", "a signing certificate with a path length", None,
      extensions=((_BASIC_CONSTRAINTS, True, b"\x30\x03\x02\x01\x00"),))  # fmt: skip
_link("leaf-usage", "a signing certificate whose key may not sign", None, usage=("key_agreement",))
_link("leaf-no-usage", "a signing certificate without key usage", None, usage=None)
_add("expired", "ended before the document was made", "expired", _expired, f"PLACE={INSTANCE}")
_add("not-yet-valid", "begins after the document was made", "expired", _not_yet_valid, f"PLACE={INSTANCE}")

# The signature.
_add("tampered", "a letter of the module id is another", "signature",
     lambda r, v: replace(r, edit_signed=_flip(v)), "OFFSET=0")  # fmt: skip
_set("wrong-key", "signed by another enclave's key", "signature", signer="other enclave")
_set("reversed-signature", "the signature's bytes backwards", "signature", edit_signature=lambda data: data[::-1])
_set("zero-signature", "a signature of zeros", "signature", edit_signature=lambda data: bytes(len(data)))

# What a genuine document says.
_add("early", "made before the signing certificate's life", "timestamp",
     lambda r, _: _timestamp(r, int(r.links[LEAF].not_before.timestamp()) * 1000 - 1))  # fmt: skip
_add("late", "made after the signing certificate's life", "timestamp",
     lambda r, _: _timestamp(r, int(r.links[LEAF].not_after.timestamp()) * 1000 + 1000))  # fmt: skip
_register("debug", "registers 0 to 2 are zero", "debug", "", lambda _: dict.fromkeys(range(3), bytes(48)))
_field("stale", "made for an earlier challenge", "binder.mismatch", nonce=b"an earlier challenge".ljust(32, b"\0"))
_register("pcr0", "register 0", "policy.measurement", "HEX", lambda v: {0: hexadecimal(v)})
_register("pcr1", "register 1", "policy.measurement", "HEX", lambda v: {1: hexadecimal(v)})
_register("pcr2", "register 2", "policy.measurement", "HEX", lambda v: {2: hexadecimal(v)})
_register("pcr3", "register 3", "policy.config", "HEX", lambda v: {3: hexadecimal(v)})
_register("pcr4", "register 4", "policy.config", "HEX", lambda v: {4: hexadecimal(v)})
_register("pcr8", "register 8", "policy.signer", "HEX", lambda v: {8: hexadecimal(v)})
