"""All kinds under one roof: evidence goes to its own walk, and what the proxy lacks is never a verdict."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

import cbor2
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from proxy_attestation.appraisal.claims import Claims
from proxy_attestation.appraisal.dcap_collateral import DcapCollateral
from proxy_attestation.appraisal.endorsements import DcapEndorsements, Floor, SnpEndorsements
from proxy_attestation.appraisal.kinds import (
    Appraiser,
    Collateral,
    Endorsements,
    body_of,
    decode_evidence_of,
    platform_of,
    tee_of,
    verify_endorsements,
)
from proxy_attestation.appraisal.roots import Roots
from proxy_attestation.appraisal.snp_chain import ArkPins
from proxy_attestation.appraisal.snp_claims import SnpClaims
from proxy_attestation.appraisal.snp_collateral import SnpCollateral
from proxy_attestation.authority.messages import IssueOrder, decode_order, encode_order
from proxy_attestation.authority.wire import MALFORMED
from proxy_attestation.codes import Code
from proxy_attestation.errors import AppraisalError, FormatError, ProxyAttestationError, UnavailableError
from proxy_attestation.formats import cbor
from proxy_attestation.formats.bounds import PLATFORM_CERTIFICATES_MAX, SNP_CRLS_MAX
from proxy_attestation.formats.snp_report import Product
from proxy_attestation.formats.tee import DCAP, WITH_COLLATERAL, Tee
from proxy_attestation_simulator.amd import TABLE_GUIDS, AmdVendor, certificate_table
from proxy_attestation_simulator.amd_certificates import revocation_list
from proxy_attestation_simulator.aws import Aws, Enclave
from proxy_attestation_simulator.intel import Vendor
from proxy_attestation_simulator.recipes import Crl
from proxy_attestation_simulator.tpm import TpmRecipe, TpmVendor, ak_certificate_recipe, make

REPORT_DATA = bytes(range(64))
NONCE, KEY = b"n" * 32, b"k" * 91
DAY = timedelta(days=1)
SECOND = timedelta(seconds=1)
Key = tuple[Tee, bytes]


@dataclass(frozen=True)
class Kinds:
    """Evidence of each kind, and what a proxy that takes all of them has."""

    roots: Roots
    evidence: Mapping[Tee, bytes]
    certificates: Mapping[Tee, tuple[bytes, ...]]
    collateral: Mapping[Key, Collateral]

    def appraise(
        self, tee: Tee, now: datetime, collateral: Mapping[Key, Collateral] | None = None
    ) -> tuple[Claims, Floor | None]:
        appraiser = Appraiser(self.roots, self.collateral if collateral is None else collateral)
        return appraiser.appraise(decode_evidence_of(tee, self.evidence[tee]), self.certificates[tee], now)


@pytest.fixture(scope="module")
def enclave(now: datetime) -> Enclave:
    return Aws.create(now, secret=bytes(32)).enclave()


@pytest.fixture(scope="module")
def kinds(
    *, vendor: Vendor, amd: AmdVendor, ark_pins: ArkPins, enclave: Enclave, now: datetime,
    endorsements: Callable[..., DcapEndorsements],
) -> Kinds:  # fmt: skip
    pins = frozenset({enclave.vendor.root_pin}), frozenset({TpmVendor.create(now).pin})
    roots = Roots(frozenset({vendor.root_pin}), ark_pins, *pins)
    guest = amd.platform("Milan").evidence(REPORT_DATA)
    # Vouched for by a certificate of its AK: an activation belongs to a session (tests/service/test_core_tpm.py).
    tpm = make(TpmVendor.create(now), ak_certificate_recipe(TpmRecipe(extra_data=REPORT_DATA)))
    of = {Tee.SNP: guest.certificates, Tee.TPM: tpm.certificates}
    sets: list[Endorsements] = [endorsements("sgx"), endorsements("tdx")]
    for line in ("Milan", "Genoa"):
        made = amd.platform(line).evidence(REPORT_DATA)
        sets.append(SnpEndorsements(made.certificates[1:], made.crls))
    verified = [verify_endorsements(one, roots, now) for one in sets]
    return Kinds(
        roots=roots,
        evidence={
            Tee.SGX: vendor.platform("sgx").quote(REPORT_DATA),
            Tee.TDX: vendor.platform("tdx").quote(REPORT_DATA),
            Tee.SNP: guest.report,
            Tee.NITRO: enclave.document(nonce=NONCE, public_key=KEY, user_data=REPORT_DATA),
            Tee.TPM: tpm.evidence,
        },
        certificates={tee: of.get(tee, ()) for tee in Tee},
        collateral={(one.tee, one.platform): one for one in verified},
    )


@pytest.fixture(params=list(Tee))
def tee(request: pytest.FixtureRequest) -> Tee:
    found: Tee = request.param
    return found


def only(collateral: Mapping[Key, Collateral], *left_out: Key) -> dict[Key, Collateral]:
    return {key: one for key, one in collateral.items() if key not in left_out}


# Reading.


def test_each_kind_has_its_decoder_and_says_its_kind(tee: Tee, kinds: Kinds) -> None:
    parsed = decode_evidence_of(tee, kinds.evidence[tee])
    assert tee_of(parsed) is tee
    bound = {Tee.NITRO: (NONCE, KEY, REPORT_DATA), Tee.TPM: (REPORT_DATA, REPORT_DATA)}
    assert parsed.bound == bound.get(tee, (REPORT_DATA,))


@pytest.mark.parametrize("other", list(Tee))
def test_evidence_of_another_kind_is_told_apart(other: Tee, tee: Tee, kinds: Kinds) -> None:
    """SGX and TDX share the format of quotes; whoever asked for the other compares `tee_of`."""
    if other is tee or {other, tee} == {Tee.SGX, Tee.TDX}:
        assert tee_of(decode_evidence_of(tee, kinds.evidence[other])) is other
        return
    with pytest.raises(ProxyAttestationError) as caught:
        decode_evidence_of(tee, kinds.evidence[other])
    assert isinstance(caught.value, (FormatError, AppraisalError))


@settings(deadline=None, max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.binary(max_size=200), flip=st.tuples(st.integers(0, 1 << 16), st.integers(0, 255)))
def test_any_bytes_are_read_or_refused(tee: Tee, kinds: Kinds, data: bytes, flip: tuple[int, int]) -> None:
    changed = bytearray(kinds.evidence[tee])
    changed[flip[0] % len(changed)] ^= flip[1]
    for given_bytes in (data, bytes(changed)):
        try:
            body_of(decode_evidence_of(tee, given_bytes))
        except ProxyAttestationError as error:
            assert isinstance(error, (FormatError, AppraisalError))


def test_a_body_before_appraisal_is_the_one_after_it(tee: Tee, kinds: Kinds, now: datetime) -> None:
    if tee is Tee.TPM:
        with pytest.raises(FormatError) as caught:
            body_of(decode_evidence_of(tee, kinds.evidence[tee]))
        assert caught.value.code is Code.EVIDENCE_UNKNOWN
        return
    before = body_of(decode_evidence_of(tee, kinds.evidence[tee]))
    assert before == kinds.appraise(tee, now)[0].body
    assert before.tee is tee


def test_an_old_report_names_its_line_only_after_appraisal(amd: AmdVendor, kinds: Kinds, now: datetime) -> None:
    made = amd.platform("Milan").evidence(REPORT_DATA, version=2)
    report = decode_evidence_of(Tee.SNP, made.report)
    body = body_of(report)
    assert isinstance(body, SnpClaims)
    assert body.product is None
    claims, _ = Appraiser(kinds.roots, kinds.collateral).appraise(report, made.certificates, now)
    assert platform_of(claims) == b"Milan"
    # Claims that nobody appraised are kept for no line.
    assert platform_of(replace(claims, body=body)) == b""


# Appraising.


def test_genuine_evidence_gives_claims_and_its_floor(tee: Tee, kinds: Kinds, now: datetime) -> None:
    claims, floor = kinds.appraise(tee, now)
    platform = platform_of(claims)
    assert claims.tee is claims.body.tee is tee
    assert not claims.debug
    assert (claims.tcb is None) is (tee not in DCAP)
    assert claims.anchor in kinds.roots.of(tee)
    assert claims.valid_until > now
    # An AK's certificate names no machine, as an EK does.
    assert (claims.instance_id is None) is (tee is Tee.TPM)
    if tee not in WITH_COLLATERAL:
        assert (platform, floor) == (None, None)
        return
    assert platform is not None
    held = kinds.collateral[tee, platform]
    assert floor == held.floor
    assert not held.below(held.floor)
    assert platform == (b"Milan" if claims.tcb is None else claims.tcb.fmspc)


def test_the_sets_of_one_vendor_are_not_the_others(kinds: Kinds, now: datetime) -> None:
    """Each kind stands on its own collateral alone."""
    intel = {key: one for key, one in kinds.collateral.items() if isinstance(one, DcapCollateral)}
    amd = {key: one for key, one in kinds.collateral.items() if isinstance(one, SnpCollateral)}
    for tee, enough, lacking in ((Tee.SGX, intel, amd), (Tee.TDX, intel, amd), (Tee.SNP, amd, intel)):
        assert kinds.appraise(tee, now, enough)[0] == kinds.appraise(tee, now)[0]
        unavailable(lambda tee=tee, lacking=lacking: kinds.appraise(tee, now, lacking))  # type: ignore[misc]  # bound
    assert kinds.appraise(Tee.NITRO, now, {}) == kinds.appraise(Tee.NITRO, now)


def unavailable(call: Callable[[], object]) -> None:
    with pytest.raises(UnavailableError) as caught:
        call()
    assert caught.value.code is Code.ENDORSEMENTS_UNAVAILABLE


def refused(call: Callable[[], object], code: Code) -> None:
    with pytest.raises(AppraisalError) as caught:
        call()
    assert caught.value.code is code


def test_a_report_of_a_line_that_has_no_set(kinds: Kinds, now: datetime, amd: AmdVendor) -> None:
    unavailable(lambda: kinds.appraise(Tee.SNP, now, only(kinds.collateral, (Tee.SNP, b"Milan"))))
    turin = amd.platform("Turin").evidence(REPORT_DATA)
    appraiser = Appraiser(kinds.roots, kinds.collateral)
    unavailable(lambda: appraiser.appraise(decode_evidence_of(Tee.SNP, turin.report), turin.certificates, now))


def test_issuers_may_come_from_the_set_alone(kinds: Kinds, now: datetime) -> None:
    report = decode_evidence_of(Tee.SNP, kinds.evidence[Tee.SNP])
    vek = kinds.certificates[Tee.SNP][:1]
    appraiser = Appraiser(kinds.roots, kinds.collateral)
    assert appraiser.appraise(report, vek, now) == kinds.appraise(Tee.SNP, now)
    # Without a set there are no issuers, and that is the proxy's to mend.
    unavailable(lambda: Appraiser(kinds.roots, {}).appraise(report, vek, now))
    # The chip's own certificate is the peer's to bring.
    refused(lambda: Appraiser(kinds.roots, {}).appraise(report, (), now), Code.SNP_ENDORSEMENTS_MISSING)
    refused(lambda: appraiser.appraise(report, (), now), Code.SNP_ENDORSEMENTS_MISSING)


def test_the_sets_of_all_lines_leave_room_for_what_a_peer_may_send(kinds: Kinds, amd: AmdVendor, now: datetime) -> None:
    sets = {}
    for line in Product:
        made = [amd.platform(line, kind).evidence(REPORT_DATA) for kind in ("VCEK", "VLEK")]
        certificates = tuple(dict.fromkeys(der for one in made for der in one.certificates[1:]))
        life = (now - DAY, now + DAY)
        crls = tuple(revocation_list(Crl(n, *life), f"ARK-{line}", amd.key(f"{line} ark")) for n in range(SNP_CRLS_MAX))
        found = verify_endorsements(SnpEndorsements(certificates, crls), kinds.roots, now)
        sets[found.tee, found.platform] = found
    # As many as a record takes beside the four of a table, of other chips and all different.
    names = (TABLE_GUIDS["VCEK"], TABLE_GUIDS["VLEK"], TABLE_GUIDS["issuer"], TABLE_GUIDS["ark"])
    others = [amd.platform("Milan", seed=seed).evidence(REPORT_DATA).certificates[0] for seed in range(1, 12)]
    table = certificate_table(dict(zip(names, others[7:], strict=True)))
    peer = (kinds.certificates[Tee.SNP][0], *others[:7])
    assert len(peer) == PLATFORM_CERTIFICATES_MAX
    report = decode_evidence_of(Tee.SNP, kinds.evidence[Tee.SNP] + table)
    old = amd.platform("Milan").evidence(REPORT_DATA, version=2).report
    for one in (report, decode_evidence_of(Tee.SNP, old + table)):
        claims, floor = Appraiser(kinds.roots, sets).appraise(one, peer, now)
        assert platform_of(claims) == b"Milan"
        assert floor == sets[Tee.SNP, b"Milan"].floor


def test_an_old_report_without_its_certificate_is_of_no_line(kinds: Kinds, amd: AmdVendor, now: datetime) -> None:
    old = decode_evidence_of(Tee.SNP, amd.platform("Milan").evidence(REPORT_DATA, version=2).report)
    refused(lambda: Appraiser(kinds.roots, kinds.collateral).appraise(old, (), now), Code.SNP_ENDORSEMENTS_MISSING)


def test_an_expired_list_is_no_verdict(kinds: Kinds, now: datetime) -> None:
    end = kinds.collateral[Tee.SNP, b"Milan"].valid_until
    assert kinds.appraise(Tee.SNP, end)[0].valid_until == end
    unavailable(lambda: kinds.appraise(Tee.SNP, end + SECOND))
    unavailable(lambda: kinds.appraise(Tee.SNP, now - DAY - SECOND))


def test_a_list_of_another_line_that_is_over_disturbs_nobody(kinds: Kinds, amd: AmdVendor, now: datetime) -> None:
    held = kinds.collateral[Tee.SNP, b"Genoa"]
    assert isinstance(held, SnpCollateral)
    over = revocation_list(Crl(1, now - 2 * DAY, now - DAY), "ARK-Genoa", amd.key("Genoa ark"))
    old = replace(held, endorsements=replace(held.endorsements, crls=(over,)))
    assert kinds.appraise(Tee.SNP, now, {**kinds.collateral, (Tee.SNP, b"Genoa"): old}) == kinds.appraise(Tee.SNP, now)


@pytest.mark.parametrize(
    ("fault", "code"),
    [
        ("signature", Code.SNP_SIGNATURE),
        ("wrong-root", Code.SNP_ROOT),
        ("vek-signature", Code.SNP_CHAIN),
        ("vek-expired", Code.SNP_EXPIRED),
        ("other-chip", Code.SNP_CHIP_ID),
        ("committed-above-current", Code.SNP_TCB),
    ],
)
def test_what_is_wrong_with_a_report_is_a_verdict(
    fault: str, code: Code, kinds: Kinds, amd: AmdVendor, now: datetime
) -> None:
    made = amd.platform("Milan").evidence(REPORT_DATA, fault=fault)
    roots = kinds.roots
    # A stranger's certificates of the same names lose against those that are kept, so the peer's own are all there is.
    kept = only(kinds.collateral, *([(Tee.SNP, b"Milan")] if fault == "wrong-root" else []))
    report = decode_evidence_of(Tee.SNP, made.report)
    refused(lambda: Appraiser(roots, kept).appraise(report, made.certificates, now), code)


def test_a_revoked_issuer_is_a_verdict(kinds: Kinds, amd: AmdVendor, now: datetime) -> None:
    held = kinds.collateral[Tee.SNP, b"Milan"]
    assert isinstance(held, SnpCollateral)
    crls = amd.platform("Milan").evidence(REPORT_DATA, fault="issuer-revoked").crls
    revoking = replace(held, endorsements=replace(held.endorsements, crls=crls))
    refused(lambda: kinds.appraise(Tee.SNP, now, {(Tee.SNP, b"Milan"): revoking}), Code.SNP_REVOKED)


def test_a_list_that_a_peer_sends_counts_for_nothing(kinds: Kinds, amd: AmdVendor, now: datetime) -> None:
    made = amd.platform("Milan").evidence(REPORT_DATA)
    report = decode_evidence_of(Tee.SNP, made.report)
    appraiser = Appraiser(kinds.roots, {})
    refused(lambda: appraiser.appraise(report, (*made.certificates, *made.crls), now), Code.SNP_CHAIN)


def test_each_anchor_is_for_its_own_vendor(kinds: Kinds, now: datetime) -> None:
    """Evidence does not chain to a root that is pinned for another kind."""
    pins = {tee: kinds.roots.of(tee) for tee in Tee}
    others = Roots(pins[Tee.NITRO] | pins[Tee.SNP], dict.fromkeys(Product, pins[Tee.SGX]), pins[Tee.SGX])
    for tee, code in ((Tee.SNP, Code.SNP_ROOT), (Tee.NITRO, Code.NITRO_ROOT), (Tee.SGX, Code.SGX_ROOT)):
        appraiser = Appraiser(others, kinds.collateral)
        evidence = decode_evidence_of(tee, kinds.evidence[tee])
        with pytest.raises(AppraisalError) as caught:
            appraiser.appraise(evidence, kinds.certificates[tee], now)
        assert caught.value.code is code


@pytest.mark.parametrize(("seconds", "fresh"), [(0, True), (180, True), (181, False), (-60, True), (-61, False)])
def test_a_nitro_document_answers_a_challenge(
    seconds: int,
    fresh: bool,
    kinds: Kinds,
    now: datetime,
) -> None:
    """120 s, and the clocks may differ by 60 s."""
    moment = now + timedelta(seconds=seconds)
    if fresh:
        assert kinds.appraise(Tee.NITRO, moment) == kinds.appraise(Tee.NITRO, now)
    else:
        refused(lambda: kinds.appraise(Tee.NITRO, moment), Code.NITRO_TIMESTAMP)


def test_intel_sets_and_amd_sets_are_verified_by_their_own_walks(kinds: Kinds, now: datetime) -> None:
    for (tee, platform), held in kinds.collateral.items():
        assert (held.tee, held.platform) == (tee, platform)
        assert isinstance(held, SnpCollateral) is (tee is Tee.SNP)
    with pytest.raises(AppraisalError) as caught:
        verify_endorsements(SnpEndorsements(), kinds.roots, now)
    assert caught.value.code is Code.SNP_ROOT


# Claims on their way from a worker to the authority.


def order_of(claims: Claims, floor: Floor | None) -> IssueOrder:
    return IssueOrder(b"token", b"request", b"spki", claims, floor, bytes(32))


@pytest.fixture
def order(tee: Tee, kinds: Kinds, now: datetime) -> IssueOrder:
    return order_of(*kinds.appraise(tee, now))


def through(value: object) -> object:
    return cbor.decode(cbor.encode(value), MALFORMED, 1 << 20)


def test_claims_arrive_as_they_were_sent(order: IssueOrder) -> None:
    assert decode_order(through(encode_order(order))) == order


def test_reports_of_every_form_arrive(amd: AmdVendor, kinds: Kinds, now: datetime) -> None:
    """Every version, a VLEK's cloud provider, and a masked chip."""
    forms: list[tuple[str, dict[str, Any]]] = [("VCEK", {"version": version}) for version in (2, 3, 4, 5)]
    forms += [("VLEK", {}), ("VCEK", {"fault": "masked-chip-id"}), ("VCEK", {"fault": "debug"})]
    for kind, options in forms:
        made = amd.platform("Milan", kind).evidence(REPORT_DATA, **options)
        report = decode_evidence_of(Tee.SNP, made.report)
        order = order_of(*Appraiser(kinds.roots, kinds.collateral).appraise(report, made.certificates, now))
        assert decode_order(through(encode_order(order))) == order


