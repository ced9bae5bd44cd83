"""Intel's collateral from PCS and PCCS: what was asked, verified, never older; each test has one thing wrong."""

import json
import ssl
import urllib.parse
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from fake_vendors import NOW, FakeService, IntelAnswers, Reply, Serve
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy_attestation.appraisal.endorsements import DcapEndorsements
from proxy_attestation.appraisal.roots import VENDOR_ROOTS, Roots
from proxy_attestation.codes import Code
from proxy_attestation.endorsements.detect import Kind
from proxy_attestation.endorsements.fetched import FetchedSet
from proxy_attestation.endorsements.http import Answer
from proxy_attestation.endorsements.load import load_endorsements
from proxy_attestation.endorsements.pcs import (
    FILES,
    IntelService,
    IntelTarget,
    PckRequest,
    check_intel,
    fetch_intel,
    fetch_pck,
    issuer_chain,
    pieces_of,
    revocation_list,
)
from proxy_attestation.endorsements.peek import peek_crl, peek_qe_identity, peek_tcb_info
from proxy_attestation.errors import ProxyAttestationError, RefusedError
from proxy_attestation.formats.tee import Tee
from proxy_attestation_simulator.certificates import pem_chain
from proxy_attestation_simulator.collateral_faults import COLLATERAL_FAULTS
from proxy_attestation_simulator.intel import Vendor

FMSPC = bytes.fromhex("00906ed50000")
SGX = IntelTarget(Tee.SGX, FMSPC)
TDX = IntelTarget(Tee.TDX, bytes.fromhex("50806f000000"))
Fetch = Callable[..., FetchedSet]


@pytest.fixture
def fetch(run: Any, roots: Roots, clock: Any, service_of: Any) -> Fetch:
    def call(target: IntelTarget = SGX, held: Mapping[str, int] | None = None, anchors: Roots = roots) -> FetchedSet:
        found: FetchedSet = run(
            lambda getter: fetch_intel(service_of(getter), target, anchors, clock.now(), held or {})
        )
        return found

    return call


def code_of(fetch: Fetch, *arguments: Any, **options: Any) -> Code:
    with pytest.raises(ProxyAttestationError) as caught:
        fetch(*arguments, **options)
    # 3 where somebody may be cheating, else 5; never a verdict on somebody's evidence.
    assert caught.value.exit_status == (3 if caught.value.code is Code.ENDORSEMENTS_REJECTED else 5)
    return caught.value.code


@pytest.mark.parametrize("target", [SGX, TDX, replace(SGX, ca="processor")])
def test_a_set(fetch: Fetch, vendor: Vendor, tmp_path: Path, target: IntelTarget) -> None:
    found = fetch(target)
    expected = vendor.endorsements(str(target.tee), NOW, fmspc=target.fmspc, ca=target.ca)
    for name in ("tcb_info_issuer_chain", "pck_crl_issuer_chain"):
        assert found.files[FILES[name]] == expected[name]
    info = json.loads(found.files["tcb_info.json"])["tcbInfo"]
    assert bytes.fromhex(info["fmspc"]) == target.fmspc
    assert found.name == f"{target.tee}-{target.fmspc.hex()}"
    assert found.numbers == {
        "tcb info number": 17,
        "qe identity number": 17,
        "tcb info issue date": int((NOW - timedelta(days=1)).timestamp()),
        "qe identity issue date": int((NOW - timedelta(days=1)).timestamp()),
        f"{target.ca} ca crl number": 3,
        "root ca crl number": 3,
    }
    assert found.half_life == NOW + timedelta(days=14)
    assert found.valid_until == NOW + timedelta(days=29)
    for name, data in found.files.items():
        (tmp_path / name).write_bytes(data)
    assert load_endorsements([tmp_path]) == (pieces_of(found.files),)


def test_what_is_asked(fetch: Fetch, pcs: FakeService) -> None:
    fetch(SGX)
    assert [(request.path, request.query) for request in pcs.requests] == [
        ("/sgx/certification/v4/tcb", {"fmspc": "00906ED50000", "update": "standard"}),
        ("/sgx/certification/v4/qe/identity", {"update": "standard"}),
        ("/sgx/certification/v4/pckcrl", {"ca": "platform", "encoding": "der"}),
        ("/IntelSGXRootCA.der", {}),
    ]


def test_tdx_takes_the_crl_where_it_is(fetch: Fetch, pcs: FakeService) -> None:
    fetch(TDX)
    assert [request.path for request in pcs.requests][1:3] == [
        "/tdx/certification/v4/qe/identity",
        "/sgx/certification/v4/pckcrl",
    ]


