"""What must be refused, and with which code."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from world import World


@dataclass(frozen=True)
class Refusal:
    """One misuse: its title, the code it must be refused with, and the command that tries it."""

    title: str
    code: str
    command: Callable[[World], list[str]]


def _changed(stem: str, **changes: str) -> Callable[[World], list[str]]:
    return lambda world: world.loader(world.write_app(world.directory / f"{stem}.toml", **changes))


def _fault(fault: str) -> Callable[[World], list[str]]:
    return lambda world: world.loader(world.write_app(world.directory / "fault.toml"), fault)


def _other_application(world: World) -> list[str]:
    path = world.directory / "other.wat"
    path.write_text('(module (memory (export "memory") 1) (func (export "_start")))\n')
    return world.loader(world.write_app(world.directory / "other.toml", application=str(path)))


def _real(world: World) -> list[str]:
    return world.loader(world.write_app(Path(world.directory / "real.toml"), url=world.real_url, pin=world.real_pin))


REFUSALS = (
    Refusal("an enclave in debug mode", "sgx.debug", _fault("debug")),
    Refusal("an unknown measurement", "policy.measurement", _fault("mr_enclave=" + "ab" * 32)),
    Refusal("a quote tampered with after signing", "sgx.signature", _fault("tampered")),
    Refusal("a challenge used a second time", "challenge.spent", lambda world: world.misuse("replay")),
    Refusal("evidence for another key", "binder.mismatch", lambda world: world.misuse("other-key")),
    Refusal("a name that the policy does not grant", "policy.name", _changed("name", name="admin.example.org")),
    Refusal("another application under the same loader", "policy.application", _other_application),
    Refusal("a platform with an old TCB", "sgx.tcb_status", _fault("old-tcb")),
    Refusal("simulated evidence for a real authority", "sgx.root", _real),
)
