"""The vocabulary: its keys are the vendor's claims, and one value is read and compared as the tables say."""

from dataclasses import fields

import pytest

from proxy_attestation.appraisal.claims import SgxClaims, TdxClaims
from proxy_attestation.errors import Mismatch
from proxy_attestation.formats.pins import (
    HARDWARE,
    MINIMUM,
    PINS,
    TCB_STATUS,
    MaskedBytes,
    PinKind,
    PinValue,
    pin_key_names,
)
from proxy_attestation.formats.tee import Tee
from proxy_attestation.policy.pins import compare, parse_pins
from proxy_attestation.policy.reader import Issue, TableReader, show
from proxy_attestation.policy.vocabulary import (
    read_tcb,
    seconds_from,
)


def reader_of(table: dict[str, object]) -> tuple[TableReader, list[Issue]]:
    issues: list[Issue] = []
    return TableReader(table, ("workload", 0), "test", issues), issues


@pytest.mark.parametrize(("tee", "body"), [(Tee.SGX, SgxClaims), (Tee.TDX, TdxClaims)])
def test_every_key_pins_a_claim_of_its_body(tee: Tee, body: type) -> None:
    claims = {field.name for field in fields(body)}
    assert {key.claim for key in PINS[tee].values()} <= claims
    assert all(name == key.name for name, key in PINS[tee].items())


def test_the_keys_of_the_two_tees_do_not_overlap() -> None:
    assert not pin_key_names(Tee.SGX) & pin_key_names(Tee.TDX)


def test_every_tee_has_pins_and_words_and_none_of_them_accepts_a_revoked_platform() -> None:
    for tee in Tee:
        assert PINS[tee]
        assert "Revoked" not in TCB_STATUS[tee]


def test_every_key_of_a_minimum_is_a_key() -> None:
    # The hardware below a vTPM is a table of its own.
    assert all(set(form) - {HARDWARE} <= PINS[tee].keys() for tee in Tee for form in MINIMUM[tee])


def test_every_key_has_its_value_or_what_its_absence_stands_for() -> None:
    reader, issues = reader_of({"mr_enclave": ["ab" * 32, "01" * 32], "min_isv_svn": 4, "config_svn": 3})
    values = parse_pins(Tee.SGX, reader)
    assert issues == []
    assert values is not None
    assert list(values) == [name for name in PINS[Tee.SGX] if name in values]
    assert values == {
        "mr_enclave": (b"\x01" * 32, b"\xab" * 32),
        "min_isv_svn": 4,
        "config_id": bytes(64),
        "config_svn": 3,
        "isv_ext_prod_id": bytes(16),
        "isv_family_id": bytes(16),
    }


def test_absent_tcb_means_up_to_date_and_nothing_else() -> None:
    reader, issues = reader_of({})
    assert read_tcb(Tee.SGX, reader) == ("UpToDate",)
    assert issues == []


SGX = PINS[Tee.SGX]
MASKED = MaskedBytes(b"\x05" + bytes(7), b"\x0f" + bytes(7))
ONE, TWO = b"\x01" * 32, b"\x02" * 32


@pytest.mark.parametrize(
    ("key", "wanted", "good", "bad"),
    [
        ("mr_enclave", (ONE, TWO), [ONE, TWO], [b"\x03" * 32, ONE[:31], None, 1]),
        ("mr_enclave", (), [], [b"", bytes(32), None]),
        ("config_id", bytes(64), [bytes(64)], [bytes(63), b"\x01" + bytes(63), None, 0]),
        ("attributes_flags", MASKED, [b"\x05" + bytes(7), b"\xf5" * 8], [b"\x04" + bytes(7), b"\x05", None, 5]),
        ("isv_prod_id", 7, [7], [6, 8, None, b"\x07"]),
        ("isv_prod_id", 0, [0], [1, None, b""]),
        ("min_isv_svn", 3, [3, 4], [2, None, b"\x03"]),
    ],
)  # fmt: skip
def test_a_pin_agrees_with_exactly_what_it_demands(
    key: str, wanted: PinValue, good: list[bytes | int | None], bad: list[bytes | int | None]
) -> None:
    assert [compare(SGX[key], wanted, actual) for actual in good] == [None] * len(good)
    for actual in bad:
        mismatch = compare(SGX[key], wanted, actual)
        assert isinstance(mismatch, Mismatch)
        assert (mismatch.code, mismatch.field) == (SGX[key].code, key)


def test_kinds_of_keys_are_all_in_use() -> None:
    assert {key.kind for keys in PINS.values() for key in keys.values()} == set(PinKind)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("24h", 86400),
        ("15m", 900),
        ("90s", 90),
        ("1s", 1),
        ("0s", None),
        ("024h", None),
        ("24 h", None),
        ("24H", None),
        ("24", None),
        ("h", None),
        ("-1h", None),
        ("1h\n", None),
        ("1234567s", None),
        ("٣s", None),
    ],
)
def test_durations(text: str, seconds: int | None) -> None:
    assert seconds_from(text) == seconds


def test_what_a_file_holds_is_shown_on_one_short_line() -> None:
    assert show("a\nb") == "'a\\nb'"
    assert len(show("x" * 10_000)) < 100
