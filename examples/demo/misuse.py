"""A client that misuses the protocol: `misuse.py FD URL PIN replay|other-key`, started by the simulator.

Prints one JSON object: `{"error": {"code": ...}}` as the commands do, and exits with 3 when it was refused.
"""

import asyncio
import json
import sys
from datetime import UTC, datetime

from cryptography.hazmat.primitives.asymmetric import ec

from proxy_attestation.attester.select import select_attester
from proxy_attestation.errors import ProxyAttestationError
from proxy_attestation.formats.binder import bind
from proxy_attestation.formats.csr import build_csr, spki_of
from proxy_attestation.formats.evidence import encode_evidence
from proxy_attestation.formats.request import (
    ApplicationKind,
    KeyOrigin,
    Request,
    RuntimeClaims,
    encode_request,
    names_from,
)
from proxy_attestation.formats.tee import Tee
from proxy_attestation.loader.proxy_client import ProxyAddress, ProxyClient, Timing
from proxy_attestation.v1 import proxy_attestation_pb2 as v1


def new_key() -> ec.EllipticCurvePrivateKey:
    """Make a P-256 key."""
    return ec.generate_private_key(ec.SECP256R1())


async def misuse(descriptor: str, url: str, pin: str, kind: str) -> None:
    """Ask once as one should, where `kind` is replay, and then as one must not."""
    attester = select_attester(f"simulator:{descriptor}", Tee.SGX)
    timing = Timing(lambda: datetime.now(UTC))
    proxy = await ProxyClient.connect(ProxyAddress(url, bytes.fromhex(pin), "example.org"), timing)
    try:
        challenge = await proxy.get_challenge(Tee.SGX)
        runtime = RuntimeClaims(ApplicationKind.WASM, bytes.fromhex(sys.argv[5]), KeyOrigin.TEE)
        request = encode_request(Request("example-app", Tee.SGX, names_from(("app.example.org",)), 3600, runtime))

        async def ask(attested: ec.EllipticCurvePrivateKey, signing: ec.EllipticCurvePrivateKey) -> None:
            binding = bind(
                ca_id=challenge.ca_id,
                session_id=challenge.session_id,
                nonce=challenge.nonce,
                spki=spki_of(attested.public_key()),
                request=request,
            )
            with attester.begin() as enrolment:
                evidence = enrolment.attest(binding).evidence
            csr = build_csr(signing, encode_evidence(evidence))
            message = v1.GetSignedCertificateRequest(session_token=challenge.session_token, request=request, csr=csr)
            await proxy.get_signed_certificate(message, datetime.fromtimestamp(challenge.expires_at, UTC))

        key = new_key()
        if kind == "replay":
            await ask(key, key)
            other = new_key()
            await ask(other, other)
        else:
            await ask(key, new_key())
    finally:
        await proxy.close()


def main() -> int:
    """Misuse the protocol and report what came of it."""
    try:
        asyncio.run(misuse(*sys.argv[1:5]))
    except ProxyAttestationError as error:
        print(json.dumps({"error": {"code": str(error.code), "detail": error.detail}}))
        return error.exit_status
    return 0


if __name__ == "__main__":
    sys.exit(main())
