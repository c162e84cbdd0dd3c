"""Run the command that makes an agent's data, away from the agent's folder and with nothing of this machine's environment.

The command sees the code and the prompts of the release, and its output is the data component. Cleared environment, clean
folder and fixed times are there so that the same inputs make the same data wherever the tool that runs allows it.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import threading
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO

from turnout.artifacts.archive import FileEntry
from turnout.artifacts.faults import disk_error, disk_errors
from turnout.artifacts.select import select_files
from turnout.domain.errors import BuildFailed
from turnout.manifest.schema import Manifest

TIMEOUT = 3_600.0  # seconds
_LONGEST_LINE = 64 << 10
_SHOWN_LINES = 20


def run_data_build(
    folder: Path,
    manifest: Manifest,
    bin_dir: Path | None,
    workspace: Path,
    on_output: Callable[[str], None],
    *,
    timeout: float = TIMEOUT,
) -> Path:
    """Run `data.build` in a clean copy below `workspace` and return the file or folder with the data (absolute).

    `bin_dir` holds the programs of the release's environment and comes first on PATH. `on_output` gets each line of output.
    Raises `BuildFailed` with the last lines when the command fails, takes too long, or makes no data; `StorageFull`.
    """
    if manifest.data is None or not manifest.data.build:
        raise BuildFailed("turnout.toml declares no data.build", hint="give the command that makes the data")
    source, home = workspace.resolve() / "source", workspace.resolve() / "home"
    _stage(folder, manifest, source, home)
    result = source / manifest.data.path
    with disk_errors(workspace):
        result.parent.mkdir(parents=True, exist_ok=True)
    _run(manifest.data.build, source, _environment(bin_dir, home, result), on_output, timeout)
    if not _has_content(result):
        raise BuildFailed(
            f"data.build made nothing at {manifest.data.path}",
            hint="write the data to the path that TURNOUT_DATA_DIR names",
        )
    return result


def _stage(folder: Path, manifest: Manifest, source: Path, home: Path) -> None:
    """Copy what the command may see. The data itself is left out: it is what the command makes."""
    selection = select_files(folder, _without_data(manifest))
    data = manifest.data.path if manifest.data else ""
    with disk_errors(source):
        for place in (source, home):
            shutil.rmtree(place, ignore_errors=True)
            place.mkdir(parents=True)
    _copy((entry for entry in (*selection.code, *selection.prompts) if not _is_under(entry.path, data)), source)


def _without_data(manifest: Manifest) -> Manifest:
    return manifest.model_copy(update={"data": None})


def _is_under(path: str, folder: str) -> bool:
    return path == folder or path.startswith(folder + "/")


def _copy(entries: Iterable[FileEntry], target: Path) -> None:
    for entry in entries:
        place = target / entry.path
        try:
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(entry.source, place)
            shutil.copymode(entry.source, place)
            os.utime(place, (0, 0))
        except OSError as error:
            if error.filename == str(entry.source):
                raise BuildFailed(f"{entry.path} cannot be read: {error.strerror}") from error
            raise disk_error(error, target) from error


def _environment(bin_dir: Path | None, home: Path, result: Path) -> dict[str, str]:
    search = os.environ.get("PATH", os.defpath)
    return {
        "PATH": f"{bin_dir.resolve()}{os.pathsep}{search}" if bin_dir else search,
        "HOME": str(home),
        "LANG": "C.UTF-8",
        "PYTHONHASHSEED": "0",
        "SOURCE_DATE_EPOCH": "0",
        "TURNOUT_DATA_DIR": str(result),
    }


def _run(
    command: Sequence[str], folder: Path, env: dict[str, str], on_output: Callable[[str], None], timeout: float
) -> None:
    try:
        running = subprocess.Popen(
            command,
            cwd=folder,
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    except OSError as error:
        raise BuildFailed(f"data.build: {command[0]} cannot be run: {error.strerror}") from None
    expired = threading.Event()
    last: deque[str] = deque(maxlen=_SHOWN_LINES)
    watch = threading.Thread(target=_end_with_leader, args=(running, timeout, expired), daemon=True)
    watch.start()
    assert running.stdout is not None  # noqa: S101  # it is piped
    try:
        _relay(running.stdout, last, on_output)
    except BaseException:
        _kill_group(running.pid)
        raise
    finally:
        watch.join()
        running.stdout.close()
        code = running.wait()
    output = "\n".join(last)
    if expired.is_set():
        raise BuildFailed(f"data.build took longer than {timeout:g} seconds and was ended\n{output}".rstrip())
    if code:
        ending = f"was ended by signal {-code}" if code < 0 else f"failed with exit code {code}"
        raise BuildFailed(f"data.build {ending}\n{output}".rstrip(), hint="run the command in the agent's folder")


def _end_with_leader(running: subprocess.Popen[bytes], timeout: float, expired: threading.Event) -> None:
    """End the whole group when its leader has ended or its time is over; else what it left behind holds the pipe open."""
    try:
        running.wait(timeout)
    except subprocess.TimeoutExpired:
        expired.set()
    _kill_group(running.pid)


def _kill_group(leader: int) -> None:
    with suppress(ProcessLookupError, PermissionError):  # nobody of the group is left
        os.killpg(leader, signal.SIGKILL)


def _relay(output: IO[bytes], last: deque[str], on_output: Callable[[str], None]) -> None:
    while line := output.readline(_LONGEST_LINE):
        text = line.decode(errors="replace").rstrip()
        last.append(text)
        on_output(text)


def _has_content(path: Path) -> bool:
    if path.is_file():
        return path.stat().st_size > 0
    return any(item.is_file() for item in path.rglob("*"))
