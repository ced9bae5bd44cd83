"""Frames and messages between workers and the authority: what is sent arrives, anything else is one error."""

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, Final

import cbor2
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy_attestation.appraisal.endorsements import DcapEndorsements, Floor, SnpEndorsements
from proxy_attestation.authority import messages, wire
from proxy_attestation.authority.issue import Issuer
from proxy_attestation.authority.messages import Issued
from proxy_attestation.codes import Code
from proxy_attestation.errors import (
    AppraisalError,
    ConfigurationError,
    FormatError,
    InternalError,
    Mismatch,
    PeerError,
    PolicyError,
    ProxyAttestationError,
    RefusedError,
    RequestError,
    UnavailableError,
    UsageError,
)
from proxy_attestation.formats import cbor
from proxy_attestation.formats.bounds import (
    AUTHORITY_FRAME_MAX,
    COLLATERAL_DOCUMENT_MAX,
    SNP_CERTIFICATES_MAX,
    SNP_CRL_MAX,
    TIME_MAX,
)

MISMATCHES: Final = (
    Mismatch(Code.POLICY_MEASUREMENT, "mr_enclave", "aa", "bb"),
    Mismatch(Code.POLICY_NAME, "names", "", "\N{SNOWMAN}"),
)


def through(value: object) -> cbor.Value:
    """What the other side decodes from a body."""
    return wire.decode_call(wire.encode_call(1, wire.Method.ISSUE, value)[4:]).body


def malformed(call: Callable[[], object]) -> None:
    with pytest.raises(FormatError) as caught:
        call()
    assert caught.value.code is Code.PROXY_PROTOCOL


class TestFrames:
    """u32 length, then one item."""

    def test_in_whatever_pieces_they_come(self) -> None:
        stream = b"".join(wire.encode_answer(number, b"x" * number) for number in range(5))
        for size in (1, 3, 7, len(stream)):
            reader = wire.FrameReader()
            pieces = [stream[at : at + size] for at in range(0, len(stream), size)]
            frames = [frame for piece in pieces for frame in reader.feed(piece)]
            assert [wire.decode_answer(frame).body for frame in frames] == [b"x" * number for number in range(5)]

    @pytest.mark.parametrize("length", [0, AUTHORITY_FRAME_MAX + 1, 0xFFFFFFFF])
    def test_an_impossible_length_is_refused_before_its_bytes_come(self, length: int) -> None:
        malformed(lambda: wire.FrameReader().feed(length.to_bytes(4, "big")))

    def test_what_does_not_fit_is_not_sent(self) -> None:
        malformed(lambda: wire.encode_answer(1, b"x" * AUTHORITY_FRAME_MAX))

    @pytest.mark.parametrize(
        "item",
        [
            [],
            [1, 2],
            [1, 2, None, None],
            {},
            None,
            [-1, 2, None],
            [True, 2, None],
            ["1", 2, None],
            [1, 0, None],
            [1, 99, None],
            [1 << 63, 2, None],
        ],
    )
    def test_what_is_no_call(self, item: object) -> None:
        malformed(lambda: wire.decode_call(cbor.encode(item)))

    @pytest.mark.parametrize("item", [[1, 2, None], [1, 255, None], [1, 1, None]])
    def test_what_is_no_answer(self, item: object) -> None:
        malformed(lambda: wire.decode_answer(cbor.encode(item)))

    def test_no_second_spelling(self) -> None:
        malformed(lambda: wire.decode_call(bytes.fromhex("83180101f6")))
        malformed(lambda: wire.decode_call(wire.encode_call(1, wire.Method.HELLO, None)[4:] + b"\0"))


