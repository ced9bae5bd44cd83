"""The binder commits to every part, and to where each part ends."""

import hashlib

import pytest

from proxy_attestation.formats.binder import Binding, bind, issue_binder
from proxy_attestation.formats.tee import Tee

PARTS = {
    "ca_id": b"\x01" * 32,
    "session_id": b"\x02" * 16,
    "nonce": b"\x03" * 32,
    "spki": b"\x04" * 91,
    "request": b"\xa0",
}


def test_the_bytes_are_those_of_the_description() -> None:
    expected = b"".join(
        [
            b"proxy-attestation/issue/v1\x00",
            b"\x00\x00\x00\x20" + b"\x01" * 32,
            b"\x00\x00\x00\x10" + b"\x02" * 16,
            b"\x00\x00\x00\x20" + b"\x03" * 32,
            b"\x00\x00\x00\x5b" + b"\x04" * 91,
            b"\x00\x00\x00\x20" + hashlib.sha256(b"\xa0").digest(),
        ]
    )
    assert issue_binder(**PARTS) == expected
    assert bind(**PARTS) == Binding(
        hashlib.sha512(expected).digest(), hashlib.sha256(expected).digest(), PARTS["nonce"], PARTS["spki"]
    )


SLOTS = {
    Tee.SGX: ("report_data",),
    Tee.TDX: ("report_data",),
    Tee.SNP: ("report_data",),
    Tee.NITRO: ("nonce", "spki", "report_data"),
    Tee.TPM: ("digest",),
}


@pytest.mark.parametrize("tee", list(Tee))
def test_each_tee_has_its_slots(tee: Tee) -> None:
    binding = bind(**PARTS)
    assert binding.slots(tee) == tuple(getattr(binding, name) for name in SLOTS[tee])


@pytest.mark.parametrize("tee", list(Tee))
def test_evidence_is_bound_by_exactly_these_values(tee: Tee) -> None:
    binding = bind(**PARTS)
    good = binding.slots(tee)
    assert binding.is_in(tee, good)
    assert not binding.is_in(tee, ())
    assert not binding.is_in(tee, (*good, b""))
    assert binding.is_in(tee, good * 2) is (tee is Tee.TPM)  # a quote and a certification say the same
    assert not binding.is_in(tee, good * 3)
    assert not binding.is_in(tee, good[:-1])
    for place, value in enumerate(good):
        for wrong in (b"", bytes(len(value)), value[:-1], value + b"\0", bytes([value[0] ^ 1]) + value[1:]):
            assert not binding.is_in(tee, (*good[:place], wrong, *good[place + 1 :]))


@pytest.mark.parametrize("part", sorted(PARTS))
def test_each_part_changes_it(part: str) -> None:
    changed = PARTS | {part: PARTS[part][:-1] + bytes([PARTS[part][-1] ^ 1])}
    assert issue_binder(**changed) != issue_binder(**PARTS)


def test_moving_a_byte_between_neighbours_changes_it() -> None:
    moved = PARTS | {"session_id": PARTS["session_id"] + b"\x03", "nonce": PARTS["nonce"][1:]}
    assert issue_binder(**moved) != issue_binder(**PARTS)
