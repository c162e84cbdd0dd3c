"""The router that callers meet: Envoy, told what to route by two files that are replaced atomically.

Envoy outlives the server and keeps what the files say. In the folder:

    bootstrap-*.json   what Envoy was started with; the name is the hash of all that a running Envoy cannot change
    clusters.json      the backends        routes.json   which ring goes where
    access.log         one JSON line a request (see `access_log.py`)      envoy.log   Envoy's own warnings
    begun-*            notes of what was begun, for the case that Envoy is killed (see `begun.py`)
    admin-*.sock       Envoy's admin interface, 0600 (where the path is too long, the file `admin-folder` says where it is)
"""

from __future__ import annotations

import threading
import time
from contextlib import suppress
from pathlib import Path

from turnout.domain.errors import RouterUnavailable
from turnout.domain.models import Digest, Routes
from turnout.processes import KnownProcess, check_port
from turnout.supervision import Supervision
from turnout.traffic.admin import EnvoyAdmin
from turnout.traffic.files import ConfigFiles
from turnout.traffic.launch import ACCESS_LOG, admin_of, listening_address, prepare_launch, remove_leftovers
from turnout.traffic.process import Launch, find, last_words, retire
from turnout.traffic.snapshot import Snapshot, build_snapshot, cluster_name, merge_clusters

ACK_TIMEOUT = 5.0
FIRST_LOOK = (
    0.003  # seconds; Envoy's main thread reads the files and answers questions: one asked too soon delays the flip
)
RETIRE_GRACE = 300.0  # seconds that requests have on an Envoy that was replaced


