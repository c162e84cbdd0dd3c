"""A runtime and a prober of memory alone, for tests of everything else. No threads, no clock: looking makes time pass.

A replica that was started is `starting` when it is looked at for the first time and `ready` from the second on; one that
is stopped is `stopping` for one look and then gone. Digests in `never_ready`, `exits_at_once` and `fails_to_prepare`
behave otherwise. All of these may be changed at any time.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from turnout.domain.errors import RuntimeUnavailable, TurnoutError
from turnout.domain.models import (
    HealthCheck,
    Release,
    ReplicaSpec,
    ReplicaState,
    ReplicaStatus,
    SmokeResult,
    SmokeTask,
)

FIRST_PORT = 20_000


@dataclass(frozen=True, slots=True)
class _Fake:
    status: ReplicaStatus
    spec: ReplicaSpec
    looks: int = 0
    held: bool = False  # its state was set by the test


class FakeRuntime:
    """Implements `ports.Runtime`. `calls` records what was asked: ("prepare", digest), ("start", id), ("stop", id)."""

    def __init__(
        self,
        now: Callable[[], float] = lambda: 0.0,
        *,
        prepared: Collection[str] = (),
        never_ready: Collection[str] = (),
        exits_at_once: Mapping[str, int] | None = None,
        fails_to_prepare: Mapping[str, TurnoutError] | None = None,
        on_change: Callable[[str, str], None] | None = None,
    ) -> None:
        self._now = now
        self._on_change = on_change
        self._replicas: dict[str, _Fake] = {}
        self._prepared: set[str] = set(prepared)
        self._next_port = FIRST_PORT
        self.never_ready: set[str] = set(never_ready)
        self.exits_at_once: dict[str, int] = dict(exits_at_once or {})
        self.fails_to_prepare: dict[str, TurnoutError] = dict(fails_to_prepare or {})
        self.logs: dict[tuple[str, str], tuple[Path, ...]] = {}
        self.calls: list[tuple[str, str]] = []

    # --- the port ---

    def prepare(self, release: Release) -> None:
        """See `ports.Runtime`."""
        self.calls.append(("prepare", release.digest))
        if release.digest in self.fails_to_prepare:
            raise self.fails_to_prepare[release.digest]
        self._prepared.add(release.digest)

    def start(self, replica: ReplicaSpec) -> None:
        """See `ports.Runtime`."""
        self.calls.append(("start", replica.id))
        known = self._replicas.get(replica.id)
        if known is not None:
            if known.status.state is ReplicaState.STOPPING:
                raise RuntimeUnavailable(f"{replica.id} is being stopped")
            if known.status.attempt == replica.attempt:
                return
            if known.status.state is not ReplicaState.EXITED or known.status.attempt > replica.attempt:
                raise RuntimeUnavailable(f"{replica.id} runs or ran in attempt {known.status.attempt}")
        if replica.digest not in self._prepared:
            raise RuntimeUnavailable(f"the release {replica.digest} is not prepared on this machine")
        self._replicas[replica.id] = _Fake(self._started(replica), replica)
        if replica.digest in self.exits_at_once:
            self._exit(replica.id, self.exits_at_once[replica.digest])

    def stop(self, replica_id: str, grace: float) -> None:
        """See `ports.Runtime`."""
        self.calls.append(("stop", replica_id))
        known = self._replicas.get(replica_id)
        if known is None or known.status.state is ReplicaState.STOPPING:
            return
        if known.status.state is ReplicaState.EXITED:
            del self._replicas[replica_id]
            return
        stopping = replace(known.status, state=ReplicaState.STOPPING, message=f"ends within {grace:g} s")
        self._replicas[replica_id] = replace(known, status=stopping, looks=0, held=False)

    def observe(self) -> tuple[ReplicaStatus, ...]:
        """See `ports.Runtime`."""
        for replica_id, known in tuple(self._replicas.items()):
            aged = self._aged(known)
            if aged is None:
                del self._replicas[replica_id]
            else:
                self._replicas[replica_id] = aged
        return tuple(known.status for _, known in sorted(self._replicas.items()))

    def log_files(self, agent: str, ring: str) -> tuple[Path, ...]:
        """See `ports.Runtime`: what a test put into `logs`."""
        return self.logs.get((agent, ring), ())

    # --- the test's ---

    def exit(self, replica_id: str, code: int) -> None:
        """Let a replica end by itself."""
        self._exit(replica_id, code)
        self._tell(replica_id)

    def set_ready(self, replica_id: str, ready: bool, message: str = "GET /ping answered 503") -> None:
        """Let the health of a replica change, and stay so."""
        known = self._replicas[replica_id]
        state = ReplicaState.READY if ready else ReplicaState.UNREADY
        status = replace(known.status, state=state, message="" if ready else message)
        self._replicas[replica_id] = replace(known, status=status, held=True)
        self._tell(replica_id)

    def spec(self, replica_id: str) -> ReplicaSpec:
        """What a replica was started from."""
        return self._replicas[replica_id].spec

    def _started(self, replica: ReplicaSpec) -> ReplicaStatus:
        self._next_port += 1
        return ReplicaStatus(
            agent=replica.agent,
            ring=replica.ring,
            digest=replica.digest,
            index=replica.index,
            attempt=replica.attempt,
            state=ReplicaState.STARTING,
            address=f"127.0.0.1:{self._next_port}",
            pid=self._next_port,
            started_at=self._now(),
        )

    def _aged(self, known: _Fake) -> _Fake | None:
        state = known.status.state
        if known.looks == 0 or known.held:
            return replace(known, looks=known.looks + 1)
        if state is ReplicaState.STOPPING:
            return None
        if state is not ReplicaState.STARTING:
            return known
        if known.spec.digest in self.never_ready:
            return replace(known, status=replace(known.status, message="GET /ping answered 503"))
        return replace(known, status=replace(known.status, state=ReplicaState.READY))

    def _exit(self, replica_id: str, code: int) -> None:
        known = self._replicas[replica_id]
        status = replace(
            known.status,
            state=ReplicaState.EXITED,
            address=None,
            pid=None,
            exited_at=self._now(),
            exit_code=code,
            message=f"exited with code {code}",
        )
        self._replicas[replica_id] = replace(known, status=status)

    def _tell(self, replica_id: str) -> None:
        if self._on_change is not None:
            status = self._replicas[replica_id].status
            self._on_change(status.agent, status.ring)


class FakeProber:
    """Implements `ports.Prober`: every address is well, but for those that a test puts into `ill` or `failing`."""

    def __init__(self) -> None:
        self.ill: dict[str, str] = {}  # address -> why it is not healthy
        self.failing: dict[str, str] = {}  # name of a smoke task, or address -> what is wrong
        self.smoked: list[tuple[str, tuple[str, ...]]] = []  # address and names of the tasks, as they were asked for

    def healthy(self, address: str, check: HealthCheck) -> str | None:  # noqa: ARG002 - the port's
        """See `ports.Prober`."""
        return self.ill.get(address)

    def smoke(self, address: str, tasks: tuple[SmokeTask, ...]) -> SmokeResult:
        """See `ports.Prober`."""
        self.smoked.append((address, tuple(task.name for task in tasks)))
        for task in tasks:
            fault = self.failing.get(task.name) or self.failing.get(address)
            if fault is not None:
                return SmokeResult(False, f"smoke task {task.name!r}: {task.method} {task.path} {fault}")
        return SmokeResult(True)
