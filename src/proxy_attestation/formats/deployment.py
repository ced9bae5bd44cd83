"""The deployment statement: what the policy signers say of the one proxy that they set up.

The text of a signed note (`signed_note.py`), lines ended by a line feed::

    proxy-attestation/deployment/v1
    <trust domain>
    root <SHA-256 of the root's SubjectPublicKeyInfo, 64 hex digits>
    ledger <vkey of the log>
    pin <tee> <field> <hex>
    ...

Fields are those of a policy that list accepted values (`pins.py`), hex is lower case and in memory order; several lines
with one field accept either value. Lines of pins are sorted by TEE, field and value as bytes, each once. For each TEE
that is named every measurement of its first form of minimum pins is there: `mr_enclave`; `mr_td` with `rtmr0` to
`rtmr2`; `measurement`; `pcr0` to `pcr2`. Whoever copies the image and makes a root of its own has no such statement.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from proxy_attestation.codes import Code
from proxy_attestation.errors import FormatError, RefusedError
from proxy_attestation.formats.bounds import DEPLOYMENT_MAX, PIN_VALUES_MAX
from proxy_attestation.formats.pins import MINIMUM, PINS, PinKey, PinKind
from proxy_attestation.formats.signed_note import Verifier, parse_note, verify_note
from proxy_attestation.formats.tee import Tee

HEADER: Final = "proxy-attestation/deployment/v1"
_OTHER: Final = PinKey("", PinKind.ANY_OF, 0, Code.POLICY_CLAIM)
FIELDS: Final[Mapping[Tee, Mapping[str, PinKey]]] = {
    tee: {key.name: key for key in keys.values() if key.kind is PinKind.ANY_OF} for tee, keys in PINS.items()
}
"""What a statement can pin."""
REQUIRED: Final[Mapping[Tee, frozenset[str]]] = {
    tee: frozenset(name for name in forms[0] if PINS[tee].get(name, _OTHER).code is Code.POLICY_MEASUREMENT)
    for tee, forms in MINIMUM.items()
}
"""What it pins at least of a TEE that it names."""
_CODE: Final = Code.PROXY_STATEMENT_MALFORMED
_DOMAIN: Final = re.compile(r"[a-z0-9]([a-z0-9._-]{0,253}[a-z0-9])?\Z")
_VKEY: Final = re.compile(r"[!-~]{1,512}\Z")
_HEX: Final = re.compile(r"([0-9a-f]{2})+\Z")


class Pin(NamedTuple):
    """One measurement of the proxy that is accepted."""

    tee: Tee
    field: str
    value: bytes


@dataclass(frozen=True, slots=True)
class Deployment:
    """A statement.

    Attributes:
        trust_domain: the proxy's.
        root_spki_sha256: 32 bytes.
        ledger_key: the log's vkey.
        pins: sorted, each once.
    """

    trust_domain: str
    root_spki_sha256: bytes
    ledger_key: str
    pins: tuple[Pin, ...]

    def accepted(self, tee: Tee) -> dict[str, tuple[bytes, ...]]:
        """Return the accepted values of a TEE by field; none where the statement does not name it."""
        found: dict[str, tuple[bytes, ...]] = {}
        for pin in self.pins:
            if pin.tee is tee:
                found[pin.field] = (*found.get(pin.field, ()), pin.value)
        return found


def make_deployment(trust_domain: str, root_spki_sha256: bytes, ledger_key: str, pins: Iterable[Pin]) -> Deployment:
    """Make a statement, its pins sorted.

    Raises:
        FormatError: `proxy.statement_malformed`, for pins below the minimum, or values that no statement can have.
    """
    made = Deployment(trust_domain, root_spki_sha256, ledger_key, tuple(sorted(set(pins))))
    parse_deployment(encode_deployment(made))
    return made


def encode_deployment(statement: Deployment) -> bytes:
    """Return the text of the note, in UTF-8."""
    lines = [
        HEADER,
        statement.trust_domain,
        f"root {statement.root_spki_sha256.hex()}",
        f"ledger {statement.ledger_key}",
        *(f"pin {pin.tee} {pin.field} {pin.value.hex()}" for pin in statement.pins),
    ]
    return "".join(f"{line}\n" for line in lines).encode()


def parse_deployment(text: bytes) -> Deployment:
    """Read the text of the note.

    Raises:
        FormatError: `proxy.statement_malformed`, for anything that `encode_deployment` does not write.
    """
    if len(text) > DEPLOYMENT_MAX:
        raise FormatError(_CODE, f"{len(text)} bytes, at most {DEPLOYMENT_MAX} allowed")
    try:
        lines = text.decode("ascii").split("\n")
        header, domain, root, ledger, *pins, end = lines
    except ValueError as error:
        raise FormatError(_CODE, "not five lines or more of ASCII") from error
    spki = _after("root ", root, _HEX)
    statement = Deployment(domain, bytes.fromhex(spki), _after("ledger ", ledger, _VKEY), tuple(map(_pin, pins)))
    if header != HEADER or end or _DOMAIN.match(domain) is None or len(statement.root_spki_sha256) != 32:
        raise FormatError(_CODE, "another header, trust domain, root or end")
    if tuple(sorted(set(statement.pins))) != statement.pins:
        raise FormatError(_CODE, "pins that are not sorted, each once")
    for tee in {pin.tee for pin in statement.pins} or {Tee.SGX}:
        fields = statement.accepted(tee)
        if not REQUIRED[tee] <= fields.keys() or max(map(len, fields.values())) > PIN_VALUES_MAX:
            raise FormatError(_CODE, f"a proxy in {tee} is pinned by {', '.join(sorted(REQUIRED[tee]))}")
    return statement


def parse_pin(text: str) -> Pin:
    """Read a pin as `TEE FIELD HEX`.

    Raises:
        FormatError: `proxy.statement_malformed`.
    """
    try:
        tee, field, value = text.split(" ")
        key = FIELDS[Tee(tee)][field]
    except (ValueError, LookupError) as error:
        raise FormatError(_CODE, f"{text[:200]!r} is no pin: TEE FIELD HEX") from error
    fits = _HEX.match(value) is not None and len(value) // 2 in (key.size, *key.lengths)
    if not fits or not (key.zero or value.strip("0")):
        raise FormatError(_CODE, f"{tee} {field}: {key.size} bytes in lower-case hex that name something")
    return Pin(Tee(tee), field, bytes.fromhex(value))


def _pin(line: str) -> Pin:
    return parse_pin(_after("pin ", line, None))


def _after(word: str, line: str, form: re.Pattern[str] | None) -> str:
    rest = line.removeprefix(word)
    if not line.startswith(word) or (form is not None and form.match(rest) is None):
        raise FormatError(_CODE, f"a line {word!r}... was expected")
    return rest


def verify_deployment(data: bytes, signers: Sequence[Verifier], threshold: int) -> Deployment:
    """Read a statement and count who signed it.

    Args:
        data: the signed note, at most `DEPLOYMENT_NOTE_MAX` bytes.
        signers: whose signatures count; where there are none nobody's is asked for.
        threshold: how many different keys of theirs must have signed.

    Raises:
        FormatError: `note.malformed`, `proxy.statement_malformed`.
        RefusedError: `note.signature`, for a signature of a signer that is not good; `proxy.statement_signatures`, for
            too few of them.
    """
    note = parse_note(data)
    statement = parse_deployment(note.text.encode())
    known = {(signer.name, signer.key_id) for signer in signers}
    signed = any((signature.name, signature.key_id) in known for signature in note.signatures)
    good = {verifier.public_key for verifier in (verify_note(note, signers) if signed else ())}
    if signers and len(good) < threshold:
        raise RefusedError(Code.PROXY_STATEMENT_SIGNATURES, f"{len(good)} of {len(signers)} signed, {threshold} must")
    return statement


def check_about(statement: Deployment, trust_domain: str, root_spki_sha256: bytes, ledger_key: str) -> None:
    """Check that a statement is about this proxy and no other.

    Raises:
        RefusedError: `proxy.statement_other`.
    """
    found = (statement.trust_domain, statement.root_spki_sha256, statement.ledger_key)
    if found != (trust_domain, root_spki_sha256, ledger_key):
        raise RefusedError(Code.PROXY_STATEMENT_OTHER, f"it is about {found[0]}, root {found[1].hex()}, {found[2]}")
