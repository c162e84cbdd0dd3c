"""The composition root: the only place where adapters are built and settings are read."""

from __future__ import annotations

import fcntl
import json
import logging
import os
import secrets
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO

import uvicorn

from turnout.alerts.build import Alerts, build_alerts
from turnout.alerts.settings import load_alert_settings
from turnout.api.app import create_app
from turnout.artifacts.attest.notary import StoreNotary
from turnout.artifacts.attest.own import OwnKey, keep_instance_key
from turnout.artifacts.diff import diff_releases
from turnout.artifacts.intake import Intake
from turnout.artifacts.open import open_store
from turnout.artifacts.release import read_release, unpack_release
from turnout.artifacts.texts import read_texts
from turnout.artifacts.wheels import unpack_wheels
from turnout.clock import SystemClock
from turnout.controller.calls import CallIngest
from turnout.controller.ingest import Ingest
from turnout.controller.loop import Controller
from turnout.controller.reconcile import Parts
from turnout.controller.recording import Recorder
from turnout.db.engine import migrate, open_engine
from turnout.db.store import SqlStore
from turnout.domain.errors import SetupFailed
from turnout.domain.events import Event, EventType
from turnout.domain.models import Deployment, Digest, Release, ReplaySettings
from turnout.domain.policy import Role
from turnout.durable import PRIVATE, replace_file
from turnout.gateway.heartbeat import HeartbeatWatch
from turnout.gateway.journal_files import JournalFiles
from turnout.gateway.launch import FOLDER as GATEWAY_FOLDER
from turnout.gateway.launch import JOURNAL_FOLDER
from turnout.gateway.supervise import GatewayProcesses, stop_running
from turnout.gateway_control import Secrets, build_gateway, check_gateway, view_processes
from turnout.ports import ArtifactStore, KeyRecord
from turnout.recordings.files import FOLDER as RECORDINGS_FOLDER
from turnout.recordings.files import RecordingFiles
from turnout.redaction import Redactor
from turnout.replay.launch import FOLDER as REPLAYS_FOLDER
from turnout.replay.launch import ReplayRunner
from turnout.runtimes.environment import Environments, wheels_folder
from turnout.runtimes.probe import HttpProber
from turnout.runtimes.process import ProcessRuntime
from turnout.services.incidents import why
from turnout.services.office import Actor, Office, ReadRelease
from turnout.services.replays import replay_for_gate
from turnout.services.tokens import create_token
from turnout.services.verification import verify_deployment
from turnout.settings import ALERTS_FILE, INSTANCE_FILE, LOCK_FILE, TOKEN_FILE, Settings
from turnout.traffic.access_log import EnvoyAccessLog, parse_access_line
from turnout.traffic.envoy import EnvoyRouter

log = logging.getLogger(__name__)

HOLDER = "embedded"  # one server a state folder (its lock sees to that), so a restart takes its leases up again at once


@dataclass(frozen=True, slots=True)
class Instance:
    """The parts of a running instance."""

    settings: Settings
    office: Office
    controller: Controller
    runtime: ProcessRuntime
    prober: HttpProber
    router: EnvoyRouter
    alerts: Alerts
    gateway: GatewayProcesses
    watch: HeartbeatWatch | None  # of the gateway's processes


