"""`connect`: forward local plaintext to an attested server."""

import asyncio
import ipaddress
import signal
from pathlib import Path

import click

from proxy_attestation.cli.output import error_to_json, json_option, print_error, print_json
from proxy_attestation.cli.peer_options import peer_context, peer_options
from proxy_attestation.codes import Code
from proxy_attestation.errors import ProxyAttestationError, UsageError
from proxy_attestation.relying_party.forwarder import Forwarder, Target, split_target


@click.command("connect")
@click.argument("target", metavar="HOST:PORT")
@peer_options
@click.option("--listen", default="127.0.0.1:0", show_default=True, metavar="ADDRESS:PORT", help="A loopback address.")
@click.option("--alpn", multiple=True, metavar="PROTOCOL", help="Offer this protocol in TLS (h2 for gRPC); repeatable.")
@json_option
def command(
    *,
    target: str,
    root: str,
    pin: str | None,
    expect_file: Path,
    server_name: str | None,
    deny_list: str | None,
    listen: str,
    alpn: tuple[str, ...],
    as_json: bool,
) -> None:
    """Forward connections to a local port to the attested server at HOST:PORT.

    Each connection is checked by itself; where the server is refused, the local connection is closed. Whoever can
    connect to this machine's loopback address can use the port. SIGTERM and SIGINT end it.
    """
    host, port = split_target(target)
    if port == 0:
        raise UsageError("port 0 is nobody's")
    address, local_port = _loopback(listen)
    context = peer_context(root, pin, expect_file, server_name, deny_list)
    if alpn:
        try:
            context.set_alpn_protocols(list(alpn))
        except (ValueError, OSError) as error:
            raise UsageError(f"--alpn: {error}") from error
    asyncio.run(_serve(Target(host, port, context), address, local_port, as_json=as_json))


def _loopback(listen: str) -> tuple[str, int]:
    host, port = split_target(listen)
    try:
        address = ipaddress.ip_address("127.0.0.1" if host == "localhost" else host)
    except ValueError as error:
        raise UsageError(f"--listen: {host} is not an IP address") from error
    if not address.is_loopback:
        raise UsageError(f"--listen: {host} is not a loopback address: what is forwarded is not protected before here")
    return str(address), port


async def _serve(target: Target, address: str, port: int, *, as_json: bool) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    # Handlers first: whoever reads the port may end us at once.
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    seen: set[Code] = set()

    def failed(error: ProxyAttestationError) -> None:
        # A client that retries must not fill the log: each reason once.
        if error.code in seen:
            return
        seen.add(error.code)
        if as_json:
            print_json({"refused": error_to_json(error)})
        else:
            print_error(error)

    forwarder = Forwarder(target, on_failure=failed)
    chosen = await forwarder.listen_tcp(address, port)
    try:
        if as_json:
            print_json({"listen": address, "port": chosen})
        else:
            shown = f"[{address}]" if ":" in address else address
            click.echo(f"listening on {shown}:{chosen}")
        await stop.wait()
    finally:
        await forwarder.close()
