"""One processor line's set, verified by itself: a good one of each line, and each refusal alone."""

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from proxy_attestation.appraisal.endorsements import Floor, SnpEndorsements
from proxy_attestation.appraisal.roots import Roots, same_for_all
from proxy_attestation.appraisal.snp_chain import ArkPins, SnpFloor
from proxy_attestation.appraisal.snp_collateral import SnpCollateral, floor_of, verify_snp_collateral
from proxy_attestation.codes import Code
from proxy_attestation.errors import AppraisalError
from proxy_attestation.formats.bounds import SNP_CRLS_MAX
from proxy_attestation.formats.snp_report import Product
from proxy_attestation.formats.tee import Tee
from proxy_attestation_simulator.amd import CRL_NUMBER, AmdVendor
from proxy_attestation_simulator.amd_certificates import issue_ca, revocation_list
from proxy_attestation_simulator.recipes import Crl

DAY = timedelta(days=1)
SetOf = Callable[..., SnpEndorsements]
Verify = Callable[..., SnpCollateral]


@pytest.fixture(scope="module")
def crl_of(amd: AmdVendor, now: datetime) -> Callable[..., bytes]:
    """Make a list of a line's root; `key` is the label of the key that signs it."""

    def make(line: str = "Milan", key: str = "", **changes: object) -> bytes:
        crl = replace(Crl(CRL_NUMBER, now - DAY, now + 45 * DAY), **changes)  # type: ignore[arg-type]  # by name
        return revocation_list(crl, f"ARK-{line}", amd.key(key or f"{line} ark"))

    return make


@pytest.fixture(scope="module")
def set_of(amd: AmdVendor, crl_of: Callable[..., bytes]) -> SetOf:
    """Make a set; pieces that are named by a role and a fault replace the good ones, None removes one."""

    def make(line: str = "Milan", crls: tuple[bytes, ...] | None = None, **faults: str | None) -> SnpEndorsements:
        roles = {"ark": "good", "ask": "good", "asvk": "good", **faults}
        made = tuple(amd.authority(line, role, kind) for role, kind in roles.items() if kind is not None)
        return SnpEndorsements(made, (crl_of(line),) if crls is None else crls)

    return make


@pytest.fixture(scope="module")
def verify(ark_pins: ArkPins, now: datetime) -> Verify:
    def verify(endorsements: SnpEndorsements, pins: ArkPins = ark_pins, at: datetime = now) -> SnpCollateral:
        return verify_snp_collateral(endorsements, Roots(frozenset(), pins), at)

    return verify


def refused(call: Callable[[], object], code: Code) -> None:
    with pytest.raises(AppraisalError) as caught:
        call()
    assert caught.value.code is code


@pytest.mark.parametrize("line", list(Product))
def test_a_good_set_of_each_line(line: Product, set_of: SetOf, verify: Verify, now: datetime) -> None:
    made = set_of(line)
    found = verify(made)
    assert (found.tee, found.product, found.platform) == (Tee.SNP, line, line.encode())
    assert found.endorsements == made
    assert found.floor == Floor(issue_date=int((now - DAY).timestamp()), pck_crl_number=CRL_NUMBER)
    assert (found.valid_from, found.valid_until) == (now - DAY, now + 45 * DAY)
    assert len(found.digest) == 32


@pytest.mark.parametrize("role", ["ask", "asvk"])
def test_one_issuer_is_enough(role: str, set_of: SetOf, verify: Verify) -> None:
    assert verify(set_of(**{role: None})).product is Product.MILAN


def test_order_and_other_lines_pieces_do_not_matter(
    set_of: SetOf, verify: Verify, crl_of: Callable[..., bytes]
) -> None:
    good, genoa = set_of(), set_of("Genoa")
    certificates = (*genoa.certificates[1:], *reversed(good.certificates))
    found = verify(SnpEndorsements(certificates, (*genoa.crls, *good.crls)))
    assert found.floor == verify(good).floor
    assert found.product is Product.MILAN
    # A list of another root, even one that is over, is none of this root's.
    over = crl_of("Genoa", next_update=found.valid_from, last_update=found.valid_from - DAY)
    assert verify(set_of(crls=(over, *good.crls))).valid_until == verify(good).valid_until


