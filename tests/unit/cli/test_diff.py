"""`turnout diff`: short first, details below, nothing raw on the terminal, and JSON for programs."""

from __future__ import annotations

from typing import Any

import pytest

from tests.unit.cli.command import CommandLine
from tests.unit.domain.values import make_digest
from turnout.cli.diff import _changed_words
from turnout.schemas import ChangeView, ComponentDiff, DiffView
from turnout.services.releases import summarize

ONE, TWO = make_digest("v1"), make_digest("v2")


def component(name: str, *changes: ChangeView, text: str = "something changed", left_out: int = 0) -> ComponentDiff:
    counts: dict[str, Any] = {}
    for change in changes:
        counts.setdefault(change["kind"], {"added": 0, "removed": 0, "changed": 0, "renamed": 0})[change["change"]] += 1
    return {
        "component": name,
        "a": ONE,
        "b": TWO,
        "summary": {"text": text, "kinds": counts},
        "changes": list(changes),
        "left_out": left_out,
    }


def file(size: int, **more: Any) -> dict[str, Any]:
    return {"size": size, "digest": ONE, "executable": False, **more}


def changed(kind: str, path: str, **more: Any) -> ChangeView:
    change: Any = {"kind": kind, "path": path, "change": "changed", **more}
    found: ChangeView = change
    return found


CODE = component(
    "code",
    changed("dependency", "httpx", before="0.27.0", after="0.28.1", note="another source"),
    changed("file", "logo.png", before=file(10), after=file(2_500_000), note="not a text"),
    changed("file", "b.py", change="renamed", before=file(5, path="a.py"), after=file(5)),
    text="1 dependency changed",
    left_out=1_234,
)
PROMPTS = component(
    "prompts",
    changed(
        "prompt",
        "system.md",
        diff="@@ -1,2 +1,2 @@\n You are kind.\n-Answer in long sentences.\n+Answer in short sentences.",
    ),
    text="1 prompt changed",
)
DATA = component(
    "data",
    changed(
        "file",
        "index/docs.jsonl",
        before=file(2_000_000_000),
        after=file(2_000_000_000),
        bytes={"before": 1, "after": 1, "removed": 0, "added": 0, "share": 0.0123},
    ),
    changed("document", "index/docs.jsonl#7", id=7, note="other: text"),
)


class Instance:
    def __init__(self, *components: ComponentDiff, b: str = TWO) -> None:
        self.view: DiffView = {
            "a": ONE,
            "b": b,
            "a_version": "v1",
            "b_version": "v2",
            "changed": [found["component"] for found in components],
            "summary": summarize(components),
            "components": list(components),
        }

    def diff(self, agent: str, a: str, b: str) -> DiffView:
        assert (agent, a, b) == ("support", "v1", "ring:dev")
        return self.view


DIFF = ("diff", "v1", "ring:dev", "--agent", "support")


@pytest.fixture
def shown(turnout: CommandLine) -> str:
    turnout.speaks_to(Instance(CODE, PROMPTS, DATA))
    done = turnout(*DIFF)
    assert (done.code, done.err) == (0, "")
    return done.out


def test_one_line_a_component_comes_first(shown: str) -> None:
    assert shown.splitlines()[:4] == [
        f"v1 ({ONE[7:14]}) → v2 ({TWO[7:14]})",
        "  code     1 dependency changed",
        "  prompts  1 prompt changed",
        "  data     something changed",
    ]


def test_details_follow_by_component(shown: str) -> None:
    for line in (
        "  ~ dependency httpx: 0.27.0 → 0.28.1  (another source)",
        "  ~ file logo.png: 10 B → 2.5 MB  (not a text)",
        "  > file b.py: 5 B, was a.py",
        "  … 1,234 more changes",
        "  ~ prompt system.md",
        "      @@ -1,2 +1,2 @@",
        "      -Answer in long sentences.",
        "      +Answer in short sentences.",
        "  ~ file index/docs.jsonl: 2 GB, 1.2% of the bytes",
        "  ~ document index/docs.jsonl#7  (other: text)",
    ):
        assert line in shown.splitlines()


def test_where_nothing_is_a_terminal_there_is_no_colour(shown: str) -> None:
    assert "\x1b" not in shown


