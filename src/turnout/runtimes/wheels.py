"""The packages that a lock file names, as files: for machines that reach no package index."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

from turnout.domain.errors import BuildFailed, InvalidRequest

_TIMEOUT = 1_800.0  # seconds
_SHOWN_LINES = 20


def download_wheels(release_folder: Path, lock: str, target: Path) -> tuple[Path, ...]:
    """Download what a requirements file names, for a machine and a Python like this one. Returns the files.

    Raises `InvalidRequest` for another kind of lock file, `BuildFailed` with what pip said.
    """
    if Path(lock).suffix != ".txt":
        raise InvalidRequest(
            f"packages can be added for a requirements.txt, not for {lock}",
            hint="`uv export --format requirements-txt -o requirements.txt` writes one from uv.lock",
        )
    target.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="turnout-pip-") as work:
        environment = Path(work) / "environment"
        _run([sys.executable, "-m", "venv", str(environment)], release_folder)  # with the pip that Python brings along
        pip = [str(environment / "bin" / "python"), "-m", "pip", "download", "--quiet", "--no-deps"]
        _run([*pip, "--dest", str(target.absolute()), "-r", lock], release_folder)
    return tuple(sorted(target.iterdir()))


def _run(command: list[str], folder: Path) -> None:
    try:
        done = subprocess.run(
            command,
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            timeout=_TIMEOUT,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise BuildFailed(f"the packages were not downloaded within {_TIMEOUT:g} s") from None
    if done.returncode:
        said = "\n".join(done.stdout.splitlines()[-_SHOWN_LINES:])
        raise BuildFailed(
            f"the packages could not be downloaded: {said}", hint="check that this machine reaches the index"
        )
