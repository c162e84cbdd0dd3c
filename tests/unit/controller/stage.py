"""A whole instance without the outside: real store, use cases and controller; fake runtime, proxy, prober and clock."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from itertools import count
from pathlib import Path
from typing import Any

from sqlalchemy import event

from tests.contract.store_support import add_release, open_empty
from tests.unit.domain.values import AGENT
from turnout.artifacts.attest.keys import SigningKey
from turnout.artifacts.attest.notary import StoreNotary
from turnout.artifacts.fake import MemoryArtifactStore
from turnout.artifacts.intake import Intake
from turnout.controller.grants import GrantBook
from turnout.controller.jobs import Jobs
from turnout.controller.publish import Publisher
from turnout.controller.reconcile import Parts, Reconciler
from turnout.controller.recording import Recorder
from turnout.db.store import SqlStore
from turnout.domain.models import (
    Arm,
    Deployment,
    Digest,
    Pointer,
    Quarantine,
    Release,
    ReplaySettings,
    Task,
    replica_id,
)
from turnout.domain.outcomes import read_task
from turnout.domain.policy import Role
from turnout.domain.view import Job
from turnout.ports import Store
from turnout.recordings.fake import MemoryRecordings
from turnout.runtimes.fake import FakeProber, FakeRuntime
from turnout.services import approvals
from turnout.services.deployments import Wish, deploy
from turnout.services.office import Actor, Office, ReadRelease
from turnout.services.rollbacks import RollbackWish, roll_back
from turnout.traffic.fake import FakeRouter

ADMIN = Actor("ann", Role.ADMIN)
BOB = Actor("bob", Role.APPROVER)
START = 1_000_000.0
MOMENT = 0.001  # that passes between two visits of the controller


@dataclass
class FakeClock:
    """A clock that stands still until it is moved."""

    at: float = START

    def now(self) -> float:
        """See `ports.Clock`."""
        return self.at


class WaitedJobs(Jobs):
    """Jobs that a test can wait for, or hold up by clearing `go`."""

    def __init__(self) -> None:
        super().__init__()
        self.started: list[tuple[str, str]] = []
        self.go = threading.Event()
        self.go.set()

    def start(self, kind: str, name: str, work: Callable[[], str | None], on_end: Callable[[], None]) -> None:
        """See `Jobs`."""

        def work_when_told() -> str | None:
            self.go.wait(30.0)
            return work()

        super().start(kind, name, work_when_told, on_end)
        self.started.append((kind, name))

    def wait(self) -> None:
        """Until every job that was started is over."""
        deadline = time.monotonic() + 30.0
        while any((self.look(*name) or Job(over=True)).over is False for name in self.started):
            assert time.monotonic() < deadline, f"jobs go on: {self.started}"
            time.sleep(0.001)


@dataclass
class Stage:
    """One server, and what it stands on. A second server on the same ground is made by `another_server`."""

    store: Store
    runtime: FakeRuntime
    router: FakeRouter
    prober: FakeProber
    clock: FakeClock
    office: Office
    holder: str = "one"
    build_slots: int = 2
    read_up_to: Callable[[], float] = lambda: math.inf
    grants: GrantBook | None = None
    on_effect: Callable[[str], None] = lambda _: None
    replay: Callable[[Deployment, ReplaySettings, Callable[[str], None]], str | None] = lambda *_: None
    jobs: WaitedJobs = field(default_factory=WaitedJobs)
    woken: list[tuple[str, str]] = field(default_factory=list)

    def __post_init__(self) -> None:
        parts = Parts(
            self.store,
            self.runtime,
            self.router,
            self.prober,
            self.clock,
            self.holder,
            self.build_slots,
            self._tell_effect,
            self.read_up_to,
            self.verify,
            grants=self.grants,
            replay=self.replay,
        )
        publisher = Publisher(self.store, self.runtime, self.router)
        self.office = replace(self.office, serves=publisher.serves)
        self.reconciler = Reconciler(parts, self.jobs, publisher, lambda agent, ring: self.woken.append((agent, ring)))

    def _tell_effect(self, name: str) -> None:
        self.on_effect(name)

    def verify(self, deployment: Deployment, release: Release, demanded: tuple[str, ...]) -> str | None:
        """See `Parts`: nothing is demanded here."""
        return None

    def another_server(self, holder: str, **options: Any) -> Stage:
        """A server that was started anew, or beside: it knows what the store knows, and nothing else."""
        return Stage(self.store, self.runtime, self.router, self.prober, self.clock, self.office, holder, **options)

    # --- time and controller

    def look(self, ring: str = "dev", times: int = 8) -> None:
        """Let the controller come by so often; jobs end between its visits, and replicas come and go."""
        for _ in range(times):
            self.clock.at += MOMENT
            self.reconciler.reconcile(AGENT, ring)
            self.jobs.wait()

    def pass_time(self, seconds: float, ring: str = "dev") -> None:
        """Some time passes, then the controller comes by."""
        self.clock.at += seconds
        self.look(ring)

    # --- people

    def deploy(self, release: Release, ring: str = "dev", *, look: bool = True, **wish: Any) -> str:
        """Somebody deploys to the first ring; returns the deployment's id."""
        view = deploy(self.office, ADMIN, Wish(AGENT, ring, release.digest, **wish))
        if look:
            self.look(ring)
        return view["id"]

    def promote(self, source: str, ring: str, *, look: bool = True, **wish: Any) -> str:
        """Somebody promotes what is active in `source`; returns the deployment's id."""
        view = deploy(self.office, ADMIN, Wish(AGENT, ring, None, source, **wish))
        if look:
            self.look(ring)
        return view["id"]

    def roll_back(self, ring: str = "dev", *, look: bool = True, **wish: Any) -> str:
        """Somebody rolls back; returns the id of the deployment that shows it."""
        view = roll_back(self.office, ADMIN, RollbackWish(AGENT, ring, **{"reason": "it is wrong", **wish}))
        if look:
            self.look(ring)
        return view["id"]

    def approve(self, ring: str, actor: Actor = BOB, *, approved: bool = True) -> None:
        """Somebody decides about what waits in a ring."""
        approvals.decide(self.office, actor, AGENT, ring, release=None, approved=approved, comment="")

    def serve(self, release: Release, tasks: Sequence[str], ring: str = "dev", status: int = 200) -> None:
        """Callers are served by the arm of a release: one request a task."""
        pointer = self.pointer(ring)
        split: dict[str, Any] = {}
        if pointer.rollout is not None and pointer.weight < 10_000:
            arm = "candidate" if release.digest == pointer.candidate else "stable"
            split = {"arm": arm, "probability": pointer.weight / 10_000, "rollout": pointer.rollout}
        self.serve_split(release, tasks, ring=ring, status=status, **split)

    def serve_split(self, release: Release, tasks: Sequence[str], arm: str | None = None, **given: Any) -> None:
        """Callers are served in an arm of a rollout: see `requests`."""
        self.record(self.requests(release, tasks, arm, **given))

    def requests(
        self,
        release: Release,
        tasks: Sequence[str],
        arm: str | None = None,
        *,
        ring: str = "dev",
        status: int = 200,
        **split: Any,
    ) -> list[Task]:
        """What the proxy would note of callers that are served now."""
        now = self.clock.at
        given = {**split, "arm": Arm(arm) if arm else None}
        return [
            Task(
                task if arm else f"{ring}-{release.version}-{task}-{now}",
                task,
                AGENT,
                ring,
                release.digest,
                now,
                0.1,
                status,
                **given,
            )
            for task in tasks
        ]

    def record(self, requests: Sequence[Task]) -> None:
        """Take in what the proxy noted."""
        said = {item.request: found for item in requests if (found := read_task(item, "status")) is not None}
        with self.store.transaction() as transaction:
            transaction.add_tasks(requests, said, str(self.clock.at))

    def serve_open(self, release: Release, task: str, ring: str = "dev") -> None:
        """A caller is sent to the arm of a release, and gets no answer."""
        pointer = self.pointer(ring)
        arm = Arm("candidate" if release.digest == pointer.candidate else "stable")
        split: dict[str, Any] = {"arm": arm, "probability": pointer.weight / 10_000, "rollout": pointer.rollout}
        self.record([Task(task, task, AGENT, ring, release.digest, self.clock.at, None, 0, **split)])

    # --- looking

    def deployment(self, name: str) -> Deployment:
        """What is stored of a deployment."""
        with self.store.snapshot() as snapshot:
            found = snapshot.deployment(name)
        assert found is not None
        return found

    def state(self, name: str) -> str:
        """The state of a deployment, with what it waits for."""
        found = self.deployment(name)
        return found.phase.value + (f": {found.condition.type}" if found.condition else "")

    def pointer(self, ring: str = "dev") -> Pointer:
        """What is stored of a pointer."""
        with self.store.snapshot() as snapshot:
            return snapshot.pointer(AGENT, ring)

    def quarantine(self, release: Release) -> Quarantine | None:
        """Why a release is in quarantine."""
        with self.store.snapshot() as snapshot:
            return snapshot.quarantine(AGENT, release.digest)

    def transitions(self, name: str) -> list[tuple[str, str]]:
        """The states that a deployment came to, with the reasons."""
        with self.store.snapshot() as snapshot:
            found = snapshot.events(deployment=name, limit=1_000)
        return [
            (str(item.event.data["to"]), str(item.event.data["reason"]))
            for item in found
            if item.event.type == "deployment.transitioned"
        ]

    def states(self, name: str) -> list[str]:
        """The states that a deployment came to."""
        return [state for state, _ in self.transitions(name)]

    def answers(self, ring: str = "dev") -> tuple[int, Digest | None]:
        """What a caller of a ring without a canary gets."""
        answer = self.router.route(AGENT, ring, "any task")
        return answer.status, answer.release

    def running(self, ring: str = "dev") -> list[str]:
        """The ids of the replicas that run in a ring. Looking lets no time pass here."""
        prefix = f"{AGENT}.{ring}."
        with self.store.snapshot() as snapshot:
            return sorted(item.id for item in snapshot.replicas(AGENT) if item.id.startswith(prefix))


