"""Which of an ARK's lists count: those that are good now, the newest first; each other is left out and said."""

import hashlib
from collections.abc import Callable
from datetime import timedelta

import pytest
from fake_amd import VENDOR, FakeAmd
from fake_vendors import NOW
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy_attestation.appraisal.endorsements import SnpEndorsements
from proxy_attestation.endorsements.amd_lists import choose_lists
from proxy_attestation.formats.bounds import SNP_CRLS_MAX
from proxy_attestation_simulator.amd_certificates import revocation_list
from proxy_attestation_simulator.recipes import Crl

DAY = timedelta(days=1)
AMD = FakeAmd()
CHAIN = (AMD.ark, AMD.ask)


def listed(number: int = 5, start: timedelta = -DAY, end: timedelta = DAY, key: str = "Milan ark") -> bytes:
    return revocation_list(Crl(number, NOW + start, NOW + end), "ARK-Milan", VENDOR.key(key))


def chosen(*crls: bytes) -> tuple[tuple[bytes, ...], set[bytes]]:
    made, left_out = choose_lists(SnpEndorsements(CHAIN, crls), NOW)
    assert made.certificates == CHAIN
    return made.crls, set(left_out)


def digests(*crls: bytes) -> set[bytes]:
    return {hashlib.sha256(crl).digest() for crl in crls}


GOOD = listed()


def test_two_good_lists_both_count_the_newer_first() -> None:
    newer = listed(6)
    assert chosen(GOOD, newer) == ((newer, GOOD), set())


def test_the_date_decides_between_equal_numbers() -> None:
    newer = listed(start=timedelta(hours=-1))
    assert chosen(GOOD, newer)[0] == (newer, GOOD)


@pytest.mark.parametrize(
    "make",
    [
        lambda: listed(9, -2 * DAY, -timedelta(seconds=1)),
        lambda: listed(9, timedelta(seconds=1)),
        lambda: listed(9, key="stranger Milan ark"),
        lambda: FakeAmd("Genoa").crl(),
        lambda: FakeAmd(crl_number=None).crl(),
        lambda: b"",
        lambda: AMD.ask,
    ],
)
def test_a_list_that_is_not_good_is_left_out(make: Callable[[], bytes]) -> None:
    other = make()
    assert chosen(other, GOOD) == ((GOOD,), digests(other))


@pytest.mark.parametrize(("start", "end"), [(timedelta(0), DAY), (-DAY, timedelta(0))])
def test_a_list_holds_from_its_first_to_its_last_second(start: timedelta, end: timedelta) -> None:
    assert chosen(listed(9, start, end), GOOD)[1] == set()


def test_the_newest_count_where_there_are_too_many() -> None:
    many = [listed(number) for number in range(SNP_CRLS_MAX + 2)]
    kept, left_out = chosen(*many)
    assert kept == tuple(reversed(many[2:]))
    assert left_out == digests(*many[:2])


def test_where_none_is_good_the_walk_sees_what_there_is() -> None:
    bad = [listed(number, -2 * DAY, -DAY) for number in range(SNP_CRLS_MAX + 1)]
    assert chosen(*bad) == (tuple(bad[:SNP_CRLS_MAX]), set())
    assert chosen() == ((), set())


def test_a_set_without_a_readable_root_stays_as_it_is() -> None:
    for certificates in ((), (b"",)):
        made = SnpEndorsements(certificates, (GOOD,))
        assert choose_lists(made, NOW) == (made, {})


@settings(max_examples=100, deadline=None)
@given(st.lists(st.binary(max_size=60), max_size=20))
def test_any_bytes_are_left_out(junk: list[bytes]) -> None:
    kept, left_out = chosen(*junk, GOOD)
    assert kept == (GOOD,)
    assert left_out == digests(*junk)
