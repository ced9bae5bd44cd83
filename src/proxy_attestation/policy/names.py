"""Reads the names of an entry, and makes SPIFFE IDs.

A leaf carries exactly one URI, its SPIFFE ID, so an entry grants DNS names and IP addresses only. Under
``spiffe://<trust domain>/proxy-attestation/`` stand the proxy's own ids: no entry may have that name.
"""

import ipaddress
import re
from typing import Final

from proxy_attestation.formats.bounds import NAMES_MAX
from proxy_attestation.formats.request import Names, is_dns_name
from proxy_attestation.policy.reader import TableReader, show

RESERVED_ENTRY: Final = "proxy-attestation"
# SPIFFE-ID section 2.1, and each label non-empty, beginning and ending with a letter or digit.
_DOMAIN_LABEL: Final = r"[a-z0-9]([a-z0-9_-]*[a-z0-9])?"
_TRUST_DOMAIN: Final = re.compile(rf"{_DOMAIN_LABEL}(\.{_DOMAIN_LABEL})*\Z")
_TRUST_DOMAIN_MAX: Final = 255


def spiffe_id(trust_domain: str, entry: str) -> str:
    """Return the SPIFFE ID of an entry."""
    return f"spiffe://{trust_domain}/{entry}"


def is_trust_domain(text: str) -> bool:
    """Tell whether `text` can be a SPIFFE trust domain."""
    return len(text) <= _TRUST_DOMAIN_MAX and _TRUST_DOMAIN.match(text) is not None


def read_names(reader: TableReader) -> Names:
    """Read `dns` and `ip` of one table; what is wrong with them is noted in the reader."""
    dns: list[str] = []
    for index, text in reader.texts("dns", NAMES_MAX):
        fault = _dns_fault(text)
        if fault is None:
            dns.append(text)
        else:
            reader.note("dns", f"{show(text)} is no name for a certificate", fault, index)
    ip: list[bytes] = []
    for index, text in reader.texts("ip", NAMES_MAX):
        packed = _ip(reader, text, index)
        if packed is not None:
            ip.append(packed)
    # One place is left for the SPIFFE ID, so that a request can name everything.
    if len(dns) + len(ip) > NAMES_MAX - 1:
        reader.note(None, f"{len(dns) + len(ip)} names", f"at most {NAMES_MAX - 1} in dns and ip together")
    return Names(dns=tuple(sorted(dns)), ip=tuple(sorted(ip)))


def _dns_fault(text: str) -> str | None:
    """Say what to do about a DNS name, or None where nothing is wrong."""
    if "*" in text:
        return "list every name: a wildcard would cover names that nobody decided on"
    if text != text.lower():
        return f"write it in lower case: {show(text.lower())}"
    if not text.isascii():
        return "write it as A-labels (xn--...)"
    if text.endswith("."):
        return "leave out the final dot"
    if not is_dns_name(text):
        return "write labels of a-z, 0-9 and inner hyphens, with dots between; an IP address stands under ip"
    if "." not in text and text != "localhost":
        return "write the full name: a single label is a top-level domain, or means another machine on each network"
    return None


def _ip(reader: TableReader, text: str, index: int) -> bytes | None:
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        reader.note("ip", f"{show(text)} is no IP address", "write one address, no port, no network", index)
        return None
    if address.version == 6 and address.ipv4_mapped is not None:
        reader.note("ip", f"{show(text)} is an IPv4 address in disguise", f"write {address.ipv4_mapped}", index)
    elif str(address) != text or "%" in text:
        reader.note("ip", f"{show(text)} is not how the address is written", f"write {address}".split("%")[0], index)
    elif address.is_unspecified or address.is_multicast:
        reader.note("ip", f"{show(text)} is the address of no machine", "write the address of the server", index)
    else:
        return address.packed
    return None
