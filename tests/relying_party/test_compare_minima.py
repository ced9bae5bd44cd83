"""Minima and texts that an expectation demands: each key of the vocabulary fits, is too low or another, is absent."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
from mini_authority import MiniAuthority

from proxy_attestation.codes import Code
from proxy_attestation.errors import ConfigurationError
from proxy_attestation.formats.ear import LeafClaims
from proxy_attestation.formats.pins import PINS, PinKind
from proxy_attestation.formats.request import Names
from proxy_attestation.formats.tee import Tee
from proxy_attestation.relying_party.compare import compare
from proxy_attestation.relying_party.expectation import LEAST, WORDS, Expectation
from proxy_attestation.relying_party.expectation_file import parse_expectation

TURIN = {
    "csp_id": b"CN=cloud",
    "guest_svn": (258).to_bytes(4),
    "measurement": b"\x22" * 48,
    "product": b"Turin",
    "tcb_bootloader": b"\x04",
    "tcb_fmc": b"\x01",
    "tcb_microcode": b"\xdb",
    "tcb_snp": b"\x18",
    "tcb_tee": b"\x02",
    "vmpl": b"\0",
}
NUMBERS = {name: int.from_bytes(TURIN[name.removeprefix("min_")]) for name in LEAST[Tee.SNP]}
CODES = {name: key.code for name, key in PINS[Tee.SNP].items()}


@pytest.fixture
def guest(authority: MiniAuthority) -> LeafClaims:
    result = authority.claims(b"key", measurements=tuple(TURIN.items()))
    assert isinstance(result, LeafClaims)
    return replace(result, tee=Tee.SNP, tcb_status=None, tcb_date=None, tcb_evaluation_number=None)


def expects(least: tuple[tuple[str, int], ...] = (), words: Mapping[str, tuple[str, ...]] | None = None) -> Expectation:
    named = {"product": ("Turin",)} | dict(words or {})
    return Expectation(trust_domain="example.org", workload="app", tee=Tee.SNP, words=tuple(named.items()), least=least)


def without(guest: LeafClaims, name: str) -> LeafClaims:
    return replace(guest, measurements=tuple(item for item in guest.measurements if item[0] != name))


def found(expectation: Expectation, claims: LeafClaims) -> list[tuple[Code, str, str]]:
    return [(m.code, m.field, m.actual) for m in compare(expectation, claims, "app", Names())]


def test_the_vocabulary_is_that_of_policies() -> None:
    for tee, keys in PINS.items():
        own = {"min_isv_svn"}
        assert LEAST[tee].keys() == {name for name, key in keys.items() if key.kind is PinKind.AT_LEAST} - own
        assert WORDS[tee].keys() == {name for name, key in keys.items() if key.kind is PinKind.WORD}
    assert LEAST[Tee.SNP].keys() == {
        "min_tcb_fmc", "min_tcb_bootloader", "min_tcb_tee", "min_tcb_snp", "min_tcb_microcode", "min_guest_svn",
    }  # fmt: skip
    assert WORDS[Tee.SNP].keys() == {"product", "csp_id"}


@pytest.mark.parametrize("name", sorted(LEAST[Tee.SNP]))
def test_a_minimum(name: str, guest: LeafClaims) -> None:
    number = NUMBERS[name]
    for reached in (0, number - 1, number):
        assert found(expects(((name, reached),)), guest) == []
    assert found(expects(((name, number + 1),)), guest) == [(CODES[name], name, str(number))]


@pytest.mark.parametrize("name", sorted(LEAST[Tee.SNP]))
def test_a_minimum_of_what_is_absent(name: str, guest: LeafClaims) -> None:
    # Lines without an FMC have nothing to hold against its minimum; policies say the same.
    expected = [] if name == "min_tcb_fmc" else [(CODES[name], name, "absent")]
    assert found(expects(((name, 0),)), without(guest, name.removeprefix("min_"))) == expected


@pytest.mark.parametrize(("name", "code"), [("product", Code.POLICY_PRODUCT), ("csp_id", Code.POLICY_SIGNER)])
def test_a_text(name: str, code: Code, guest: LeafClaims) -> None:
    actual = TURIN[name].decode()
    assert found(expects(words={name: (actual,)}), guest) == []
    assert found(expects(words={name: ("other", actual)}), guest) == []
    for other in (actual[:-1], actual + "x", actual.upper()):
        assert found(expects(words={name: (other,)}), guest) == [(code, name, actual)]
    assert found(expects(words={name: (actual,)}), without(guest, name)) == [(code, name, "absent")]


def test_an_svn_of_an_enclave(authority: MiniAuthority) -> None:
    claims = authority.claims(b"key")
    for least, code in ((3, None), (4, Code.POLICY_SVN)):
        wanted = Expectation(trust_domain="example.org", workload="app", tee=Tee.SGX, min_isv_svn=least)
        assert [m.code for m in compare(wanted, claims, "app", Names())] == ([] if code is None else [code])
    absent = replace(claims, svn=None)
    assert [m.code for m in compare(wanted, absent, "app", Names())] == [Code.POLICY_SVN]


def test_another_tee_has_none_of_it(authority: MiniAuthority) -> None:
    claims = authority.claims(b"key")
    assert [code for code, *_ in found(expects((("min_tcb_snp", 0),)), claims)] == [Code.POLICY_TEE]


@pytest.mark.parametrize(
    ("field", "code"),
    [
        ("id_key_digest", Code.POLICY_SIGNER),
        ("family_id", Code.POLICY_PRODUCT),
        ("host_data", Code.POLICY_CONFIG),
        ("vmpl", Code.POLICY_ATTRIBUTES),
        ("measurement", Code.POLICY_MEASUREMENT),
        ("migration_agent", Code.SNP_MIGRATION_AGENT),
    ],
)
def test_codes_are_those_of_policies(field: str, code: Code, guest: LeafClaims) -> None:
    value = b"\x77" * PINS[Tee.SNP][field].size
    wanted = replace(expects(), measurements=((field, (value,)),))
    assert [item[:2] for item in found(wanted, guest)] == [(code, field)]


HEAD = 'trust_domain = "example.org"\nworkload = "app"\ntee = "snp"\n'
FILE = 'product = ["Turin"]\nmin_tcb_snp = 24\nmin_guest_svn = 4294967295\ncsp_id = ["CN=cloud"]\n'


def _parse(text: str) -> Expectation:
    return parse_expectation(text, lambda name: name.encode())


def test_a_file_names_them() -> None:
    read = _parse(HEAD + FILE)
    assert read.words == (("csp_id", ("CN=cloud",)), ("product", ("Turin",)))
    assert read.least == (("min_guest_svn", 2**32 - 1), ("min_tcb_snp", 24))
    assert not read.names_code


@pytest.mark.parametrize(
    "text",
    [
        HEAD.replace("snp", "tdx") + 'product = ["Turin"]\n',
        HEAD.replace("snp", "tdx") + "min_guest_svn = 1\n",
        HEAD.replace('tee = "snp"\n', "") + "min_guest_svn = 1\n",
        HEAD.replace('tee = "snp"\n', "") + 'csp_id = ["a"]\n',
        HEAD + "product = []\n",
        HEAD + 'product = "Turin"\n',
        HEAD + f'product = ["{"a" * 9}"]\n',
        HEAD + 'csp_id = ["é"]\n',
        HEAD + "min_tcb_snp = 24\n",
        HEAD + 'product = ["Milan", "Turin"]\nmin_tcb_snp = 24\n',
        HEAD + 'product = ["Turin"]\nmin_tcb_snp = 256\n',
        HEAD + 'product = ["Turin"]\nmin_tcb_snp = -1\n',
        HEAD + 'product = ["Turin"]\nmin_tcb_snp = "24"\n',
        HEAD + 'product = ["Turin"]\nmin_tcb_snp = true\n',
        HEAD + "min_guest_svn = 4294967296\n",
        HEAD + "tcb_snp = 24\n",
        HEAD.replace('workload = "app"\n', "") + FILE,
    ],
)
def test_a_file_that_cannot_be_meant(text: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        _parse(text)
    assert caught.value.code is Code.CONFIGURATION_MALFORMED


def test_a_key_twice() -> None:
    changes: dict[str, Any] = {"least": (("min_guest_svn", 1), ("min_guest_svn", 2))}
    with pytest.raises(ConfigurationError):
        replace(expects(), **changes)
