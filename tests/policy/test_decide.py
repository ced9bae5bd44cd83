"""The decision: each mismatch with its code, all at once, in the documented order; names from the policy only."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from proxy_attestation.appraisal.claims import Claims
from proxy_attestation.codes import Code
from proxy_attestation.formats.pins import minimum_form
from proxy_attestation.formats.request import ApplicationKind, KeyOrigin, Names, Request, names_from
from proxy_attestation.formats.tee import Tee
from proxy_attestation.policy.decide import decide
from proxy_attestation.policy.load import parse_policy
from proxy_attestation.policy.model import Decision, Owner, OwnerKind, Policy, Workload

PolicyOf = Callable[..., Policy]
ClaimsOf = Callable[..., Claims]
RequestOf = Callable[..., Request]
DIGEST, OTHER = b"\xaa" * 32, b"\xbb" * 32


def codes(decision: Decision) -> list[Code]:
    return [mismatch.code for mismatch in decision.mismatches]


def assert_refused(decision: Decision) -> None:
    assert not decision.accepted
    assert decision.names == Names()
    assert decision.lifetime == 0
    assert decision.application_sha256 is None


def with_workload(policy: Policy, **changes: Any) -> Policy:
    workload = next(iter(policy.workloads.values()))
    changed: Workload = replace(workload, **changes)
    return replace(policy, workloads=MappingProxyType({changed.name: changed}))


@pytest.mark.parametrize("kind", ["sgx", "signer", "tdx"])
def test_what_fits_is_accepted(kind: str, policy_of: PolicyOf, claims_of: ClaimsOf, request_of: RequestOf) -> None:
    policy = policy_of(kind)
    decision = decide(claims_of(kind), request_of(kind), policy)
    assert decision.mismatches == ()
    assert decision.accepted
    assert decision.workload == next(iter(policy.workloads.values()))
    assert decision.names.dns == request_of(kind).names.dns
    assert decision.names.uri == (f"spiffe://example.org/{'vm' if kind == 'tdx' else 'app'}",)
    assert decision.lifetime == 3600


SGX_BODIES: list[tuple[str, Mapping[str, Any], Code, str]] = [
    ("sgx", {"mr_enclave": b"\x12" * 32}, Code.POLICY_MEASUREMENT, "mr_enclave"),
    ("sgx", {"mr_enclave": b"\x11" * 31}, Code.POLICY_MEASUREMENT, "mr_enclave"),
    ("sgx", {"mr_enclave": b""}, Code.POLICY_MEASUREMENT, "mr_enclave"),
    ("sgx", {"config_id": bytes(63) + b"\x01"}, Code.POLICY_CONFIG, "config_id"),
    ("sgx", {"config_svn": 1}, Code.POLICY_CONFIG, "config_svn"),
    ("sgx", {"isv_ext_prod_id": b"\x01" + bytes(15)}, Code.POLICY_CONFIG, "isv_ext_prod_id"),
    ("sgx", {"isv_family_id": b"\x01" + bytes(15)}, Code.POLICY_CONFIG, "isv_family_id"),
    ("signer", {"mr_signer": b"\x23" * 32}, Code.POLICY_SIGNER, "mr_signer"),
    ("signer", {"isv_prod_id": 8}, Code.POLICY_PRODUCT, "isv_prod_id"),
    ("signer", {"isv_prod_id": 6}, Code.POLICY_PRODUCT, "isv_prod_id"),
    ("signer", {"isv_svn": 2}, Code.POLICY_SVN, "min_isv_svn"),
    ("signer", {"attributes_flags": bytes.fromhex("1500000000000000")}, Code.POLICY_ATTRIBUTES, "attributes_flags"),
    ("signer", {"xfrm": bytes.fromhex("0700000000000000")}, Code.POLICY_ATTRIBUTES, "xfrm"),
    ("signer", {"misc_select": bytes.fromhex("01000000")}, Code.POLICY_ATTRIBUTES, "misc_select"),
    ("tdx", {"mr_td": b"\x32" * 48}, Code.POLICY_MEASUREMENT, "mr_td"),
    ("tdx", {"rtmr0": b"\x32" * 48}, Code.POLICY_MEASUREMENT, "rtmr0"),
    ("tdx", {"rtmr1": b"\x32" * 48}, Code.POLICY_MEASUREMENT, "rtmr1"),
    ("tdx", {"rtmr2": b"\x32" * 48}, Code.POLICY_MEASUREMENT, "rtmr2"),
    ("tdx", {"mr_config_id": b"\x32" * 48}, Code.POLICY_CONFIG, "mr_config_id"),
    ("tdx", {"td_attributes": bytes.fromhex("0000005000000000")}, Code.POLICY_ATTRIBUTES, "td_attributes"),
    ("tdx", {"td_attributes": bytes(8)}, Code.POLICY_ATTRIBUTES, "td_attributes"),
    ("tdx", {"xfam": bytes.fromhex("e702060000000001")}, Code.POLICY_ATTRIBUTES, "xfam"),
    ("tdx", {"mr_service_td": b"\x01" + bytes(47)}, Code.TDX_SERVICE_TD, "mr_service_td"),
]


@pytest.mark.parametrize(("kind", "body", "code", "field"), SGX_BODIES)
def test_each_measured_field_that_differs_is_one_mismatch(
    *,
    kind: str,
    body: Mapping[str, Any],
    code: Code,
    field: str,
    policy_of: PolicyOf,
    claims_of: ClaimsOf,
    request_of: RequestOf,
) -> None:
    decision = decide(claims_of(kind, body), request_of(kind), policy_of(kind))
    assert [(m.code, m.field) for m in decision.mismatches] == [(code, field)]
    assert_refused(decision)


@pytest.mark.parametrize(
    ("entry", "body", "code"),
    [
        ({"mr_signer": f'["{"22" * 32}"]'}, {"mr_signer": b"\x23" * 32}, Code.POLICY_SIGNER),
        ({"isv_prod_id": "7"}, {"isv_prod_id": 0}, Code.POLICY_PRODUCT),
        ({"min_isv_svn": "3"}, {"isv_svn": 2}, Code.POLICY_SVN),
        (
            {"attributes_flags": '"0500000000000000"', "attributes_flags_mask": '"ffffffffffffffff"'},
            {"attributes_flags": b"\x15" + bytes(7)},
            Code.POLICY_ATTRIBUTES,
        ),
        (
            {"xfrm": '"0700000000000000"', "xfrm_mask": '"0700000000000000"'},
            {"xfrm": b"\x03" + bytes(7)},
            Code.POLICY_ATTRIBUTES,
        ),
        (
            {"misc_select": '"00000000"', "misc_select_mask": '"01000000"'},
            {"misc_select": b"\x01\0\0\0"},
            Code.POLICY_ATTRIBUTES,
        ),
        ({"config_id": f'"{"07" * 64}"'}, {"config_id": b"\x08" * 64}, Code.POLICY_CONFIG),
    ],
)
def test_pins_beside_mr_enclave_count_too(
    *,
    entry: Mapping[str, str],
    body: Mapping[str, Any],
    code: Code,
    policy_of: PolicyOf,
    claims_of: ClaimsOf,
    request_of: RequestOf,
) -> None:
    policy = policy_of("sgx", entry)
    # `config_id` must now be there; everything else of the good enclave already fits.
    good = {"config_id": b"\x07" * 64} if "config_id" in entry else {}
    assert decide(claims_of("sgx", good), request_of(), policy).accepted
    assert codes(decide(claims_of("sgx", body), request_of(), policy)) == [code]


def test_bits_outside_a_mask_do_not_count(policy_of: PolicyOf, claims_of: ClaimsOf, request_of: RequestOf) -> None:
    body = {"xfrm": bytes.fromhex("e7ffffffffffffff")}
    assert decide(claims_of("signer", body), request_of("signer"), policy_of("signer")).accepted


def test_a_higher_svn_is_accepted(policy_of: PolicyOf, claims_of: ClaimsOf, request_of: RequestOf) -> None:
    assert decide(claims_of("signer", {"isv_svn": 65535}), request_of("signer"), policy_of("signer")).accepted


def test_any_listed_measurement_is_accepted(policy_of: PolicyOf, claims_of: ClaimsOf, request_of: RequestOf) -> None:
    policy = policy_of("sgx", {"mr_enclave": f'["{"ff" * 32}", "{"11" * 32}"]'})
    assert decide(claims_of(), request_of(), policy).accepted
    assert decide(claims_of(body={"mr_enclave": b"\xff" * 32}), request_of(), policy).accepted


def test_pins_below_the_minimum_match_nothing(policy_of: PolicyOf, claims_of: ClaimsOf, request_of: RequestOf) -> None:
    # No file can say this; an entry that was made in another way must not be open for it.
    for kind in ("sgx", "signer", "tdx"):
        policy = policy_of(kind)
        workload = next(iter(policy.workloads.values()))
        form = minimum_form(workload.tee, workload.pins.__contains__)
        for name in form:
            for below in (
                {key: value for key, value in workload.pins.items() if key != name},
                {**workload.pins, name: ()},
            ):
                assert_refused(decide(claims_of(kind), request_of(kind), with_workload(policy, pins=below)))


def test_optional_tdx_pins(policy_of: PolicyOf, claims_of: ClaimsOf, request_of: RequestOf) -> None:
    entry = {
        "rtmr3": f'["{"43" * 48}"]',
        "mr_owner": f'"{"50" * 48}"',
        "mr_owner_config": f'"{"51" * 48}"',
        "mr_service_td": f'["{"60" * 48}"]',
    }
    policy, request = policy_of("tdx", entry), request_of("tdx")
    good = {"mr_service_td": b"\x60" * 48}
    assert decide(claims_of("tdx", good), request, policy).accepted
    wrong = [("rtmr3", Code.POLICY_MEASUREMENT), ("mr_owner", Code.POLICY_CONFIG)]
    wrong += [("mr_owner_config", Code.POLICY_CONFIG), ("mr_service_td", Code.TDX_SERVICE_TD)]
    for field, code in wrong:
        assert codes(decide(claims_of("tdx", good | {field: bytes(48)}), request, policy)) == [code]


def test_a_tdx_10_body_has_no_service_td(policy_of: PolicyOf, claims_of: ClaimsOf, request_of: RequestOf) -> None:
    old = {"mr_service_td": None, "tee_tcb_svn_2": None}
    assert decide(claims_of("tdx", old), request_of("tdx"), policy_of("tdx")).accepted
    pinned = policy_of("tdx", {"mr_service_td": f'["{"60" * 48}"]'})
    assert codes(decide(claims_of("tdx", old), request_of("tdx"), pinned)) == [Code.TDX_SERVICE_TD]


def test_an_entry_that_the_policy_does_not_have(
    policy_of: PolicyOf, claims_of: ClaimsOf, request_of: RequestOf
) -> None:
    decision = decide(claims_of(), request_of(workload="other"), policy_of())
    assert codes(decision) == [Code.POLICY_WORKLOAD]
    assert decision.workload is None
    assert_refused(decision)


def test_another_tee_than_the_entry_has(policy_of: PolicyOf, claims_of: ClaimsOf, request_of: RequestOf) -> None:
    policy = policy_of()
    assert codes(decide(claims_of(), request_of(tee=Tee.TDX), policy)) == [Code.POLICY_TEE]
    assert codes(decide(claims_of("tdx"), request_of(), policy)) == [Code.POLICY_TEE]
    both = decide(claims_of("tdx"), request_of(tee=Tee.TDX), policy)
    assert codes(both) == [Code.POLICY_TEE, Code.POLICY_TEE]
    assert_refused(both)
    # Claims whose body is not of the TEE that they name.
    lying = replace(claims_of("tdx"), tee=Tee.SGX)
    assert codes(decide(lying, request_of(), policy)) == [Code.POLICY_TEE]


@pytest.mark.parametrize(
    ("kind", "body", "code"),
    [
        ("sgx", {"attributes_flags": bytes.fromhex("0700000000000000")}, Code.SGX_DEBUG),
        ("signer", {"attributes_flags": bytes.fromhex("0700000000000000")}, Code.SGX_DEBUG),
        ("tdx", {"td_attributes": bytes.fromhex("0100001000000000")}, Code.TDX_DEBUG),
    ],
)
def test_debug_is_refused_before_the_pins_it_also_breaks(
    *,
    kind: str,
    body: Mapping[str, Any],
    code: Code,
    policy_of: PolicyOf,
    claims_of: ClaimsOf,
    request_of: RequestOf,
) -> None:
    request, policy = request_of(kind), policy_of(kind)
    for claimed in (True, False):
        decision = decide(claims_of(kind, body, debug=claimed), request, policy)
        assert decision.mismatches[0].code is code
        assert codes(decision)[1:] == ([] if kind == "sgx" else [Code.POLICY_ATTRIBUTES])
        assert_refused(decision)
    assert codes(decide(claims_of(kind, debug=True), request, policy)) == [code]


def test_debug_is_accepted_only_by_the_entry_that_danger_names(
    policy_of: PolicyOf, claims_of: ClaimsOf, request_of: RequestOf
) -> None:
    claims = claims_of(body={"attributes_flags": b"\x07" + bytes(7)}, debug=True)
    assert decide(claims, request_of(), policy_of(danger={"allow_debug": '["app"]'})).accepted


@pytest.mark.parametrize(("kind", "code"), [("sgx", Code.SGX_TCB_STATUS), ("tdx", Code.TDX_TCB_STATUS)])
@pytest.mark.parametrize("status", ["OutOfDate", "Revoked", "", "uptodate", "UpToDateX", "Nonsense"])
def test_a_status_that_is_not_listed(
    *, kind: str, code: Code, status: str, policy_of: PolicyOf, claims_of: ClaimsOf, request_of: RequestOf
) -> None:
    decision = decide(claims_of(kind, tcb={"status": status}), request_of(kind), policy_of(kind))
    assert codes(decision) == [code]
    assert_refused(decision)


def test_each_advisory_must_be_listed(policy_of: PolicyOf, claims_of: ClaimsOf, request_of: RequestOf) -> None:
    policy = policy_of("sgx", {"tcb": '["SWHardeningNeeded"]', "advisories": '["INTEL-SA-00615"]'})
    tcb = {"status": "SWHardeningNeeded", "advisories": ("INTEL-SA-00615",)}
    assert decide(claims_of(tcb=tcb), request_of(), policy).accepted
    assert decide(claims_of(tcb=tcb | {"advisories": ()}), request_of(), policy).accepted
    more = tcb | {"advisories": ("INTEL-SA-00289", "INTEL-SA-00615", "INTEL-SA-00657")}
    decision = decide(claims_of(tcb=more), request_of(), policy)
    assert codes(decision) == [Code.POLICY_ADVISORY, Code.POLICY_ADVISORY]
    assert [mismatch.actual for mismatch in decision.mismatches] == ["INTEL-SA-00289", "INTEL-SA-00657"]
    assert codes(decide(claims_of(tcb={"advisories": ("INTEL-SA-00615",)}), request_of(), policy_of())) == [
        Code.POLICY_ADVISORY
    ]


@pytest.mark.parametrize(
    ("demanded", "claimed", "accepted"),
    [
        ((), (ApplicationKind.NONE, None), True),
        ((), (ApplicationKind.WASM, None), True),
        ((), (ApplicationKind.CHILD, None), True),
        ((), (ApplicationKind.ADDRESS, None), True),
        ((), (ApplicationKind.WASM, DIGEST), False),
        ((), (ApplicationKind.CHILD, DIGEST), False),
        ((DIGEST,), (ApplicationKind.WASM, DIGEST), True),
        ((OTHER, DIGEST), (ApplicationKind.WASM, DIGEST), True),
        ((DIGEST,), (ApplicationKind.WASM, OTHER), False),
        ((DIGEST,), (ApplicationKind.WASM, None), False),
        ((DIGEST,), (ApplicationKind.CHILD, DIGEST), False),
        ((DIGEST,), (ApplicationKind.ADDRESS, DIGEST), False),
        ((DIGEST,), (ApplicationKind.NONE, None), False),
    ],
)
def test_an_application_digest_counts_where_the_application_cannot_quote(
    *,
    demanded: tuple[bytes, ...],
    claimed: tuple[ApplicationKind, bytes | None],
    accepted: bool,
    policy_of: PolicyOf,
    claims_of: ClaimsOf,
    request_of: RequestOf,
) -> None:
    policy = with_workload(policy_of(), application=demanded)
    decision = decide(claims_of(), request_of(application=claimed), policy)
    assert codes(decision) == ([] if accepted else [Code.POLICY_APPLICATION])
    assert decision.application_kind is claimed[0]
    assert decision.application_sha256 == (DIGEST if accepted and demanded else None)


@pytest.mark.parametrize("origin", [KeyOrigin.SOFTWARE, KeyOrigin.TPM])
def test_another_key_origin(origin: KeyOrigin, policy_of: PolicyOf, claims_of: ClaimsOf, request_of: RequestOf) -> None:
    decision = decide(claims_of(), request_of(key_origin=origin), policy_of())
    # No SGX enclave has certified a key as one that lives in a TPM.
    more = [Code.TPM_SOFTWARE_KEY] if origin is KeyOrigin.TPM else []
    assert codes(decision) == [Code.POLICY_KEY_ORIGIN, *more]
    assert_refused(decision)
    dangerous = policy_of(danger={"software_keys": '["app"]'})
    accepted = decide(claims_of(), request_of(key_origin=origin), dangerous).accepted
    assert accepted is (origin is KeyOrigin.SOFTWARE)


def test_a_machine_that_the_owner_does_not_list_is_refused(
    policy_of: PolicyOf, claims_of: ClaimsOf, request_of: RequestOf
) -> None:
    owner = Owner(OwnerKind.CHIP_IDS, chips=(b"\x01" * 32,))
    policy = with_workload(policy_of(), owner=owner)
    assert codes(decide(claims_of(), request_of(), policy)) == [Code.OWNER_CHIP]
    assert codes(decide(claims_of(instance_id=b"\x02" * 32), request_of(), policy)) == [Code.OWNER_CHIP]
    assert decide(claims_of(instance_id=b"\x01" * 32), request_of(), policy).accepted


@pytest.mark.parametrize(
    "names",
    [
        names_from(("other.example.org",)),
        names_from(("app.example.org", "other.example.org")),
        names_from(("sub.app.example.org",)),
        names_from(("example.org",)),
        names_from(ip=("192.0.2.2",)),
        names_from(ip=("::1",)),
        names_from(uri=("spiffe://example.org/other",)),
        names_from(uri=("spiffe://example.org/app/x",)),
        names_from(uri=("spiffe://example.com/app",)),
        names_from(uri=("spiffe://example.org/proxy-attestation/server",)),
        names_from(uri=("https://app.example.org",)),
    ],
)
def test_a_name_that_is_not_granted(
    names: Names, policy_of: PolicyOf, claims_of: ClaimsOf, request_of: RequestOf
) -> None:
    decision = decide(claims_of(), request_of(names=names), policy_of())
    assert codes(decision) == [Code.POLICY_NAME]
    assert_refused(decision)


def test_exactly_the_requested_names_and_the_spiffe_id_come_out(
    policy_of: PolicyOf, claims_of: ClaimsOf, request_of: RequestOf
) -> None:
    own = "spiffe://example.org/app"
    for names in (Names(), names_from(("app.example.org",), ("2001:db8::1",)), names_from(uri=(own,))):
        decision = decide(claims_of(), request_of(names=names), policy_of())
        assert decision.names == Names(names.dns, names.ip, (own,))


def test_the_names_of_another_entry_are_not_granted(
    render: Callable[..., str], claims_of: ClaimsOf, request_of: RequestOf, tmp_path: Path
) -> None:
    other = 'name = "b"\ntee = "sgx"\ndns = ["b.example.org"]\nowner = { shared = true }'
    text = render(more=f'[[workload]]\n{other}\nmr_enclave = ["{"bb" * 32}"]')
    policy = parse_policy(text, tmp_path)
    asked = names_from(("b.example.org",))
    assert codes(decide(claims_of(), request_of(names=asked), policy)) == [Code.POLICY_NAME]
    assert codes(decide(claims_of(), request_of(workload="b", names=asked), policy)) == [Code.POLICY_MEASUREMENT]


def test_the_proxys_own_name_is_never_granted(policy_of: PolicyOf, claims_of: ClaimsOf, request_of: RequestOf) -> None:
    policy = with_workload(policy_of(), name="proxy-attestation")
    decision = decide(claims_of(), request_of(workload="proxy-attestation"), policy)
    assert codes(decision) == [Code.POLICY_NAME]
    assert_refused(decision)


@pytest.mark.parametrize(
    ("asked", "entry", "whole", "granted"),
    [(3600, "2h", "3h", 3600), (9999, "2h", "3h", 7200), (99999, "3h", "3h", 10800), (1, "2h", "3h", 1)],
)
def test_the_lifetime_is_the_least_of_three(
    *,
    asked: int,
    entry: str,
    whole: str,
    granted: int,
    policy_of: PolicyOf,
    claims_of: ClaimsOf,
    request_of: RequestOf,
) -> None:
    policy = policy_of("sgx", {"max_lifetime": f'"{entry}"'}, top={"max_lifetime": f'"{whole}"'})
    assert decide(claims_of(), request_of(lifetime=asked), policy).lifetime == granted
    # The policy's own bound holds even for an entry that was made with a longer one.
    longer = with_workload(policy, max_lifetime=10**9)
    assert decide(claims_of(), request_of(lifetime=10**8), longer).lifetime == policy.max_lifetime


def test_everything_wrong_comes_at_once_in_the_documented_order(
    policy_of: PolicyOf, claims_of: ClaimsOf, request_of: RequestOf
) -> None:
    policy = with_workload(policy_of("signer"), owner=Owner(OwnerKind.CHIP_IDS), application=(DIGEST,))
    body = {
        "attributes_flags": b"\x07" + bytes(7),
        "mr_signer": bytes(32),
        "isv_prod_id": 0,
        "isv_svn": 0,
        "xfrm": bytes(8),
        "misc_select": b"\xff" * 4,
        "config_id": b"\xff" * 64,
        "config_svn": 1,
        "isv_ext_prod_id": b"\xff" * 16,
        "isv_family_id": b"\xff" * 16,
    }
    claims = claims_of("signer", body, {"status": "OutOfDate", "advisories": ("INTEL-SA-00615",)}, debug=True)
    request = request_of(
        "signer",
        tee=Tee.TDX,
        names=names_from(("x.example.org",), ("192.0.2.9",), ("spiffe://example.org/x",)),
        application=(ApplicationKind.WASM, OTHER),
        key_origin=KeyOrigin.SOFTWARE,
    )
    decision = decide(claims, request, policy)
    assert codes(decision) == [
        Code.POLICY_TEE,
        Code.SGX_DEBUG,
        Code.POLICY_SIGNER,
        Code.POLICY_PRODUCT,
        Code.POLICY_SVN,
        Code.POLICY_ATTRIBUTES,
        Code.POLICY_ATTRIBUTES,
        Code.POLICY_ATTRIBUTES,
        Code.POLICY_CONFIG,
        Code.POLICY_CONFIG,
        Code.POLICY_CONFIG,
        Code.POLICY_CONFIG,
        Code.SGX_TCB_STATUS,
        Code.POLICY_ADVISORY,
        Code.POLICY_APPLICATION,
        Code.POLICY_KEY_ORIGIN,
        Code.OWNER_CHIP,
        Code.POLICY_NAME,
        Code.POLICY_NAME,
        Code.POLICY_NAME,
    ]
    assert_refused(decision)


DNS = st.lists(st.sampled_from(["app.example.org", "www.example.org", "x.example.org", "vm.example.org"]), unique=True)
IPS = st.lists(st.sampled_from(["192.0.2.1", "2001:db8::1", "192.0.2.2"]), unique=True)
URIS = st.lists(
    st.sampled_from(["spiffe://example.org/app", "spiffe://example.org/b", "spiffe://example.org/proxy-attestation/server"]),
    unique=True,
)  # fmt: skip


@settings(deadline=None, max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(dns=DNS, ip=IPS, uri=URIS, lifetime=st.integers(1, 10**6), enclave=st.sampled_from([0x11, 0x12]))
def test_nothing_outside_the_granted_names_ever_comes_out(
    *,
    dns: list[str],
    ip: list[str],
    uri: list[str],
    lifetime: int,
    enclave: int,
    policy_of: PolicyOf,
    claims_of: ClaimsOf,
    request_of: RequestOf,
) -> None:
    policy = policy_of()
    asked = names_from(tuple(dns), tuple(ip), tuple(uri))
    decision = decide(
        claims_of(body={"mr_enclave": bytes([enclave] * 32)}), request_of(names=asked, lifetime=lifetime), policy
    )
    granted = policy.workloads["app"].names
    own = ("spiffe://example.org/app",)
    fits = set(dns) <= set(granted.dns) and set(asked.ip) <= set(granted.ip) and set(uri) <= set(own)
    assert decision.accepted is (fits and enclave == 0x11)
    if decision.accepted:
        assert decision.names == Names(asked.dns, asked.ip, own)
        assert 0 < decision.lifetime <= policy.max_lifetime
    else:
        assert_refused(decision)
