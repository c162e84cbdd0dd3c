from __future__ import annotations

import os
from pathlib import Path

import pytest

from turnout.domain.errors import SetupFailed
from turnout.gateway import config as config_module
from turnout.gateway.config import ConfigFile, check_secrets, find_ledger, load_gateway_config, resolve_secret
from turnout.gateway.values import GatewayConfig, Price, Protocol, Route, ToolServer

FULL = """
[[providers.openai.routes]]
name = "openai-us"
url = "https://api.openai.com/v1/"
key = "env:OPENAI_API_KEY"
region = "us"
models = { "gpt-4o-2024-08-06" = "gpt-4o" }
connect_timeout = "1s"
first_byte_timeout = "10s"
idle_timeout = "500ms"
deadline = "5m"
limit_parameter = "max_tokens"
max_output = 100
[[providers.openai.routes]]
name = "local"
url = "http://127.0.0.1:9000/v1"
[[providers.anthropic.routes]]
name = "anthropic"
url = "https://api.anthropic.com/v1"
protocol = "anthropic"
key = "file:keys/anthropic"
[prices."local/gemma-3-270m"]
input = 0.05
output = 0.10
[tools.docs]
url = "http://127.0.0.1:9000/mcp"
headers = { Authorization = "env:DOCS_TOKEN" }
[tools.files]
command = ["python", "server.py"]
cwd = "servers"
env = { TOKEN = "file:/run/token" }
"""
ROUTE = '[[providers.openai.routes]]\nname = "a"\nurl = "http://127.0.0.1:1/v1"\n'


def write(folder: Path, text: str) -> Path:
    path = folder / "gateway.toml"
    path.write_text(text)
    return path


def test_every_table_becomes_a_value_and_paths_become_absolute(tmp_path: Path) -> None:
    found = load_gateway_config(write(tmp_path, FULL), needed=True)
    assert found.providers["openai"][0] == Route(
        provider="openai",
        name="openai-us",
        url="https://api.openai.com/v1",
        key="env:OPENAI_API_KEY",
        region="us",
        models={"gpt-4o-2024-08-06": "gpt-4o"},
        connect_timeout=1.0,
        first_byte_timeout=10.0,
        idle_timeout=0.5,
        deadline=300.0,
        limit_parameter="max_tokens",
        max_output=100,
    )
    assert found.providers["openai"][1] == Route("openai", "local", "http://127.0.0.1:9000/v1")
    assert found.providers["anthropic"][0].protocol is Protocol.ANTHROPIC
    assert found.providers["anthropic"][0].key == f"file:{tmp_path}/keys/anthropic"
    assert found.prices == {"local/gemma-3-270m": Price(0.05, 0.1)}
    assert found.tool_servers == {
        "docs": ToolServer("docs", "http://127.0.0.1:9000/mcp", headers={"Authorization": "env:DOCS_TOKEN"}),
        "files": ToolServer(
            "files", command=("python", "server.py"), cwd=f"{tmp_path}/servers", env={"TOKEN": "file:/run/token"}
        ),
    }


def test_a_missing_file_is_an_error_only_where_it_is_needed(tmp_path: Path) -> None:
    assert load_gateway_config(tmp_path / "none.toml", needed=False) == GatewayConfig()
    with pytest.raises(SetupFailed, match=r"there is no configuration of the gateway at .*none.toml"):
        load_gateway_config(tmp_path / "none.toml", needed=True)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("[", "is not valid TOML"),
        ("provider = 1", 'provider: unknown key; did you mean "providers"?'),
        ("[providers.openai]", "providers.openai.routes: is missing: ways to it, the best first"),
        (ROUTE + 'conect_timeout = "1s"', '.routes[0].conect_timeout: unknown key; did you mean "connect_timeout"?'),
        (ROUTE + 'idle_timeout = "soon"', '.routes[0].idle_timeout: "soon" is no duration'),
        (ROUTE + 'protocol = "smoke"', "providers.openai.routes[0].protocol: expected 'openai' or 'anthropic'"),
        (ROUTE + ROUTE, 'providers.openai.routes[1].name: "a" is there twice'),
        (ROUTE.replace("http:", "ftp:"), "routes[0].url: expected a URL such as https://"),
        (ROUTE.replace("127.0.0.1", "me:pass@127.0.0.1"), "a URL holds no user, query or fragment"),
        (ROUTE + 'key = "sk-0123456789"', "routes[0].key: expected env:NAME or file:PATH"),
        ("[prices.gemma]\ninput = 1\noutput = 1", 'prices."gemma": expected "provider/model"'),
        ('[prices."a/b"]\ninput = -1\noutput = 1', 'prices."a/b".input: expected greater than or equal to 0'),
        ("[tools.docs]", "tools.docs: give url, or the command that starts it"),
        ('[tools.docs]\ncommand = ["a"]\nheaders = { A = "env:B" }', "tools.docs.headers: a command gets no headers"),
        ('[tools.docs]\nurl = "http://a/mcp"\nenv = { A = "env:B" }', "tools.docs.env: only a command has it"),
    ],
)
def test_what_is_wrong_is_named_with_its_place(tmp_path: Path, text: str, problem: str) -> None:
    with pytest.raises(SetupFailed) as raised:
        load_gateway_config(write(tmp_path, text))
    assert problem in raised.value.message
    assert "sk-0123456789" not in raised.value.message
    assert ":pass" not in raised.value.message


