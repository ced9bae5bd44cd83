"""Every byte-level field of root, issuing CA, leaf and the proxy's own leaf, as three independent readers see them."""

import hashlib
import ipaddress
import re
import subprocess
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509 import verification
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID, SignatureAlgorithmOID

from proxy_attestation.authority import profile
from proxy_attestation.authority.issue import Issuer
from proxy_attestation.authority.keys import SoftwareSigner
from proxy_attestation.authority.messages import Issued, IssueOrder
from proxy_attestation.formats.csr import ID_PE_CMW, spki_of
from proxy_attestation.formats.ear import decode_extension
from proxy_attestation.formats.request import names_from
from proxy_attestation.relying_party.check import check_chain, check_proxy_chain
from proxy_attestation.relying_party.expectation import Expectation

NOW = datetime(2026, 11, 24, 12, 0, 0, tzinfo=UTC)
EKU = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH])


def usage(*, leaf: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=leaf,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=not leaf,
        crl_sign=not leaf,
        encipher_only=False,
        decipher_only=False,
    )


def spki(certificate: x509.Certificate) -> bytes:
    return certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def key_id(certificate: x509.Certificate) -> bytes:
    """RFC 7093 section 2, method 1: SHA-256 over the point, the leftmost 160 bits."""
    point = certificate.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
    return hashlib.sha256(point).digest()[:20]


def name(common: str, organization: str = "SIMULATED") -> x509.Name:
    return x509.Name(
        [x509.NameAttribute(NameOID.ORGANIZATION_NAME, organization), x509.NameAttribute(NameOID.COMMON_NAME, common)]
    )


def seen(certificate: x509.Certificate) -> list[tuple[x509.ExtensionType, bool]]:
    return [(extension.value, extension.critical) for extension in certificate.extensions]


def assert_common(certificate: x509.Certificate, issuer: x509.Certificate) -> None:
    assert certificate.version is x509.Version.v3
    assert 0 < certificate.serial_number < 1 << 159
    assert certificate.signature_algorithm_oid == SignatureAlgorithmOID.ECDSA_WITH_SHA256
    assert isinstance(certificate.signature_hash_algorithm, hashes.SHA256)
    assert certificate.issuer == issuer.subject
    certificate.verify_directly_issued_by(issuer)


@pytest.fixture
def authorities(issuer: Issuer) -> tuple[x509.Certificate, x509.Certificate]:
    info = issuer.hello()
    root, issuing = info.roots[0], info.issuing[0]
    return x509.load_der_x509_certificate(root), x509.load_der_x509_certificate(issuing)


def test_the_root(authorities: tuple[x509.Certificate, x509.Certificate]) -> None:
    root, _ = authorities
    assert_common(root, root)
    assert root.subject == name("example.org Proxy Attestation Root G1")
    assert [attribute._type.name for attribute in root.subject] == ["UTF8String", "UTF8String"]
    assert root.not_valid_before_utc == NOW - timedelta(seconds=60)
    assert root.not_valid_after_utc == NOW - timedelta(seconds=60) + timedelta(days=3 * 365)
    assert isinstance(root.public_key(), ec.EllipticCurvePublicKey)
    assert len(spki(root)) == 91
    assert seen(root) == [
        (x509.BasicConstraints(ca=True, path_length=2), True),
        (usage(leaf=False), True),
        (x509.SubjectKeyIdentifier(key_id(root)), False),
        (x509.NameConstraints([x509.DNSName("example.org")], None), True),
    ]


def test_the_issuing_ca(authorities: tuple[x509.Certificate, x509.Certificate]) -> None:
    root, issuing = authorities
    assert_common(issuing, root)
    assert issuing.subject == name("example.org Proxy Attestation CA 1")
    assert issuing.not_valid_before_utc == NOW - timedelta(seconds=60)
    assert issuing.not_valid_after_utc == NOW - timedelta(seconds=60) + timedelta(days=90)
    assert spki(issuing) != spki(root)
    assert seen(issuing) == [
        (x509.BasicConstraints(ca=True, path_length=0), True),
        (usage(leaf=False), True),
        (x509.SubjectKeyIdentifier(key_id(issuing)), False),
        (x509.AuthorityKeyIdentifier(key_id(root), None, None), False),
    ]


