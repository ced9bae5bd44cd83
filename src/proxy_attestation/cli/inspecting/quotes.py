"""SGX and TDX quotes as trees."""

from dataclasses import fields
from typing import Final

from proxy_attestation.appraisal.bodies import parse_body
from proxy_attestation.appraisal.claims import SgxClaims, TdxClaims
from proxy_attestation.cli.inspecting.certificates import certificate_tree
from proxy_attestation.cli.inspecting.tree import Node
from proxy_attestation.codes import Code
from proxy_attestation.errors import FormatError
from proxy_attestation.formats import pem
from proxy_attestation.formats.bounds import CERTIFICATE_MAX
from proxy_attestation.formats.dcap_quote import HEADER_LENGTH, PCK_CHAIN, PCK_LEAF, Quote

_CERTIFICATION: Final = {
    1: "names the platform: PPID in the clear, CPUSVN, PCESVN, PCEID",
    2: "names the platform: PPID encrypted with RSA-2048, CPUSVN, PCESVN, PCEID",
    3: "names the platform: PPID encrypted with RSA-3072, CPUSVN, PCESVN, PCEID",
    PCK_LEAF: "the PCK certificate, PEM",
    PCK_CHAIN: "the PCK certificate chain, PEM",
}
_MEANINGS: Final = {
    # Intel SDM vol. 3D, REPORT.
    "cpu_svn": "security versions of the CPU's components",
    "misc_select": "what an exit saves of the enclave's state",
    "attributes_flags": "bit 0 INIT, bit 1 DEBUG, bit 2 MODE64BIT, bit 4 PROVISIONKEY, bit 5 EINITTOKENKEY, bit 7 KSS",
    "xfrm": "CPU features that the enclave may use (XCR0)",
    "mr_enclave": "measurement of the enclave's code and data at launch",
    "mr_signer": "SHA-256 of the key that signed the enclave",
    "isv_prod_id": "the signer's product number",
    "isv_svn": "the signer's security version of the product",
    "isv_ext_prod_id": "extended product id (KSS)",
    "config_id": "configuration that the enclave was started with (KSS)",
    "config_svn": "security version of that configuration (KSS)",
    "isv_family_id": "product family (KSS)",
    # Intel TDX module ABI, TDREPORT.
    "tee_tcb_svn": "security versions: TDX module, its major version, SEAM loader",
    "mr_seam": "measurement of the TDX module",
    "mr_signer_seam": "signer of the TDX module; zero is Intel",
    "seam_attributes": "attributes of the TDX module",
    "td_attributes": "bit 0 DEBUG, bits 1 to 7 TUD, bit 28 SEPT_VE_DISABLE, bit 29 MIGRATABLE, bit 63 PERFMON",
    "xfam": "CPU features that the TD may use",
    "mr_td": "measurement of the TD's initial memory: the virtual firmware",
    "mr_config_id": "configuration that the TD was started with, not set by the owner",
    "mr_owner": "the TD's owner, as the host said",
    "mr_owner_config": "the owner's configuration, as the host said",
    "rtmr0": "run-time register 0: the firmware's configuration",
    "rtmr1": "run-time register 1: boot loader and kernel",
    "rtmr2": "run-time register 2: command line and initial file system",
    "rtmr3": "run-time register 3: the application's own use",
    "tee_tcb_svn_2": "security versions of the TDX module that is loaded now",
    "mr_service_td": "the service TD that is bound to the TD; zero is none",
}


def quote_tree(quote: Quote) -> tuple[Node, ...]:
    """Return a quote: header, report body, signature, quoting enclave, certification data."""
    body = parse_body(quote)
    return (
        Node("header", _header(quote)),
        Node("body", (*_body(body), Node("report_data", quote.report_data.hex(), "what the attester chose to bind"))),
        Node(
            "signature",
            (
                Node("signature", quote.signature.hex(), "ECDSA P-256 over header and body: r, s; not checked here"),
                Node("attestation_key", quote.attestation_key.hex(), "x, y of the quoting enclave's key"),
            ),
        ),
        Node("quoting_enclave", _quoting_enclave(quote)),
        Node("certification", _certification(quote), "who vouches for the quoting enclave"),
        Node("trailing_zero_bytes", _trailing(quote), "padding after the signature data; nothing covers it"),
    )


def _header(quote: Quote) -> tuple[Node, ...]:
    data = quote.data
    return (
        Node("version", quote.version, "layout of the quote"),
        Node("attestation_key_type", int.from_bytes(data[2:4], "little"), "2 is ECDSA P-256"),
        Node("tee_type", int.from_bytes(data[4:8], "little"), "0 is SGX, 129 is TDX"),
        Node("reserved", data[8:12].hex(), "version 3: SVNs of quoting and provisioning enclave"),
        Node("qe_vendor_id", data[12:28].hex(), "939a7233f79c4ca9940a0db3957f0607 is Intel"),
        Node("user_data", data[28:HEADER_LENGTH].hex(), "the first 16 bytes name the quoting enclave's platform"),
    )


def _body(body: SgxClaims | TdxClaims) -> tuple[Node, ...]:
    nodes: list[Node] = []
    for field in fields(body):
        value = getattr(body, field.name)
        if value is not None:
            shown = value.hex() if isinstance(value, bytes) else value
            nodes.append(Node(field.name, shown, _MEANINGS[field.name]))
    return (*nodes, Node("debug", body.debug, "whether the TEE can be read from outside"))


def _quoting_enclave(quote: Quote) -> tuple[Node, ...]:
    report = quote.qe_report
    return (
        Node("attributes_flags", report[48:56].hex()),
        Node("mr_enclave", report[64:96].hex()),
        Node(
            "mr_signer",
            report[128:160].hex(),
            "compared with the QE identity",
        ),
        Node("isv_prod_id", int.from_bytes(report[256:258], "little"), "1 is the SGX, 2 the TDX quoting enclave"),
        Node("isv_svn", int.from_bytes(report[258:260], "little"), "judged by the QE identity"),
        Node("report_data", report[320:384].hex(), "SHA-256 of attestation key and authentication data, then zero"),
        Node("authentication_data", quote.qe_authentication_data.hex()),
        Node("signature", quote.qe_report_signature.hex(), "by the platform's PCK; not checked here"),
    )


def _certification(quote: Quote) -> tuple[Node, ...]:
    kind = Node("type", quote.certification_type, _CERTIFICATION[quote.certification_type])
    if quote.certification_type not in (PCK_LEAF, PCK_CHAIN):
        return kind, Node("data", quote.certification_data.hex())
    try:
        code = Code.EVIDENCE_MALFORMED
        chain = pem.decode_pem(quote.certification_data, pem.CERTIFICATE, code, count=8, limit=CERTIFICATE_MAX)
        return kind, Node("certificates", [certificate_tree(der) for der in chain])
    except FormatError as error:
        return kind, Node("certificates", [], f"cannot be read: {error.detail}")


def _trailing(quote: Quote) -> int:
    start = len(quote.signed)
    return len(quote.data) - start - 4 - int.from_bytes(quote.data[start : start + 4], "little")
