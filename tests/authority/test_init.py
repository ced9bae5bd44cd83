"""`init` makes an authority in an empty directory, and a directory that does not fit refuses the start."""

import hashlib
import json
import os
import stat
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)

from proxy_attestation.appraisal.roots import every_pin
from proxy_attestation.authority import state as layout
from proxy_attestation.authority.init import Made, init_state
from proxy_attestation.authority.settings import decode_settings, encode_settings
from proxy_attestation.cli.init import command
from proxy_attestation.codes import Code
from proxy_attestation.errors import ConfigurationError, ProxyAttestationError, UnavailableError, UsageError
from proxy_attestation_simulator.amd import AmdVendor
from proxy_attestation_simulator.aws import Aws
from proxy_attestation_simulator.intel import Vendor

NOW = datetime(2026, 11, 24, 12, 0, 0, tzinfo=UTC)


@pytest.fixture
def make(tmp_path: Path, policy_file: Path, vendor_root: bytes) -> Callable[..., Made]:
    """Call `init_state` with one thing changed."""

    def call(**changes: Any) -> Made:
        arguments: dict[str, Any] = {
            "state": tmp_path / "state",
            "trust_domain": "example.org",
            "dns": ["example.org"],
            "policy": policy_file,
            "simulated_roots": [vendor_root],
            "now": NOW,
        }
        arguments |= changes
        return init_state(arguments.pop("state"), **arguments)

    return call


