"""The judges of the rollouts: fed with what was observed, kept in the database so that another server can go on."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable
from dataclasses import dataclass

from turnout.domain.errors import TurnoutError
from turnout.domain.judge import Judge, JudgeConfig, view_evidence
from turnout.domain.judge.judge import FURTHEST_AHEAD
from turnout.domain.models import Judgement
from turnout.domain.outcomes import REPORT, Observation, is_path
from turnout.domain.verdicts import summarise
from turnout.ports import Clock, Lease, Snapshot, Store, StoredJudgement

log = logging.getLogger(__name__)

SAVE_SHARE = 20.0  # pauses between two of them, in times of what one takes
SAVE_SECONDS = 5.0  # how often a judge that hears new things is written down; a new verdict is at once
SETTLED_AT = 0.9  # of an age: the judge hears what is settled then, and a moment passes, before it counts it as unknown
_BATCH = 5_000
_TOGETHER = 100_000  # observations that are put in order
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
        self._settled: dict[str, float] = {}  # by rollout: the time up to which everything is settled

    def look(self, snapshot: Snapshot, rollout: str, configure: Callable[[], JudgeConfig]) -> Judgement | None:
        """What the judge of a rollout says now; None: nothing can be told yet. `configure`: one that begins."""
        sitting = self._sittings.get(rollout) or self._begin(snapshot, rollout, configure)
        if self._read_up_to() > -math.inf:
            _tell_news(snapshot, rollout, sitting, self._clock.now())
        elif sitting.judge.clock == -math.inf:
            return None
        return summarise(sitting.judge.verdict(self._moment(rollout, sitting.judge)))

    def settle(self, rollout: str, ages: tuple[float, ...], rule: str, lease: Lease) -> None:
        """Tell a judge what follows of tasks that nobody reported: shortly before their first age what the gateway knows
        of their cost, shortly before their last that they failed, where an answer ought to have said otherwise by now.

        Before everything else that is new is told: a judge whose clock is past an age has counted what it did not hear as
        unknown. `rule`: how the release that serves tells success. Raises `LeaseLost`.
        """
        read = self._read_up_to()
        if read == -math.inf:
            return
        now, first, last = self._clock.now(), SETTLED_AT * ages[0], SETTLED_AT * ages[-1]
        read = min(now, read)  # what was served since then may still be recorded
        with self._store.snapshot() as snapshot:
            after = self._settled.get(rollout)
            if after is None:
                after = _settled_before(snapshot, rollout)
            due = snapshot.due_costs(rollout, after - first, now - first, first)
            if rule != REPORT:  # then the judge takes every silence for a failure, at the age itself
                due += snapshot.due_failures(rollout, after - last, read - last, last, unread=is_path(rule))
        if due:
            with self._store.transaction() as transaction:
                transaction.check_lease(lease, now)
                transaction.add_observations(rollout, sorted(due, key=lambda item: item.at))
        self._settled[rollout] = read

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
        verdict = view_evidence(sitting.judge.verdict(self._moment(rollout, sitting.judge)))
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
        self._settled.pop(rollout, None)

    def _moment(self, rollout: str, judge: Judge) -> float:
        """Now, but no later than the records went before they were looked at: a task whose end has not been read yet is
        not missing, nor is what has not been settled.
        """
        now, settled = self._clock.now(), self._settled.get(rollout)
        return max(min(now, self._read_up_to() if settled is None else settled), min(judge.clock, now))

    def _begin(self, snapshot: Snapshot, rollout: str, configure: Callable[[], JudgeConfig]) -> _Sitting:
        sitting = _resume(snapshot, rollout) or _Sitting(Judge(configure()), 0)
        while len(self._sittings) >= MOST_JUDGES:
            self._sittings.pop(next(iter(self._sittings)))
        self._sittings[rollout] = sitting
        return sitting


def _settled_before(snapshot: Snapshot, rollout: str) -> float:
    """Up to when nothing is left to tell: tasks that began before have passed their last age in the eyes of the judge.

    The clock of a judge alone does not say what an earlier server had settled: reports run ahead of records that are read.
    """
    sitting = _resume(snapshot, rollout)
    if sitting is None:
        return -math.inf
    return sitting.judge.clock - (1 - SETTLED_AT) * sitting.judge.config.ages[-1]


def _tell_news(snapshot: Snapshot, rollout: str, sitting: _Sitting, now: float) -> None:
    """In the order of time: what lies together may have happened over hours, while no server was up."""
    while True:
        news: list[Observation] = []
        cursor = sitting.cursor  # of what was told: a read that fails must not skip what was read before it
        while len(news) < _TOGETHER and (batch := snapshot.observations(rollout, cursor, _BATCH)):
            news += batch
            cursor = batch[-1].seq
        for observation in sorted(news, key=lambda item: (item.at, item.seq)):
            if sitting.judge.clock > -math.inf and sitting.judge.clock + FURTHEST_AHEAD < observation.at <= now:
                sitting.judge.verdict(observation.at)  # nothing happened for days; it is not the clock that is wrong
            _tell(sitting.judge, observation)
        sitting.cursor = cursor
        if len(news) < _TOGETHER:
            return


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
