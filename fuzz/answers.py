"""Harnesses for what services, peers and applications answer: vendors, proxies, the loader's own applications."""

import asyncio
import functools
import json
import sys
import urllib.parse
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, cast

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from google.protobuf.message import DecodeError
from target import Target

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests" / "support"))

from deny_lists import ORIGIN, deny_list, spki_of
from fake_amd import FakeAmd
from mini_authority import DNS, MR_ENCLAVE, TRUST_DOMAIN, WORKLOAD, MiniAuthority

from proxy_attestation.appraisal.endorsements import SnpEndorsements
from proxy_attestation.appraisal.roots import Roots, same_for_all
from proxy_attestation.appraisal.snp_collateral import verify_snp_collateral
from proxy_attestation.attester.nsm import _document
from proxy_attestation.endorsements.bundle import decode_bundle, encode_bundle
from proxy_attestation.endorsements.detect_snp import load_arks
from proxy_attestation.endorsements.forecast import read_platform
from proxy_attestation.endorsements.http import Answer, Getter
from proxy_attestation.endorsements.kds import AmdTarget, fetch_amd, parse_vcek
from proxy_attestation.endorsements.pcs import IntelService, IntelTarget, PckRequest, fetch_intel, fetch_pck
from proxy_attestation.errors import ProxyAttestationError
from proxy_attestation.formats.deny_list import decode_deny_list, verify_deny_list
from proxy_attestation.formats.ear import encode_claims_set, encode_extension
from proxy_attestation.formats.signed_note import KeyType, Note, Verifier, sign_note
from proxy_attestation.formats.tee import Tee
from proxy_attestation.loader.applications import frames
from proxy_attestation.loader.applications.model import CallResult, Outcome
from proxy_attestation.loader.enroll import _challenge, _verify, _window
from proxy_attestation.loader.grpc_messages import CallError, HttpError, read_headers, read_message
from proxy_attestation.loader.http_messages import AnswerError, read_answer
from proxy_attestation.loader.proxy_errors import error_from_answer
from proxy_attestation.relying_party.check import check_chain, check_proxy_chain
from proxy_attestation.relying_party.deny_list import read_deny_list
from proxy_attestation.relying_party.expectation import Expectation
from proxy_attestation.relying_party.expectation_file import parse_expectation
from proxy_attestation.relying_party.path import load_roots, verify_cross
from proxy_attestation.relying_party.root_info import read_root_info
from proxy_attestation.v1 import proxy_attestation_pb2 as pb
from proxy_attestation_simulator.amd import AmdVendor
from proxy_attestation_simulator.intel import Vendor

NOW: Final = datetime(2026, 11, 24, 12, tzinfo=UTC)


@functools.cache
def vendor() -> Vendor:
    """Return a vendor that is the same in every run."""
    return Vendor.create(NOW, secret=b"\x05" * 32)


def _roots() -> Roots:
    return Roots(intel=frozenset({vendor().root_pin}))


@dataclass(frozen=True)
class FakeGetter:
    """A vendor's service whose n-th answer is as given, and the others are good.

    Attributes:
        good: what it answers, in turn: headers and body.
        place: of the answer that is another; the odd ones have another header, the even ones another body.
        data: what stands there.
    """

    good: tuple[tuple[Mapping[str, str], bytes], ...]
    place: int
    data: bytes
    asked: list[str]

    async def get(self, url: str, **_: object) -> Answer:
        """Answer."""
        index = len(self.asked)
        self.asked.append(url)
        headers, body = self.good[index % len(self.good)]
        if index == self.place // 2 % len(self.good):
            if self.place % 2:
                headers = dict.fromkeys(headers, self.data.decode("latin-1"))
            else:
                body = self.data
        return Answer(url, headers, body)


def _getter(good: tuple[tuple[Mapping[str, str], bytes], ...], data: bytes) -> FakeGetter:
    return FakeGetter(good, data[0] if data else 0, data[1:], [])


