"""What is fuzzed: every decoder of bytes that come from outside, each as a function of bytes.

Harnesses for answers of services and for whole messages and files stand in `answers.py` and `inputs.py`.
"""

import functools
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import cbor2
from answers import ANSWERS
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding
from handshakes import HANDSHAKES
from inputs import INPUTS
from key_transfers import KEY_TRANSFERS
from notes import NOTES
from proxies import PROXIES
from reference_values import REFERENCE
from renewal import RENEWAL
from target import Target

from proxy_attestation.appraisal.dcap import appraise
from proxy_attestation.appraisal.dcap_collateral import verify_collateral
from proxy_attestation.appraisal.endorsements import DcapEndorsements, SnpEndorsements
from proxy_attestation.appraisal.event_log import replay
from proxy_attestation.appraisal.nitro import appraise_nitro
from proxy_attestation.appraisal.roots import Roots, same_for_all
from proxy_attestation.appraisal.snp import appraise_snp
from proxy_attestation.appraisal.tpm import Activation, TpmEndorsements, appraise_tpm
from proxy_attestation.appraisal.tpm_chain import Purpose, TpmRoots, verify_tpm_chain
from proxy_attestation.authority import messages, wire
from proxy_attestation.authority.messages import TokenKey
from proxy_attestation.authority.token import open_token
from proxy_attestation.cli.inspecting.detect import read_content
from proxy_attestation.cli.inspecting.tree import tree_lines
from proxy_attestation.codes import Code
from proxy_attestation.endorsements.detect import detect
from proxy_attestation.endorsements.detect_snp import detect_snp
from proxy_attestation.endorsements.detect_tpm import assemble_tpm, detect_tpm
from proxy_attestation.formats import (
    cbor,
    csr,
    dcap_collateral,
    dcap_quote,
    deployment,
    ear,
    evidence,
    index,
    ledger_entry,
    nitro,
    owner_proof,
    pck,
    ra_tls,
    request,
    root_evidence,
    snp_certificates,
    snp_report,
)
from proxy_attestation.formats.azure_hcl import decode_hcl
from proxy_attestation.formats.event_log import decode_event_log
from proxy_attestation.formats.signed_json import decode_signed_document
from proxy_attestation.formats.snp_report import Product
from proxy_attestation.formats.tee import Tee
from proxy_attestation.formats.tpm import decode_attest, decode_public, decode_signature
from proxy_attestation.formats.tpm_codes import ST_CERTIFY, ST_QUOTE
from proxy_attestation.formats.tpm_evidence import decode_tpm
from proxy_attestation.loader.config_file import parse_config
from proxy_attestation.policy.load import parse_policy
from proxy_attestation.relying_party.expectation_file import parse_expectation
from proxy_attestation.relying_party.proxy_expectation import parse_proxy_expectation
from proxy_attestation_simulator.amd import AmdVendor
from proxy_attestation_simulator.amd_recipes import SnpEvidence
from proxy_attestation_simulator.aws import Aws, derive_p384
from proxy_attestation_simulator.intel import Vendor
from proxy_attestation_simulator.tpm import TpmMade, TpmVendor, make

NOW: Final = datetime(2026, 11, 24, 12, tzinfo=UTC)
_TOKEN_KEY: Final = TokenKey(b"key1", b"\x01" * 32, int(NOW.timestamp()) + 3600)


def _root_evidence() -> list[bytes]:
    path = root_evidence.NoncePath(1, 3, (bytes(32), bytes(32)))
    whole = root_evidence.RootEvidence(Tee.SGX, b"quote", path, (b"certificate",), b"log")
    short = root_evidence.RootEvidence(Tee.NITRO, b"document", root_evidence.NoncePath(0, 1, ()))
    return [root_evidence.encode_root_evidence(one) for one in (whole, short)]


def _statements() -> list[bytes]:
    pins = [deployment.Pin(Tee.SGX, "mr_enclave", b"\x01" * 32), deployment.Pin(Tee.SNP, "measurement", b"\x02" * 48)]
    text = deployment.encode_deployment(deployment.make_deployment("example.org", bytes(32), "log+00000000+AQ==", pins))
    return [text + "\n\u2014 alice AAAAAAAA\n".encode()]


