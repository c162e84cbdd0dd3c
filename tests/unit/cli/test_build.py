"""`init` and `build`: what works without any server."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.unit.artifacts.agents import write_agent
from tests.unit.cli.command import CommandLine
from turnout.client import Problem
from turnout.domain.errors import ServerUnreachable
from turnout.manifest import load_manifest


@pytest.fixture
def agent(tmp_path: Path) -> Path:
    return write_agent(tmp_path / "agent")


# --- init ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def project(tmp_path: Path) -> Path:
    folder = tmp_path / "Mein Agent"
    folder.mkdir()
    (folder / "main.py").write_text("print('hello')\n")
    (folder / "requirements.txt").write_text("")
    (folder / "prompts").mkdir()
    (folder / "prompts" / "system.md").write_text("You are kind.\n")
    return folder


def test_init_writes_a_manifest_that_is_valid(turnout: CommandLine, project: Path) -> None:
    done = turnout("init", str(project))
    assert done.code == 0, done.err
    assert "wrote" in done.out
    assert f"next: turnout deploy '{project}'" in done.err
    assert load_manifest(project).code.lock == "requirements.txt"


def test_init_overwrites_nothing_unless_it_is_told_to(turnout: CommandLine, project: Path) -> None:
    (project / "turnout.toml").write_text("mine")
    done = turnout("init", str(project))
    assert done.code == 5
    assert "is there already" in done.err
    assert "--force" in done.err
    assert (project / "turnout.toml").read_text() == "mine"
    assert turnout("init", str(project), "--force").code == 0
    assert (project / "turnout.toml").read_text() != "mine"


def test_a_dry_run_of_init_prints_and_writes_nothing(turnout: CommandLine, project: Path) -> None:
    text = turnout("init", str(project), "--dry-run").out
    assert "schema = 1" in text
    assert not (project / "turnout.toml").exists()
    shown = turnout("init", str(project), "--dry-run", "--json").json()
    assert (shown["text"], shown["dry_run"]) == (text, True)
    assert not (project / "turnout.toml").exists()


def test_init_says_what_only_the_author_knows(turnout: CommandLine, tmp_path: Path) -> None:
    folder = tmp_path / "empty"
    folder.mkdir()
    done = turnout("init", str(folder))
    assert done.code == 0, done.err
    assert "to do:" in done.err


# --- build -----------------------------------------------------------------------------------------------------------


def test_a_build_without_a_server_works_and_has_stable_keys(turnout: CommandLine, agent: Path) -> None:
    done = turnout("build", str(agent), "--json")
    assert done.code == 0, done.err
    built = done.json()
    assert set(built) == {"digest", "version", "components", "pushed", "pushed_blobs", "pushed_bytes"}
    assert (built["pushed_blobs"], built["pushed_bytes"]) == (0, 0)
    assert built["digest"].startswith("sha256:")
    assert list(built["components"]) == ["code", "model", "prompts", "tools", "data", "config"]
    assert built["pushed"] is False
    assert built["version"] == f"sha-{built['digest'][7:19]}"
    assert "not pushed: no instance is known" in done.err


def test_the_same_folder_gives_the_same_digest_wherever_it_is(turnout: CommandLine, tmp_path: Path) -> None:
    digests = {
        turnout("build", str(write_agent(tmp_path / name)), "--json").json()["digest"] for name in ("here", "there")
    }
    assert len(digests) == 1


def test_a_tag_is_the_version(turnout: CommandLine, agent: Path) -> None:
    assert turnout("build", str(agent), "--tag", "v2.3.0", "--no-push", "--json").json()["version"] == "v2.3.0"


def test_a_build_for_people_names_every_component(turnout: CommandLine, agent: Path) -> None:
    done = turnout("build", str(agent), "--no-push")
    assert done.code == 0
    assert done.out.startswith("support sha-")
    assert [line.split()[0] for line in done.out.splitlines()[1:]] == [
        "code",
        "model",
        "prompts",
        "tools",
        "data",
        "config",
    ]


def test_a_build_is_remembered_and_ignored_by_git(turnout: CommandLine, agent: Path) -> None:
    digest = turnout("build", str(agent), "--no-push", "--json").json()["digest"]
    assert json.loads((agent / ".turnout" / "last-build.json").read_text()) == {"agent": "support", "digest": digest}
    assert (agent / ".turnout" / ".gitignore").read_text() == "*\n"
    assert turnout("build", str(agent), "--no-push", "--json").json()["digest"] == digest


def test_a_push_that_is_asked_for_and_cannot_be_is_an_error(turnout: CommandLine, agent: Path) -> None:
    assert turnout("build", str(agent), "--push").code == 7


def test_a_broken_manifest_names_every_fault_with_its_place(turnout: CommandLine, agent: Path) -> None:
    manifest = agent / "turnout.toml"
    manifest.write_text(manifest.read_text().replace("start = ", "strat = "))
    done = turnout("build", str(agent), "--no-push", "--json")
    assert done.code == 3
    assert done.json()["type"] == "urn:turnout:problem:invalid_manifest"
    assert any("code.strat" in problem and "start" in problem for problem in done.json()["problems"])


def test_a_folder_without_a_manifest_says_how_to_get_one(turnout: CommandLine, tmp_path: Path) -> None:
    done = turnout("build", str(tmp_path), "--no-push")
    assert done.code in (3, 4)
    assert "turnout init" in done.err


class Refusing:
    def __init__(self, error: Exception) -> None:
        self.error = error

    def missing_blobs(self, agent: str, digests: list[str]) -> list[str]:
        raise self.error


def test_a_server_that_is_down_leaves_the_build_unpushed(turnout: CommandLine, agent: Path) -> None:
    turnout.speaks_to(Refusing(ServerUnreachable("nobody answers")))
    done = turnout("build", str(agent), "--json")
    assert (done.code, done.json()["pushed"]) == (0, False)
    assert "not pushed: nobody answers" in done.err


def test_a_server_that_does_not_know_the_token_leaves_the_build_unpushed(turnout: CommandLine, agent: Path) -> None:
    problem = {"type": "urn:turnout:problem:unauthenticated", "detail": "the token is not known"}
    turnout.speaks_to(Refusing(Problem(problem, 401)))
    done = turnout("build", str(agent), "--json")
    assert (done.code, done.json()["pushed"]) == (0, False)
    assert "not pushed: the token is not known" in done.err


def test_a_server_that_forbids_the_push_is_an_error(turnout: CommandLine, agent: Path) -> None:
    problem = {"type": "urn:turnout:problem:forbidden", "detail": "viewers do not push"}
    turnout.speaks_to(Refusing(Problem(problem, 403)))
    assert turnout("build", str(agent)).code == 6