def test_on_a_terminal_the_words_that_differ_stand_out(turnout: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    turnout.speaks_to(Instance(PROMPTS))
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("NO_COLOR", raising=False)
    out = turnout(*DIFF).out
    assert "\x1b[7;31mlong\x1b[0m" in out
    assert "\x1b[7;32mshort\x1b[0m" in out
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\x1b[31m" not in turnout(*DIFF).out


def test_only_the_components_that_were_asked_for(turnout: CommandLine) -> None:
    turnout.speaks_to(Instance(CODE, PROMPTS, DATA))
    out = turnout(*DIFF, "--component", "prompts", "--component", "data").out
    assert "httpx" not in out
    assert "system.md" in out
    assert "docs.jsonl" in out
    assert "nothing differs in what was asked for" in turnout(*DIFF, "--component", "config").out
    found = turnout(*DIFF, "--component", "prompts", "--json").json()
    assert [item["component"] for item in found["components"]] == ["prompts"]
    assert found["changed"] == ["code", "prompts", "data"]
    assert turnout(*DIFF, "--component", "wheels").code == 2


def test_the_short_form_is_one_line_a_component(turnout: CommandLine) -> None:
    turnout.speaks_to(Instance(CODE, PROMPTS))
    assert len(turnout(*DIFF, "--stat").out.splitlines()) == 3
    found = turnout(*DIFF, "--stat", "--json").json()
    assert "components" not in found
    assert found["summary"]["text"] == "code: 1 dependency changed; prompts: 1 prompt changed"


def test_json_is_what_the_api_answers(turnout: CommandLine) -> None:
    instance = Instance(CODE, PROMPTS, DATA)
    turnout.speaks_to(instance)
    assert turnout(*DIFF, "--json").json() == instance.view
    assert instance.view["summary"]["total"] == {"added": 0, "removed": 0, "changed": 5, "renamed": 1}
    assert list(instance.view["summary"]["components"]) == ["code", "prompts", "data"]


def test_the_same_release_is_said_to_be_the_same(turnout: CommandLine) -> None:
    instance = Instance(b=ONE)
    turnout.speaks_to(instance)
    done = turnout(*DIFF)
    assert (done.code, done.out) == (0, f"v2 ({ONE[7:14]}): the same release\n")
    assert instance.view["summary"]["same"] is True
    assert instance.view["summary"]["text"] == "the same release"


def test_nothing_in_a_release_acts_on_the_terminal(turnout: CommandLine) -> None:
    evil = "\x1b]0;owned\x07\u202e\r[bold]x[/bold]\x9b31m"
    turnout.speaks_to(
        Instance(
            component(
                f"prompts{evil}",
                changed("prompt", evil, diff=f"@@ -1 +1 @@\n-{evil}a\tb\n+{evil}a\tc", note=evil),
                changed("env", evil, before=evil, after={evil: [evil]}),
                text=evil,
            )
        )
    )
    out = turnout(*DIFF).out
    assert not {"\x1b", "\x07", "\u202e", "\r", "\x9b"} & {*out}
    assert "\\x1b]0;owned\\x07\\u202e\\r[bold]x[/bold]\\x9b31m" in out


def test_long_lines_are_not_broken_and_long_values_are_shortened(turnout: CommandLine) -> None:
    line = "word " * 400
    turnout.speaks_to(
        Instance(
            component("config", changed("env", "A", before=line), changed("smoke", "body", diff=f"@@\n+{line}end"))
        )
    )
    out = turnout(*DIFF).out.splitlines()
    assert any(found.endswith("word end") for found in out)
    assert max(len(found) for found in out if "env A" in found) < 300


def test_words_are_compared_only_where_lines_are_alike() -> None:
    assert _changed_words("-one two three", "+one 2 three")[1] == [("one ", False), ("2", True), (" three", False)]
    assert _changed_words("-abc def", "+xyz") == ([("abc def", False)], [("xyz", False)])
    assert _changed_words("-" + "a " * 5_000, "+" + "a " * 5_001)[0] == [("a " * 5_000, False)]


def test_without_an_agent_and_a_manifest_the_way_out_is_told(
    turnout: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(turnout.state.parent)
    turnout.speaks_to(Instance())
    done = turnout("diff", "v1", "v2")
    assert done.code == 4
    assert "--agent" in done.err