def _expectations() -> list[bytes]:
    head = 'trust_domain = "example.org"\ntee = "sgx"\n'
    return [f'{head}mr_enclave = ["{"01" * 32}"]\nsigners = ["a+b+c"]\nthreshold = 1\nkey_origin = ["tee"]\n'.encode()]


def _csr(data: bytes) -> None:
    csr.verify_csr(csr.decode_csr(data))


def _certificate(data: bytes) -> None:
    from proxy_attestation.relying_party.path import load_roots, verify_path  # noqa: PLC0415 - needs the vendor's root

    verify_path((data, data), load_roots((vendor().root_der,)), NOW, server_name=None)


def _tcb_info(data: bytes) -> None:
    document = decode_signed_document(data, "tcbInfo", Code.SGX_ENDORSEMENTS_MALFORMED)
    dcap_collateral.decode_tcb_info(document.content, Code.SGX_ENDORSEMENTS_MALFORMED)


def _qe_identity(data: bytes) -> None:
    document = decode_signed_document(data, "enclaveIdentity", Code.SGX_ENDORSEMENTS_MALFORMED)
    dcap_collateral.decode_qe_identity(document.content, Code.SGX_ENDORSEMENTS_MALFORMED)


@functools.cache
def vendor() -> Vendor:
    """Return a vendor that is the same in every run."""
    return Vendor.create(NOW, secret=b"\x05" * 32)


@functools.cache
def collateral(tee: str) -> DcapEndorsements:
    """Return good collateral."""
    return DcapEndorsements(**vendor().endorsements(tee, NOW))


def _roots() -> Roots:
    return Roots(intel=frozenset({vendor().root_pin}))


def _walk(data: bytes) -> None:
    tee = "tdx" if data[4:5] == b"\x81" else "sgx"
    appraise(data, collateral(tee), _roots(), None, NOW)


def _collateral_walk(data: bytes) -> None:
    """Replace one piece of good collateral: the first byte says which."""
    names = sorted(vendor().endorsements("sgx", NOW))
    pieces = dict(vendor().endorsements("sgx", NOW))
    pieces[names[data[0] % len(names)] if data else names[0]] = data[1:]
    verify_collateral(DcapEndorsements(**pieces), _roots(), NOW)


@functools.cache
def aws() -> Aws:
    """Return a Nitro vendor that is the same in every run."""
    return Aws.create(NOW, secret=b"\x05" * 32)


def _nitro_walk(payload: bytes) -> None:
    """Sign any payload with an enclave's key, so that a change does not end at the signature."""
    protected = bytes.fromhex("a1013822")
    signed = cbor2.dumps(["Signature1", protected, b"", payload])
    key = derive_p384(aws().secret, "enclave 0")
    r, s = decode_dss_signature(key.sign(signed, ec.ECDSA(hashes.SHA384(), deterministic_signing=True)))
    document = cbor2.dumps([protected, {}, payload, r.to_bytes(48, "big") + s.to_bytes(48, "big")])
    appraise_nitro(nitro.decode_nitro(document), same_for_all({aws().root_pin}), NOW)


def _ra_tls(data: bytes) -> None:
    for piece in ra_tls.decode_ra_tls(data):
        bound = (dcap_quote.decode_quote(piece.evidence).report_data,) if piece.kind == "quote" else (b"", b"", b"")
        ra_tls.require_bound(piece, bound)


def amd() -> AmdVendor:
    """Return a vendor of SEV-SNP machines that is the same in every run."""
    return AmdVendor.fixed(NOW)


@functools.cache
def snp_evidence(kind: str) -> SnpEvidence:
    """Return good evidence of a Milan machine."""
    return amd().platform("Milan", kind).evidence(bytes(range(64)))


