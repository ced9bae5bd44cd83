"""The TPM path for real: swtpm, the TSS, an EK certificate of a local CA, MakeCredential, quote and certification."""

import hashlib
import importlib
import secrets
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_der_public_key
from swtpm_marks import needs_swtpm

from proxy_attestation.appraisal.tpm import Activation, TpmEndorsements, TpmResult, appraise_tpm
from proxy_attestation.appraisal.tpm_chain import Purpose, TpmRoots, verify_tpm_chain
from proxy_attestation.attester.tpm import TpmDevice
from proxy_attestation.codes import Code
from proxy_attestation.errors import AppraisalError, UnavailableError
from proxy_attestation.formats.tpm import decode_public, decode_signature, spki_of
from proxy_attestation.formats.tpm_credential import RANDOM_BYTES, make_credential
from proxy_attestation.formats.tpm_evidence import TpmEvidence, decode_tpm
from proxy_attestation_simulator.swtpm import Manufacturer, Swtpm
from proxy_attestation_simulator.tpm import SoftwareTpm, TpmVendor

# The local CA stamps its certificates by the machine's clock: a day later they are all valid.
NOW = datetime.now(UTC) + timedelta(days=1)
PCRS = {"sha256": range(10)}

pytestmark = needs_swtpm


class Proxy:
    """What the service does with a TPM: a challenge in a blob, then an appraisal with that activation."""

    def __init__(self, roots: TpmRoots) -> None:
        self.roots = roots
        self.nonce = secrets.token_bytes(32)

    def challenge(self, certificates: tuple[bytes, ...], ak_public: bytes) -> tuple[bytes, Activation]:
        chain = verify_tpm_chain(certificates, Purpose.EK, self.roots, NOW)
        ak = decode_public(ak_public)
        blob = make_credential(chain.key, ak.name, self.nonce, secrets.token_bytes(RANDOM_BYTES))
        assert self.nonce not in blob
        return blob, Activation(ak.name, hashlib.sha256(spki_of(chain.key)).digest())

    def appraise(
        self, evidence: TpmEvidence, certificates: tuple[bytes, ...], activation: Activation | None, spki: bytes | None
    ) -> TpmResult:
        return appraise_tpm(evidence, TpmEndorsements(certificates, activation), self.roots, NOW, csr_spki=spki)


def binder(nonce: bytes, spki: bytes) -> bytes:
    return hashlib.sha256(b"test binder" + nonce + spki).digest()


