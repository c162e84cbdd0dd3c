"""Connections: SQLite set up for durability and one writer at a time, and the migration to the newest schema."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from alembic.util.exc import CommandError
from sqlalchemy import Engine, create_engine, event
from sqlalchemy.exc import DatabaseError

from turnout.domain.errors import SetupFailed

_MIGRATIONS = Path(__file__).parent / "migrations"


def open_engine(url: str) -> Engine:
    """An engine for a database URL. Nothing is read or written yet."""
    # More connections than the API has threads: nobody who asks for a status keeps a rollback waiting for one.
    engine = create_engine(url, pool_size=64, max_overflow=0)
    if engine.dialect.name == "sqlite":
        event.listen(engine, "connect", _set_up_sqlite)
        event.listen(engine, "begin", _begin_sqlite)
    return engine


def migrate(engine: Engine) -> None:
    """Bring the schema to the newest version, each migration in one transaction: a crash leaves the old or the new.

    Raises `SetupFailed` for a database of a newer turnout, or a file that is not a database.
    """
    config = Config()
    config.set_main_option("script_location", str(_MIGRATIONS))
    head = ScriptDirectory.from_config(config).get_current_head()
    try:
        with engine.connect() as connection:
            connection.execution_options(turnout_write=True)
            if MigrationContext.configure(connection).get_current_revision() == head:
                return
            connection.rollback()
            config.attributes["connection"] = connection
            command.upgrade(config, "head")
            connection.commit()
    except CommandError as error:
        raise SetupFailed(
            f"the database at {engine.url.render_as_string()} was written by a newer turnout ({error})",
            hint="start the newer version, or restore the state folder from a backup made before the upgrade",
        ) from error
    except DatabaseError as error:
        raise SetupFailed(
            f"the database at {engine.url.render_as_string()} cannot be read: {error.orig}",
            hint="restore the state folder from a backup; agents and Envoy go on serving meanwhile",
        ) from error


def _set_up_sqlite(connection: Any, _record: object) -> None:
    # SQLAlchemy begins transactions (see _begin_sqlite), not the driver: so that DDL is transactional too.
    connection.isolation_level = None
    cursor = connection.cursor()
    for pragma in (
        "journal_mode=WAL",
        "synchronous=FULL",  # a committed pointer survives a power cut
        "foreign_keys=ON",
        "busy_timeout=10000",
        "cache_size=-16000",
    ):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _begin_sqlite(connection: Any) -> None:
    # Taking the write lock at the start means that a transaction never fails half-way for want of it.
    write = connection.get_execution_options().get("turnout_write", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if write else "BEGIN")