def serve(
    settings: Settings, on_ready: Callable[[Settings], None], on_effect: Callable[[str], None] | None = None
) -> None:
    """Run an instance until SIGINT or SIGTERM. Agents and proxy go on after it.

    Raises `SetupFailed`: another server uses the state folder, a port is taken, the database is newer or damaged.
    `on_effect` is called around every side effect of the controller; tests of crashes use it.
    """
    _set_up_logging()
    sys.setswitchinterval(0.0005)  # a flip must not wait 5 ms for a thread that answers a status
    os.umask(0o077)  # what an instance writes is for its user alone
    # uvicorn raises the signal that ended it once more: it must not cut short the clean end below.
    signal.signal(signal.SIGTERM, _end)
    with locked(settings.state), _listening(settings) as listener:
        instance = build_instance(settings, on_effect)
        try:
            _publish_instance(instance)
            instance.controller.start()
            instance.alerts.start()
            if instance.watch is not None:
                instance.watch.start()
            config = uvicorn.Config(
                create_app(instance.office),
                loop="asyncio",
                log_config=None,
                access_log=False,
                timeout_graceful_shutdown=3,
            )
            server = _Server(config, partial(on_ready, settings))
            server.run(sockets=[listener])
        finally:
            instance.alerts.stop()
            instance.controller.stop()
            instance.runtime.close()
            instance.prober.close()
            instance.router.close()
            if instance.watch is not None:
                instance.watch.close()
            instance.gateway.close()


def build_instance(settings: Settings, on_effect: Callable[[str], None] | None = None) -> Instance:
    """Open the state, adopt or start the proxy and the gateway, adopt the agents that run."""
    processes = check_gateway(settings, os.environ)
    engine = open_engine(f"sqlite:///{settings.state / 'turnout.db'}")
    migrate(engine)
    store = SqlStore(engine)
    _check_not_lost(store, settings.state)
    clock = SystemClock()
    own = _own_key(store, settings.state, clock.now())
    artifacts = open_store(settings.state, settings.registry, os.environ)
    router = EnvoyRouter(settings.state / "envoy", settings.traffic_host, settings.traffic_port)
    router.start()
    gateway = build_gateway(settings, processes, store, artifacts)
    processes.start()
    wakes: list[Callable[[str, str], None]] = []  # the runtime is built before the controller that it wakes

    def wake(agent: str, ring: str) -> None:
        for call in wakes:
            call(agent, ring)

    prober = HttpProber()
    runtime = build_runtime(settings.state, artifacts, prober, wake, gateway.secrets)
    offices: list[Office] = []  # built last

    def verify(deployment: Deployment, release: Release, demanded: tuple[str, ...]) -> str | None:
        return verify_deployment(offices[0], deployment, release, demanded)

    runner = ReplayRunner(settings.state, settings.registry, settings.state / REPLAYS_FOLDER, settings.gateway_file)
    runner.sweep()

    def replay(deployment: Deployment, asked: ReplaySettings, say: Callable[[str], None]) -> str | None:
        return replay_for_gate(offices[0], runner.ask, deployment, asked, say)

    notary = StoreNotary(artifacts, own.unlock)
    access_log = EnvoyAccessLog(router.access_log_path, router.reopen_logs)
    ingest = Ingest(store, access_log, parse_access_line, Redactor().redact, clock)
    calls = CallIngest(store, JournalFiles(settings.state / GATEWAY_FOLDER / JOURNAL_FOLDER), clock)
    parts = Parts(
        store,
        runtime,
        router,
        prober,
        clock,
        HOLDER,
        settings.build_slots,
        on_effect or (lambda _: None),
        lambda: min(ingest.read_up_to, calls.read_up_to),
        verify,
        gateway.book,
        replay,
    )
    recorder = Recorder(
        store, RecordingFiles(settings.state / RECORDINGS_FOLDER), clock, settings.record_settle, parts.read_up_to
    )
    controller = Controller(parts, ingest, keep_tasks=settings.keep_tasks, calls=calls, recorder=recorder)
    wakes.append(controller.wake)
    office = Office(
        store=store,
        artifacts=artifacts,
        intake=Intake(artifacts),
        notary=notary,
        runtime=runtime,
        clock=clock,
        wake=controller.wake,
        serves=controller.serves,
        new_id=lambda prefix: f"{prefix}_{secrets.token_hex(10)}",
        read_release=partial(_read_release, artifacts),
        diff=partial(diff_releases, artifacts),
        traffic_url=settings.traffic_url,
        recordings=recorder,
        accounts=gateway.accounts,
        gateway=partial(view_processes, processes),
        read_texts=partial(read_texts, artifacts),
    )
    offices.append(office)
    alerts_file = settings.alerts or settings.state / ALERTS_FILE
    alerts = build_alerts(
        load_alert_settings(alerts_file, os.environ, needed=settings.alerts is not None),
        store,
        clock,
        HOLDER,
        partial(why, office, Actor("turnout", Role.VIEWER)),
    )
    return Instance(settings, office, controller, runtime, prober, router, alerts, processes, gateway.watch)