@functools.cache
def _pcs_answers() -> tuple[tuple[Mapping[str, str], bytes], ...]:
    pieces = vendor().endorsements("sgx", NOW)

    def chain(name: str) -> str:
        return urllib.parse.quote(pieces[name].decode())

    return (
        ({"tcb-info-issuer-chain": chain("tcb_info_issuer_chain")}, pieces["tcb_info"]),
        ({"sgx-enclave-identity-issuer-chain": chain("qe_identity_issuer_chain")}, pieces["qe_identity"]),
        ({"sgx-pck-crl-issuer-chain": chain("pck_crl_issuer_chain")}, pieces["pck_crl"]),
        ({}, pieces["root_ca_crl"]),
    )


def _fmspc() -> bytes:
    return vendor().platform("sgx").fmspc


def _pcs(data: bytes) -> None:
    service = IntelService(cast("Getter", _getter(_pcs_answers(), data)))
    asyncio.run(fetch_intel(service, IntelTarget(Tee.SGX, _fmspc()), _roots(), NOW, {}))


@functools.cache
def _pck_answer() -> tuple[tuple[Mapping[str, str], bytes], ...]:
    leaf, _, rest = vendor().platform("sgx").certificate_chain.partition(b"-----END CERTIFICATE-----\n")
    headers = {"sgx-pck-certificate-issuer-chain": urllib.parse.quote(rest.decode())}
    return ((headers, leaf + b"-----END CERTIFICATE-----\n"),)


def _pck(data: bytes) -> None:
    service = IntelService(cast("Getter", _getter(_pck_answer(), data)))
    request = PckRequest(bytes(384), bytes(16), b"\xff\xff", bytes(2))
    asyncio.run(fetch_pck(service, request, _roots(), NOW))


_HWID: Final = b"\x11" * 64
_TCB: Final = {"bl": 4, "tee": 0, "snp": 24, "ucode": 219}


@functools.cache
def _kds() -> tuple[bytes, tuple[bytes, bytes, bytes]]:
    """Return the pin of a root, and what KDS answers: chain, list, VCEK."""
    amd = FakeAmd()
    return amd.pin, (amd.chain("vcek"), amd.crl(), amd.vcek(_HWID, _TCB))


def _kds_answer(data: bytes) -> None:
    pin, files = _kds()
    good: tuple[tuple[Mapping[str, str], bytes], ...] = tuple(({}, body) for body in files)
    levels = ",".join(f"{name}={level}" for name, level in _TCB.items())
    target = AmdTarget("Milan", vceks=(parse_vcek(f"{_HWID.hex()}:{levels}", "Milan"),))
    getter = cast("Getter", _getter(good, data))
    pins = {"Milan": frozenset({pin})}
    asyncio.run(fetch_amd(getter, "https://kds", target, pins, NOW, held={}, held_files={}))


def _amd_pin() -> bytes:
    return AmdVendor.fixed(NOW).ark_pin("Milan")


@functools.cache
def _amd_pieces() -> tuple[bytes, ...]:
    """Return issuer, root and list of a machine's vendor."""
    made = AmdVendor.fixed(NOW).platform("Milan").evidence(bytes(64), now=NOW)
    return (*made.certificates[1:], *made.crls)


def _amd_set(data: bytes) -> None:
    """Replace one piece of a good set: the first byte says which."""
    pieces = [*_amd_pieces()]
    pieces[data[0] % 3 if data else 0] = data[1:]
    verify_snp_collateral(SnpEndorsements(tuple(pieces[:2]), tuple(pieces[2:])), same_for_all({_amd_pin()}), NOW)


def _message(kind: Any, data: bytes) -> Any:
    """Decode an answer as its readers do; what is no message at all ends there."""
    try:
        return kind.FromString(data)
    except DecodeError:
        return None


def _proxy_answer(data: bytes) -> None:
    """The first byte says which answer it is."""
    which, rest = data[:1], data[1:]
    if which == b"\0" and (answer := _message(pb.GetRootCertificateResponse, rest)) is not None:
        read_root_info(answer, vendor().root_pin)
    elif which == b"\1" and (answer := _message(pb.GetChallengeResponse, rest)) is not None:
        _challenge(answer, answer.nonce, NOW)
    elif (answer := _message(pb.GetSignedCertificateResponse, rest)) is not None:
        _window(answer)
        _verify(answer, vendor().root_der, NOW)


