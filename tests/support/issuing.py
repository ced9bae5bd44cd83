"""A whole proxy in this process, STATE on disk, with a clock that tests move: for what looks at STATE from outside."""

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from workload import Workload, new_key, request_for

from proxy_attestation.appraisal.endorsements import Floor
from proxy_attestation.appraisal.kinds import Appraiser, Endorsements
from proxy_attestation.authority.init import init_state
from proxy_attestation.authority.issue import Issuer
from proxy_attestation.authority.messages import AuthorityInfo, Issued, IssueOrder, Proven
from proxy_attestation.authority.state import open_authority, read_policy
from proxy_attestation.formats.tee import Tee
from proxy_attestation.service.collateral import CollateralStore
from proxy_attestation.service.core import Core, Serving
from proxy_attestation.v1 import proxy_attestation_pb2 as pb
from proxy_attestation_simulator.files import write_endorsements
from proxy_attestation_simulator.harness import default_policy
from proxy_attestation_simulator.intel import Vendor


class _Port:
    def __init__(self, issuer: Issuer) -> None:
        self._issuer = issuer

    async def hello(self) -> AuthorityInfo:
        return self._issuer.hello()

    async def issue(self, order: IssueOrder) -> Issued:
        (result,) = self._issuer.issue_batch([order])
        if isinstance(result, Exception):
            raise result
        return result

    async def raise_floor(self, endorsements: Endorsements) -> Floor:
        return self._issuer.raise_floor(endorsements)

    async def denied(self) -> bytes:
        return self._issuer.authority.revocations.note

    async def evidence(self, nonce: bytes) -> Proven:
        del nonce
        return Proven(self._issuer.hello(), b"")


@dataclass
class Issuing:
    """A proxy that is open.

    Attributes:
        state: its directory.
        vendor: whose evidence it takes.
        now: what its clock says.
    """

    state: Path
    vendor: Vendor
    now: datetime
    issuer: Issuer = field(init=False)
    core: Core = field(init=False)

    def open(self) -> None:
        """Open the authority of STATE and take the collateral that is there."""
        authority = open_authority(self.state, lambda: self.now)
        self.issuer = Issuer(authority, authority.settings.server_names(()))
        self._port = _Port(self.issuer)
        self.core = Core(self._port, lambda: self.now)
        self._store = CollateralStore(self.state / "endorsements", self._port, lambda: self.now)
        self.refresh()

    def close(self) -> None:
        """Close the ledger."""
        self.issuer.authority.ledger.close()

    def refresh(self) -> None:
        """Take new collateral into use, as a worker does."""
        roots = self.issuer.authority.roots
        floors = {(floor.tee, floor.platform): floor.floor for floor in self.issuer.hello().floors}
        asyncio.run(self._store.update(roots, floors))
        self.core.serving = Serving(self.issuer.hello(), Appraiser(roots, self._store.in_use))

    def apply(self, policy: str) -> None:
        """Write a policy and put it in force."""
        (self.state / "policy.toml").write_text(policy)
        self.issuer.authority.reload_policy(read_policy(self.state))
        self.refresh()

    def write_endorsements(self, tee: str = "sgx", **options: Any) -> None:
        """Write a set of collateral, issued now."""
        write_endorsements(self.vendor.endorsements(tee, self.now, **options), self.state / "endorsements" / tee)

    def challenge(self, tee: Tee = Tee.SGX) -> pb.GetChallengeResponse:
        """Ask for a challenge."""
        return asyncio.run(self.core.get_challenge(pb.GetChallengeRequest(tee=str(tee))))

    def sign(self, message: pb.GetSignedCertificateRequest) -> pb.GetSignedCertificateResponse:
        """Hand in evidence."""
        return asyncio.run(self.core.get_signed_certificate(message))

    def issue(self, workload: Workload | None = None, **request: Any) -> pb.GetSignedCertificateResponse:
        """Issue a certificate to a workload; the default one's if none is given."""
        chosen = workload or Workload(self.vendor.platform("sgx"))
        tee = Tee(chosen.platform.tee)
        return self.sign(chosen.message(self.challenge(tee), request_for(tee, **request), new_key()))

    def move(self, **by: float) -> None:
        """Move the clock."""
        self.now += timedelta(**by)


@contextmanager
def issuing(directory: Path, now: datetime, *, policy: str = "", roots: Sequence[bytes] = ()) -> Iterator[Issuing]:
    """Make an authority in `directory`/state, with collateral for SGX and TDX, and open it.

    Args:
        directory: existing.
        now: what its clock says first.
        policy: its text; `default_policy` if absent.
        roots: DER of further simulated vendors' roots.
    """
    vendor = Vendor.create(now, secret=b"issuing in process: 32 B secret.")
    text = directory / "policy.toml"
    text.write_text(policy or default_policy(vendor))
    state = directory / "state"
    init_state(
        state, trust_domain="example.org", dns=["example.org"], policy=text,
        simulated_roots=[vendor.root_der, *roots], now=now,
    )  # fmt: skip
    made = Issuing(state, vendor, now)
    for tee in ("sgx", "tdx"):
        made.write_endorsements(tee)
    made.open()
    try:
        yield made
    finally:
        made.close()
