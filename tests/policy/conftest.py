"""One good SGX and one good TDX workload, as policy text, as claims and as a request; tests change one thing each."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest

from proxy_attestation.appraisal.claims import Body, Claims, SgxClaims, TcbClaims, TdxClaims
from proxy_attestation.formats.request import ApplicationKind, KeyOrigin, Names, Request, RuntimeClaims, names_from
from proxy_attestation.formats.tee import Tee
from proxy_attestation.policy.load import parse_policy
from proxy_attestation.policy.model import Policy

Fields = Mapping[str, Any]
NOTHING: Mapping[str, Any] = MappingProxyType({})


def _hex(byte: int, size: int) -> str:
    return bytes([byte] * size).hex()


TOP: dict[str, str] = {"version": "1", "trust_domain": '"example.org"'}
SGX: dict[str, str] = {
    "name": '"app"',
    "tee": '"sgx"',
    "mr_enclave": f'["{_hex(0x11, 32)}"]',
    "dns": '["app.example.org", "www.example.org"]',
    "ip": '["192.0.2.1", "2001:db8::1"]',
    "owner": "{ shared = true }",
}
SGX_SIGNER: dict[str, str] = {
    "name": '"app"',
    "tee": '"sgx"',
    "mr_signer": f'["{_hex(0x22, 32)}"]',
    "isv_prod_id": "7",
    "min_isv_svn": "3",
    "attributes_flags": '"0500000000000000"',
    "attributes_flags_mask": '"ffffffffffffffff"',
    "xfrm": '"e700000000000000"',
    "xfrm_mask": '"ff00000000000000"',
    "misc_select": '"00000000"',
    "misc_select_mask": '"ffffffff"',
    "owner": "{ shared = true }",
}
TDX: dict[str, str] = {
    "name": '"vm"',
    "tee": '"tdx"',
    "mr_td": f'["{_hex(0x31, 48)}"]',
    "rtmr0": f'["{_hex(0x40, 48)}"]',
    "rtmr1": f'["{_hex(0x41, 48)}"]',
    "rtmr2": f'["{_hex(0x42, 48)}"]',
    "mr_config_id": f'["{_hex(0, 48)}"]',
    "td_attributes": '"0000001000000000"',
    "td_attributes_mask": '"ffffffffffffffff"',
    "xfam": '"e702060000000000"',
    "xfam_mask": '"ffffffffffffffff"',
    "dns": '["vm.example.org"]',
    "owner": "{ shared = true }",
}
ENTRIES = {"sgx": SGX, "signer": SGX_SIGNER, "tdx": TDX}

SGX_BODY = SgxClaims(
    cpu_svn=bytes(16),
    misc_select=bytes(4),
    attributes_flags=bytes.fromhex("0500000000000000"),
    xfrm=bytes.fromhex("e700000000000000"),
    mr_enclave=bytes([0x11] * 32),
    mr_signer=bytes([0x22] * 32),
    isv_prod_id=7,
    isv_svn=3,
    isv_ext_prod_id=bytes(16),
    config_id=bytes(64),
    config_svn=0,
    isv_family_id=bytes(16),
)
TDX_BODY = TdxClaims(
    tee_tcb_svn=bytes(16),
    mr_seam=bytes(48),
    mr_signer_seam=bytes(48),
    seam_attributes=bytes(8),
    td_attributes=bytes.fromhex("0000001000000000"),
    xfam=bytes.fromhex("e702060000000000"),
    mr_td=bytes([0x31] * 48),
    mr_config_id=bytes(48),
    mr_owner=bytes([0x50] * 48),
    mr_owner_config=bytes([0x51] * 48),
    rtmr0=bytes([0x40] * 48),
    rtmr1=bytes([0x41] * 48),
    rtmr2=bytes([0x42] * 48),
    rtmr3=bytes([0x43] * 48),
    tee_tcb_svn_2=bytes(16),
    mr_service_td=bytes(48),
)
BODIES: dict[str, Body] = {"sgx": SGX_BODY, "signer": SGX_BODY, "tdx": TDX_BODY}


@pytest.fixture
def render() -> Callable[..., str]:
    """Return the writer of policy text: `kind` of entry, and the fields to change (None removes one)."""

    def write(
        kind: str = "sgx", entry: Fields = NOTHING, top: Fields = NOTHING, danger: Fields = NOTHING, more: str = ""
    ) -> str:
        lines = [f"{key} = {value}" for key, value in {**TOP, **top}.items() if value is not None]
        if danger:
            lines += ["[danger]", *(f"{key} = {value}" for key, value in danger.items())]
        lines += ["[[workload]]"]
        lines += [f"{key} = {value}" for key, value in {**ENTRIES[kind], **entry}.items() if value is not None]
        return "\n".join([*lines, more, ""])

    return write


@pytest.fixture
def policy_of(render: Callable[..., str], tmp_path: Path) -> Callable[..., Policy]:
    """Return the maker of good policies; its arguments are those of `render`."""
    return lambda *args, **kwargs: parse_policy(render(*args, **kwargs), tmp_path)


@pytest.fixture
def claims_of() -> Callable[..., Claims]:
    """Return the maker of claims that the entry of a kind accepts; `body` and `tcb` hold fields to change."""

    def make(kind: str = "sgx", body: Fields = NOTHING, tcb: Fields = NOTHING, **top: Any) -> Claims:
        good = BODIES[kind]
        when = datetime(2026, 1, 1, tzinfo=UTC)
        claims = Claims(
            tee=Tee.TDX if kind == "tdx" else Tee.SGX,
            body=replace(good, **body),
            bound=(bytes(64),),
            debug=False,
            tcb=replace(TcbClaims("UpToDate", when, (), 17, bytes(6), bytes(2)), **tcb),
            instance_id=None,
            anchor=bytes(32),
            evidence_sha256=bytes(32),
            valid_until=when,
        )
        return replace(claims, **top)

    return make


@pytest.fixture
def request_of() -> Callable[..., Request]:
    """Return the maker of requests that the entry of a kind grants."""

    def make(
        kind: str = "sgx",
        *,
        workload: str | None = None,
        tee: Tee | None = None,
        names: Names | None = None,
        lifetime: int = 3600,
        application: tuple[ApplicationKind, bytes | None] = (ApplicationKind.NONE, None),
        key_origin: KeyOrigin = KeyOrigin.TEE,
    ) -> Request:
        own = {"sgx": names_from(("app.example.org",)), "signer": Names(), "tdx": names_from(("vm.example.org",))}
        return Request(
            workload=workload or ("vm" if kind == "tdx" else "app"),
            tee=tee or (Tee.TDX if kind == "tdx" else Tee.SGX),
            names=own[kind] if names is None else names,
            lifetime=lifetime,
            runtime=RuntimeClaims(application[0], application[1], key_origin),
        )

    return make
