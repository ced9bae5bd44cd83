"""The lookup of renewal information: what a worker reads, what it answers, and that nothing odd stops it."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from proxy_attestation.codes import Code
from proxy_attestation.errors import FormatError
from proxy_attestation.formats.certificate_id import certificate_id
from proxy_attestation.service.core import Core
from proxy_attestation.service.early import EARLY_MAX, FILE_MAX, RETRY_AFTER, EarlyRenewals
from proxy_attestation.v1 import proxy_attestation_pb2 as pb

NAME = certificate_id(b"\x01" * 20, 0x1234)
GOOD = {"format": 1, "early": {NAME: {"since": 1_800_000_000, "codes": ["sgx.tcb_status"]}}}


def find(run: Path, content: object) -> Any:
    data = content if isinstance(content, bytes) else json.dumps(content).encode()
    (run / "reappraisal.json").write_bytes(data)
    return EarlyRenewals(run).find(NAME)


def test_what_stands_in_the_file_is_found(tmp_path: Path) -> None:
    assert find(tmp_path, GOOD) == (1_800_000_000, (Code.SGX_TCB_STATUS,))


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\xff",
        b"[]",
        b"[" * 100_000,
        {"format": 2, "early": GOOD["early"]},
        {"format": 1},
        {"format": 1, "early": []},
        {"format": 1, "early": {NAME: 1}},
        {"format": 1, "early": {NAME: {"since": "x", "codes": []}}},
        {"format": 1, "early": {NAME: {"since": 2**62, "codes": []}}},
        {"format": 1, "early": {NAME: {"since": -1, "codes": []}}},
        b'{"format": 1, "early": {"%s": {"since": Infinity, "codes": []}}}' % NAME.encode(),
        {"format": 1, "early": {"no certificate": {"since": 1, "codes": []}}},
        {"format": 1, "early": {NAME: {"since": 1, "codes": ["no.such_code"]}}},
        {
            "format": 1,
            "early": {key: {"since": 1, "codes": []} for key in (f"a.{number}" for number in range(EARLY_MAX + 1))},
        },
        b" " * FILE_MAX + json.dumps(GOOD).encode(),
    ],
)
def test_anything_else_tells_nobody_to_renew(tmp_path: Path, content: object) -> None:
    assert find(tmp_path, content) is None


def test_it_looks_once_a_second_and_reads_what_changed(tmp_path: Path) -> None:
    now = [0.0]
    early = EarlyRenewals(tmp_path, lambda: now[0])
    assert early.find(NAME) is None
    (tmp_path / "reappraisal.json").write_text(json.dumps(GOOD))
    now[0] = 0.9
    assert early.find(NAME) is None
    now[0] = 1.0
    assert early.find(NAME) is not None


def ask(core: Core, name: str) -> pb.GetRenewalInformationResponse:
    return asyncio.run(core.get_renewal_information(pb.GetRenewalInformationRequest(certificate_id=name)))


def test_the_answer_has_a_window_in_the_past_and_says_why(tmp_path: Path) -> None:
    (tmp_path / "reappraisal.json").write_text(json.dumps(GOOD))
    core = Core(None, None, early=EarlyRenewals(tmp_path))  # type: ignore[arg-type] # this call needs neither
    answer = ask(core, NAME)
    assert (answer.renewal.start, answer.renewal.end) == (1_799_999_999, 1_800_000_000)
    assert (list(answer.codes), answer.retry_after) == (["sgx.tcb_status"], RETRY_AFTER)
    other = ask(core, certificate_id(b"\x01" * 20, 0x1235))
    assert not other.HasField("renewal")
    assert (list(other.codes), other.retry_after) == ([], RETRY_AFTER)


@pytest.mark.parametrize(
    "name", ["", "a", "a.", ".a", "a.b.c", "a.b=", "a. b", "a.b\n", "a" * 87 + ".b", "a." + "b" * 41]
)
def test_what_names_no_certificate_is_malformed(core: Core, name: str) -> None:
    with pytest.raises(FormatError) as caught:
        ask(core, name)
    assert caught.value.code is Code.REQUEST_MALFORMED


def test_the_name_of_a_certificate_is_that_of_the_rfc() -> None:
    # RFC 9773, section 4.1: the example certificate's AKI and serial number 87:65:43:21.
    key_id = bytes.fromhex("69885B6B87464041E1B37B847BA0AE2CDE01C8D4".lower())
    assert certificate_id(key_id, 0x87654321) == "aYhba4dGQEHhs3uEe6CuLN4ByNQ.AIdlQyE"