class TestErrors:
    """An error arrives as the class, the code and the mismatches that were raised."""

    @pytest.mark.parametrize(
        "error",
        [
            FormatError(Code.REQUEST_MALFORMED, "detail"),
            ConfigurationError(Code.POLICY_MALFORMED, ""),
            UsageError("detail"),
            RefusedError(Code.CHALLENGE_SPENT, "detail"),
            AppraisalError(Code.SGX_ROOT, "detail"),
            RequestError(Code.BINDER_MISMATCH, "\N{SNOWMAN}"),
            PolicyError(MISMATCHES),
            PeerError(Code.PEER_CLAIMS_MISMATCH, "detail", MISMATCHES),
            UnavailableError(Code.AUTHORITY_CLOCK, "detail"),
            InternalError("detail"),
        ],
    )
    def test_round_trip(self, error: ProxyAttestationError) -> None:
        answer = wire.decode_answer(wire.encode_error(7, error)[4:])
        assert answer.call_id == 7
        assert type(answer.error) is type(error)
        assert answer.error is not None
        assert (answer.error.code, answer.error.detail) == (error.code, error.detail)
        assert getattr(answer.error, "mismatches", ()) == getattr(error, "mismatches", ())

    def test_long_texts_are_cut_and_odd_ones_sent(self) -> None:
        many = tuple(Mismatch(Code.POLICY_NAME, "n" * 9000, "\U0001f600" * 9000, "\udcff" * 9000) for _ in range(500))
        answer = wire.decode_answer(wire.encode_error(1, PolicyError(many))[4:])
        assert isinstance(answer.error, PolicyError)
        assert len(answer.error.mismatches) == 64
        long = wire.decode_answer(wire.encode_error(1, InternalError("x" * 1_000_000))[4:])
        assert long.error is not None
        assert len(long.error.detail) == 4096

    @pytest.mark.parametrize(
        "item",
        [
            None,
            [],
            [1, "internal", ""],
            [0, "internal", "", []],
            [11, "internal", "", []],
            [1, "no.such_code", "", []],
            [1, "internal", None, []],
            [5, "policy.name", "", []],
            [5, "policy.name", "", [["policy.name", "names", ""]]],
            [5, "policy.name", "", [["no.such_code", "names", "", ""]]],
            [5, "policy.name", "", [["policy.name", "names", "", 1]]],
        ],
    )
    def test_what_is_no_error(self, item: object) -> None:
        malformed(lambda: wire.decode_answer(cbor.encode([1, 1, item])))


