"""What an agent can reach of the state folder that it runs in: what is its own, nothing else, whoever runs the server."""

from __future__ import annotations

import errno
import logging
import os
import shutil
import socket
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.unit.runtimes.conftest import Machine
from tests.unit.runtimes.support import await_gone, await_state, process_alive, replica_of, run_in
from tests.unit.runtimes.test_environment import make_wheel
from turnout.domain.models import ReplicaSpec, ReplicaState, ReplicaStatus
from turnout.runtimes import landlock, process
from turnout.runtimes.environment import Environments
from turnout.runtimes.folder import build_confinement
from turnout.runtimes.landlock import EVERYTHING, READ, build_rules, find_version, handled_rights
from turnout.runtimes.probe import HttpProber

VERSION = find_version()
confined = pytest.mark.skipif(VERSION == 0, reason="this kernel has no Landlock")
signals_scoped = pytest.mark.skipif(VERSION < landlock.SCOPES_SINCE, reason="this Landlock leaves signals alone")
sockets_ruled = pytest.mark.skipif(VERSION < 9, reason="this Landlock leaves sockets with a path alone")


@dataclass
class Instance:
    """A state folder as a server has it, and two replicas of one release with an environment."""

    state: Path
    machine: Machine
    replica: ReplicaSpec
    agent: ReplicaStatus
    other: ReplicaSpec
    other_agent: ReplicaStatus

    @property
    def release(self) -> Path:
        return self.machine.state / "releases" / self.replica.digest.removeprefix("sha256:")

    def attempt(self, code: str) -> object:
        """Run code in the agent: the name of the error that the kernel gave, else `result`, else "done"."""
        body = "\n".join(f"    {line}" for line in code.splitlines())
        return run_in(
            self.agent,
            f"import errno, shutil, socket, sqlite3, tempfile\nresult = 'done'\ntry:\n{body}\n"
            "except OSError as error:\n    result = errno.errorcode[error.errno]",
        )

    def reads(self, path: Path) -> object:
        return self.attempt(f"open({str(path)!r}, 'rb').read()")

    def writes(self, path: Path) -> object:
        return self.attempt(f"open({str(path)!r}, 'ab').write(b'x')")


@pytest.fixture(scope="module")
def instance(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Instance]:
    base = tmp_path_factory.mktemp("instance")
    state = base / "state"
    state.mkdir()
    link = base / "link"
    link.symlink_to(state)
    (state / "envoy").mkdir()
    with sqlite3.connect(state / "turnout.db") as database:
        database.execute("create table tokens (digest)")
    database.close()
    (state / "admin.token").write_text("the first token", encoding="utf-8")
    machine = Machine(state / "runtime", Environments(state / "runtime" / "envs"), HttpProber())
    machine.new_server(hidden=link)  # what is hidden is the folder, by whatever name
    make_wheel(base, "greeting", "1.0")
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("UV_FIND_LINKS", str(base))
        environment.setenv("UV_CACHE_DIR", str(base / "cache"))
        environment.setenv("UV_OFFLINE", "1")
        release = machine.releases.add({"requirements.txt": "greeting==1.0\n"}, lock="requirements.txt")
        replica, agent = machine.run(release)
    other, other_agent = machine.run(release, index=1, env={"API_KEY": "of another replica"})
    yield Instance(state, machine, replica, agent, other, other_agent)
    machine.runtime.stop_all(0.0)
    machine.runtime.close()
    machine.prober.close()


# --- out of reach ---


@confined
def test_the_servers_own_files_cannot_be_read_or_changed(instance: Instance) -> None:
    for path in (instance.state / "admin.token", instance.state / "turnout.db"):
        assert instance.reads(path) == "EACCES"
        assert instance.writes(path) == "EACCES"
        assert instance.reads(Path("/proc/self/root") / path.relative_to("/")) == "EACCES"
    for folder in (instance.state, instance.machine.state / "releases"):
        assert instance.attempt(f"os.listdir({str(folder)!r})") == "EACCES"
        assert instance.attempt(f"open({str(folder / 'new')!r}, 'w')") == "EACCES"
    link = instance.state.with_name("link")
    assert instance.reads(link / "admin.token") == "EACCES"
    assert (instance.state / "admin.token").read_text(encoding="utf-8") == "the first token"


