"""The registry of faults: every one is a single argument, `NAME` or `NAME=VALUE`.

`quote_faults.py` has those of a platform and its quotes, `collateral_faults.py` those of the vendor's collateral; the
table at the head of each says which code every fault is meant to provoke. In a name, `-` and `_` are the same.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Final, Generic, TypeAlias, TypeVar

from proxy_attestation_simulator.errors import SimulatorError

R = TypeVar("R")
Tees: TypeAlias = tuple[str, ...]
BOTH: Final[Tees] = ("sgx", "tdx")


@dataclass(frozen=True, slots=True)
class Fault(Generic[R]):
    """One way of being wrong.

    Attributes:
        name: as it is given.
        doc: what exactly changes, one line.
        code: the code that it provokes, without the TEE's prefix where there is one code a TEE (`signature` for
            `sgx.signature` and `tdx.signature`); `accepted` where a strict verifier has nothing to refuse.
        value: what the value is, such as `HEX`, or "" if there is none.
        default: the value where none is given, or None if one must be given (or there is none).
        tees: where it can be used.
        apply: gives the recipe with the fault.
    """

    name: str
    doc: str
    code: str
    value: str
    default: str | None
    tees: Tees
    apply: Callable[[R, str], R]

    @property
    def usage(self) -> str:
        """How it is written: `NAME`, `NAME=VALUE`, or `NAME[=VALUE]` where the value has a default."""
        if not self.value:
            return self.name
        return f"{self.name}={self.value}" if self.default is None else f"{self.name}[={self.value}]"

    def codes(self) -> tuple[str, ...]:
        """Return the full codes that it is meant to provoke, one for each TEE."""
        if "." in self.code or self.code == "accepted":
            return (self.code,)
        return tuple(f"{tee}.{self.code}" for tee in self.tees)


class Registry(dict[str, Fault[R]]):
    """Faults by name."""

    def add(
        self,
        name: str,
        doc: str,
        code: str,
        apply: Callable[[R, str], R],
        *,
        value: str = "",
        default: str | None = None,
        tees: Tees = BOTH,
    ) -> None:
        """Add a fault; its name must be new."""
        if name in self:
            raise ValueError(f"two faults are called {name}")
        self[name] = Fault(name, doc, code, value, default, tees, apply)

    def fault(
        self, name: str, doc: str, code: str, *, value: str = "", default: str | None = None, tees: Tees = BOTH
    ) -> Callable[[Callable[[R, str], R]], Callable[[R, str], R]]:
        """Return a decorator that adds a function as a fault."""

        def decorate(apply: Callable[[R, str], R]) -> Callable[[R, str], R]:
            self.add(name, doc, code, apply, value=value, default=default, tees=tees)
            return apply

        return decorate

    def find(self, text: str) -> tuple[Fault[R], str]:
        """Parse `NAME` or `NAME=VALUE`.

        Raises:
            SimulatorError: there is no such fault, or it needs a value, or takes none.
        """
        name, equals, value = text.partition("=")
        fault = self.get(name) or self.get(name.replace("_", "-")) or self.get(name.replace("-", "_"))
        if fault is None:
            close = ", ".join(get_close_matches(name, self)) or "see `proxy-attestation-simulator faults`"
            raise SimulatorError(f"there is no fault {name!r} here; {close}")
        if equals and not fault.value:
            raise SimulatorError(f"fault {fault.name} takes no value")
        if not equals:
            if fault.value and fault.default is None:
                raise SimulatorError(f"fault {fault.name} needs a value: {fault.name}={fault.value}")
            value = fault.default or ""
        return fault, value

    def apply_all(self, recipe: R, tee: str, faults: str | Iterable[str]) -> R:
        """Apply faults in order. One string is one fault; the empty string is none.

        Raises:
            SimulatorError: a fault is unknown, has a bad value, or does not exist for this TEE.
        """
        texts = [faults] if isinstance(faults, str) else list(faults)
        for text in filter(None, texts):
            fault, value = self.find(text)
            if tee not in fault.tees:
                raise SimulatorError(f"fault {fault.name} exists only for {', '.join(fault.tees)}")
            recipe = fault.apply(recipe, value)
        return recipe


def number(value: str, largest: int) -> int:
    """Parse a value that is a number, decimal or 0x hexadecimal."""
    try:
        parsed = int(value, 0)
    except ValueError:
        parsed = -1
    if not 0 <= parsed <= largest:
        raise SimulatorError(f"{value!r} is no number from 0 to {largest}")
    return parsed


def hexadecimal(value: str) -> bytes:
    """Parse a value that is bytes in hex."""
    try:
        return bytes.fromhex(value)
    except ValueError:
        raise SimulatorError(f"{value!r} is no hex") from None


def choice(value: str, choices: Iterable[str]) -> str:
    """Parse a value that is one of several words."""
    known = tuple(choices)
    if value not in known:
        raise SimulatorError(f"{value!r} is none of {', '.join(known)}")
    return value
