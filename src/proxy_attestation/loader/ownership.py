"""What this loader shows to get, and to keep, the names of an entry that one instance holds at a time.

At first a token or a tenant's grant, where the configuration has one; at each renewal a signature over the new binder
by the key of the last certificate. That key is in this process (or its TPM) alone: a loader that is started anew needs
a new token or grant.

A certificate whose answer was lost may have been issued, and then its key is the last one. So the keys of attempts that
did not end in a verdict are kept, and the next attempts are signed with all of them; the proxy looks for the one.
"""

import asyncio
import contextlib
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final, NamedTuple

from cryptography.hazmat.primitives.asymmetric import ec

from proxy_attestation.codes import Code
from proxy_attestation.errors import FormatError, PeerError, ProxyAttestationError, RefusedError, UnavailableError
from proxy_attestation.formats.csr import spki_of
from proxy_attestation.formats.owner_proof import (
    PROOF_MAX,
    RENEWALS_MAX,
    Grant,
    OwnerProof,
    TokenProof,
    encode_proof,
    parse_grant,
    parse_token,
    prove_renewal,
    prove_token,
)
from proxy_attestation.loader.credential import Credential
from proxy_attestation.loader.proxy_client import Timing
from proxy_attestation.loader.report import Report
from proxy_attestation.v1 import proxy_attestation_pb2 as v1

GRANT_WAIT: Final = timedelta(minutes=10)
"""How long one key waits for its grant in a file; the next attempt has another key."""
COMMAND_S: Final = 60.0
_POLL_S: Final = 1.0
_END_S: Final = 5.0
_NEEDS_TOKEN: Final = frozenset(
    {Code.POLICY_OWNER, Code.OWNER_EXPIRED, Code.OWNER_TOKEN, Code.OWNER_TOKEN_ENTRY, Code.OWNER_TOKEN_EXPIRED,
     Code.OWNER_TOKEN_SPENT}
)  # fmt: skip
_NEEDS_RELEASE: Final = {
    Code.POLICY_OWNER_HELD: "another instance holds the names of {}, or this one lost the key of its last certificate",
    Code.OWNER_MACHINE: "another machine claimed the names of {}",
    Code.OWNER_REVOKED: "the last certificate for the names of {} was revoked",
}


@dataclass(frozen=True, slots=True)
class OwnerConfig:
    """Where proofs come from; at most one of them.

    Attributes:
        token_file: holds a token; read whenever a name has to be claimed.
        grant_file: where the tenant's grant for the loader's new key will appear.
        grant_command: program (absolute path) and arguments that print it; `{spki_sha256}`, `{workload}` and
            `{trust_domain}` in them are replaced.
    """

    token_file: Path | None = None
    grant_file: Path | None = None
    grant_command: tuple[str, ...] = ()

    @property
    def kind(self) -> str:
        """The kind of owner that this is for, or nothing."""
        if self.token_file is not None:
            return "enrolment"
        return "tenant_key" if self.grant_file is not None or self.grant_command else ""


class Claimant(NamedTuple):
    """Who wants a certificate: the new key's SPKI (DER), the entry, the proxy's trust domain."""

    spki: bytes
    workload: str
    trust_domain: str


