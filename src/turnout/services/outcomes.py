"""Reports of what became of tasks: taken in, and answered with a sentence that says what became of each report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import takewhile

from turnout.domain.errors import InvalidRequest
from turnout.domain.outcomes import MOST_REPORTS, VALUES, Outcome, Source, Taken, check_outcome
from turnout.domain.policy import Verb, is_allowed
from turnout.ports import StoredOutcome
from turnout.schemas import TakenList, TakenView
from turnout.services.office import Actor, Office
from turnout.services.together import MOST_AT_ONCE, WrittenTogether

_LET_DECIDE = 'with `success = "report"` or `"silence"` under [outcomes] in turnout.toml, reports decide'
_SENTENCES = {
    "counted": "it counts",
    "repeated": "known already; nothing changes",
    "waiting": "no such task has been seen yet; it counts once the proxy's log tells of the task",
    "contradicts": "kept for lineage; of each value the first report counts, and another came before. "
    f"By the rule `status`, or a path, the answer itself has decided already; {_LET_DECIDE}",
    "refused": f"not kept: there are {MOST_REPORTS} reports of this task already",
}


def report(
    office: Office, actor: Actor, outcomes: Sequence[Outcome], written: WrittenTogether | None = None
) -> list[Taken]:
    """Take in reports, in order. Whatever they say themselves, they were received now, and come from the actor.

    `written`: through which those of other callers are written too. Raises `InvalidRequest` for what no task can have,
    `Forbidden`; then nothing is taken in.
    """
    actor.check(Verb.REPORT)
    now = office.clock.now()
    received = [check_outcome(replace(item, at=now, reporter=actor.name)) for item in outcomes]
    together = written or WrittenTogether(office.store)
    taken: list[Taken] = []
    for start in range(0, len(received), MOST_AT_ONCE):
        taken += together.add(received[start : start + MOST_AT_ONCE])
    for agent, ring in {(item.agent, item.ring) for item in taken if item.state == "counted"}:
        if agent and ring:
            office.wake(agent, ring)
    return taken


def report_one(office: Office, actor: Actor, outcome: Outcome, written: WrittenTogether | None = None) -> TakenView:
    """Take in one report; the answer also says which of its values count, what counted before it, and why."""
    (taken,) = report(office, actor, [outcome], written)
    view = view_taken(taken, outcome)
    in_part = taken.state == "counted" and len(_names(outcome)) > 1
    may_read = is_allowed(actor.role, Verb.READ)  # who only reports learns nothing of what others said
    if not in_part and not (taken.state == "contradicts" and may_read):
        return view
    with office.store.snapshot() as snapshot:
        stored = [
            item
            for item in snapshot.outcomes(outcome.task)
            if item.state == "counted" and (item.outcome.agent, item.outcome.ring) == (taken.agent, taken.ring)
        ]
    if not in_part:
        return view | {"message": explain_contradiction(outcome, stored)}
    return view | {"message": explain_part(replace(outcome, reporter=actor.name), stored, may_read=may_read)}


def report_many(
    office: Office, actor: Actor, said: Sequence[Outcome | str], written: WrittenTogether | None = None
) -> TakenList:
    """Take in a batch. What could not be read comes as the reason why, and is answered with it in its place."""
    actor.check(Verb.REPORT)
    checked = [_check(item) for item in said]
    good = [item for item in checked if isinstance(item, Outcome)]
    taken = iter(report(office, actor, good, written))
    return {
        "outcomes": [
            view_taken(next(taken), item) if isinstance(item, Outcome) else _view_invalid(item) for item in checked
        ]
    }


def view_taken(taken: Taken, outcome: Outcome) -> TakenView:
    """What became of a report, with a sentence for a person."""
    message = _SENTENCES.get(taken.state, taken.state)
    if taken.state == "counted" and len(_names(outcome)) > 1:
        message = "of its values those count that were not known before"
    if taken.state == "foreign":
        said = " in ".join(part for part in (outcome.agent, outcome.ring) if part)
        message = f"it does not count: the task is one of {taken.agent} in {taken.ring}, not of {said}"
    return {"task": taken.task, "state": taken.state, "message": message, "agent": taken.agent, "ring": taken.ring}


def explain_contradiction(outcome: Outcome, stored: Sequence[StoredOutcome]) -> str:
    """What counted before a report that says otherwise, who said so, and what would let reports decide. Pure.

    `stored`: the reports of its task that counted, in order.
    """
    return f"kept for lineage, and does not count: {_tell_known(outcome, _find_first(stored))}"


def explain_part(outcome: Outcome, stored: Sequence[StoredOutcome], *, may_read: bool) -> str:
    """Which values of a report that counts do so, and why the others do not. Pure.

    `stored`: the reports of its task that counted, in order, up to this one at least. `may_read`: whether what others said
    may be told.
    """
    mine = _what_it_says(outcome)
    before = list(takewhile(lambda item: _what_it_says(item.outcome) != mine, stored))
    says = _find_first(before)
    names = _names(outcome)
    against = _find_against(outcome, says)
    known = [name for name in names if name in says and name not in against]
    if not against and not known:
        return _SENTENCES["counted"]
    parts = [_join([name for name in names if name not in says], "counts", "count")]
    if known:
        parts.append(f"{_join(known, 'was', 'were')} known already")
    if against:
        why = _tell_known(outcome, says) if may_read else "another was reported first"
        parts.append(f"{_join(against, 'does', 'do')} not: {why}")
    return "; ".join(parts)


def _tell_known(outcome: Outcome, says: Mapping[str, Outcome]) -> str:
    against = _find_against(outcome, says)
    before = "; ".join(f"{_describe(name, says[name])}, {_describe_source(says[name])}" for name in against)
    return f"what was known first counts ({before}). {_advise(says, against)}"


def _find_first(stored: Sequence[StoredOutcome]) -> dict[str, Outcome]:
    """Value → the first report that had it."""
    says = dict[str, Outcome]()
    for item in stored:
        says = dict.fromkeys(_names(item.outcome), item.outcome) | says
    return says


def _find_against(outcome: Outcome, says: Mapping[str, Outcome]) -> list[str]:
    return [name for name in _names(outcome) if name in says and getattr(outcome, name) != getattr(says[name], name)]


def _names(outcome: Outcome) -> list[str]:
    return [name for name in VALUES if getattr(outcome, name) is not None]


def _what_it_says(outcome: Outcome) -> tuple[object, ...]:
    """The same of two reports only if the second is a repetition, which never counts."""
    return (outcome.reporter, *(getattr(outcome, name) for name in VALUES))


def _join(names: Sequence[str], verb: str, verbs: str) -> str:
    shown = [{"failed": "success", "intervened": "intervention"}.get(name, name) for name in names]
    return f"{' and '.join(shown)} {verb if len(shown) == 1 else verbs}"


def _describe(name: str, known: Outcome) -> str:
    if name == "failed":
        return "the task failed" if known.failed else "the task succeeded"
    if name == "intervened":
        return "a person intervened" if known.intervened else "nobody intervened"
    return f"it cost {known.cost:g}"


def _describe_source(outcome: Outcome) -> str:
    detail = f": {outcome.detail[:200]}" if outcome.detail else ""
    if outcome.source is Source.RULE:
        return f"by the rule of its release{detail}"
    return f"as {outcome.reporter} said{detail}"


def _advise(says: Mapping[str, Outcome], against: Sequence[str]) -> str:
    first = says[against[0]] if against else None
    if first is None or first.source is not Source.RULE:
        return "A report cannot be taken back; report once, when it is known what became of the task."
    if first.detail == "the connection broke" or first.detail.startswith("status 5"):
        return "An answer that broke off, or with a status of 500 and more, is a failure by every rule."
    return f"The answer itself has decided already; {_LET_DECIDE}."


def _check(item: Outcome | str) -> Outcome | str | InvalidRequest:
    if isinstance(item, str):
        return item
    try:
        return check_outcome(item)
    except InvalidRequest as error:
        return error


def _view_invalid(why: str | InvalidRequest) -> TakenView:
    message = why if isinstance(why, str) else f"{why.message}; {why.hint}" if why.hint else why.message
    return {"task": "", "state": "invalid", "message": message, "agent": None, "ring": None}
