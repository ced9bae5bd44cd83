"""Reads `application = { index = FILE, sha256 = HEX, paths = [...] }`: the digests that an application may have.

The index file is given by its own digest, so that whoever signs or reads the policy knows what it says, and only the
paths that are named count: an index of a whole source tree does not admit every file in it.
"""

import hashlib
from collections.abc import Callable

from proxy_attestation.codes import Code
from proxy_attestation.errors import FormatError
from proxy_attestation.formats.bounds import APPLICATION_PATHS_MAX
from proxy_attestation.formats.index import parse_index, path_fault
from proxy_attestation.policy.reader import Fault, TableReader, show
from proxy_attestation.policy.vocabulary import APPLICATION_KEYS, hex_from

ReadFile = Callable[[str], bytes]
"""Reads a file named relative to the policy file; raises OSError or ValueError where it cannot."""


def read_application(reader: TableReader, read_file: ReadFile) -> tuple[bytes, ...]:
    """Read `application` of one table.

    Returns:
        SHA-256 digests, 32 bytes each, sorted; empty where the table has no such key or it is wrong (and noted).
    """
    table = reader.child("application", f"{reader.title} application")
    if table is None:
        return ()
    table.refuse_unknown(APPLICATION_KEYS)
    table.require(APPLICATION_KEYS, "an application takes its index, the digest of that, and paths in it")
    expected = table.value("sha256", lambda text: hex_from(text, 32, zero=False))
    # A policy and its indexes move together: `init` copies them, and later a signature covers them.
    content = table.value("index", lambda file: _read(file, read_file))
    known = None if expected is None or content is None else _index(table, content, expected)

    def digest(path: str) -> bytes | Fault:
        if known is None:
            return b""  # why is noted already
        fault = Fault(f"{show(path)} is not in the index", "write a path exactly as the index has it")
        return known.get(path, fault)

    return table.values("paths", APPLICATION_PATHS_MAX, digest)


def _read(file: str, read_file: ReadFile) -> bytes | Fault:
    fault = path_fault(file)
    if fault is not None:
        return Fault(f"{show(file)}: {fault}", "name a file beside or below the policy file")
    try:
        return read_file(file)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        return Fault(f"{show(file)} cannot be read: {reason}", "put it beside the policy file")


def _index(table: TableReader, content: bytes, expected: bytes) -> dict[str, bytes] | None:
    """Return the digests of an index by path; None, with the problem noted, where it is another or none."""
    actual = hashlib.sha256(content).digest()
    if actual != expected:
        table.note("sha256", f"the index has {actual.hex()}", "look at what changed, then write its digest")
        return None
    try:
        return {line.path: line.sha256 for line in parse_index(content.decode(), Code.POLICY_MALFORMED)}
    except (FormatError, UnicodeDecodeError) as error:
        detail = error.detail if isinstance(error, FormatError) else "not UTF-8"
        table.note("index", detail, "write it with `proxy-attestation index`")
        return None
