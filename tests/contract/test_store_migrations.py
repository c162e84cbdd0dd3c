"""The schema: migrations make exactly the tables, and survive being stopped, repeated and met by other files."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from sqlalchemy import Engine, inspect

from turnout.db import engine as db_engine
from turnout.db.engine import migrate, open_engine
from turnout.db.store import SqlStore
from turnout.db.tables import metadata
from turnout.domain.calls import ModelCall
from turnout.domain.errors import SetupFailed, StorageFull, TurnoutError
from turnout.domain.outcomes import Tally
from turnout.ports import TaskQuery


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "turnout.db"


@pytest.fixture
def engine(path: Path) -> Iterator[Engine]:
    engine = open_engine(f"sqlite:///{path}")
    yield engine
    engine.dispose()


def tables(path: Path) -> set[str]:
    with closing(sqlite3.connect(path)) as connection:
        return {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}


def test_the_migrations_make_exactly_the_tables(engine: Engine) -> None:
    migrate(engine)
    with engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), metadata) == []
        assert set(inspect(connection).get_table_names()) == {*metadata.tables, "alembic_version"}


def test_the_migrations_make_the_conditions_of_every_partial_index(path: Path, engine: Engine, tmp_path: Path) -> None:
    """The comparison above does not look at conditions, and these hold the invariants."""
    migrate(engine)
    other = open_engine(f"sqlite:///{tmp_path / 'direct.db'}")
    metadata.create_all(other)
    other.dispose()

    def indexes(file: Path) -> dict[str, str]:
        with closing(sqlite3.connect(file)) as connection:
            found = connection.execute("SELECT name, sql FROM sqlite_master WHERE type = 'index' AND sql IS NOT NULL")
            return {name: " ".join(sql.split()) for name, sql in found}

    assert indexes(path) == indexes(tmp_path / "direct.db")
    assert "WHERE phase = 'active'" in indexes(path)["uq_deployments_active"]


def test_migrating_twice_changes_nothing(path: Path, engine: Engine) -> None:
    migrate(engine)
    with SqlStore(engine).transaction() as transaction:
        transaction.add_agent("support", 1.0)
    migrate(engine)
    with SqlStore(engine).snapshot() as snapshot:
        assert snapshot.agents() == ("support",)


def test_a_commit_survives_a_power_cut(engine: Engine) -> None:
    migrate(engine)
    with engine.connect() as connection:
        settings = [
            connection.exec_driver_sql(f"PRAGMA {name}").scalar_one()
            for name in ("journal_mode", "synchronous", "foreign_keys")
        ]
    assert settings == ["wal", 2, 1]


def test_a_database_of_a_newer_version_is_refused_untouched(path: Path, engine: Engine) -> None:
    migrate(engine)
    with engine.begin() as connection:
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = '9999'")
    with pytest.raises(SetupFailed, match="newer turnout") as refused:
        migrate(engine)
    assert "newer version" in str(refused.value.hint)
    with engine.connect() as connection:
        assert MigrationContext.configure(connection).get_current_revision() == "9999"


def test_a_file_that_is_no_database_is_refused_untouched(path: Path, engine: Engine) -> None:
    garbage = b"this is not a database, it is a letter to my aunt" * 100
    path.write_bytes(garbage)
    with pytest.raises(SetupFailed, match="cannot be read") as refused:
        migrate(engine)
    assert refused.value.hint
    assert path.read_bytes() == garbage


def test_a_folder_that_cannot_be_written_is_refused_with_a_hint(tmp_path: Path) -> None:
    engine = open_engine(f"sqlite:///{tmp_path / 'missing' / 'turnout.db'}")
    with pytest.raises(SetupFailed) as refused:
        migrate(engine)
    assert refused.value.hint
    engine.dispose()


STOP_HALF_WAY = """
import os, sys
from alembic import op
from turnout.db import engine as db_engine
from turnout.db.engine import migrate, open_engine

create, made = op.create_table, []

def create_some(*arguments, **options):
    made.append(create(*arguments, **options))
    if len(made) == 5:
        os._exit(9)
    return made[-1]

