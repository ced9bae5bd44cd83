"""Chains of endorsement keys: each rule about issuers, and each deviation that has a name."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID, ObjectIdentifier
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy_attestation.appraisal.tpm_chain import Purpose, TpmChain, TpmRoots, verify_tpm_chain
from proxy_attestation.codes import Code
from proxy_attestation.errors import AppraisalError
from proxy_attestation.formats.bounds import CERTIFICATE_MAX, PLATFORM_CERTIFICATES_MAX
from proxy_attestation.formats.tpm import spki_of

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
EK_USAGE = ObjectIdentifier("2.23.133.8.1")
GCE_INSTANCE = ObjectIdentifier("1.3.6.1.4.1.11129.2.1.21")
KEYS = {
    name: ec.derive_private_key(number, ec.SECP256R1()) for number, name in enumerate(("root", "ca", "sub", "ek"), 2)
}


@cache
def rsa_of(bits: int) -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(65537, bits)


@dataclass(frozen=True)
class Recipe:
    """A certificate; a CA's where `length` is not `False`."""

    subject: str
    issuer: str
    key: Any
    by: Any
    length: int | bool | None = False
    start: datetime = NOW - timedelta(days=1)
    end: datetime = NOW + timedelta(days=1)
    hash: Any = field(default_factory=hashes.SHA256)
    usage: str | None = "key_agreement"
    eku: ObjectIdentifier | None = EK_USAGE
    extra: tuple[tuple[x509.ExtensionType, bool], ...] = ()
    pss: bool = False
    constraints: bool = True

    def make(self) -> bytes:
        names = [x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, item)]) for item in (self.subject, self.issuer)]
        builder = (
            x509.CertificateBuilder()
            .subject_name(names[0])
            .issuer_name(names[1])
            .public_key(self.key.public_key())
            .serial_number(7)
            .not_valid_before(self.start)
            .not_valid_after(self.end)
        )
        is_ca = self.length is not False
        if self.constraints:
            length = None if self.length is False else self.length
            builder = builder.add_extension(x509.BasicConstraints(is_ca, length), critical=True)
        if self.usage is not None:
            off = dict.fromkeys(
                (
                    "digital_signature", "content_commitment", "key_encipherment", "data_encipherment",
                    "key_agreement", "key_cert_sign", "crl_sign", "encipher_only", "decipher_only",
                ),
                False,
            )  # fmt: skip
            builder = builder.add_extension(x509.KeyUsage(**off | {self.usage: True}), critical=True)
        if self.eku is not None and not is_ca:
            builder = builder.add_extension(x509.ExtendedKeyUsage([self.eku]), critical=False)
        for value, critical in self.extra:
            builder = builder.add_extension(value, critical=critical)
        scheme = padding.PSS(padding.MGF1(hashes.SHA256()), padding.PSS.DIGEST_LENGTH) if self.pss else None
        return builder.sign(self.by, self.hash, rsa_padding=scheme).public_bytes(Encoding.DER)


ROOT = Recipe("root", "root", KEYS["root"], KEYS["root"], length=2, usage="key_cert_sign")
CA = Recipe("ca", "root", KEYS["ca"], KEYS["root"], length=0, usage="key_cert_sign")
EK = Recipe("ek", "ca", KEYS["ek"], KEYS["ca"])


def pin(key: Any) -> bytes:
    return hashlib.sha256(spki_of(key.public_key())).digest()


def verify(*recipes: Recipe, pins: tuple[bytes, ...] = (pin(KEYS["root"]),)) -> TpmChain:
    return verify_tpm_chain([recipe.make() for recipe in recipes], Purpose.EK, TpmRoots(frozenset(pins)), NOW)


def code_of(call: Callable[..., object], *arguments: Any) -> Code:
    with pytest.raises(AppraisalError) as refused:
        call(*arguments)
    return refused.value.code


def test_a_chain_in_any_order() -> None:
    for chain in ((EK, CA, ROOT), (EK, ROOT, CA)):
        found = verify(*chain)
        assert (found.anchor, found.valid_until) == (pin(KEYS["root"]), NOW + timedelta(days=1))
        assert found.quirks == ("missing_aki",)
    assert verify(EK, CA, pins=(pin(KEYS["ca"]),)).anchor == pin(KEYS["ca"])


def test_the_earliest_end_counts() -> None:
    soon = NOW + timedelta(hours=1)
    assert verify(EK, replace(CA, end=soon), ROOT).valid_until == soon


def test_the_operators_issuers_complete_a_chain() -> None:
    roots = TpmRoots(frozenset({pin(KEYS["root"])}), (CA.make(), ROOT.make()))
    assert verify_tpm_chain([EK.make()], Purpose.EK, roots, NOW).anchor == pin(KEYS["root"])


