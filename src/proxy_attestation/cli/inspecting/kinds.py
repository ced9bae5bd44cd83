"""Evidence of every kind as a tree, and this project's record around it."""

from collections.abc import Mapping, Sequence
from typing import Final

from proxy_attestation.appraisal.claims import body_to_json
from proxy_attestation.appraisal.kinds import ParsedOrTpm, body_of, decode_evidence_of
from proxy_attestation.appraisal.tpm_claims import ak_to_json, hcl_to_json
from proxy_attestation.cli.inspecting.certificates import certificate_tree
from proxy_attestation.cli.inspecting.quotes import quote_tree
from proxy_attestation.cli.inspecting.tree import Node, Value
from proxy_attestation.errors import FormatError
from proxy_attestation.formats.azure_hcl import decode_hcl
from proxy_attestation.formats.dcap_quote import Quote, decode_quote
from proxy_attestation.formats.evidence import Evidence
from proxy_attestation.formats.nitro import NitroDocument
from proxy_attestation.formats.snp_report import SnpReport
from proxy_attestation.formats.tpm import Attest
from proxy_attestation.formats.tpm_evidence import TpmEvidence

_SNP: Final = {
    # AMD SEV-SNP firmware ABI, ATTESTATION_REPORT and guest policy.
    "version": "layout of the report",
    "guest_svn": "security version, from the identity block",
    "policy": "what the host may do with the guest; its bits are below",
    "family_id": "product family, from the identity block",
    "image_id": "product, from the identity block",
    "vmpl": "privilege level that asked for the report; 0 is the highest",
    "signature_algo": "1 is ECDSA P-384 with SHA-384",
    "current_tcb": "security versions now",
    "platform_info": "bit 0 SMT, bit 1 TSME, bit 5 ALIAS_CHECK_COMPLETE",
    "author_key_en": "whether author_key_digest says something",
    "mask_chip_key": "whether the report is not signed at all",
    "signing_key": "VCEK: the chip's own key; VLEK: a cloud provider's",
    "report_data": "what the attester chose to bind",
    "measurement": "measurement of the guest's memory at launch",
    "host_data": "what the host chose at launch",
    "id_key_digest": "SHA-384 of the key that signed the identity block",
    "author_key_digest": "SHA-384 of the key that signed that key",
    "report_id": "of this guest, until it ends",
    "report_id_ma": "of its migration agent; all ones is none",
    "reported_tcb": "security versions that the signing key is for",
    "cpuid_fam_mod_step": "family, model, stepping of the processor",
    "chip_id": "names the machine: keep it to yourself",
    "committed_tcb": "security versions that nothing can fall back below",
    "current_build_abi": "firmware now: build, minor, major version",
    "committed_build_abi": "firmware that nothing can fall back below",
    "launch_tcb": "security versions when the guest was launched",
    "launch_mit_vector": "mitigations in force at launch",
    "current_mit_vector": "mitigations in force now",
    "product": "processor line",
    "policy_debug": "policy bit 19: the host may read the guest's memory",
    "policy_smt": "policy bit 16: two threads of a core may be in use",
    "policy_migrate_ma": "policy bit 18: a migration agent may move the guest",
    "policy_single_socket": "policy bit 20: on one socket only",
    "abi": "least firmware ABI that the policy asks for",
    "debug": "whether the TEE can be read from outside",
    "reported_tcb_parts": "reported_tcb, taken apart",
    "migration_agent": "policy_migrate_ma as policies pin it",
    "tcb_fmc": "least of reported, committed and launch TCB, as policies pin it; so the next ones",
    "tcb_bootloader": "least of reported, committed and launch TCB, as policies pin it; so the next ones",
}
_NITRO: Final = {
    # AWS, attestation process, section 3.1, and its table of registers.
    "module_id": "names the parent instance and the enclave",
    "digest": "how registers are extended",
    "timestamp_ms": "when it was made, milliseconds since 1970, by the module's clock",
    "zero_pcrs": "registers that hold nothing",
    "debug": "whether PCR0, PCR1 and PCR2 are zero, as in debug mode",
    "public_key": "what the attester chose to bind",
    "user_data": "what the attester chose to bind",
    "nonce": "what the attester chose to bind",
    "pcr0": "measurement of the enclave image",
    "pcr1": "measurement of kernel and boot ramdisk",
    "pcr2": "measurement of the application",
    "pcr3": "IAM role of the parent instance",
    "pcr4": "id of the parent instance",
    "pcr8": "who signed the enclave image",
}
_PUBLIC: Final = {
    # TPM 2.0 library, part 2, TPMA_OBJECT.
    "object_attributes": "TPMA_OBJECT; the ones that matter are below",
    "restricted": "signs nothing but what the TPM itself made",
    "fixed_tpm": "cannot leave its TPM",
    "name": "hash of the public area",
}


def evidence_tree(evidence: Evidence) -> tuple[Node, ...]:
    """Return an evidence record and what it is around.

    Raises:
        FormatError, AppraisalError: for evidence that cannot be read.
    """
    log = evidence.event_log_sha256
    parsed = decode_evidence_of(evidence.tee, evidence.evidence)
    return (
        Node("tee", str(evidence.tee), "what the attester says it is"),
        Node("event_log_sha256", None if log is None else log.hex(), "digest of the log that travels beside it"),
        Node("platform_certificates", [certificate_tree(der) for der in evidence.platform_certificates]),
        Node("quote" if isinstance(parsed, Quote) else "evidence", parsed_tree(parsed)),
    )


