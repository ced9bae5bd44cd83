"""The bodies of the calls of `wire.py`: arrays in the order of the dataclasses of `messages.py`, times in seconds.

Each pair encodes to plain values and decodes from them, strictly: exact lengths, known words, nothing beyond.
"""

from datetime import UTC, datetime
from typing import Any, Final

from proxy_attestation.appraisal.claims import Body, Claims, SgxClaims, TcbClaims, TdxClaims
from proxy_attestation.appraisal.endorsements import Floor
from proxy_attestation.authority.messages import AuthorityInfo, Issued, IssueOrder, TokenKey
from proxy_attestation.authority.token import TOKEN_LENGTH
from proxy_attestation.authority.wire import MALFORMED
from proxy_attestation.errors import FormatError
from proxy_attestation.formats import cbor
from proxy_attestation.formats.bounds import CERTIFICATE_MAX, CLAIMS_MAX, REQUEST_MAX
from proxy_attestation.formats.tee import Tee

SPKI_MAX: Final = 512
CRL_NUMBER_MAX: Final = 20

_TIME_MAX: Final = 1 << 40
_NUMBER_MAX: Final = (1 << 63) - 1
_LIST_MAX: Final = 256
_FLOORS_MAX: Final = 4096
# Field name -> length in bytes, or "u16"; "?" marks what a TDX 1.0 body does not have. In the order of the dataclass.
_SGX_FIELDS: Final[dict[str, int | str]] = {
    "cpu_svn": 16, "misc_select": 4, "attributes_flags": 8, "xfrm": 8, "mr_enclave": 32, "mr_signer": 32,
    "isv_prod_id": "u16", "isv_svn": "u16", "isv_ext_prod_id": 16, "config_id": 64, "config_svn": "u16",
    "isv_family_id": 16,
}  # fmt: skip
_TDX_FIELDS: Final = {
    "tee_tcb_svn": 16, "mr_seam": 48, "mr_signer_seam": 48, "seam_attributes": 8, "td_attributes": 8, "xfam": 8,
    "mr_td": 48, "mr_config_id": 48, "mr_owner": 48, "mr_owner_config": 48, "rtmr0": 48, "rtmr1": 48, "rtmr2": 48,
    "rtmr3": 48, "tee_tcb_svn_2": 16, "mr_service_td": 48,
}  # fmt: skip
_TDX_OPTIONAL: Final = frozenset({"tee_tcb_svn_2", "mr_service_td"})


def encode_order(order: IssueOrder) -> list[object]:
    """Encode the body of ISSUE."""
    return [
        order.token, order.request, order.spki, _encode_claims(order.claims), encode_floor(order.collateral_floor),
        order.policy_digest, order.owner_kind, order.owner_proof,
    ]  # fmt: skip


def decode_order(value: object) -> IssueOrder:
    """Decode the body of ISSUE.

    Raises:
        FormatError: `proxy.protocol`.
    """
    items = _items(value, 8)
    return IssueOrder(
        token=_bytes(items[0], 0, 2 * TOKEN_LENGTH),
        request=_bytes(items[1], 0, REQUEST_MAX),
        spki=_bytes(items[2], 0, SPKI_MAX),
        claims=_decode_claims(items[3]),
        collateral_floor=decode_floor(items[4]),
        policy_digest=_bytes(items[5], 32),
        owner_kind=_text(items[6], 32),
        owner_proof=_bytes(items[7], 0, 4096),
    )


def encode_issued(issued: Issued) -> list[object]:
    """Encode the answer to ISSUE."""
    return [
        list(issued.chain), issued.index, issued.not_before, issued.not_after, issued.claims_set, issued.generation,
    ]  # fmt: skip


def decode_issued(value: object) -> Issued:
    """Decode the answer to ISSUE.

    Raises:
        FormatError: `proxy.protocol`.
    """
    items = _items(value, 6)
    return Issued(
        chain=decode_chain(items[0]),
        index=_uint(items[1]),
        not_before=_time(items[2]),
        not_after=_time(items[3]),
        claims_set=_bytes(items[4], 1, CLAIMS_MAX),
        generation=_uint(items[5]),
    )


