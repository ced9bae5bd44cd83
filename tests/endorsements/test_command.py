"""`endorsements` against fake services on loopback. The command's time is the real one, so dates are relative."""

import json
import signal
import ssl
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from command_inside import GOOD, MALFORMED, REFUSED, UNAVAILABLE, USAGE, call, call_json
from command_line import PROGRAM
from fake_amd import FakeAmd
from fake_vendors import FakeService, IntelAnswers, Reply, Serve

from proxy_attestation.endorsements.load import load_endorsements
from proxy_attestation_simulator.harness import default_policy
from proxy_attestation_simulator.intel import Vendor

FMSPC = "00906ed50000"
NAME = f"sgx-{FMSPC}"


@dataclass
class World:
    """A vendor of today, its PCS, and a directory."""

    vendor: Vendor
    answers: IntelAnswers
    pcs: FakeService
    root: Path
    directory: Path

    @property
    def sources(self) -> list[str]:
        return ["--pcs", self.pcs.url, "--root-crl", f"{self.pcs.url}/IntelSGXRootCA.der", "--attempts", "1"]

    @property
    def trust(self) -> list[str]:
        return ["--roots", str(self.root)]

    def fetch(self, *options: str, status: int = GOOD) -> Any:
        wanted = options or ("--tee", "sgx", "--fmspc", FMSPC)
        found = call_json("endorsements", "fetch", self.directory, *wanted, *self.sources, *self.trust, status=status)
        return found["sets"]


@pytest.fixture
def world(serve: Serve, tmp_path: Path) -> World:
    now = datetime.now(UTC)
    today = Vendor.create(now, secret=bytes(32))
    answers = IntelAnswers(today, lambda: now)
    (tmp_path / "root.der").write_bytes(today.root_der)
    return World(today, answers, serve(answers), tmp_path / "root.der", tmp_path / "sets")


def test_fetch_and_status(world: World) -> None:
    (item,) = world.fetch("--tee", "sgx", "--fmspc", FMSPC.upper())
    assert (item["name"], item["result"], item["error"]) == (NAME, "new", None)
    assert item["source"] == world.pcs.url
    assert item["numbers"]["tcb info number"] == 17
    (found,) = load_endorsements([world.directory])
    assert found.pck_crl is not None
    (shown,) = call_json("endorsements", "status", world.directory)["sets"]
    assert (shown["state"], shown["last_error"], shown["source"]) == ("fresh", None, world.pcs.url)
    assert shown["valid_until"] == item["valid_until"]
    assert NAME in call("endorsements", "status", world.directory).stdout


def test_what_was_fetched_judges_evidence(world: World, tmp_path: Path) -> None:
    world.fetch()
    quote = tmp_path / "quote.bin"
    quote.write_bytes(world.vendor.platform("sgx", fmspc=bytes.fromhex(FMSPC)).quote(bytes(64)))
    call("appraise", quote, "--endorsements", world.directory, *world.trust)


def test_several_at_once_and_one_fails(world: World) -> None:
    world.answers.change("/tdx/certification/v4/tcb", status=404)
    items = world.fetch("--tee", "sgx", "--tee", "tdx", "--fmspc", FMSPC, status=UNAVAILABLE)
    assert [(item["name"], item["result"]) for item in items] == [(NAME, "new"), (f"tdx-{FMSPC}", "failed")]
    assert items[1]["error"]["code"] == "endorsements.unknown"
    shown = call_json("endorsements", "status", world.directory, status=UNAVAILABLE)["sets"]
    assert [(item["name"], item["state"]) for item in shown] == [(NAME, "fresh"), (f"tdx-{FMSPC}", "missing")]
    assert shown[1]["last_error"]["code"] == "endorsements.unknown"


