"""The simulated measurement: every file of the package counts, and nothing else does."""

import hashlib
import shutil
import stat
import sys
from pathlib import Path

import pytest

import proxy_attestation
from proxy_attestation_simulator.errors import SimulatorError
from proxy_attestation_simulator.measure import (
    Interpreter,
    interpreter_of,
    measure_command,
    measure_package,
    package_directory,
)

PACKAGE = Path(proxy_attestation.__file__).parent


def _package(parent: Path, content: str = "") -> Path:
    package = parent / "proxy_attestation"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text(content)
    return package


def _executable(path: Path, content: str) -> Path:
    path.write_text(content)
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


def test_the_measurement_is_the_digest_of_sorted_index_lines(tmp_path: Path) -> None:
    package = _package(tmp_path, "x")
    (package / "a").mkdir()
    (package / "a" / "data.bin").write_bytes(b"\0")
    (package / "a.py").write_text("y")
    (package / "__pycache__").mkdir()
    (package / "__pycache__" / "a.pyc").write_text("z")
    lines = "".join(
        f"{hashlib.sha256(content).hexdigest()}  proxy_attestation/{name}\n"
        for name, content in (("__init__.py", b"x"), ("a.py", b"y"), ("a/data.bin", b"\0"))
    )
    measurement = measure_package(package)
    assert measurement.index == lines
    assert measurement.mr_enclave == hashlib.sha256(lines.encode()).digest()
    assert measurement.mr_td == hashlib.sha384(lines.encode()).digest()


@pytest.mark.parametrize("change", ["edit", "add", "remove", "rename", "data"])
def test_any_change_to_the_package_changes_it(tmp_path: Path, change: str) -> None:
    package = tmp_path / "proxy_attestation"
    shutil.copytree(PACKAGE, package, ignore=shutil.ignore_patterns("__pycache__"))
    before = measure_package(package)
    match change:
        case "edit":
            path = package / "cli" / "main.py"
            path.write_bytes(path.read_bytes() + b"\n")
        case "add":
            (package / "formats" / "more.py").write_text("")
        case "remove":
            (package / "explanations.py").unlink()
        case "rename":
            (package / "errors.py").rename(package / "errors_.py")
        case _:
            (package / "py.typed").write_bytes(b"\1")
    after = measure_package(package)
    assert before.mr_enclave != after.mr_enclave
    assert before.mr_td != after.mr_td


def test_compiled_files_and_the_place_do_not_count(tmp_path: Path) -> None:
    first, second = _package(tmp_path / "one", "x"), _package(tmp_path / "two", "x")
    (second / "__pycache__").mkdir()
    (second / "__pycache__" / "x.pyc").write_bytes(b"1")
    assert measure_package(first) == measure_package(second)


def test_parameters_do_not_count(tmp_path: Path) -> None:
    script = _executable(tmp_path / "program", f"#!{sys.executable}\n")
    plain = measure_command([str(script)])
    assert measure_command([str(script), "load", "app.toml", "--attester", "simulator:{fd}"]) == plain
    assert measure_command([sys.executable, "-m", "proxy_attestation"]) == plain
    assert measure_command([]) == plain


@pytest.mark.parametrize("name", ["a\nb", "a\\b"])
def test_a_name_that_no_index_can_hold_is_refused(tmp_path: Path, name: str) -> None:
    package = _package(tmp_path)
    (package / name).write_text("")
    with pytest.raises(SimulatorError):
        measure_package(package)


def test_an_empty_or_absent_package_is_refused(tmp_path: Path) -> None:
    (tmp_path / "proxy_attestation").mkdir()
    for directory in (tmp_path / "proxy_attestation", tmp_path / "nothing"):
        with pytest.raises(SimulatorError):
            measure_package(directory)


def test_the_package_is_the_one_that_the_interpreter_imports(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other = _package(tmp_path / "path", "raise SystemExit('imported')")
    assert package_directory(Interpreter((sys.executable,))) == PACKAGE
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "path"))
    assert package_directory(Interpreter((sys.executable,))) == other
    assert package_directory(Interpreter((sys.executable, "-E"))) == PACKAGE
    beside = _package(tmp_path / "scripts")
    (tmp_path / "scripts" / "run.py").write_text("")
    script = str(tmp_path / "scripts" / "run.py")
    assert package_directory(interpreter_of([sys.executable, script])) == beside
    assert package_directory(interpreter_of([sys.executable, "-P", script])) == other
    assert package_directory(interpreter_of([sys.executable, "-I", script])) == PACKAGE
    monkeypatch.chdir(tmp_path / "scripts")
    assert package_directory(interpreter_of([sys.executable, "-m", "anything"])) == beside
    assert package_directory(interpreter_of([sys.executable, "-Im", "anything"])) == PACKAGE
    assert package_directory(interpreter_of([sys.executable, "-c", "pass"])) == beside


def test_an_interpreter_without_the_package_is_refused() -> None:
    with pytest.raises(SimulatorError):
        package_directory(Interpreter((sys.executable, "-S", "-I")))
    with pytest.raises(SimulatorError):
        package_directory(Interpreter(("/bin/false",)))
    with pytest.raises(SimulatorError):
        package_directory(Interpreter(("/nonexistent/python3",)))


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ([], ()),
        (["-m", "module", "-I"], ()),
        (["-Werror", "-W", "ignore", "-X", "dev", "-s", "-c", "pass"], ("-Werror", "-W", "ignore", "-X", "dev", "-s")),
        (["-sIm", "module"], ("-sI",)),
        (["--check-hash-based-pycs=always", "-"], ()),
    ],
)
def test_options_of_python_are_kept(arguments: list[str], expected: tuple[str, ...]) -> None:
    assert interpreter_of([sys.executable, *arguments]) == Interpreter((sys.executable, *expected))


def test_a_script_names_its_interpreter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    directory = str(tmp_path.resolve())
    python = _executable(tmp_path / "python3", "")
    for number, (first_lines, expected) in enumerate(
        [
            (f"#!{python} -P\n", Interpreter((str(python), "-P"), directory)),
            ("#!/usr/bin/env python3\n", Interpreter((str(python),), directory)),
            ("#!/usr/bin/env -S python3 -E\n", Interpreter((str(python), "-E"), directory)),
            (f"#!/bin/sh\n'''exec' \"{python}\" \"$0\" \"$@\"\n' '''\n", Interpreter((str(python),), directory)),
            ("#!/bin/sh\necho\n", Interpreter((sys.executable,))),
            ("\x7fELF", Interpreter((sys.executable,))),
            ("#!\n", Interpreter((sys.executable,))),
            ("#!/usr/bin/env no-such-program\n", Interpreter((sys.executable,))),
        ]
    ):
        script = _executable(tmp_path / f"script{number}", first_lines)
        monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
        assert interpreter_of([script.name]) == expected
        assert interpreter_of([str(script)]) == expected


def test_a_program_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SimulatorError):
        interpreter_of([str(tmp_path / "absent")])