def test_a_leaf(
    issuer: Issuer, world: Any, issue: Callable[[IssueOrder], Issued], authorities: tuple[x509.Certificate, ...]
) -> None:
    issued = issue(world.order(issuer.hello()))
    _, issuing = authorities
    assert len(issued.chain) == 2
    assert issued.chain[1] == issuing.public_bytes(Encoding.DER)
    leaf = x509.load_der_x509_certificate(issued.chain[0])
    assert_common(leaf, issuing)
    assert leaf.subject == x509.Name([])
    assert leaf.not_valid_before_utc == NOW - timedelta(seconds=60)
    assert leaf.not_valid_after_utc == NOW + timedelta(seconds=3600)
    assert spki(leaf) == world.spki
    names = x509.SubjectAlternativeName(
        [
            x509.DNSName("app.example.org"),
            x509.IPAddress(ipaddress.ip_address("192.0.2.7")),
            x509.UniformResourceIdentifier("spiffe://example.org/example-app"),
        ]
    )
    claims = leaf.extensions.get_extension_for_oid(ID_PE_CMW).value
    assert isinstance(claims, x509.UnrecognizedExtension)
    assert seen(leaf) == [
        (x509.BasicConstraints(ca=False, path_length=None), True),
        (usage(leaf=True), True),
        (EKU, False),
        (x509.AuthorityKeyIdentifier(key_id(issuing), None, None), False),
        (names, True),
        (claims, False),
    ]
    assert decode_extension(claims.value).spki == world.spki
    assert len(claims.value) <= 2048


def test_the_proxy_s_own_leaf(
    issuer: Issuer, world: Any, authorities: tuple[x509.Certificate, x509.Certificate]
) -> None:
    chain = issuer.tls_leaf(world.spki)
    root, issuing = authorities
    assert chain[1:] == (issuing.public_bytes(Encoding.DER),)
    leaf = x509.load_der_x509_certificate(chain[0])
    assert_common(leaf, issuing)
    assert leaf.subject == x509.Name([])
    assert leaf.not_valid_before_utc == NOW - timedelta(seconds=60)
    assert leaf.not_valid_after_utc - leaf.not_valid_before_utc == timedelta(hours=24)
    names = x509.SubjectAlternativeName(
        [
            x509.DNSName("proxy.example.org"),
            x509.IPAddress(ipaddress.ip_address("::1")),
            x509.IPAddress(ipaddress.ip_address("127.0.0.1")),
            x509.UniformResourceIdentifier("spiffe://example.org/proxy-attestation/server"),
        ]
    )
    assert seen(leaf) == [
        (x509.BasicConstraints(ca=False, path_length=None), True),
        (usage(leaf=True), True),
        (EKU, False),
        (x509.AuthorityKeyIdentifier(key_id(issuing), None, None), False),
        (names, True),
    ]
    peer = check_proxy_chain(chain, [root.public_bytes(Encoding.DER)], "example.org", NOW, server_name="127.0.0.1")
    assert peer.spiffe_id == "spiffe://example.org/proxy-attestation/server"


@pytest.mark.parametrize("curve", [ec.SECP256R1(), ec.SECP384R1()])
def test_path_validation_and_our_own_relying_party_accept_the_chain(
    issuer: Issuer, world: Any, issue: Callable[[IssueOrder], Issued], curve: ec.EllipticCurve
) -> None:
    info = issuer.hello()
    key = spki_of(ec.generate_private_key(curve).public_key())
    issued = issue(world.order(info, spki=key))
    leaf, issuing = (x509.load_der_x509_certificate(der) for der in issued.chain)
    store = verification.Store([x509.load_der_x509_certificate(info.roots[0])])
    policy = verification.PolicyBuilder().store(store).time(NOW)
    for subject in (x509.DNSName("app.example.org"), x509.IPAddress(ipaddress.ip_address("192.0.2.7"))):
        assert len(policy.build_server_verifier(subject).verify(leaf, [issuing])) == 3
    assert policy.build_client_verifier().verify(leaf, [issuing]).subjects is not None
    expectation = Expectation("example.org", workload="example-app", simulated=True)
    peer = check_chain(issued.chain, info.roots, expectation, NOW, server_name="app.example.org")
    assert peer.claims.spki == key
    assert peer.workload == "example-app"


