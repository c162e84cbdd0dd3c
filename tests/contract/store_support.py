"""A store with something in it, for the contract of stores.

SQLite here; another database joins by a name in `DATABASES` and a way to give out databases of it.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from sqlalchemy import Engine

from tests.unit.domain.values import RING, make_deployment, make_release
from turnout.db.engine import migrate, open_engine
from turnout.db.store import SqlStore
from turnout.domain.models import CanaryStep, Deployment, HealthCheck, Limits, Release, RingSettings, SmokeTask
from turnout.domain.phases import Phase
from turnout.manifest.config import spec_document
from turnout.ports import Store

DATABASES = ("sqlite",)
RINGS = (
    RingSettings("dev", env={"A": "1"}),
    RingSettings(RING, replicas=2, approvals=1, canary=(CanaryStep(1_000, 60.0, 5),), warm=60.0),
)
ONE = make_release(
    "v1",
    rings=RINGS,
    env={"LOG": "info", "FEATURE_X": "true"},
    health=HealthCheck(path="/health", start_timeout=5.0),
    limits=Limits(memory=1 << 28, cpus=1, open_files=100),
    smoke=(SmokeTask("greet", "/greet", headers={"x-a": "b"}, body="{}", expect_text="hi"),),
    lock="requirements.txt",
)
TWO = make_release("v2", rings=RINGS)
ALIEN = make_release("v1", rings=RINGS, agent="billing")


@cache
def _empty_database() -> bytes:
    """A migrated SQLite file. Made once: copying it is faster."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / "empty.db"
        engine = open_engine(f"sqlite:///{path}")
        migrate(engine)
        engine.dispose()
        return path.read_bytes()


def open_empty(path: Path) -> Engine:
    """A new SQLite database at the newest version."""
    path.write_bytes(_empty_database())
    return open_engine(f"sqlite:///{path}")


def make_template(folder: Path) -> Path:
    """A database that knows two releases of one agent and one of another."""
    path = folder / "template.db"
    engine = open_empty(path)
    for release in (ONE, TWO, ALIEN):
        add_release(SqlStore(engine), release)
    engine.dispose()
    return path


@contextmanager
def opened(template: Path, folder: Path) -> Iterator[Store]:
    """A store on a copy of the template."""
    path = shutil.copyfile(template, folder / "turnout.db")
    engine = open_engine(f"sqlite:///{path}")
    yield SqlStore(engine)
    engine.dispose()


def add_release(store: Store, release: Release) -> None:
    with store.transaction() as transaction:
        transaction.add_agent(release.agent, 1.0)
        transaction.add_release(release, json.dumps(spec_document(release.spec)).encode())


def add_deployment(store: Store, release: Release = ONE, name: str = "dep_1", **fields: Any) -> Deployment:
    deployment = make_deployment(release, name, **fields)
    with store.transaction() as transaction:
        transaction.add_deployment(deployment)
    return deployment


def move(store: Store, deployment: Deployment, *targets: Phase) -> Deployment:
    with store.transaction() as transaction:
        for target in targets:
            deployment = transaction.move(deployment, target, at=5.0, actor="turnout", reason=f"to {target}")
    return deployment


TO_ACTIVE = (Phase.BUILDING, Phase.DEPLOYING, Phase.VALIDATING, Phase.ACTIVE)


def event_types(store: Store) -> list[str]:
    with store.snapshot() as snapshot:
        return [stored.event.type.value for stored in snapshot.events(limit=1_000)]
