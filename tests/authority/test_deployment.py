"""The deployment statement in the authority: whose it is, who signed it, and the roles that it keeps apart."""

import hashlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from attested_proxy import Signer, statement

from proxy_attestation.authority.deployment_operations import DEPLOYMENT_ABOUT, DEPLOYMENT_INSTALL, Ask, Install
from proxy_attestation.authority.issue import Issuer
from proxy_attestation.authority.operator_client import operate
from proxy_attestation.codes import Code
from proxy_attestation.errors import ProxyAttestationError
from proxy_attestation.formats.deployment import Pin
from proxy_attestation.formats.root_binder import RootFacts
from proxy_attestation.formats.tee import Tee
from proxy_attestation.policy.load import parse_policy

PROXY = (Pin(Tee.SGX, "mr_enclave", b"\xab" * 32),)


def facts(issuer: Issuer, **changes: Any) -> RootFacts:
    return replace(issuer.authority.root_facts(), **changes)


def refusal(call: Callable[[], object]) -> Code:
    with pytest.raises(ProxyAttestationError) as caught:
        call()
    return caught.value.code


def test_a_statement_is_installed_and_answered(issuer: Issuer) -> None:
    note = statement(facts(issuer), [Signer("alice")], PROXY)
    before = issuer.hello()
    assert before.deployment_statement == b""
    issuer.authority.install_deployment(note)
    assert issuer.hello().deployment_statement == note
    assert issuer.hello().generation > before.generation


@pytest.mark.parametrize("change", [{"root": b"another root"}, {"ledger_key": b"another+key"}])
def test_a_statement_about_another_proxy_is_refused(issuer: Issuer, change: dict[str, Any]) -> None:
    note = statement(facts(issuer, **change), [Signer("alice")], PROXY)
    assert refusal(lambda: issuer.authority.install_deployment(note)) is Code.PROXY_STATEMENT_OTHER
    assert issuer.hello().deployment_statement == b""


def test_a_statement_of_another_trust_domain_is_refused(issuer: Issuer) -> None:
    note = statement(facts(issuer), [Signer("alice")], PROXY, "example.com")
    assert refusal(lambda: issuer.authority.install_deployment(note)) is Code.PROXY_STATEMENT_OTHER


def test_what_is_no_note_is_refused(issuer: Issuer) -> None:
    assert refusal(lambda: issuer.authority.install_deployment(b"text\n")) is Code.NOTE_MALFORMED


def test_with_signers_enough_of_them_must_have_signed(issuer: Issuer) -> None:
    alice, bob, carol = map(Signer, ("alice", "bob", "carol"))
    authority = issuer.authority
    authority.settings = replace(
        authority.settings, signers=tuple(one.verifier for one in (alice, bob, carol)), threshold=2
    )
    one = statement(facts(issuer), [alice, Signer("bob")], PROXY)
    assert refusal(lambda: authority.install_deployment(one)) is Code.PROXY_STATEMENT_SIGNATURES
    authority.install_deployment(statement(facts(issuer), [carol, alice], PROXY))


def same_enclave() -> Pin:
    return Pin(Tee.SGX, "mr_enclave", b"\xe1" * 32)


def test_no_entry_may_accept_the_proxy(issuer: Issuer) -> None:
    note = statement(facts(issuer), [Signer("alice")], (*PROXY, same_enclave()))
    assert refusal(lambda: issuer.authority.install_deployment(note)) is Code.POLICY_PROXY_MEASUREMENT


def policy(issuer: Issuer, entry: str) -> Any:
    version = issuer.authority.policy.version + 1
    text = f'version = {version}\ntrust_domain = "example.org"\n[[workload]]\nname = "a"\n{entry}'
    return parse_policy(text + "owner = { shared = true }\n", Path())


ENCLAVE = 'tee = "sgx"\nmr_enclave = ["{}"]\n'
SIGNED = (
    'tee = "sgx"\nmr_signer = ["{}"]\nisv_prod_id = 1\nmin_isv_svn = 1\nattributes_flags = "0500000000000000"\n'
    'attributes_flags_mask = "ffffffffffffffff"\nxfrm = "0300000000000000"\nxfrm_mask = "ffffffffffffffff"\n'
    'misc_select = "00000000"\nmisc_select_mask = "ffffffff"\n'
)


def test_a_policy_that_would_accept_the_proxy_is_not_put_in_force(issuer: Issuer) -> None:
    issuer.authority.install_deployment(statement(facts(issuer), [Signer("alice")], PROXY))
    in_force = issuer.authority.policy
    assert refusal(lambda: issuer.authority.reload_policy(policy(issuer, ENCLAVE.format("ab" * 32)))) is (
        Code.POLICY_PROXY_MEASUREMENT
    )
    assert issuer.authority.policy is in_force
    assert issuer.authority.reload_policy(policy(issuer, ENCLAVE.format("ac" * 32)))


def test_an_entry_by_signer_takes_a_statement_that_names_the_signer(issuer: Issuer) -> None:
    authority = issuer.authority
    authority.install_deployment(statement(facts(issuer), [Signer("alice")], PROXY))
    by_signer = policy(issuer, SIGNED.format("51" * 32))
    assert refusal(lambda: authority.reload_policy(by_signer)) is Code.POLICY_PROXY_MEASUREMENT
    named = (*PROXY, Pin(Tee.SGX, "mr_signer", b"\x52" * 32))
    authority.install_deployment(statement(facts(issuer), [Signer("alice")], named))
    assert authority.reload_policy(by_signer)


def test_it_is_there_after_a_restart_and_checked_with_the_policy(make_state: Callable[..., Path], clock: Any) -> None:
    state = make_state()
    about = operate(state, DEPLOYMENT_ABOUT, Ask(), clock)
    assert about.trust_domain == "example.org"
    issuing = RootFacts(b"", b"", bytes(32), about.ledger_key.encode(), "file")
    note = statement(issuing, [Signer("alice")], PROXY)
    root = hashlib.sha256(b"").hexdigest()
    note = note.replace(root.encode(), about.root_spki_sha256.hex().encode())  # nobody checks it without signers
    assert operate(state, DEPLOYMENT_INSTALL, Install(note), clock) == about
    assert operate(state, DEPLOYMENT_ABOUT, Ask(), clock) == about
    text = (state / "policy.toml").read_text()
    (state / "policy.toml").write_text(text.replace("version = 7", "version = 8").replace("e1" * 32, "ab" * 32))
    assert refusal(lambda: operate(state, DEPLOYMENT_ABOUT, Ask(), clock)) is Code.POLICY_PROXY_MEASUREMENT
