"""What every runtime must do: the fake in memory and processes alike."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

import pytest

from tests.unit.runtimes.support import AGENT, Releases, await_gone, await_state, replica_of
from turnout.domain.errors import BuildFailed, RuntimeUnavailable
from turnout.domain.models import Release, ReplicaState
from turnout.ports import Runtime
from turnout.runtimes.environment import Environments
from turnout.runtimes.fake import FakeRuntime
from turnout.runtimes.probe import HttpProber
from turnout.runtimes.process import ProcessRuntime


class Stage(Protocol):
    """A runtime, and the means to let its replicas misbehave."""

    changes: list[tuple[str, str]]

    @property
    def runtime(self) -> Runtime: ...

    def well(self) -> Release: ...

    def never_ready(self) -> Release: ...

    def slow_to_stop(self) -> Release: ...

    def exits_at_once(self, code: int) -> Release: ...

    def not_buildable(self) -> Release: ...

    def make_sick(self, replica_id: str) -> None: ...


class FakeStage:
    def __init__(self) -> None:
        self.changes: list[tuple[str, str]] = []
        self.runtime = FakeRuntime(on_change=lambda agent, ring: self.changes.append((agent, ring)))
        self._releases = Releases()

    def well(self) -> Release:
        return self._releases.add()

    def never_ready(self) -> Release:
        release = self._releases.add({"never": ""})
        self.runtime.never_ready.add(release.digest)
        return release

    def slow_to_stop(self) -> Release:
        return self.well()

    def exits_at_once(self, code: int) -> Release:
        release = self._releases.add({"code": str(code)})
        self.runtime.exits_at_once[release.digest] = code
        return release

    def not_buildable(self) -> Release:
        release = self._releases.add({"broken": ""})
        self.runtime.fails_to_prepare[release.digest] = BuildFailed("no such dependency")
        return release

    def make_sick(self, replica_id: str) -> None:
        self.runtime.set_ready(replica_id, False)


class ProcessStage:
    def __init__(self, state: Path, environments: Environments) -> None:
        self.changes: list[tuple[str, str]] = []
        self._state = state
        self._releases = Releases()
        self.prober = HttpProber()
        self.runtime = ProcessRuntime(
            state,
            self._releases.unpack,
            self.prober,
            environments,
            lambda agent, ring: self.changes.append((agent, ring)),
        )

    def well(self) -> Release:
        return self._releases.add()

    def never_ready(self) -> Release:
        return self._releases.add(start=("sleep", "60"))

    def slow_to_stop(self) -> Release:
        deaf = "import signal\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        return self._releases.add({"agent.py": f"{deaf}{AGENT}"})

    def exits_at_once(self, code: int) -> Release:
        return self._releases.add(start=("sh", "-c", f"exit {code}"))

    def not_buildable(self) -> Release:
        return self._releases.add({"requirements.txt": "not a requirement!\n"}, lock="requirements.txt")

    def make_sick(self, replica_id: str) -> None:
        (self._state / "replicas" / replica_id / "home" / "sick").touch()


@pytest.fixture(scope="module")
def environments(tmp_path_factory: pytest.TempPathFactory) -> Environments:
    return Environments(tmp_path_factory.mktemp("envs"))


@pytest.fixture(params=["fake", "process"])
def stage(request: pytest.FixtureRequest, tmp_path: Path, environments: Environments) -> Iterator[Stage]:
    if request.param == "fake":
        yield FakeStage()
        return
    stage = ProcessStage(tmp_path, environments)
    yield stage
    stage.runtime.stop_all(0.0)
    stage.runtime.close()
    stage.prober.close()


def test_a_replica_that_was_started_becomes_ready_at_an_address(stage: Stage) -> None:
    release = stage.well()
    stage.runtime.prepare(release)
    replica = replica_of(release)
    stage.runtime.start(replica)
    first = next(status for status in stage.runtime.observe() if status.id == replica.id)
    assert first.state is ReplicaState.STARTING
    ready = await_state(stage.runtime, replica.id, ReplicaState.READY)
    assert ready.address is not None
    assert ready.address.startswith("127.0.0.1:")
    assert ready.pid is not None
    assert (ready.agent, ready.ring, ready.digest, ready.attempt) == ("support", "dev", release.digest, 1)


def test_preparing_twice_and_starting_twice_changes_nothing(stage: Stage) -> None:
    release = stage.well()
    stage.runtime.prepare(release)
    stage.runtime.prepare(release)
    replica = replica_of(release)
    stage.runtime.start(replica)
    ready = await_state(stage.runtime, replica.id, ReplicaState.READY)
    stage.runtime.start(replica)
    assert stage.runtime.observe() == (ready,)


def test_a_release_that_was_not_prepared_is_not_started(stage: Stage) -> None:
    with pytest.raises(RuntimeUnavailable, match="not prepared"):
        stage.runtime.start(replica_of(stage.well()))
    assert stage.runtime.observe() == ()


def test_preparing_a_release_whose_dependencies_do_not_install_fails(stage: Stage) -> None:
    with pytest.raises(BuildFailed):
        stage.runtime.prepare(stage.not_buildable())


def test_a_stopped_replica_leaves_and_may_be_started_anew(stage: Stage) -> None:
    release = stage.well()
    stage.runtime.prepare(release)
    replica = replica_of(release)
    stage.runtime.start(replica)
    await_state(stage.runtime, replica.id, ReplicaState.READY)
    stage.runtime.stop(replica.id, 5.0)
    stage.runtime.stop(replica.id, 5.0)
    await_gone(stage.runtime, replica.id)
    stage.runtime.stop(replica.id, 5.0)
    stage.runtime.start(replica)
    await_state(stage.runtime, replica.id, ReplicaState.READY)


def test_an_exit_is_observed_with_its_code_until_the_replica_is_stopped(stage: Stage) -> None:
    release = stage.exits_at_once(3)
    stage.runtime.prepare(release)
    replica = replica_of(release)
    stage.runtime.start(replica)
    exited = await_state(stage.runtime, replica.id, ReplicaState.EXITED)
    assert exited.exit_code == 3
    assert exited.exited_at is not None
    assert exited.address is None
    assert "3" in exited.message
    stage.runtime.start(replica)
    assert stage.runtime.observe() == (exited,)
    stage.runtime.stop(replica.id, 1.0)
    assert stage.runtime.observe() == ()


def test_a_replica_that_exited_is_started_again_as_the_next_attempt(stage: Stage) -> None:
    release = stage.exits_at_once(1)
    stage.runtime.prepare(release)
    stage.runtime.start(replica_of(release))
    await_state(stage.runtime, replica_of(release).id, ReplicaState.EXITED)
    second = replica_of(release, attempt=2)
    stage.runtime.start(second)
    await_state(stage.runtime, second.id, ReplicaState.EXITED, attempt=2)
    with pytest.raises(RuntimeUnavailable):
        stage.runtime.start(replica_of(release, attempt=1))
    assert [status.attempt for status in stage.runtime.observe()] == [2]


def test_the_next_attempt_is_refused_while_the_last_one_runs(stage: Stage) -> None:
    release = stage.well()
    stage.runtime.prepare(release)
    stage.runtime.start(replica_of(release))
    with pytest.raises(RuntimeUnavailable):
        stage.runtime.start(replica_of(release, attempt=2))
    assert [status.attempt for status in stage.runtime.observe()] == [1]


def test_a_replica_that_is_being_stopped_is_not_started(stage: Stage) -> None:
    release = stage.slow_to_stop()
    stage.runtime.prepare(release)
    replica = replica_of(release)
    stage.runtime.start(replica)
    await_state(stage.runtime, replica.id, ReplicaState.READY)
    stage.runtime.stop(replica.id, 5.0)
    with pytest.raises(RuntimeUnavailable, match="is being stopped"):
        stage.runtime.start(replica)


def test_a_replica_that_answered_and_does_not_now_is_unready(stage: Stage) -> None:
    release = stage.well()
    stage.runtime.prepare(release)
    replica = replica_of(release)
    stage.runtime.start(replica)
    await_state(stage.runtime, replica.id, ReplicaState.READY)
    stage.changes.clear()
    stage.make_sick(replica.id)
    unready = await_state(stage.runtime, replica.id, ReplicaState.UNREADY)
    assert unready.message == "GET /ping answered 503"
    assert stage.changes == [("support", "dev")]


def test_a_replica_that_never_answered_is_starting_and_says_why(stage: Stage) -> None:
    release = stage.never_ready()
    stage.runtime.prepare(release)
    replica = replica_of(release)
    stage.runtime.start(replica)
    while not (seen := await_state(stage.runtime, replica.id, ReplicaState.STARTING)).message:
        pass
    assert seen.message.startswith("GET /ping")


def test_replicas_are_told_apart_by_index(stage: Stage) -> None:
    release = stage.well()
    stage.runtime.prepare(release)
    for index in (0, 1):
        stage.runtime.start(replica_of(release, index=index))
    addresses = {
        await_state(stage.runtime, replica_of(release, index=index).id, ReplicaState.READY).address for index in (0, 1)
    }
    assert len(addresses) == 2