@confined
def test_the_servers_files_cannot_be_moved_or_linked_to_where_they_can_be_read(instance: Instance) -> None:
    token = str(instance.state / "admin.token")
    for call in ("rename", "link"):
        moved = instance.attempt(f"os.{call}({token!r}, os.path.join(os.environ['HOME'], 'token'))")
        assert moved in {"EACCES", "EXDEV"}
    assert instance.attempt(f"os.remove({token!r})") == "EACCES"


@confined
def test_what_belongs_to_another_replica_is_out_of_reach(instance: Instance) -> None:
    folder = instance.machine.folder(instance.other)
    (folder / "home" / "notes").write_text("private", encoding="utf-8")
    assert instance.reads(folder / "spec.json") == "EACCES"
    assert instance.reads(folder / "home" / "notes") == "EACCES"
    assert instance.writes(folder / "tmp" / "new") == "EACCES"
    assert instance.reads(Path(f"/proc/{instance.other_agent.pid}/environ")) == "EACCES"


@confined
def test_what_the_shim_keeps_of_the_agent_itself_is_out_of_reach(instance: Instance) -> None:
    folder = instance.machine.folder(instance.replica)
    assert instance.reads(folder / "spec.json") == "EACCES"
    assert instance.writes(folder / "exit.json") == "EACCES"
    assert instance.writes(folder / "grace") == "EACCES"


@confined
def test_the_release_and_the_environment_cannot_be_changed(instance: Instance) -> None:
    code = instance.release / "agent.py"
    before = code.read_bytes()
    assert instance.writes(code) == "EACCES"
    assert instance.attempt(f"os.remove({str(code)!r})") == "EACCES"
    assert instance.attempt(f"os.mkdir({str(instance.release / 'new')!r})") == "EACCES"
    if VERSION >= 3:
        assert instance.attempt(f"os.truncate({str(code)!r}, 0)") == "EACCES"
    assert instance.attempt("import greeting\nopen(greeting.__file__, 'a')") == "EACCES"
    assert code.read_bytes() == before


@signals_scoped
def test_processes_that_are_not_its_own_cannot_be_signalled(instance: Instance) -> None:
    shim = instance.machine.shim_pid(instance.replica)
    for pid in (os.getpid(), shim, instance.other_agent.pid):
        assert instance.attempt(f"os.kill({pid}, 0)") == "EPERM"
    assert process_alive(shim)


@signals_scoped
def test_an_abstract_socket_of_another_process_cannot_be_connected_to(instance: Instance) -> None:
    name = f"\0turnout-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(name)
        listener.listen()
        assert instance.attempt(f"socket.socket(socket.AF_UNIX).connect({name!r})") == "EPERM"


@sockets_ruled
def test_a_socket_in_the_hidden_folder_cannot_be_connected_to(instance: Instance, tmp_path: Path) -> None:
    short = tmp_path / "state"  # a socket's path has at most 107 bytes
    short.symlink_to(instance.state)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(f"{short}/envoy/admin.sock")
        listener.listen()
        code = f"socket.socket(socket.AF_UNIX).connect({f'{short}/envoy/admin.sock'!r})"
        assert instance.attempt(code) == "EACCES"


# --- within reach ---


