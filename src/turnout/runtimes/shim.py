"""The process between the server and one replica: it starts the agent, pumps its log, ends it and records its exit.

Run as `python -I -S -E shim.py FOLDER LOCK`: the replica's folder, and an inherited descriptor of its open `lock` file.
It outlives the server that launched it, an upgrade of turnout too, so it uses the standard library alone and speaks with
the server only through files of the folder (and SIGTERM, which means: read `grace` and end the agent):

    spec.json   read: {attempt, port, launch: {argv, env, cwd, limits, log_bytes, log_files, confinement}}
    grace       read: seconds between SIGTERM and SIGKILL; that it exists means that the replica is to stop
    shim.json   written: {attempt, pid, identity, agent_pid, port, started_at}
    exit.json   written: {attempt, code, exited_at, reason}
"""

from __future__ import annotations

import ctypes
import fcntl
import hashlib
import importlib.util
import json
import os
import resource
import selectors
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from types import FrameType, ModuleType
from typing import Any

PIPE_CHUNK = 1 << 16
KILL_AGAIN = 0.1  # seconds after which whatever still lives is killed once more
NOT_FOUND, NOT_EXECUTABLE = 127, 126  # the exit codes that shells use
SET_PDEATHSIG, SET_CHILD_SUBREAPER = 1, 36  # of linux/prctl.h


def main(arguments: list[str]) -> int:
    """Supervise the replica of a folder until its agent has ended. A second shim for the same folder does nothing."""
    folder, lock = Path(arguments[0]), int(arguments[1])
    os.set_inheritable(lock, False)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return 0
    spec = json.loads((folder / "spec.json").read_bytes())
    try:
        Supervisor(folder, spec).run()
    except Exception as error:  # noqa: BLE001 - nobody is left to tell but the folder
        record_exit(folder, spec["attempt"], None, f"the supervisor failed: {error!r}")
        return 1
    return 0


