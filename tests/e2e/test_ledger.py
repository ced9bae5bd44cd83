"""A real proxy's ledger from outside: verified, copied, read by Go's checker, followed over a restored snapshot."""

import asyncio
import shutil
import sqlite3
import ssl
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx
import pytest
from command_line import REFUSED, call, call_json
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from independent import build_checker
from ledger_processes import MonitorProcess, WitnessProcess
from logs import witness_key
from workload import Client, Workload, new_key, request_for, tbs_digest

from proxy_attestation.codes import Code
from proxy_attestation.errors import RefusedError
from proxy_attestation.formats.merkle import consistency_proof
from proxy_attestation.formats.signed_note import Verifier, parse_vkey
from proxy_attestation.formats.tiles import decode_tile, node_reader
from proxy_attestation.formats.tlog_policy import Party
from proxy_attestation.relying_party.proxy import fetch_root
from proxy_attestation.transparency.witness_client import WitnessClient
from proxy_attestation_simulator.harness import RunningProxy, running_proxy

pytestmark = [pytest.mark.e2e, pytest.mark.slow]


@pytest.fixture
def own(tmp_path: Path) -> Iterator[RunningProxy]:
    """A proxy that a test may set back."""
    with running_proxy(tmp_path / "proxy", workers=1) as running:
        yield running


def issue(proxy: RunningProxy, count: int) -> list[Any]:
    """Get some certificates."""
    client = Client.connect(proxy.connect, proxy.root_pin)
    workload = Workload(proxy.vendor.platform("sgx"))
    try:
        return [client.sign(workload.message(client.challenge(), request_for(), new_key())) for _ in range(count)]
    finally:
        client.close()


def log_key(proxy: RunningProxy) -> Verifier:
    """Return the key that the proxy's root vouches for."""
    return parse_vkey(fetch_root(f"https://{proxy.connect}", bytes.fromhex(proxy.root_pin)).ledger_key.decode())


def options(proxy: RunningProxy, key: Verifier) -> tuple[str | Path, ...]:
    return (f"https://{proxy.connect}", "--root", proxy.root_pem, "--key", str(key))


def test_a_ledger_is_verified_copied_and_read_by_others(proxy: RunningProxy, tmp_path: Path) -> None:
    issued, key = issue(proxy, 3), log_key(proxy)
    said = call_json("ledger", "verify", *options(proxy, key), "--copy", tmp_path / "copy")
    assert said["entries"]["leaf"] >= 3
    assert call_json("ledger", "verify", tmp_path / "copy", "--key", str(key)) == said
    for number, answer in enumerate(issued):
        (tmp_path / "proof").write_bytes(answer.ledger_proof)
        (tmp_path / "leaf.pem").write_bytes(x509.load_der_x509_certificate(answer.chain[0]).public_bytes(Encoding.PEM))
        (tmp_path / "entry").write_bytes(entry_of(proxy, answer.ledger_index))
        offline = ("--key", str(key), "--proof", tmp_path / "proof", "--entry", tmp_path / "entry")
        proven = call_json("ledger", "verify", *offline, "--certificate", tmp_path / "leaf.pem")["proof"]
        assert proven["tbs_sha256"] == tbs_digest(answer.chain[0]).hex()
        assert proven["index"] == answer.ledger_index
        if not number:
            call("ledger", "verify", tmp_path / "copy", *offline)
    checked = build_checker(tmp_path).check(tmp_path / "copy", str(key), proof=[tmp_path / "proof"])
    assert checked["size"] == said["size"]


def entry_of(proxy: RunningProxy, index: int) -> bytes:
    with closing(sqlite3.connect(f"file:{proxy.state / 'ledger.sqlite'}?mode=ro", uri=True)) as database:
        ((entry,),) = database.execute("SELECT entry FROM entry WHERE idx = ?", (index,)).fetchall()
    return bytes(entry)


def cosign(proxy: RunningProxy, witness: WitnessProcess) -> None:
    """Have a witness co-sign what the proxy publishes now, as the log's side does it."""
    context = ssl.create_default_context(cafile=proxy.root_pem)

    async def run() -> None:
        async with httpx.AsyncClient(verify=context, trust_env=False, base_url=f"https://{proxy.connect}") as http:
            note = (await http.get("/checkpoint")).content

            async def prove(old: int, new: int) -> Sequence[bytes]:
                wanted: dict[str, Any] = {}

                def read(tile: Any) -> Any:
                    wanted.setdefault(tile.path, tile)
                    return files.get(tile.path, (bytes(32),) * tile.width)

                files: dict[str, Any] = {}
                for _ in range(2):  # once to learn which tiles it takes, once with them
                    path = consistency_proof(node_reader(read, new), old, new)
                    for name, tile in wanted.items():
                        files[name] = decode_tile((await http.get(f"/{name}")).content, tile.width)
                return path

            await WitnessClient(Party(witness.key, witness.url), http).cosign(note, prove)

    asyncio.run(run())


def test_a_restored_snapshot_of_a_real_authority(own: RunningProxy, tmp_path: Path) -> None:
    issue(own, 2)
    key = log_key(own)
    seen = tmp_path / "seen"
    witness = WitnessProcess(tmp_path, witness_key(), key)
    monitor = MonitorProcess(*options(own, key)[:1], seen, *options(own, key)[1:])  # type: ignore[arg-type] # a URL
    try:
        cosign(own, witness)
        monitor.next("checkpoint")
        own.stop()
        own.keep_ports()
        shutil.copytree(own.state, tmp_path / "snapshot")
        own.start()
        issue(own, 3)
        cosign(own, witness)
        while monitor.next("checkpoint")["size"] < size_of(own):
            pass

        own.stop()
        shutil.rmtree(own.state)
        shutil.copytree(tmp_path / "snapshot", own.state)
        own.start()
        assert monitor.next("alarm")["code"] in ("ledger.rollback", "ledger.fork")
        refused(lambda: cosign(own, witness))
        issue(own, 6)  # past what was seen: now it is a fork
        while monitor.next("alarm")["code"] != "ledger.fork":
            pass
        refused(lambda: cosign(own, witness))
        assert list(seen.glob("fork-*"))
        call("ledger", "verify", *options(own, key))  # by itself it looks good: only memory tells
        call("ledger", "monitor", *options(own, key), "--state", seen, "--once", status=REFUSED)
    finally:
        monitor.stop()
        witness.kill()


def refused(act: Callable[[], None]) -> None:
    with pytest.raises(RefusedError) as caught:
        act()
    assert caught.value.code is Code.LEDGER_WITNESS_REFUSED


def size_of(proxy: RunningProxy) -> int:
    with httpx.Client(verify=ssl.create_default_context(cafile=proxy.root_pem), trust_env=False) as http:
        return int(http.get(f"https://{proxy.connect}/checkpoint").text.split("\n")[1])
