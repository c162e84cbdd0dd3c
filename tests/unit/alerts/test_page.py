"""The page of an incident: all of it, on 80 columns, and nothing that acts on a terminal or a browser."""

from __future__ import annotations

from html.parser import HTMLParser
from typing import Any

import pytest

from tests.unit.alerts.incident import judged, rolled_back
from turnout.alerts.page import build_page, clean, format_span, spark
from turnout.alerts.page_html import build_html_page
from turnout.schemas import WhyBreaker, WhyPoint, WhyView
from turnout.services.evidence import read_evidence, read_series

BREAKER: WhyBreaker = {
    "scope": "deployment", "metric": "error_rate", "value": 0.34, "above": 0.2, "window": 300.0, "task": None
}  # fmt: skip
POINTS: list[WhyPoint] = [{"seconds": at * 10.0, "against": {"error_rate": at / 100}} for at in range(30)]


def broken(**fields: Any) -> WhyView:
    """What a breaker took back."""
    cause = {"kind": "breaker", "text": "breaker: 34 %", "by": "turnout", "at": None, "metric": "error_rate"}
    return rolled_back(cause=cause, breaker=BREAKER, evidence=None, series=POINTS, **fields)


def bare() -> WhyView:
    """A deployment of which next to nothing is known."""
    nothing: dict[str, Any] = dict.fromkeys(("release", "decision", "evidence", "breaker", "diff"))
    lists: dict[str, Any] = {name: [] for name in ("series", "approvals", "overrides", "done", "next")}
    return rolled_back(**nothing, **lists)


def test_a_page_says_what_why_who_and_what_now() -> None:
    page = build_page(rolled_back())
    for part in (
        "support production: v5 was taken back by the judge",
        "evidence",
        "failed tasks    29.6%",
        "tasks that weighed most",
        "WHAT DIFFERS from v4 to v5",
        "+Answer at length, and name your sources.",
        "built by ann@example.com of commit 8f14e45fceea",
        "approved by bob",
        "root passed over",
        "in quarantine",
        "traffic: everything to v4, nothing to v5",
        "    turnout lineage task-17",
    ):
        assert part in page, part


@pytest.mark.parametrize("why", [rolled_back(), broken(), bare()], ids=["judged", "broken", "bare"])
def test_a_page_is_80_columns_wide_and_ends_with_a_line(why: WhyView) -> None:
    page = build_page(why)
    assert max(len(line) for line in page.splitlines()) <= 80
    assert page.endswith("\n")
    assert not page.endswith("\n\n")


def test_long_texts_are_broken_and_commands_are_not() -> None:
    command = "turnout lineage " + "x" * 100
    why = rolled_back(next=[{"what": "w " * 80, "command": command}])
    lines = build_page(why).splitlines()
    assert f"    {command}" in lines
    assert all(len(line) <= 80 for line in lines if not line.startswith("    turnout "))


def test_a_picture_of_evidence_ends_where_the_release_is_taken_back() -> None:
    page = build_page(rolled_back())
    line = next(line for line in page.splitlines() if line.strip() and set(line.strip()) <= set("▁▂▃▄▅▆▇█"))
    assert line.endswith("█")


def test_a_judge_that_has_seen_nothing_says_so() -> None:
    evidence = read_evidence(judged())
    why = rolled_back(evidence={**evidence, "units": 0}, series=[])
    assert "the judge has looked at no task yet\n" in build_page(why)
    assert "The judge has looked at no task yet." in build_html_page(why)


def test_a_breaker_shows_what_it_looked_at() -> None:
    page = build_page(broken())
    assert "failed tasks 34.0%, above 20.0% (deployment, 5 min)" in page
    assert "failed tasks in 4 min 50 s, up to 29.0%" in page
    assert "EVIDENCE" not in page


def test_a_breaker_of_one_task_names_it() -> None:
    tripped: WhyBreaker = {**BREAKER, "scope": "run", "metric": "cost", "value": 12.5, "above": 5.0, "task": "task-9"}
    assert "cost of a task 12.5, above 5 (task task-9)" in build_page({**broken(), "breaker": tripped})


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-1, "0.0 s"),
        (0.44, "0.4 s"),
        (12.3, "12 s"),
        (60, "1 min"),
        (200, "3 min 20 s"),
        (7_500, "2 h 5 min"),
        (273_600, "3 d 4 h"),
    ],
)
def test_spans_are_read_by_people(seconds: float, text: str) -> None:
    assert format_span(seconds) == text


