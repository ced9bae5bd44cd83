"""The most costly inputs that the bounds let in reach the step that makes them so, and stay within 64 MiB.

What they cost is measured in benchmarks/worst_inputs.py.
"""

import tracemalloc
from typing import Final

import pytest
from worst import CASES

from proxy_attestation.codes import Code
from proxy_attestation.errors import ProxyAttestationError

MEMORY_MAX: Final = 64 * 1024 * 1024
REFUSED: Final = {
    "many_sha1_events": Code.TPM_EVENT_LOG,
    "certificates_that_sign_in_circles": Code.TPM_ROOT,
    "deep_and_wide_cbor": Code.TPM_MALFORMED,
    "nitro_signature_that_fails_last": Code.NITRO_SIGNATURE,
    "cbor_length_that_is_not_there": Code.NITRO_MALFORMED,
    "td_log_of_many_digests": Code.TDX_EVENT_LOG,
    "quote_of_large_certificates": Code.SGX_CHAIN,
    "document_of_many_values": Code.SGX_TCB_INFO_SIGNATURE,
    "list_of_many_serials": Code.SGX_CRL,
}
"""The others are accepted."""


@pytest.mark.parametrize("name", CASES)
def test_the_worst_is_judged_within_the_bounds(name: str) -> None:
    call = CASES[name]()
    found: Code | None = None
    tracemalloc.start()
    try:
        call()
    except ProxyAttestationError as error:
        found = error.code
    finally:
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert found == REFUSED.get(name)
    assert peak < MEMORY_MAX
