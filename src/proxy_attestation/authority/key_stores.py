"""Where an authority's keys are, in one word that is fixed at `init`, and the store of each.

=====================  =======  =====================================================================================
`keys` in              origin   where
authority.toml
=====================  =======  =====================================================================================
``file``               file     PKCS#8 files: whoever can read the disk can mint
a PKCS#11 URI          pkcs11   in a token (`pkcs11_keys.py`)
``gramine``            tee      files sealed to this MRENCLAVE on this machine
``snp``                tee      files sealed to this measurement and policy on this machine's TCB
``tpm:0,2,4,7``        tee      files sealed to this TPM while these PCRs have the values that they had at `init`
=====================  =======  =====================================================================================

TDX and Nitro give no secret that would outlive the machine: there a root comes from a running proxy, or from shares.
"""

import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from proxy_attestation.authority.keys import Escrow, FileKeys, KeyStore
from proxy_attestation.authority.pkcs11_keys import TokenKeys, parse_uri
from proxy_attestation.authority.private_files import read_private, write_private
from proxy_attestation.authority.seal import Seal
from proxy_attestation.codes import Code
from proxy_attestation.errors import ConfigurationError
from proxy_attestation.sealing.gramine import gramine_secret
from proxy_attestation.sealing.snp import snp_secret
from proxy_attestation.sealing.tpm import BLOB_MAX, SECRET_BYTES, TpmSecret

FILE: Final = "file"
TPM_TCTI: Final = "device:/dev/tpmrm0"
TPM_TCTI_VARIABLE: Final = "PROXY_ATTESTATION_SEAL_TCTI"
"""Names another TPM than the kernel's resource manager; which one it is only decides whether anything opens."""

_TPM_BLOB: Final = "seal.tpm"
_TPM_FORM: Final = re.compile(r"tpm:((?:0|[1-9][0-9]?)(?:,(?:0|[1-9][0-9]?))*)\Z")
_SECRETS: Final[Mapping[str, Callable[[], bytes]]] = {"gramine": gramine_secret, "snp": snp_secret}


def origin_of(keys: str) -> str:
    """Return `file`, `pkcs11` or `tee`."""
    if keys == FILE:
        return FILE
    return TokenKeys.origin if keys.startswith("pkcs11:") else "tee"


def are_keys(keys: str) -> bool:
    """Tell whether this is one of the table's."""
    if keys == FILE or keys in _SECRETS:
        return True
    try:
        if keys.startswith("pkcs11:"):
            parse_uri(keys)
            return '"' not in keys and "\\" not in keys  # it stands in authority.toml as it is
        return _tpm(keys) is not None
    except ConfigurationError:
        return False


def make_store(keys: str, directory: Path, escrow: Escrow | None = None) -> KeyStore:
    """Begin the store of a new authority, in a directory without keys; `escrow` as of `FileKeys`.

    Raises:
        ConfigurationError: `configuration.malformed`, when `keys` is none of the table's.
        UnavailableError: `keys.unavailable`, when the TEE gives no secret.
        OSError: when a file cannot be written.
    """
    tpm = _tpm(keys)
    if tpm is not None:
        write_private(directory / _TPM_BLOB, tpm.seal(os.urandom(SECRET_BYTES)))
    return open_store(keys, directory, escrow)


def open_store(keys: str, directory: Path, escrow: Escrow | None = None) -> KeyStore:
    """Open the store of an authority; `escrow` as of `FileKeys`.

    Raises:
        ConfigurationError: `keys.sealed`, when the TPM does not open its blob; `authority.state`, when that is not
            there; `configuration.malformed`, when `keys` is none of the table's.
        UnavailableError: `keys.unavailable`, when the TEE gives no secret.
    """
    if keys == FILE:
        return FileKeys(directory, escrow=escrow)
    if keys in _SECRETS:
        return FileKeys(directory, Seal(_SECRETS[keys]()), escrow)
    tpm = _tpm(keys)
    if tpm is None:
        return TokenKeys(keys)
    path = directory / _TPM_BLOB
    try:
        blob = read_private(path, BLOB_MAX)
    except OSError as error:
        raise ConfigurationError(Code.AUTHORITY_STATE, f"{path}: {error.strerror}") from error
    return FileKeys(directory, Seal(tpm.unseal(blob)), escrow)


def _tpm(keys: str) -> TpmSecret | None:
    match = _TPM_FORM.match(keys)
    if match is None:
        return None
    return TpmSecret(tuple(map(int, match[1].split(","))), os.environ.get(TPM_TCTI_VARIABLE, TPM_TCTI))
