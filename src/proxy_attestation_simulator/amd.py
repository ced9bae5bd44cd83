"""A local stand-in for AMD: roots, signing keys and revocation lists of three processor lines, and machines."""

from __future__ import annotations

import hashlib
import json
import os
import struct
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final
from uuid import UUID

from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_der_private_key,
)

from proxy_attestation_simulator import der
from proxy_attestation_simulator.amd_certificates import issue_ca, issue_vek, revocation_list
from proxy_attestation_simulator.amd_faults import SNP_FAULTS
from proxy_attestation_simulator.amd_keys import FIXED_SECRET, derive_p384, fixed_key, make_key, sign_report
from proxy_attestation_simulator.amd_recipes import (
    LINES,
    REPORT_DATA_AT,
    SIGNED_SIZE,
    Line,
    SnpEvidence,
    SnpRecipe,
    VekRecipe,
)
from proxy_attestation_simulator.errors import SimulatorError
from proxy_attestation_simulator.files import write
from proxy_attestation_simulator.keys import derive
from proxy_attestation_simulator.recipes import Crl

VERSIONS: Final = (2, 3, 4, 5)
CRL_NUMBER: Final = 11
_DAY: Final = timedelta(days=1)
_ISSUER: Final = {"VCEK": ("ask", "SEV-"), "VLEK": ("asvk", "SEV-VLEK-")}
_SERIAL: Final = {"ark": 0x10000, "ask": 0x10001, "asvk": 0x10101}
_OIDS: Final = {
    "blSPL": "3.1", "teeSPL": "3.2", "snpSPL": "3.3", "spl4": "3.4", "spl5": "3.5", "spl6": "3.6", "spl7": "3.7",
    "ucodeSPL": "3.8", "fmcSPL": "3.9",
}  # fmt: skip
CSP_ID: Final = "CN=simulated.example"
TABLE_GUIDS: Final = {
    "VCEK": UUID("63da758d-e664-4564-adc5-f4b93be8accd"),
    "VLEK": UUID("a8074bc2-a25a-483e-aae6-39c045a0b8a1"),
    "issuer": UUID("4ab7b379-bbac-4fe4-a02f-05aef327c782"),
    "ark": UUID("c0b406a4-a803-4952-9743-3fb6014cd0ae"),
    "crl": UUID("92f81bc3-5811-4d3d-97ff-d19f88dc67ea"),
}
_MEASUREMENT_AT: Final = 0x090


