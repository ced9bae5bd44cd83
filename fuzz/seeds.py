"""Inputs to begin with: what our own encoders and the simulator make, and real evidence where it is at hand."""

from collections.abc import Iterator
from pathlib import Path

import cbor2
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from targets import NOW, TARGETS, amd, aws, collateral, example_certificate, snp_evidence, tpm, vendor

from proxy_attestation.appraisal.endorsements import Floor, SnpEndorsements
from proxy_attestation.appraisal.snp_certificate import read_amd_certificate
from proxy_attestation.authority import messages
from proxy_attestation.authority.wire import Method, encode_answer, encode_call, encode_error
from proxy_attestation.codes import Code
from proxy_attestation.errors import Mismatch, PolicyError, UnavailableError
from proxy_attestation.formats.csr import build_csr, spki_of
from proxy_attestation.formats.evidence import Evidence, encode_evidence
from proxy_attestation.formats.owner_proof import (
    OwnerProof,
    Token,
    encode_proof,
    format_grant,
    format_token,
    make_grant,
    prove_renewal,
    prove_token,
)
from proxy_attestation.formats.request import (
    ApplicationKind,
    KeyOrigin,
    Request,
    RuntimeClaims,
    encode_request,
    names_from,
)
from proxy_attestation.formats.snp_certificates import AMD_ARC
from proxy_attestation.formats.tee import Tee
from proxy_attestation.formats.tpm_evidence import decode_tpm
from proxy_attestation_simulator.amd import TABLE_GUIDS, certificate_table
from proxy_attestation_simulator.harness import default_policy

ROOT = Path(__file__).resolve().parent.parent
VECTORS = ROOT.parent / "shared" / "vectors"
_PCK_EXTENSION = x509.ObjectIdentifier("1.2.840.113741.1.13.1")


def _quotes() -> Iterator[bytes]:
    data = bytes(range(64))
    for version in (3, 4, 5):
        yield vendor().platform("sgx").quote(data, version=version)
    for version, body in ((4, 2), (5, 2), (5, 3)):
        yield vendor().platform("tdx").quote(data, version=version, body_type=body)
    yield from (path.read_bytes() for path in sorted(VECTORS.glob("dcap/quotes/*.bin")))


def _collateral(name: str) -> Iterator[bytes]:
    for tee in ("sgx", "tdx"):
        piece = getattr(collateral(tee), name)
        if piece:
            yield piece
    for suffix in ("json", "pem", "der"):
        yield from (path.read_bytes() for path in sorted(VECTORS.glob(f"dcap/collateral/*/{name}.{suffix}")))


def _owner_proofs(name: str) -> list[bytes]:
    key = ec.derive_private_key(6, ec.SECP256R1())
    token = Token(bytes(range(16)), bytes(range(16)))
    grant = make_grant(key, "example.org", "example-app", bytes(32), 1_795_525_200)
    renewal = prove_renewal(key, spki_of(key.public_key()), bytes(64))
    found = {
        "owner-proof": encode_proof(OwnerProof(prove_token(token, bytes(64)), grant, (renewal,))),
        "owner-token": format_token(token).encode(),
        "owner-grant": format_grant(grant).encode(),
    }
    return [found[name]]


def _request() -> bytes:
    runtime = RuntimeClaims(ApplicationKind.WASM, bytes(32), KeyOrigin.TEE)
    names = names_from(("app.example.org",), ("127.0.0.1",), ("spiffe://example.org/app",))
    return encode_request(Request("example-app", Tee.SGX, names, 3600, runtime))


def _evidence() -> bytes:
    return encode_evidence(Evidence(Tee.SGX, next(_quotes())))


def _wire() -> Iterator[bytes]:
    key = spki_of(ec.derive_private_key(5, ec.SECP256R1()).public_key())
    calls = (
        (Method.RAISE_FLOOR, messages.encode_endorsements(collateral("sgx"))),
        (Method.RAISE_FLOOR, messages.encode_endorsements(SnpEndorsements(snp_evidence("VCEK").certificates))),
        (Method.TLS_LEAF, key),
    )
    yield from (b"\0" + encode_call(1, method, body) for method, body in calls)
    issued = messages.Issued((b"leaf", b"issuer"), 1, 2, 3, b"\xa0", 4)
    yield b"\1\1" + encode_answer(1, messages.encode_issued(issued))
    yield b"\1\2" + encode_answer(1, messages.encode_floor(Floor(1, 2, 3, 4)))
    yield b"\1\3" + encode_answer(1, [b"leaf", b"issuer"])
    mismatch = Mismatch(Code.POLICY_SVN, "isv_svn", "3", "2")
    for error in (PolicyError((mismatch,)), UnavailableError(Code.AUTHORITY_CLOCK, "late")):
        yield b"\1\0" + encode_error(1, error)


def _pck() -> Iterator[bytes]:
    for ca in ("platform", "processor"):
        leaf = x509.load_der_x509_certificate(vendor().platform("sgx", ca=ca).certificates[0])
        value = leaf.extensions.get_extension_for_oid(_PCK_EXTENSION).value
        if isinstance(value, x509.UnrecognizedExtension):
            yield value.value


def _nitro() -> Iterator[bytes]:
    for fault in ("", "definite", "tagged", "pcr16", "omitted"):
        yield aws().enclave().document(nonce=b"n" * 32, user_data=b"u" * 64, fault=fault)
    yield from (path.read_bytes() for path in sorted(VECTORS.glob("nitro/*.cose")))


