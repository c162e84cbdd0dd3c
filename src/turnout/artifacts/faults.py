"""What the operating system says about a disk, as errors of turnout."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from turnout.domain.errors import DamagedContent, SetupFailed, StorageFull, TurnoutError

_FULL = (errno.ENOSPC, errno.EDQUOT)


@contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """Raise the error of turnout that fits instead of an `OSError`; see `disk_error`."""
    try:
        yield
    except OSError as error:
        raise disk_error(error, path) from error


def disk_error(error: OSError, path: Path) -> TurnoutError:
    """`StorageFull`, `DamagedContent` when the disk cannot read, else `SetupFailed`. `path` is what was worked on."""
    if error.errno in _FULL:
        return StorageFull(f"the disk that holds {path} is full", hint="free some space there, then do the same again")
    if error.errno == errno.EIO:
        return DamagedContent(f"the disk cannot read {error.filename or path}: {error.strerror}")
    return SetupFailed(
        f"{error.filename or path} cannot be used: {error.strerror or error}",
        hint="check that the folder belongs to the user that runs turnout and can be written",
    )
