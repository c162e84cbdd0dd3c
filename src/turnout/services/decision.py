"""How long it took to decide about a rollout, and how many tasks its candidate was given until then: both of one span."""

from __future__ import annotations

from collections.abc import Sequence

from turnout.domain.events import Event, EventType
from turnout.domain.models import Deployment
from turnout.domain.phases import Phase
from turnout.ports import Snapshot, StoredJudgement, TaskQuery
from turnout.schemas import WhyDecision
from turnout.services.evidence import read_evidence
from turnout.services.views import view_time

_MOST_REQUESTS = 5_000  # that are looked through for tasks


def find_decision(
    snapshot: Snapshot,
    deployment: Deployment,
    events: Sequence[Event],
    judgement: StoredJudgement | None,
    at: float,
    *,
    judged: bool,
) -> WhyDecision | None:
    """From the first share of the candidate to the word that ended it at a time, or to its last step.

    `events`: of the deployment, in order. `judged`: the word was the judge's, who decided by the tasks that it had seen.
    """
    stepped = (event.at for event in events if event.type is EventType.ROLLOUT_STEPPED)
    began = next(stepped, deployment.rollout.began_at)  # a pause moves `began_at`: it does not count towards the limit
    active_at = deployment.active_at
    if deployment.phase in (Phase.ACTIVE, Phase.SUPERSEDED) and active_at is not None:
        at = active_at  # what came later, in a bake too, decided nothing
    if not began or at < began:
        return None
    if active_at is not None and at > active_at and not judged:
        return {"seconds": at - began, "tasks": _count_served(snapshot, deployment, began, at)}
    return {"seconds": at - began, "tasks": _count_given(snapshot, deployment, judgement, began, at, judged=judged)}


def _count_given(
    snapshot: Snapshot,
    deployment: Deployment,
    judgement: StoredJudgement | None,
    began: float,
    at: float,
    *,
    judged: bool,
) -> int | None:
    """Of the tasks that the rollout gave to its candidate. None: they are forgotten by now."""
    tasks = snapshot.count_tasks(deployment.id, began) - snapshot.count_tasks(deployment.id, at)
    if judgement is None:
        return tasks
    evidence = read_evidence(judgement.verdict)
    if judged and evidence["candidates"]:
        return evidence["candidates"]
    if evidence["at"] <= view_time(at):
        return max(tasks, evidence["candidates"])
    return tasks or (None if evidence["candidates"] else 0)


def _count_served(snapshot: Snapshot, deployment: Deployment, began: float, at: float) -> int | None:
    """Of an active release no rollout counts the tasks. None: too many to count."""
    found = snapshot.tasks(
        TaskQuery(
            agent=deployment.agent,
            ring=deployment.ring,
            release=deployment.digest,
            since=began,
            until=at,
            limit=_MOST_REQUESTS + 1,
        )
    )
    return None if len(found) > _MOST_REQUESTS else len({task.task for task in found if not task.pinned})