def openssl(*arguments: str) -> str:
    done = subprocess.run(["openssl", *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def pem(path: Path, *certificates: bytes) -> str:
    path.write_bytes(b"".join(x509.load_der_x509_certificate(der).public_bytes(Encoding.PEM) for der in certificates))
    return str(path)


def test_openssl_verifies_the_chain(
    issuer: Issuer, world: Any, issue: Callable[[IssueOrder], Issued], tmp_path: Path
) -> None:
    info = issuer.hello()
    issued = issue(world.order(info))
    root = pem(tmp_path / "root.pem", *info.roots)
    issuing = pem(tmp_path / "issuing.pem", issued.chain[1])
    leaf = pem(tmp_path / "leaf.pem", issued.chain[0])
    at = ["-attime", str(int(NOW.timestamp())), "-x509_strict", "-CAfile", root, "-untrusted", issuing]
    for purpose in ("sslserver", "sslclient"):
        openssl("verify", *at, "-purpose", purpose, "-verify_hostname", "app.example.org", leaf)
    openssl("verify", *at, "-verify_ip", "192.0.2.7", leaf)
    own = pem(tmp_path / "own.pem", issuer.tls_leaf(world.spki)[0])
    openssl("verify", *at, "-purpose", "sslserver", "-verify_hostname", "proxy.example.org", own)


def test_openssl_prints_nothing_unexpected(
    issuer: Issuer, world: Any, issue: Callable[[IssueOrder], Issued], tmp_path: Path
) -> None:
    info = issuer.hello()
    issued = issue(world.order(info))
    texts = {
        which: openssl("x509", "-noout", "-text", "-in", pem(tmp_path / f"{which}.pem", der))
        for which, der in (("root", info.roots[0]), ("issuing", issued.chain[1]), ("leaf", issued.chain[0]))
    }
    headings = {
        which: re.findall(r"^            (\S.*?): ?(critical)?\s*$", text.split("X509v3 extensions:")[1], re.MULTILINE)
        for which, text in texts.items()
    }
    basic, key_usage = ("X509v3 Basic Constraints", "critical"), ("X509v3 Key Usage", "critical")
    own, issuers = ("X509v3 Subject Key Identifier", ""), ("X509v3 Authority Key Identifier", "")
    assert headings["root"] == [basic, key_usage, own, ("X509v3 Name Constraints", "critical")]
    assert headings["issuing"] == [basic, key_usage, own, issuers]
    assert headings["leaf"] == [
        basic,
        key_usage,
        ("X509v3 Extended Key Usage", ""),
        issuers,
        ("X509v3 Subject Alternative Name", "critical"),
        ("1.3.6.1.5.5.7.1.35", ""),
    ]
    assert "Subject: O = SIMULATED, CN = example.org Proxy Attestation Root G1" in texts["root"]
    assert "Permitted:\n                  DNS:example.org\n" in texts["root"]
    assert "Excluded" not in texts["root"]
    assert "CA:TRUE, pathlen:0" in texts["issuing"]
    assert re.search(r"Subject: *\n", texts["leaf"])
    assert "URI:spiffe://example.org/example-app\n" in texts["leaf"]


def test_a_root_can_be_succeeded(tmp_path: Path) -> None:
    """Clients that trust only the old root accept leaves under the new one, through its cross-signed certificate."""
    keys = {which: SoftwareSigner(ec.generate_private_key(ec.SECP256R1())) for which in ("old", "new", "ca", "leaf")}
    now = int(NOW.timestamp())

    def ca(subject: str, key: str, issuer: str, by: str, path_length: int) -> bytes:
        tbs = profile.ca_tbs(
            serial=profile.new_serial(bytes(range(1, 21))),
            issuer=profile.ca_name("example.org", issuer, "FILE KEYS"),
            subject=profile.ca_name("example.org", subject, "FILE KEYS"),
            validity=(now, now + 86400 * 90),
            spki=keys[key].spki,
            path_length=path_length,
            authority_key_id=None if subject == issuer else profile.key_identifier(keys[by].spki),
            permitted_dns=("example.org",) if subject.startswith("Root") else (),
        )
        return profile.assemble(tbs, keys[by].sign(tbs))

    old = ca("Root G1", "old", "Root G1", "old", profile.ROOT_PATH_LENGTH)
    cross = ca("Root G2", "new", "Root G1", "old", profile.ROOT_PATH_LENGTH - 1)
    new = ca("Root G2", "new", "Root G2", "new", profile.ROOT_PATH_LENGTH)
    issuing = ca("CA 2", "ca", "Root G2", "new", 0)
    tbs = profile.leaf_tbs(
        serial=profile.new_serial(bytes(range(1, 21))),
        issuer=profile.ca_name("example.org", "CA 2", "FILE KEYS"),
        authority_key_id=profile.key_identifier(keys["ca"].spki),
        validity=(now, now + 3600),
        spki=keys["leaf"].spki,
        names=names_from(("app.example.org",), (), ("spiffe://example.org/app",)),
        extension=None,
    )
    leaf = profile.assemble(tbs, keys["ca"].sign(tbs))
    files = {which: pem(tmp_path / f"{which}.pem", der) for which, der in (("old", old), ("new", new), ("leaf", leaf))}
    between = pem(tmp_path / "between.pem", issuing, cross)
    at = ["-attime", str(now + 60), "-x509_strict", "-untrusted", between, "-verify_hostname", "app.example.org"]
    for trusted in ("old", "new"):
        openssl("verify", *at, "-CAfile", files[trusted], files["leaf"])
    certificates = {which: x509.load_der_x509_certificate(der) for which, der in (("old", old), ("new", new))}
    for root, length in (("old", 4), ("new", 3)):
        policy = verification.PolicyBuilder().store(verification.Store([certificates[root]]))
        verifier = policy.time(NOW + timedelta(minutes=1)).build_server_verifier(x509.DNSName("app.example.org"))
        chain = verifier.verify(
            x509.load_der_x509_certificate(leaf), [x509.load_der_x509_certificate(der) for der in (issuing, cross)]
        )
        assert len(chain) == length


@pytest.mark.parametrize(
    ("random", "encoded"),
    [
        (b"\xff" * 20, b"\x02\x14\x7f" + b"\xff" * 19),
        (b"\x80" + b"\xff" * 19, b"\x02\x14\x00" + b"\xff" * 19),
        (b"\x80\x7f" + b"\xff" * 18, b"\x02\x13\x7f" + b"\xff" * 18),
        (b"\x00" * 19 + b"\x01", b"\x02\x01\x01"),
    ],
)
def test_a_serial_is_positive_der_of_at_most_20_octets(random: bytes, encoded: bytes) -> None:
    """RFC 5280 section 4.1.2.2."""
    tbs = leaf_tbs(serial=profile.new_serial(random))
    assert tbs[tbs.index(b"\xa0\x03\x02\x01\x02") + 5 :].startswith(encoded)


@pytest.mark.parametrize(
    ("moment", "encoded"),
    [
        (datetime(2049, 12, 31, 23, 59, 59, tzinfo=UTC), b"\x17\x0d491231235959Z"),
        (datetime(2050, 1, 1, tzinfo=UTC), b"\x18\x0f20500101000000Z"),
    ],
)
def test_times_are_utctime_until_2049_and_generalizedtime_from_2050(moment: datetime, encoded: bytes) -> None:
    """RFC 5280 section 4.1.2.5."""
    tbs = leaf_tbs(validity=(1_800_000_000, int(moment.timestamp())))
    assert encoded in tbs
    assert x509.load_der_x509_certificate(profile.assemble(tbs, b"\x30\x00")).not_valid_after_utc == moment


def test_the_same_bytes_get_the_same_signature() -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    assert SoftwareSigner(key).sign(b"bytes") == SoftwareSigner(key).sign(b"bytes")
    key.public_key().verify(SoftwareSigner(key).sign(b"bytes"), b"bytes", ec.ECDSA(hashes.SHA256()))


def leaf_tbs(**changes: Any) -> bytes:
    good: dict[str, Any] = {
        "serial": b"\x01" * 20,
        "issuer": profile.ca_name("example.org", "CA 1", "FILE KEYS"),
        "authority_key_id": b"\x02" * 20,
        "validity": (1_800_000_000, 1_800_003_600),
        "spki": spki_of(ec.generate_private_key(ec.SECP256R1()).public_key()),
        "names": names_from(("app.example.org",), (), ("spiffe://example.org/app",)),
        "extension": None,
    }
    return profile.leaf_tbs(**(good | changes))
