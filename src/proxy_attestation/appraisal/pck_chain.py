"""From a PCK certificate to the pinned Intel SGX root (QVL 4.1.2.4.4 and before; steps 2 and 3 of `appraisal.dcap`).

Certificates inside a quote come from the peer: they are hints. The leaf is the first; the PCK CA and the root follow in
either order (both orders occur). A root that is absent comes from the collateral's own issuer chains, and so does the
PCK CA of a leaf that stands alone.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from cryptography.hazmat.primitives.asymmetric import ec

from proxy_attestation.appraisal.instance import machine_id
from proxy_attestation.appraisal.refusal import refuse
from proxy_attestation.appraisal.roots import Roots
from proxy_attestation.appraisal.x509_chain import (
    Certificate,
    check_end_entity,
    check_issued,
    check_validity,
    read_certificate,
)
from proxy_attestation.errors import FormatError
from proxy_attestation.formats.bounds import CERTIFICATE_MAX, PCK_CHAIN_MAX
from proxy_attestation.formats.dcap_codes import DcapFault, dcap_code
from proxy_attestation.formats.dcap_quote import PCK_LEAF, Quote
from proxy_attestation.formats.pck import PckExtension, decode_pck_extension
from proxy_attestation.formats.pem import CERTIFICATE, decode_pem
from proxy_attestation.formats.tee import Tee

_ROOT_NAME: Final = "SGX Root CA"
_PCK_CA_NAMES: Final = ("SGX PCK Platform CA", "SGX PCK Processor CA")
_PCK_NAME: Final = "SGX PCK Certificate"


@dataclass(frozen=True, slots=True)
class PckChain:
    """A platform's verified certificate chain.

    Attributes:
        key: the PCK, which signs reports of the platform's quoting enclave.
        extension: what Intel certified about the platform.
        leaf: the PCK certificate.
        ca: the PCK CA, or None where the chain could not be completed.
        root: the pinned root, or None likewise. Without it nothing ties the platform to Intel.
        valid_from: the latest notBefore of the chain.
        valid_until: the earliest notAfter of the chain.
        instance_id: 32 bytes that name the machine, or None where it is masked.
    """

    key: ec.EllipticCurvePublicKey
    extension: PckExtension
    leaf: Certificate
    ca: Certificate | None
    root: Certificate | None
    valid_from: datetime
    valid_until: datetime
    instance_id: bytes | None


def find_chain(quote: Quote, platform_certificates: Sequence[bytes], fallback: bytes | None) -> tuple[bytes, ...]:
    """Return the DER certificates that are to prove the quote's platform, leaf first; none where there are none.

    Args:
        quote: its own chain counts, where it has one.
        platform_certificates: DER, as the peer sent them beside a quote without chain.
        fallback: PEM from the endorsements, for a quote without chain of which the peer sent none.

    Raises:
        FormatError: `<tee>.certification_data` for a chain in the quote that is no PEM, `<tee>.chain` beside it.
    """
    if quote.has_chain:
        count = 1 if quote.certification_type == PCK_LEAF else PCK_CHAIN_MAX
        return decode_chain(quote.certification_data, quote.tee, DcapFault.CERTIFICATION_DATA, count)
    if len(platform_certificates) > PCK_CHAIN_MAX or any(len(der) > CERTIFICATE_MAX for der in platform_certificates):
        raise FormatError(dcap_code(quote.tee, DcapFault.CHAIN), "too many platform certificates, or too large")
    if platform_certificates or fallback is None:
        return tuple(platform_certificates)
    return decode_chain(fallback, quote.tee, DcapFault.CHAIN, PCK_CHAIN_MAX)


def decode_chain(pem: bytes, tee: Tee, fault: DcapFault, count: int = PCK_CHAIN_MAX) -> tuple[bytes, ...]:
    """Decode a PEM chain.

    Raises:
        FormatError: `<tee>.<fault>`.
    """
    return decode_pem(pem, CERTIFICATE, dcap_code(tee, fault), count=count, limit=CERTIFICATE_MAX)


def find_issuer(child: Certificate, candidates: Sequence[Certificate]) -> Certificate | None:
    """Return the first candidate whose subject is the child's issuer; whether it signed is checked later."""
    return next((certificate for certificate in candidates if certificate.subject == child.issuer), None)


