"""The state of an instance in the text format of Prometheus, read anew at every scrape.

The number of series is bounded: releases that left the pointer are left out, and so are rings beyond the first hundreds.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest
from prometheus_client.registry import Collector

from turnout import __version__
from turnout.domain.models import FULL_WEIGHT, Digest, Pointer, ReplicaState
from turnout.domain.policy import Verb
from turnout.domain.routes import ring_weights, warm_digests
from turnout.ports import Snapshot
from turnout.schemas import AlertView, GatewayProcessView
from turnout.services.evidence import read_evidence
from turnout.services.office import Actor, Office

CONTENT_TYPE = CONTENT_TYPE_PLAIN_0_0_4
MOST_RINGS = 500
MOST_ALERTS = 100
_RING = ("agent", "ring")
_RELEASE = ("agent", "ring", "version")
_UNREACHED = ""  # no replica was reached; every other text may be the version of a release


def render(office: Office, actor: Actor, alerts: Sequence[AlertView]) -> bytes:
    """The exposition. `alerts`: how the targets of alerts stand."""
    actor.check(Verb.READ)
    now = office.clock.now()
    with office.store.snapshot() as snapshot:
        scrape = _Scrape(snapshot, now)
        families = [*scrape.families(), *_alert_families(alerts), *_gateway_families(office.gateway())]
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Families(families))
    return generate_latest(registry)


@dataclass(eq=False)  # a registry keeps its collectors by identity
class _Families(Collector):
    """What was read, for the registry that writes it."""

    found: Iterable[Metric]

    def collect(self) -> Iterator[Metric]:
        """See `Collector`."""
        yield from self.found


@dataclass
class _Scrape:
    """One reading of the store."""

    snapshot: Snapshot
    now: float
    versions: dict[str, str] = field(default_factory=dict)

    def families(self) -> Iterator[Metric]:
        """Every family, empty ones too: a query finds them before anything happened."""
        pointers = self.snapshot.pointers()
        shown = pointers[:MOST_RINGS]
        yield InfoMetricFamily("turnout_build", "The version of turnout.", value={"version": __version__})
        yield GaugeMetricFamily(
            "turnout_rings_left_out", "Rings beyond the first, of which nothing is told.", len(pointers) - len(shown)
        )
        newest = self.snapshot.events(newest_first=True, limit=1)
        age = GaugeMetricFamily("turnout_last_event_age_seconds", "Time since the last event of the instance.")
        if newest:
            age.add_metric((), max(self.now - newest[0].event.at, 0.0))
        yield age
        yield from self._traffic(shown)
        yield self._replicas(shown)
        yield self._deployments(shown)
        yield from self._judges(shown)

    def _traffic(self, pointers: Sequence[Pointer]) -> Iterator[Metric]:
        requests = CounterMetricFamily("turnout_requests", "Requests of a release that runs.", labels=_RELEASE)
        failures = CounterMetricFamily("turnout_failures", "Those that ended with a status of 5xx.", labels=_RELEASE)
        weight = GaugeMetricFamily("turnout_pointer_weight", "Share of the traffic, 0 to 1.", labels=_RELEASE)
        flips = CounterMetricFamily("turnout_pointer_changes", "How often the pointer of a ring changed.", labels=_RING)
        counts = {agent: self.snapshot.task_counts(agent) for agent in {pointer.agent for pointer in pointers}}
        for pointer in pointers:
            named = {digest: self._version(digest) for digest in warm_digests(pointer)} | {"": _UNREACHED}
            for digest, version in named.items():
                total, failed = counts[pointer.agent].get((pointer.ring, digest), (0, 0))
                requests.add_metric((pointer.agent, pointer.ring, version), total)
                failures.add_metric((pointer.agent, pointer.ring, version), failed)
            for digest, share in ring_weights(pointer):
                weight.add_metric((pointer.agent, pointer.ring, self._version(digest)), share / FULL_WEIGHT)
            flips.add_metric((pointer.agent, pointer.ring), pointer.generation)
        yield from (requests, failures, weight, flips)

    def _replicas(self, pointers: Sequence[Pointer]) -> Metric:
        family = GaugeMetricFamily("turnout_replicas", "Replicas by state.", labels=(*_RING, "state"))
        shown = {(pointer.agent, pointer.ring) for pointer in pointers}
        counts = {(*ring, state.value): 0 for ring in sorted(shown) for state in ReplicaState}
        for replica in self.snapshot.replicas():
            if (replica.agent, replica.ring) in shown:
                counts[replica.agent, replica.ring, replica.state.value] += 1
        for labels, count in counts.items():
            family.add_metric(labels, count)
        return family

    def _deployments(self, pointers: Sequence[Pointer]) -> Metric:
        family = GaugeMetricFamily(
            "turnout_deployments", "Deployments that are active or not over, by state.", labels=(*_RING, "state")
        )
        for pointer in pointers:
            counts: dict[str, int] = {"active": 1 if pointer.active_deployment else 0}
            for deployment in self.snapshot.unfinished(pointer.agent, pointer.ring):
                counts[deployment.phase.value] = counts.get(deployment.phase.value, 0) + 1
            for state, count in counts.items():
                family.add_metric((pointer.agent, pointer.ring, state), count)
        return family

    def _judges(self, pointers: Sequence[Pointer]) -> Iterator[Metric]:
        labels = (*_RING, "deployment", "metric")
        evidence = GaugeMetricFamily(
            "turnout_judge_evidence", "Evidence against the candidate of a rollout; 1 is none.", labels=labels
        )
        tasks = GaugeMetricFamily(
            "turnout_judge_tasks", "Tasks that began in a rollout.", labels=(*_RING, "deployment", "arm")
        )
        verdict = GaugeMetricFamily(
            "turnout_judge_verdict", "1 for what the judge says now.", labels=(*_RING, "deployment", "kind")
        )
        for pointer in pointers:
            judgement = self.snapshot.judgement(pointer.rollout) if pointer.rollout else None
            if judgement is None or pointer.rollout is None:
                continue
            where = (pointer.agent, pointer.ring, pointer.rollout)
            found = read_evidence(judgement.verdict)
            for metric in found["metrics"]:
                against = metric["against"]
                evidence.add_metric((*where, metric["metric"]), float("inf") if against is None else against)
            tasks.add_metric((*where, "candidate"), found["candidates"])
            tasks.add_metric((*where, "stable"), found["units"] - found["candidates"])
            verdict.add_metric((*where, found["kind"]), 1)
        yield from (evidence, tasks, verdict)

    def _version(self, digest: str) -> str:
        if digest not in self.versions:
            release = self.snapshot.release(Digest(digest))
            self.versions[digest] = release.version if release is not None else digest[7:19]
        return self.versions[digest]


def _alert_families(alerts: Sequence[AlertView]) -> Iterator[Metric]:
    lag = GaugeMetricFamily("turnout_alert_lag_events", "Events that a target was not told yet.", labels=("target",))
    age = GaugeMetricFamily("turnout_alert_lag_seconds", "Age of the oldest of them.", labels=("target",))
    sent = CounterMetricFamily("turnout_alerts_sent", "Events that a target was told.", labels=("target",))
    skipped = CounterMetricFamily("turnout_alerts_skipped", "Events that were given up.", labels=("target",))
    for alert in alerts[:MOST_ALERTS]:
        lag.add_metric((alert["name"],), alert["lag"])
        age.add_metric((alert["name"],), alert["lag_seconds"])
        sent.add_metric((alert["name"],), alert["sent"])
        skipped.add_metric((alert["name"],), alert["skipped"])
    yield from (lag, age, sent, skipped)


def _gateway_families(processes: Sequence[GatewayProcessView]) -> Iterator[Metric]:
    if not processes:
        return
    names = ("kind", "index")
    up = GaugeMetricFamily("turnout_gateway_up", "Whether a process of the gateway runs.", labels=names)
    restarts = CounterMetricFamily(
        "turnout_gateway_restarts", "How often it was started again since the server began.", labels=names
    )
    for process in processes:
        labels = (process["kind"], str(process["index"]))
        up.add_metric(labels, float(process["running"]))
        restarts.add_metric(labels, process["restarts"])
    yield from (up, restarts)
