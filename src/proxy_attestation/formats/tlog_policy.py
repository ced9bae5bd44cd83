"""Which witnesses must have co-signed a checkpoint (C2SP tlog-policy): the file that clients and log share.

::

    # comment
    log <vkey> [<url>]
    witness <name> <vkey> [<url>]
    group <name> all|any|<k> <member> ...
    quorum <name>|none

A name stands for a witness or a group, is defined before it is used, and is a member of at most one group. There is
exactly one quorum. Words are separated by spaces or tabs.
"""

import re
from collections.abc import Iterable, Set
from dataclasses import dataclass
from typing import Final

from proxy_attestation.codes import Code
from proxy_attestation.errors import FormatError, RefusedError
from proxy_attestation.formats.bounds import NOTE_SIGNATURES_MAX, TLOG_POLICY_LINES_MAX, TLOG_POLICY_MAX
from proxy_attestation.formats.checkpoint import parse_decimal
from proxy_attestation.formats.signed_note import KeyType, Verifier, parse_vkey

_CODE: Final = Code.LEDGER_MALFORMED
_CONTROL: Final = re.compile(r"[\x00-\x08\x0b-\x1f\x7f]")
NO_QUORUM: Final = "none"


@dataclass(frozen=True, slots=True)
class Party:
    """A log or a witness.

    Attributes:
        key: of a witness: that of its cosignatures.
        url: where it is, as written; empty where the policy does not say.
    """

    key: Verifier
    url: str = ""


@dataclass(frozen=True, slots=True)
class Group:
    """So many of these.

    Attributes:
        threshold: how many of the members, at least 1.
        members: names of witnesses and groups.
    """

    threshold: int
    members: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class TlogPolicy:
    """A policy as it is written; the default demands no witness.

    Attributes:
        logs: those that it names.
        witnesses: by name.
        groups: by name; the members of each stand before it, or are witnesses.
        quorum: a name, or `none`.
    """

    logs: tuple[Party, ...] = ()
    witnesses: tuple[tuple[str, Party], ...] = ()
    groups: tuple[tuple[str, Group], ...] = ()
    quorum: str = NO_QUORUM

    @property
    def verifiers(self) -> tuple[Verifier, ...]:
        """The witnesses' keys."""
        return tuple(party.key for _, party in self.witnesses)

    def satisfied(self, signed: Set[Verifier]) -> bool:
        """Tell whether these keys' cosignatures are enough."""
        good = {NO_QUORUM, *(name for name, party in self.witnesses if party.key in signed)}
        for name, group in self.groups:
            if len(good.intersection(group.members)) >= group.threshold:
                good.add(name)
        return self.quorum in good

    def require(self, signed: Set[Verifier]) -> None:
        """Refuse a checkpoint on which cosignatures are missing.

        Raises:
            RefusedError: `ledger.witnesses`.
        """
        if not self.satisfied(signed):
            raise RefusedError(Code.LEDGER_WITNESSES, f"{len(signed)} witnesses co-signed, the quorum is not reached")


def parse_tlog_policy(text: str) -> TlogPolicy:
    """Read a policy of at most 64 KiB.

    Raises:
        FormatError: `ledger.malformed`, naming the line; also for a key that stands for two witnesses, which would
            count twice, and for a witness's key of another type than cosignature.
    """
    if len(text) > TLOG_POLICY_MAX or text.count("\n") > TLOG_POLICY_LINES_MAX:
        raise FormatError(_CODE, f"a witness policy of more than {TLOG_POLICY_MAX} characters or too many lines")
    if _CONTROL.search(text):
        raise FormatError(_CODE, "a witness policy with a control character that is neither tab nor newline")
    reader = _Reader()
    for number, line in enumerate(text.split("\n"), start=1):
        words = line.replace("\t", " ").split(" ")
        words = [word for word in words if word]
        if words and not words[0].startswith("#"):
            try:
                reader.line(words)
            except FormatError as error:
                raise FormatError(_CODE, f"line {number}: {error.detail}") from error
    return reader.policy()


class _Reader:
    def __init__(self) -> None:
        self._logs: list[Party] = []
        self._witnesses: dict[str, Party] = {}
        self._groups: dict[str, Group] = {}
        self._used: set[str] = set()
        self._quorum: str | None = None

    def line(self, words: list[str]) -> None:
        match words:
            case ["log", vkey, *url] if len(url) <= 1:
                party = self._party(vkey, url, (party.key for party in self._logs))
                if party.key.type is KeyType.COSIGNATURE:
                    raise FormatError(_CODE, "a log's key must not be one of cosignatures")
                self._logs.append(party)
            case ["witness", name, vkey, *url] if len(url) <= 1:
                party = self._party(vkey, url, (party.key for party in self._witnesses.values()))
                if party.key.type is not KeyType.COSIGNATURE:
                    raise FormatError(_CODE, "a witness's key must be one of cosignatures")
                if len(self._witnesses) == NOTE_SIGNATURES_MAX:
                    raise FormatError(_CODE, f"more than {NOTE_SIGNATURES_MAX} witnesses")
                self._witnesses[self._new(name)] = party
            case ["group", name, threshold, _, *_]:
                members = tuple(words[3:])
                if self._used.intersection(members) or len(set(members)) < len(members):
                    raise FormatError(_CODE, "a member of two groups, or twice of one")
                if not all(map(self._known, members)):
                    raise FormatError(_CODE, "a member that is not defined before")
                number = {"all": str(len(members)), "any": "1"}.get(threshold, threshold)
                k = parse_decimal(number, _CODE, len(members))
                if k == 0:
                    raise FormatError(_CODE, "a group that asks for nobody")
                self._groups[self._new(name)] = Group(k, members)
                self._used.update(members)
            case ["quorum", name] if self._quorum is None and (name == NO_QUORUM or self._known(name)):
                self._quorum = name
            case _:
                raise FormatError(_CODE, "not a line of log, witness or group, a second quorum, or one of nobody known")

    def policy(self) -> TlogPolicy:
        if self._quorum is None:
            raise FormatError(_CODE, "a witness policy without quorum")
        return TlogPolicy(tuple(self._logs), tuple(self._witnesses.items()), tuple(self._groups.items()), self._quorum)

    def _known(self, name: str) -> bool:
        return name in self._witnesses or name in self._groups

    def _new(self, name: str) -> str:
        if self._known(name) or name == NO_QUORUM:
            raise FormatError(_CODE, "a name that stands for something already")
        return name

    @staticmethod
    def _party(vkey: str, url: list[str], others: Iterable[Verifier]) -> Party:
        key = parse_vkey(vkey)
        if any(key.public_key == other.public_key for other in others):
            raise FormatError(_CODE, "a key that stands there twice")
        return Party(key, *url)