def _no_file(name: str) -> bytes:
    raise OSError(name)


@functools.cache
def _peer() -> tuple[MiniAuthority, Expectation]:
    text = (
        f'trust_domain = "{TRUST_DOMAIN}"\nworkload = "{WORKLOAD}"\ntee = "sgx"\nmr_enclave = ["{MR_ENCLAVE.hex()}"]\n'
    )
    return MiniAuthority(NOW), parse_expectation(text, _no_file)


def _presented(data: bytes) -> None:
    """Judge a chain that a TLS peer presents, as a workload's and as a proxy's."""
    authority, expected = _peer()
    chain, roots = (data, authority.issuing_der), (authority.root_der,)
    try:
        check_chain(chain, roots, expected, NOW, server_name=DNS)
    except ProxyAttestationError:
        check_proxy_chain(chain, roots, TRUST_DOMAIN, NOW, server_name="proxy.example.org")


def _peer_claims(data: bytes) -> None:
    """Judge a genuine leaf whose claims are the input: the authority signs whatever it is."""
    authority, expected = _peer()
    check_chain(authority.leaf(claims=data).chain, (authority.root_der,), expected, NOW, server_name=DNS)


def _good_claims() -> bytes:
    authority, _ = _peer()
    return encode_extension(encode_claims_set(authority.claims(vendor().root_der[:91])))


def _denied(data: bytes) -> None:
    """Read a deny list; then what was read as the text of one that the issuing CA signed, whatever it is."""
    authority, _ = _peer()
    roots, spki = load_roots((authority.root_der,)), spki_of(authority.issuing_key)
    with suppress(ProxyAttestationError, UnicodeDecodeError):
        key = Verifier(ORIGIN, KeyType.ECDSA, spki)
        line = sign_note(data.decode(), key, lambda text: authority.issuing_key.sign(text, ec.ECDSA(hashes.SHA256())))
        read_deny_list(Note(data.decode(), (line,)).encode(), roots, NOW)
    with suppress(ProxyAttestationError):
        verify_deny_list(decode_deny_list(data), data)
    read_deny_list(data, roots, NOW)


def _cross(data: bytes) -> None:
    """Read what claims to be another root that ours certified."""
    verify_cross(data, load_roots((_peer()[0].root_der,))[0])


def _good_denied() -> list[bytes]:
    note = deny_list(_peer()[0], b"\x01" * 20, b"\x02" * 32)
    return [note, decode_deny_list(note).note.text.encode()]


def _connect_error(data: bytes) -> None:
    status = int.from_bytes(data[:2]) % 600
    answered = error_from_answer(status, data[2:])
    assert answered.code


def _frames(data: bytes) -> None:
    """The first byte says which frame it is."""
    decoders: tuple[Callable[[bytes], object], ...] = (
        frames.decode_setup,
        frames.decode_ready,
        frames.decode_call,
        frames.decode_done,
        frames.frame_length,
    )
    decoders[(data[0] if data else 0) % len(decoders)](data[1:])


def _grpc(data: bytes) -> None:
    """The first line is the message, the others are headers."""
    message, *lines = data.split(b"\n")
    pairs = [line.partition(b" ") for line in lines]
    with suppress(CallError, HttpError):
        read_headers((name, value) for name, _, value in pairs)
    with suppress(CallError):
        read_message(message)


def _http(data: bytes) -> None:
    for method in (b"GET", b"HEAD"):
        with suppress(AnswerError):
            read_answer(method, CallResult(Outcome.EXITED, 0, data))


def _platform(data: bytes) -> None:
    read_platform("input", data, Tee.SGX)


def _seeds_pcs() -> list[bytes]:
    seeds = []
    for number, (headers, body) in enumerate(_pcs_answers()):
        seeds += [bytes([2 * number]) + body, bytes([2 * number + 1]) + "".join(headers.values()).encode()]
    return seeds


def _seeds_pck() -> list[bytes]:
    ((headers, body),) = _pck_answer()
    return [b"\0" + body, b"\1" + next(iter(headers.values())).encode()]


