"""Runs replicas as processes of this machine. They outlive the server, and a new server finds them again.

    releases/HEX/   the release, unpacked            replicas/ID/            a replica, see `folder.py`
    prepared/HEX    its environment's folder         stopped/AGENT/RING/…    logs of replicas that were stopped

Each replica has a small process between itself and the server (`shim.py`). What the server knows of a replica is in the
replica's folder; the memory here is a copy that threads keep current: one waits for ends, some ask for health.
"""

from __future__ import annotations

import errno
import logging
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from turnout.domain.errors import RuntimeUnavailable, StorageFull
from turnout.domain.models import Digest, Release, ReplicaSpec, ReplicaState, ReplicaStatus
from turnout.ports import Prober
from turnout.runtimes.environment import Environments
from turnout.runtimes.exits import ExitWatch
from turnout.runtimes.folder import HOST, ReplicaFolder, build_confinement, build_launch, find_interpreter
from turnout.runtimes.health import HealthWatch, next_health
from turnout.runtimes.landlock import find_version
from turnout.runtimes.loopback import choose_port
from turnout.runtimes.replica import BOOT_TIME, KnownReplica, adopt, status_of, take_exit, terminate
from turnout.runtimes.shim import process_identity

SHIM = Path(__file__).with_name("shim.py")
KEPT_STOPPED = 20  # folders of stopped replicas for each ring

logger = logging.getLogger(__name__)


