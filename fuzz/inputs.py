"""Harnesses for what operators and workloads hand over: whole messages and files, walks within walks, short texts."""

import asyncio
import functools
import ssl
import tempfile
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import cbor2
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from target import Target

from proxy_attestation.appraisal.azure import HardwareLayer
from proxy_attestation.appraisal.claims import DcapBody, TdxClaims
from proxy_attestation.appraisal.dcap import appraise
from proxy_attestation.appraisal.endorsements import DcapEndorsements, Floor
from proxy_attestation.appraisal.event_log import replay_td
from proxy_attestation.appraisal.kinds import Appraiser, Endorsements, verify_endorsements
from proxy_attestation.appraisal.roots import Roots, same_for_all
from proxy_attestation.appraisal.tpm import TpmEndorsements, appraise_tpm
from proxy_attestation.appraisal.tpm_chain import TpmRoots
from proxy_attestation.authority.check import is_usual_key
from proxy_attestation.authority.messages import AuthorityInfo, Issued, IssueOrder, Proven, TokenKey
from proxy_attestation.authority.pkcs11_keys import parse_uri
from proxy_attestation.authority.settings import Settings, decode_settings, encode_settings
from proxy_attestation.authority.state import read_anchor
from proxy_attestation.authority.token import make_token, token_nonce
from proxy_attestation.cli.acceptance import Acceptance
from proxy_attestation.cli.demands import Demands, check_demands, parse_demands
from proxy_attestation.cli.endorsing.config import parse_config, parse_fmspc
from proxy_attestation.cli.evidence_file import parse_time
from proxy_attestation.cli.tpm_verdict import is_tpm, judge_tpm
from proxy_attestation.cli.verdict import judge
from proxy_attestation.codes import Code
from proxy_attestation.endorsements.kds import parse_vcek
from proxy_attestation.endorsements.load import Material
from proxy_attestation.errors import UnavailableError
from proxy_attestation.formats import binder
from proxy_attestation.formats.csr import build_csr, load_subject_key, spki_of
from proxy_attestation.formats.event_log import looks_like_event_log
from proxy_attestation.formats.evidence import Evidence, encode_evidence
from proxy_attestation.formats.request import (
    ApplicationKind,
    KeyOrigin,
    Request,
    RuntimeClaims,
    encode_request,
    names_from,
)
from proxy_attestation.formats.tee import Tee
from proxy_attestation.formats.tpm_evidence import decode_tpm
from proxy_attestation.loader import endpoint
from proxy_attestation.relying_party.forwarder import split_target
from proxy_attestation.relying_party.root_file import load_root_file, parse_pin
from proxy_attestation.service import config as serve_config
from proxy_attestation.service.calls import Method, decode_message
from proxy_attestation.service.challenge import new_challenge, read_tpm_identity
from proxy_attestation.service.core import Core, Serving
from proxy_attestation.service.limits import Tries
from proxy_attestation.v1 import proxy_attestation_pb2 as pb
from proxy_attestation_simulator.amd import AmdVendor
from proxy_attestation_simulator.aws import Aws
from proxy_attestation_simulator.azure import REPORT_DATA, SNP, bare_hcl_report
from proxy_attestation_simulator.intel import Vendor
from proxy_attestation_simulator.tpm import BOOT, TpmRecipe, TpmVendor, make
from proxy_attestation_simulator.tpm_machine import TpmMachine
from proxy_attestation_simulator.tpm_structures import LogRecipe

NOW: Final = datetime(2026, 11, 24, 12, tzinfo=UTC)
_SESSION: Final = bytes(range(16))


@functools.cache
def vendor() -> Vendor:
    """Return a vendor that is the same in every run."""
    return Vendor.create(NOW, secret=b"\x05" * 32)


@functools.cache
def _intel(tee: str) -> DcapEndorsements:
    return DcapEndorsements(**vendor().endorsements(tee, NOW))


def _roots() -> Roots:
    return Roots(intel=frozenset({vendor().root_pin}))


# Azure: a vTPM below its hardware.


@functools.cache
def _vtpm() -> tuple[rsa.RSAPublicKey, dict[int, Any]]:
    key = rsa.generate_private_key(65537, 2048)
    made = make(TpmVendor.create(NOW), TpmRecipe(with_key=False), ak_key=key)
    return key.public_key(), cbor2.loads(made.evidence)


def _believe(kind: str, evidence: bytes) -> HardwareLayer:
    return HardwareLayer(kind, evidence[REPORT_DATA[SNP]], 0, bytes(32), None, NOW, None)


def _azure(data: bytes) -> None:
    """Judge a vTPM whose HCL report is the input, over hardware that is believed."""
    evidence = decode_tpm(cbor2.dumps(_vtpm()[1] | {8: data}))
    appraise_tpm(evidence, TpmEndorsements(hardware=_believe), TpmRoots(frozenset()), NOW)


