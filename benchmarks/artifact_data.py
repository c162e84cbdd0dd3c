"""The sample agent with data of any size, changed as an index is changed, and the commands that are run on it."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.live import copy_agent

AGENT = "docs-assistant"
RUN = 64 << 10  # bytes that are changed side by side
MEGABYTE = 1 << 20
RINGS = "[rings.dev]\n"
TURNOUT = str(Path(sys.executable).with_name("turnout"))
_PEAK = Path(__file__).with_name("artifact_peak.py")


@dataclass(frozen=True, slots=True)
class Ran:
    """A command that ended well: seconds, most memory in MB, and what it printed."""

    seconds: float
    megabytes: float
    stdout: str
    stderr: str


def make_agent(folder: Path, size: int, *, files: int = 1, reverse: bool = False) -> Path:
    """The sample agent with `size` random bytes of data in some files. `reverse` changes all that must not matter."""
    former = os.umask(0o077 if reverse else 0o022)
    try:
        copy_agent(folder, rings=RINGS)
        manifest = folder / "turnout.toml"
        manifest.write_text(manifest.read_text().replace('build = ["python", "build_index.py"]\n', ""))
        (folder / "index").mkdir()
        for number in sorted(range(files), reverse=reverse):
            _write_noise(folder / "index" / f"part-{number:02}.bin", size // files, number)
        if reverse:
            for path in folder.rglob("*"):
                os.utime(path, (1_000_000_000, 1_000_000_000))
    finally:
        os.umask(former)
    return folder


def data_file(folder: Path) -> Path:
    """The one file of the data."""
    return folder / "index" / "part-00.bin"


def scatter(path: Path, share: float, seed: int) -> int:
    """Overwrite a share of a file in runs at random places. Returns the bytes that were overwritten."""
    generator = random.Random(seed)
    size = path.stat().st_size
    places = generator.sample(range(size // RUN), max(1, round(share * size / RUN)))
    with path.open("r+b") as file:
        for place in places:
            file.seek(min(place * RUN + generator.randrange(RUN), size - RUN))
            file.write(generator.randbytes(RUN))
    return len(places) * RUN


def run(*command: str, env: Mapping[str, str] | None = None) -> Ran:
    """Run a command to its end. Raises `RuntimeError` with what it printed when it fails."""
    with tempfile.NamedTemporaryFile() as report:
        done = subprocess.run(
            [sys.executable, "-S", "-E", str(_PEAK), report.name, *command],
            env={**os.environ, **(env or {})},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode != 0:
            raise RuntimeError(f"{' '.join(command)} → {done.returncode}\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}")
        measured: dict[str, Any] = json.loads(Path(report.name).read_text())
    return Ran(measured["seconds"], measured["megabytes"], done.stdout, done.stderr)


def _write_noise(path: Path, size: int, seed: int) -> None:
    generator = random.Random(seed)
    with path.open("wb") as file:
        for start in range(0, size, MEGABYTE):
            file.write(generator.randbytes(min(MEGABYTE, size - start)))
