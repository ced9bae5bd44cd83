"""A TPM's enrolment against a stand-in for the TPM: what is asked, what is opened, what signs, what is sent beside."""

import hashlib
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from bindings import binding_of
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, utils

from proxy_attestation.attester import tpm_attester
from proxy_attestation.attester.model import Asked, unavailable
from proxy_attestation.attester.resident_key import ResidentKey
from proxy_attestation.attester.tpm_attester import TpmAttester, TpmOptions
from proxy_attestation.attester.tss import KeyBlob
from proxy_attestation.codes import Code
from proxy_attestation.errors import UnavailableError
from proxy_attestation.formats.bounds import EVENT_LOG_MAX
from proxy_attestation.formats.csr import build_csr, decode_csr, spki_of, verify_csr
from proxy_attestation.formats.evidence import Evidence
from proxy_attestation.formats.request import KeyOrigin
from proxy_attestation.formats.tee import Tee

TCTI = "device:/dev/nothing"
ISSUERS = (b"issuing", b"root")
DATA = b"\x01" * 64


class Tpm:
    """Stands for the device and the signer, and notes what is done to it."""

    certificates = (b"ek",)
    ak_public = b"ak"

    def __init__(self) -> None:
        self.opened = 0
        self.done: list[str] = []
        self.private: ec.EllipticCurvePrivateKey | None = None
        self.broken = False

    def open(self, tcti: str) -> "Tpm":
        assert tcti == TCTI
        if self.broken:
            raise unavailable("no TPM")
        self.opened += 1
        return self

    def signer(self, tcti: str) -> Any:
        assert tcti == TCTI

        class Signer:
            def sign(_, key: KeyBlob, digest: bytes) -> bytes:  # noqa: N805 - `self` is the TPM
                self.done.append("signer")
                return self._sign(key.private, digest)

        return Signer()

    def close(self) -> None:
        self.opened -= 1

    def activate(self, blob: bytes) -> bytes:
        return b"nonce of " + blob

    def make_key(self) -> bytes:
        self.private = ec.generate_private_key(ec.SECP256R1())
        return spki_of(self.private.public_key())

    @property
    def key(self) -> KeyBlob:
        return KeyBlob(self.private, None)

    def sign(self, digest: bytes) -> bytes:
        self.done.append("device")
        return self._sign(self.private, digest)

    def attest(self, qualifying: bytes, pcrs: Mapping[str, tuple[int, ...]]) -> bytes:
        kind = "resident" if self.private is not None else "software"
        return f"{kind} {qualifying.hex()} {dict(pcrs)}".encode()

    @staticmethod
    def _sign(private: Any, digest: bytes) -> bytes:
        made: bytes = private.sign(digest, ec.ECDSA(utils.Prehashed(hashes.SHA256())))
        return made


def attester(tpm: Tpm, tmp_path: Path, **options: Any) -> TpmAttester:
    options = {"ek_issuers": ISSUERS, **options}
    return TpmAttester(TpmOptions(**options), TCTI, event_log=tmp_path / "log", open_tpm=tpm.open, signer=tpm.signer)


def test_one_enrolment(tmp_path: Path) -> None:
    (tmp_path / "log").write_bytes(b"firmware")
    tpm = Tpm()
    source = attester(tpm, tmp_path)
    assert (source.tee, source.key_origin, tpm.opened) == (Tee.TPM, KeyOrigin.TPM, 0)
    with source.begin() as enrolment:
        assert tpm.opened == 1
        assert enrolment.asked == Asked(b"ek", ISSUERS, b"ak")
        assert enrolment.nonce(b"", b"blob") == b"nonce of blob"
        binding = binding_of(DATA)
        attested = enrolment.attest(binding)
        assert attested.event_log == b"firmware"
        registers = {"sha256": (0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 11, 12, 13, 14, 15)}
        record = f"resident {binding.digest.hex()} {registers}".encode()
        digest = hashlib.sha256(b"firmware").digest()
        assert attested.evidence == Evidence(Tee.TPM, record, (b"ek", *ISSUERS), digest)
        verify_csr(decode_csr(build_csr(enrolment.key, None)))
        assert tpm.done == ["device"]
    assert tpm.opened == 0
    # Handshakes are signed after the enrolment.
    key = enrolment.key
    assert isinstance(key, ResidentKey)
    key.public_key().verify(key.sign(b"later", ec.ECDSA(hashes.SHA256())), b"later", ec.ECDSA(hashes.SHA256()))
    assert tpm.done == ["device", "signer"]