class AmdVendor:
    """The vendor.

    Attributes:
        secret: 32 bytes; chip ids and the keys that sign reports follow from it.
        created_at: UTC, whole seconds. Certificates begin a month earlier and last for years.
    """

    def __init__(self, secret: bytes, created_at: datetime, keys: dict[str, rsa.RSAPrivateKey] | None = None) -> None:
        """Make a vendor with these RSA keys by label; None for the fixed ones, which only tests may trust."""
        if created_at.tzinfo is None:
            raise SimulatorError("a time needs a time zone")
        self.secret = secret
        self.created_at = created_at.astimezone(UTC).replace(microsecond=0)
        self._fixed = keys is None
        self._keys = dict(keys or {})
        self._certificates: dict[tuple[object, ...], bytes] = {}

    @classmethod
    def create(cls, now: datetime) -> AmdVendor:
        """Make a vendor with keys of its own, each of them when it is first needed."""
        return cls(os.urandom(32), now, {})

    @classmethod
    def fixed(cls, now: datetime) -> AmdVendor:
        """Return the vendor whose keys are always the same, and known to everybody: for tests."""
        return cls(FIXED_SECRET, now)

    @classmethod
    def load(cls, directory: Path) -> AmdVendor:
        """Return the vendor that `save` wrote.

        Raises:
            SimulatorError: there is none.
        """
        try:
            state = json.loads((directory / "amd.json").read_text())
            keys = {name: load_der_private_key(bytes.fromhex(text), None) for name, text in state["keys"].items()}
            rsa_keys = {name: key for name, key in keys.items() if isinstance(key, rsa.RSAPrivateKey)}
            return cls(bytes.fromhex(state["secret"]), datetime.fromisoformat(state["created_at"]), rsa_keys)
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise SimulatorError(f"{directory} holds no simulated vendor of SEV-SNP machines: {error}") from error

    def save(self, directory: Path, lines: Iterable[str] = tuple(LINES)) -> None:
        """Write `amd.json` (which holds all keys, mode 0600), and for each of the lines `amd-ark-<line>.der`."""
        for line in lines:
            write(directory / f"amd-ark-{line.lower()}.der", self.authority(line, "ark"))
            for role in _SERIAL:
                self.key(f"{line} {role}")
        keys = {
            name: key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption()).hex()
            for name, key in self._keys.items()
        }
        state = {"created_at": self.created_at.isoformat(), "secret": self.secret.hex(), "keys": keys}
        write(directory / "amd.json", (json.dumps(state) + "\n").encode(), mode=0o600)

    def key(self, label: str) -> rsa.RSAPrivateKey:
        """Return the RSA key with this label, such as `Milan ask`, or `stranger Milan ark`."""
        if label not in self._keys:
            self._keys[label] = fixed_key(label) if self._fixed else make_key()
        return self._keys[label]

    def ark_pin(self, line: str) -> bytes:
        """Return SHA-256 of the SubjectPublicKeyInfo of a line's root, 32 bytes."""
        key = self.key(f"{line} ark").public_key()
        return hashlib.sha256(key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).digest()

    def authority(self, line: str, role: str, kind: str = "good", *, stranger: bool = False) -> bytes:
        """Return the DER of an ARK ("ark"), ASK ("ask") or ASVK ("asvk"), as it should be or with a fault.

        Args:
            line: such as "Milan".
            role: whose.
            kind: see `SnpRecipe.issuer` and `SnpRecipe.ark`.
            stranger: another vendor's, the same in everything but its keys.
        """
        made = (line, role, kind, stranger)
        if made not in self._certificates:
            self._certificates[made] = self._authority(line, role, kind, "stranger " if stranger else "")
        return self._certificates[made]

    def _authority(self, line: str, role: str, kind: str, owner: str) -> bytes:
        root = role == "ark"
        names = {"ark": f"ARK-{line}", "ask": f"SEV-{line}", "asvk": f"SEV-VLEK-{line}"}
        end = self.created_at + 20 * 365 * _DAY if kind != "expired" else self.created_at - _DAY
        return issue_ca(
            names[role],
            self.key(f"{owner}{line} {role}"),
            _SERIAL[role] + (list(LINES).index(line) << 16),
            (self.created_at - 30 * _DAY, end),
            issuer=names["ark"],
            signing_key=self.key(f"stranger {line} ark" if kind == "other" else f"{owner}{line} ark"),
            path_length={"depth": 0}.get(kind) if root else 0,
            is_ca=kind != "not-ca",
            crl_sign=root and kind not in ("not-ca", "no-crl"),
        )

    def platform(
        self, line: str = "Milan", kind: str = "VCEK", *, tcb: bytes | None = None, seed: int | str = 0
    ) -> AmdPlatform:
        """Make a machine; the same arguments make the same one.

        Args:
            line: "Milan", "Genoa" or "Turin".
            kind: what its reports are signed with, "VCEK" or "VLEK".
            tcb: its TCB_VERSION, 8 bytes; None for an up-to-date one.
            seed: tells machines apart.

        Raises:
            SimulatorError: there is no such line or kind.
        """
        if line not in LINES or kind not in _ISSUER:
            raise SimulatorError(f"no {kind} of {line}; there are {', '.join(LINES)}, each with VCEK and VLEK")
        return AmdPlatform(self, LINES[line], kind, tcb=LINES[line].tcb if tcb is None else tcb, seed=seed)

    def make(self, recipe: SnpRecipe, seed: int | str) -> SnpEvidence:
        """Make evidence from a recipe."""
        line, (role, prefix) = recipe.line.name, _ISSUER[recipe.kind]
        owner = "stranger " if recipe.stranger else ""
        own = derive_p384(self.secret, f"{recipe.kind} {line} {seed}")
        other = derive_p384(self.secret, f"other {line} {seed}")
        signing_key = self.key(f"{owner}{line} {role}" if recipe.vek.signer == "issuer" else f"stranger {line} {role}")
        made = (recipe.vek, owner, line, role, seed)
        if made not in self._certificates:
            key = (own if recipe.vek.key == "own" else other).public_key()
            self._certificates[made] = issue_vek(recipe.vek, key, f"{prefix}{line}", signing_key)
        chain = {
            "vek": self._certificates[made],
            "issuer": self.authority(line, role, recipe.issuer, stranger=recipe.stranger),
            "ark": self.authority(line, "ark", recipe.ark, stranger=recipe.stranger),
        }
        signature = bytes(144)
        if recipe.report_key != "none":
            signature = sign_report(own if recipe.report_key == "own" else other, recipe.report)
        report = bytearray(recipe.report + signature + recipe.tail)
        for offset, mask in recipe.flips:
            report[offset] ^= mask
        return SnpEvidence(
            report=bytes(report[: len(report) - recipe.cut]) + recipe.append,
            certificates=tuple(chain[name] for name in recipe.chain),
            crls=self._crls(recipe, line, owner),
        )

    def _crls(self, recipe: SnpRecipe, line: str, owner: str) -> tuple[bytes, ...]:
        if recipe.crl_bytes is not None:
            return (recipe.crl_bytes,)
        keys = {"good": f"{owner}{line} ark", "other": f"stranger {line} ark"}
        return tuple(revocation_list(crl, f"ARK-{line}", self.key(keys[crl.issuer])) for crl in recipe.crls)


