"""Builds the locked Python environments that releases run in. Releases with the same lock share one.

An environment is built in place (its scripts know its path) under a file lock, and counts once its mark is written, last.
What an interruption left behind is thrown away and built again.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import platform
import re
import shutil
import signal
import subprocess
import sys
import sysconfig
import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from uv import find_uv_bin

from turnout.domain.errors import BuildFailed, StorageFull
from turnout.runtimes.locks import build_commands, is_self_contained

TIMEOUT = 900.0  # seconds for one command of uv
TAIL_LINES = 20
MARK = ".complete"
FULL = ("No space left on device", "Disk quota exceeded")
NETWORK = ("error sending request", "dns error", "Connection refused", "Could not connect", "timed out")


class Environments:
    """The environments under `root`. `uv` is the path of its binary; None: the one that is installed with turnout."""

    def __init__(self, root: Path, uv: Path | None = None, *, timeout: float = TIMEOUT) -> None:
        self._root = root.absolute()
        self._uv = uv
        self._timeout = timeout

    def build(
        self,
        release_folder: Path,
        lock: str | None,
        python: str | None,
        on_output: Callable[[str], None] | None = None,
    ) -> Path:
        """The folder of the environment for a lock file of the release; `bin/python` is in it. Blocking, idempotent.

        `lock` is relative to the release's folder; None: an environment with nothing in it. `on_output` gets the lines
        that uv prints. Raises `BuildFailed` with what uv said, `StorageFull`.
        """
        with _translated():
            self._root.mkdir(parents=True, exist_ok=True, mode=0o700)
            interpreter, version = self._find_python(python)
            target = self._root / environment_key(release_folder, lock, version)
            wheels = wheels_folder(release_folder)
            with _exclusive(target.with_name(f"{target.name}.lock")):
                if self.complete(target):
                    return target
                commands = build_commands(str(self._binary()), release_folder, lock, target, interpreter)
                self._build(commands, release_folder, target, on_output, wheels if wheels.is_dir() else None)
                (target / MARK).touch()
            return target

    def _build(
        self,
        commands: list[list[str]],
        release_folder: Path,
        target: Path,
        on_output: Callable[[str], None] | None,
        wheels: Path | None,
    ) -> None:
        """From the wheels alone if there are any; where they do not suffice, from the package index."""
        shutil.rmtree(target, ignore_errors=True)
        try:
            for command in commands:
                self._run(command, release_folder, target, on_output, wheels)
        except BuildFailed as error:
            if wheels is None:
                raise
            try:
                self._build(commands, release_folder, target, on_output, None)
            except BuildFailed:
                raise error from None  # what is wrong with the wheels is what is to be mended

    def complete(self, environment: Path) -> bool:
        """Whether it was built to its end, and the interpreter that it stands on is still there."""
        return (environment / MARK).exists() and (environment / "bin" / "python").exists()

    def _binary(self) -> Path:
        if self._uv is None:
            self._uv = Path(find_uv_bin())
        return self._uv

    def _find_python(self, wanted: str | None) -> tuple[str, str]:
        """The interpreter and its version: the server's own where it fits, else what uv finds on this machine."""
        own = platform.python_version()
        if wanted is None or own == wanted or own.startswith(f"{wanted}."):
            return sys.executable, own
        try:
            return self._ask(wanted), self._ask("--show-version", wanted)
        except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
            raise BuildFailed(
                f"Python {wanted}, which the release asks for, is not on this machine (turnout runs on {own})",
                hint=f"Install it, for example by `uv python install {wanted}`, or change `python` in the manifest.",
            ) from error

    def _ask(self, *arguments: str) -> str:
        find = [str(self._binary()), "python", "find", "--no-python-downloads", "--no-project", "--system"]
        answer = subprocess.run(
            [*find, *arguments],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=self._timeout,
            check=True,
            env=_uv_env(),
        )
        return answer.stdout.strip()

    def _run(
        self,
        command: list[str],
        release_folder: Path,
        environment: Path,
        on_output: Callable[[str], None] | None,
        wheels: Path | None,
    ) -> None:
        """Run uv to its end, or to the end of its time; with wheels it takes no other packages.

        Raises `BuildFailed`, `StorageFull`.
        """
        tail: deque[str] = deque(maxlen=TAIL_LINES)
        process = subprocess.Popen(
            command,
            cwd=release_folder,
            # Files of the cache are linked into environments: it must be as much out of the agents' reach as these are.
            env={
                "UV_CACHE_DIR": str(self._root / ".cache"),
                **_uv_env(),
                "UV_PROJECT_ENVIRONMENT": str(environment),
                **({"UV_FIND_LINKS": str(wheels), "UV_OFFLINE": "1"} if wheels else {}),
            },
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            start_new_session=True,
        )
        late = threading.Event()

        def end() -> None:
            late.set()
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)

        timer = threading.Timer(self._timeout, end)
        timer.start()
        try:
            with process:
                for line in process.stdout or ():
                    tail.append(line.rstrip())
                    if on_output is not None:
                        on_output(line.rstrip())
        finally:
            timer.cancel()
        if late.is_set():
            raise BuildFailed(f"the environment was not built within {self._timeout:g} s; uv said last: {_join(tail)}")
        if process.returncode != 0:
            raise _failure(tail)