class TestInit:
    """What it writes, and what it refuses."""

    def test_the_directory(self, make: Callable[..., Made], tmp_path: Path, vendor_root: bytes) -> None:
        made = make()
        state = tmp_path / "state"
        modes = {
            str(path.relative_to(state)): (path.is_dir(), oct(stat.S_IMODE(path.stat().st_mode)))
            for path in state.rglob("*")
        }
        assert modes == {
            "authority.toml": (False, "0o600"),
            "root.pem": (False, "0o644"),
            "policy.toml": (False, "0o600"),
            "app.index": (False, "0o600"),
            "keys": (True, "0o700"),
            "keys/root.key": (False, "0o600"),
            "keys/issuing-1.key": (False, "0o600"),
            "keys/log.key": (False, "0o600"),
            "ledger.sqlite": (False, "0o600"),
            "anchors": (True, "0o700"),
            "anchors/simulated-root-1.der": (False, "0o600"),
            "endorsements": (True, "0o700"),
            "run": (True, "0o700"),
        }
        assert oct(stat.S_IMODE(state.stat().st_mode)) == "0o700"
        root = x509.load_pem_x509_certificate((state / "root.pem").read_bytes())
        spki = root.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        assert root.public_bytes(Encoding.DER) == made.root
        assert hashlib.sha256(spki).digest() == made.settings.root_spki_sha256
        assert (state / "anchors" / "simulated-root-1.der").read_bytes() == vendor_root
        key = (state / "keys" / "root.key").read_bytes()
        assert load_pem_private_key(key, None).public_key() == root.public_key()
        assert key.startswith(b"-----BEGIN PRIVATE KEY-----")

    def test_it_opens(self, make: Callable[..., Made], tmp_path: Path, clock: Any) -> None:
        made = make()
        authority = layout.open_authority(tmp_path / "state", clock)
        authority.ledger.close()
        assert authority.settings == made.settings
        assert authority.policy == made.policy
        assert authority.root.certificate == made.root

    def test_a_real_one_names_its_keys_and_trusts_the_pinned_vendors(
        self, make: Callable[..., Made], tmp_path: Path
    ) -> None:
        made = make(simulated_roots=[])
        root = x509.load_der_x509_certificate(made.root)
        assert root.subject.rfc4514_string() == "CN=example.org Proxy Attestation Root G1,O=FILE KEYS"
        assert list((tmp_path / "state" / "anchors").iterdir()) == []
        assert [pin.hex() for pin in made.settings.roots.intel] == [
            "a0af031289f5d5d4132f9186068a7fc13628633ba235777472e29b6b6c67a49e"
        ]

    def test_a_simulated_one_trusts_its_vendor_and_nobody_else(
        self, make: Callable[..., Made], vendor_root: bytes
    ) -> None:
        made = make()
        assert made.settings.roots.intel == {layout.read_anchor(vendor_root, "test")[1]}

    def test_several_suffixes(self, make: Callable[..., Made]) -> None:
        made = make(dns=["example.org", "internal.example.net", "example.org"])
        constraints = x509.load_der_x509_certificate(made.root).extensions.get_extension_for_class(x509.NameConstraints)
        assert constraints.value.permitted_subtrees == [
            x509.DNSName("example.org"),
            x509.DNSName("internal.example.net"),
        ]

    def test_an_index_in_a_folder_is_copied_to_the_same_place(
        self, make: Callable[..., Made], policy_file: Path, tmp_path: Path
    ) -> None:
        folder = policy_file.parent / "indexes"
        folder.mkdir()
        (policy_file.parent / "app.index").rename(folder / "app.index")
        policy_file.write_text(policy_file.read_text().replace('"app.index"', '"indexes/app.index"'))
        make()
        assert (tmp_path / "state" / "indexes" / "app.index").is_file()

    def test_an_empty_directory_is_taken(self, make: Callable[..., Made], tmp_path: Path) -> None:
        (tmp_path / "state").mkdir(mode=0o755)
        make()
        assert oct(stat.S_IMODE((tmp_path / "state").stat().st_mode)) == "0o700"

    def test_several_vendors_are_trusted_from_one_start_to_the_next(
        self, make: Callable[..., Made], tmp_path: Path, clock: Any
    ) -> None:
        roots = [
            Vendor.create(NOW, secret=bytes(31) + b"\1").root_der,
            AmdVendor.fixed(NOW).authority("Milan", "ark"),
            Aws.create(NOW, secret=bytes(31) + b"\2").root_der,
        ]
        pins = {layout.read_anchor(root, "test")[1] for root in roots}
        made = make(simulated_roots=roots)
        state = tmp_path / "state"
        files = [state / "anchors" / f"simulated-root-{number}.der" for number in (1, 2, 3)]
        assert [path.read_bytes() for path in files] == roots
        assert sorted((state / "anchors").iterdir()) == files
        settings = made.settings
        for _ in range(2):
            authority = layout.open_authority(state, clock)
            authority.ledger.close()
            assert authority.settings == settings
            assert every_pin(authority.settings.roots) == pins

    @pytest.mark.parametrize("place", [1, 2, 3])
    @pytest.mark.parametrize("what", ["removed", "added"])
    def test_of_several_vendors_none_may_go_or_come(
        self, make: Callable[..., Made], tmp_path: Path, clock: Any, place: int, what: str
    ) -> None:
        roots = [Vendor.create(NOW, secret=bytes(31) + bytes([number])).root_der for number in range(4)]
        make(simulated_roots=roots[:3])
        anchors = tmp_path / "state" / "anchors"
        if what == "removed":
            (anchors / f"simulated-root-{place}.der").unlink()
        else:
            (anchors / f"simulated-root-{place + 3}.der").write_bytes(roots[3])
        with pytest.raises(ProxyAttestationError) as caught:
            layout.open_authority(tmp_path / "state", clock)
        assert caught.value.code is Code.AUTHORITY_STATE

    def test_a_root_in_pem_is_taken(self, make: Callable[..., Made], vendor_root: bytes) -> None:
        make(simulated_roots=[x509.load_der_x509_certificate(vendor_root).public_bytes(Encoding.PEM)])

    def test_a_directory_that_is_not_empty_is_refused(self, make: Callable[..., Made], tmp_path: Path) -> None:
        (tmp_path / "state").mkdir()
        (tmp_path / "state" / "mine").write_text("keep")
        with pytest.raises(UsageError):
            make()
        assert [path.name for path in (tmp_path / "state").iterdir()] == ["mine"]

    def test_a_second_time_is_refused(self, make: Callable[..., Made]) -> None:
        make()
        with pytest.raises(UsageError):
            make()

    def test_a_file_is_refused(self, make: Callable[..., Made], tmp_path: Path) -> None:
        (tmp_path / "state").write_text("a file")
        with pytest.raises(UsageError):
            make()

    @pytest.mark.parametrize(
        "changes",
        [
            {"trust_domain": ""},
            {"trust_domain": "Example.org"},
            {"trust_domain": "example.org/path"},
            {"trust_domain": "a" * 39},
            {"dns": []},
            {"dns": [""]},
            {"dns": [".example.org"]},
            {"dns": ["*.example.org"]},
            {"dns": ["Example.org"]},
            {"dns": ["192.0.2.1"]},
            {"dns": [f"d{number}.example.org" for number in range(33)]},
        ],
    )
    def test_what_no_certificate_could_carry_is_refused(
        self, make: Callable[..., Made], tmp_path: Path, changes: dict[str, Any]
    ) -> None:
        with pytest.raises(UsageError):
            make(**changes)
        assert not (tmp_path / "state").exists()

    @pytest.mark.parametrize("data", [b"", b"no certificate", b"-----BEGIN CERTIFICATE-----\n", b"\x30" * 20000])
    def test_a_simulated_root_that_is_none(self, make: Callable[..., Made], data: bytes) -> None:
        with pytest.raises(ConfigurationError) as caught:
            make(simulated_roots=[data])
        assert caught.value.code is Code.CONFIGURATION_MALFORMED

    def test_a_simulated_root_that_is_not_self_signed(
        self, make: Callable[..., Made], make_state: Callable[..., Path]
    ) -> None:
        root = x509.load_pem_x509_certificate((make_state("other") / "root.pem").read_bytes())
        spoiled = bytearray(root.public_bytes(Encoding.DER))
        spoiled[-1] ^= 1
        with pytest.raises(ConfigurationError) as caught:
            make(simulated_roots=[bytes(spoiled)])
        assert caught.value.code is Code.CONFIGURATION_MALFORMED

    def test_a_real_vendor_is_no_simulated_one(self, make: Callable[..., Made], vectors_dir: Path) -> None:
        with pytest.raises(UsageError):
            make(simulated_roots=[(vectors_dir / "anchors" / "intel-sgx-root-ca.der").read_bytes()])

    @pytest.mark.parametrize(
        ("old", "new"),
        [
            ('trust_domain = "example.org"', 'trust_domain = "example.com"'),
            ('"other.example.org"', '"other.example.com"'),
            ("version = 7", "version = 0"),
            ('index = "app.index"', 'index = "missing.index"'),
        ],
    )
    def test_a_policy_that_does_not_fit(
        self, make: Callable[..., Made], policy_file: Path, tmp_path: Path, old: str, new: str
    ) -> None:
        text = policy_file.read_text()
        assert old in text
        policy_file.write_text(text.replace(old, new))
        with pytest.raises(ConfigurationError) as caught:
            make()
        assert caught.value.code is Code.POLICY_MALFORMED
        assert not (tmp_path / "state").exists()

    @pytest.mark.parametrize("name", ["root.pem", "ledger.sqlite", "ledger.sqlite-wal", "keys/app.index"])
    def test_an_index_under_a_name_of_ours(self, make: Callable[..., Made], policy_file: Path, name: str) -> None:
        place = policy_file.parent / name
        place.parent.mkdir(exist_ok=True)
        (policy_file.parent / "app.index").rename(place)
        policy_file.write_text(policy_file.read_text().replace('"app.index"', f'"{name}"'))
        with pytest.raises(ConfigurationError) as caught:
            make()
        assert caught.value.code is Code.POLICY_MALFORMED

    @pytest.mark.parametrize("existed", [True, False])
    def test_what_cannot_be_written_is_taken_back(
        self, make: Callable[..., Made], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, existed: bool
    ) -> None:
        def full(path: Path, _: bytes) -> None:
            raise OSError(28, "No space left on device", str(path))

        state = tmp_path / "state"
        if existed:
            state.mkdir()
        monkeypatch.setattr("proxy_attestation.authority.keys.write_private", full)
        with pytest.raises(UnavailableError) as caught:
            make()
        assert caught.value.code is Code.AUTHORITY_UNAVAILABLE
        assert not state.exists() or (existed and list(state.iterdir()) == [])


