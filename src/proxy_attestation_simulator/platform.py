"""A simulated machine with SGX or TDX: it has a PCK certificate of the vendor's and makes quotes."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import replace
from typing import TYPE_CHECKING, Final, TypeVar

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from proxy_attestation_simulator.bodies import SgxBody, TdBody
from proxy_attestation_simulator.certificates import issue, pem_chain, sgx_extension
from proxy_attestation_simulator.collateral import pck_ca_label, pck_label
from proxy_attestation_simulator.documents import qe_body
from proxy_attestation_simulator.errors import SimulatorError
from proxy_attestation_simulator.quote import QuoteKeys, assemble, qe_report_and_signature, with_fields
from proxy_attestation_simulator.quote_faults import QUOTE_FAULTS
from proxy_attestation_simulator.recipes import PckRecipe, QuoteRecipe

if TYPE_CHECKING:
    from proxy_attestation_simulator.intel import Vendor

TEE_TYPE: Final = {"sgx": 0, "tdx": 0x81}
REPORT_DATA_SIZE: Final = 64

_VERSIONS: Final = {"sgx": (3, 4, 5), "tdx": (4, 5)}
_BODY_TYPES: Final = {"sgx": (1,), "tdx": (2, 3)}
_CACHE_MAX: Final = 64
_T = TypeVar("_T")


class Platform:
    """One machine.

    Attributes:
        vendor: who made it.
        tee: "sgx" or "tdx".
        ca: which CA issued its certificate, "platform" or "processor".
        pck: what its certificate says.
        body: what its quotes attest where nothing else is asked for.
    """

    def __init__(
        self, vendor: Vendor, tee: str, *, ca: str, pck: PckRecipe, body: SgxBody | TdBody, seed: int | str
    ) -> None:
        self.vendor = vendor
        self.tee = tee
        self.ca = ca
        self.pck = pck
        self.body = body
        self._seed = seed
        self._attestation_key = vendor.key(f"attestation {tee} {seed}")
        self._other_key = vendor.key(f"other {tee} {seed}")
        self._keys: dict[tuple[object, ...], QuoteKeys] = {}
        self._qe_parts: dict[tuple[object, ...], bytes] = {}

    @property
    def fmspc(self) -> bytes:
        """6 bytes."""
        return self.pck.fmspc

    @property
    def serial(self) -> int:
        """The serial number of its PCK certificate."""
        return self.pck.serial

    @property
    def certificates(self) -> tuple[bytes, ...]:
        """DER of the PCK certificate, its CA's and the root's."""
        certificates = self._keys_for(self.recipe(bytes(REPORT_DATA_SIZE))).certificates
        return tuple(certificates[name].public_bytes(Encoding.DER) for name in ("pck", "ca", "root"))

    @property
    def certificate_chain(self) -> bytes:
        """PEM of the same."""
        certificates = self._keys_for(self.recipe(bytes(REPORT_DATA_SIZE))).certificates
        return pem_chain([certificates[name] for name in ("pck", "ca", "root")])

    def recipe(self, report_data: bytes, *, version: int | None = None, body_type: int | None = None) -> QuoteRecipe:
        """Return what a good quote is made from.

        Args:
            report_data: 64 bytes.
            version: 3 (the default for SGX), 4 (the default for TDX) or 5.
            body_type: of a v5 quote: 1 SGX, 2 TDX 1.0, 3 TDX 1.5 (the default for TDX).

        Raises:
            SimulatorError: there is no such quote.
        """
        version = _VERSIONS[self.tee][0] if version is None else version
        if version not in _VERSIONS[self.tee]:
            raise SimulatorError(f"{self.tee} quotes have versions {_VERSIONS[self.tee]}, not {version}")
        types = _BODY_TYPES[self.tee] if version == 5 else _BODY_TYPES[self.tee][:1]
        body_type = types[-1] if body_type is None else body_type
        if body_type not in types:
            raise SimulatorError(f"v{version} {self.tee} quotes have body types {types}, not {body_type}")
        return QuoteRecipe(
            version=version,
            body_type=body_type,
            header_version=version,
            tee_type=TEE_TYPE[self.tee],
            body=with_fields(self.body, {"report_data": report_data}),
            pck=self.pck,
            qe=qe_body(self.tee),
        )

    def quote(
        self,
        report_data: bytes,
        *,
        version: int | None = None,
        body_type: int | None = None,
        fault: str | Iterable[str] = (),
        **fields: bytes | int,
    ) -> bytes:
        """Make a quote.

        Args:
            report_data: 64 bytes.
            version: 3 (the default for SGX), 4 (the default for TDX) or 5.
            body_type: of a v5 quote: 1 SGX, 2 TDX 1.0, 3 TDX 1.5 (the default for TDX).
            fault: one fault, or several applied in order; see `quote_faults`.
            **fields: fields of the report body by their names in the claims, such as `mr_enclave` or `mr_td`.

        Raises:
            SimulatorError: there is no such quote, field or fault.
        """
        recipe = self.recipe(report_data, version=version, body_type=body_type)
        recipe = replace(recipe, body=with_fields(recipe.body, fields))
        recipe = QUOTE_FAULTS.apply_all(recipe, self.tee, fault)
        keys = self._keys_for(recipe)
        return assemble(recipe, keys, self._qe_part(recipe, keys))

    def _keys_for(self, recipe: QuoteRecipe) -> QuoteKeys:
        index = (recipe.stranger, recipe.ca, recipe.pck)
        if index not in self._keys:
            _bound(self._keys)
            vendor = self.vendor.stranger if recipe.stranger else self.vendor
            key = vendor.key(pck_label(self.tee, self._seed))
            issuer = vendor.authority(pck_ca_label(self.ca))
            pck = recipe.pck
            certificate = issue(
                pck.common_name,
                key,
                pck.serial,
                pck.not_before,
                pck.not_after,
                issuer=issuer,
                signing_key=None if pck.issuer == "ca" else self._other_key,
                extension=None if pck.extension == "absent" else sgx_extension(pck, platform_ca=self.ca == "platform"),
            )
            certificates: dict[str, x509.Certificate] = {
                "pck": certificate,
                "ca": vendor.authority(pck_ca_label(self.ca), recipe.ca).certificate,
                "root": vendor.root.certificate,
            }
            self._keys[index] = QuoteKeys(key, self._attestation_key, self._other_key, certificates)
        return self._keys[index]

    def _qe_part(self, recipe: QuoteRecipe, keys: QuoteKeys) -> bytes:
        index = (
            recipe.stranger,
            recipe.qe,
            recipe.authentication,
            recipe.qe_report_data_xor,
            recipe.qe_report_key,
        )
        if index not in self._qe_parts:
            _bound(self._qe_parts)
            self._qe_parts[index] = qe_report_and_signature(recipe, keys)
        return self._qe_parts[index]


def _bound(cache: dict[tuple[object, ...], _T]) -> None:
    if len(cache) >= _CACHE_MAX:
        cache.clear()


def sgx_body(svns: Iterable[int], mr_signer: bytes) -> SgxBody:
    """Return the report body of a simulated production enclave."""
    return SgxBody(
        cpu_svn=bytes(svns),
        mr_enclave=hashlib.sha256(b"simulated enclave").digest(),
        mr_signer=mr_signer,
        isv_prod_id=1,
        isv_svn=1,
    )


def td_body(tee_tcb_svn: bytes) -> TdBody:
    """Return the report body of a simulated production TD."""

    def measured(what: str) -> bytes:
        return hashlib.sha384(f"simulated {what}".encode()).digest()

    return TdBody(
        tee_tcb_svn=tee_tcb_svn,
        mr_seam=measured("TDX module"),
        mr_td=measured("TD"),
        rtmr0=measured("firmware configuration"),
        rtmr1=measured("kernel"),
        rtmr2=measured("operating system"),
        tee_tcb_svn_2=tee_tcb_svn,
    )
