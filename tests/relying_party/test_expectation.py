"""Expectations: what can be made, what a file may say, and everything that is refused."""

import hashlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy_attestation.codes import Code
from proxy_attestation.errors import ConfigurationError
from proxy_attestation.formats.request import KeyOrigin, Names
from proxy_attestation.formats.tee import Tee
from proxy_attestation.relying_party import Expectation, load_expectation
from proxy_attestation.relying_party.expectation_file import parse_expectation

ENCLAVE = "11" * 32
SIGNER = "22" * 32
DIGEST = "33" * 32
TD = "44" * 48
INDEX = f"{DIGEST}  example.wat\n{ENCLAVE}  other.wat\n"
INDEX_SHA256 = hashlib.sha256(INDEX.encode()).hexdigest()


def read_index(name: str) -> bytes:
    if name != "reproducibility_index":
        raise FileNotFoundError(name)
    return INDEX.encode()


def parse(text: str) -> Expectation:
    return parse_expectation(text, read_index)


def refused(call: Callable[[], object]) -> str:
    with pytest.raises(ConfigurationError) as caught:
        call()
    assert caught.value.code is Code.CONFIGURATION_MALFORMED
    return caught.value.detail


SGX = f"""
trust_domain = "example.org"
root_pin = "{DIGEST}"
workload = "example-app"
tee = "sgx"
mr_enclave = ["{ENCLAVE}", "{SIGNER}"]
mr_signer = ["{SIGNER}"]
isv_prod_id = 7
min_isv_svn = 3
config_svn = 258
config_id = "{"00" * 64}"
attributes_flags = "0500000000000000"
attributes_flags_mask = "ffffffffffffffff"
tcb = ["UpToDate", "SWHardeningNeeded"]
advisories = ["INTEL-SA-00615"]
application_sha256 = ["{DIGEST}"]
key_origins = ["tee"]
owner = {{ shared = true }}
dns = ["app.example.org"]
ip = ["127.0.0.1"]
uri = ["spiffe://example.org/example-app"]
policy_digest = ["{DIGEST}"]
simulated = true

[danger]
allow_debug = true
"""


def test_reads_every_key_of_sgx() -> None:
    assert parse(SGX) == Expectation(
        trust_domain="example.org",
        root_pin=bytes.fromhex(DIGEST),
        workload="example-app",
        tee=Tee.SGX,
        measurements=(
            ("config_id", (bytes(64),)),
            ("config_svn", (b"\x01\x02",)),
            ("mr_enclave", (bytes.fromhex(ENCLAVE), bytes.fromhex(SIGNER))),
        ),
        masked=(("attributes_flags", b"\x05" + bytes(7), b"\xff" * 8),),
        mr_signer=(bytes.fromhex(SIGNER),),
        isv_prod_id=7,
        min_isv_svn=3,
        tcb=("UpToDate", "SWHardeningNeeded"),
        advisories=("INTEL-SA-00615",),
        application=(bytes.fromhex(DIGEST),),
        key_origins=(KeyOrigin.TEE,),
        owners=("shared",),
        names=Names(("app.example.org",), (bytes((127, 0, 0, 1)),), ("spiffe://example.org/example-app",)),
        policy_digests=(bytes.fromhex(DIGEST),),
        simulated=True,
        allow_debug=True,
    )


def test_reads_tdx() -> None:
    text = f"""
    trust_domain = "example.org"
    tee = "tdx"
    mr_td = ["{TD}"]
    rtmr0 = ["{TD}"]
    rtmr3 = ["{"00" * 48}"]
    mr_config_id = ["{"00" * 48}"]
    mr_owner = "{TD}"
    td_attributes = "0000001000000000"
    td_attributes_mask = "000000f000000000"
    """
    expectation = parse(text)
    assert expectation.tee is Tee.TDX
    assert dict(expectation.measurements) == {
        "mr_td": (bytes.fromhex(TD),),
        "rtmr0": (bytes.fromhex(TD),),
        "rtmr3": (bytes(48),),
        "mr_config_id": (bytes(48),),
        "mr_owner": (bytes.fromhex(TD),),
    }
    assert expectation.masked == (
        ("td_attributes", bytes.fromhex("0000001000000000"), bytes.fromhex("000000f000000000")),
    )