def test_sets_have_their_own_digests(set_of: SetOf, verify: Verify) -> None:
    good = set_of()
    others = [set_of(ask=None), SnpEndorsements(good.certificates[::-1], good.crls), set_of("Genoa")]
    others.append(SnpEndorsements(good.certificates, good.crls * 2))
    assert len({verify(one).digest for one in (good, *others)}) == 5
    assert verify(good).digest == verify(replace(good)).digest


def test_several_lists_count_together(
    set_of: SetOf, verify: Verify, crl_of: Callable[..., bytes], now: datetime
) -> None:
    higher = crl_of(number=CRL_NUMBER + 5, last_update=now - 2 * DAY, next_update=now + 90 * DAY)
    later = crl_of(number=CRL_NUMBER - 1, last_update=now - DAY / 2, next_update=now + 3 * DAY)
    for crls in ((higher, later), (later, higher)):
        found = verify(set_of(crls=crls))
        assert found.floor == Floor(issue_date=int((now - DAY / 2).timestamp()), pck_crl_number=CRL_NUMBER + 5)
        assert (found.valid_from, found.valid_until) == (now - DAY / 2, now + 3 * DAY)


@pytest.mark.parametrize("role", ["ark", "ask", "asvk"])
def test_a_certificate_that_ends_first_ends_the_set(
    role: str, amd: AmdVendor, set_of: SetOf, verify: Verify, now: datetime
) -> None:
    names = {"ark": "ARK-Milan", "ask": "SEV-Milan", "asvk": "SEV-VLEK-Milan"}
    short = issue_ca(
        names[role],
        amd.key(f"Milan {role}"),
        0x20000,
        (now - DAY, now + 2 * DAY),
        issuer="ARK-Milan",
        signing_key=amd.key("Milan ark"),
        path_length=None if role == "ark" else 0,
        crl_sign=role == "ark",
    )
    good = set_of(**{role: None})
    made = replace(good, certificates=(short, *good.certificates))
    assert verify(made).valid_until == now + 2 * DAY
    verify(made, at=now + 2 * DAY)
    refused(lambda: verify(made, at=now + 2 * DAY + timedelta(seconds=1)), Code.SNP_EXPIRED)


# Each refusal alone.


@pytest.mark.parametrize("role", ["ark", "ask", "asvk"])
def test_a_certificate_that_is_no_ca(role: str, amd: AmdVendor, set_of: SetOf, verify: Verify, now: datetime) -> None:
    names = {"ark": "ARK-Milan", "ask": "SEV-Milan", "asvk": "SEV-VLEK-Milan"}
    leaf = issue_ca(
        names[role],
        amd.key(f"Milan {role}"),
        0x20000,
        (now - DAY, now + 2 * DAY),
        issuer="ARK-Milan",
        signing_key=amd.key("Milan ark"),
        path_length=None,
        is_ca=False,
    )
    good = set_of(**{role: None})
    refused(lambda: verify(replace(good, certificates=(leaf, *good.certificates))), Code.SNP_CHAIN)


def test_without_an_ark_there_is_no_root(set_of: SetOf, verify: Verify) -> None:
    refused(lambda: verify(set_of(ark=None)), Code.SNP_ROOT)
    refused(lambda: verify(SnpEndorsements()), Code.SNP_ROOT)


def test_an_ark_that_is_not_pinned(amd: AmdVendor, set_of: SetOf, verify: Verify) -> None:
    strange = amd.authority("Milan", "ark", stranger=True)
    good = set_of(ark=None)
    refused(lambda: verify(replace(good, certificates=(strange, *good.certificates))), Code.SNP_ROOT)
    refused(lambda: verify(set_of(), {}), Code.SNP_ROOT)
    refused(lambda: verify(set_of(), {Product.MILAN: frozenset()}), Code.SNP_ROOT)


def test_an_ark_that_is_pinned_for_another_line(set_of: SetOf, verify: Verify, ark_pins: ArkPins) -> None:
    milan, genoa = ark_pins[Product.MILAN], ark_pins[Product.GENOA]
    for pins in ({Product.GENOA: milan}, {Product.MILAN: genoa, Product.GENOA: milan}):
        refused(lambda pins=pins: verify(set_of(), pins), Code.SNP_ROOT)  # type: ignore[misc]  # bound at once


