"""Real evidence as others would hand it over: in other encodings and containers, and the verdict is the same.

What the collection holds is one form of each piece. Tools of the vendors and of others write more: text for bytes, PEM
for DER, other line ends, chains in another order, certificates in a table, a size before a structure, padding behind.
"""

import contextlib
import io
import json
import struct
import sys
import urllib.parse
from base64 import b64encode, encodebytes, urlsafe_b64encode
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_public_key

from proxy_attestation.cli.main import group
from proxy_attestation.cli.output import run
from proxy_attestation.codes import Code
from proxy_attestation.formats.signed_json import decode_signed_document
from proxy_attestation_simulator.amd import TABLE_GUIDS, certificate_table

Files = Mapping[str, bytes]
CASES: Final = {
    "sgx": "sgx-v3-dcap-qvl-sgx-quote-f8b81014@sgx-00a067110000-eval17-processor-20250619-c0673c"
    "@allow-ConfigurationAndSWHardeningNeeded",
    "tdx": "tdx-v4-dcap-qvl-tdx-quote-f1c85033@tdx-b0c06f000000-eval17-platform-20250619-8ed914",
    "snp-vcek": "snp-v3-vcek-trustee-evidence-genoa-227a641d",
    "snp-vlek": "snp-v3-vlek-trustee-test-vlek-report-decdab94",
    "nitro": "nitro-go-nitro-attestation-sample-prod-doc-bin-234f1201",
    "tpm": "tpm-gce-gce-cos-85-no-nonce-sha256",
    "azure": "tpm-azure-snp-trustee-v1",
}
TEXTS: Final[dict[str, Callable[[bytes], bytes]]] = {
    "hex": lambda data: data.hex().encode(),
    "hex in capitals": lambda data: data.hex().upper().encode() + b"\n",
    "hex after 0x": lambda data: b"0x" + data.hex().encode(),
    "base64": b64encode,
    "base64 in lines": encodebytes,
    "base64 in lines of Windows": lambda data: encodebytes(data).replace(b"\n", b"\r\n"),
    "base64 for URLs": lambda data: urlsafe_b64encode(data).rstrip(b"="),
}
PEMS: Final[dict[str, Callable[[bytes], bytes]]] = {
    "lines of Windows": lambda data: data.replace(b"\n", b"\r\n"),
    "a final NUL": lambda data: data + b"\0",
    "no final line end": bytes.rstrip,
    "empty lines before": lambda data: b"\n\n" + data,
    "as in a header": lambda data: urllib.parse.quote(data.decode()).encode(),
    "explained": lambda data: b"Bag Attributes\n    friendlyName: x\nsubject=CN = a\n" + data + b"# the end\n",
    "the other way round": lambda data: b"".join(reversed(pems(data))),
}
DOCUMENTS: Final[dict[str, Callable[[bytes], bytes]]] = {
    "a line end": lambda data: data + b"\r\n",
    "a final NUL": lambda data: data + b"\0",
    "a byte order mark": lambda data: b"\xef\xbb\xbf" + data,
}
CRLS: Final[dict[str, Callable[[bytes], bytes]]] = {
    "PEM": lambda data: x509.load_der_x509_crl(data).public_bytes(Encoding.PEM),
    "hex": lambda data: data.hex().encode(),
    "hex and a final NUL": lambda data: data.hex().encode() + b"\0",
    "base64": b64encode,
}


def pems(data: bytes) -> list[bytes]:
    """Return the certificates of a chain, PEM each."""
    return [one.public_bytes(Encoding.PEM) for one in x509.load_pem_x509_certificates(data)]


def ders(data: bytes) -> list[bytes]:
    """Return the certificates of a chain, DER each."""
    return [one.public_bytes(Encoding.DER) for one in x509.load_pem_x509_certificates(data)]


