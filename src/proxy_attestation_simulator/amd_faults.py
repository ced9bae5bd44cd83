"""Faults of an SEV-SNP machine and its vendor: `platform.evidence(..., fault="NAME[=VALUE]")`.

Each is meant to provoke one code:

    fault                        provokes (prefix snp. unless it says otherwise)
    truncated[=N]                malformed
    trailing[=HEX]               certificate_table
    reserved[=OFFSET]            malformed
    signature-tail               malformed
    key-info-reserved            malformed
    version=N                    version (0, 1, 6 and above)
    signature-algorithm[=N]      signature_algorithm
    masked-key                   signing_key
    signing-key[=N]              signing_key (2 to 7)
    policy-reserved[=BIT]        policy (17 cleared, 26 to 63 set)
    platform-info-reserved[=BIT] platform_info (6, 8 to 63)
    host-report                  vmpl
    unknown-model                product
    other-product                product
    vek-product                  product
    no-vek                       endorsements_missing
    no-issuer                    endorsements_missing
    no-ark                       endorsements_missing
    other-kind                   endorsements_missing
    garbage-certificate          chain
    vek-unknown-extension        vek
    vek-duplicate-extension      vek
    vek-without[=NAME]           vek
    vek-spl-malformed            vek
    vek-spl-foreign              vek
    vek-struct-version[=N]       vek
    vek-chip-id-length           vek
    vek-mixed                    vek
    vek-old-tcb[=NAME]           tcb_mismatch
    other-chip                   chip_id
    hw-id-octet-string           accepted (both encodings occur)
    masked-chip-id               accepted (no instance)
    signature                    signature
    zero-signature               signature
    other-key                    signature
    flip[=OFFSET]                signature
    committed-above-current      tcb
    tcb-reserved[=FIELD]         tcb
    wrong-root                   root
    vek-signature                chain
    issuer-signature             chain
    issuer-not-ca                chain
    ark-not-ca                   chain
    ark-path-length              chain
    vek-is-ca                    chain
    vek-critical-extension       chain
    vek-expired                  expired
    vek-early                    expired
    issuer-expired               expired
    ark-expired                  expired
    issuer-revoked               revoked
    ark-revoked                  revoked
    crl-signature                crl
    crl-malformed                crl
    crl-no-number                crl
    crl-not-allowed              crl
    crl-expired                  crl_expired
    crl-early                    crl_expired
    no-crl                       crl_missing
    crl-old                      endorsements_floor
    debug                        debug
    migration-agent              migration_agent
    old-tcb[=N]                  tcb_status
    vmpl[=N]                     policy.attributes
    single-socket                policy.attributes
    no-smt                       policy.attributes
    measurement[=HEX]            policy.measurement
    host-data[=HEX]              policy.config
    report-data[=HEX]            binder.mismatch
"""

from typing import Final

from proxy_attestation_simulator.amd_certificate_faults import CERTIFICATE_FAULTS
from proxy_attestation_simulator.amd_recipes import SnpRecipe
from proxy_attestation_simulator.amd_report_faults import REPORT_FAULTS
from proxy_attestation_simulator.faults import Registry

SNP_FAULTS: Final = Registry[SnpRecipe]({**REPORT_FAULTS, **CERTIFICATE_FAULTS})
"""Every fault of an SEV-SNP machine and its vendor, by name."""