@pytest.mark.parametrize(
    ("change", "status", "code"),
    [
        ({"status": 500}, UNAVAILABLE, "endorsements.unavailable"),
        ({"body": b"<html>"}, UNAVAILABLE, "endorsements.source"),
        ({"status": 302, "headers": {"location": "/elsewhere"}}, UNAVAILABLE, "endorsements.source"),
    ],
)
def test_a_failing_source_keeps_what_is_there(world: World, change: dict[str, Any], status: int, code: str) -> None:
    world.fetch()
    world.answers.change("/tcb", **change)
    (item,) = world.fetch(status=status)
    assert item["error"]["code"] == code
    assert item["error"]["fix"]
    assert len(load_endorsements([world.directory])) == 1
    (shown,) = call_json("endorsements", "status", world.directory)["sets"]
    assert (shown["state"], shown["last_error"]["code"], shown["last_error"]["failures"]) == ("fresh", code, 1)


def test_a_rejected_answer_is_exit_3_whatever_else_failed(world: World) -> None:
    world.answers.vendors["/sgx/certification/v4/tcb"] = world.vendor.stranger
    world.answers.change("/tdx/certification/v4/tcb", status=500)
    items = world.fetch("--tee", "sgx", "--tee", "tdx", "--fmspc", FMSPC, status=REFUSED)
    assert [item["error"]["code"] for item in items] == ["endorsements.rejected", "endorsements.unavailable"]


def test_the_pinned_roots_count_where_none_are_given(world: World) -> None:
    found = call_json(
        "endorsements",
        "fetch",
        world.directory,
        *("--tee", "sgx", "--fmspc", FMSPC),
        *world.sources,
        status=REFUSED,
    )
    assert found["sets"][0]["error"]["code"] == "endorsements.rejected"


def test_older_than_the_cache(world: World) -> None:
    world.fetch()
    world.answers.options["evaluation_number"] = 16
    (item,) = world.fetch(status=UNAVAILABLE)
    assert item["error"]["code"] == "endorsements.stale"


def test_amd(world: World, serve: Serve, tmp_path: Path) -> None:
    now = datetime.now(UTC)
    amd = FakeAmd(crl_issued=now - timedelta(days=1))
    kds = serve(amd)
    (tmp_path / "ark.der").write_bytes(amd.ark)
    arguments = ["--tee", "snp", "--product", "Milan", "--vlek", "--kds", kds.url, "--roots", str(tmp_path / "ark.der")]
    (item,) = call_json("endorsements", "fetch", world.directory, *arguments)["sets"]
    assert (item["name"], item["result"], item["source"]) == ("snp-milan", "new", kds.url)
    bundle = tmp_path / "bundle.json"
    call("endorsements", "export", world.directory, bundle)
    (item,) = call_json("endorsements", "import", bundle, tmp_path / "other", "--roots", tmp_path / "ark.der")["sets"]
    assert item["result"] == "new"
    (item,) = call_json("endorsements", "import", bundle, tmp_path / "third", status=REFUSED)["sets"]
    assert item["error"]["code"] == "endorsements.rejected"


def test_a_pccs(world: World, serve: Serve) -> None:
    pccs = serve(world.answers)
    arguments = ["--tee", "tdx", "--fmspc", FMSPC, "--pccs", pccs.url, *world.trust]
    call_json("endorsements", "fetch", world.directory, *arguments)
    assert pccs.requests[-1].path == "/sgx/certification/v4/rootcacrl"


# Over an air gap.


def test_export_and_import(world: World, tmp_path: Path) -> None:
    world.fetch("--tee", "sgx", "--tee", "tdx", "--fmspc", FMSPC)
    first, second, other = tmp_path / "a.json", tmp_path / "b.json", tmp_path / "other"
    shown = call_json("endorsements", "export", world.directory, first)
    assert [item["name"] for item in shown["sets"]] == [NAME, f"tdx-{FMSPC}"]
    found = call_json("endorsements", "import", first, other, *world.trust)["sets"]
    assert [(item["name"], item["result"]) for item in found] == [(NAME, "new"), (f"tdx-{FMSPC}", "new")]
    assert set(load_endorsements([other])) == set(load_endorsements([world.directory]))
    call("endorsements", "export", other, second)
    assert first.read_bytes() == second.read_bytes()
    again = call_json("endorsements", "import", first, other, *world.trust)["sets"]
    assert [item["result"] for item in again] == ["unchanged", "unchanged"]


