"""Who gets the names of an owned entry, and who does not: one thing wrong at a time, and the attacks that try it."""

import hashlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from proxy_attestation.appraisal.claims import Claims
from proxy_attestation.appraisal.endorsements import Floor
from proxy_attestation.appraisal.instance import machine_id
from proxy_attestation.authority.init import memory_issuer
from proxy_attestation.authority.issue import Issuer
from proxy_attestation.authority.ledger_life import Denial
from proxy_attestation.authority.messages import Issued, IssueOrder
from proxy_attestation.authority.ownership import OPEN_TOKENS_MAX, TOKEN_MEMORY, Owners
from proxy_attestation.codes import Code
from proxy_attestation.errors import (
    ConfigurationError,
    FormatError,
    InternalError,
    ProxyAttestationError,
    RefusedError,
    UnavailableError,
)
from proxy_attestation.formats.csr import spki_of, spki_sha256
from proxy_attestation.formats.ear import decode_claims_set
from proxy_attestation.formats.ledger_entry import EntryKind, LedgerEntry, OwnerAction, decode_entry, names_digest
from proxy_attestation.formats.owner_proof import (
    Grant,
    OwnerProof,
    Renewal,
    Token,
    encode_proof,
    make_grant,
    prove_renewal,
    prove_token,
)
from proxy_attestation.formats.request import ApplicationKind, KeyOrigin, Names, RuntimeClaims
from proxy_attestation.formats.tee import Tee
from proxy_attestation.policy.load import parse_policy
from proxy_attestation_simulator.intel import Vendor

FMSPC = bytes.fromhex("00606a000000")
FLOOR = Floor(evaluation_number=18, issue_date=1_795_000_000, pck_crl_number=5, root_crl_number=7)
DOMAIN = "example.org"
TENANT = ed25519.Ed25519PrivateKey.from_private_bytes(b"\x07" * 32)
OTHER_TENANT = ed25519.Ed25519PrivateKey.from_private_bytes(b"\x08" * 32)
TENANT_SPKI = TENANT.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
CHIPS = ("a1" * 16, "b2" * 16)
HERE, THERE = (machine_id(Tee.SGX, bytes.fromhex(chip)) for chip in CHIPS)
DAY = 24 * 3600

OWNERS = {
    "chips": f'{{ chip_ids = ["{CHIPS[0]}", "{CHIPS[1]}"] }}',
    "tenant": f'{{ tenant_key = "{TENANT_SPKI.hex()}", in = "config_id" }}',
    "enrolled": "{ enrolment = true }",
    "other": "{ enrolment = true }",
    "first": "{ first_use = true }",
    "shared": "{ shared = true }",
}


def policy_text(version: int = 1, **changes: str) -> str:
    text = f'version = {version}\ntrust_domain = "{DOMAIN}"\n[danger]\nfirst_use = ["first"]\n'
    for name, owner in (OWNERS | changes).items():
        text += f'[[workload]]\nname = "{name}"\ntee = "sgx"\nmr_enclave = ["{"e1" * 32}"]\nowner = {owner}\n'
    return text


