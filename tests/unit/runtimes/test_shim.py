"""The shim by itself: one a folder, a log of a bounded size, and a record of whatever happens."""

from __future__ import annotations

import fcntl
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from tests.unit.runtimes.support import eventually
from turnout.runtimes import shim
from turnout.runtimes.shim import RotatingLog

NO_LIMITS = {"memory": None, "cpus": None, "open_files": None}


def write_spec(folder: Path, argv: list[str]) -> None:
    launch = {
        "argv": argv,
        "env": {"PATH": "/usr/bin:/bin"},
        "cwd": str(folder),
        "limits": NO_LIMITS,
        "log_bytes": 1000,
        "log_files": 2,
    }
    (folder / "spec.json").write_text(json.dumps({"attempt": 1, "port": 1, "launch": launch}), encoding="utf-8")


def run_shim(folder: Path) -> int:
    lock = os.open(folder / "lock", os.O_RDWR | os.O_CREAT)
    try:
        command = [sys.executable, "-I", "-S", "-E", shim.__file__, str(folder), str(lock)]
        return subprocess.run(command, pass_fds=(lock,), env={}, timeout=20, check=False).returncode
    finally:
        os.close(lock)


def exit_of(folder: Path) -> dict[str, object]:
    content = json.loads((folder / "exit.json").read_bytes())
    assert isinstance(content, dict)
    return content


def test_the_exit_and_the_output_are_recorded(tmp_path: Path) -> None:
    write_spec(tmp_path, ["sh", "-c", "echo out; echo err >&2; exit 7"])
    assert run_shim(tmp_path) == 0
    assert (exit_of(tmp_path)["code"], exit_of(tmp_path)["attempt"]) == (7, 1)
    assert (tmp_path / "agent.log").read_bytes() == b"out\nerr\n"


def test_a_second_shim_does_nothing(tmp_path: Path) -> None:
    write_spec(tmp_path, ["sh", "-c", "touch ran"])
    with (tmp_path / "lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        assert run_shim(tmp_path) == 0
    assert {path.name for path in tmp_path.iterdir()} == {"lock", "spec.json"}


def test_a_replica_that_was_stopped_before_its_shim_ran_is_not_started(tmp_path: Path) -> None:
    write_spec(tmp_path, ["sh", "-c", "touch ran"])
    (tmp_path / "grace").write_text("1.0", encoding="ascii")
    run_shim(tmp_path)
    assert exit_of(tmp_path)["reason"] == "stopped before it was started"
    assert not (tmp_path / "ran").exists()


def test_a_fault_of_the_shim_itself_is_recorded(tmp_path: Path) -> None:
    write_spec(tmp_path, ["true"])
    spec = json.loads((tmp_path / "spec.json").read_bytes())
    spec["launch"]["limits"]["open_files"] = "many"
    (tmp_path / "spec.json").write_text(json.dumps(spec), encoding="utf-8")
    assert run_shim(tmp_path) == 1
    assert "the supervisor failed" in str(exit_of(tmp_path)["reason"])


def test_an_agent_that_closes_its_output_is_still_watched(tmp_path: Path) -> None:
    write_spec(tmp_path, ["sh", "-c", "exec >&- 2>&-; sleep 0.2; exit 4"])
    run_shim(tmp_path)
    assert exit_of(tmp_path)["code"] == 4


def test_a_child_that_outlives_the_agent_is_ended_and_does_not_keep_the_exit_waiting(tmp_path: Path) -> None:
    write_spec(tmp_path, ["sh", "-c", "sleep 600 & echo $!; setsid sleep 600 & exit 5"])
    run_shim(tmp_path)
    assert exit_of(tmp_path)["code"] == 5
    child = int((tmp_path / "agent.log").read_text(encoding="ascii"))
    eventually(lambda: shim.process_identity(child) is None, 2.0)


@given(st.lists(st.binary(min_size=1, max_size=70)), st.integers(10, 100), st.integers(1, 4))
def test_a_log_keeps_the_end_of_what_was_written_within_its_bound(chunks: list[bytes], limit: int, files: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        log = RotatingLog(Path(folder) / "log", limit, files)
        for chunk in chunks:
            log.write(chunk)
        log.close()
        parts = [Path(folder) / "log", *(Path(folder) / f"log.{number}" for number in range(1, 10))]
        kept = [path.read_bytes() for path in reversed(parts) if path.exists()]
    assert len(kept) <= files
    assert all(len(part) <= limit for part in kept)
    assert b"".join(chunks).endswith(b"".join(kept))


def test_a_log_is_cut_between_lines(tmp_path: Path) -> None:
    log = RotatingLog(tmp_path / "log", 10, 2)
    log.write(b"12345\n789\nabcdefgh\n")
    log.close()
    assert (tmp_path / "log.1").read_bytes() == b"12345\n789\n"
    assert (tmp_path / "log").read_bytes() == b"abcdefgh\n"


def test_a_full_disk_loses_lines_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "log").symlink_to("/dev/full")
    log = RotatingLog(tmp_path / "log", 100, 1)
    log.write(b"lost\n")
    (tmp_path / "log").unlink()
    log.close()
    log.write(b"kept\n")
    log.close()
    assert (tmp_path / "log").read_bytes() == b"kept\n"
