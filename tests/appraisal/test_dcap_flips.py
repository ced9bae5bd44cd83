"""Every byte of SGX and TDX quotes, of their certificates and of the collateral flipped by a bit: each flip is refused.

Of reserved ranges every bit is flipped, and the refusal is the one for reserved bytes: it comes before any signature.
"""

import struct
from base64 import encodebytes
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from datetime import datetime
from functools import partial
from typing import Any, Final

import pytest
from cryptography import x509

from proxy_attestation.appraisal.dcap import DcapAppraiser, appraise
from proxy_attestation.appraisal.dcap_collateral import verify_collateral
from proxy_attestation.appraisal.endorsements import DcapEndorsements
from proxy_attestation.appraisal.roots import Roots
from proxy_attestation.codes import Code
from proxy_attestation.errors import ProxyAttestationError
from proxy_attestation.formats.dcap_quote import decode_quote
from proxy_attestation.formats.pem import CERTIFICATE, decode_pem
from proxy_attestation.formats.signed_json import decode_signed_document
from proxy_attestation.formats.tee import DCAP, Tee
from proxy_attestation_simulator.intel import Vendor

pytestmark = pytest.mark.exhaustive

REPORT_DATA: Final = bytes(range(64))
# TEE, quote version, body type.
KINDS: Final = {
    "sgx-3": ("sgx", 3, None),
    "tdx-4": ("tdx", 4, None),
    "tdx-5-1.0": ("tdx", 5, 2),
    "tdx-5-1.5": ("tdx", 5, 3),
}
# Of an SGX REPORT, which a TD's quoting enclave has too (SDM, REPORT).
RESERVED: Final = (*range(20, 32), *range(96, 128), *range(160, 192), *range(262, 304))
CHAINS: Final = ("pck_crl_issuer_chain", "tcb_info_issuer_chain", "qe_identity_issuer_chain")

Refuse = Callable[[bytes], Code | None]


def flips(data: bytes, positions: Iterable[int] | None = None) -> Iterator[bytes]:
    """Return the data with one bit of each byte flipped, another bit from byte to byte."""
    for at in range(len(data)) if positions is None else positions:
        yield data[:at] + bytes([data[at] ^ 1 << at % 8]) + data[at + 1 :]


def certificate_flips(der: bytes) -> Iterator[bytes]:
    """Return the flips of a certificate's every byte but one.

    The one, which says how many bits of the signature's last byte are unused, is no part of what is signed, nor of the
    signature.
    """
    unused = len(der) - len(x509.load_der_x509_certificate(der).signature) - 1
    return flips(der, (at for at in range(len(der)) if at != unused))


def code_of(call: Callable[[], object]) -> Code | None:
    """Return what a call is refused with."""
    try:
        call()
    except ProxyAttestationError as error:
        return error.code
    return None


@pytest.fixture(scope="module")
def quotes(vendor: Vendor) -> dict[str, bytes]:
    return {
        name: vendor.platform(tee).quote(REPORT_DATA, version=version, body_type=body_type)
        for name, (tee, version, body_type) in KINDS.items()
    }


@pytest.fixture(scope="module")
def hot(vendor: Vendor, roots: Roots, now: datetime) -> Refuse:
    """Judge quotes as `serve` does, with what it remembers."""
    sets = [verify_collateral(DcapEndorsements(**vendor.endorsements(tee)), roots, now) for tee in DCAP]
    appraiser = DcapAppraiser(roots, {(one.tee, one.fmspc): one for one in sets})
    return lambda quote: code_of(lambda: appraiser.appraise(quote, (), now))


@pytest.fixture(scope="module")
def cold(vendor: Vendor, roots: Roots, now: datetime) -> Refuse:
    """Judge quotes from scratch."""
    sets = {tee: DcapEndorsements(**vendor.endorsements(tee)) for tee in DCAP}
    return lambda quote: code_of(
        lambda: appraise(quote, sets[Tee.TDX if quote[4] == 0x81 else Tee.SGX], roots, None, now)
    )


@pytest.mark.parametrize("kind", KINDS)
def test_every_byte_of_a_quote(kind: str, quotes: dict[str, bytes], hot: Refuse, cold: Refuse) -> None:
    quote = quotes[kind]
    chain = len(quote) - len(decode_quote(quote).certification_data)
    assert hot(quote) is None
    assert cold(quote) is None
    for at, changed in enumerate(flips(quote, range(chain))):
        code = hot(changed)
        assert code is not None, at
        assert code.startswith(("sgx.", "tdx.", "evidence.")), at
        if at % 4 == 0:
            assert code == cold(changed), at
    assert hot(quote) is None


def _reserved(kind: str, quote: bytes) -> Iterator[int]:
    decoded = decode_quote(quote)
    at = quote.index(decoded.qe_report)
    yield from (at + offset for offset in RESERVED)
    if kind.startswith("sgx"):
        yield from (48 + offset for offset in RESERVED)