class TestMessages:
    """Bodies."""

    def test_an_order(self, issuer: Issuer, world: Any) -> None:
        info = issuer.hello()
        tdx = world.td_claims()
        old = replace(tdx, body=replace(tdx.body, tee_tcb_svn_2=None, mr_service_td=None))
        for order in (
            world.order(info),
            world.order(info, request=world.td_request()),
            world.order(info, request=world.td_request(), claims=old),
            world.order(info, claims=world.claims(instance_id=None)),
            world.order(info, owner_kind="tenant_key", owner_proof=b"proof"),
        ):
            assert messages.decode_order(through(messages.encode_order(order))) == order

    def test_fractions_of_a_second_only_shorten(self, issuer: Issuer, world: Any) -> None:
        claims = world.claims(valid_until=datetime(2026, 12, 1, 0, 0, 0, 999999, tzinfo=UTC))
        order = messages.decode_order(through(messages.encode_order(world.order(issuer.hello(), claims=claims))))
        assert order.claims.valid_until == datetime(2026, 12, 1, tzinfo=UTC)

    def test_what_a_worker_is_told(self, issuer: Issuer) -> None:
        info = issuer.hello()
        assert messages.decode_info(through(messages.encode_info(info))) == info

    def test_a_certificate(self) -> None:
        issued = Issued((b"leaf", b"issuing"), 3, 1_800_000_000, 1_800_003_600, b"claims", 9)
        assert messages.decode_issued(through(messages.encode_issued(issued))) == issued

    def test_a_floor(self) -> None:
        for floor in (Floor(), Floor(0xFFFFFFFF, TIME_MAX, (1 << 160) - 1, (1 << 160) - 1)):
            assert messages.decode_floor(through(messages.encode_floor(floor))) == floor

    def test_a_set_of_collateral(self) -> None:
        whole = DcapEndorsements(*(bytes((number,)) * 1000 for number in range(8)))
        for endorsements in (DcapEndorsements(), whole, replace(whole, pck_certificate_chain=None)):
            assert messages.decode_endorsements(through(messages.encode_endorsements(endorsements))) == endorsements

    @pytest.mark.parametrize("piece", [b"", bytes(COLLATERAL_DOCUMENT_MAX + 1), "text", 1, [], True])
    @pytest.mark.parametrize("position", [0, 7])
    def test_a_set_with_one_wrong_piece(self, position: int, piece: object) -> None:
        documents: list[object] = [b"x"] * 8
        assert messages.decode_endorsements([1, documents]) is not None
        documents[position] = piece
        malformed(lambda: messages.decode_endorsements([1, documents]))

    def test_a_set_of_amd_s(self) -> None:
        for endorsements in (SnpEndorsements(), SnpEndorsements((b"ark", b"ask"), (b"crl",))):
            assert messages.decode_endorsements(through(messages.encode_endorsements(endorsements))) == endorsements

    @pytest.mark.parametrize(
        "body",
        [
            [],
            [0, [[], []]],
            [2, []],
            [2, [[b""], []]],
            [2, [[b"x"] * (SNP_CERTIFICATES_MAX + 1), []]],
            [2, [[], [bytes(SNP_CRL_MAX + 1)]]],
            [1, [[], []]],
            [2, [None] * 8],
        ],
    )
    def test_a_set_of_nobody_s_or_beyond_its_bounds(self, body: object) -> None:
        malformed(lambda: messages.decode_endorsements(body))

    @pytest.mark.parametrize(
        ("path", "value"),
        [
            ((), []),
            ((0,), "text"),
            ((0,), b"x" * 193),
            ((1,), b"x" * 8193),
            ((2,), b"x" * 513),
            ((5,), b"x" * 31),
            ((6,), None),
            ((6,), "k" * 65),
            ((7,), b"x" * 4097),
            ((3, 0), "sev"),
            ((3, 1, 4), b"x" * 31),
            ((3, 1, 6), 1 << 16),
            ((3, 1, 0), None),
            ((3, 1), []),
            ((3, 2), b"x" * 63),
            ((3, 3), 1),
            ((3, 4, 0), ""),
            ((3, 4, 1), -1),
            ((3, 4, 1), 1 << 41),
            ((3, 4, 2), "advisory"),
            ((3, 4, 4), b"x" * 5),
            ((3, 5), b""),
            ((3, 6), b"x"),
            ((3, 8), "tomorrow"),
            ((3, 8), TIME_MAX + 1),
            ((4,), [1, 2]),
            ((4, 0), 1 << 32),
            ((4, 2), 5),
            ((4, 2), b"x" * 19),
        ],
    )
    def test_an_order_with_one_wrong_member(
        self, issuer: Issuer, world: Any, path: tuple[int, ...], value: object
    ) -> None:
        body: Any = through(messages.encode_order(world.order(issuer.hello())))
        assert messages.decode_order(body) is not None
        whole = [body]
        place = whole
        for step in (0, *path)[:-1]:
            place = place[step]
        place[(0, *path)[-1]] = value
        malformed(lambda: messages.decode_order(whole[0]))

    def test_a_member_more_or_less(self, issuer: Issuer, world: Any) -> None:
        body: Any = through(messages.encode_order(world.order(issuer.hello())))
        malformed(lambda: messages.decode_order([*body, None]))
        malformed(lambda: messages.decode_order(body[:-1]))


DECODERS: Final[list[Callable[[object], object]]] = [
    messages.decode_order,
    messages.decode_issued,
    messages.decode_info,
    messages.decode_endorsements,
    messages.decode_floor,
    messages.decode_chain,
    messages.decode_spki,
]
VALUES: Final = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-5, 1 << 64)
    | st.binary(max_size=70)
    | st.text(max_size=10)
    | st.sampled_from([b"x" * 4, b"x" * 6, b"x" * 16, b"x" * 20, b"x" * 32, b"x" * 48, b"x" * 64, "sgx", "tdx"]),
    lambda inner: st.lists(inner, max_size=16) | st.dictionaries(st.integers(0, 9) | st.text(max_size=3), inner),
    max_leaves=40,
)


@settings(deadline=None, max_examples=200)
@given(VALUES)
def test_any_value_decodes_or_is_malformed(value: object) -> None:
    for decode in DECODERS:
        try:
            decode(value)
        except FormatError as error:
            assert error.code is Code.PROXY_PROTOCOL


@settings(deadline=None, max_examples=200)
@given(st.binary(max_size=200) | VALUES.map(cbor2.dumps))
def test_any_bytes_decode_or_are_malformed(data: bytes) -> None:
    for decode in (wire.decode_call, wire.decode_answer, wire.FrameReader().feed):
        try:
            decode(data)
        except FormatError as error:
            assert error.code is Code.PROXY_PROTOCOL