class TestOpening:
    """Each thing that is wrong with a directory refuses the start, with `authority.state`."""

    @pytest.fixture
    def state(self, make_state: Callable[..., Path]) -> Path:
        return make_state()

    def refused(self, state: Path, clock: Any) -> ProxyAttestationError:
        with pytest.raises(ProxyAttestationError) as caught:
            layout.open_authority(state, clock)
        return caught.value

    @pytest.mark.parametrize(
        ("old", "new"),
        [
            ('kind = "simulated"', 'kind = "real"'),
            ('trust_domain = "example.org"', 'trust_domain = "example.net"'),
            ('dns = ["example.org"]', 'dns = ["example.org", "org"]'),
            ('keys = "file"', 'keys = "tee"'),
            ("format = 1", "format = 2"),
            ("# What", "# what"),
            ("dns = ", "more = 1\ndns = "),
        ],
    )
    def test_a_changed_authority_toml(self, state: Path, clock: Any, old: str, new: str) -> None:
        path = state / "authority.toml"
        text = path.read_text()
        assert old in text
        path.write_text(text.replace(old, new))
        error = self.refused(state, clock)
        assert isinstance(error, ConfigurationError)
        assert error.code is Code.AUTHORITY_STATE

    def test_an_authority_toml_of_another_authority(
        self, state: Path, make_state: Callable[..., Path], clock: Any
    ) -> None:
        other = make_state("other")
        (state / "authority.toml").write_bytes((other / "authority.toml").read_bytes())
        assert self.refused(state, clock).code is Code.AUTHORITY_STATE

    @pytest.mark.parametrize("name", ["keys/root.key", "keys/issuing-1.key", "root.pem"])
    def test_a_key_or_root_of_another_authority(
        self, state: Path, make_state: Callable[..., Path], clock: Any, name: str
    ) -> None:
        other = make_state("other")
        (state / name).write_bytes((other / name).read_bytes())
        assert self.refused(state, clock).code is Code.AUTHORITY_STATE

    @pytest.mark.parametrize("mode", [0o640, 0o604, 0o660])
    @pytest.mark.parametrize("name", ["keys/root.key", "keys/issuing-1.key", "ledger.sqlite", "authority.toml"])
    def test_a_file_that_others_can_read(self, state: Path, clock: Any, name: str, mode: int) -> None:
        (state / name).chmod(mode)
        assert self.refused(state, clock).code is Code.AUTHORITY_STATE

    @pytest.mark.parametrize("name", ["keys", "run"])
    def test_a_directory_that_others_can_enter(self, state: Path, clock: Any, name: str) -> None:
        (state / name).chmod(0o755)
        assert self.refused(state, clock).code is Code.AUTHORITY_STATE

    @pytest.mark.parametrize(
        "name",
        [
            "authority.toml",
            "keys",
            "keys/root.key",
            "keys/issuing-1.key",
            "ledger.sqlite",
            "anchors",
            "root.pem",
            "run",
        ],
    )
    def test_a_missing_piece(self, state: Path, clock: Any, name: str) -> None:
        (state / name).rename(state.parent / "elsewhere")
        assert self.refused(state, clock).code is Code.AUTHORITY_STATE

    @pytest.mark.parametrize("name", ["keys/root.key", "authority.toml", "ledger.sqlite"])
    def test_a_link_in_place_of_a_file(self, state: Path, clock: Any, name: str) -> None:
        (state / name).rename(state.parent / "elsewhere")
        (state / name).symlink_to(state.parent / "elsewhere")
        assert self.refused(state, clock).code is Code.AUTHORITY_STATE

    @pytest.mark.parametrize("what", ["empty", "text", "long", "encrypted", "another curve", "a public key"])
    def test_a_file_that_is_no_key(self, state: Path, clock: Any, what: str) -> None:
        path = state / "keys" / "root.key"
        key = load_pem_private_key(path.read_bytes(), None)
        assert isinstance(key, ec.EllipticCurvePrivateKey)
        other = ec.generate_private_key(ec.SECP384R1())
        pem, pkcs8 = Encoding.PEM, PrivateFormat.PKCS8
        path.write_bytes(
            {
                "empty": b"",
                "text": b"no key",
                "long": path.read_bytes() + b"\n" * 5000,
                "encrypted": key.private_bytes(pem, pkcs8, BestAvailableEncryption(b"password")),
                "another curve": other.private_bytes(pem, pkcs8, NoEncryption()),
                "a public key": key.public_key().public_bytes(pem, PublicFormat.SubjectPublicKeyInfo),
            }[what]
        )
        assert self.refused(state, clock).code is Code.AUTHORITY_STATE

    @pytest.mark.parametrize("what", ["one more", "none", "another", "no certificate"])
    def test_other_anchors_than_it_was_made_with(
        self, state: Path, make_state: Callable[..., Path], clock: Any, what: str
    ) -> None:
        anchor = state / "anchors" / "simulated-root-1.der"
        pem = (make_state("other") / "root.pem").read_bytes()
        if what == "none":
            anchor.unlink()
        elif what == "no certificate":
            anchor.write_bytes(b"none")
        else:
            (anchor if what == "another" else anchor.with_name("more.pem")).write_bytes(pem)
        assert self.refused(state, clock).code is Code.AUTHORITY_STATE

    def test_a_real_one_with_an_anchor_beyond_the_pinned_vendors(
        self, make_state: Callable[..., Path], clock: Any, vendor_root: bytes
    ) -> None:
        state = make_state("real", simulated=False)
        layout.open_authority(state, clock).ledger.close()
        (state / "anchors" / "simulated.der").write_bytes(vendor_root)
        assert self.refused(state, clock).code is Code.AUTHORITY_STATE

    def test_a_real_one_may_hold_the_pinned_vendors(
        self, make_state: Callable[..., Path], clock: Any, vectors_dir: Path
    ) -> None:
        state = make_state("real", simulated=False)
        root = (vectors_dir / "anchors" / "intel-sgx-root-ca.der").read_bytes()
        (state / "anchors" / "intel.der").write_bytes(root)
        layout.open_authority(state, clock).ledger.close()

    def test_a_malformed_policy(self, state: Path, clock: Any) -> None:
        (state / "policy.toml").write_text("version = 8\n")
        error = self.refused(state, clock)
        assert isinstance(error, ConfigurationError)
        assert error.code is Code.POLICY_MALFORMED

    def test_a_changed_index(self, state: Path, clock: Any) -> None:
        (state / "app.index").write_text("")
        assert self.refused(state, clock).code is Code.POLICY_MALFORMED

    def test_a_policy_that_was_changed_without_a_new_version(self, state: Path, clock: Any) -> None:
        layout.open_authority(state, clock).ledger.close()
        policy = state / "policy.toml"
        policy.write_text(policy.read_text().replace('ip = ["192.0.2.7"]', 'ip = ["192.0.2.8"]'))
        assert self.refused(state, clock).code is Code.POLICY_STALE
        policy.write_text(policy.read_text().replace("version = 7", "version = 8"))
        layout.open_authority(state, clock).ledger.close()

    def test_a_clock_that_is_behind(self, state: Path, clock: Any) -> None:
        clock.now = NOW - timedelta(minutes=2)
        error = self.refused(state, clock)
        assert isinstance(error, UnavailableError)
        assert error.code is Code.AUTHORITY_CLOCK

    def test_an_empty_directory(self, tmp_path: Path, clock: Any) -> None:
        assert self.refused(tmp_path, clock).code is Code.AUTHORITY_STATE
        with pytest.raises(ConfigurationError) as caught:
            layout.lock_state(tmp_path)
        assert caught.value.code is Code.AUTHORITY_STATE

    def test_one_authority_at_a_time(self, state: Path) -> None:
        held = layout.lock_state(state)
        with pytest.raises(UnavailableError) as caught:
            layout.lock_state(state, patience=0)
        assert caught.value.code is Code.AUTHORITY_UNAVAILABLE
        os.close(held)
        os.close(layout.lock_state(state, patience=0))


