from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from tests.live import free_port
from tests.unit.domain.values import make_release
from turnout.domain.errors import SetupFailed
from turnout.domain.models import RingSettings
from turnout.domain.replicas import build_replica_spec
from turnout.gateway_control import agent_environment, check_gateway
from turnout.settings import Settings

RELEASE = make_release("v1")
ROUTE = '[[providers.openai.routes]]\nname = "a"\nurl = "http://127.0.0.1:1/v1"\nkey = "env:KEY"\n'


def environment(*components: str, env: Mapping[str, str] | None = None) -> dict[str, str]:
    code = RELEASE.components["code"]
    release = replace(RELEASE, components={"code": code, **dict.fromkeys(components, code)})
    release = replace(release, spec=replace(release.spec, env=env or {}))
    settings = Settings(Path("/state"), gateway_host="0.0.0.0", gateway_port=1, tool_port=2)
    return agent_environment(
        settings.gateway_url, settings.tool_url, build_replica_spec(release, RingSettings("dev"), 0, 1), release, "tk_1"
    )


def test_an_agent_is_given_what_its_release_has() -> None:
    either = {"TURNOUT_GATEWAY_URL": "http://127.0.0.1:1", "TURNOUT_GATEWAY_KEY": "tk_1"}
    models = {
        "OPENAI_BASE_URL": "http://127.0.0.1:1/v1",
        "OPENAI_API_KEY": "tk_1",
        "ANTHROPIC_BASE_URL": "http://127.0.0.1:1",
        "ANTHROPIC_API_KEY": "tk_1",
    }
    tools = {"TURNOUT_MCP_URL": "http://127.0.0.1:2/mcp"}
    assert environment() == environment("prompts") == {}
    assert environment("model") == {**models, **either}
    assert environment("tools") == {**tools, **either}
    assert environment("model", "tools") == {**models, **tools, **either}


def test_a_client_that_the_manifest_sends_elsewhere_gets_no_key() -> None:
    found = environment("model", env={"OPENAI_BASE_URL": "https://elsewhere.example"})
    assert "OPENAI_API_KEY" not in found
    assert found["ANTHROPIC_API_KEY"] == "tk_1"


def settings(folder: Path) -> Settings:
    return Settings(folder, gateway_port=free_port(), tool_port=free_port(), gateway_processes=2)


def test_without_a_configuration_there_are_no_processes(tmp_path: Path) -> None:
    assert check_gateway(settings(tmp_path), {}).states() == ()
    with pytest.raises(SetupFailed, match="there is no configuration of the gateway"):
        check_gateway(replace(settings(tmp_path), gateway=tmp_path / "other.toml"), {})


def test_there_are_so_many_processes_for_models_and_one_for_tools(tmp_path: Path) -> None:
    (tmp_path / "gateway.toml").write_text(ROUTE)
    states = check_gateway(settings(tmp_path), {"KEY": "sk-1"}).states()
    assert [(state.kind, state.index, state.pid) for state in states] == [
        ("model", 0, None),
        ("model", 1, None),
        ("tool", 0, None),
    ]


def test_a_secret_that_is_missing_or_a_file_that_is_wrong_ends_the_start(tmp_path: Path) -> None:
    (tmp_path / "gateway.toml").write_text(ROUTE)
    with pytest.raises(SetupFailed, match=r"providers.openai.routes\[0\].key: env:KEY"):
        check_gateway(settings(tmp_path), {})
    (tmp_path / "gateway.toml").write_text("x = 1")
    with pytest.raises(SetupFailed, match="x: unknown key"):
        check_gateway(settings(tmp_path), {})


def test_processes_are_others_when_a_secret_in_the_environment_is_another_and_do_not_tell_it(tmp_path: Path) -> None:
    (tmp_path / "gateway.toml").write_text(ROUTE)
    here = settings(tmp_path)
    lines = [check_gateway(here, {"KEY": key})._launches[0].arguments for key in ("sk-one", "sk-two", "sk-one")]
    assert lines[0] == lines[2] != lines[1]
    assert not any("sk-" in part for part in lines[0])