@pytest.mark.parametrize(
    ("release", "query"),
    [("early", {"update": "early"}), (18, {"tcbEvaluationDataNumber": "18"}), (0, {"tcbEvaluationDataNumber": "0"})],
)
def test_a_release(fetch: Fetch, pcs: FakeService, intel: IntelAnswers, release: Any, query: dict[str, str]) -> None:
    intel.releases["early"] = {"evaluation_number": 18}
    found = fetch(replace(SGX, release=release))
    assert found.numbers["tcb info number"] == (release if isinstance(release, int) else 18)
    assert pcs.requests[0].query == {"fmspc": "00906ED50000", **query}
    assert pcs.requests[1].query == query


def test_a_pccs(run: Any, serve: Serve, intel: IntelAnswers, roots: Roots) -> None:
    pccs = serve(intel)
    found = run(lambda getter: fetch_intel(IntelService.pccs(getter, pccs.url), SGX, roots, NOW, {}))
    assert pccs.requests[-1].path == "/sgx/certification/v4/rootcacrl"
    assert found.files["root_ca_crl.der"][:1] == b"\x30"


def test_the_header_that_version_3_had(fetch: Fetch, intel: IntelAnswers) -> None:
    def rename(reply: Reply) -> Reply:
        return replace(reply, headers={f"SGX-{name}": value for name, value in reply.headers.items()})

    intel.changes["/sgx/certification/v4/tcb"] = rename
    assert fetch().numbers["tcb info number"] == 17


def test_a_crl_in_pem(fetch: Fetch, intel: IntelAnswers) -> None:
    def pem(reply: Reply) -> Reply:
        return replace(reply, body=x509.load_der_x509_crl(reply.body).public_bytes(Encoding.PEM))

    intel.changes["/pckcrl"] = pem
    assert fetch().files["pck_crl.der"][:1] == b"\x30"


# One thing wrong.


@pytest.mark.parametrize(
    ("path", "fields", "code"),
    [
        ("/tcb", {"body": b"<html>"}, Code.ENDORSEMENTS_SOURCE),
        ("/tcb", {"body": b"{}"}, Code.ENDORSEMENTS_SOURCE),
        ("/qe/identity", {"body": b""}, Code.ENDORSEMENTS_SOURCE),
        ("/tcb", {"headers": {}}, Code.ENDORSEMENTS_SOURCE),
        ("/tcb", {"headers": {"tcb-info-issuer-chain": "%00garbage"}}, Code.ENDORSEMENTS_SOURCE),
        ("/tcb", {"headers": {"tcb-info-issuer-chain": "A" * 33_000}}, Code.ENDORSEMENTS_SOURCE),
        ("/qe/identity", {"headers": {"sgx-enclave-identity-issuer-chain": "-----BEGIN%20"}}, Code.ENDORSEMENTS_SOURCE),
        ("/pckcrl", {"headers": {"other": "x"}}, Code.ENDORSEMENTS_SOURCE),
        ("/pckcrl", {"body": b"garbage"}, Code.ENDORSEMENTS_SOURCE),
        ("/IntelSGXRootCA.der", {"body": b""}, Code.ENDORSEMENTS_SOURCE),
        ("/tcb", {"body": bytes(512 * 1024 + 1)}, Code.ENDORSEMENTS_SOURCE),
        ("/tcb", {"status": 404}, Code.ENDORSEMENTS_UNKNOWN),
        ("/qe/identity", {"status": 410}, Code.ENDORSEMENTS_UNKNOWN),
        ("/pckcrl", {"status": 500}, Code.ENDORSEMENTS_UNAVAILABLE),
        ("/IntelSGXRootCA.der", {"status": 302, "headers": {"location": "/other"}}, Code.ENDORSEMENTS_SOURCE),
    ],
)  # fmt: skip
def test_answers_that_are_none(
    fetch: Fetch, intel: IntelAnswers, path: str, fields: dict[str, Any], code: Code
) -> None:
    intel.change(path, **fields)
    assert code_of(fetch) is code


@pytest.mark.parametrize("path", ["/tcb", "/qe/identity", "/pckcrl", "/IntelSGXRootCA.der"])
def test_an_answer_of_another_vendor(fetch: Fetch, intel: IntelAnswers, vendor: Vendor, path: str) -> None:
    intel.vendors[path] = vendor.stranger
    assert code_of(fetch) is Code.ENDORSEMENTS_REJECTED


def test_a_root_that_is_not_pinned(fetch: Fetch) -> None:
    assert code_of(fetch, anchors=VENDOR_ROOTS) is Code.ENDORSEMENTS_REJECTED


