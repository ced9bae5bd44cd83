"""CoRIM manifests become pins, each condition of theirs or none of them.

The manifests are made here after the draft's CDDL; its own examples (`DRAFT`) are written down as data.
"""

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import cbor2
import pytest
from corim_files import (
    ED,
    M32,
    M48,
    P256,
    P384,
    REGISTERS,
    TDX_TRIPLE,
    Tag,
    comid,
    corim,
    measured,
    public_pem,
    signed,
    triple,
)
from cryptography.hazmat.primitives.asymmetric import ec
from reference_files import Cli, accepted

from proxy_attestation.codes import Code
from proxy_attestation.errors import ProxyAttestationError
from proxy_attestation.formats.pins import MaskedBytes
from proxy_attestation.formats.tee import Tee
from proxy_attestation.reference.corim import PublicKey, decode_corim
from proxy_attestation.reference.corim_cbor import CORIM_MAX
from proxy_attestation.reference.corim_values import AMD_PROFILES, values_of
from proxy_attestation.reference.measured import Measured, to_entry

NOW = datetime(2026, 11, 24, tzinfo=UTC)
SECONDS = int(NOW.timestamp())
OTHER = ec.derive_private_key(0x123, ec.SECP256R1())
CHIP, CLOUD = (Tag(111, bytes.fromhex(text)) for text in ("2b060104019c780301", "2b060104019c780302"))
"""1.3.6.1.4.1.3704.3.1 and .2."""


def read(
    data: bytes, tee: Tee | None = Tee.TDX, *, keys: tuple[Any, ...] | None = None, now: datetime = NOW
) -> tuple[Measured, ...]:
    publics: list[PublicKey] = [key.public_key() for key in keys or ()]
    return values_of(decode_corim(data, publics, now, unsigned=keys is None), tee, "a.corim")


def code(data: bytes, tee: Tee | None = Tee.TDX, **more: Any) -> Code:
    with pytest.raises(ProxyAttestationError) as caught:
        read(data, tee, **more)
    return caught.value.code


FILL = {
    "mr_config_id": f'["{"00" * 48}"]',
    "td_attributes": '"0000001000000000"',
    "td_attributes_mask": '"ffffffffffffffff"',
    "xfam": '"e702060000000000"',
    "xfam_mask": '"ffffffffffffffff"',
}


def test_a_td_by_integrity_registers_and_a_digest() -> None:
    (values,) = read(corim())
    pins = accepted(to_entry(values), FILL).pins
    assert pins["mr_td"] == (M48,)
    assert [pins[f"rtmr{index}"] for index in range(3)] == [(bytes([index + 1] * 48),) for index in range(3)]
    assert values.dangers
    assert not read(signed(corim()), keys=(P256,))[0].dangers


def test_an_enclave_by_digests_minimum_number_and_masked_values() -> None:
    enclave = triple(
        [
            measured("mr_enclave", {2: [["sha-256", M32]]}),
            measured("isv_svn", {1: Tag(553, 4)}),
            measured("isv_prod_id", {1: Tag(552, 7)}),
            measured("config_svn", {1: 2}),
            measured("attributes_flags", {4: Tag(563, [b"\x05" + bytes(7), b"\xff" * 8])}),
            measured("misc_select", {4: Tag(560, bytes(4))}),
            measured("config_id", {4: Tag(560, b"\x07" * 64)}),
        ]
    )
    (values,) = read(corim(comid(enclave)), Tee.SGX)
    pins = accepted(to_entry(values)).pins
    assert pins["mr_enclave"] == (M32,)
    assert (pins["min_isv_svn"], pins["isv_prod_id"], pins["config_svn"]) == (4, 7, 2)
    assert pins["attributes_flags"] == MaskedBytes(b"\x05" + bytes(7), b"\xff" * 8)
    assert pins["misc_select"] == MaskedBytes(bytes(4), b"\xff" * 4)
    assert pins["config_id"] == b"\x07" * 64