class Instances:
    """Instances of one image, each with a key of its own each time it asks."""

    def __init__(self, issuer: Issuer, world: Any) -> None:
        self.issuer = issuer
        self.world = world

    @property
    def now(self) -> int:
        return int(self.world.clock().timestamp())

    def token(self, entry: str = "enrolled", seconds: int = 3600) -> Token:
        return self.issuer.owners.new_token(entry, self.now + seconds, self.now)

    def order(
        self,
        entry: str,
        *,
        machine: bytes | None = HERE,
        key: ec.EllipticCurvePrivateKey | None = None,
        token: Token | None = None,
        grant: Grant | None = None,
        by: tuple[ec.EllipticCurvePrivateKey, ...] = (),
        kind: str | None = None,
        **changes: Any,
    ) -> IssueOrder:
        key = ec.generate_private_key(ec.SECP256R1()) if key is None else key
        self.issuer.authority.maintain()
        runtime = RuntimeClaims(ApplicationKind.NONE, None, KeyOrigin.TEE)
        request = self.world.request(workload=entry, names=Names(), runtime=runtime, lifetime=DAY)
        claims: Claims = self.world.claims(instance_id=machine)
        if entry == "tenant":
            config_id = hashlib.sha256(TENANT_SPKI).digest() + bytes(32)
            claims = replace(claims, body=replace(claims.body, config_id=config_id))  # type: ignore[arg-type] # SGX
        order: IssueOrder = self.world.order(
            self.issuer.hello(), request=request, claims=claims, spki=spki_of(key.public_key())
        )
        (report_data,) = order.claims.bound
        renewals = tuple(prove_renewal(old, spki_of(old.public_key()), report_data) for old in by)
        proof = OwnerProof(None if token is None else prove_token(token, report_data), grant, renewals)
        kinds = {"enrolled": "enrolment", "other": "enrolment", "tenant": "tenant_key"}
        if proof != OwnerProof():
            order = replace(order, owner_kind=kinds.get(entry, ""), owner_proof=encode_proof(proof))
        more: dict[str, Any] = changes if kind is None else {"owner_kind": kind, **changes}
        return replace(order, **more)

    def ask(self, entry: str, **how: Any) -> Issued | ProxyAttestationError:
        (outcome,) = self.issuer.issue_batch([self.order(entry, **how)])
        return outcome

    def get(self, entry: str, **how: Any) -> ec.EllipticCurvePrivateKey:
        """Ask and be accepted; return the new leaf's key."""
        key = how.pop("key", None) or ec.generate_private_key(ec.SECP256R1())
        outcome = self.ask(entry, key=key, **how)
        assert isinstance(outcome, Issued), outcome
        return key

    def refused(self, entry: str, **how: Any) -> Code:
        """Ask and be refused; return the code, having checked that nothing was left behind."""
        ledger = self.issuer.authority.ledger
        before = ledger.size(), self.issuer.owners.holders(), self.issuer.owners.tokens()
        outcome = self.ask(entry, **how)
        assert isinstance(outcome, RefusedError | FormatError), outcome
        assert (ledger.size(), self.issuer.owners.holders(), self.issuer.owners.tokens()) == before
        return outcome.code

    def grant(self, leaf: ec.EllipticCurvePrivateKey, **changes: Any) -> Grant:
        good: dict[str, Any] = {
            "key": TENANT, "trust_domain": DOMAIN, "entry": "tenant",
            "spki_sha256": spki_sha256(spki_of(leaf.public_key())), "expires": self.now + 3600,
        }  # fmt: skip
        return make_grant(**(good | changes))

    def granted(self) -> dict[str, Any]:
        """A new key, and the tenant's grant for it."""
        key = ec.generate_private_key(ec.SECP256R1())
        return {"key": key, "grant": self.grant(key)}

    def entries(self) -> list[LedgerEntry]:
        """The ledger's entries about ownership."""
        ledger = self.issuer.authority.ledger
        found = [decode_entry(ledger.entry(index) or b"") for index in range(ledger.size())]
        return [entry for entry in found if entry.kind is EntryKind.OWNERSHIP]


@pytest.fixture
def instances(clock: Any, world: Any, vendor: Vendor) -> Instances:
    policy = parse_policy(policy_text(), Path())
    issuer = memory_issuer(policy, dns=[DOMAIN], anchors=[vendor.root_pin], clock=clock)
    issuer.authority.raise_floor(Tee.SGX, FMSPC, FLOOR)
    return Instances(issuer, world)


def new_key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


CLAIMS: dict[str, Callable[[Instances], dict[str, Any]]] = {
    "chips": lambda _: {},
    "first": lambda _: {},
    "enrolled": lambda instances: {"token": instances.token()},
    "tenant": lambda instances: instances.granted(),
}
"""What it takes to claim the names of each entry, beside genuine evidence from `HERE`."""
LINEAGES = ("first", "enrolled", "tenant")
"""Entries whose holder shows the last leaf's key."""


def claim(instances: Instances, entry: str, **how: Any) -> ec.EllipticCurvePrivateKey:
    return instances.get(entry, **CLAIMS[entry](instances), **how)


