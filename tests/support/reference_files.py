"""Released files that are made here: SIGSTRUCT, enclave image, firmware; and skeletons that are filled in."""

import hashlib
import json
import struct
import uuid
import zlib
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from proxy_attestation.policy.load import parse_policy
from proxy_attestation.policy.model import Workload

HEAD = 'version = 1\ntrust_domain = "example.org"\n\n'
Cli = Callable[..., Any]


def fill_in(entry: str, values: Mapping[str, str]) -> str:
    """Fill in a [[workload]] skeleton as a person does: name, owner and what it lists as missing."""
    lines = []
    for line in entry.splitlines():
        key = line.removeprefix("# ").partition(" = ")[0]
        given = {"name": '"example"', "owner": "{ shared = true }", **values}.get(key)
        lines.append(f"{key} = {given}" if line.startswith("# ") and given is not None else line)
    return HEAD + "\n".join(lines) + "\n"


def accepted(entry: str, values: Mapping[str, str] | None = None) -> Workload:
    """Return the one entry of a policy that is a filled-in skeleton."""
    policy = parse_policy(fill_in(entry, values or {}), Path())
    return policy.workloads["example"]


@cache
def _signer() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(public_exponent=3, key_size=3072)


FIELDS: dict[str, tuple[int, bytes]] = {
    "header": (0, bytes.fromhex("06000000e10000000000010000000000")),
    "vendor": (16, struct.pack("<I", 0)),
    "date": (20, bytes.fromhex("24112026")),
    "header2": (24, bytes.fromhex("01010000600000006000000001000000")),
    "swdefined": (40, bytes(4)),
    "reserved": (44, bytes(84)),
    "misc_select": (900, bytes(4)),
    "misc_mask": (904, b"\xff" * 4),
    "cet": (908, bytes(4)),
    "family_id": (912, bytes(16)),
    "flags": (928, struct.pack("<Q", 0x04)),
    "xfrm": (936, struct.pack("<Q", 0x03)),
    "flags_mask": (944, b"\xfd" + b"\xff" * 7),
    "xfrm_mask": (952, struct.pack("<Q", 0xFFFFFFFFFFFFFF1B)),
    "mr_enclave": (960, bytes(range(32))),
    "reserved3": (992, bytes(16)),
    "ext_prod_id": (1008, bytes(16)),
    "prod_id": (1024, struct.pack("<H", 7)),
    "svn": (1026, struct.pack("<H", 3)),
    "reserved4": (1028, bytes(12)),
}
"""Intel SDM volume 3D, table 38-19, written here a second time."""


