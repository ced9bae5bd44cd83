"""AMD's chains, CRLs and VCEKs from KDS: verified to a pinned ARK, never older; each test has one thing wrong."""

import ssl
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from fake_amd import VENDOR, FakeAmd
from fake_vendors import NOW, FakeService, Reply, Serve
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy_attestation.appraisal.snp_certificate import read_amd_certificate
from proxy_attestation.codes import Code
from proxy_attestation.endorsements.amd_checks import (
    AMD_PINS,
    AmdPins,
    ChainPieces,
    check_chain,
    check_vcek,
)
from proxy_attestation.endorsements.fetched import FetchedSet
from proxy_attestation.endorsements.kds import PRODUCTS, AmdTarget, check_amd, fetch_amd, parse_vcek
from proxy_attestation.errors import ProxyAttestationError

TCB = {"bl": 3, "tee": 0, "snp": 22, "ucode": 209}
HWID = bytes(range(1, 65))
VCEK = parse_vcek(f"{HWID.hex()}:bl=3,tee=0,snp=22,ucode=209", "Milan")
MILAN = AmdTarget("Milan")
VLEK = VENDOR.platform("Milan", "VLEK").evidence(bytes(64), now=NOW).certificates[0]
Fetch = Callable[..., FetchedSet]


@pytest.fixture
def amd() -> FakeAmd:
    return FakeAmd()


@pytest.fixture
def kds(serve: Serve, amd: FakeAmd) -> FakeService:
    return serve(amd)


@pytest.fixture
def fetch(run: Any, kds: FakeService, amd: FakeAmd) -> Fetch:
    def call(
        target: AmdTarget = MILAN,
        *,
        pins: AmdPins | None = None,
        held: Mapping[str, int] | None = None,
        files: Mapping[str, bytes] | None = None,
    ) -> FetchedSet:
        chosen = {target.product: frozenset({amd.pin})} if pins is None else pins
        found: FetchedSet = run(
            lambda getter: fetch_amd(getter, kds.url, target, chosen, NOW, held=held or {}, held_files=files or {})
        )
        return found

    return call


def code_of(fetch: Fetch, *arguments: Any, **options: Any) -> Code:
    with pytest.raises(ProxyAttestationError) as caught:
        fetch(*arguments, **options)
    return caught.value.code


def change(kds: FakeService, path: str, **fields: Any) -> None:
    good = kds.answer

    def answer(request: Any, number: int) -> Reply:
        reply = good(request, number)
        return replace(reply, **fields) if request.path.endswith(path) else reply

    kds.answer = answer


def test_a_set(fetch: Fetch, amd: FakeAmd, kds: FakeService) -> None:
    found = fetch()
    assert found.name == "snp-milan"
    assert set(found.files) == {"vcek_cert_chain.pem", "vcek_crl.der"}
    assert found.numbers == {"vcek crl number": 5, "vcek crl issue date": int((NOW - timedelta(days=1)).timestamp())}
    assert found.half_life == NOW + timedelta(days=29)
    assert found.valid_until == NOW + timedelta(days=59)
    assert [request.path for request in kds.requests] == ["/vcek/v1/Milan/cert_chain", "/vcek/v1/Milan/crl"]
    assert found.files["vcek_cert_chain.pem"] == amd.chain("vcek")


def test_a_set_with_vlek_and_a_chip(fetch: Fetch, kds: FakeService) -> None:
    found = fetch(replace(MILAN, vlek=True, vceks=(VCEK,)))
    assert set(found.files) == {
        "vcek_cert_chain.pem",
        "vcek_crl.der",
        "vlek_cert_chain.pem",
        "vlek_crl.der",
        VCEK.file_name,
    }
    assert {request.path for request in kds.requests} >= {"/vlek/v1/Milan/cert_chain", "/vlek/v1/Milan/crl"}
    assert kds.requests[-1].path == f"/vcek/v1/Milan/{HWID.hex()}"
    assert kds.requests[-1].query == {"blSPL": "03", "teeSPL": "00", "snpSPL": "22", "ucodeSPL": "209"}
    assert HWID.hex() not in VCEK.file_name


