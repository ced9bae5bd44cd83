"""What is issued, what is refused, and that nothing but the decision goes into a certificate."""

import hashlib
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from proxy_attestation import __version__
from proxy_attestation.appraisal.endorsements import Floor
from proxy_attestation.authority.issue import Issuer
from proxy_attestation.authority.keys import SoftwareSigner
from proxy_attestation.authority.messages import Issued, IssueOrder, TokenKey
from proxy_attestation.authority.token import make_token
from proxy_attestation.codes import Code
from proxy_attestation.errors import (
    AppraisalError,
    FormatError,
    InternalError,
    PolicyError,
    ProxyAttestationError,
    RequestError,
    UnavailableError,
)
from proxy_attestation.formats.csr import ID_PE_CMW, spki_of
from proxy_attestation.formats.ear import decode_claims_set, decode_extension
from proxy_attestation.formats.ledger_entry import EntryKind, decode_entry, names_digest
from proxy_attestation.formats.request import ApplicationKind, KeyOrigin, RuntimeClaims, names_from
from proxy_attestation.formats.tee import Tee

NOW = datetime(2026, 11, 24, 12, 0, 0, tzinfo=UTC)
SECONDS = int(NOW.timestamp())
Issue = Callable[[IssueOrder], Issued]


def sha256(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()


def tbs_of(certificate: bytes) -> bytes:
    return x509.load_der_x509_certificate(certificate).tbs_certificate_bytes


def refusal(issuer: Issuer, order: IssueOrder) -> ProxyAttestationError:
    """The error that an order gets, having checked that it left no trace."""
    before = issuer.authority.ledger.size()
    (outcome,) = issuer.issue_batch([order])
    assert isinstance(outcome, ProxyAttestationError)
    assert issuer.authority.ledger.size() == before
    return outcome


def test_the_claims_are_the_decision_s_and_the_appraisal_s(issuer: Issuer, world: Any, issue: Issue) -> None:
    info = issuer.hello()
    order = world.order(info)
    issued = issue(order)
    leaf = x509.load_der_x509_certificate(issued.chain[0])
    extension = leaf.extensions.get_extension_for_oid(ID_PE_CMW).value
    assert isinstance(extension, x509.UnrecognizedExtension)
    claims = decode_extension(extension.value)
    assert claims == decode_claims_set(issued.claims_set)
    assert (claims.issued_at, claims.expires_at) == (SECONDS, issued.not_after)
    assert claims.build == __version__
    assert (claims.tee, claims.status, claims.debug) == (Tee.SGX, 2, False)
    assert claims.policy_digest == info.policy_digest
    assert claims.spki == world.spki
    assert claims.anchor == order.claims.anchor
    assert claims.key_origin is KeyOrigin.TEE
    assert (claims.signer, claims.product_id, claims.svn) == (b"\x51" * 32, 3, 4)
    assert dict(claims.measurements)["mr_enclave"] == b"\xe1" * 32
    assert (claims.tcb_status, claims.tcb_evaluation_number, claims.advisories) == ("UpToDate", 18, ())
    assert claims.tcb_date == int(datetime(2026, 8, 13, tzinfo=UTC).timestamp())
    assert claims.application_sha256 == sha256(b"application")
    assert claims.owner == "shared"
    assert claims.evidence_sha256 == order.claims.evidence_sha256
    assert claims.ledger_origin == f"example.org/issuance/{issuer.authority.root.ca_id.hex()[:16]}"
    assert claims.simulated


def test_no_chip_and_no_quote_are_in_the_leaf(issuer: Issuer, world: Any, issue: Issue) -> None:
    order = world.order(issuer.hello())
    leaf = issue(order).chain[0]
    for secret in (order.claims.instance_id, order.claims.tcb.fmspc, order.claims.body.cpu_svn):
        assert secret not in leaf


def test_the_entry_is_that_of_the_certificate(issuer: Issuer, world: Any, issue: Issue) -> None:
    info = issuer.hello()
    order = world.order(info)
    issued = issue(order)
    encoded = issuer.authority.ledger.entry(issued.index)
    assert encoded is not None
    entry = decode_entry(encoded)
    leaf = x509.load_der_x509_certificate(issued.chain[0])
    assert entry.kind is EntryKind.LEAF
    assert entry.issuer_spki_sha256 == info.ca_id
    assert entry.serial == leaf.serial_number.to_bytes(20, "big")
    assert entry.tbs_sha256 == sha256(leaf.tbs_certificate_bytes)
    assert entry.not_before == int(leaf.not_valid_before_utc.timestamp()) == issued.not_before
    assert entry.not_after == int(leaf.not_valid_after_utc.timestamp()) == issued.not_after
    assert entry.spki_sha256 == sha256(world.spki)
    assert (entry.tee, entry.status, entry.tcb_evaluation_number) == ("sgx", 2, 18)
    assert entry.evidence_sha256 == order.claims.evidence_sha256
    assert entry.policy_digest == info.policy_digest
    assert entry.measurements == (b"\xe1" * 32,)
    names = names_from(("app.example.org",), ("192.0.2.7",), ("spiffe://example.org/example-app",))
    assert entry.names_sha256 == names_digest(names)
    assert entry.claims_sha256 == sha256(issued.claims_set)
    assert entry.request_sha256 == sha256(order.request)


def test_a_tdx_workload_gets_its_certificate(issuer: Issuer, world: Any, issue: Issue) -> None:
    issued = issue(world.order(issuer.hello(), request=world.td_request()))
    claims = decode_claims_set(issued.claims_set)
    assert (claims.tee, claims.signer, claims.product_id, claims.svn) == (Tee.TDX, None, None, None)
    assert dict(claims.measurements)["rtmr3"] == b"\x03" * 48
    assert claims.application_sha256 is None


def test_a_debug_enclave_is_shown_as_one_where_the_policy_takes_it(issuer: Issuer, world: Any, issue: Issue) -> None:
    order = world.order(issuer.hello(), request=world.debug_request(), claims=world.debug_claims())
    claims = decode_claims_set(issue(order).claims_set)
    assert (claims.debug, claims.status) == (True, 96)


def test_a_warning_is_shown(issuer: Issuer, world: Any, issue: Issue) -> None:
    claims = world.claims()
    tcb = replace(claims.tcb, status="SWHardeningNeeded", advisories=("INTEL-SA-00615",))
    shown = decode_claims_set(issue(world.order(issuer.hello(), claims=replace(claims, tcb=tcb))).claims_set)
    assert (shown.status, shown.tcb_status, shown.advisories) == (32, "SWHardeningNeeded", ("INTEL-SA-00615",))


def test_only_what_was_asked_for_and_is_granted_is_named(issuer: Issuer, world: Any, issue: Issue) -> None:
    request = world.request(names=names_from(("other.example.org",)))
    leaf = x509.load_der_x509_certificate(issue(world.order(issuer.hello(), request=request)).chain[0])
    names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["other.example.org"]
    assert names.get_values_for_type(x509.IPAddress) == []
    assert names.get_values_for_type(x509.UniformResourceIdentifier) == ["spiffe://example.org/example-app"]


class TestLife:
    """notAfter is the least of everything, and what would be too short is not issued."""

    def end(self, issued: Issued) -> timedelta:
        return datetime.fromtimestamp(issued.not_after, UTC) - NOW

    def test_the_request_bounds_it(self, issuer: Issuer, world: Any, issue: Issue) -> None:
        order = world.order(issuer.hello(), request=world.request(lifetime=1800))
        assert self.end(issue(order)) == timedelta(seconds=1800)

    def test_24_hours_in_all_bound_it(self, issuer: Issuer, world: Any, issue: Issue) -> None:
        issued = issue(world.order(issuer.hello(), request=world.request(lifetime=366 * 86400)))
        assert issued.not_after - issued.not_before == 24 * 3600

    def test_the_collateral_bounds_it(self, issuer: Issuer, world: Any, issue: Issue) -> None:
        claims = world.claims(valid_until=NOW + timedelta(seconds=2000, microseconds=999))
        assert self.end(issue(world.order(issuer.hello(), claims=claims))) == timedelta(seconds=2000)

    def test_the_issuing_ca_bounds_it(self, issuer: Issuer, world: Any, issue: Issue) -> None:
        ca = issuer.authority.active.ca
        world.clock.now = datetime.fromtimestamp(ca.not_after - 1000, UTC)
        # Nobody has rotated: the last hours of a CA that should long have been replaced.
        issuer.authority.token_keys = (
            TokenKey(b"fresh"[:4], b"\x01" * 32, ca.not_after + 3600),
            *issuer.authority.token_keys,
        )
        issued = issue(world.order(issuer.hello()))
        assert issued.not_after == ca.not_after

    def test_it_does_not_begin_before_its_issuer(self, issuer: Issuer, world: Any, issue: Issue, clock: Any) -> None:
        issued = issue(world.order(issuer.hello()))
        assert issued.not_before == SECONDS - 60 == issuer.authority.active.ca.not_before
        clock.move(seconds=30)
        assert issue(world.order(issuer.hello())).not_before == SECONDS - 30

    @pytest.mark.parametrize(("left", "fine"), [(900, True), (899, False), (0, False), (-5, False)])
    def test_what_would_be_too_short_is_unavailable(
        self, issuer: Issuer, world: Any, issue: Issue, left: int, fine: bool
    ) -> None:
        order = world.order(issuer.hello(), claims=world.claims(valid_until=NOW + timedelta(seconds=left)))
        if fine:
            assert self.end(issue(order)) == timedelta(seconds=left)
        else:
            error = refusal(issuer, order)
            assert isinstance(error, UnavailableError)
            assert error.code is Code.AUTHORITY_LIFETIME

    def test_a_request_for_less_is_unavailable(self, issuer: Issuer, world: Any) -> None:
        error = refusal(issuer, world.order(issuer.hello(), request=world.request(lifetime=899)))
        assert error.code is Code.AUTHORITY_LIFETIME


class TestRefusals:
    """Each order is wrong in exactly one thing."""

    @pytest.mark.parametrize(
        ("change", "kind", "code"),
        [
            ("no token", RequestError, Code.CHALLENGE_INVALID),
            ("a forged token", RequestError, Code.CHALLENGE_INVALID),
            ("another CA", RequestError, Code.CHALLENGE_CA),
            ("no request", FormatError, Code.REQUEST_MALFORMED),
            ("a trailing byte", FormatError, Code.REQUEST_MALFORMED),
            ("no key", RequestError, Code.CSR_KEY),
            ("another policy", UnavailableError, Code.POLICY_STALE),
            ("another key", RequestError, Code.BINDER_MISMATCH),
            ("another request", RequestError, Code.BINDER_MISMATCH),
            ("no report data", RequestError, Code.BINDER_MISMATCH),
            ("another anchor", AppraisalError, Code.SGX_ROOT),
            ("older collateral", UnavailableError, Code.ENDORSEMENTS_UNAVAILABLE),
            ("newer collateral", UnavailableError, Code.ENDORSEMENTS_UNAVAILABLE),
            ("an unknown platform", UnavailableError, Code.ENDORSEMENTS_UNAVAILABLE),
        ],
    )
    def test_each_wrong_thing(
        self, issuer: Issuer, world: Any, change: str, kind: type[ProxyAttestationError], code: Code
    ) -> None:
        info = issuer.hello()
        good = world.order(info)
        longer = world.order(info, request=world.request(lifetime=3601)).request
        floor = good.collateral_floor
        other = spki_of(ec.generate_private_key(ec.SECP256R1()).public_key())
        unknown = replace(good.claims.tcb, fmspc=b"\xff" * 6)
        changed = {
            "no token": lambda: replace(good, token=b""),
            "a forged token": lambda: replace(good, token=good.token[:-1] + bytes((good.token[-1] ^ 1,))),
            "another CA": lambda: world.order(replace(info, ca_id=b"\xca" * 32)),
            "no request": lambda: replace(good, request=b""),
            "a trailing byte": lambda: replace(good, request=good.request + b"\0"),
            "no key": lambda: world.order(info, spki=b"no key"),
            "another policy": lambda: replace(good, policy_digest=bytes(32)),
            "another key": lambda: replace(good, spki=other),
            "another request": lambda: replace(good, request=longer),
            "no report data": lambda: replace(good, claims=replace(good.claims, bound=(bytes(64),))),
            "another anchor": lambda: world.order(info, claims=world.claims(anchor=b"\xbb" * 32)),
            "older collateral": lambda: replace(good, collateral_floor=replace(floor, pck_crl_number=4)),
            "newer collateral": lambda: replace(good, collateral_floor=replace(floor, pck_crl_number=6)),
            "an unknown platform": lambda: world.order(info, claims=world.claims(tcb=unknown)),
        }[change]()  # fmt: skip
        error = refusal(issuer, changed)
        assert type(error) is kind
        assert error.code is code

    def test_an_expired_challenge(self, issuer: Issuer, world: Any, clock: Any) -> None:
        order = world.order(issuer.hello())
        clock.move(seconds=120)
        assert refusal(issuer, order).code is Code.CHALLENGE_EXPIRED

    @pytest.mark.parametrize("which", ["token", "request", "claims"])
    def test_one_tee_throughout(self, issuer: Issuer, world: Any, which: str) -> None:
        info = issuer.hello()
        order = {
            "token": lambda: world.order(info, token=world.token(info, tee=Tee.TDX)),
            "request": lambda: world.order(info, request=world.td_request(), token=world.token(info),
                                           claims=world.claims()),
            "claims": lambda: world.order(info, claims=world.td_claims()),
        }[which]()  # fmt: skip
        error = refusal(issuer, order)
        assert isinstance(error, RequestError)
        assert error.code is Code.REQUEST_TEE

    def test_the_policy_s_every_mismatch(self, issuer: Issuer, world: Any) -> None:
        info = issuer.hello()
        body = replace(world.claims().body, mr_enclave=b"\xff" * 32)
        runtime = RuntimeClaims(ApplicationKind.WASM, b"\x01" * 32, KeyOrigin.SOFTWARE)
        request = world.request(names=names_from(("evil.example.org",)), runtime=runtime)
        error = refusal(issuer, world.order(info, request=request, claims=world.claims(body)))
        assert isinstance(error, PolicyError)
        assert [mismatch.code for mismatch in error.mismatches] == [
            Code.POLICY_MEASUREMENT,
            Code.POLICY_APPLICATION,
            Code.POLICY_KEY_ORIGIN,
            Code.POLICY_NAME,
        ]

    @pytest.mark.parametrize(
        "uri", ["spiffe://example.org/proxy-attestation/server", "spiffe://example.org/td-app", "spiffe://evil.com/a"]
    )
    def test_nobody_gets_the_id_of_another(self, issuer: Issuer, world: Any, uri: str) -> None:
        request = world.request(names=names_from((), (), (uri,)))
        assert refusal(issuer, world.order(issuer.hello(), request=request)).code is Code.POLICY_NAME

    def test_a_clock_that_went_back(self, issuer: Issuer, world: Any, issue: Issue, clock: Any) -> None:
        clock.move(hours=2)
        issue(world.order(issuer.hello()))
        clock.move(seconds=-61)
        error = refusal(issuer, world.order(issuer.hello()))
        assert isinstance(error, UnavailableError)
        assert error.code is Code.AUTHORITY_CLOCK
        clock.move(seconds=1)
        issue(world.order(issuer.hello()))

    def test_claims_that_do_not_fit_the_leaf(self, issuer: Issuer, world: Any) -> None:
        issuer.authority.policy = replace(
            issuer.authority.policy,
            workloads={
                "example-app": replace(
                    issuer.authority.policy.workloads["example-app"],
                    advisories=tuple(f"INTEL-SA-{number:05}-{'x' * 15}" for number in range(60)),
                )
            },
        )
        claims = world.claims()
        advisories = issuer.authority.policy.workloads["example-app"].advisories
        order = world.order(issuer.hello(), claims=replace(claims, tcb=replace(claims.tcb, advisories=advisories)))
        error = refusal(issuer, order)
        assert isinstance(error, UnavailableError)
        assert error.code is Code.AUTHORITY_PROFILE


class TestSessions:
    """A session gets one certificate, as often as it asks."""

    def test_the_same_call_gets_the_same_certificate(
        self, issuer: Issuer, world: Any, issue: Issue, clock: Any
    ) -> None:
        order = world.order(issuer.hello())
        first = issue(order)
        clock.move(seconds=119)
        assert issue(order) == first
        clock.move(seconds=1)
        assert refusal(issuer, order).code is Code.CHALLENGE_EXPIRED

    def test_even_after_the_policy_and_the_collateral_changed(self, issuer: Issuer, world: Any, issue: Issue) -> None:
        order = world.order(issuer.hello())
        first = issue(order)
        newer = replace(order.collateral_floor, pck_crl_number=6)
        issuer.authority.raise_floor(Tee.SGX, order.claims.tcb.fmspc, newer)
        again = issue(order)
        assert (again.chain, again.index) == (first.chain, first.index)
        assert again.generation > first.generation

    def test_fresh_evidence_for_the_same_call_gets_it_too(self, issuer: Issuer, world: Any, issue: Issue) -> None:
        order = world.order(issuer.hello())
        first = issue(order)
        fresh = replace(order, claims=replace(order.claims, evidence_sha256=b"\x0f" * 32))
        assert issue(fresh) == first

    @pytest.mark.parametrize("what", ["key", "request"])
    def test_anything_else_is_spent(self, issuer: Issuer, world: Any, issue: Issue, what: str) -> None:
        info = issuer.hello()
        order = world.order(info)
        issue(order)
        other = spki_of(ec.generate_private_key(ec.SECP256R1()).public_key())
        changed = (
            world.order(info, token=order.token, spki=other)
            if what == "key"
            else world.order(info, token=order.token, request=world.request(lifetime=3601))
        )
        error = refusal(issuer, changed)
        assert isinstance(error, RequestError)
        assert error.code is Code.CHALLENGE_SPENT

    def test_a_refused_call_spends_nothing(self, issuer: Issuer, world: Any, issue: Issue) -> None:
        info = issuer.hello()
        token = world.token(info)
        bad = world.order(info, token=token, request=world.request(names=names_from(("evil.example.org",))))
        assert refusal(issuer, bad).code is Code.POLICY_NAME
        issue(world.order(info, token=token))

    def test_the_same_bytes_are_signed_again_by_an_authority_that_was_opened_anew(
        self, make_state: Any, world: Any, clock: Any, vendor_root: bytes
    ) -> None:
        from proxy_attestation.authority import state as layout  # noqa: PLC0415 - only this test opens directories

        anchor = layout.read_anchor(vendor_root, "test")[1]
        state = make_state()
        first = Issuer(layout.open_authority(state, clock), names_from())
        first.authority.raise_floor(Tee.SGX, world.claims().tcb.fmspc, Floor(18, 1_795_000_000, 5, 7))
        order = world.order(first.hello(), claims=world.claims(anchor=anchor))
        (before,) = first.issue_batch([order])
        first.authority.ledger.close()
        second = Issuer(layout.open_authority(state, clock), names_from())
        (after,) = second.issue_batch([order])
        second.authority.ledger.close()
        assert isinstance(before, Issued)
        assert isinstance(after, Issued)
        assert (before.chain, before.index) == (after.chain, after.index)


class TestBatches:
    """Orders of one batch share a commit and nothing else."""

    def test_indexes_are_in_the_order_of_the_orders(self, issuer: Issuer, world: Any) -> None:
        info = issuer.hello()
        first = issuer.authority.ledger.size()
        outcomes = issuer.issue_batch([world.order(info) for _ in range(40)])
        assert [outcome.index for outcome in outcomes if isinstance(outcome, Issued)] == list(range(first, first + 40))

    def test_serials_differ(self, issuer: Issuer, world: Any) -> None:
        info = issuer.hello()
        outcomes = issuer.issue_batch([world.order(info) for _ in range(40)])
        leaves = [
            x509.load_der_x509_certificate(outcome.chain[0]) for outcome in outcomes if isinstance(outcome, Issued)
        ]
        assert len({leaf.serial_number for leaf in leaves}) == 40

    def test_a_refused_order_harms_no_other(self, issuer: Issuer, world: Any) -> None:
        info = issuer.hello()
        good, other = world.order(info), world.order(info)
        outcomes = issuer.issue_batch([good, replace(good, token=b""), other, replace(other, spki=b"")])
        assert [type(outcome) for outcome in outcomes] == [Issued, RequestError, Issued, RequestError]

    def test_a_bug_in_one_harms_no_other(self, issuer: Issuer, world: Any) -> None:
        info = issuer.hello()
        broken = replace(world.order(info), claims=None)
        outcomes = issuer.issue_batch([world.order(info), broken, world.order(info)])
        assert [type(outcome) for outcome in outcomes] == [Issued, InternalError, Issued]

    def test_one_session_twice_in_a_batch(self, issuer: Issuer, world: Any) -> None:
        info = issuer.hello()
        order = world.order(info)
        spent = world.order(info, token=order.token, request=world.request(lifetime=3601))
        size = issuer.authority.ledger.size()
        first, again, other = issuer.issue_batch([order, order, spent])
        assert isinstance(first, Issued)
        assert again == first
        assert isinstance(other, RequestError)
        assert other.code is Code.CHALLENGE_SPENT
        assert issuer.authority.ledger.size() == size + 1

    def test_an_empty_batch(self, issuer: Issuer) -> None:
        assert issuer.issue_batch([]) == []

    def test_a_ledger_that_cannot_be_written_issues_nothing(self, issuer: Issuer, world: Any) -> None:
        info = issuer.hello()
        orders = [world.order(info) for _ in range(3)]
        done = issuer.issue_batch(orders[:1])
        connection = issuer.authority.ledger._connection
        connection.execute("PRAGMA query_only = ON")
        outcomes = issuer.issue_batch(orders)
        connection.execute("PRAGMA query_only = OFF")
        # What stands in the ledger is answered; the rest is unavailable, and can be had later under the same session.
        assert outcomes[0] == done[0]
        codes = [outcome.code for outcome in outcomes[1:] if isinstance(outcome, UnavailableError)]
        assert codes == [Code.AUTHORITY_UNAVAILABLE] * 2
        assert all(isinstance(outcome, Issued) for outcome in issuer.issue_batch(orders))

    def test_an_entry_that_the_schema_refuses_harms_no_other(
        self, issuer: Issuer, world: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        info = issuer.hello()
        orders = [world.order(info) for _ in range(3)]
        build = Issuer._row

        def broken(self: Issuer, *arguments: Any, **said: Any) -> Any:
            row = build(self, *arguments, **said)
            return row._replace(session_id=b"short") if row.session_id == orders[1].token[5:21] else row

        monkeypatch.setattr(Issuer, "_row", broken)
        outcomes = issuer.issue_batch(orders)
        assert [type(outcome) for outcome in outcomes] == [Issued, InternalError, Issued]
        indexes = [outcome.index for outcome in outcomes if isinstance(outcome, Issued)]
        assert indexes == [issuer.authority.ledger.size() - 2, issuer.authority.ledger.size() - 1]


class TestOwnLeaf:
    """The proxy's own TLS certificate."""

    def test_its_entry(self, issuer: Issuer, world: Any) -> None:
        chain = issuer.tls_leaf(world.spki)
        encoded = issuer.authority.ledger.entry(issuer.authority.ledger.size() - 1)
        assert encoded is not None
        entry = decode_entry(encoded)
        assert entry.kind is EntryKind.PROXY_TLS
        assert entry.tbs_sha256 == sha256(tbs_of(chain[0]))
        assert entry.policy_digest == issuer.hello().policy_digest
        own = names_from(
            ("proxy.example.org",), ("127.0.0.1", "::1"), ("spiffe://example.org/proxy-attestation/server",)
        )
        assert entry.names_sha256 == names_digest(own)

    def test_another_kind_of_key_is_refused(self, issuer: Issuer) -> None:
        with pytest.raises(RequestError) as caught:
            issuer.tls_leaf(spki_of(ec.generate_private_key(ec.SECP521R1()).public_key()))
        assert caught.value.code is Code.CSR_KEY


def test_a_token_of_a_worker_that_lies_about_its_life_is_refused(issuer: Issuer, world: Any) -> None:
    info = issuer.hello()
    forged = make_token(
        info.token_keys[0], session_id=b"\x01" * 16, tee=Tee.SGX, ca_id=info.ca_id, expires_at=SECONDS + 121
    )
    assert refusal(issuer, world.order(info, token=forged)).code is Code.CHALLENGE_INVALID


def test_keys_that_do_not_answer_leave_the_entry_and_the_session(
    issuer: Issuer, world: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(*_: object) -> bytes:
        raise UnavailableError(Code.KEYS_UNAVAILABLE)

    order = world.order(issuer.hello())
    with monkeypatch.context() as patch:
        patch.setattr(SoftwareSigner, "sign", away)
        (refused,) = issuer.issue_batch([order])
    assert isinstance(refused, UnavailableError)
    assert refused.code is Code.KEYS_UNAVAILABLE
    size = issuer.authority.ledger.size()

    (issued,) = issuer.issue_batch([order])

    assert isinstance(issued, Issued)
    assert (issued.index, issuer.authority.ledger.size()) == (size - 1, size)


def _ending(issuer: Issuer, world: Any, end: int) -> IssueOrder:
    """An order for an entry whose reference values have an end."""
    policy = issuer.authority.policy
    entries = {name: replace(entry, not_after=end) for name, entry in policy.workloads.items()}
    issuer.authority.reload_policy(replace(policy, version=policy.version + 1, workloads=entries))
    order: IssueOrder = world.order(issuer.hello())
    return order


def test_no_certificate_outlives_the_reference_values(issuer: Issuer, world: Any, issue: Issue) -> None:
    assert issue(_ending(issuer, world, SECONDS + 1800)).not_after == SECONDS + 1800


def test_reference_values_that_have_ended_accept_nothing(issuer: Issuer, world: Any) -> None:
    assert refusal(issuer, _ending(issuer, world, SECONDS)).code is Code.REFERENCE_EXPIRED
