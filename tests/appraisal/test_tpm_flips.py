"""Every byte of the certificates that vouch for a TPM, flipped by a bit: each flip is refused.

Quote, certification, signatures and public areas have their flips in `test_tpm_faults.py`. The root is an anchor by its
key: what its certificate says beside that is nobody's statement, so flips of it are no matter of this test.
"""

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from cryptography import x509

from proxy_attestation.appraisal.tpm import Activation, TpmEndorsements, appraise_tpm
from proxy_attestation.appraisal.tpm_chain import TpmRoots
from proxy_attestation.errors import AppraisalError
from proxy_attestation.formats.tpm_evidence import decode_tpm
from proxy_attestation_simulator.tpm import TpmRecipe, TpmVendor, ak_certificate_recipe, make

pytestmark = pytest.mark.exhaustive

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
VENDOR = TpmVendor.create(NOW)
ROOTS = TpmRoots(frozenset({VENDOR.pin}))


def flips(der: bytes) -> Iterator[bytes]:
    """Flip a bit of every byte but that which says how many bits of the signature's last byte are unused."""
    unused = len(der) - len(x509.load_der_x509_certificate(der).signature) - 1
    for at in range(len(der)):
        if at != unused:
            yield der[:at] + bytes([der[at] ^ 1 << at % 8]) + der[at + 1 :]


@pytest.mark.parametrize("index", [0, 1], ids=["leaf", "intermediate"])
@pytest.mark.parametrize("way", ["activation", "certificate"])
def test_every_byte_of_a_certificate(way: str, index: int) -> None:
    recipe = TpmRecipe() if way == "activation" else ak_certificate_recipe(TpmRecipe())
    made = make(VENDOR, recipe)
    evidence = decode_tpm(made.evidence)
    activation = Activation(made.activated_name, made.activated_ek) if way == "activation" else None
    good = TpmEndorsements(made.certificates, activation, event_log=made.event_log)
    assert appraise_tpm(evidence, good, ROOTS, NOW).body.ak_trust == way
    for at, changed in enumerate(flips(made.certificates[index])):
        chain = (*made.certificates[:index], changed, *made.certificates[index + 1 :])
        with pytest.raises(AppraisalError) as refused:
            appraise_tpm(evidence, replace(good, certificates=chain), ROOTS, NOW)
        assert refused.value.code.startswith("tpm."), at