SUB = Recipe("sub", "ca", KEYS["sub"], KEYS["ca"], length=0, usage="key_cert_sign")
UNKNOWN = x509.UnrecognizedExtension(ObjectIdentifier("1.2.3.4"), b"\x05\x00")
OTHER_SKI = x509.SubjectKeyIdentifier(b"another")
OTHER_AKI = x509.AuthorityKeyIdentifier(b"some", None, None)


@pytest.mark.parametrize(
    ("name", "chain", "code"),
    [
        ("no issuer", (EK,), Code.TPM_CHAIN),
        ("no root", (EK, CA), Code.TPM_CHAIN),
        ("another issuer of the name", (EK, replace(CA, key=KEYS["sub"]), ROOT), Code.TPM_CHAIN),
        ("an issuer that is no CA", (EK, replace(CA, length=False), ROOT), Code.TPM_CHAIN),
        ("an issuer without constraints", (EK, replace(CA, length=False, constraints=False), ROOT), Code.TPM_CHAIN),
        ("an issuer that may not issue", (EK, replace(CA, usage="digital_signature"), ROOT), Code.TPM_CHAIN),
        ("an issuer without usage", (EK, replace(CA, usage=None), ROOT), Code.TPM_CHAIN),
        ("more CAs than allowed", (replace(EK, issuer="sub", by=KEYS["sub"]), SUB, CA, ROOT), Code.TPM_CHAIN),
        ("an unknown critical extension above", (EK, replace(CA, extra=((UNKNOWN, True),)), ROOT), Code.TPM_CHAIN),
        (
            "key identifiers that differ",
            (replace(EK, extra=((OTHER_AKI, False),)), replace(CA, extra=((OTHER_SKI, False),)), ROOT),
            Code.TPM_CHAIN,
        ),
        ("an issuer that ended", (EK, replace(CA, end=NOW - timedelta(hours=1)), ROOT), Code.TPM_EXPIRED),
        ("an issuer that did not begin", (EK, replace(CA, start=NOW + timedelta(hours=1)), ROOT), Code.TPM_EXPIRED),
        ("a root that ended", (EK, CA, replace(ROOT, end=NOW - timedelta(hours=1))), Code.TPM_EXPIRED),
        ("an EK that did not begin", (replace(EK, start=NOW + timedelta(hours=1)), CA, ROOT), Code.TPM_EXPIRED),
        ("another root", (EK, CA, replace(ROOT, key=KEYS["sub"], by=KEYS["sub"])), Code.TPM_CHAIN),
        ("an EK that signs certificates", (replace(EK, usage="key_cert_sign"), CA, ROOT), Code.TPM_EK_CERTIFICATE),
        ("an EK without usage", (replace(EK, usage=None), CA, ROOT), Code.TPM_EK_CERTIFICATE),
        ("the other kind of key's usage", (replace(EK, usage="key_encipherment"), CA, ROOT), Code.TPM_EK_CERTIFICATE),
        ("no extended usage", (replace(EK, eku=None), CA, ROOT), Code.TPM_EK_CERTIFICATE),
        ("an AK's usage", (replace(EK, eku=ObjectIdentifier("2.23.133.8.3")), CA, ROOT), Code.TPM_EK_CERTIFICATE),
    ],
)
def test_one_thing_wrong(name: str, chain: tuple[Recipe, ...], code: Code) -> None:
    assert code_of(verify, *chain) is code, name


def test_nothing_pinned_trusts_nothing() -> None:
    assert code_of(lambda: verify(EK, CA, ROOT, pins=())) is Code.TPM_ROOT
    assert code_of(lambda: verify(EK, CA, ROOT, pins=(pin(KEYS["ek"]),))) is Code.TPM_ROOT


def test_issuers_of_each_other_end_somewhere() -> None:
    one = replace(CA, issuer="sub", by=KEYS["sub"], length=None)
    other = replace(SUB, length=None)
    assert code_of(verify, EK, one, other) is Code.TPM_CHAIN


def test_counts_and_sizes_are_bounded() -> None:
    assert code_of(verify) is Code.TPM_CHAIN
    assert code_of(lambda: verify(*(EK,) * (PLATFORM_CERTIFICATES_MAX + 1))) is Code.TPM_CHAIN
    too_large = [EK.make() + bytes(CERTIFICATE_MAX)]
    roots = TpmRoots(frozenset())
    assert code_of(lambda: verify_tpm_chain(too_large, Purpose.EK, roots, NOW)) is Code.TPM_CERTIFICATE_ENCODING
    many = TpmRoots(frozenset(), (CA.make(),) * 65)
    assert code_of(lambda: verify_tpm_chain([EK.make()], Purpose.EK, many, NOW)) is Code.TPM_CHAIN


