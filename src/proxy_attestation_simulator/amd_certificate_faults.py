"""Faults of AMD's certificates and revocation lists; `amd_faults.py` has the table."""

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any, Final

from proxy_attestation_simulator import der
from proxy_attestation_simulator.amd_recipes import SnpRecipe
from proxy_attestation_simulator.faults import Registry, choice, number
from proxy_attestation_simulator.recipes import Crl

CERTIFICATE_FAULTS: Final = Registry[SnpRecipe]()
_TEES: Final = ("snp",)
_YEAR: Final = timedelta(days=365)
_KEY_INFO, _REPORTED = 0x048, 0x180
_ARC: Final = b"\x2b\x06\x01\x04\x01\x9c\x78\x01"
"""AMD's arc in DER: 1.3.6.1.4.1.3704.1."""


def _add(
    name: str,
    doc: str,
    code: str,
    apply: Callable[[SnpRecipe, str], SnpRecipe],
    *,
    value: str = "",
    default: str | None = None,
) -> None:
    CERTIFICATE_FAULTS.add(name, doc, code, apply, value=value, default=default, tees=_TEES)


def _changed(**changes: Any) -> Callable[[SnpRecipe, str], SnpRecipe]:
    return lambda recipe, _: replace(recipe, **changes)


def _vek(**changes: Any) -> Callable[[SnpRecipe, str], SnpRecipe]:
    return lambda recipe, _: replace(recipe, vek=replace(recipe.vek, **changes))


def _extension(oid: str, value: bytes) -> Callable[[SnpRecipe, str], SnpRecipe]:
    return lambda recipe, _: replace(recipe, vek=recipe.vek.with_extension(oid, value))


def _crl(change: Callable[[Crl], Crl]) -> Callable[[SnpRecipe, str], SnpRecipe]:
    return lambda recipe, _: replace(recipe, crls=tuple(change(crl) for crl in recipe.crls))


def _crl_moved(by: timedelta) -> Callable[[SnpRecipe, str], SnpRecipe]:
    return _crl(lambda crl: replace(crl, last_update=crl.last_update + by, next_update=crl.next_update + by))