@pytest.mark.parametrize("amd", [FakeAmd("Turin")])
def test_turin_has_short_ids_and_a_component_more(fetch: Fetch, kds: FakeService) -> None:
    vcek = parse_vcek("1e550a8ee5cf9f4d:fmc=1,bl=1,tee=0,snp=2,ucode=9", "Turin")
    found = fetch(AmdTarget("Turin", vceks=(vcek,)))
    assert vcek.file_name in found.files
    assert list(kds.requests[-1].query) == ["fmcSPL", "blSPL", "teeSPL", "snpSPL", "ucodeSPL"]
    assert kds.requests[-1].path == "/vcek/v1/Turin/1e550a8ee5cf9f4d"


def test_a_vcek_is_asked_for_once(fetch: Fetch, kds: FakeService) -> None:
    target = replace(MILAN, vceks=(VCEK,))
    files = fetch(target).files
    before = len(kds.requests)
    assert fetch(target, files=files).files[VCEK.file_name] == files[VCEK.file_name]
    assert len(kds.requests) - before == 2


def test_the_pins_are_those_of_the_real_arks(vectors_dir: Path) -> None:
    for product in PRODUCTS:
        read = {
            name: (vectors_dir / "anchors" / f"amd-{name}-{product.lower()}.der").read_bytes()
            for name in ("ark", "ask", "asvk")
        }
        for kind, signer in (("vcek", "ask"), ("vlek", "asvk")):
            # There is no real CRL among the vectors: everything before it passes.
            pieces = ChainPieces(product, kind, read[signer], read["ark"], FakeAmd(product).crl())
            for pins, code in ((AMD_PINS, Code.SNP_CRL_MISSING), ({}, Code.SNP_ROOT)):
                with pytest.raises(ProxyAttestationError) as caught:
                    check_chain(pieces, pins, NOW)
                assert caught.value.code is Code.ENDORSEMENTS_REJECTED
                assert isinstance(caught.value.__cause__, ProxyAttestationError)
                assert caught.value.__cause__.code is code


def test_real_vceks_verify(vectors_dir: Path) -> None:
    case = vectors_dir / "snp" / "snp-v3-vcek-trustee-evidence-genoa-227a641d"
    anchors = vectors_dir / "anchors"
    der, ark = (case / "vek.der").read_bytes(), (anchors / "amd-ark-genoa.der").read_bytes()

    def check(signer: str) -> None:
        pieces = ChainPieces("Genoa", "vcek", (anchors / f"amd-{signer}-genoa.der").read_bytes(), ark, b"")
        check_vcek(der, pieces, AMD_PINS, None, NOW)

    check("ask")
    with pytest.raises(ProxyAttestationError):
        check("asvk")


# One thing wrong.


@pytest.mark.parametrize("pins", [AMD_PINS, {}, {"Genoa": frozenset({FakeAmd().pin})}])
def test_a_root_that_is_not_pinned(fetch: Fetch, pins: AmdPins) -> None:
    assert code_of(fetch, pins=pins) is Code.ENDORSEMENTS_REJECTED


