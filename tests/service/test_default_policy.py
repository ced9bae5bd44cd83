"""What a policy refuses that only says what to pin: one row for each TEE and condition, through core and authority.

The worker's core, its store of collateral and the whole authority run in one process; the machine is the simulator's,
and in each row one thing is wrong with it, with its collateral or with the clock.
"""

import asyncio
import hashlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

import pytest
from cryptography.hazmat.primitives.asymmetric import ed25519
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from ledgers import closing_ledgers

from proxy_attestation.appraisal.endorsements import Floor
from proxy_attestation.appraisal.kinds import Appraiser, Endorsements
from proxy_attestation.appraisal.roots import Roots, same_for_all
from proxy_attestation.appraisal.snp_claims import snp_claims
from proxy_attestation.authority.init import memory_issuer
from proxy_attestation.authority.issue import Issuer
from proxy_attestation.authority.messages import AuthorityInfo, Issued, IssueOrder, Proven
from proxy_attestation.codes import Code
from proxy_attestation.errors import ProxyAttestationError
from proxy_attestation.formats.csr import spki_of
from proxy_attestation.formats.snp_report import decode_snp_report
from proxy_attestation.formats.tee import Tee
from proxy_attestation.policy.load import parse_policy
from proxy_attestation.reappraisal.judge import Judge, Outcome, Verdict
from proxy_attestation.reappraisal.ledger_view import LedgerView
from proxy_attestation.service.collateral import CollateralStore
from proxy_attestation.service.core import Core, Serving
from proxy_attestation.v1 import proxy_attestation_pb2 as pb
from proxy_attestation_simulator.amd import AmdPlatform
from proxy_attestation_simulator.aws import Enclave
from proxy_attestation_simulator.files import write, write_endorsements
from proxy_attestation_simulator.intel import Vendor
from proxy_attestation_simulator.keys import derive_key
from proxy_attestation_simulator.pins import policy_lines
from proxy_attestation_simulator.platform import Platform
from proxy_attestation_simulator.tpm import LeafRecipe
from proxy_attestation_simulator.tpm_machine import TpmMachine

