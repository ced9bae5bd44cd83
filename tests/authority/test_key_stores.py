"""Where the authority's keys are: sealed files, what a TEE seals them with, and the words that say so."""

import hashlib
import os
import struct
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from key_checks import keeps, refused

from proxy_attestation.authority import key_stores
from proxy_attestation.authority import state as layout
from proxy_attestation.authority.init import init_state
from proxy_attestation.authority.key_stores import are_keys, open_store, origin_of
from proxy_attestation.authority.keys import FileKeys
from proxy_attestation.authority.ledger import Ledger
from proxy_attestation.authority.pkcs11_keys import parse_uri
from proxy_attestation.authority.seal import Seal
from proxy_attestation.codes import Code
from proxy_attestation.errors import ConfigurationError, UnavailableError, UsageError
from proxy_attestation.sealing.gramine import gramine_secret
from proxy_attestation.sealing.snp import SNP_GET_DERIVED_KEY, snp_secret
from proxy_attestation.sealing.tpm import TpmSecret

SECRET = bytes(range(32))


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    path = tmp_path / "keys"
    path.mkdir(mode=0o700)
    return path


class TestSeal:
    def test_what_it_wraps_it_unwraps(self) -> None:
        assert Seal(SECRET).unwrap("root.key", Seal(SECRET).wrap("root.key", b"content")) == b"content"

    def test_the_content_is_not_to_be_seen(self) -> None:
        assert b"content" not in Seal(SECRET).wrap("root.key", b"content")

    def test_no_two_are_alike(self) -> None:
        seal = Seal(SECRET)
        assert seal.wrap("root.key", b"content") != seal.wrap("root.key", b"content")

    def test_of_another_secret(self) -> None:
        sealed = Seal(SECRET[::-1]).wrap("root.key", b"content")
        assert refused(lambda: Seal(SECRET).unwrap("root.key", sealed)) is Code.KEYS_SEALED

    def test_under_another_name(self) -> None:
        sealed = Seal(SECRET).wrap("issuing-1.key", b"content")
        assert refused(lambda: Seal(SECRET).unwrap("root.key", sealed)) is Code.KEYS_SEALED

    def test_every_changed_byte(self) -> None:
        sealed = Seal(SECRET).wrap("root.key", b"content")
        for place in range(len(sealed)):
            changed = sealed[:place] + bytes((sealed[place] ^ 1,)) + sealed[place + 1 :]
            assert refused(lambda changed=changed: Seal(SECRET).unwrap("root.key", changed)) is Code.KEYS_SEALED  # type: ignore[misc] # a lambda's default has no type

    @pytest.mark.parametrize("secret", [b"", bytes(15), SECRET[:15], bytes(32)])
    def test_a_secret_that_is_none(self, secret: bytes) -> None:
        assert refused(lambda: Seal(secret)) is Code.KEYS_SEALED

    @given(st.binary(max_size=200))
    def test_any_bytes_are_refused(self, data: bytes) -> None:
        assert refused(lambda: Seal(SECRET).unwrap("root.key", data)) is Code.KEYS_SEALED


class TestSealedFiles:
    def test_they_keep_keys(self, directory: Path) -> None:
        assert keeps(FileKeys(directory, Seal(SECRET)), FileKeys(directory, Seal(SECRET)))

    def test_their_origin(self, directory: Path) -> None:
        assert FileKeys(directory, Seal(SECRET)).origin == "tee"
        assert FileKeys(directory).origin == "file"

    def test_no_file_holds_a_key_in_clear(self, directory: Path) -> None:
        FileKeys(directory, Seal(SECRET)).make(0)
        assert [path.name for path in directory.iterdir()] == ["root.key.sealed"]
        assert b"PRIVATE KEY" not in (directory / "root.key.sealed").read_bytes()

    def test_a_key_in_clear_is_not_taken_in_its_place(self, directory: Path) -> None:
        FileKeys(directory).make(0)
        (directory / "root.key").rename(directory / "root.key.sealed")
        assert refused(lambda: FileKeys(directory, Seal(SECRET)).load(0)) is Code.KEYS_SEALED

    def test_one_key_is_not_taken_for_another(self, directory: Path) -> None:
        keys = FileKeys(directory, Seal(SECRET))
        keys.make(1)
        (directory / "issuing-1.key.sealed").rename(directory / "root.key.sealed")
        assert refused(lambda: keys.load(0)) is Code.KEYS_SEALED


