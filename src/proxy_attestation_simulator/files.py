"""Collateral and keys on disk."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Final

FILE_NAMES: Final = {
    "tcb_info": "tcb_info.json",
    "tcb_info_issuer_chain": "tcb_info_issuer_chain.pem",
    "qe_identity": "qe_identity.json",
    "qe_identity_issuer_chain": "qe_identity_issuer_chain.pem",
    "pck_crl": "pck_crl.der",
    "pck_crl_issuer_chain": "pck_crl_issuer_chain.pem",
    "root_ca_crl": "root_ca_crl.der",
}
"""The file of each piece of collateral."""


def write(path: Path, data: bytes, *, mode: int = 0o644) -> None:
    """Write a file so that a reader sees the old content or the new, never a part; make its directories."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
    temporary.replace(path)


def write_endorsements(pieces: Mapping[str, bytes], directory: Path) -> None:
    """Write a set of collateral, one file a piece, and remove the files of pieces that the set does not have."""
    for piece, file_name in FILE_NAMES.items():
        if piece in pieces:
            write(directory / file_name, pieces[piece])
        else:
            (directory / file_name).unlink(missing_ok=True)
