"""Reports of what became of tasks: taken in, and answered with a sentence that says what became of each report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from turnout.domain.errors import InvalidRequest
from turnout.domain.outcomes import MOST_REPORTS, VALUES, Known, Outcome, Source, Taken, check_outcome
from turnout.domain.policy import Verb, is_allowed
from turnout.ports import StoredOutcome
from turnout.schemas import TakenList, TakenView
from turnout.services.office import Actor, Office
from turnout.services.together import MOST_AT_ONCE, WrittenTogether

_SENTENCES = {
    "counted": "it counts",
    "repeated": "known already; nothing changes",
    "waiting": "no such task has been seen yet; it counts once the proxy's log tells of the task",
    "contradicts": "kept for lineage; of each value the first report counts, and another came before",
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
    """Take in one report; the answer also says what counted before it, and why."""
    (taken,) = report(office, actor, [outcome], written)
    if taken.state != "contradicts":
        return view_taken(taken, outcome)
    if not is_allowed(actor.role, Verb.READ):  # who only reports learns nothing of what others said
        return view_taken(taken, outcome)
    with office.store.snapshot() as snapshot:
        stored = snapshot.outcomes(outcome.task)
    return view_taken(taken, outcome) | {"message": explain_contradiction(outcome, stored)}


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
    if taken.state == "foreign":
        said = " in ".join(part for part in (outcome.agent, outcome.ring) if part)
        message = f"it does not count: the task is one of {taken.agent} in {taken.ring}, not of {said}"
    return {"task": taken.task, "state": taken.state, "message": message, "agent": taken.agent, "ring": taken.ring}


def explain_contradiction(outcome: Outcome, stored: Sequence[StoredOutcome]) -> str:
    """What counted before a report that says otherwise, who said so, and what would let reports decide. Pure."""
    known, says = Known(), dict[str, Outcome]()
    for item in stored:
        if item.state != "counted":
            continue
        known, new, _ = known.take(item.outcome)
        says.update({name: item.outcome for name in VALUES if getattr(new, name) is not None})
    against = [name for name in VALUES if getattr(outcome, name) not in (None, getattr(known, name)) and says.get(name)]
    before = "; ".join(f"{_describe(name, known)}, {_describe_source(says[name])}" for name in against)
    return f"kept for lineage, and does not count: what was known first counts ({before}). {_advise(says, against)}"


def _describe(name: str, known: Known) -> str:
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
    return 'With `success = "report"` under [outcomes] in turnout.toml, reports decide and the answer does not.'


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