@pytest.mark.parametrize("name", ["ARK-Genoa", "SEV-Milan", "Milan", "ARK-milan", "ARK-Milan "])
def test_the_pinned_key_under_another_name(
    name: str, amd: AmdVendor, set_of: SetOf, now: datetime, verify: Verify
) -> None:
    named = issue_ca(
        name, amd.key("Milan ark"), 0x10000, (now - DAY, now + 99 * DAY), issuer=name,
        signing_key=amd.key("Milan ark"), path_length=None, crl_sign=True,
    )  # fmt: skip
    good = set_of(ark=None)
    refused(lambda: verify(replace(good, certificates=(named, *good.certificates))), Code.SNP_ROOT)


def test_a_simulated_authority_pins_one_key_for_all_lines(amd: AmdVendor, set_of: SetOf, now: datetime) -> None:
    roots = same_for_all({amd.ark_pin("Milan")})
    assert verify_snp_collateral(set_of(), roots, now).product is Product.MILAN
    refused(lambda: verify_snp_collateral(set_of("Genoa"), roots, now), Code.SNP_ROOT)


def test_without_an_issuer(amd: AmdVendor, set_of: SetOf, verify: Verify) -> None:
    none = set_of(ask=None, asvk=None)
    refused(lambda: verify(none), Code.SNP_ENDORSEMENTS_MISSING)
    # Those of another line, and a VCEK, are no issuers below this root.
    others = (*set_of("Genoa").certificates[1:], amd.platform("Milan").evidence(bytes(64)).certificates[0])
    refused(lambda: verify(replace(none, certificates=(*none.certificates, *others))), Code.SNP_ENDORSEMENTS_MISSING)


@pytest.mark.parametrize("role", ["ask", "asvk"])
def test_an_issuer_that_the_ark_did_not_sign(role: str, amd: AmdVendor, set_of: SetOf, verify: Verify) -> None:
    refused(lambda: verify(set_of(**{role: "other"})), Code.SNP_CHAIN)
    # Nor may one stand beside good ones.
    strange, good = amd.authority("Milan", role, stranger=True), set_of()
    refused(lambda: verify(replace(good, certificates=(*good.certificates, strange))), Code.SNP_CHAIN)


def test_an_ark_that_did_not_sign_itself(set_of: SetOf, verify: Verify) -> None:
    refused(lambda: verify(set_of(ark="other")), Code.SNP_CHAIN)


@pytest.mark.parametrize("der", [b"\x30", b"\x30\x00", b"garbage", bytes(9000)])
def test_what_is_no_certificate(der: bytes, set_of: SetOf, verify: Verify) -> None:
    good = set_of()
    refused(lambda: verify(replace(good, certificates=(*good.certificates, der))), Code.SNP_CHAIN)


@pytest.mark.parametrize("role", ["ark", "ask", "asvk"])
def test_an_expired_certificate(role: str, set_of: SetOf, verify: Verify) -> None:
    refused(lambda: verify(set_of(**{role: "expired"})), Code.SNP_EXPIRED)


def test_before_the_certificates_begin(set_of: SetOf, verify: Verify, now: datetime) -> None:
    refused(lambda: verify(set_of(), at=now - 30 * DAY - timedelta(seconds=1)), Code.SNP_EXPIRED)


def test_without_a_list(set_of: SetOf, verify: Verify, crl_of: Callable[..., bytes]) -> None:
    refused(lambda: verify(set_of(crls=())), Code.SNP_CRL_MISSING)
    refused(lambda: verify(set_of(crls=(crl_of("Genoa"),))), Code.SNP_CRL_MISSING)


def test_a_strangers_list(set_of: SetOf, verify: Verify, crl_of: Callable[..., bytes]) -> None:
    strange = crl_of(key="stranger Milan ark")
    refused(lambda: verify(set_of(crls=(strange,))), Code.SNP_CRL)
    refused(lambda: verify(set_of(crls=(crl_of(), strange))), Code.SNP_CRL)


