"""Every kind of TLS client that a context can be given to, as functions: context and port in, reply out."""

import asyncio
import http.client
import io
import socket
import ssl
import urllib.request
from collections.abc import Callable
from typing import Any

import httpx

from proxy_attestation.relying_party import AttestedContext
from proxy_attestation.relying_party.httpx_adapter import AttestedAsyncTransport, AttestedTransport

HOST = "127.0.0.1"
REQUEST = b"GET / HTTP/1.1\r\nhost: app.example.org\r\n\r\n"
Client = Callable[[ssl.SSLContext, int], bytes]


def connect(port: int) -> socket.socket:
    return socket.create_connection((HOST, port), 30)


def read_all(connection: Any) -> bytes:
    # The server keeps the connection for another request: read the answer, not to the end.
    answer = b""
    while not answer.endswith(b"hello") and (data := connection.recv(65536)):
        answer += data
    return answer


def ssl_socket(context: ssl.SSLContext, port: int) -> bytes:
    with connect(port) as raw, context.wrap_socket(raw, server_hostname=HOST) as connection:
        connection.sendall(REQUEST)
        return read_all(connection)


def wrapped_before_connect(context: ssl.SSLContext, port: int) -> bytes:
    with socket.socket() as raw, context.wrap_socket(raw, server_hostname=HOST) as connection:
        connection.settimeout(30)
        connection.connect((HOST, port))
        connection.sendall(REQUEST)
        return read_all(connection)


def lazy(use: Callable[[ssl.SSLSocket], object]) -> Client:
    """A socket whose handshake OpenSSL would do by itself, inside the first read or write."""

    def client(context: ssl.SSLContext, port: int) -> bytes:
        with (
            connect(port) as raw,
            context.wrap_socket(raw, server_hostname=HOST, do_handshake_on_connect=False) as connection,
        ):
            use(connection)
            return read_all(connection)

    return client


def write_through_makefile(connection: ssl.SSLSocket) -> None:
    with connection.makefile("wb") as file:
        file.write(REQUEST)


def after_a_refused_first_try(connection: ssl.SSLSocket) -> None:
    try:
        connection.sendall(REQUEST)
    except ssl.SSLCertVerificationError:
        # The handshake is complete now as far as OpenSSL knows; the second try must not slip through.
        connection.sendall(REQUEST)


def memory_bio(*, shake_hands: bool) -> Client:
    def client(context: ssl.SSLContext, port: int) -> bytes:
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        tls = context.wrap_bio(incoming, outgoing, server_hostname=HOST)
        with connect(port) as raw:

            def drive(step: Callable[[], Any]) -> Any:
                while True:
                    try:
                        result = step()
                    except ssl.SSLWantReadError:
                        raw.sendall(outgoing.read())
                        incoming.write(raw.recv(65536))
                    else:
                        raw.sendall(outgoing.read())
                        return result

            try:
                if shake_hands:
                    drive(tls.do_handshake)
                drive(lambda: tls.write(REQUEST))
                result = drive(lambda: tls.read(65536))
            finally:
                # Not even a client that sends whatever is there, after a refusal too, may leak anything.
                raw.sendall(outgoing.read())
            assert isinstance(result, bytes)
            return result

    return client


def http_client(context: ssl.SSLContext, port: int) -> bytes:
    connection = http.client.HTTPSConnection(HOST, port, context=context, timeout=30)
    try:
        connection.request("GET", "/")
        return connection.getresponse().read()
    finally:
        connection.close()


def urllib_client(context: ssl.SSLContext, port: int) -> bytes:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=context))
    with opener.open(f"https://{HOST}:{port}/", timeout=30) as response:
        result = response.read()
    assert isinstance(result, bytes)
    return result


def httpx_client(context: ssl.SSLContext, port: int) -> bytes:
    with httpx.Client(verify=context, trust_env=False) as client:
        return client.get(f"https://{HOST}:{port}/").content