def test_import_trusts_nothing(world: World, tmp_path: Path) -> None:
    world.fetch()
    bundle, other = tmp_path / "bundle.json", tmp_path / "other"
    call("endorsements", "export", world.directory, bundle)
    (item,) = call_json("endorsements", "import", bundle, other, status=REFUSED)["sets"]
    assert item["error"]["code"] == "endorsements.rejected"
    late = f"{datetime.now(UTC) + timedelta(days=40):%Y-%m-%dT%H:%M:%SZ}"
    (item,) = call_json("endorsements", "import", bundle, other, *world.trust, "--at", late, status=UNAVAILABLE)["sets"]
    assert item["error"]["code"] == "endorsements.stale"
    renamed = tmp_path / "renamed.json"
    renamed.write_text(bundle.read_text().replace(NAME, "sgx-00906ed50001"))
    (item,) = call_json("endorsements", "import", renamed, other, *world.trust, status=REFUSED)["sets"]
    assert item["error"]["code"] == "endorsements.rejected"
    assert not list(other.glob("sgx-*"))
    bundle.write_bytes(bundle.read_bytes()[:-10])
    call("endorsements", "import", bundle, other, *world.trust, status=MALFORMED)


def test_an_older_bundle_after_a_newer_fetch(world: World, tmp_path: Path) -> None:
    world.fetch()
    bundle = tmp_path / "bundle.json"
    call("endorsements", "export", world.directory, bundle)
    world.answers.options["evaluation_number"] = 18
    world.fetch()
    (item,) = call_json("endorsements", "import", bundle, world.directory, *world.trust, status=UNAVAILABLE)["sets"]
    assert item["error"]["code"] == "endorsements.stale"


def test_nothing_to_export(world: World, tmp_path: Path) -> None:
    call("endorsements", "export", world.directory, tmp_path / "bundle.json", status=UNAVAILABLE)
    assert "nothing" in call("endorsements", "status", world.directory).stdout


# Watching.


