"""A workload on a simulated platform, step by step, so that tests and benchmarks can do each step wrong."""

import hashlib
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import httpx
from cryptography.hazmat.primitives.asymmetric import ec

from proxy_attestation.formats.binder import bind
from proxy_attestation.formats.csr import build_csr, spki_of
from proxy_attestation.formats.evidence import Evidence, encode_evidence
from proxy_attestation.formats.request import (
    ApplicationKind,
    KeyOrigin,
    Request,
    RuntimeClaims,
    encode_request,
    names_from,
)
from proxy_attestation.formats.tee import Tee
from proxy_attestation.loader.proxy_errors import error_from_answer
from proxy_attestation.relying_party.proxy import ProxyContext, fetch_root
from proxy_attestation.v1 import proxy_attestation_pb2 as pb
from proxy_attestation_simulator.platform import Platform

SERVICE = "/proxy_attestation.v1.ProxyAttestation/"


def new_key() -> ec.EllipticCurvePrivateKey:
    """Make a P-256 key."""
    return ec.generate_private_key(ec.SECP256R1())


def request_for(tee: Tee = Tee.SGX, **changes: Any) -> bytes:
    """Return the request of the harness's default entry for a TEE, with some fields replaced."""
    entry, dns = ("example-app", "app") if tee is Tee.SGX else ("example-vm", "vm")
    values: dict[str, Any] = {
        "workload": entry,
        "tee": tee,
        "names": names_from((f"{dns}.example.org",)),
        "lifetime": 3600,
        "runtime": RuntimeClaims(ApplicationKind.NONE, None, KeyOrigin.TEE),
        **changes,
    }
    return encode_request(Request(**values))


@dataclass
class Workload:
    """One platform that can attest.

    Attributes:
        platform: makes the quotes.
        fault: given to every quote.
    """

    platform: Platform
    fault: Any = None

    def message(
        self,
        challenge: pb.GetChallengeResponse,
        request: bytes,
        key: ec.EllipticCurvePrivateKey,
        *,
        attested: ec.EllipticCurvePrivateKey | None = None,
        binder: dict[str, bytes] | None = None,
    ) -> pb.GetSignedCertificateRequest:
        """Attest and build the call.

        Args:
            challenge: the proxy's.
            request: exact bytes.
            key: signs the CSR.
            attested: the key that the quote is bound to, where it is another one.
            binder: parts of the binder to replace.
        """
        parts = {
            "ca_id": challenge.ca_id,
            "session_id": challenge.session_id,
            "nonce": challenge.nonce,
            "spki": spki_of((attested or key).public_key()),
            "request": request,
            **(binder or {}),
        }
        options = {} if self.fault is None else {"fault": self.fault}
        quote = self.platform.quote(bind(**parts).report_data, **options)
        evidence = Evidence(Tee(self.platform.tee), quote)
        csr = build_csr(key, encode_evidence(evidence))
        return pb.GetSignedCertificateRequest(session_token=challenge.session_token, request=request, csr=csr)


@dataclass
class Client:
    """A keep-alive client of the Connect front that trusts the proxy's root and nothing else."""

    address: str
    root: bytes
    trust_domain: str = "example.org"
    http: httpx.Client = field(init=False)

    def __post_init__(self) -> None:
        context = ProxyContext((self.root,), self.trust_domain)
        self.http = httpx.Client(verify=context, base_url=f"https://{self.address}", trust_env=False, timeout=20)

    @classmethod
    def connect(cls, address: str, pin: str) -> "Client":
        """Fetch the root against its pin."""
        return cls(address, fetch_root(f"https://{address}", bytes.fromhex(pin)).root)

    def call(self, method: str, message: Any, answer: Any) -> Any:
        """Make one call with a protobuf body.

        Raises:
            ProxyAttestationError: what the proxy answered instead.
            httpx.TransportError: no answer came.
        """
        body = message if isinstance(message, bytes) else message.SerializeToString()
        done = self.http.post(SERVICE + method, content=body, headers={"content-type": "application/proto"})
        if done.status_code != 200:
            raise error_from_answer(done.status_code, done.content)
        return answer.FromString(done.content)

    def challenge(self, tee: Tee = Tee.SGX) -> pb.GetChallengeResponse:
        """Ask for a challenge."""
        found: pb.GetChallengeResponse = self.call(
            "GetChallenge", pb.GetChallengeRequest(tee=str(tee)), pb.GetChallengeResponse
        )
        return found

    def sign(self, message: pb.GetSignedCertificateRequest) -> pb.GetSignedCertificateResponse:
        """Hand in evidence."""
        found: pb.GetSignedCertificateResponse = self.call(
            "GetSignedCertificate", message, pb.GetSignedCertificateResponse
        )
        return found

    def close(self) -> None:
        """Close the connections."""
        self.http.close()


def tbs_digest(certificate_der: bytes) -> bytes:
    """Return SHA-256 of a certificate's to-be-signed bytes: by this the ledger knows it."""
    from cryptography import x509  # noqa: PLC0415 - only this function parses certificates

    return hashlib.sha256(x509.load_der_x509_certificate(certificate_der).tbs_certificate_bytes).digest()


def utc_now() -> datetime:
    """Return the time."""
    return datetime.now(UTC)
