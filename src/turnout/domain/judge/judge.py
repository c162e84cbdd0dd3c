"""Judge: takes starts and outcomes as they come, and says at any moment what is known of the candidate.

Everything that is decided is decided at moments that follow from the records: when a report lets lanes go on, and at ticks
of some seconds at which units reach an age. When and how often somebody asks changes nothing.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from typing import Any, TypeGuard

from turnout.domain.errors import DamagedContent, InvalidRequest
from turnout.domain.judge.config import JudgeConfig
from turnout.domain.judge.costs import make_lane
from turnout.domain.judge.evidence import SAMPLE_RATIO, Evidence, Kind, MetricEvidence, Ratio, Verdict
from turnout.domain.judge.lanes import Lane
from turnout.domain.judge.ratio import SampleRatio
from turnout.domain.judge.record import Course, Heaviest
from turnout.domain.judge.units import CANDIDATE, STABLE, Unit, Value

FURTHEST_AHEAD = 86_400.0  # seconds; a record from further in the future has a wrong clock
VERSION = 1  # of the state
LAST_TIME = 1e11  # seconds; nothing beyond is a time
LARGEST = 1e300  # nothing beyond is a number
ABSURD_COST = 10.0  # in ceilings
_TIMES = ("_clock", "_limit", "_ticked", "_due", "_latest")


class Judge:
    """Judges one rollout. Times in seconds on one clock; records in about the order of time.

    A record from more than a day ahead of all before it has a wrong clock and counts for nothing. Where a day may pass
    without a record, ask for a verdict now and then: that moves the clock as well.
    """

    def __init__(self, config: JudgeConfig | None = None) -> None:
        self.config = config or JudgeConfig()
        self._lanes = [make_lane(metric, self.config.ages, self.config) for metric in self.config.metrics]
        self._proofs = {lane.metric: lane.proof for lane in self._lanes if lane.proof is not None}
        self._ratio = SampleRatio(self.config.ratio_alpha)
        self._heaviest = Heaviest(self.config.listed_units)
        self._course = Course(self.config.period)
        self._tick, self._period = self.config.tick, self.config.period
        self._bad: Counter[str] = Counter()
        self._units: list[Unit] = []  # in the order in which they began
        self._base = 0  # number of the first of them
        self._open: dict[str, int] = {}  # number by task
        self._clock = -math.inf  # latest time that a record or a question named
        self._limit = LAST_TIME  # no record can be later
        self._ticked = -math.inf
        self._due = math.inf  # no unit reaches an age before this
        self._latest = -math.inf  # when the latest unit began
        self._began: float | None = None
        self._against = 1.0
        self._failed: tuple[str, float] | None = None  # metric, and when

    # --- records --------------------------------------------------------------------------------------------------

    def start(self, task: str, arm: str, probability: float, at: float) -> None:
        """A unit was assigned to `arm` ("stable" or "candidate"), `probability` being that of the candidate.

        What cannot be used (see `Evidence.bad`) changes nothing. A start from before the latest one counts as of then.
        """
        if arm not in {STABLE, CANDIDATE}:
            self._bad["unknown arm"] += 1
        elif not _is_number(probability) or not 0 < probability < 1:
            self._bad["probability not between 0 and 1"] += 1
        elif not self._is_time(at):
            self._bad["impossible time"] += 1
        elif task in self._open:
            self._bad["start of a task that had begun"] += 1
        else:
            if at < self._latest:
                self._bad["start out of order"] += 1
                at = self._latest
            self._advance(at)
            self._begin(Unit(task, candidate=arm == CANDIDATE, share=probability, at=at, period=self._period))

    def outcome(
        self,
        task: str,
        at: float,
        failed: bool | None = None,
        intervened: bool | None = None,
        cost: float | None = None,
    ) -> None:
        """What became of a unit, as far as it is known now: None is unknown, and may be said later.

        The first report of each counts. Reports that cannot be used (see `Evidence.bad`) change nothing.
        """
        if not self._is_time(at):
            self._bad["impossible time"] += 1
            return
        self._advance(at)
        number = self._open.get(task)
        if number is None:
            self._bad["outcome of an unknown or finished task"] += 1
            return
        unit = self._units[number - self._base]
        if at < unit.at:
            self._bad["outcome before its start"] += 1
            at = unit.at
        if at > unit.at + self.config.ages[-1]:
            self._bad["outcome of an unknown or finished task"] += 1
            return
        self._report(unit, at, (self._usable_flag(failed), self._usable_flag(intervened), self._usable_cost(cost)))
        if self._run(number):
            self._decide(at)

    # --- state ----------------------------------------------------------------------------------------------------

    def to_state(self) -> dict[str, Any]:
        """All of it as values that JSON knows. Its size depends on the units that are open, not on those that are over."""
        return {
            "version": VERSION,
            "config": self.config.to_state(),
            "lanes": [lane.to_state() for lane in self._lanes],
            "ratio": self._ratio.to_state(),
            "heaviest": self._heaviest.to_state(),
            "course": self._course.to_state(),
            "bad": dict(self._bad),
            "units": [unit.to_state() for unit in self._units],
            "base": self._base,
            "times": {name: _to_json(getattr(self, name)) for name in _TIMES},
            "began": self._began,
            "against": self._against,
            "failed": None if self._failed is None else list(self._failed),
        }

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> Judge:
        """A judge that goes on where `to_state` was taken.

        Raises `InvalidRequest` for a state of another version, `DamagedContent` for one that cannot be read.
        """
        if state.get("version") != VERSION:
            raise InvalidRequest(f"a judge of version {state.get('version')} cannot go on in version {VERSION}")
        try:
            judge = cls(JudgeConfig.from_state(state["config"]))
            judge._load(state)
        except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError) as error:
            raise DamagedContent(f"the state of a judge cannot be read: {error!r}") from error
        return judge

    def _load(self, state: Mapping[str, Any]) -> None:
        self._lanes = [make_lane(lane["metric"], tuple(lane["ages"]), self.config) for lane in state["lanes"]]
        self._proofs = {lane.metric: lane.proof for lane in self._lanes if lane.proof is not None}
        for lane, saved in zip(self._lanes, state["lanes"], strict=True):
            lane.load(saved)
        self._ratio.load(state["ratio"])
        self._heaviest.load(state["heaviest"])
        self._course.load(state["course"])
        self._bad = Counter({kind: int(count) for kind, count in state["bad"].items()})
        self._units = [Unit.from_state(unit, self._period) for unit in state["units"]]
        self._base = state["base"]
        self._open = {unit.task: self._base + place for place, unit in enumerate(self._units)}
        for name in _TIMES:
            setattr(self, name, float(state["times"][name]))
        self._began, self._against = state["began"], state["against"]
        self._failed = None if state["failed"] is None else (state["failed"][0], state["failed"][1])

    # --- questions ------------------------------------------------------------------------------------------------

    @property
    def clock(self) -> float:
        """The latest time that a record or a question named; minus infinity before the first."""
        return self._clock

    def verdict(self, at: float) -> Verdict:
        """What is known at a moment. Raises `InvalidRequest` when it is not a time."""
        if not _is_number(at) or abs(at) > LAST_TIME:
            raise InvalidRequest(f"{at!r} is not a time that a verdict can be given for")
        self._advance(at)
        kind, metric = self._conclude()
        return Verdict(kind, metric, self._evidence())

    def _conclude(self) -> tuple[Kind, str | None]:
        if self._failed is not None:
            return Kind.FAIL, self._failed[0]
        if self._ratio.mismatch:
            return Kind.HOLD, SAMPLE_RATIO
        if self._against >= self.config.hold_at:
            return Kind.HOLD, self._worst()
        if self._proven() == len(self.config.levels):
            return Kind.PASS, None
        return Kind.INCONCLUSIVE, min(self._proofs, key=lambda metric: self._proofs[metric].standing)

    def _proven(self) -> int:
        """Levels that hold for all metrics, counted from the coarsest."""
        if self._ratio.mismatch:
            return 0
        proofs = self._proofs.values()
        if any(proof.tallies[True].units < self.config.minimum_units for proof in proofs):
            return 0
        held = [all(proof.proven[level] for proof in proofs) for level in range(len(self.config.levels))]
        return held.index(False) if False in held else len(held)

    def _against_by_metric(self) -> dict[str, float]:
        ages = len(self.config.ages)
        sums = dict.fromkeys(self.config.metrics, 0.0)
        for lane in self._lanes:
            sums[lane.metric] += lane.evidence * len(lane.ages)
        return {metric: total / ages for metric, total in sums.items()}

    def _worst(self) -> str:
        against = self._against_by_metric()
        return max(against, key=lambda metric: against[metric])

    def _evidence(self) -> Evidence:
        against = self._against_by_metric()
        ratio = self._ratio
        metrics = {
            name: MetricEvidence(name, against[name], proof.levels(), proof.copy_tallies(), self.config.alpha)
            for name, proof in self._proofs.items()
        }
        return Evidence(
            config=self.config,
            at=self._clock,
            began=self._began,
            against=self._against,
            metrics=metrics,
            ratio=Ratio(ratio.units, ratio.candidates, ratio.expected, ratio.evidence, ratio.mismatch, ratio.share),
            proven=self._proven(),
            weighed=self._heaviest.listed(),
            history=self._course.listed(),
            open_units=len(self._open),
            bad=dict(self._bad),
        )

    # --- time and order -------------------------------------------------------------------------------------------

    def _is_time(self, at: object) -> TypeGuard[float]:
        return isinstance(at, int | float) and -LAST_TIME <= at <= self._limit and not isinstance(at, bool)

    def _advance(self, at: float) -> None:
        """Let time pass: every tick before `at` at which a unit reaches an age, one after the other."""
        if at > self._clock:
            self._clock, self._limit = at, at + FURTHEST_AHEAD
        until = (math.ceil(at / self._tick) - 1) * self._tick
        while self._due <= until and (tick := _next_tick(self._due, self._tick)) <= until:
            self._ticked = max(self._ticked, tick)
            changed = self._run(None)
            self._drop()
            self._due = self._next_due()
            if changed:
                self._decide(self._ticked)
        self._ticked = max(self._ticked, until)

    def _begin(self, unit: Unit) -> None:
        if self._began is None:
            self._began = unit.at
        self._latest = unit.at
        self._ratio.count(unit.candidate, unit.share)
        self._open[unit.task] = self._base + len(self._units)
        self._units.append(unit)
        self._due = min(self._due, unit.at + self.config.ages[0])

    def _report(self, unit: Unit, at: float, values: tuple[Value | None, ...]) -> None:
        for column, value in enumerate(values):
            if value is None:
                continue
            if unit.values[column] is None:
                unit.values[column] = value
                unit.times[column] = at
            elif unit.values[column] != value:
                self._bad["contradiction of an earlier report"] += 1
            else:
                self._bad["repetition of an earlier report"] += 1

    def _usable_flag(self, value: object) -> bool | None:
        if value is None or isinstance(value, bool):
            return value
        self._bad["impossible outcome"] += 1
        return None

    def _usable_cost(self, value: object) -> float | None:
        if value is None:
            return None
        if not _is_number(value) or value < 0:
            self._bad["impossible cost"] += 1
            return None
        if value > ABSURD_COST * self.config.ceiling:
            self._bad["absurd cost, counted as the ceiling"] += 1
        return min(float(value), self.config.ceiling)

    # --- judging --------------------------------------------------------------------------------------------------

    def _run(self, number: int | None) -> bool:
        """Go on with the lanes that wait for a unit, or with all. Whether the evidence of any of them changed."""
        lanes, changed, place = self._lanes, False, 0
        while place < len(lanes):
            lane = lanes[place]
            if lane.next == number or (number is None and self._is_ready(lane)):
                before = lane.evidence
                if self._judge_units(lane):
                    lanes.insert(place, self._branch(lane))
                    number, place = None, place - 1
                changed = changed or lane.evidence != before
            place += 1
        return changed

    def _is_ready(self, lane: Lane) -> bool:
        """Whether the unit that a lane waits for can be judged."""
        index = lane.next - self._base
        if index == len(self._units):
            return False
        unit = self._units[index]
        return unit.at + lane.age <= self._ticked or unit.values[lane.column] is not None

    def _judge_units(self, lane: Lane) -> bool:
        """Judge units whose value at the ages of a lane can change no more. Whether its ages see different things next."""
        units, column, age, several, ticked = self._units, lane.column, lane.age, len(lane.ages) > 1, self._ticked
        for index in range(lane.next - self._base, len(units)):
            unit = units[index]
            value = unit.values[column]
            if value is None:
                if unit.at + age > ticked:
                    return False
                if several:
                    return True
            elif unit.times[column] > unit.at + age:
                if several:
                    return True
                value = None
            factor = lane.judge(unit, value)
            if factor > 1.0:
                self._heaviest.note(unit, lane.metric, factor)
        return False

    def _branch(self, lane: Lane) -> Lane:
        """Take the first age out of a lane, into one of its own that has seen the same."""
        first = make_lane(lane.metric, lane.ages[:1], self.config)
        first.load(lane.to_state())
        lane.wait_for(lane.ages[1:])
        return first

    def _decide(self, now: float) -> None:
        if self._failed is not None:
            return
        total = 0.0
        for lane in self._lanes:
            total += lane.evidence * len(lane.ages)
        self._against = total / (len(self.config.metrics) * len(self.config.ages))
        if self._course.due(now):
            self._course.note(now, self._against_by_metric())
        if self._against >= self.config.abort_at and self._ratio.candidates and not self._ratio.doubtful:
            self._failed = (self._worst(), now)
            self._course.note(now, self._against_by_metric())
            for lane in self._lanes:
                lane.freeze()

    def _next_due(self) -> float:
        """When the next unit reaches an age, or has been over for a period: many are forgotten at once."""
        dues = [self._units[0].at + self.config.ages[-1] + self._period] if self._units else []
        for lane in self._lanes:
            index = lane.next - self._base
            if index < len(self._units):
                dues.append(self._units[index].at + lane.age)
        return min(dues, default=math.inf)

    def _drop(self) -> None:
        """Forget the units that are past the last age."""
        last, count = self.config.ages[-1], 0
        for unit in self._units:
            if unit.at + last > self._ticked:
                break
            del self._open[unit.task]
            count += 1
        del self._units[:count]
        self._base += count


def _is_number(value: object) -> TypeGuard[float]:
    return isinstance(value, int | float) and -LARGEST <= value <= LARGEST and not isinstance(value, bool)


def _to_json(time: float) -> float | str:
    """JSON has no infinity."""
    return time if math.isfinite(time) else str(time)


def _next_tick(at: float, spacing: float) -> float:
    tick = math.ceil(at / spacing) * spacing
    return tick if tick >= at else tick + spacing
