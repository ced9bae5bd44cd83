"""Every field of every certificate, list and document beside accepted quotes flipped in turn: the oracle must agree.

A field is a primitive value of the DER, or a scalar of the JSON; the lowest bit of its last byte is turned over. Each
certificate is broken where it is used: those of the platform in the quote, those above the collateral in its issuer
chains. The fields of the quote itself are in `test_dcap_mutations.py`.
"""

import struct
from base64 import encodebytes
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any, Final

import pytest
from dcap_cases import load_case, our_verdict
from fields import der_fields, json_fields

from proxy_attestation.appraisal.endorsements import DcapEndorsements
from proxy_attestation.codes import Code
from proxy_attestation.formats.dcap_quote import decode_quote
from proxy_attestation.formats.pem import CERTIFICATE, decode_pem

pytestmark = pytest.mark.exhaustive

ACCEPTED: Final = {
    "sgx-v3": "sgx-v3-dcap-qvl-sgx-quote-f8b81014@sgx-00a067110000-eval17-processor-20250619-c0673c",
    "tdx-v4": "tdx-v4-dcap-qvl-tdx-quote-f1c85033@tdx-b0c06f000000-eval17-platform-20250619-8ed914",
    "tdx-v5": "tdx-v5-go-tdx-guest-quote-v5-sample-cf77a6e9@tdx-90c06f000000-eval18-platform-20260201-9c6045",
}
ROLES: Final = ("pck", "ca", "root")
CHAINS: Final = ("tcb_info_issuer_chain", "qe_identity_issuer_chain", "pck_crl_issuer_chain")
DOCUMENTS: Final = ("tcb_info", "qe_identity")
LISTS: Final = ("pck_crl", "root_ca_crl")

Mutation = tuple[str, bytes, DcapEndorsements]


def flipped(data: bytes, offset: int, length: int) -> bytes:
    """Turn over the lowest bit of a field's last byte."""
    at = offset + length - 1
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]


def _pem(ders: Sequence[bytes]) -> bytes:
    begin, end = b"-----BEGIN CERTIFICATE-----\n", b"-----END CERTIFICATE-----\n"
    return b"".join(begin + encodebytes(der) + end for der in ders)


def _with_chain(quote: bytes, pem: bytes) -> bytes:
    """Put another chain into a quote; no signature covers it."""
    parsed = decode_quote(quote)
    whole = bytearray(quote[: quote.index(parsed.certification_data) - 4])
    whole += struct.pack("<I", len(pem)) + pem
    size = len(parsed.signed)
    whole[size : size + 4] = struct.pack("<I", len(whole) - size - 4)
    if parsed.version != 3:
        whole[size + 134 : size + 138] = struct.pack("<I", len(whole) - size - 138)
    return bytes(whole)


def _ders(pem: bytes) -> tuple[bytes, ...]:
    return decode_pem(pem, CERTIFICATE, Code.INTERNAL, count=4, limit=4096)


def platform_mutations(quote: bytes, endorsements: DcapEndorsements) -> Iterator[Mutation]:
    """Break the certificates in the quote."""
    ders = _ders(decode_quote(quote).certification_data)
    yield "whole", _with_chain(quote, _pem(ders)), endorsements
    for index, role in enumerate(ROLES):
        for path, offset, length in der_fields(ders[index]):
            changed = _pem([*ders[:index], flipped(ders[index], offset, length), *ders[index + 1 :]])
            yield f"{role}:{path}", _with_chain(quote, changed), endorsements


def collateral_mutations(quote: bytes, endorsements: DcapEndorsements) -> Iterator[Mutation]:
    """Break the collateral."""
    for name in (*CHAINS, *DOCUMENTS, *LISTS):
        piece: bytes = getattr(endorsements, name)
        changes: list[tuple[str, bytes]] = []
        if name in DOCUMENTS:
            changes = [(path, flipped(piece, offset, length)) for path, offset, length in json_fields(piece)]
        elif name in LISTS:
            changes = [(path, flipped(piece, offset, length)) for path, offset, length in der_fields(piece)]
        else:
            ders = _ders(piece)
            for index, der in enumerate(ders):
                changes += [
                    (f"{index}:{path}", _pem([*ders[:index], flipped(der, offset, length), *ders[index + 1 :]]))
                    for path, offset, length in der_fields(der)
                ]
        for path, changed in changes:
            one: Any = {name: changed}
            yield f"{name}:{path}", quote, replace(endorsements, **one)


@pytest.mark.parametrize("what", ["platform", "collateral"])
@pytest.mark.parametrize("name", ACCEPTED)
def test_every_field(
    name: str,
    what: str,
    *,
    vectors_dir: Path,
    vector_index: dict[str, dict[str, Any]],
    oracle: Callable[[bytes, DcapEndorsements, bytes, datetime], str],
    agree: Callable[[str, str, str], None],
    listed_differences: dict[str, list[str]],
) -> None:
    quote, endorsements, now, root = load_case(vectors_dir, vector_index[ACCEPTED[name]])
    mutations = platform_mutations if what == "platform" else collateral_mutations
    of_platform = tuple(f"field:{name}:{role}:" for role in ROLES)
    listed = {
        case: verdicts
        for case, verdicts in listed_differences.items()
        if case.startswith(f"field:{name}:") and case.startswith(of_platform) is (what == "platform")
    }
    seen, used = 0, set()
    for where, changed, beside in mutations(quote, endorsements):
        case = f"field:{name}:{where}"
        ours, theirs = our_verdict(changed, beside, now), oracle(changed, beside, root, now)
        assert where != "whole" or "." not in ours
        # What the oracle does not read at all is listed once, with a star for its fields.
        unread = next((entry for entry in listed if case.startswith(entry.removesuffix("*"))), None)
        if unread is None or theirs == ours:
            agree(case, ours, theirs)
        else:
            assert listed[unread] == ["refused" if "." in ours else ours, theirs], case
            used.add(unread)
        seen += 1
    assert seen > 100
    # An entry without any field that differs is out of date.
    assert used == set(listed)
