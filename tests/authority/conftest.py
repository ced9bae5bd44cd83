"""An authority with a clock that tests move, and the orders that an honest worker would send it."""

import hashlib
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from ledgers import closing_ledgers

from proxy_attestation.appraisal.claims import Body, Claims, SgxClaims, TcbClaims, TdxClaims
from proxy_attestation.appraisal.endorsements import DcapEndorsements, Floor
from proxy_attestation.authority.init import init_state, memory_issuer
from proxy_attestation.authority.issue import Issuer
from proxy_attestation.authority.messages import AuthorityInfo, Issued, IssueOrder
from proxy_attestation.authority.token import make_token, token_nonce
from proxy_attestation.formats import binder
from proxy_attestation.formats.csr import spki_of
from proxy_attestation.formats.request import (
    ApplicationKind,
    KeyOrigin,
    Request,
    RuntimeClaims,
    encode_request,
    names_from,
)
from proxy_attestation.formats.tee import DCAP, Tee
from proxy_attestation.policy.load import parse_policy
from proxy_attestation_simulator.intel import Vendor

NOW = datetime(2026, 11, 24, 12, 0, 0, tzinfo=UTC)
FMSPC = bytes.fromhex("00606a000000")
VENDOR = Vendor.create(NOW, secret=b"\x7e" * 32)
ANCHOR = VENDOR.root_pin
FLOOR = Floor(evaluation_number=18, issue_date=1_795_000_000, pck_crl_number=5, root_crl_number=7)
DNS = "app.example.org"
APPLICATION = hashlib.sha256(b"application").digest()
INDEX = f"{APPLICATION.hex()}  app.wat\n"

POLICY = f"""
version = 7
trust_domain = "example.org"

[[workload]]
name = "example-app"
tee = "sgx"
mr_enclave = ["{"e1" * 32}"]
tcb = ["UpToDate", "SWHardeningNeeded"]
advisories = ["INTEL-SA-00615"]
dns = ["{DNS}", "other.example.org"]
ip = ["192.0.2.7"]
application = {{ index = "app.index", sha256 = "{hashlib.sha256(INDEX.encode()).hexdigest()}", paths = ["app.wat"] }}
owner = {{ shared = true }}

[[workload]]
name = "td-app"
tee = "tdx"
mr_td = ["{"d1" * 48}"]
rtmr0 = ["{"00" * 48}"]
rtmr1 = ["{"01" * 48}"]
rtmr2 = ["{"02" * 48}"]
mr_config_id = ["{"cc" * 48}"]
td_attributes = "0000001000000000"
td_attributes_mask = "ffffffffffffffff"
xfam = "e700060000000000"
xfam_mask = "ffffffffffffffff"
owner = {{ shared = true }}

[[workload]]
name = "debug-app"
tee = "sgx"
mr_enclave = ["{"de" * 32}"]
owner = {{ shared = true }}

[danger]
allow_debug = ["debug-app"]
"""

SGX = SgxClaims(
    cpu_svn=b"\x0c" * 16, misc_select=bytes(4), attributes_flags=bytes.fromhex("0500000000000000"),
    xfrm=bytes.fromhex("e700000000000000"), mr_enclave=b"\xe1" * 32, mr_signer=b"\x51" * 32, isv_prod_id=3, isv_svn=4,
    isv_ext_prod_id=bytes(16), config_id=bytes(64), config_svn=0, isv_family_id=bytes(16),
)  # fmt: skip
DEBUG = replace(SGX, mr_enclave=b"\xde" * 32, attributes_flags=bytes.fromhex("0700000000000000"))
TDX = TdxClaims(
    tee_tcb_svn=b"\x07" * 16, mr_seam=b"\x5e" * 48, mr_signer_seam=bytes(48), seam_attributes=bytes(8),
    td_attributes=bytes.fromhex("0000001000000000"), xfam=bytes.fromhex("e700060000000000"), mr_td=b"\xd1" * 48,
    mr_config_id=b"\xcc" * 48, mr_owner=bytes(48), mr_owner_config=bytes(48), rtmr0=bytes(48), rtmr1=b"\x01" * 48,
    rtmr2=b"\x02" * 48, rtmr3=b"\x03" * 48, tee_tcb_svn_2=b"\x08" * 16, mr_service_td=bytes(48),
)  # fmt: skip