def test_a_list_of_a_root_that_may_sign_none(set_of: SetOf, verify: Verify) -> None:
    refused(lambda: verify(set_of(ark="no-crl")), Code.SNP_CRL)


def test_what_is_no_list(set_of: SetOf, verify: Verify, crl_of: Callable[..., bytes]) -> None:
    for crls in ((crl_of(), b"\x30\x00"), (crl_of(number=None),), (crl_of()[:-1],)):
        refused(lambda crls=crls: verify(set_of(crls=crls)), Code.SNP_CRL)  # type: ignore[misc]  # bound at once


def test_too_many_lists(set_of: SetOf, verify: Verify, crl_of: Callable[..., bytes]) -> None:
    verify(set_of(crls=(crl_of(),) * SNP_CRLS_MAX))
    refused(lambda: verify(set_of(crls=(crl_of(),) * (SNP_CRLS_MAX + 1))), Code.SNP_CRL)


def test_a_list_that_does_not_hold_now(
    set_of: SetOf, verify: Verify, crl_of: Callable[..., bytes], now: datetime
) -> None:
    second = timedelta(seconds=1)
    over = crl_of(next_update=now - second)
    refused(lambda: verify(set_of(crls=(over,))), Code.SNP_CRL_EXPIRED)
    refused(lambda: verify(set_of(crls=(crl_of(), over))), Code.SNP_CRL_EXPIRED)
    refused(lambda: verify(set_of(crls=(crl_of(last_update=now + second),))), Code.SNP_CRL_EXPIRED)
    assert verify(set_of(crls=(crl_of(next_update=now),))).valid_until == now


# The serials of Milan's, as the simulator gives them.
@pytest.mark.parametrize("serial", [0x10000, 0x10001, 0x10101], ids=["ark", "ask", "asvk"])
def test_a_revoked_certificate(serial: int, set_of: SetOf, verify: Verify, crl_of: Callable[..., bytes]) -> None:
    refused(lambda: verify(set_of(crls=(crl_of(revoked=(serial,)),))), Code.SNP_REVOKED)
    refused(lambda: verify(set_of(crls=(crl_of(), crl_of(revoked=(serial,))))), Code.SNP_REVOKED)


def test_a_revoked_serial_that_the_set_does_not_have(
    set_of: SetOf, verify: Verify, crl_of: Callable[..., bytes]
) -> None:
    assert verify(set_of(crls=(crl_of(revoked=(7, 0x10101)),), asvk=None)).product is Product.MILAN


# Floors.


def test_below(set_of: SetOf, verify: Verify) -> None:
    found = verify(set_of())
    own = found.floor
    assert not found.below(own)
    assert not found.below(Floor())
    assert not found.below(replace(own, issue_date=own.issue_date - 1))
    assert not found.below(replace(own, pck_crl_number=own.pck_crl_number - 1))
    assert found.below(replace(own, issue_date=own.issue_date + 1))
    assert found.below(replace(own, pck_crl_number=own.pck_crl_number + 1))
    # One number below is below, however high the other is.
    assert found.below(Floor(issue_date=0, pck_crl_number=own.pck_crl_number + 1))
    assert found.below(Floor(issue_date=own.issue_date + 1, pck_crl_number=0))


def test_floor_of() -> None:
    assert floor_of(SnpFloor(7, 9)) == Floor(evaluation_number=0, issue_date=9, pck_crl_number=7, root_crl_number=0)
    assert floor_of(SnpFloor()) == Floor()


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_changed_byte_gives_a_set_or_our_refusal(data: st.DataObject, set_of: SetOf, verify: Verify) -> None:
    good = set_of()
    parts = [*good.certificates, *good.crls]
    which = data.draw(st.integers(0, len(parts) - 1))
    changed = bytearray(parts[which])
    changed[data.draw(st.integers(0, len(changed) - 1))] ^= data.draw(st.integers(1, 255))
    parts[which] = bytes(changed)
    try:
        found = verify(SnpEndorsements(tuple(parts[:3]), tuple(parts[3:])))
    except AppraisalError as error:
        assert error.code.startswith("snp.")
    else:  # an issuer under another issuer's name is none, and one is enough
        assert found.floor == verify(good).floor
        assert which in (1, 2)
