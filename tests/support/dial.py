"""A checked connection to a local server, and the refusal of one."""

import socket
import ssl
from collections.abc import Callable
from typing import Any

import pytest

from proxy_attestation.relying_party import AttestationVerificationError
from proxy_attestation.relying_party.handshake import CheckedSocket

HOST = "127.0.0.1"
REQUEST = b"GET / HTTP/1.1\r\nhost: app.example.org\r\n\r\n"


def dial(context: ssl.SSLContext, port: int, **options: Any) -> CheckedSocket:
    raw = socket.create_connection((HOST, port), 30)
    try:
        wrapped = context.wrap_socket(raw, **({"server_hostname": HOST} | options))
    finally:
        raw.close()
    assert isinstance(wrapped, CheckedSocket)
    return wrapped


def refusal(call: Callable[[], object]) -> AttestationVerificationError:
    with pytest.raises(AttestationVerificationError) as caught:
        call()
    return caught.value
