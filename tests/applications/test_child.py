"""Child processes: how they are started, ended and restarted."""

import asyncio
import contextlib
import json
import os
import pwd
import signal
import sys
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Final

import pytest

from proxy_attestation.codes import Code
from proxy_attestation.errors import ConfigurationError, UnavailableError
from proxy_attestation.formats.request import ApplicationKind
from proxy_attestation.loader.applications.child import ChildApplication
from proxy_attestation.loader.backoff import Backoff
from proxy_attestation.loader.endpoint import Endpoint

QUICK: Final = Backoff(first=0.01, most=0.05)
# Answers each connection with what it sees of itself, as JSON.
SERVER: Final = """
import json, os, socket, sys
listener = socket.socket(socket.AF_UNIX)
listener.bind(sys.argv[1].removeprefix("unix:"))
listener.listen()
fields = dict(line.split(":", 1) for line in open("/proc/self/status") if ":" in line)
paths = ["/proc/self/fd/" + name for name in os.listdir("/proc/self/fd")]
links = [os.readlink(path) for path in paths if os.path.lexists(path)]
while True:
    connection, _ = listener.accept()
    try:
        connection.sendall(json.dumps({
            "environment": dict(os.environ), "uid": os.getuid(), "gid": os.getgid(), "groups": os.getgroups(),
            "no_new_privileges": fields["NoNewPrivs"].strip(), "session": os.getsid(0) == os.getpid(),
            "links": links, "pid": os.getpid(),
        }).encode())
    except OSError:
        pass
    connection.close()
"""


def server(path: Path, script: str = SERVER) -> tuple[tuple[str, ...], Endpoint]:
    return (sys.executable, "-I", "-S", "-c", script, "{connect}"), Endpoint(path=path)


@contextlib.asynccontextmanager
async def started(
    path: Path, *, owner: tuple[int, int] | None = None, notes: list[str] | None = None
) -> AsyncIterator[ChildApplication]:
    command, endpoint = server(path)
    kept = notes if notes is not None else []
    application = ChildApplication(command, endpoint, owner, kept.append, restart=QUICK)
    await application.start()
    try:
        yield application
    finally:
        await application.stop()


async def ask(application: ChildApplication) -> dict[str, Any]:
    stream = await application.connect()
    data = b""
    while piece := await stream.read():
        data += piece
    await stream.close()
    found = json.loads(data)
    assert isinstance(found, dict)
    return found


def test_the_child_is_clean(tmp_path: Path) -> None:
    async def scenario() -> None:
        secret = os.open(tmp_path, os.O_RDONLY)
        os.set_inheritable(secret, True)
        try:
            async with started(tmp_path / "app.sock") as application:
                seen = await ask(application)
        finally:
            os.close(secret)
        # LC_CTYPE is what Python gives itself where there is no locale (PEP 538).
        assert set(seen["environment"]) <= {"LC_CTYPE"}
        assert seen["no_new_privileges"] == "1"
        assert seen["session"] is True
        assert seen["uid"] == os.getuid()
        assert str(tmp_path) not in seen["links"]
        assert sum(link.startswith("socket:") for link in seen["links"]) == 1  # its own listener

    asyncio.run(scenario())


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can run a child as somebody else")
def test_the_child_runs_as_another_user() -> None:
    nobody = pwd.getpwnam("nobody")

    async def scenario(directory: Path) -> None:
        os.chown(directory, nobody.pw_uid, nobody.pw_gid)
        script = f"/usr/bin/id -u > {directory}/seen; /usr/bin/id -G >> {directory}/seen"
        owner = (nobody.pw_uid, nobody.pw_gid)
        application = ChildApplication(
            ("/bin/sh", "-c", script), Endpoint(path=directory / "app.sock"), owner, lambda _: None
        )
        with pytest.raises(UnavailableError):  # it does not listen; it has said who it is
            await application.start()
        assert (directory / "seen").read_text().split() == [str(nobody.pw_uid), str(nobody.pw_gid)]

    # pytest's own directories are root's alone.
    with tempfile.TemporaryDirectory() as name:
        asyncio.run(scenario(Path(name)))


def test_no_claim_is_made(tmp_path: Path) -> None:
    command, endpoint = server(tmp_path / "app.sock")
    application = ChildApplication(command, endpoint, None, lambda _: None)
    assert application.kind is ApplicationKind.CHILD
    assert application.sha256 is None


def test_a_child_that_dies_is_restarted(tmp_path: Path) -> None:
    async def scenario() -> None:
        notes: list[str] = []
        async with started(tmp_path / "app.sock", notes=notes) as application:
            first = (await ask(application))["pid"]
            os.kill(first, signal.SIGKILL)  # it leaves its socket's file behind, where the next one binds
            second = first
            while second == first:
                await asyncio.sleep(0.01)
                with contextlib.suppress(OSError, ValueError):
                    second = (await ask(application))["pid"]
            assert application.status()["restarts"] == 1
            assert len(notes) == 1

    asyncio.run(scenario())


def test_stopping_ends_the_child_and_its_children(tmp_path: Path) -> None:
    script = "import subprocess\nsubprocess.Popen(['/bin/sleep', '1000'])\n" + SERVER

    async def scenario() -> None:
        command, endpoint = server(tmp_path / "app.sock", script)
        application = ChildApplication(command, endpoint, None, lambda _: None, restart=QUICK)
        await application.start()
        child = (await ask(application))["pid"]
        await application.stop()
        assert application.status()["pid"] is None
        assert child not in _groups()

    asyncio.run(scenario())


def _groups() -> set[int | None]:
    return {_group(entry) for entry in Path("/proc").iterdir() if entry.name.isdigit()}


def _group(process: Path) -> int | None:
    """Return the process group of a process that is not a zombie."""
    try:
        fields = (process / "stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] == "Z" else int(fields[2])


def test_a_program_that_ends_at_once_is_unavailable(tmp_path: Path) -> None:
    async def scenario() -> None:
        application = ChildApplication(("/bin/false",), Endpoint(path=tmp_path / "app.sock"), None, lambda _: None)
        with pytest.raises(UnavailableError) as refused:
            await application.start()
        assert refused.value.code is Code.APPLICATION_FAILED

    asyncio.run(scenario())


def test_a_program_that_does_not_listen_is_unavailable(tmp_path: Path) -> None:
    async def scenario() -> None:
        application = ChildApplication(
            ("/bin/sleep", "1000"), Endpoint(path=tmp_path / "app.sock"), None, lambda _: None, start_seconds=0.2
        )
        with pytest.raises(UnavailableError) as refused:
            await application.start()
        assert refused.value.code is Code.APPLICATION_FAILED
        assert application.status()["pid"] is None

    asyncio.run(scenario())


def test_what_an_earlier_run_left_is_no_program_that_listens(tmp_path: Path) -> None:
    (tmp_path / "app.sock").touch()

    async def scenario() -> None:
        async with started(tmp_path / "app.sock") as application:
            assert (await ask(application))["pid"] > 0

    asyncio.run(scenario())


def test_a_program_that_is_none_is_a_mistake_in_the_file(tmp_path: Path) -> None:
    plain = tmp_path / "plain"
    plain.touch(0o600)

    async def scenario() -> None:
        for program in (tmp_path / "absent", plain, tmp_path):
            application = ChildApplication((str(program),), Endpoint(path=tmp_path / "s"), None, lambda _: None)
            with pytest.raises(ConfigurationError) as refused:
                await application.start()
            assert refused.value.code is Code.APPLICATION_FAILED

    asyncio.run(scenario())