def decode_chain(value: object) -> tuple[bytes, ...]:
    """Decode a list of DER certificates.

    Raises:
        FormatError: `proxy.protocol`.
    """
    return tuple(_bytes(item, 1, CERTIFICATE_MAX) for item in cbor.as_list(value, MALFORMED, 16))


def encode_floor(floor: Floor) -> list[object]:
    """Encode the four numbers of a floor; CRL numbers as bytes, for they may have 20 (RFC 5280 section 5.2.3)."""
    return [
        floor.evaluation_number, floor.issue_date,
        floor.pck_crl_number.to_bytes(CRL_NUMBER_MAX, "big"), floor.root_crl_number.to_bytes(CRL_NUMBER_MAX, "big"),
    ]  # fmt: skip


def decode_floor(value: object) -> Floor:
    """Decode a floor.

    Raises:
        FormatError: `proxy.protocol`.
    """
    items = _items(value, 4)
    numbers = [int.from_bytes(_bytes(item, CRL_NUMBER_MAX), "big") for item in items[2:]]
    return Floor(cbor.as_uint(items[0], MALFORMED, 0xFFFFFFFF), _time(items[1]), numbers[0], numbers[1])


def encode_raise(tee: Tee, fmspc: bytes, floor: Floor) -> list[object]:
    """Encode the body of RAISE_FLOOR."""
    return [str(tee), fmspc, encode_floor(floor)]


def decode_raise(value: object) -> tuple[Tee, bytes, Floor]:
    """Decode the body of RAISE_FLOOR.

    Raises:
        FormatError: `proxy.protocol`.
    """
    items = _items(value, 3)
    return _tee(items[0]), _bytes(items[1], 6), decode_floor(items[2])


def decode_spki(value: object) -> bytes:
    """Decode the body of TLS_LEAF: the DER of a SubjectPublicKeyInfo.

    Raises:
        FormatError: `proxy.protocol`.
    """
    return _bytes(value, 1, SPKI_MAX)


def encode_info(info: AuthorityInfo) -> list[object]:
    """Encode the answer to HELLO."""
    return [
        info.generation, info.trust_domain, info.simulated, info.key_origin, list(info.anchors),
        [[key.key_id, key.key, key.not_after] for key in info.token_keys], info.ca_id, info.bundle_sequence,
        list(info.roots), list(info.issuing), info.policy_digest, list(info.dangers),
        [encode_raise(tee, fmspc, floor) for tee, fmspc, floor in info.floors],
    ]  # fmt: skip


def decode_info(value: object) -> AuthorityInfo:
    """Decode the answer to HELLO.

    Raises:
        FormatError: `proxy.protocol`.
    """
    items = _items(value, 13)
    keys = [_items(item, 3) for item in cbor.as_list(items[5], MALFORMED, 16)]
    return AuthorityInfo(
        generation=_uint(items[0]),
        trust_domain=cbor.as_text(items[1], MALFORMED, 255),
        simulated=_boolean(items[2]),
        key_origin=cbor.as_text(items[3], MALFORMED, 16),
        anchors=tuple(_bytes(item, 32) for item in cbor.as_list(items[4], MALFORMED, _LIST_MAX)),
        token_keys=tuple(TokenKey(_bytes(key[0], 4), _bytes(key[1], 32), _time(key[2])) for key in keys),
        ca_id=_bytes(items[6], 32),
        bundle_sequence=_uint(items[7]),
        roots=decode_chain(items[8]),
        issuing=decode_chain(items[9]),
        policy_digest=_bytes(items[10], 32),
        dangers=tuple(cbor.as_text(item, MALFORMED, 512) for item in cbor.as_list(items[11], MALFORMED, 1024)),
        floors=tuple(decode_raise(item) for item in cbor.as_list(items[12], MALFORMED, _FLOORS_MAX)),
    )