def test_secrets_come_from_the_environment_or_a_file(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("from-file\n")
    assert resolve_secret("env:KEY", {"KEY": " from-env "}) == "from-env"
    assert resolve_secret(f"file:{tmp_path}/key", {}) == "from-file"


@pytest.mark.parametrize(
    ("content", "problem"),
    [(None, "cannot be read"), (b"\n", "is empty"), (b"\xff", "not text"), (b"secret\nline", "holds characters")],
)
def test_a_secret_that_cannot_be_one_is_named_and_not_shown(
    tmp_path: Path, content: bytes | None, problem: str
) -> None:
    if content is not None:
        (tmp_path / "key").write_bytes(content)
    with pytest.raises(SetupFailed, match=problem) as raised:
        resolve_secret(f"file:{tmp_path}/key", {})
    assert f"file:{tmp_path}/key" in raised.value.message
    assert "secret\nline" not in raised.value.message


def test_all_secrets_that_are_missing_are_named_together(tmp_path: Path) -> None:
    config = load_gateway_config(write(tmp_path, FULL))
    with pytest.raises(SetupFailed) as raised:
        check_secrets(config, {"OPENAI_API_KEY": "one"})
    for place in ("providers.anthropic.routes[0].key", "tools.docs.headers.Authorization", "tools.files.env.TOKEN"):
        assert f"{place}: " in raised.value.message
    assert "openai" not in raised.value.message


def test_a_change_is_followed_and_a_broken_one_is_told_of_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(config_module, "LOOK_SECONDS", 0.0)
    path = write(tmp_path, ROUTE)
    file = ConfigFile(path, {})
    assert file.current.providers["openai"][0].name == "a"
    replaced(path, ROUTE.replace('"a"', '"b"'))
    assert file.current.providers["openai"][0].name == "b"
    for broken in ("[", ROUTE + 'key = "env:NOT_THERE"'):
        caplog.clear()
        replaced(path, broken)
        for _ in range(3):
            assert file.current.providers["openai"][0].name == "b"
        assert len(caplog.records) == 1
    replaced(path, ROUTE.replace('"a"', '"c"'))
    assert file.current.providers["openai"][0].name == "c"


def replaced(path: Path, text: str) -> None:
    fresh = path.with_suffix(".new")
    fresh.write_text(text)
    os.utime(fresh, ns=(path.stat().st_mtime_ns + 1_000_000,) * 2)
    fresh.replace(path)


def test_a_ledger_that_machines_share_is_named_by_a_reference(tmp_path: Path) -> None:
    config = load_gateway_config(write(tmp_path, '[ledger]\nurl = "env:LEDGER_URL"\n'))
    url = "postgresql://turnout@database/budgets"
    assert find_ledger(config, {"LEDGER_URL": url}, "sqlite:///own.db") == url
    assert find_ledger(GatewayConfig(), {}, "sqlite:///own.db") == "sqlite:///own.db"
    with pytest.raises(SetupFailed, match=r"ledger\.url: env:LEDGER_URL"):
        check_secrets(config, {})


def test_the_url_of_a_ledger_itself_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path, '[ledger]\nurl = "postgresql://turnout:secret@database/budgets"\n')
    with pytest.raises(SetupFailed, match=r"ledger\.url.*env:NAME or file:PATH") as refused:
        load_gateway_config(path)
    assert "secret@" not in str(refused.value)
