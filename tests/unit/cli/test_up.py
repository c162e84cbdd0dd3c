from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.unit.cli.command import CommandLine
from turnout import server
from turnout.settings import INSTANCE_FILE, LOCK_FILE, Settings
from turnout.traffic.envoy import EnvoyRouter


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[Settings]:
    """The settings that servers were started with."""
    found: list[Settings] = []
    monkeypatch.setattr(server, "serve", lambda settings, _: found.append(settings))
    return found


def remember(state: Path, **known: Any) -> None:
    state.mkdir(parents=True, exist_ok=True)
    (state / INSTANCE_FILE).write_text(json.dumps(known))


def test_an_instance_listens_where_it_did_the_last_time_unless_told_otherwise(
    turnout: CommandLine, started: list[Settings], tmp_path: Path
) -> None:
    state = tmp_path / "here"
    remember(
        state, port=1, gateway="/etc/gateway.toml", gateway_port=2, tool_port=3, gateway_processes=4, registry=None
    )
    turnout("up", "--state", str(state), "--tool-port", "5")
    (settings,) = started
    assert (settings.port, settings.gateway_port, settings.tool_port, settings.gateway_processes) == (1, 2, 5, 4)
    assert settings.gateway == Path("/etc/gateway.toml")


def test_what_a_version_without_a_gateway_remembers_is_enough(
    turnout: CommandLine, started: list[Settings], tmp_path: Path
) -> None:
    remember(tmp_path / "here", host="127.0.0.1", port=1, traffic_host="127.0.0.1", traffic_port=2, registry=None)
    turnout("up", "--state", str(tmp_path / "here"))
    assert (started[0].port, started[0].gateway, started[0].gateway_port) == (1, None, 7071)


def test_no_two_of_ours_share_a_port(turnout: CommandLine, started: list[Settings], tmp_path: Path) -> None:
    state = str(tmp_path / "here")
    done = turnout("up", "--state", state, "--gateway", "gateway.toml", "--port", "9001", "--tool-port", "9001")
    assert "--port and --tool-port cannot share port 9001" in done.err
    turnout("up", "--state", state, "--port", "7071")  # without a gateway that port is free
    assert [settings.port for settings in started] == [7071]


def test_a_stopped_instance_is_shut_down_without_starting_anything(
    turnout: CommandLine, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def start(_: EnvoyRouter) -> None:
        raise AssertionError("it takes the port of the traffic")

    monkeypatch.setattr(EnvoyRouter, "start", start)
    state = tmp_path / "here"
    remember(state, traffic_host="127.0.0.1", traffic_port=8080)
    (state / LOCK_FILE).touch()
    for name in ("runtime", "envoy"):
        (state / name).mkdir()
    assert turnout("down", "--state", str(state)).out == "nothing ran\n"
    assert turnout("down", "--state", str(state), "--json").json() == {"ended": []}
