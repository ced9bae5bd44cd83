"""A local stand-in for Intel: it makes platforms, and the collateral by which their quotes are judged."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable
from datetime import datetime, timedelta
from functools import cached_property
from pathlib import Path
from typing import Final, Unpack

from proxy_attestation_simulator import collateral
from proxy_attestation_simulator.collateral import FMSPC, PCE_ID, PCE_SVN, Options, known_tee, pck_ca_label, pck_label
from proxy_attestation_simulator.collateral_faults import COLLATERAL_FAULTS
from proxy_attestation_simulator.errors import SimulatorError
from proxy_attestation_simulator.files import write
from proxy_attestation_simulator.hierarchy import Hierarchy
from proxy_attestation_simulator.keys import derive, spki
from proxy_attestation_simulator.platform import Platform, sgx_body, td_body
from proxy_attestation_simulator.recipes import NEWEST, PckRecipe, components, tdx_components

_DAY: Final = timedelta(days=1)
_TDX_MODULE: Final = b"\4\1"  # ISVSVN 4 of major version 1


class Vendor(Hierarchy):
    """The vendor."""

    @classmethod
    def create(cls, now: datetime, *, secret: bytes | None = None) -> Vendor:
        """Make a vendor.

        Args:
            now: aware. Its certificates begin a month earlier and last for years.
            secret: makes the same vendor again; random by default.
        """
        return cls(os.urandom(32) if secret is None else secret, now)

    @classmethod
    def load(cls, directory: Path) -> Vendor:
        """Return the vendor that `save` wrote.

        Raises:
            SimulatorError: there is none, or its root is another one.
        """
        try:
            state = json.loads((directory / "vendor.json").read_text())
            vendor = cls(bytes.fromhex(state["secret"]), datetime.fromisoformat(state["created_at"]))
            root = (directory / "root.der").read_bytes()
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise SimulatorError(f"{directory} holds no simulated vendor: {error}") from error
        if root != vendor.root_der:
            raise SimulatorError(f"{directory}/root.der is not the root of the vendor in {directory}/vendor.json")
        return vendor

    def save(self, directory: Path) -> None:
        """Write `vendor.json` (which holds the secret, mode 0600), `root.der` and `root.pem`."""
        state = {"created_at": self.created_at.isoformat(), "secret": self.secret.hex()}
        write(directory / "vendor.json", (json.dumps(state) + "\n").encode(), mode=0o600)
        write(directory / "root.der", self.root_der)
        write(directory / "root.pem", self.root.pem)

    @property
    def root_der(self) -> bytes:
        """The root's certificate."""
        return self.root.der

    @property
    def root_pin(self) -> bytes:
        """SHA-256 of the root's SubjectPublicKeyInfo, 32 bytes."""
        return hashlib.sha256(spki(self.root.key)).digest()

    @property
    def mr_signer(self) -> bytes:
        """MRSIGNER of the enclaves: SHA-256 of the vendor's signer key (SubjectPublicKeyInfo), 32 bytes."""
        return hashlib.sha256(spki(self.key("signer"))).digest()

    @cached_property
    def stranger(self) -> Vendor:
        """Another vendor, the same in everything but its keys."""
        return Vendor(derive(self.secret, "stranger", 32), self.created_at)

    def platform(
        self,
        tee: str = "sgx",
        *,
        ca: str = "platform",
        fmspc: bytes | None = None,
        pce_id: bytes = PCE_ID,
        svns: Iterable[int] | None = None,
        pce_svn: int = PCE_SVN,
        seed: int | str = 0,
    ) -> Platform:
        """Make a machine; the same arguments make the same one.

        Args:
            tee: "sgx" or "tdx".
            ca: who issues its PCK certificate, "platform" (7 items in the extension) or "processor" (5).
            fmspc: 6 bytes, or None for the usual one of this TEE.
            pce_id: 2 bytes.
            svns: 16 component SVNs, CPUSVN alike; None for the newest level.
            pce_svn: u16.
            seed: tells machines apart.

        Raises:
            SimulatorError: there is no such TEE or CA.
        """
        known_tee(tee)
        pck_ca_label(ca)
        levels = tuple(components(NEWEST) if svns is None else svns)
        pck = PckRecipe(
            serial=self.pck_serial(tee, seed),
            fmspc=FMSPC[tee] if fmspc is None else fmspc,
            pce_id=pce_id,
            ppid=derive(self.secret, f"ppid {tee} {seed}", 16),
            platform_instance_id=derive(self.secret, f"platform instance {tee} {seed}", 16),
            svns=levels,
            cpu_svn=bytes(levels),
            pce_svn=pce_svn,
            not_before=self.created_at - 7 * _DAY,
            not_after=self.created_at + 7 * 365 * _DAY,
        )
        sgx = tee == "sgx"
        tee_tcb_svn = _TDX_MODULE + bytes(tdx_components(NEWEST)[2:])
        body = sgx_body(levels, self.mr_signer) if sgx else td_body(tee_tcb_svn)
        return Platform(self, tee, ca=ca, pck=pck, body=body, seed=seed)

    def pck_serial(self, tee: str, seed: int | str = 0) -> int:
        """Return the serial number of a machine's PCK certificate."""
        return self.serial(pck_label(tee, seed))

    def endorsements(
        self,
        tee: str = "sgx",
        now: datetime | None = None,
        *,
        fault: str | Iterable[str] = (),
        **options: Unpack[Options],
    ) -> dict[str, bytes]:
        """Make a set of collateral.

        Args:
            tee: "sgx" or "tdx".
            now: aware; the vendor's own time by default.
            fault: one fault, or several applied in order; see `collateral_faults`.
            **options: see `collateral.Options`.

        Returns:
            The pieces by their names in Intel's QuoteCollateral: documents as JSON, chains in PEM, CRLs in DER. Only
            the fault `missing` leaves one out.

        Raises:
            SimulatorError: there is no such TEE, CA or fault.
        """
        recipe = collateral.good(self, tee, self.created_at if now is None else now, options)
        recipe = COLLATERAL_FAULTS.apply_all(recipe, tee, fault)
        return collateral.make(self.stranger if recipe.stranger else self, recipe)
