"""One root follows another: chains serve those who trust either, and three programs say so."""

import ssl
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.x509 import verification

from proxy_attestation.authority import cas, profile
from proxy_attestation.authority.authority import Authority
from proxy_attestation.authority.init import memory_issuer
from proxy_attestation.authority.issue import Issuer
from proxy_attestation.authority.life_operations import CA_LIST, CA_ROTATE, CA_SUCCEED, No, Rotate, Succeed
from proxy_attestation.authority.messages import Issued
from proxy_attestation.codes import Code
from proxy_attestation.errors import ConfigurationError, PeerError, RefusedError
from proxy_attestation.formats.request import names_from
from proxy_attestation.relying_party.path import load_roots, verify_path
from proxy_attestation.relying_party.root_info import successors_of

DNS = "app.example.org"
DAY = 24 * 3600


@pytest.fixture
def authority(issuer: Issuer) -> Authority:
    return issuer.authority


@pytest.fixture
def reopen(authority: Authority, clock: Any) -> Callable[..., Authority]:
    def again(**changes: Any) -> Authority:
        parts: dict[str, Any] = {"settings": authority.settings, "keys": authority._keys, "ledger": authority.ledger}
        return Authority(**(parts | changes), policy=authority.policy, clock=clock)

    return again


def chain_of(issuer: Issuer, world: Any) -> tuple[bytes, ...]:
    (issued,) = issuer.issue_batch([world.order(issuer.hello())])
    assert isinstance(issued, Issued)
    return issued.chain


def ours(chain: Sequence[bytes], root: bytes, now: datetime) -> bool:
    try:
        return verify_path(chain, load_roots([root]), now, server_name=DNS).root == root
    except PeerError:
        return False


def cryptographys(chain: Sequence[bytes], root: bytes, now: datetime) -> bool:
    leaf, *above = [x509.load_der_x509_certificate(der) for der in chain]
    store = verification.Store([x509.load_der_x509_certificate(root)])
    verifier = verification.PolicyBuilder().store(store).time(now).build_server_verifier(x509.DNSName(DNS))
    try:
        verifier.verify(leaf, above)
    except verification.VerificationError:
        return False
    return True


def openssls(directory: Path) -> Callable[[Sequence[bytes], bytes, datetime], bool]:
    def verify(chain: Sequence[bytes], root: bytes, now: datetime) -> bool:
        leaf, above, trusted = directory / "leaf.pem", directory / "above.pem", directory / "root.pem"
        leaf.write_text(ssl.DER_cert_to_PEM_cert(chain[0]))
        above.write_text("".join(map(ssl.DER_cert_to_PEM_cert, chain[1:])))
        trusted.write_text(ssl.DER_cert_to_PEM_cert(root))
        command = ["openssl", "verify", "-x509_strict", "-attime", str(int(now.timestamp())), "-verify_hostname", DNS]
        command += ["-purpose", "sslserver", "-CAfile", str(trusted), "-untrusted", str(above), str(leaf)]
        return subprocess.run(command, capture_output=True, check=False).returncode == 0

    return verify


def test_a_chain_serves_whoever_trusts_either_root(
    issuer: Issuer, authority: Authority, world: Any, clock: Any, tmp_path: Path
) -> None:
    verifiers = [ours, cryptographys, openssls(tmp_path)]

    def accepted(chain: Sequence[bytes], *roots: bytes) -> list[list[bool]]:
        return [[verify(chain, root, clock()) for verify in verifiers] for root in roots]

    good = [True, True, True]
    g1 = issuer.hello().roots[0]
    alone = chain_of(issuer, world)
    assert (len(alone), accepted(alone, g1)) == (2, [good])
    clock.move(days=500)
    authority.maintain()
    CA_SUCCEED.run(issuer, Succeed(activate=False))
    info = issuer.hello()
    g2 = info.roots[1]
    assert (info.roots[0], len(info.cross)) == (g1, 2)
    # Prepared: the old root signs, and its key is certified by the new one.
    before = chain_of(issuer, world)
    assert (len(before), accepted(before, g1, g2)) == (3, [good, good])
    # Active: the issuing CA that was there goes on, the next is the new root's.
    CA_SUCCEED.run(issuer, Succeed(activate=True))
    assert chain_of(issuer, world)[1:] == before[1:]
    CA_ROTATE.run(issuer, Rotate(now=True))
    after = chain_of(issuer, world)
    assert after[1] != before[1]
    assert (len(after), accepted(after, g1, g2)) == (3, [good, good])
    # What was answered before is still good for both; without the certificate between it is not.
    assert accepted(before, g1, g2) == [good, good]
    assert accepted(after[:2], g1) == accepted(before[:2], g2) == [[False] * 3]
    # The proxy's own chain has it too.
    assert issuer.tls_leaf(world.spki)[1:] == after[1:]
    # When the old root has expired, nothing leads to it any more.
    clock.now = datetime.fromtimestamp(authority.root.not_after - 30 * DAY, UTC)
    authority.maintain()
    clock.now = datetime.fromtimestamp(authority.root.not_after, UTC)
    authority.maintain()
    last, info = authority.active.above, issuer.hello()
    assert (len(last), info.roots, info.cross) == (1, (g2,), ())


