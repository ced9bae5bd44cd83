"""Who may hold an entry's names, as policies say it: what is read, what is refused with its line, what is decided."""

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from proxy_attestation.appraisal.claims import Claims
from proxy_attestation.codes import Code
from proxy_attestation.formats.request import Request
from proxy_attestation.formats.tee import Tee
from proxy_attestation.policy.decide import decide
from proxy_attestation.policy.load import PolicyFileError, load_policy_files, parse_policy
from proxy_attestation.policy.model import Owner, OwnerKind, Policy
from proxy_attestation.policy.ownership import PLACES, launch_data

PPID, CHIP, EK = "1a" * 16, "2b" * 64, "3c" * 32
TENANT = ed25519.Ed25519PrivateKey.from_private_bytes(b"\x01" * 32).public_key()
SPKI = TENANT.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
PEM = TENANT.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
POINT = ec.derive_private_key(1, ec.SECP256R1()).public_key()
P256 = POINT.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
P384 = (
    ec.derive_private_key(1, ec.SECP384R1()).public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
)
Render = Callable[..., str]

ENTRIES = {
    "snp": """
measurement = ["{m}"]
vmpl = 0
policy = "0000030000000000"
policy_mask = "ffffff0000000000"
product = ["Milan"]
min_tcb_bootloader = 1
min_tcb_tee = 0
min_tcb_snp = 1
min_tcb_microcode = 1
""".format(m="11" * 48),
    "nitro": "\n".join(f'pcr{n} = ["{n + 1:02x}{"00" * 47}"]' for n in range(3)),
    "tpm": f'ek_root = ["{"11" * 32}"]\npcr0 = ["{"22" * 32}"]\npcr7 = ["{"33" * 32}"]',
}


def entry(tee: str, owner: str, more: str = "") -> str:
    return (
        f'version = 1\ntrust_domain = "example.org"\n[[workload]]\nname = "app"\ntee = "{tee}"\nowner = {owner}\n'
        f"{ENTRIES[tee]}\n{more}\n"
    )


def only(policy: Policy) -> Owner:
    (workload,) = policy.workloads.values()
    return workload.owner


def lines_of(text: str, base: Path) -> list[int]:
    with pytest.raises(PolicyFileError) as caught:
        parse_policy(text, base)
    assert all(problem.fix for problem in caught.value.problems)
    return [problem.line for problem in caught.value.problems]


def line(text: str, start: str) -> int:
    return [row.startswith(start) for row in text.split("\n")].index(True) + 1


@pytest.mark.parametrize("kind", ["enrolment", "first_use", "shared"])
@pytest.mark.parametrize("form", ['"{}"', "{{ {} = true }}"])
def test_the_kinds_without_a_value(kind: str, form: str, render: Render, tmp_path: Path) -> None:
    danger = {"first_use": '["app"]'} if kind == "first_use" else {}
    policy = parse_policy(render("sgx", {"owner": form.format(kind)}, danger=danger), tmp_path)
    assert only(policy) == Owner(OwnerKind(kind))
    assert [shown.split(":")[0] for shown in policy.dangers] == (["first_use app"] if danger else [])


def test_first_use_takes_both_its_places(render: Render, tmp_path: Path) -> None:
    alone = render("sgx", {"owner": "{ first_use = true }"})
    assert lines_of(alone, tmp_path) == [line(alone, "owner")]
    danger = render("sgx", danger={"first_use": '["app"]'})
    assert lines_of(danger, tmp_path) == [line(danger, "owner")]


@pytest.mark.parametrize(
    ("tee", "name", "instance"),
    [
        ("snp", CHIP, hashlib.sha256(b"proxy-attestation/instance/v1\0" + bytes.fromhex(CHIP))),
        ("tpm", EK, hashlib.sha256(b"proxy-attestation/instance/tpm/v1\0" + bytes.fromhex(EK))),
    ],
)
def test_chips_are_held_as_instance_ids(tee: str, name: str, instance: Any, tmp_path: Path) -> None:
    owner = only(parse_policy(entry(tee, f'{{ chip_ids = ["{name}"] }}'), tmp_path))
    assert owner == Owner(OwnerKind.CHIP_IDS, chips=(instance.digest(),))


@pytest.mark.parametrize("name", [PPID, PPID * 2])
@pytest.mark.parametrize("kind", ["sgx", "tdx"])
def test_intel_s_machines(kind: str, name: str, render: Render, tmp_path: Path) -> None:
    owner = only(parse_policy(render(kind, {"owner": f'{{ chip_ids = ["{name}"] }}'}), tmp_path))
    assert owner.chips == (hashlib.sha256(b"proxy-attestation/instance/v1\0" + bytes.fromhex(name)).digest(),)


@pytest.mark.parametrize("name", ["00" * 64, "2b" * 63, "zz" * 64, CHIP.upper(), ""])
def test_a_chip_that_names_nothing(name: str, tmp_path: Path) -> None:
    text = entry("snp", f'{{ chip_ids = ["{name}"] }}')
    assert lines_of(text, tmp_path) == [line(text, "owner")]


