"""A process runtime on a state folder of its own, whose replicas end with the test."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.unit.runtimes.support import Releases, await_state, replica_of
from turnout.domain.models import Release, ReplicaSpec, ReplicaState, ReplicaStatus
from turnout.runtimes.environment import Environments
from turnout.runtimes.probe import HttpProber
from turnout.runtimes.process import ProcessRuntime


@dataclass
class Machine:
    """A state folder, and the servers that use it one after the other."""

    state: Path
    environments: Environments
    prober: HttpProber
    releases: Releases = field(default_factory=Releases)
    changes: list[tuple[str, str]] = field(default_factory=list)
    servers: list[ProcessRuntime] = field(default_factory=list)

    def new_server(self, **options: Any) -> ProcessRuntime:
        """A server on the state; the one before it is closed as if it had been restarted."""
        for server in self.servers:
            server.close()
        self.servers = [
            ProcessRuntime(
                self.state,
                self.releases.unpack,
                self.prober,
                self.environments,
                lambda agent, ring: self.changes.append((agent, ring)),
                **options,
            )
        ]
        return self.servers[0]

    @property
    def runtime(self) -> ProcessRuntime:
        return self.servers[0] if self.servers else self.new_server()

    def run(self, release: Release | None = None, **spec: Any) -> tuple[ReplicaSpec, ReplicaStatus]:
        """Start a replica and wait until it is ready."""
        release = release or self.releases.add()
        self.runtime.prepare(release)
        replica = replica_of(release, **spec)
        self.runtime.start(replica)
        return replica, await_state(self.runtime, replica.id, ReplicaState.READY, replica.attempt)

    def shim_pid(self, replica: ReplicaSpec) -> int:
        return self.runtime._replicas[replica.id].pid

    def folder(self, replica: ReplicaSpec) -> Path:
        return self.state / "replicas" / replica.id


@pytest.fixture(scope="session")
def environments(tmp_path_factory: pytest.TempPathFactory) -> Environments:
    return Environments(tmp_path_factory.mktemp("envs"))


@pytest.fixture
def machine(tmp_path: Path, environments: Environments) -> Iterator[Machine]:
    machine = Machine(tmp_path, environments, HttpProber())
    yield machine
    machine.runtime.stop_all(0.0)
    machine.runtime.close()
    machine.prober.close()