def process_identity(pid: int) -> str | None:
    """What tells a process from a later one with the same pid; None when it is gone or a zombie."""
    if sys.platform != "linux":
        listed = subprocess.run(["/bin/ps", "-o", "stat=,lstart=", "-p", str(pid)], capture_output=True, check=False)
        state, _, started = listed.stdout.decode().strip().partition(" ")
        return started.strip() if state and not state.startswith("Z") else None
    try:
        fields = _stat_fields(pid)
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except (OSError, IndexError):
        return None
    return None if fields[0] in "ZX" else f"{boot}:{fields[19]}"


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Replace a file by its new content at once; only the owner may read it."""
    temporary = path.with_name(f"{path.name}.{os.getpid()}.new")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(json.dumps(content).encode())
    temporary.replace(path)


def record_exit(folder: Path, attempt: int, code: int | None, reason: str, exited_at: float | None = None) -> None:
    """Write down how the agent ended. `code` is negative for a signal, None when it is not known."""
    exited_at = time.time() if exited_at is None else exited_at
    write_json(folder / "exit.json", {"attempt": attempt, "code": code, "exited_at": exited_at, "reason": reason})


class Supervisor:
    """One agent from its start to its end. Single-threaded: the death of the thread that forks would kill the agent."""

    def __init__(self, folder: Path, spec: dict[str, Any]) -> None:
        self._folder = folder
        self._attempt: int = spec["attempt"]
        self._port: int = spec["port"]
        self._launch: dict[str, Any] = spec["launch"]
        self._log = RotatingLog(folder / "agent.log", self._launch["log_bytes"], self._launch["log_files"])
        self._selector = selectors.DefaultSelector()
        self._asked = False  # a signal came that asks to stop, `grace` is to be read (again)
        self._deadline: float | None = None  # monotonic; set once the replica is stopping
        self._killed = False
        self._group_gone = False
        self._code: int | None = None
        self._exited_at = 0.0

    def run(self) -> None:
        """Start the agent, see it through, record its exit."""
        wake = self._catch_signals()
        _become_subreaper()
        started_at = time.time()
        self._record_self(started_at, None)
        # After the record: a server that finds no record leaves `grace` behind, which is seen here.
        if (self._folder / "grace").exists():
            record_exit(self._folder, self._attempt, None, "stopped before it was started")
            return
        try:
            agent = _start_agent(self._launch, self._folder)
        except OSError as error:
            code, reason = _explain_start(error, self._launch)
            self._log.write(f"[turnout] {reason}\n".encode())
            record_exit(self._folder, self._attempt, code, reason)
            return
        self._record_self(started_at, agent.pid)
        self._watch(agent, wake)
        self._drain(agent)
        record_exit(self._folder, self._attempt, self._code, self._reason(), self._exited_at)

    def _catch_signals(self) -> int:
        """Let signals wake the loop, and return the descriptor that they wake it by."""
        wake, waker = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK) if hasattr(os, "pipe2") else os.pipe()
        os.set_blocking(wake, False)
        os.set_blocking(waker, False)
        signal.set_wakeup_fd(waker, warn_on_full_buffer=False)
        # Functions instead of SIG_IGN, which the agent would inherit.
        signal.signal(signal.SIGTERM, self._ask)
        for number in (signal.SIGCHLD, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, lambda *_: None)
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        return wake

    def _ask(self, _number: int, _frame: FrameType | None) -> None:
        self._asked = True

    def _record_self(self, started_at: float, agent_pid: int | None) -> None:
        write_json(
            self._folder / "shim.json",
            {
                "attempt": self._attempt,
                "pid": os.getpid(),
                "identity": process_identity(os.getpid()),
                "agent_pid": agent_pid,
                "port": self._port,
                "started_at": started_at,
            },
        )

    def _watch(self, agent: subprocess.Popen[bytes], wake: int) -> None:
        """Pump the log and pass on the wish to stop until the agent, and all that came from it, is gone."""
        output = agent.stdout
        if output is None:
            raise OSError("the agent was started without a pipe")
        os.set_blocking(output.fileno(), False)
        self._selector.register(output.fileno(), selectors.EVENT_READ)
        self._selector.register(wake, selectors.EVENT_READ)
        while not self._ended(agent):
            if self._asked:
                self._begin_stop(agent.pid)
            remaining = None if self._deadline is None else self._deadline - time.monotonic()
            if remaining is not None and remaining <= 0:
                self._killed = self._killed or self._code is None
                self._kill_all(agent.pid)
                remaining = KILL_AGAIN
            for key, _ in self._selector.select(remaining):
                if key.fd == wake:
                    _read(wake)
                else:
                    self._pump(key.fd)

    def _begin_stop(self, group: int) -> None:
        self._asked = False
        try:
            grace = float((self._folder / "grace").read_text(encoding="ascii"))
        except (OSError, ValueError):
            grace = 10.0
        deadline = time.monotonic() + grace
        if self._deadline is None:
            _signal_group(group, signal.SIGTERM)
        self._deadline = deadline if self._deadline is None else min(self._deadline, deadline)

    def _ended(self, agent: subprocess.Popen[bytes]) -> bool:
        """Reap what died. Whoever stops may finish in its grace; what an agent that died leaves behind is killed."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return self._code is not None
            if pid == 0:
                break
            if pid == agent.pid:
                self._code = agent.returncode = os.waitstatus_to_exitcode(status)
                self._exited_at = time.time()
                if self._deadline is None:
                    self._deadline = time.monotonic()
        return False

    def _kill_all(self, group: int) -> None:
        # A group that was gone once is not signalled again: its number may be another's by now.
        self._group_gone = self._group_gone or not _signal_group(group, signal.SIGKILL)
        _kill_children()

    def _pump(self, descriptor: int) -> None:
        data = _read(descriptor)
        if data == b"":
            self._selector.unregister(descriptor)
        elif data is not None:
            self._log.write(data)

    def _drain(self, agent: subprocess.Popen[bytes]) -> None:
        """Write what is still in the pipe: at most what a pipe holds, as nobody writes any more."""
        if agent.stdout is not None:
            for _ in range(64):
                data = _read(agent.stdout.fileno())
                if not data:
                    break
                self._log.write(data)
        self._log.close()

    def _reason(self) -> str:
        if self._killed:
            return "killed: it did not end in its grace"
        if self._code is not None and self._code < 0:
            with suppress(ValueError):
                return f"ended by {signal.Signals(-self._code).name}"
        return f"exited with code {self._code}"


