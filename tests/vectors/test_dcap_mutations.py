"""One bit of accepted evidence, or of its collateral, flipped at a time: we and the oracle must say the same.

The fields of a quote are each tried at their first and last byte; certificates, CRLs and JSON documents at bytes spread
over their length. Whether a flip must be refused depends on the byte, so the oracle is the judge of that. It never
reads roots nor the PCK CRL's issuer chain, so these are tried at a few bytes only: each of them is a listed difference.
"""

import struct
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from dcap_cases import load_case, our_verdict

from proxy_attestation.appraisal.endorsements import DcapEndorsements
from proxy_attestation.formats.dcap_quote import Quote, decode_quote

pytestmark = pytest.mark.exhaustive

_ACCEPTED = {
    "sgx-v3": "sgx-v3-dcap-qvl-sgx-quote-f8b81014@sgx-00a067110000-eval17-processor-20250619-c0673c",
    "tdx-v4": "tdx-v4-dcap-qvl-tdx-quote-f1c85033@tdx-b0c06f000000-eval17-platform-20250619-8ed914",
    "tdx-v5": "tdx-v5-go-tdx-guest-quote-v5-sample-cf77a6e9@tdx-90c06f000000-eval18-platform-20260201-9c6045",
}
_HEADER = {
    "version": (0, 2), "key_type": (2, 2), "tee_type": (4, 4), "svns": (8, 4), "vendor": (12, 16),
    "user_data": (28, 20),
}  # fmt: skip
_SGX_BODY = {
    "cpu_svn": (0, 16), "misc_select": (16, 4), "reserved_1": (20, 12), "isv_ext_prod_id": (32, 16),
    "attributes": (48, 16), "mr_enclave": (64, 32), "reserved_2": (96, 32), "mr_signer": (128, 32),
    "reserved_3": (160, 32), "config_id": (192, 64), "isv_prod_id": (256, 2), "isv_svn": (258, 2),
    "config_svn": (260, 2), "reserved_4": (262, 42), "isv_family_id": (304, 16), "report_data": (320, 64),
}  # fmt: skip
_TD_BODY = {
    "tee_tcb_svn": (0, 16), "mr_seam": (16, 48), "mr_signer_seam": (64, 48), "seam_attributes": (112, 8),
    "td_attributes": (120, 8), "xfam": (128, 8), "mr_td": (136, 48), "mr_config_id": (184, 48), "mr_owner": (232, 48),
    "mr_owner_config": (280, 48), "rtmr0": (328, 48), "rtmr1": (376, 48), "rtmr2": (424, 48), "rtmr3": (472, 48),
    "report_data": (520, 64),
}  # fmt: skip
_TD_BODY_15 = {"tee_tcb_svn_2": (584, 16), "mr_service_td": (600, 48)}
_PIECES = (
    "tcb_info", "tcb_info_issuer_chain", "qe_identity", "qe_identity_issuer_chain", "pck_crl", "pck_crl_issuer_chain",
    "root_ca_crl",
)  # fmt: skip


def _fields(quote: Quote) -> dict[str, tuple[int, int]]:
    """Return offset and length of every field of the quote."""
    fields = dict(_HEADER)
    start = len(quote.signed) - len(quote.body)
    if quote.version == 5:
        fields |= {"body_type": (48, 2), "body_size": (50, 4)}
    body = _SGX_BODY if quote.version == 3 else _TD_BODY | (_TD_BODY_15 if len(quote.body) == 648 else {})
    fields |= {f"body.{name}": (start + offset, length) for name, (offset, length) in body.items()}
    position = len(quote.signed)
    names = [("signature_size", 4), ("signature", 64), ("attestation_key", 64)]
    if quote.version != 3:
        names += [("outer_type", 2), ("outer_size", 4)]
    for name, length in names:
        fields[name] = (position, length)
        position += length
    fields |= {f"qe.{name}": (position + offset, length) for name, (offset, length) in _SGX_BODY.items()}
    position += 384
    for name, length in (
        ("qe_report_signature", 64),
        ("authentication_size", 2),
        ("authentication", len(quote.qe_authentication_data)),
        ("certification_type", 2),
        ("certification_size", 4),
    ):
        fields[name] = (position, length)
        position += length
    assert quote.data[position:] == quote.certification_data
    return fields


