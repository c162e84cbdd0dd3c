"""Settings of a server. Only `server.py` reads them."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

API_PORT = 7070
TRAFFIC_PORT = 8080
GATEWAY_PORT = 7071
TOOL_PORT = 7072
KEEP_TASKS = 30 * 86_400.0  # seconds
RECORD_SETTLE = 60.0  # seconds between the end of a task and its recording

# Files of the state folder that the command line looks at.
INSTANCE_FILE = "instance.json"
TOKEN_FILE = "admin.token"  # noqa: S105
LOCK_FILE = "server.lock"
ALERTS_FILE = "alerts.toml"
GATEWAY_FILE = "gateway.toml"


@dataclass(frozen=True, slots=True)
class Settings:
    """Where an instance keeps its state and where it listens."""

    state: Path
    host: str = "127.0.0.1"
    port: int = API_PORT
    traffic_host: str = "127.0.0.1"
    traffic_port: int = TRAFFIC_PORT
    build_slots: int = 2
    keep_tasks: float = KEEP_TASKS
    record_settle: float = RECORD_SETTLE
    alerts: Path | None = None  # None: alerts.toml in the state folder, if it is there
    registry: str | None = None  # URL of an OCI registry that keeps the releases; None: the state folder does
    gateway: Path | None = None  # None: gateway.toml in the state folder; if it is not there, there is no gateway
    gateway_host: str = "127.0.0.1"
    gateway_port: int = GATEWAY_PORT  # for models
    tool_port: int = TOOL_PORT  # for tools
    gateway_processes: int = 1  # that share the port for models

    @property
    def api_url(self) -> str:
        """Where the API answers on this machine."""
        return f"http://{_reachable(self.host)}:{self.port}"

    @property
    def traffic_url(self) -> str:
        """Where callers reach the agents on this machine."""
        return f"http://{_reachable(self.traffic_host)}:{self.traffic_port}"

    @property
    def gateway_file(self) -> Path:
        """Where the gateway's configuration is, if there is one."""
        return self.gateway or self.state / GATEWAY_FILE

    @property
    def gateway_url(self) -> str:
        """Where agents reach models on this machine."""
        return f"http://{_reachable(self.gateway_host)}:{self.gateway_port}"

    @property
    def tool_url(self) -> str:
        """Where agents reach tools on this machine."""
        return f"http://{_reachable(self.gateway_host)}:{self.tool_port}"


def default_state() -> Path:
    """TURNOUT_STATE, else the user's state folder."""
    if given := os.environ.get("TURNOUT_STATE"):
        return Path(given)
    base = os.environ.get("XDG_STATE_HOME")
    return (Path(base) if base else Path.home() / ".local" / "state") / "turnout"


def _reachable(host: str) -> str:
    return "127.0.0.1" if host in ("0.0.0.0", "::", "") else host  # noqa: S104  (a comparison)
