"""Where certificates and lists may come from, what of them counts, and how much an appraisal may cost."""

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from proxy_attestation.appraisal.endorsements import SnpEndorsements
from proxy_attestation.appraisal.snp import (
    SnpRefusedError,
    SnpResult,
    appraise_snp,
    appraise_vek,
)
from proxy_attestation.appraisal.snp_certificate import read_amd_certificate, read_amd_crl
from proxy_attestation.appraisal.snp_chain import ArkPins, SnpFloor
from proxy_attestation.appraisal.snp_claims import snp_to_json, vek_to_json
from proxy_attestation.codes import Code
from proxy_attestation.errors import ProxyAttestationError
from proxy_attestation.formats.bounds import CERTIFICATE_MAX, SNP_CERTIFICATES_MAX, SNP_CRL_MAX, SNP_CRLS_MAX
from proxy_attestation.formats.snp_report import Product, decode_snp_report
from proxy_attestation_simulator.amd import CRL_NUMBER, TABLE_GUIDS, AmdPlatform, AmdVendor, certificate_table
from proxy_attestation_simulator.amd_certificates import issue_ca, revocation_list
from proxy_attestation_simulator.intel import Vendor
from proxy_attestation_simulator.recipes import Crl

REPORT_DATA = bytes(range(64))
DAY = timedelta(days=1)
Judge = Callable[..., SnpResult]


@pytest.fixture
def judge(ark_pins: ArkPins, now: datetime) -> Judge:
    def judge(
        report: bytes,
        certificates: tuple[bytes, ...] = (),
        crls: tuple[bytes, ...] = (),
        *,
        peer: tuple[bytes, ...] = (),
        floor: SnpFloor | None = None,
        required: bool = False,
        pins: ArkPins = ark_pins,
    ) -> SnpResult:
        endorsements = SnpEndorsements(certificates, crls)
        return appraise_snp(report, endorsements, pins, floor, now, platform_certificates=peer, crl_required=required)

    return judge


@pytest.fixture(scope="module")
def milan(amd: AmdVendor) -> AmdPlatform:
    return amd.platform("Milan")


def _refused(call: Callable[[], object]) -> Code:
    with pytest.raises(ProxyAttestationError) as caught:
        call()
    return caught.value.code


def test_certificates_come_from_the_peer_the_proxy_or_both(judge: Judge, milan: AmdPlatform) -> None:
    made = milan.evidence(REPORT_DATA)
    vek, ask, ark = made.certificates
    expected = judge(made.report, made.certificates)
    assert judge(made.report, peer=made.certificates) == expected
    assert judge(made.report, (ark, ask), peer=(vek,)) == expected
    assert judge(made.report, (ark,), peer=(vek, ask, ark, ask)) == expected


def test_extended_report(judge: Judge, milan: AmdPlatform) -> None:
    made = milan.evidence(REPORT_DATA)
    names = (TABLE_GUIDS["VCEK"], TABLE_GUIDS["issuer"], TABLE_GUIDS["ark"])
    table = certificate_table(dict(zip(names, made.certificates, strict=True)))
    result = judge(made.report + table)
    assert result.body == judge(made.report, made.certificates).body
    assert result.evidence_sha256 != judge(made.report, made.certificates).evidence_sha256
    assert judge(decode_snp_report(made.report + table)) == result


def test_a_list_in_the_certificate_table_counts_for_nothing(judge: Judge, milan: AmdPlatform) -> None:
    made = milan.evidence(REPORT_DATA)
    report = made.report + certificate_table({TABLE_GUIDS["crl"]: made.crls[0]})
    assert judge(report, made.certificates).floor is None
    assert _refused(lambda: judge(report, made.certificates, required=True)) == Code.SNP_CRL_MISSING


