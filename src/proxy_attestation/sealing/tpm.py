"""A secret that a TPM 2.0 gives back only while its PCRs have the values that they had.

TPM 2.0 Library, Part 3: TPM2_Create of a KEYEDHASH object under a storage key of the owner hierarchy, its policy
TPM2_PolicyPCR over the SHA-256 bank; TPM2_Unseal in a session that satisfies it. The object's two parts stand in one
file: "PATPM1" and two zero bytes, LP(TPM2B_PUBLIC), LP(TPM2B_PRIVATE), LP = u32 big-endian length, then the bytes. Only
that TPM can load it, and its authorisation is the policy alone (no USERWITHAUTH).

What a TPM seals, it gives to whoever runs on the machine in that state: the PCRs must cover what booted and what may
run. The TSS's binding is imported only here.
"""

import importlib
from typing import Any, Final

from proxy_attestation.codes import Code
from proxy_attestation.errors import ConfigurationError, UnavailableError

SECRET_BYTES: Final = 32
BLOB_MAX: Final = 4096

_MAGIC: Final = b"PATPM1\0\0"
_PCRS: Final = 24


class TpmSecret:
    """Makes and opens sealed secrets on one TPM."""

    def __init__(self, pcrs: tuple[int, ...], tcti: str) -> None:
        """Say where.

        Args:
            pcrs: which must have the values of the time of sealing: some of 0 to 23, sorted.
            tcti: the TSS's name of the TPM, such as `device:/dev/tpmrm0`.

        Raises:
            ConfigurationError: `configuration.malformed`, for other PCRs.
        """
        if not pcrs or list(pcrs) != sorted(set(pcrs)) or not set(pcrs) <= set(range(_PCRS)):
            raise ConfigurationError(Code.CONFIGURATION_MALFORMED, f"PCRs {pcrs}: some of 0 to 23, sorted, each once")
        self._pcrs = pcrs
        self._tcti = tcti

    def seal(self, secret: bytes) -> bytes:
        """Return the object that holds a secret of 32 bytes, for a file.

        Raises:
            UnavailableError: `keys.unavailable`.
        """

        def work(tss: Any, esys: Any, parent: Any) -> bytes:
            policy = self._session(tss, esys, tss.TPM2_SE.TRIAL)
            digest = esys.policy_get_digest(policy)
            esys.flush_context(policy)
            public = tss.TPM2B_PUBLIC(
                publicArea=tss.TPMT_PUBLIC(
                    type=tss.TPM2_ALG.KEYEDHASH,
                    nameAlg=tss.TPM2_ALG.SHA256,
                    objectAttributes=tss.TPMA_OBJECT.FIXEDTPM | tss.TPMA_OBJECT.FIXEDPARENT | tss.TPMA_OBJECT.NODA,
                    authPolicy=digest,
                )
            )
            public.publicArea.parameters.keyedHashDetail.scheme.scheme = tss.TPM2_ALG.NULL
            sensitive = tss.TPM2B_SENSITIVE_CREATE(tss.TPMS_SENSITIVE_CREATE(data=tss.TPM2B_SENSITIVE_DATA(secret)))
            private, made, *_ = esys.create(parent, sensitive, public)
            return _MAGIC + b"".join(len(part).to_bytes(4) + part for part in (made.marshal(), private.marshal()))

        return self._with_parent(work)

    def unseal(self, blob: bytes) -> bytes:
        """Return the secret that `seal` put into a blob.

        Raises:
            ConfigurationError: `keys.sealed`, when the blob is none, or another TPM's, or the PCRs have moved.
            UnavailableError: `keys.unavailable`, when the TPM does not answer.
        """
        parts = _parts(blob)

        def work(tss: Any, esys: Any, parent: Any) -> bytes:
            try:
                public, _ = tss.TPM2B_PUBLIC.unmarshal(parts[0])
                private, _ = tss.TPM2B_PRIVATE.unmarshal(parts[1])
                loaded = esys.load(parent, private, public)
            except tss.TSS2_Exception as error:
                raise ConfigurationError(Code.KEYS_SEALED, f"another TPM's, or changed: {error}") from error
            policy = self._session(tss, esys, tss.TPM2_SE.POLICY)
            try:
                return bytes(esys.unseal(loaded, session1=policy))
            except tss.TSS2_Exception as error:
                raise ConfigurationError(Code.KEYS_SEALED, f"PCRs {self._pcrs} have moved: {error}") from error
            finally:
                esys.flush_context(policy)
                esys.flush_context(loaded)

        return self._with_parent(work)

    def _session(self, tss: Any, esys: Any, kind: Any) -> Any:
        """Start a session that has seen the PCRs."""
        session = esys.start_auth_session(
            tss.ESYS_TR.NONE, tss.ESYS_TR.NONE, kind, tss.TPMT_SYM_DEF(algorithm=tss.TPM2_ALG.NULL), tss.TPM2_ALG.SHA256
        )
        selection = tss.TPML_PCR_SELECTION.parse(f"sha256:{','.join(map(str, self._pcrs))}")
        # An empty digest: the TPM takes the values that the PCRs have now.
        esys.policy_pcr(session, tss.TPM2B_DIGEST(), selection)
        return session

    def _with_parent(self, work: Any) -> bytes:
        try:
            tss = importlib.import_module("tpm2_pytss")
        except (ImportError, NotImplementedError) as error:
            detail = f"the TSS's binding is absent (install the extra `tpm`): {error}"
            raise UnavailableError(Code.KEYS_UNAVAILABLE, detail) from error
        try:
            with tss.ESAPI(self._tcti) as esys:
                attributes = tss.TPMA_OBJECT.RESTRICTED | tss.TPMA_OBJECT.DECRYPT | tss.TPMA_OBJECT.NODA
                attributes |= tss.TPMA_OBJECT.FIXEDTPM | tss.TPMA_OBJECT.FIXEDPARENT
                attributes |= tss.TPMA_OBJECT.SENSITIVEDATAORIGIN | tss.TPMA_OBJECT.USERWITHAUTH
                template = tss.TPM2B_PUBLIC.parse("ecc:aes128cfb", objectAttributes=attributes)
                parent, *_ = esys.create_primary(None, template, tss.ESYS_TR.OWNER)
                try:
                    found: bytes = work(tss, esys, parent)
                finally:
                    esys.flush_context(parent)
                return found
        except tss.TSS2_Exception as error:
            raise UnavailableError(Code.KEYS_UNAVAILABLE, f"TPM {self._tcti}: {error}") from error


def _parts(blob: bytes) -> list[bytes]:
    parts, at = [], len(_MAGIC)
    for _ in range(2):
        end = at + 4 + int.from_bytes(blob[at : at + 4])
        parts.append(blob[at + 4 : end])
        at = end
    if not blob.startswith(_MAGIC) or at != len(blob) or len(blob) > BLOB_MAX or not all(parts):
        raise ConfigurationError(Code.KEYS_SEALED, "not a secret that was sealed to a TPM")
    return parts