def test_home_and_tmpdir_are_the_agents_own(instance: Instance) -> None:
    code = (
        "home, tmp = os.environ['HOME'], os.environ['TMPDIR']\n"
        "for folder in (home, tmp):\n"
        "    path = os.path.join(folder, 'folder', 'file')\n"
        "    os.mkdir(os.path.dirname(path))\n"
        "    open(path, 'w').write('written')\n"
        "    os.rename(path, os.path.join(folder, 'moved'))\n"
        "    result = open(os.path.join(folder, 'moved')).read(), os.listdir(os.path.join(folder, 'folder'))\n"
        "    shutil.rmtree(os.path.join(folder, 'folder'))\n"
    )
    assert instance.attempt(code) == ["written", []]
    named = "result = tempfile.NamedTemporaryFile().name.startswith(os.environ['TMPDIR'])"
    assert instance.attempt(named) is True


def test_a_database_in_home_can_be_used(instance: Instance) -> None:
    code = (
        "base = sqlite3.connect(os.path.join(os.environ['HOME'], 'agent.db'))\n"
        "base.execute('pragma journal_mode=wal'); base.execute('create table t (n)')\n"
        "base.execute('insert into t values (7)'); base.commit()\n"
        "result = base.execute('select n from t').fetchone(); base.close()\n"
    )
    assert instance.attempt(code) == [7]


def test_the_release_can_be_read_and_the_environment_imported(instance: Instance) -> None:
    assert instance.attempt("result = sorted(os.listdir())") == ["agent.py", "requirements.txt"]
    assert instance.attempt("result = open('requirements.txt').read()") == "greeting==1.0\n"
    assert instance.attempt("import greeting; result = greeting.version") == "1.0"


def test_programs_of_the_environment_and_of_the_system_can_be_run(instance: Instance) -> None:
    code = "result = subprocess.check_output(['python', '-c', 'import greeting; print(greeting.version)'], text=True)"
    assert instance.attempt(code) == "1.0\n"
    shell = "echo out > /dev/stdout; echo lost > /dev/null; wc -l < requirements.txt"
    assert instance.attempt(f"result = subprocess.check_output({shell!r}, shell=True, text=True)") == "out\n1\n"
    parallel = "import multiprocessing; lock = multiprocessing.get_context('spawn').Lock(); result = lock.acquire()"
    assert instance.attempt(parallel) is True


def test_its_own_processes_can_be_signalled(instance: Instance) -> None:
    code = "child = subprocess.Popen(['sleep', '600']); child.terminate(); result = child.wait()"
    assert instance.attempt(code) == -15


def test_names_are_resolved_and_sockets_of_other_processes_reached(instance: Instance) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        code = f"result = socket.create_connection(('localhost', {port}), 10).getpeername()[1]"
        assert instance.attempt(code) == port


def test_what_lies_beside_the_hidden_folder_is_as_it_was(instance: Instance) -> None:
    beside = instance.state.parent / "cache"
    assert instance.writes(beside / "new") == "done"
    assert instance.reads(beside / "new") == "done"


def test_a_confined_agent_is_stopped_like_any_other(instance: Instance) -> None:
    replica = replica_of_index(instance, 2)
    instance.machine.runtime.start(replica)
    ready = await_state(instance.machine.runtime, replica.id, ReplicaState.READY)
    instance.machine.runtime.stop(replica.id, 10.0)
    assert await_gone(instance.machine.runtime, replica.id) < 5.0
    assert ready.pid is not None
    assert not process_alive(ready.pid)


# --- where there is no Landlock ---


