"""The files to scan, side by side in one folder under plain names.

Scanners pass over files by what they are called (`node_modules`, `*.bin`, lock files) and do not follow links. Under a
number, every file is looked into. It is there as a hard link where the disk allows it, else as a copy.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from turnout.artifacts.faults import disk_error, disk_errors
from turnout.domain.errors import BuildFailed

SCRATCH = "scratch"  # beside the folder with the files: where a scanner unpacks archives
_FILES = "files"
# Scanners unpack these by their suffix only. Other archives are known by their content.
_PACKED = {b"\x1f\x8b": ".gz", b"BZh": ".bz2", b"\xfd7zXZ\0": ".xz"}


@dataclass(frozen=True, slots=True)
class Subject:
    """Something to scan: a file of the release, or a text that stands for what is no file. One of the two is given."""

    path: str
    source: Path | None = None
    content: bytes | None = None


@contextmanager
def staged(subjects: Sequence[Subject], roots: Sequence[Path]) -> Iterator[tuple[Path, dict[str, Subject]]]:
    """A folder with the subjects, and which name there stands for which; both are gone afterwards.

    It is made below the root that is on the disk with most of the bytes. Raises `BuildFailed` for a file that cannot be
    read, `StorageFull`.
    """
    root = _best_root(subjects, roots)
    with disk_errors(root):
        place = Path(tempfile.mkdtemp(prefix=".turnout-scan-", dir=root))
    try:
        folder = place / _FILES
        with disk_errors(root):
            folder.mkdir()
            (place / SCRATCH).mkdir()
        yield folder, {_add(subject, index, folder): subject for index, subject in enumerate(subjects)}
    finally:
        shutil.rmtree(place, ignore_errors=True)


def _best_root(subjects: Sequence[Subject], roots: Sequence[Path]) -> Path:
    amounts: Counter[int] = Counter()
    for subject in subjects:
        if subject.source is not None:
            status = _status(subject.path, subject.source)
            amounts[status.st_dev] += status.st_size
    return max(roots, key=lambda root: amounts[_status(str(root), root).st_dev])


def _status(path: str, source: Path) -> os.stat_result:
    try:
        return source.stat()
    except OSError as error:
        raise BuildFailed(f"{path} cannot be read: {error.strerror}") from error


def _add(subject: Subject, index: int, folder: Path) -> str:
    if subject.source is None:
        name = f"f{index}"
        with disk_errors(folder):
            (folder / name).write_bytes(subject.content or b"")
        return name
    name = f"f{index}{_suffix(subject.path, subject.source)}"
    try:
        os.link(subject.source, folder / name, follow_symlinks=False)
    except OSError:  # another disk, a disk without links, or somebody else's file
        _copy(subject.source, folder / name, subject.path)
    return name


def _suffix(path: str, source: Path) -> str:
    """What tells a scanner to unpack it, by its first bytes."""
    try:
        with source.open("rb") as file:
            first = file.read(6)
    except OSError as error:
        raise BuildFailed(f"{path} cannot be read: {error.strerror}") from error
    return next((suffix for sign, suffix in _PACKED.items() if first.startswith(sign)), "")


def _copy(source: Path, target: Path, path: str) -> None:
    try:
        shutil.copyfile(source, target)
    except OSError as error:
        if error.filename == str(source):
            raise BuildFailed(f"{path} cannot be read: {error.strerror}") from error
        raise disk_error(error, target.parent) from error