def test_defaults_are_closed() -> None:
    expectation = parse('trust_domain = "example.org"\nworkload = "example-app"')
    assert expectation.tcb == ("UpToDate",)
    assert expectation.advisories == ()
    assert KeyOrigin.SOFTWARE not in expectation.key_origins
    assert not expectation.simulated
    assert not expectation.allow_debug
    assert not expectation.any_workload


def test_reads_the_name_of_a_policy_entry_as_workload() -> None:
    assert parse('trust_domain = "example.org"\nname = "example-app"').workload == "example-app"


def test_reads_an_application_index() -> None:
    text = f"""
    trust_domain = "example.org"
    workload = "example-app"
    application = {{ index = "reproducibility_index", sha256 = "{INDEX_SHA256}", paths = ["example.wat"] }}
    """
    # Only the path that was named counts.
    assert parse(text).application == (bytes.fromhex(DIGEST),)


def test_loads_a_file_and_its_index(tmp_path: Path) -> None:
    (tmp_path / "reproducibility_index").write_text(INDEX)
    file = tmp_path / "expectation.toml"
    file.write_text(
        'trust_domain = "example.org"\nworkload = "example-app"\n'
        f'application = {{ index = "reproducibility_index", sha256 = "{INDEX_SHA256}", paths = ["other.wat"] }}\n'
    )
    assert load_expectation(file).application == (bytes.fromhex(ENCLAVE),)


def test_any_workload_stands_under_danger() -> None:
    weak = 'trust_domain = "example.org"\n'
    assert "too weak" in refused(lambda: parse(weak))
    assert "any_workload" in refused(lambda: parse(weak + "any_workload = true"))
    assert parse(weak + "[danger]\nany_workload = true").any_workload
    assert "too weak" in refused(lambda: parse(weak + "[danger]\nany_workload = false"))


BASE = 'trust_domain = "example.org"\nworkload = "example-app"\n'
SGX_BASE = BASE + 'tee = "sgx"\n'

