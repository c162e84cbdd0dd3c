"""A deployment on one page of text, at most 80 columns wide. Pure: from what the API says to what a person reads."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Iterable, Iterator, Mapping, Sequence

from turnout.domain.margins import average_evidence
from turnout.schemas import WhyArm, WhyEvidence, WhyPoint, WhyView

WIDTH = 80
_BARS = "▁▂▃▄▅▆▇█"
_MOST_DONE = 16
TOGETHER = "together"
ASKED = {"deploy": "deployed", "promote": "promoted", "rollback": "rolled back"}
_NAMES = {
    TOGETHER: "all together",
    "failure": "failed tasks",
    "intervention": "interventions",
    "cost": "cost of a task",
    "error_rate": "failed tasks",
    "intervention_rate": "interventions",
    "model_error_rate": "failed model calls",
    "sample_ratio": "share of the tasks",
}


def build_page(why: WhyView) -> str:
    """The page, without colours. Ends with a line break."""
    sections: list[Iterable[str]] = [
        _head(why),
        _evidence(why),
        _differs(why),
        _people(why),
        _done(why),
        _next(why),
    ]
    blocks = ["\n".join(_fit(section)) for section in sections]
    return "\n\n".join(block for block in blocks if block) + "\n"


def clean(text: str) -> str:
    """What a release or a person wrote must not act on a terminal, nor hide: what has no sign of its own is spelt out."""
    return "".join(sign if sign.isprintable() else sign.encode("unicode_escape", "replace").decode() for sign in text)


def metric_name(metric: str) -> str:
    """A metric for people."""
    return _NAMES.get(metric, metric.replace("_", " "))


def format_value(metric: str, value: float | None) -> str:
    """A share in per cent, an amount as it is."""
    if value is None:
        return "∞"
    return f"{value:.3g}" if metric == "cost" else f"{value:.1%}"


def format_span(seconds: float) -> str:
    """A time span for people: `0.4 s`, `12 s`, `3 min 20 s`, `2 h 5 min`, `3 d 4 h`."""
    if seconds < 10:
        return f"{max(seconds, 0.0):.1f} s"
    whole = round(seconds)
    for big, small, size, part in (("d", "h", 86_400, 3_600), ("h", "min", 3_600, 60), ("min", "s", 60, 1)):
        if whole >= size:
            rest = whole % size // part
            return f"{whole // size} {big}" + (f" {rest} {small}" if rest else "")
    return f"{whole} s"


def spark(values: Sequence[float], low: float, high: float) -> str:
    """A line of bars, one a value, between two bounds."""
    span = high - low or 1.0
    steps = [min(max((value - low) / span, 0.0), 1.0) * (len(_BARS) - 1) for value in values]
    return "".join(_BARS[round(step)] for step in steps)


def lead_metric(why: WhyView) -> str | None:
    """The line that the picture is about: all evidence together, or what the breaker looked at."""
    if not why["series"]:
        return None
    return TOGETHER if is_judged(why) else next(iter(why["series"][-1]["against"]), None)


def is_judged(why: WhyView) -> bool:
    """Whether the picture shows evidence, which is read in powers of ten, or plain values."""
    return why["breaker"] is None or why["cause"]["kind"] != "breaker"


def series_of(points: Sequence[WhyPoint], metric: str, *, judged: bool) -> list[float]:
    """The values of a line; of evidence its power of ten. All evidence together is the average of the metrics'."""
    values = [_value(point["against"], metric, 1.0 if judged else 0.0) for point in points]
    return [math.log10(max(value, 1e-3)) for value in values] if judged else values


def _value(against: Mapping[str, float], metric: str, otherwise: float) -> float:
    if metric == TOGETHER and against:
        return average_evidence(against)
    return against.get(metric, otherwise)


# --- sections --------------------------------------------------------------------------------------------------------


def _head(why: WhyView) -> Iterator[str]:
    cause, deployment = why["cause"], why["deployment"]
    yield why["headline"]
    yield "=" * min(len(clean(why["headline"])), WIDTH)
    label = {"waiting": "waits", "none": "reason"}.get(cause["kind"], "why")
    yield _row(label, cause["text"] or "no reason was given")
    if cause["at"] and cause["kind"] != "none":
        yield _row("since" if cause["kind"] == "waiting" else "when", _time(cause["at"]))
    if (decision := why["decision"]) is not None:
        tasks = f", {decision['tasks']:,} tasks of the candidate" if decision["tasks"] is not None else ""
        yield _row("decided", f"after {format_span(decision['seconds'])}{tasks}")
    serving = why["serving"]
    share = f", {serving['candidate_version']} gets {serving['weight']:g} %" if serving["candidate"] else ""
    yield _row("serves", f"{serving['stable_version'] or 'nothing'}{share}")
    yield _row("is", f"{deployment['kind']} {deployment['id']} ({deployment['state']})")


def _evidence(why: WhyView) -> Iterator[str]:
    evidence, tripped = why["evidence"], why["breaker"]
    if tripped is not None:
        yield "BREAKER"
        over = f"task {tripped['task']}" if tripped["task"] else f"{tripped['scope']}, {format_span(tripped['window'])}"
        share = tripped["metric"] != "cost" and tripped["task"] is None
        value, above = (f"{one:.1%}" if share else f"{one:g}" for one in (tripped["value"], tripped["above"]))
        yield f"  {metric_name(tripped['metric'])} {value}, above {above} ({over})"
    if evidence is not None:
        yield "EVIDENCE"
        yield from _numbers(evidence)
    if (metric := lead_metric(why)) is not None and len(why["series"]) > 1:
        yield from _picture(why, metric)
    if evidence is not None and evidence["tasks"]:
        yield "  tasks that weighed most"
        for item in evidence["tasks"]:
            yield f"    {item['task']}  {metric_name(item['metric'])} ×{item['factor']:.3g}"


