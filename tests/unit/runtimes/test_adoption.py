"""Servers come and go; the replicas stay, and the next server finds them as they are."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

from tests.unit.runtimes.conftest import Machine
from tests.unit.runtimes.support import await_gone, await_state, eventually, process_alive, replica_of, run_in
from turnout.domain.models import HealthCheck, ReplicaState

SERVER = """
import sys, time
from pathlib import Path
from tests.unit.runtimes.support import Releases, await_state, replica_of
from turnout.runtimes.environment import Environments
from turnout.runtimes.probe import HttpProber
from turnout.runtimes.process import ProcessRuntime

state, releases = Path(sys.argv[1]), Releases()
runtime = ProcessRuntime(state, releases.unpack, HttpProber(), Environments(state / "envs"))
replica = replica_of(releases.add())
runtime.start(replica)
print(await_state(runtime, replica.id, "ready").pid, flush=True)
time.sleep(600)
"""


def test_a_new_server_finds_the_replicas_as_they_were(machine: Machine) -> None:
    _, ready = machine.run()
    again = machine.new_server()
    (adopted,) = again.observe()
    assert adopted.state is ReplicaState.READY, "at once: what serves is not taken out of the traffic by a restart"
    assert (adopted.pid, adopted.address, adopted.digest) == (ready.pid, ready.address, ready.digest)
    again.start(replica_of(machine.releases.add()))
    (same,) = again.observe()
    assert same.pid == ready.pid


def test_a_new_server_finds_the_exit_codes_of_those_that_died_meanwhile(machine: Machine) -> None:
    replica, ready = machine.run()
    machine.runtime.close()
    assert ready.pid is not None
    os.kill(ready.pid, signal.SIGKILL)
    eventually((machine.folder(replica) / "exit.json").exists)
    exited = await_state(machine.new_server(), replica.id, ReplicaState.EXITED)
    assert exited.exit_code == -9


def test_a_replica_outlives_a_server_that_is_killed_and_is_found_by_the_next(machine: Machine) -> None:
    release = machine.releases.add()
    machine.runtime.prepare(release)
    machine.runtime.close()
    with subprocess.Popen([sys.executable, "-c", SERVER, str(machine.state)], stdout=subprocess.PIPE) as server:
        assert server.stdout is not None
        pid = int(server.stdout.readline())
        server.kill()
    replica = replica_of(release)
    status = await_state(machine.new_server(), replica.id, ReplicaState.READY)
    assert status.pid == pid
    run_in(status, "print('still pumped', flush=True)")
    (log,) = machine.runtime.log_files("support", "dev")
    eventually(lambda: log.read_bytes() == b"still pumped\n")
    machine.runtime.stop(replica.id, 5.0)
    await_gone(machine.runtime, replica.id)
    assert not process_alive(pid)


def test_a_new_server_notices_the_end_of_an_adopted_replica(machine: Machine) -> None:
    replica, ready = machine.run()
    machine.new_server()
    assert ready.pid is not None
    os.kill(ready.pid, signal.SIGTERM)
    assert await_state(machine.runtime, replica.id, ReplicaState.EXITED).exit_code == -15
    machine.runtime.stop(replica.id, 1.0)
    assert machine.runtime.observe() == ()


def test_a_pid_that_was_given_to_another_process_fools_nobody(machine: Machine) -> None:
    replica, ready = machine.run()
    machine.runtime.close()
    shim = machine.shim_pid(replica)
    assert ready.pid is not None
    os.kill(ready.pid, signal.SIGKILL)
    eventually(lambda: not process_alive(shim))
    record = machine.folder(replica) / "shim.json"
    record.write_text(record.read_text(encoding="utf-8").replace(f'"pid": {shim}', f'"pid": {os.getpid()}'))
    server = machine.new_server()
    (status,) = server.observe()
    assert status.state is ReplicaState.EXITED
    server.stop(replica.id, 0.0)
    assert server.observe() == ()


def test_a_folder_without_a_shim_that_ever_ran_is_started_anew(machine: Machine) -> None:
    release = machine.releases.add()
    machine.runtime.prepare(release)
    replica = replica_of(release)
    machine.runtime.start(replica)
    await_state(machine.runtime, replica.id, ReplicaState.READY)
    spec = (machine.folder(replica) / "spec.json").read_text(encoding="utf-8")
    machine.runtime.stop_all(0.0)
    machine.folder(replica).mkdir()
    (machine.folder(replica) / "spec.json").write_text(spec, encoding="utf-8")  # killed between writing and launching
    server = machine.new_server()
    assert server.observe() == ()
    server.start(replica)
    await_state(server, replica.id, ReplicaState.READY)


def test_a_replica_recovers_from_being_unready(machine: Machine) -> None:
    replica, _ = machine.run(health=HealthCheck(interval=0.05, unhealthy_after=1))
    sick = machine.folder(replica) / "home" / "sick"
    sick.touch()
    await_state(machine.runtime, replica.id, ReplicaState.UNREADY)
    again = machine.new_server()
    assert again.observe()[0].state is ReplicaState.UNREADY
    sick.unlink()
    await_state(again, replica.id, ReplicaState.READY)