def test_of_several_certificates_the_one_for_this_report_is_used(
    judge: Judge, amd: AmdVendor, milan: AmdPlatform
) -> None:
    made = milan.evidence(REPORT_DATA)
    neighbour = amd.platform("Milan", seed=1).evidence(REPORT_DATA).certificates
    older = milan.evidence(REPORT_DATA, fault="vek-old-tcb").certificates
    unreadable = milan.evidence(REPORT_DATA, fault="vek-unknown-extension").certificates
    others = (*neighbour, *older, *unreadable, *amd.platform("Turin").evidence(REPORT_DATA).certificates)
    assert judge(made.report, (*others, *made.certificates)) == judge(made.report, made.certificates)
    # Where none fits, the first one says what is wrong.
    assert _refused(lambda: judge(made.report, others)) == Code.SNP_CHIP_ID
    assert _refused(lambda: judge(made.report, (*older, *others))) == Code.SNP_TCB_MISMATCH


def test_a_strangers_certificate_of_the_same_name_is_passed_over(
    judge: Judge, amd: AmdVendor, milan: AmdPlatform
) -> None:
    made = milan.evidence(REPORT_DATA)
    strange = (amd.authority("Milan", "ask", stranger=True), amd.authority("Milan", "ark", stranger=True))
    assert judge(made.report, (*strange, *made.certificates)) == judge(made.report, made.certificates)


def test_the_root_of_another_line_is_none(judge: Judge, milan: AmdPlatform, ark_pins: ArkPins) -> None:
    made = milan.evidence(REPORT_DATA)
    swapped = {Product.MILAN: ark_pins[Product.GENOA], Product.GENOA: ark_pins[Product.MILAN]}
    wrong: tuple[ArkPins, ...] = (swapped, {Product.GENOA: ark_pins[Product.MILAN]}, {Product.MILAN: frozenset()}, {})
    for pins in wrong:
        assert _refused(partial(judge, made.report, made.certificates, pins=pins)) == Code.SNP_ROOT


def test_a_milan_certificate_under_genoas_issuers(judge: Judge, amd: AmdVendor, milan: AmdPlatform) -> None:
    made = milan.evidence(REPORT_DATA)
    genoa = amd.platform("Genoa").evidence(REPORT_DATA)
    certificates = (made.certificates[0], *genoa.certificates[1:])
    assert _refused(lambda: judge(made.report, certificates)) == Code.SNP_ENDORSEMENTS_MISSING


def test_a_vcek_from_the_issuer_of_vleks(judge: Judge, amd: AmdVendor, milan: AmdPlatform) -> None:
    recipe = milan.recipe(REPORT_DATA)
    # The same key, named and used as a VLEK's, but with everything of a VCEK but its issuer.
    made = amd.make(replace(recipe, kind="VLEK"), 0)
    assert _refused(lambda: judge(made.report, made.certificates)) == Code.SNP_CHAIN


def test_lists(judge: Judge, amd: AmdVendor, milan: AmdPlatform, now: datetime) -> None:
    made = milan.evidence(REPORT_DATA)
    genoa = amd.platform("Genoa").evidence(REPORT_DATA, fault="issuer-revoked").crls
    expired = amd.platform("Genoa").evidence(REPORT_DATA, fault="crl-expired").crls
    newer = revocation_list(Crl(CRL_NUMBER + 5, now - DAY / 2, now + 2 * DAY), "ARK-Milan", amd.key("Milan ark"))
    # Lists of other roots are left alone; they are no list of this root either.
    result = judge(made.report, made.certificates, (*genoa, *expired, *made.crls, newer), required=True)
    assert result.floor == SnpFloor(CRL_NUMBER + 5, int((now - DAY / 2).timestamp()))
    assert result.valid_until == now + 2 * DAY
    assert judge(made.report, made.certificates, genoa).floor is None
    assert _refused(lambda: judge(made.report, made.certificates, genoa, required=True)) == Code.SNP_CRL_MISSING
    # One of several is enough to revoke, and to be out of date.
    for fault, code in (("issuer-revoked", Code.SNP_REVOKED), ("crl-expired", Code.SNP_CRL_EXPIRED)):
        worse = milan.evidence(REPORT_DATA, fault=fault).crls
        assert _refused(partial(judge, made.report, made.certificates, (newer, *worse))) == code


