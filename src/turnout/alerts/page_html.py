"""A deployment on one page of HTML: nothing from elsewhere, no scripts, readable in the light and in the dark. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape

from turnout.alerts.chart import draw_chart
from turnout.alerts.page import ASKED, clean, format_span, format_value, lead_metric, metric_name
from turnout.schemas import WhyArm, WhyEvidence, WhyView

_STYLE = """
:root { color-scheme: light dark; --ink: #1c2128; --soft: #5b6470; --line: #d5dae1; --paper: #ffffff;
  --box: #f4f6f8; --bad: #b42318; --good: #1a7f37; --wait: #8a5a00; --a: #b42318; --b: #0b63b0; --c: #7a3fb5; --d: #5b6470; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6e9ee; --soft: #9aa4b1; --line: #363d47; --paper: #14181d;
  --box: #1d232a; --bad: #ff8d80; --good: #63d58a; --wait: #e8b04b; --a: #ff8d80; --b: #6db7ff; --c: #c79bff;
  --d: #9aa4b1; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--paper); color: var(--ink); font: 15px/1.5 system-ui, sans-serif; }
main { max-width: 860px; margin: 0 auto; padding: 28px 20px 48px; }
h1 { font-size: 22px; line-height: 1.3; margin: 0 0 6px; overflow-wrap: anywhere; }
h2 { font-size: 13px; letter-spacing: .06em; text-transform: uppercase; color: var(--soft); margin: 28px 0 8px; }
p { margin: 0 0 6px; overflow-wrap: anywhere; }
.kind { display: inline-block; font-size: 12px; font-weight: 600; border: 1px solid; border-radius: 4px; padding: 0 7px; }
.bad { color: var(--bad); } .good { color: var(--good); } .wait { color: var(--wait); } .soft { color: var(--soft); }
.facts { display: grid; grid-template-columns: repeat(auto-fit, minmax(170px, 1fr)); gap: 10px; margin-top: 16px; }
.facts div { background: var(--box); border-radius: 6px; padding: 8px 12px; overflow-wrap: anywhere; }
.facts span { display: block; color: var(--soft); font-size: 12px; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
th { text-align: left; font-weight: 600; color: var(--soft); font-size: 12px; }
th, td { padding: 5px 12px 5px 0; border-bottom: 1px solid var(--line); vertical-align: top;
  overflow-wrap: break-word; }
.scroll { overflow-x: auto; }
td.time { white-space: nowrap; }
pre, code { font: 13px/1.45 ui-monospace, Menlo, Consolas, monospace; }
pre { background: var(--box); border-radius: 6px; padding: 10px 12px; margin: 4px 0 10px; white-space: pre-wrap;
  overflow-wrap: anywhere; }
pre .add { color: var(--good); } pre .del { color: var(--bad); }
svg { display: block; width: 100%; height: auto; margin: 10px 0 2px; }
svg text { font: 11px system-ui, sans-serif; fill: var(--soft); }
"""
_KINDS = {
    "judge": ("bad", "taken back by the judge"),
    "breaker": ("bad", "a breaker tripped"),
    "person": ("wait", "decided by a person"),
    "check": ("bad", "a check did not pass"),
    "waiting": ("wait", "waits"),
    "none": ("good", "no incident"),
}
# What a browser may do with the page: show it.
CONTENT_POLICY = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"


def build_html_page(why: WhyView) -> str:
    """The whole document."""
    title = _text(why["headline"])
    body = "\n".join(
        part for part in (_head(why), _evidence(why), _diff(why), _people(why), _done(why), _next(why)) if part
    )
    return (
        f'<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{CONTENT_POLICY}">\n'
        f"<title>{title}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n<main>\n{body}\n</main>\n</body>\n</html>\n"
    )


def _head(why: WhyView) -> str:
    cause, deployment, serving = why["cause"], why["deployment"], why["serving"]
    colour, label = _KINDS.get(cause["kind"], ("soft", cause["kind"]))
    facts = [("state", deployment["state"]), ("serves now", serving["stable_version"] or "nothing")]
    if serving["candidate"]:
        facts[-1] = ("serves now", f"{facts[-1][1]}, {serving['candidate_version']} gets {serving['weight']:g} %")
    if cause["at"]:
        facts.append(("when", _time(cause["at"])))
    if (decision := why["decision"]) is not None:
        tasks = f" and {decision['tasks']:,} tasks" if decision["tasks"] is not None else ""
        facts.append(("decided after", f"{format_span(decision['seconds'])}{tasks}"))
    boxes = "".join(f"<div><span>{_text(name)}</span>{_text(value)}</div>" for name, value in facts)
    return (
        f'<span class="kind {colour}">{_text(label)}</span>\n<h1>{_text(why["headline"])}</h1>\n'
        f"<p>{_text(cause['text'] or 'no reason was given')}</p>\n"
        f'<p class="soft">{_text(deployment["kind"])} {_text(deployment["id"])}</p>\n<div class="facts">{boxes}</div>'
    )


def _evidence(why: WhyView) -> str:
    parts = []
    if (tripped := why["breaker"]) is not None:
        share = tripped["metric"] != "cost" and tripped["task"] is None
        value, above = (f"{one:.1%}" if share else f"{one:g}" for one in (tripped["value"], tripped["above"]))
        over = f"task {tripped['task']}" if tripped["task"] else f"{tripped['scope']}, {format_span(tripped['window'])}"
        parts.append(
            f"<h2>Breaker</h2>\n<p>{_text(metric_name(tripped['metric']))} <b>{value}</b>, above {above} ({_text(over)})</p>"
        )
    if (evidence := why["evidence"]) is not None:
        parts.append(f"<h2>Evidence</h2>\n{_table(evidence)}")
    if (metric := lead_metric(why)) is not None and len(why["series"]) > 1:
        parts.append(draw_chart(why, metric))
    if evidence is not None and evidence["tasks"]:
        rows = (
            (
                _code(item["task"]),
                _text(metric_name(item["metric"])),
                f"×{item['factor']:.3g}",
                _text(_time(item["at"])),
            )
            for item in evidence["tasks"]
        )
        parts.append(
            f"<h2>Tasks that weighed most</h2>\n{_rows(('task', 'metric', 'weight', 'began'), rows, unbroken=3)}"
        )
    return "\n".join(parts)


def _table(evidence: WhyEvidence) -> str:
    if not evidence["units"]:
        return "<p>The judge has looked at no task yet.</p>"
    against = "beyond all numbers" if evidence["against"] is None else f"{evidence['against']:.3g}"
    rows = (
        (
            _text(metric_name(item["metric"])),
            _arm(item["metric"], item["candidate"]),
            _arm(item["metric"], item["stable"]),
            "∞" if item["against"] is None else f"{item['against']:.3g}",
        )
        for item in evidence["metrics"]
    )
    return (
        f"<p>The judge says <b>{_text(evidence['kind'])}</b>: evidence {against}; {evidence['abort_at']:g} takes the "
        f"release back. {evidence['candidates']:,} of {evidence['units']:,} tasks came to the candidate, "
        f"{evidence['expected']:,.0f} were expected.</p>\n{_rows(('metric', 'candidate', 'stable', 'evidence'), rows)}"
    )


def _arm(metric: str, arm: WhyArm) -> str:
    if not arm["units"]:
        return '<span class="soft">no task yet</span>'
    low, high = format_value(metric, arm["low"]), format_value(metric, arm["high"])
    missing = f", {arm['missing']:,} unreported" if arm["missing"] else ""
    return (
        f"<b>{format_value(metric, arm['mean'])}</b> "
        f'<span class="soft">[{low}, {high}] of {arm["units"]:,} tasks{missing}</span>'
    )


def _diff(why: WhyView) -> str:
    if (diff := why["diff"]) is None:
        return ""
    head = f"<h2>What differs from {_text(diff['a_version'])} to {_text(diff['b_version'])}</h2>\n"
    if diff["problem"] is not None:
        return f"{head}<p>It cannot be said: {_text(diff['problem'])}</p>"
    lines = "\n".join(_diff_line(line) for line in diff["lines"])
    more = f'\n<p class="soft">and {diff["left_out"]} more</p>' if diff["left_out"] else ""
    return f"{head}<p>{_text(diff['text'])}</p>" + (f"\n<pre>{lines}</pre>{more}" if lines else "")


def _diff_line(line: str) -> str:
    mark = {"+": "add", "-": "del"}.get(line.strip()[:1]) if line.startswith("  ") else None
    return f'<span class="{mark}">{_text(line)}</span>' if mark else _text(line)


def _people(why: WhyView) -> str:
    release, deployment = why["release"], why["deployment"]
    rows: list[tuple[str, str, str]] = []
    if release is not None:
        commit = f"commit {_code(release['git_sha'][:12])}" if release["git_sha"] else ""
        rows.append((f"built by {_text(release['author'])}", _text(_time(release["created_at"])), commit))
    asked = f"{_text(ASKED.get(deployment['kind'], deployment['kind']))} by {_text(deployment['actor'])}"
    rows.append((asked, _text(_time(deployment["created_at"])), _text(deployment["reason"])))
    for item in why["approvals"]:
        said = "approved" if item["approved"] else "rejected"
        rows.append((f"{said} by {_text(item['by'])}", _text(_time(item["at"])), _text(item["comment"])))
    for over in why["overrides"]:
        what = f"{_text('; '.join(over['overridden']))}: {_text(over['reason'])}"
        rows.append((f"passed over by {_text(over['by'])}", _text(_time(over["at"])), what))
    if release is not None and release["quarantine"]:
        rows.append(("in quarantine", "", _text(release["quarantine"])))
    return f"<h2>Who</h2>\n{_rows(('', '', ''), rows, unbroken=1)}"


def _done(why: WhyView) -> str:
    if not why["done"]:
        return ""
    rows = (
        (f"{_text(step['at'][11:23])}", f"+{format_span(step['after'])}", _text(step["what"]), _text(step["by"]))
        for step in why["done"]
    )
    return f"<h2>What was done</h2>\n{_rows(('time (UTC)', 'after', 'what', 'by'), rows, unbroken=0)}"


def _next(why: WhyView) -> str:
    if not why["next"]:
        return ""
    steps = "\n".join(f"<p>{_text(item['what'])}</p>\n<pre>{_text(item['command'])}</pre>" for item in why["next"])
    return f"<h2>What to do next</h2>\n{steps}"


def _rows(header: Iterable[str], rows: Iterable[Iterable[str]], *, unbroken: int | None = None) -> str:
    """A table of cells that are HTML already. `unbroken`: the column whose lines are not broken."""
    names = list(header)
    head = "<tr>" + "".join(f"<th>{_text(name)}</th>" for name in names) + "</tr>\n" if any(names) else ""
    body = "\n".join(f"<tr>{''.join(_cell(cell, i == unbroken) for i, cell in enumerate(row))}</tr>" for row in rows)
    return f'<div class="scroll"><table>\n{head}{body}\n</table></div>'


def _cell(content: str, unbroken: bool) -> str:
    return f'<td class="time">{content}</td>' if unbroken else f"<td>{content}</td>"


def _text(text: str) -> str:
    return escape(clean(text))


def _code(text: str) -> str:
    return f"<code>{_text(text)}</code>"


def _time(iso: str) -> str:
    return f"{iso[:10]} {iso[11:19]} UTC"