class TestSettings:
    """authority.toml has one spelling."""

    @pytest.mark.parametrize("changes", [{}, {"simulated_roots": []}, {"dns": ["example.org", "b.org"]}])
    def test_round_trip(self, make: Callable[..., Made], changes: dict[str, Any]) -> None:
        made = make(**changes)
        assert decode_settings(encode_settings(made.settings).encode()) == made.settings

    @pytest.mark.parametrize(
        "names",
        [
            ("proxy.example.com",),
            ("localhost",),
            ("Proxy.example.org",),
            ("*.example.org",),
            ("1.2.3",),
            ("::g",),
            ("",),
        ],
    )
    def test_names_that_the_proxy_cannot_have(self, make: Callable[..., Made], names: tuple[str, ...]) -> None:
        with pytest.raises(UsageError):
            make().settings.server_names(names)

    def test_names_that_it_can(self, make: Callable[..., Made]) -> None:
        names = make().settings.server_names(("example.org", "a.b.example.org", "127.0.0.1", "::1"))
        assert names.readable() == (
            "a.b.example.org",
            "example.org",
            "::1",
            "127.0.0.1",
            "spiffe://example.org/proxy-attestation/server",
        )


class TestCommand:
    """The command line."""

    def arguments(self, tmp_path: Path, policy_file: Path, vendor_root: bytes) -> list[str]:
        (tmp_path / "root.der").write_bytes(vendor_root)
        return [
            str(tmp_path / "state"), "--trust-domain", "example.org", "--dns", "example.org", "--policy",
            str(policy_file), "--simulated", str(tmp_path / "root.der"),
        ]  # fmt: skip

    def test_it_prints_the_pin_and_the_next_command(
        self, tmp_path: Path, policy_file: Path, vendor_root: bytes
    ) -> None:
        result = CliRunner().invoke(command, self.arguments(tmp_path, policy_file, vendor_root))
        assert result.exit_code == 0
        settings = decode_settings((tmp_path / "state" / "authority.toml").read_bytes())
        assert settings.root_spki_sha256.hex() in result.output
        assert f"proxy-attestation serve {tmp_path / 'state'}" in result.output
        assert "SIMULATED" in result.output
        assert "FILE KEYS" in result.output
        assert "DANGER" in result.output

    def test_json(self, tmp_path: Path, policy_file: Path, vendor_root: bytes) -> None:
        result = CliRunner().invoke(command, [*self.arguments(tmp_path, policy_file, vendor_root), "--json"])
        printed = json.loads(result.output)
        settings = decode_settings((tmp_path / "state" / "authority.toml").read_bytes())
        assert printed["root_pin"] == settings.root_spki_sha256.hex()
        assert printed["kind"] == "simulated"
        assert printed["next"] == f"proxy-attestation serve {tmp_path / 'state'}"

    @pytest.mark.parametrize("both", [True, False])
    def test_either_real_or_simulated(self, tmp_path: Path, policy_file: Path, vendor_root: bytes, both: bool) -> None:
        arguments = self.arguments(tmp_path, policy_file, vendor_root)
        arguments = [*arguments, "--real"] if both else arguments[:-2]
        result = CliRunner().invoke(command, arguments)
        assert isinstance(result.exception, UsageError)
        assert not (tmp_path / "state").exists()