def _appraise_snp(report: bytes, certificates: tuple[bytes, ...], crls: tuple[bytes, ...]) -> None:
    pins = {product: frozenset({amd().ark_pin(product)}) for product in Product}
    appraise_snp(report, SnpEndorsements(certificates, crls), pins, None, NOW, crl_required=True)


def _snp_walk(data: bytes) -> None:
    """Judge a report, or an extended one, against good endorsements of the kind that it names."""
    good = snp_evidence("VLEK" if data[0x48:0x49] == b"\x04" else "VCEK")
    _appraise_snp(data, good.certificates, good.crls)


def _snp_certificates(data: bytes) -> None:
    """Replace one good endorsement: the first byte says which."""
    good = snp_evidence("VCEK")
    pieces = [*good.certificates, *good.crls]
    pieces[data[0] % len(pieces) if data else 0] = data[1:]
    _appraise_snp(good.report, tuple(pieces[:-1]), tuple(pieces[-1:]))


def _vek_extensions(data: bytes) -> None:
    """Read up to 16 extensions: a byte of OID, a byte of length, the value."""
    extensions: dict[str, bytes] = {}
    rest = data
    while len(rest) > 1 and len(extensions) < 16:
        oid = f"3.{rest[0] - 16}" if rest[0] > 16 else str(rest[0])
        extensions[f"{snp_certificates.AMD_ARC}.1.{oid}"] = rest[2 : 2 + rest[1]]
        rest = rest[2 + rest[1] :]
    snp_certificates.decode_vek_extensions(extensions)


_BODIES: Final[dict[wire.Method, Callable[[object], object]]] = {
    wire.Method.HELLO: messages.decode_info,
    wire.Method.ISSUE: messages.decode_order,
    wire.Method.RAISE_FLOOR: messages.decode_endorsements,
    wire.Method.TLS_LEAF: messages.decode_spki,
}
_ANSWERED: Final = (messages.decode_info, messages.decode_issued, messages.decode_floor, messages.decode_chain)


def _owner_proof(data: bytes) -> None:
    proof = owner_proof.decode_proof(data)
    for renewal in proof.renewals:
        owner_proof.verify_renewal(renewal, bytes(64))
    if proof.grant is not None:
        owner_proof.verify_grant(proof.grant, data[:91])


def _wire(data: bytes) -> None:
    """Read frames of a call, or of an answer and what the second byte says that it is."""
    if data[:1] == b"\0":
        for frame in wire.FrameReader().feed(data[1:]):
            call = wire.decode_call(frame)
            _BODIES[call.method](call.body)
        return
    for frame in wire.FrameReader().feed(data[2:]):
        answer = wire.decode_answer(frame)
        if answer.error is None:
            _ANSWERED[data[1] % len(_ANSWERED)](answer.body)


@functools.cache
def tpm() -> TpmMade:
    """Return good evidence of a TPM."""
    return make(TpmVendor.create(NOW))


@functools.cache
def _tpm_roots() -> TpmRoots:
    vendor_ = TpmVendor.create(NOW)
    return TpmRoots(frozenset({vendor_.pin}), vendor_.issuers)


def _tpm_structure(data: bytes) -> None:
    """The first byte says which structure the others are."""
    key = decode_public(tpm_public()).key
    decoders = (
        lambda rest: decode_attest(rest, ST_QUOTE),
        lambda rest: decode_attest(rest, ST_CERTIFY),
        decode_public,
        lambda rest: decode_signature(rest, key),
        decode_hcl,
    )
    decoders[(data[0] if data else 0) % len(decoders)](data[1:])


@functools.cache
def tpm_public() -> bytes:
    """Return the public area of that TPM's AK."""
    ak = decode_tpm(tpm().evidence).ak
    assert ak is not None
    return ak.data


def _tpm_walk(data: bytes) -> None:
    made = tpm()
    activation = Activation(made.activated_name, made.activated_ek)
    beside = TpmEndorsements(made.certificates, activation, event_log=made.event_log)
    appraise_tpm(decode_tpm(data), beside, _tpm_roots(), NOW)


def _event_log(data: bytes) -> None:
    log = decode_event_log(data)
    for alg in log.algorithms:
        replay(log, alg, {})


