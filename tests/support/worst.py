"""The most costly inputs that the bounds let in, a function each that makes the call to judge."""

import struct
from base64 import b64encode
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Final

import cbor2
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from proxy_attestation.appraisal.dcap import appraise
from proxy_attestation.appraisal.endorsements import DcapEndorsements, SnpEndorsements
from proxy_attestation.appraisal.event_log import replay
from proxy_attestation.appraisal.nitro import appraise_nitro
from proxy_attestation.appraisal.roots import Roots
from proxy_attestation.appraisal.snp import appraise_snp
from proxy_attestation.appraisal.tpm import Activation, TpmEndorsements, appraise_tpm
from proxy_attestation.appraisal.tpm_chain import Purpose, TpmRoots, verify_tpm_chain
from proxy_attestation.codes import Code
from proxy_attestation.formats import cbor
from proxy_attestation.formats.azure_hcl import HCL_MAX, decode_hcl
from proxy_attestation.formats.bounds import (
    COLLATERAL_DOCUMENT_MAX,
    EVENT_LOG_MAX,
    EVENTS_MAX,
    PLATFORM_CERTIFICATES_MAX,
    QUOTE_MAX,
    SIGNED_DOCUMENT_MAX,
    SNP_CERTIFICATES_MAX,
    SNP_CRL_MAX,
    SNP_CRLS_MAX,
)
from proxy_attestation.formats.dcap_quote import decode_quote
from proxy_attestation.formats.event_log import decode_event_log
from proxy_attestation.formats.nitro import decode_nitro
from proxy_attestation.formats.snp_report import Product
from proxy_attestation.formats.tpm_evidence import decode_tpm
from proxy_attestation_simulator.amd import AmdVendor
from proxy_attestation_simulator.amd_certificates import revocation_list
from proxy_attestation_simulator.aws import Aws
from proxy_attestation_simulator.azure import bare_hcl_report
from proxy_attestation_simulator.certificates import revocation_list as p256_revocation_list
from proxy_attestation_simulator.intel import Vendor
from proxy_attestation_simulator.recipes import Crl
from proxy_attestation_simulator.tpm import TpmRecipe, TpmVendor, make
from proxy_attestation_simulator.tpm_structures import LogEvent, LogRecipe

NOW: Final = datetime(2026, 11, 24, 12, tzinfo=UTC)
_DAY: Final = timedelta(days=1)

Call = Callable[[], object]


@cache
def _tpm() -> TpmVendor:
    return TpmVendor.create(NOW)


@cache
def _rsa_4096() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(65537, 4096)


def _appraise_tpm(recipe: TpmRecipe, *, big_key: bool = False) -> Call:
    made = make(_tpm(), recipe, ak_key=_rsa_4096() if big_key else None)
    activation = Activation(made.activated_name, made.activated_ek)
    beside = TpmEndorsements(made.certificates, activation, event_log=made.event_log)
    return lambda: appraise_tpm(decode_tpm(made.evidence), beside, TpmRoots(frozenset({_tpm().pin})), NOW)


def many_small_events() -> Call:
    """Return the appraisal of a TPM with almost as many events as may be."""
    return _appraise_tpm(TpmRecipe(log=LogRecipe([LogEvent(4, 4, b"")] * (EVENTS_MAX - 100))))


