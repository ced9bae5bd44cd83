"""Evidence from a TPM 2.0, through the TSS (tpm2-tss and its Python binding `tpm2-pytss`, the extra `tpm`).

How a workload is enrolled:

  1  ask for a challenge with `certificates[0]` (the EK's) and `ak_public`
  2  `activate` the blob that comes instead of a nonce: what is inside is the nonce
  3  `make_key`: the subject's key, made in the TPM; `sign` signs the request, and `TpmSigner` handshakes
  4  `attest` with SHA-256 of the binder: quote and certification, both with it as qualifying data

The AK is a primary key of the endorsement hierarchy: the same at each start, and with the reset and restart counts as
they are. The TPM's authorisations are empty ones, as in virtual machines; the process needs the device (group `tss`).
The TSS writes its own messages to standard error: `TSS2_LOG=all+none` in the environment silences it.
"""

import hashlib
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any, Final, Self

from proxy_attestation.attester.model import unavailable
from proxy_attestation.attester.tss import DEVICE, KeyBlob, binding, parent_of_keys, sign_with, template
from proxy_attestation.codes import Code
from proxy_attestation.errors import FormatError
from proxy_attestation.formats.binary import Reader
from proxy_attestation.formats.tpm import decode_attest, decode_public, spki_of
from proxy_attestation.formats.tpm_codes import ST_QUOTE
from proxy_attestation.formats.tpm_evidence import Parts, encode_tpm

EK_KINDS: Final = ("EK-RSA2048", "EK-ECC256", "EK-HIGH-ECC384")
"""Templates of the TCG EK Credential Profile, in the order in which they are looked for."""
QUALIFYING_BYTES: Final = 32
# Attributes beside those, and the kind of key.
_AK: Final = ("SIGN_ENCRYPT RESTRICTED", "ecc256:ecdsa-sha256:null")
_KEY: Final = ("SIGN_ENCRYPT", "ecc256:null:null")
_TRIES: Final = 3
_BLOB_MAX: Final = 1024


