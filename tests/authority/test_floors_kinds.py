"""Floors of AMD's lists, and what claims of each kind must rest on."""

import sqlite3
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from proxy_attestation.appraisal.claims import Claims
from proxy_attestation.appraisal.endorsements import Floor, SnpEndorsements
from proxy_attestation.appraisal.kinds import Appraiser, decode_evidence_of
from proxy_attestation.appraisal.roots import same_for_all
from proxy_attestation.appraisal.snp_claims import SnpClaims
from proxy_attestation.authority.floors import check_use
from proxy_attestation.authority.init import memory_issuer
from proxy_attestation.authority.issue import Issuer
from proxy_attestation.authority.messages import decode_endorsements, encode_endorsements
from proxy_attestation.authority.wire import MALFORMED
from proxy_attestation.codes import Code
from proxy_attestation.errors import UnavailableError
from proxy_attestation.formats import cbor
from proxy_attestation.formats.snp_report import Product
from proxy_attestation.formats.tee import DCAP, Tee
from proxy_attestation.policy.load import parse_policy
from proxy_attestation_simulator.amd import CRL_NUMBER, AmdVendor
from proxy_attestation_simulator.amd_certificates import revocation_list
from proxy_attestation_simulator.aws import Aws
from proxy_attestation_simulator.recipes import Crl

DAY = timedelta(days=1)
MILAN = (Tee.SNP, b"Milan")
FMSPC = bytes.fromhex("00606a000000")
POLICY = """
version = 1
trust_domain = "example.org"

[[workload]]
name = "enclave"
tee = "sgx"
mr_enclave = ["e1e1e1e1e1e1e1e1e1e1e1e1e1e1e1e1e1e1e1e1e1e1e1e1e1e1e1e1e1e1e1e1"]
owner = { shared = true }
"""


@pytest.fixture
def amd(clock: Any) -> AmdVendor:
    return AmdVendor.fixed(clock())


@pytest.fixture
def aws(clock: Any) -> Aws:
    return Aws.create(clock(), secret=bytes(32))


@pytest.fixture
def issuer(clock: Any, tmp_path: Path, vendor: Any, amd: AmdVendor, aws: Aws) -> Issuer:
    """An authority for every vendor's evidence, that knows no collateral yet."""
    anchors = [vendor.root_pin, *(amd.ark_pin(line) for line in Product), aws.root_pin]
    policy = parse_policy(POLICY, tmp_path)
    return memory_issuer(policy, dns=["example.org"], anchors=anchors, clock=clock, tls_names=["proxy.example.org"])


@pytest.fixture
def set_of(amd: AmdVendor, clock: Any) -> Callable[..., SnpEndorsements]:
    """Make a line's set; the options are those of its list."""

    def make(line: str = "Milan", ask: str = "good", key: str = "", **options: Any) -> SnpEndorsements:
        crl = replace(Crl(CRL_NUMBER, clock() - DAY, clock() + 45 * DAY), **options)
        crls = (revocation_list(crl, f"ARK-{line}", amd.key(key or f"{line} ark")),)
        return SnpEndorsements((amd.authority(line, "ark"), amd.authority(line, "ask", ask)), crls)

    return make


def refused(issuer: Issuer, endorsements: SnpEndorsements, code: Code = Code.ENDORSEMENTS_UNAVAILABLE) -> None:
    before = issuer.hello()
    with pytest.raises(UnavailableError) as caught:
        issuer.raise_floor(endorsements)
    assert caught.value.code is code
    assert issuer.hello() == before


# Raising.


@pytest.mark.parametrize("line", list(Product))
def test_the_numbers_are_the_lists_own(line: Product, issuer: Issuer, set_of: Any, clock: Any) -> None:
    generation = issuer.hello().generation
    floor = issuer.raise_floor(set_of(line))
    assert floor == Floor(issue_date=int((clock() - DAY).timestamp()), pck_crl_number=CRL_NUMBER)
    key = (Tee.SNP, line.encode())
    assert issuer.authority.floors[key] == issuer.authority.ledger.floors()[key] == floor
    told = issuer.hello()
    assert told.generation > generation
    assert [(one.tee, one.platform, one.floor) for one in told.floors] == [(*key, floor)]


