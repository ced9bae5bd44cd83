"""Session tokens: what was made is read; whatever else there is, is refused."""

import hmac
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy_attestation.authority.messages import TokenKey
from proxy_attestation.authority.token import CHALLENGE_LIFETIME, TOKEN_LENGTH, make_token, open_token, token_nonce
from proxy_attestation.codes import Code
from proxy_attestation.errors import InternalError, RequestError, UnavailableError
from proxy_attestation.formats.tee import Tee

NOW = datetime(2026, 11, 24, 12, 0, 0, tzinfo=UTC)
SECONDS = int(NOW.timestamp())
KEY = TokenKey(b"key1", b"\x01" * 32, SECONDS + 3600)
OTHER = TokenKey(b"key2", b"\x02" * 32, SECONDS + 3600)
SESSION = bytes(range(16))
CA = b"\xca" * 32


def token(key: TokenKey = KEY, tee: Tee = Tee.SGX, expires_at: int = SECONDS + CHALLENGE_LIFETIME) -> bytes:
    return make_token(key, session_id=SESSION, tee=tee, ca_id=CA, expires_at=expires_at)


def refused(data: bytes, keys: tuple[TokenKey, ...] = (KEY,), now: datetime = NOW) -> Code:
    with pytest.raises(RequestError) as caught:
        open_token(keys, data, now)
    return caught.value.code


@pytest.mark.parametrize("tee", list(Tee))
def test_what_was_made_is_read(tee: Tee) -> None:
    made = token(tee=tee)
    opened = open_token((OTHER, KEY), made, NOW)
    assert len(made) == TOKEN_LENGTH
    assert (opened.session_id, opened.ca_id, opened.tee) == (SESSION, CA, tee)
    assert opened.expires_at == SECONDS + CHALLENGE_LIFETIME
    assert opened.nonce == token_nonce(KEY, made)


def test_the_bytes_are_those_of_the_description() -> None:
    body = b"\x01" + b"key1" + SESSION + CA + (SECONDS + 120).to_bytes(8, "big") + b"\x02"
    made = token(tee=Tee.TDX)
    assert made == body + hmac.digest(KEY.key, b"proxy-attestation/token/v1\0" + body, "sha256")
    assert token_nonce(KEY, made) == hmac.digest(KEY.key, b"proxy-attestation/nonce/v1\0" + body, "sha256")


def test_the_nonce_is_another_for_each_session_tee_ca_and_key_and_not_in_the_token() -> None:
    tokens = [
        (KEY, token()),
        (KEY, token(tee=Tee.TDX)),
        (KEY, token(expires_at=SECONDS + 60)),
        (KEY, make_token(KEY, session_id=b"\x07" * 16, tee=Tee.SGX, ca_id=CA, expires_at=SECONDS + 120)),
        (KEY, make_token(KEY, session_id=SESSION, tee=Tee.SGX, ca_id=b"\xcb" * 32, expires_at=SECONDS + 120)),
        (OTHER, token(OTHER)),
    ]
    nonces = {token_nonce(key, data) for key, data in tokens}
    assert len(nonces) == len(tokens)
    assert all(token_nonce(key, data) not in data for key, data in tokens)


@pytest.mark.parametrize("at", range(TOKEN_LENGTH))
def test_each_changed_byte_is_refused(at: int) -> None:
    data = bytearray(token())
    data[at] ^= 1
    assert refused(bytes(data)) is Code.CHALLENGE_INVALID


@pytest.mark.parametrize("data", [b"", token()[:-1], token() + b"\0", bytes(TOKEN_LENGTH)])
def test_another_length_is_refused(data: bytes) -> None:
    assert refused(data) is Code.CHALLENGE_INVALID


def test_a_retired_key_is_refused() -> None:
    assert refused(token(), keys=(OTHER,)) is Code.CHALLENGE_INVALID
    assert refused(token(), keys=()) is Code.CHALLENGE_INVALID


def test_another_key_of_the_same_id_is_refused() -> None:
    assert refused(token(), keys=(replace(OTHER, key_id=KEY.key_id),)) is Code.CHALLENGE_INVALID


def test_it_expires() -> None:
    end = NOW + timedelta(seconds=CHALLENGE_LIFETIME)
    assert open_token((KEY,), token(), end - timedelta(milliseconds=1)).session_id == SESSION
    assert refused(token(), now=end) is Code.CHALLENGE_EXPIRED


def test_one_that_would_live_too_long_is_refused_though_its_mac_is_right() -> None:
    assert refused(token(expires_at=SECONDS + CHALLENGE_LIFETIME + 1)) is Code.CHALLENGE_INVALID


def test_an_unknown_tee_is_refused_though_its_mac_is_right() -> None:
    body = token()[: TOKEN_LENGTH - 33] + b"\x09"
    forged = body + hmac.digest(KEY.key, b"proxy-attestation/token/v1\0" + body, "sha256")
    assert refused(forged) is Code.CHALLENGE_INVALID


def test_none_is_made_that_outlives_its_key() -> None:
    with pytest.raises(UnavailableError) as caught:
        token(replace(KEY, not_after=SECONDS + CHALLENGE_LIFETIME - 1))
    assert caught.value.code is Code.AUTHORITY_UNAVAILABLE


def test_none_is_made_of_parts_of_another_length() -> None:
    with pytest.raises(InternalError):
        make_token(KEY, session_id=SESSION[1:], tee=Tee.SGX, ca_id=CA, expires_at=SECONDS)
    with pytest.raises(InternalError):
        make_token(KEY, session_id=SESSION, tee=Tee.SGX, ca_id=CA + b"\0", expires_at=SECONDS)


@settings(deadline=None, max_examples=200)
@given(st.binary(max_size=200))
def test_any_bytes_are_refused(data: bytes) -> None:
    assert refused(data) is Code.CHALLENGE_INVALID