def test_without_landlock_the_agent_runs_and_its_log_and_the_servers_say_so(
    machine: Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    old = tmp_path / "old"  # the shim on a kernel that does not know the system calls
    old.mkdir()
    shutil.copy(process.SHIM, old)
    source = Path(landlock.__file__).read_text(encoding="utf-8")
    (old / "landlock.py").write_text(source.replace("444, 445, 446", "9444, 9445, 9446"), encoding="utf-8")
    monkeypatch.setattr(process, "SHIM", old / "shim.py")
    monkeypatch.setattr(landlock, "CREATE_RULESET", 9444)
    with caplog.at_level(logging.WARNING):
        machine.new_server(hidden=tmp_path)
        _, first = machine.run()
        machine.run(index=1)
    (warning,) = caplog.messages
    assert warning.startswith("agents run unconfined")
    said = machine.runtime.log_files("support", "dev")[0].read_text(encoding="utf-8")
    assert said.startswith("[turnout] it runs unconfined")
    assert "no Landlock" in said
    (tmp_path / "admin.token").write_text("the first token", encoding="utf-8")
    assert run_in(first, f"result = open({str(tmp_path / 'admin.token')!r}).read()") == "the first token"


@confined
def test_a_server_with_nothing_to_hide_confines_nobody(machine: Machine, tmp_path: Path) -> None:
    (tmp_path / "admin.token").write_text("the first token", encoding="utf-8")
    _, ready = machine.run()
    assert run_in(ready, f"result = open({str(tmp_path / 'admin.token')!r}).read()") == "the first token"


# --- the rules ---


def test_the_rules_allow_what_is_beside_the_way_down_and_what_is_named() -> None:
    folders = {"/": ["home", "usr", "tmp"], "/home": ["ann", "bob"], "/home/ann": ["state", "notes"]}
    rules = build_rules(
        [Path("/home/ann/state")],
        [Path("/home/ann/state/release")],
        [Path("/home/ann/state/home")],
        lambda folder: folders[str(folder)],
    )
    assert {str(path): rights for path, rights in rules} == {
        "/usr": EVERYTHING,
        "/tmp": EVERYTHING,
        "/home/bob": EVERYTHING,
        "/home/ann/notes": EVERYTHING,
        "/home/ann/state/release": READ,
        "/home/ann/state/home": EVERYTHING,
    }


def test_several_folders_are_hidden_at_once_and_one_within_another_stays_so() -> None:
    folders = {"/": ["home", "tmp"], "/home": ["ann", "bob"], "/home/ann": ["state", "notes"], "/tmp": ["a", "b"]}
    hidden = [Path(path) for path in ("/home/ann/state", "/home/ann/state/runtime", "/tmp/a", "/tmp/gone")]
    rules = build_rules(hidden, [], [], lambda folder: folders[str(folder)])
    assert {str(path) for path, _ in rules} == {"/home/bob", "/home/ann/notes", "/tmp/b"}


@pytest.mark.parametrize(
    ("version", "count"), [(0, 0), (1, 13), (2, 14), (3, 15), (4, 15), (5, 16), (8, 16), (9, 17), (12, 17)]
)
def test_only_rights_that_the_kernel_knows_are_asked_for(version: int, count: int) -> None:
    assert handled_rights(version).bit_count() == count


def test_an_interpreter_inside_the_hidden_folder_is_within_reach() -> None:
    hidden, folder = Path("/state"), Path("/state/replicas/one")
    paths = (folder, Path("/state/release"), Path("/state/env"))
    inside = build_confinement([hidden], *paths, Path("/state/python"))
    outside = build_confinement([hidden], *paths, Path("/usr"))
    assert inside["readable"] == ["/state/release", "/state/env", "/state/python"]
    assert outside["readable"] == ["/state/release", "/state/env"]


@confined
def test_a_link_beside_the_hidden_folder_does_not_lead_into_it(tmp_path: Path) -> None:
    (tmp_path / "state").mkdir()
    (tmp_path / "state" / "secret").write_text("secret", encoding="utf-8")
    (tmp_path / "open").symlink_to(tmp_path / "state")
    code = (
        "import sys, pathlib; from turnout.runtimes.landlock import confine\n"
        "confine([pathlib.Path(sys.argv[1], 'state')], [], [])\n"
        "try: open(sys.argv[1] + '/open/secret')\n"
        "except OSError as error: sys.exit(error.errno)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], timeout=20, check=False)
    assert done.returncode == errno.EACCES


def replica_of_index(instance: Instance, index: int) -> ReplicaSpec:
    release = instance.machine.releases.add({"requirements.txt": "greeting==1.0\n"}, lock="requirements.txt")
    return replica_of(release, index=index)
