"""What a cold build costs beside hashing the same bytes, and whether two folders with the same content give one digest.

    python -m benchmarks.build [--megabytes 64]

The sample agent with a data folder of random bytes is built into an empty store: read, packed, hashed, written, flushed to
the disk. Beside it, in the same run: `sha256sum` of the same files, and writing as many bytes to one file with a flush. The
second folder is made in another order, under another umask, with other times.
"""

from __future__ import annotations

import argparse
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from tests.live import copy_agent

from benchmarks.report import Figure, judge, on_this_machine, show_table
from turnout.artifacts.build import build_release
from turnout.artifacts.layout import OciLayoutStore
from turnout.manifest import load_manifest

FILES = 16
RUNS = 3
MEGABYTE = 1 << 20
RINGS = "[rings.dev]\n"


def main() -> int:
    """Measure, print, judge."""
    parser = argparse.ArgumentParser(description="cold builds")
    parser.add_argument("--megabytes", type=int, default=64, help="size of the data folder (default 64)")
    size = parser.parse_args().megabytes * MEGABYTE
    with on_this_machine(), tempfile.TemporaryDirectory(prefix="build-") as name:
        folder = Path(name)
        first = make_agent(folder / "first", size)
        second = make_agent(folder / "second", size, reverse=True)
        digests = [build(first, folder / "warm-up"), build(second, folder / "other")]
        took = {
            "cold build": [clock(partial(build, first, folder / f"store-{run}")) for run in range(RUNS)],
            "sha256sum": [clock(lambda: hash_files(first)) for _ in range(RUNS)],
            "write and flush": [clock(lambda: write(folder / "bytes", size)) for _ in range(RUNS)],
        }
    show(took, size)
    return judge([Figure("digests of two folders with the same content", len(set(digests)), 1)])


def make_agent(folder: Path, size: int, *, reverse: bool = False) -> Path:
    """The sample agent with `size` bytes of data. `reverse` changes all that must not matter."""
    former = os.umask(0o077 if reverse else 0o022)
    try:
        copy_agent(folder, rings=RINGS)
        manifest = folder / "turnout.toml"
        manifest.write_text(manifest.read_text().replace('build = ["python", "build_index.py"]\n', ""))
        data = folder / "index"
        data.mkdir()
        for number in sorted(range(FILES), reverse=reverse):
            (data / f"part-{number:02}.bin").write_bytes(random.Random(number).randbytes(size // FILES))
        if reverse:
            for path in folder.rglob("*"):
                os.utime(path, (1_000_000_000, 1_000_000_000))
    finally:
        os.umask(former)
    return folder


def build(folder: Path, store: Path) -> str:
    """Build into an empty store; the digest."""
    return build_release(folder, load_manifest(folder), OciLayoutStore(store)).digest


def hash_files(folder: Path) -> None:
    """What any tool must do to know the content."""
    files = sorted(str(path) for path in (folder / "index").iterdir())
    subprocess.run(["sha256sum", *files], check=True, stdout=subprocess.DEVNULL)


def write(path: Path, size: int) -> None:
    """What any store must do to keep it."""
    chunk = bytes(MEGABYTE)
    with path.open("wb") as file:
        for _ in range(size // MEGABYTE):
            file.write(chunk)
        file.flush()
        os.fsync(file.fileno())


def clock(work: Callable[[], object]) -> float:
    """Seconds on the wall."""
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def show(took: dict[str, list[float]], size: int) -> None:
    """A row for each; ratios are to sha256sum."""
    scale = statistics.median(took["sha256sum"])
    rows = []
    for name, runs in took.items():
        median = statistics.median(runs)
        rows.append((name, f"{1000 * median:.0f}", f"{size / MEGABYTE / median:.0f}", f"{median / scale:.2f}"))
    show_table((f"{size // MEGABYTE} MB of data", "median ms", "MB/s", "ratio"), rows)


if __name__ == "__main__":
    sys.exit(main())