def test_an_optional_list_is_checked_all_the_same(judge: Judge, milan: AmdPlatform) -> None:
    for fault, code in (
        ("issuer-revoked", Code.SNP_REVOKED),
        ("crl-expired", Code.SNP_CRL_EXPIRED),
        ("crl-signature", Code.SNP_CRL),
        ("crl-malformed", Code.SNP_CRL),
    ):
        made = milan.evidence(REPORT_DATA, fault=fault)
        assert _refused(partial(judge, made.report, made.certificates, made.crls)) == code


def test_floor(judge: Judge, milan: AmdPlatform) -> None:
    made = milan.evidence(REPORT_DATA)
    own = judge(made.report, made.certificates, made.crls).floor
    assert own is not None
    assert judge(made.report, made.certificates, made.crls, floor=own).floor == own
    for higher in (replace(own, crl_number=own.crl_number + 1), replace(own, this_update=own.this_update + 1)):
        refused = _refused(partial(judge, made.report, made.certificates, made.crls, floor=higher))
        assert refused == Code.SNP_ENDORSEMENTS_FLOOR


def test_masked_chip_id_means_no_instance(judge: Judge, amd: AmdVendor, milan: AmdPlatform) -> None:
    masked = milan.evidence(REPORT_DATA, fault="masked-chip-id")
    assert judge(masked.report, masked.certificates).instance_id is None
    ids = set()
    for platform in (milan, amd.platform("Milan", seed=1), amd.platform("Turin")):
        made = platform.evidence(REPORT_DATA)
        ids.add(judge(made.report, made.certificates).instance_id)
    assert len(ids) == 3
    assert all(instance is not None and len(instance) == 32 for instance in ids)


@pytest.mark.parametrize("chip", ["full", "full octets", "short octets"])
def test_turin_chip_ids(chip: str, judge: Judge, amd: AmdVendor) -> None:
    platform = amd.platform("Turin")
    value = platform.chip_id if chip.startswith("full") else platform.chip_id[:8]
    value = b"\x04" + bytes([len(value)]) + value if chip.endswith("octets") else value
    recipe = platform.recipe(REPORT_DATA)
    made = amd.make(replace(recipe, vek=recipe.vek.with_extension("4", value)), 0)
    assert judge(made.report, made.certificates).instance_id is not None


def test_a_short_chip_id_is_turins_alone(judge: Judge, amd: AmdVendor, milan: AmdPlatform) -> None:
    recipe = milan.recipe(REPORT_DATA).put(0x1A0, milan.chip_id[:8] + bytes(56))
    made = amd.make(replace(recipe, vek=recipe.vek.with_extension("4", milan.chip_id[:8])), 0)
    assert _refused(lambda: judge(made.report, made.certificates)) == Code.SNP_CHIP_ID


@pytest.mark.parametrize("name", ["Bergamo", "Siena", "Genoa-B1"])
def test_genoas_other_names(name: str, judge: Judge, amd: AmdVendor) -> None:
    recipe = amd.platform("Genoa").recipe(REPORT_DATA)
    vek = recipe.vek.with_extension("2", bytes([0x16, len(name)]) + name.encode())
    made = amd.make(replace(recipe, vek=vek), 0)
    assert judge(made.report, made.certificates).body.product is Product.GENOA


def test_what_a_refused_report_shows(judge: Judge, milan: AmdPlatform) -> None:
    made = milan.evidence(REPORT_DATA, fault=["debug", "wrong-root"])
    with pytest.raises(SnpRefusedError) as caught:
        judge(made.report, made.certificates)
    assert caught.value.body.debug
    assert caught.value.body.report_data == REPORT_DATA


def test_json(judge: Judge, amd: AmdVendor) -> None:
    made = amd.platform("Turin").evidence(REPORT_DATA, fault=["debug", "migration-agent"])
    found = snp_to_json(judge(made.report, made.certificates).body)
    assert found["policy"] == "0xf0000"
    assert found["policy_debug"] is found["debug"] is found["policy_migrate_ma"] is found["policy_smt"] is True
    assert found["policy_single_socket"] is False
    assert found["reported_tcb_parts"] == {"fmcSPL": 1, "blSPL": 2, "teeSPL": 1, "snpSPL": 4, "ucodeSPL": 77}
    assert (found["product"], found["abi"], found["cpuid_fam_mod_step"]) == ("Turin", "0.0", "1a0201")
    assert (found["platform_info"], found["launch_mit_vector"]) == ("0x25", "0100000000000000")
    assert "csp_id" not in found


