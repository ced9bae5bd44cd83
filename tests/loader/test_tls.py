"""Contexts of a credential."""

import os
import ssl
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, NoReturn

import pytest

from proxy_attestation.codes import Code
from proxy_attestation.errors import UnavailableError
from proxy_attestation.loader.credential import Credential
from proxy_attestation.loader.tls import OPEN_CONNECTION_GRACE, Protocol, ServerContexts

Make = Callable[[], Credential]


class Clock:
    def __init__(self, now: datetime) -> None:
        self.now = now

    def __call__(self) -> datetime:
        return self.now


def test_without_a_credential_there_is_nothing_to_serve(real_now: datetime) -> None:
    contexts = ServerContexts(None, Clock(real_now))
    assert contexts.credential is None
    assert contexts.current(Protocol.GRPC) is None


def test_contexts_are_tls_1_3_without_resumption(make_credential: Make, real_now: datetime) -> None:
    contexts = ServerContexts(None, Clock(real_now))
    contexts.install(make_credential())
    for protocol in Protocol:
        served = contexts.current(protocol)
        assert served is not None
        assert served.context.minimum_version is ssl.TLSVersion.TLSv1_3
        assert served.context.num_tickets == 0


def test_the_newest_credential_serves_until_it_expires(make_credential: Make, real_now: datetime) -> None:
    clock = Clock(real_now)
    contexts = ServerContexts(None, clock)
    old, new = make_credential(), make_credential()
    contexts.install(old)
    before = contexts.current(Protocol.TCP)
    contexts.install(new)
    after = contexts.current(Protocol.TCP)
    assert before is not None
    assert after is not None
    assert (before.serial, after.serial) == (old.serial, new.serial)
    assert before.context is not after.context
    assert after.close_after == new.not_after + OPEN_CONNECTION_GRACE
    clock.now = new.not_after - timedelta(seconds=1)
    assert contexts.current(Protocol.TCP) is not None
    clock.now = new.not_after
    assert contexts.current(Protocol.TCP) is None
    assert contexts.credential is new


def _no_memfd(*_: Any) -> NoReturn:
    raise OSError("not here")


def test_without_memfd_a_named_directory_is_used_and_left_empty(
    make_credential: Make, real_now: datetime, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "memfd_create", _no_memfd)
    contexts = ServerContexts(tmp_path, Clock(real_now))
    contexts.install(make_credential())
    assert contexts.current(Protocol.TCP) is not None
    assert list(tmp_path.iterdir()) == []


def test_without_memfd_and_directory_nothing_is_written_anywhere(
    make_credential: Make, real_now: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    contexts = ServerContexts(None, Clock(real_now))
    old = make_credential()
    contexts.install(old)
    monkeypatch.setattr(os, "memfd_create", _no_memfd)
    with pytest.raises(UnavailableError) as refused:
        contexts.install(make_credential())
    assert refused.value.code is Code.ATTESTER_UNAVAILABLE
    assert contexts.credential is old
