"""Faults of a platform and its quotes: `platform.quote(..., fault="NAME[=VALUE]")`, `run --fault NAME[=VALUE]`.

Each is meant to provoke one code:

    fault                        provokes (prefix sgx. or tdx. unless it says otherwise)
    truncated[=N]                malformed
    trailing[=HEX]               malformed
    trailing-zeros[=N]           accepted (some platforms pad their quotes)
    signature-size[=N]           malformed
    body-size[=N]                malformed (v5)
    quote-version=N              accepted (another layout: SGX 3 to 5, TDX 4 and 5)
    body-type=N                  version (v5)
    tee-type=N                   malformed
    version=N                    version
    key-type[=N]                 key_type
    vendor-id[=HEX]              qe_vendor
    cert-type=N                  certification_data (0, 6, 8; 1 to 3, 7: no chain)
    missing-intermediate         chain
    missing-leaf                 chain
    missing-root                 accepted (the root is pinned)
    chain-order                  chain
    pck-signature                chain
    pck-ca-signature             chain
    wrong-root                   root
    pck-extension[=KIND]         pck
    pck-common-name              pck
    pck-cpu-svn[=N]              accepted (dcap-qvl differs: it reads CPUSVN, not the components)
    expired-pck                  expired
    not-yet-valid                expired
    expired-pck-ca               expired
    qe-report-signature          qe_report_signature
    qe-report-data               qe_report_data
    qe-report-data-tail          qe_report_data
    swapped-key                  qe_report_data
    authentication[=N]           accepted (QE authentication data of another length)
    tampered[=OFFSET]            signature
    wrong-key                    signature
    no-tcb-level                 tcb_not_supported
    revoked-tcb                  tcb_revoked
    old-tcb                      tcb_status (OutOfDate)
    tcb-level=STATUS             tcb_status
    bad-qe-identity[=FIELD]      qe_identity
    qe-unsupported               qe_tcb_not_supported
    qe-revoked                   qe_tcb_revoked
    qe-out-of-date               tcb_status (OutOfDate)
    debug                        debug
    module-identity              tdx.module_identity
    module-version               tdx.module_identity
    seam-attributes              tdx.module_identity
    module-unsupported           tdx.module_tcb_not_supported
    module-revoked               tdx.module_tcb_revoked
    module-out-of-date           tdx.tcb_status (OutOfDate)
    relaunch-advised             tdx.tcb_status (TDRelaunchAdvised)
    reserved-attributes[=BIT]    tdx.attributes
    xfam[=HEX]                   tdx.xfam
    service-td[=HEX]             tdx.service_td
    sept-ve-disable[=0|1]        policy.attributes
    stale                        binder.mismatch
    report_data=HEX              binder.mismatch
    mr_enclave=HEX, mr_td=HEX    policy.measurement
    FIELD=HEX or N               policy.* (any other field of the body, by its name in the claims)
"""

from typing import Final

from proxy_attestation_simulator.body_faults import BODY_FAULTS
from proxy_attestation_simulator.faults import Registry
from proxy_attestation_simulator.frame_faults import FRAME_FAULTS
from proxy_attestation_simulator.platform_faults import PLATFORM_FAULTS
from proxy_attestation_simulator.recipes import QuoteRecipe

QUOTE_FAULTS: Final = Registry[QuoteRecipe]({**FRAME_FAULTS, **PLATFORM_FAULTS, **BODY_FAULTS})
"""Every fault of a platform and its quotes, by name."""
