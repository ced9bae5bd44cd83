"""Keys in a PKCS#11 token: SoftHSM."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from command_line import UNAVAILABLE, call_json
from key_checks import keeps, refused, verifies
from softhsm import SoftHsm, needs_softhsm

from proxy_attestation.authority import state as layout
from proxy_attestation.authority.init import init_state
from proxy_attestation.authority.key_stores import make_store, open_store
from proxy_attestation.authority.pkcs11_keys import parse_uri
from proxy_attestation.codes import Code

pytestmark = needs_softhsm


@pytest.fixture(scope="module")
def hsm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SoftHsm]:
    made = SoftHsm(tmp_path_factory.mktemp("hsm"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SOFTHSM2_CONF", made.environment["SOFTHSM2_CONF"])
        yield made


def test_it_keeps_keys(hsm: SoftHsm, tmp_path: Path) -> None:
    uri = hsm.uri("keeps")
    assert keeps(make_store(uri, tmp_path), open_store(uri, tmp_path))
    assert list(tmp_path.iterdir()) == []


def test_its_keys_cannot_be_taken_out(hsm: SoftHsm) -> None:
    import pkcs11  # noqa: PLC0415 - not everywhere

    open_store(hsm.uri("kept"), hsm.pin.parent).make(0)
    token = pkcs11.lib(str(parse_uri(hsm.uri()).module)).get_token(token_label="proxy")
    with token.open() as session:
        found = {pkcs11.Attribute.LABEL: "kept-root", pkcs11.Attribute.CLASS: pkcs11.ObjectClass.PRIVATE_KEY}
        (key,) = session.get_objects(found)
        assert (key[pkcs11.Attribute.SENSITIVE], key[pkcs11.Attribute.EXTRACTABLE]) == (True, False)


def test_another_authority_s_root_is_left_alone(hsm: SoftHsm) -> None:
    store = open_store(hsm.uri("taken"), hsm.pin.parent)
    spki = store.make(0).spki
    assert refused(lambda: store.make(0)) is Code.KEYS_EXIST
    assert store.load(0).spki == spki


def test_labels_of_other_authorities_are_others(hsm: SoftHsm) -> None:
    first, second = (open_store(hsm.uri(label), hsm.pin.parent) for label in ("first", "second"))
    assert first.make(0).spki != second.make(0).spki


def test_a_key_that_is_not_there(hsm: SoftHsm) -> None:
    assert refused(lambda: open_store(hsm.uri("nobody"), hsm.pin.parent).load(0)) is Code.AUTHORITY_STATE


def test_a_wrong_pin(hsm: SoftHsm, tmp_path: Path, policy_file: Path, vendor_root: bytes) -> None:
    pin, root = tmp_path / "pin", tmp_path / "root.der"
    pin.write_text("3333")
    pin.chmod(0o600)
    root.write_bytes(vendor_root)
    uri = hsm.uri("pin").replace(str(hsm.pin), str(pin))
    # A process of its own: this one has logged in.
    names: list[str | Path] = ["--trust-domain", "example.org", "--dns", "example.org"]
    said = [*names, "--policy", policy_file, "--simulated", root]

    done = call_json("init", tmp_path / "state", *said, "--keys", uri, status=UNAVAILABLE)

    assert done["error"]["code"] == Code.KEYS_UNAVAILABLE
    assert not (tmp_path / "state").exists()


def test_a_pin_that_others_can_read(hsm: SoftHsm, tmp_path: Path) -> None:
    pin = tmp_path / "pin"
    pin.write_text("2222")
    pin.chmod(0o644)
    uri = hsm.uri("pin").replace(str(hsm.pin), str(pin))
    assert refused(lambda: open_store(uri, tmp_path).make(0)) is Code.AUTHORITY_STATE


def test_no_pin_file(hsm: SoftHsm, tmp_path: Path) -> None:
    uri = hsm.uri("pin").replace(str(hsm.pin), str(tmp_path / "absent"))
    assert refused(lambda: open_store(uri, tmp_path).make(0)) is Code.AUTHORITY_STATE


def test_another_token(hsm: SoftHsm) -> None:
    store = open_store(hsm.uri("other", token="elsewhere"), hsm.pin.parent)
    assert refused(lambda: store.make(0)) is Code.KEYS_UNAVAILABLE


def test_another_library(hsm: SoftHsm, tmp_path: Path) -> None:
    uri = f"pkcs11:token=proxy;object=o?module-path={tmp_path}/absent.so&pin-source=file:{hsm.pin}"
    assert refused(lambda: open_store(uri, tmp_path).make(0)) is Code.KEYS_UNAVAILABLE


def test_a_session_that_broke_is_opened_again(hsm: SoftHsm) -> None:
    store: Any = open_store(hsm.uri("breaks"), hsm.pin.parent)
    signer = store.make(0)
    assert verifies(signer)
    store._session.close()
    assert refused(lambda: signer.sign(b"bytes")) is Code.KEYS_UNAVAILABLE
    assert verifies(signer)


def test_an_authority_with_keys_in_it(
    hsm: SoftHsm, tmp_path: Path, policy_file: Path, vendor_root: bytes, clock: Any
) -> None:
    state, uri = tmp_path / "state", hsm.uri("whole")
    made = init_state(
        state, trust_domain="example.org", dns=["example.org"], policy=policy_file,
        simulated_roots=[vendor_root], now=clock(), keys=uri,
    )  # fmt: skip
    authority = layout.open_authority(state, clock)

    assert (made.settings.keys, authority.info().key_origin) == (uri, "pkcs11")
    assert authority.root.ca_id == made.settings.root_spki_sha256
    assert authority.active.signer is not None
    assert verifies(authority.active.signer)
