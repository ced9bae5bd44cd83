"""Certificates, revocation lists and what ours and Intel's extensions hold, as trees."""

import hashlib
from datetime import UTC, datetime

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from proxy_attestation.cli.inspecting.tree import Node
from proxy_attestation.codes import Code
from proxy_attestation.errors import FormatError
from proxy_attestation.formats.csr import ID_PE_CMW
from proxy_attestation.formats.ear import LeafClaims, decode_extension
from proxy_attestation.formats.pck import SGX_EXTENSION, PckExtension, decode_pck_extension

REVOKED_SHOWN = 100
_UNREADABLE = (ValueError, TypeError, x509.InvalidVersion, x509.DuplicateExtension, x509.UnsupportedGeneralNameType)


def certificate_tree(der: bytes) -> tuple[Node, ...]:
    """Return a certificate: names, dates, key, extensions; our claims and Intel's platform data where it has them.

    Raises:
        FormatError: `input.unknown`, for bytes that are no certificate that can be read.
    """
    try:
        certificate = x509.load_der_x509_certificate(der)
        head = (
            Node("subject", certificate.subject.rfc4514_string()),
            Node("issuer", certificate.issuer.rfc4514_string()),
            Node("serial", f"{certificate.serial_number:x}", "hex"),
            Node("not_before", _time(certificate.not_valid_before_utc)),
            Node("not_after", _time(certificate.not_valid_after_utc)),
        )
        key = _key(certificate)
    except _UNREADABLE as error:
        raise FormatError(Code.INPUT_UNKNOWN, "not a certificate that can be read") from error
    digest = hashlib.sha256(der).hexdigest()
    return (*head, *key, Node("sha256", digest, "of the whole certificate"), *_extensions(certificate))


def crl_tree(crl: x509.CertificateRevocationList) -> tuple[Node, ...]:
    """Return a revocation list: issuer, dates, number, the first hundred serials.

    Raises:
        FormatError: `input.unknown`, for a list that cannot be read to its end.
    """
    try:
        number = next((e.value.crl_number for e in crl.extensions if isinstance(e.value, x509.CRLNumber)), None)
        serials = [entry.serial_number for entry in crl]
        issuer, this_update, after = crl.issuer.rfc4514_string(), crl.last_update_utc, crl.next_update_utc
    except _UNREADABLE as error:
        raise FormatError(Code.INPUT_UNKNOWN, "not a revocation list that can be read") from error
    return (
        Node("issuer", issuer),
        Node("this_update", _time(this_update)),
        Node("next_update", None if after is None else _time(after)),
        Node("crl_number", number, "never goes back"),
        Node("revoked_certificates", len(serials)),
        Node("serials", [f"{serial:x}" for serial in serials[:REVOKED_SHOWN]], f"the first {REVOKED_SHOWN}"),
    )


def _tcb(claims: LeafClaims) -> tuple[Node, ...]:
    if claims.tcb_date is None:
        return ()
    # The format allows years that datetime does not know; a level cannot be younger than its use.
    date = datetime.fromtimestamp(min(claims.tcb_date, claims.issued_at), UTC)
    return (
        Node("tcb_status", claims.tcb_status, "the vendor's word on the platform"),
        Node("tcb_date", _time(date)),
        Node("tcb_evaluation_data_number", claims.tcb_evaluation_number),
        Node("advisory_ids", list(claims.advisories)),
    )


def claims_tree(claims: LeafClaims) -> tuple[Node, ...]:
    """Return what a proxy vouches for in one of its certificates."""
    application = claims.application_sha256
    return (
        Node("tee", str(claims.tee), "kind of TEE that the key lives in"),
        Node("status", claims.status, "AR4SI tier: 2 affirming, 32 warning"),
        Node("debug", claims.debug, "whether the TEE can be read from outside"),
        Node("measurements", tuple(Node(name, value.hex()) for name, value in claims.measurements)),
        Node("signer", None if claims.signer is None else claims.signer.hex(), "who signed the code"),
        Node("product_id", claims.product_id),
        Node("svn", claims.svn, "security version of the code"),
        *_tcb(claims),
        Node("application_sha256", None if application is None else application.hex(), "what runs behind the loader"),
        Node("key_origin", claims.key_origin.name.lower(), "where the certificate's key was made"),
        Node("attested_key_sha256", hashlib.sha256(claims.spki).hexdigest(), "must be the certificate's spki_sha256"),
        Node("owner", claims.owner, "who may hold the names"),
        Node("anchor_spki_sha256", claims.anchor.hex(), "the vendor root that the evidence led to"),
        Node("simulated", claims.simulated, "whether the proxy takes simulated evidence"),
        Node("nonce", claims.nonce.hex(), "of the challenge"),
        Node("policy_digest", claims.policy_digest.hex()),
        Node("evidence_sha256", claims.evidence_sha256.hex()),
        Node("ledger_origin", claims.ledger_origin),
        Node("build", claims.build, "version of the proxy"),
        Node("issued_at", _time(datetime.fromtimestamp(claims.issued_at, UTC))),
        Node("expires_at", _time(datetime.fromtimestamp(claims.expires_at, UTC))),
    )