def test_sparks_stay_within_their_bounds() -> None:
    assert spark([-5, 0, 0.5, 1, 9], 0.0, 1.0) == "▁▁▅██"
    assert spark([3.0, 3.0], 3.0, 3.0) == "▁▁"
    assert spark([], 0.0, 1.0) == ""


HOSTILE = "\x1b[2J<script>alert(1)</script>\u202e\"'&\x07"


def hostile() -> WhyView:
    """Everything that somebody else wrote is hostile."""

    def poison(value: Any) -> Any:
        if isinstance(value, dict):
            return {name: item if name in ("at", "created_at") else poison(item) for name, item in value.items()}
        if isinstance(value, list):
            return [poison(item) for item in value]
        return f"{value}{HOSTILE}" if isinstance(value, str) else value

    found: WhyView = poison(rolled_back(breaker={**BREAKER, "task": "t"}))
    return found


def test_what_others_wrote_does_not_act_on_a_terminal() -> None:
    page = build_page(hostile())
    assert not {"\x1b", "\x07", "\u202e"} & set(page)
    assert "\\x1b[2J" in page
    assert all(sign.isprintable() or sign == "\n" for sign in page)


def test_what_others_wrote_does_not_act_on_a_browser() -> None:
    tags, external = scan(build_html_page(hostile()))
    assert "script" not in tags
    assert external == []
    assert tags["svg"] == tags["html"] == 1


def scan(page: str) -> tuple[dict[str, int], list[str]]:
    """(how often each tag is opened, attributes that load or run something)."""
    tags: dict[str, int] = {}
    external: list[str] = []

    class Reader(HTMLParser):
        def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            tags[tag] = tags.get(tag, 0) + 1
            external.extend(name for name, _ in attrs if name in ("src", "href", "action") or name.startswith("on"))

    Reader().feed(page)
    return tags, external


@pytest.mark.parametrize("why", [rolled_back(), broken(), bare()], ids=["judged", "broken", "bare"])
def test_a_html_page_is_whole_and_needs_nothing(why: WhyView) -> None:
    page = build_html_page(why)
    tags, external = scan(page)
    assert external == []
    assert not {"script", "link", "img", "iframe", "object"} & set(tags)
    assert "url(" not in page
    assert "default-src 'none'" in page
    assert tags.get("svg", 0) == bool(why["series"])
    assert page.count("<table>") == page.count("</table>")


def test_clean_spells_out_what_has_no_sign() -> None:
    assert clean("ä ✓ \x00\u200b\ud800") == "ä ✓ \\x00\\u200b\\ud800"


def test_a_verdict_of_the_judge_is_read_whole() -> None:
    verdict = judged()
    evidence, series = read_evidence(verdict), read_series(verdict)
    assert (evidence["kind"], evidence["metric"], evidence["abort_at"]) == ("fail", "failure", 20.0)
    failure = next(metric for metric in evidence["metrics"] if metric["metric"] == "failure")
    assert failure["candidate"]["mean"] > failure["stable"]["high"] if failure["stable"]["high"] else False
    assert evidence["tasks"][0]["factor"] >= evidence["tasks"][-1]["factor"] > 1
    assert len(evidence["tasks"]) == 5
    assert series[-1]["against"]["failure"] == failure["against"]
    assert [point["seconds"] for point in series] == sorted(point["seconds"] for point in series)


@pytest.mark.parametrize("verdict", [{}, {"metrics": None}, {"metrics": {"failure": {}}, "ratio": 5, "weighed": "x"}])
def test_a_verdict_of_another_version_is_read_as_far_as_it_goes(verdict: dict[str, object]) -> None:
    assert read_evidence(verdict)["kind"] == "inconclusive"
    assert read_series(verdict) == []


def test_a_long_course_is_thinned_out() -> None:
    points = [{"at": float(at), "against": {"failure": 1.0 + at}} for at in range(240)]
    series = read_series({"history": points, "at": 240.0, "metrics": {"failure": {"against": 999.0}}})
    assert len(series) <= 61
    assert series[-1] == {"seconds": 240.0, "against": {"failure": 999.0}}
