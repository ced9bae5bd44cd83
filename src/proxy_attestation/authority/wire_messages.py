"""The bodies of the calls of `wire.py` and of their answers: one encoder and one strict decoder for each.

Decoders raise FormatError, `proxy.protocol`. A new kind of claims is a member of `appraisal.claims.BODIES`.
"""

from collections.abc import Callable
from typing import TypeVar

from proxy_attestation.appraisal.endorsements import DcapEndorsements, Floor
from proxy_attestation.authority.messages import AuthorityInfo, Certificates, Issued, IssueOrder, Spki
from proxy_attestation.authority.wire import MALFORMED
from proxy_attestation.formats.arrays import Array

_T = TypeVar("_T")


def _body(kind: type[_T]) -> tuple[Callable[[_T], object], Callable[[object], _T]]:
    array = Array[_T](kind, MALFORMED)
    return array.write, array.read


encode_info, decode_info = _body(AuthorityInfo)
encode_order, decode_order = _body(IssueOrder)
encode_issued, decode_issued = _body(Issued)
encode_endorsements, decode_endorsements = _body(DcapEndorsements)
encode_floor, decode_floor = _body(Floor)
decode_spki = Array[bytes](Spki, MALFORMED).read
decode_chain = Array[tuple[bytes, ...]](Certificates, MALFORMED).read
