"""An enclave image leads to the registers that AWS documents; one that is not whole, or reads two ways, to none."""

import hashlib
import io
import json
import tracemalloc
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any, BinaryIO, cast

import cbor2
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID
from reference_files import CMDLINE, KERNEL, METADATA, RAMDISK, SECTIONS, SIGNATURE, Cli, accepted, eif, register

from proxy_attestation.codes import Code
from proxy_attestation.errors import ProxyAttestationError
from proxy_attestation.reference.eif import METADATA_MAX, SIGNATURE_MAX, measure_eif
from proxy_attestation.reference.measured import Measured, to_entry

KEY = ec.derive_private_key(0x1234567, ec.SECP384R1())
_CONTENTS = [content for kind, content in SECTIONS if kind != METADATA]
PCR0, PCR1, PCR2 = register(*_CONTENTS), register(*_CONTENTS[:3]), register(*_CONTENTS[3:])


def measure(data: bytes) -> Measured:
    return measure_eif(io.BytesIO(data), "example.eif")


def code(data: bytes) -> Code:
    with pytest.raises(ProxyAttestationError) as caught:
        measure(data)
    return caught.value.code


@cache
def certificate(key: ec.EllipticCurvePrivateKey = KEY) -> x509.Certificate:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "signer")])
    start, end = datetime(2026, 1, 1, tzinfo=UTC), datetime(2027, 1, 1, tzinfo=UTC)
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    return builder.serial_number(1).not_valid_before(start).not_valid_after(end).sign(key, hashes.SHA384())


def signature(key: ec.EllipticCurvePrivateKey = KEY, *, lists: bool = True, **changes: Any) -> bytes:
    """What nitro-cli signs, in the manner of its library, which writes bytes as lists of numbers."""
    said = {"register_index": changes.get("index", 0), "register_value": list(changes.get("value", PCR0))}
    payload, protected = cbor2.dumps(said), cbor2.dumps({1: changes.get("algorithm", -35)})
    r, s = decode_dss_signature(
        key.sign(cbor2.dumps(["Signature1", protected, b"", payload]), ec.ECDSA(hashes.SHA384()))
    )
    raw = r.to_bytes(48) + s.to_bytes(48)
    cose = changes.get("cose", cbor2.dumps([protected, {}, payload, raw]))
    pem = changes.get("pem", certificate().public_bytes(Encoding.PEM))
    part = {"signing_certificate": list(pem) if lists else pem, "signature": list(cose) if lists else cose}
    return cbor2.dumps([part] * changes.get("parts", 1))


def signed(**changes: Any) -> bytes:
    return eif((*SECTIONS, (SIGNATURE, signature(**changes))))


def test_registers_are_those_of_the_contents() -> None:
    workload = accepted(to_entry(measure(eif())))
    assert workload.pins == {"pcr0": (PCR0,), "pcr1": (PCR1,), "pcr2": (PCR2,)}
    # Written out once more, without any helper.
    inner = hashlib.sha384(b"".join(content for kind, content in SECTIONS if kind != METADATA)).digest()
    assert hashlib.sha384(b"\0" * 48 + inner).digest() == PCR0


def test_an_image_that_is_signed_pins_its_signer() -> None:
    for lists in (True, False):
        pins = accepted(to_entry(measure(signed(lists=lists)))).pins
        assert pins["pcr8"] == (register(certificate().public_bytes(Encoding.DER)),)
        assert pins["pcr0"] == (PCR0,)


@pytest.mark.parametrize(
    "changes",
    [{"value": PCR1}, {"index": 1}, {"algorithm": -7}, {"key": ec.derive_private_key(77, ec.SECP384R1())}],
    ids=["value", "index", "algorithm", "key"],
)
def test_a_signature_that_is_not_good_is_refused(changes: dict[str, Any]) -> None:
    assert code(signed(**changes)) is Code.REFERENCE_SIGNATURE


@pytest.mark.parametrize(
    "changes",
    [
        {"pem": b"none"},
        {"cose": cbor2.dumps([b"", {}, b""])},
        {"cose": cbor2.dumps("text")},
        {"cose": b"\xff"},
        {"parts": 0},
        {"parts": 2},
    ],
    ids=["pem", "three", "text", "cbor", "none", "two"],
)
def test_a_signature_section_that_cannot_be_read_is_refused(changes: dict[str, Any]) -> None:
    assert code(signed(**changes)) is Code.REFERENCE_MALFORMED