def test_bits_outside_the_mask_count_for_nothing() -> None:
    flags = measured("attributes_flags", {4: Tag(563, [b"\xff" * 8, b"\x0f" + bytes(7)])})
    (values,) = read(corim(comid(triple([flags]))), Tee.SGX)
    assert values.pins["attributes_flags"] == b"\x0f" + bytes(7)


@pytest.mark.parametrize("profile", AMD_PROFILES)
@pytest.mark.parametrize("kind", [CHIP, CLOUD], ids=["chip", "cloud"])
def test_a_guest_by_amds_table(profile: str, kind: Tag) -> None:
    guest = triple(
        [
            measured(641, {2: [[7, M48]]}),
            measured(1, {1: Tag(553, 2)}),
            measured(642, {4: Tag(560, M32)}),
            measured(643, {4: Tag(560, M48)}),
            measured(644, {4: Tag(560, M48)}),
            measured(3, {4: Tag(560, b"\x01" * 16)}),
            measured(4, {4: Tag(560, b"\x02" * 16)}),
        ],
        {0: kind},
    )
    (values,) = read(corim(comid(guest), fields={3: Tag(32, profile)}), None)
    assert values.tee is Tee.SNP
    assert values.pins == {
        "measurement": (M48,),
        "min_guest_svn": 2,
        "host_data": (M32,),
        "id_key_digest": (M48,),
        "author_key_digest": (M48,),
        "family_id": (b"\x01" * 16,),
        "image_id": (b"\x02" * 16,),
    }


def test_registers_of_a_tpm_and_of_a_nitro_enclave() -> None:
    registers = measured(None, {14: {0: [[1, M32]], "pcr7": [["sha256", M32]]}})
    (values,) = read(corim(comid(triple([registers, measured(4, {2: [[8, b"\x01" * 64]]})]))), Tee.TPM)
    assert values.pins == {"pcr0": (M32,), "pcr7": (M32,), "pcr4": (b"\x01" * 64,)}
    (values,) = read(corim(comid(triple([measured(None, {14: REGISTERS})]))), Tee.NITRO)
    assert set(values.pins) == {"pcr0", "pcr1", "pcr2"}


def test_each_triple_is_an_entry() -> None:
    """What stands in one triple must all agree; triples are alternatives, in one tag or in several."""
    other = triple(measured("mr_td", {2: [[7, b"\x33" * 48]]}))
    for data in (corim(comid(TDX_TRIPLE, other)), corim(comid(TDX_TRIPLE), comid(other))):
        assert [values.pins["mr_td"] for values in read(data)] == [(M48,), (b"\x33" * 48,)]


# Signatures.