class TestGramine:
    def test_the_key_is_read(self, tmp_path: Path) -> None:
        (tmp_path / "key").write_bytes(SECRET[:16])
        assert gramine_secret(tmp_path / "key") == SECRET[:16]

    @pytest.mark.parametrize("content", [b"", SECRET[:15], SECRET[:17], bytes(16)])
    def test_what_is_no_key(self, tmp_path: Path, content: bytes) -> None:
        (tmp_path / "key").write_bytes(content)
        assert refused(lambda: gramine_secret(tmp_path / "key")) is Code.KEYS_UNAVAILABLE

    def test_elsewhere(self) -> None:
        assert refused(gramine_secret) is Code.KEYS_UNAVAILABLE


class Firmware:
    """Answers MSG_KEY_REQ at the addresses in the message, as the kernel does."""

    def __init__(self, status: int = 0, key: bytes = SECRET, error: int = 0) -> None:
        self.answer = status.to_bytes(4, "little") + bytes(28) + key
        self.error = error
        self.request = b""

    def __call__(self, _: int, number: int, message: bytearray, mutate: bool) -> int:
        assert (number, mutate, len(message)) == (SNP_GET_DERIVED_KEY, True, 32)
        if self.error:
            raise OSError(self.error, os.strerror(self.error))
        version, request, response, _ = struct.unpack("=B7xQQQ", message)
        assert version == 1
        with Path("/proc/self/mem").open("r+b", buffering=0) as memory:
            memory.seek(request)
            self.request = memory.read(32)
            memory.seek(response)
            memory.write(self.answer)
        return 0


class TestSnp:
    @pytest.fixture
    def device(self, tmp_path: Path) -> Path:
        (tmp_path / "sev-guest").touch()
        return tmp_path / "sev-guest"

    def test_the_key_is_bound_to_measurement_and_policy(self, device: Path) -> None:
        firmware = Firmware()
        assert snp_secret(device, firmware) == SECRET
        # snp_derived_key_req: the VCEK's; GUEST_FIELD_SELECT with bits 0 (policy) and 3 (measurement); no SVN, no TCB.
        assert firmware.request == bytes(8) + (9).to_bytes(8, "little") + bytes(16)

    @pytest.mark.parametrize("firmware", [Firmware(status=0x16), Firmware(key=bytes(32)), Firmware(error=5)])
    def test_no_key(self, device: Path, firmware: Firmware) -> None:
        assert refused(lambda: snp_secret(device, firmware)) is Code.KEYS_UNAVAILABLE

    def test_elsewhere(self, tmp_path: Path) -> None:
        assert refused(lambda: snp_secret(tmp_path / "absent")) is Code.KEYS_UNAVAILABLE


class TestWords:
    @pytest.mark.parametrize(
        ("keys", "origin"),
        [
            ("file", "file"), ("gramine", "tee"), ("snp", "tee"), ("tpm:0", "tee"), ("tpm:0,2,4,7,23", "tee"),
            ("pkcs11:token=t;object=o?module-path=/lib.so&pin-source=file:/pin", "pkcs11"),
            ("pkcs11:object=o%20p;token=t?pin-source=/pin&module-path=/lib.so", "pkcs11"),
        ],
    )  # fmt: skip
    def test_those_that_are(self, keys: str, origin: str) -> None:
        assert are_keys(keys)
        assert origin_of(keys) == origin

    @pytest.mark.parametrize(
        "keys",
        [
            "", "tee", "File", "sgx", "tpm", "tpm:", "tpm:0,", "tpm:00", "tpm:24", "tpm:1,0", "tpm:1,1", "tpm:1 ",
            "pkcs11:", "pkcs11:token=t;object=o",
            "pkcs11:object=o?module-path=/lib.so&pin-source=file:/pin",
            "pkcs11:token=t?module-path=/lib.so&pin-source=file:/pin",
            "pkcs11:token=;object=o?module-path=/lib.so&pin-source=file:/pin",
            "pkcs11:token=t;object=o?module-path=lib.so&pin-source=file:/pin",
            "pkcs11:token=t;object=o?module-path=/lib.so&pin-source=file:pin",
            "pkcs11:token=t;object=o?module-path=/lib.so",
            "pkcs11:token=t;object=o?pin-source=file:/pin",
            "pkcs11:token=t;object=o?module-path=/lib.so&pin-value=2222",
            "pkcs11:token=t;object=o?module-path=/lib.so&pin-source=file:/pin&pin-value=2222",
            "pkcs11:token=t;object=o;serial=1?module-path=/lib.so&pin-source=file:/pin",
            "pkcs11://h/token=t;object=o?module-path=/lib.so&pin-source=file:/pin",
            'pkcs11:token=t;object=o"?module-path=/lib.so&pin-source=file:/pin',
            "pkcs11:token=t;object=o\\?module-path=/lib.so&pin-source=file:/pin",
            "pkcs11:token=t;object=o?module-path=/lib.so&pin-source=file:/pin#f",
            "pkcs11:token=t;object=o?module-path=/lib.so&pin-source=file:/" + 1024 * "p",
        ],
    )  # fmt: skip
    def test_those_that_are_not(self, keys: str) -> None:
        assert not are_keys(keys)

    @given(st.text(max_size=300) | st.text(max_size=100).map("pkcs11:token=".__add__))
    def test_any_text_has_an_answer(self, text: str) -> None:
        if are_keys(text):
            assert origin_of(text) in {"file", "pkcs11", "tee"}

    def test_percent_encoding_in_a_uri(self) -> None:
        found = parse_uri("pkcs11:token=a%20b;object=c%3Bd?module-path=/lib.so&pin-source=file:/p%20q")
        assert (found.token, found.label, found.pin) == ("a b", "c;d", Path("/p q"))

    def test_init_refuses_others(self, tmp_path: Path, policy_file: Path, vendor_root: bytes, clock: Any) -> None:
        with pytest.raises(UsageError):
            init_state(
                tmp_path / "state", trust_domain="example.org", dns=["example.org"], policy=policy_file,
                simulated_roots=[vendor_root], now=clock(), keys="somewhere",
            )  # fmt: skip
        assert not (tmp_path / "state").exists()


