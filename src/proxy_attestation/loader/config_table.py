"""Strict reading of one TOML table: each key once asked for, of one type, and every error with its line and a fix."""

import re
import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final, TypeVar

from proxy_attestation.codes import Code
from proxy_attestation.errors import ConfigurationError

_T = TypeVar("_T")
_HEADER: Final = re.compile(r"\s*\[\[?\s*([A-Za-z0-9_.-]+)\s*\]\]?")
_KEY: Final = re.compile(r"\s*([A-Za-z0-9_-]+)\s*=")
_DURATION: Final = re.compile(r"([0-9]{1,9})([smhd])\Z")
_SECONDS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_SIZE: Final = re.compile(r"([0-9]{1,12})(KiB|MiB|GiB)\Z")
_BYTES: Final = {"KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}
TEXT_MAX: Final = 4096
FILE_MAX: Final = 64 * 1024


def read_file(path: Path, parse: Callable[[bytes, Path], _T]) -> _T:
    """Read a file and parse it; an error names the file.

    Args:
        path: of the file.
        parse: takes its content, of which it gets at most one byte more than `FILE_MAX`, and the directory it is in.

    Raises:
        ConfigurationError: `configuration.malformed`, with line and fix.
    """
    try:
        with path.open("rb") as file:
            content = file.read(FILE_MAX + 1)
    except OSError as error:
        raise ConfigurationError(Code.CONFIGURATION_MALFORMED, f"{path}: {error.strerror}") from error
    try:
        return parse(content, path.absolute().parent)
    except ConfigurationError as error:
        raise ConfigurationError(error.code, f"{path}: {error.detail}") from error


def parse_toml(content: bytes) -> "Table":
    """Return the top table of a file.

    Args:
        content: TOML in UTF-8, at most `FILE_MAX` bytes.

    Raises:
        ConfigurationError: `configuration.malformed`.
    """
    if len(content) > FILE_MAX:
        raise ConfigurationError(Code.CONFIGURATION_MALFORMED, f"more than {FILE_MAX} bytes")
    try:
        text = content.decode()
        return Table(text, tomllib.loads(text))
    except (ValueError, RecursionError) as error:
        raise ConfigurationError(Code.CONFIGURATION_MALFORMED, f"not TOML: {error}") from error


class Table:
    """One table of the file.

    Keys that were read are noted; `finish` refuses the rest.
    """

    def __init__(self, text: str, values: Mapping[str, Any], name: str = "", index: int = 0) -> None:
        """Wrap a table.

        Args:
            text: the whole file, for line numbers.
            values: the table as `tomllib` gives it.
            name: of the table in the file; empty for the top.
            index: which of the tables of that name.
        """
        self._text = text
        self._values = values
        self._name = name
        self._index = index
        self._read: set[str] = set()

    def error(self, key: str | None, problem: str, fix: str) -> ConfigurationError:
        """Return the error that names line, key, problem and fix."""
        where = key if not self._name else f"{self._name}.{key}" if key else self._name
        line = self._line(key)
        prefix = f"line {line}: " if line is not None else ""
        return ConfigurationError(Code.CONFIGURATION_MALFORMED, f"{prefix}{where or 'the file'} {problem}; {fix}")

    def __contains__(self, key: str) -> bool:
        """Tell whether a key is there."""
        return key in self._values

    def finish(self) -> None:
        """Refuse keys that nobody read.

        Raises:
            ConfigurationError: `configuration.malformed`.
        """
        for key in self._values:
            if key not in self._read:
                raise self.error(key, "is an unknown key", f"known here: {', '.join(sorted(self._read))}")

    def get(self, key: str, kind: type[_T], example: str, default: _T | None = None) -> _T:
        """Return a value of exactly one type.

        Raises:
            ConfigurationError: `configuration.malformed`, where it is absent without a default, or another type.
        """
        value = self.optional(key, kind, example)
        if value is not None:
            return value
        if default is not None:
            return default
        raise self.error(None if key not in self._values else key, f"lacks {key}", f"write {key} = {example}")

    def optional(self, key: str, kind: type[_T], example: str) -> _T | None:
        """Return a value of exactly one type, or None where the key is absent.

        Raises:
            ConfigurationError: `configuration.malformed`.
        """
        self._read.add(key)
        value = self._values.get(key)
        if value is None:
            return None
        # bool is an int in Python; in a file it is a mistake.
        if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
            raise self.error(key, "has a value of the wrong type", f"write {key} = {example}")
        if isinstance(value, str) and not _is_plain(value):
            raise self.error(key, f"is not 1 to {TEXT_MAX} printable characters", f"write {key} = {example}")
        return value

    def texts(self, key: str, example: str, most: int) -> tuple[str, ...]:
        """Return a list of texts; absent means none, an empty one is refused.

        Raises:
            ConfigurationError: `configuration.malformed`.
        """
        values = self.optional(key, list, example)
        if values is None:
            return ()
        good = all(isinstance(value, str) and value and value.isprintable() for value in values)
        if not good or not 0 < len(values) <= most or len(set(values)) != len(values):
            raise self.error(key, f"is not a list of 1 to {most} different texts", f"write {key} = {example}")
        return tuple(values)

    def parsed(self, key: str, example: str, parse: Callable[[str], _T]) -> _T:
        """Return a text turned into something else by a function that raises ValueError.

        Raises:
            ConfigurationError: `configuration.malformed`.
        """
        text = self.get(key, str, example)
        try:
            return parse(text)
        except ValueError as error:
            raise self.error(key, f"cannot be used: {error}", f"write {key} = {example}") from error

    def duration(self, key: str, example: str, low: int, high: int, default: int | None = None) -> int:
        """Return a time such as "90s", "15m", "1h" in seconds.

        Raises:
            ConfigurationError: `configuration.malformed`.
        """
        return self._measured(key, example, (_DURATION, _SECONDS), (low, high), default)

    def size(self, key: str, example: str, low: int, high: int, default: int) -> int:
        """Return a size such as "64MiB" in bytes.

        Raises:
            ConfigurationError: `configuration.malformed`.
        """
        return self._measured(key, example, (_SIZE, _BYTES), (low, high), default)

    def number(self, key: str, example: str, low: int, high: int, default: int) -> int:
        """Return an integer within bounds.

        Raises:
            ConfigurationError: `configuration.malformed`.
        """
        value = self.get(key, int, example, default)
        if not low <= value <= high:
            raise self.error(key, f"is not {low} to {high}", f"write {key} = {example}")
        return value

    def numbers(self, key: str, example: str, high: int) -> tuple[int, ...]:
        """Return a list of different integers from 0 to `high`, sorted; it has to be there.

        Raises:
            ConfigurationError: `configuration.malformed`.
        """
        values = self.get(key, list, example)
        good = all(isinstance(value, int) and not isinstance(value, bool) for value in values)
        if not good or not values or not all(0 <= value <= high for value in values) or len(set(values)) != len(values):
            raise self.error(key, f"is not a list of different integers from 0 to {high}", f"write {key} = {example}")
        return tuple(sorted(values))

    def table(self, key: str) -> "Table":
        """Return a table within; an empty one where it is absent.

        Raises:
            ConfigurationError: `configuration.malformed`.
        """
        name = f"{self._name}.{key}" if self._name else key
        return Table(self._text, self.optional(key, dict, "a table") or {}, name)

    def tables(self, key: str, most: int) -> tuple["Table", ...]:
        """Return an array of tables, 1 to `most`.

        Raises:
            ConfigurationError: `configuration.malformed`.
        """
        values = self.optional(key, list, f"[[{key}]]") or []
        if not 0 < len(values) <= most or not all(isinstance(value, dict) for value in values):
            raise self.error(None, f"needs 1 to {most} tables [[{key}]]", f"write [[{key}]]")
        return tuple(Table(self._text, value, key, index) for index, value in enumerate(values))

    def _measured(
        self,
        key: str,
        example: str,
        units: tuple[re.Pattern[str], Mapping[str, int]],
        bounds: tuple[int, int],
        default: int | None,
    ) -> int:
        text = self.optional(key, str, example)
        if text is None and default is not None:
            return default
        match = units[0].match(self.get(key, str, example))
        value = int(match[1]) * units[1][match[2]] if match else -1
        if not bounds[0] <= value <= bounds[1]:
            raise self.error(key, "is not such a quantity, or out of bounds", f"write {key} = {example}")
        return value

    def _line(self, key: str | None) -> int | None:
        """Find where the key stands. Inline and dotted forms are not found: then the error has no line."""
        name, seen = "", {"": 0}
        for number, line in enumerate(self._text.splitlines(), 1):
            header = _HEADER.match(line)
            if header:
                name = header[1]
                seen[name] = seen.get(name, -1) + 1
            if name != self._name or seen[name] != self._index:
                continue
            match = _KEY.match(line)
            if (header and key is None) or (match and match[1] == key):
                return number
        return None


def _is_plain(text: str) -> bool:
    return 0 < len(text) <= TEXT_MAX and text.isprintable()
