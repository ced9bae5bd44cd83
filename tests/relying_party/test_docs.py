"""docs/clients.md names every key and code, and its code and commands are such that the package takes them."""

import ast
import importlib
import re
import shlex
import ssl
from pathlib import Path

import click
import pytest
from mini_authority import MiniAuthority

from proxy_attestation.cli.main import group
from proxy_attestation.codes import Code
from proxy_attestation.relying_party import AttestedContext
from proxy_attestation.relying_party.expectation_file import (
    _APPLICATION_KEYS,
    _DANGER_KEYS,
    _KEYS,
    parse_expectation,
)

DOCUMENT = (Path(__file__).parents[2] / "docs" / "clients.md").read_text()
ROWS = [[cell.strip() for cell in line.strip("|").split("|")] for line in DOCUMENT.split("\n") if line[:1] == "|"]
CLIENTS = {
    "ssl", "asyncio", "http.client", "urllib", "httpx", "httpx, https only", "grpc", "a server that checks its clients",
    "your own protocol",
}  # fmt: skip


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", DOCUMENT, re.DOTALL | re.MULTILINE)


def quoted(text: str) -> list[str]:
    return re.findall(r"`([^`]+)`", text)


def lines_of_clients() -> list[tuple[str, str]]:
    """Return (client, line of Python) for each piece of code in the second column of the table of clients."""
    found = []
    for row in ROWS:
        name = row[0].strip("`")
        if name in CLIENTS:
            found += [(name, code) for code in quoted(row[1]) if "(" in code]
    return found


def compiles(source: str) -> None:
    compile(source, "docs/clients.md", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)


def commands() -> list[list[str]]:
    lines = [line for block in blocks("sh") for line in block.splitlines()]
    lines += [code for row in ROWS for code in quoted(row[-1]) if code.startswith("proxy-attestation ")]
    return [shlex.split(line)[1:] for line in lines if line.startswith("proxy-attestation ")]


@pytest.mark.parametrize("key", sorted(_KEYS - {"danger"}))
def test_every_key_of_an_expectation_has_its_row(key: str) -> None:
    assert len([row for row in ROWS if key in quoted(row[0]) and len(row) == 3]) == 1


@pytest.mark.parametrize("key", sorted(_DANGER_KEYS))
def test_every_dangerous_key_has_its_row(key: str) -> None:
    assert [row for row in ROWS if row[0] == f"`[danger]` `{key}`"]


def test_no_row_names_a_key_that_there_is_not() -> None:
    (start,) = (number for number, row in enumerate(ROWS) if row[0] == "key")
    (end,) = (number for number, row in enumerate(ROWS) if row[0] == "client")
    named = {key for row in ROWS[start + 1 : end] for key in quoted(row[0])}
    assert named == (_KEYS - {"danger"}) | _DANGER_KEYS | {"[danger]"}


def test_the_example_has_the_keys_of_an_application() -> None:
    (example,) = blocks("toml")
    assert set(re.findall(r"\w+", example.split("application = ")[1].split("\n")[0])) >= _APPLICATION_KEYS


def test_the_example_is_an_expectation() -> None:
    (example,) = blocks("toml")
    expectation = parse_expectation(re.sub(r'"[0-9a-f]{4}\.\.\."', f'"{"11" * 32}"', example), lambda _: b"")
    assert expectation.workload == "example-app"
    assert expectation.names.dns == ("app.example.org",)


def test_every_code_of_a_peer_is_listed() -> None:
    listed = {code for row in ROWS for code in quoted(row[0]) if code.startswith("peer.")}
    # An unreachable peer is not a refused one.
    assert listed == {str(code) for code in Code if str(code).startswith("peer.")} - {str(Code.PEER_UNREACHABLE)}


def test_every_client_has_its_line() -> None:
    assert {name for name, _ in lines_of_clients()} == CLIENTS


@pytest.mark.parametrize(("client", "line"), lines_of_clients())
def test_every_line_compiles(client: str, line: str) -> None:
    assert client
    compiles(f"{line}\n    pass" if line.endswith(":") else line)


@pytest.mark.parametrize("block", blocks("python"))
def test_every_block_compiles(block: str) -> None:
    compiles(block)


def test_the_first_block_makes_a_context(
    authority: MiniAuthority, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "root.pem").write_text(ssl.DER_cert_to_PEM_cert(authority.root_der))
    (tmp_path / "expect.toml").write_text('trust_domain = "example.org"\nworkload = "example-app"\n')
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    exec(blocks("python")[0], names)  # noqa: S102 - the document's own code is what is tested
    context = names["context"]
    assert isinstance(context, AttestedContext)
    assert context.get_ca_certs(binary_form=True) == [authority.root_der]


def test_every_name_is_where_the_document_says() -> None:
    found = re.findall(r"`(?:with )?(\w+)\([^`]*` from `(relying_party\.\w+)`", DOCUMENT)
    assert {name for name, _ in found} == {"attested_httpx_client", "attested_channel", "open_connection"}
    for name, module in found:
        assert callable(getattr(importlib.import_module(f"proxy_attestation.{module}"), name))
    adapter = importlib.import_module("proxy_attestation.relying_party.httpx_adapter")
    assert callable(adapter.attested_async_httpx_client)


@pytest.mark.parametrize("arguments", commands(), ids=lambda arguments: arguments[0])
def test_every_command_is_one(arguments: list[str]) -> None:
    name, *rest = arguments
    with click.Context(group) as context:
        command = group.get_command(context, name)
    assert command is not None
    # Parses, and calls nothing.
    command.make_context(name, rest).close()