class ProcessRuntime:
    """Implements `ports.Runtime`. `on_change` is called from threads of its own with (agent, ring).

    `unpack` writes a release into a folder: idempotent, and the folder appears at once and complete. Several threads may
    call; one server at a time may use a state folder. `close()` ends the threads and leaves the replicas running.
    `secrets` gives what a replica is to have in its environment beside what its release declares, such as keys; it is kept
    in the replica's folder alone. `hidden` is the folder that agents are kept out of, but for what is theirs (see
    `landlock.py`); None: no confinement.
    """

    def __init__(
        self,
        state: Path,
        unpack: Callable[[Digest, Path], None],
        prober: Prober,
        environments: Environments,
        on_change: Callable[[str, str], None] | None = None,
        *,
        secrets: Callable[[ReplicaSpec], Mapping[str, str]] | None = None,
        hidden: Path | None = None,
        log_bytes: int = 10 << 20,
        log_files: int = 3,
    ) -> None:
        self._state = state.absolute()
        self._unpack = unpack
        self._environments = environments
        self._on_change = on_change
        self._secrets = secrets
        self._hidden = hidden.resolve() if hidden is not None else None
        self._log_bytes = log_bytes
        self._log_files = log_files
        self._replicas: dict[str, KnownReplica] = {}
        self._changed = threading.Condition(threading.RLock())
        for name in ("releases", "prepared", "replicas", "stopped"):
            (self._state / name).mkdir(parents=True, exist_ok=True, mode=0o700)
        if hidden is not None and find_version() == 0:
            logger.warning("agents run unconfined: they can reach all of %s, as this kernel has no Landlock", hidden)
        self._exits = ExitWatch()
        self._health = HealthWatch(prober)
        self._adopt_all()

    # --- the port ---

    def prepare(self, release: Release) -> None:
        """See `ports.Runtime`."""
        with _translated("the release could not be prepared"):
            folder = self._state / "releases" / _hex(release.digest)
            self._unpack(release.digest, folder)
            environment = self._environments.build(folder, release.spec.lock, release.spec.python)
            mark = self._state / "prepared" / _hex(release.digest)
            temporary = mark.with_name(f"{mark.name}.{threading.get_ident()}.new")
            temporary.write_text(str(environment), encoding="utf-8")
            temporary.replace(mark)

    def start(self, replica: ReplicaSpec) -> None:
        """See `ports.Runtime`."""
        with self._changed:
            known = self._replicas.get(replica.id)
            if known is not None and not _may_follow(known, replica.attempt):
                return
            release, environment = self._prepared(replica.digest)
            folder = ReplicaFolder(self._state / "replicas" / replica.id)
            with _translated(f"{replica.id} could not be started"):
                lock = folder.acquire()
                if lock is None:
                    raise RuntimeUnavailable(f"{replica.id} still runs in an earlier attempt")
                try:
                    started = self._launch(replica, folder, release, environment, lock)
                finally:
                    os.close(lock)
            self._replicas[replica.id] = started
            self._follow(started)

    def stop(self, replica_id: str, grace: float) -> None:
        """See `ports.Runtime`. A second call can shorten the grace, never lengthen it."""
        with self._changed:
            replica = self._replicas.get(replica_id)
            if replica is None:
                return
            if replica.exit is not None:
                self._archive(replica)
                return
            if replica.grace is not None and replica.grace <= grace:
                return
            self._health.forget(replica)
            replica.grace = grace
            try:
                replica.folder.write_grace(grace)
            except OSError:  # a full disk keeps nothing from being stopped: the shim has a grace of its own
                logger.exception("the grace of %s could not be written", replica_id)
            # The shim writes its record before it looks for `grace`: without a record there is nobody to signal yet.
            if replica.folder.read_shim(replica.spec.attempt) is not None:
                terminate(replica.pid, replica.identity)

    def observe(self) -> tuple[ReplicaStatus, ...]:
        """See `ports.Runtime`."""
        with self._changed:
            return tuple(status_of(replica) for _, replica in sorted(self._replicas.items()))

    def log_files(self, agent: str, ring: str) -> tuple[Path, ...]:
        """See `ports.Runtime`. Logs of replicas that were stopped come first."""
        with self._changed:
            running = [r for r in self._replicas.values() if (r.spec.agent, r.spec.ring) == (agent, ring)]
            stopped = sorted((self._state / "stopped" / agent / ring).glob("*"))
            folders = [ReplicaFolder(path) for path in stopped]
            folders += [r.folder for r in sorted(running, key=lambda r: (r.started_at, r.spec.id))]
            return tuple(path for folder in folders for path in folder.logs())

    # --- the server's ---

    def stop_all(self, grace: float) -> None:
        """Stop every replica and wait until all have ended. Raises `RuntimeUnavailable` when some have not in time."""
        deadline = time.monotonic() + grace + BOOT_TIME + 2.0
        with self._changed:
            for replica_id in tuple(self._replicas):
                self.stop(replica_id, grace)
            if not self._changed.wait_for(lambda: not self._replicas, deadline - time.monotonic()):
                raise RuntimeUnavailable(f"these replicas have not ended: {', '.join(sorted(self._replicas))}")

    def close(self) -> None:
        """End the background threads; the replicas go on running."""
        self._health.close()
        self._exits.close()

    # --- starting ---

    def _prepared(self, digest: Digest) -> tuple[Path, Path]:
        """The unpacked release and its environment. Raises `RuntimeUnavailable` when it was not prepared."""
        release = self._state / "releases" / _hex(digest)
        mark = self._state / "prepared" / _hex(digest)
        environment = Path(mark.read_text(encoding="utf-8")) if mark.exists() else None
        if environment is None or not release.is_dir() or not self._environments.complete(environment):
            raise RuntimeUnavailable(f"the release {digest} is not prepared on this machine")
        return release, environment

    def _launch(
        self, replica: ReplicaSpec, folder: ReplicaFolder, release: Path, environment: Path, lock: int
    ) -> KnownReplica:
        """Write down what is wanted, then launch the shim, which inherits the lock; it lives in its own session."""
        taken = {other.port for other in self._replicas.values() if other.exit is None}
        port = choose_port(f"{self._state}.{replica.id}.{replica.attempt}", taken)
        confinement = None
        if self._hidden is not None:
            python = find_interpreter(environment)
            confinement = build_confinement([self._hidden], folder.path, release, environment, python)
        launch = build_launch(
            replica,
            self._secrets(replica) if self._secrets is not None else {},
            port=port,
            folder=folder.path,
            release=release,
            environment=environment,
            log_bytes=self._log_bytes,
            log_files=self._log_files,
            confinement=confinement,
        )
        folder.write_spec(replica, port, launch)
        shim = subprocess.Popen(
            [sys.executable, "-I", "-S", "-E", "-X", "utf8", str(SHIM), str(folder.path), str(lock)],
            env={},
            cwd="/",
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            pass_fds=(lock,),
            start_new_session=True,
        )
        shim.returncode = 0  # it is waited for like those of earlier servers, not by this object
        return KnownReplica(replica, port, folder, shim.pid, process_identity(shim.pid), time.time())

    def _follow(self, replica: KnownReplica) -> None:
        """Learn of the replica's end and of its health from now on."""
        self._exits.watch(replica.pid, replica.identity, lambda: self._ended(replica))
        if replica.grace is None:
            address = f"{HOST}:{replica.port}"
            self._health.watch(replica, address, replica.spec.health, lambda error: self._answered(replica, error))

    # --- what happens by itself ---

    def _answered(self, replica: KnownReplica, error: str | None) -> ReplicaState:
        """Take in the answer of one probe."""
        with self._changed:
            before = replica.health
            if replica.exit is not None or replica.grace is not None:
                return before.state
            replica.health = next_health(before, error, replica.spec.health.unhealthy_after)
            if replica.health.state is before.state:
                return before.state
            with suppress(OSError):  # worth a moment of STARTING after a restart of the server, no more
                replica.folder.write_health(replica.spec.attempt, replica.health.state, replica.health.message)
            self._changed.notify_all()
        self._tell(replica)
        return replica.health.state

    def _ended(self, replica: KnownReplica) -> None:
        """The shim has ended: take in how, and end whatever it could not end itself."""
        with self._changed:
            if replica.exit is not None:
                return
            self._health.forget(replica)
            with suppress(ChildProcessError):  # it may be the child of an earlier server
                os.waitpid(replica.pid, os.WNOHANG)
            replica.exit = take_exit(replica)
            if replica.grace is not None:
                self._archive(replica)
            self._changed.notify_all()
        self._tell(replica)

    def _tell(self, replica: KnownReplica) -> None:
        if self._on_change is None:
            return
        try:
            self._on_change(replica.spec.agent, replica.spec.ring)
        except Exception:
            logger.exception("nobody took notice of the change of %s", replica.spec.id)

    def _archive(self, replica: KnownReplica) -> None:
        """Take a stopped replica out of sight, keep its logs, and forget the logs of the oldest."""
        del self._replicas[replica.spec.id]
        ring = self._state / "stopped" / replica.spec.agent / replica.spec.ring
        try:
            replica.folder.archive(ring / f"{time.time_ns():020d}.{replica.spec.id}")
            for path in sorted(ring.iterdir())[:-KEPT_STOPPED]:
                shutil.rmtree(path, ignore_errors=True)
        except OSError:
            logger.exception("the folder of the stopped replica %s could not be put away", replica.spec.id)

    # --- after a restart of the server ---

    def _adopt_all(self) -> None:
        for path in sorted((self._state / "replicas").iterdir()):
            replica = adopt(ReplicaFolder(path))
            if replica is None:
                continue
            self._replicas[replica.spec.id] = replica
            if replica.exit is None:
                self._follow(replica)
            elif replica.grace is not None:
                self._archive(replica)


def _may_follow(known: KnownReplica, attempt: int) -> bool:
    """Whether an attempt may be started now; False when it was already. Raises `RuntimeUnavailable` when it may not."""
    spec = known.spec
    if known.grace is not None and known.exit is None:
        raise RuntimeUnavailable(f"{spec.id} is being stopped", hint="It can be started again once it has ended.")
    if spec.attempt == attempt:
        return False
    if spec.attempt > attempt:
        raise RuntimeUnavailable(f"{spec.id} was already started in attempt {spec.attempt}, later than {attempt}")
    if known.exit is None:
        raise RuntimeUnavailable(f"{spec.id} still runs in attempt {spec.attempt}", hint="Stop it first.")
    return True


@contextmanager
def _translated(what: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise StorageFull(f"{what}: the disk is full") from error
        raise RuntimeUnavailable(f"{what}: {error}") from error


def _hex(digest: Digest) -> str:
    return digest.removeprefix("sha256:")
