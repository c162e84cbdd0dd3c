"""Cold builds beside sha256 of the same file, in one process: `python -m benchmarks.artifact_build FOLDER RUNS`.

Prints the median seconds of both as JSON. Each build goes into an empty store, without a cache.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from benchmarks.artifact_data import data_file
from turnout.artifacts.build import build_parts
from turnout.artifacts.layout import OciLayoutStore
from turnout.manifest import load_manifest


def main() -> int:
    """Measure both in turn, so that noise meets both."""
    folder, runs = Path(sys.argv[1]), int(sys.argv[2])
    hashed, built = [], []
    for _ in range(runs):
        hashed.append(clock(partial(hash_file, data_file(folder))))
        built.append(clock(partial(build, folder)))
    print(json.dumps({"sha256": statistics.median(hashed), "build": statistics.median(built)}))
    return 0


def hash_file(path: Path) -> str:
    """What any tool must do to know the content."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def build(folder: Path) -> None:
    """What `turnout build` does before it pushes, but for the secret scan."""
    store = Path(tempfile.mkdtemp(prefix="artifact-store-"))
    build_parts(folder, load_manifest(folder), OciLayoutStore(store))
    shutil.rmtree(store)


def clock(work: Callable[[], object]) -> float:
    """Seconds on the wall."""
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


if __name__ == "__main__":
    sys.exit(main())
