"""What Prometheus scrapes: read by its own parser, and bounded."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.unit.alerts.incident import judged
from tests.unit.controller.stage import ADMIN, Stage, staged
from tests.unit.domain.values import AGENT, make_release
from turnout.domain.errors import Forbidden
from turnout.domain.models import CanaryStep, RingSettings
from turnout.domain.policy import Role
from turnout.ports import StoredJudgement
from turnout.schemas import AlertView, GatewayProcessView
from turnout.services import metrics
from turnout.services.office import Actor

RINGS = (RingSettings("dev", warm=0.0, canary=(CanaryStep(2_500, duration=60.0),)),)
ONE, TWO = (make_release(name, rings=RINGS) for name in ("v1", 'odd"\\\n'))
ALERT: AlertView = {
    "name": "ops", "kind": "webhook", "to": "https://a/…", "events": ["*"], "state": "failing", "cursor": 3, "lag": 4,
    "lag_seconds": 12.5, "sent": 7, "sent_at": None, "error": "x", "failing_since": None, "skipped": 1, "skipped_note": "",
    "test": "", "test_error": None,
}  # fmt: skip


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    """v1 is active in dev, the other has a quarter of it."""
    with staged(tmp_path, (ONE, TWO)) as stage:
        stage.deploy(ONE)
        stage.serve(ONE, ["a", "b", "c"])
        stage.serve(ONE, ["d"], status=503)
        stage.deploy(TWO)
        yield stage


def scrape(stage: Stage, *alerts: AlertView) -> dict[tuple[str, ...], float]:
    """(name, labels …) → value, by the parser of Prometheus' own library."""
    text = metrics.render(stage.office, ADMIN, alerts).decode()
    families = list(text_string_to_metric_families(text))
    assert all(family.documentation for family in families)
    return {
        (sample.name, *(f"{name}={value}" for name, value in sorted(sample.labels.items()))): sample.value
        for family in families
        for sample in family.samples
    }


def test_what_a_ring_does_is_told(stage: Stage) -> None:
    found = scrape(stage)
    ring = (f"agent={AGENT}", "ring=dev")
    assert found["turnout_requests_total", *ring, "version=v1"] == 4
    assert found["turnout_failures_total", *ring, "version=v1"] == 1
    assert found["turnout_requests_total", *ring, f"version={TWO.version}"] == 0
    assert found["turnout_requests_total", *ring, "version="] == 0
    assert found["turnout_pointer_weight", *ring, "version=v1"] == 0.75
    assert found["turnout_pointer_weight", *ring, f"version={TWO.version}"] == 0.25
    assert found["turnout_replicas", *ring, "state=ready"] == 2
    assert found["turnout_deployments", *ring, "state=active"] == 1
    assert found["turnout_deployments", *ring, "state=validating"] == 1


def test_a_release_of_any_name_has_series_of_its_own(tmp_path: Path) -> None:
    release = make_release("none", rings=RINGS)
    with staged(tmp_path, (release,)) as stage:
        stage.deploy(release)
        text = metrics.render(stage.office, ADMIN, []).decode()
    series = [line.rpartition(" ")[0] for line in text.splitlines() if not line.startswith("#")]
    assert sorted(set(series)) == sorted(series)


def test_the_age_of_the_last_event_grows(stage: Stage) -> None:
    before = scrape(stage)["turnout_last_event_age_seconds",]
    stage.clock.at += 100.0
    assert scrape(stage)["turnout_last_event_age_seconds",] == pytest.approx(before + 100.0)


def test_what_a_judge_says_is_told_while_a_rollout_runs(stage: Stage) -> None:
    rollout = stage.pointer().rollout
    assert rollout is not None
    with stage.store.transaction() as transaction:
        transaction.save_judgement(rollout, StoredJudgement(stage.clock.at, 0, judged(), {}))
    found = scrape(stage)
    where = (f"agent={AGENT}", f"deployment={rollout}")
    assert found["turnout_judge_evidence", *where, "metric=failure", "ring=dev"] > 20
    assert found["turnout_judge_verdict", *where, "kind=fail", "ring=dev"] == 1
    assert found["turnout_judge_tasks", f"agent={AGENT}", "arm=candidate", f"deployment={rollout}", "ring=dev"] > 0
    stage.roll_back()
    assert not any(name == "turnout_judge_evidence" for name, *_ in scrape(stage))


def test_releases_that_left_the_pointer_are_left_out(stage: Stage) -> None:
    stage.pass_time(61.0)
    stage.deploy(ONE, force=True)
    stage.pass_time(61.0)
    for _ in range(3):
        stage.pass_time(1.0)
    pointer = stage.pointer()
    named = {pointer.stable, pointer.candidate, pointer.last_good, *(item.digest for item in pointer.retired)} - {None}
    told = {labels[-1] for name, *labels in scrape(stage) if name == "turnout_requests_total"}
    assert len(told) == len(named) + 1


def test_there_are_no_more_series_than_a_monitor_can_bear(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metrics, "MOST_RINGS", 3)
    with stage.store.transaction() as transaction:
        transaction.add_rings(AGENT, [f"ring-{number}" for number in range(10)])
    found = scrape(stage)
    assert len({label for key in found for label in key if label.startswith("ring=")}) == 3
    assert found["turnout_rings_left_out",] == 8


def test_how_alerts_stand_is_told(stage: Stage) -> None:
    found = scrape(stage, ALERT)
    assert found["turnout_alert_lag_events", "target=ops"] == 4
    assert found["turnout_alert_lag_seconds", "target=ops"] == 12.5
    assert found["turnout_alerts_sent_total", "target=ops"] == 7
    assert found["turnout_alerts_skipped_total", "target=ops"] == 1


def test_an_empty_instance_can_be_scraped(tmp_path: Path) -> None:
    with staged(tmp_path, ()) as stage:
        assert scrape(stage)["turnout_rings_left_out",] == 0


def test_a_reporter_sees_nothing(stage: Stage) -> None:
    with pytest.raises(Forbidden):
        metrics.render(stage.office, Actor("agent", Role.REPORTER), [])


def test_processes_of_the_gateway_are_counted_where_there_is_one(stage: Stage) -> None:
    assert b"turnout_gateway" not in metrics.render(stage.office, ADMIN, [])
    down: GatewayProcessView = {
        "kind": "model", "index": 1, "address": "127.0.0.1:7071", "running": False, "restarts": 3
    }  # fmt: skip
    office = replace(stage.office, gateway=lambda: [down])
    text = metrics.render(office, ADMIN, []).decode()
    assert 'turnout_gateway_up{index="1",kind="model"} 0.0' in text
    assert 'turnout_gateway_restarts_total{index="1",kind="model"} 3.0' in text