def test_certificates_without_a_report(amd: AmdVendor, ark_pins: ArkPins, now: datetime) -> None:
    for kind in ("VCEK", "VLEK"):
        made = amd.platform("Turin", kind).evidence(REPORT_DATA)
        endorsements = SnpEndorsements(made.certificates, made.crls)
        extensions, anchor = appraise_vek(endorsements, ark_pins, now, crl_required=True)
        assert anchor == amd.ark_pin("Turin")
        found = vek_to_json(extensions)
        assert ("hwID" in found, "cspID" in found) == ((True, False) if kind == "VCEK" else (False, True))
    missing = SnpEndorsements(made.certificates[1:])
    assert _refused(lambda: appraise_vek(missing, ark_pins, now, crl_required=False)) == Code.SNP_ENDORSEMENTS_MISSING
    for fault, code in (("vek-signature", Code.SNP_CHAIN), ("vek-product", Code.SNP_PRODUCT)):
        made = amd.platform("Milan").evidence(REPORT_DATA, fault=fault)
        endorsements = SnpEndorsements(made.certificates)
        refused = _refused(partial(appraise_vek, endorsements, ark_pins, now, crl_required=False))
        assert refused == code


@pytest.mark.parametrize("key", ["rsa-3072", "p-256"])
def test_keys_of_other_kinds(key: str, amd: AmdVendor, now: datetime) -> None:
    made = rsa.generate_private_key(65537, 3072) if key == "rsa-3072" else ec.generate_private_key(ec.SECP256R1())
    der = issue_ca(
        "SEV-Milan",
        made,  # type: ignore[arg-type]  # a key that no ASK has
        7,
        (now - DAY, now + DAY),
        issuer="ARK-Milan",
        signing_key=amd.key("Milan ark"),
        path_length=0,
    )
    assert _refused(lambda: read_amd_certificate(der)) == Code.SNP_CHAIN


def test_a_certificate_that_is_not_signed_with_pss(vendor: Vendor) -> None:
    assert _refused(lambda: read_amd_certificate(vendor.root_der)) == Code.SNP_CHAIN


def test_sizes(judge: Judge, milan: AmdPlatform) -> None:
    made = milan.evidence(REPORT_DATA)
    many = tuple(bytes([0x30, n]) for n in range(SNP_CERTIFICATES_MAX + 1))
    assert _refused(lambda: judge(made.report, peer=many)) == Code.SNP_CHAIN
    assert _refused(lambda: read_amd_certificate(bytes(CERTIFICATE_MAX + 1))) == Code.SNP_CHAIN
    assert _refused(lambda: read_amd_crl(bytes(SNP_CRL_MAX + 1), ())) == Code.SNP_CRL
    crls = made.crls * (SNP_CRLS_MAX + 1)
    assert _refused(lambda: judge(made.report, made.certificates, crls)) == Code.SNP_CRL
    assert _refused(lambda: read_amd_certificate(b"")) == Code.SNP_CHAIN
    assert _refused(lambda: read_amd_crl(b"", ())) == Code.SNP_CRL


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(index=st.integers(0, 2), data=st.data())
def test_any_certificate_gives_a_result_or_our_error(
    index: int, data: st.DataObject, judge: Judge, milan: AmdPlatform
) -> None:
    made = milan.evidence(REPORT_DATA)
    der = made.certificates[index]
    at = data.draw(st.integers(0, len(der)))
    changed = der[:at] + data.draw(st.binary(max_size=6)) + der[at + data.draw(st.integers(0, 6)) :]
    certificates = (*made.certificates[:index], changed, *made.certificates[index + 1 :])
    try:
        judge(made.report, certificates, made.crls)
    except ProxyAttestationError as error:
        assert error.code.startswith("snp.")