@functools.cache
def _td() -> DcapBody:
    body = appraise(vendor().platform("tdx").quote(bytes(64)), _intel("tdx"), _roots(), None, NOW).body
    assert isinstance(body, TdxClaims)
    return body


def _td_log(data: bytes) -> None:
    body = _td()
    assert isinstance(body, TdxClaims)
    looks_like_event_log(data)
    replay_td(data, body)


# The proxy's whole answer to a workload.


def _token_key() -> TokenKey:
    return TokenKey(b"key1", b"\x01" * 32, int(NOW.timestamp()) + 3600)


@functools.cache
def _info() -> AuthorityInfo:
    return AuthorityInfo(
        generation=1, trust_domain="example.org", simulated=True, key_origin="file", anchors=(vendor().root_pin,),
        tpm_roots=(),
        token_keys=(_token_key(),), ca_id=bytes(32), bundle_sequence=1, roots=(vendor().root_der,), cross=(),
        deny_sequence=1, issuing=(vendor().root_der,), policy_digest=bytes(32), dangers=(), floors=(),
    )  # fmt: skip


class _Authority:
    """One that is away whenever it would have to issue: what it does is fuzzed elsewhere."""

    async def hello(self) -> AuthorityInfo:
        return _info()

    async def denied(self) -> bytes:
        return b"denied"

    async def issue(self, order: IssueOrder) -> Issued:
        raise UnavailableError(Code.AUTHORITY_UNAVAILABLE, order.request.hex())

    async def raise_floor(self, endorsements: Endorsements) -> Floor:
        raise UnavailableError(Code.AUTHORITY_UNAVAILABLE, str(endorsements))

    async def evidence(self, nonce: bytes) -> Proven:
        del nonce
        raise UnavailableError(Code.AUTHORITY_UNAVAILABLE)


@functools.cache
def _appraiser() -> Appraiser:
    amd = AmdVendor.fixed(NOW)
    pins = {vendor().root_pin, amd.ark_pin("Milan"), Aws.create(NOW, secret=b"\x05" * 32).root_pin}
    sets = [verify_endorsements(_intel(tee), same_for_all(pins), NOW) for tee in ("sgx", "tdx")]
    return Appraiser(same_for_all(pins), {(one.tee, one.platform): one for one in sets})


@functools.cache
def _core() -> Core:
    core = Core(_Authority(), lambda: NOW)
    core.serving = Serving(_info(), _appraiser())
    return core


def _call(data: bytes) -> None:
    """Give the core a message, whole."""
    core = _core()
    # Otherwise the one session of all inputs would soon have failed too often.
    core._tries = Tries(counters=1)
    method = Method(pb.GetSignedCertificateRequest, core.get_signed_certificate)
    asyncio.run(core.get_signed_certificate(decode_message(method, data)))


def _challenge(data: bytes) -> None:
    """Ask for a challenge as a TPM does: u16 length, the EK's certificate, then the AK's public area."""
    end = 2 + int.from_bytes(data[:2])
    pins = frozenset({TpmVendor.create(NOW).pin})
    issuers = TpmVendor.create(NOW).issuers
    identity = read_tpm_identity((data[2:end], *issuers), data[end:], pins, NOW)
    new_challenge(_info(), Tee.TPM, NOW, bytes, identity)


def _challenges() -> list[bytes]:
    machine = TpmMachine(TpmVendor.create(NOW))
    certificate = machine.certificates[0]
    return [len(certificate).to_bytes(2) + certificate + machine.ak_public]


def _calls() -> list[bytes]:
    key = ec.derive_private_key(5, ec.SECP256R1())
    found = []
    for tee in (Tee.SGX, Tee.TDX):
        token = make_token(
            _token_key(), session_id=_SESSION, tee=tee, ca_id=bytes(32), expires_at=int(NOW.timestamp()) + 100
        )
        runtime = RuntimeClaims(ApplicationKind.NONE, None, KeyOrigin.TEE)
        request = encode_request(Request("app", tee, names_from(("app.example.org",)), 3600, runtime))
        nonce = token_nonce(_token_key(), token)
        bound = binder.bind(
            ca_id=bytes(32), session_id=_SESSION, nonce=nonce, spki=spki_of(key.public_key()), request=request
        )
        record = encode_evidence(Evidence(tee, vendor().platform(tee).quote(bound.report_data)))
        message = pb.GetSignedCertificateRequest(session_token=token, request=request, csr=build_csr(key, record))
        found.append(message.SerializeToString())
    return found


# Off line.