@pytest.mark.e2e
def test_watch_until_sigterm(world: World) -> None:
    command = [*PROGRAM, "endorsements", "watch", str(world.directory), "--tee", "sgx", "--fmspc", FMSPC, "--json"]
    with subprocess.Popen(
        [*command, *world.sources, *world.trust], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as child:
        assert child.stdout is not None
        item = json.loads(child.stdout.readline())
        assert (item["name"], item["result"]) == (NAME, "new")
        assert item["next"] > f"{datetime.now(UTC) + timedelta(days=10):%Y-%m-%dT%H:%M:%SZ}"
        child.send_signal(signal.SIGTERM)
        _, errors = child.communicate(timeout=30)
        assert child.returncode == 0, errors
        assert "Traceback" not in errors


@pytest.mark.e2e
def test_sigterm_in_the_middle_of_a_request(world: World) -> None:
    world.answers.change("/tcb", stall="headers")
    command = [*PROGRAM, "endorsements", "watch", str(world.directory), "--tee", "sgx", "--fmspc", FMSPC]
    with subprocess.Popen(
        [*command, *world.sources, *world.trust], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as child:
        assert world.pcs.stalled.wait(60)
        child.send_signal(signal.SIGTERM)
        _, errors = child.communicate(timeout=30)
        assert child.returncode == 0, errors


# Early warning.


@pytest.fixture
def seen(world: World, tmp_path: Path) -> Callable[..., Path]:
    """Write a platform's quote or PCK certificate."""

    def write(kind: str, tee: str = "sgx", **options: Any) -> Path:
        platform = world.vendor.platform(tee, fmspc=bytes.fromhex(FMSPC), **options)
        path = tmp_path / f"{kind}-{tee}"
        if kind == "hex":
            path.write_text(platform.quote(bytes(64)).hex())
        else:
            path.write_bytes(platform.quote(bytes(64)) if kind == "quote" else platform.certificates[0])
        return path

    return write


@pytest.mark.parametrize("kind", ["quote", "hex", "certificate"])
@pytest.mark.parametrize("tee", ["sgx", "tdx"])
def test_no_recovery_is_coming(world: World, seen: Any, kind: str, tee: str) -> None:
    arguments = ["endorsements", "forecast", seen(kind, tee), *world.sources, *world.trust, "--tee", tee]
    (item,) = call_json(*arguments)["platforms"]
    assert (item["tee"], item["fmspc"]) == (tee, FMSPC)
    for release in ("standard", "early"):
        assert (item[release]["status"], item[release]["code"]) == ("UpToDate", None)


@pytest.mark.parametrize("kind", ["quote", "certificate"])
def test_a_coming_recovery_would_refuse_it(world: World, seen: Any, kind: str) -> None:
    world.answers.releases["early"] = {"fault": "tcb-recovery"}
    arguments = ["endorsements", "forecast", seen(kind), *world.sources, *world.trust]
    (item,) = call_json(*arguments, status=REFUSED)["platforms"]
    assert item["standard"]["status"] == "UpToDate"
    assert (item["early"]["status"], item["early"]["code"]) == ("OutOfDate", "sgx.tcb_status")
    assert item["early"]["evaluation_number"] == item["standard"]["evaluation_number"] + 1
    assert "WOULD BE REFUSED" in call(*arguments, status=REFUSED).stdout


def test_a_coming_release_would_revoke_it(world: World, seen: Any) -> None:
    world.answers.releases["early"] = {"fault": "level-status=Revoked", "evaluation_number": 18}
    arguments = ["endorsements", "forecast", seen("quote"), seen("certificate"), *world.sources, *world.trust]
    by_quote, by_certificate = call_json(*arguments, status=REFUSED)["platforms"]
    assert by_quote["early"]["code"] == "sgx.tcb_revoked"
    assert (by_certificate["early"]["status"], by_certificate["early"]["code"]) == ("Revoked", "sgx.tcb_status")


def test_a_platform_below_every_level(world: World, seen: Any) -> None:
    path = seen("certificate", svns=(0,) * 16)
    (item,) = call_json("endorsements", "forecast", path, *world.sources, *world.trust, status=REFUSED)["platforms"]
    assert item["early"]["code"] == "sgx.tcb_not_supported"


def test_what_is_no_platform(world: World, tmp_path: Path) -> None:
    for content in (b"", b"garbage", world.vendor.root_der, b"\x03\0"):
        (tmp_path / "x").write_bytes(content)
        arguments = ["endorsements", "forecast", str(tmp_path / "x"), *world.sources, *world.trust]
        found = call_json(*arguments, status=MALFORMED)["error"]["code"]
        assert found in ("evidence.malformed", "evidence.unknown", "sgx.malformed")


# A PCK certificate.


def test_pck(world: World, tmp_path: Path) -> None:
    leaf, *issuers = map(ssl.DER_cert_to_PEM_cert, world.vendor.platform("sgx").certificates)
    chain = quote("".join(issuers))
    world.pcs.answer = lambda _request, _number: Reply(
        headers={"SGX-PCK-Certificate-Issuer-Chain": chain}, body=leaf.encode()
    )
    (tmp_path / "key").write_text("subscription\n")
    arguments = ["endorsements", "pck", "--encrypted-ppid", "00" * 384, "--cpu-svn", "00" * 16, "--pce-svn", "0d00"]
    arguments += ["--pce-id", "0000", "--api-key-file", str(tmp_path / "key"), *world.sources, *world.trust]
    assert call(*arguments).stdout.count("BEGIN CERTIFICATE") == 3
    assert call_json(*arguments)["pce_svn"] == 13
    assert world.pcs.requests[-1].headers["ocp-apim-subscription-key"] == "subscription"
    call(*arguments, "--cpu-svn", "00", status=USAGE)
    world.pcs.answer = lambda _request, _number: Reply(404)
    assert call_json(*arguments, status=UNAVAILABLE)["error"]["code"] == "endorsements.unknown"


# Configuration and usage.


def test_a_configuration(world: World, tmp_path: Path) -> None:
    config = tmp_path / "endorsements.toml"
    config.write_text(
        f'pcs = "{world.pcs.url}"\nroot_crl = "{world.pcs.url}/IntelSGXRootCA.der"\nattempts = 1\ntimeout = "20s"\n'
        f'[[platform]]\ntee = "sgx"\nfmspc = "{FMSPC}"\nca = "processor"\nupdate = "early"\n'
        f'[[platform]]\ntee = "tdx"\nfmspc = "{FMSPC}"\nevaluation_number = 18\n'
    )
    found = call_json("endorsements", "fetch", world.directory, "--config", config, *world.trust)["sets"]
    assert [(item["name"], item["result"]) for item in found] == [(NAME, "new"), (f"tdx-{FMSPC}", "new")]
    assert found[0]["numbers"]["processor ca crl number"] == 3
    assert found[1]["numbers"]["tcb info number"] == 18
    assert world.pcs.requests[0].query["update"] == "early"


def test_an_authority(world: World, tmp_path: Path) -> None:
    state, policy = tmp_path / "state", tmp_path / "policy.toml"
    policy.write_text(default_policy(world.vendor))
    names = ["--trust-domain", "example.org", "--dns", "example.org"]
    call("init", state, *names, "--policy", policy, "--simulated", world.root)
    (state / "endorsements.toml").write_text(f'[[platform]]\ntee = "sgx"\nfmspc = "{FMSPC}"\n')
    (item,) = call_json("endorsements", "fetch", state, *world.sources)["sets"]
    assert item["result"] == "new"
    (found,) = load_endorsements([state / "endorsements"])
    assert found.tcb_info is not None
    call("endorsements", "fetch", state, *world.sources, *world.trust, status=USAGE)


def test_what_names_no_platform_is_malformed(tmp_path: Path) -> None:
    for text in (
        "other = 1",
        'pcs = "https://a"\npccs = "https://b"',
        "attempts = 0",
        'timeout = "soon"',
        '[[platform]]\ntee = "arm"',
        '[[platform]]\ntee = "sgx"',
        '[[platform]]\ntee = "sgx"\nfmspc = "00"',
        '[[platform]]\ntee = "sgx"\nfmspc = "00906ed50000"\nca = "other"',
        '[[platform]]\ntee = "sgx"\nfmspc = "00906ed50000"\nproduct = "Milan"',
        '[[platform]]\ntee = "sgx"\nfmspc = "00906ed50000"\nevaluation_number = -1',
        '[[platform]]\ntee = "sgx"\nfmspc = "00906ed50000"\n' * 2,
        '[[platform]]\ntee = "snp"\nproduct = "Rome"',
        '[[platform]]\ntee = "snp"\nproduct = "Milan"\nvcek = ["00"]',
        "[",
    ):
        (tmp_path / "endorsements.toml").write_text(text)
        found = call_json(
            "endorsements", "fetch", tmp_path / "sets", "--config", tmp_path / "endorsements.toml", status=MALFORMED
        )
        assert found["error"]["code"] == "configuration.malformed", text


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["--tee", "sgx"],
        ["--fmspc", FMSPC],
        ["--tee", "snp"],
        ["--tee", "snp", "--fmspc", FMSPC],
        ["--tee", "sgx", "--fmspc", "00"],
        ["--tee", "sgx", "--fmspc", "zz" * 6],
        ["--tee", "sgx", "--fmspc", FMSPC, "--product", "Milan"],
        ["--tee", "snp", "--product", "Milan", "--update", "early"],
        ["--tee", "snp", "--product", "Milan", "--vcek", "00"],
        ["--tee", "snp", "--product", "Milan", "--product", "Genoa", "--vlek"],
        ["--tee", "sgx", "--fmspc", FMSPC, "--update", "early", "--evaluation-number", "3"],
        ["--tee", "sgx", "--fmspc", FMSPC, "--pcs", "http://127.0.0.1:1", "--pccs", "http://127.0.0.1:1"],
        ["--tee", "sgx", "--fmspc", FMSPC, "--pcs", "ftp://127.0.0.1"],
        ["--tee", "sgx", "--fmspc", FMSPC, "--proxy", "nowhere"],
        ["--tee", "arm", "--fmspc", FMSPC],
    ],
)
def test_usage(tmp_path: Path, arguments: list[str]) -> None:
    call("endorsements", "fetch", tmp_path / "sets", *arguments, status=USAGE)
    assert not (tmp_path / "sets").exists()