def test_what_the_certificates_say(issuer: Issuer) -> None:
    CA_SUCCEED.run(issuer, Succeed(activate=False))
    info = issuer.hello()
    (g1, g2), (forward, back) = (
        [x509.load_der_x509_certificate(der) for der in some] for some in (info.roots, info.cross)
    )
    assert "Root G1" in g1.subject.rfc4514_string()
    assert "Root G2" in g2.subject.rfc4514_string()
    assert (forward.subject, forward.issuer, back.subject, back.issuer) == (
        g2.subject,
        g1.subject,
        g1.subject,
        g2.subject,
    )
    assert forward.public_key() == g2.public_key()
    assert back.public_key() == g1.public_key()
    constraints = g1.extensions.get_extension_for_class(x509.NameConstraints)
    for certificate, length in ((g2, 2), (forward, 1), (back, 1)):
        basic = certificate.extensions.get_extension_for_class(x509.BasicConstraints)
        assert (basic.critical, basic.value.ca, basic.value.path_length) == (True, True, length)
        found = certificate.extensions.get_extension_for_class(x509.NameConstraints)
        assert (found.critical, found.value) == (True, constraints.value)
    for certificate, subject, issued_by in ((forward, g2, g1), (back, g1, g2)):
        identifier = certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
        assert identifier == subject.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
        above = certificate.extensions.get_extension_for_class(x509.AuthorityKeyIdentifier).value.key_identifier
        assert above == issued_by.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value.digest
        assert certificate.not_valid_after_utc == g1.not_valid_after_utc
    assert g2.not_valid_after_utc - g2.not_valid_before_utc == timedelta(seconds=profile.ROOT_LIFETIME)


def test_names_outside_the_constraints_are_refused_on_each_way(
    issuer: Issuer, authority: Authority, clock: Any
) -> None:
    """A stolen issuing key names what it likes: neither root's clients take it."""
    CA_SUCCEED.run(issuer, Succeed(activate=False))
    roots, active = issuer.hello().roots, authority.active
    tbs = profile.leaf_tbs(
        serial=b"\1" * 20,
        issuer=active.ca.name,
        authority_key_id=active.ca.key_id,
        validity=(active.ca.not_before, active.ca.not_before + DAY),
        spki=active.ca.spki,
        names=names_from(("evil.example.com",)),
        extension=None,
    )
    assert active.signer is not None
    leaf = profile.assemble(tbs, active.signer.sign(tbs))
    for root in roots:
        with pytest.raises(PeerError) as caught:
            verify_path((leaf, *active.above), load_roots([root]), clock(), server_name="evil.example.com")
        assert caught.value.code is Code.PEER_CHAIN


def test_a_client_follows_the_root_that_it_trusts_by_its_signature_alone(
    issuer: Issuer, authority: Authority, clock: Any
) -> None:
    clock.move(days=100)
    authority.maintain()
    CA_SUCCEED.run(issuer, Succeed(activate=False))
    info = issuer.hello()
    g1, g2 = info.roots
    forward, back = info.cross
    assert successors_of(g1, info.roots, info.cross) == (g2,)
    # The other way round it is the past that is certified.
    assert successors_of(g2, info.roots, info.cross) == ()
    for cross in ((), (back,), (g2,), (g1,), (authority.active.ca.certificate,), (b"junk",)):
        assert successors_of(g1, info.roots, cross) == ()
    # Another root of the same name, for which that signature was not made.
    other = memory_like(issuer, clock)
    assert successors_of(g1, other.hello().roots, (forward,)) == ()
    assert successors_of(other.hello().roots[0], info.roots, info.cross) == ()


def memory_like(issuer: Issuer, clock: Any) -> Issuer:
    settings = issuer.authority.settings
    made = memory_issuer(issuer.authority.policy, dns=settings.dns, anchors=settings.anchors, clock=clock)
    CA_SUCCEED.run(made, Succeed(activate=False))
    return made