@pytest.mark.parametrize(
    "blob", [b"", b"PATPM1\0\0", b"PATPM1\0\0" + bytes(8), bytes(64), b"PATPM1\0\0\0\0\0\1a\0\0\0\2b"]
)
def test_what_no_tpm_sealed(blob: bytes) -> None:
    with pytest.raises(ConfigurationError) as caught:
        TpmSecret((0,), "none").unseal(blob)

    assert caught.value.code is Code.KEYS_SEALED


def test_without_a_tpm() -> None:
    with pytest.raises(UnavailableError) as caught:
        TpmSecret((0,), "device:/dev/null/absent").seal(SECRET)

    assert caught.value.code is Code.KEYS_UNAVAILABLE


def test_a_tpm_s_blob_that_is_gone(directory: Path) -> None:
    assert refused(lambda: open_store("tpm:0", directory)) is Code.AUTHORITY_STATE


class TestBinding:
    @pytest.fixture
    def state(
        self, tmp_path: Path, policy_file: Path, vendor_root: bytes, clock: Any, monkeypatch: pytest.MonkeyPatch
    ) -> Path:
        """An authority whose keys are sealed to an enclave under a stand-in for Gramine."""
        monkeypatch.setattr(key_stores, "_SECRETS", {"gramine": lambda: SECRET})
        init_state(
            tmp_path / "state", trust_domain="example.org", dns=["example.org"], policy=policy_file,
            simulated_roots=[vendor_root], now=clock(), keys="gramine",
        )  # fmt: skip
        return tmp_path / "state"

    def test_it_opens_as_it_was_made(self, state: Path, clock: Any) -> None:
        assert layout.open_authority(state, clock).info().key_origin == "tee"

    def test_an_authority_toml_that_was_changed_with_its_ledger(self, state: Path, clock: Any) -> None:
        path = state / layout.SETTINGS
        path.write_bytes(path.read_bytes().replace(b'dns = ["example.org"]', b'dns = ["example.com", "example.org"]'))
        ledger = Ledger.open(state / layout.LEDGER)
        with ledger.transaction():
            ledger.set_meta(layout.BINDING, hashlib.sha256(path.read_bytes()).digest())
        ledger.close()

        assert refused(lambda: layout.open_authority(state, clock)) is Code.KEYS_SEALED

    def test_a_binding_that_is_gone(self, state: Path, clock: Any) -> None:
        (state / layout.KEYS / "authority.sealed").unlink()
        assert refused(lambda: layout.open_authority(state, clock)) is Code.AUTHORITY_STATE

    def test_the_binding_of_another_authority(self, state: Path, clock: Any) -> None:
        binding = state / layout.KEYS / "authority.sealed"
        binding.unlink()
        FileKeys(state / layout.KEYS, Seal(SECRET)).bind(b"another's")
        assert refused(lambda: layout.open_authority(state, clock)) is Code.KEYS_SEALED

    def test_in_another_enclave(self, state: Path, clock: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(key_stores, "_SECRETS", {"gramine": lambda: SECRET[::-1]})
        assert refused(lambda: layout.open_authority(state, clock)) is Code.KEYS_SEALED

    def test_in_none(self, state: Path, clock: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(key_stores, "_SECRETS", {"gramine": gramine_secret})
        assert refused(lambda: layout.open_authority(state, clock)) is Code.KEYS_UNAVAILABLE