def _judge(data: bytes) -> None:
    """Appraise a file as the command does, every kind of TEE."""
    anything = Acceptance(None, ("UpToDate",), False, Demands({}, {}), None, None)
    pins = {vendor().root_pin}
    if is_tpm(data, anything):
        judge_tpm(data, (), (), NOW, anything)
        return
    judge(data, Material(dcap=(_intel("sgx"), _intel("tdx"))), same_for_all(pins), NOW, anything)


def _evidence() -> list[bytes]:
    amd = AmdVendor.fixed(NOW).platform("Milan").evidence(bytes(64), now=NOW)
    nitro = Aws.create(NOW, secret=b"\x05" * 32).enclave().document(nonce=bytes(32))
    quotes = [vendor().platform(tee).quote(bytes(64)) for tee in ("sgx", "tdx")]
    tpm = make(TpmVendor.create(NOW)).evidence
    return [*quotes, tpm, quotes[0].hex().encode(), amd.report, amd.certificates[0], nitro, encode_evidence(
        Evidence(Tee.SGX, quotes[0])
    )]  # fmt: skip


@functools.cache
def _directory() -> Path:
    return Path(tempfile.mkdtemp(prefix="proxy-attestation-fuzz-"))


def _serve_toml(data: bytes) -> None:
    (_directory() / "serve.toml").write_bytes(data)
    serve_config.load_config(_directory(), {})


def _root_file(data: bytes) -> None:
    (_directory() / "root.pem").write_bytes(data)
    load_root_file(_directory() / "root.pem")


def _key(data: bytes) -> None:
    is_usual_key(data)
    load_subject_key(data)


def _text(data: bytes) -> None:
    """Give a short text to one reader; the first byte says which. Some promise a ValueError, for click to show."""
    text = data[1:].decode("utf-8", "replace")
    readers: tuple[Callable[[str], object], ...] = (
        parse_time,
        parse_pin,
        split_target,
        endpoint.parse_address,
        lambda value: endpoint.parse_local(value, Path("/nonexistent")),
        lambda value: check_demands({}, parse_demands([value], [])),
        lambda value: check_demands({}, parse_demands([], [value])),
        parse_fmspc,
        lambda value: parse_vcek(value, "Milan"),
        serve_config.parse_address,
        parse_uri,
    )
    chosen = (data[0] if data else 0) % len(readers)
    with suppress(*((ValueError,) if chosen in (3, 4, 7, 8, 9) else ())):
        readers[chosen](text)


def _texts() -> list[bytes]:
    texts = (
        "2026-11-24T12:00:00Z", "ab" * 32, "app.example.org:443", "127.0.0.1:443", "unix:/run/app", "isv_svn=3",
        "isv_svn=3", "00906ed50000", f"{'11' * 64}:bl=4,tee=0,snp=24,ucode=219", "[::1]:7443",
        "pkcs11:token=t;object=o?module-path=/lib.so&pin-source=file:/pin",
    )  # fmt: skip
    return [bytes([number]) + text.encode() for number, text in enumerate(texts)]


def _settings() -> list[bytes]:
    settings = Settings(
        simulated=True, trust_domain="example.org", keys="file", dns=("example.org",),
        root_spki_sha256=bytes(32), anchors=frozenset({bytes(32)}),
    )  # fmt: skip
    return [encode_settings(settings).encode()]


INPUTS: Final[dict[str, Target]] = {
    "azure-walk": Target(_azure, 8192, lambda: [bare_hcl_report(_vtpm()[0]), bare_hcl_report(_vtpm()[0], 4)]),
    "td-event-log": Target(_td_log, 32768, lambda: [LogRecipe(BOOT.events, ("sha384",)).encode()]),
    "tpm-challenge": Target(_challenge, 4096, _challenges),
    "service-call": Target(_call, 32768, _calls),
    "appraise-command": Target(_judge, 16384, _evidence),
    "authority-settings": Target(decode_settings, 2048, _settings),
    "serve-file": Target(_serve_toml, 2048, lambda: [b'grpc = "127.0.0.1:0"\nworkers = 2\ntls_name = ["a.example"]\n']),
    "endorsements-file": Target(
        lambda data: parse_config(data, Path("/nonexistent")),
        4096,
        lambda: [
            b'pcs = "https://pcs.example.org"\ntimeout = "60s"\n[[platform]]\ntee = "sgx"\nfmspc = "00906ed50000"\n'
        ],
    ),
    "subject-key": Target(_key, 1024, lambda: [spki_of(ec.derive_private_key(5, ec.SECP256R1()).public_key())]),
    "anchor-file": Target(lambda data: read_anchor(data, "input"), 8192, lambda: [vendor().root_der]),
    "root-file": Target(
        _root_file, 8192, lambda: [vendor().root_der, ssl.DER_cert_to_PEM_cert(vendor().root_der).encode()]
    ),
    "option-text": Target(_text, 512, _texts),
}