@pytest.mark.parametrize("pss", [False, True])
def test_rsa_signs_and_is_certified(pss: bool) -> None:
    root = replace(ROOT, key=rsa_of(2048), by=rsa_of(2048), pss=pss)
    leaf = replace(EK, key=rsa_of(3072), issuer="root", by=rsa_of(2048), usage="key_encipherment", pss=pss)
    assert verify(leaf, root, pins=(pin(rsa_of(2048)),)).quirks == ("missing_aki",)


@pytest.mark.parametrize(
    "leaf",
    [
        replace(EK, key=rsa_of(1024), usage="key_encipherment"),
        replace(EK, key=ec.derive_private_key(5, ec.SECP224R1())),
        replace(EK, key=ed25519.Ed25519PrivateKey.from_private_bytes(bytes(32))),
        replace(EK, by=ed25519.Ed25519PrivateKey.from_private_bytes(bytes(32)), hash=None),
        replace(EK, hash=hashes.SHA224()),
    ],
    ids=["short RSA", "P-224", "Ed25519", "signed with Ed25519", "SHA-224"],
)
def test_other_algorithms_are_refused(leaf: Recipe) -> None:
    assert code_of(verify, leaf, CA, ROOT) is Code.TPM_CHAIN


def _san(*names: x509.GeneralName) -> tuple[tuple[x509.ExtensionType, bool], ...]:
    return ((x509.SubjectAlternativeName(names), True),)


def _directory(*numbers: int) -> x509.DirectoryName:
    attributes = [x509.NameAttribute(ObjectIdentifier(f"2.23.133.2.{number}"), "id:00") for number in numbers]
    return x509.DirectoryName(x509.Name(attributes))


def test_named_deviations_are_accepted_and_said() -> None:
    aki = x509.AuthorityKeyIdentifier.from_issuer_public_key(KEYS["ca"].public_key())
    gce = x509.UnrecognizedExtension(GCE_INSTANCE, b"\x30\x00")
    assert verify(replace(EK, extra=((aki, False),)), CA, ROOT).quirks == ()
    assert verify(replace(EK, extra=_san(_directory(1, 2, 3))), CA, ROOT).quirks == ("critical_san", "missing_aki")
    assert "gce_without_eku" in verify(replace(EK, eku=None, extra=((gce, False),)), CA, ROOT).quirks
    roots = TpmRoots(frozenset({pin(KEYS["root"])}), (CA.make(), ROOT.make()))
    for padding_ in (bytes(9), b"\xff" * 9):
        found = verify_tpm_chain([EK.make() + padding_], Purpose.EK, roots, NOW)
        assert "trailing_padding" in found.quirks


@pytest.mark.parametrize(
    "names",
    [
        (_directory(1, 2),),
        (_directory(1, 2, 3, 16),),
        (_directory(1, 2, 3), x509.DNSName("example.org")),
        (x509.DNSName("example.org"),),
        (),
    ],
    ids=["less", "more", "another beside it", "something else", "none at all"],
)
def test_another_critical_san_is_refused(names: tuple[x509.GeneralName, ...]) -> None:
    assert code_of(verify, replace(EK, extra=_san(*names)), CA, ROOT) is Code.TPM_CHAIN


@pytest.mark.parametrize("padding_", [b"\x01", b"\0\xff", b"\xff\0", bytes(8) + b"\x01"])
def test_other_bytes_behind_a_certificate_are_refused(padding_: bytes) -> None:
    data = [EK.make() + padding_]
    assert code_of(verify_tpm_chain, data, Purpose.EK, TpmRoots(frozenset()), NOW) is Code.TPM_CERTIFICATE_ENCODING


def test_ber_is_refused_by_its_own_code() -> None:
    """The length of the outer SEQUENCE in a longer form than DER allows."""
    der = EK.make()
    data = [b"\x30\x83\0" + der[2:]]
    assert code_of(verify_tpm_chain, data, Purpose.EK, TpmRoots(frozenset()), NOW) is Code.TPM_CERTIFICATE_ENCODING


@settings(max_examples=150, deadline=None)
@given(st.binary(max_size=100), st.integers(0, 600))
def test_any_bytes_are_refused_with_our_error(data: bytes, at: int) -> None:
    good = EK.make()
    roots = TpmRoots(frozenset({pin(KEYS["root"])}), (CA.make(), ROOT.make()))
    for candidate in (data, good[:at] + data, good[:at] + data + good[at + len(data) :]):
        try:
            verify_tpm_chain([candidate], Purpose.EK, roots, NOW)
        except AppraisalError as error:
            assert str(error.code).startswith("tpm.")
