"""docs/life.md, every command of it, on a proxy that serves: roots, issuing CAs, revocation, the deny list."""

import re
import shlex
import signal
from collections.abc import Iterator
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import click
import pytest
from command_line import REFUSED, call, call_json
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from proxy_attestation.cli.main import group
from proxy_attestation.codes import Code
from proxy_attestation.errors import PeerError
from proxy_attestation.formats.csr import spki_of, spki_sha256
from proxy_attestation.relying_party.deny_list import DenyListReader, read_source
from proxy_attestation.relying_party.expectation_file import parse_expectation
from proxy_attestation.relying_party.path import load_roots, verify_path
from proxy_attestation_simulator.harness import RunningProxy, running_proxy

DOCUMENT = (Path(__file__).parents[2] / "docs" / "life.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", DOCUMENT, re.DOTALL | re.MULTILINE)


COMMANDS = [shlex.split(line)[1:] for block in blocks("sh") for line in block.splitlines()]
INLINE = [shlex.split(code)[1:] for code in re.findall(r"`(proxy-attestation [^`]+)`", DOCUMENT)]


@pytest.mark.parametrize("arguments", INLINE, ids=" ".join)
def test_a_command_in_the_text_exists_with_its_options(arguments: list[str]) -> None:
    command: click.Command = group
    context = click.Context(group)
    while isinstance(command, click.Group):
        found = command.get_command(context, arguments[0])
        assert found is not None, arguments
        command, arguments = found, arguments[1:]
    options = {name for parameter in command.params for name in (*parameter.opts, *parameter.secondary_opts)}
    assert {argument for argument in arguments if argument.startswith("-")} <= options


def test_the_expectation_is_one() -> None:
    (text,) = blocks("toml")
    assert parse_expectation(text, lambda name: name.encode()).deny_list_max_age == 25 * 3600


@pytest.fixture(scope="module")
def proxy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningProxy]:
    with running_proxy(tmp_path_factory.mktemp("proxy")) as running:
        yield running


def run(proxy: RunningProxy, arguments: list[str], values: dict[str, str] | None = None, *, status: int = 0) -> Any:
    """Run a command of the document with real values for its capitals."""
    known = {"STATE": str(proxy.state), "https://proxy.example.org:7444": f"https://{proxy.connect}"} | (values or {})
    given = [known.get(argument, argument) for argument in arguments]
    return call_json(*given, status=status)


@pytest.mark.e2e
@pytest.mark.timeout(300)  # some twenty commands, each a process
def test_every_command(proxy: RunningProxy, caller: Any, tmp_path: Path) -> None:
    client = caller(proxy)
    remaining = [list(command) for command in COMMANDS]

    def next_command(*words: str, **values: str) -> Any:
        command = remaining.pop(0)
        assert tuple(command[: len(words)]) == words
        return run(proxy, command, values)

    def states(found: Any) -> list[tuple[str, int, str]]:
        return [(ca["kind"], ca["number"], ca["state"]) for ca in found["cas"]]

    pin = proxy.root_pin
    first = client.sign(client.attempt().message())
    # Issuing CAs.
    assert states(next_command("ca", "list")) == [("root", 1, "active"), ("issuing", 1, "active")]
    assert states(next_command("ca", "rotate"))[1:] == [("issuing", 1, "active"), ("issuing", 2, "prepared")]
    before = client.attempt()
    assert states(next_command("ca", "rotate"))[1:] == [("issuing", 2, "active"), ("issuing", 1, "retired")]
    # The challenge of before is still good, and the next one names the new CA.
    assert client.sign(before.message()).chain[1] == first.chain[1]
    client.until(lambda: client.sign(client.attempt().message()).chain[1] != first.chain[1])
    # Roots.
    made = next_command("ca", "succeed")
    assert states(made)[:2] == [("root", 1, "active"), ("root", 2, "prepared")]
    assert states(next_command("ca", "succeed"))[:2] == [("root", 1, "retired"), ("root", 2, "active")]
    roots = tmp_path / "roots.pem"
    listed = next_command("ca", "list", **{"roots.pem": str(roots)})
    assert len(x509.load_pem_x509_certificates(roots.read_bytes())) == 2
    call("ca", "rotate", proxy.state, "--now")
    client.until(lambda: len(client.get("/root-bundle").json()["issuing"]) == 3)
    leaf = client.sign(client.attempt().message())
    for root in x509.load_pem_x509_certificates(roots.read_bytes()):
        der = root.public_bytes(Encoding.DER)
        assert verify_path(tuple(leaf.chain), load_roots((der,)), datetime.now(UTC), server_name=None).root == der
    shown = next_command("root", HEX=pin)
    successor = listed["cas"][1]["pin"]
    assert (shown["pin"], shown["successors"]) == (pin, [successor])
    both = tmp_path / "both.pem"
    next_command("root", HEX=pin, **{"roots.pem": str(both)})
    assert both.read_bytes() == roots.read_bytes()
    # Either pin goes on with the proxy, once its own certificate is as young as the successor.
    proxy.send(signal.SIGUSR1)
    client.until(lambda: any(line.get("event") == "TLS certificate replaced" for line in proxy.log_lines()))
    assert call_json("root", f"https://{proxy.connect}", "--pin", successor)["pin"] == successor
    # Revoking, one after the other, and what a client sees that trusts the first root.
    url = f"https://{proxy.connect}/denied"
    anchors = load_roots((x509.load_pem_x509_certificates(roots.read_bytes())[0].public_bytes(Encoding.DER),))

    def denied(chain: Any) -> bool:
        try:
            DenyListReader(url, anchors, max_age=3600, read=read_source).check(tuple(chain), datetime.now(UTC))
        except PeerError as error:
            assert error.code is Code.CERTIFICATE_REVOKED
            return True
        return False

    leaves = [client.sign(client.attempt().message()) for _ in range(4)]
    assert not any(denied(each.chain) for each in leaves)
    certificate = [x509.load_der_x509_certificate(each.chain[0]) for each in leaves]
    key: Any = certificate[2].public_key()
    for index, values in enumerate(
        (
            {"HEX": f"{certificate[0].serial_number:x}"},
            {"N": str(leaves[1].ledger_index)},
            {"HEX": spki_sha256(spki_of(key)).hex()},
            {"NAME": "example-app"},
        )
    ):
        next_command("revoke", **values)
        client.until(partial(denied, leaves[index].chain))
        assert denied(leaves[3].chain) is (index == 3)
    assert not remaining
    # What nobody issued is refused; the workload comes back with a new key.
    refused = run(proxy, ["revoke", "STATE", "--serial", "01", "--reason", "key-compromise"], status=REFUSED)
    assert refused["error"]["code"] == "revocation.unknown"
    client.sign(client.attempt().message())
    # A stolen issuing key: the one that is retired now.
    stolen = next(
        ca for ca in run(proxy, ["ca", "list", "STATE"])["cas"] if (ca["kind"], ca["number"]) == ("issuing", 2)
    )
    run(proxy, ["revoke", "STATE", "--spki", stolen["pin"], "--reason", "ca-compromise"])
    client.until(lambda: len(client.get("/root-bundle").json()["issuing"]) == 2)
    # All of it is still so after a restart.
    proxy.restart()
    assert denied(leaves[0].chain)
    assert len(client.get("/root-bundle").json()["issuing"]) == 2
    assert client.get("/denied").headers["content-type"].startswith("text/plain")