def httpx_async(context: ssl.SSLContext, port: int) -> bytes:
    async def call() -> bytes:
        async with httpx.AsyncClient(verify=context, trust_env=False) as client:
            return (await client.get(f"https://{HOST}:{port}/")).content

    return run(call())


def httpx_h2(context: ssl.SSLContext, port: int) -> bytes:
    with httpx.Client(verify=context, trust_env=False, http2=True) as client:
        response = client.get(f"https://{HOST}:{port}/")
    assert response.http_version == "HTTP/2"
    return response.content


def httpx_h2_async(context: ssl.SSLContext, port: int) -> bytes:
    async def call() -> bytes:
        async with httpx.AsyncClient(verify=context, trust_env=False, http2=True) as client:
            response = await client.get(f"https://{HOST}:{port}/")
        assert response.http_version == "HTTP/2"
        return response.content

    return run(call())


def our_transport(context: ssl.SSLContext, port: int) -> bytes:
    assert isinstance(context, AttestedContext)
    with httpx.Client(transport=AttestedTransport(context)) as client:
        return client.get(f"https://{HOST}:{port}/").content


def our_async_transport(context: ssl.SSLContext, port: int) -> bytes:
    assert isinstance(context, AttestedContext)
    transport = AttestedAsyncTransport(context)

    async def call() -> bytes:
        async with httpx.AsyncClient(transport=transport) as client:
            return (await client.get(f"https://{HOST}:{port}/")).content

    return run(call())


def asyncio_open_connection(context: ssl.SSLContext, port: int) -> bytes:
    async def call() -> bytes:
        reader, writer = await asyncio.open_connection(HOST, port, ssl=context)
        return await ask(reader, writer)

    return run(call())


def asyncio_start_tls(context: ssl.SSLContext, port: int) -> bytes:
    async def call() -> bytes:
        reader, writer = await asyncio.open_connection(HOST, port)
        try:
            await writer.start_tls(context, server_hostname=HOST)
        except BaseException:
            writer.transport.abort()
            raise
        return await ask(reader, writer)

    return run(call())


async def ask(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes:
    writer.write(REQUEST)
    reply = await reader.read(65536)
    writer.close()
    await writer.wait_closed()
    return reply


def run(call: Any) -> bytes:
    """Run a coroutine; whatever asyncio would only log (a fatal transport error) fails the test."""
    unhandled: list[dict[str, Any]] = []

    async def main() -> bytes:
        asyncio.get_running_loop().set_exception_handler(lambda _, details: unhandled.append(details))
        result = await call
        assert isinstance(result, bytes)
        return result

    try:
        return asyncio.run(main())
    finally:
        assert unhandled == []


CLIENTS: dict[str, Client] = {
    "ssl socket": ssl_socket,
    "socket wrapped before connect": wrapped_before_connect,
    "lazy send": lazy(lambda connection: connection.send(REQUEST)),
    "lazy sendall": lazy(lambda connection: connection.sendall(REQUEST)),
    "lazy write": lazy(lambda connection: connection.write(REQUEST)),
    "lazy sendfile": lazy(lambda connection: connection.sendfile(io.BytesIO(REQUEST))),
    "lazy makefile": lazy(write_through_makefile),
    "lazy, tried again after the refusal": lazy(after_a_refused_first_try),
    "memory bio": memory_bio(shake_hands=True),
    "memory bio, lazy": memory_bio(shake_hands=False),
    "http.client": http_client,
    "urllib": urllib_client,
    "httpx": httpx_client,
    "httpx async": httpx_async,
    "httpx h2": httpx_h2,
    "httpx h2 async": httpx_h2_async,
    "AttestedTransport": our_transport,
    "AttestedAsyncTransport": our_async_transport,
    "asyncio open_connection": asyncio_open_connection,
    "asyncio start_tls": asyncio_start_tls,
}
ALPN = ("h2", "http/1.1")
