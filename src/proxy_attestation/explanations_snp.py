"""The cause and the fix of every code of the SEV-SNP walk and of the policy's own SEV-SNP refusals."""

from typing import Final

from proxy_attestation.codes import Code, Explanation

# (cause, fix)
_SNP: Final[dict[Code, tuple[str, str]]] = {
    Code.SNP_MALFORMED: (
        "The SEV-SNP report has a wrong length, or something in a reserved field.",
        "Send the 1184 bytes of the report exactly as the firmware gave them (configfs-tsm: outblob).",
    ),
    Code.SNP_VERSION: (
        "The SEV-SNP report has a version other than 2, 3, 4 or 5.",
        "Use firmware whose report version is known here; a newer version needs a newer verifier.",
    ),
    Code.SNP_SIGNATURE_ALGORITHM: (
        "The SEV-SNP report is signed with something other than ECDSA P-384 and SHA-384.",
        "Ask the firmware for a report again; every version known here has signature algorithm 1.",
    ),
    Code.SNP_SIGNING_KEY: (
        "The SEV-SNP report is not signed: its chip key is masked, or its signing key is neither VCEK nor VLEK.",
        "Have the host unset MASK_CHIP_KEY and provide a VCEK or a VLEK.",
    ),
    Code.SNP_POLICY: (
        "The guest policy in the SEV-SNP report has a reserved bit that is not as AMD demands.",
        "Launch the guest with a policy of defined bits; bit 17 is always 1.",
    ),
    Code.SNP_PLATFORM_INFO: (
        "The platform information in the SEV-SNP report has a bit whose meaning is not known here.",
        "Use a verifier that knows this firmware; what an unknown bit says cannot be judged.",
    ),
    Code.SNP_VMPL: (
        "The SEV-SNP report was asked for by no privilege level that a guest can have (0 to 3).",
        "Ask for the report inside the guest; one that the host asked for proves nothing about a key.",
    ),
    Code.SNP_PRODUCT: (
        "The SEV-SNP report or its certificate is of a processor line that is not known, or they are of two lines.",
        "Give the VCEK or VLEK of this very processor; known lines are Milan, Genoa and Turin.",
    ),
    Code.SNP_CERTIFICATE_TABLE: (
        "The certificate table of the extended SEV-SNP report breaks its format.",
        "Send the table as the host gave it (configfs-tsm: auxblob), or the certificates one by one.",
    ),
    Code.SNP_ENDORSEMENTS_MISSING: (
        "The VCEK or VLEK of the SEV-SNP platform is absent, or the ASK, ASVK or ARK above it.",
        "Give the VCEK or VLEK beside the report, and the ASK or ASVK and the ARK of its line from AMD's KDS.",
    ),
    Code.SNP_VEK: (
        "The VCEK or VLEK certificate lacks one of AMD's extensions, or has one twice, unknown or malformed.",
        "Fetch the VCEK from AMD's KDS again, or the VLEK from the cloud provider.",
    ),
    Code.SNP_TCB_MISMATCH: (
        "The VCEK or VLEK certificate is for another TCB than the one that the SEV-SNP report states.",
        "Fetch the certificate for exactly the reported TCB: every component is part of the request to KDS.",
    ),
    Code.SNP_CHIP_ID: (
        "The VCEK certificate is another chip's than the one that the SEV-SNP report names.",
        "Fetch the certificate for the chip id in the report.",
    ),
    Code.SNP_SIGNATURE: (
        "The signature of the SEV-SNP report is wrong: the report was changed, or its certificate has another key.",
        "Send the report unchanged, with the certificate of the chip and TCB that made it.",
    ),
    Code.SNP_TCB: (
        "The TCB versions in the SEV-SNP report contradict one another, or set reserved bytes.",
        "Update the firmware: no committed component can be above the current one.",
    ),
    Code.SNP_CHAIN: (
        "The chain of the SEV-SNP platform's certificate is broken: signature, name, key, usage or constraints.",
        "Fetch ASK or ASVK and ARK of the right processor line from AMD's KDS again.",
    ),
    Code.SNP_ROOT: (
        "The SEV-SNP evidence ends in a root that is not AMD's pinned root (ARK) of its processor line.",
        "Use evidence of real hardware; simulated SEV-SNP evidence needs an authority that pins the simulated ARK.",
    ),
    Code.SNP_EXPIRED: (
        "A certificate that the SEV-SNP evidence rests on is not valid at this time.",
        "Fetch the VCEK, VLEK, ASK or ARK again, and check the clock, or `--at`.",
    ),
    Code.SNP_REVOKED: (
        "AMD has revoked the ASK, ASVK or ARK that the SEV-SNP evidence rests on.",
        "Do not trust this platform until AMD has issued it a certificate under another key.",
    ),
    Code.SNP_CRL: (
        "A revocation list for the SEV-SNP evidence is malformed, wrongly signed, or lacks number or next update.",
        "Fetch the list of the processor line from AMD's KDS again.",
    ),
    Code.SNP_CRL_EXPIRED: (
        "A revocation list for the SEV-SNP evidence is out of date, or not valid yet.",
        "Refresh AMD's revocation lists, and check the clock, or `--at`.",
    ),
    Code.SNP_CRL_MISSING: (
        "A revocation list of AMD's root (ARK) is required for the SEV-SNP evidence, and none was given.",
        "Fetch the list of the processor line from AMD's KDS.",
    ),
    Code.SNP_ENDORSEMENTS_FLOOR: (
        "The revocation list for the SEV-SNP evidence is older than one that was used before.",
        "Refresh AMD's revocation lists; their numbers and dates never go back.",
    ),
    Code.SNP_DEBUG: (
        "The SEV-SNP guest may be debugged: the host can read and change its memory.",
        "Launch the guest with the DEBUG bit of its policy 0; `--allow-debug` is for tests only.",
    ),
    Code.SNP_MIGRATION_AGENT: (
        "The SEV-SNP guest may be bound to a migration agent, which can reach into it, and nothing pins that.",
        "Launch the guest with MIGRATE_MA 0, or pin the bit (policy `policy_mask`) where you trust the agent.",
    ),
    Code.SNP_TCB_STATUS: (
        "A TCB component of the SEV-SNP platform (reported, committed or at launch) is below the minimum.",
        "Update firmware and microcode of the host and commit them, then launch the guest again.",
    ),
}

SNP: Final[dict[Code, Explanation]] = {code: Explanation(cause, fix) for code, (cause, fix) in _SNP.items()}