def _own_key(store: SqlStore, state: Path, now: float) -> OwnKey:
    """The key of the instance, which it trusts: what it attests counts on it. A revoked one is replaced."""
    with store.snapshot() as snapshot:
        revoked = {key.keyid for key in snapshot.trusted_keys() if key.revoked_at is not None}
    own = keep_instance_key(state, now, revoked)
    public = own.public
    record = KeyRecord(
        public.keyid, public.name, public.public, public.created_at, public.expires_at, True, "turnout", now
    )
    with store.transaction() as transaction:
        if transaction.add_key(record):
            data = {"keyid": record.keyid, "name": record.name, "instance": True}
            transaction.emit(Event(EventType.KEY_TRUSTED, now, "turnout", data=data))
    return own


def _check_not_lost(store: SqlStore, state: Path) -> None:
    """An empty database beside running agents is a lost one: going on would stop everything that serves."""
    with store.snapshot() as snapshot:
        known = bool(snapshot.agents())
    replicas = state / "runtime" / "replicas"
    running = sorted(path.name for path in replicas.iterdir()) if replicas.exists() else []
    if running and not known:
        raise SetupFailed(
            f"the database in {state} is empty, yet {len(running)} replicas run here ({', '.join(running[:3])} …)",
            hint="restore turnout.db with turnout.db-wal; or end them with `turnout down` to begin anew",
        )


def build_runtime(
    state: Path,
    artifacts: ArtifactStore,
    prober: HttpProber,
    on_change: Callable[[str, str], None] | None = None,
    secrets: Secrets | None = None,
) -> ProcessRuntime:
    """The runtime of a state folder; it adopts the replicas that run there. `secrets`: see `ProcessRuntime`."""

    def unpack(digest: Digest, folder: Path) -> None:
        unpack_release(artifacts, digest, folder)
        unpack_wheels(artifacts, digest, wheels_folder(folder))

    environments = Environments(state / "runtime" / "envs")
    return ProcessRuntime(state / "runtime", unpack, prober, environments, on_change, secrets=secrets, hidden=state)


def shut_down(state: Path, grace: float, *, server_only: bool = False) -> list[str]:
    """End everything of an instance: server, agents, proxy. Starts nothing. Returns what was ended, for a person."""
    ended = []
    if _end_server(state, grace):
        ended.append("server")
    if server_only:
        return ended
    with locked(state):
        if (state / "runtime").exists():
            runtime = build_runtime(state, open_store(state, None, {}), HttpProber())
            running = len(runtime.observe())
            runtime.stop_all(grace)
            runtime.close()
            if running:
                ended.append(f"{running} agent replica{'' if running == 1 else 's'}")
        if (state / "envoy").exists() and (state / INSTANCE_FILE).exists():
            known = json.loads((state / INSTANCE_FILE).read_text())
            router = EnvoyRouter(state / "envoy", known["traffic_host"], known["traffic_port"])
            if router.end_running():
                ended.append("proxy")
        if stop_running(state, grace):
            ended.append("gateway")
    return ended


@contextmanager
def locked(state: Path) -> Iterator[None]:
    """Hold the state folder. Raises `SetupFailed` when another server does."""
    try:
        state.mkdir(parents=True, exist_ok=True, mode=0o700)
        state.chmod(0o700)
    except OSError as error:
        raise SetupFailed(
            f"the state folder {state} cannot be made: {error.strerror}", hint="name another with --state"
        ) from error
    with (state / LOCK_FILE).open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            raise SetupFailed(
                f"a server (process {file.read().strip() or 'unknown'}) uses the state folder {state}",
                hint="use it as it is, end it alone with `turnout down --server-only`, or give --state another folder",
            ) from None
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield


