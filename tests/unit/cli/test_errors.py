"""Errors teach: what is wrong, what to do, and an exit code that a script can rely on."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.unit.cli.command import CommandLine
from tests.unit.domain.values import make_digest
from turnout.artifacts.layout import OciLayoutStore
from turnout.cli.exits import EXIT_CODES
from turnout.client import Problem
from turnout.domain import errors
from turnout.domain.errors import ServerUnreachable, TurnoutError


def all_errors(root: type[TurnoutError] = TurnoutError) -> Iterator[type[TurnoutError]]:
    yield root
    for child in root.__subclasses__():
        if child.__module__ == errors.__name__:
            yield from all_errors(child)


class Refusing:
    """A client that answers everything with an error."""

    def __init__(self, error: TurnoutError) -> None:
        self.error = error

    def __getattr__(self, name: str) -> Any:
        def refuse(*_: object, **__: object) -> None:
            raise self.error

        return refuse


def test_every_error_has_an_exit_code() -> None:
    assert {error.code for error in all_errors()} <= set(EXIT_CODES)


@pytest.mark.parametrize(
    ("code", "exit_code"),
    [
        ("internal", 1),
        ("illegal_transition", 1),
        ("damaged_content", 1),
        ("setup_failed", 1),
        ("invalid_manifest", 3),
        ("invalid_request", 3),
        ("build_failed", 3),
        ("unsafe_archive", 3),
        ("not_found", 4),
        ("conflict", 5),
        ("policy_refused", 5),
        ("unauthenticated", 6),
        ("forbidden", 6),
        ("unavailable", 7),
        ("lease_lost", 7),
        ("router_unavailable", 7),
        ("runtime_unavailable", 7),
        ("storage_full", 7),
        ("server_unreachable", 7),
        ("something_of_a_newer_server", 1),
    ],
)
def test_what_a_server_refuses_is_told_and_ends_with_its_code(turnout: CommandLine, code: str, exit_code: int) -> None:
    body = {
        "type": f"urn:turnout:problem:{code}",
        "detail": "it cannot be",
        "hint": "try something else",
        "problems": ["rings.dev: odd"],
    }
    turnout.speaks_to(Refusing(Problem(body, 409)))
    done = turnout("status", "support")
    assert done.code == exit_code
    assert done.out == ""
    assert done.err.splitlines() == ["error: it cannot be", "  - rings.dev: odd", "hint: try something else"]


def test_with_json_a_problem_is_an_object_too(turnout: CommandLine) -> None:
    turnout.speaks_to(Refusing(ServerUnreachable("nobody answers", hint="start it")))
    done = turnout("status", "--json")
    assert done.code == 7
    assert done.json()["type"] == "urn:turnout:problem:server_unreachable"
    assert (done.json()["detail"], done.json()["hint"]) == ("nobody answers", "start it")
    assert "error: nobody answers" in done.err


@pytest.mark.parametrize(
    "arguments",
    [
        ("status",),
        ("promote", "support", "--to", "staging"),
        ("approve", "support", "--ring", "production"),
        ("reject", "support", "--ring", "production"),
        ("rollout", "advance", "support", "--ring", "production"),
        ("rollout", "abort", "support", "--ring", "production"),
        ("rollback", "support", "--ring", "production"),
        ("deployments", "list"),
        ("deployments", "status", "dep_1"),
        ("history", "support"),
        ("logs", "support", "--ring", "dev"),
        ("diff", "v1", "v2", "--agent", "support"),
        ("tokens", "create", "bob", "--role", "approver"),
        ("tokens", "list"),
        ("tokens", "revoke", "bob"),
    ],
)
def test_a_verb_without_an_instance_says_how_to_get_one(turnout: CommandLine, arguments: tuple[str, ...]) -> None:
    done = turnout(*arguments)
    assert done.code == 7
    assert f"no instance is known in {turnout.state}" in done.err
    assert "hint: start one with `turnout up`" in done.err


def test_a_server_without_a_token_asks_for_one(turnout: CommandLine) -> None:
    done = turnout("status", "--server", "http://127.0.0.1:1")
    assert done.code == 6
    assert "TURNOUT_TOKEN" in done.err


def test_the_token_of_the_state_folder_goes_to_its_own_instance_alone(turnout: CommandLine) -> None:
    turnout.state.mkdir()
    (turnout.state / "instance.json").write_text(json.dumps({"api": "http://127.0.0.1:1"}))
    (turnout.state / "admin.token").write_text("tt_secret")
    done = turnout("status", "--server", "http://elsewhere.example:1")
    assert (done.code, "no token for http://elsewhere.example:1" in done.err) == (6, True)


def test_what_is_no_url_is_refused(turnout: CommandLine) -> None:
    done = turnout("status", "--server", "localhost:7070")
    assert done.code == 3
    assert "hint: such as http://" in done.err


def test_an_interruption_is_130(turnout: CommandLine) -> None:
    class Interrupted:
        def agents(self) -> None:
            raise KeyboardInterrupt

    turnout.speaks_to(Interrupted())
    assert turnout("status").code == 130


def test_down_without_an_instance_says_where_it_looked(turnout: CommandLine) -> None:
    done = turnout("down")
    assert done.code == 1
    assert str(turnout.state) in done.err
    assert "--state" in done.err


def test_verify_names_what_is_damaged(turnout: CommandLine) -> None:
    assert turnout("verify").code == 4
    digest = damage(turnout.state / "artifacts")
    done = turnout("verify")
    assert done.code == 1
    assert digest in done.err
    assert "hint:" in done.err


def test_verify_of_a_sound_store_is_content(turnout: CommandLine) -> None:
    OciLayoutStore(turnout.state / "artifacts").write([b"sound"])
    assert turnout("verify").out == "every blob has its digest\n"
    assert turnout("verify", "--json").json() == {"damages": []}


def damage(folder: Path) -> str:
    """A store with one blob whose bytes are not those of its digest; returns the digest."""
    store = OciLayoutStore(folder)
    digest = store.write([b"as it was written"])
    (blob,) = [path for path in folder.rglob(digest.removeprefix("sha256:")) if path.is_file()]
    blob.chmod(0o600)
    blob.write_bytes(b"as it is now")
    return digest


class StandingRejection:
    """A server on which somebody rejected before."""

    def decide(self, agent: str, ring: str, body: object) -> dict[str, Any]:
        return {
            "agent": agent,
            "ring": ring,
            "digest": make_digest("v1"),
            "needed": 1,
            "approvers": ["bob"],
            "satisfied": False,
            "changed": [],
            "evals": [],
            "replay": None,
            "message": "rejected by eve",
        }


def test_an_approval_against_a_standing_rejection_says_so(turnout: CommandLine) -> None:
    turnout.speaks_to(StandingRejection())
    done = turnout("approve", "support", "--ring", "production")
    assert done.code == 5
    assert "the rejection stands" in done.err
    assert turnout("reject", "support", "--ring", "production").code == 0


@pytest.mark.parametrize("verb", ["verify", "approve"])
def test_with_json_there_is_one_document_on_standard_output(turnout: CommandLine, verb: str) -> None:
    damage(turnout.state / "artifacts")
    turnout.speaks_to(StandingRejection())
    done = turnout(verb, *(("support", "--ring", "production") if verb == "approve" else ()), "--json")
    assert done.code in (1, 5)
    assert isinstance(done.json(), dict)