def test_each_line_has_its_own_floor_beside_intels(issuer: Issuer, set_of: Any, collateral: Any) -> None:
    for line in Product:
        issuer.raise_floor(set_of(line))
    issuer.raise_floor(collateral())
    kept = issuer.authority.ledger.floors()
    assert kept.keys() == {(Tee.SGX, FMSPC), *((Tee.SNP, line.encode()) for line in Product)}
    assert kept == issuer.authority.floors


def test_a_newer_list_raises_and_an_older_one_is_refused(issuer: Issuer, set_of: Any, clock: Any) -> None:
    first = set_of()
    issuer.raise_floor(first)
    assert issuer.raise_floor(first) == issuer.authority.floors[MILAN]
    newer = issuer.raise_floor(set_of(number=CRL_NUMBER + 1, last_update=clock() - DAY / 2))
    assert newer.pck_crl_number == CRL_NUMBER + 1
    refused(issuer, first)
    # One number that is higher does not make up for one that is lower.
    refused(issuer, set_of(number=CRL_NUMBER + 2))
    refused(issuer, set_of(number=CRL_NUMBER, last_update=clock() - DAY / 3))
    assert issuer.authority.floors[MILAN] == newer


def test_the_ledger_itself_lets_no_floor_of_amds_sink(issuer: Issuer, set_of: Any) -> None:
    floor = issuer.raise_floor(set_of())
    connection = issuer.authority.ledger._connection
    for sql in (
        "UPDATE floor SET issue_date = issue_date - 1 WHERE tee = 'snp'",
        "DELETE FROM floor WHERE tee = 'snp'",
        "INSERT INTO floor SELECT issuer, 'nitro', fmspc, 0, 0, pck_crl_number, root_crl_number FROM floor",
    ):
        with pytest.raises(sqlite3.IntegrityError):
            connection.execute(sql)
    assert issuer.authority.ledger.floors() == {MILAN: floor}


@pytest.mark.parametrize(
    "options",
    [{"ask": "other"}, {"ask": "expired"}, {"key": "stranger Milan ark"}, {"number": None}, {"revoked": (0x10001,)}],
)
def test_a_set_that_does_not_verify_raises_nothing(options: Any, issuer: Issuer, set_of: Any) -> None:
    refused(issuer, set_of(**options))


def test_a_strangers_set_raises_nothing(issuer: Issuer, amd: AmdVendor, set_of: Any) -> None:
    strange = tuple(amd.authority("Milan", role, stranger=True) for role in ("ark", "ask"))
    crls = set_of(key="stranger Milan ark", number=1 << 100).crls
    refused(issuer, SnpEndorsements(strange, crls))
    refused(issuer, SnpEndorsements())


@pytest.mark.parametrize("piece", ["certificates", "crls"])
def test_a_set_without_a_piece_raises_nothing(piece: str, issuer: Issuer, set_of: Any) -> None:
    refused(issuer, replace(set_of(), **{piece: ()}))


def test_the_authority_s_own_clock_counts(issuer: Issuer, set_of: Any, clock: Any) -> None:
    good = set_of()
    clock.move(days=46)
    refused(issuer, good)


def test_the_highest_number_that_a_list_may_have(issuer: Issuer, set_of: Any) -> None:
    highest = (1 << 159) - 1
    floor = issuer.raise_floor(set_of(number=highest))
    assert floor.pck_crl_number == highest
    assert issuer.authority.ledger.floors() == {MILAN: floor}


def test_sets_arrive_as_they_were_sent(set_of: Any, collateral: Any) -> None:
    for one in (set_of(), SnpEndorsements(), collateral()):
        wire = cbor.encode(encode_endorsements(one))
        assert decode_endorsements(cbor.decode(wire, MALFORMED, 1 << 20)) == one