@pytest.fixture(autouse=True)
def closed_ledgers(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Close every ledger that a test opened: Python 3.13 warns of those that nobody closed."""
    with closing_ledgers(monkeypatch):
        yield


@dataclass
class Clock:
    """A clock that stands until a test moves it."""

    now: datetime = NOW

    def __call__(self) -> datetime:
        return self.now

    def move(self, **by: float) -> None:
        self.now += timedelta(**by)


@dataclass
class World:
    """What an honest worker does with what the authority told it."""

    clock: Clock
    key: ec.EllipticCurvePrivateKey = field(default_factory=lambda: ec.generate_private_key(ec.SECP256R1()))

    @property
    def spki(self) -> bytes:
        return spki_of(self.key.public_key())

    def token(self, info: AuthorityInfo, *, tee: Tee = Tee.SGX, session_id: bytes | None = None) -> bytes:
        return make_token(
            info.token_keys[0],
            session_id=os.urandom(16) if session_id is None else session_id,
            tee=tee,
            ca_id=info.ca_id,
            expires_at=int(self.clock().timestamp()) + 120,
        )

    def request(self, **changes: Any) -> Request:
        good = Request(
            workload="example-app",
            tee=Tee.SGX,
            names=names_from((DNS,), ("192.0.2.7",)),
            lifetime=3600,
            runtime=RuntimeClaims(ApplicationKind.WASM, APPLICATION, KeyOrigin.TEE),
        )
        return replace(good, **changes)

    def td_request(self) -> Request:
        runtime = RuntimeClaims(ApplicationKind.NONE, None, KeyOrigin.TEE)
        return self.request(workload="td-app", tee=Tee.TDX, names=names_from(), runtime=runtime)

    def debug_request(self) -> Request:
        runtime = RuntimeClaims(ApplicationKind.NONE, None, KeyOrigin.TEE)
        return self.request(workload="debug-app", names=names_from(), runtime=runtime)

    def claims(self, body: Body = SGX, **changes: Any) -> Claims:
        good = Claims(
            tee=Tee.SGX if isinstance(body, SgxClaims) else Tee.TDX,
            body=body,
            bound=(bytes(64),),
            debug=body.debug,
            tcb=TcbClaims(
                status="UpToDate",
                date=datetime(2026, 8, 13, tzinfo=UTC),
                advisories=(),
                evaluation_number=FLOOR.evaluation_number,
                fmspc=FMSPC,
                pce_id=bytes(2),
            ),
            instance_id=b"\x1d" * 32,
            anchor=ANCHOR,
            evidence_sha256=b"\xed" * 32,
            valid_until=self.clock() + timedelta(days=20),
        )
        return replace(good, **changes)

    def td_claims(self) -> Claims:
        return self.claims(TDX)

    def debug_claims(self) -> Claims:
        return self.claims(DEBUG)

    def order(
        self,
        info: AuthorityInfo,
        *,
        request: Request | None = None,
        claims: Claims | None = None,
        token: bytes | None = None,
        spki: bytes | None = None,
        **changes: Any,
    ) -> IssueOrder:
        """An order whose binder is right, whatever else is changed."""
        asked = self.request() if request is None else request
        token = self.token(info, tee=asked.tee) if token is None else token
        found = self.claims(SGX if asked.tee is Tee.SGX else TDX) if claims is None else claims
        spki = self.spki if spki is None else spki
        encoded = encode_request(asked)
        key = next(key for key in info.token_keys if key.key_id == token[1:5])
        bound = binder.bind(
            ca_id=token[21:53], session_id=token[5:21], nonce=token_nonce(key, token), spki=spki, request=encoded
        )
        good = IssueOrder(
            token=token,
            request=encoded,
            spki=spki,
            claims=replace(found, bound=bound.slots(asked.tee)),
            collateral_floor=FLOOR,
            policy_digest=info.policy_digest,
        )
        return replace(good, **changes)


def raise_floors(issuer: Issuer) -> None:
    for tee in DCAP:
        issuer.authority.raise_floor(tee, FMSPC, FLOOR)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def policy_file(tmp_path: Path) -> Path:
    """A policy file with the index that it names, in a directory of their own."""
    directory = tmp_path / "policy"
    directory.mkdir()
    (directory / "app.index").write_text(INDEX)
    path = directory / "policy.toml"
    path.write_text(POLICY)
    return path


@pytest.fixture
def world(clock: Clock) -> World:
    return World(clock)


@pytest.fixture
def vendor() -> Vendor:
    """The simulated vendor whose collateral the authority takes."""
    return VENDOR


@pytest.fixture
def collateral(vendor: Vendor, clock: Clock) -> Callable[..., DcapEndorsements]:
    """Make a set of the vendor's, higher than what the issuer knows."""

    def make(tee: str = "sgx", fault: str | tuple[str, ...] = (), **options: Any) -> DcapEndorsements:
        given = {
            "fmspc": FMSPC,
            "evaluation_number": 19,
            "issue_date": clock() - timedelta(hours=1),
            "crl_number": 9,
            **options,
        }
        return DcapEndorsements(**vendor.endorsements(tee, clock(), fault=fault, **given))

    return make


@pytest.fixture
def issuer(clock: Clock, policy_file: Path, vendor: Vendor) -> Issuer:
    """An authority in memory that knows the collateral of one platform."""
    policy = parse_policy(POLICY, policy_file.parent)
    made = memory_issuer(
        policy, dns=["example.org"], anchors=[vendor.root_pin], clock=clock,
        tls_names=["proxy.example.org", "127.0.0.1", "::1"],
    )  # fmt: skip
    raise_floors(made)
    return made


@pytest.fixture
def issue(issuer: Issuer) -> Callable[[IssueOrder], Issued]:
    """Issue one order, or raise what the authority decided."""

    def one(order: IssueOrder) -> Issued:
        (outcome,) = issuer.issue_batch([order])
        if not isinstance(outcome, Issued):
            raise outcome
        return outcome

    return one


@pytest.fixture
def vendor_root(vendor: Vendor) -> bytes:
    """A simulated vendor's root, DER."""
    return vendor.root_der


@pytest.fixture
def make_state(tmp_path: Path, policy_file: Path, vendor_root: bytes, clock: Clock) -> Callable[..., Path]:
    """Make an authority's directory."""

    def make(name: str = "state", *, simulated: bool = True) -> Path:
        state = tmp_path / name
        init_state(
            state,
            trust_domain="example.org",
            dns=["example.org"],
            policy=policy_file,
            simulated_roots=[vendor_root] if simulated else [],
            now=clock(),
        )
        return state

    return make
