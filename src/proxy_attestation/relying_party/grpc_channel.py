"""A gRPC channel to an attested server.

grpcio has no place for a check of ours in its handshake. So the channel goes to a private Unix socket, and an
in-process forwarder behind it opens a checked TLS connection for each of the channel's. Importing this module imports
grpcio.
"""

import asyncio
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import grpc

from proxy_attestation.codes import Code
from proxy_attestation.errors import ProxyAttestationError, UnavailableError
from proxy_attestation.relying_party.context import CheckedContext
from proxy_attestation.relying_party.forwarder import Forwarder, Target, split_target

# What a call ends with when there was no connection to make it on.
_NO_CONNECTION: Final = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED)


class AttestedChannel(grpc.Channel):
    """A `grpc.Channel`; what it adds is the reason for which the last connection could not be made."""

    def __init__(self, channel: grpc.Channel, tunnel: "_Tunnel") -> None:
        self._channel = channel
        self._tunnel = tunnel

    @property
    def attestation_error(self) -> ProxyAttestationError | None:
        """Why the newest connection failed: a `PeerError`, or an `UnavailableError`; None while one stands."""
        return self._tunnel.error

    def subscribe(self, callback: Callable[[grpc.ChannelConnectivity], None], try_to_connect: bool = False) -> None:
        """See `grpc.Channel.subscribe`."""
        self._channel.subscribe(callback, try_to_connect)

    def unsubscribe(self, callback: Callable[[grpc.ChannelConnectivity], None]) -> None:
        """See `grpc.Channel.unsubscribe`."""
        self._channel.unsubscribe(callback)

    def unary_unary(self, *args: Any, **kwargs: Any) -> Any:
        """See `grpc.Channel.unary_unary`."""
        return self._channel.unary_unary(*args, **kwargs)

    def unary_stream(self, *args: Any, **kwargs: Any) -> Any:
        """See `grpc.Channel.unary_stream`."""
        return self._channel.unary_stream(*args, **kwargs)

    def stream_unary(self, *args: Any, **kwargs: Any) -> Any:
        """See `grpc.Channel.stream_unary`."""
        return self._channel.stream_unary(*args, **kwargs)

    def stream_stream(self, *args: Any, **kwargs: Any) -> Any:
        """See `grpc.Channel.stream_stream`."""
        return self._channel.stream_stream(*args, **kwargs)

    def close(self) -> None:
        """See `grpc.Channel.close`; the forwarder ends with the `with` block."""
        self._channel.close()


@contextmanager
def attested_channel(
    target: str,
    context: CheckedContext,
    *,
    options: Sequence[tuple[str, Any]] = (),
    call_credentials: grpc.CallCredentials | None = None,
) -> Iterator[AttestedChannel]:
    """Open a gRPC channel to an attested server, for the length of a `with` block.

    Args:
        target: `HOST:PORT`; IPv6 addresses in brackets.
        context: an `AttestedContext`, for this channel alone: its ALPN becomes `h2`.
        options: channel arguments for grpcio.
        call_credentials: sent with every call, as over TLS.

    Raises:
        UsageError: for a target of another form.
        PeerError: where a call failed inside the block because the server was refused. grpcio itself knows only that
            the socket was closed; its `RpcError` is the `__cause__`. Where the block handles failed calls itself, the
            reason is in `channel.attestation_error`.
        UnavailableError: `peer.unreachable`, likewise, where the server could not be reached.
    """
    host, port = split_target(target)
    context.set_alpn_protocols(["h2"])
    with tempfile.TemporaryDirectory(prefix="proxy-attestation-") as directory:
        # mkdtemp makes the directory 0700: nobody else can connect to what is in it.
        path = Path(directory) / "channel.sock"
        with _Tunnel(Target(host, port, context), path) as tunnel:
            credentials = grpc.local_channel_credentials(grpc.LocalConnectionType.UDS)
            if call_credentials is not None:
                credentials = grpc.composite_channel_credentials(credentials, call_credentials)
            authority = ("grpc.default_authority", target)
            with grpc.secure_channel(f"unix:{path}", credentials, options=[authority, *options]) as channel:
                try:
                    yield AttestedChannel(channel, tunnel)
                except grpc.RpcError as error:
                    if tunnel.error is not None and error.code() in _NO_CONNECTION:
                        raise tunnel.error from error
                    raise


class _Tunnel:
    """The forwarder in a thread with an event loop of its own, so that the caller may be synchronous or not."""

    def __init__(self, target: Target, path: Path) -> None:
        self._forwarder = Forwarder(target, on_failure=self._failed, on_connected=self._connected)
        self._path = path
        self._ready = threading.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop: asyncio.Event | None = None
        self._thread = threading.Thread(target=self._run, name="attested-channel", daemon=True)
        self._failure: OSError | None = None
        self.error: ProxyAttestationError | None = None

    def _failed(self, error: ProxyAttestationError) -> None:
        self.error = error

    def _connected(self) -> None:
        self.error = None

    def _run(self) -> None:
        asyncio.run(self._serve())

    async def _serve(self) -> None:
        self._stop = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        try:
            await self._forwarder.listen_unix(self._path)
        except OSError as error:
            self._failure = error
            return
        finally:
            self._ready.set()
        await self._stop.wait()
        await self._forwarder.close()

    def __enter__(self) -> "_Tunnel":
        self._thread.start()
        self._ready.wait()
        if self._failure is not None:
            raise UnavailableError(Code.PEER_UNREACHABLE, f"cannot listen on {self._path}: {self._failure}")
        return self

    def __exit__(self, *_: object) -> None:
        if self._loop is not None and self._stop is not None:
            self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()