@pytest.mark.parametrize(
    ("tee", "owner"),
    [
        ("nitro", f'{{ chip_ids = ["{EK}"] }}'),
        ("tpm", f'{{ tenant_key = "{SPKI.hex()}", in = "host_data" }}'),
        ("snp", "{ chip_ids = [] }"),
        ("snp", f'{{ chip_ids = ["{CHIP}"], in = "host_data" }}'),
        ("snp", f'{{ tenant_key = "{SPKI.hex()}" }}'),
        ("snp", f'{{ tenant_key = "{SPKI.hex()}", in = "report_id" }}'),
        ("snp", f'{{ tenant_key = "{P384.hex()}", in = "host_data" }}'),
        ("snp", f'{{ tenant_key = "{SPKI.hex()}00", in = "host_data" }}'),
        ("snp", '{ tenant_key = "absent.pem", in = "host_data" }'),
        ("snp", '{ tenant_key = "../tenant.pem", in = "host_data" }'),
        ("snp", '{ tenant_key = "other.pem", in = "host_data" }'),
        ("snp", "{ enrolment = true, shared = true }"),
        ("snp", '{ enrolment = true, in = "host_data" }'),
        ("snp", "{ enrolment = false }"),
    ],
)
def test_what_is_no_owner(tee: str, owner: str, tmp_path: Path) -> None:
    (tmp_path / "other.pem").write_text("-----BEGIN NOTHING-----\n")
    text = entry(tee, owner)
    assert lines_of(text, tmp_path) == [line(text, "owner")]


@pytest.mark.parametrize("given", [SPKI.hex(), P256.hex(), "tenant.pem"])
def test_a_tenant_s_key(given: str, tmp_path: Path) -> None:
    (tmp_path / "tenant.pem").write_bytes(PEM)
    text = entry("snp", f'{{ tenant_key = "{given}", in = "host_data" }}')
    key = P256 if given == P256.hex() else SPKI
    assert only(parse_policy(text, tmp_path)) == Owner(OwnerKind.TENANT_KEY, key=key, place="host_data")
    (tmp_path / "policy.toml").write_text(text)
    more = {"tenant.pem"} if given == "tenant.pem" else set()
    assert load_policy_files(tmp_path / "policy.toml").files.keys() == {"policy.toml"} | more


def test_what_the_owner_gives_is_not_pinned_beside_it(tmp_path: Path) -> None:
    owner = f'{{ tenant_key = "{SPKI.hex()}", in = "host_data" }}'
    text = entry("snp", owner, f'host_data = ["{hashlib.sha256(SPKI).hexdigest()}"]')
    assert lines_of(text, tmp_path) == [line(text, "host_data")]


@pytest.mark.parametrize(("kind", "place"), [("sgx", "config_id"), ("tdx", "mr_config_id")])
def test_the_owner_stands_for_the_pin(
    kind: str, place: str, policy_of: Callable[..., Policy], claims_of: Callable[..., Claims],
    request_of: Callable[..., Request],
) -> None:  # fmt: skip
    policy = policy_of(kind, {"owner": f'{{ tenant_key = "{SPKI.hex()}", in = "{place}" }}', "mr_config_id": None})
    value = launch_data(Tee(kind), SPKI)
    assert decide(claims_of(kind, {place: value}), request_of(kind), policy).accepted
    wrong = decide(claims_of(kind), request_of(kind), policy)
    assert [m.code for m in wrong.mismatches] == [Code.POLICY_CONFIG, Code.OWNER_LAUNCH_DATA]


@pytest.mark.parametrize("place", ["mr_owner", "mr_owner_config"])
def test_the_launch_data_must_hold_the_digest(
    place: str, policy_of: Callable[..., Policy], claims_of: Callable[..., Claims], request_of: Callable[..., Request]
) -> None:
    policy = policy_of("tdx", {"owner": f'{{ tenant_key = "{SPKI.hex()}", in = "{place}" }}'})
    value = hashlib.sha256(SPKI).digest() + bytes(16)
    assert decide(claims_of("tdx", {place: value}), request_of("tdx"), policy).accepted
    for other in (bytes(48), value[:-1] + b"\x01", hashlib.sha256(P256).digest() + bytes(16)):
        refused = decide(claims_of("tdx", {place: other}), request_of("tdx"), policy)
        assert [m.code for m in refused.mismatches] == [Code.OWNER_LAUNCH_DATA]


def test_a_register_is_extended_once() -> None:
    assert launch_data(Tee.NITRO, SPKI) == hashlib.sha384(bytes(48) + hashlib.sha256(SPKI).digest()).digest()
    assert launch_data(Tee.SNP, SPKI) == hashlib.sha256(SPKI).digest()
    assert launch_data(Tee.SGX, SPKI) == hashlib.sha256(SPKI).digest() + bytes(32)
    assert set(PLACES) == set(Tee)


def test_a_held_name_stands_in_one_entry(render: Render, tmp_path: Path) -> None:
    def both(first: str, second: str) -> str:
        more = f'[[workload]]\nname = "b"\ntee = "sgx"\nmr_enclave = ["{"44" * 32}"]\ndns = ["app.example.org"]\n'
        return render(
            "sgx", {"owner": f'"{first}"', "ip": None, "dns": '["app.example.org"]'}, more=f'{more}owner = "{second}"'
        )

    parse_policy(both("shared", "shared"), tmp_path)
    for kinds in (("enrolment", "shared"), ("shared", "enrolment"), ("enrolment", "enrolment")):
        text = both(*kinds)
        last = [number for number, row in enumerate(text.split("\n"), 1) if row.startswith("owner")][-1]
        assert lines_of(text, tmp_path) == [last]