def test_documents_of_every_form_arrive(enclave: Enclave, kinds: Kinds, now: datetime) -> None:
    longest: dict[str, Any] = {"nonce": bytes(512), "public_key": bytes(1024), "user_data": bytes(512)}
    forms: list[dict[str, Any]] = [{}, {"nonce": b"", "user_data": b""}, longest, {"fault": "debug"}]
    forms += [{"fault": "pcr16"}, {"fault": "omitted"}]
    for options in forms:
        document = decode_evidence_of(Tee.NITRO, enclave.document(**options))
        order = order_of(*Appraiser(kinds.roots, {}).appraise(document, (), now))
        assert decode_order(through(encode_order(order))) == order


@pytest.mark.parametrize("other", list(Tee))
def test_a_body_of_another_tee_does_not_arrive(other: Tee, tee: Tee, order: IssueOrder) -> None:
    body: Any = through(encode_order(order))
    claims = body[3]
    assert claims[0] == str(tee)
    claims[0] = str(other)
    if other is tee:
        assert decode_order(body) == order
        return
    with pytest.raises(FormatError) as caught:
        decode_order(body)
    assert caught.value.code is MALFORMED


@settings(deadline=None, max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_changed_wire_bytes_give_an_order_or_our_error(data: st.DataObject, order: IssueOrder) -> None:
    wire = bytearray(cbor.encode(encode_order(order)))
    for _ in range(data.draw(st.integers(1, 3))):
        wire[data.draw(st.integers(0, len(wire) - 1))] ^= data.draw(st.integers(1, 255))
    try:
        found = decode_order(cbor.decode(bytes(wire), MALFORMED, 1 << 20))
    except FormatError as error:
        assert error.code is MALFORMED
    else:
        assert cbor.encode(encode_order(found)) == bytes(wire)


@settings(deadline=None, max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_changed_item_gives_an_order_or_our_error(data: st.DataObject, order: IssueOrder) -> None:
    """One item anywhere is replaced by one of another type or size."""
    body: Any = cbor2.loads(cbor2.dumps(through(encode_order(order))))
    items: Any = body
    while True:
        at = data.draw(st.integers(0, len(items) - 1))
        if not (isinstance(items[at], list) and items[at] and data.draw(st.booleans())):
            break
        items = items[at]
    odd = st.none() | st.booleans() | st.integers(-1, 1 << 64) | st.binary(max_size=70) | st.text(max_size=9)
    items[at] = data.draw(odd | st.lists(st.integers(0, 9), max_size=3))
    try:
        found = decode_order(body)
    except FormatError as error:
        assert error.code is MALFORMED
    else:
        assert encode_order(found) == body
