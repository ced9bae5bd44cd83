"""What `load.py` reads, and that it refuses each thing that is wrong, with its line, alone and all together."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from proxy_attestation.codes import Code
from proxy_attestation.errors import ConfigurationError
from proxy_attestation.formats.bounds import POLICY_FILE_MAX
from proxy_attestation.formats.pins import MINIMUM, MaskedBytes, pin_key_names
from proxy_attestation.formats.request import KeyOrigin
from proxy_attestation.formats.tee import Tee
from proxy_attestation.policy.load import PolicyFileError, load_policy, parse_policy
from proxy_attestation.policy.model import Owner, OwnerKind, Policy
from proxy_attestation.policy.vocabulary import DANGER_KEYS, POLICY_KEYS, WORKLOAD_KEYS

H32, H48, H64 = "ab" * 32, "ab" * 48, "ab" * 64
HEADER = "[[workload]]"
FILE = "line 1"

# Kind of entry, what is changed in entry, top or danger, and the key at whose line the one problem stands.
ENTRY_REFUSALS: list[tuple[str, dict[str, str | None], str]] = [
    # the name
    ("sgx", {"name": None}, HEADER),
    ("sgx", {"name": "7"}, "name"),
    ("sgx", {"name": '""'}, "name"),
    ("sgx", {"name": '"App"'}, "name"),
    ("sgx", {"name": '"a/b"'}, "name"),
    ("sgx", {"name": '".a"'}, "name"),
    ("sgx", {"name": f'"{"a" * 64}"'}, "name"),
    ("sgx", {"name": '"proxy-attestation"'}, "name"),
    # the tee
    ("sgx", {"tee": None}, HEADER),
    ("sgx", {"tee": '"SGX"'}, "tee"),
    ("sgx", {"tee": '"cca"'}, "tee"),
    ("sgx", {"tee": '["sgx"]'}, "tee"),
    # keys
    ("sgx", {"mrenclave": f'["{H32}"]'}, "mrenclave"),
    ("sgx", {"uri": '["spiffe://example.org/app"]'}, "uri"),
    ("sgx", {"simulated": "true"}, "simulated"),
    ("sgx", {"allow_debug": "true"}, "allow_debug"),
    ("sgx", {"rtmr0": f'["{H48}"]'}, "rtmr0"),
    ("tdx", {"mr_enclave": f'["{H32}"]'}, "mr_enclave"),
    # lists of measurements
    ("sgx", {"mr_enclave": "[]"}, "mr_enclave"),
    ("sgx", {"mr_enclave": f'"{H32}"'}, "mr_enclave"),
    ("sgx", {"mr_enclave": "[7]"}, "mr_enclave"),
    ("sgx", {"mr_enclave": '["ab"]'}, "mr_enclave"),
    ("sgx", {"mr_enclave": f'["{H32}ab"]'}, "mr_enclave"),
    ("sgx", {"mr_enclave": f'["{H32.upper()}"]'}, "mr_enclave"),
    ("sgx", {"mr_enclave": f'["{"zz" * 32}"]'}, "mr_enclave"),
    ("sgx", {"mr_enclave": f'["{H32[:-2]} a"]'}, "mr_enclave"),
    ("sgx", {"mr_enclave": f'["{"00" * 32}"]'}, "mr_enclave"),
    ("sgx", {"mr_enclave": f'["{H32}", "{H32}"]'}, "mr_enclave"),
    ("sgx", {"mr_enclave": json.dumps([f"{n:064x}" for n in range(1, 66)])}, "mr_enclave"),
    ("signer", {"mr_signer": f'["{"00" * 32}"]'}, "mr_signer"),
    ("tdx", {"mr_td": f'["{"00" * 48}"]'}, "mr_td"),
    ("tdx", {"rtmr3": "[]"}, "rtmr3"),
    ("tdx", {"mr_service_td": f'["{H32}"]'}, "mr_service_td"),
    # exact values and numbers
    ("sgx", {"config_id": f'["{H64}"]'}, "config_id"),
    ("sgx", {"config_id": f'"{H32}"'}, "config_id"),
    ("sgx", {"isv_ext_prod_id": f'"{H32}"'}, "isv_ext_prod_id"),
    ("sgx", {"isv_family_id": f'"{H32}"'}, "isv_family_id"),
    ("tdx", {"mr_owner": f'"{H32}"'}, "mr_owner"),
    ("tdx", {"mr_owner_config": f'"{H32}"'}, "mr_owner_config"),
    ("sgx", {"config_svn": "65536"}, "config_svn"),
    ("sgx", {"isv_prod_id": "-1"}, "isv_prod_id"),
    ("sgx", {"min_isv_svn": "true"}, "min_isv_svn"),
    ("sgx", {"min_isv_svn": "1.0"}, "min_isv_svn"),
    ("sgx", {"min_isv_svn": '"1"'}, "min_isv_svn"),
    # masks
    ("sgx", {"xfrm": '"e700000000000000"'}, HEADER),
    ("sgx", {"xfrm_mask": '"ff00000000000000"'}, HEADER),
    ("signer", {"attributes_flags_mask": None}, HEADER),
    ("signer", {"misc_select_mask": '"00000000"'}, "misc_select_mask"),
    ("signer", {"xfrm_mask": '"0000000000000000"', "xfrm": '"0000000000000000"'}, "xfrm_mask"),
    ("signer", {"xfrm": '"e700000000000001"'}, "xfrm"),
    ("signer", {"misc_select": '"0000000000"'}, "misc_select"),
    ("tdx", {"xfam_mask": '"ff"'}, "xfam_mask"),
    ("tdx", {"td_attributes_mask": '"0000000000000000"', "td_attributes": '"0000000000000000"'}, "td_attributes_mask"),
    # below the minimum
    ("sgx", {"mr_enclave": None}, HEADER),
    ("signer", {"mr_signer": None}, HEADER),
    ("signer", {"isv_prod_id": None}, HEADER),
    ("signer", {"min_isv_svn": None}, HEADER),
    ("signer", {"attributes_flags": None, "attributes_flags_mask": None}, HEADER),
    ("signer", {"xfrm": None, "xfrm_mask": None}, HEADER),
    ("signer", {"misc_select": None, "misc_select_mask": None}, HEADER),
    ("tdx", {"mr_td": None}, HEADER),
    ("tdx", {"rtmr0": None}, HEADER),
    ("tdx", {"rtmr1": None}, HEADER),
    ("tdx", {"rtmr2": None}, HEADER),
    ("tdx", {"mr_config_id": None}, HEADER),
    ("tdx", {"td_attributes": None, "td_attributes_mask": None}, HEADER),
    ("tdx", {"xfam": None, "xfam_mask": None}, HEADER),
    # TCB and advisories
    ("sgx", {"tcb": "[]"}, "tcb"),
    ("sgx", {"tcb": '["Revoked"]'}, "tcb"),
    ("sgx", {"tcb": '["uptodate"]'}, "tcb"),
    ("sgx", {"tcb": '["TDRelaunchAdvised"]'}, "tcb"),
    ("sgx", {"tcb": '["UpToDate", "UpToDate"]'}, "tcb"),
    ("sgx", {"tcb": '"UpToDate"'}, "tcb"),
    ("sgx", {"advisories": "[]"}, "advisories"),
    ("sgx", {"advisories": '["*"]'}, "advisories"),
    ("sgx", {"advisories": '["intel-sa-00615"]'}, "advisories"),
    ("sgx", {"advisories": f'["{"A" * 33}"]'}, "advisories"),
    # key origins
    ("sgx", {"key_origins": "[]"}, "key_origins"),
    ("sgx", {"key_origins": '["software"]'}, "key_origins"),
    ("sgx", {"key_origins": '["tee", "tpm"]'}, "key_origins"),
    # names
    ("sgx", {"dns": "[]"}, "dns"),
    ("sgx", {"dns": '["*.example.org"]'}, "dns"),
    ("sgx", {"dns": '["App.example.org"]'}, "dns"),
    ("sgx", {"dns": '["app.example.org."]'}, "dns"),
    ("sgx", {"dns": '["com"]'}, "dns"),
    ("sgx", {"dns": '["bücher.example"]'}, "dns"),
    ("sgx", {"dns": '["a..b"]'}, "dns"),
    ("sgx", {"dns": '["-a.example.org"]'}, "dns"),
    ("sgx", {"dns": '["192.0.2.1"]'}, "dns"),
    ("sgx", {"dns": '["app.example.org", "app.example.org"]'}, "dns"),
    ("sgx", {"dns": json.dumps([f"a{n}.example.org" for n in range(62)])}, HEADER),
    ("sgx", {"ip": "[]"}, "ip"),
    ("sgx", {"ip": '["app.example.org"]'}, "ip"),
    ("sgx", {"ip": '["192.0.2.0/24"]'}, "ip"),
    ("sgx", {"ip": '["0.0.0.0"]'}, "ip"),
    ("sgx", {"ip": '["::"]'}, "ip"),
    ("sgx", {"ip": '["224.0.0.1"]'}, "ip"),
    ("sgx", {"ip": '["2001:DB8::1"]'}, "ip"),
    ("sgx", {"ip": '["fe80::1%eth0"]'}, "ip"),
    ("sgx", {"ip": '["::ffff:192.0.2.1"]'}, "ip"),
    ("sgx", {"ip": '["192.0.2.1", "192.0.2.1"]'}, "ip"),
    # the owner
    ("sgx", {"owner": None}, HEADER),
    ("sgx", {"owner": "{}"}, "owner"),
    ("sgx", {"owner": "{ shared = false }"}, "owner"),
    ("sgx", {"owner": "{ shared = 1 }"}, "owner"),
    ("sgx", {"owner": '{ shared = true, of = "x" }'}, "owner"),
    ("sgx", {"owner": '"anyone"'}, "owner"),
    ("sgx", {"owner": f'{{ chip_ids = ["{H64}"] }}'}, "owner"),
    ("sgx", {"owner": '{ tenant_key = "x", in = "config_id" }'}, "owner"),
    ("sgx", {"owner": "{ first_use = true }"}, "owner"),
    ("sgx", {"owner": '{ shared = true, tenant_key = "x" }'}, "owner"),
    # lifetime
    ("sgx", {"max_lifetime": '"25h"'}, "max_lifetime"),
    ("sgx", {"max_lifetime": '"14m"'}, "max_lifetime"),
    ("sgx", {"max_lifetime": "3600"}, "max_lifetime"),
    ("sgx", {"max_lifetime": '"1d"'}, "max_lifetime"),
    ("sgx", {"max_lifetime": '"0h"'}, "max_lifetime"),
    ("sgx", {"max_lifetime": '"1h30m"'}, "max_lifetime"),
]

TOP_REFUSALS: list[tuple[dict[str, str | None], dict[str, str], str]] = [
    ({"version": None}, {}, FILE),
    ({"version": "0"}, {}, "version"),
    ({"version": "-1"}, {}, "version"),
    ({"version": "4294967296"}, {}, "version"),
    ({"version": "true"}, {}, "version"),
    ({"version": '"1"'}, {}, "version"),
    ({"trust_domain": None}, {}, FILE),
    ({"trust_domain": '"Example.org"'}, {}, "trust_domain"),
    ({"trust_domain": '"spiffe://example.org"'}, {}, "trust_domain"),
    ({"trust_domain": '"example..org"'}, {}, "trust_domain"),
    ({"trust_domain": '"example.org/x"'}, {}, "trust_domain"),
    ({"trust_domain": f'"{"a" * 256}"'}, {}, "trust_domain"),
    ({"trust_domain": "7"}, {}, "trust_domain"),
    ({"max_lifetime": '"24h1s"'}, {}, "max_lifetime"),
    ({"max_lifetime": '"86401s"'}, {}, "max_lifetime"),
    ({"max_lifetime": '"899s"'}, {}, "max_lifetime"),
    ({"min_lifetime": '"14m"'}, {}, "min_lifetime"),
    ({"min_lifetime": '"1s"'}, {}, "min_lifetime"),
    ({"min_lifetime": '"25h"'}, {}, "min_lifetime"),
    ({"simulated": "true"}, {}, "simulated"),
    ({"deny": "[]"}, {}, "deny"),
    ({"signers": '["x"]'}, {}, "signers"),
    ({}, {"allow_debug": '["nobody"]'}, "allow_debug"),
    ({}, {"allow_debug": "[]"}, "allow_debug"),
    ({}, {"allow_debug": "true"}, "allow_debug"),
    ({}, {"allow_debug": '["app", "app"]'}, "allow_debug"),
    ({}, {"software_keys": '["nobody"]'}, "software_keys"),
    ({}, {"short_lifetimes": "false"}, "short_lifetimes"),
    ({}, {"short_lifetimes": "1"}, "short_lifetimes"),
    ({}, {"first_use": "true"}, "first_use"),
]


def line_in(text: str, key: str) -> int:
    if key == FILE:
        return 1
    lines = text.split("\n")
    start = lines.index("[[workload]]")
    if key == HEADER:
        return start + 1
    # An entry's keys stand below its header, the others above it.
    found = [number for number, line in enumerate(lines, 1) if line.startswith(f"{key} =")]
    return found[-1]


def problems_of(text: str, base: Path) -> PolicyFileError:
    with pytest.raises(PolicyFileError) as caught:
        parse_policy(text, base)
    assert caught.value.code is Code.POLICY_MALFORMED
    assert isinstance(caught.value, ConfigurationError)
    assert caught.value.exit_status == 4
    return caught.value


@pytest.mark.parametrize(("kind", "change", "where"), ENTRY_REFUSALS)
def test_one_wrong_thing_in_an_entry_is_one_problem_at_its_line(
    kind: str, change: dict[str, str | None], where: str, render: Callable[..., str], tmp_path: Path
) -> None:
    parse_policy(render(kind), tmp_path)  # only the change is wrong
    text = render(kind, change)
    error = problems_of(text, tmp_path)
    assert [problem.line for problem in error.problems] == [line_in(text, where)], error.detail
    assert all(problem.fix for problem in error.problems)


@pytest.mark.parametrize(("top", "danger", "where"), TOP_REFUSALS)
def test_one_wrong_thing_outside_the_entries_is_one_problem_at_its_line(
    top: dict[str, str | None], danger: dict[str, str], where: str, render: Callable[..., str], tmp_path: Path
) -> None:
    text = render("sgx", top=top, danger=danger)
    error = problems_of(text, tmp_path)
    assert [problem.line for problem in error.problems] == [line_in(text, where)], error.detail


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ('version = 1\ntrust_domain = "example.org"\n', 1),  # no entry at all
        ('version = 1\ntrust_domain = "example.org"\nworkload = []\n', 3),
        ('version = 1\ntrust_domain = "example.org"\nworkload = 1\n', 3),
        ('version = 1\ntrust_domain = "example.org"\n[workload]\nname = "app"\n', 3),
        ('version = 1\ntrust_domain = "example.org"\nworkload = [1]\n', 3),
        ("version = 1\nversion = 2\n", 2),  # TOML's own rule
        ("version = 1\n\nx = [\n", 4),
        ("version = \n", 1),
        ("\x00", 1),
        ("x = " + "9" * 5000, 1),  # Python refuses to read such a number
        ("x = " + "[" * 5000, 1),
    ],
)
def test_a_file_that_is_no_policy_is_one_problem_at_its_line(text: str, line: int, tmp_path: Path) -> None:
    assert [problem.line for problem in problems_of(text, tmp_path).problems] == [line]


def test_an_empty_danger_table_is_refused(render: Callable[..., str], tmp_path: Path) -> None:
    text = "\n".join([*render().split("\n"), "[danger]"])
    assert [problem.line for problem in problems_of(text, tmp_path).problems] == [len(text.split("\n"))]


def test_two_entries_of_one_name_are_refused_at_the_second(render: Callable[..., str], tmp_path: Path) -> None:
    text = render(more=f'[[workload]]\nowner.shared = true\ntee = "sgx"\nname = "app"\nmr_enclave = ["{H32}"]')
    assert [problem.line for problem in problems_of(text, tmp_path).problems] == [
        text.split("\n").index('name = "app"', 5) + 1
    ]


def test_too_many_entries_and_too_long_a_file_are_refused(tmp_path: Path) -> None:
    many = 'version = 1\ntrust_domain = "example.org"\n' + "[[workload]]\n" * 1025
    assert [problem.line for problem in problems_of(many, tmp_path).problems] == [3]
    assert len(problems_of("#" * (POLICY_FILE_MAX + 1), tmp_path).problems) == 1


def test_all_problems_come_at_once_in_the_order_of_their_lines(render: Callable[..., str], tmp_path: Path) -> None:
    change = {"name": '"App"', "tcb": '["Revoked", "Nonsense"]', "dns": '["*.example.org"]', "owner": None}
    text = render("sgx", change, top={"version": "0"}, danger={"allow_debug": '["x"]', "foo": "1"})
    error = problems_of(text, tmp_path)
    keys = ["version", "allow_debug", "foo", HEADER, "name", "dns", "tcb", "tcb"]
    assert [problem.line for problem in error.problems] == sorted(line_in(text, key) for key in keys)
    assert [line.split(":")[:2] for line in error.detail.split("\n")] == [
        ["policy.toml", str(problem.line)] for problem in error.problems
    ]


def test_values_of_a_list_over_several_lines_have_their_own_lines(render: Callable[..., str], tmp_path: Path) -> None:
    text = render("sgx", {"mr_enclave": f'[\n  "{H32}", # fine\n\n  "ab",\n  "{H32}",\n]'})
    start = line_in(text, "mr_enclave")
    assert [problem.line for problem in problems_of(text, tmp_path).problems] == [start + 3, start + 4]


def test_the_file_is_named_in_every_line_of_the_detail(tmp_path: Path) -> None:
    path = tmp_path / "my.toml"
    path.write_text("a = 1\n")
    with pytest.raises(PolicyFileError) as caught:
        load_policy(path)
    assert caught.value.file == str(path)
    assert all(line.startswith(f"{path}:1: ") for line in caught.value.detail.split("\n"))


@pytest.mark.parametrize("content", [None, b"\xff", b"#" * (POLICY_FILE_MAX + 1)])
def test_a_file_that_cannot_be_read_is_refused(content: bytes | None, tmp_path: Path) -> None:
    path = tmp_path / "policy.toml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(PolicyFileError) as caught:
        load_policy(path)
    assert len(caught.value.problems) == 1


def test_a_directory_is_no_policy(tmp_path: Path) -> None:
    with pytest.raises(PolicyFileError):
        load_policy(tmp_path)


def test_an_sgx_entry_is_read_whole(policy_of: Callable[..., Policy]) -> None:
    policy = policy_of(
        "signer",
        {
            "config_id": f'"{H64}"',
            "config_svn": "9",
            "isv_ext_prod_id": f'"{H32[:32]}"',
            "isv_family_id": f'"{"cd" * 16}"',
            "tcb": '["UpToDate", "SWHardeningNeeded"]',
            "advisories": '["INTEL-SA-00615", "INTEL-SA-00289"]',
            "key_origins": '["tee"]',
            "dns": '["b.example.org", "a.example.org", "localhost"]',
            "ip": '["2001:db8::1", "192.0.2.1"]',
            "max_lifetime": '"90m"',
        },
        top={"version": "7", "max_lifetime": '"12h"', "min_lifetime": '"20m"'},
    )
    assert (policy.version, policy.trust_domain) == (7, "example.org")
    assert (policy.min_lifetime, policy.max_lifetime) == (1200, 43200)
    assert policy.dangers == ()
    workload = policy.workloads["app"]
    assert workload.pins == {
        "mr_signer": (bytes([0x22] * 32),),
        "isv_prod_id": 7,
        "min_isv_svn": 3,
        "attributes_flags": MaskedBytes(bytes.fromhex("0500000000000000"), b"\xff" * 8),
        "xfrm": MaskedBytes(bytes.fromhex("e700000000000000"), b"\xff" + bytes(7)),
        "misc_select": MaskedBytes(bytes(4), b"\xff" * 4),
        "config_id": bytes.fromhex(H64),
        "config_svn": 9,
        "isv_ext_prod_id": bytes.fromhex(H32[:32]),
        "isv_family_id": bytes([0xCD] * 16),
    }
    assert workload.tee is Tee.SGX
    assert workload.tcb == ("SWHardeningNeeded", "UpToDate")
    assert workload.advisories == ("INTEL-SA-00289", "INTEL-SA-00615")
    assert workload.names.dns == ("a.example.org", "b.example.org", "localhost")
    assert workload.names.ip == (bytes.fromhex("20010db8000000000000000000000001"), bytes([192, 0, 2, 1]))
    assert workload.names.uri == ()
    assert workload.owner == Owner(OwnerKind.SHARED)
    assert workload.max_lifetime == 5400


def test_a_tdx_entry_is_read_whole(policy_of: Callable[..., Policy]) -> None:
    policy = policy_of(
        "tdx",
        {
            "rtmr3": f'["{H48}", "{"01" * 48}"]',
            "mr_owner": f'"{H48}"',
            "mr_owner_config": f'"{"00" * 48}"',
            "mr_service_td": f'["{H48}"]',
            "tcb": '["TDRelaunchAdvised"]',
        },
    )
    assert policy.workloads["vm"].pins == {
        "mr_td": (bytes([0x31] * 48),),
        **{f"rtmr{n}": (bytes([0x40 + n] * 48),) for n in range(3)},
        "rtmr3": (b"\x01" * 48, bytes.fromhex(H48)),
        "mr_config_id": (bytes(48),),
        "td_attributes": MaskedBytes(bytes.fromhex("0000001000000000"), b"\xff" * 8),
        "xfam": MaskedBytes(bytes.fromhex("e702060000000000"), b"\xff" * 8),
        "mr_owner": bytes.fromhex(H48),
        "mr_owner_config": bytes(48),
        "mr_service_td": (bytes.fromhex(H48),),
    }
    assert policy.workloads["vm"].tcb == ("TDRelaunchAdvised",)


def test_no_default_is_open(policy_of: Callable[..., Policy]) -> None:
    policy = policy_of("sgx", {"dns": None, "ip": None})
    workload = policy.workloads["app"]
    assert workload.pins == {
        "mr_enclave": (bytes([0x11] * 32),),
        "config_id": bytes(64),
        "config_svn": 0,
        "isv_ext_prod_id": bytes(16),
        "isv_family_id": bytes(16),
    }
    assert policy_of("tdx").workloads["vm"].pins["mr_service_td"] == (bytes(48),)
    assert workload.tcb == ("UpToDate",)
    assert workload.advisories == ()
    assert workload.application == ()
    assert workload.key_origins == (KeyOrigin.TEE,)
    assert (workload.names.dns, workload.names.ip, workload.names.uri) == ((), (), ())
    assert not workload.allow_debug
    assert (policy.min_lifetime, policy.max_lifetime, workload.max_lifetime) == (900, 86400, 86400)
    assert policy.dangers == ()


def test_dangers_act_on_their_entry_alone_and_are_readable(policy_of: Callable[..., Policy]) -> None:
    other = f'[[workload]]\nname = "other"\ntee = "sgx"\nmr_enclave = ["{H32}"]\nowner = {{ shared = true }}'
    policy = policy_of(
        danger={"allow_debug": '["app"]', "software_keys": '["other"]', "short_lifetimes": "true"},
        top={"min_lifetime": '"1s"', "max_lifetime": '"45s"'},
        more=other,
    )
    app, beside = policy.workloads["app"], policy.workloads["other"]
    assert (app.allow_debug, beside.allow_debug) == (True, False)
    assert app.key_origins == (KeyOrigin.TEE,)
    assert beside.key_origins == (KeyOrigin.SOFTWARE, KeyOrigin.TEE)
    assert (policy.min_lifetime, policy.max_lifetime) == (1, 45)
    assert [line.split(":")[0] for line in policy.dangers] == [
        "allow_debug app",
        "short_lifetimes",
        "software_keys other",
    ]


def test_the_order_of_lists_and_the_spelling_of_tables_do_not_count(render: Callable[..., str], tmp_path: Path) -> None:
    names = '["www.example.org", "app.example.org"]'
    other = render("sgx", {"dns": names, "owner": None}, more="[workload.owner]\nshared = true")
    assert parse_policy(other, tmp_path) == parse_policy(render(), tmp_path)
    assert parse_policy(render("sgx", {"owner": '"shared"'}), tmp_path) == parse_policy(render(), tmp_path)


WORDS = sorted({*POLICY_KEYS, *WORKLOAD_KEYS, *DANGER_KEYS, *pin_key_names(Tee.SGX), *pin_key_names(Tee.TDX)})
SCALARS = st.one_of(
    st.sampled_from(['"app"', '"sgx"', '"tdx"', '"24h"', '"1s"', f'"{H32}"', f'"{H48}"', '"UpToDate"', '""', "true"]),
    st.sampled_from(["{}", "[]", "{ shared = true }", "1.5", "nan", "1979-05-27", "0", "1", "'x'", '"\\u0000"']),
    st.integers(-(2**70), 2**70).map(str),
)
VALUES = st.one_of(SCALARS, st.lists(SCALARS, max_size=3).map(lambda items: f"[{', '.join(items)}]"))
PAIRS = st.dictionaries(st.sampled_from(WORDS), VALUES, max_size=12)


def as_toml(pairs: dict[str, str]) -> str:
    return "".join(f"{key} = {value}\n" for key, value in pairs.items())


@settings(deadline=None, max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(top=PAIRS, danger=st.none() | PAIRS, entries=st.lists(PAIRS, max_size=3))
def test_any_tables_give_a_policy_or_a_configuration_error(
    top: dict[str, str], danger: dict[str, str] | None, entries: list[dict[str, str]], tmp_path: Path
) -> None:
    text = as_toml(top)
    if danger is not None:
        text += "[danger]\n" + as_toml(danger)
    text += "".join("[[workload]]\n" + as_toml(entry) for entry in entries)
    try:
        parse_policy(text, tmp_path)
    except PolicyFileError as error:
        assert error.problems
        assert all(1 <= problem.line <= text.count("\n") + 1 for problem in error.problems)


@settings(deadline=None, max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=st.text(max_size=200))
@example(text="\ufeff")
@example(text="[[workload]]\n[workload.application]\nindex = '\ud800'")
def test_any_text_gives_a_policy_or_a_configuration_error(text: str, tmp_path: Path) -> None:
    with pytest.raises(PolicyFileError):
        parse_policy(text, tmp_path)


@settings(deadline=None, max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    change=st.dictionaries(st.sampled_from(WORDS), st.none() | VALUES, max_size=2), kind=st.sampled_from(["sgx", "tdx"])
)
def test_what_is_read_is_never_below_the_minimum(
    change: dict[str, str | None], kind: str, render: Callable[..., str], tmp_path: Path
) -> None:
    try:
        policy = parse_policy(render(kind, change), tmp_path)
    except PolicyFileError:
        return
    for workload in policy.workloads.values():
        assert any(set(form) <= workload.pins.keys() for form in MINIMUM[workload.tee])
        assert () not in workload.pins.values()
        assert workload.tcb
        assert "Revoked" not in workload.tcb
        assert policy.min_lifetime <= workload.max_lifetime <= policy.max_lifetime <= 24 * 3600