TEES: Final = tuple(Tee)
LATER: Final = timedelta(minutes=10)
BINDERS: Final[Mapping[str, Callable[[bytes], bytes]]] = {
    "zero binder": lambda data: bytes(len(data)),
    "short binder": lambda data: data[: len(data) // 2] + bytes(len(data) - len(data) // 2),
}


@dataclass(frozen=True)
class Row:
    """One condition on one TEE.

    Attributes:
        tee: the TEE.
        condition: a phrase of `CONDITIONS`.
        code: the refusal's.
        evidence: options of the simulator when it makes the evidence.
        collateral: a fault of the simulator in the collateral.
        unusable: what makes the collateral no good by itself; the call is then UNAVAILABLE.
    """

    tee: Tee
    condition: str
    code: Code
    evidence: Mapping[str, object] = field(default_factory=dict)
    collateral: str = ""
    unusable: Code | None = None


CONDITIONS: Final = (
    "debug", "revoked", "expired", "out of date", "unknown status", "unknown version", "unknown product",
    "zero binder", "short binder", "older than the floor", "clock before the floor",
)  # fmt: skip
NOT_THERE: Final = {
    (Tee.SNP, "unknown status"): "AMD gives no status words: a policy compares the TCB with its minimum",
    (Tee.NITRO, "revoked"): "AWS publishes no lists: certificates of hours stand in for them",
    (Tee.NITRO, "out of date"): "documents hold no TCB",
    (Tee.NITRO, "unknown status"): "documents hold no TCB",
    (Tee.NITRO, "unknown product"): "documents name no product",
    (Tee.NITRO, "older than the floor"): "nothing is fetched for Nitro that could be old",
    (Tee.TPM, "debug"): "a TPM has no such mode",
    (Tee.TPM, "revoked"): "no lists are read: makers of TPMs publish few",
    (Tee.TPM, "out of date"): "quotes hold no TCB",
    (Tee.TPM, "unknown status"): "quotes hold no TCB",
    (Tee.TPM, "unknown product"): "the CA of its EK says whose it is, and an entry names the CA",
    (Tee.TPM, "older than the floor"): "nothing is fetched for TPMs that could be old",
}
"""Conditions that a TEE cannot be in, and why."""


def _intel(tee: Tee) -> tuple[Row, ...]:
    def code(word: str) -> Code:
        return Code(f"{tee}.{word}")

    gone = Code.ENDORSEMENTS_UNAVAILABLE
    return (
        Row(tee, "debug", code("debug"), {"fault": "debug"}),
        Row(tee, "revoked", code("revoked"), collateral="revoked-pck"),
        Row(tee, "expired", code("expired"), {"fault": "expired-pck"}),
        Row(tee, "out of date", code("tcb_status"), {"fault": "old-tcb"}),
        Row(tee, "unknown status", gone, collateral="unknown-status", unusable=code("endorsements_malformed")),
        Row(tee, "unknown version", Code.EVIDENCE_UNKNOWN, {"fault": "version=6"}),
        Row(tee, "unknown product", gone, collateral="fmspc-mismatch"),
        Row(tee, "older than the floor", gone, collateral="older-evaluation"),
    )


ROWS: Final = (
    *_intel(Tee.SGX),
    *_intel(Tee.TDX),
    Row(Tee.SNP, "debug", Code.SNP_DEBUG, {"fault": "debug"}),
    Row(
        Tee.SNP,
        "revoked",
        Code.ENDORSEMENTS_UNAVAILABLE,
        collateral="issuer-revoked",
        unusable=Code.SNP_REVOKED,
    ),
    Row(Tee.SNP, "expired", Code.SNP_EXPIRED, {"fault": "vek-expired"}),
    Row(Tee.SNP, "out of date", Code.SNP_TCB_STATUS, {"fault": "old-tcb"}),
    Row(Tee.SNP, "unknown version", Code.SNP_VERSION, {"fault": "version"}),
    Row(Tee.SNP, "unknown product", Code.SNP_PRODUCT, {"fault": "unknown-model", "version": 3}),
    Row(Tee.SNP, "older than the floor", Code.ENDORSEMENTS_UNAVAILABLE, collateral="crl-old"),
    Row(Tee.NITRO, "debug", Code.NITRO_DEBUG, {"fault": "debug"}),
    Row(Tee.NITRO, "expired", Code.NITRO_EXPIRED, {"fault": "expired"}),
    # A document has no version; what its version 1 does not have is refused.
    Row(Tee.NITRO, "unknown version", Code.NITRO_MALFORMED, {"fault": "unknown-key"}),
    Row(Tee.TPM, "expired", Code.TPM_EXPIRED, {"certificate": LeafRecipe(days=0)}),
    # A quote has no version; what is no quote is refused.
    Row(Tee.TPM, "unknown version", Code.TPM_ATTEST_TYPE, {"quote_type": 0x801A}),
    *(Row(tee, condition, Code.BINDER_MISMATCH) for tee in TEES for condition in BINDERS),
    *(Row(tee, "clock before the floor", Code.AUTHORITY_CLOCK) for tee in TEES),
)


@dataclass
class Port:
    """A whole authority in this process."""

    issuer: Issuer

    async def hello(self) -> AuthorityInfo:
        return self.issuer.hello()

    async def denied(self) -> bytes:
        return b"denied"

    async def issue(self, order: IssueOrder) -> Issued:
        (outcome,) = self.issuer.issue_batch([order])
        if not isinstance(outcome, Issued):
            raise outcome
        return outcome

    async def raise_floor(self, endorsements: Endorsements) -> Floor:
        return self.issuer.raise_floor(endorsements)

    async def evidence(self, nonce: bytes) -> Proven:
        del nonce
        return Proven(self.issuer.hello(), b"")


class Proxy:
    """A worker over such an authority, with the directory that it reads collateral from."""

    def __init__(
        self, machines: Mapping[Tee, Any], tee: Tee, clock: Any, directory: Path, owner: str = "{ shared = true }"
    ) -> None:
        self.machines, self.machine = machines, machines[tee]
        self.tee, self.clock, self.directory = tee, clock, directory
        self.anchors = (
            machines[Tee.SGX].vendor.root_pin,
            machines[Tee.SNP].vendor.ark_pin("Milan"),
            machines[Tee.NITRO].vendor.root_pin,
        )
        text = (
            f'version = 1\ntrust_domain = "example.org"\n[[workload]]\nname = "example-app"\n{pins(self.machine, tee)}'
        )
        text += f'dns = ["app.example.org"]\nowner = {owner}\n'
        directory.mkdir(exist_ok=True)
        policy = parse_policy(text, directory)
        self.port = Port(
            memory_issuer(
                policy, dns=["example.org"], anchors=self.anchors, clock=clock, tls_names=["proxy.example.org"]
            )
        )
        self.store = CollateralStore(directory, self.port, clock)
        self.core = Core(self.port, clock)

    def collateral(self, vendor: Vendor, fault: str = "") -> None:
        """Put collateral into the directory, and have the worker use it if it is good."""
        if isinstance(self.machine, Platform):
            write_endorsements(vendor.endorsements(str(self.tee), fault=fault), self.directory / "set")
        elif isinstance(self.machine, AmdPlatform):
            made = self.machine.evidence(bytes(64), now=self.clock(), fault=fault)
            for name, der in zip(("ask", "ark", "crl"), (*made.certificates[1:], *made.crls), strict=True):
                write(self.directory / "set" / f"{name}.der", der)
        info = self.port.issuer.hello()
        roots = replace(same_for_all(self.anchors), tpm=frozenset(info.tpm_roots))
        floors = {(tee, platform): floor for tee, platform, floor in info.floors}
        asyncio.run(self.store.update(roots, floors))
        self.core.serving = Serving(self.port.issuer.hello(), Appraiser(roots, self.store.in_use))

    def ask(self, message: pb.GetSignedCertificateRequest) -> Code | None:
        """Ask for a certificate; return the code of the refusal."""
        try:
            asyncio.run(self.core.get_signed_certificate(message))
        except ProxyAttestationError as error:
            return error.code
        return None


def pins(machine: Any, tee: Tee) -> str:
    """Return the lines of an entry that pins a machine, and says nothing else."""
    if isinstance(machine, AmdPlatform):
        report = decode_snp_report(machine.evidence(bytes(64)).report)
        return policy_lines(tee, {"measurement": snp_claims(report).measurement.hex()})
    if isinstance(machine, Enclave):
        return policy_lines(tee, {f"pcr{index}": machine.pcrs[index].hex() for index in range(3)})
    if isinstance(machine, TpmMachine):
        registers = machine.recipe.log.registers()
        lines = [f'pcr{index} = ["{registers[index].hex()}"]' for index in (0, 4, 7)]
        return "\n".join(['tee = "tpm"', f'ek_root = ["{machine.vendor.pin.hex()}"]', *lines, ""])
    names = ("mr_enclave", "mr_td", "rtmr0", "rtmr1", "rtmr2", "mr_config_id", "td_attributes", "xfam")
    body = machine.body
    return policy_lines(tee, {name: getattr(body, name).hex() for name in names if hasattr(body, name)})


@pytest.fixture(autouse=True)
def closed_ledgers(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with closing_ledgers(monkeypatch):
        yield


@pytest.fixture
def proxy(request: pytest.FixtureRequest, machines: Mapping[Tee, Any], clock: Any, tmp_path: Path) -> Proxy:
    """Return a proxy for the TEE that the test's row names, and perhaps an owner by its machine."""
    if isinstance(request.param, tuple):
        tee, owner = request.param
        return Proxy(machines, tee, clock, tmp_path, owner(machines[tee]))
    return Proxy(machines, request.param, clock, tmp_path)


@pytest.fixture
def core(proxy: Proxy) -> Core:
    """Return what `attempt` asks for challenges."""
    return proxy.core


def of_rows(rows: tuple[Row, ...]) -> Callable[[Any], Any]:
    """Run a test over rows, each with a proxy for its TEE."""
    values = [pytest.param(row.tee, row, id=f"{row.tee}-{row.condition.replace(' ', '-')}") for row in rows]
    return pytest.mark.parametrize(("proxy", "row"), values, indirect=["proxy"])


@pytest.mark.parametrize("proxy", TEES, indirect=True)
def test_with_nothing_wrong_there_is_a_certificate(proxy: Proxy, attempt: Callable[..., Any], vendor: Vendor) -> None:
    proxy.collateral(vendor)
    assert proxy.ask(attempt(proxy.tee).message()) is None


@pytest.mark.parametrize("proxy", TEES, indirect=True)
def test_what_was_issued_is_judged_again(proxy: Proxy, attempt: Callable[..., Any], vendor: Vendor, clock: Any) -> None:
    """Ten minutes later: a Nitro document, good for two, is judged at the time of its issuance."""
    proxy.collateral(vendor)
    made = attempt(proxy.tee)
    assert proxy.ask(made.message()) is None
    clock.now += LATER
    authority = proxy.port.issuer.authority
    view, now = LedgerView(authority.ledger._connection), clock.now
    (row,) = view.leaves(int(now.timestamp()))
    assert proxy.core.serving is not None
    judge = Judge(proxy.core.serving.appraiser, authority.roots, authority.policy)
    assert judge.judge(row, now).verdict == Verdict(Outcome.ACCEPTED)
    other = judge.judge(row._replace(session_id=bytes(16)), now).verdict
    assert (other.outcome, other.codes) == (Outcome.UNAVAILABLE, (Code.REAPPRAISAL_UNREADABLE,))
    stranger = Judge(proxy.core.serving.appraiser, Roots(frozenset()), authority.policy).judge(row, now).verdict
    assert (stranger.outcome, stranger.codes) == (Outcome.REFUSED, (Code(f"{proxy.tee}.root"),))


@of_rows(tuple(row for row in ROWS if row.condition not in ("older than the floor", "clock before the floor")))
def test_the_default_refuses(row: Row, proxy: Proxy, attempt: Callable[..., Any], vendor: Vendor) -> None:
    proxy.collateral(vendor, row.collateral)
    report_data = BINDERS.get(row.condition, lambda data: data)
    message = attempt(row.tee, quote_options=dict(row.evidence), report_data=report_data).message()
    assert proxy.ask(message) is row.code
    if row.unusable is not None:
        assert proxy.store.in_use == {}
        (problem,) = proxy.store._unusable.values()
        assert problem.startswith(row.unusable)


@of_rows(tuple(row for row in ROWS if row.condition == "older than the floor"))
def test_what_is_older_than_the_floor(row: Row, proxy: Proxy, attempt: Callable[..., Any], vendor: Vendor) -> None:
    proxy.collateral(vendor)
    before = proxy.core.serving
    proxy.collateral(vendor, row.collateral)
    assert proxy.store.in_use == {}
    assert proxy.ask(attempt(row.tee).message()) is row.code
    # A worker that still uses what is now below the floor gets nothing either.
    another = Proxy(proxy.machines, row.tee, proxy.clock, proxy.directory / "another")
    another.collateral(vendor, row.collateral)
    old = another.core.serving
    proxy.core.serving = before
    assert proxy.ask(attempt(row.tee).message()) is None
    assert old is not None
    assert before is not None
    proxy.core.serving = Serving(before.info, old.appraiser)
    assert proxy.ask(attempt(row.tee).message()) is row.code


@of_rows(tuple(row for row in ROWS if row.condition == "clock before the floor"))
def test_a_clock_before_what_was_signed(
    row: Row, proxy: Proxy, attempt: Callable[..., Any], vendor: Vendor, clock: Any
) -> None:
    proxy.collateral(vendor)
    clock.now += LATER
    proxy.port.issuer.tls_leaf(spki_of(attempt(row.tee).key.public_key()))
    clock.now -= LATER
    assert proxy.ask(attempt(row.tee).message()) is row.code


TENANT: Final = ed25519.Ed25519PrivateKey.from_private_bytes(b"\x01" * 32).public_key()
TENANT_KEY: Final = TENANT.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo).hex()


def chip(machine: Any) -> bytes:
    """Return what names a machine in a policy."""
    if isinstance(machine, Platform):
        return machine.pck.ppid + (machine.pck.platform_instance_id if machine.ca == "platform" else b"")
    if isinstance(machine, TpmMachine):
        key = derive_key(machine.recipe.ek_secret, "tpm ek").public_key()
        return hashlib.sha256(key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).digest()
    return bytes(machine.chip_id)


def listed(machine: Any) -> str:
    return f'{{ chip_ids = ["{chip(machine).hex()}"] }}'


def unlisted(machine: Any) -> str:
    return f'{{ chip_ids = ["{bytes([chip(machine)[0] ^ 1]).hex() + chip(machine)[1:].hex()}"] }}'


def granted(place: str) -> Callable[[Any], str]:
    return lambda _: f'{{ tenant_key = "{TENANT_KEY}", in = "{place}" }}'


WITH_CHIPS: Final = tuple(tee for tee in TEES if tee is not Tee.NITRO)
OWNERS: Final[tuple[tuple[Tee, str, Callable[[Any], str], Code | None], ...]] = (
    *((tee, "chip-listed", listed, None) for tee in WITH_CHIPS),
    *((tee, "chip-not-listed", unlisted, Code.OWNER_CHIP) for tee in WITH_CHIPS),
    *((tee, "no-token", lambda _: "{ enrolment = true }", Code.POLICY_OWNER) for tee in TEES),
    # Where the field is pinned anyway, its pin's code comes first.
    (Tee.SGX, "launch-data", granted("config_id"), Code.POLICY_CONFIG),
    (Tee.TDX, "launch-data", granted("mr_owner"), Code.OWNER_LAUNCH_DATA),
    (Tee.SNP, "launch-data", granted("host_data"), Code.OWNER_LAUNCH_DATA),
    (Tee.NITRO, "launch-data", granted("pcr16"), Code.OWNER_LAUNCH_DATA),
)


@pytest.mark.parametrize(
    ("proxy", "code"),
    [pytest.param((tee, owner), code, id=f"{tee}-{name}") for tee, name, owner, code in OWNERS],
    indirect=["proxy"],
)
def test_owners(proxy: Proxy, code: Code | None, attempt: Callable[..., Any], vendor: Vendor) -> None:
    proxy.collateral(vendor)
    assert proxy.ask(attempt(proxy.tee).message()) is code
    assert len(proxy.port.issuer.owners.holders()) == (code is None)


def test_the_table_is_complete() -> None:
    told = [(row.tee, row.condition) for row in ROWS]
    assert len(set(told)) == len(told)
    assert {*told, *NOT_THERE} == {(tee, condition) for tee in TEES for condition in CONDITIONS}
    assert not NOT_THERE.keys() & {*told}