@pytest.mark.parametrize(
    ("path", "body", "code"),
    [
        ("/cert_chain", FakeAmd(label="other").chain("vcek"), Code.ENDORSEMENTS_REJECTED),
        ("/cert_chain", FakeAmd().chain("vlek"), Code.ENDORSEMENTS_REJECTED),
        ("/cert_chain", FakeAmd("Genoa").chain("vcek"), Code.ENDORSEMENTS_REJECTED),
        ("/cert_chain", FakeAmd(ends=NOW).chain("vcek"), None),
        ("/cert_chain", FakeAmd(ends=NOW - timedelta(seconds=1)).chain("vcek"), Code.ENDORSEMENTS_STALE),
        ("/cert_chain", b"<html>", Code.ENDORSEMENTS_SOURCE),
        ("/cert_chain", ssl.DER_cert_to_PEM_cert(b"\x30\0").encode() * 2, Code.ENDORSEMENTS_SOURCE),
        ("/cert_chain", ssl.DER_cert_to_PEM_cert(b"\x30\0").encode(), Code.ENDORSEMENTS_SOURCE),
        ("/crl", FakeAmd(label="other").crl(), Code.ENDORSEMENTS_REJECTED),
        ("/crl", FakeAmd("Genoa").crl(), Code.ENDORSEMENTS_REJECTED),
        ("/crl", FakeAmd(revoked=True).crl(), Code.ENDORSEMENTS_REJECTED),
        ("/crl", FakeAmd(crl_lasts=timedelta(hours=23)).crl(), Code.ENDORSEMENTS_STALE),
        ("/crl", FakeAmd(crl_issued=NOW + timedelta(seconds=1)).crl(), Code.ENDORSEMENTS_STALE),
        ("/crl", FakeAmd(crl_number=None).crl(), Code.ENDORSEMENTS_REJECTED),
        ("/crl", FakeAmd().ask, Code.ENDORSEMENTS_REJECTED),
        ("/cert_chain", FakeAmd(begins=NOW + timedelta(seconds=1)).chain("vcek"), Code.ENDORSEMENTS_STALE),
        ("/crl", b"", Code.ENDORSEMENTS_SOURCE),
        ("/crl", b"\x30\x80" * 50, Code.ENDORSEMENTS_SOURCE),
    ],
)
def test_chains_and_crls(fetch: Fetch, kds: FakeService, path: str, body: bytes, code: Code | None) -> None:
    change(kds, path, body=body)
    if code is None:
        assert fetch().valid_until == NOW
    else:
        assert code_of(fetch) is code


def test_a_broken_signature_of_the_signing_key(fetch: Fetch, kds: FakeService, amd: FakeAmd) -> None:
    der = bytearray(amd.ask)
    der[-1] ^= 1
    root = ssl.DER_cert_to_PEM_cert(amd.ark)
    change(kds, "/cert_chain", body=(ssl.DER_cert_to_PEM_cert(bytes(der)) + root).encode())
    assert code_of(fetch) is Code.ENDORSEMENTS_REJECTED


def test_nothing_goes_back(fetch: Fetch) -> None:
    held = fetch().numbers
    assert fetch(held=held).numbers == held
    for name in held:
        assert code_of(fetch, held={**held, name: held[name] + 1}) is Code.ENDORSEMENTS_STALE


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (FakeAmd().vcek(HWID, TCB), None),
        (FakeAmd().vcek(HWID[::-1], TCB), Code.ENDORSEMENTS_REJECTED),
        (FakeAmd().vcek(HWID[:8], TCB), Code.ENDORSEMENTS_REJECTED),
        (FakeAmd().vcek(HWID, {**TCB, "snp": 21}), Code.ENDORSEMENTS_REJECTED),
        (FakeAmd().vcek(HWID, {**TCB, "ucode": 210}), Code.ENDORSEMENTS_REJECTED),
        (FakeAmd().vcek(HWID, {"bl": 3}), Code.ENDORSEMENTS_REJECTED),
        (FakeAmd(label="other").vcek(HWID, TCB), Code.ENDORSEMENTS_REJECTED),
        (FakeAmd().vcek(HWID, TCB, lasts=timedelta(days=-1)), Code.ENDORSEMENTS_STALE),
        (FakeAmd().vcek(HWID, TCB, product_name="Genoa-B0"), Code.ENDORSEMENTS_REJECTED),
        (FakeAmd().ask, Code.ENDORSEMENTS_REJECTED),
        (VLEK, Code.ENDORSEMENTS_REJECTED),
        (b"", Code.ENDORSEMENTS_SOURCE),
        (b"garbage", Code.ENDORSEMENTS_SOURCE),
    ],
)
def test_vceks(fetch: Fetch, kds: FakeService, body: bytes, code: Code | None) -> None:
    change(kds, HWID.hex(), body=body)
    target = replace(MILAN, vceks=(VCEK,))
    if code is None:
        assert fetch(target).files[VCEK.file_name] == body
    else:
        assert code_of(fetch, target) is code


def test_a_product_that_is_not_known(fetch: Fetch, amd: FakeAmd) -> None:
    pins = {"Genoa": frozenset({amd.pin})}
    assert code_of(fetch, AmdTarget("Genoa"), pins=pins) is Code.ENDORSEMENTS_UNKNOWN