class EnvoyRouter:
    """A `Router`. Call `start()` first; then either `close()` (Envoy serves on) or `shutdown()` (it ends).

    Who wants none to run calls `end_running()` alone.
    """

    def __init__(self, folder: Path, traffic_host: str, traffic_port: int, *, concurrency: int = 2) -> None:
        self._folder = folder.resolve()
        self._host = listening_address(traffic_host)
        self._port = traffic_port
        self._concurrency = concurrency
        self._lock = threading.Lock()
        self._files = ConfigFiles(self._folder)
        self._taken = False  # whether Envoy is known to have what the files say
        self._refused: tuple[KnownProcess | None, int] = (None, 0)
        self._retiring: list[tuple[KnownProcess, EnvoyAdmin | None]] = []
        self._admin: EnvoyAdmin | None = None
        self._supervision: Supervision | None = None

    @property
    def access_log_path(self) -> Path:
        """The file that `EnvoyAccessLog` reads."""
        return self._folder / ACCESS_LOG

    @property
    def log_path(self) -> Path:
        """Envoy's own log."""
        return self._folder / "envoy.log"

    @property
    def addresses(self) -> tuple[str, ...]:
        """Where callers reach the proxy, as host:port."""
        return (f"[{self._host}]:{self._port}" if ":" in self._host else f"{self._host}:{self._port}",)

    @property
    def alive(self) -> bool:
        """Whether Envoy runs now."""
        return self._supervision is not None and self._supervision.alive

    @property
    def pid(self) -> int | None:
        """The process id of Envoy, None when it does not run."""
        process = self._supervision.process if self._supervision else None
        return process.pid if process is not None and process.alive else None

    def start(self) -> None:
        """Adopt the Envoy that serves this folder or start one; returns once it serves what the files say.

        One that was started with another bootstrap is replaced: both serve until the requests on the old one are done.
        Raises `SetupFailed` when the port is taken or Envoy does not start.
        """
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._files.load()
        launch = prepare_launch(self._folder, self._host, self._port, self._concurrency)
        running = find(self._folder)
        adopted = next((process for process, config in running.items() if config == launch.config), None)
        if adopted is not None and not _answers(adopted, launch):
            retire(adopted, None, 0)
            adopted = None
        if adopted is None:
            check_port(self._host, self._port, frozenset(process.pid for process in running), "--traffic-port")
        supervision = Supervision(launch)
        supervision.start(adopted)
        self._supervision, self._admin, self._taken = supervision, EnvoyAdmin(launch.admin_path), False
        self._refused = (supervision.process, self._admin.rejections())
        self._retire_others(running, launch)
        remove_leftovers(self._folder, {launch.config, *running.values()})

    def apply(self, routes: Routes) -> None:
        """See `ports.Router`. When the backends stay as they are, one file is written: the flip of a pointer."""
        wanted = build_snapshot(routes)
        with self._lock:
            before = self._files.content
            if self._taken and wanted == before:
                return
            self._taken = False
            try:
                self._converge(before, wanted)
            except _Refused:
                # Only then: an Envoy that is slow to confirm follows the files all the same, and must not be sent back.
                with suppress(RouterUnavailable):
                    self._files.write(before)
                raise
            self._taken = True

    def active_requests(self, agent: str, ring: str, digest: Digest) -> int:
        """See `ports.Router`. Raises `RouterUnavailable` when Envoy does not answer."""
        return self._started().active_upstream(cluster_name(agent, ring, digest))

    def reopen_logs(self) -> None:
        """Let Envoy go on in a new access log after the old one was renamed. Raises `RouterUnavailable`."""
        self._started().reopen_logs()
        for process, admin in self._retiring:
            if admin is not None and process.alive:
                admin.reopen_logs()

    def close(self) -> None:
        """Let go of Envoy, which serves on with the last routes. Idempotent."""
        if self._supervision is not None:
            self._supervision.close()

    def shutdown(self, grace: float = 5.0) -> None:
        """End Envoy: no new connections, `grace` seconds for what is under way. Idempotent."""
        if self._supervision is not None:
            self._supervision.stop(grace)
        for process, _ in self._retiring:
            retire(process, None, 0)

    def end_running(self, grace: float = 5.0) -> int:
        """End every Envoy that serves this folder, without `start()`; starts none. Returns how many ran."""
        running = find(self._folder)
        for process, config in running.items():
            retire(process, admin_of(config), grace)
        return len(running)

    # --- apply ---

    def _converge(self, before: Snapshot, wanted: Snapshot) -> None:
        """Make before break: until the new routes are taken, the backends of old and new routes are all known."""
        if before.routes == wanted.routes:
            self._publish(wanted)
            return
        if before.clusters != wanted.clusters:
            self._publish(Snapshot(merge_clusters(before.clusters, wanted.clusters), before.routes))
        self._publish(Snapshot(self._files.content.clusters, wanted.routes))
        if self._files.content.clusters != wanted.clusters:
            self._publish(wanted)

    def _publish(self, snapshot: Snapshot) -> None:
        self._files.write(snapshot)
        self._await_taken()

    def _await_taken(self) -> None:
        """Poll until Envoy reports the files' versions; once it takes longer, look whether it refused them."""
        admin = self._started()
        began = time.monotonic()
        time.sleep(FIRST_LOOK)
        look_at, trouble = began + 0.02, "it has not taken the configuration yet"
        while time.monotonic() - began < ACK_TIMEOUT:
            try:
                if self._files.versions.items() <= admin.versions().items():
                    return
                if time.monotonic() > look_at:
                    look_at = time.monotonic() + 0.05
                    self._check_refused(admin)
            except _Refused:
                raise
            except RouterUnavailable as error:  # it ended, and is about to be started again
                trouble = error.message
            time.sleep(0.001)
        raise RouterUnavailable(
            f"Envoy has not followed in {ACK_TIMEOUT:g} s: {trouble}", hint=f"its log is {self.log_path}"
        )

    def _check_refused(self, admin: EnvoyAdmin) -> None:
        count = admin.rejections()
        process = self._supervision.process if self._supervision else None
        known = self._refused[1] if self._refused[0] == process else 0
        self._refused = (process, count)
        if count > known:
            raise _Refused(
                f"Envoy refused the configuration: {last_words(self.log_path)}", hint=f"its log is {self.log_path}"
            )

    def _started(self) -> EnvoyAdmin:
        if self._admin is None:
            raise RouterUnavailable("Envoy has not been started")
        return self._admin

    def _retire_others(self, running: dict[KnownProcess, Path], launch: Launch) -> None:
        """Those that were started otherwise finish in the background; the next start finds them if the server ends."""
        current = self._supervision.process if self._supervision else None
        for process, config in running.items():
            if process == current:
                continue
            admin = admin_of(config) if config != launch.config else None
            self._retiring.append((process, admin))
            threading.Thread(target=retire, args=(process, admin, RETIRE_GRACE), daemon=True).start()


class _Refused(RouterUnavailable):
    """Waiting longer does not help."""


def _answers(process: KnownProcess, launch: Launch) -> bool:
    """Whether an Envoy that runs also serves, or does so within two seconds."""
    admin = EnvoyAdmin(launch.admin_path)
    deadline = time.monotonic() + 2
    while not admin.ready():
        if not process.alive or time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True