class Run:
    """One case and the files of a run."""

    def __init__(
        self, case: Mapping[str, Any], vectors_dir: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        self.folder, self.monkeypatch = folder, monkeypatch
        files = dict(case["files"])
        paths = {**files.pop("collateral", {}), **files}
        self.files = {role: (vectors_dir / path).read_bytes() for role, path in paths.items()}
        self.options = ["--tee", case["platform"]]
        self.options += ["--at", case["verify_at"]] if case["verify_at"] else []
        for status in (case.get("policy") or {}).get("allow_tcb_status", ()):
            self.options += ["--allow-tcb", status]

    def verdict(self, evidence: bytes, beside: Sequence[bytes], roots: Sequence[bytes] = ()) -> tuple[int, str | None]:
        """Return exit status and code."""
        arguments = [self._write(evidence), *self.options, "--json"]
        for option, given in (("--endorsements", beside), ("--roots", roots)):
            for data in given:
                arguments += [option, self._write(data)]
        self.monkeypatch.setattr(sys, "argv", ["proxy-attestation", "appraise", *arguments])
        out = io.StringIO()
        with contextlib.redirect_stdout(out):
            status = run(group)
        return status, json.loads(out.getvalue())["code"]

    def _write(self, data: bytes) -> str:
        path = self.folder / f"{len(list(self.folder.iterdir()))}"
        path.write_bytes(data)
        return str(path)


@pytest.fixture
def runs(
    vectors_dir: Path, vector_index: dict[str, dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[[str], Run]:
    return lambda name: Run(vector_index[CASES[name]], vectors_dir, tmp_path, monkeypatch)


def accepted(case: Run, variations: Mapping[str, tuple[bytes, Sequence[bytes], Sequence[bytes]]]) -> None:
    """Check that every variation is accepted."""
    verdicts = {name: case.verdict(*variation) for name, variation in variations.items()}
    assert verdicts == dict.fromkeys(variations, (0, None))


def _replaced(files: Files, role: str, data: bytes) -> list[bytes]:
    return [data if name == role else content for name, content in files.items()]


def _collateral(files: Files) -> Iterator[tuple[str, list[bytes]]]:
    yield "as published", list(files.values())
    for role, content in files.items():
        kinds = PEMS if role.endswith("_chain") else CRLS if role.endswith("_crl") else DOCUMENTS
        for name, change in kinds.items():
            yield f"{role}: {name}", _replaced(files, role, change(content))
        if role.endswith("_chain"):
            others = [data for name, data in files.items() if name != role]
            yield f"{role}: a file for each", [*others, *ders(content)]


def _bundles(files: Files) -> Iterator[tuple[str, bytes]]:
    """Write a set as one JSON object, with the names of Intel's QuoteCollateral."""
    chains = {role: data.decode() for role, data in files.items() if role.endswith("_chain")}
    crls = {role: data for role, data in files.items() if role.endswith("_crl")}
    documents: dict[str, Any] = {}
    numbers: dict[str, Any] = {}
    for role, member in (("tcb_info", "tcbInfo"), ("qe_identity", "enclaveIdentity")):
        document = decode_signed_document(files[role], member, Code.INTERNAL)
        documents |= {role: document.content.decode(), f"{role}_signature": document.signature.hex()}
        numbers |= {role: document.content.decode(), f"{role}_signature": list(document.signature)}
    spelled = {
        name: {role: CRLS[name](data).decode() for role, data in crls.items()} for name in ("hex", "base64", "PEM")
    }
    for name, lists in spelled.items():
        yield f"CRLs in {name}", json.dumps(chains | lists | documents, indent=1).encode()
    in_numbers = {role: list(data) for role, data in crls.items()}
    yield "bytes as numbers", json.dumps(chains | in_numbers | numbers).encode()
    whole = {role: files[role].decode() + "\0" for role in ("tcb_info", "qe_identity")}
    yield "whole documents", json.dumps({"version": 3} | chains | spelled["PEM"] | whole).encode()


@pytest.mark.parametrize("name", ["sgx", "tdx"])
def test_intel(name: str, runs: Callable[[str], Run]) -> None:
    case = runs(name)
    files = {role: data for role, data in case.files.items() if role not in ("evidence", "evidence_as_published")}
    quote = case.files["evidence"]
    variations = {f"quote: {text}": (spell(quote), list(files.values()), ()) for text, spell in TEXTS.items()}
    variations |= {f"quote: {zeros} zeros": (quote + bytes(zeros), list(files.values()), ()) for zeros in (1, 3000)}
    variations |= {what: (quote, beside, ()) for what, beside in _collateral(files)}
    variations |= {what: (quote, [bundle], ()) for what, bundle in _bundles(files)}
    accepted(case, variations)


@pytest.mark.parametrize("name", ["snp-vcek", "snp-vlek"])
def test_amd(name: str, runs: Callable[[str], Run]) -> None:
    case = runs(name)
    report, vek, chain = (case.files[role] for role in ("evidence", "vek", "chain"))
    if vek.startswith(b"-"):
        (vek,) = ders(vek)
    text = b"-----BEGIN CERTIFICATE-----\n" + encodebytes(vek) + b"-----END CERTIFICATE-----\n"
    issuer, ark = ders(chain)
    kind = "VLEK" if name == "snp-vlek" else "VCEK"
    table = certificate_table({TABLE_GUIDS[kind]: vek, TABLE_GUIDS["issuer"]: issuer, TABLE_GUIDS["ark"]: ark})
    response = struct.pack("<II24x", 0, len(report)) + report
    thim = {
        "vcekCert": text.decode(),
        "tcbm": "0000000000000000",
        "certificateChain": chain.decode(),
        "cacheControl": "1",
    }
    sets: dict[str, list[bytes]] = {
        "as published": [vek, chain],
        "all in DER": [vek, issuer, ark],
        "all in one": [text + chain],
        "in a table": [table],
        "with a revoked-nothing order": [chain, vek],
        "as Azure's host serves it": [json.dumps(thim).encode()],
        "everything twice": [vek, vek, chain, chain],
        "the leaf in base64": [b64encode(vek), chain],
        **{f"chain: {what}": [vek, change(chain)] for what, change in PEMS.items() if what != "as in a header"},
        **{f"leaf: {what}": [change(text), chain] for what, change in PEMS.items() if what != "as in a header"},
    }
    reports = {
        "with a table": report + table,
        "with a table in whole pages": report + table.ljust(-(-len(table) // 4096) * 4096, b"\0"),
        "as the firmware answers": response,
        "as the firmware answers, in its buffer": response.ljust(4000, b"\0"),
        "with an empty table": report + bytes(24),
        "in its buffer": report.ljust(4096, b"\0"),
        **{what: spell(report) for what, spell in TEXTS.items()},
    }
    variations: dict[str, Any] = {f"set: {what}": (report, beside, ()) for what, beside in sets.items()}
    variations |= {f"report: {what}": (data, [vek, chain], ()) for what, data in reports.items()}
    variations["a table and nothing beside it"] = (report + table, [], ())
    accepted(case, variations)


def test_nitro(runs: Callable[[str], Run]) -> None:
    case = runs("nitro")
    document = case.files["evidence"]
    tagged = document[1:] if document[:1] == b"\xd2" else b"\xd2" + document
    variations: dict[str, Any] = {what: (spell(document), (), ()) for what, spell in TEXTS.items()}
    accepted(case, variations | {"with or without its tag": (tagged, (), ())})


@pytest.mark.parametrize("name", ["tpm", "azure"])
def test_tpm(name: str, runs: Callable[[str], Run]) -> None:
    case = runs(name)
    roles = ("signature_raw", "signature_tpmt", "ak_tpmt_public", "pcrs", "eventlog", "hcl_report")
    files = {role: case.files[role] for role in roles if role in case.files}
    quote, key = case.files["quote"], case.files["ak_public"]
    public = load_pem_public_key(key)
    der = public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    banks: dict[str, dict[str, str]] = json.loads(files["pcrs"])
    printed = "".join(
        f"  {bank}:\n" + "".join(f"    {index:<2}: 0x{value.upper()}\n" for index, value in values.items())
        for bank, values in banks.items()
    )
    values = {
        "banks in capitals": json.dumps({bank.upper(): values for bank, values in banks.items()}),
        "values after 0x": json.dumps({b: {i: "0x" + value for i, value in v.items()} for b, v in banks.items()}),
        "as tpm2_pcrread prints them": printed,
    }
    beside = list(files.values())
    variations: dict[str, Any] = {
        "as published": (quote, beside, [key]),
        "the size before the quote": (len(quote).to_bytes(2) + quote, beside, [key]),
        "the key in DER": (quote, beside, [der]),
        "the key in lines of Windows": (quote, beside, [key.replace(b"\n", b"\r\n")]),
        "the key as PKCS #1": (quote, beside, [public.public_bytes(Encoding.PEM, PublicFormat.PKCS1)]),
        **{f"quote: {what}": (spell(quote), beside, [key]) for what, spell in TEXTS.items()},
        **{what: (quote, _replaced(files, "pcrs", text.encode()), [key]) for what, text in values.items()},
    }
    for role in (role for role in files if role != "pcrs"):
        for what in ("hex", "base64", "base64 in lines"):
            variations[f"{role}: {what}"] = (quote, _replaced(files, role, TEXTS[what](files[role])), [key])
    if "eventlog" in files:
        for what, tail in {"zeros": bytes(4096), "ones": b"\xff" * 4096}.items():
            variations[f"log: {what}"] = (quote, _replaced(files, "eventlog", files["eventlog"] + tail), [key])
    if "ak_tpmt_public" in files:
        area = files["ak_tpmt_public"]
        variations["the size before the area"] = (
            quote,
            _replaced(files, "ak_tpmt_public", len(area).to_bytes(2) + area),
            [key],
        )
    if "hcl_report" in files:
        padded = files["hcl_report"].ljust(4096, b"\0")
        variations["the HCL report in its buffer"] = (quote, _replaced(files, "hcl_report", padded), [key])
    accepted(case, variations)