# Using.


@pytest.fixture
def claims_of(amd: AmdVendor, aws: Aws, set_of: Any, issuer: Issuer, clock: Any) -> Callable[[Tee], Claims]:
    """Return claims as a worker appraised them."""

    def make(tee: Tee) -> Claims:
        from proxy_attestation.appraisal.kinds import verify_endorsements  # noqa: PLC0415 - a worker's alone

        roots = same_for_all(issuer.hello().anchors)
        data: bytes
        certificates: tuple[bytes, ...]
        if tee is Tee.NITRO:
            data, certificates = aws.enclave().document(nonce=b"n", public_key=b"k", user_data=b"u"), ()
        else:
            made = amd.platform("Milan").evidence(bytes(64))
            data, certificates = made.report, made.certificates
        held = verify_endorsements(set_of(), roots, clock())
        appraiser = Appraiser(roots, {(held.tee, held.platform): held})
        return appraiser.appraise(decode_evidence_of(tee, data), certificates, clock())[0]

    return make


def not_usable(floors: Any, claims: Claims, floor: Floor | None) -> None:
    with pytest.raises(UnavailableError) as caught:
        check_use(floors, claims, floor)
    assert caught.value.code is Code.ENDORSEMENTS_UNAVAILABLE


def test_snp_claims_rest_on_the_floor_of_their_line(claims_of: Any) -> None:
    claims, floor = claims_of(Tee.SNP), Floor(issue_date=7, pck_crl_number=11)
    floors = {MILAN: floor}
    check_use(floors, claims, floor)
    not_usable(floors, claims, None)
    not_usable({}, claims, None)
    not_usable({}, claims, floor)
    not_usable({(Tee.SNP, b"Genoa"): floor}, claims, floor)
    not_usable({(Tee.SGX, b"Milan"): floor}, claims, floor)
    for other in (replace(floor, issue_date=8), replace(floor, issue_date=6), replace(floor, pck_crl_number=12)):
        not_usable(floors, claims, other)


def test_snp_claims_of_no_line_rest_on_nothing(claims_of: Any) -> None:
    claims = claims_of(Tee.SNP)
    assert isinstance(claims.body, SnpClaims)
    nameless = replace(claims, body=replace(claims.body, product=None))
    floor = Floor(issue_date=7, pck_crl_number=11)
    for floors in ({}, {MILAN: floor}):
        not_usable(floors, nameless, floor)
        not_usable(floors, nameless, None)


def test_nitro_claims_rest_on_no_collateral(claims_of: Any) -> None:
    claims, floor = claims_of(Tee.NITRO), Floor(issue_date=7)
    for floors in ({}, {MILAN: floor}, {(Tee.NITRO, b""): floor}):
        check_use(floors, claims, None)
        not_usable(floors, claims, floor)
        not_usable(floors, claims, Floor())


@pytest.mark.parametrize("tee", DCAP)
def test_dcap_claims_without_a_tcb_rest_on_nothing(tee: Tee, world: Any) -> None:
    claims = replace(world.claims() if tee is Tee.SGX else world.td_claims(), tcb=None)
    floor = Floor(1, 2, 3, 4)
    not_usable({(tee, FMSPC): floor}, claims, None)
    not_usable({(tee, FMSPC): floor}, claims, floor)


def test_claims_of_one_tee_with_the_body_of_another(claims_of: Any) -> None:
    """Nothing is usable by saying that it is something else."""
    snp, nitro, floor = claims_of(Tee.SNP), claims_of(Tee.NITRO), Floor(issue_date=7)
    not_usable({MILAN: floor}, replace(nitro, tee=Tee.SNP), None)
    not_usable({MILAN: floor}, replace(nitro, tee=Tee.SNP), floor)
    not_usable({MILAN: floor}, replace(snp, tee=Tee.NITRO), floor)
