"""The policy digest covers everything that a decision rests on, and not the order of sets."""

import hashlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import fields, is_dataclass, replace
from enum import Enum
from pathlib import Path
from typing import Any, cast

import pytest

from proxy_attestation.appraisal.endorsements import Floor
from proxy_attestation.appraisal.roots import VENDOR_ROOTS, Roots
from proxy_attestation.errors import InternalError
from proxy_attestation.formats.pins import PINS
from proxy_attestation.formats.tee import Tee
from proxy_attestation.policy.digest import policy_digest
from proxy_attestation.policy.load import parse_policy
from proxy_attestation.policy.model import Policy

FLOORS = {(Tee.SGX, bytes(6)): Floor(17, 1_700_000_000, 3, 4), (Tee.TDX, b"\x01" * 6): Floor(18, 1, 2, 3)}
FULL_TDX = f"""
[[workload]]
name = "vm"
tee = "tdx"
mr_td = ["{"31" * 48}", "{"32" * 48}"]
rtmr0 = ["{"40" * 48}", "{"4f" * 48}"]
rtmr1 = ["{"41" * 48}"]
rtmr2 = ["{"42" * 48}"]
rtmr3 = ["{"43" * 48}"]
mr_config_id = ["{"00" * 48}"]
td_attributes = "0000001000000000"
td_attributes_mask = "fffffffffffffffd"
xfam = "e702060000000000"
xfam_mask = "fffffffffffffffe"
mr_owner = "{"50" * 48}"
mr_owner_config = "{"51" * 48}"
mr_service_td = ["{"52" * 48}"]
tcb = ["TDRelaunchAdvised", "UpToDate"]
advisories = ["INTEL-SA-00001", "INTEL-SA-00002"]
dns = ["vm.example.org", "vm2.example.org"]
ip = ["192.0.2.9"]
owner = {{ shared = true }}
"""
FULL_SGX = {
    "mr_enclave": f'["{"11" * 32}"]',
    "config_id": f'"{"07" * 64}"',
    "config_svn": "2",
    "isv_ext_prod_id": f'"{"08" * 16}"',
    "isv_family_id": f'"{"09" * 16}"',
    "dns": '["app.example.org"]',
    "max_lifetime": '"2h"',
}


@pytest.fixture
def full(render: Callable[..., str], tmp_path: Path) -> Policy:
    index = f"{'aa' * 32}  a.wat\n{'bb' * 32}  b.wat\n"
    (tmp_path / "app.index").write_text(index)
    digest = hashlib.sha256(index.encode()).hexdigest()
    application = f'{{ index = "app.index", sha256 = "{digest}", paths = ["a.wat", "b.wat"] }}'
    danger = {"allow_debug": '["app"]', "software_keys": '["app"]', "short_lifetimes": "true"}
    text = render("signer", FULL_SGX | {"application": application}, danger=danger, more=FULL_TDX)
    return parse_policy(text, tmp_path)


def digest_of(
    policy: Policy,
    roots: Roots = VENDOR_ROOTS,
    floors: Mapping[tuple[Tee, bytes], Floor] = FLOORS,
    version: str = "1.0",
) -> bytes:
    return policy_digest(policy, roots, floors, version)


def variants(value: Any) -> Iterator[Any]:
    """Yield `value` with each one thing in it changed."""
    if is_dataclass(value) and not isinstance(value, type):
        for field in fields(value):
            for changed in variants(getattr(value, field.name)):
                yield replace(value, **{field.name: changed})
    elif isinstance(value, Enum):
        others = [member for member in type(value) if member is not value]
        yield others[0] if others else cast("Enum", "another")
    elif isinstance(value, bool):
        yield not value
    elif isinstance(value, int):
        yield value + 1
    elif isinstance(value, str):
        yield value + "x"
    elif value == b"":
        yield b"x"
    elif isinstance(value, bytes):
        yield bytes([value[0] ^ 1]) + value[1:]
        yield value[:-1] + bytes([value[-1] ^ 0x80])
        yield value[:-1]
    elif isinstance(value, tuple):
        for index, item in enumerate(value):
            yield value[:index] + value[index + 1 :]
            for changed in variants(item):
                yield (*value[:index], changed, *value[index + 1 :])
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield {other: kept for other, kept in value.items() if other != key}
            for changed in variants(item):
                yield {**value, key: changed}
    else:
        assert value is None, f"no variant of a {type(value).__name__}"


def test_every_field_of_a_policy_changes_the_digest(full: Policy) -> None:
    for workload in full.workloads.values():
        assert workload.pins.keys() == PINS[workload.tee].keys()
    changed = [digest_of(variant) for variant in variants(full)]
    assert len(changed) > 140
    assert len({digest_of(full), *changed}) == len(changed) + 1


def test_roots_floors_and_version_change_the_digest(full: Policy) -> None:
    other = [
        digest_of(full, roots=Roots(frozenset())),
        digest_of(full, roots=Roots(frozenset({bytes(32)}))),
        digest_of(full, roots=replace(VENDOR_ROOTS, intel=VENDOR_ROOTS.intel | {bytes(32)})),
        digest_of(full, floors={}),
        *(digest_of(full, floors=floors) for floors in variants(FLOORS)),
        digest_of(full, floors={(Tee.TDX, bytes(6)): FLOORS[Tee.SGX, bytes(6)]}),
        digest_of(full, floors={(Tee.SGX, b"\x01" * 6): FLOORS[Tee.SGX, bytes(6)]}),
        digest_of(full, version="1.1"),
    ]
    assert len({digest_of(full), *other}) == len(other) + 1


def test_the_order_of_sets_does_not_count(full: Policy) -> None:
    app = full.workloads["app"]
    turned = replace(
        app,
        tcb=app.tcb[::-1],
        advisories=app.advisories[::-1],
        application=app.application[::-1],
        key_origins=app.key_origins[::-1],
    )
    other = replace(full, workloads={"vm": full.workloads["vm"], "app": turned}, dangers=full.dangers[::-1])
    assert turned != app
    assert digest_of(other, floors=dict(reversed(FLOORS.items()))) == digest_of(full)


def test_the_spelling_of_a_file_does_not_count(render: Callable[..., str], tmp_path: Path) -> None:
    one = parse_policy(render("sgx", more=FULL_TDX), tmp_path)
    text = f'# other\nversion=1\ntrust_domain = "example.org"\n{FULL_TDX}\n' + render().split("\n", 2)[2]
    other = parse_policy(text, tmp_path)
    assert list(one.workloads) != list(other.workloads)
    assert digest_of(one) == digest_of(other)


def test_the_digest_is_stable(policy_of: Callable[..., Policy]) -> None:
    # Recorded when the format was fixed. A change here changes what ledgers and clients refer to.
    assert digest_of(policy_of(), version="0").hex() == (
        "8aa37a66e54dfb4fe85ae58636659862ce763371ac72eaad1eaac3ab52d020d5"
    )


def test_a_value_that_has_no_encoding_is_a_bug(policy_of: Callable[..., Policy]) -> None:
    broken = replace(policy_of(), trust_domain=cast("str", 1.5))
    with pytest.raises(InternalError):
        digest_of(broken)


def test_a_pin_of_zero_is_not_the_same_as_no_pin(policy_of: Callable[..., Policy]) -> None:
    zero = {"isv_prod_id": "0", "min_isv_svn": "0"}
    policies = [policy_of("sgx", dict(list(zero.items())[:count])) for count in range(3)]
    assert len({digest_of(policy) for policy in policies}) == 3