def sigstruct(**changes: bytes) -> bytes:
    """Make a SIGSTRUCT that is signed as it should be, whatever it says."""
    raw = bytearray(1808)
    for name, (offset, usual) in FIELDS.items():
        value = changes.get(name, usual)
        raw[offset : offset + len(value)] = value
    n = _signer().public_key().public_numbers().n
    raw[128:512] = n.to_bytes(384, "little")
    raw[512:516] = (3).to_bytes(4, "little")
    signature = int.from_bytes(_signer().sign(bytes(raw[:128] + raw[900:1028]), padding.PKCS1v15(), hashes.SHA256()))
    raw[516:900] = signature.to_bytes(384, "little")
    q1, rest = divmod(signature**2, n)
    raw[1040:1424] = q1.to_bytes(384, "little")
    raw[1424:1808] = (rest * signature // n).to_bytes(384, "little")
    return bytes(raw)


KERNEL, CMDLINE, RAMDISK, SIGNATURE, METADATA = range(1, 6)
SECTIONS: tuple[tuple[int, bytes], ...] = (
    (KERNEL, b"kernel" * 1000),
    (CMDLINE, b"reboot=k panic=30"),
    (METADATA, json.dumps({"ImageName": "example", "ImageVersion": "1.0"}).encode()),
    (RAMDISK, b"boot ramdisk" * 500),
    (RAMDISK, b"application" * 700),
    (RAMDISK, b"more"),
)


def eif(sections: tuple[tuple[int, bytes], ...] = SECTIONS, version: int = 4, **changes: Any) -> bytes:
    """Make an enclave image; `offsets` changes what the header says, `crc` the CRC, `count` the number."""
    offsets, body = [], b""
    for kind, content in sections:
        offsets.append(548 + len(body))
        body += struct.pack(">HHQ", kind, 0, len(content)) + content
    sizes = [len(content) for _, content in sections]
    offsets, sizes = changes.get("offsets", offsets), changes.get("sizes", sizes)
    head = struct.pack(">4sHHQQHH", b".eif", version, 0, 1 << 30, 2, 0, changes.get("count", len(sections)))
    for numbers in (offsets, sizes):
        head += b"".join(struct.pack(">Q", number) for number in (*numbers, *[0] * (32 - len(numbers))))
    head += bytes(4)
    crc = changes.get("crc", zlib.crc32(body, zlib.crc32(head)))
    return bytes(head + struct.pack(">I", crc) + body)


def register(*contents: bytes) -> bytes:
    """What AWS's documentation says a register is: SHA-384 of 48 zero bytes and the SHA-384 of the contents."""
    inner = hashlib.sha384()
    for content in contents:
        inner.update(content)
    return hashlib.sha384(bytes(48) + inner.digest()).digest()


RESET_EIP = 0x80B004
HASHES_GPA = 0x811400
FIRMWARE_SECTIONS: tuple[tuple[int, int, int], ...] = (
    (0x800000, 0x9000, 1),
    (0x80A000, 0x3000, 1),
    (0x80D000, 0x1000, 2),
    (0x80E000, 0x1000, 3),
    (0x811000, 0x1000, 0x10),
)
"""(guest address, size, type) as OVMF's metadata has them: zero pages, secrets, CPUID, kernel hashes."""
_GUIDS = {
    "footer": "96b582de-1fb2-45f7-baea-a366c55a082d",
    "reset": "00f771de-1a7e-4fcb-890e-68c77e2fb44e",
    "metadata": "dc886566-984a-4798-a75e-5585a7bf67cc",
    "hashes": "7255371f-3a3b-4b04-927b-1da6efa8d454",
}


def firmware(
    sections: tuple[tuple[int, int, int], ...] = FIRMWARE_SECTIONS, size: int = 0x10000, without: str = ""
) -> bytes:
    """Make firmware as the hypervisor sees it: a table of GUIDs before its last 32 bytes, and what that leads to."""
    raw = bytearray(b"\x90" * size)
    metadata = struct.pack("<4sIII", b"ASEV", 16 + 12 * len(sections), 1, len(sections))
    metadata += b"".join(struct.pack("<III", *section) for section in sections)
    from_end = 0x1000
    raw[size - from_end : size - from_end + len(metadata)] = metadata
    entries = {
        "reset": struct.pack("<I", RESET_EIP),
        "metadata": struct.pack("<I", from_end),
        "hashes": struct.pack("<II", HASHES_GPA, 0x400),
    }
    table = b"".join(
        content + struct.pack("<H", len(content) + 18) + uuid.UUID(_GUIDS[name]).bytes_le
        for name, content in entries.items()
        if name != without
    )
    table += struct.pack("<H", len(table) + 18) + uuid.UUID(_GUIDS["footer"]).bytes_le
    raw[size - 32 - len(table) : size - 32] = table
    return bytes(raw)


def event_log(*events: tuple[int, int, bytes], bank: str = "sha384") -> bytes:
    """Make a crypto-agile log of (register, type, data), each measured as it is."""
    alg, size = {"sha256": (0x0B, 32), "sha384": (0x0C, 48)}[bank]
    spec = b"Spec ID Event03\0" + bytes(4) + bytes([0, 2, 0, 2]) + struct.pack("<IHHB", 1, alg, size, 0)
    raw = struct.pack("<II20sI", 0, 3, bytes(20), len(spec)) + spec
    for register, kind, data in events:
        raw += struct.pack("<IIIH", register, kind, 1, alg) + hashlib.new(bank, data).digest()
        raw += struct.pack("<I", len(data)) + data
    return raw