def _seeds_kds() -> list[bytes]:
    return [bytes([2 * number]) + body for number, body in enumerate(_kds()[1])]


def _seeds_amd() -> list[bytes]:
    return [bytes([number]) + piece for number, piece in enumerate(_amd_pieces())]


def _seeds_proxy() -> list[bytes]:
    bundle = pb.RootBundle(roots=[vendor().root_der], issuing=[vendor().root_der], sequence=1)
    root = pb.GetRootCertificateResponse(bundle=bundle, trust_domain="example.org", policy_digest=bytes(32))
    challenge = pb.GetChallengeResponse(
        session_id=bytes(16),
        session_token=b"t",
        nonce=bytes(32),
        ca_id=bytes(32),
        expires_at=int(NOW.timestamp()) + 60,
    )
    signed = pb.GetSignedCertificateResponse(chain=[vendor().root_der] * 2)
    return [bytes([i]) + part.SerializeToString() for i, part in enumerate((root, challenge, signed))]


def _seeds_connect() -> list[bytes]:
    info = {
        "type": "google.rpc.ErrorInfo",
        "debug": {
            "domain": "proxy-attestation",
            "reason": "sgx.debug",
            "metadata": {"request_id": "1", "mismatches": "sgx.debug"},
        },
    }
    error = {"code": "permission_denied", "message": "no", "details": [info]}
    return [(403).to_bytes(2) + json.dumps(error).encode(), (503).to_bytes(2) + b"<html>"]


def _seeds_frames() -> list[bytes]:
    done = frames.Done(1, CallResult(Outcome.EXITED, 0, b"out"), b"err")
    encoded = (
        frames.encode_setup(frames.Setup(b"(module)", 1, 2, 3, 4)),
        frames.encode_ready(frames.Ready("why", True)),
        frames.encode_call(frames.Call(1, ("grpc", "/a.B/C"), b"m", 1000)),
        frames.encode_done(done),
        bytes((0, 0, 1, 0)),
    )
    return [bytes([number]) + body for number, body in enumerate(encoded)]


ANSWERS: Final[dict[str, Target]] = {
    "pcs-answer": Target(_pcs, 16384, _seeds_pcs),
    "pck-answer": Target(_pck, 8192, _seeds_pck),
    "kds-answer": Target(_kds_answer, 8192, _seeds_kds),
    "ark-file": Target(lambda data: load_arks((data,)), 8192, lambda: [_seeds_amd()[1][1:]]),
    "snp-collateral-walk": Target(_amd_set, 8192, _seeds_amd),
    "endorsement-bundle": Target(
        decode_bundle, 8192, lambda: [encode_bundle({"sgx-00906ed50000": {"tcb_info.json": b"{}"}})]
    ),
    "forecast-platform": Target(
        _platform,
        16384,
        lambda: [vendor().platform("sgx").quote(bytes(64)), vendor().platform("sgx").certificate_chain],
    ),
    "proxy-answer": Target(_proxy_answer, 8192, _seeds_proxy),
    "connect-error": Target(_connect_error, 4096, _seeds_connect),
    "presented-chain": Target(_presented, 8192, lambda: [_peer()[0].leaf().der, vendor().root_der]),
    "cross-certificate": Target(_cross, 2048, lambda: [_peer()[0].issuing_der, _peer()[0].root_der]),
    "deny-list": Target(_denied, 8192, _good_denied),
    "peer-claims": Target(_peer_claims, 4096, lambda: [_good_claims()]),
    "application-frames": Target(_frames, 4096, _seeds_frames),
    "grpc-call": Target(
        _grpc,
        2048,
        lambda: [
            b"\0\0\0\0\1m\n:method POST\ncontent-type application/grpc+proto\n:path /a.B/C\ngrpc-timeout 10S",
        ],
    ),
    "http-answer": Target(
        _http, 4096, lambda: [b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: x\r\nX: y\r\n\r\nhi"]
    ),
    "nsm-answer": Target(
        _document, 4096, lambda: [bytes.fromhex("a16b4174746573746174696f6ea168646f63756d656e744161")]
    ),
}