def check_root(root: Certificate, roots: Roots, tee: Tee, *, verified: bool = False) -> None:
    """Check that a root is one of the pinned ones, and that its certificate was signed by its own key.

    Args:
        root: the certificate.
        roots: the anchors.
        tee: for codes.
        verified: that signature was verified before.

    Raises:
        AppraisalError: `<tee>.root`, `<tee>.chain`.
    """
    if root.spki_sha256 not in roots.intel:
        refuse(tee, DcapFault.ROOT, f"root {root.common_name!r} with SPKI {root.spki_sha256.hex()} is not pinned")
    if _ROOT_NAME not in root.common_name:
        refuse(tee, DcapFault.CHAIN, f"a root called {root.common_name!r}")
    if not verified:
        check_issued(root, root, tee, cas_below=0)


def check_pck_ca(certificate: Certificate, root: Certificate, tee: Tee, *, verified: bool = False) -> None:
    """Check that a certificate is a PCK CA's, under `root`.

    Args:
        certificate: the PCK CA's.
        root: a root that was checked.
        tee: for codes.
        verified: that the root issued it was verified before.

    Raises:
        AppraisalError: `<tee>.chain`.
    """
    if not certificate.common_name.endswith(_PCK_CA_NAMES):
        refuse(tee, DcapFault.CHAIN, f"a PCK CA called {certificate.common_name!r}")
    if not verified:
        check_issued(certificate, root, tee, cas_below=1)


def verify_pck_chain(
    chain: Sequence[bytes],
    tee: Tee,
    roots: Roots,
    now: datetime,
    *,
    pool: Sequence[Certificate],
    pool_verified: bool = False,
) -> PckChain:
    """Verify a platform's chain to a pinned root.

    Args:
        chain: DER, leaf first, at least one.
        tee: for codes.
        roots: the anchors.
        now: aware, UTC.
        pool: issuers that the collateral names. Where it is empty, a chain that does not reach its root is verified
            as far as it goes.
        pool_verified: whether the pool's PCK CAs and roots were already verified against the same `roots`; a chain
            that holds the very same certificates then only has its leaf and its dates checked.

    Raises:
        AppraisalError: `<tee>.chain`, `<tee>.root`, `<tee>.expired`, `<tee>.pck`.
        FormatError: `<tee>.pck`.
    """
    # 2
    known = {certificate.der: certificate for certificate in pool}
    leaf, *issuers = (known.get(der) or read_certificate(der, tee) for der in chain)
    ca = find_issuer(leaf, issuers or pool)
    root = None if ca is None else find_issuer(ca, (*issuers, *pool))
    if len(set(chain)) < len(chain) or any(other is not ca and other is not root for other in issuers):
        refuse(tee, DcapFault.CHAIN, "a certificate that is not part of the chain, or twice in it")
    if pool and ca is None:
        refuse(tee, DcapFault.CHAIN, f"no issuer of {leaf.common_name!r}")
    if pool and root is None:
        refuse(tee, DcapFault.ROOT, "neither the chain nor the collateral has its root")
    if root is not None:
        check_root(root, roots, tee, verified=pool_verified and root.der in known)
    if ca is not None and root is not None:
        verified = pool_verified and ca.der in known and root.der in known
        check_pck_ca(ca, root, tee, verified=verified)
    if ca is not None:
        check_issued(leaf, ca, tee, cas_below=0)
    found = [certificate for certificate in (leaf, ca, root) if certificate is not None]
    for certificate in found:
        check_validity(certificate, now, tee)
    # 3
    check_end_entity(leaf, _PCK_NAME, tee, DcapFault.PCK)
    if leaf.sgx_extension is None:
        refuse(tee, DcapFault.PCK, "a PCK certificate without SGX extension")
    extension = decode_pck_extension(leaf.sgx_extension, dcap_code(tee, DcapFault.PCK))
    return PckChain(
        key=leaf.public_key,
        extension=extension,
        leaf=leaf,
        ca=ca,
        root=root,
        valid_from=max(certificate.not_before for certificate in found),
        valid_until=min(certificate.not_after for certificate in found),
        instance_id=machine_id(tee, extension.ppid + (extension.platform_instance_id or b"")),
    )