def few_large_events() -> Call:
    """Return the appraisal of a TPM whose log is as long as may be."""
    return _appraise_tpm(TpmRecipe(log=LogRecipe([LogEvent(4, 4, bytes(EVENT_LOG_MAX // 3))] * 2)))


def many_sha1_events() -> Call:
    """Return the replay of a log of TPM 1.2's form with as many events as may be."""
    log = (struct.pack("<II20sI", 4, 4, bytes(20), 0) * EVENTS_MAX)[:EVENT_LOG_MAX]
    return lambda: replay(decode_event_log(log), "sha1", {4: bytes(20)})


def large_keys() -> Call:
    """Return the appraisal of a TPM whose attestation key is the largest that is read."""
    return _appraise_tpm(TpmRecipe(with_key=False), big_key=True)


def certificates_that_sign_in_circles() -> Call:
    """Return the verification of a chain that has no end, among as many issuers as may be."""
    ring = (_tpm().certify_ek(_rsa_4096().public_key()), *_tpm().issuers * 3)[:PLATFORM_CERTIFICATES_MAX]
    return lambda: verify_tpm_chain(ring, Purpose.EK, TpmRoots(frozenset(), _tpm().issuers * 32), NOW)


def deep_and_wide_cbor() -> Call:
    """Return the reading of a record with more lists than may be."""
    record = cbor2.loads(make(_tpm()).evidence)
    data = cbor2.dumps(record | {4: [[]] * 30_000})
    return lambda: decode_tpm(data)


def amd_certificates_and_lists() -> Call:
    """Return an appraisal with as many certificates and lists as may be, the fitting one last, lists at full length."""
    amd = AmdVendor.fixed(NOW)
    milan = amd.platform("Milan")
    made, recipe = milan.evidence(bytes(64)), milan.recipe(bytes(64))
    veks = [
        amd.make(replace(recipe, vek=recipe.vek.with_extension("3.8", bytes([2, 1, level]))), 0).certificates[0]
        for level in range(SNP_CERTIFICATES_MAX - 3)
    ]
    crl = revocation_list(Crl(1, NOW - _DAY, NOW + _DAY, tuple(range(2, 750))), "ARK-Milan", amd.key("Milan ark"))
    if not SNP_CRL_MAX * 0.9 < len(crl) < SNP_CRL_MAX:
        raise ValueError(f"a list of {len(crl)} bytes is not as long as may be")
    endorsements = SnpEndorsements((*veks, *made.certificates), (crl,) * SNP_CRLS_MAX)
    pins = {Product.MILAN: frozenset({amd.ark_pin("Milan")})}
    return lambda: appraise_snp(made.report, endorsements, pins, None, NOW, crl_required=True)


def nitro_signature_that_fails_last() -> Call:
    """Return an appraisal with a genuine chain and a wrong signature: nothing else has more certificates verified."""
    aws = Aws.create(NOW)
    data = aws.enclave().document(fault="wrong-key")
    roots = Roots(frozenset(), {}, frozenset({aws.root_pin}))
    return lambda: appraise_nitro(decode_nitro(data), roots, NOW)


def cbor_length_that_is_not_there() -> Call:
    """Return the reading of a list that says it has 2^60 items."""
    data = bytes.fromhex("9b0fffffffffffffff") + bytes(1000)
    return lambda: cbor.decode_foreign(data, Code.NITRO_MALFORMED, 2000)


@cache
def _intel() -> Vendor:
    return Vendor.create(NOW, secret=bytes(32))


def td_log_of_many_digests() -> Call:
    """Return the replay of a TD's log with as many events as may be, each with a digest of every known hash."""
    recipe = LogRecipe([LogEvent(1, 4, b"")] * (EVENT_LOG_MAX // 188 - 2), ("sha1", "sha256", "sha384", "sha512"))
    log, registers = recipe.encode(), {1: bytes(48)}
    if not EVENT_LOG_MAX * 0.9 < len(log) <= EVENT_LOG_MAX:
        raise ValueError(f"a log of {len(log)} bytes is not as long as may be")
    return lambda: replay(decode_event_log(log, Code.TDX_EVENT_LOG_MALFORMED), "sha384", registers, tee="tdx")


def long_chain_of_a_tpm() -> Call:
    """Return the appraisal of a TPM whose chain has as many certificates, each as large as may be."""
    made = make(_tpm(), TpmRecipe())
    (leaf, *issuers), beside = made.certificates, []
    for _ in range(PLATFORM_CERTIFICATES_MAX - len(issuers) - 1):
        beside.append(_tpm().certify_ek(_rsa_4096().public_key()))
    certificates = (leaf, *beside, *issuers)
    endorsements = TpmEndorsements(certificates, Activation(made.activated_name, made.activated_ek))
    roots = TpmRoots(frozenset({_tpm().pin}), _tpm().issuers * 32)
    return lambda: appraise_tpm(decode_tpm(made.evidence), endorsements, roots, NOW)


def quote_of_large_certificates() -> Call:
    """Return the appraisal of a quote as long as may be, whose chain is three certificates of the largest size."""
    quote = _intel().platform().quote(bytes(64))
    block = (
        b"-----BEGIN CERTIFICATE-----\n"
        + b64encode(b"\x30\x82\x1f\xfc" + bytes(8188))
        + b"\n-----END CERTIFICATE-----\n"
    )
    pem = block * 3
    whole = bytearray(quote[: len(quote) - len(decode_quote(quote).certification_data) - 4])
    whole += struct.pack("<I", len(pem)) + pem
    whole[432:436] = struct.pack("<I", len(whole) - 436)
    data = bytes(whole).ljust(QUOTE_MAX, b"\0")
    roots = Roots(frozenset({_intel().root_pin}))
    endorsements = DcapEndorsements(**_intel().endorsements("sgx"))
    return lambda: appraise(data, endorsements, roots, None, NOW)


def document_of_many_values() -> Call:
    """Return the appraisal of a quote with a TCB info that is as large as may be, and not signed."""
    filling = b"[" + b'{"a":0},' * 65_000
    document = b'{"tcbInfo":{"id":"SGX","version":3,"x":' + filling[: SIGNED_DOCUMENT_MAX - 220]
    document = document[: document.rindex(b",")] + b']},"signature":"' + b"00" * 64 + b'"}'
    endorsements = DcapEndorsements(**_intel().endorsements("sgx") | {"tcb_info": document})
    quote, roots = _intel().platform().quote(bytes(64)), Roots(frozenset({_intel().root_pin}))
    return lambda: appraise(quote, endorsements, roots, None, NOW)


def list_of_many_serials() -> Call:
    """Return the appraisal of a quote with a revocation list that is as long as may be, and not signed."""
    now = datetime(2026, 11, 24, tzinfo=UTC)
    crl = Crl(1, now - _DAY, now + _DAY, tuple(range(1 << 60, (1 << 60) + COLLATERAL_DOCUMENT_MAX // 44)))
    key = ec.generate_private_key(ec.SECP256R1())
    issuer = _intel().root
    made = p256_revocation_list(crl, issuer, key)
    if not COLLATERAL_DOCUMENT_MAX * 0.8 < len(made) <= COLLATERAL_DOCUMENT_MAX:
        raise ValueError(f"a list of {len(made)} bytes is not as long as may be")
    endorsements = DcapEndorsements(**_intel().endorsements("sgx") | {"root_ca_crl": made})
    quote, roots = _intel().platform().quote(bytes(64)), Roots(frozenset({_intel().root_pin}))
    return lambda: appraise(quote, endorsements, roots, None, NOW)


def hcl_report_of_many_values() -> Call:
    """Return the reading of an HCL report whose runtime data are as many values as may be."""
    report = bare_hcl_report(rsa.generate_private_key(65537, 2048).public_key())
    head, at = report[:0x4C0], report.index(b"{")
    begin = report[at : report.rindex(b"}")] + b',"x":['
    data = begin + b",".join([b"[]"] * ((HCL_MAX - 0x4D4 - len(begin)) // 3 - 2)) + b"]}"
    whole = head + struct.pack("<5I", 20 + len(data), 1, 2, 1, len(data)) + data
    return lambda: decode_hcl(whole[:8] + struct.pack("<I", 0x4D4 + len(data)) + whole[12:])


CASES: Final[Mapping[str, Callable[[], Call]]] = {
    function.__name__: function
    for function in (
        many_small_events,
        few_large_events,
        many_sha1_events,
        large_keys,
        certificates_that_sign_in_circles,
        deep_and_wide_cbor,
        amd_certificates_and_lists,
        nitro_signature_that_fails_last,
        cbor_length_that_is_not_there,
        td_log_of_many_digests,
        long_chain_of_a_tpm,
        quote_of_large_certificates,
        document_of_many_values,
        hcl_report_of_many_values,
        list_of_many_serials,
    )
}