class Ownership:
    """One loader's proofs."""

    def __init__(self, config: OwnerConfig, report: Report) -> None:
        self._config = config
        self._report = report
        self._last: Credential | None = None
        self._unsure: list[ec.EllipticCurvePrivateKey] = []
        self._sent: bytes | None = None
        self._used: bytes | None = None

    async def grant(self, claimant: Claimant, timing: Timing) -> Grant | None:
        """Return the tenant's grant for a new key, where the names have to be claimed with one.

        Raises:
            FormatError: `owner.malformed`.
            UnavailableError: `owner.needed`.
        """
        config = self._config
        if self._holds(timing.clock()) or (config.grant_file is None and not config.grant_command):
            return None
        digest = hashlib.sha256(claimant.spki).digest()
        if config.grant_file is None:
            return parse_grant(await _run(config.grant_command, claimant))
        self._report.event(
            "grant_needed",
            f"waiting for a grant in {config.grant_file}: proxy-attestation owner grant --key TENANT.key "
            f"--trust-domain {claimant.trust_domain} --entry {claimant.workload} --spki-sha256 {digest.hex()}",
            spki_sha256=digest.hex(),
            workload=claimant.workload,
            trust_domain=claimant.trust_domain,
        )
        end = timing.clock() + GRANT_WAIT
        while timing.clock() < end:
            text = await asyncio.to_thread(_read, config.grant_file)
            # One for an earlier key, or half of one, may still stand there.
            with contextlib.suppress(FormatError):
                grant = parse_grant(text)
                if grant.spki_sha256 == digest:
                    return grant
            await timing.sleep(_POLL_S)
        raise UnavailableError(Code.OWNER_NEEDED, f"no grant for {digest.hex()} in {config.grant_file}")

    def prove(self, report_data: bytes, grant: Grant | None, now: datetime) -> v1.OwnerProof | None:
        """Return what to send with a request; None where there is nothing to show. It may sign in a TPM, and blocks.

        Args:
            report_data: SHA-512 of the binder, 64 bytes.
            grant: the tenant's, or None.
            now: UTC.

        Raises:
            FormatError: `owner.malformed`, for a file that holds no token.
            UnavailableError: `owner.needed`, where there is no token and nothing else; `attester.unavailable`.
        """
        last = [] if self._last is None else [self._last.key]
        renewals = tuple(prove_renewal(key, spki_of(key.public_key()), report_data) for key in last + self._unsure)
        token = None if self._holds(now) else self._token(report_data, needed=not renewals)
        proof = OwnerProof(token, grant, renewals)
        if proof == OwnerProof():
            return None
        return v1.OwnerProof(kind=self._config.kind, proof=encode_proof(proof))

    @contextlib.contextmanager
    def attempt(self, key: ec.EllipticCurvePrivateKey) -> Iterator[None]:
        """Remember the key of a request that is sent now, unless it ends in a verdict of the proxy's."""
        self._unsure.append(key)
        del self._unsure[: -(RENEWALS_MAX - 1)]
        try:
            yield
        except RefusedError as error:
            # A verdict on a challenge that has ended says nothing of an answer before it.
            if not isinstance(error, PeerError) and not error.code.startswith("challenge."):
                self._unsure = [other for other in self._unsure if other is not key]
            raise

    def issued(self, credential: Credential) -> None:
        """Note the certificate that is there now: it is what the next renewal rests on."""
        owned = credential.claims.owner in ("enrolment", "tenant_key", "first_use")
        self._last = credential if owned else None
        self._unsure.clear()
        self._used = self._sent or self._used

    def needed(self, error: ProxyAttestationError, workload: str) -> str | None:
        """Return what somebody has to do so that an error about owners goes away; None for any other error."""
        if error.code in _NEEDS_RELEASE:
            return (
                f"{_NEEDS_RELEASE[error.code].format(workload)}: wait until its last certificate has expired, or "
                f"`proxy-attestation owner release STATE {workload}`; then claim them with a new token or grant"
            )
        if error.code in _NEEDS_TOKEN and self._config.kind != "tenant_key":
            place = self._config.token_file or "a file that [owner] token_file names"
            return f"a new token is needed: `proxy-attestation owner token STATE {workload}`, into {place}"
        if error.code in _NEEDS_TOKEN or error.code.startswith("owner.grant"):
            return "a new grant by the tenant's key is needed, for the key that the loader shows at its next attempt"
        return None

    def _holds(self, now: datetime) -> bool:
        return self._last is not None and now <= self._last.not_after

    def _token(self, report_data: bytes, *, needed: bool) -> TokenProof | None:
        path = self._config.token_file
        if path is None:
            return None
        text = _read(path)
        token = parse_token(text) if text.strip() else None
        if token is not None and token.token_id != self._used:
            self._sent = token.token_id
            return prove_token(token, report_data)
        if needed:
            raise UnavailableError(Code.OWNER_NEEDED, f"{path} holds no token that was not used")
        return None


def _read(path: Path) -> str:
    """Return what a file holds; nothing where there is none."""
    try:
        with path.open("rb") as file:
            return file.read(PROOF_MAX * 2).decode("ascii", "replace")
    except FileNotFoundError:
        return ""
    except OSError as error:
        raise UnavailableError(Code.OWNER_NEEDED, f"{path}: {error.strerror}") from error


async def _run(command: tuple[str, ...], claimant: Claimant) -> str:
    """Run a command that prints a grant, with nothing of this process's environment."""
    values = {
        "{spki_sha256}": hashlib.sha256(claimant.spki).hexdigest(),
        "{workload}": claimant.workload,
        "{trust_domain}": claimant.trust_domain,
    }
    arguments = [command[0], *(_filled(argument, values) for argument in command[1:])]
    try:
        process = await asyncio.create_subprocess_exec(
            *arguments, stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, env={}
        )
    except OSError as error:
        raise UnavailableError(Code.OWNER_NEEDED, f"{command[0]}: {error.strerror}") from error
    assert process.stdout is not None  # noqa: S101 - it was asked for
    try:
        async with asyncio.timeout(COMMAND_S):
            output = await _all(process.stdout)
            status = await process.wait()
    except TimeoutError as error:
        raise UnavailableError(Code.OWNER_NEEDED, f"{command[0]} took longer than {COMMAND_S:.0f} s") from error
    finally:
        if process.returncode is None:
            process.kill()
            # Its end is noticed once its pipe is empty; what it has started itself may hold that open.
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_END_S):
                    while await process.stdout.read(PROOF_MAX):
                        pass
                    await process.wait()
    if status != 0:
        raise UnavailableError(Code.OWNER_NEEDED, f"{command[0]} ended with status {status}")
    return output.decode("ascii", "replace")


async def _all(stream: asyncio.StreamReader) -> bytes:
    try:
        await stream.readexactly(PROOF_MAX * 2)
    except asyncio.IncompleteReadError as error:
        return error.partial
    raise UnavailableError(Code.OWNER_NEEDED, "the command prints more than a grant")


def _filled(argument: str, values: dict[str, str]) -> str:
    for name, value in values.items():
        argument = argument.replace(name, value)
    return argument