def test_every_changed_byte_is_noticed() -> None:
    good = eif()
    for at in [*range(560), *range(560, len(good), 997)]:
        bad = bytearray(good)
        bad[at] ^= 0x40
        assert code(bytes(bad)) is Code.REFERENCE_MALFORMED, at


@pytest.mark.parametrize("version", [0, 1, 5])
def test_another_version_is_refused(version: int) -> None:
    assert code(eif(version=version)) is Code.REFERENCE_MALFORMED
    assert measure(eif(version=3)).pins == measure(eif()).pins


@pytest.mark.parametrize(
    "sections",
    [
        SECTIONS[1:],
        SECTIONS[:1] + SECTIONS[2:],
        SECTIONS[:3],
        (*SECTIONS, SECTIONS[0]),
        (*SECTIONS, SECTIONS[1]),
        (*SECTIONS, SECTIONS[2]),
        (*SECTIONS, (6, b"")),
        (*SECTIONS, (0, b"")),
        (*SECTIONS, (METADATA, bytes(METADATA_MAX + 1))),
        (*SECTIONS, (SIGNATURE, bytes(SIGNATURE_MAX + 1))),
        (*SECTIONS[:2], (METADATA, b"no json"), *SECTIONS[3:]),
        (*SECTIONS[:2], (METADATA, b"[" * 100_000), *SECTIONS[3:]),
    ],
    ids=[
        "kernel",
        "cmdline",
        "ramdisk",
        "kernels",
        "cmdlines",
        "metadatas",
        "6",
        "0",
        "large",
        "large2",
        "json",
        "deep",
    ],
)
def test_other_sections_are_refused(sections: tuple[tuple[int, bytes], ...]) -> None:
    assert code(eif(sections)) is Code.REFERENCE_MALFORMED


def test_an_image_that_reads_two_ways_is_refused() -> None:
    """By the header's offsets one would load another section than by reading on."""
    assert code(eif(offsets=[548] * len(SECTIONS))) is Code.REFERENCE_MALFORMED
    assert code(eif(sizes=[1] * len(SECTIONS))) is Code.REFERENCE_MALFORMED
    assert code(eif(count=len(SECTIONS) - 1)) is Code.REFERENCE_MALFORMED
    assert code(eif(count=33)) is Code.REFERENCE_MALFORMED
    assert code(eif() + b"\0") is Code.REFERENCE_MALFORMED
    assert code(eif()[:-1]) is Code.REFERENCE_MALFORMED
    assert code(eif()[:500]) is Code.REFERENCE_MALFORMED


class _Zeros(io.RawIOBase):
    """An image whose kernel has 256 MiB of zeros, made while it is read."""

    def __init__(self, head: bytes) -> None:
        self.head, self.position = head, 0

    def read(self, size: int = -1) -> bytes:
        start, self.position = self.position, self.position + size
        return (self.head[start:] + bytes(size))[:size]


def test_memory_is_bounded_whatever_the_size() -> None:
    size = 256 * 1024 * 1024
    image = bytearray(eif())
    image[284:292] = size.to_bytes(8)
    image[552:560] = size.to_bytes(8)
    tracemalloc.start()
    with pytest.raises(ProxyAttestationError):
        measure_eif(cast("BinaryIO", _Zeros(bytes(image[:560]))), "large.eif")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 8 * 1024 * 1024


def test_the_command(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "a.eif").write_bytes(eif())
    said = cli("index", "--measure", "nitro", tmp_path / "a.eif", "--json").json
    assert said["pins"] == {"pcr0": [PCR0.hex()], "pcr1": [PCR1.hex()], "pcr2": [PCR2.hex()]}
    assert said["details"]["ImageName (not measured)"] == "example"
    assert accepted(cli("index", "--measure", "nitro", tmp_path / "a.eif", "--toml").out)
    (tmp_path / "b.eif").write_bytes(eif()[:-1])
    ran = cli("index", "--measure", "nitro", tmp_path / "b.eif", "--json")
    assert (ran.status, ran.code) == (4, Code.REFERENCE_MALFORMED)


def test_names_that_would_not_stand_on_a_line_are_left_out() -> None:
    metadata = json.dumps({"ImageName": "a\nb", "ImageVersion": 3}).encode()
    sections = ((KERNEL, b"k"), (CMDLINE, b"c"), (RAMDISK, b"r"), (METADATA, metadata))
    assert not [key for key in measure(eif(sections)).details if "Image" in key]
