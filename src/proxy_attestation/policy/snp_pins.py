"""What an entry must pin of an SEV-SNP guest, read into pins, matched with a report, and shown.

The measurement covers what the guest started with, not what asked for the report: a lower privilege level has the
same measurement, so the level is pinned. Neither does it cover the guest policy, which the host passes at launch. TCB
numbers mean nothing across processor lines (Genoa's microcode has lower numbers than Milan's), so a minimum is for one
line, which is pinned too. A VLEK proves a cloud provider's fleet and no chip: whose fleet must be pinned.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from proxy_attestation.appraisal.snp_claims import SnpClaims
from proxy_attestation.codes import Code
from proxy_attestation.errors import Mismatch
from proxy_attestation.formats.bounds import PIN_VALUES_MAX
from proxy_attestation.formats.snp_report import TCB_LAYOUT, Product, tcb_components
from proxy_attestation.policy.model import MaskedBytes
from proxy_attestation.policy.reader import Fault, TableReader, show
from proxy_attestation.policy.vocabulary import PinKey, PinKind, PinValue, compare, read_pin, readable

SNP_PINS: Final = (
    PinKey("measurement", PinKind.ANY_OF, 48, Code.POLICY_MEASUREMENT, zero=False),
    PinKey("vmpl", PinKind.NUMBER, 1, Code.POLICY_ATTRIBUTES),
    PinKey("policy", PinKind.MASKED, 8, Code.POLICY_ATTRIBUTES),
    PinKey("platform_info", PinKind.MASKED, 8, Code.POLICY_ATTRIBUTES),
    PinKey("launch_mit_vector", PinKind.MASKED, 8, Code.POLICY_ATTRIBUTES),
    PinKey("current_mit_vector", PinKind.MASKED, 8, Code.POLICY_ATTRIBUTES),
    PinKey("host_data", PinKind.ANY_OF, 32, Code.POLICY_CONFIG),
    PinKey("id_key_digest", PinKind.ANY_OF, 48, Code.POLICY_SIGNER, zero=False),
    PinKey("author_key_digest", PinKind.ANY_OF, 48, Code.POLICY_SIGNER, zero=False),
    PinKey("family_id", PinKind.ANY_OF, 16, Code.POLICY_PRODUCT),
    PinKey("image_id", PinKind.ANY_OF, 16, Code.POLICY_PRODUCT),
    PinKey("min_guest_svn", PinKind.AT_LEAST, 4, Code.POLICY_SVN),
)
"""SEV-SNP firmware ABI, ATTESTATION_REPORT; lengths as in `appraisal.snp_claims.SnpClaims`. All but the first three may
be absent, and then do not matter. A report before version 5 has no mitigation vectors, and so none that are pinned."""
SNP_KEYS: Final = ("product", "min_tcb", "csp_id")
"""The keys beside those: the processor line, a table of minimum TCB components, and the cloud providers of VLEKs."""
SNP_MINIMUM: Final = ("measurement", "vmpl", "policy", "product", "min_tcb")

_COMPONENTS: Final = {
    "fmcSPL": "fmc",
    "blSPL": "bootloader",
    "teeSPL": "tee",
    "snpSPL": "snp",
    "ucodeSPL": "microcode",
}
_TCBS: Final = ("reported_tcb", "committed_tcb", "launch_tcb")
_VMPL_MAX: Final = 3
_CSP_ID_MAX: Final = 128
_MIGRATE_MA: Final = 1 << 18


@dataclass(frozen=True, slots=True)
class SnpPins:
    """What an SEV-SNP guest and its machine must be.

    Attributes:
        values: by key of `SNP_PINS`, those that the entry has.
        product: the processor line.
        min_tcb: the least value of every component of that line, by the names in `_COMPONENTS`.
        csp_id: accepted cloud providers of a VLEK; empty demands a VCEK.
    """

    values: Mapping[str, PinValue]
    product: Product
    min_tcb: Mapping[str, int]
    csp_id: tuple[str, ...]


def components_of(product: Product) -> tuple[str, ...]:
    """Return the names of a line's TCB components, in the order of the bytes."""
    return tuple(_COMPONENTS[name] for name in TCB_LAYOUT[product] if name in _COMPONENTS)