class RotatingLog:
    """A log of a bounded size: `path`, `path.1`, …, each at most `limit` bytes. A full disk loses lines, nothing else."""

    def __init__(self, path: Path, limit: int, files: int) -> None:
        self._path = path
        self._limit = limit
        self._files = files
        self._descriptor: int | None = None
        self._size = 0

    def write(self, data: bytes) -> None:
        """Append, and begin a new file after the last line that fits."""
        while data:
            try:
                descriptor = self._open()
                room = self._limit - self._size
                cut = len(data) if len(data) <= room else data.rfind(b"\n", 0, max(room, 0)) + 1
                if cut == 0 and self._size == 0:
                    cut = room  # a single line longer than a file
                written = os.write(descriptor, data[:cut]) if cut else 0
                self._size += written
                data = data[written:]
                if data and written == cut:
                    self._rotate()
            except OSError:
                return

    def close(self) -> None:
        """Close the current file."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def _open(self) -> int:
        if self._descriptor is None:
            self._descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
            self._size = os.fstat(self._descriptor).st_size
        return self._descriptor

    def _rotate(self) -> None:
        self.close()
        names = [self._path, *(self._path.with_name(f"{self._path.name}.{n}") for n in range(1, self._files))]
        for older, newer in zip(reversed(names), reversed(names[:-1]), strict=False):
            with suppress(FileNotFoundError):
                newer.replace(older)
        if len(names) == 1:
            self._path.unlink(missing_ok=True)


def _become_subreaper() -> None:
    """Have what the agent leaves behind, even what made itself a daemon, become our child instead of init's."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def _start_agent(launch: dict[str, Any], folder: Path) -> subprocess.Popen[bytes]:
    """Start the agent in a process group of its own. Raises `OSError` when its command cannot be executed."""
    prctl = ctypes.CDLL(None).prctl if sys.platform == "linux" else None
    shim, limits = os.getpid(), launch["limits"]
    cores = _cores(folder.name, limits["cpus"])
    landlock = _load_landlock() if launch.get("confinement") else None

    def restrict() -> None:
        if prctl is not None:
            prctl(SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
            if os.getppid() != shim:
                os._exit(1)
        if landlock is not None:
            landlock.confine_or_say(launch["confinement"])
        if cores:
            os.sched_setaffinity(0, cores)
        _limit(resource.RLIMIT_NOFILE, limits["open_files"])
        _limit(resource.RLIMIT_DATA, limits["memory"])

    return subprocess.Popen(
        launch["argv"],
        env=launch["env"],
        cwd=launch["cwd"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        bufsize=0,
        process_group=0,
        preexec_fn=restrict,  # noqa: PLW1509 - this process has one thread
    )


def _load_landlock() -> ModuleType:
    """By its path: the shim runs without turnout on its module path, and without its own folder there."""
    spec = importlib.util.spec_from_file_location("landlock", Path(__file__).with_name("landlock.py"))
    if spec is None or spec.loader is None:
        raise OSError("landlock.py cannot be loaded")
    landlock = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(landlock)
    return landlock


def _cores(name: str, count: int | None) -> set[int]:
    """The cores that a replica may use: `count` neighbours, the first by its name. Empty: no limit."""
    if count is None or not hasattr(os, "sched_getaffinity"):
        return set()
    available = sorted(os.sched_getaffinity(0))
    if count >= len(available):
        return set()
    first = int.from_bytes(hashlib.sha256(name.encode()).digest()[:4], "big")
    return {available[(first + offset) % len(available)] for offset in range(max(count, 1))}


def _limit(kind: int, wanted: int | None) -> None:
    if wanted is None:
        return
    _, hard = resource.getrlimit(kind)
    limit = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    resource.setrlimit(kind, (limit, limit))


def _explain_start(error: OSError, launch: dict[str, Any]) -> tuple[int, str]:
    command = launch["argv"][0] if launch["argv"] else ""
    if error.filename == launch["cwd"]:
        return NOT_EXECUTABLE, f"the release's folder cannot be entered: {error.strerror}"
    if isinstance(error, FileNotFoundError):
        return NOT_FOUND, f"the start command {command!r} does not exist in the environment or the release"
    return NOT_EXECUTABLE, f"the start command {command!r} cannot be executed: {error.strerror}"


def _kill_children() -> None:
    """Kill all that is our child now: those of the agent's descendants that left its group end up here."""
    if sys.platform != "linux":
        return
    for entry in os.listdir("/proc"):  # noqa: PTH208 - names are all that is needed
        with suppress(OSError, IndexError, ValueError):
            if int(_stat_fields(int(entry))[1]) == os.getpid():
                os.kill(int(entry), signal.SIGKILL)


def _stat_fields(pid: int) -> list[str]:
    """The fields of /proc/PID/stat after the name: state, parent, … (start time is the 20th)."""
    return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(") ")[2].split()


def _signal_group(group: int, number: signal.Signals) -> bool:
    """Whether there was such a group."""
    try:
        os.killpg(group, number)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _read(descriptor: int) -> bytes | None:
    """What there is to read; empty at the end, None when there is nothing yet."""
    try:
        return os.read(descriptor, PIPE_CHUNK)
    except BlockingIOError:
        return None


if __name__ == "__main__":
    os._exit(main(sys.argv[1:]))  # the interpreter's own tidying would only delay the news
