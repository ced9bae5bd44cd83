"""What is expected of a proxy itself: an expectation file with further keys.

The keys are those of `expectation_file.py` that speak of code and platform, and of the proxy: `trust_domain`,
`root_pin`, `tee` with measurements, `tcb`, `advisories`, `simulated`, `policy_digest`. With a measurement come::

    signers = ["<vkey>", ...]       # whose signatures on the deployment statement count
    threshold = 2                   # how many of them must be there; all of them by default
    key_origin = ["tee"]            # where the proxy may keep its keys; the default

Without a measurement these three are refused: what cannot be checked must not look as if it were.
"""

import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from proxy_attestation.codes import Code
from proxy_attestation.errors import ConfigurationError, FormatError
from proxy_attestation.formats.bounds import EXPECTATION_FILE_MAX
from proxy_attestation.formats.deployment import REQUIRED
from proxy_attestation.formats.signed_note import Verifier, parse_vkey
from proxy_attestation.formats.tee import Tee
from proxy_attestation.relying_party.expectation import Expectation
from proxy_attestation.relying_party.expectation_file import ReadFile, expectation_of

SIGNERS_MAX: Final = 32
KEY_ORIGINS: Final = ("file", "pkcs11", "tee")
_OWN: Final = ("signers", "threshold", "key_origin")


@dataclass(frozen=True, slots=True)
class ProxyExpectation:
    """What a proxy must be.

    Attributes:
        code: trust domain, root pin, measurements, platform, policy.
        signers: whose signatures on the deployment statement count; different keys. None where no measurement is named.
        threshold: how many of them must be there.
        key_origins: where the proxy may keep its keys.
    """

    code: Expectation
    signers: tuple[Verifier, ...] = ()
    threshold: int = 0
    key_origins: tuple[str, ...] = ()

    @property
    def attested(self) -> bool:
        """Whether a measurement is named, and so evidence and statement are demanded."""
        return self.code.names_code


def load_proxy_expectation(path: Path) -> ProxyExpectation:
    """Read a file.

    Raises:
        ConfigurationError: `configuration.malformed`.
    """
    try:
        with path.open("rb") as file:
            data = file.read(EXPECTATION_FILE_MAX + 1)
        return parse_proxy_expectation(data, lambda name: (path.parent / name).read_bytes())
    except OSError as error:
        raise ConfigurationError(Code.CONFIGURATION_MALFORMED, f"{path}: cannot be read: {error}") from error
    except ConfigurationError as error:
        raise ConfigurationError(error.code, f"{path}: {error.detail}") from error


def parse_proxy_expectation(data: bytes, read_file: ReadFile) -> ProxyExpectation:
    """Read an expectation of a proxy.

    Args:
        data: TOML in UTF-8.
        read_file: as in `expectation_file.parse_expectation`.

    Raises:
        ConfigurationError: `configuration.malformed`, also where a measurement is named and no signer, or not enough
            measurements to tell one proxy from other code.
    """
    if len(data) > EXPECTATION_FILE_MAX:
        raise _malformed(f"more than {EXPECTATION_FILE_MAX} bytes")
    try:
        values = tomllib.loads(data.decode())
    except (ValueError, RecursionError) as error:
        raise _malformed(f"not TOML: {error}") from error
    own = {key: values.pop(key) for key in _OWN if key in values}
    code = expectation_of(values, read_file)
    if not code.names_code:
        if own or code.of_body:
            raise _malformed(f"{next(iter(own), code.of_body[:1])}: goes with a measurement that tells code from code")
        return ProxyExpectation(code)
    _check_code(code)
    signers = _signers(own.get("signers"))
    threshold = own.get("threshold", len(signers))
    if type(threshold) is not int or not 0 < threshold <= len(signers):
        raise _malformed(f"threshold: a number from 1 to {len(signers)}, which is how many signers there are")
    origins = own.get("key_origin", ["tee"])
    if not isinstance(origins, list) or not origins or not all(origin in KEY_ORIGINS for origin in origins):
        raise _malformed(f"key_origin: a list of some of {', '.join(KEY_ORIGINS)}")
    return ProxyExpectation(code, signers, threshold, tuple(origins))


def _check_code(code: Expectation) -> None:
    if code.tee is None or code.tee is Tee.TPM:
        raise _malformed("tee: a proxy's evidence is of sgx, tdx, snp or nitro")
    named = {name for name, _ in code.measurements}
    if not REQUIRED[code.tee] <= named and not code.mr_signer:
        raise _malformed(f"a proxy in {code.tee} is told by {', '.join(sorted(REQUIRED[code.tee]))}")
    if code.workload is not None or code.application or code.owners or any(code.names.readable()):
        raise _malformed("workload, application, owner and names are a workload's, and no proxy has them")


def _signers(value: Any) -> tuple[Verifier, ...]:
    if not isinstance(value, list) or not 0 < len(value) <= SIGNERS_MAX:
        raise _malformed(f"signers: with a measurement, a list of 1 to {SIGNERS_MAX} vkeys")
    try:
        signers = tuple(parse_vkey(text if isinstance(text, str) else "") for text in value)
    except FormatError as error:
        raise _malformed(f"signers: {error.detail}") from error
    if len({signer.public_key for signer in signers}) != len(signers):
        raise _malformed("signers: one key twice")
    return signers


def _malformed(detail: str) -> ConfigurationError:
    return ConfigurationError(Code.CONFIGURATION_MALFORMED, detail)
