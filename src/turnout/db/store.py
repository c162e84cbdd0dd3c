"""ports.Store on SQLAlchemy: snapshots for reading, transactions for writing."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import DatabaseError, IntegrityError, OperationalError, TimeoutError

from turnout.db.snapshot import SqlSnapshot
from turnout.db.transaction import SqlTransaction
from turnout.domain.errors import Conflict, DamagedContent, Retryable, StorageFull


class SqlStore:
    """The state of an instance in a database."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    @contextmanager
    def snapshot(self) -> Iterator[SqlSnapshot]:
        """Reads of one moment."""
        with _translated(), self._engine.connect() as connection:
            yield SqlSnapshot(connection)

    @contextmanager
    def transaction(self) -> Iterator[SqlTransaction]:
        """Reads and writes that commit together when the block ends, or not at all when an exception leaves it."""
        with _translated(), self._begin() as connection:
            yield SqlTransaction(connection)

    @contextmanager
    def _begin(self) -> Iterator[Connection]:
        with self._engine.connect() as connection:
            connection.execution_options(turnout_write=True)
            yield connection
            connection.commit()


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except (OperationalError, TimeoutError) as error:
        reason = str(getattr(error, "orig", error))
        if "full" in reason or f"[Errno {errno.ENOSPC}]" in reason:
            raise StorageFull(
                f"the disk of the state folder is full: {reason}",
                hint="free some space; agents and Envoy go on serving, and what was asked can be asked again",
            ) from error
        raise Retryable(f"the database cannot be used just now: {reason}", hint="try again in a moment") from error
    except IntegrityError as error:
        raise Conflict(f"the change does not fit what is stored: {error.orig}") from error
    except DatabaseError as error:
        raise DamagedContent(
            f"the database is damaged: {error.orig}",
            hint="restore the state folder from a backup; agents and Envoy go on serving meanwhile",
        ) from error
