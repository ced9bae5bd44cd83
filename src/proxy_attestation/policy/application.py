"""Reads `application = { index = FILE, sha256 = HEX, paths = [...] }`: the digests that an application may have.

The index file is given by its own digest, so that whoever signs or reads the policy knows what it says, and only the
paths that are named count: an index of a whole source tree does not admit every file in it.
"""

import hashlib
from collections.abc import Callable

from proxy_attestation.codes import Code
from proxy_attestation.errors import FormatError
from proxy_attestation.formats.bounds import APPLICATION_PATHS_MAX
from proxy_attestation.formats.index import IndexLine, parse_index, path_fault
from proxy_attestation.policy.reader import TableReader, show
from proxy_attestation.policy.vocabulary import APPLICATION_KEYS, read_hex

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
    file = table.text("index")
    text = table.text("sha256")
    expected = None if text is None else read_hex(table, "sha256", text, 32, zero=False, index=None)
    paths = table.texts("paths", APPLICATION_PATHS_MAX)
    if file is None or expected is None:
        return ()
    lines = _read_index(table, file, expected, read_file)
    if lines is None:
        return ()
    by_path = {line.path: line.sha256 for line in lines}
    for index, path in paths:
        if path not in by_path:
            table.note(
                "paths", f"{show(path)} is not in {show(file)}", "write a path exactly as the index has it", index
            )
    return tuple(sorted({by_path[path] for _, path in paths if path in by_path}))


def _read_index(table: TableReader, file: str, expected: bytes, read_file: ReadFile) -> tuple[IndexLine, ...] | None:
    fault = path_fault(file)
    if fault is not None:
        # A policy and its indexes move together: `init` copies them, and later a signature covers them.
        table.note("index", f"index {show(file)}: {fault}", "name a file beside or below the policy file")
        return None
    try:
        content = read_file(file)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        table.note("index", f"{show(file)} cannot be read: {reason}", "put it beside the policy file")
        return None
    actual = hashlib.sha256(content).digest()
    if actual != expected:
        table.note(
            "sha256", f"{show(file)} has another SHA-256: {actual.hex()}", "look at what changed, then write its digest"
        )
        return None
    try:
        return parse_index(content.decode(), Code.POLICY_MALFORMED)
    except (FormatError, UnicodeDecodeError) as error:
        detail = error.detail if isinstance(error, FormatError) else "not UTF-8"
        table.note("index", f"{show(file)}: {detail}", "write it with `proxy-attestation index`")
        return None