def _payload(document: bytes) -> bytes:
    value = cbor2.loads(document)
    payload = (value.value if isinstance(value, cbor2.CBORTag) else value)[2]
    return payload if isinstance(payload, bytes) else b""


def _snp_reports() -> Iterator[bytes]:
    for kind in ("VCEK", "VLEK"):
        yield snp_evidence(kind).report
        yield snp_evidence(kind).report + _snp_table(kind)
    for version in (2, 3):
        yield amd().platform("Turin").evidence(bytes(range(64)), version=version).report
    yield from (path.read_bytes() for path in sorted(VECTORS.glob("snp/*/report.bin")))


def _snp_table(kind: str) -> bytes:
    names = (TABLE_GUIDS[kind], TABLE_GUIDS["issuer"], TABLE_GUIDS["ark"])
    return certificate_table(dict(zip(names, snp_evidence(kind).certificates, strict=True)))


def _snp_certificates() -> Iterator[bytes]:
    good = snp_evidence("VCEK")
    yield from (bytes([index]) + piece for index, piece in enumerate((*good.certificates, *good.crls)))
    yield from (b"\0" + path.read_bytes() for path in sorted(VECTORS.glob("snp/*/vek.der")))


def _vek_extensions() -> Iterator[bytes]:
    for kind in ("VCEK", "VLEK"):
        arc = f"{AMD_ARC}.1."
        read = read_amd_certificate(snp_evidence(kind).certificates[0]).extensions
        items = [(oid.removeprefix(arc).split("."), value) for oid, value in read.items()]
        yield b"".join(bytes([16 * len(oid) - 16 + int(oid[-1]), len(value)]) + value for oid, value in items)


def _tpm_structures() -> Iterator[bytes]:
    record = decode_tpm(tpm().evidence)
    assert record.ak is not None
    assert record.certified is not None
    assert record.signature is not None
    for number, piece in enumerate((record.signed, record.certified.attest.data, record.ak.data, record.signature)):
        yield bytes([number]) + piece
    names = ("quote.msg", "-", "ak.tpmt_public", "quote.tpmt_signature", "hcl_report.bin")
    for number, file in enumerate(names):
        yield from (bytes([number]) + path.read_bytes() for path in sorted(VECTORS.glob(f"tpm/*/{file}")))


def seeds_for(name: str) -> list[bytes]:
    """Return what a harness begins with; each may be cut by the fuzzer, none is needed."""
    match name:
        case "request":
            return [_request()]
        case "csr":
            return [build_csr(ec.derive_private_key(5, ec.SECP256R1()), _evidence())]
        case "evidence":
            return [_evidence()]
        case "owner-proof" | "owner-token" | "owner-grant":
            return _owner_proofs(name)
        case "authority-wire":
            return list(_wire())
        case "quote" | "quote-walk":
            return list(_quotes())
        case "nitro":
            return list(_nitro())
        case "nitro-walk" | "foreign-cbor":
            return [_payload(document) for document in _nitro()]
        case "ra-tls":
            return [path.read_bytes() for path in sorted(VECTORS.glob("ratls/*.der"))]
        case "tpm-structure":
            return list(_tpm_structures())
        case "tpm-walk":
            return [tpm().evidence]
        case "tpm-certificate":
            return list(tpm().certificates)
        case "tpm-file":
            return [path.read_bytes() for path in sorted(VECTORS.glob("tpm/*/*")) if path.stat().st_size < 8192]
        case "event-log":
            logs = (*VECTORS.glob("tpm/*/eventlog.bin"), *VECTORS.glob("dcap/ccel/*ccel_data*"))
            return [tpm().event_log, *(path.read_bytes() for path in sorted(logs))]
        case "pck-extension":
            return list(_pck())
        case "tcb-info":
            return list(_collateral("tcb_info"))
        case "qe-identity":
            return list(_collateral("qe_identity"))
        case "collateral-walk":
            names = sorted(vendor().endorsements("sgx", NOW))
            return [bytes([i]) + piece for i, key in enumerate(names) for piece in list(_collateral(key))[:2]]
        case "endorsement-file":
            return [piece for key in vendor().endorsements("sgx", NOW) for piece in list(_collateral(key))[:3]]
        case "snp-report" | "snp-walk":
            return list(_snp_reports())
        case "snp-certificates":
            return list(_snp_certificates())
        case "snp-certificate-table":
            return [_snp_table("VCEK"), _snp_table("VLEK"), bytes(24)]
        case "snp-extensions":
            return list(_vek_extensions())
        case "snp-endorsement-file":
            return [_snp_table("VCEK"), *(seed[1:] for seed in _snp_certificates())]
        case "certificate-path":
            return [example_certificate()]
        case "inspect":
            certificates = (example_certificate(), *(path.read_bytes() for path in VECTORS.glob("ratls/*.der")))
            return [*_quotes(), _request(), _evidence(), *_snp_reports(), *_nitro(), tpm().evidence, *certificates]
        case "policy":
            return [default_policy(vendor()).encode(), *(p.read_bytes() for p in ROOT.glob("examples/policies/*.toml"))]
        case "expectation":
            return [b'trust_domain = "example.org"\nworkload = "example-app"\ntee = "sgx"\n']
        case "index":
            return [b"%s  example.wat\n" % (b"ab" * 32)]
        case "loader-file":
            return [(ROOT / "docs" / "loader.md").read_bytes()[:4096]]
        case _:
            seeds = TARGETS[name].seeds
            return [b"\xa0"] if seeds is None else seeds()