def wheels_folder(release_folder: Path) -> Path:
    """Where the wheels of a release are, if it was handed over with them."""
    folder = release_folder.absolute()
    return folder.with_name(f"{folder.name}.wheels")


def environment_key(release_folder: Path, lock: str | None, version: str) -> str:
    """What an environment is determined by, as 32 hexadecimal digits. Raises `BuildFailed` when there is no such lock.

    A lock that installs files of the release itself is not shared: the release's folder is part of its key.
    """
    key = hashlib.sha256(f"2\0{sys.implementation.name}\0{version}\0{sysconfig.get_platform()}\0".encode())
    if lock is None:
        return key.hexdigest()[:32]
    names = [lock, str(Path(lock).with_name("pyproject.toml"))] if Path(lock).name == "uv.lock" else [lock]
    for name in names:
        try:
            content = (release_folder / name).read_bytes()
        except FileNotFoundError as error:
            raise BuildFailed(
                f"{name} is not in the release", hint="The files that `lock` needs must be part of the code component."
            ) from error
        key.update(f"{Path(name).name}\0{len(content)}\0".encode() + content)
    if not is_self_contained(release_folder / lock):
        key.update(str(release_folder.absolute()).encode())
    return key.hexdigest()[:32]


def _uv_env() -> dict[str, str]:
    """What uv needs of the server's environment and no more: a package may run code of its own while it is built."""
    needed = re.compile(
        r"PATH|HOME|USER|LANG|LC_\w+|TMPDIR|TZ|NETRC|SSL_CERT_(FILE|DIR)|REQUESTS_CA_BUNDLE|XDG_\w+|UV_\w+|\w+_proxy",
        re.IGNORECASE,
    )
    return {name: value for name, value in os.environ.items() if needed.fullmatch(name)}


def _failure(tail: deque[str]) -> BuildFailed | StorageFull:
    said = _join(tail)
    if any(sign in said for sign in FULL):
        return StorageFull(f"the environment could not be built: the disk is full ({said})")
    hint = "Install the lock file on a machine of the same kind to see the same error, correct it and build again."
    if any(sign in said for sign in NETWORK):
        hint = "Check that this machine reaches the package index, then deploy again."
    elif "Hash mismatch" in said:
        hint = "What the index serves is not what was locked. If that is intended, lock again; else do not trust it."
    elif "not installed" in said:
        hint = "The lock file does not list all that is needed: make it with `uv pip compile`, which does."
    return BuildFailed(f"the environment could not be built: {said}", hint=hint)


def _join(tail: deque[str]) -> str:
    return "\n".join(line for line in tail if line.strip()) or "nothing"


@contextmanager
def _exclusive(path: Path) -> Iterator[None]:
    """Hold a file lock: against other threads and other processes alike."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise StorageFull("the environment could not be built: the disk is full") from error
        raise BuildFailed(f"the environment could not be built: {error}") from error