def _key(certificate: x509.Certificate) -> tuple[Node, ...]:
    try:
        key = certificate.public_key()
        spki = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        return (Node("key", None, "of a kind that cannot be read"),)
    kind = type(key).__name__.strip("_")
    if isinstance(key, ec.EllipticCurvePublicKey):
        kind = f"EC {key.curve.name}"
    elif isinstance(key, rsa.RSAPublicKey):
        kind = f"RSA {key.key_size}"
    return (
        Node("key", kind),
        Node("spki_sha256", hashlib.sha256(spki).hexdigest(), "what a pin of this key looks like"),
    )


def _extensions(certificate: x509.Certificate) -> tuple[Node, ...]:
    try:
        extensions = list(certificate.extensions)
    except _UNREADABLE as error:
        return (Node("extensions", [], f"cannot be read: {type(error).__name__}"),)
    nodes: list[Node] = []
    for extension in extensions:
        value = extension.value
        if isinstance(value, x509.SubjectAlternativeName):
            nodes.append(Node("subject_alternative_names", [str(name.value) for name in value]))
        elif isinstance(value, x509.BasicConstraints):
            nodes.append(Node("ca", value.ca))
            nodes.append(Node("path_length", value.path_length, "CAs that may follow below"))
        elif isinstance(value, x509.UnrecognizedExtension) and extension.oid == ID_PE_CMW:
            nodes.append(_claims(value.value))
        elif isinstance(value, x509.UnrecognizedExtension) and extension.oid == SGX_EXTENSION:
            nodes.append(_platform(value.value))
    names = [f"{e.oid.dotted_string}{' critical' if e.critical else ''}" for e in extensions]
    return (*nodes, Node("extensions", list(names)))


def _claims(value: bytes) -> Node:
    try:
        return Node("attestation_claims", claims_tree(decode_extension(value)), "id-pe-cmw: what the proxy vouches for")
    except (FormatError, ValueError, OverflowError, OSError) as error:
        return Node("attestation_claims", None, f"id-pe-cmw, not of this project's profile: {error}")


def _platform(value: bytes) -> Node:
    try:
        extension = decode_pck_extension(value, Code.INPUT_UNKNOWN)
    except FormatError as error:
        return Node("sgx_platform", None, f"1.2.840.113741.1.13.1, cannot be read: {error.detail}")
    return Node("sgx_platform", pck_tree(extension), "1.2.840.113741.1.13.1: what Intel certifies about the platform")


def pck_tree(extension: PckExtension) -> tuple[Node, ...]:
    """Return the SGX extension of a PCK certificate."""
    instance = extension.platform_instance_id
    return (
        Node("ppid", extension.ppid.hex(), "names the machine: keep it to yourself"),
        Node("components", " ".join(map(str, extension.components)), "security versions, compared with TCB levels"),
        Node("pce_svn", extension.pce_svn),
        Node("cpu_svn", extension.cpu_svn.hex(), "the same in raw form"),
        Node("pce_id", extension.pce_id.hex()),
        Node("fmspc", extension.fmspc.hex(), "platform family: which TCB info applies"),
        Node("sgx_type", extension.sgx_type, "0 standard, 1 scalable, 2 scalable with integrity"),
        Node("platform_instance_id", None if instance is None else instance.hex(), "names the machine"),
    )


def _time(value: datetime) -> str:
    return value.strftime("%Y-%m-%dT%H:%M:%SZ")