def parse_snp_pins(reader: TableReader) -> SnpPins | None:
    """Read the pins of an entry; None, with every problem noted, where they are wrong or below the minimum."""
    noted = len(reader.issues)
    read = {key.name: read_pin(key, reader) for key in SNP_PINS}
    vmpl = read["vmpl"]
    if isinstance(vmpl, int) and vmpl > _VMPL_MAX:
        reader.note("vmpl", f"no guest has privilege level {vmpl}", "write 0 to 3")
    product = reader.value("product", _read_product)
    min_tcb = None if product is None else _read_tcb(product, reader)
    csp_id = reader.values("csp_id", PIN_VALUES_MAX, _read_csp_id)
    reader.require(SNP_MINIMUM, f"below the minimum pins of snp, which are {', '.join(SNP_MINIMUM)}")
    if len(reader.issues) > noted or product is None or min_tcb is None:
        return None
    values = {name: value for name, value in read.items() if value is not None and value != ()}
    return SnpPins(values, product, min_tcb, csp_id)


def _read_product(text: str) -> Product | Fault:
    if text in list(Product):
        return Product(text)
    return Fault(f"{show(text)} is no processor line", f"known: {', '.join(Product)}")


def _read_csp_id(text: str) -> str | Fault:
    if len(text) <= _CSP_ID_MAX and text.isascii() and text.isprintable():
        return text
    return Fault(f"{show(text)} is no cloud provider's id", "write it as `appraise` prints csp_id")


def _read_tcb(product: Product, reader: TableReader) -> dict[str, int] | None:
    table = reader.child("min_tcb", f"{reader.title}: min_tcb")
    if table is None:
        return None
    names = components_of(product)
    table.refuse_unknown(names)
    if not table.require(names, f"every component of {product} has a minimum, 0 where none is meant"):
        return None
    return {name: table.integer(name, 0, 0xFF) or 0 for name in names}


def match_snp_pins(pins: SnpPins, body: SnpClaims) -> tuple[Mismatch, ...]:
    """Compare a report with pins; every mismatch, in the order of the vocabulary."""
    return tuple(_mismatches(pins, body))


def _mismatches(pins: SnpPins, body: SnpClaims) -> Iterator[Mismatch]:
    for key in SNP_PINS:
        wanted = pins.values.get(key.name)
        # No file can be below the minimum. Pins made in another way can: what they lack then matches nothing.
        wanted = () if wanted is None and key.name in SNP_MINIMUM else wanted
        mismatch = None if wanted is None else compare(key, wanted, getattr(body, key.claim))
        if mismatch is not None:
            yield mismatch
    policy = pins.values.get("policy")
    pinned = isinstance(policy, MaskedBytes) and int.from_bytes(policy.value, "little") & _MIGRATE_MA
    if body.migrate_ma and not pinned:
        yield MIGRATION_AGENT
    if body.csp_id not in (pins.csp_id or (None,)):
        yield Mismatch(Code.POLICY_SIGNER, "csp_id", " or ".join(pins.csp_id) or "a VCEK", body.csp_id or "a VCEK")
    if body.product is not pins.product:
        yield Mismatch(Code.POLICY_PRODUCT, "product", str(pins.product), str(body.product))
        return
    for tcb in _TCBS:
        found = tcb_components(pins.product, getattr(body, tcb))
        for name, value in found.items():
            least = pins.min_tcb.get(_COMPONENTS[name])
            if least is None or value < least:
                expected = "nothing" if least is None else f"at least {least}"
                yield Mismatch(Code.SNP_TCB_STATUS, f"min_tcb.{_COMPONENTS[name]}", expected, f"{tcb} {value}")


MIGRATION_AGENT: Final = Mismatch(Code.SNP_MIGRATION_AGENT, "policy", "no migration agent", "one is allowed")


def production_mismatches(body: SnpClaims, *, allow_debug: bool) -> tuple[Mismatch, ...]:
    """Return what no production guest has, whatever else is demanded: for a verdict without a policy."""
    debug = Mismatch(Code.SNP_DEBUG, "debug", "false", "true")
    found = ((body.debug and not allow_debug, debug), (body.migrate_ma, MIGRATION_AGENT))
    return tuple(mismatch for present, mismatch in found if present)


def snp_pins_readable(pins: SnpPins) -> dict[str, tuple[str, ...]]:
    """Return what pins demand, for people: by key name, one text for each accepted value."""
    shown = {}
    for key in SNP_PINS:
        wanted = pins.values.get(key.name)
        if wanted is not None:
            shown[key.name] = tuple(
                readable(key, item) for item in (wanted if isinstance(wanted, tuple) else (wanted,))
            )
    shown["product"] = (str(pins.product),)
    shown["min_tcb"] = tuple(f"{name} at least {least}" for name, least in pins.min_tcb.items())
    return shown | ({"csp_id": pins.csp_id} if pins.csp_id else {})
