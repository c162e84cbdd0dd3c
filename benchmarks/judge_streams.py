"""The streams that judges of canaries are measured on, and what each judge does with one of them."""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import chain

from benchmarks.judge_peers import PEERS, Minutes
from benchmarks.judge_world import COST, EQUAL, FAILURE, FAR_FUTURE, HOUR, HOURS, INTERVENTION, Unit, World, units
from turnout.domain.judge import History, Judge, JudgeConfig, Kind, Margins, Verdict

OURS = "turnout"
MINUTE = 60.0
STEPS = (0.05, 0.25, 0.5, 0.5)  # shares of the evidence ramp, by how many margins are proven
HISTORY = History(failure=FAILURE, intervention=INTERVENTION, cost=COST, units=1000.0)
DEFAULT = JudgeConfig(history=HISTORY)
TOLERANT = JudgeConfig(history=HISTORY, tolerance=Margins(0.01, 0.01, 0.1))
ONE_METRIC = JudgeConfig(history=HISTORY, metrics=("failure",))
SEEDS = 1_000_000  # between scenarios
END = Unit(HOURS * HOUR, False, 0.5, False, False, 0.0, FAR_FUTURE)


@dataclass(frozen=True, slots=True)
class Scenario:
    """A world, what share the candidate gets in it, and how many streams are drawn from it."""

    name: str
    world: World
    share: float = 0.02  # 0: the timed ramp, 1 → 5 → 25 → 50 %, an hour each
    quick: int = 30
    full: int = 1000  # of a full run, for all judges
    alone: int = 0  # of a full run, after those: for turnout's judge alone, whose rate is to be known more closely
    config: JudgeConfig = DEFAULT
    ramp: bool = False  # the evidence ramp from 5 %; others stay at `share`
    peers: bool = True


@dataclass(frozen=True, slots=True)
class Result:
    """What one judge did with one stream."""

    kind: Kind
    hours: float
    known: int  # units of the candidate that had reported by then


SCENARIOS = (
    Scenario("equal, 2 %", EQUAL, full=3000, quick=12),
    Scenario("equal, 5 %", EQUAL, 0.05, full=3000, quick=12),
    Scenario("equal, outage of both, 5 %", World(outage=True), 0.05, full=600, alone=2400, quick=4),
    Scenario("equal, drift 4 → 14 %, 5 %", World(drift=True), 0.05, full=600, alone=2400, quick=4),
    Scenario("equal, drift, timed ramp", World(drift=True), 0.0, full=600, alone=2400, quick=4),
    Scenario("equal, sticky units, 5 %", World(sticky=True), 0.05, full=1000, alone=2000, quick=8),
    Scenario("equal, slow successes, 5 %", World(slow=True), 0.05, full=600, alone=2400, quick=3),
    Scenario("total failure, 2 %", World(total=True), full=600, quick=35),
    Scenario("total failure, 5 %", World(total=True), 0.05, full=600, quick=10),
    Scenario("−10 points, 2 %", World(failure=0.10), full=2000, quick=30),
    Scenario("−10 points, 2 %, one metric", World(failure=0.10), full=2000, quick=30, config=ONE_METRIC, peers=False),
    Scenario("−10 points after 12 h, 2 %", World(failure=0.10, onset=12 * HOUR), full=320, quick=3),
    Scenario("−3 points, 2 %", World(failure=0.03), full=1600, quick=12),
    Scenario("cost +50 %, 2 %", World(cost=0.5), full=2000, quick=30),
    Scenario("ceiling hit by 2 %, 2 %", World(ceiling_hits=0.02), full=2000, quick=15),
    Scenario("−1 point, tolerance, 5 %", World(failure=0.01), 0.05, full=600, quick=4, config=TOLERANT),
    Scenario("−1 point, no tolerance, 5 %", World(failure=0.01), 0.05, full=320, quick=3, peers=False),
    Scenario("−3 points, tolerance, 2 %", World(failure=0.03), full=320, quick=3, config=TOLERANT, peers=False),
    Scenario("−3 points, ramp", World(failure=0.03), 0.05, full=1000, alone=2000, quick=6, ramp=True),
    Scenario("+2.5 points intervention, ramp", World(intervention=0.025), 0.05, full=600, quick=6, ramp=True),
    Scenario("cost +25 %, ramp", World(cost=0.25), 0.05, full=600, quick=6, ramp=True),
    Scenario("−5 points, ramp", World(failure=0.05), 0.05, full=600, quick=6, ramp=True),
    Scenario("equal, ramp", EQUAL, 0.05, full=2000, quick=30, ramp=True, peers=False),
    Scenario(
        "−5 points, 60 % unreported, ramp", World(failure=0.05, unreported=0.6), 0.05, full=1000, quick=6, ramp=True
    ),
)


