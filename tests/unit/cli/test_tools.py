"""`turnout tools` against real MCP servers."""

from __future__ import annotations

import json
import shlex
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.mcp_servers import STDIO_SERVER, build_docs_server, http_server
from tests.unit.cli.command import CommandLine
from turnout.manifest.tool_manifest import read_tool_pins

ROUGH = ("--server", "rough", "--command", shlex.join([sys.executable, str(STDIO_SERVER)]))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "agent"
    folder.mkdir()
    (folder / "turnout.toml").write_text('agent = "support"\n[tools]\nmanifest = "my-tools.json"\n')
    return folder


def written(folder: Path) -> Any:
    return json.loads((folder / "my-tools.json").read_text())


def shown(out: str, mark: str) -> list[str]:
    """The lines of a diff with a mark, without it."""
    return [line[1:].strip() for line in out.splitlines() if line.startswith(mark)]


def test_pins_of_a_new_server_are_written_into_the_file_that_the_manifest_names(
    turnout: CommandLine, folder: Path
) -> None:
    done = turnout("tools", "pin", str(folder), *ROUGH, "--tool", "echo", "--tool", "fail")

    assert done.code == 0, done.err
    pins = read_tool_pins((folder / "my-tools.json").read_bytes())
    assert [(pin.server, pin.name, pin.side_effects) for pin in pins] == [
        ("rough", "echo", False),
        ("rough", "fail", True),
    ]
    assert pins[0].description["annotations"] == {"readOnlyHint": True, "x-own": 1}
    assert '"name": "echo",' in shown(done.out, "+")


def test_pinning_keeps_rules_and_says_when_nothing_differs(turnout: CommandLine, folder: Path) -> None:
    turnout("tools", "pin", str(folder), *ROUGH, "--tool", "echo")
    document = written(folder)
    document["servers"]["rough"]["tools"][0]["rules"] = {"text": {"max_length": 5}}
    (folder / "my-tools.json").write_text(json.dumps(document))
    done = turnout("tools", "pin", str(folder), *ROUGH)

    assert "every tool is as it is pinned" in done.out
    assert written(folder) == document
    assert turnout("tools", "pin", str(folder), *ROUGH, "--check").code == 0


@pytest.mark.parametrize("how", ["--check", "--dry-run"])
def test_a_tool_that_is_not_as_pinned_is_shown_and_left(turnout: CommandLine, folder: Path, how: str) -> None:
    turnout("tools", "pin", str(folder), *ROUGH, "--tool", "echo")
    document = written(folder)
    document["servers"]["rough"]["tools"][0]["description"] = "As it was."
    (folder / "my-tools.json").write_text(json.dumps(document, indent=2))
    done = turnout("tools", "pin", str(folder), *ROUGH, how)

    assert done.code == (1 if how == "--check" else 0)
    assert '"description": "As it was.",' in shown(done.out, "-")
    assert written(folder) == document


def test_servers_are_found_in_the_configuration_of_the_instance(turnout: CommandLine, folder: Path) -> None:
    with http_server(build_docs_server()) as url:
        (folder / "gateway.toml").write_text(f'[tools.docs]\nurl = "{url}"\n')
        (folder / "my-tools.json").write_text('{"servers": {"docs": {"tools": ["search"]}}}')
        done = turnout("tools", "pin", str(folder), "--gateway", str(folder / "gateway.toml"), "--json")

    assert done.json()["servers"] == {"docs": ["search"]}
    assert [pin.name for pin in read_tool_pins((folder / "my-tools.json").read_bytes())] == ["search"]


@pytest.mark.parametrize(
    ("arguments", "code", "told"),
    [
        ((*ROUGH, "--tool", "ecko"), 4, 'the server "rough" has no tool ecko'),
        (("--server", "docs", "--url", "http://127.0.0.1:9/mcp"), 7, "nobody answers at its address"),
        (("--server", "gone", "--command", "/nonexistent"), 7, "its command cannot be started"),
        (("--server", "unknown"), 4, "it is not known where the server unknown is"),
        ((), 3, "the tool manifest names no server"),
        (("--url", "http://127.0.0.1:9/mcp"), 3, "name the server with --server"),
        ((*ROUGH, "--env", "TOKEN=hunter2"), 3, "secrets do not belong on a command line"),
        ((*ROUGH, "--env", "TOKEN=env:NO_SUCH_VARIABLE"), 7, "env:NO_SUCH_VARIABLE"),
    ],
)
def test_what_goes_wrong_is_told_and_nothing_is_written(
    turnout: CommandLine, folder: Path, arguments: tuple[str, ...], code: int, told: str
) -> None:
    done = turnout("tools", "pin", str(folder), *arguments)

    assert (done.code, told in done.err) == (code, True), done.err
    assert "hunter2" not in done.err
    assert not (folder / "my-tools.json").exists()


def test_listing_shows_what_is_pinned(turnout: CommandLine, folder: Path) -> None:
    turnout("tools", "pin", str(folder), *ROUGH, "--tool", "echo")
    done = turnout("tools", "list", str(folder))
    (row,) = turnout("tools", "list", str(folder), "--json").json()["tools"]

    assert "rough  echo  sha256:" in done.out
    assert (row["server"], row["name"], row["timeout"]) == ("rough", "echo", 60.0)


def test_checking_says_whether_a_call_would_be_let_through(turnout: CommandLine, folder: Path) -> None:
    turnout("tools", "pin", str(folder), *ROUGH, "--tool", "echo")
    document = written(folder)
    document["servers"]["rough"]["tools"][0]["rules"] = {"text": {"pattern": "[a-z]+"}}
    (folder / "my-tools.json").write_text(json.dumps(document))
    check = ("tools", "check", str(folder), "--tool", "echo", "--arguments")

    assert turnout("tools", "check", str(folder)).out.startswith("1 tool")
    assert turnout(*check, '{"text": "abc"}').code == 0
    refused = turnout(*check, '{"text": "ABC"}')
    assert (refused.code, "text: does not match the pattern [a-z]+" in refused.err) == (3, True)
    assert "is a required property" in turnout(*check, "{}").err
    assert turnout(*check, "[]").code == 3


def test_checking_names_what_is_wrong_with_its_place(turnout: CommandLine, folder: Path) -> None:
    (folder / "my-tools.json").write_text('{"servers": {"docs": {"tools": [{"name": "search"}]}}}')
    done = turnout("tools", "check", str(folder))

    assert done.code == 3
    assert "servers.docs.tools[0].sha256: is missing" in done.err


def test_without_a_tool_manifest_there_is_nothing_to_list(turnout: CommandLine, folder: Path) -> None:
    done = turnout("tools", "list", str(folder))

    assert (done.code, "there is no tool manifest" in done.err) == (4, True)


def test_an_agent_and_a_release_are_named_together(turnout: CommandLine, folder: Path) -> None:
    done = turnout("tools", "list", str(folder), "--agent", "support")

    assert done.code != 0
    assert "--agent and --release belong together" in done.err
