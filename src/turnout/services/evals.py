"""Runs of eval suites: taking in a report, judging it, and showing what was found."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import cast

from turnout.domain.errors import InvalidRequest, NotFound
from turnout.domain.eval_report import EvalReport, parse_report, verdict_document
from turnout.domain.evals import NAMED, Bar
from turnout.domain.evidence import EvalRun
from turnout.domain.models import Digest, Release, short_digest
from turnout.domain.policy import Verb
from turnout.ports import Snapshot
from turnout.schemas import EvalReportView, EvalRunList, EvalRunView, EvalVerdict
from turnout.services.office import Actor, Office, check_agent, find_release
from turnout.services.views import view_time


def record_report(office: Office, actor: Actor, agent: str, ref: str, content: bytes) -> EvalRunView:
    """Keep the report of a suite for a release. The verdict is made here, from what was run.

    Raises `InvalidRequest` for a report of another release or version, or that compares with what is not known here.
    """
    actor.check(Verb.BUILD)
    report = parse_report(content)
    digest = Digest(f"sha256:{hashlib.sha256(content).hexdigest()}")
    now = office.clock.now()
    with office.store.snapshot() as snapshot:
        release = find_release(snapshot, agent, ref)
        if report.release != release.digest or report.agent != agent:
            raise InvalidRequest(f"the report is about {report.release} of {report.agent}, not about this release")
        stable = _find_stable(snapshot, report)
        problems = (*_find_missing_comparison(snapshot, report), *_find_missing_cases(snapshot, report))
    verdict = report.judge(stable, problems)  # outside of the transaction: many runs take their time
    run = EvalRun(
        id=office.new_id("eval"),
        agent=agent,
        release=release.digest,
        suite=report.suite,
        suite_digest=report.suite_digest,
        at=min(now, report.ended),  # how old it is; which of two runs is newer, the order of handing in tells
        actor=actor.name,
        passed=verdict.passed,
        verdict=verdict_document(verdict, report),
        report=digest,
        stable=report.stable,
    )
    with office.store.transaction() as transaction:
        known = next((run for run in transaction.eval_runs(agent, release.digest) if run.report == digest), None)
        if known is not None:  # it was handed in before
            return _view(known, release)
        transaction.add_eval_run(run, content)
        rings = [pointer.ring for pointer in transaction.pointers(agent)]
    for ring in {*rings, *(item.name for item in release.spec.rings)}:
        office.wake(agent, ring)
    return _view(run, release)


def list_runs(office: Office, actor: Actor, agent: str, ref: str | None, suite: str | None, limit: int) -> EvalRunList:
    """Runs of suites, newest first; of one release or suite where they are named."""
    actor.check(Verb.READ)
    with office.store.snapshot() as snapshot:
        check_agent(snapshot, agent)
        release = find_release(snapshot, agent, ref) if ref else None
        runs = snapshot.eval_runs(agent, release.digest if release else None, suite=suite, limit=limit)
        return {"runs": [_view(run, snapshot.release(run.release)) for run in runs]}


def show_run(office: Office, actor: Actor, agent: str, run_id: str) -> EvalReportView:
    """One run with its report, which may hold what the agent answered: only who builds sees it. Raises `NotFound`."""
    actor.check(Verb.BUILD)
    with office.store.snapshot() as snapshot:
        check_agent(snapshot, agent)
        run = snapshot.eval_run(run_id)
        content = snapshot.eval_report(run_id) if run is not None else None
        if run is None or content is None or run.agent != agent:
            raise NotFound(f"agent {agent} has no eval run {run_id!r}", hint=f"`turnout evals list {agent}` shows them")
        return {**_view(run, snapshot.release(run.release)), "document": content.decode()}


def view_newest_evals(snapshot: Snapshot, release: Release) -> list[EvalRunView]:
    """Of each suite the newest run against a release, by the names of the suites."""
    newest: dict[str, EvalRun] = {}
    for run in snapshot.eval_runs(release.agent, release.digest):
        newest.setdefault(run.suite, run)
    return [_view(newest[name], release) for name in sorted(newest)]


def _find_stable(snapshot: Snapshot, report: EvalReport) -> EvalReport | None:
    if report.stable is None:
        return None
    found: list[EvalReport] = []
    for run in snapshot.eval_runs(report.agent, report.stable, suite=report.suite):
        content = snapshot.eval_report(run.id) if run.suite_digest == report.suite_digest else None
        if content is not None:
            found.append(parse_report(content))
            if found[-1].can_be_compared_with():
                return found[-1]
    if found:  # all of them broke off somewhere: the newest is what it was compared with
        return found[0]
    raise InvalidRequest(
        f"the report compares with {report.stable}, of which no run of the same suite is known here",
        hint="hand in that report first",
    )


def _find_missing_comparison(snapshot: Snapshot, report: EvalReport) -> Iterator[str]:
    """A suite that says how much worse is too much has to be compared with what is stable now, where something is."""
    if not report.bar.no_worse or report.baseline:
        return
    stable = {pointer.stable for pointer in snapshot.pointers(report.agent) if pointer.stable is not None}
    if report.release in stable and report.stable is None:
        return
    if stable and report.stable not in stable:
        with_what = (
            f"with {short_digest(report.stable)}, which is stable in no ring" if report.stable else "with nothing"
        )
        yield f"it was compared {with_what}, and not with the stable release"


def _find_missing_cases(snapshot: Snapshot, report: EvalReport) -> Iterator[str]:
    """A command that knows its cases alone may not lose some: the last passed run of the same suite tells them."""
    for run in snapshot.eval_runs(report.agent, suite=report.suite):
        if run.suite_digest != report.suite_digest or not run.passed:
            continue
        content = snapshot.eval_report(run.id)
        before = parse_report(content).expected if content is not None else ()
        if lost := sorted(set(before) - set(report.expected)):
            yield f"{len(lost)} cases of an earlier run of the same suite are not there: {', '.join(lost[:NAMED])}"
        return


def _view(run: EvalRun, release: Release | None) -> EvalRunView:
    return {
        "id": run.id,
        "agent": run.agent,
        "digest": run.release,
        "version": release.version if release is not None else "",
        "suite": run.suite,
        "suite_digest": run.suite_digest,
        "at": view_time(run.at),
        "actor": run.actor,
        "passed": run.passed,
        "stable": run.stable,
        "report": run.report,
        "verdict": cast(EvalVerdict, {"baseline": False, "confidence": Bar().confidence, **run.verdict}),
    }