class TestHolding:
    """Claim, renewal, expiry, release."""

    @pytest.mark.parametrize("entry", CLAIMS)
    def test_a_claim_stands_in_ledger_and_table(self, instances: Instances, entry: str) -> None:
        key = claim(instances, entry)
        (holder,) = instances.issuer.owners.holders()
        (written,) = instances.entries()
        digest = spki_sha256(spki_of(key.public_key()))
        kind = {"chips": "chip_ids", "first": "first_use", "enrolled": "enrolment", "tenant": "tenant_key"}[entry]
        assert (holder.entry, holder.kind, holder.spki_sha256) == (entry, kind, digest)
        assert holder.not_after == holder.held_until > instances.now
        assert written == LedgerEntry(
            kind=EntryKind.OWNERSHIP,
            spki_sha256=digest,
            names_sha256=names_digest(Names(uri=(f"spiffe://{DOMAIN}/{entry}",))),
            owner_action=OwnerAction.CLAIM,
            owner_kind=kind,
            owner_holder=holder.holder,
        )
        assert instances.issuer.authority.ledger.entry(holder.claimed) is not None

    @pytest.mark.parametrize("entry", CLAIMS)
    def test_the_leaf_says_the_kind(self, instances: Instances, entry: str) -> None:
        how = CLAIMS[entry](instances)
        outcome = instances.ask(entry, **how)
        assert isinstance(outcome, Issued)
        assert decode_claims_set(outcome.claims_set).owner == instances.issuer.owners.holders()[0].kind

    def test_no_row_and_no_entry_names_the_machine(self, instances: Instances) -> None:
        for entry in CLAIMS:
            claim(instances, entry)
        dump = "\n".join(instances.issuer.authority.ledger._connection.iterdump()).lower()
        assert HERE is not None
        for secret in (HERE.hex(), CHIPS[0]):
            assert secret not in dump

    def test_a_shared_entry_has_no_holder(self, instances: Instances) -> None:
        instances.get("shared")
        instances.get("shared", machine=THERE)
        instances.get("shared", machine=None, kind="enrolment", owner_proof=b"whatever")
        assert instances.issuer.owners.holders() == []
        assert instances.entries() == []

    @pytest.mark.parametrize("entry", CLAIMS)
    def test_the_holder_renews_again_and_again(self, instances: Instances, entry: str) -> None:
        key = claim(instances, entry)
        (before,) = instances.issuer.owners.holders()
        for _ in range(3):
            instances.world.clock.move(hours=16)
            key = instances.get(entry, by=() if entry == "chips" else (key,))
        (after,) = instances.issuer.owners.holders()
        assert (after.holder, after.claimed) == (before.holder, before.claimed)
        assert after.held_until > before.held_until
        assert len(instances.entries()) == 1

    @pytest.mark.parametrize("entry", CLAIMS)
    def test_another_instance_is_refused_until_the_last_second(self, instances: Instances, entry: str) -> None:
        claim(instances, entry)
        until = instances.issuer.owners.holders()[0].held_until
        while True:
            assert instances.refused(entry, machine=THERE, **CLAIMS[entry](instances)) == Code.POLICY_OWNER_HELD
            if instances.now == until:
                break
            instances.world.clock.move(seconds=until - instances.now)
        instances.world.clock.move(seconds=1)
        first = instances.issuer.owners.holders()[0].holder
        claim(instances, entry, machine=THERE)
        actions = [(written.owner_action, written.owner_holder) for written in instances.entries()]
        second = instances.issuer.owners.holders()[0].holder
        assert second != first
        assert actions == [(OwnerAction.CLAIM, first), (OwnerAction.RELEASE, first), (OwnerAction.CLAIM, second)]

    @pytest.mark.parametrize("entry", CLAIMS)
    def test_released_names_are_another_s_to_claim(self, instances: Instances, entry: str) -> None:
        key = claim(instances, entry)
        released = instances.issuer.owners.release(entry)
        assert instances.issuer.owners.holders() == []
        assert [one.owner_action for one in instances.entries()] == [OwnerAction.CLAIM, OwnerAction.RELEASE]
        claim(instances, entry, machine=THERE)
        assert instances.issuer.owners.holders()[0].holder != released.holder
        how = {} if entry == "chips" else {"by": (key,)}
        assert instances.refused(entry, **how) == Code.POLICY_OWNER_HELD

    def test_a_machine_that_restarts_gets_its_names_again(self, instances: Instances) -> None:
        instances.get("chips")
        instances.get("chips")
        assert instances.refused("chips", machine=THERE) == Code.POLICY_OWNER_HELD

    def test_a_short_leaf_does_not_let_go_of_what_a_long_one_holds(self, instances: Instances) -> None:
        key = claim(instances, "enrolled")
        order = instances.order("enrolled", by=(key,))
        soon = instances.world.clock.now.replace(hour=12, minute=40)
        short = replace(order, claims=replace(order.claims, valid_until=soon))
        (issued,) = instances.issuer.issue_batch([short])
        assert isinstance(issued, Issued)
        (holder,) = instances.issuer.owners.holders()
        assert holder.not_after == issued.not_after < holder.held_until
        instances.world.clock.move(hours=1)
        assert instances.refused("enrolled", token=instances.token()) == Code.POLICY_OWNER_HELD

    def test_the_same_session_gets_the_same_certificate(self, instances: Instances) -> None:
        order = instances.order("enrolled", token=instances.token())
        (first,) = instances.issuer.issue_batch([order])
        (second,) = instances.issuer.issue_batch([order])
        assert isinstance(first, Issued)
        assert first == second
        assert len(instances.entries()) == 1

    def test_of_two_in_one_batch_one_wins(self, instances: Instances) -> None:
        orders = [instances.order("enrolled", token=instances.token()) for _ in range(3)]
        first, *others = instances.issuer.issue_batch(orders)
        assert isinstance(first, Issued)
        assert [getattr(other, "code", None) for other in others] == [Code.POLICY_OWNER_HELD] * 2
        assert sum(token.spent is not None for token in instances.issuer.owners.tokens()) == 1
        assert instances.issuer.owners.holders()[0].spki_sha256 == spki_sha256(orders[0].spki)

    def test_an_order_that_fails_later_claims_nothing(self, instances: Instances) -> None:
        """The collateral ends so soon that no leaf can be made, which is found out after the owner was judged."""
        token = instances.token()
        order = instances.order("enrolled", token=token)
        short = replace(order, claims=replace(order.claims, valid_until=instances.world.clock.now))
        winner = instances.order("enrolled", token=token)
        failed, issued = instances.issuer.issue_batch([short, winner])
        assert getattr(failed, "code", None) == Code.AUTHORITY_LIFETIME
        assert isinstance(issued, Issued)

    def test_what_cannot_be_committed_claims_nothing(
        self, instances: Instances, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        token = instances.token()
        order = instances.order("enrolled", token=token)
        with monkeypatch.context() as patch:
            patch.setattr(Owners, "_append", _fail)
            (outcome,) = instances.issuer.issue_batch([order])
        assert isinstance(outcome, InternalError)
        assert instances.issuer.owners.holders() == []
        assert instances.entries() == []
        (issued,) = instances.issuer.issue_batch([order])
        assert isinstance(issued, Issued)

    def test_a_change_judged_by_another_holder_is_not_written(self, instances: Instances) -> None:
        """The tables are the last to know better: a renewal whose names were released meanwhile changes nothing."""
        key = claim(instances, "enrolled")
        owners, ledger = instances.issuer.owners, instances.issuer.authority.ledger
        held = owners.holders()[0]
        owners.begin()
        owners.release("enrolled")
        from proxy_attestation.authority.owner_records import Change  # noqa: PLC0415 - a value of the module's own

        owners.stage(b"s" * 16, Change(held, renews=True), held.not_after)
        with pytest.raises(InternalError), ledger.transaction():
            owners.commit([b"s" * 16])
        assert owners.holders() == []
        assert key


def _fail(*_: object) -> int:
    raise InternalError("for this test")


class TestRefusals:
    """One thing wrong at a time."""

    @pytest.mark.parametrize("machine", [machine_id(Tee.SGX, b"\x0f" * 16), None])
    def test_a_machine_that_is_not_listed(self, instances: Instances, machine: bytes | None) -> None:
        assert instances.refused("chips", machine=machine) == Code.OWNER_CHIP

    def test_launch_data_without_the_key(self, instances: Instances) -> None:
        key = new_key()
        order = instances.order("tenant", key=key, grant=instances.grant(key))
        other = replace(order.claims, body=replace(order.claims.body, config_id=bytes(64)))  # type: ignore[arg-type] # SGX
        (outcome,) = instances.issuer.issue_batch([replace(order, claims=other)])
        assert isinstance(outcome, RefusedError)
        assert [m.code for m in getattr(outcome, "mismatches", ())] == [Code.POLICY_CONFIG, Code.OWNER_LAUNCH_DATA]

    @pytest.mark.parametrize("entry", ["enrolled", "tenant"])
    def test_no_proof(self, instances: Instances, entry: str) -> None:
        assert instances.refused(entry) == Code.POLICY_OWNER

    @pytest.mark.parametrize("entry", ["enrolled", "tenant"])
    @pytest.mark.parametrize("kind", ["", "shared", "first_use"])
    def test_a_proof_under_another_name(self, instances: Instances, entry: str, kind: str) -> None:
        assert instances.refused(entry, kind=kind, **CLAIMS[entry](instances)) == Code.POLICY_OWNER

    @pytest.mark.parametrize("entry", LINEAGES)
    @pytest.mark.parametrize("proof", [b"\x00", b"\x83\xf6\xf6\x80\x00", b"\x82\xf6\xf6"])
    def test_no_such_proof(self, instances: Instances, entry: str, proof: bytes) -> None:
        assert instances.refused(entry, owner_proof=proof) == Code.OWNER_MALFORMED

    def test_a_token_of_nobody_s(self, instances: Instances) -> None:
        assert instances.refused("enrolled", token=Token(bytes(16), bytes(16))) == Code.OWNER_TOKEN

    def test_a_token_whose_secret_is_another(self, instances: Instances) -> None:
        token = instances.token()
        assert instances.refused("enrolled", token=token._replace(secret=bytes(16))) == Code.OWNER_TOKEN

    def test_a_token_s_proof_for_another_certificate(self, instances: Instances) -> None:
        seen = instances.order("enrolled", token=instances.token())
        assert instances.refused("enrolled", kind="enrolment", owner_proof=seen.owner_proof) == Code.OWNER_TOKEN

    def test_a_token_for_another_entry(self, instances: Instances) -> None:
        assert instances.refused("enrolled", token=instances.token("other")) == Code.OWNER_TOKEN_ENTRY

    def test_a_token_that_has_expired(self, instances: Instances) -> None:
        token = instances.token(seconds=60)
        instances.world.clock.move(seconds=59)
        fresh = instances.token()
        instances.world.clock.move(seconds=1)
        assert instances.refused("enrolled", token=token) == Code.OWNER_TOKEN_EXPIRED
        instances.get("enrolled", token=fresh)

    def test_a_token_that_was_spent(self, instances: Instances) -> None:
        token = instances.token(seconds=7 * DAY)
        instances.get("enrolled", token=token)
        instances.world.clock.move(days=2)
        assert instances.refused("enrolled", token=token) == Code.OWNER_TOKEN_SPENT

    @pytest.mark.parametrize(
        "changes",
        [{"trust_domain": "example.net"}, {"entry": "enrolled"}, {"spki_sha256": bytes(32)}],
        ids=["trust domain", "entry", "key"],
    )
    def test_a_grant_for_something_else(self, instances: Instances, changes: dict[str, Any]) -> None:
        key = new_key()
        assert instances.refused("tenant", key=key, grant=instances.grant(key, **changes)) == Code.OWNER_GRANT_SCOPE

    def test_a_grant_by_somebody_else(self, instances: Instances) -> None:
        key = new_key()
        assert instances.refused("tenant", key=key, grant=instances.grant(key, key=OTHER_TENANT)) == Code.OWNER_GRANT

    @pytest.mark.parametrize("field", ["expires", "signature"])
    def test_a_grant_that_was_altered(self, instances: Instances, field: str) -> None:
        key = new_key()
        grant = instances.grant(key)
        value: Any = grant.expires + 1 if field == "expires" else bytes(64)
        assert instances.refused("tenant", key=key, grant=grant._replace(**{field: value})) == Code.OWNER_GRANT

    def test_a_grant_that_has_expired(self, instances: Instances) -> None:
        key = new_key()
        grant = instances.grant(key, expires=instances.now)
        assert instances.refused("tenant", key=key, grant=grant) == Code.OWNER_GRANT_EXPIRED
        instances.get("tenant", key=key, grant=instances.grant(key, expires=instances.now + 1))

    def test_a_grant_for_too_long(self, instances: Instances) -> None:
        key = new_key()
        grant = instances.grant(key, expires=instances.now + 7 * DAY + 1)
        assert instances.refused("tenant", key=key, grant=grant) == Code.OWNER_GRANT_LIFETIME
        instances.get("tenant", key=key, grant=instances.grant(key, expires=instances.now + 7 * DAY))

    @pytest.mark.parametrize("entry", LINEAGES)
    def test_a_renewal_signed_for_another_certificate(self, instances: Instances, entry: str) -> None:
        key = claim(instances, entry)
        seen = instances.order(entry, by=(key,))
        assert instances.refused(entry, owner_proof=seen.owner_proof) == Code.OWNER_RENEWAL

    @pytest.mark.parametrize("entry", LINEAGES)
    def test_a_renewal_signed_by_another_key_in_the_holder_s_name(self, instances: Instances, entry: str) -> None:
        key = claim(instances, entry)
        order = instances.order(entry)
        signature = prove_renewal(new_key(), b"", order.claims.bound[0]).signature
        proof = encode_proof(OwnerProof(renewals=(Renewal(spki_of(key.public_key()), signature),)))
        (outcome,) = instances.issuer.issue_batch([replace(order, owner_proof=proof)])
        assert getattr(outcome, "code", None) == Code.OWNER_RENEWAL

    @pytest.mark.parametrize("entry", LINEAGES)
    def test_a_renewal_by_the_leaf_before_the_last(self, instances: Instances, entry: str) -> None:
        first = claim(instances, entry)
        second = instances.get(entry, by=(first,))
        assert instances.refused(entry, by=(first,)) == Code.POLICY_OWNER_HELD
        instances.get(entry, by=(first, second))

    @pytest.mark.parametrize("entry", LINEAGES)
    def test_a_renewal_by_a_leaf_that_was_revoked(self, instances: Instances, entry: str) -> None:
        key = claim(instances, entry)
        digest = spki_sha256(spki_of(key.public_key()))
        ledger = instances.issuer.authority.ledger
        with ledger.transaction():
            ledger.add_revocation(0, Denial(None, digest, instances.now + DAY))
        assert instances.refused(entry, by=(key,)) == Code.OWNER_REVOKED
        instances.issuer.owners.release(entry)
        claim(instances, entry)

    @pytest.mark.parametrize("entry", ["enrolled", "tenant"])
    def test_a_renewal_after_the_last_leaf_has_expired(self, instances: Instances, entry: str) -> None:
        key = claim(instances, entry)
        instances.world.clock.move(seconds=instances.issuer.owners.holders()[0].held_until - instances.now + 1)
        assert instances.refused(entry, by=(key,)) == Code.OWNER_EXPIRED
        claim(instances, entry)

    def test_a_renewal_by_an_expired_leaf_while_an_older_one_lives(self, instances: Instances) -> None:
        key, last = claim(instances, "enrolled"), new_key()
        order = instances.order("enrolled", by=(key,), key=last)
        soon = instances.world.clock.now.replace(hour=12, minute=40)
        (issued,) = instances.issuer.issue_batch([replace(order, claims=replace(order.claims, valid_until=soon))])
        assert isinstance(issued, Issued)
        instances.world.clock.move(hours=1)
        assert instances.refused("enrolled", by=(last,)) == Code.OWNER_EXPIRED

    @pytest.mark.parametrize("entry", ["enrolled", "tenant"])
    def test_a_renewal_of_released_names(self, instances: Instances, entry: str) -> None:
        key = claim(instances, entry)
        instances.issuer.owners.release(entry)
        assert instances.refused(entry, by=(key,)) == Code.OWNER_EXPIRED

    @pytest.mark.parametrize("entry", LINEAGES)
    @pytest.mark.parametrize(("claimed", "later"), [(HERE, THERE), (HERE, None), (None, HERE)])
    def test_a_renewal_from_another_machine(
        self, instances: Instances, entry: str, claimed: bytes | None, later: bytes | None
    ) -> None:
        key = claim(instances, entry, machine=claimed)
        assert instances.refused(entry, by=(key,), machine=later) == Code.OWNER_MACHINE
        instances.get(entry, by=(key,), machine=claimed)

    @pytest.mark.parametrize("entry", LINEAGES)
    def test_a_renewal_under_an_owner_of_other_terms(self, instances: Instances, entry: str) -> None:
        key = claim(instances, entry)
        other = OTHER_TENANT.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        owner = f'{{ tenant_key = "{other.hex()}", in = "config_id" }}'
        text = policy_text(2, **{entry: owner})
        if entry == "first":
            text = text.replace('[danger]\nfirst_use = ["first"]\n', "")
        instances.issuer.authority.reload_policy(parse_policy(text, Path()))
        order = instances.order(entry, by=(key,))
        body = replace(order.claims.body, config_id=hashlib.sha256(other).digest() + bytes(32))  # type: ignore[arg-type] # SGX
        (outcome,) = instances.issuer.issue_batch([replace(order, claims=replace(order.claims, body=body))])
        assert getattr(outcome, "code", None) == Code.POLICY_OWNER_HELD


class TestAttacks:
    """Design section 10: no second instance of an owned name, and a stolen leaf key gets no renewal."""

    @pytest.mark.parametrize("entry", CLAIMS)
    def test_the_same_image_on_another_host(self, instances: Instances, entry: str) -> None:
        claim(instances, entry)
        codes = {instances.refused(entry, machine=machine) for machine in (THERE, machine_id(Tee.SGX, b"\x0f" * 16))}
        assert codes == {Code.POLICY_OWNER_HELD} | ({Code.OWNER_CHIP} if entry == "chips" else set())

    def test_a_clone_of_the_machine_s_disk_with_its_token(self, instances: Instances) -> None:
        token = instances.token(seconds=7 * DAY)
        instances.get("enrolled", token=token)
        # While the holder lives, after it has ended, and after an operator released the names.
        assert instances.refused("enrolled", token=token, machine=THERE) == Code.POLICY_OWNER_HELD
        instances.world.clock.move(days=3)
        assert instances.refused("enrolled", token=token, machine=THERE) == Code.OWNER_TOKEN_SPENT
        instances.issuer.owners.release("enrolled")
        assert instances.refused("enrolled", token=token, machine=THERE) == Code.OWNER_TOKEN_SPENT

    @pytest.mark.parametrize("entry", LINEAGES)
    def test_a_stolen_leaf_key(self, instances: Instances, entry: str) -> None:
        """The thief runs the same image elsewhere, relays its evidence, and signs the renewal with the stolen key."""
        stolen = claim(instances, entry)
        assert instances.refused(entry, by=(stolen,), machine=THERE) == Code.OWNER_MACHINE
        kept = instances.get(entry, by=(stolen,))
        # Once the holder has renewed, the stolen key is of no use on the same machine either.
        assert instances.refused(entry, by=(stolen,)) == Code.POLICY_OWNER_HELD
        instances.get(entry, by=(kept,))

    def test_host_data_that_is_right_without_a_grant(self, instances: Instances) -> None:
        assert instances.refused("tenant") == Code.POLICY_OWNER
        key = claim(instances, "tenant")
        assert instances.refused("tenant", machine=THERE) == Code.POLICY_OWNER_HELD
        instances.get("tenant", by=(key,))

    def test_the_holder_s_proof_under_another_key(self, instances: Instances) -> None:
        """A worker, or whoever sits between, puts another key under a proof that it saw."""
        key = claim(instances, "enrolled")
        seen = instances.order("enrolled", by=(key,))
        mine = instances.order("enrolled", key=new_key(), owner_proof=seen.owner_proof, kind="enrolment")
        (outcome,) = instances.issuer.issue_batch([mine])
        assert getattr(outcome, "code", None) == Code.OWNER_RENEWAL

    def test_a_lost_answer_locks_nobody_out(self, instances: Instances) -> None:
        """The holder does not know whether its last try was issued: it signs with both keys."""
        first, lost = claim(instances, "enrolled"), new_key()
        instances.get("enrolled", by=(first,), key=lost)
        instances.get("enrolled", by=(first, lost))


ALTERED = {
    "held_until": "UPDATE owner SET held_until = held_until + 1",
    "not_after": "UPDATE owner SET not_after = not_after - 1",
    "last key": "UPDATE owner SET spki_sha256 = zeroblob(32)",
    "token's time": "DROP TRIGGER enrolment_once; UPDATE enrolment SET expires = expires + 1",
    "spent token": "DROP TRIGGER enrolment_once; UPDATE enrolment SET spent = NULL",
    "no holder": "DELETE FROM owner",
    "another's row": "UPDATE owner SET mac = zeroblob(32)",
}


@pytest.mark.parametrize("name", ALTERED)
def test_tables_that_were_altered_on_disk_are_no_authority_s(instances: Instances, name: str) -> None:
    claim(instances, "enrolled")
    issuer = instances.issuer
    Issuer(issuer.authority, Names())
    issuer.authority.ledger._connection.executescript(ALTERED[name])
    with pytest.raises(ConfigurationError) as caught:
        Issuer(issuer.authority, Names())
    assert caught.value.code is Code.AUTHORITY_STATE


class TestTokens:
    """What operators hand out."""

    def test_the_secret_is_in_no_table(self, instances: Instances) -> None:
        token = instances.token()
        assert token.secret.hex() not in "\n".join(instances.issuer.authority.ledger._connection.iterdump()).lower()
        assert token.secret.hex() not in repr(token)

    def test_tokens_outlive_a_restart(self, instances: Instances) -> None:
        token = instances.token()
        issuer = instances.issuer
        instances.issuer = Issuer(issuer.authority, Names())
        instances.get("enrolled", token=token)

    def test_there_are_not_too_many_of_them(self, instances: Instances) -> None:
        for _ in range(OPEN_TOKENS_MAX):
            instances.token(seconds=60)
        with pytest.raises(UnavailableError) as caught:
            instances.token()
        assert caught.value.code is Code.LIMITS_EXHAUSTED
        instances.world.clock.move(seconds=60)
        instances.token()
        assert len(instances.issuer.owners.tokens()) == OPEN_TOKENS_MAX + 1
        instances.world.clock.move(seconds=TOKEN_MEMORY + 1)
        instances.token()
        assert len(instances.issuer.owners.tokens()) == 2

    def test_a_release_names_its_holder(self, instances: Instances) -> None:
        owners = instances.issuer.owners
        with pytest.raises(RefusedError) as caught:
            owners.release("enrolled")
        assert caught.value.code is Code.OWNER_UNHELD
        claim(instances, "enrolled")
        with pytest.raises(RefusedError) as caught:
            owners.release("enrolled", bytes(32))
        assert caught.value.code is Code.OWNER_UNHELD
        (held,) = owners.holders()
        assert owners.release("enrolled", held.holder) == held


class TestDenied:
    """`[deny]` of a later policy: a key or certificate that it names holds nothing any more."""

    @staticmethod
    def deny(instances: Instances, version: int, line: str) -> None:
        text = f"{policy_text(version=version)}[deny]\n{line}\n"
        assert instances.issuer.authority.reload_policy(parse_policy(text, Path()))

    @pytest.mark.parametrize("entry", LINEAGES)
    def test_a_denied_key_renews_nothing(self, instances: Instances, entry: str) -> None:
        key = claim(instances, entry)
        self.deny(instances, 2, f'spkis = ["{"5b" * 32}"]')
        key = instances.get(entry, by=(key,))
        self.deny(instances, 3, f'spkis = ["{spki_sha256(spki_of(key.public_key())).hex()}"]')
        assert instances.refused(entry, by=(key,)) == Code.DENY_SPKI

    @pytest.mark.parametrize("entry", LINEAGES)
    def test_a_denied_certificate_renews_nothing(self, instances: Instances, entry: str) -> None:
        key = claim(instances, entry)
        self.deny(instances, 2, f'serials = ["{"5e" * 20}"]')
        key = instances.get(entry, by=(key,))
        (live,) = instances.issuer.authority.ledger.live_of_key(spki_sha256(spki_of(key.public_key())), instances.now)
        self.deny(instances, 3, f'serials = ["{live.serial.hex()}"]')
        assert instances.refused(entry, by=(key,)) == Code.DENY_SERIAL

    def test_a_denied_key_is_certified_for_nobody(self, instances: Instances) -> None:
        key = claim(instances, "chips")
        self.deny(instances, 2, f'spkis = ["{spki_sha256(spki_of(key.public_key())).hex()}"]')
        assert instances.refused("chips", key=key) == Code.DENY_SPKI
        # The machine holds the names of `chip_ids`, not the key: with a new one it goes on.
        instances.get("chips")
