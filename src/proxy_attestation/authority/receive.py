"""Puts keys that came from elsewhere into STATE: all of them and only if they are this authority's, or none."""

import os
import shutil
from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path
from typing import Final

from proxy_attestation.authority import state as layout
from proxy_attestation.authority.key_stores import make_store
from proxy_attestation.authority.keys import FileKeys
from proxy_attestation.authority.private_files import read_private, sync_directory
from proxy_attestation.authority.settings import SETTINGS_MAX, Settings, decode_settings
from proxy_attestation.codes import Code
from proxy_attestation.errors import ConfigurationError, RefusedError, UnavailableError
from proxy_attestation.formats.key_transfer import TransferredKey

_NEW: Final = "keys.new"
_OLD: Final = "keys.old"


def read_settings(state: Path) -> tuple[Settings, bytes]:
    """Return what the authority of STATE is, and the bytes of authority.toml.

    Raises:
        ConfigurationError: `authority.state`.
    """
    path = state / layout.SETTINGS
    try:
        data = read_private(path, SETTINGS_MAX)
    except OSError as error:
        raise ConfigurationError(Code.AUTHORITY_STATE, f"{path}: {error.strerror}") from error
    return decode_settings(data), data


def install_keys(state: Path, keys: Sequence[TransferredKey], clock: Callable[[], datetime]) -> None:
    """Write keys into STATE, sealed as authority.toml says, and check that the authority opens with them.

    Whatever keys STATE had are gone afterwards; they stay where the new ones are not this authority's.

    Raises:
        ConfigurationError: `authority.state`, where they are not, or see `state.open_authority`.
        FormatError: `keys.transfer_malformed`.
        RefusedError: `keys.token`, where its keys are in a token.
        UnavailableError: `authority.unavailable`, where an authority runs on STATE, or it cannot be written.
    """
    lock = layout.lock_state(state, patience=0)
    try:
        _install(state, keys, clock)
    except OSError as error:
        raise UnavailableError(Code.AUTHORITY_UNAVAILABLE, f"{error.filename or state}: {error.strerror}") from error
    finally:
        os.close(lock)


def _install(state: Path, keys: Sequence[TransferredKey], clock: Callable[[], datetime]) -> None:
    settings, data = read_settings(state)
    here, new, old = (state / name for name in (layout.KEYS, _NEW, _OLD))
    if old.exists() and not here.exists():
        old.replace(here)  # a start of this that was interrupted between its two steps
    for left in (new, old):
        shutil.rmtree(left, ignore_errors=True)
    for made in (new, state / layout.RUN):
        made.mkdir(mode=0o700, exist_ok=True)
    try:
        store = make_store(settings.keys, new)
        if not isinstance(store, FileKeys):
            raise RefusedError(Code.KEYS_TOKEN)
        store.give(keys)
        store.bind(data)
        if here.exists():
            here.replace(old)
        new.replace(here)
        sync_directory(state)
        try:
            layout.open_authority(state, clock).ledger.close()
        except BaseException:
            here.replace(new)
            if old.exists():
                old.replace(here)
            raise
    finally:
        shutil.rmtree(new, ignore_errors=True)
    shutil.rmtree(old, ignore_errors=True)
    sync_directory(state)