@pytest.mark.parametrize(("key", "algorithm"), [(P256, -7), (P384, -35), (ED, -8)], ids=["ES256", "ES384", "EdDSA"])
def test_a_good_signature(key: Any, algorithm: int) -> None:
    data = signed(corim(), key, algorithm)
    assert read(data, keys=(OTHER, P256, P384, ED))
    assert code(data, keys=(OTHER,)) is Code.REFERENCE_SIGNATURE
    assert code(data, keys=()) is Code.REFERENCE_SIGNATURE
    bad = bytearray(data)
    bad[-1] ^= 1
    assert code(bytes(bad), keys=(key,)) is Code.REFERENCE_SIGNATURE
    changed = bytearray(data)
    changed[len(changed) // 2] ^= 1
    with pytest.raises(ProxyAttestationError):
        read(bytes(changed), keys=(key,))


def test_nobody_signed_is_refused_unless_it_is_said() -> None:
    with pytest.raises(ProxyAttestationError) as caught:
        decode_corim(corim(), [P256.public_key()], NOW)
    assert caught.value.code is Code.REFERENCE_SIGNATURE
    # A signature that is there must be good, whatever is said.
    assert code(signed(corim())) is Code.REFERENCE_SIGNATURE


@pytest.mark.parametrize(
    ("key", "algorithm"),
    [(P256, -35), (P384, -7), (ED, -7), (P256, -8), (P256, -37), (P256, 5)],
    ids=["P-256 as ES384", "P-384 as ES256", "Ed25519 as ES256", "P-256 as EdDSA", "P-256 as PS256", "P-256 as HMAC"],
)
def test_an_algorithm_that_is_not_the_keys(key: Any, algorithm: int) -> None:
    expected = Code.REFERENCE_UNSUPPORTED if algorithm in (-37, 5) else Code.REFERENCE_SIGNATURE
    assert code(signed(corim(), key, algorithm), keys=(P256, P384, ED)) is expected


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"headers": {1: None}}, Code.REFERENCE_MALFORMED),
        ({"headers": {2: [1]}}, Code.REFERENCE_UNSUPPORTED),
        ({"headers": {258: -16}}, Code.REFERENCE_UNSUPPORTED),
        ({"headers": {3: "text/plain"}}, Code.REFERENCE_UNSUPPORTED),
        ({"headers": {8: cbor2.dumps({0: {0: "ACME"}, 2: 1})}}, Code.REFERENCE_UNSUPPORTED),
        ({"headers": {8: {0: {0: "ACME"}}}}, Code.REFERENCE_MALFORMED),
        ({"headers": {8: cbor2.dumps({0: {}, 1: {1: Tag(1, SECONDS)}})}}, Code.REFERENCE_EXPIRED),
        ({"headers": {15: {4: SECONDS}}}, Code.REFERENCE_EXPIRED),
        ({"headers": {15: {5: SECONDS + 1}}}, Code.REFERENCE_EXPIRED),
        ({"headers": {15: {4: "soon"}}}, Code.REFERENCE_MALFORMED),
        ({"headers": {15: {3: "audience"}}}, Code.REFERENCE_UNSUPPORTED),
        ({"unprotected": {1: -7}}, Code.REFERENCE_UNSUPPORTED),
        ({"carried": None}, Code.REFERENCE_MALFORMED),
    ],
    ids=str,
)
def test_headers_that_say_more(changes: dict[str, Any], expected: Code) -> None:
    assert code(signed(corim(), **changes), keys=(P256,)) is expected


def test_headers_that_are_known() -> None:
    meta = cbor2.dumps({0: {0: "ACME"}, 1: {0: Tag(1, SECONDS), 1: Tag(1, SECONDS + 1)}})
    data = signed(corim(), headers={8: meta, 15: {1: "ACME", 4: SECONDS + 9}, 3: None, 33: b"cert"})
    assert read(data, keys=(P256,))[0].not_after == datetime.fromtimestamp(SECONDS + 1, UTC)


# The manifest.


@pytest.mark.parametrize(("start", "end", "good"), [(0, 1, True), (1, 9, False), (-9, 0, False)])
def test_validity(start: int, end: int, *, good: bool) -> None:
    data = corim(fields={4: {0: Tag(1, SECONDS + start), 1: Tag(1, SECONDS + end)}})
    if good:
        assert read(data)[0].not_after == datetime.fromtimestamp(SECONDS + end, UTC)
    else:
        assert code(data) is Code.REFERENCE_EXPIRED


def _unsupported(measurements: object, tee: Tee = Tee.TDX) -> tuple[bytes, Tee, Code]:
    return corim(comid(triple(measurements))), tee, Code.REFERENCE_UNSUPPORTED


def _values(measurements: object, tee: Tee = Tee.TDX) -> tuple[bytes, Tee, Code]:
    return corim(comid(triple(measurements))), tee, Code.REFERENCE_VALUES


