"""Endorsements from files: told apart by content, put together into sets, bounded."""

import base64
import datetime
import itertools
import json
import os
import urllib.parse
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from proxy_attestation.appraisal.endorsements import DcapEndorsements
from proxy_attestation.codes import Code
from proxy_attestation.endorsements.load import load_endorsements
from proxy_attestation.errors import FormatError, ProxyAttestationError, UnavailableError
from proxy_attestation.formats import bounds
from proxy_attestation_simulator.intel import Vendor

START = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)
_SERIALS = itertools.count(1)


@dataclass(frozen=True)
class Authority:
    """A key with its certificate."""

    key: ec.EllipticCurvePrivateKey
    certificate: x509.Certificate

    @property
    def pem(self) -> bytes:
        return self.certificate.public_bytes(Encoding.PEM)

    @property
    def der(self) -> bytes:
        return self.certificate.public_bytes(Encoding.DER)


def _issue(common_name: str, issuer: Authority | None, *, days: int = 365) -> Authority:
    key = ec.generate_private_key(ec.SECP256R1())
    return _certify(key, common_name, issuer, days=days)


def _certify(
    key: ec.EllipticCurvePrivateKey, common_name: str, issuer: Authority | None, *, days: int = 365
) -> Authority:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name if issuer is None else issuer.certificate.subject)
        .public_key(key.public_key())
        .serial_number(next(_SERIALS))
        .not_valid_before(START)
        .not_valid_after(START + datetime.timedelta(days=days))
        .sign(key if issuer is None else issuer.key, hashes.SHA256())
    )
    return Authority(key, certificate)


def _crl(issuer: Authority, *, day: int = 0) -> bytes:
    this = START + datetime.timedelta(days=day)
    builder = x509.CertificateRevocationListBuilder().issuer_name(issuer.certificate.subject).last_update(this)
    crl = builder.next_update(this + datetime.timedelta(days=30)).sign(issuer.key, hashes.SHA256())
    return crl.public_bytes(Encoding.DER)


def _tcb_info(tee: str = "SGX", fmspc: str = "00606A000000", number: int = 17) -> bytes:
    return (
        f'{{"tcbInfo":{{"id":"{tee}","version":3,"fmspc":"{fmspc}","tcbEvaluationDataNumber":{number},'
        f'"issueDate":"2026-01-01T00:00:00Z","nextUpdate":"2026-01-31T00:00:00Z"}},"signature":"{"ab" * 64}"}}'
    ).encode()


def _qe_identity(identity: str = "QE") -> bytes:
    return f'{{"enclaveIdentity":{{"id":"{identity}","version":2}},"signature":"{"cd" * 64}"}}'.encode()


@dataclass(frozen=True)
class Pki:
    """A vendor's certificates under Intel's names."""

    root: Authority
    signing: Authority
    platform: Authority
    processor: Authority
    leaf: Authority

    def files(self, tee: str = "SGX", fmspc: str = "00606A000000") -> dict[str, bytes]:
        """Return one whole set as a directory holds it."""
        return {
            "a": _tcb_info(tee, fmspc),
            "b": _qe_identity("QE" if tee == "SGX" else "TD_QE"),
            "c": self.signing.pem + self.root.pem,
            "d": self.platform.pem + self.root.pem,
            "e": _crl(self.platform),
            "f": _crl(self.root),
        }


@pytest.fixture(scope="module")
def pki() -> Pki:
    root = _issue("Intel SGX Root CA", None)
    platform = _issue("Intel SGX PCK Platform CA", root)
    return Pki(
        root=root,
        signing=_issue("Intel SGX TCB Signing", root),
        platform=platform,
        processor=_issue("Intel SGX PCK Processor CA", root),
        leaf=_issue("Intel SGX PCK Certificate", platform),
    )


def _write(directory: Path, files: Mapping[str, bytes]) -> Path:
    directory.mkdir(parents=True, exist_ok=True)
    for name, data in files.items():
        (directory / name).write_bytes(data)
    return directory


def _expected(pki: Pki, files: Mapping[str, bytes]) -> DcapEndorsements:
    return DcapEndorsements(
        tcb_info=files["a"],
        tcb_info_issuer_chain=pki.signing.pem + pki.root.pem,
        qe_identity=files["b"],
        qe_identity_issuer_chain=pki.signing.pem + pki.root.pem,
        pck_crl=files["e"],
        pck_crl_issuer_chain=pki.platform.pem + pki.root.pem,
        root_ca_crl=files["f"],
    )