def test_origin_and_binding_stay_those_of_the_first_root(
    issuer: Issuer, authority: Authority, reopen: Callable[..., Authority]
) -> None:
    before, origin = authority.root, authority.settings.ledger_origin
    CA_SUCCEED.run(issuer, Succeed(activate=False))
    CA_SUCCEED.run(issuer, Succeed(activate=True))
    again = reopen()
    assert (again.root, again.settings.ledger_origin) == (before, origin)
    assert again.life.root.generation == 2
    with pytest.raises(ConfigurationError) as caught:
        reopen(settings=replace(authority.settings, root_spki_sha256=again.life.root.ca.ca_id))
    assert caught.value.code is Code.AUTHORITY_STATE


def test_the_schedule(issuer: Issuer, authority: Authority, clock: Any) -> None:
    CA_SUCCEED.run(issuer, Succeed(activate=False))
    clock.move(days=30, seconds=-1)
    authority.maintain()
    assert authority.life.root.generation == 1
    clock.move(seconds=1)
    authority.maintain()
    assert authority.life.root.generation == 2
    listed = CA_LIST.run(issuer, No()).cas
    assert [(ca.number, ca.state, ca.key) for ca in listed if ca.root] == [(1, "retired", True), (2, "active", True)]
    clock.move(hours=1)
    authority.maintain()
    listed = CA_LIST.run(issuer, No()).cas
    assert [(ca.number, ca.state, ca.key) for ca in listed if ca.root] == [(1, "retired", False), (2, "active", True)]


def test_there_is_one_successor_at_a_time(issuer: Issuer, authority: Authority, clock: Any) -> None:
    def refused(activate: bool) -> bool:
        with pytest.raises(RefusedError) as caught:
            CA_SUCCEED.run(issuer, Succeed(activate))
        return caught.value.code is Code.AUTHORITY_SUCCESSION

    clock.move(days=500)
    authority.maintain()
    assert refused(activate=True)
    CA_SUCCEED.run(issuer, Succeed(activate=False))
    assert refused(activate=False)
    CA_SUCCEED.run(issuer, Succeed(activate=True))
    assert refused(activate=True)
    assert refused(activate=False)
    clock.now = datetime.fromtimestamp(authority.root.not_after - 30 * DAY, UTC)
    authority.maintain()
    clock.move(days=30)
    assert [ca.number for ca in CA_SUCCEED.run(issuer, Succeed(activate=False)).cas if ca.root] == [2, 3]


def test_a_prepared_root_takes_over_when_the_one_before_ends(
    issuer: Issuer, authority: Authority, clock: Any, reopen: Callable[..., Authority]
) -> None:
    clock.now = datetime.fromtimestamp(authority.root.not_after - DAY, UTC)
    authority.maintain()
    CA_SUCCEED.run(issuer, Succeed(activate=False))
    clock.move(days=2)
    again = reopen()
    assert (again.life.root.generation, again.active.ca.issuer) == (2, again.life.root.ca.name)


def test_a_root_that_does_not_follow_is_refused(
    issuer: Issuer, authority: Authority, reopen: Callable[..., Authority]
) -> None:
    CA_SUCCEED.run(issuer, Succeed(activate=False))
    ((generation, own, forward, back),) = authority.ledger.roots()
    faults = {
        "not certified by the one before": (generation, own, own, back),
        "the other way round": (generation, own, back, forward),
        "not certifying the one before": (generation, own, forward, forward),
        "another generation": (generation + 1, own, forward, back),
        "no certificate": (generation, b"junk", forward, back),
    }
    for fault in faults.values():
        with authority.ledger.transaction():
            authority.ledger._connection.execute("DELETE FROM root")
            authority.ledger.add_root(*fault)
        with pytest.raises(ConfigurationError) as caught:
            reopen()
        assert caught.value.code is Code.AUTHORITY_STATE


def test_another_key_of_the_successor_is_refused(
    issuer: Issuer, authority: Authority, reopen: Callable[..., Authority]
) -> None:
    CA_SUCCEED.run(issuer, Succeed(activate=False))
    authority._keys.make(cas.root_number(2))
    with pytest.raises(ConfigurationError) as caught:
        reopen()
    assert caught.value.code is Code.AUTHORITY_STATE


def test_a_crash_leaves_the_succession_to_be_made_again(
    issuer: Issuer, authority: Authority, reopen: Callable[..., Authority], monkeypatch: pytest.MonkeyPatch
) -> None:
    def crash(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(authority.ledger, "add_root", crash)
    with pytest.raises(KeyboardInterrupt):
        CA_SUCCEED.run(issuer, Succeed(activate=False))
    monkeypatch.undo()
    again = reopen()
    assert [root.generation for root in again.life.roots] == [1]
    again.life.succeed(again.now())
    assert [root.generation for root in again.life.roots] == [1, 2]