class AmdPlatform:
    """One machine.

    Attributes:
        vendor: who made it.
        line: of its processor.
        kind: "VCEK" or "VLEK".
        tcb: its TCB_VERSION, 8 bytes.
        chip_id: 64 bytes; zero with a VLEK.
    """

    def __init__(self, vendor: AmdVendor, line: Line, kind: str, *, tcb: bytes, seed: int | str) -> None:
        self.vendor = vendor
        self.line = line
        self.kind = kind
        self.tcb = tcb
        self._seed = seed
        chip = derive(vendor.secret, f"chip {line.name} {seed}", line.chip_id_size)
        self.chip_id = bytes(64) if kind == "VLEK" else chip.ljust(64, b"\0")

    def recipe(self, report_data: bytes, *, version: int = 5, now: datetime | None = None) -> SnpRecipe:
        """Return what good evidence about 64 bytes is made from."""
        if len(report_data) != 64 or version not in VERSIONS:
            raise SimulatorError("64 bytes of report data and a version from 2 to 5 were expected")
        now = (self.vendor.created_at if now is None else now).astimezone(UTC).replace(microsecond=0)
        fields = {
            0x000: struct.pack("<IIQ", version, 1, 0x30000),
            0x030: struct.pack("<II", 0, 1) + self.tcb + struct.pack("<QI", 0x25, 4 * (self.kind == "VLEK")),
            REPORT_DATA_AT: report_data,
            _MEASUREMENT_AT: derive(self.vendor.secret, "measurement", 48),
            0x140: derive(self.vendor.secret, f"report id {self._seed}", 32) + b"\xff" * 32,
            0x180: self.tcb + (self.line.cpuid if version > 2 else b""),
            0x1A0: self.chip_id,
            0x1E0: self.tcb + bytes((20, 55, 1, 0, 20, 55, 1, 0)) + self.tcb,
            0x1F8: struct.pack("<QQ", 1, 1) if version > 4 else b"",
        }
        report = bytearray(SIGNED_SIZE)
        for offset, value in fields.items():
            report[offset : offset + len(value)] = value
        crl = Crl(CRL_NUMBER, now - _DAY, now + 45 * _DAY)
        return SnpRecipe(self.line, self.kind, bytes(report), self._vek(), crls=(crl,))

    def evidence(
        self,
        report_data: bytes,
        *,
        version: int = 5,
        now: datetime | None = None,
        measurement: bytes | None = None,
        fault: str | Iterable[str] = (),
    ) -> SnpEvidence:
        """Make a report, its certificates and the vendor's revocation list.

        Args:
            report_data: 64 bytes.
            version: 2 to 5.
            now: aware, for the list; the vendor's own time by default.
            measurement: 48 bytes, instead of the one that follows from the secret.
            fault: one fault, or several applied in order; see `amd_faults`.

        Raises:
            SimulatorError: there is no such version or fault.
        """
        recipe = self.recipe(report_data, version=version, now=now)
        if measurement is not None:
            recipe = recipe.put(_MEASUREMENT_AT, measurement)
        recipe = SNP_FAULTS.apply_all(recipe, "snp", fault)
        return self.vendor.make(recipe, self._seed)

    def _vek(self) -> VekRecipe:
        vcek = self.kind == "VCEK"
        extensions = [
            ("1", der.integer(self.line.struct_version)),
            ("2", der.tlv(0x16, (self.line.product_name if vcek else self.line.name).encode())),
            *((_OIDS[name], der.integer(spl)) for name, spl in zip(self.line.layout, self.tcb, strict=True)),
            ("4", self.chip_id[: self.line.chip_id_size]) if vcek else ("5", der.tlv(0x16, CSP_ID.encode())),
        ]
        start = self.vendor.created_at - 7 * _DAY
        years = 7 if vcek else 1
        return VekRecipe(f"SEV-{self.kind}", tuple(extensions), start, start + years * 365 * _DAY)


def certificate_table(entries: dict[UUID, bytes]) -> bytes:
    """Encode a certificate table: entries of GUID, offset and length, a zero one, then the blobs."""
    offset = 24 * (len(entries) + 1)
    table = b""
    for guid, blob in entries.items():
        table += guid.bytes + struct.pack("<II", offset, len(blob))
        offset += len(blob)
    return table + bytes(24) + b"".join(entries.values())