@pytest.fixture(autouse=True)
def silent_tss(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TSS2_LOG", "all+none")


@pytest.fixture(scope="module")
def manufacturer(tmp_path_factory: pytest.TempPathFactory) -> Manufacturer:
    # A Unix socket's path has at most 107 bytes.
    return Manufacturer(tmp_path_factory.mktemp("tpm"))


@pytest.fixture(scope="module")
def tpm(manufacturer: Manufacturer) -> Iterator[Swtpm]:
    made = manufacturer.make()
    yield made
    made.stop()


@pytest.fixture(scope="module")
def other(manufacturer: Manufacturer) -> Iterator[Swtpm]:
    made = manufacturer.make()
    yield made
    made.stop()


@pytest.fixture
def proxy(manufacturer: Manufacturer, tpm: Swtpm) -> Proxy:  # noqa: ARG001 - the CA exists once it made a TPM
    return Proxy(manufacturer.roots)


def code_of(call: Callable[[], object]) -> Code:
    with pytest.raises(AppraisalError) as refused:
        call()
    return refused.value.code


def enrol(proxy: Proxy, device: TpmDevice) -> tuple[TpmEvidence, Activation, bytes]:
    blob, activation = proxy.challenge(device.certificates, device.ak_public)
    nonce = device.activate(blob)
    assert nonce == proxy.nonce
    spki = device.make_key()
    return decode_tpm(device.attest(binder(nonce, spki), PCRS)), activation, spki


@pytest.mark.parametrize("kind", ["EK-RSA2048", "EK-HIGH-ECC384"])
def test_enrolment_and_renewal(proxy: Proxy, tpm: Swtpm, kind: str) -> None:
    with tpm.device(kind) as device:
        evidence, activation, spki = enrol(proxy, device)
        result = proxy.appraise(evidence, device.certificates, activation, spki)
        assert result.bound == (binder(proxy.nonce, spki),) * 2
        assert (result.certified_spki, result.body.key_certified, result.body.ak_trust) == (spki, True, "activation")
        assert result.body.quirks == ("critical_san",)
        key = load_der_public_key(spki)
        assert isinstance(key, ec.EllipticCurvePublicKey)
        key.verify(device.sign(hashlib.sha256(b"request").digest()), b"request", ec.ECDSA(hashes.SHA256()))

        again = Proxy(proxy.roots)
        evidence, activation, renewed = enrol(again, device)
        second = again.appraise(evidence, device.certificates, activation, renewed)
        assert renewed != spki
        assert second.instance_id == result.instance_id
        counts = [(item.body.reset_count, item.body.restart_count) for item in (result, second)]
        assert counts[0] == counts[1]


def test_an_ek_on_p256_that_the_simulators_ca_certified(tpm: Swtpm) -> None:
    tss: Any = importlib.import_module("tpm2_pytss")
    utils: Any = importlib.import_module("tpm2_pytss.utils")
    vendor = TpmVendor.create(NOW)
    index = 0x01C0000A
    with tss.ESAPI(tpm.tcti) as esys:
        _, template = utils.create_ek_template("EK-ECC256", utils.NVReadEK(esys))
        handle, public, *_ = esys.create_primary(None, template, tss.ESYS_TR.ENDORSEMENT)
        esys.flush_context(handle)
        certificate = vendor.certify_ek(decode_public(bytes(public.publicArea.marshal())).key)
        bits = tss.TPMA_NV.OWNERWRITE | tss.TPMA_NV.OWNERREAD | tss.TPMA_NV.AUTHREAD | tss.TPMA_NV.NO_DA
        area = tss.TPMS_NV_PUBLIC(nvIndex=index, nameAlg=tss.TPM2_ALG.SHA256, attributes=bits)
        area.dataSize = len(certificate) + 100  # padded, as NV indexes are
        place = esys.nv_define_space(None, tss.TPM2B_NV_PUBLIC(nvPublic=area))
        esys.nv_write(place, certificate + b"\xff" * 100, auth_handle=tss.ESYS_TR.OWNER)
    proxy = Proxy(TpmRoots(frozenset({vendor.pin}), vendor.issuers))
    with tpm.device("EK-ECC256") as device:
        evidence, activation, spki = enrol(proxy, device)
        result = proxy.appraise(evidence, device.certificates, activation, spki)
    assert "trailing_padding" in result.body.quirks


def test_a_cloned_ak_is_refused(proxy: Proxy, tpm: Swtpm, other: Swtpm) -> None:
    """What one TPM's AK shows to the world is worth nothing beside another TPM."""
    with tpm.device() as genuine, other.device() as thief:
        # The thief's EK with the genuine AK: the thief's TPM does not have that object.
        blob, _ = proxy.challenge(thief.certificates, genuine.ak_public)
        with pytest.raises(UnavailableError):
            thief.activate(blob)
        # A credential for the genuine pair: the thief's TPM cannot open it.
        blob, activation = proxy.challenge(genuine.certificates, genuine.ak_public)
        with pytest.raises(UnavailableError):
            thief.activate(blob)
        # The session is the genuine one's, the quote the thief's.
        spki = thief.make_key()
        quote = decode_tpm(thief.attest(binder(proxy.nonce, spki), PCRS))
        certificates = genuine.certificates
        assert code_of(lambda: proxy.appraise(quote, certificates, activation, spki)) is Code.TPM_AK_NAME
        posing = replace(quote, ak=decode_public(genuine.ak_public))
        assert code_of(lambda: proxy.appraise(posing, certificates, activation, spki)) is Code.TPM_SIGNATURE
        # The session is of the genuine AK, the EK certificate the thief's.
        quote = decode_tpm(genuine.attest(binder(proxy.nonce, spki), PCRS))
        certificates = thief.certificates
        assert code_of(lambda: proxy.appraise(quote, certificates, activation, None)) is Code.TPM_EK_CERTIFICATE


def test_a_software_key_posing_as_ak_is_refused(proxy: Proxy, tpm: Swtpm) -> None:
    software = SoftwareTpm()
    with tpm.device() as device:
        certificates = device.certificates
        # Its public area says restricted and fixedTPM, but no TPM has it: the secret stays closed.
        blob, forged = proxy.challenge(certificates, software.ak_public)
        with pytest.raises(UnavailableError):
            device.activate(blob)
        _, activation = proxy.challenge(certificates, device.ak_public)
        evidence = decode_tpm(software.evidence(binder(b"guess", software.spki)))
        assert code_of(lambda: proxy.appraise(evidence, certificates, activation, None)) is Code.TPM_AK_NAME
        assert code_of(lambda: proxy.appraise(evidence, (), None, None)) is Code.TPM_AK_UNTRUSTED
        # Even if the activation were its own, what is bound is not what the secret makes.
        result = proxy.appraise(evidence, certificates, forged, None)
        assert result.bound[0] != binder(proxy.nonce, software.spki)
        # An unrestricted key of the TPM signs a quote that no TPM made.
        device.make_key()
        own = decode_tpm(device.attest(binder(proxy.nonce, b""), PCRS))
        assert own.certified is not None
        unrestricted = own.certified.key
        signature = device.sign(hashlib.sha256(own.signed).digest())
        assert decode_signature(signature, unrestricted.key).alg == "ECDSA"
        made_up = replace(own, ak=unrestricted, signature=signature)
        assert code_of(lambda: proxy.appraise(made_up, certificates, activation, None)) is Code.TPM_NOT_RESTRICTED


def test_a_changed_pcr_is_seen(proxy: Proxy, manufacturer: Manufacturer) -> None:
    changing = manufacturer.make()
    tss: Any = importlib.import_module("tpm2_pytss")
    try:
        with changing.device() as device:
            evidence, activation, spki = enrol(proxy, device)
            before = proxy.appraise(evidence, device.certificates, activation, spki)
        with tss.ESAPI(changing.tcti) as esys:
            digest = tss.TPMT_HA(hashAlg=tss.TPM2_ALG.SHA256, digest=tss.TPMU_HA(sha256=b"\x05" * 32))
            esys.pcr_extend(tss.ESYS_TR.PCR4, tss.TPML_DIGEST_VALUES([digest]))
        with changing.device() as device:
            again = Proxy(proxy.roots)
            evidence, activation, spki = enrol(again, device)
            after = again.appraise(evidence, device.certificates, activation, spki)
            old = replace(evidence, pcr_values=tuple(before.body.pcrs["sha256"].values()))
            assert code_of(lambda: again.appraise(old, device.certificates, activation, spki)) is Code.TPM_PCR_DIGEST
    finally:
        changing.stop()
    changed = {i for i in range(10) if before.body.pcrs["sha256"][i] != after.body.pcrs["sha256"][i]}
    assert changed == {4}
    assert after.body.pcrs["sha256"][4] == hashlib.sha256(bytes(32) + b"\x05" * 32).digest()


def test_a_replayed_quote_is_refused(proxy: Proxy, tpm: Swtpm) -> None:
    """An old quote is genuine for ever; what it is bound to is the old challenge."""
    with tpm.device() as device:
        evidence, activation, spki = enrol(proxy, device)
        again = Proxy(proxy.roots)
        _, activation = again.challenge(device.certificates, device.ak_public)
        result = again.appraise(evidence, device.certificates, activation, spki)
        assert result.bound == (binder(proxy.nonce, spki),) * 2
        assert result.bound[0] != binder(again.nonce, spki)
        # A fresh quote with an old certification.
        fresh = decode_tpm(device.attest(binder(again.nonce, spki), PCRS))
        mixed = replace(fresh, certified=evidence.certified)
        assert code_of(lambda: again.appraise(mixed, device.certificates, activation, spki)) is Code.TPM_CERTIFY_BINDING


def test_a_key_that_no_tpm_certified_is_a_software_key(proxy: Proxy, tpm: Swtpm) -> None:
    with tpm.device() as device:
        blob, activation = proxy.challenge(device.certificates, device.ak_public)
        spki = spki_of(ec.generate_private_key(ec.SECP256R1()).public_key())
        evidence = decode_tpm(device.attest(binder(device.activate(blob), spki), PCRS))
        result = proxy.appraise(evidence, device.certificates, activation, spki)
        assert (result.certified_spki, result.body.key_certified) == (None, False)
        device.make_key()
        evidence = decode_tpm(device.attest(binder(proxy.nonce, spki), PCRS))
        certificates = device.certificates
        assert code_of(lambda: proxy.appraise(evidence, certificates, activation, spki)) is Code.TPM_KEY_MISMATCH


def test_an_expired_ek_certificate_is_refused() -> None:
    vendor = TpmVendor.create(NOW)
    certificate = vendor.certify_ek(ec.generate_private_key(ec.SECP256R1()).public_key())
    roots = TpmRoots(frozenset({vendor.pin}), vendor.issuers)
    late = NOW + timedelta(days=40_000)
    assert code_of(lambda: verify_tpm_chain((certificate,), Purpose.EK, roots, late)) is Code.TPM_EXPIRED
