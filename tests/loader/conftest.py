"""A certificate authority in memory, and a clock that only moves when told."""

import hashlib
import ipaddress
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from proxy_attestation.attester.model import NOTHING_MORE, Asked, InMemory
from proxy_attestation.codes import Code
from proxy_attestation.errors import ProxyAttestationError, UnavailableError
from proxy_attestation.formats.binder import Binding, bind
from proxy_attestation.formats.csr import ID_PE_CMW, decode_csr, spki_of, verify_csr
from proxy_attestation.formats.ear import LeafClaims, encode_claims_set, encode_extension
from proxy_attestation.formats.evidence import Evidence, decode_evidence
from proxy_attestation.formats.request import KeyOrigin, Request, RuntimeClaims, decode_request
from proxy_attestation.formats.tee import Tee
from proxy_attestation.loader.credential import Credential
from proxy_attestation.loader.enroll import Wanted
from proxy_attestation.relying_party.root_info import RootInfo
from proxy_attestation.v1 import proxy_attestation_pb2 as v1

TRUST_DOMAIN = "example.org"
WORKLOAD = "example-app"


def leaf_claims(spki: bytes, now: datetime, not_after: datetime) -> LeafClaims:
    return LeafClaims(
        issued_at=int(now.timestamp()),
        expires_at=int(not_after.timestamp()),
        nonce=b"\x01" * 32,
        build="0.1.0",
        tee=Tee.SGX,
        status=2,
        vector=((2, 2), (4, 2)),
        policy_digest=b"\x02" * 32,
        spki=spki,
        anchor=b"\x03" * 32,
        key_origin=KeyOrigin.TEE,
        measurements=(("mr_enclave", b"\x04" * 32),),
        signer=b"\x05" * 32,
        product_id=1,
        svn=2,
        debug=False,
        tcb_status="UpToDate",
        tcb_date=1_700_000_000,
        tcb_evaluation_number=17,
        advisories=(),
        application_sha256=None,
        owner="shared",
        evidence_sha256=b"\x06" * 32,
        ledger_origin="example.org/ledger",
        simulated=True,
    )