_add(
    "vek-product",
    "the certificate names no processor line that is known",
    "product",
    _extension("2", der.tlv(0x16, b"Venice")),
)
_add("no-vek", "no VCEK or VLEK is given", "endorsements_missing", _changed(chain=("issuer", "ark")))
_add("no-issuer", "no ASK or ASVK is given", "endorsements_missing", _changed(chain=("vek", "ark")))
_add("no-ark", "no ARK is given", "endorsements_missing", _changed(chain=("vek", "issuer")))
_add(
    "other-kind",
    "KEY_INFO names the other kind of signing key",
    "endorsements_missing",
    lambda recipe, _: recipe.put(_KEY_INFO, b"\x00" if recipe.kind == "VLEK" else b"\x04"),
)
_add(
    "garbage-certificate",
    "the certificate's version is none",
    "chain",
    _vek(patches=((b"\xa0\x03\x02\x01\x02", b"\xa0\x03\x02\x01\x07"),)),
)
_add(
    "vek-unknown-extension",
    "the certificate has an extension of AMD's that is not known",
    "vek",
    _extension("9", der.integer(0)),
)
_add(
    "vek-duplicate-extension",
    "the certificate has two microcode levels",
    "vek",
    _vek(patches=((_ARC + b"\x03\x05", _ARC + b"\x03\x08"),)),
)
_add("vek-spl-malformed", "a security patch level is no INTEGER", "vek", _extension("3.8", b"\x04\x01\x00"))
_add(
    "vek-spl-foreign",
    "the certificate has a level that the processor line does not have",
    "vek",
    lambda recipe, _: replace(
        recipe, vek=recipe.vek.with_extension("3.4" if recipe.line.name == "Turin" else "3.9", der.integer(1))
    ),
)
_add(
    "vek-struct-version",
    "the certificate's structure version is N",
    "vek",
    lambda recipe, value: replace(recipe, vek=recipe.vek.with_extension("1", der.integer(number(value, 255)))),
    value="N",
    default="2",
)
_add(
    "vek-chip-id-length", "the certificate's chip id has 16 bytes", "vek", _extension("4", der.octet_string(bytes(16)))
)
_add(
    "vek-mixed",
    "the certificate has a chip id and a cloud provider",
    "vek",
    lambda recipe, _: replace(
        recipe,
        vek=recipe.vek.with_extension("4", bytes(64)).with_extension("5", der.tlv(0x16, b"CN=simulated.example")),
    ),
)
_add(
    "other-chip",
    "the certificate is another chip's",
    "chip_id",
    lambda recipe, _: _with_chip_id(recipe, bytes([dict(recipe.vek.extensions)["4"][0] ^ 1])),
)
_add(
    "hw-id-octet-string",
    "the certificate's chip id is a DER OCTET STRING",
    "accepted",
    lambda recipe, _: replace(
        recipe, vek=recipe.vek.with_extension("4", der.octet_string(dict(recipe.vek.extensions)["4"]))
    ),
)
# The chain.
_add("wrong-root", "ARK and ASK or ASVK are another vendor's", "root", _changed(stranger=True))
_add("vek-signature", "another key signed the VCEK or VLEK", "chain", _vek(signer="other"))
_add("issuer-signature", "another key signed the ASK or ASVK", "chain", _changed(issuer="other"))
_add("issuer-not-ca", "the ASK or ASVK is no CA", "chain", _changed(issuer="not-ca"))
_add("ark-not-ca", "the ARK is no CA", "chain", _changed(ark="not-ca"))
_add("ark-path-length", "the ARK may have no CA below it", "chain", _changed(ark="depth"))
_add("vek-is-ca", "the VCEK or VLEK is a CA", "chain", _vek(is_ca=True))
_add("vek-critical-extension", "the VCEK or VLEK has an unknown critical extension", "chain", _vek(critical=True))
_add("vek-expired", "the VCEK or VLEK has expired", "expired", lambda recipe, _: _shifted(recipe, -10 * _YEAR))
_add("vek-early", "the VCEK or VLEK is not valid yet", "expired", lambda recipe, _: _shifted(recipe, _YEAR))
_add("issuer-expired", "the ASK or ASVK has expired", "expired", _changed(issuer="expired"))
_add("ark-expired", "the ARK has expired", "expired", _changed(ark="expired"))
# The revocation list.
_add("issuer-revoked", "the ASK or ASVK is revoked", "revoked", lambda recipe, _: _revoked(recipe, recipe.kind))
_add("ark-revoked", "the ARK is revoked", "revoked", lambda recipe, _: _revoked(recipe, "ark"))
_add("crl-signature", "another key signed the list", "crl", _crl(lambda crl: replace(crl, issuer="other")))
_add("crl-malformed", "the list is none", "crl", _changed(crl_bytes=b"\x30\x03\x02\x01\x00"))
_add("crl-no-number", "the list has no number", "crl", _crl(lambda crl: replace(crl, number=None)))
_add("crl-not-allowed", "the ARK's key usage allows no lists", "crl", _changed(ark="no-crl"))
_add("crl-expired", "the list has expired", "crl_expired", _crl_moved(-_YEAR))
_add("crl-early", "the list is not valid yet", "crl_expired", _crl_moved(_YEAR))
_add("no-crl", "no list is given", "crl_missing", _changed(crls=()))
_add(
    "crl-old",
    "the list has a lower number than one before",
    "endorsements_floor",
    _crl(lambda crl: replace(crl, number=(crl.number or 0) - 1)),
)


@CERTIFICATE_FAULTS.fault(
    "vek-without", "the certificate lacks an extension", "vek", value="NAME", default="ucodeSPL", tees=_TEES
)
def _vek_without(recipe: SnpRecipe, value: str) -> SnpRecipe:
    oids = {"structVersion": "1", "productName": "2", "snpSPL": "3.3", "ucodeSPL": "3.8", "hwID": "4", "cspID": "5"}
    return replace(recipe, vek=recipe.vek.with_extension(oids[choice(value, oids)], None))


@CERTIFICATE_FAULTS.fault(
    "vek-old-tcb",
    "the certificate is for a level one lower",
    "tcb_mismatch",
    value="NAME",
    default="snpSPL",
    tees=_TEES,
)
def _vek_old_tcb(recipe: SnpRecipe, value: str) -> SnpRecipe:
    oids = {"blSPL": "3.1", "snpSPL": "3.3", "ucodeSPL": "3.8"}
    byte = recipe.line.layout.index(choice(value, oids))
    return replace(recipe, vek=recipe.vek.with_extension(oids[value], der.integer(recipe.report[_REPORTED + byte] - 1)))


def _with_chip_id(recipe: SnpRecipe, start: bytes) -> SnpRecipe:
    chip = dict(recipe.vek.extensions)["4"]
    return replace(recipe, vek=recipe.vek.with_extension("4", start + chip[len(start) :]))


def _shifted(recipe: SnpRecipe, by: timedelta) -> SnpRecipe:
    vek = recipe.vek
    return replace(recipe, vek=replace(vek, not_before=vek.not_before + by, not_after=vek.not_after + by))


def _revoked(recipe: SnpRecipe, whose: str) -> SnpRecipe:
    serial = {"ark": 0x10000, "VCEK": 0x10001, "VLEK": 0x10101}[whose]
    serial += ("Milan", "Genoa", "Turin").index(recipe.line.name) << 16
    return replace(recipe, crls=tuple(replace(crl, revoked=(serial,)) for crl in recipe.crls))