def replica_of(release: Release, ring: str = "dev", index: int = 0) -> str:
    """The id of a replica."""
    return replica_id(AGENT, ring, release.digest, index)


@contextmanager
def staged(folder: Path, releases: Sequence[Release], **options: Any) -> Iterator[Stage]:
    """A stage on which some releases were pushed."""
    engine = open_empty(folder / "turnout.db")
    event.listen(engine, "connect", _write_lazily)
    store = SqlStore(engine)
    for release in releases:
        add_release(store, release)
    stage = build_stage(store, **options)
    yield stage
    engine.dispose()


def build_stage(store: Store, **options: Any) -> Stage:
    """A stage on a store."""
    clock, runtime = FakeClock(), options.pop("runtime", None)
    runtime = runtime or FakeRuntime(clock.now)
    numbers, artifacts = count(1), MemoryArtifactStore()
    office = Office(
        recordings=Recorder(store, MemoryRecordings(), clock),
        store=store,
        artifacts=artifacts,
        intake=Intake(artifacts),
        notary=StoreNotary(artifacts, _no_key),
        runtime=runtime,
        clock=clock,
        wake=lambda agent, ring: None,
        serves=lambda _: True,
        new_id=lambda prefix: f"{prefix}_{next(numbers)}",
        read_release=_no_artifact,
        diff=lambda _a, _b: [],
        read_texts=lambda _: [],
        traffic_url="http://127.0.0.1:8080",
    )
    return Stage(store, runtime, FakeRouter(), FakeProber(), clock, office, **options)


def _no_artifact(digest: Digest) -> ReadRelease:
    raise AssertionError(f"no artifact of {digest} is read here")


def _write_lazily(connection: Any, _record: object) -> None:
    """Tests of decisions need no flushed disk."""
    connection.execute("PRAGMA synchronous=OFF")


def _no_key() -> SigningKey:
    raise AssertionError("nothing is signed here")