def test_a_set_without_its_pieces(amd: FakeAmd) -> None:
    pins = {"Milan": frozenset({amd.pin})}
    files = {"vcek_cert_chain.pem": amd.chain("vcek"), "vcek_crl.der": amd.crl()}
    assert check_amd(files, MILAN, pins, NOW, held={}).files == files
    for name in files:
        rest = {other: data for other, data in files.items() if other != name}
        with pytest.raises(ProxyAttestationError) as caught:
            check_amd(rest, MILAN, pins, NOW, held={})
        assert caught.value.code is Code.ENDORSEMENTS_SOURCE
    with pytest.raises(ProxyAttestationError) as caught:
        check_amd(files, replace(MILAN, vceks=(VCEK,)), pins, NOW, held={})
    assert caught.value.code is Code.ENDORSEMENTS_SOURCE


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=200), st.sampled_from(["vcek_cert_chain.pem", "vcek_crl.der", VCEK.file_name]))
def test_any_bytes_are_an_error_of_ours(data: bytes, name: str) -> None:
    amd = FakeAmd()
    files = {"vcek_cert_chain.pem": amd.chain("vcek"), "vcek_crl.der": CRL, VCEK.file_name: GOOD, name: data}
    with pytest.raises(ProxyAttestationError) as caught:
        check_amd(files, MILAN, {"Milan": frozenset({amd.pin})}, NOW, held={})
    assert caught.value.code in (Code.ENDORSEMENTS_SOURCE, Code.ENDORSEMENTS_REJECTED)


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_any_signed_octet_changed_is_refused(data: st.DataObject) -> None:
    amd = FakeAmd()
    files = {"vcek_cert_chain.pem": amd.chain("vcek"), "vcek_crl.der": CRL, VCEK.file_name: GOOD}
    name, signed = data.draw(st.sampled_from([("vcek_crl.der", CRL_SIGNED), (VCEK.file_name, GOOD_SIGNED)]))
    start = files[name].index(signed)
    spoilt = bytearray(files[name])
    spoilt[data.draw(st.integers(start, start + len(signed) - 1))] ^= data.draw(st.integers(1, 255))
    with pytest.raises(ProxyAttestationError) as caught:
        check_amd({**files, name: bytes(spoilt)}, MILAN, {"Milan": frozenset({amd.pin})}, NOW, held={})
    assert str(caught.value.code).startswith("endorsements.")


CRL = FakeAmd().crl()
CRL_SIGNED = x509.load_der_x509_crl(CRL).tbs_certlist_bytes
GOOD = FakeAmd().vcek(HWID, TCB)
GOOD_SIGNED = read_amd_certificate(GOOD).tbs


@pytest.mark.parametrize(
    ("text", "product"),
    [
        ("", "Milan"),
        (f"{HWID.hex()}", "Milan"),
        (f"{HWID.hex()}:bl=3,tee=0,snp=22", "Milan"),
        (f"{HWID.hex()}:bl=3,tee=0,snp=22,ucode=256", "Milan"),
        (f"{HWID.hex()}:bl=3,tee=0,snp=22,ucode=-1", "Milan"),
        (f"{HWID.hex()}:bl=3,bl=3,snp=22,ucode=9", "Milan"),
        (f"{HWID.hex()}:fmc=1,bl=3,tee=0,snp=22,ucode=9", "Milan"),
        (f"{HWID.hex()}:bl=3,tee=0,snp=22,ucode=9,", "Milan"),
        (f"{HWID.hex()[:16]}:bl=3,tee=0,snp=22,ucode=9", "Milan"),
        (f"{HWID.hex()[:16]}:bl=3,tee=0,snp=22,ucode=9", "Turin"),
        (f"{HWID.hex()}:fmc=1,bl=3,tee=0,snp=22,ucode=9", "Turin"),
        (f"{'00' * 64}:bl=3,tee=0,snp=22,ucode=9", "Milan"),
    ],
)
def test_what_names_no_chip(text: str, product: str) -> None:
    with pytest.raises(ValueError, match=r"expected|after the colon|masks"):
        parse_vcek(text, product)