def _refused(call: Callable[[], object]) -> ProxyAttestationError:
    with pytest.raises(ProxyAttestationError) as caught:
        call()
    return caught.value


def test_a_directory_is_a_set_whatever_its_files_are_called(pki: Pki, tmp_path: Path) -> None:
    files = pki.files()
    assert load_endorsements([_write(tmp_path, files)]) == (_expected(pki, files),)


def test_files_that_are_named_one_by_one_are_a_set(pki: Pki, tmp_path: Path) -> None:
    files = pki.files()
    directory = _write(tmp_path, files)
    assert load_endorsements([directory / name for name in reversed(files)]) == (_expected(pki, files),)


def test_separate_certificates_make_the_same_chains(pki: Pki, tmp_path: Path) -> None:
    files = pki.files()
    single = {"c": pki.signing.der, "d": pki.platform.der, "g": pki.root.der}
    assert load_endorsements([_write(tmp_path, {**files, **single})]) == (_expected(pki, files),)


@pytest.mark.parametrize(
    "write",
    [
        lambda der: x509.load_der_x509_crl(der).public_bytes(Encoding.PEM),
        lambda der: der.hex().encode(),
        lambda der: der.hex().upper().encode() + b"\n",
        base64.b64encode,
        base64.encodebytes,
    ],
    ids=["pem", "hex", "upper-case hex", "base64", "base64 in lines"],
)
def test_crls_in_every_encoding_become_der(pki: Pki, tmp_path: Path, write: Callable[[bytes], bytes]) -> None:
    files = pki.files()
    written = {**files, "e": write(files["e"]), "f": write(files["f"])}
    assert load_endorsements([_write(tmp_path, written)]) == (_expected(pki, files),)


@pytest.mark.parametrize("ending", [b"\0", b"\n\n", b"\r\n"], ids=["nul", "lines", "crlf"])
def test_chains_with_other_endings_are_read(pki: Pki, tmp_path: Path, ending: bytes) -> None:
    files = pki.files()
    assert load_endorsements([_write(tmp_path, {**files, "c": files["c"] + ending})]) == (_expected(pki, files),)


def test_a_chain_as_a_response_header_carries_it(pki: Pki, tmp_path: Path) -> None:
    files = pki.files()
    quoted = urllib.parse.quote(files["d"].decode()).encode()
    assert load_endorsements([_write(tmp_path, {**files, "d": quoted})]) == (_expected(pki, files),)


def test_a_directory_of_directories_is_several_sets(pki: Pki, tmp_path: Path) -> None:
    first, second = pki.files(), pki.files("TDX", "90C06F000000")
    _write(tmp_path / "one", first)
    _write(tmp_path / "two" / "inner", second)
    assert load_endorsements([tmp_path]) == (_expected(pki, first), _expected(pki, second))


def test_pieces_outside_any_set_complete_the_sets_that_lack_them(pki: Pki, tmp_path: Path) -> None:
    files = pki.files()
    directory = _write(tmp_path / "set", {name: files[name] for name in "abc"})
    _write(tmp_path / "crls", {name: files[name] for name in "ef"})
    loose = _write(tmp_path, {"d": files["d"], "leaf": pki.leaf.pem})
    paths = [directory, tmp_path / "crls", loose / "d", loose / "leaf"]
    chain = pki.leaf.pem + pki.platform.pem + pki.root.pem
    assert load_endorsements(paths) == (replace(_expected(pki, files), pck_certificate_chain=chain),)


def test_a_set_keeps_its_own_pieces_before_borrowed_ones(pki: Pki, tmp_path: Path) -> None:
    files = pki.files()
    other = _write(tmp_path / "other", {"f": _crl(pki.root, day=9)})
    assert load_endorsements([_write(tmp_path / "set", files), other / "f"]) == (_expected(pki, files),)


def test_one_directory_with_both_tees_pairs_each_tcb_info_with_its_identity(pki: Pki, tmp_path: Path) -> None:
    files = pki.files()
    more = {"a2": _tcb_info("TDX", "90C06F000000"), "b2": _qe_identity("TD_QE")}
    sets = load_endorsements([_write(tmp_path, {**files, **more})])
    assert [(item.tcb_info, item.qe_identity) for item in sets] == [
        (files["a"], files["b"]),
        (more["a2"], more["b2"]),
    ]