MALFORMED = {
    "not TOML": "trust_domain = ",
    "empty": "",
    "no trust domain": 'workload = "example-app"',
    "unknown key": BASE + "colour = 1",
    "key of a policy that no leaf answers": BASE + 'max_lifetime = "24h"',
    "unknown key in danger": BASE + "[danger]\nall = true",
    "empty danger": BASE + "[danger]",
    "danger that is no table": BASE + "danger = true",
    "workload and name": BASE + 'name = "example-app"',
    "empty workload": 'trust_domain = "example.org"\nworkload = ""',
    "trust domain in upper case": 'trust_domain = "Example.org"\nworkload = "a"',
    "trust domain with a slash": 'trust_domain = "example.org/a"\nworkload = "a"',
    "workload with a slash": 'trust_domain = "example.org"\nworkload = "a/b"',
    "unknown tee": BASE + 'tee = "sev"',
    "tee of another type": BASE + "tee = 1",
    "measurement without tee": BASE + f'mr_enclave = ["{ENCLAVE}"]',
    "measurement of another tee": BASE + f'tee = "tdx"\nmr_enclave = ["{ENCLAVE}"]',
    "signer of another tee": BASE + f'tee = "tdx"\nmr_signer = ["{SIGNER}"]',
    "measurement as text": SGX_BASE + f'mr_enclave = "{ENCLAVE}"',
    "empty measurements": SGX_BASE + "mr_enclave = []",
    "short measurement": SGX_BASE + 'mr_enclave = ["11"]',
    "zero measurement": SGX_BASE + f'mr_enclave = ["{"00" * 32}"]',
    "zero signer": SGX_BASE + f'mr_signer = ["{"00" * 32}"]\nisv_prod_id = 1\nmin_isv_svn = 1',
    "measurement in upper case": SGX_BASE + f'mr_enclave = ["{"AA" * 32}"]',
    "measurement that is not hex": SGX_BASE + f'mr_enclave = ["{"zz" * 32}"]',
    "measurement twice": SGX_BASE + f'mr_enclave = ["{ENCLAVE}", "{ENCLAVE}"]',
    "measurement of another type": SGX_BASE + "mr_enclave = [1]",
    "signer without product": SGX_BASE + f'mr_signer = ["{SIGNER}"]\nmin_isv_svn = 1',
    "signer without svn": SGX_BASE + f'mr_signer = ["{SIGNER}"]\nisv_prod_id = 1',
    "product as boolean": SGX_BASE + "isv_prod_id = true",
    "product too large": SGX_BASE + "isv_prod_id = 65536",
    "negative svn": SGX_BASE + "min_isv_svn = -1",
    "config_svn too large": SGX_BASE + "config_svn = 65536",
    "value without mask": SGX_BASE + 'xfrm = "0000000000000000"',
    "mask without value": SGX_BASE + 'xfrm_mask = "0000000000000001"',
    "zero mask": SGX_BASE + 'xfrm = "0000000000000000"\nxfrm_mask = "0000000000000000"',
    "value outside its mask": SGX_BASE + 'xfrm = "0000000000000002"\nxfrm_mask = "0000000000000001"',
    "short mask": SGX_BASE + 'xfrm = "0000000000000001"\nxfrm_mask = "01"',
    "mask of another tee": SGX_BASE + 'xfam = "0000000000000001"\nxfam_mask = "0000000000000001"',
    "empty tcb": BASE + "tcb = []",
    "revoked tcb": BASE + 'tcb = ["Revoked"]',
    "unknown tcb": BASE + 'tcb = ["Good"]',
    "advisory with blanks": BASE + 'advisories = ["any advisory"]',
    "empty advisories": BASE + "advisories = []",
    "zero application": BASE + f'application_sha256 = ["{"00" * 32}"]',
    "short application": BASE + 'application_sha256 = ["11"]',
    "application in two forms": BASE
    + f'application_sha256 = ["{DIGEST}"]\n'
    + f'application = {{ index = "reproducibility_index", sha256 = "{INDEX_SHA256}", paths = ["example.wat"] }}',
    "index of another digest": BASE
    + f'application = {{ index = "reproducibility_index", sha256 = "{DIGEST}", paths = ["example.wat"] }}',
    "index without the path": BASE
    + f'application = {{ index = "reproducibility_index", sha256 = "{INDEX_SHA256}", paths = ["missing.wat"] }}',
    "index without paths": BASE + f'application = {{ index = "reproducibility_index", sha256 = "{INDEX_SHA256}" }}',
    "absent index": BASE + f'application = {{ index = "absent", sha256 = "{INDEX_SHA256}", paths = ["a"] }}',
    "index above the file": BASE + f'application = {{ index = "../a", sha256 = "{INDEX_SHA256}", paths = ["a"] }}',
    "unknown key of application": BASE + 'application = { file = "a" }',
    "unknown key origin": BASE + 'key_origins = ["disk"]',
    "empty key origins": BASE + "key_origins = []",
    "unknown owner": BASE + 'owner = "me"',
    "unknown owner of some": BASE + 'owner = ["shared", "me"]',
    "no owner": BASE + "owner = []",
    "owner that is off": BASE + "owner = { shared = false }",
    "owner by a number": BASE + "owner = { shared = 1 }",
    "owner with a value that no leaf tells": BASE + 'owner = { tenant_key = "tenant.pem", in = "host_data" }',
    "wildcard name": BASE + 'dns = ["*.example.org"]',
    "address that is none": BASE + 'ip = ["127.0.0.256"]',
    "zero pin": BASE + f'root_pin = "{"00" * 32}"',
    "short pin": BASE + 'root_pin = "11"',
    "policy digest as text": BASE + f'policy_digest = "{DIGEST}"',
    "simulated as text": BASE + 'simulated = "yes"',
    "too long": BASE + "#" * 65536,
}


@pytest.mark.parametrize("fault", MALFORMED)
def test_refuses_file(fault: str) -> None:
    refused(lambda: parse(MALFORMED[fault]))