def test_each_enrolment_has_a_new_key_and_what_was_chosen(tmp_path: Path) -> None:
    tpm = Tpm()
    source = attester(tpm, tmp_path, pcrs={"sha384": (7,)}, ek_issuers=())
    keys = set()
    for _ in range(2):
        with source.begin() as enrolment:
            keys.add(spki_of(enrolment.key.public_key()))
            attested = enrolment.attest(binding_of(DATA))
            assert attested.evidence.evidence.endswith(b"{'sha384': (7,)}")
            assert (attested.event_log, attested.evidence.event_log_sha256) == (None, None)
            assert attested.evidence.platform_certificates == (b"ek",)
    assert len(keys) == 2


def test_a_software_key_is_one_and_is_not_certified(tmp_path: Path) -> None:
    tpm = Tpm()
    source = attester(tpm, tmp_path, software_key=True)
    assert source.key_origin is KeyOrigin.SOFTWARE
    with source.begin() as enrolment:
        assert not isinstance(enrolment.key, ResidentKey)
        assert enrolment.attest(binding_of(DATA)).evidence.evidence.startswith(b"software")


def code_of(call: Any) -> Code:
    with pytest.raises(UnavailableError) as refused:
        call()
    return refused.value.code


def test_a_key_in_memory_never_stands_in_for_one_in_the_tpm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where OpenSSL cannot be given a key that signs elsewhere, there is no attester."""

    def refuse() -> None:
        raise unavailable("a static OpenSSL")

    monkeypatch.setattr(tpm_attester, "require_foreign_keys", refuse)
    assert code_of(lambda: attester(Tpm(), tmp_path)) is Code.ATTESTER_UNAVAILABLE
    attester(Tpm(), tmp_path, software_key=True)


def test_a_tpm_that_is_gone(tmp_path: Path) -> None:
    tpm = Tpm()
    source = attester(tpm, tmp_path)
    tpm.broken = True
    assert code_of(source.begin) is Code.ATTESTER_UNAVAILABLE
    assert code_of(lambda: attester(tpm, tmp_path)) is Code.ATTESTER_UNAVAILABLE


def test_a_key_that_cannot_be_made_leaves_the_tpm_closed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tpm = Tpm()
    source = attester(tpm, tmp_path)

    def fail() -> bytes:
        raise unavailable("full")

    monkeypatch.setattr(tpm, "make_key", fail)
    assert code_of(source.begin) is Code.ATTESTER_UNAVAILABLE
    assert tpm.opened == 0


def test_logs_that_cannot_be_sent(tmp_path: Path) -> None:
    source = attester(Tpm(), tmp_path)
    (tmp_path / "log").write_bytes(bytes(EVENT_LOG_MAX + 1))
    with source.begin() as enrolment:
        assert code_of(lambda: enrolment.attest(binding_of(DATA))) is Code.ATTESTER_UNAVAILABLE
        (tmp_path / "log").unlink()
        (tmp_path / "log").mkdir()
        assert code_of(lambda: enrolment.attest(binding_of(DATA))) is Code.ATTESTER_UNAVAILABLE


def test_a_resident_key_does_nothing_else() -> None:
    private = ec.generate_private_key(ec.SECP256R1())
    key = ResidentKey(private.public_key(), bytes)
    assert (key.key_size, key.curve.name) == (256, "secp256r1")
    plain = serialization.NoEncryption()
    refused: list[Callable[[], object]] = [
        partial(key.private_numbers),
        lambda: key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, plain),
        lambda: key.exchange(ec.ECDH(), private.public_key()),
        lambda: key.sign(b"x", ec.ECDSA(hashes.SHA384())),
        lambda: key.sign(bytes(32), ec.ECDSA(utils.Prehashed(hashes.SHA256()))),
    ]
    for call in refused:
        with pytest.raises(UnsupportedAlgorithm):
            call()