def _tpm_file(data: bytes) -> None:
    piece = detect_tpm(data)
    if piece is not None:
        assemble_tpm(decode_tpm(decode_tpm(tpm().evidence).signed), (piece,))


def _no_file(name: str) -> bytes:
    raise OSError(name)


TARGETS: Final[dict[str, Target]] = {
    "request": Target(request.decode_request),
    "csr": Target(_csr, 8192),
    "evidence": Target(evidence.decode_evidence, 8192),
    "root-evidence": Target(root_evidence.decode_root_evidence, 8192, _root_evidence),
    "deployment-statement": Target(lambda data: deployment.verify_deployment(data, (), 0), 8192, _statements),
    "proxy-expectation": Target(lambda data: parse_proxy_expectation(data, lambda _: b""), 4096, _expectations),
    "claims-extension": Target(ear.decode_extension),
    "claims-set": Target(ear.decode_claims_set, 4096),
    "ledger-entry": Target(ledger_entry.decode_entry),
    "owner-proof": Target(_owner_proof),
    "owner-token": Target(lambda data: owner_proof.parse_token(data.decode("utf-8", "replace")), 256),
    "owner-grant": Target(lambda data: owner_proof.parse_grant(data.decode("utf-8", "replace")), 1024),
    "session-token": Target(lambda data: open_token((_TOKEN_KEY,), data, NOW), 128),
    "authority-wire": Target(_wire, 8192),
    "quote": Target(dcap_quote.decode_quote, 16384),
    "quote-walk": Target(_walk, 16384),
    "nitro": Target(nitro.decode_nitro, 8192),
    "nitro-walk": Target(_nitro_walk, 8192),
    "foreign-cbor": Target(lambda data: cbor.decode_foreign(data, Code.NITRO_MALFORMED, 4096)),
    "ra-tls": Target(_ra_tls, 16384),
    "tpm-structure": Target(_tpm_structure),
    "tpm-walk": Target(_tpm_walk, 8192),
    "tpm-certificate": Target(lambda data: verify_tpm_chain((data,), Purpose.EK, _tpm_roots(), NOW), 8192),
    "tpm-file": Target(_tpm_file, 8192),
    "event-log": Target(_event_log, 32768),
    "pck-extension": Target(lambda data: pck.decode_pck_extension(data, Code.SGX_PCK)),
    "tcb-info": Target(_tcb_info, 16384),
    "qe-identity": Target(_qe_identity),
    "collateral-walk": Target(_collateral_walk, 16384),
    "endorsement-file": Target(lambda data: detect(data, "input"), 16384),
    "snp-report": Target(snp_report.decode_snp_report, 8192),
    "snp-walk": Target(_snp_walk, 16384),
    "snp-certificates": Target(_snp_certificates),
    "snp-certificate-table": Target(snp_certificates.decode_certificate_table, 8192),
    "snp-extensions": Target(_vek_extensions, 1024),
    "snp-endorsement-file": Target(lambda data: detect_snp(data, "input"), 16384),
    "certificate-path": Target(_certificate),
    "index": Target(lambda data: index.parse_index(data.decode("utf-8", "replace"), Code.POLICY_MALFORMED)),
    "policy": Target(lambda data: parse_policy(data.decode("utf-8", "replace"), Path("/nonexistent"))),
    "inspect": Target(lambda data: list(tree_lines(read_content(data).nodes)), 16384),
    "expectation": Target(lambda data: parse_expectation(data.decode("utf-8", "replace"), _no_file)),
    "loader-file": Target(lambda data: parse_config(data, Path("/nonexistent"))),
    **ANSWERS,
    **INPUTS,
    **HANDSHAKES,
    **KEY_TRANSFERS,
    **PROXIES,
    **NOTES,
    **RENEWAL,
    **REFERENCE,
}


def example_certificate() -> bytes:
    """Return a certificate to begin with."""
    return x509.load_der_x509_certificate(vendor().root_der).public_bytes(Encoding.DER)