op.create_table = create_some
migrate(open_engine("sqlite:///" + sys.argv[1]))
"""


def test_a_migration_that_is_killed_half_way_leaves_the_old_schema_and_the_next_start_completes_it(
    path: Path, engine: Engine
) -> None:
    killed = subprocess.run([sys.executable, "-c", STOP_HALF_WAY, str(path)], check=False, timeout=60)
    assert killed.returncode == 9
    assert tables(path) - {"alembic_version"} == set()
    migrate(engine)
    assert tables(path) >= set(metadata.tables)
    with engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), metadata) == []


def test_a_migration_that_fails_leaves_the_old_schema(
    path: Path, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    from alembic import op

    def refuse(*_: object, **__: object) -> None:
        raise RuntimeError("no more")

    with monkeypatch.context() as patched:
        patched.setattr(op, "create_index", refuse)
        with pytest.raises(RuntimeError, match="no more"):
            migrate(engine)
    assert tables(path) - {"alembic_version"} == set()
    migrate(engine)
    assert tables(path) >= set(metadata.tables)


def test_two_starts_at_once_migrate_once(path: Path, engine: Engine) -> None:
    command = [
        sys.executable,
        "-c",
        "import sys; from turnout.db.engine import migrate, open_engine; migrate(open_engine('sqlite:///' + sys.argv[1]))",
        str(path),
    ]
    starts = [subprocess.Popen(command, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    for start in starts:
        _, errors = start.communicate(timeout=60)
        assert start.returncode == 0, errors
    with engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), metadata) == []


def test_a_full_disk_is_a_full_disk(engine: Engine) -> None:
    migrate(engine)
    store = SqlStore(engine)
    with engine.connect() as connection:
        connection.exec_driver_sql("PRAGMA max_page_count = 1")  # of this connection, which the pool gives out again

    def fill() -> None:
        with store.transaction() as transaction:
            for number in range(10_000):
                transaction.add_agent(f"agent-{number:060}", 1.0)

    with pytest.raises(StorageFull, match="full") as refused:
        fill()
    assert refused.value.hint
    with store.snapshot() as snapshot:
        assert snapshot.agents() == ()


def test_a_database_that_is_damaged_is_told_as_such(path: Path, engine: Engine) -> None:
    migrate(engine)
    engine.dispose()
    content = bytearray(path.read_bytes())
    content[4096:] = b"\xa5" * (len(content) - 4096)
    path.write_bytes(content)
    with pytest.raises(TurnoutError, match="malformed") as refused, SqlStore(engine).snapshot() as snapshot:
        snapshot.agents()
    assert refused.value.hint


def test_what_the_first_version_wrote_is_read_by_this_one(tmp_path: Path) -> None:
    engine = open_engine(f"sqlite:///{tmp_path / 'old.db'}")
    config = Config()
    config.set_main_option("script_location", str(Path(db_engine.__file__).parent / "migrations"))
    with engine.connect() as connection:
        connection.execution_options(turnout_write=True)
        config.attributes["connection"] = connection
        command.upgrade(config, "0001")
        connection.exec_driver_sql("INSERT INTO agents VALUES ('support', 1.0)")
        connection.exec_driver_sql(
            "INSERT INTO pointers VALUES ('support', 'dev', 'sha256:a', NULL, 0, NULL, NULL, '[]', 3, 2.0)"
        )
        row = "('r1', 't1', 'support', 'dev', 'sha256:a', 5.0, 0.1, 200, 'GET', '/', 0, 9, '')"
        connection.exec_driver_sql(f"INSERT INTO tasks VALUES {row}")
        connection.commit()
    migrate(engine)
    with SqlStore(engine).snapshot() as snapshot:
        pointer = snapshot.pointer("support", "dev")
        (task,) = snapshot.tasks(TaskQuery())
    assert (pointer.generation, pointer.rollout, pointer.holdback) == (3, None, 0)
    assert (task.request, task.duration, task.arm, task.pinned) == ("r1", 0.1, None, False)
    engine.dispose()


def test_sums_and_calls_from_before_recordings_are_read_by_this_version(tmp_path: Path) -> None:
    engine = open_engine(f"sqlite:///{tmp_path / 'old.db'}")
    config = Config()
    config.set_main_option("script_location", str(Path(db_engine.__file__).parent / "migrations"))
    digest = "sha256:" + "a" * 64
    ignored = '{"requests": 5, "known": 4, "errors": 1, "interventions": 0, "cost": 0.5, "calls": 2, "failed_calls": 0}'
    with engine.connect() as connection:
        connection.execution_options(turnout_write=True)
        config.attributes["connection"] = connection
        command.upgrade(config, "0003")
        sums = f"('support', 'dev', '{digest}', 7, 10, 9, 3, 1, 2.5, 4, 2)"
        connection.exec_driver_sql(
            "INSERT INTO tallies (agent, ring, release, step, requests, known, errors, interventions, cost, calls, "
            f"failed_calls) VALUES {sums}"
        )
        call = (
            f"('c1', 5.0, 0.1, 'support', 'dev', '{digest}', 't1', 'messages', 'anthropic', 'claude', '', '', 0, NULL"
        )
        connection.exec_driver_sql(
            f"INSERT INTO model_calls VALUES {call}, 200, 'done', 1, 0, 2, 0, 0, 7, '', '[]', '')"
        )
        breaker = (
            f"('support', 'dev', '{digest}', 'run', 'cost', 'open', 1.0, 2.0, 1.0, 60.0, NULL, '', '', '{ignored}')"
        )
        connection.exec_driver_sql("INSERT INTO agents VALUES ('support', 1.0)")
        connection.exec_driver_sql(
            "INSERT INTO releases (digest, agent, version, components, config, author, created_at) "
            f"VALUES ('{digest}', 'support', 'v1', '{{}}', x'7b7d', 'ann', 1.0)"
        )
        connection.exec_driver_sql(f"INSERT INTO breakers VALUES {breaker}")
        connection.commit()
    migrate(engine)
    with SqlStore(engine).snapshot() as snapshot:
        (tally,) = snapshot.tallies(0.0).values()
        (model,) = snapshot.calls("t1")
        (record,) = snapshot.breakers()
    assert tally == Tally(10, 3, 1, 2.5, 4, 2)
    assert isinstance(model, ModelCall)
    assert (model.nanos, model.answer, model.request_digest) == (7, None, "")
    assert record.ignored == Tally(5, 1, 0, 0.5, 2, 0)
    engine.dispose()
