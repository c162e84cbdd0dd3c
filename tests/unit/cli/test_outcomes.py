"""The verbs about tasks: what they send, what they print, and how they end."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from tests.unit.cli.command import CommandLine
from tests.unit.gateway.calls import FULL_MODEL_CALL, FULL_TOOL_CALL, model_call, tool_call
from turnout.client import Problem
from turnout.services.calls import view_metered, view_model_calls, view_tool_calls

TAKEN = {"task": "t1", "state": "counted", "message": "it counts", "agent": "support", "ring": "dev"}
NOTHING = {"success": None, "intervention": None, "cost": None}
REQUEST: dict[str, Any] = {
    "request": "req-1",
    "task": "t1",
    "agent": "support",
    "ring": "production",
    "digest": "sha256:" + "a" * 64,
    "version": "v2",
    "at": "2026-05-04T12:30:00.000000Z",
    "duration": 0.25,
    "status": 200,
    "method": "POST",
    "path": "/ask",
    "bytes_in": 5,
    "bytes_out": 6,
    "flags": "",
    "arm": "candidate",
    "probability": 0.1,
    "rollout": "dep_6",
    "pinned": False,
    "outcome": {"success": False, "intervention": True, "cost": 0.12},
}


@dataclass
class Server:
    """A client that answers as it is told, and remembers what it was asked."""

    taken: dict[str, Any] = field(default_factory=lambda: dict(TAKEN))
    pages: list[dict[str, Any]] = field(default_factory=list)
    view: dict[str, Any] = field(default_factory=dict)
    asked: list[tuple[str, dict[str, Any]]] = field(default_factory=list)

    def report(self, task: str, body: dict[str, Any]) -> dict[str, Any]:
        self.asked.append((task, {name: value for name, value in body.items() if value is not None}))
        return self.taken

    def tasks(self, **filters: Any) -> dict[str, Any]:
        self.asked.append(("tasks", {name: value for name, value in filters.items() if value is not None}))
        return self.pages.pop(0)

    def lineage(self, task: str) -> dict[str, Any]:
        if not self.view:
            raise Problem({"detail": f"there is no task {task}", "type": "urn:turnout:problem:not_found"}, 404)
        return self.view


@pytest.fixture
def server(turnout: CommandLine) -> Server:
    server = Server()
    turnout.speaks_to(server)
    return server


# --- report ----------------------------------------------------------------------------------------------------------


def test_a_report_says_what_was_given_and_nothing_else(turnout: CommandLine, server: Server) -> None:
    done = turnout("report", "t1", "--failure", "--intervention", "--cost", "0.12", "--detail", "no", "--ring", "dev")

    assert (done.code, done.out) == (0, "counted: it counts\n")
    assert server.asked == [
        ("t1", {"success": False, "intervention": True, "cost": 0.12, "detail": "no", "ring": "dev"})
    ]
    turnout("report", "t1", "--success")
    assert server.asked[-1] == ("t1", {"success": True})


def test_a_report_that_says_nothing_is_wrong_usage(turnout: CommandLine, server: Server) -> None:
    done = turnout("report", "t1", "--detail", "hm")

    assert done.code == 2
    assert "--success or --failure" in done.err
    assert server.asked == []


@pytest.mark.parametrize(
    ("state", "code"),
    [("counted", 0), ("repeated", 0), ("waiting", 0), ("contradicts", 5), ("foreign", 5), ("refused", 5)],
)
def test_the_exit_code_tells_whether_the_report_was_taken(
    turnout: CommandLine, server: Server, state: str, code: int
) -> None:
    server.taken["state"] = state

    assert turnout("report", "t1", "--success").code == code
    done = turnout("report", "t1", "--success", "--json")
    assert (done.code, done.json()["state"]) == (code, state)


# --- tasks -----------------------------------------------------------------------------------------------------------


def test_tasks_are_a_table_for_people(turnout: CommandLine, server: Server) -> None:
    under_way = {**REQUEST, "duration": None, "status": 0, "arm": None, "version": None, "digest": None}
    server.pages = [{"tasks": [REQUEST, {**under_way, "outcome": NOTHING}], "next": "more"}]

    done = turnout(
        "tasks", "list", "support", "--ring", "production", "--failed", "--since", "2h", "--arm", "candidate"
    )

    filters = {"agent": "support", "ring": "production", "failed": True, "since": "2h", "arm": "candidate", "limit": 50}
    assert server.asked == [("tasks", filters)]
    _, first, second = done.out.splitlines()
    assert "v2 (aaaaaaa)" in first
    assert first.endswith("failure, intervention, cost 0.12")
    assert second.split()[-3:] == ["…", "…", "-"]


def test_an_export_is_one_json_document_a_line_over_all_pages(turnout: CommandLine, server: Server) -> None:
    server.pages = [{"tasks": [REQUEST] * 2, "next": "c1"}, {"tasks": [REQUEST], "next": None}]

    done = turnout("tasks", "export", "--answered")

    assert [json.loads(line) for line in done.out.splitlines()] == [REQUEST] * 3
    assert [asked.get("cursor") for _, asked in server.asked] == [None, "c1"]
    assert server.asked[0][1]["failed"] is False


def test_an_export_ends_at_its_limit(turnout: CommandLine, server: Server) -> None:
    server.pages = [{"tasks": [REQUEST] * 1_000, "next": "c1"}, {"tasks": [REQUEST] * 5, "next": "c2"}]

    done = turnout("tasks", "export", "--limit", "1005")

    assert len(done.out.splitlines()) == 1_005
    assert [asked["limit"] for _, asked in server.asked] == [1_000, 5]


# --- lineage ---------------------------------------------------------------------------------------------------------


CALLS = (
    model_call("plain", tokens_in=5, prices="sha256:p", nanos=1_500_000),
    FULL_MODEL_CALL,
    tool_call("kept", arguments='{"q": "\x1b[31m"}', result="x" * 500 + "end"),
    FULL_TOOL_CALL,
    replace(FULL_TOOL_CALL, arguments=None, found="f" * 64),
)


def full_view() -> dict[str, Any]:
    """Everything that a lineage can hold."""
    release = {
        "digest": REQUEST["digest"],
        "agent": "support",
        "version": "v2",
        "tags": ["v2"],
        "components": {"code": {"digest": "sha256:" + "c" * 64, "media_type": "", "size": 1}},
        "author": "ann",
        "created_at": REQUEST["at"],
        "git_sha": "abc123",
        "quarantine": "it failed",
    }
    admission = {
        "deployment": "dep_6",
        "kind": "promote",
        "actor": "ann",
        "reason": "it is time",
        "at": REQUEST["at"],
        "source_ring": "staging",
        "approvals": [
            {"approver": "bob", "approved": True, "at": REQUEST["at"], "comment": "fine"},
            {"approver": "cid", "approved": False, "at": REQUEST["at"], "comment": ""},
        ],
        "overrides": [{"actor": "ann", "at": REQUEST["at"], "overridden": ["order of rings"], "reason": "urgent"}],
    }
    payload = {"text": "what \x1b[31mnow", "base64": None, "bytes": 9, "whole": False}
    text = "\n".join(f"line {number}" for number in range(30))
    return {
        "task": "t1",
        "outcome": REQUEST["outcome"],
        "requests": [{**REQUEST, "question": payload, "answer": {**payload, "text": None, "whole": True}}],
        "more": True,
        "releases": [
            {
                "agent": "support",
                "ring": "production",
                "release": release,
                "model": {"provider": "acme", "name": "large", "fallbacks": []},
                "prompts": [
                    {"path": "prompts/a.md", "size": 9, "digest": "sha256:" + "d" * 64, "text": text, "note": ""},
                    {"path": "b.bin", "size": 9, "digest": "sha256:" + "e" * 64, "text": None, "note": "not a text"},
                ],
                "start": ["python"],
                "env": {"LOG": "info"},
                "success": "report",
                "admission": admission,
                "problems": ["the model is gone"],
            }
        ],
        "verdicts": [
            {
                "rollout": "dep_6",
                "at": REQUEST["at"],
                "step": 1,
                "weight": 10.0,
                "kind": "hold",
                "against": {"success": 12.5},
                "latest": "fail",
                "latest_at": REQUEST["at"],
                "decided": "fail",
                "events": [{"type": "rollout.judged", "at": REQUEST["at"], "actor": "turnout", "data": {}}],
            }
        ],
        "reports": [
            {
                "at": REQUEST["at"],
                "agent": "support",
                "ring": "dev",
                "source": "report",
                "reporter": "bob",
                "success": False,
                "intervention": None,
                "cost": None,
                "detail": "wrong \x1b]0;city",
                "state": "counted",
                "counts": ["success"],
            }
        ],
        "metered": view_metered(CALLS),
        "model_calls": view_model_calls(CALLS),
        "tool_calls": view_tool_calls(CALLS),
        "more_calls": True,
    }


def test_a_lineage_is_a_page_for_people(turnout: CommandLine, server: Server) -> None:
    server.view = full_view()

    shown = turnout("lineage", "t1").out

    for part in (
        "task t1: failure, intervention, cost 0.12",
        "POST /ask",
        "10.00%",
        "… and earlier ones",
        "asked (req-1, 9 bytes, not all of it):",
        "(not a text; see --json)",
        "support v2 in production",
        "commit abc123",
        "quarantine it failed",
        "pinned     provider acme, name large",
        "env        LOG=info",
        "came by    promote from staging of ann, 2026-05-04 12:30:00: it is time  [dep_6]",
        "approved by bob, 2026-05-04 12:30:00: fine",
        "rejected by cid",
        "ann passed over order of rings: urgent",
        "problem    the model is gone",
        "| line 19",
        "10 more lines, with --full",
        "(not a text)",
        "rollout dep_6 at 2026-05-04 12:30:00: step 1, 10 %",
        "hold; evidence against it: success 12.5",
        "fail at 2026-05-04 12:30:00; acted on: fail",
        "rollout.judged by turnout",
        "model calls  2, 17 tokens in, 40 out, $0.001623, partly estimated",
        "openai/gpt-4o-2024-08-06",
        "~12 (3 cached)",
        "call-1: cut: the stream broke off",
        "tried openai-eu (gpt-4o), 0.100 s: overloaded",
        "tried openai-us (gpt-4o), 1.400 s: no answer",
        "docs/search  0.200 s  done",
        'arguments  {"q": "·[31m"}',
        "… with --full",
        "docs/search  0.200 s  the tool failed: the schema changed",
        f"pinned     {'e' * 64}",
        f"found      {'f' * 64}",
        f"arguments  sha256:{'c' * 64}",
        "… and later calls",
    ):
        assert part in shown, part
    assert "line 20" not in shown
    assert "line 29" in (whole := turnout("lineage", "t1", "--full").out)
    assert "xend" in whole
    assert "xend" not in shown


def test_what_callers_and_reporters_wrote_steers_no_terminal(turnout: CommandLine, server: Server) -> None:
    server.view = full_view()

    shown = turnout("lineage", "t1").out

    assert "\x1b" not in shown
    assert "what ·[31mnow" in shown
    assert "wrong ·]0;city" in shown


def test_names_and_paths_that_callers_chose_steer_no_terminal(turnout: CommandLine, server: Server) -> None:
    hidden = "\x9b31m\u202egnp"
    request = {**full_view()["requests"][0], "task": hidden, "request": hidden, "path": f"/{hidden}"}
    server.view = {**full_view(), "task": hidden, "requests": [request]}
    server.view["reports"] = [{**server.view["reports"][0], "reporter": hidden}]
    server.pages = [{"tasks": [request], "next": None}]

    shown = turnout("lineage", "t1").out + turnout("tasks", "list").out

    assert "\x9b" not in shown
    assert "\u202e" not in shown
    assert shown.count("·31m·gnp") == 7  # task, request, path, both payloads, reporter; task


def test_a_lineage_as_json_is_what_the_server_said(turnout: CommandLine, server: Server) -> None:
    server.view = full_view()

    assert turnout("lineage", "t1", "--json").json() == server.view


def test_a_task_that_is_only_reported_is_shown(turnout: CommandLine, server: Server) -> None:
    server.view = {**full_view(), "requests": [], "releases": [], "verdicts": [], "more": False}

    assert "no request of it has been seen" in turnout("lineage", "t1").out


def test_a_task_that_nobody_knows_is_not_found(turnout: CommandLine, server: Server) -> None:
    assert turnout("lineage", "t1").code == 4
