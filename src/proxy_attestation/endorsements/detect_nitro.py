"""Is this file a piece for Nitro? The only one there can be is a root certificate: the rest is in the document."""

from typing import Final

from cryptography.x509.oid import NameOID

from proxy_attestation.codes import Code
from proxy_attestation.endorsements.detect import common_name, load_certificate
from proxy_attestation.errors import FormatError
from proxy_attestation.formats import pem
from proxy_attestation.formats.bounds import CERTIFICATE_MAX

_ROOT_NAME: Final = "nitro-enclaves"
_ORGANIZATIONS: Final = ("Amazon", "SIMULATED")


def nitro_root(data: bytes) -> bytes | None:
    """Return the DER of a certificate that is named like a Nitro root, or None for anything else.

    The name decides what the file is taken for and nothing more: a root is trusted by the pin of its key.

    Args:
        data: the whole file, one certificate in DER or PEM.
    """
    if pem.is_pem(data):
        try:
            (data,) = pem.decode_pem(data, pem.CERTIFICATE, Code.ENDORSEMENTS_MALFORMED, count=1, limit=CERTIFICATE_MAX)
        except FormatError:
            return None
    certificate = load_certificate(data)
    if certificate is None or certificate.subject != certificate.issuer:
        return None
    organizations = certificate.subject.get_attributes_for_oid(NameOID.ORGANIZATION_NAME)
    known = [attribute.value in _ORGANIZATIONS for attribute in organizations] == [True]
    return data if known and common_name(certificate.subject).endswith(_ROOT_NAME) else None