HARMLESS = {"level-status", "tcb-recovery", "revoked-pck", "pceid-mismatch", "missing"}
"""Faults that no fetch can see, beside those about floors: of a platform, or a piece that HTTP cannot leave out."""
FAULTS = [
    pytest.param(tee, fault, id=f"{tee}-{fault.name}")
    for fault in COLLATERAL_FAULTS.values()
    for tee in fault.tees
    if fault.name not in HARMLESS and not fault.name.startswith("older-")
]


@pytest.mark.parametrize(("tee", "fault"), FAULTS)
def test_every_fault_of_a_set(fetch: Fetch, intel: IntelAnswers, tee: str, fault: Any) -> None:
    values = {"malformed": "=tcb_info", "tcb-info-version": "=9", "qe-identity-version": "=9"}
    intel.options["fault"] = fault.name + values.get(fault.name, "")
    code = code_of(fetch, SGX if tee == "sgx" else TDX)
    word = str(fault.codes()[0]).rpartition(".")[2]
    expected = Code.ENDORSEMENTS_REJECTED
    if word == "endorsements_malformed":
        expected = Code.ENDORSEMENTS_SOURCE
    elif word.endswith("expired"):
        expected = Code.ENDORSEMENTS_STALE
    assert code is expected


@pytest.mark.parametrize(
    ("options", "code"),
    [
        ({"fmspc": bytes(6)}, Code.ENDORSEMENTS_REJECTED),
        ({"ca": "processor"}, Code.ENDORSEMENTS_REJECTED),
        ({"fault": "tcb-info-signature"}, Code.ENDORSEMENTS_REJECTED),
        ({"issue_date": NOW - timedelta(days=31)}, Code.ENDORSEMENTS_STALE),
        ({"issue_date": NOW + timedelta(seconds=1)}, Code.ENDORSEMENTS_STALE),
    ],
)
def test_sets_that_are_not_what_was_asked_for(
    fetch: Fetch, intel: IntelAnswers, options: dict[str, Any], code: Code
) -> None:
    intel.options |= options
    assert code_of(fetch) is code


def test_tcb_info_of_the_other_tee(fetch: Fetch, intel: IntelAnswers, vendor: Vendor) -> None:
    intel.change("/tcb", body=vendor.endorsements("tdx", NOW, fmspc=FMSPC)["tcb_info"])
    assert code_of(fetch) is Code.ENDORSEMENTS_REJECTED


def test_the_quoting_enclave_of_the_other_tee(fetch: Fetch, intel: IntelAnswers, vendor: Vendor) -> None:
    intel.change("/qe/identity", body=vendor.endorsements("tdx", NOW)["qe_identity"])
    assert code_of(fetch) is Code.ENDORSEMENTS_REJECTED


def test_a_crl_of_the_other_kind(fetch: Fetch, intel: IntelAnswers, vendor: Vendor) -> None:
    pieces = vendor.endorsements("sgx", NOW)
    intel.change("/pckcrl", body=pieces["root_ca_crl"])
    assert code_of(fetch) is Code.ENDORSEMENTS_REJECTED
    intel.changes.clear()
    intel.change("/IntelSGXRootCA.der", body=pieces["pck_crl"])
    assert code_of(fetch) is Code.ENDORSEMENTS_REJECTED


@pytest.mark.parametrize("path", ["/tcb", "/qe/identity"])
def test_another_evaluation_number_than_the_one_asked_for(
    fetch: Fetch, intel: IntelAnswers, vendor: Vendor, path: str
) -> None:
    piece = {"/tcb": "tcb_info", "/qe/identity": "qe_identity"}[path]
    intel.change(path, body=vendor.endorsements("sgx", NOW, fmspc=FMSPC, evaluation_number=17)[piece])
    assert code_of(fetch, replace(SGX, release=18)) is Code.ENDORSEMENTS_REJECTED


def test_nothing_goes_back(fetch: Fetch) -> None:
    held = fetch().numbers
    assert fetch(held=held).numbers == held
    for name in held:
        assert code_of(fetch, held={**held, name: held[name] + 1}) is Code.ENDORSEMENTS_STALE


def test_the_crl_of_the_other_ca_counts_for_itself(fetch: Fetch) -> None:
    assert (
        fetch(replace(SGX, ca="processor"), held={"platform ca crl number": 9}).numbers["processor ca crl number"] == 3
    )


# Any header and any body.


def _answer(text: str) -> Answer:
    return Answer("http://pcs", {"h": text}, b"")