def _numbers(evidence: WhyEvidence) -> Iterator[str]:
    if not evidence["units"]:
        yield "  the judge has looked at no task yet"
        return
    against = "beyond all numbers" if evidence["against"] is None else f"{evidence['against']:.3g}"
    yield f"  the judge says {evidence['kind']}: evidence {against} ({evidence['abort_at']:g} takes it back)"
    expected = f"{evidence['expected']:,.0f} expected"
    yield f"  {evidence['candidates']:,} of {evidence['units']:,} tasks came to the candidate, {expected}"
    yield f"  {'':<15} {'candidate':<26} {'stable':<26} evidence"
    for metric in evidence["metrics"]:
        name = metric["metric"]
        both = [_arm(name, metric[arm]) for arm in ("candidate", "stable")]
        power = "∞" if metric["against"] is None else f"{metric['against']:.3g}"
        yield f"  {metric_name(name):<15} {both[0]:<26} {both[1]:<26} {power}"


def _arm(metric: str, arm: WhyArm) -> str:
    if not arm["units"]:
        return "no task yet"
    low, high = format_value(metric, arm["low"]), format_value(metric, arm["high"])
    return f"{format_value(metric, arm['mean'])} [{low}, {high}]"


def _picture(why: WhyView, metric: str) -> Iterator[str]:
    judged = is_judged(why)
    values = series_of(why["series"], metric, judged=judged)
    span = format_span(why["series"][-1]["seconds"] - why["series"][0]["seconds"])
    if judged:
        abort = math.log10(why["evidence"]["abort_at"]) if why["evidence"] else max(values)
        line = spark(values, 0.0, max(abort, 0.1))
        yield f"  evidence in {span}; █ takes the release back"
    else:
        line = spark(values, 0.0, max(*values, why["breaker"]["above"] if why["breaker"] else 0.0))
        yield f"  {metric_name(metric)} in {span}, up to {format_value(metric, max(values))}"
    yield f"  {line}"


def _differs(why: WhyView) -> Iterator[str]:
    if (diff := why["diff"]) is None:
        return
    yield f"WHAT DIFFERS from {diff['a_version']} to {diff['b_version']}"
    if diff["problem"] is not None:
        yield f"  it cannot be said: {diff['problem']}"
        return
    yield f"  {diff['text']}"
    yield from (f"  {line}" for line in diff["lines"])
    if diff["left_out"]:
        yield f"  … and {diff['left_out']} more"


def _people(why: WhyView) -> Iterator[str]:
    release, deployment = why["release"], why["deployment"]
    yield "WHO"
    if release is not None:
        commit = f" of commit {release['git_sha'][:12]}" if release["git_sha"] else ""
        yield f"  built by {release['author']}{commit}, {_time(release['created_at'])}"
    asked = ASKED.get(deployment["kind"], deployment["kind"])
    yield f"  {asked} by {deployment['actor']}, {_time(deployment['created_at'])}"
    for item in why["approvals"]:
        said = "approved" if item["approved"] else "rejected"
        comment = f": {item['comment']}" if item["comment"] else ""
        yield f"  {said} by {item['by']}, {_time(item['at'])}{comment}"
    if not why["approvals"]:
        yield "  approved by nobody"
    for over in why["overrides"]:
        yield f"  {over['by']} passed over {'; '.join(over['overridden'])}: {over['reason']}"
    if release is not None and release["quarantine"]:
        yield f"  in quarantine: {release['quarantine']}"


def _done(why: WhyView) -> Iterator[str]:
    if not (steps := why["done"]):
        return
    yield "WHAT WAS DONE"
    shown = steps if len(steps) <= _MOST_DONE else [*steps[:4], *steps[4 - _MOST_DONE :]]
    for index, step in enumerate(shown):
        if index == 4 and len(shown) < len(steps):
            yield f"  … {len(steps) - len(shown)} more"
        by = f" ({step['by']})" if step["by"] != "turnout" else ""
        yield f"  {step['at'][11:23]}  +{format_span(step['after']):<11} {step['what']}{by}"


def _next(why: WhyView) -> Iterator[str]:
    if not why["next"]:
        return
    yield "WHAT TO DO NEXT"
    for item in why["next"]:
        yield f"  {item['what']}"
        yield f"    {item['command']}"


# --- lines -----------------------------------------------------------------------------------------------------------


def _row(label: str, text: str) -> str:
    return f"{label:<8} {text}"


def _time(iso: str) -> str:
    return f"{iso[:10]} {iso[11:19]} UTC"


def _fit(lines: Iterable[str]) -> Iterator[str]:
    """Cleaned. Long lines go on below, further in; a command is never broken, so that it can be copied."""
    for line in map(clean, lines):
        if len(line) <= WIDTH or line.startswith("    turnout "):
            yield line
            continue
        indent = " " * (len(line) - len(line.lstrip()) + 2)
        yield from textwrap.wrap(line, WIDTH, subsequent_indent=indent, drop_whitespace=True)
