"""A replay in a process of its own: what it is told, how far it is, how it is ended.

The process ends by itself, with all that it started, when its standard input is closed: by us, or by our end.
"""

from __future__ import annotations

import json
import os
import queue
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from turnout.domain.captures import redact_patterns
from turnout.domain.errors import BuildFailed, InvalidRequest
from turnout.domain.models import Deployment, Release, ReplaySettings
from turnout.domain.replays import Came
from turnout.replay.engine import Replay

FOLDER = "replays"  # in the state folder of an instance
PROGRAM = (sys.executable, "-m", "turnout.replay_process")
SLOTS = 2  # replays at once: each runs a release beside those that serve
UNWANTED = "the replay is wanted no more"
END_SECONDS = 20.0  # for the process to end by itself
_LOOK = 1.0  # seconds between looks whether it is still wanted
_SAY_EVERY = 2.0  # seconds


@dataclass(frozen=True, slots=True)
class Spec:
    """What one process replays. Paths are absolute."""

    state: str  # the folder that the artifact store and the environments belong to
    registry: str | None
    recordings: str  # a file of recordings, one a line
    report: str  # the file that gets the report
    workspace: str  # a new folder, removed at the end
    gateway: str | None  # gateway.toml
    replay: Replay

    def render(self) -> bytes:
        """As a file."""
        return json.dumps(asdict(self)).encode()


def parse_spec(content: bytes) -> Spec:
    """Raises `InvalidRequest`."""
    try:
        document = json.loads(content)
        replay = document["replay"]
        patterns = {name: tuple(replay[name]) for name in ("redact", "hide") if replay.get(name) is not None}
        return Spec(**{**document, "replay": Replay(**{**replay, **patterns})})
    except (ValueError, KeyError, TypeError) as error:
        raise InvalidRequest(f"not the description of a replay: {error}") from None


@dataclass(frozen=True, slots=True)
class ReplayRunner:
    """Starts replays for an instance. `folder`: for their files while they run; `gateway`: where its gateway.toml may be.

    At most `slots` run at once, the others wait in turn.
    """

    state: Path
    registry: str | None
    folder: Path
    gateway: Path
    slots: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(SLOTS))

    def sweep(self) -> None:
        """Remove what replays left that ended with a server."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def ask(
        self,
        deployment: Deployment,
        releases: tuple[Release, Release],
        asked: ReplaySettings,
        recordings: Iterable[bytes],
        say: Callable[[str], None],
        wanted: Callable[[], bool],
    ) -> bytes:
        """See `services.replays.AskRelease`."""
        baseline, candidate = releases
        replay = Replay(
            agent=deployment.agent,
            ring=asked.source,
            baseline=baseline.digest,
            baseline_version=baseline.version,
            candidate=candidate.digest,
            candidate_version=candidate.version,
            rule=baseline.spec.success,
            models=asked.models,
            answers=asked.answers,
            parallel=asked.parallel,
            timeout=asked.timeout,
            redact=redact_patterns(baseline.spec, asked.source),
        )
        return self.run(deployment.id, recordings, replay, say, wanted)

    def run(
        self,
        name: str,
        recordings: Iterable[bytes],
        replay: Replay,
        say: Callable[[str], None],
        wanted: Callable[[], bool] = lambda: True,
    ) -> bytes:
        """The report of a replay. `name`: a folder; `say` is told now and then how far it is.

        Raises `BuildFailed` when it fails, or is wanted no more.
        """
        work = self.folder / name
        shutil.rmtree(work, ignore_errors=True)
        work.mkdir(parents=True, mode=0o700)
        try:
            with (work / "recordings.jsonl").open(
                "wb"
            ) as file:  # one at a time: together they may be larger than memory
                file.writelines(line + b"\n" for line in recordings)
            spec = Spec(
                state=str(self.state.absolute()),
                registry=self.registry,
                recordings=str((work / "recordings.jsonl").absolute()),
                report=str((work / "report.json").absolute()),
                workspace=str((work / "work").absolute()),
                gateway=str(self.gateway.absolute()) if self.gateway.exists() else None,
                replay=replay,
            )
            (work / "spec.json").write_bytes(spec.render())
            with _taken(self.slots, say, wanted):
                _run(work, say, wanted)
            return (work / "report.json").read_bytes()
        finally:
            shutil.rmtree(work, ignore_errors=True)


@contextmanager
def _taken(slots: threading.Semaphore, say: Callable[[str], None], wanted: Callable[[], bool]) -> Iterator[None]:
    """Wait for a slot, and hold it. Raises `BuildFailed` where it is wanted no more meanwhile."""
    if not slots.acquire(blocking=False):
        say("waits until other replays are over")
        while not slots.acquire(timeout=_LOOK):
            if not wanted():
                raise BuildFailed(UNWANTED)
    try:
        yield
    finally:
        slots.release()


def _run(work: Path, say: Callable[[str], None], wanted: Callable[[], bool]) -> None:
    command = [*PROGRAM, str(work / "spec.json")]
    pipe = subprocess.PIPE
    with (work / "log").open("wb") as log:
        process = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=log, start_new_session=True)
    try:
        last = _listen(process, say, wanted)
    finally:
        _end(process)
    if "report" not in last:
        raise BuildFailed(str(last.get("error") or f"the replay ended without a report: {_last_line(work / 'log')}"))


def _listen(
    process: subprocess.Popen[bytes], say: Callable[[str], None], wanted: Callable[[], bool]
) -> Mapping[str, Any]:
    """The last thing that the process said."""
    assert process.stdout is not None  # noqa: S101  # a pipe was asked for
    lines: queue.SimpleQueue[bytes] = queue.SimpleQueue()
    reader = threading.Thread(target=_read, args=(process.stdout.fileno(), lines), daemon=True)
    reader.start()
    progress, last = _Progress(say), dict[str, Any]()
    while True:
        if not wanted():
            raise BuildFailed(UNWANTED)
        with suppress(queue.Empty):
            line = lines.get(timeout=_LOOK)
            if not line:
                return last
            last = json.loads(line)
            progress.take(last)


def _read(stream: int, lines: queue.SimpleQueue[bytes]) -> None:
    with suppress(OSError), os.fdopen(os.dup(stream), "rb") as file:
        for line in file:
            lines.put(line)
    lines.put(b"")


@dataclass(slots=True)
class _Progress:
    """Says how far a replay is: not more often than anybody reads."""

    say: Callable[[str], None]
    other: int = 0
    said: float = 0.0

    def take(self, line: Mapping[str, Any]) -> None:
        if "done" not in line:
            return
        self.other += line["verdict"] != Came.SAME
        now = time.monotonic()
        if now - self.said >= _SAY_EVERY or line["done"] == line["of"]:
            self.said = now
            self.say(f"replayed {line['done']} of {line['of']} recorded tasks, {self.other} not the same")


def _end(process: subprocess.Popen[bytes]) -> None:
    if process.stdin is not None:
        process.stdin.close()
    try:
        process.wait(END_SECONDS)
    except subprocess.TimeoutExpired:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    if process.stdout is not None:
        process.stdout.close()


def _last_line(log: Path) -> str:
    lines = log.read_bytes()[-4096:].decode(errors="replace").splitlines()
    return next((line.strip() for line in reversed(lines) if line.strip()), "it said nothing")
