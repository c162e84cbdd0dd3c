"""The server's side of the gateway: its processes, the grants that they follow, and what agents are given to reach it."""

from __future__ import annotations

import hashlib
import hmac
import importlib.metadata
import logging
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cache, partial

from pydantic import ValidationError

from turnout.controller.grants import GrantBook
from turnout.db.ledger import SqlLedger, open_ledger
from turnout.domain.errors import DamagedContent, ManifestError
from turnout.domain.grants import ModelPin, Pins, ToolPin
from turnout.domain.models import Release, ReplicaSpec
from turnout.gateway.config import check_secrets, find_ledger, load_gateway_config, references, resolve_secret
from turnout.gateway.grants import read_grants, write_grants
from turnout.gateway.heartbeat import HeartbeatWatch
from turnout.gateway.keys import keep_secret, key_digest, mint_key
from turnout.gateway.launch import FOLDER, GRANTS_FILE, GatewayLaunch, Kind, ledger_url
from turnout.gateway.supervise import GatewayProcesses
from turnout.gateway.values import GatewayConfig
from turnout.manifest.schema import Model
from turnout.manifest.tool_manifest import read_tool_pins
from turnout.ports import Account, ArtifactStore, Store
from turnout.schemas import GatewayProcessView
from turnout.settings import Settings

log = logging.getLogger(__name__)

Secrets = Callable[[ReplicaSpec], Mapping[str, str]]


@dataclass(frozen=True, slots=True)
class GatewayControl:
    """What the rest of the server uses. `book`, `secrets` and `watch` are None where the instance has no gateway.

    `accounts`: what calls have spent. It may raise `LedgerUnavailable`.
    """

    processes: GatewayProcesses
    book: GrantBook | None = None
    secrets: Secrets | None = None
    accounts: Callable[[], tuple[Account, ...]] = tuple
    watch: HeartbeatWatch | None = None


def check_gateway(settings: Settings, environ: Mapping[str, str]) -> GatewayProcesses:
    """Check the configuration, the secrets that it names, and the ports. Starts and changes nothing.

    Raises `SetupFailed`. Without a configuration there are no processes.
    """
    if settings.gateway is None and not settings.gateway_file.exists():
        return GatewayProcesses(settings.state, ())
    config = load_gateway_config(settings.gateway_file, needed=True)
    check_secrets(config, environ)
    identity = _identity(config, environ, keep_secret(settings.state / FOLDER))
    launch = partial(_launch, settings, identity)
    models = [launch("model", index, settings.gateway_port) for index in range(settings.gateway_processes)]
    processes = GatewayProcesses(settings.state, [*models, launch("tool", 0, settings.tool_port)])
    processes.check()
    return processes


def build_gateway(
    settings: Settings, processes: GatewayProcesses, store: Store, artifacts: ArtifactStore
) -> GatewayControl:
    """The server's side of a gateway that was checked."""
    if not processes.states():
        return GatewayControl(processes)
    folder, version = settings.state / FOLDER, importlib.metadata.version("turnout")
    secret = keep_secret(folder)
    known, writer = read_grants(folder / GRANTS_FILE)
    book = GrantBook(
        known,
        partial(read_pins, artifacts),
        lambda agent, ring, digest: key_digest(mint_key(secret, agent, ring, digest)),
        partial(write_grants, folder / GRANTS_FILE, version),
        outdated=writer != version,
    )

    def secrets(replica: ReplicaSpec) -> Mapping[str, str]:
        with store.snapshot() as snapshot:
            release = snapshot.release(replica.digest)
        if release is None:
            return {}
        key = mint_key(secret, replica.agent, replica.ring, replica.digest)
        return agent_environment(settings.gateway_url, settings.tool_url, replica, release, key)

    @cache
    def ledger() -> SqlLedger:
        """Opened when it is first asked for: the server starts without it, too."""
        config = load_gateway_config(settings.gateway_file)
        return open_ledger(find_ledger(config, os.environ, ledger_url(settings.state)))

    watch = HeartbeatWatch(folder, lambda: [state.pid for state in processes.states() if state.pid is not None])
    return GatewayControl(processes, book, secrets, lambda: ledger().accounts(), watch)


def view_processes(processes: GatewayProcesses) -> list[GatewayProcessView]:
    """The processes as the API shows them."""
    return [
        {
            "kind": state.kind,
            "index": state.index,
            "address": state.address,
            "running": state.pid is not None,
            "restarts": state.restarts,
        }
        for state in processes.states()
    ]


def agent_environment(
    model_url: str, tool_url: str, replica: ReplicaSpec, release: Release, key: str
) -> dict[str, str]:
    """How a replica reaches the models and tools of its release, with its key; nothing where it has none.

    Where the manifest names another address, its client gets no key of ours: it would send it there.
    """
    env: dict[str, str] = {}
    if "model" in release.components:
        for client, url in (("OPENAI", f"{model_url}/v1"), ("ANTHROPIC", model_url)):
            if f"{client}_BASE_URL" not in replica.env:
                env |= {f"{client}_BASE_URL": url, f"{client}_API_KEY": key}
    if "tools" in release.components:
        env["TURNOUT_MCP_URL"] = f"{tool_url}/mcp"
    if release.components.keys() & {"model", "tools"}:
        env |= {"TURNOUT_GATEWAY_URL": model_url, "TURNOUT_GATEWAY_KEY": key}
    return env


def _launch(settings: Settings, identity: str, kind: Kind, index: int, port: int) -> GatewayLaunch:
    return GatewayLaunch(
        kind=kind,
        index=index,
        state=settings.state,
        host=settings.gateway_host,
        port=port,
        config=settings.gateway_file.absolute(),
        identity=identity,
    )


def _identity(config: GatewayConfig, environ: Mapping[str, str], secret: bytes) -> str:
    """Another version, or another value of a secret in the environment, is another process: it would not see them.

    Keyed, as command lines can be read by everybody: without the secret of the instance it says nothing about others.
    """
    mark = hmac.new(secret, importlib.metadata.version("turnout").encode(), hashlib.sha256)
    for place, reference in sorted(references(config)):
        if reference.startswith("env:"):
            mark.update(f"\0{place}\0{resolve_secret(reference, environ)}".encode())
    return mark.hexdigest()[:16]


def read_pins(artifacts: ArtifactStore, release: Release) -> Pins:
    """What a release's components pin. Raises what the store raises, and `DamagedContent` for what is no pin."""
    pins = Pins()
    if (component := release.components.get("model")) is not None:
        pins = _model_pins(artifacts.read_all(component.digest))
    if (component := release.components.get("tools")) is not None:
        pins = replace(pins, tools=_tool_pins(release, artifacts.read_all(component.digest)))
    return pins


def _model_pins(content: bytes) -> Pins:
    try:
        model = Model.model_validate_json(content)
    except ValidationError as error:
        raise DamagedContent(f"a model component cannot be read ({error.error_count()} faults)") from None
    return Pins(
        models=(
            ModelPin(model.provider, model.name),
            *(ModelPin(other.provider, other.name) for other in model.others),
        ),
        fallbacks=tuple(ModelPin(other.provider, other.name) for other in model.fallbacks),
        restart_streams=model.restart_streams,
    )


def _tool_pins(release: Release, content: bytes) -> tuple[ToolPin, ...]:
    """No tools for a manifest that was written before there was a gateway, in a form of its own."""
    try:
        return read_tool_pins(content)
    except ManifestError as error:
        log.warning("%s %s can call no tools: %s", release.agent, release.version, "; ".join(error.problems))
        return ()