BLOCKS = [
    urllib.parse.quote(f"-----BEGIN CERTIFICATE-----\n{text}\n-----END CERTIFICATE-----\n")
    for text in ("", "AA==", "MAA=", "é")
]


@settings(max_examples=300)
@given(st.text(max_size=200) | st.binary(max_size=200).map(urllib.parse.quote) | st.sampled_from(BLOCKS))
def test_any_header_is_a_chain_or_an_error_of_ours(text: str) -> None:
    with pytest.raises(ProxyAttestationError) as caught:
        issuer_chain(_answer(text), ("h",))
    assert caught.value.code is Code.ENDORSEMENTS_SOURCE


def test_a_header_with_another_certificate_too_many(vendor: Vendor) -> None:
    chain = pem_chain([vendor.root.certificate] * 4).decode()
    with pytest.raises(ProxyAttestationError) as caught:
        issuer_chain(_answer(urllib.parse.quote(chain)), ("h",))
    assert caught.value.code is Code.ENDORSEMENTS_SOURCE


@settings(max_examples=300)
@given(st.binary(max_size=300))
def test_any_body_is_a_crl_or_an_error_of_ours(body: bytes) -> None:
    with pytest.raises(ProxyAttestationError) as caught:
        revocation_list(Answer("http://pcs", {}, body), Kind.PCK_CRL)
    assert caught.value.code in (Code.ENDORSEMENTS_SOURCE, Code.ENDORSEMENTS_REJECTED)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=10), inner, max_size=4),
    max_leaves=8,
)


@settings(max_examples=200, deadline=None)
@given(data=st.data())
def test_any_json_is_an_error_of_ours(data: st.DataObject) -> None:
    vendor = Vendor.create(NOW, secret=bytes(32))
    pieces = vendor.endorsements("sgx", NOW, fmspc=FMSPC)
    name = data.draw(st.sampled_from(["tcb_info", "qe_identity"]))
    good = json.loads(pieces[name])
    (member,) = good.keys() - {"signature"}
    spoilt = data.draw(
        JSON
        | JSON.map(lambda inner: {member: inner, "signature": good["signature"]})
        | st.sampled_from(sorted(good[member])).flatmap(
            lambda key: JSON.map(lambda inner: {**good, member: {**good[member], key: inner}})
        )
    )
    pieces[name] = json.dumps(spoilt).encode()
    try:
        check_intel(DcapEndorsements(**pieces), SGX, Roots(frozenset({vendor.root_pin})), NOW, {})
    except ProxyAttestationError as error:
        assert error.code in (Code.ENDORSEMENTS_SOURCE, Code.ENDORSEMENTS_REJECTED)
    else:
        assert spoilt == good


# PCK certificates.


@pytest.fixture
def request_pck() -> PckRequest:
    return PckRequest(bytes(384), bytes(16), (13).to_bytes(2, "little"), bytes(2))


@pytest.fixture
def pck(run: Any, roots: Roots, service_of: Any, request_pck: PckRequest) -> Callable[..., Any]:
    def call(request: PckRequest = request_pck, anchors: Roots = roots) -> Any:
        return run(lambda getter: fetch_pck(replace(service_of(getter), api_key="subscription"), request, anchors, NOW))

    return call


def _serve_pck(pcs: FakeService, platform: Any, **headers: str) -> None:
    """Answer with the chain of a simulated machine."""
    leaf, *issuers = platform.certificates
    chain = "".join(map(ssl.DER_cert_to_PEM_cert, issuers))
    reply = Reply(
        headers={"SGX-PCK-Certificate-Issuer-Chain": urllib.parse.quote(chain), **headers},
        body=ssl.DER_cert_to_PEM_cert(leaf).encode(),
    )
    pcs.answer = lambda _request, _number: reply


def test_a_pck_certificate(pck: Any, pcs: FakeService, vendor: Vendor) -> None:
    _serve_pck(pcs, vendor.platform("sgx", fmspc=FMSPC), **{"SGX-FMSPC": FMSPC.hex().upper()})
    pem, chain = pck()
    assert chain.extension.fmspc == FMSPC
    assert pem.count(b"BEGIN") == 3
    (request,) = pcs.requests
    assert request.path == "/sgx/certification/v4/pckcert"
    assert request.query == {"encrypted_ppid": "00" * 384, "cpusvn": "00" * 16, "pcesvn": "0d00", "pceid": "0000"}
    assert request.headers["ocp-apim-subscription-key"] == "subscription"


def pck_code(pck: Any, *arguments: Any, **options: Any) -> Code:
    with pytest.raises(ProxyAttestationError) as caught:
        pck(*arguments, **options)
    return caught.value.code