def _flips(data: bytes, positions: Iterable[int]) -> Iterator[tuple[str, bytes]]:
    for position in positions:
        for bit in (0x01, 0x80):
            yield f"{position}^{bit:02x}", data[:position] + bytes([data[position] ^ bit]) + data[position + 1 :]


def _spread(length: int, count: int) -> list[int]:
    return sorted({index * (length - 1) // (count - 1) for index in range(count)})


def _chain_positions(pem: bytes, count: int) -> list[int]:
    """Return positions all over the certificates of a chain; of the root, which is the last, two, and the very end."""
    root = pem.rindex(b"-----BEGIN ")
    middle = (root + len(pem)) // 2
    return [*_spread(root, count), middle, middle + 100, len(pem) - 1]


def _quote_mutations(data: bytes) -> Iterator[tuple[str, bytes]]:
    quote = decode_quote(data)
    for name, (offset, length) in _fields(quote).items():
        for where, mutated in _flips(data, sorted({offset, offset + length - 1})):
            yield f"{name}@{where}", mutated
    chain = len(data) - len(quote.certification_data)
    for where, mutated in _flips(data, (chain + at for at in _chain_positions(quote.certification_data, 50))):
        yield f"chain@{where}", mutated
    for size in (0, 47, 48, 435, 436, len(data) - 1):
        yield f"cut@{size}", data[:size]
    for tail in (b"\0", b"\xff", bytes(70) + b"\x01"):
        yield f"trailing@{tail.hex()[-4:]}", data + tail


def _lengths(data: bytes) -> Iterator[tuple[str, bytes]]:
    """Set each declared size to values around the true one and to extremes."""
    quote = decode_quote(data)
    for name, (offset, length) in _fields(quote).items():
        if name.endswith("_size"):
            true = int.from_bytes(data[offset : offset + length], "little")
            for value in {0, true - 1, true + 1, 2**31 if length == 4 else 2**15, 2 ** (8 * length) - 1} - {true}:
                packed = struct.pack("<I" if length == 4 else "<H", value)
                yield f"{name}={value}", data[:offset] + packed + data[offset + length :]


@pytest.mark.parametrize("name", _ACCEPTED)
def test_quotes(
    name: str,
    *,
    vectors_dir: Path,
    vector_index: dict[str, dict[str, Any]],
    oracle: Callable[[bytes, DcapEndorsements, bytes, datetime], str],
    agree: Callable[[str, str, str], None],
    listed_differences: dict[str, list[str]],
) -> None:
    data, endorsements, now, root = load_case(vectors_dir, vector_index[_ACCEPTED[name]])
    seen = set()
    for where, mutated in (*_quote_mutations(data), *_lengths(data)):
        ours = our_verdict(mutated, endorsements, now)
        agree(f"mutation:{name}:{where}", ours, oracle(mutated, endorsements, root, now))
        seen.add(f"mutation:{name}:{where}")
    assert len(seen) > 250
    of_collateral = tuple(f"mutation:{name}:{piece}@" for piece in _PIECES)
    listed = {case for case in listed_differences if case.startswith(f"mutation:{name}:")}
    assert {case for case in listed if not case.startswith(of_collateral)} <= seen


@pytest.mark.parametrize("piece", _PIECES)
@pytest.mark.parametrize("name", ["sgx-v3", "tdx-v4"])
def test_collateral(
    name: str,
    piece: str,
    *,
    vectors_dir: Path,
    vector_index: dict[str, dict[str, Any]],
    oracle: Callable[[bytes, DcapEndorsements, bytes, datetime], str],
    agree: Callable[[str, str, str], None],
    listed_differences: dict[str, list[str]],
) -> None:
    data, endorsements, now, root = load_case(vectors_dir, vector_index[_ACCEPTED[name]])
    original: bytes = getattr(endorsements, piece)
    if piece == "pck_crl_issuer_chain":
        positions = _spread(len(original), 4)
    elif piece.endswith("_chain"):
        positions = _chain_positions(original, 40)
    else:
        positions = _spread(len(original), 60)
    seen = set()
    for where, flipped in _flips(original, positions):
        changes: dict[str, Any] = {piece: flipped}
        mutated = replace(endorsements, **changes)
        agree(f"mutation:{name}:{piece}@{where}", our_verdict(data, mutated, now), oracle(data, mutated, root, now))
        seen.add(f"mutation:{name}:{piece}@{where}")
    assert {case for case in listed_differences if case.startswith(f"mutation:{name}:{piece}@")} <= seen
