"""The loader's half of mutual attestation: the proxy proves what it is before anything is sent to it."""

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime

from proxy_attestation.appraisal.roots import VENDOR_ROOTS
from proxy_attestation.endorsements.load import load_material, load_roots
from proxy_attestation.loader.proxy_client import ProxyAddress, ProxyEvidence
from proxy_attestation.relying_party.proxy import fetch_attested_root
from proxy_attestation.relying_party.proxy_evidence import Vendors, checker
from proxy_attestation.relying_party.root_info import RootInfo


def fetch_attested(
    address: ProxyAddress, evidence: ProxyEvidence, timeout: float, clock: Callable[[], datetime]
) -> RootInfo:
    """Fetch the root of a proxy that proves what it is; the pin, where there is one, must fit too.

    Args:
        address: where it is.
        evidence: what it must prove.
        timeout: seconds, as in `fetch_attested_root`.
        clock: aware UTC.

    Raises:
        ProxyAttestationError: as `fetch_attested_root` and `proxy_evidence.check_proxy`; `endorsements.*` and
            `configuration.malformed`, for files that cannot be read.
    """
    vendors = Vendors(
        load_roots(evidence.roots) if evidence.roots else VENDOR_ROOTS, load_material(evidence.endorsements)
    )
    expectation = evidence.expectation
    if address.root_pin is not None:
        expectation = replace(expectation, code=replace(expectation.code, root_pin=address.root_pin))
    check = checker(expectation, vendors, clock)
    return fetch_attested_root(address.url, check, server_name=address.server_name, timeout=timeout, clock=clock)[0]