class Authority:
    """Root and issuing CA; issues whatever it is asked for."""

    def __init__(self, now: datetime) -> None:
        self.now = now
        self.root_key = ec.generate_private_key(ec.SECP256R1())
        self.issuing_key = ec.generate_private_key(ec.SECP256R1())
        self.root = self._ca("Root", "Root", self.root_key, self.root_key, 2)
        self.issuing = self._ca("Issuing", "Root", self.issuing_key, self.root_key, 0)
        self.root_der = self.root.public_bytes(serialization.Encoding.DER)
        self.root_pem = self.root.public_bytes(serialization.Encoding.PEM)

    def _ca(
        self,
        subject: str,
        issuer: str,
        key: ec.EllipticCurvePrivateKey,
        signer: ec.EllipticCurvePrivateKey,
        length: int,
    ) -> x509.Certificate:
        usage = x509.KeyUsage(False, False, False, False, False, True, True, False, False)
        return (
            x509.CertificateBuilder()
            .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, subject)]))
            .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, issuer)]))
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(self.now - timedelta(days=1))
            .not_valid_after(self.now + timedelta(days=30))
            .add_extension(x509.BasicConstraints(ca=True, path_length=length), critical=True)
            .add_extension(usage, critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), critical=False)
            .sign(signer, hashes.SHA256())
        )

    def chain(
        self,
        public_key: ec.EllipticCurvePublicKey,
        *,
        not_before: datetime,
        not_after: datetime,
        dns: tuple[str, ...] = ("app.example.org", "localhost"),
        ip: tuple[str, ...] = ("127.0.0.1",),
        uri: tuple[str, ...] = (f"spiffe://{TRUST_DOMAIN}/{WORKLOAD}",),
        extension: bytes | None = None,
    ) -> tuple[bytes, ...]:
        names: list[x509.GeneralName] = [x509.DNSName(name) for name in dns]
        names += [x509.IPAddress(ipaddress.ip_address(name)) for name in ip]
        names += [x509.UniformResourceIdentifier(name) for name in uri]
        usage = x509.KeyUsage(True, False, False, False, False, False, False, False, False)
        eku = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH])
        builder = (
            x509.CertificateBuilder()
            .subject_name(x509.Name([]))
            .issuer_name(self.issuing.subject)
            .public_key(public_key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(not_before)
            .not_valid_after(not_after)
            .add_extension(x509.SubjectAlternativeName(names), critical=True)
            .add_extension(usage, critical=True)
            .add_extension(eku, critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(self.issuing_key.public_key()), critical=False
            )
        )
        if extension is not None:
            builder = builder.add_extension(x509.UnrecognizedExtension(ID_PE_CMW, extension), critical=False)
        leaf = builder.sign(self.issuing_key, hashes.SHA256())
        return tuple(certificate.public_bytes(serialization.Encoding.DER) for certificate in (leaf, self.issuing))

    def credential(self, now: datetime, life: timedelta, **changes: Any) -> Credential:
        key = ec.generate_private_key(ec.SECP256R1())
        claims = replace(leaf_claims(spki_of(key.public_key()), now, now + life), **changes)
        extension = encode_extension(encode_claims_set(claims))
        start = now - timedelta(seconds=60)
        chain = self.chain(key.public_key(), not_before=start, not_after=now + life, extension=extension)
        leaf = x509.load_der_x509_certificate(chain[0])
        return Credential(
            key=key,
            chain=chain,
            serial=leaf.serial_number,
            names=("app.example.org",),
            obtained_at=now,
            not_before=leaf.not_valid_before_utc,
            not_after=leaf.not_valid_after_utc,
            claims=claims,
            ledger_index=7,
            renewal_window=None,
            simulated=True,
        )


class Attester(InMemory):
    tee: Final = Tee.SGX

    def __init__(self) -> None:
        self.seen: list[bytes] = []
        self.error: ProxyAttestationError | None = None

    def attest(self, binding: Binding) -> Evidence:
        self.seen.append(binding.report_data)
        if self.error is not None:
            raise self.error
        return Evidence(self.tee, b"quote over " + binding.report_data)


@dataclass
class Proxy:
    """Checks what it is asked as the real one does, and issues under the test's authority.

    `challenge`, `leaf` and `claims` change what it answers.
    """

    authority: Authority
    now: datetime
    wanted: Wanted
    challenge: dict[str, Any] = field(default_factory=dict)
    leaf: dict[str, Any] = field(default_factory=dict)
    claims: dict[str, Any] = field(default_factory=dict)
    answer: Callable[[v1.GetSignedCertificateResponse], None] | None = None
    no_claims: bool = False
    broken_claims: bool = False
    other_key: bool = False
    closed: bool = False
    spki: bytes = b""
    asked: Asked = NOTHING_MORE
    parts: dict[str, bytes] = field(default_factory=dict)
    event_log_sha256: bytes | None = None
    questions: list[str] = field(default_factory=list)
    news: v1.GetRenewalInformationResponse | None = None

    @property
    def root(self) -> RootInfo:
        return RootInfo(
            root=self.authority.root_der, pin=b"", issuing=(), sequence=1, trust_domain="example.org",
            policy_digest=b"", ledger_key=b"", key_origin="file", simulated=True, dangers=(),
            deployment_statement=b"", evidence=b"",
        )  # fmt: skip

    async def get_challenge(self, tee: Tee, asked: Asked) -> v1.GetChallengeResponse:
        assert (tee, asked) == (Tee.SGX, self.asked)
        values = {
            "session_id": b"s" * 16,
            "session_token": b"token",
            "nonce": b"n" * 32,
            "ca_id": b"c" * 32,
            "expires_at": int(self.now.timestamp()) + 100,
        }
        return v1.GetChallengeResponse(**{**values, **self.challenge})

    async def get_signed_certificate(
        self, request: v1.GetSignedCertificateRequest, until: datetime
    ) -> v1.GetSignedCertificateResponse:
        assert until == self.now.replace(microsecond=0) + timedelta(seconds=100)
        assert request.session_token == b"token"
        csr = decode_csr(request.csr)
        verify_csr(csr)
        assert csr.cmw is not None
        evidence = decode_evidence(csr.cmw)
        self.parts = {part.name: part.content for part in request.parts}
        self.event_log_sha256 = evidence.event_log_sha256
        binding = bind(ca_id=b"c" * 32, session_id=b"s" * 16, nonce=b"n" * 32, spki=csr.spki, request=request.request)
        assert evidence.evidence == b"quote over " + binding.report_data
        asked, wanted = decode_request(request.request), self.wanted
        assert asked == Request(
            wanted.workload, Tee.SGX, wanted.names, wanted.lifetime,
            RuntimeClaims(wanted.application_kind, wanted.application_sha256, KeyOrigin.TEE),
        )  # fmt: skip
        self.spki = csr.spki
        public_key = ec.generate_private_key(ec.SECP256R1()).public_key() if self.other_key else csr.public_key
        leaf = {
            "not_before": self.now - timedelta(seconds=60),
            "not_after": self.now + timedelta(seconds=wanted.lifetime),
            "dns": wanted.names.dns,
            "ip": tuple(str(ipaddress.ip_address(raw)) for raw in wanted.names.ip),
            "uri": (f"spiffe://{TRUST_DOMAIN}/{wanted.workload}",),
            **self.leaf,
        }
        claims = self._claims(spki_of(public_key), evidence.evidence, leaf["not_after"])
        extension = encode_extension(encode_claims_set(claims))
        if self.broken_claims:
            extension = extension[:-1] + b"\xff"
        chain = self.authority.chain(public_key, extension=None if self.no_claims else extension, **leaf)
        answer = v1.GetSignedCertificateResponse(chain=chain, ledger_index=7)
        if self.answer is not None:
            self.answer(answer)
        return answer

    def _claims(self, spki: bytes, evidence: bytes, not_after: datetime) -> LeafClaims:
        plain = replace(
            leaf_claims(spki, self.now, not_after),
            nonce=b"n" * 32,
            application_sha256=self.wanted.application_sha256,
            evidence_sha256=hashlib.sha256(evidence).digest(),
        )
        return replace(plain, **self.claims)

    async def get_renewal_information(self, certificate_id: str) -> v1.GetRenewalInformationResponse:
        self.questions.append(certificate_id)
        if self.news is None:
            raise UnavailableError(Code.PROXY_UNREACHABLE)
        return self.news

    async def close(self) -> None:
        self.closed = True


@pytest.fixture(scope="session")
def real_now() -> datetime:
    """The machine's time, for certificates that real clients look at."""
    return datetime.now(UTC).replace(microsecond=0)


@pytest.fixture(scope="session")
def authority(real_now: datetime) -> Authority:
    return Authority(real_now)


@pytest.fixture
def make_credential(authority: Authority, real_now: datetime) -> Callable[[], Credential]:
    """Makes a credential with a new key, valid now, for an hour."""
    return lambda: authority.credential(real_now, timedelta(hours=1))


@pytest.fixture
def make_attester() -> Callable[[], Attester]:
    """Makes an attester whose evidence says what it was made over."""
    return Attester


@pytest.fixture
def make_proxy(authority: Authority, real_now: datetime) -> Callable[[Wanted], Proxy]:
    """Makes a proxy that expects one request, and issues under the test's authority."""
    return lambda wanted: Proxy(authority, real_now, wanted)
