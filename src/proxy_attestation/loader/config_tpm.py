"""Reads what the loader's file says of a TPM.

For instance::

    [tpm]
    ek_issuers = ["ek-issuing-ca.pem"]

    [tpm.pcrs]
    sha256 = [0, 1, 2, 3, 4, 5, 6, 7]

    [danger]
    software_key = true
"""

from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from proxy_attestation.attester.tpm_attester import PCRS, TpmOptions
from proxy_attestation.formats.bounds import CERTIFICATE_MAX, PLATFORM_CERTIFICATES_MAX
from proxy_attestation.formats.tee import Tee
from proxy_attestation.loader.config_table import FILE_MAX, Table

BANKS: Final = ("sha256", "sha384", "sha512")
_PCR_MAX: Final = 23
_FILES: Final = '["ek-issuing-ca.pem"]'
_NUMBERS: Final = "[0, 1, 2, 3, 4, 5, 6, 7]"


def tpm_options(top: Table, tee: Tee, base: Path) -> TpmOptions:
    """Read the tables `tpm` and `danger`.

    Args:
        top: the file.
        tee: the kind of evidence; both tables are for a TPM's alone.
        base: the directory that relative paths start from.

    Raises:
        ConfigurationError: `configuration.malformed`.
    """
    table, danger = top.table("tpm"), top.table("danger")
    for name in ("tpm", "danger"):
        if name in top and tee is not Tee.TPM:
            raise top.error(name, f"is for the evidence of a TPM, not of {tee}", f"remove [{name}]")
    options = TpmOptions(
        pcrs=_pcrs(table),
        ek_issuers=_issuers(table, base),
        software_key=danger.optional("software_key", bool, "true") or False,
    )
    danger.finish()
    table.finish()
    return options


def _pcrs(table: Table) -> dict[str, tuple[int, ...]]:
    chosen = table.table("pcrs")
    banks = {bank: chosen.numbers(bank, _NUMBERS, _PCR_MAX) for bank in BANKS if bank in chosen}
    chosen.finish()
    if "pcrs" in table and not banks:
        raise table.error("pcrs", "names no register", f"write sha256 = {_NUMBERS}")
    return banks or dict(PCRS)


def _issuers(table: Table, base: Path) -> tuple[bytes, ...]:
    found: list[bytes] = []
    for name in table.texts("ek_issuers", _FILES, PLATFORM_CERTIFICATES_MAX - 1):
        try:
            with (base / name).open("rb") as file:
                content = file.read(FILE_MAX + 1)
            found += [each.public_bytes(Encoding.DER) for each in x509.load_pem_x509_certificates(content)]
        except (OSError, ValueError) as error:
            raise table.error("ek_issuers", f"has a file without PEM certificates: {name}", "name others") from error
    if len(found) >= PLATFORM_CERTIFICATES_MAX or any(len(der) > CERTIFICATE_MAX for der in found):
        raise table.error(
            "ek_issuers",
            "has too many certificates, or too large ones",
            f"name files with {PLATFORM_CERTIFICATES_MAX - 1} certificates at most",
        )
    return tuple(found)
