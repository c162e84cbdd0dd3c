"""All of it together: from a file to receivers, over a stop, and what people see and ask of it meanwhile."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from tests.live import free_port, wait_until
from tests.unit.alerts.receiver import SECRET, Receiver, receiving
from tests.unit.alerts.world import FakeTarget, World
from turnout.alerts import desk
from turnout.alerts.build import Alerts, build_alerts
from turnout.alerts.progress import read_roster
from turnout.domain.errors import InvalidRequest, NotFound, SetupFailed
from turnout.domain.events import Event, EventType
from turnout.schemas import AlertView, WhyView


class WallClock:
    """Threads wait in real time."""

    def now(self) -> float:
        return time.time()


def no_page(deployment: str) -> WhyView:
    raise AssertionError(deployment)


def started(world: World, folder: Path, url: str) -> Alerts:
    (folder / "secret").write_text(SECRET)
    path = folder / "alerts.toml"
    path.write_text(f'[[webhooks]]\nname = "ops"\nurl = "{url}"\nsecret_file = "secret"\n')
    alerts = build_alerts(path, world.store, WallClock(), "one", no_page, jitter=lambda: 0.0)
    alerts.start()
    return alerts


def happen(world: World) -> int:
    with world.store.transaction() as transaction:
        return transaction.emit(Event(EventType.KEY_TRUSTED, time.time(), "ann"))


def shown(world: World) -> AlertView:
    (view,) = desk.list_targets(world.store, time.time())["alerts"]
    return view


def test_a_server_that_is_started_again_goes_on_where_it_was(world: World, receiver: Receiver, tmp_path: Path) -> None:
    happen(world)
    alerts = started(world, tmp_path, receiver.url)
    first = happen(world)
    wait_until(lambda: len(receiver.got) == 1, 10)
    alerts.stop()
    second, third = happen(world), happen(world)
    alerts = started(world, tmp_path, receiver.url)
    wait_until(lambda: len(receiver.got) == 3, 10)
    alerts.stop()
    ids = [got.headers["webhook-id"] for got in receiver.got]
    assert [int(item.rpartition("-")[2]) for item in ids] == [first, second, third]
    assert len({item.rpartition("-")[0] for item in ids}) == 1, "the instance keeps its id"


def test_what_people_see_and_ask(world: World, tmp_path: Path) -> None:
    port = free_port()
    alerts = started(world, tmp_path, f"http://127.0.0.1:{port}/hook")
    assert (shown(world)["state"], shown(world)["lag"], shown(world)["to"]) == (
        "delivering",
        0,
        f"http://127.0.0.1:{port}/…",
    )
    seq = happen(world)
    wait_until(lambda: shown(world)["state"] == "failing", 10)
    failing = shown(world)
    assert (failing["lag"], "not reached" in failing["error"]) == (1, True)
    with receiving(port) as receiver:
        test = desk.send_test(world.store, "ops")["id"]
        wait_until(lambda: shown(world)["test"] == test, 10)
        assert shown(world)["test_error"] is None
        wait_until(lambda: shown(world)["sent"] == 1, 10)
        desk.replay(world.store, "ops", seq - 1)
        wait_until(lambda: shown(world)["sent"] == 2, 10)
        types = [got.event["type"] for got in receiver.got]
    alerts.stop()
    assert sorted(types) == ["turnout.alert.test.v1", "turnout.key.trusted.v1", "turnout.key.trusted.v1"]
    assert (shown(world)["state"], shown(world)["error"]) == ("delivering", "")


def test_stopping_takes_no_longer_than_it_must(world: World, tmp_path: Path) -> None:
    alerts = started(world, tmp_path, f"http://127.0.0.1:{free_port()}/hook")
    happen(world)
    wait_until(lambda: shown(world)["state"] == "failing", 10)
    began = time.monotonic()
    alerts.stop()
    assert time.monotonic() - began < 3


def test_a_target_that_is_no_longer_configured_is_no_longer_shown(world: World, tmp_path: Path) -> None:
    world.list(FakeTarget("old"))
    (tmp_path / "alerts.toml").write_text("")
    build_alerts(tmp_path / "alerts.toml", world.store, WallClock(), "one", no_page)
    assert desk.list_targets(world.store, 0.0) == {"alerts": []}
    with world.store.snapshot() as snapshot:
        roster = read_roster(snapshot)
    assert roster is not None
    assert roster.instance == "cafe"


def test_a_target_that_no_server_has_served_is_idle(world: World) -> None:
    world.list(FakeTarget())
    assert [view["state"] for view in desk.list_targets(world.store, 0.0)["alerts"]] == ["idle"]


def test_what_cannot_be_asked_is_refused_and_says_what_can(world: World) -> None:
    with pytest.raises(NotFound) as refused:
        desk.send_test(world.store, "ops")
    assert refused.value.hint == "none is configured: see docs/guides/alerts.md"
    world.list(FakeTarget("chat"))
    with pytest.raises(NotFound) as refused:
        desk.replay(world.store, "ops", 0)
    assert refused.value.hint == "there are chat"
    world.emit(2)
    with pytest.raises(InvalidRequest) as out_of_range:
        desk.replay(world.store, "chat", 3)
    assert out_of_range.value.hint == "the newest event is 2"


def test_settings_that_are_wrong_start_nothing(world: World, tmp_path: Path) -> None:
    (tmp_path / "alerts.toml").write_text("[[webhook]]")
    with pytest.raises(SetupFailed):
        build_alerts(tmp_path / "alerts.toml", world.store, WallClock(), "one", no_page)
    assert desk.list_targets(world.store, 0.0) == {"alerts": []}
