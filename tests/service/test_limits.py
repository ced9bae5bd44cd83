"""Budgets: what is over them is refused at once, and every table stays bounded."""

import ipaddress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy_attestation.authority.bucket import Bucket
from proxy_attestation.codes import Code
from proxy_attestation.errors import RequestError, UnavailableError
from proxy_attestation.service.limits import TRIES_MAX, Admission, Bounds, Tries, peer_key


class Ticks:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def refused(admission: Admission, peer: str) -> bool:
    try:
        with admission.admit(peer):
            return False
    except UnavailableError as error:
        assert error.code is Code.LIMITS_EXHAUSTED
        return True


def test_a_bucket_gives_its_burst_and_then_its_rate() -> None:
    bucket = Bucket(rate=2, burst=3, now=0)
    assert [bucket.take(0) for _ in range(4)] == [True, True, True, False]
    assert not bucket.take(0.4)
    assert bucket.take(0.5)
    assert not bucket.take(0.6)
    assert [bucket.take(100) for _ in range(4)] == [True, True, True, False]


def test_a_peer_over_its_rate_is_refused_and_others_are_not() -> None:
    clock = Ticks()
    admission = Admission(Bounds(peer_rate=1, peer_burst=2), clock)
    assert [refused(admission, "192.0.2.1") for _ in range(3)] == [False, False, True]
    assert not refused(admission, "192.0.2.2")
    clock.now = 1
    assert not refused(admission, "192.0.2.1")


def test_calls_at_once_of_one_peer_and_of_all() -> None:
    admission = Admission(Bounds(in_flight=3, peer_in_flight=2), Ticks())
    with admission.admit("a"), admission.admit("a"):
        assert refused(admission, "a")
        with admission.admit("b"):
            assert admission.in_flight == 3
            assert refused(admission, "c")
        assert not refused(admission, "c")
    assert admission.in_flight == 0
    assert not refused(admission, "a")


def test_a_place_is_given_back_when_a_call_fails() -> None:
    admission = Admission(Bounds(in_flight=1, peer_in_flight=1), Ticks())
    with pytest.raises(RuntimeError), admission.admit("a"):
        raise RuntimeError
    assert not refused(admission, "a")


def test_the_peer_not_seen_for_longest_is_forgotten() -> None:
    admission = Admission(Bounds(peer_rate=1, peer_burst=1), Ticks(), peers_max=2)
    assert [refused(admission, peer) for peer in ("a", "b", "a")] == [False, False, True]
    assert not refused(admission, "c")  # forgets b, which was seen before a
    assert not refused(admission, "b")
    assert refused(admission, "c")


def exhausted(tries: Tries, session_id: bytes, now: int) -> bool:
    try:
        tries.check(session_id, now)
    except RequestError as error:
        assert error.code is Code.CHALLENGE_EXHAUSTED
        return True
    return False


def session(number: int) -> bytes:
    return number.to_bytes(16, "big")


def fail(tries: Tries, session_id: bytes, expires_at: int, times: int = TRIES_MAX) -> None:
    for _ in range(times):
        tries.failed(session_id, expires_at)


def test_tries_are_counted_by_session() -> None:
    tries = Tries()
    fail(tries, session(1), 1120, TRIES_MAX - 1)
    assert not exhausted(tries, session(1), 1000)
    fail(tries, session(1), 1120, 1)
    assert exhausted(tries, session(1), 1000)
    assert exhausted(tries, session(1), 1119)
    assert not exhausted(tries, session(2), 1000)


def test_no_number_of_failing_sessions_wins_a_session_more_tries() -> None:
    tries = Tries(counters=64)
    fail(tries, session(1), 1080)
    for number in range(2, 10_000):
        fail(tries, session(number), 960 + number % 240)
    assert exhausted(tries, session(1), 960)
    assert exhausted(tries, session(1), 1079)


def test_failures_are_forgotten_when_their_sessions_have_expired() -> None:
    tries = Tries()
    fail(tries, session(1), 1010)
    assert exhausted(tries, session(1), 1010)
    assert not exhausted(tries, session(1), 1080)  # its period is over
    fail(tries, session(2), 1250)  # takes the table of the first
    assert not exhausted(tries, session(1), 1200)
    assert exhausted(tries, session(2), 1200)


def test_a_clock_that_goes_back_wins_no_tries() -> None:
    tries = Tries()
    fail(tries, session(1), 1120)
    assert exhausted(tries, session(1), 500)
    fail(tries, session(2), 620)  # finds its table in use for a later period
    assert exhausted(tries, session(2), 500)


def test_who_shares_a_counter_is_refused_and_everybody_else_is_not() -> None:
    tries = Tries(counters=8)
    fail(tries, session(1), 1120)
    assert [number for number in range(16) if exhausted(tries, session(number), 1000)] == [1, 9]


def test_the_counters_are_bounded_however_much_fails() -> None:
    tries = Tries(counters=4)
    for number in range(5000):
        tries.failed(session(number), 1000 + number)
    assert sum(len(table) for _, table in tries._tables) == 8
    assert max(max(table) for _, table in tries._tables) <= TRIES_MAX


@pytest.mark.parametrize(
    ("address", "key"),
    [
        ("192.0.2.7:1234", "192.0.2.7"),
        ("ipv4:192.0.2.7:1234", "192.0.2.7"),
        ("[2001:db8:1:2:3::9]:443", "2001:db8:1:2::/64"),
        ("ipv6:%5B2001:db8:1:2:ffff::1%5D:5", "2001:db8:1:2::/64"),
        ("ipv6:[fe80::1%eth0]:5", "fe80::/64"),
        ("[::ffff:192.0.2.7]:80", "192.0.2.7"),
        ("unix:", "other"),
        ("", "other"),
        ("1.2.3.4.5:6", "other"),
    ],
)
def test_a_peer_s_budget_is_kept_by_address(address: str, key: str) -> None:
    assert peer_key(address) == key


@settings(deadline=None, max_examples=200)
@given(st.text(max_size=60))
def test_any_text_gives_some_key(text: str) -> None:
    assert isinstance(peer_key(text), str)


@settings(deadline=None, max_examples=100)
@given(st.ip_addresses(v=6), st.integers(0, 65535))
def test_one_ipv6_network_is_one_peer(address: ipaddress.IPv6Address, port: int) -> None:
    other = ipaddress.IPv6Address(int(address) ^ 0xFFFF)
    assert (peer_key(f"[{address}]:{port}") == peer_key(f"[{other}]:{port}")) or address.ipv4_mapped is not None
