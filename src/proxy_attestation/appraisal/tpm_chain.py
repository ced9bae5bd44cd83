"""Certificates of endorsement and attestation keys, up to a root that the operator pinned.

Profile: TCG EK Credential Profile 2.5, section 3; AK certificates: TCG "TPM 2.0 Keys for Device Identity and
Attestation", section 5. Vendors deviate; each deviation that is accepted has a name, and a chain says which it met:

  trailing_padding    zero or FF bytes behind the DER, as NV indexes are larger than what they hold
  missing_aki         no authority key identifier (names and signatures lead to the issuer anyway)
  critical_san        a critical subjectAltName: accepted where it holds nothing but one directoryName of the TPM's
                      manufacturer, model and version (2.23.133.2.1 to 2.3)
  long_name           a name longer than X.520 allows, which `cryptography` warns of
  gce_without_eku     no extended key usage, beside Google's extension that names the instance

A certificate that is not DER in another way (or whose key is marked id-RSAES-OAEP) is refused by a code of its own,
`tpm.certificate_encoding`. Certificates are RSA of 2048 bits or more, or P-256, P-384, P-521; SHA-1 signs none.
Revocation is not checked: operators of TPM roots publish lists rarely, and no peer may supply one.
"""

import hashlib
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from enum import Enum
from typing import Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID
from cryptography.x509.oid import SignatureAlgorithmOID as Signed

from proxy_attestation.codes import Code
from proxy_attestation.errors import AppraisalError
from proxy_attestation.formats.bounds import CERTIFICATE_MAX, PLATFORM_CERTIFICATES_MAX
from proxy_attestation.formats.tpm import PublicKey, spki_of

_ISSUERS_MAX: Final = 64
_DEPTH_MAX: Final = 5
_CURVES: Final = (ec.SECP256R1, ec.SECP384R1, ec.SECP521R1)
_ALGORITHMS: Final = frozenset({
    Signed.RSA_WITH_SHA256, Signed.RSA_WITH_SHA384, Signed.RSA_WITH_SHA512, Signed.RSASSA_PSS,
    Signed.ECDSA_WITH_SHA256, Signed.ECDSA_WITH_SHA384, Signed.ECDSA_WITH_SHA512,
})  # fmt: skip
_HANDLED: Final = (x509.BasicConstraints, x509.KeyUsage, x509.ExtendedKeyUsage, x509.CertificatePolicies)
_TPM_NAME: Final = frozenset(x509.ObjectIdentifier(f"2.23.133.2.{number}") for number in (1, 2, 3))
_GCE_INSTANCE: Final = x509.ObjectIdentifier("1.3.6.1.4.1.11129.2.1.21")
_PARSE_ERRORS: Final = (
    ValueError,
    TypeError,
    UnsupportedAlgorithm,
    x509.InvalidVersion,
    x509.DuplicateExtension,
    x509.UnsupportedGeneralNameType,
    UserWarning,
)


class Purpose(Enum):
    """What a certificate must be for: its extended key usage, and the code where it is not."""

    EK = (x509.ObjectIdentifier("2.23.133.8.1"), Code.TPM_EK_CERTIFICATE)
    AK = (x509.ObjectIdentifier("2.23.133.8.3"), Code.TPM_AK_CERTIFICATE)


@dataclass(frozen=True, slots=True)
class TpmRoots:
    """Whom an operator lets vouch for TPMs.

    Attributes:
        pins: SHA-256 of SubjectPublicKeyInfo, 32 bytes each, of CAs. Empty means none.
        issuers: certificates of CAs, DER, that chains may lack: the roots themselves, and intermediates.
    """

    pins: frozenset[bytes]
    issuers: tuple[bytes, ...] = ()


@dataclass(frozen=True, slots=True)
class TpmChain:
    """A chain that holds.

    Attributes:
        key: of the first certificate.
        anchor: SHA-256 of the pinned CA's SubjectPublicKeyInfo.
        valid_until: the earliest end of all certificates.
        quirks: the named deviations of the first certificate, sorted.
    """

    key: PublicKey
    anchor: bytes
    valid_until: datetime
    quirks: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Certificate:
    certificate: x509.Certificate
    key: PublicKey
    subject: x509.Name
    issuer: x509.Name
    extensions: x509.Extensions
    quirks: frozenset[str]

    def value(self, kind: type[x509.ExtensionType]) -> x509.ExtensionType | None:
        return next((item.value for item in self.extensions if isinstance(item.value, kind)), None)


