"""Asks a running Envoy over its admin socket. One connection a question, so that a restart of Envoy is not noticed here."""

from __future__ import annotations

import http.client
import re
import socket
from urllib.parse import urlencode

from turnout.domain.errors import RouterUnavailable
from turnout.traffic.bootstrap import STAT_PREFIX
from turnout.traffic.snapshot import ROUTE_CONFIG_NAME

CLUSTERS = "cluster_manager.cds"
ROUTES = f"http.{STAT_PREFIX}.rds.{ROUTE_CONFIG_NAME}"


class EnvoyAdmin:
    """Questions to one Envoy. All raise `RouterUnavailable` when it does not answer."""

    def __init__(self, path: str, timeout: float = 2.0) -> None:
        self._path = path
        self._timeout = timeout

    def ready(self) -> bool:
        """Whether Envoy serves: it runs and has its first clusters and routes."""
        try:
            return self._ask("GET", "/ready").startswith("LIVE")
        except RouterUnavailable:
            return False

    def versions(self) -> dict[str, str]:
        """The versions that Envoy has taken: subscription (`CLUSTERS`, `ROUTES`) → version."""
        stats = self._stats("TextReadouts", r"\.version_text$")
        return {name.removesuffix(".version_text"): value.strip('"') for name, value in stats.items()}

    def rejections(self) -> int:
        """How many files Envoy has refused since it started, because of what they say or because it cannot read them."""
        names = f"{re.escape(CLUSTERS)}|{re.escape(ROUTES)}"
        counters = self._stats("Counters", rf"^({names})\.update_(rejected|failure)$")
        return sum(map(int, counters.values()))

    def active_upstream(self, cluster: str) -> int:
        """Requests, streams and upgraded connections under way on a cluster; 0 for one that Envoy does not know."""
        gauges = self._stats("Gauges", rf"^cluster\.{re.escape(cluster)}\.upstream_rq_active$")
        return sum(map(int, gauges.values()))

    def callers(self) -> tuple[int, int]:
        """Open connections of callers, and requests, streams and upgraded connections under way on them."""
        prefix = f"http.{STAT_PREFIX}.downstream"
        gauges = self._stats("Gauges", rf"^{re.escape(prefix)}_(cx|rq)_active$")
        return int(gauges.get(f"{prefix}_cx_active", 0)), int(gauges.get(f"{prefix}_rq_active", 0))

    def drain(self) -> None:
        """Accept no more connections, and close those that are open after the next response on them."""
        self._ask("POST", "/healthcheck/fail")
        self._ask("POST", "/drain_listeners")

    def reopen_logs(self) -> None:
        """Go on in a new access log if the old one was renamed. Envoy does so with the next line that it writes."""
        self._ask("POST", "/reopen_logs")

    def _stats(self, kind: str, pattern: str) -> dict[str, str]:
        text = self._ask("GET", f"/stats?{urlencode({'type': kind, 'filter': pattern})}")
        pairs = (line.partition(": ") for line in text.splitlines() if ": " in line)
        return {name: value.strip() for name, _, value in pairs}

    def _ask(self, method: str, path: str) -> str:
        connection = _UnixConnection(self._path, self._timeout)
        try:
            connection.request(method, path)
            response = connection.getresponse()
            text = response.read().decode(errors="replace")
        except (OSError, http.client.HTTPException) as error:
            raise RouterUnavailable(f"Envoy does not answer at {self._path}: {error}") from error
        finally:
            connection.close()
        if response.status >= 400 and path != "/ready":
            raise RouterUnavailable(f"Envoy answered {response.status} to {method} {path}: {text.strip()[:200]}")
        return text


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: str, timeout: float) -> None:
        super().__init__("localhost", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)