def _encode_claims(claims: Claims) -> list[object]:
    fields = _SGX_FIELDS if isinstance(claims.body, SgxClaims) else _TDX_FIELDS
    tcb = claims.tcb
    return [
        str(claims.tee), [getattr(claims.body, name) for name in fields], claims.report_data, claims.debug,
        [tcb.status, _seconds(tcb.date), list(tcb.advisories), tcb.evaluation_number, tcb.fmspc, tcb.pce_id],
        claims.instance_id, claims.anchor, claims.evidence_sha256, _seconds(claims.valid_until),
    ]  # fmt: skip


def _decode_claims(value: object) -> Claims:
    items = _items(value, 9)
    tee = _tee(items[0])
    tcb = _items(items[4], 6)
    return Claims(
        tee=tee,
        body=_decode_body(tee, items[1]),
        report_data=_bytes(items[2], 64),
        debug=_boolean(items[3]),
        tcb=TcbClaims(
            status=cbor.as_text(tcb[0], MALFORMED, 64),
            date=_moment(tcb[1]),
            advisories=tuple(cbor.as_text(item, MALFORMED, 32) for item in cbor.as_list(tcb[2], MALFORMED, _LIST_MAX)),
            evaluation_number=cbor.as_uint(tcb[3], MALFORMED, 0xFFFFFFFF),
            fmspc=_bytes(tcb[4], 6),
            pce_id=_bytes(tcb[5], 2),
        ),
        instance_id=None if items[5] is None else _bytes(items[5], 32),
        anchor=_bytes(items[6], 32),
        evidence_sha256=_bytes(items[7], 32),
        valid_until=_moment(items[8]),
    )


def _decode_body(tee: Tee, value: object) -> Body:
    fields: dict[str, int | str] = _SGX_FIELDS if tee is Tee.SGX else dict(_TDX_FIELDS)
    values: dict[str, Any] = {}
    for (name, length), item in zip(fields.items(), _items(value, len(fields)), strict=True):
        if item is None and name in _TDX_OPTIONAL:
            values[name] = None
        elif isinstance(length, int):
            values[name] = _bytes(item, length)
        else:
            values[name] = cbor.as_uint(item, MALFORMED, 0xFFFF)
    return SgxClaims(**values) if tee is Tee.SGX else TdxClaims(**values)


def _items(value: object, count: int) -> list[cbor.Value]:
    items = cbor.as_list(value, MALFORMED, count)
    if len(items) != count:
        raise FormatError(MALFORMED, f"{len(items)} members, {count} expected")
    return items


def _bytes(value: object, minimum: int, maximum: int | None = None) -> bytes:
    return cbor.as_bytes(value, MALFORMED, minimum, maximum)


def _text(value: object, maximum: int) -> str:
    if not isinstance(value, str) or len(value) > maximum:
        raise FormatError(MALFORMED, f"text of at most {maximum} characters was expected")
    return value


def _uint(value: object) -> int:
    return cbor.as_uint(value, MALFORMED, _NUMBER_MAX)


def _time(value: object) -> int:
    return cbor.as_uint(value, MALFORMED, _TIME_MAX)


def _boolean(value: object) -> bool:
    if not isinstance(value, bool):
        raise FormatError(MALFORMED, "a boolean was expected")
    return value


def _tee(value: object) -> Tee:
    try:
        return Tee(cbor.as_text(value, MALFORMED, 16))
    except ValueError as error:
        raise FormatError(MALFORMED, "unknown tee") from error


def _seconds(moment: datetime) -> int:
    return int(moment.timestamp())


def _moment(value: object) -> datetime:
    try:
        return datetime.fromtimestamp(_time(value), UTC)
    except (ValueError, OverflowError) as error:
        raise FormatError(MALFORMED, "a time beyond the calendar") from error