OF_TDX, OF_SGX = measured("mr_td", {2: [[7, M48]]}), measured("mr_enclave", {2: [[1, M32]]})
REFUSED: dict[str, tuple[bytes, Tee | None, Code]] = {
    "dependent manifests": (corim(fields={2: [{0: "x"}]}), Tee.TDX, Code.REFERENCE_UNSUPPORTED),
    "a profile": (corim(fields={3: Tag(32, "tag:x")}), Tee.TDX, Code.REFERENCE_UNSUPPORTED),
    "an extension": (corim(fields={-1: 1}), Tee.TDX, Code.REFERENCE_UNSUPPORTED),
    "a coswid": (corim(Tag(505, b"\xa0")), Tee.TDX, Code.REFERENCE_UNSUPPORTED),
    "a coswid too": (corim(comid(TDX_TRIPLE), Tag(505, b"\xa0")), Tee.TDX, Code.REFERENCE_UNSUPPORTED),
    "linked tags": (corim(comid(TDX_TRIPLE, fields={3: [{}]})), Tee.TDX, Code.REFERENCE_UNSUPPORTED),
    "no triples": (corim(comid(triples={})), Tee.TDX, Code.REFERENCE_MALFORMED),
    "many triples": (corim(comid(*[TDX_TRIPLE] * 65)), Tee.TDX, Code.REFERENCE_UNSUPPORTED),
    **{
        f"triples {kind}": (corim(comid(triples={0: [TDX_TRIPLE], kind: []})), Tee.TDX, Code.REFERENCE_UNSUPPORTED)
        for kind in (1, 2, 3, 4, 5, 6, 7, 8, 10, 99)
    },
    "an instance": (corim(comid(triple([OF_TDX], environment={1: b"x"}))), Tee.TDX, Code.REFERENCE_UNSUPPORTED),
    "a group": (corim(comid(triple([OF_TDX], environment={2: b"x"}))), Tee.TDX, Code.REFERENCE_UNSUPPORTED),
    "an empty class": (corim(comid([{0: {}}, [OF_TDX]])), Tee.TDX, Code.REFERENCE_MALFORMED),
    "no class": (corim(comid([{}, [OF_TDX]])), Tee.TDX, Code.REFERENCE_MALFORMED),
    "no measurement": (corim(comid(triple([]))), Tee.TDX, Code.REFERENCE_MALFORMED),
    "an authority": _unsupported([measured("mr_td", {2: [[7, M48]]}, fields={2: []})]),
    "no values": (corim(comid(triple([measured("mr_td", {})]))), Tee.TDX, Code.REFERENCE_MALFORMED),
    "no mkey": _unsupported([measured(None, {2: [[7, M48]]})]),
    "another mkey": _unsupported([OF_TDX, measured("mr_td_2", {2: [[7, M48]]})]),
    "an mkey of another TEE": _unsupported([OF_SGX]),
    "an mkey in a tag": _unsupported([measured(Tag(37, b"\x01" * 16), {2: [[7, M48]]})]),
    "a number for a TD": _unsupported([measured(0, {2: [[7, M48]]})]),
    "a register that is no key": _unsupported([measured(None, {14: {4: [[7, M48]]}})]),
    "a register by another key": _unsupported([measured(None, {14: {"mr_td": [[7, M48]]}})]),
    "a register twice": _unsupported([measured(None, {14: {0: [[7, M48]], "rtmr0": [[7, M48]]}})]),
    "no register": _unsupported([measured(None, {14: {}})]),
    "registers of an enclave": _unsupported([measured(None, {14: {0: [[1, M32]]}})], Tee.SGX),
    "registers with an mkey": _unsupported([measured("rtmr0", {14: {0: [[7, M48]]}})]),
    "a resettable register": _unsupported([measured(16, {2: [[1, M32]]})], Tee.TPM),
    "the same key twice": _unsupported([OF_TDX, OF_TDX]),
    "two fields": _unsupported([measured("mr_td", {2: [[7, M48]], 11: "name"})]),
    "a version": _unsupported([measured("mr_td", {0: {0: "1.0"}})]),
    "flags": _unsupported([measured("mr_td", {3: {3: False}})]),
    "the old mask": _unsupported([measured("xfam", {4: Tag(560, bytes(8)), 5: bytes(8)})]),
    "two digests": _unsupported([measured("mr_td", {2: [[7, M48], [1, M32]]})]),
    "no digest": _unsupported([measured("mr_td", {2: []})]),
    "another hash": _unsupported([measured("mr_td", {2: [[1, M32]]})]),
    "a hash of another length": _unsupported([measured("mr_td", {2: [[7, M32]]})]),
    "an unknown hash": _unsupported([measured("mr_td", {2: [["my-alg-id", M48]]})]),
    "a digest of other form": _unsupported([measured("mr_td", {2: [[7, M48, 1]]})]),
    "a digest for a number": _unsupported([measured("isv_prod_id", {2: [[1, M32]]})], Tee.SGX),
    "a digest for exact bytes": _unsupported([measured("config_id", {2: [[8, b"\x01" * 64]]})], Tee.SGX),
    "an exact svn": _unsupported([measured("isv_svn", {1: Tag(552, 4)})], Tee.SGX),
    "a bare svn": _unsupported([measured("isv_svn", {1: 4})], Tee.SGX),
    "a least product": _unsupported([measured("isv_prod_id", {1: Tag(553, 4)})], Tee.SGX),
    "an svn of text": _unsupported([measured("isv_svn", {1: Tag(553, "4")})], Tee.SGX),
    "an svn that is true": _unsupported([measured("isv_prod_id", {1: True})], Tee.SGX),
    "an svn for a digest": _unsupported([measured("mr_td", {1: Tag(553, 4)})]),
    "raw without a tag": _unsupported([measured("config_id", {4: bytes(64)})], Tee.SGX),
    "raw in another tag": _unsupported([measured("config_id", {4: Tag(561, bytes(64))})], Tee.SGX),
    "raw of another length": _unsupported([measured("config_id", {4: Tag(560, bytes(63))})], Tee.SGX),
    "raw for a number": _unsupported([measured("isv_svn", {4: Tag(560, bytes(2))})], Tee.SGX),
    "a mask too many": _unsupported([measured("config_id", {4: Tag(563, [bytes(64), b"\xfe" * 64])})], Tee.SGX),
    "a mask of another length": _unsupported([measured("xfam", {4: Tag(563, [bytes(8), bytes(7)])})]),
    "a mask of three": _unsupported([measured("xfam", {4: Tag(563, [bytes(8), bytes(8), 1])})]),
    "a mask of nothing": _values([measured("xfam", {4: Tag(563, [bytes(8)] * 2)})]),
    "a measurement of zero": _values([measured("mr_td", {2: [[7, bytes(48)]]})]),
    "an svn too large": _values([measured("isv_svn", {1: Tag(553, 65536)})], Tee.SGX),
    "no TEE": (corim(), None, Code.REFERENCE_TEE),
    "another TEE": (corim(comid(triple([measured(641, {2: [[7, M48]]})], {0: CHIP}))), Tee.TDX, Code.REFERENCE_TEE),
    "AMD's class without its profile": (
        corim(comid(triple([measured(641, {2: [[7, M48]]})], {0: CHIP}))), None, Code.REFERENCE_UNSUPPORTED,
    ),
    **{
        f"AMD's {mkey}": (
            corim(comid(triple([measured(641, {2: [[7, M48]]}), measured(mkey, {4: Tag(560, bytes(8))})], {0: CHIP})),
                  fields={3: Tag(32, AMD_PROFILES[1])}), None, Code.REFERENCE_UNSUPPORTED,
        )
        for mkey in (0, 2, 5, 6, 7, 640, 645, 646, 647, 648, 3328, "policy_")
    },
    "another tag": (corim(tag=500), Tee.TDX, Code.REFERENCE_MALFORMED),
    "bytes behind": (corim() + b"\0", Tee.TDX, Code.REFERENCE_MALFORMED),
    "nothing": (b"", Tee.TDX, Code.REFERENCE_MALFORMED),
    "too large": (corim(fields={5: [b"x" * CORIM_MAX]}), Tee.TDX, Code.REFERENCE_MALFORMED),
    "too many lists": (corim(fields={5: [[]] * 5000}), Tee.TDX, Code.REFERENCE_MALFORMED),
    "too deep": (b"\x81" * 100 + b"\0", Tee.TDX, Code.REFERENCE_MALFORMED),
    "a float": (corim(fields={5: [1.5]}), Tee.TDX, Code.REFERENCE_MALFORMED),
    "a bignum": (corim(fields={5: [2**70]}), Tee.TDX, Code.REFERENCE_MALFORMED),
    "a key that is true": (cbor2.dumps(Tag(501, {0: "x", True: []})), Tee.TDX, Code.REFERENCE_MALFORMED),
    "a key twice": (b"\xd9\x01\xf5\xa3\x00\x61x\x00\x61y\x01\x80", Tee.TDX, Code.REFERENCE_MALFORMED),
    "a name of two lines": (corim(comid(triple([OF_TDX], {1: "a\nb"}))), Tee.TDX, Code.REFERENCE_MALFORMED),
    "a cut OID": (corim(comid(triple([OF_TDX], {0: Tag(111, b"\x2b\x86")}))), Tee.TDX, Code.REFERENCE_MALFORMED),
    "milliseconds": (corim(fields={4: {1: Tag(1, 1735693200000)}}), Tee.TDX, Code.REFERENCE_MALFORMED),
    "a time without tag": (corim(fields={4: {1: SECONDS + 9}}), Tee.TDX, Code.REFERENCE_MALFORMED),
    "validity without end": (corim(fields={4: {0: Tag(1, 1)}}), Tee.TDX, Code.REFERENCE_MALFORMED),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_not_understood_is_refused(name: str) -> None:
    """Each of these is a manifest that would be taken without the one thing in its name."""
    data, tee, expected = REFUSED[name]
    assert code(data, tee) is expected


def test_the_drafts_examples() -> None:
    """Those of cddl/examples whose form is read; their values are no TEE's, and they say so."""
    version = {
        0: {0: "1.0.0", 1: 16384},
        2: [[1, bytes.fromhex("44aa336af4cb14a879432e53dd6571c7fa9bccafb75f488259262d6ea3a4d91b")]],
    }
    assert code(corim(comid(triple(measured(None, version))))) is Code.REFERENCE_UNSUPPORTED
    registers = {0: [[1, M32], ["my-alg-id", b"\xde\xad\xbe\xef"]]}
    assert code(corim(comid(triple(measured(None, {14: registers})))), Tee.TPM) is Code.REFERENCE_UNSUPPORTED
    whole, part = Tag(560, bytes.fromhex("12345678")), Tag(563, [bytes.fromhex("12340000"), bytes.fromhex("ffff0000")])
    for raw in (whole, part):
        (values,) = read(corim(comid(triple(measured("misc_select", {4: raw})))), Tee.SGX)
        assert values.pins["misc_select"] == (raw.value if raw is whole else raw.value[0])


# The command.


@pytest.fixture
def public(tmp_path: Path) -> Callable[[Any], Path]:
    def write(key: Any) -> Path:
        path = tmp_path / "key.pem"
        path.write_bytes(public_pem(key))
        return path

    return write


def test_the_command(cli: Cli, tmp_path: Path, public: Callable[[Any], Path]) -> None:
    file = tmp_path / "a.corim"
    file.write_bytes(signed(corim()))
    full = ("reference", "import", file, "--key", public(P256), "--tee", "tdx")
    assert cli(*full).status == 0
    assert cli(*full, "--json").json["values"][0]["pins"]["mr_td"] == [M48.hex()]
    assert accepted(cli(*full, "--toml").out, FILL)
    assert "[values]" in cli(*full, "--values", "firmware").out
    assert (
        cli("reference", "import", file, "--key", public(OTHER), "--tee", "tdx", "--json").code
        == Code.REFERENCE_SIGNATURE
    )
    file.write_bytes(corim(comid(TDX_TRIPLE, TDX_TRIPLE)))
    unsigned = ("reference", "import", file, "--tee", "tdx")
    assert cli(*unsigned, "--json").code == Code.REFERENCE_SIGNATURE
    ran = cli(*unsigned, "--danger-unsigned")
    assert (ran.status, "DANGER" in ran.out) == (0, True)
    assert cli(*unsigned, "--danger-unsigned", "--values", "two").status == 2


def test_the_command_wants_keys_that_can_verify(cli: Cli, tmp_path: Path) -> None:
    file = tmp_path / "a.corim"
    file.write_bytes(signed(corim()))
    assert cli("reference", "import", file, "--key", file).status == 2