def run(scenario: Scenario, number: int) -> dict[str, Result]:
    """One stream, through all judges that see it. On a ramp each judge makes its own: turnout's steers the share."""
    seed = SEEDS * [other.name for other in SCENARIOS].index(scenario.name) + number
    stream: Iterable[Unit] = units(scenario.world, seed, shares(scenario))
    peers = scenario.peers and number < scenario.full
    if peers:
        stream = list(stream)
    results = {OURS: run_ramp(scenario, seed) if scenario.ramp else run_ours(scenario.config, stream)}
    if peers:
        minutes = Minutes(stream)
        for name, peer in PEERS.items():
            minute = peer(minutes)
            kind, at = (Kind.PASS, HOURS * 60) if minute is None else (Kind.FAIL, minute)
            results[name] = Result(kind, at / 60, int(minutes.upto(at, candidate=True)[0]))
    return results


def shares(scenario: Scenario) -> Callable[[float], float]:
    """The share over time for judges that do not steer it."""
    if scenario.share:
        return lambda at: scenario.share
    return lambda at: (0.01, 0.05, 0.25, 0.5)[min(int(at // HOUR), 3)]


def run_ramp(scenario: Scenario, seed: int) -> Result:
    """turnout's judge where it steers: what is proven raises the share, and a pass ends it."""
    ramp = Ramp()
    return run_ours(scenario.config, units(scenario.world, seed, ramp.share_at), ramp)


class Ramp:
    """The evidence ramp: a share for each number of levels that are proven."""

    def __init__(self) -> None:
        self.share = STEPS[0]

    def share_at(self, at: float) -> float:
        """The share of now; when now is makes no difference."""
        return self.share

    def take(self, verdict: Verdict) -> None:
        """Go on with what is proven, but not from a hold."""
        if verdict.kind is not Kind.HOLD:
            self.share = max(self.share, STEPS[verdict.evidence.proven])


def run_ours(config: JudgeConfig, stream: Iterable[Unit], ramp: Ramp | None = None) -> Result:
    """Feed the judge in the order of time, and ask it each minute, as a controller would."""
    ours, look, begun = Judge(config), MINUTE, 0
    waiting: list[tuple[float, int, Unit]] = []
    for number, unit in enumerate(chain(stream, [END])):
        while min(look, waiting[0][0] if waiting else math.inf) <= unit.at:
            if waiting and waiting[0][0] <= look:
                reported, task, known = heapq.heappop(waiting)
                ours.outcome(str(task), reported, known.failed, known.intervened, known.cost)
                continue
            verdict = ours.verdict(look)
            if verdict.kind is Kind.FAIL or (ramp and verdict.kind is Kind.PASS):
                late = sum(known.candidate for _, _, known in waiting)
                return Result(verdict.kind, look / HOUR, begun - late)
            if ramp:
                ramp.take(verdict)
            look += MINUTE
        if unit is END:
            break
        begun += unit.candidate
        ours.start(str(number), "candidate" if unit.candidate else "stable", unit.share, unit.at)
        if unit.reported < FAR_FUTURE:
            heapq.heappush(waiting, (unit.reported, number, unit))
    return Result(ours.verdict(HOURS * HOUR).kind, HOURS, begun)
