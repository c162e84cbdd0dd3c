"""What a release has to show before it may start in a ring: suites that it has passed, and whose approval. Pure.

Both the candidate and the release that serves are asked, so that a release cannot lower the bar that it has to pass.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from turnout.domain.models import ChangeRule, Digest, Release, RingSettings

ALWAYS_GOVERNED = ("model", "tools")  # a change of these needs every declared suite where a ring says nothing else
DAY = 86_400.0


@dataclass(frozen=True, slots=True)
class EvalRun:
    """One run of a suite against a release, as it is kept. `verdict`: see `eval_report.verdict_document`."""

    id: str
    agent: str
    release: Digest
    suite: str
    suite_digest: Digest
    at: float
    actor: str
    passed: bool
    verdict: Mapping[str, Any]
    report: Digest  # SHA-256 of the report's bytes
    stable: Digest | None = None  # what it was compared with


@dataclass(frozen=True, slots=True)
class Needs:
    """What is asked of a release in a ring. `suites`: each with the reason; `approvers`: of each group one must approve."""

    suites: Mapping[str, str] = field(default_factory=dict)
    age: float = 0.0  # how old a result may be, in seconds
    approvals: int = 0
    approvers: tuple[tuple[str, ...], ...] = ()


def find_needs(candidate: Release, stable: Release | None, ring: str) -> Needs:
    """What candidate and stable release ask together; the younger age and the larger number hold."""
    settings = [found for release in (candidate, stable) if release and (found := release.spec.ring(ring)) is not None]
    suites: dict[str, str] = {}
    approvals, approvers = 0, []
    for asked in settings:
        suites |= {name: f"{ring} asks for it" for name in asked.evals if name not in suites}
    changed = changed_components(stable, candidate)
    for rule, why in _rules_met(candidate, stable, settings, changed):
        suites |= {name: why for name in rule.evals if name not in suites}
        approvals = max(approvals, rule.approvals, 1 if rule.approvers else 0)
        if rule.approvers and rule.approvers not in approvers:
            approvers.append(rule.approvers)
    age = min((asked.eval_age for asked in settings), default=RingSettings(ring).eval_age)
    return Needs(suites, age, approvals, tuple(approvers))


def find_unproven(needs: Needs, runs: Iterable[EvalRun], now: float, before: Iterable[EvalRun] = ()) -> tuple[str, ...]:
    """A sentence for each suite that a release has not passed, too long ago, or by a lower bar.

    `runs`, of the release, and `before`, of the stable one: newest first, in the order in which they were handed in. Of each
    suite the newest run of the release holds, and the newest that the stable release passed is the bar.
    """
    newest, bars = _newest(runs), _newest(run for run in before if run.passed)
    found = (_objection(name, why, newest.get(name), bars.get(name), needs, now) for name, why in needs.suites.items())
    return tuple(sentence for sentence in found if sentence)


def find_unproven_suites(
    release: Release, stable: Release | None, ring: str, runs_of: Callable[[Digest], Iterable[EvalRun]], now: float
) -> tuple[str, ...]:
    """A sentence for each suite that a release would have to have passed for a ring where `stable` serves.

    `runs_of`: the runs against a release, newest first. They are asked for only where something is needed.
    """
    if stable is not None and stable.digest == release.digest:
        return ()
    needs = find_needs(release, stable, ring)
    if not needs.suites:
        return ()
    before = runs_of(stable.digest) if stable is not None else ()
    return find_unproven(needs, runs_of(release.digest), now, before)


def describe_evidence(needs: Needs, runs: Iterable[EvalRun], now: float, before: Iterable[EvalRun] = ()) -> list[str]:
    """A sentence for each suite that is asked for: when it was passed, or why it does not count. See `find_unproven`."""
    newest, bars = _newest(runs), _newest(run for run in before if run.passed)
    said = []
    for name, why in needs.suites.items():
        run, bar = newest.get(name), bars.get(name)
        objection = _objection(name, why, run, bar, needs, now)
        if objection is None and run is not None:
            other = "; it is not the suite that stable passed" if bar and bar.suite_digest != run.suite_digest else ""
            objection = f"{name} was passed {_days(now - run.at)} ago ({why}){other}"
        said.append(objection or "")
    return said


def changed_components(stable: Release | None, release: Release) -> list[str]:
    """The names of the components that differ from what is stable; all of them where nothing is."""
    before = {name: ref.digest for name, ref in stable.components.items()} if stable else {}
    after = {name: ref.digest for name, ref in release.components.items()}
    return [name for name in sorted({*before, *after}) if before.get(name) != after.get(name)]


def _newest(runs: Iterable[EvalRun]) -> dict[str, EvalRun]:
    """By suite. Runs that were made to compare another release with are no evidence."""
    newest: dict[str, EvalRun] = {}
    for run in runs:
        if not run.verdict.get("baseline"):
            newest.setdefault(run.suite, run)
    return newest


def _rules_met(
    candidate: Release, stable: Release | None, settings: Iterable[RingSettings], changed: list[str]
) -> Iterator[tuple[ChangeRule, str]]:
    declared = tuple(dict.fromkeys(name for release in (candidate, stable) if release for name in release.spec.suites))
    for asked in settings:
        for rule in asked.changes or (ChangeRule(ALWAYS_GOVERNED, declared),):
            met = [name for name in changed if name in rule.of]
            if met:
                yield rule, f"{' and '.join(met)} changed"


def _objection(name: str, why: str, run: EvalRun | None, bar: EvalRun | None, needs: Needs, now: float) -> str | None:
    if run is None:
        return f'the suite "{name}" was not run for this release ({why})'
    if not run.passed:
        return f'the suite "{name}" was not passed ({why})'
    if now - run.at > needs.age:
        return f'the suite "{name}" was passed more than {_days(needs.age)} ago ({why})'
    lowered = _find_lowered(run.verdict, bar.verdict) if bar is not None else None
    return (
        f'the suite "{name}" asks for less than the one that the stable release passed: {lowered}' if lowered else None
    )


def _find_lowered(verdict: Mapping[str, Any], bar: Mapping[str, Any]) -> str | None:
    """What a suite demands less than another one did. A suite may change, and may get other cases; not half as many."""
    if verdict.get("cases", 0) * 2 < bar.get("cases", 0):
        return f"{verdict.get('cases', 0)} cases instead of {bar['cases']}"
    if verdict.get("confidence", 0.0) < bar.get("confidence", 0.0):
        return f"a confidence of {verdict.get('confidence', 0.0):.0%} instead of {bar['confidence']:.0%}"
    limits = {(item["metric"], item["kind"]): item["limit"] for item in verdict.get("findings", ())}
    for item in bar.get("findings", ()):
        limit = limits.get((item["metric"], item["kind"]))
        words = f"{item['metric']} {item['kind'].replace('_', ' ')}"
        if limit is None:
            return f"nothing of {words} {item['limit']:g}"
        if limit < item["limit"] if item["kind"] == "at_least" else limit > item["limit"]:
            return f"{words} {limit:g} instead of {item['limit']:g}"
    return None


def _days(seconds: float) -> str:
    return f"{seconds / DAY:.0f} days" if seconds >= 2 * DAY else f"{seconds / 3600:.1f} hours"