@pytest.mark.parametrize("kind", KINDS)
def test_every_reserved_bit_of_a_quote(kind: str, quotes: dict[str, bytes], hot: Refuse) -> None:
    quote = quotes[kind]
    for at in _reserved(kind, quote):
        for bit in range(8):
            changed = quote[:at] + bytes([1 << bit]) + quote[at + 1 :]
            assert hot(changed) == f"{KINDS[kind][0]}.malformed", at


def _with_chain(quote: bytes, pem: bytes) -> bytes:
    """Put another chain into a quote; no signature covers it."""
    whole = bytearray(quote[: len(quote) - len(decode_quote(quote).certification_data) - 4])
    whole += struct.pack("<I", len(pem)) + pem
    size = len(decode_quote(quote).signed)
    whole[size : size + 4] = struct.pack("<I", len(whole) - size - 4)
    if quote[0] != 3:
        whole[size + 134 : size + 138] = struct.pack("<I", len(whole) - size - 138)
    return bytes(whole)


def _wrapped(ders: Iterable[bytes]) -> bytes:
    """Encode certificates, broken ones too."""
    begin, end = b"-----BEGIN CERTIFICATE-----\n", b"-----END CERTIFICATE-----\n"
    return b"".join(begin + encodebytes(der) + end for der in ders)


@pytest.mark.parametrize("place", ["pck", "ca", "root"])
@pytest.mark.parametrize("kind", ["sgx-3", "tdx-4"])
def test_every_byte_of_every_certificate_in_a_quote(
    kind: str, place: str, quotes: dict[str, bytes], vendor: Vendor, hot: Refuse
) -> None:
    ders = list(vendor.platform(KINDS[kind][0]).certificates)
    assert hot(_with_chain(quotes[kind], _wrapped(ders))) is None
    index = ("pck", "ca", "root").index(place)
    for at, changed in enumerate(certificate_flips(ders[index])):
        chain = _wrapped([*ders[:index], changed, *ders[index + 1 :]])
        assert hot(_with_chain(quotes[kind], chain)) is not None, at


@pytest.mark.parametrize("name", ["tcb_info", "qe_identity"])
@pytest.mark.parametrize("tee", DCAP)
def test_every_byte_of_a_signed_document(
    tee: Tee, name: str, endorsements: Callable[..., DcapEndorsements], roots: Roots, now: datetime
) -> None:
    good = endorsements(tee)
    member = {"tcb_info": "tcbInfo", "qe_identity": "enclaveIdentity"}[name]
    document = decode_signed_document(getattr(good, name), member, Code.INTERNAL)

    def refused(content: bytes, signature: bytes) -> Code | None:
        whole = b'{"%s":%s,"signature":"%s"}' % (member.encode(), content, signature.hex().encode())
        changes: Any = {name: whole}
        return code_of(lambda: verify_collateral(replace(good, **changes), roots, now, tee=tee))

    assert refused(document.content, document.signature) is None
    for at, changed in enumerate(flips(document.content)):
        code = refused(changed, document.signature)
        assert code is not None, at
        assert code.endswith((f"{name}_signature", "endorsements_malformed", "tcb_info_mismatch")), at
    for at, changed in enumerate(flips(document.signature)):
        assert refused(document.content, changed) == f"{tee}.{name}_signature", at


@pytest.mark.parametrize("name", ["pck_crl", "root_ca_crl"])
def test_every_byte_of_a_revocation_list(
    name: str, endorsements: Callable[..., DcapEndorsements], roots: Roots, now: datetime
) -> None:
    good = endorsements()
    for at, changed in enumerate(flips(getattr(good, name))):
        changes: Any = {name: changed}
        assert code_of(partial(verify_collateral, replace(good, **changes), roots, now)) == Code.SGX_CRL, at


@pytest.mark.parametrize("name", CHAINS)
def test_every_byte_of_every_issuer(
    name: str, endorsements: Callable[..., DcapEndorsements], roots: Roots, now: datetime
) -> None:
    good = endorsements()
    issuer, root = decode_pem(getattr(good, name), CERTIFICATE, Code.INTERNAL, count=2, limit=4096)
    for at, changed in enumerate(certificate_flips(issuer)):
        changes: Any = {name: _wrapped([changed, root])}
        assert code_of(partial(verify_collateral, replace(good, **changes), roots, now)) is not None, at


def test_every_byte_of_the_root(endorsements: Callable[..., DcapEndorsements], roots: Roots, now: datetime) -> None:
    good = endorsements()
    chains = {name: decode_pem(getattr(good, name), CERTIFICATE, Code.INTERNAL, count=2, limit=4096) for name in CHAINS}
    for at, changed in enumerate(certificate_flips(chains[CHAINS[0]][1])):
        changes: Any = {name: _wrapped([issuer, changed]) for name, (issuer, _) in chains.items()}
        assert code_of(partial(verify_collateral, replace(good, **changes), roots, now)) is not None, at
