"""What every place for the authority's keys must do."""

from collections.abc import Callable

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_der_public_key

from proxy_attestation.authority.keys import KeyStore, Signer
from proxy_attestation.codes import Code
from proxy_attestation.errors import ProxyAttestationError


def verifies(signer: Signer) -> bool:
    key = load_der_public_key(signer.spki)
    assert isinstance(key, ec.EllipticCurvePublicKey)
    key.verify(signer.sign(b"to be signed"), b"to be signed", ec.ECDSA(hashes.SHA256()))
    return True


def refused(work: Callable[[], object]) -> Code:
    with pytest.raises(ProxyAttestationError) as caught:
        work()
    return caught.value.code


def keeps(store: KeyStore, again: KeyStore) -> bool:
    """Tell whether a store that is opened again has the keys, and forgets one that was destroyed."""
    made = [store.make(number) for number in (0, 1)]
    found = [again.load(number) for number in (0, 1)]
    assert [signer.spki for signer in made] == [signer.spki for signer in found]
    assert all(verifies(signer) for signer in (*made, *found))
    again.destroy(1)
    again.destroy(1)
    assert refused(lambda: again.load(1)) is Code.AUTHORITY_STATE
    replaced = again.make(1).spki != made[1].spki
    return replaced and again.load(0).spki == made[0].spki