def read_tpm_certificate(der: bytes) -> tuple[x509.Certificate, bytes]:
    """Return a certificate, and the padding behind it.

    Raises:
        AppraisalError: `tpm.certificate_encoding`.
    """
    try:
        end = len(der)
        if der[:2] == b"\x30\x82":  # a SEQUENCE of 256 to 65535 bytes, as every such certificate is
            end = 4 + int.from_bytes(der[2:4])
        padding = der[end:]
        if end > len(der) or padding.strip(padding[:1]) or padding[:1] not in (b"", b"\0", b"\xff"):
            raise AppraisalError(Code.TPM_CERTIFICATE_ENCODING, "cut off, or other bytes than padding behind it")
        return x509.load_der_x509_certificate(der[:end]), padding
    except _PARSE_ERRORS as error:
        raise AppraisalError(Code.TPM_CERTIFICATE_ENCODING, "not DER of an X.509 certificate") from error


def _read(der: bytes) -> _Certificate:
    if len(der) > CERTIFICATE_MAX:
        raise AppraisalError(Code.TPM_CERTIFICATE_ENCODING, f"{len(der)} bytes, at most {CERTIFICATE_MAX} allowed")
    certificate, padding = read_tpm_certificate(der)
    quirks = {"trailing_padding"} if padding else set()
    try:
        key, extensions = certificate.public_key(), certificate.extensions
        with warnings.catch_warnings(record=True) as long_names:
            warnings.simplefilter("always", UserWarning)
            subject, issuer = certificate.subject, certificate.issuer
        if long_names:
            quirks.add("long_name")
        if certificate.version is not x509.Version.v3 or certificate.serial_number < 1:
            raise AppraisalError(Code.TPM_CHAIN, "another version than 3, or its serial number")
    except _PARSE_ERRORS as error:
        raise AppraisalError(Code.TPM_CERTIFICATE_ENCODING, "a field that cannot be read") from error
    rsa_key = isinstance(key, rsa.RSAPublicKey) and 2048 <= key.key_size <= 8192
    if not rsa_key and not (isinstance(key, ec.EllipticCurvePublicKey) and isinstance(key.curve, _CURVES)):
        raise AppraisalError(Code.TPM_CHAIN, "a key of another kind or size")
    if certificate.signature_algorithm_oid not in _ALGORITHMS:
        raise AppraisalError(Code.TPM_CHAIN, f"signed with {certificate.signature_algorithm_oid.dotted_string}")
    for extension in extensions:
        if isinstance(extension.value, x509.SubjectAlternativeName) and extension.critical:
            _require_tpm_name(extension.value)
            quirks.add("critical_san")
        elif extension.critical and not isinstance(extension.value, _HANDLED):
            raise AppraisalError(Code.TPM_CHAIN, f"unknown critical extension {extension.oid.dotted_string}")
    assert isinstance(key, rsa.RSAPublicKey | ec.EllipticCurvePublicKey)  # noqa: S101 - said above, for the checker
    return _Certificate(certificate, key, subject, issuer, extensions, frozenset(quirks))


def _require_tpm_name(names: x509.SubjectAlternativeName) -> None:
    found = list(names)  # none at all, or one or more of any kind
    only = found[0] if len(found) == 1 else None
    if not isinstance(only, x509.DirectoryName) or frozenset(item.oid for item in only.value) != _TPM_NAME:
        raise AppraisalError(Code.TPM_CHAIN, "a critical subjectAltName that is not a TPM's name")


def verify_tpm_chain(certificates: Sequence[bytes], purpose: Purpose, roots: TpmRoots, now: datetime) -> TpmChain:
    """Verify the certificate of an EK or AK.

    Args:
        certificates: DER; the key's first, issuers in any order.
        purpose: what it must be for.
        roots: the operator's.
        now: aware, UTC.

    Raises:
        AppraisalError: `tpm.certificate_encoding`, `tpm.chain`, `tpm.root`, `tpm.expired`, and `tpm.ek_certificate` or
            `tpm.ak_certificate` for one that is for something else.
    """
    if not 0 < len(certificates) <= PLATFORM_CERTIFICATES_MAX or len(roots.issuers) > _ISSUERS_MAX:
        raise AppraisalError(Code.TPM_CHAIN, f"{len(certificates)} certificates, {len(roots.issuers)} issuers")
    leaf = _with_purpose(_read(certificates[0]), purpose)
    pool = [_read(der) for der in (*certificates[1:], *roots.issuers)]
    current, until = leaf, leaf.certificate.not_valid_after_utc
    _check_time(leaf, now)
    for depth in range(_DEPTH_MAX):
        issuer = _issuer_of(current, pool, depth)
        _check_time(issuer, now)
        until = min(until, issuer.certificate.not_valid_after_utc)
        anchor = hashlib.sha256(spki_of(issuer.key)).digest()
        if anchor in roots.pins:
            return TpmChain(leaf.key, anchor, until, tuple(sorted(leaf.quirks)))
        if issuer.subject == issuer.issuer:
            raise AppraisalError(Code.TPM_ROOT, f"the chain ends in {_shown(issuer)}, which is not pinned")
        current = issuer
    raise AppraisalError(Code.TPM_CHAIN, f"more than {_DEPTH_MAX} issuers")