def test_a_pck_crl_comes_with_the_chain_of_its_own_issuer(pki: Pki, tmp_path: Path) -> None:
    files = pki.files()
    more = {"d2": pki.processor.pem, "e2": _crl(pki.processor)}
    sets = load_endorsements([_write(tmp_path, {**files, **more})])
    assert [(item.pck_crl, item.pck_crl_issuer_chain) for item in sets] == [
        (files["e"], pki.platform.pem + pki.root.pem),
        (more["e2"], pki.processor.pem + pki.root.pem),
    ]


def test_of_two_signing_certificates_the_file_name_picks_and_else_the_newest(pki: Pki, tmp_path: Path) -> None:
    old = _certify(pki.signing.key, "Intel SGX TCB Signing", pki.root, days=10)
    files = {name: data for name, data in pki.files().items() if name != "c"}
    named = {"tcb_info_issuer_chain.pem": old.pem, "qe_identity_issuer_chain.pem": pki.signing.pem}
    (by_name,) = load_endorsements([_write(tmp_path / "named", {**files, **named, "g": pki.root.pem})])
    assert by_name.tcb_info_issuer_chain == old.pem + pki.root.pem
    assert by_name.qe_identity_issuer_chain == pki.signing.pem + pki.root.pem
    (newest,) = load_endorsements(
        [_write(tmp_path / "newest", {**files, "x": old.pem, "y": pki.signing.pem, "g": pki.root.pem})]
    )
    assert newest.tcb_info_issuer_chain == newest.qe_identity_issuer_chain == pki.signing.pem + pki.root.pem


def test_an_issuer_is_found_by_its_key_not_by_its_name_alone(pki: Pki, tmp_path: Path) -> None:
    impostor = _issue("Intel SGX Root CA", None)
    files = {**pki.files(), "c": impostor.pem + pki.signing.pem, "d": pki.platform.pem, "g": pki.root.pem}
    (loaded,) = load_endorsements([_write(tmp_path, files)])
    assert loaded.tcb_info_issuer_chain == pki.signing.pem + pki.root.pem


def test_no_tcb_info_leaves_one_partial_set(pki: Pki, tmp_path: Path) -> None:
    directory = _write(tmp_path, {"leaf": pki.leaf.pem})
    assert load_endorsements([directory]) == (DcapEndorsements(pck_certificate_chain=pki.leaf.pem),)


def test_an_empty_directory_holds_no_set_and_hidden_files_are_skipped(tmp_path: Path) -> None:
    _write(tmp_path, {".DS_Store": b"\0\1"})
    assert load_endorsements([tmp_path]) == ()


def test_a_certificate_or_crl_of_somebody_else_is_refused(pki: Pki, tmp_path: Path) -> None:
    stranger = _issue("Example Root", None)
    for data in (stranger.der, stranger.pem, _crl(stranger), pki.signing.pem + stranger.pem):
        directory = _write(tmp_path, {"strange": data})
        assert _refused(lambda: load_endorsements([directory])).code is Code.ENDORSEMENTS_MALFORMED  # noqa: B023 - called at once


def test_a_name_longer_than_x520_allows_is_refused(pki: Pki, tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match="length"):
        long = x509.NameAttribute(NameOID.COMMON_NAME, "x" * 65 + " Root CA", _validate=False)
    builder = x509.CertificateRevocationListBuilder().issuer_name(x509.Name([long])).last_update(START)
    crl = builder.next_update(START + datetime.timedelta(days=1)).sign(pki.root.key, hashes.SHA256())
    directory = _write(tmp_path, {"strange": crl.public_bytes(Encoding.DER)})
    assert _refused(lambda: load_endorsements([directory])).code is Code.ENDORSEMENTS_MALFORMED


def test_pck_certificates_of_two_platforms_are_refused(pki: Pki, tmp_path: Path) -> None:
    second = _issue("Intel SGX PCK Certificate", pki.platform)
    directory = _write(tmp_path, {**pki.files(), "g": pki.leaf.pem, "h": second.pem})
    assert _refused(lambda: load_endorsements([directory])).code is Code.ENDORSEMENTS_MALFORMED


