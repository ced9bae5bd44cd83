"""`ledger witness` and `ledger vkey`."""

import asyncio
import ipaddress
import signal
import sys
import time
from pathlib import Path

import click

from proxy_attestation.cli.ledgering.options import FILE, VKEY
from proxy_attestation.cli.output import json_option, print_json
from proxy_attestation.cli.signing import read_private_key, read_public_half, signer
from proxy_attestation.errors import UsageError
from proxy_attestation.formats.signed_note import KeyType, Verifier
from proxy_attestation.relying_party.forwarder import split_target


@click.command("witness", short_help="Co-sign logs that only ever grow.")
@click.option("--state", required=True, metavar="DIR", type=click.Path(path_type=Path), help="What was co-signed.")
@click.option("--key", "key_file", required=True, metavar="PEM", type=FILE, help="Ed25519, from `openssl genpkey`.")
@click.option("--name", required=True, help="The witness's name: a host of yours, perhaps with a path.")
@click.option("--log", "logs", required=True, metavar="VKEY", multiple=True, type=VKEY, help="A log's key; repeatable.")
@click.option("--listen", default="127.0.0.1:0", show_default=True, metavar="ADDRESS:PORT", help="Plain HTTP.")
@json_option
def witness_command(
    *, state: Path, key_file: Path, name: str, logs: tuple[Verifier, ...], listen: str, as_json: bool
) -> None:
    """Answer C2SP tlog-witness for these logs: POST /add-checkpoint, GET /HEX/checkpoint.

    Each log's newest checkpoint stands in DIR before its cosignature is sent. Never restore DIR from a copy and never
    delete it: a witness that has forgotten takes a new key. TLS, where it is wanted, is a web server's in front.

    \b
    Example:
      openssl genpkey -algorithm ed25519 -out witness.pem
      proxy-attestation ledger witness --state seen --key witness.pem --name witness.example.org --log VKEY
    """
    # Only this command needs the web server, which is an extra.
    from proxy_attestation.transparency.witness import Witness  # noqa: PLC0415 - an extra
    from proxy_attestation.transparency.witness_front import WitnessFront, print_news, serve  # noqa: PLC0415 - likewise

    if len({log.name for log in logs}) < len(logs):
        raise UsageError("--log: one key a log")
    host, port = split_target(listen)
    try:
        ipaddress.ip_address(host)
    except ValueError as error:
        raise UsageError(f"--listen: {host} is not an IP address") from error
    private = read_private_key(key_file)
    key = signer(name, private.public_key(), KeyType.COSIGNATURE)
    front = WitnessFront(Witness(state, key, private.sign, logs, lambda: int(time.time())), print_news)

    def started(chosen: int) -> None:
        if as_json:
            print_json({"vkey": str(key), "listen": host, "port": chosen})
        else:
            shown = f"[{host}]" if ":" in host else host
            click.echo(f"witness    {key}\nlistening  http://{shown}:{chosen}")
        sys.stdout.flush()

    async def run() -> None:
        stop = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, stop.set)
        await serve(front, host, port, started, stop)

    asyncio.run(run())


@click.command("vkey", short_help="Print a key as people exchange it.")
@click.argument("key_file", metavar="KEY.pem", type=FILE)
@click.option("--name", required=True, help="The key's name; a log's is its origin.")
@click.option("--kind", type=click.Choice(["witness", "signer"]), default="witness", show_default=True)
@json_option
def vkey_command(key_file: Path, *, name: str, kind: str, as_json: bool) -> None:
    """Print the public half of an Ed25519 key, private or public PEM, as name+hash+base64.

    A witness's key signs checkpoints under a time; a signer's key signs texts: policies, statements, checkpoints.
    """
    key_type = KeyType.COSIGNATURE if kind == "witness" else KeyType.ED25519
    key = signer(name, read_public_half(key_file), key_type)
    if as_json:
        print_json({"vkey": str(key), "name": key.name, "key_id": key.key_id.hex()})
    else:
        click.echo(str(key))
