"""The judges of the rollouts: fed with what was observed, kept in the database so that another server can go on."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable
from dataclasses import dataclass

from turnout.domain.errors import TurnoutError
from turnout.domain.judge import Judge, JudgeConfig, view_evidence
from turnout.domain.models import Judgement
from turnout.domain.outcomes import Observation
from turnout.domain.verdicts import summarise
from turnout.ports import Clock, Lease, Snapshot, Store, StoredJudgement

log = logging.getLogger(__name__)

SAVE_SHARE = 20.0  # pauses between two of them, in times of what one takes
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
    save_took: float = 0.0  # seconds


class Judging:
    """Asks the judge of a rollout, having told it everything that is new. One thread a rollout at a time."""

    def __init__(self, store: Store, clock: Clock, read_up_to: Callable[[], float] = lambda: math.inf) -> None:
        """`read_up_to`: the time up to which all that callers were served is recorded."""
        self._store = store
        self._clock = clock
        self._read_up_to = read_up_to
        self._sittings: dict[str, _Sitting] = {}

    def look(self, snapshot: Snapshot, rollout: str, configure: Callable[[], JudgeConfig]) -> Judgement:
        """What the judge of a rollout says now. `configure` is asked for a judge that begins."""
        sitting = self._sittings.get(rollout) or self._begin(snapshot, rollout, configure)
        while True:
            news = snapshot.observations(rollout, sitting.cursor, _BATCH)
            # In the order of time: what lies in one batch may have happened over hours, while no server was up.
            for observation in sorted(news, key=lambda item: (item.at, item.seq)):
                _tell(sitting.judge, observation)
            if news:
                sitting.cursor = news[-1].seq
            if len(news) < _BATCH:
                break
        return summarise(sitting.judge.verdict(self._moment(sitting.judge)))

    def save(self, rollout: str, said: Judgement, lease: Lease) -> None:
        """Write down what was said, if it is new or some time has passed. Raises `LeaseLost`."""
        sitting, now = self._sittings.get(rollout), self._clock.now()
        if sitting is None:
            return
        new = sitting.said is None or (sitting.said.kind, sitting.said.proven) != (said.kind, said.proven)
        pause = max(SAVE_SECONDS, SAVE_SHARE * sitting.save_took)
        heard = sitting.cursor > sitting.saved_cursor and not 0 <= now - sitting.saved_at < pause
        if not new and not heard:
            return
        began = time.monotonic()
        verdict = view_evidence(sitting.judge.verdict(self._moment(sitting.judge)))
        with self._store.transaction() as transaction:
            transaction.check_lease(lease, now)
            transaction.save_judgement(
                rollout,
                StoredJudgement(now, sitting.cursor, verdict, sitting.judge.to_state()),
            )
        sitting.save_took = time.monotonic() - began
        sitting.said, sitting.saved_at, sitting.saved_cursor = said, now, sitting.cursor

    def forget(self, rollout: str) -> None:
        """A rollout that is over needs no judge any more."""
        self._sittings.pop(rollout, None)

    def _moment(self, judge: Judge) -> float:
        """Now, but no later than the records go: a task whose end has not been read yet is not missing."""
        now = self._clock.now()
        return max(min(now, self._read_up_to()), min(judge.clock, now))

    def _begin(self, snapshot: Snapshot, rollout: str, configure: Callable[[], JudgeConfig]) -> _Sitting:
        sitting = _resume(snapshot, rollout) or _Sitting(Judge(configure()), 0)
        while len(self._sittings) >= MOST_JUDGES:
            self._sittings.pop(next(iter(self._sittings)))
        self._sittings[rollout] = sitting
        return sitting


def _resume(snapshot: Snapshot, rollout: str) -> _Sitting | None:
    """The judge as it was written down last."""
    stored = snapshot.judgement(rollout)
    if stored is None:
        return None
    try:
        return _Sitting(Judge.from_state(stored.state), stored.cursor)
    except TurnoutError as error:
        # Everything that it was told is still there: it hears all of it again.
        log.warning("the judge of %s begins anew: %s", rollout, error.message)
        return None


def _tell(judge: Judge, observation: Observation) -> None:
    if observation.arm is not None and observation.probability is not None:
        if observation.probability < 1:  # else it was no matter of chance
            judge.start(observation.task, observation.arm, observation.probability, observation.at)
        return
    judge.outcome(observation.task, observation.at, observation.failed, observation.intervened, observation.cost)
