"""A cache's sets in one file, to be carried to where no vendor can be reached. Pure: bytes in, sets out.

One JSON object: `{"format": "proxy-attestation endorsements", "version": 1, "sets": [{"name", "sha256", "files":
{name: base64}}]}`. The same sets give the same bytes: names sorted, no time, no machine. The digests find accidents,
not attacks: whoever imports verifies each set to a pinned root as if it came from the network.
"""

import binascii
import json
from base64 import b64decode, b64encode
from collections.abc import Mapping
from typing import Final

from proxy_attestation.codes import Code
from proxy_attestation.endorsements.cache import NAME, SET_FILES_MAX, SETS_MAX, TOTAL_MAX, is_file_name, set_digest
from proxy_attestation.errors import FormatError

FORMAT: Final = "proxy-attestation endorsements"
VERSION: Final = 1
BUNDLE_MAX: Final = 2 * TOTAL_MAX
"""The file, in bytes: base64 takes four thirds."""


def encode_bundle(sets: Mapping[str, Mapping[str, bytes]]) -> bytes:
    """Return the file.

    Args:
        sets: files by name, by the name of their set.
    """
    items = [
        {
            "name": name,
            "sha256": set_digest(sets[name]),
            "files": {file: b64encode(sets[name][file]).decode() for file in sorted(sets[name])},
        }
        for name in sorted(sets)
    ]
    return (json.dumps({"format": FORMAT, "version": VERSION, "sets": items}, indent=1) + "\n").encode()


def decode_bundle(data: bytes) -> dict[str, dict[str, bytes]]:
    """Read the file. Strict: an unknown member, another version, a digest that does not fit refuse it.

    Raises:
        FormatError: `endorsements.malformed`.
    """
    if len(data) > BUNDLE_MAX:
        raise _malformed(f"more than {BUNDLE_MAX} bytes")
    try:
        value = json.loads(data.decode(), object_pairs_hook=_unique)
    except (ValueError, RecursionError) as error:
        raise _malformed("not JSON in UTF-8") from error
    if not isinstance(value, dict) or value.keys() != {"format", "version", "sets"}:
        raise _malformed("not a bundle")
    if value["format"] != FORMAT or type(value["version"]) is not int or value["version"] != VERSION:
        raise _malformed("another format or version")
    items = value["sets"]
    if not isinstance(items, list) or not 0 < len(items) <= SETS_MAX:
        raise _malformed(f"a list of 1 to {SETS_MAX} sets was expected")
    sets: dict[str, dict[str, bytes]] = {}
    for item in items:
        if not isinstance(item, dict) or item.keys() != {"name", "sha256", "files"}:
            raise _malformed("a set without exactly name, sha256 and files")
        name = item["name"]
        if not isinstance(name, str) or not NAME.fullmatch(name) or name in sets:
            raise _malformed("the name of a set")
        sets[name] = _files(name, item["files"])
        if set_digest(sets[name]) != item["sha256"]:
            raise _malformed(f"{name}: its files do not have the digest that stands beside them")
    return sets


def _files(name: str, value: object) -> dict[str, bytes]:
    if not isinstance(value, dict) or not 0 < len(value) <= SET_FILES_MAX:
        raise _malformed(f"{name}: an object of 1 to {SET_FILES_MAX} files was expected")
    files: dict[str, bytes] = {}
    for file, text in value.items():
        if not is_file_name(file) or not isinstance(text, str):
            raise _malformed(f"{name}: the name or the content of a file")
        try:
            files[file] = b64decode(text, validate=True)
        except (binascii.Error, ValueError) as error:
            raise _malformed(f"{name}: {file} is not base64") from error
    return files


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    result = dict(pairs)
    if len(result) != len(pairs):
        raise ValueError("a name occurs twice in one object")
    return result


def _malformed(detail: str) -> FormatError:
    return FormatError(Code.ENDORSEMENTS_MALFORMED, f"bundle: {detail}")
