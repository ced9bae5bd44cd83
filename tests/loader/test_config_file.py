"""The loader's file: strict, with line and fix in each refusal."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import pytest
from attested_proxy import Signer
from cryptography.hazmat.primitives.serialization import Encoding
from hypothesis import given, settings
from hypothesis import strategies as st
from mini_authority import MiniAuthority

from proxy_attestation.attester.tpm_attester import TpmOptions
from proxy_attestation.codes import Code
from proxy_attestation.errors import ConfigurationError
from proxy_attestation.formats.request import names_from
from proxy_attestation.formats.tee import Tee
from proxy_attestation.loader.applications.wasm import WasmLimits
from proxy_attestation.loader.config import AddressConfig, ChildConfig, ListenerConfig, LoaderConfig, WasmConfig
from proxy_attestation.loader.config_file import load_config, parse_config
from proxy_attestation.loader.config_table import FILE_MAX
from proxy_attestation.loader.endpoint import Endpoint
from proxy_attestation.loader.proxy_client import ProxyAddress
from proxy_attestation.loader.tls import Protocol

BASE: Final = Path("/etc/app")
PIN: Final = "ab" * 32
HEAD: Final = f"""\
proxy = "https://proxy.example.org:7444"
root_pin = "{PIN}"
trust_domain = "example.org"
workload = "example-app"
tee = "sgx"
lifetime = "1h"
control = "run/load.sock"
"""
NAMES: Final = '[names]\ndns = ["app.example.org"]\nip = ["192.0.2.1"]\n'
LISTENER: Final = '[[listener]]\naddress = "127.0.0.1:0"\nprotocol = "grpc"\n'
WASM: Final = '[application]\nkind = "wasm"\npath = "example.wat"\n'
WHOLE: Final = HEAD + NAMES + LISTENER + WASM


def parse(text: str) -> LoaderConfig:
    return parse_config(text.encode(), BASE)


def refusal(text: str) -> str:
    with pytest.raises(ConfigurationError) as refused:
        parse(text)
    assert refused.value.code is Code.CONFIGURATION_MALFORMED
    return refused.value.detail


def test_a_whole_file() -> None:
    assert parse(WHOLE) == LoaderConfig(
        proxy=ProxyAddress("https://proxy.example.org:7444", bytes.fromhex(PIN), "example.org", None),
        workload="example-app",
        tee=Tee.SGX,
        lifetime=3600,
        names=names_from(("app.example.org",), ("192.0.2.1",)),
        listeners=(ListenerConfig(Endpoint(host="127.0.0.1", port=0), Protocol.GRPC),),
        application=WasmConfig(BASE / "example.wat", WasmLimits(), 4 << 20),
        control=BASE / "run/load.sock",
        ports_file=None,
        key_directory=None,
    )


def test_optional_keys() -> None:
    more = (
        HEAD.replace('lifetime = "1h"\n', "")
        + 'proxy_name = "proxy"\nports_file = "/run/ports.json"\nkey_directory = "keys"\n'
        + LISTENER
        + '[[listener]]\naddress = "[::1]:8443"\nprotocol = "http"\n'
        + WASM
        + 'fuel = 5\nmemory = "1MiB"\ntime = "2s"\noutput = "8KiB"\nthreads = 2\nmessage = "16KiB"\n'
    )
    config = parse(more)
    assert config.proxy.server_name == "proxy"
    assert (config.ports_file, config.key_directory) == (Path("/run/ports.json"), BASE / "keys")
    assert config.lifetime == 86400
    assert config.names == names_from()
    assert [str(listener.endpoint) for listener in config.listeners] == ["127.0.0.1:0", "[::1]:8443"]
    limits = WasmLimits(fuel=5, memory=1 << 20, seconds=2, output=8192, threads=2)
    assert config.application == WasmConfig(BASE / "example.wat", limits, 16384)


def test_a_child_and_an_address() -> None:
    command = 'command = ["bin/server", "{connect}"]\n'
    child = '[application]\nkind = "child"\nconnect = "unix:run/a.sock"\nuser = "x"\n' + command
    assert parse(HEAD + LISTENER.replace("grpc", "tcp") + child).application == ChildConfig(
        ("/etc/app/bin/server", "{connect}"), Endpoint(path=BASE / "run/a.sock"), "x"
    )
    address = '[application]\nkind = "address"\nconnect = "127.0.0.1:8080"\n'
    assert parse(HEAD + LISTENER + address).application == AddressConfig(Endpoint(host="127.0.0.1", port=8080))


@pytest.mark.parametrize("connect", ["192.0.2.1:80", "0.0.0.0:80", "[2001:db8::1]:80", "[::ffff:127.0.0.1]:80"])
def test_plaintext_never_leaves_the_machine(connect: str) -> None:
    detail = refusal(HEAD + LISTENER + f'[application]\nkind = "address"\nconnect = "{connect}"\n')
    assert "leads off this machine" in detail


@pytest.mark.parametrize("connect", ["example.org:80", "127.0.0.1", "127.0.0.1:0", "127.0.0.1:99999", "unix:", ":80"])
def test_addresses_that_are_none(connect: str) -> None:
    refusal(HEAD + LISTENER + f'[application]\nkind = "address"\nconnect = "{connect}"\n')


@pytest.mark.parametrize(
    "missing",
    ["proxy", "root_pin", "trust_domain", "workload", "tee", "control", "kind", "path", "address", "protocol"],
)
def test_a_missing_key_is_named(missing: str) -> None:
    lines = [line for line in WHOLE.splitlines() if not line.startswith(f"{missing} =")]
    assert f"lacks {missing}" in refusal("\n".join(lines))


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (HEAD + "extra = 1\n" + LISTENER + WASM, 8),
        (WHOLE + "extra = 1\n", 17),
        (WHOLE.replace("[names]", "[names]\nextra = 1"), 9),
        (WHOLE.replace('protocol = "grpc"', 'protocol = "grpc"\nextra = 1'), 14),
        (HEAD + LISTENER + LISTENER.replace(":0", ":1") + "extra = 1\n" + WASM, 14),
        (WHOLE.replace('tee = "sgx"', 'tee = "sev"'), 5),
        (WHOLE.replace('"grpc"', '"h2"'), 13),
        (WHOLE.replace('"wasm"', '"docker"'), 15),
        (WHOLE.replace('"1h"', '"1w"'), 6),
        (WHOLE.replace('"1h"', "3600"), 6),
        (WHOLE.replace('"1h"', '"59s"'), 6),
        (WHOLE.replace('"1h"', '"999999999d"'), 6),
        (WHOLE.replace(PIN, "ab" * 31), 2),
        (WHOLE.replace(PIN, "00" * 32), 2),
        (WHOLE.replace(PIN, "zz" * 32), 2),
        (WHOLE.replace("https://", "http://"), 1),
        (WHOLE.replace('"example-app"', '"Example App"'), 4),
        (WHOLE.replace('"example.org"', '"EXAMPLE"'), 3),
        (WHOLE.replace('["app.example.org"]', "[]"), 9),
        (WHOLE.replace('["app.example.org"]', '["a.org", "a.org"]'), 9),
        (WHOLE.replace('["app.example.org"]', '"app.example.org"'), 9),
        (WHOLE.replace("app.example.org", "*.example.org"), 8),
        (WHOLE.replace("192.0.2.1", "192.0.2.256"), 8),
        (WHOLE.replace('"run/load.sock"', '""'), 7),
        (WHOLE.replace('"run/load.sock"', '"run\\u0000"'), 7),
        (WHOLE + "fuel = true\n", 17),
        (WHOLE + "fuel = 0\n", 17),
        (WHOLE + 'memory = "64MB"\n', 17),
        (WHOLE + 'memory = "8GiB"\n', 17),
        (WHOLE + 'time = "0s"\n', 17),
        (WHOLE + "threads = 1000\n", 17),
        (WHOLE.replace('"127.0.0.1:0"', '"localhost"'), 12),
        (WHOLE.replace('"127.0.0.1:0"', '"app.example.org:443"'), 12),
    ],
)
def test_refusals_name_their_line(text: str, line: int) -> None:
    assert refusal(text).startswith(f"line {line}: ")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "not toml",
        HEAD + WASM,
        HEAD + "listener = []\n" + WASM,
        HEAD + 'listener = "x"\n' + WASM,
        HEAD + "names = 1\n" + LISTENER + WASM,
        HEAD + LISTENER.replace(":0", ":8443") * 2 + WASM,
        HEAD + LISTENER * 33 + WASM,
        HEAD + LISTENER.replace("grpc", "tcp") + WASM,
        HEAD + LISTENER + '[application]\nkind = "child"\nconnect = "unix:a"\n',
        HEAD + LISTENER + '[application]\nkind = "child"\nconnect = "unix:a"\ncommand = []\n',
        HEAD + LISTENER + '[application]\nkind = "child"\nconnect = "unix:a"\ncommand = ["server"]\n',
        HEAD + LISTENER + '[application]\nkind = "child"\nconnect = "unix:a"\ncommand = ["/bin/a", 1]\n',
        HEAD + LISTENER + f'[application]\nkind = "address"\nconnect = "unix:{"x" * 200}"\n',
        HEAD + "[names]\n" + f"dns = {[f'a{n}.org' for n in range(60)]}\nip = {[f'192.0.2.{n}' for n in range(60)]}\n"
        + LISTENER
        + WASM,
        "#" * (FILE_MAX + 1),
        "a = " + "[" * 5000,
    ],
)  # fmt: skip
def test_other_refusals(text: str) -> None:
    refusal(text)


def test_two_listeners_may_both_have_any_port() -> None:
    assert len(parse(HEAD + LISTENER * 2 + WASM).listeners) == 2


def test_a_file_that_is_not_there_or_not_text(tmp_path: Path) -> None:
    path = tmp_path / "app.toml"
    with pytest.raises(ConfigurationError) as absent:
        load_config(path)
    assert absent.value.code is Code.CONFIGURATION_MALFORMED
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigurationError) as binary:
        load_config(path)
    assert binary.value.code is Code.CONFIGURATION_MALFORMED


def test_paths_are_relative_to_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "app.toml").write_text(WHOLE)
    monkeypatch.chdir(tmp_path)
    assert load_config(Path("app.toml")).control == tmp_path / "run/load.sock"


VALUES = st.one_of(
    st.integers(), st.text(max_size=20), st.booleans(), st.lists(st.integers(), max_size=2), st.just({}), st.just("1h")
)


@given(st.sampled_from(sorted({line.split(" =")[0] for line in WHOLE.splitlines() if " =" in line})), VALUES)
@settings(deadline=None, max_examples=150)
def test_any_value_of_any_key_is_read_or_refused(key: str, value: object) -> None:
    lines = [f"{key} = {_toml(value)}" if line.startswith(f"{key} =") else line for line in WHOLE.splitlines()]
    try:
        parse("\n".join(lines))
    except ConfigurationError as error:
        assert error.code is Code.CONFIGURATION_MALFORMED


def _toml(value: object) -> str:
    match value:
        case bool():
            return str(value).lower()
        case str():
            return '"' + "".join(f"\\U{ord(c):08x}" if not 0xD800 <= ord(c) < 0xE000 else "?" for c in value) + '"'
        case _:
            return str(value)


@given(st.binary(max_size=200))
@settings(deadline=None, max_examples=150)
def test_any_bytes_are_read_or_refused(content: bytes) -> None:
    with pytest.raises(ConfigurationError):
        parse_config(content, BASE)


def test_the_shipped_example_is_read() -> None:
    example = Path(__file__).parents[2] / "examples" / "example_application"
    config = load_config(example / "app.toml")
    assert isinstance(config.application, WasmConfig)
    assert config.application.path == example / "example.wat"


def test_the_documents_example_and_tables_are_current() -> None:
    document = (Path(__file__).parents[2] / "docs" / "loader.md").read_text()
    block = document.partition("```toml\n")[2].partition("```")[0].replace("<64 hex digits>", PIN)
    assert parse(block).workload == "example-app"
    limits = WasmLimits()
    assert f"| {limits.fuel} |" in document
    assert f'| `"{limits.memory >> 20}MiB"` |' in document
    assert f'| `"{limits.output >> 20}MiB"` |' in document
    assert f'| `"{limits.seconds:.0f}s"` |' in document


TPM: Final = WHOLE.replace('tee = "sgx"', 'tee = "tpm"')


def test_a_tpm(tmp_path: Path) -> None:
    assert parse(TPM).tpm == TpmOptions()
    assert parse(TPM).attester is None
    authority = MiniAuthority(datetime(2026, 11, 24, tzinfo=UTC))
    (tmp_path / "ca.pem").write_bytes(
        b"".join(each.public_bytes(Encoding.PEM) for each in (authority.issuing, authority.root))
    )
    more = '[tpm]\nek_issuers = ["ca.pem"]\n[tpm.pcrs]\nsha384 = [7, 0]\n[danger]\nsoftware_key = true\n'
    config = parse_config(('attester = "tpm:swtpm"\n' + TPM + more).encode(), tmp_path)
    assert config.attester == "tpm:swtpm"
    assert config.tpm == TpmOptions({"sha384": (0, 7)}, (authority.issuing_der, authority.root_der), software_key=True)
    assert parse(TPM + "[danger]\nsoftware_key = false\n").tpm.software_key is False


@pytest.mark.parametrize(
    "more",
    [
        "[tpm]\nother = 1\n",
        "[tpm]\nek_issuers = []\n",
        '[tpm]\nek_issuers = ["absent.pem"]\n',
        '[tpm]\nek_issuers = ["."]\n',
        "[tpm.pcrs]\n",
        "[tpm.pcrs]\nsha1 = [0]\n",
        "[tpm.pcrs]\nsha256 = []\n",
        "[tpm.pcrs]\nsha256 = [24]\n",
        "[tpm.pcrs]\nsha256 = [-1]\n",
        "[tpm.pcrs]\nsha256 = [0, 0]\n",
        "[tpm.pcrs]\nsha256 = [true]\n",
        "[tpm.pcrs]\nsha256 = 0\n",
        "[danger]\nsoftware_keys = true\n",
        "[danger]\nsoftware_key = 1\n",
    ],
)
def test_what_cannot_be_said_of_a_tpm(more: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError) as refused:
        parse_config((TPM + more).encode(), tmp_path)
    assert refused.value.code is Code.CONFIGURATION_MALFORMED


def test_certificates_that_are_none_or_too_many(tmp_path: Path) -> None:
    authority = MiniAuthority(datetime(2026, 11, 24, tzinfo=UTC))
    pem = authority.root.public_bytes(Encoding.PEM)
    for content in (b"", b"no certificate", pem * 8):
        (tmp_path / "ca.pem").write_bytes(content)
        with pytest.raises(ConfigurationError):
            parse_config((TPM + '[tpm]\nek_issuers = ["ca.pem"]\n').encode(), tmp_path)


@pytest.mark.parametrize("more", ["[tpm]\n", "[danger]\n", "[danger]\nsoftware_key = true\n"])
def test_a_tpms_tables_are_for_a_tpm_alone(more: str) -> None:
    refusal(WHOLE + more)


EXPECTED = (
    f'trust_domain = "example.org"\ntee = "sgx"\nmr_enclave = ["{"0e" * 32}"]\nsigners = ["{Signer("a").verifier}"]\n'
)


@pytest.fixture
def beside(tmp_path: Path) -> Path:
    """A directory with an expectation of the proxy."""
    (tmp_path / "proxy.toml").write_text(EXPECTED)
    return tmp_path


def test_evidence_of_the_proxy_instead_of_a_pin(beside: Path) -> None:
    more = 'proxy_expect = "proxy.toml"\nproxy_endorsements = ["sets", "more"]\nproxy_roots = ["root.der"]\n'
    config = parse_config((more + WHOLE.replace(f'root_pin = "{PIN}"\n', "")).encode(), beside)
    assert config.proxy.root_pin is None
    assert config.proxy.evidence is not None
    assert config.proxy.evidence.expectation.attested
    assert config.proxy.evidence.endorsements == (beside / "sets", beside / "more")
    assert config.proxy.evidence.roots == (beside / "root.der",)


def test_evidence_of_the_proxy_and_a_pin(beside: Path) -> None:
    config = parse_config(('proxy_expect = "proxy.toml"\n' + WHOLE).encode(), beside)
    assert config.proxy.root_pin == bytes.fromhex(PIN)
    assert config.proxy.evidence is not None


@pytest.mark.parametrize("more", ['proxy_endorsements = ["sets"]', 'proxy_roots = ["root.der"]', 'proxy_expect = "no"'])
def test_collateral_without_an_expectation_is_refused(beside: Path, more: str) -> None:
    with pytest.raises(ConfigurationError):
        parse_config((f"{more}\n{WHOLE}").encode(), beside)


def test_an_expectation_of_the_proxy_without_a_measurement_is_refused(beside: Path) -> None:
    (beside / "proxy.toml").write_text('trust_domain = "example.org"\n[danger]\nany_workload = true\n')
    with pytest.raises(ConfigurationError):
        parse_config(('proxy_expect = "proxy.toml"\n' + WHOLE).encode(), beside)