def _with_purpose(leaf: _Certificate, purpose: Purpose) -> _Certificate:
    wanted, code = purpose.value
    constraints, usage = leaf.value(x509.BasicConstraints), leaf.value(x509.KeyUsage)
    extended = leaf.value(x509.ExtendedKeyUsage)
    quirks = set(leaf.quirks)
    if isinstance(constraints, x509.BasicConstraints) and constraints.ca:
        raise AppraisalError(code, "it is a CA's")
    is_rsa = isinstance(leaf.key, rsa.RSAPublicKey)
    if not isinstance(usage, x509.KeyUsage) or usage.key_cert_sign or usage.crl_sign:
        raise AppraisalError(code, "it may sign certificates, or does not say what it is for")
    encrypts = usage.key_encipherment if is_rsa else usage.key_agreement
    if not (encrypts if purpose is Purpose.EK else usage.digital_signature and not encrypts):
        raise AppraisalError(code, "its key usage is another")
    if extended is None and any(item.oid == _GCE_INSTANCE for item in leaf.extensions):
        quirks.add("gce_without_eku")
    elif not isinstance(extended, x509.ExtendedKeyUsage) or wanted not in extended:
        raise AppraisalError(code, f"extended key usage {wanted.dotted_string} is absent")
    elif ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE in extended:
        raise AppraisalError(code, "it is for any usage")
    if leaf.value(x509.AuthorityKeyIdentifier) is None:
        quirks.add("missing_aki")
    return replace(leaf, quirks=frozenset(quirks))


def _issuer_of(child: _Certificate, pool: list[_Certificate], cas_below: int) -> _Certificate:
    named = [item for item in pool if item.subject == child.issuer]
    for issuer in named:
        if _issued(child, issuer):
            constraints, usage = issuer.value(x509.BasicConstraints), issuer.value(x509.KeyUsage)
            if not isinstance(constraints, x509.BasicConstraints) or not constraints.ca:
                raise AppraisalError(Code.TPM_CHAIN, f"{_shown(issuer)} is no CA")
            if constraints.path_length is not None and constraints.path_length < cas_below:
                raise AppraisalError(Code.TPM_CHAIN, f"{_shown(issuer)} may not have {cas_below} CAs below it")
            if not isinstance(usage, x509.KeyUsage) or not usage.key_cert_sign:
                raise AppraisalError(Code.TPM_CHAIN, f"{_shown(issuer)} may not sign certificates")
            return issuer
    what = "none of them signed it" if named else "which is not there"
    raise AppraisalError(Code.TPM_CHAIN, f"{_shown(child)} names an issuer, {what}")


def _issued(child: _Certificate, issuer: _Certificate) -> bool:
    identifier, own = child.value(x509.AuthorityKeyIdentifier), issuer.value(x509.SubjectKeyIdentifier)
    if (
        isinstance(identifier, x509.AuthorityKeyIdentifier)
        and isinstance(own, x509.SubjectKeyIdentifier)
        and identifier.key_identifier not in (None, own.digest)
    ):
        return False
    try:
        child.certificate.verify_directly_issued_by(issuer.certificate)
    except (InvalidSignature, *_PARSE_ERRORS):
        return False
    return True


def _check_time(certificate: _Certificate, now: datetime) -> None:
    start, end = certificate.certificate.not_valid_before_utc, certificate.certificate.not_valid_after_utc
    if not start <= now <= end:
        raise AppraisalError(Code.TPM_EXPIRED, f"{_shown(certificate)} is valid from {start} to {end}")


def _shown(certificate: _Certificate) -> str:
    return repr(certificate.subject.rfc4514_string()[:128])