def _end_server(state: Path, grace: float) -> bool:
    """SIGTERM to the server that holds the state folder, and wait for it. False when none does."""
    try:
        file: IO[str] = (state / LOCK_FILE).open("r+")
    except FileNotFoundError:
        raise SetupFailed(f"there is no instance in {state}", hint="name its folder with --state") from None
    with file:
        deadline = time.monotonic() + grace + 10
        signalled = False
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                file.seek(0)
                pid = file.read().strip()
                if not signalled and pid:
                    os.kill(int(pid), signal.SIGTERM)
                    signalled = True
                if time.monotonic() > deadline:
                    raise SetupFailed("the server does not end", hint="see server.log in the state folder") from None
                time.sleep(0.02)
            else:
                return signalled


@contextmanager
def _listening(settings: Settings) -> Iterator[socket.socket]:
    """Bind before anything else is started: a taken port must change nothing."""
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    # With the protocol named, asyncio sends small answers at once instead of waiting for more to send.
    with socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((settings.host, settings.port))
        except OSError as error:
            raise SetupFailed(
                f"the API cannot listen on {settings.host}:{settings.port}: {error.strerror}",
                hint="another program uses the port: end it, or choose another with --port",
            ) from error
        yield listener


def _publish_instance(instance: Instance) -> None:
    """What the command line needs to find the instance; the token can be read by its owner only."""
    settings = instance.settings
    known = {
        "api": settings.api_url,
        "traffic": settings.traffic_url,
        "host": settings.host,
        "port": settings.port,
        "traffic_host": settings.traffic_host,
        "traffic_port": settings.traffic_port,
        "registry": settings.registry,
        "gateway": str(settings.gateway) if settings.gateway is not None else None,
        "gateway_host": settings.gateway_host,
        "gateway_port": settings.gateway_port,
        "tool_port": settings.tool_port,
        "gateway_processes": settings.gateway_processes,
    }
    replace_file(settings.state / INSTANCE_FILE, json.dumps(known).encode(), PRIVATE)
    path = settings.state / TOKEN_FILE
    with instance.office.store.snapshot() as snapshot:
        names = {token.name for token in snapshot.tokens()}
    if path.exists() and names:
        return
    # Written before it is recorded: a crash between leaves a token that is recorded at the next start.
    secret = path.read_text().strip() if path.exists() else f"tt_{secrets.token_urlsafe(32)}"
    replace_file(path, secret.encode(), PRIVATE)
    name = "admin" if "admin" not in names else f"admin-{secrets.token_hex(3)}"
    create_token(instance.office, Actor("turnout", Role.ADMIN), name, Role.ADMIN, secret)


def _read_release(artifacts: ArtifactStore, digest: Digest) -> ReadRelease:
    read = read_release(artifacts, digest)
    return ReadRelease(read.components, read.spec, artifacts.read_all(read.components["config"].digest))


def _end(_signal: int, _frame: object) -> None:
    raise SystemExit(0)


def _set_up_logging() -> None:
    logging.basicConfig(
        stream=sys.stderr, level=logging.INFO, format="%(asctime)s %(levelname)-7s %(name)s: %(message)s"
    )
    for chatty in ("httpx", "httpcore", "alembic", "uvicorn.error"):
        logging.getLogger(chatty).setLevel(logging.WARNING)


class _Server(uvicorn.Server):
    """Tells when it answers."""

    def __init__(self, config: uvicorn.Config, on_started: Callable[[], None]) -> None:
        super().__init__(config)
        self._on_started = on_started

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start, then tell."""
        await super().startup(sockets)
        log.info("the server is up")
        self._on_started()
