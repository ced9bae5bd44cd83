"""A TPM at the authority: whose CAs count, what a leaf says, and that the longest leaf there can be is still one."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from proxy_attestation import __version__
from proxy_attestation.appraisal.claims import Claims
from proxy_attestation.appraisal.layers import Layer, MeasuredEvent
from proxy_attestation.appraisal.nitro_claims import Register
from proxy_attestation.appraisal.tpm import Activation
from proxy_attestation.appraisal.tpm_body import TpmBody
from proxy_attestation.authority import messages
from proxy_attestation.authority.init import memory_issuer
from proxy_attestation.authority.issue import Issuer
from proxy_attestation.authority.messages import Issued
from proxy_attestation.authority.token import TOKEN_LENGTH_MAX, make_token, open_token
from proxy_attestation.authority.wire import MALFORMED
from proxy_attestation.codes import Code
from proxy_attestation.errors import InternalError, ProxyAttestationError, RequestError, UnavailableError
from proxy_attestation.formats import cbor
from proxy_attestation.formats.bounds import AUTHORITY_FRAME_MAX, EVENTS_MAX
from proxy_attestation.formats.ear import LeafClaims, decode_claims_set
from proxy_attestation.formats.request import ApplicationKind, KeyOrigin, Request, RuntimeClaims, names_from
from proxy_attestation.formats.tee import Tee
from proxy_attestation.policy.digest import policy_digest
from proxy_attestation.policy.load import parse_policy

EK_ROOT = b"\xe0" * 32
OTHER_ROOT = b"\xe1" * 32
REGISTERS = {0: b"\x10" * 32, 4: b"\x14" * 32, 7: b"\x17" * 32}
ACTIVATION = Activation(b"\0\x0b" + bytes(32), b"\xee" * 32)


def text(registers: Mapping[int, bytes] = REGISTERS, *, version: int = 1, roots: tuple[bytes, ...] = (EK_ROOT,)) -> str:
    pins = "\n".join(f'pcr{index} = ["{value.hex()}"]' for index, value in registers.items())
    listed = ", ".join(f'"{root.hex()}"' for root in roots)
    return (
        f'version = {version}\ntrust_domain = "example.org"\n[[workload]]\nname = "machine"\ntee = "tpm"\n'
        f"ek_root = [{listed}]\n{pins}\nowner = {{ shared = true }}\n"
    )


@pytest.fixture
def issuer_of(clock: Any, vendor: Any) -> Callable[[str], Issuer]:
    def make(policy: str) -> Issuer:
        return memory_issuer(
            parse_policy(policy, Path("/nonexistent")), dns=["example.org"], anchors=[vendor.root_pin], clock=clock,
            tls_names=["proxy.example.org"],
        )  # fmt: skip

    return make


def claims_of(world: Any, registers: Mapping[int, bytes] = REGISTERS, **changes: Any) -> Claims:
    body = TpmBody(
        pcrs=tuple(Register(index, value) for index, value in registers.items()),
        ek_root=EK_ROOT,
        key_certified=True,
        firmware_version=bytes(8),
        reset_count=1,
        restart_count=0,
    )
    good: Claims = replace(world.claims(), tee=Tee.TPM, body=body, tcb=None, anchor=EK_ROOT)
    return replace(good, **changes)


def request() -> Request:
    runtime = RuntimeClaims(ApplicationKind.NONE, None, KeyOrigin.TPM)
    return Request("machine", Tee.TPM, names_from(), 3600, runtime)


def outcome(issuer: Issuer, world: Any, claims: Claims, **changes: Any) -> Issued | ProxyAttestationError:
    order = world.order(issuer.hello(), request=request(), claims=claims, collateral_floor=None, **changes)
    (found,) = issuer.issue_batch([order])
    return found


def said(issued: Issued | ProxyAttestationError) -> LeafClaims:
    assert isinstance(issued, Issued), issued
    return decode_claims_set(issued.claims_set)


def test_a_leaf_says_what_the_entry_speaks_of(issuer_of: Callable[[str], Issuer], world: Any) -> None:
    more = REGISTERS | {9: b"\x19" * 32}
    claims = said(outcome(issuer_of(text()), world, claims_of(world, more)))
    assert dict(claims.measurements) == {"ek_root": EK_ROOT, **{f"pcr{i}": value for i, value in REGISTERS.items()}}
    assert (claims.tee, claims.key_origin, claims.anchor) == (Tee.TPM, KeyOrigin.TPM, EK_ROOT)
    assert claims.vector == ((0, 2), (1, 2), (2, 3), (4, 2))
    assert claims.status == 2


def test_a_ca_that_no_entry_names(issuer_of: Callable[[str], Issuer], world: Any) -> None:
    refused = outcome(issuer_of(text()), world, claims_of(world, anchor=OTHER_ROOT))
    assert isinstance(refused, ProxyAttestationError)
    assert refused.code is Code.TPM_ROOT


@pytest.mark.parametrize("tee", [Tee.SGX, Tee.NITRO])
def test_a_ca_of_tpms_vouches_for_nothing_else(tee: Tee, issuer_of: Callable[[str], Issuer]) -> None:
    assert EK_ROOT not in issuer_of(text()).authority.roots.of(tee)
    assert EK_ROOT not in issuer_of(text()).hello().anchors


def test_the_cas_follow_the_policy(issuer_of: Callable[[str], Issuer]) -> None:
    issuer = issuer_of(text())
    before = issuer.hello()
    assert before.tpm_roots == (EK_ROOT,)
    issuer.authority.reload_policy(parse_policy(text(version=2, roots=(OTHER_ROOT, EK_ROOT)), Path("/nonexistent")))
    after = issuer.hello()
    assert after.tpm_roots == (EK_ROOT, OTHER_ROOT)
    assert issuer.authority.roots.tpm == {EK_ROOT, OTHER_ROOT}
    assert after.generation > before.generation
    assert after.policy_digest != before.policy_digest


def test_the_digest_is_the_one_that_policy_check_prints(issuer_of: Callable[[str], Issuer]) -> None:
    issuer = issuer_of(text())
    policy = parse_policy(text(), Path("/nonexistent"))
    assert issuer.hello().policy_digest == policy_digest(policy, issuer.authority.settings.roots, {}, __version__)


def test_a_key_that_nobody_certified(issuer_of: Callable[[str], Issuer], world: Any) -> None:
    claims = claims_of(world)
    assert isinstance(claims.body, TpmBody)
    software = replace(claims, body=replace(claims.body, key_certified=False))
    refused = outcome(issuer_of(text()), world, software)
    assert isinstance(refused, ProxyAttestationError)
    assert refused.code is Code.TPM_SOFTWARE_KEY


def test_claims_of_a_debug_mode_are_refused(issuer_of: Callable[[str], Issuer], world: Any) -> None:
    refused = outcome(issuer_of(text()), world, claims_of(world, debug=True))
    assert isinstance(refused, ProxyAttestationError)
    assert refused.code is Code.POLICY_ATTRIBUTES


@pytest.mark.parametrize(("count", "size"), [(22, 32), (16, 48), (12, 64)])
def test_the_longest_leaf_is_one(count: int, size: int, issuer_of: Callable[[str], Issuer], world: Any) -> None:
    indexes = [index for index in range(24) if index not in (16, 23)][:count]
    registers = {index: bytes([index + 1]) * size for index in indexes}
    claims = said(outcome(issuer_of(text(registers)), world, claims_of(world, registers)))
    assert len(claims.measurements) == count + 1


def test_no_collateral_goes_with_a_tpm(issuer_of: Callable[[str], Issuer], world: Any) -> None:
    issuer = issuer_of(text())
    order = world.order(issuer.hello(), request=request(), claims=claims_of(world))
    (refused,) = issuer.issue_batch([order])
    assert isinstance(refused, UnavailableError)
    assert refused.code is Code.ENDORSEMENTS_UNAVAILABLE


def through(value: object) -> Any:
    return cbor.decode(cbor.encode(value), MALFORMED, AUTHORITY_FRAME_MAX)


def test_an_order_with_its_log_arrives(issuer_of: Callable[[str], Issuer], world: Any) -> None:
    events = tuple(MeasuredEvent(number, bytes([number % 256]) * 64, bytes(100)) for number in range(EVENTS_MAX))
    layers = (Layer(0, bytes(32), events[:1]), Layer(4, bytes(32), events))
    order = world.order(issuer_of(text()).hello(), request=request(), claims=claims_of(world, layers=layers))
    assert messages.decode_order(through(messages.encode_order(order))) == order


def test_a_token_carries_the_activation(clock: Any, issuer_of: Callable[[str], Issuer]) -> None:
    (key, *_) = issuer_of(text()).hello().token_keys
    seconds = int(clock().timestamp()) + 120
    parts: dict[str, Any] = {"session_id": bytes(16), "ca_id": bytes(32), "expires_at": seconds}
    plain = make_token(key, tee=Tee.TPM, **parts)
    assert open_token((key,), plain, clock()).activation is None
    nonces = {open_token((key,), plain, clock()).nonce}
    for size in (32, 48, 64):
        activation = Activation(b"\0\x0b" + bytes(size), b"\xee" * 32)
        token = make_token(key, tee=Tee.TPM, activation=activation, **parts)
        opened = open_token((key,), token, clock())
        assert opened.activation == activation
        assert len(token) <= TOKEN_LENGTH_MAX
        nonces.add(opened.nonce)
        for cut in (token[:-1], token[:94], token[:62] + token[-32:], token[:70] + token[71:]):
            with pytest.raises(RequestError) as caught:
                open_token((key,), cut, clock())
            assert caught.value.code is Code.CHALLENGE_INVALID
        # Another AK or EK is another token, and no nonce is the other's.
        for at in (62, len(token) - 33):
            with pytest.raises(RequestError):
                open_token((key,), token[:at] + bytes([token[at] ^ 1]) + token[at + 1 :], clock())
    assert len(nonces) == 4


@pytest.mark.parametrize("activation", [Activation(b"", b"\xee" * 32), Activation(ACTIVATION.ak_name, b"")])
def test_a_token_for_half_an_activation_is_a_bug(clock: Any, activation: Activation) -> None:
    key = messages.TokenKey(b"key1", bytes(32), int((clock() + timedelta(hours=1)).timestamp()))
    with pytest.raises(InternalError):
        make_token(
            key,
            session_id=bytes(16),
            tee=Tee.TPM,
            ca_id=bytes(32),
            expires_at=int(clock().timestamp()),
            activation=activation,
        )


def test_the_order_is_about_the_key_of_the_quote(issuer_of: Callable[[str], Issuer], world: Any) -> None:
    issuer = issuer_of(text())
    order = world.order(issuer.hello(), request=request(), claims=claims_of(world), collateral_floor=None)
    doubled = replace(order, claims=replace(order.claims, bound=order.claims.bound * 2))
    (issued,) = issuer.issue_batch([doubled])
    assert isinstance(issued, Issued)
    for kind in range(4):
        order = world.order(issuer.hello(), request=request(), claims=claims_of(world), collateral_floor=None)
        good = order.claims.bound
        wrong = ((), (bytes(32),), good * 3, (*good, bytes(32)))[kind]
        (refused,) = issuer.issue_batch([replace(order, claims=replace(order.claims, bound=wrong))])
        assert isinstance(refused, RequestError)
        assert refused.code is Code.BINDER_MISMATCH
