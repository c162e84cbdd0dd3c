"""The file of grants: the server writes it, the gateway's processes follow it, and go on with it when the server is dead."""

from __future__ import annotations

import errno
import hmac
import logging
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from turnout.domain.errors import SetupFailed, StorageFull
from turnout.domain.grant_document import parse_grants, render_grants
from turnout.domain.grants import Grant, Grants
from turnout.durable import PRIVATE, replace_file
from turnout.gateway.followed import Followed
from turnout.gateway.keys import key_digest

RESERVE = 64 * 1024  # bytes of the disk that are kept beyond what the file takes
LOOK_SECONDS = 0.1  # between two looks whether the file has changed

log = logging.getLogger(__name__)


class GrantsFile:
    """What is allowed now, as the file says. One that is damaged or gone changes nothing: what was read last goes on."""

    def __init__(self, path: Path, now: Callable[[], float] = time.monotonic) -> None:
        self._file = Followed(path, lambda path: parse_grants(path.read_bytes())[0], Grants(), LOOK_SECONDS, now)

    def find(self, key: str) -> Grant | None:
        """The grant of a key; None for one that is not known, or no longer. Compares in constant time."""
        return self.of_digest(key_digest(key))

    def of_digest(self, digest: str) -> Grant | None:
        """The grant of the key with this SHA-256."""
        grant = self.current.grants.get(digest)
        return grant if grant is not None and hmac.compare_digest(grant.key, digest) else None

    @property
    def current(self) -> Grants:
        """Everything that is allowed now."""
        return self._file.current


def write_grants(path: Path, writer: str, grants: Grants) -> None:
    """Publish, for readers as a whole or not at all. Raises `StorageFull`, `SetupFailed`.

    Space for it is kept in a file beside it: a release that is stopped has to be, on a full disk too.
    """
    content = render_grants(grants, writer)
    try:
        try:
            _replace(path, content)
        except StorageFull:
            _reserve_of(path).unlink(missing_ok=True)
            _replace(path, content)
            log.warning("the disk is full: the grants of the gateway were written in the space that is kept for them")
    except OSError as error:
        raise SetupFailed(f"the grants of the gateway cannot be written to {path}: {error.strerror}") from error
    with suppress(OSError):
        _keep_space(_reserve_of(path), len(content))


def read_grants(path: Path) -> tuple[Grants, str]:
    """What a server published before, and its version; nothing when there is none, or it is damaged."""
    try:
        return parse_grants(path.read_bytes())
    except FileNotFoundError:
        return Grants(), ""
    except (OSError, ValueError) as error:
        log.warning("%s cannot be read; it is written anew: %s", path, error)
        return Grants(), ""


def _replace(path: Path, content: bytes) -> None:
    try:
        replace_file(path, content, PRIVATE)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise StorageFull("the grants of the gateway cannot be written: the disk is full") from error
        raise


def _reserve_of(path: Path) -> Path:
    return path.with_suffix(".reserve")


def _keep_space(reserve: Path, size: int) -> None:
    """Let a file take at least so many bytes of the disk, and some more, as grants grow. Raises `OSError`."""
    if not reserve.exists() or reserve.stat().st_size < size + RESERVE // 2:
        replace_file(reserve, bytes(size + RESERVE), PRIVATE)
