"""From configuration to application, and from application to the sessions of its connections."""

import pwd
from collections.abc import Callable
from typing import TypeAlias

from proxy_attestation.codes import Code
from proxy_attestation.errors import ConfigurationError
from proxy_attestation.loader.applications.address import AddressApplication
from proxy_attestation.loader.applications.child import ChildApplication
from proxy_attestation.loader.applications.wasm import WasmApplication
from proxy_attestation.loader.config import AddressConfig, ApplicationConfig, ChildConfig, WasmConfig
from proxy_attestation.loader.forward import ForwardSession
from proxy_attestation.loader.grpc_session import GrpcSession
from proxy_attestation.loader.http_session import HttpSession
from proxy_attestation.loader.limits import Budget, SessionLimits
from proxy_attestation.loader.streams import Stream
from proxy_attestation.loader.termination import Session
from proxy_attestation.loader.tls import Protocol

AnyApplication: TypeAlias = WasmApplication | ChildApplication | AddressApplication


def make_application(config: ApplicationConfig, note: Callable[[str], None]) -> AnyApplication:
    """Make the application that a configuration names.

    Raises:
        ConfigurationError: `application.failed`, or `configuration.malformed` for an unknown user.
    """
    match config:
        case WasmConfig():
            return WasmApplication(config.path, config.limits, note)
        case ChildConfig():
            return ChildApplication(config.command, config.endpoint, _owner(config.user), note)
        case AddressConfig():
            return AddressApplication(config.endpoint)


def make_sessions(config: ApplicationConfig, application: AnyApplication) -> Callable[[Protocol, Stream], Session]:
    """Return what makes the session of a connection.

    A Wasm module answers messages, so its protocol is terminated here. Any other application speaks its protocol
    itself, and gets the bytes.
    """
    limits = SessionLimits()
    if isinstance(application, WasmApplication):
        if isinstance(config, WasmConfig):
            limits = SessionLimits(message=config.message, answer_s=config.limits.seconds)
        return _message_sessions(application, limits)

    def forward(protocol: Protocol, stream: Stream) -> Session:
        del protocol  # only ALPN differs, and that is done
        return ForwardSession(stream, application, limits)

    return forward


def _message_sessions(application: WasmApplication, limits: SessionLimits) -> Callable[[Protocol, Stream], Session]:
    budget = Budget()

    def terminate(protocol: Protocol, stream: Stream) -> Session:
        if protocol is Protocol.GRPC:
            return GrpcSession(stream, application, limits, budget)
        return HttpSession(stream, application, limits, budget)

    return terminate


def _owner(user: str | None) -> tuple[int, int] | None:
    if user is None:
        return None
    try:
        entry = pwd.getpwuid(int(user)) if user.isascii() and user.isdigit() else pwd.getpwnam(user)
    except (KeyError, OverflowError) as error:
        raise ConfigurationError(Code.CONFIGURATION_MALFORMED, f"application.user: no user {user!r}") from error
    return entry.pw_uid, entry.pw_gid
