"""What was measured out of a released file, in the vocabulary of policies, and how it is written down."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final, TypeAlias

from proxy_attestation.formats.pins import PINS, PinKind, minimum_form
from proxy_attestation.formats.tee import Tee

Value: TypeAlias = "tuple[bytes, ...] | tuple[str, ...] | bytes | int"
"""A list of accepted values, one exact value or mask, or a number; by the kind of the pin."""

_RULE_VALUES: Final = 64
"""Values that one list of a policy holds."""
_PLAIN: Final = re.compile(r"[^\x20-\x7e]")
_WHY: Final = {
    "vmpl": "the privilege level that asks for reports; 0 where nothing stands below the guest's kernel",
    "policy": 'the guest policy, memory order: "0000030000000000" allows SMT and nothing else',
    "policy_mask": '"ffffffffffffffff" where every bit counts',
    "product": 'the processor line, such as ["Genoa"]: TCB numbers mean nothing without it',
    "mr_td": "the TD's firmware: no log leads to it; `appraise` prints it",
    "mr_config_id": "48 bytes that the host passes; zero where it passes none",
    "td_attributes": "as `appraise` prints it",
    "td_attributes_mask": '"ffffffffffffffff" where every bit counts',
    "xfam": "as `appraise` prints it",
    "xfam_mask": '"ffffffffffffffff" where every bit counts',
    "ek_root": "SHA-256 of the CA's SubjectPublicKeyInfo; or a table `hardware`",
}


@dataclass(frozen=True, slots=True)
class EventRow:
    """One event of a log.

    Attributes:
        register: its key in policies, such as `rtmr1`.
        type: its name in the profile, or eight hex digits.
        digest: of the bank.
        covered: whether the digest is the hash of the data.
        data: as it stands in the log.
    """

    register: str
    type: str
    digest: bytes
    covered: bool
    data: bytes

    def readable(self) -> str:
        """Return printable data on a line of at most 60 characters; nothing where it says nothing to people."""
        text = self.data.rstrip(b"\0").decode("utf-8", "replace")
        return text[:60] if text and not _PLAIN.search(text) else ""


@dataclass(frozen=True, slots=True)
class Measured:
    """Reference values.

    Attributes:
        tee: whose.
        source: what they come from, on a line.
        pins: by key of a policy, masks too.
        notes: what a person must know to use them.
        dangers: what makes certificates mean less where such code is accepted.
        details: what else the file says, readable.
        events: of a log.
        ruled: registers that rules shall speak of instead of pins.
        not_after: aware UTC; when the publisher says that they end.
    """

    tee: Tee
    source: str
    pins: Mapping[str, Value]
    notes: tuple[str, ...] = ()
    dangers: tuple[str, ...] = ()
    details: Mapping[str, str] = field(default_factory=dict)
    events: tuple[EventRow, ...] = ()
    ruled: frozenset[str] = frozenset()
    not_after: datetime | None = None

    @property
    def missing(self) -> tuple[str, ...]:
        """The keys that an entry must have beside these: of the form of minimum pins that they are nearest to."""
        have = self.pins.keys() | self.ruled
        keys = [name for name in minimum_form(self.tee, have.__contains__) if name not in have]
        with_masks = [(key, PINS[self.tee].get(key)) for key in keys]
        return tuple(
            name
            for key, pin in with_masks
            for name in ((key, pin.mask) if pin is not None and pin.kind is PinKind.MASKED else (key,))
        )


def to_json(measured: Measured) -> dict[str, object]:
    """Return reference values as a JSON object."""
    return {
        "tee": str(measured.tee),
        "source": measured.source,
        "pins": {key: plain(value) for key, value in measured.pins.items()},
        "missing": list(measured.missing),
        "dangers": list(measured.dangers),
        "notes": list(measured.notes),
        "details": dict(measured.details),
        "not_after": None if measured.not_after is None else measured.not_after.isoformat(),
        "events": [
            {
                "register": row.register,
                "type": row.type,
                "digest": row.digest.hex(),
                "covered": row.covered,
                "text": row.readable(),
            }
            for row in measured.events
        ],
    }


def to_lines(measured: Measured) -> list[str]:
    """Return reference values as lines for people."""
    lines = [f"{measured.tee} reference values, from {measured.source}"]
    lines += [f"  DANGER {danger}" for danger in measured.dangers]
    for key, value in (*measured.details.items(), *((key, _shown(value)) for key, value in measured.pins.items())):
        lines.append(f"  {key:<21} {value}")
    lines += [f"  {key:<21} not in this file: {_WHY.get(key, 'put it in by hand')}" for key in measured.missing]
    if measured.not_after is not None:
        lines.append(f"  {'not_after':<21} {measured.not_after.isoformat()}")
    lines += [f"  note: {note}" for note in measured.notes]
    for row in measured.events:
        mark = "=" if row.covered else " "
        lines.append(f"  {row.register:<6} {row.digest.hex()} {mark} {row.type} {row.readable()}".rstrip())
    return lines


def to_entry(measured: Measured, name: str = "") -> str:
    """Return a `[[workload]]` entry whose `name`, `owner` and missing pins stand in comments, to be filled in."""
    lines = ["[[workload]]", *_comments(measured)]
    lines.append(f'name = "{name}"' if name else '# name = "..." # the last part of the SPIFFE ID')
    lines.append(f'tee = "{measured.tee}"')
    lines += _pin_lines(measured)
    lines.append('# dns = ["..."]')
    lines.append("# owner = { shared = true } # who may hold the names")
    lines += _rules(measured)
    return "\n".join(lines) + "\n"


def to_values(measured: Measured, product: str, version: int) -> str:
    """Return a file of reference values as `reference sign` takes it."""
    lines = [
        *_comments(measured),
        f"product = {_quoted(product)}",
        f"version = {version}",
        f'tee = "{measured.tee}"',
    ]
    if measured.not_after is not None:
        lines.append(f"not_after = {measured.not_after.strftime('%Y-%m-%dT%H:%M:%SZ')}")
    lines += ["", "[values]", *_pin_lines(measured)]
    return "\n".join(lines) + "\n"


def _comments(measured: Measured) -> list[str]:
    dangers = [f"# DANGER: {danger}" for danger in measured.dangers]
    return [f"# From {_line(measured.source)}.", *map(_line, dangers), *(f"# {_line(note)}" for note in measured.notes)]


def _line(text: str) -> str:
    return _PLAIN.sub("?", text)


def _pin_lines(measured: Measured) -> list[str]:
    lines = [f"{key} = {_toml(value)}" for key, value in measured.pins.items() if key not in measured.ruled]
    return lines + [f"# {key} = # {_WHY.get(key, 'put it in by hand')}" for key in measured.missing]


def _rules(measured: Measured) -> list[str]:
    """Return one rule for each type of event in each register that rules shall speak of, in the log's order."""
    groups: dict[tuple[str, str], dict[bytes, str]] = {}
    for row in measured.events:
        if row.register in measured.ruled:
            groups.setdefault((row.register, row.type), {}).setdefault(row.digest, row.readable())
    lines: list[str] = []
    for (register, kind), digests in groups.items():
        for start in range(0, len(digests), _RULE_VALUES):
            some = list(digests.items())[start : start + _RULE_VALUES]
            lines += ["", "[[workload.event]]", f'register = "{register}"', f'type = "{kind}"', "digest = ["]
            lines += [f'    "{digest.hex()}", # {_line(text)}'.removesuffix(" # ") for digest, text in some]
            lines.append("]")
    return lines


def plain(value: Value) -> list[str] | str | int:
    """Return a value as TOML and JSON have it: hex, a number, a list of text."""
    if isinstance(value, tuple):
        return [item.hex() if isinstance(item, bytes) else item for item in value]
    return value.hex() if isinstance(value, bytes) else value


def _shown(value: Value) -> str:
    said = plain(value)
    return " or ".join(said) if isinstance(said, list) else str(said)


def _toml(value: Value) -> str:
    said = plain(value)
    if isinstance(said, list):
        return f"[{', '.join(map(_quoted, said))}]"
    return str(said) if isinstance(said, int) else _quoted(said)


def _quoted(text: str) -> str:
    return '"' + _line(text).replace("\\", "\\\\").replace('"', '\\"') + '"'
