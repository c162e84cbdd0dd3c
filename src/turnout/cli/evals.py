"""`turnout evals`."""

from __future__ import annotations

from collections.abc import Iterator
from statistics import fmean

import click

from turnout.cli.agent import agent_here
from turnout.cli.connection import connected, print_json
from turnout.cli.evidence_table import describe_value, show_verdict
from turnout.cli.tables import local_time, plain, release_label, show_table
from turnout.client import Client
from turnout.domain.errors import InvalidRequest
from turnout.domain.eval_report import EvalReport, metric_name, parse_report
from turnout.domain.evals import COST, LATENCY, SUCCESS, Run, metric_value
from turnout.schemas import EvalRunView

_agent = click.option("--agent", help="Agent of the run. Default: the one of turnout.toml in this folder.")


@click.group()
def evals() -> None:
    """Show what suites found, and compare two runs."""


@evals.command("list", short_help="Show runs of suites, newest first.")
@click.argument("agent", required=False)
@click.option("--release", help="Only of this release: a version, digest or ring:NAME.")
@click.option("--suite", help="Only of this suite.")
@click.option("--limit", type=click.IntRange(1, 1000), default=50, show_default=True, help="How many at most.")
@connected
def list_(client: Client, agent: str | None, release: str | None, suite: str | None, limit: int, as_json: bool) -> None:
    """Show the runs of suites against the releases of AGENT, newest first."""
    found = client.evals(agent or agent_here(), release=release, suite=suite, limit=limit)
    if as_json:
        print_json(found)
        return
    show_table(("run", "suite", "release", "at", "by", "success", ""), (_row(run) for run in found["runs"]))


@evals.command(short_help="Show one run, with the cases that were not passed.")
@click.argument("run")
@_agent
@click.option("--all", "everything", is_flag=True, help="Show passed cases too.")
@connected
def show(client: Client, run: str, agent: str | None, everything: bool, as_json: bool) -> None:
    """Show what RUN was held against, and each case that was not passed in all of its repeats."""
    view = client.eval_run(agent or agent_here(), run)
    if as_json:
        print_json(view)
        return
    click.echo(f"{view['agent']} {release_label(view['version'], view['digest'])}  suite {view['suite_digest']}")
    click.echo(f"{local_time(view['at'])} by {view['actor']}")
    show_verdict(view["suite"], view["verdict"])
    shown = list(_cases(parse_report(view["document"].encode()), everything=everything))
    if shown:
        click.echo()
        show_table(("case", "passed", "cost", "time", "what was said"), shown)


@evals.command(short_help="Show what differs between two runs of a suite, case by case.")
@click.argument("before")
@click.argument("after")
@_agent
@connected
def compare(client: Client, before: str, after: str, agent: str | None, as_json: bool) -> None:
    """Show by how much AFTER is better or worse than BEFORE: each metric, and each case whose success differs."""
    name = agent or agent_here()
    views = [client.eval_run(name, run) for run in (before, after)]
    old, new = (parse_report(view["document"].encode()) for view in views)
    if old.suite != new.suite:
        raise InvalidRequest(f"these are runs of two suites, {old.suite} and {new.suite}", hint="compare runs of one")
    changes = _changes(old, new)
    if as_json:
        same = old.suite_digest == new.suite_digest
        print_json({"before": before, "after": after, "same_suite": same, "cases": changes})
        return
    if old.suite_digest != new.suite_digest:
        click.echo("the suite itself has changed between the two")
    show_table(("metric", "before", "after"), _metrics(old, new))
    click.echo()
    rows = ([plain(str(item["case"])), _share(item["before"]), _share(item["after"])] for item in changes)
    if changes:
        show_table(("case", "before", "after"), rows)
    else:
        click.echo("no case has changed")


def _row(run: EvalRunView) -> list[str]:
    mark = click.style("passed", fg="green") if run["passed"] else click.style("not passed", fg="red")
    success = next((item["mean"] for item in run["verdict"]["findings"] if item["metric"] == SUCCESS), None)
    release = release_label(run["version"], run["digest"])
    return [
        run["id"],
        run["suite"],
        release,
        local_time(run["at"]),
        run["actor"],
        describe_value(SUCCESS, success),
        mark,
    ]


def _cases(report: EvalReport, *, everything: bool) -> Iterator[list[str]]:
    for case, runs in _by_case(report).items():
        passed = sum(run.success >= 1 for run in runs)
        if passed == len(runs) and not everything:
            continue
        said = next((run.error or run.detail for run in runs if run.success < 1 and (run.error or run.detail)), "")
        yield [
            plain(case),
            f"{passed} of {len(runs)}",
            describe_value(COST, _mean(runs, COST)),
            describe_value(LATENCY, _mean(runs, LATENCY)),
            plain(said[:100]),
        ]


def _metrics(old: EvalReport, new: EvalReport) -> Iterator[list[str]]:
    scores = sorted({f"scores.{name}" for report in (old, new) for run in report.runs for name in run.scores})
    for metric in (SUCCESS, COST, LATENCY, *scores):
        before, after = _mean(old.runs, metric), _mean(new.runs, metric)
        if before is not None or after is not None:
            yield [metric_name(metric), describe_value(metric, before), describe_value(metric, after)]


def _changes(old: EvalReport, new: EvalReport) -> list[dict[str, object]]:
    """The cases whose share of passed runs differs, the worst first; None where a case is not there."""
    before, after = (
        {case: fmean(run.success for run in runs) for case, runs in _by_case(r).items()} for r in (old, new)
    )
    changed = [case for case in {**before, **after} if before.get(case) != after.get(case)]
    changed.sort(key=lambda case: ((after.get(case) or 0.0) - (before.get(case) or 0.0), case))
    return [{"case": case, "before": before.get(case), "after": after.get(case)} for case in changed]


def _by_case(report: EvalReport) -> dict[str, list[Run]]:
    cases: dict[str, list[Run]] = {}
    for run in report.runs:
        cases.setdefault(run.case, []).append(run)
    return cases


def _mean(runs: tuple[Run, ...] | list[Run], metric: str) -> float | None:
    values = [value for run in runs if (value := metric_value(run, metric)) is not None]
    return fmean(values) if values else None


def _share(value: object) -> str:
    return f"{value:.0%}" if isinstance(value, float) else "not there"
