"""A small AMD, as KDS serves it: chains, revocation lists and VCEKs of the simulator's fixed vendor."""

import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from functools import cache

from cryptography.hazmat.primitives.asymmetric import ec
from fake_vendors import NOW, Reply, Request

from proxy_attestation_simulator import der
from proxy_attestation_simulator.amd import AmdVendor
from proxy_attestation_simulator.amd_certificates import issue_ca, issue_vek, revocation_list
from proxy_attestation_simulator.amd_keys import derive_p384
from proxy_attestation_simulator.recipes import Crl

_DAY = timedelta(days=1)
_ROLES = {"vcek": "ask", "vlek": "asvk"}
_SERIALS = {"ark": 1, "ask": 2, "asvk": 3}
_OIDS = {"bl": "3.1", "tee": "3.2", "snp": "3.3", "ucode": "3.8", "fmc": "3.9"}
VENDOR = AmdVendor.fixed(NOW)


# Kept, since a PSS signature has a random salt, and a vendor serves the same bytes twice.
@cache
def _authority(product: str, role: str, label: str, signer: str, validity: tuple[datetime, datetime]) -> bytes:
    names = {"ark": f"ARK-{product}", "ask": f"SEV-{product}", "asvk": f"SEV-VLEK-{product}"}
    return issue_ca(
        names[role],
        VENDOR.key(label),
        _SERIALS[role],
        validity,
        issuer=names["ark"],
        signing_key=VENDOR.key(signer),
        path_length=1 if role == "ark" else 0,
        crl_sign=role == "ark",
    )


@cache
def _crl(made: Crl, issuer: str, signer: str) -> bytes:
    return revocation_list(made, issuer, VENDOR.key(signer))


@dataclass
class FakeAmd:
    """One product's hierarchy.

    Attributes:
        product: `Milan`, `Genoa` or `Turin`.
        label: "amd", or another for another vendor's keys under the same names.
        crl_number: of both CRLs; None leaves it out.
        crl_issued: this update.
        crl_lasts: until its next update.
        revoked: whether the CRL lists the signing keys.
        ends: of ARK, ASK and ASVK.
        begins: likewise.
    """

    product: str = "Milan"
    label: str = "amd"
    crl_number: int | None = 5
    crl_issued: datetime = NOW - _DAY
    crl_lasts: timedelta = 60 * _DAY
    revoked: bool = False
    ends: datetime = NOW + 3650 * _DAY
    begins: datetime = NOW - 365 * _DAY
    requests: list[Request] = field(default_factory=list)

    @property
    def pin(self) -> bytes:
        return VENDOR.ark_pin(self.product)

    @property
    def ark(self) -> bytes:
        return self.authority("ark")

    @property
    def ask(self) -> bytes:
        return self.authority("ask")

    def _label(self, role: str) -> str:
        return f"{'' if self.label == 'amd' else 'stranger '}{self.product} {role}"

    def authority(self, role: str) -> bytes:
        """Return the DER of the ARK, ASK or ASVK."""
        return _authority(self.product, role, self._label(role), self._label("ark"), (self.begins, self.ends))

    def chain(self, kind: str) -> bytes:
        ders = (self.authority(_ROLES[kind]), self.ark)
        return "".join(ssl.DER_cert_to_PEM_cert(item) for item in ders).encode()

    def crl(self) -> bytes:
        revoked = (_SERIALS["ask"], _SERIALS["asvk"]) if self.revoked else ()
        made = Crl(self.crl_number, self.crl_issued, self.crl_issued + self.crl_lasts, revoked)
        return _crl(made, f"ARK-{self.product}", self._label("ark"))

    def vcek(
        self, hwid: bytes, tcb: Mapping[str, int], *, lasts: timedelta = 700 * _DAY, product_name: str | None = None
    ) -> bytes:
        """Issue the VCEK of a chip at a TCB."""
        platform = VENDOR.platform(self.product)
        good = platform.recipe(bytes(64), now=NOW).vek
        values = dict(good.extensions)
        extensions = {
            "1": values["1"],
            "2": values["2"] if product_name is None else der.tlv(0x16, product_name.encode()),
            **{oid: value for oid, value in values.items() if oid.startswith("3.") and oid not in _OIDS.values()},
            **{_OIDS[part]: der.integer(number) for part, number in tcb.items()},
            "4": hwid,
        }
        recipe = replace(good, extensions=tuple(extensions.items()), not_before=NOW - 30 * _DAY, not_after=NOW + lasts)
        key: ec.EllipticCurvePublicKey = derive_p384(VENDOR.secret, "vcek of a fake").public_key()
        return issue_vek(recipe, key, f"SEV-{self.product}", VENDOR.key(self._label("ask")))

    def __call__(self, request: Request, number: int) -> Reply:
        del number
        self.requests.append(request)
        kind, version, product, what = request.path.strip("/").split("/")
        if version != "v1" or product != self.product:
            return Reply(404)
        if what == "cert_chain":
            return Reply(body=self.chain(kind))
        if what == "crl":
            return Reply(body=self.crl())
        tcb = {name.removesuffix("SPL"): int(value) for name, value in request.query.items()}
        return Reply(body=self.vcek(bytes.fromhex(what), tcb))
