"""Replicas as processes: what reaches them, what they may use, how they end, and that nothing of them stays behind."""

from __future__ import annotations

import errno
import json
import os
import signal
import threading
import time
from pathlib import Path

import pytest

from tests.unit.runtimes.conftest import Machine
from tests.unit.runtimes.support import (
    AGENT,
    ask,
    await_gone,
    await_state,
    eventually,
    process_alive,
    replica_of,
    run_in,
)
from turnout.domain.errors import RuntimeUnavailable
from turnout.domain.models import Limits, ReplicaState
from turnout.runtimes.folder import ReplicaFolder

SPAWN = "import subprocess; result = subprocess.Popen(['sleep', '600']).pid"
SPAWN_DAEMON = "import subprocess; result = subprocess.Popen(['sleep', '600'], start_new_session=True).pid"
IGNORE_TERM = "import signal\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\n"


# --- what reaches an agent ---


def test_only_the_declared_environment_reaches_the_agent(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TURNOUT_TOKEN", "the server's own")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "the server's own")
    release = machine.releases.add(start=("python", "agent.py", "--port={port}"))
    replica, ready = machine.run(release, env={"GREETING": "hello", "PORT": "1", "HOME": "/root"})
    env = ask(ready, "env")
    assert isinstance(env, dict)
    env.pop("LC_CTYPE", None)  # set by the agent's own Python
    assert ready.address is not None
    port = ready.address.partition(":")[2]
    folder = machine.folder(replica)
    assert env.pop("PATH").endswith("/bin:/usr/local/bin:/usr/bin:/bin")
    assert Path(env.pop("VIRTUAL_ENV")).parent == machine.environments._root
    assert env == {
        "GREETING": "hello",
        "PORT": port,
        "HOST": "127.0.0.1",
        "HOME": str(folder / "home"),
        "TMPDIR": str(folder / "tmp"),
        "LANG": "C.UTF-8",
        "PYTHONUNBUFFERED": "1",
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    assert run_in(ready, "import sys; result = sys.argv") == ["agent.py", f"--port={port}"]


def test_the_agent_runs_in_the_release_by_the_python_of_its_environment(machine: Machine) -> None:
    replica, ready = machine.run()
    assert run_in(ready, "result = os.getcwd()") == str(
        machine.state / "releases" / replica.digest.removeprefix("sha256:")
    )
    assert str(run_in(ready, "result = sys.prefix")).startswith(str(machine.environments._root))


def test_values_of_the_environment_are_in_no_argument_and_readable_by_the_owner_only(machine: Machine) -> None:
    replica, ready = machine.run(env={"API_KEY": "sk-very-secret"})
    assert ready.pid is not None
    for pid in (ready.pid, machine.shim_pid(replica)):
        assert b"sk-very-secret" not in Path(f"/proc/{pid}/cmdline").read_bytes()
    assert b"sk-very-secret" not in Path(f"/proc/{machine.shim_pid(replica)}/environ").read_bytes()
    assert (machine.folder(replica) / "spec.json").stat().st_mode & 0o777 == 0o600
    assert machine.folder(replica).stat().st_mode & 0o777 == 0o700


def test_what_an_agent_is_given_beside_its_release_is_kept_in_its_folder_alone(machine: Machine) -> None:
    given = {"GIVEN_KEY": "tk_very_secret", "GIVEN_URL": "http://127.0.0.1:1/v1", "MINE": "theirs"}
    server = machine.new_server(secrets=lambda replica: {**given, "RING": replica.ring})
    code = "NAMES = ['GIVEN_KEY', 'GIVEN_URL', 'MINE', 'RING']\n"
    release = machine.releases.add({"agent.py": f"{code}import os; raise SystemExit(' '.join(map(os.getenv, NAMES)))"})
    server.prepare(release)
    replica = replica_of(release, env={"MINE": "mine"})
    server.start(replica)
    exited = await_state(server, replica.id, ReplicaState.EXITED)
    assert exited.message.endswith(f"last line: *** http://127.0.0.1:1/v1 mine {replica.ring}")
    spec = json.loads((machine.folder(replica) / "spec.json").read_bytes())
    assert "tk_very_secret" not in json.dumps(spec["replica"])
    assert spec["launch"]["env"]["GIVEN_KEY"] == "tk_very_secret"


def test_no_descriptor_of_the_server_or_the_shim_reaches_the_agent(machine: Machine) -> None:
    _, ready = machine.run()
    targets = run_in(
        ready, "result = [os.readlink(f'/proc/self/fd/{n}') for n in (0, 1, 2)] + os.listdir('/proc/self/fd')"
    )
    assert isinstance(targets, list)
    assert targets[0] == "/dev/null"
    assert targets[1] == targets[2]
    assert len(targets) - 3 <= 7  # the standard three, the listener and the connection, the list itself, the selector
    locked = run_in(
        ready,
        "result = [os.readlink(f'/proc/self/fd/{n}') for n in range(3, 12) if os.path.exists(f'/proc/self/fd/{n}')]",
    )
    assert isinstance(locked, list)
    assert not any(str(machine.state) in target for target in locked)


# --- limits ---


def test_an_agent_over_its_memory_limit_gets_no_more(machine: Machine) -> None:
    _, ready = machine.run(limits=Limits(memory=256 << 20))
    attempt = """
try:
    bytearray(512 << 20); result = "got it"
except MemoryError:
    result = "refused"
"""
    assert run_in(ready, attempt) == "refused"
    assert run_in(ready, attempt.replace("512", "64")) == "got it"


def test_an_agent_that_dies_of_its_memory_limit_says_so_in_the_message(machine: Machine) -> None:
    release = machine.releases.add({"agent.py": "bytearray(512 << 20)"})
    machine.runtime.prepare(release)
    replica = replica_of(release, limits=Limits(memory=256 << 20))
    machine.runtime.start(replica)
    exited = await_state(machine.runtime, replica.id, ReplicaState.EXITED)
    assert exited.message == "exited with code 1; last line: MemoryError"


def test_open_files_and_cores_are_limited(machine: Machine) -> None:
    _, ready = machine.run(limits=Limits(open_files=64, cpus=1))
    assert run_in(ready, "import resource; result = resource.getrlimit(resource.RLIMIT_NOFILE)") == [64, 64]
    assert run_in(ready, "result = len(os.sched_getaffinity(0))") == 1


# --- logs ---


def test_a_flooding_agent_fills_a_bounded_log_and_lives_on(machine: Machine) -> None:
    machine.new_server(log_bytes=100_000, log_files=3)
    replica, ready = machine.run()
    run_in(ready, "for n in range(50_000): print(f'line {n:06d}', flush=False)")
    run_in(ready, "print('the last line', flush=True)")
    newest = machine.folder(replica) / "agent.log"
    eventually(lambda: b"the last line\n" in newest.read_bytes())
    logs = machine.runtime.log_files("support", "dev")
    assert [path.name for path in logs] == ["agent.log.2", "agent.log.1", "agent.log"]
    assert all(path.stat().st_size <= 100_000 for path in logs)
    lines = b"".join(path.read_bytes() for path in logs).decode().splitlines()
    numbers = [int(line.removeprefix("line ")) for line in lines if line.startswith("line ")]
    assert numbers == list(range(numbers[0], 50_000)), "whole lines, none missing at the seams"
    assert await_state(machine.runtime, replica.id, ReplicaState.READY)


def test_logs_of_stopped_replicas_are_kept_without_their_environment_and_bounded(machine: Machine) -> None:
    machine.new_server()
    release = machine.releases.add(start=("sh", "-c", "echo attempt $ATTEMPT; exit 1"))
    machine.runtime.prepare(release)
    for number in range(24):
        replica = replica_of(release, env={"ATTEMPT": str(number)})
        machine.runtime.start(replica)
        await_state(machine.runtime, replica.id, ReplicaState.EXITED)
        machine.runtime.stop(replica.id, 1.0)
    texts = [path.read_text(encoding="utf-8") for path in machine.runtime.log_files("support", "dev")]
    assert texts == [f"attempt {number}\n" for number in range(4, 24)]
    assert {path.name for path in (machine.state / "stopped").glob("*/*/*/*")} == {"agent.log", "exit.json"}


def test_a_message_does_not_quote_a_value_of_the_environment(machine: Machine) -> None:
    release = machine.releases.add(start=("sh", "-c", "echo bad key $API_KEY; exit 1"))
    machine.runtime.prepare(release)
    replica = replica_of(release, env={"API_KEY": "sk-very-secret"})
    machine.runtime.start(replica)
    exited = await_state(machine.runtime, replica.id, ReplicaState.EXITED)
    assert exited.message == "exited with code 1; last line: bad key ***"


# --- ends ---


def test_a_start_command_that_does_not_exist_is_named(machine: Machine) -> None:
    release = machine.releases.add(start=("no-such-program", "--serve"))
    machine.runtime.prepare(release)
    replica = replica_of(release)
    machine.runtime.start(replica)
    exited = await_state(machine.runtime, replica.id, ReplicaState.EXITED)
    assert exited.exit_code == 127
    assert exited.message == "the start command 'no-such-program' does not exist in the environment or the release"


def test_a_start_command_that_is_not_executable_is_named(machine: Machine) -> None:
    release = machine.releases.add(start=("./agent.py",))
    machine.runtime.prepare(release)
    machine.runtime.start(replica_of(release))
    exited = await_state(machine.runtime, replica_of(release).id, ReplicaState.EXITED)
    assert (exited.exit_code, exited.message) == (
        126,
        "the start command './agent.py' cannot be executed: Permission denied",
    )


def test_a_replica_that_ignores_sigterm_is_killed_after_its_grace_with_all_it_started(machine: Machine) -> None:
    release = machine.releases.add({"agent.py": f"{IGNORE_TERM}{AGENT}"})
    replica, ready = machine.run(release)
    child, daemon = run_in(ready, SPAWN), run_in(ready, SPAWN_DAEMON)
    assert ready.pid is not None
    begin = time.monotonic()
    machine.runtime.stop(replica.id, 0.5)
    stopping = await_state(machine.runtime, replica.id, ReplicaState.STOPPING)
    assert stopping.address == ready.address
    await_gone(machine.runtime, replica.id)
    assert 0.45 <= time.monotonic() - begin < 3.0
    for pid in (ready.pid, child, daemon):
        assert not process_alive(int(str(pid)))


def test_a_second_stop_shortens_the_grace(machine: Machine) -> None:
    release = machine.releases.add({"agent.py": f"{IGNORE_TERM}{AGENT}"})
    replica, _ = machine.run(release)
    machine.runtime.stop(replica.id, 600.0)
    machine.runtime.stop(replica.id, 0.1)
    assert await_gone(machine.runtime, replica.id) < 5.0


def test_the_grace_holds_though_the_server_is_gone(machine: Machine) -> None:
    release = machine.releases.add({"agent.py": f"{IGNORE_TERM}{AGENT}"})
    replica, ready = machine.run(release)
    machine.runtime.stop(replica.id, 0.3)
    machine.runtime.close()
    assert ready.pid is not None
    pid = ready.pid
    eventually(lambda: not process_alive(pid), 5.0)
    eventually((machine.folder(replica) / "exit.json").exists, 5.0)
    await_gone(machine.new_server(), replica.id)


def test_a_child_may_use_the_grace_though_its_parent_ended_at_once(machine: Machine) -> None:
    script = (
        "(trap 'sleep 0.3; echo finished; exit' TERM; touch $HOME/armed; while :; do sleep 0.05; done) & exec sleep 600"
    )
    release = machine.releases.add(start=("sh", "-c", script))
    machine.runtime.prepare(release)
    replica = replica_of(release)
    machine.runtime.start(replica)
    eventually((machine.folder(replica) / "home" / "armed").exists)
    machine.runtime.stop(replica.id, 10.0)
    assert await_gone(machine.runtime, replica.id) < 5.0
    (log,) = machine.runtime.log_files("support", "dev")
    assert log.read_text(encoding="utf-8").endswith("finished\n")


def test_an_agent_that_is_killed_is_noticed_within_a_second(machine: Machine) -> None:
    replica, ready = machine.run()
    child = run_in(ready, SPAWN)
    assert ready.pid is not None
    machine.changes.clear()
    os.kill(ready.pid, signal.SIGKILL)
    took = eventually(lambda: machine.changes == [("support", "dev")], 1.0)
    exited = await_state(machine.runtime, replica.id, ReplicaState.EXITED)
    assert took < 1.0
    assert (exited.exit_code, exited.pid, exited.message) == (-9, None, "ended by SIGKILL")
    assert not process_alive(int(str(child)))


def test_killing_the_shim_kills_the_agent_and_all_it_started(machine: Machine) -> None:
    replica, ready = machine.run()
    child, daemon = run_in(ready, SPAWN), run_in(ready, SPAWN_DAEMON)
    os.kill(machine.shim_pid(replica), signal.SIGKILL)
    exited = await_state(machine.runtime, replica.id, ReplicaState.EXITED)
    assert exited.exit_code is None
    assert exited.message.startswith("ended unseen")
    for pid in (ready.pid, child, daemon):
        eventually(lambda pid=pid: not process_alive(int(str(pid))), 5.0)  # type: ignore[misc]
    machine.runtime.start(replica_of(machine.releases.add(), attempt=2))
    await_state(machine.runtime, replica.id, ReplicaState.READY, attempt=2)


def test_stop_all_ends_everything_and_waits_for_it(machine: Machine) -> None:
    pids = [machine.run(index=index)[1].pid for index in (0, 1)]
    machine.runtime.stop_all(5.0)
    assert machine.runtime.observe() == ()
    assert not any(process_alive(pid) for pid in pids if pid is not None)


# --- several at once, and how fast ---


def test_two_starts_at_once_give_one_process(machine: Machine) -> None:
    release = machine.releases.add()
    machine.runtime.prepare(release)
    replica, together = replica_of(release), threading.Barrier(8)

    def start() -> None:
        together.wait()
        machine.runtime.start(replica)

    threads = [threading.Thread(target=start) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    ready = await_state(machine.runtime, replica.id, ReplicaState.READY)
    home = f"HOME={machine.folder(replica) / 'home'}".encode()
    running = [
        path.parent.name
        for path in Path("/proc").glob("[0-9]*/environ")
        if os.access(path, os.R_OK) and home in read_quietly(path)
    ]
    assert running == [str(ready.pid)]


def test_a_second_server_cannot_start_a_replica_whose_shim_holds_the_lock(machine: Machine) -> None:
    replica, _ = machine.run()
    with_lock = machine.runtime._replicas.pop(replica.id)  # as if it had not been seen
    with pytest.raises(RuntimeUnavailable, match="still runs"):
        machine.runtime.start(replica)
    machine.runtime._replicas[replica.id] = with_lock


def test_a_full_disk_keeps_nothing_from_being_stopped(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    replica, _ = machine.run()

    def refuse(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(ReplicaFolder, "write_grace", refuse)
    machine.runtime.stop(replica.id, 5.0)
    assert await_gone(machine.runtime, replica.id) < 5.0
    monkeypatch.undo()
    machine.runtime.start(replica)
    await_state(machine.runtime, replica.id, ReplicaState.READY)


def test_observing_is_cheap(machine: Machine) -> None:
    machine.run()
    begin = time.perf_counter()
    for _ in range(200):
        machine.runtime.observe()
    assert (time.perf_counter() - begin) / 200 < 0.001


def test_ports_are_not_those_of_outgoing_connections_and_differ(machine: Machine) -> None:
    low = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text(encoding="ascii").split()[0])
    if low < 30_000:
        pytest.skip("this machine hands out all ports to outgoing connections")
    ports = []
    for index in (0, 1):
        address = machine.run(index=index)[1].address
        assert address is not None
        ports.append(int(address.partition(":")[2]))
    assert len(set(ports)) == 2
    assert all(20_000 <= port < low for port in ports)


def read_quietly(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""
