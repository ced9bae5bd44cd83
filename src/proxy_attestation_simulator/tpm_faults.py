"""Every way in which TPM evidence can be wrong, each one argument, with the code that it provokes.

    fault                       code
    trailing-byte               malformed
    attest-type                 attest_type
    magic                       attest_type
    certify-type                attest_type
    unknown-scheme              algorithm
    not-restricted              not_restricted
    ak-not-fixed                ak_attributes
    ak-imported                 ak_attributes
    ak-cannot-sign              ak_attributes
    ak-decrypts                 ak_attributes
    signed-by-another           signature
    missing-value               pcr_values
    changed-value               pcr_digest
    cut-log                     event_log_malformed
    other-log                   event_log
    certified-by-another        certify_signature
    certify-other-data          certify_binding
    certify-other-boot          certify_binding
    certify-other-name          certify_name
    key-not-fixed               key_attributes
    key-imported                key_attributes
    csr-other-key               key_mismatch
    no-trust                    ak_untrusted
    activated-another           ak_name
    activated-other-ek          ek_certificate
    sha1                        hash
    certificate-other-bytes     certificate_encoding
    certificate-forged          chain
    certificate-critical        chain
    certificate-other-san       chain
    root                        root
    expired                     expired
    ek-usage                    ek_certificate
    ek-no-usage                 ek_certificate
    ek-any-usage                ek_certificate
    ek-signs                    ek_certificate
    ek-is-ca                    ek_certificate
    ak-certificate-is-eks       ak_certificate
    padded-certificate          accepted
    no-aki                      accepted
    no-key                      accepted

`accepted` stands where a strict verifier has nothing to refuse.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any, Final

from cryptography.x509.oid import ExtendedKeyUsageOID, ObjectIdentifier

from proxy_attestation_simulator.faults import Registry
from proxy_attestation_simulator.tpm import BOOT, TpmRecipe, ak_certificate_recipe
from proxy_attestation_simulator.tpm_structures import AK_ATTRIBUTES, KEY_ATTRIBUTES, LogEvent

_OTHER: Final = b"another"
_FIXED_TPM, _ORIGIN, _RESTRICTED, _DECRYPT, _SIGN = 1 << 1, 1 << 5, 1 << 16, 1 << 17, 1 << 18
TPM_FAULTS: Final[Registry[TpmRecipe]] = Registry()


def _set(**fields: Any) -> Callable[[TpmRecipe, str], TpmRecipe]:
    return lambda recipe, _: replace(recipe, **fields)


def _certificate(**fields: Any) -> Callable[[TpmRecipe, str], TpmRecipe]:
    return lambda recipe, _: replace(recipe, certificate=replace(recipe.certificate, **fields))


def _eks_for_ak(recipe: TpmRecipe, _: str) -> TpmRecipe:
    return replace(ak_certificate_recipe(recipe), certificate=recipe.certificate)


def _another_log(_: bytes) -> bytes:
    return replace(BOOT, events=(*BOOT.events, LogEvent(4, 4, b"more"))).encode()


_CHANGES: Final = (
    ("trailing-byte", "a byte behind the TPMS_ATTEST", "malformed", _set(quote_tail=b"\0")),
    ("attest-type", "the quote is a time attestation", "attest_type", _set(quote_type=0x8019)),
    ("magic", "the quote does not begin with TPM_GENERATED", "attest_type", _set(magic=b"\xffTCH")),
    ("certify-type", "the certification is of a creation", "attest_type", _set(certify_type=0x801A)),
    ("unknown-scheme", "the quote is signed by an unknown scheme", "algorithm", _set(parts={2: b"\x12\x34\0\x0b\0\0"})),
    ("not-restricted", "the AK signs anything", "not_restricted", _set(ak_attributes=AK_ATTRIBUTES & ~_RESTRICTED)),
    ("ak-not-fixed", "the AK may leave its TPM", "ak_attributes", _set(ak_attributes=AK_ATTRIBUTES & ~_FIXED_TPM)),
    ("ak-imported", "the AK was made elsewhere", "ak_attributes", _set(ak_attributes=AK_ATTRIBUTES & ~_ORIGIN)),
    ("ak-cannot-sign", "the AK does not sign", "ak_attributes", _set(ak_attributes=AK_ATTRIBUTES & ~_SIGN)),
    ("ak-decrypts", "the AK decrypts too", "ak_attributes", _set(ak_attributes=AK_ATTRIBUTES | _DECRYPT)),
    ("signed-by-another", "another key signed the quote", "signature", _set(signed_by=_OTHER)),
    ("missing-value", "a PCR value is missing", "pcr_values", _set(parts={4: [bytes(32)] * 7})),
    ("changed-value", "PCR 4 is shown as zero", "pcr_digest", _set(shown={4: bytes(32)})),
    ("cut-log", "the log ends within an event", "event_log_malformed", _set(log_bytes=lambda log: log[:-1])),
    ("other-log", "the log has an event that was never extended", "event_log", _set(log_bytes=_another_log)),
    ("certified-by-another", "another key certified", "certify_signature", _set(certify_signed_by=_OTHER)),
    ("certify-other-data", "other qualifying data", "certify_binding", _set(certify_extra=bytes(32))),
    ("certify-other-boot", "certified before a reset", "certify_binding", _set(certify_resets=2)),
    ("certify-other-name", "another key's name", "certify_name", _set(certify_name=b"\0\x0b" + bytes(32))),
    ("key-not-fixed", "the key may leave", "key_attributes", _set(key_attributes=KEY_ATTRIBUTES & ~_FIXED_TPM)),
    ("key-imported", "the key was made elsewhere", "key_attributes", _set(key_attributes=KEY_ATTRIBUTES & ~_ORIGIN)),
    ("csr-other-key", "a certificate for another key", "key_mismatch", _set(csr_secret=_OTHER)),
    ("no-trust", "nothing vouches for the AK", "ak_untrusted", _set(way="none")),
    ("activated-another", "a credential for another AK", "ak_name", _set(activated_name=b"\0\x0b" + bytes(32))),
    ("activated-other-ek", "a credential for another EK", "ek_certificate", _set(activated_ek=_OTHER)),
    ("sha1", "everything is signed over SHA-1", "hash", _set(hash="sha1")),
    ("certificate-other-bytes", "other bytes behind it", "certificate_encoding", _certificate(padding=b"\x01")),
    ("certificate-forged", "nobody's signature", "chain", _certificate(forged=True)),
    (
        "certificate-critical",
        "an unknown critical extension",
        "chain",
        _certificate(critical=ObjectIdentifier("1.3.6.1.4.1.0.1")),
    ),
    ("certificate-other-san", "a critical SAN of something else", "chain", _certificate(tpm_name={"2.5.4.3": "TPM"})),
    ("root", "a CA of the same names with other keys", "root", _set(root_secret=_OTHER)),
    ("expired", "the certificate ended", "expired", _certificate(days=0)),
    ("ek-usage", "for TLS clients", "ek_certificate", _certificate(usage=ExtendedKeyUsageOID.CLIENT_AUTH)),
    ("ek-no-usage", "no extended key usage", "ek_certificate", _certificate(usage=None)),
    ("ek-any-usage", "for any usage too", "ek_certificate", _certificate(any_usage=True)),
    ("ek-signs", "key usage digitalSignature", "ek_certificate", _certificate(encrypts=False, signs=True)),
    ("ek-is-ca", "a CA's", "ek_certificate", _certificate(is_ca=True)),
    ("ak-certificate-is-eks", "the AK has a certificate of an EK", "ak_certificate", _eks_for_ak),
    ("padded-certificate", "zero bytes behind it, as in NV", "accepted", _certificate(padding=bytes(64))),
    ("no-aki", "no authority key identifier", "accepted", _certificate(aki=False)),
    ("no-key", "no certification of a key", "accepted", _set(with_key=False)),
)
for _name, _doc, _code, _apply in _CHANGES:
    TPM_FAULTS.add(_name, _doc, _code, _apply, tees=("tpm",))