class TpmDevice:
    """One TPM: its EK, an AK beside it, and at most one subject's key. Calls block; use it from one thread.

    Attributes:
        certificates: DER; the EK's certificate as its NV index holds it. Issuers are the operator's to add.
        ak_public: TPMT_PUBLIC of the AK.
    """

    def __init__(self, tcti: str = DEVICE, ek_kinds: Sequence[str] = EK_KINDS) -> None:
        """Open the TPM, find an EK with a certificate, and make the AK.

        Args:
            tcti: how the TSS reaches the TPM.
            ek_kinds: which EKs to look for, in this order.

        Raises:
            UnavailableError: `attester.unavailable`.
        """
        self._tss, self._utils = binding()
        self._key: Any = None
        try:
            self._esys: Any = self._tss.ESAPI(tcti)
            certificate, self._ek_template = self._endorsement_key(ek_kinds)
            self._ak, self._ak_area = self._primary(self._tss.ESYS_TR.ENDORSEMENT, template(self._tss, *_AK))
        except self._tss.TSS2_Exception as error:
            raise unavailable(f"the TPM does not answer as it should: {error}") from error
        self.certificates: Final = (certificate,)
        self.ak_public: Final = bytes(self._ak_area.publicArea.marshal())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Forget what was loaded, and let the TPM go."""
        for handle in (self._key, self._ak):
            if handle is not None:
                self._esys.flush_context(handle)
        self._esys.close()

    def activate(self, blob: bytes) -> bytes:
        """Return the secret in a credential that was made for this EK and this AK (`formats.tpm_credential`).

        Raises:
            UnavailableError: `attester.unavailable`, for a blob that is not for them.
        """
        reader = Reader(blob, Code.ATTESTER_UNAVAILABLE)
        try:
            identity, secret = reader.sized(_BLOB_MAX), reader.sized(_BLOB_MAX)
            reader.end()
        except FormatError as error:
            raise unavailable("a credential that is none") from error
        tss, none = self._tss, self._tss.ESYS_TR.NONE
        try:
            # Made anew: a TPM holds three objects at a time where no resource manager stands before it.
            ek, area = self._primary(tss.ESYS_TR.ENDORSEMENT, self._ek_template)
            session = tss.ESYS_TR.PASSWORD
            try:
                if not area.publicArea.objectAttributes & tss.TPMA_OBJECT.USERWITHAUTH:
                    # The policy of the low-range EK templates: PolicySecret of the endorsement hierarchy.
                    hashed = area.publicArea.nameAlg
                    session = self._esys.start_auth_session(none, none, tss.TPM2_SE.POLICY, "null", hashed)
                    self._esys.policy_secret(tss.ESYS_TR.ENDORSEMENT, session, expiration=0)
                found = self._esys.activate_credential(
                    self._ak,
                    ek,
                    tss.TPM2B_ID_OBJECT(credential=identity),
                    tss.TPM2B_ENCRYPTED_SECRET(secret=secret),
                    session2=session,
                )
            finally:
                if session != tss.ESYS_TR.PASSWORD:
                    self._esys.flush_context(session)
                self._esys.flush_context(ek)
        except tss.TSS2_Exception as error:
            raise unavailable(f"the TPM does not open the credential: {error}") from error
        return bytes(found)

    def make_key(self) -> bytes:
        """Make a new subject's key in the TPM, P-256, in place of the last one.

        Returns:
            Its SubjectPublicKeyInfo, DER.

        Raises:
            UnavailableError: `attester.unavailable`.
        """
        try:
            if self._key is not None:
                self._esys.flush_context(self._key)
                self._key = None
            with parent_of_keys(self._tss, self._esys) as parent:
                private, public, *_ = self._esys.create(parent, None, template(self._tss, *_KEY))
                self._key = self._esys.load(parent, private, public)
        except self._tss.TSS2_Exception as error:
            raise unavailable(f"the TPM makes no key: {error}") from error
        self._key_area = public
        self._key_private = private
        return spki_of(decode_public(bytes(public.publicArea.marshal())).key)

    def sign(self, digest: bytes) -> bytes:
        """Sign 32 bytes, a SHA-256 digest, with the subject's key: ECDSA, DER.

        Raises:
            UnavailableError: `attester.unavailable`.
        """
        try:
            return sign_with(self._tss, self._esys, self._key, self.key, digest)
        except self._tss.TSS2_Exception as error:
            raise unavailable(f"the TPM does not sign: {error}") from error

    @property
    def key(self) -> KeyBlob:
        """The subject's key as this TPM, and no other, can load it again."""
        return KeyBlob(self._key_private, self._key_area)

    def attest(self, qualifying: bytes, pcrs: Mapping[str, Sequence[int]]) -> bytes:
        """Return the evidence record (`formats.tpm_evidence`): a quote, and the certification of the subject's key.

        Args:
            qualifying: exactly 32 bytes, SHA-256 of the binder.
            pcrs: the registers to quote, by bank, such as ``{"sha256": range(8)}``.

        Raises:
            UnavailableError: `attester.unavailable`.
        """
        if len(qualifying) != QUALIFYING_BYTES:
            raise unavailable(f"qualifying data of {len(qualifying)} bytes")
        selection = "+".join(f"{bank}:{','.join(map(str, sorted(chosen)))}" for bank, chosen in pcrs.items())
        try:
            quote, signature, values = self._quote(selection, qualifying)
            certified: dict[str, bytes] = {}
            if self._key is not None:
                scheme = self._tss.TPMT_SIG_SCHEME(scheme=self._tss.TPM2_ALG.NULL)
                statement, by_ak = self._esys.certify(self._key, self._ak, qualifying, scheme)
                certified = {
                    "certify": bytes(statement),
                    "certify_signature": bytes(by_ak.marshal()),
                    "key": bytes(self._key_area.publicArea.marshal()),
                }
        except self._tss.TSS2_Exception as error:
            raise unavailable(f"the TPM does not attest: {error}") from error
        return encode_tpm(Parts(quote, signature, self.ak_public, values, **certified))

    def _quote(self, selection: str, qualifying: bytes) -> tuple[bytes, bytes, tuple[bytes, ...]]:
        """Quote, with values that are the quoted ones: a register may be extended between reading and quoting."""
        for _ in range(_TRIES):
            values = self._values(selection)
            attest, signature = self._esys.quote(self._ak, selection, qualifying)
            quote = decode_attest(bytes(attest), ST_QUOTE)
            if hashlib.sha256(b"".join(values)).digest() == quote.pcr_digest:
                return quote.data, bytes(signature.marshal()), values
        raise unavailable("the PCRs change faster than they can be quoted")

    def _values(self, selection: str) -> tuple[bytes, ...]:
        """Read registers one by one: a TPM returns at most eight at a time, in an order of banks of its own."""
        found = []
        for bank in selection.split("+"):
            name, _, indexes = bank.partition(":")
            for index in indexes.split(","):
                _, _, digests = self._esys.pcr_read(f"{name}:{index}")
                found += [bytes(digest) for digest in digests]
        return tuple(found)

    def _endorsement_key(self, kinds: Sequence[str]) -> tuple[bytes, Any]:
        """Return the EK's certificate, and the template that makes the EK again."""
        for kind in kinds:
            try:
                certificate, template = self._utils.create_ek_template(kind, self._utils.NVReadEK(self._esys))
            except ValueError:  # no certificate of a kind that is good for nothing without one
                continue
            if certificate:
                return bytes(certificate), template
        raise unavailable("the TPM has no EK certificate")

    def _primary(self, hierarchy: Any, template: Any) -> tuple[Any, Any]:
        handle, public, *_ = self._esys.create_primary(None, template, hierarchy)
        return handle, public
