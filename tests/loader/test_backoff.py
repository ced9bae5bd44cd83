import pytest

from proxy_attestation.loader.backoff import Backoff
from proxy_attestation.loader.limits import Budget

PLAIN = Backoff(first=2.0, most=60.0, spread=0.5)


@pytest.mark.parametrize(("failures", "seconds"), [(1, 2.0), (2, 4.0), (5, 32.0), (6, 60.0), (1000, 60.0)])
def test_delays_double_up_to_the_most(failures: int, seconds: float) -> None:
    assert PLAIN.delay(failures, 0.5) == seconds


def test_chance_spreads_them() -> None:
    assert PLAIN.delay(1, 0.0) == pytest.approx(1.0)
    assert PLAIN.delay(1, 1.0) == pytest.approx(3.0)


def test_a_budget_gives_what_it_has() -> None:
    budget = Budget(10)
    assert budget.take(7)
    assert not budget.take(4)
    assert budget.take(3)
    budget.give(10)
    assert budget.left == 10