def test_a_pck_certificate_of_another_vendor(pck: Any, pcs: FakeService, vendor: Vendor) -> None:
    _serve_pck(pcs, vendor.stranger.platform("sgx", fmspc=FMSPC))
    assert pck_code(pck) is Code.ENDORSEMENTS_REJECTED


@pytest.mark.parametrize("fields", [{"pce_id": b"\1\0"}, {"pce_svn": b"\x0c\0"}])
def test_a_pck_certificate_of_another_platform(
    pck: Any, pcs: FakeService, vendor: Vendor, request_pck: PckRequest, fields: dict[str, bytes]
) -> None:
    _serve_pck(pcs, vendor.platform("sgx", fmspc=FMSPC))
    assert pck_code(pck, replace(request_pck, **fields)) is Code.ENDORSEMENTS_REJECTED


@pytest.mark.parametrize("told", ["00", "zz", "000000000000"])
def test_an_fmspc_beside_the_certificate_that_is_another(pck: Any, pcs: FakeService, vendor: Vendor, told: str) -> None:
    _serve_pck(pcs, vendor.platform("sgx", fmspc=FMSPC), **{"SGX-FMSPC": told})
    assert pck_code(pck) is Code.ENDORSEMENTS_REJECTED


@pytest.mark.parametrize("body", [b"", b"garbage", b"-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n"])
def test_what_is_no_pck_certificate(pck: Any, pcs: FakeService, vendor: Vendor, body: bytes) -> None:
    _serve_pck(pcs, vendor.platform("sgx", fmspc=FMSPC))
    good = pcs.answer
    pcs.answer = lambda request, number: replace(good(request, number), body=body)
    assert pck_code(pck) is Code.ENDORSEMENTS_SOURCE


def test_a_pck_chain_without_its_root(pck: Any, pcs: FakeService, vendor: Vendor) -> None:
    class Short:
        certificates = vendor.platform("sgx", fmspc=FMSPC).certificates[:2]

    _serve_pck(pcs, Short)
    assert pck_code(pck) is Code.ENDORSEMENTS_REJECTED


# What Intel really published.


SAMPLE_ROOT = ("sgx-00707f000000-", "tdx-ed742af8adf5-")
"""Sets of sample data, under roots of their own."""


def test_every_recorded_set_passes_through_the_client(run: Any, serve: Serve, vectors_dir: Path) -> None:
    folders = sorted((vectors_dir / "dcap" / "collateral").iterdir())
    assert folders
    kept = 0
    for folder in folders:
        pieces = {name: (folder / file).read_bytes() for name, file in FILES.items()}
        tee, fmspc, _, ca, *_ = folder.name.split("-")
        headers = {
            "/tcb": ("TCB-Info-Issuer-Chain", "tcb_info"),
            "/qe/identity": ("SGX-Enclave-Identity-Issuer-Chain", "qe_identity"),
            "/pckcrl": ("SGX-PCK-CRL-Issuer-Chain", "pck_crl"),
        }

        def answer(request: Any, number: int, known: Any = headers, pieces: Any = pieces) -> Reply:
            del number
            for end, (header, piece) in known.items():
                if request.path.endswith(end):
                    chain = urllib.parse.quote(pieces[f"{piece}_issuer_chain"].decode())
                    return Reply(headers={header: chain}, body=pieces[piece])
            return Reply(body=pieces["root_ca_crl"].hex().encode())

        service = serve(answer)
        found = {
            "tcb_info": peek_tcb_info(pieces["tcb_info"]).window,
            "qe_identity": peek_qe_identity(pieces["qe_identity"]).window,
            "pck_crl": peek_crl(pieces["pck_crl"])[1],
            "root_ca_crl": peek_crl(pieces["root_ca_crl"])[1],
        }
        now = max(start for start, _ in found.values())
        assert now <= min(end for _, end in found.values())
        target = IntelTarget(Tee(tee), bytes.fromhex(fmspc), ca)

        def ask(getter: Any, service: Any = service, target: Any = target, now: Any = now) -> Any:
            return fetch_intel(IntelService.pccs(getter, service.url), target, VENDOR_ROOTS, now, {})

        if folder.name.startswith(SAMPLE_ROOT):
            with pytest.raises(RefusedError):
                run(ask)
            continue
        fetched = run(ask)
        assert fetched.files["tcb_info.json"] == pieces["tcb_info"]
        assert fetched.files["root_ca_crl.der"] == pieces["root_ca_crl"]
        kept += 1
    assert kept == len(folders) - len(SAMPLE_ROOT)