def test_floods_are_refused(pki: Pki, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    many = _write(tmp_path / "many", {f"{n:04}": b"{" for n in range(3)})
    good = pki.root.pem
    for n in range(bounds.ENDORSEMENT_FILES_MAX + 1):
        os.link(_write(tmp_path / "one", {"root": good}) / "root", many / f"{n:04}.pem")
    for path in many.glob("????"):
        path.unlink()
    assert _refused(lambda: load_endorsements([many])).code is Code.ENDORSEMENTS_MALFORMED
    large = _write(tmp_path / "large", {"a": good + b" " * bounds.COLLATERAL_DOCUMENT_MAX})
    assert _refused(lambda: load_endorsements([large])).code is Code.ENDORSEMENTS_MALFORMED
    huge = _write(tmp_path / "huge", {"a": b" " * (bounds.ENDORSEMENT_BUNDLE_MAX + 1)})
    assert _refused(lambda: load_endorsements([huge])).code is Code.ENDORSEMENTS_MALFORMED
    document = _write(tmp_path / "document", {"a": _tcb_info() + b" " * bounds.COLLATERAL_DOCUMENT_MAX})
    assert _refused(lambda: load_endorsements([document])).code is Code.ENDORSEMENTS_MALFORMED
    monkeypatch.setattr("proxy_attestation.endorsements.load.ENDORSEMENT_TOTAL_MAX", len(good))
    two = _write(tmp_path / "two", {"a": good, "b": good})
    assert _refused(lambda: load_endorsements([two])).code is Code.ENDORSEMENTS_MALFORMED


def test_more_combinations_than_allowed_are_refused(pki: Pki, tmp_path: Path) -> None:
    files = pki.files()
    infos = {f"a{n:02}": _tcb_info(number=n) for n in range(33)}
    identities = {f"b{n:02}": _qe_identity().replace(b'"version":2', f'"version":{n}'.encode()) for n in range(32)}
    directory = _write(tmp_path, {**files, **infos, **identities})
    assert _refused(lambda: load_endorsements([directory])).code is Code.ENDORSEMENTS_MALFORMED


def test_directories_nested_too_deep_are_refused(pki: Pki, tmp_path: Path) -> None:
    files = pki.files()
    _write(tmp_path / "1" / "2" / "3", files)
    assert load_endorsements([tmp_path]) == (_expected(pki, files),)
    _write(tmp_path / "1" / "2" / "3" / "4", files)
    assert _refused(lambda: load_endorsements([tmp_path])).code is Code.ENDORSEMENTS_MALFORMED


def test_what_cannot_be_read_is_unavailable_and_a_pipe_is_no_file(tmp_path: Path) -> None:
    error = _refused(lambda: load_endorsements([tmp_path / "absent"]))
    assert isinstance(error, UnavailableError)
    assert (error.code, error.exit_status) == (Code.ENDORSEMENTS_UNAVAILABLE, 5)
    os.mkfifo(tmp_path / "pipe")
    assert _refused(lambda: load_endorsements([tmp_path])).code is Code.ENDORSEMENTS_MALFORMED


def test_a_bundle_with_final_nuls_and_sizes_is_read_as_intel_writes_it(tmp_path: Path) -> None:
    now = datetime.datetime(2026, 11, 24, 12, tzinfo=datetime.UTC)
    pieces = Vendor.create(now).endorsements("sgx", now)
    bundle: dict[str, object] = {
        name: (content.hex() if name.endswith("crl") else content.decode()) + "\0" for name, content in pieces.items()
    }
    bundle |= {f"{name}_size": len(content) + 1 for name, content in pieces.items()}
    path = tmp_path / "bundle.json"
    path.write_text(json.dumps(bundle))
    (found,) = load_endorsements([path])
    assert found.tcb_info == pieces["tcb_info"]
    assert found.root_ca_crl == pieces["root_ca_crl"]


def test_half_a_surrogate_pair_is_malformed(tmp_path: Path) -> None:
    path = tmp_path / "bundle.json"
    path.write_text('{"pck_crl": "\\ud800"}')
    with pytest.raises(FormatError) as caught:
        load_endorsements([path])
    assert caught.value.code is Code.ENDORSEMENTS_MALFORMED
