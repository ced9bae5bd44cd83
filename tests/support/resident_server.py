"""A TLS server whose key lives in a TPM, with a certificate of a small authority; it obeys lines on standard input.

`renew` makes a new key and a new certificate, `quit` ends. It is a process of its own because the bus that leads to the
TPM is the whole process's. Usage: resident_server.py TCTI ROOT_FILE
"""

import asyncio
import ipaddress
import json
import sys
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding
from mini_authority import MiniAuthority

from proxy_attestation.attester.tpm_attester import TpmAttester, TpmOptions
from proxy_attestation.formats.csr import build_csr, decode_csr, spki_of, verify_csr
from proxy_attestation.loader.credential import Credential
from proxy_attestation.loader.endpoint import Endpoint
from proxy_attestation.loader.limits import SessionLimits
from proxy_attestation.loader.streams import Stream
from proxy_attestation.loader.termination import Listener
from proxy_attestation.loader.tls import Protocol, ServerContexts


class Echo:
    """Answers each piece with an HTTP response that holds it."""

    def __init__(self, stream: Stream) -> None:
        self._stream = stream

    async def run(self) -> None:
        """Answer until the peer ends."""
        while data := await self._stream.read():
            head = f"HTTP/1.1 200 OK\r\ncontent-length: {len(data)}\r\n\r\n".encode()
            await self._stream.write(head + data)
        await self._stream.write_eof()

    def drain(self) -> None:
        """Do nothing: connections end with the process."""


def enrol(attester: TpmAttester, authority: MiniAuthority) -> Credential:
    """Make a key in the TPM, have it sign a request, certify it."""
    now = authority.now
    with attester.begin() as enrolment:
        csr = decode_csr(build_csr(enrolment.key, None))
        verify_csr(csr)
        key = enrolment.key
    names: list[x509.GeneralName] = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
    leaf = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([]))
        .issuer_name(authority.issuing.subject)
        .public_key(csr.public_key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(seconds=60))
        .not_valid_after(now + timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName(names), critical=True)
        .sign(authority.issuing_key, SHA256())
    )
    return Credential(
        key=key,
        chain=(leaf.public_bytes(Encoding.DER), authority.issuing_der),
        serial=leaf.serial_number,
        names=("localhost",),
        obtained_at=now,
        not_before=leaf.not_valid_before_utc,
        not_after=leaf.not_valid_after_utc,
        claims=authority.claims(spki_of(csr.public_key)),
        ledger_index=0,
        renewal_window=None,
        simulated=False,
    )


async def main(authority: MiniAuthority) -> None:
    """Serve until told to quit."""
    attester = TpmAttester(TpmOptions(), sys.argv[1])
    contexts = ServerContexts(None, lambda: datetime.now(UTC))
    make = partial(Listener, Endpoint(host="127.0.0.1", port=0), limits=SessionLimits(), note=print)
    listeners = {protocol: make(protocol, contexts, Echo) for protocol in Protocol}
    tasks = [asyncio.create_task(listener.run()) for listener in listeners.values()]
    ports = {str(protocol): listener.endpoint.port for protocol, listener in listeners.items()}
    while True:
        credential = await asyncio.to_thread(enrol, attester, authority)
        await asyncio.to_thread(contexts.install, credential)
        print(json.dumps({"serial": f"{credential.serial:x}", **ports}), flush=True)
        if await asyncio.to_thread(sys.stdin.readline) != "renew\n":
            break
    for task in tasks:
        task.cancel()


if __name__ == "__main__":
    made = MiniAuthority(datetime.now(UTC).replace(microsecond=0))
    Path(sys.argv[2]).write_bytes(made.root.public_bytes(Encoding.PEM))
    asyncio.run(main(made))