def test_refuses_files_that_cannot_be_read(tmp_path: Path) -> None:
    refused(lambda: load_expectation(tmp_path / "absent"))
    refused(lambda: load_expectation(tmp_path))
    (tmp_path / "binary").write_bytes(b"\xff\xfe")
    refused(lambda: load_expectation(tmp_path / "binary"))
    (tmp_path / "large").write_bytes(b"#" * 65537)
    refused(lambda: load_expectation(tmp_path / "large"))


CODE: dict[str, Any] = {
    "workload": None,
    "tee": Tee.SGX,
    "measurements": (("mr_enclave", (b"\x11" * 32,)),),
}


@pytest.mark.parametrize(
    "changes",
    [
        {"workload": None},
        {"workload": None, "tee": Tee.SGX},
        {"workload": None, "tee": Tee.TDX, "measurements": (("rtmr3", (b"\x11" * 48,)),)},
        {"workload": None, "tee": Tee.SGX, "measurements": (("config_id", (bytes(64),)),)},
        {"workload": None, "tee": Tee.SGX, "isv_prod_id": 1, "min_isv_svn": 1},
        {"workload": None, "application": (b"\x11" * 32,)},
        {"workload": None, "tee": Tee.SGX, "masked": (("xfrm", bytes(8), b"\xff" * 8),)},
    ],
)
def test_what_names_no_code_is_too_weak(changes: dict[str, Any]) -> None:
    strong = Expectation(trust_domain="example.org", workload="example-app")
    assert "too weak" in refused(lambda: replace(strong, **changes))
    assert replace(strong, **changes, any_workload=True)


@pytest.mark.parametrize(
    "changes",
    [
        {"tcb": ()},
        {"key_origins": ()},
        {"measurements": (("mr_enclave", ()),)},
        {"measurements": (("mr_enclave", (b"\x11" * 32,)), ("mr_enclave", (b"\x22" * 32,)))},
        {"measurements": (("unknown", (b"\x11" * 32,)),)},
        {"root_pin": b""},
        {"policy_digests": (b"",)},
        {"trust_domain": ""},
    ],
)
def test_cannot_be_made_with_holes(changes: dict[str, Any]) -> None:
    whole: dict[str, Any] = {"trust_domain": "example.org"} | CODE
    assert Expectation(**whole)
    refused(lambda: Expectation(**(whole | changes)))


@settings(deadline=None, max_examples=200)
@given(st.one_of(st.text(max_size=200), st.text(alphabet='abcdefrtuw_=[]{}"\n 0123456789.', max_size=300)))
def test_any_text_is_an_expectation_or_refused(text: str) -> None:
    try:
        parse(text)
    except ConfigurationError as error:
        assert error.code is Code.CONFIGURATION_MALFORMED


_KEYS = st.sampled_from(
    ["trust_domain", "workload", "name", "tee", "mr_enclave", "mr_td", "config_svn", "tcb", "dns", "ip", "owner",
     "danger", "application", "isv_prod_id", "simulated", "xfrm", "xfrm_mask", "root_pin"]
)  # fmt: skip
_VALUES = st.sampled_from(
    ["1", "-1", "true", '""', '"sgx"', '"example.org"', f'"{ENCLAVE}"', f'["{ENCLAVE}"]', "[]", "[1]",
     "{ shared = true }", "1979-05-27", "1.5", "inf", "{ index = 1 }", '["UpToDate"]', "[[1]]", "9" * 40]
)  # fmt: skip


@settings(deadline=None, max_examples=200)
@given(st.dictionaries(_KEYS, _VALUES, max_size=6))
def test_any_values_are_an_expectation_or_refused(values: dict[str, str]) -> None:
    try:
        parse("\n".join(f"{key} = {value}" for key, value in values.items()))
    except ConfigurationError as error:
        assert error.code is Code.CONFIGURATION_MALFORMED


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('"enrolment"', ("enrolment",)),
        ('["chip_ids", "tenant_key"]', ("chip_ids", "tenant_key")),
        ("{ first_use = true }", ("first_use",)),
    ],
)
def test_the_kind_of_owner_can_be_demanded(text: str, expected: tuple[str, ...]) -> None:
    assert parse(f"{BASE}owner = {text}").owners == expected
