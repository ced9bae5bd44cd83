"""Reads the names of an entry, and makes SPIFFE IDs.

A leaf carries exactly one URI, its SPIFFE ID, so an entry grants DNS names and IP addresses only. Under
``spiffe://<trust domain>/proxy-attestation/`` stand the proxy's own ids: no entry may have that name.
"""

import ipaddress
import re
from typing import Final

from proxy_attestation.formats.bounds import NAMES_MAX
from proxy_attestation.formats.request import Names, is_dns_name
from proxy_attestation.policy.reader import Fault, TableReader, show

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
    names = Names(dns=reader.values("dns", NAMES_MAX, _dns), ip=reader.values("ip", NAMES_MAX, _ip))
    count = len(names.dns) + len(names.ip)
    # One place is left for the SPIFFE ID, so that a request can name everything.
    if count > NAMES_MAX - 1:
        reader.note(None, f"{count} names", f"at most {NAMES_MAX - 1} in dns and ip together")
    return names


def _dns(text: str) -> str | Fault:
    if "*" in text:
        fix = "list every name: a wildcard would cover names that nobody decided on"
    elif text != text.lower():
        fix = f"write it in lower case: {show(text.lower())}"
    elif not text.isascii():
        fix = "write it as A-labels (xn--...)"
    elif text.endswith("."):
        fix = "leave out the final dot"
    elif not is_dns_name(text):
        fix = "write labels of a-z, 0-9 and inner hyphens, with dots between; an IP address stands under ip"
    elif "." not in text and text != "localhost":
        fix = "write the full name: a single label is a top-level domain, or means another machine on each network"
    else:
        return text
    return Fault(f"{show(text)} is no name for a certificate", fix)


def _ip(text: str) -> bytes | Fault:
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return Fault(f"{show(text)} is no IP address", "write one address, no port, no network")
    if address.version == 6 and address.ipv4_mapped is not None:
        return Fault(f"{show(text)} is an IPv4 address in disguise", f"write {address.ipv4_mapped}")
    if str(address) != text or "%" in text:
        return Fault(f"{show(text)} is not how the address is written", f"write {address}".split("%")[0])
    if address.is_unspecified or address.is_multicast:
        return Fault(f"{show(text)} is the address of no machine", "write the address of the server")
    return address.packed
