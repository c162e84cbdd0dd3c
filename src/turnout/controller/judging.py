"""The judges of the rollouts: fed with what was observed, kept in the database so that another server can go on."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass

from turnout.domain.errors import TurnoutError
from turnout.domain.judge import Judge, JudgeConfig, view_evidence
from turnout.domain.models import Judgement
from turnout.domain.outcomes import Observation
from turnout.domain.verdicts import summarise
from turnout.ports import Clock, Lease, Snapshot, Store, StoredJudgement

log = logging.getLogger(__name__)

SAVE_SECONDS = 5.0  # how often a judge that hears new things is written down; a new verdict is at once
_BATCH = 5_000
MOST_JUDGES = 200  # kept in memory; others are read again


@dataclass
class _Sitting:
    """A judge at work."""

    judge: Judge
    cursor: int
    said: Judgement | None = None
    saved_at: float = 0.0
    saved_cursor: int = 0
    decided: str | None = None


class Judging:
    """Asks the judge of a rollout, having told it everything that is new. One thread a rollout at a time."""

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self._sittings: dict[str, _Sitting] = {}

    def __contains__(self, rollout: str) -> bool:
        return rollout in self._sittings

    def look(self, snapshot: Snapshot, rollout: str, config: JudgeConfig) -> Judgement:
        """What the judge of a rollout says now. `config` is for a judge that begins."""
        sitting = self._sittings.get(rollout) or self._begin(snapshot, rollout, config)
        while True:
            news = snapshot.observations(rollout, sitting.cursor, _BATCH)
            for observation in news:
                _tell(sitting.judge, observation)
            if news:
                sitting.cursor = news[-1].seq
            if len(news) < _BATCH:
                break
        return summarise(sitting.judge.verdict(self._clock.now()))

    def save(self, rollout: str, said: Judgement, lease: Lease) -> None:
        """Write down what was said, if it is new or some time has passed. Raises `LeaseLost`."""
        sitting, now = self._sittings[rollout], self._clock.now()
        new = sitting.said is None or (sitting.said.kind, sitting.said.proven) != (said.kind, said.proven)
        heard = sitting.cursor > sitting.saved_cursor and now - sitting.saved_at >= SAVE_SECONDS
        if not new and not heard:
            return
        verdict = view_evidence(sitting.judge.verdict(now))
        with self._store.transaction() as transaction:
            transaction.check_lease(lease, now)
            transaction.save_judgement(
                rollout,
                StoredJudgement(now, sitting.cursor, verdict, _jsonable(sitting.judge.to_state()), sitting.decided),
            )
        sitting.said, sitting.saved_at, sitting.saved_cursor = said, now, sitting.cursor

    def _begin(self, snapshot: Snapshot, rollout: str, config: JudgeConfig) -> _Sitting:
        stored = snapshot.judgement(rollout)
        sitting = _Sitting(Judge(config), 0)
        if stored is not None:
            try:
                sitting = _Sitting(Judge.from_state(stored.state), stored.cursor, decided=stored.decided)
            except TurnoutError as error:
                # Everything that it was told is still there: it hears all of it again.
                log.warning("the judge of %s begins anew: %s", rollout, error.message)
        while len(self._sittings) >= MOST_JUDGES:
            self._sittings.pop(next(iter(self._sittings)))
        self._sittings[rollout] = sitting
        return sitting


def _tell(judge: Judge, observation: Observation) -> None:
    if observation.arm is not None and observation.probability is not None:
        judge.start(observation.task, observation.arm, observation.probability, observation.at)
        return
    judge.outcome(observation.task, observation.at, observation.failed, observation.intervened, observation.cost)


def _jsonable(state: Mapping[str, object]) -> dict[str, object]:
    """As the database gives it back, so that a judge that goes on is the same wherever its state has been."""
    return dict(json.loads(json.dumps(state)))