def parsed_tree(evidence: ParsedOrTpm) -> tuple[Node, ...]:
    """Return a quote, a report, a document, or the statements of a TPM."""
    if isinstance(evidence, TpmEvidence):
        return tpm_tree(evidence)
    if isinstance(evidence, Quote):
        return quote_tree(evidence)
    if isinstance(evidence, SnpReport):
        return snp_tree(evidence)
    return nitro_tree(evidence)


def snp_tree(report: SnpReport) -> tuple[Node, ...]:
    """Return a report and the certificates of the table behind it."""
    table = report.certificates
    return (
        Node("report", _nodes(body_to_json(body_of(report)), _SNP)),
        Node("signature", report.signature.hex(), "ECDSA P-384 over the report: r, s in DER; not checked here"),
        Node("certificates", _certificates(table.certificates), "of the table behind the report, from the host"),
        Node("crl", table.crl is not None, "whether the table holds a revocation list too"),
    )


def nitro_tree(document: NitroDocument) -> tuple[Node, ...]:
    """Return a document and its certificates."""
    # The registers stand beside the other claims, by the names that `appraise` and policies have.
    claims = {name: value for name, value in body_to_json(body_of(document)).items() if name != "pcrs"}
    return (
        Node("document", _nodes(claims, _NITRO)),
        Node("signature", document.signature.hex(), "ECDSA P-384 by the signing certificate: r, s; not checked here"),
        Node("certificate", _certificates((document.certificate,)), "signing certificate, good for three hours"),
        Node("cabundle", _certificates(document.cabundle), "its issuers, root first"),
    )


def tpm_tree(evidence: TpmEvidence) -> tuple[Node, ...]:
    """Return a quote and what came with it.

    Raises:
        FormatError: `tpm.hcl_malformed`, for the report of Azure's paravisor.
    """
    signature, quote, certified = evidence.signature, evidence.quote, evidence.certified
    indexes = [(bank.alg, index) for bank in quote.pcr_selection for index in bank.pcrs]
    values = [
        Node(f"{alg}_pcr{index}", value.hex())
        for (alg, index), value in zip(indexes, evidence.pcr_values or (), strict=False)
    ]
    nodes = [
        Node("quote", (*_attest(quote), *_selection(quote))),
        Node("signature", None if signature is None else signature.hex(), "over the quote; not checked here"),
        Node("pcrs", tuple(values), "what the attester says that pcr_digest is over"),
    ]
    if evidence.ak is not None:
        nodes.append(Node("attestation_key", _nodes(ak_to_json(evidence.ak), _PUBLIC)))
    if certified is not None:
        key = _nodes(ak_to_json(certified.key), _PUBLIC)
        statement = (*_attest(certified.attest), Node("certified_name", certified.attest.name.hex()))
        nodes.append(Node("certification", statement, "what the attestation key says of the subject's key"))
        nodes.append(Node("subject_key", key))
    if evidence.hcl_report is not None:
        nodes.append(
            Node("hcl_report", _nodes(hcl_to_json(decode_hcl(evidence.hcl_report)), {}), "of Azure's paravisor")
        )
    if evidence.td_quote is not None:
        nodes.append(Node("td_quote", quote_tree(decode_quote(evidence.td_quote))))
    return tuple(nodes)


def _attest(attest: Attest) -> tuple[Node, ...]:
    """TPM 2.0 library, part 2, 10.12.8: what every TPMS_ATTEST has."""
    return (
        Node("type", f"{attest.type:04x}", "8018 is a quote, 8017 a certification"),
        Node("qualified_signer", attest.qualified_signer.hex(), "name of the signing key with its parents"),
        Node("extra_data", attest.extra_data.hex(), "what whoever asked chose to bind"),
        Node("clock", attest.clock, "milliseconds"),
        Node("reset_count", attest.reset_count, "starts of the TPM"),
        Node("restart_count", attest.restart_count, "resumptions since"),
        Node("safe", attest.safe, "0 where the clock may have been set back"),
        Node("firmware_version", attest.firmware_version.hex(), "the vendor's"),
    )


def _selection(quote: Attest) -> tuple[Node, ...]:
    banks = [f"{bank.alg}: {', '.join(map(str, bank.pcrs))}" for bank in quote.pcr_selection]
    return (
        Node("pcr_selection", banks, "bank, and its registers"),
        Node("pcr_digest", quote.pcr_digest.hex(), "hash over their values in this order"),
    )


def _certificates(ders: Sequence[bytes]) -> list[tuple[Node, ...]]:
    """Return certificates; one that cannot be read is shown as bytes."""
    trees = []
    for der in ders:
        try:
            trees.append(certificate_tree(der))
        except FormatError:
            trees.append((Node("der", der.hex(), "not a certificate that can be read"),))
    return trees


def _nodes(values: Mapping[str, object], meanings: Mapping[str, str]) -> tuple[Node, ...]:
    return tuple(Node(name, _value(value), meanings.get(name, "")) for name, value in values.items())


def _value(value: object) -> Value:
    if isinstance(value, Mapping):
        return _nodes(value, {})
    if isinstance(value, list):
        return [str(item) for item in value]
    return value if isinstance(value, str | int | None) else str(value)
