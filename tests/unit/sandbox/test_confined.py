"""What a program reaches that a sandbox starts: nothing of the folders that are hidden, no sockets but those it is given."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from turnout.runtimes import confined, landlock
from turnout.runtimes.folder import build_confinement
from turnout.sandbox import find_openings

closed = pytest.mark.skipif(bool(find_openings()), reason="this machine cannot close a sandbox")


def tried(tmp_path: Path, code: str, *hidden: Path, **more: Any) -> str:
    """What a program says that the sandbox starts; `attempt(name, act)` names the error of the kernel."""
    own, release = tmp_path / "work" / "agent", tmp_path / "work" / "release"
    for folder in (own / "home", own / "tmp", release):
        folder.mkdir(parents=True, exist_ok=True)
    confinement = build_confinement(
        (tmp_path / "work", *hidden), own, release, release, connect=more.pop("connect", (1,))
    )
    intro = (
        "import errno, os, resource, socket\n"
        "def attempt(name, act):\n"
        "    try: act()\n"
        "    except OSError as error: print(name, errno.errorcode[error.errno])\n"
        "    else: print(name, 'reached')\n"
    )
    command = [sys.executable, "-I", "-S", "-E", confined.__file__, json.dumps({**confinement, **more})]
    done = subprocess.run(
        [*command, sys.executable, "-c", intro + code], capture_output=True, text=True, timeout=30, check=False
    )
    return done.stdout + done.stderr


@closed
def test_neither_the_state_of_the_server_nor_the_folder_of_the_suite_is_reached(tmp_path: Path) -> None:
    state, source = tmp_path / "state", tmp_path / "source"
    for folder in (state, source):
        folder.mkdir()
        (folder / "secret").write_text("a secret", encoding="utf-8")
    beside = tmp_path / "beside"
    beside.write_text("open to all", encoding="utf-8")
    code = "\n".join(
        f"attempt({name!r}, lambda: open({str(path)!r}, {mode!r}))"
        for name, path, mode in (
            ("state", state / "secret", "r"),
            ("write", state / "secret", "a"),
            ("source", source / "secret", "r"),
            ("beside", beside, "r"),
        )
    )
    assert tried(tmp_path, code, state, source).split("\n")[:4] == [
        "state EACCES",
        "write EACCES",
        "source EACCES",
        "beside reached",
    ]


@closed
def test_only_tcp_to_the_ports_that_were_given_is_left_of_the_network(tmp_path: Path) -> None:
    path = f"/tmp/{tmp_path.parent.name}-{tmp_path.name}.sock"[:100]
    with (
        socket.create_server(("127.0.0.1", 0)) as given,
        socket.create_server(("127.0.0.1", 0)) as other,
        socket.socket(socket.AF_UNIX) as unix,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp,
    ):
        unix.bind(path)
        unix.listen()
        udp.bind(("127.0.0.1", 0))
        port, closed_port = given.getsockname()[1], other.getsockname()[1]
        code = (
            f"attempt('given', lambda: socket.create_connection(('localhost', {port}), 5))\n"
            f"attempt('other', lambda: socket.create_connection(('127.0.0.1', {closed_port}), 5))\n"
            f"attempt('unix', lambda: socket.socket(socket.AF_UNIX).connect({path!r}))\n"
            "def send(kind, flags=0, port=1):\n"
            "    with socket.socket(socket.AF_INET, kind) as made: made.sendto(b'x', flags, ('127.0.0.1', port))\n"
            f"attempt('udp', lambda: send(socket.SOCK_DGRAM, port={udp.getsockname()[1]}))\n"
            f"attempt('fastopen', lambda: send(socket.SOCK_STREAM, 0x20000000, {closed_port}))\n"
            "attempt('mptcp', lambda: socket.socket(socket.AF_INET, socket.SOCK_STREAM, 262))\n"
            "attempt('pair', socket.socketpair)\n"
        )
        said = tried(tmp_path, code, connect=(port,))
    Path(path).unlink()
    assert dict(line.split() for line in said.splitlines()) == {
        "given": "reached",
        "other": "EACCES",
        "unix": "EACCES",
        "udp": "EACCES",
        "fastopen": "EACCES",
        "mptcp": "EACCES",
        "pair": "reached",
    }


def test_what_cannot_be_confined_is_not_started_unless_that_is_allowed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = tmp_path / "old"  # a kernel that does not know the system calls
    old.mkdir()
    for module in (confined, landlock):
        text = Path(module.__file__ or "").read_text(encoding="utf-8").replace("444, 445, 446", "9444, 9445, 9446")
        (old / Path(module.__file__ or "").name).write_text(text, encoding="utf-8")
    monkeypatch.setattr(confined, "__file__", str(old / "confined.py"))

    shut = tried(tmp_path, "print('it runs')")
    allowed = tried(tmp_path, "print('it runs')", open=True)

    assert "it cannot be confined: the kernel has no Landlock" in shut
    assert "it runs" not in shut
    assert allowed.startswith("it runs")


def test_the_limits_hold(tmp_path: Path) -> None:
    code = (
        "print(*(resource.getrlimit(getattr(resource, f'RLIMIT_{name}'))[0] for name in ('DATA', 'NOFILE', 'FSIZE')))"
    )
    said = tried(
        tmp_path, code, limits={"memory": 1 << 29, "open_files": 64, "cpus": 1, "file_size": 1 << 20}, open=True
    )
    assert said.splitlines()[-1] == f"{1 << 29} 64 {1 << 20}"
