"""Small streams of records for the judge, and what feeds them to it."""

from __future__ import annotations

import math
import random
from collections.abc import Iterable
from dataclasses import dataclass

from turnout.domain.judge import History, Judge, JudgeConfig

HISTORY = History(failure=0.08, intervention=0.05, cost=0.08, units=1000.0)
CONFIG = JudgeConfig(history=HISTORY)
FAILURES = JudgeConfig(history=HISTORY, metrics=("failure",))


@dataclass(frozen=True)
class Start:
    at: float
    task: str
    candidate: bool
    share: float


@dataclass(frozen=True)
class Report:
    at: float
    task: str
    failed: bool | None = None
    intervened: bool | None = None
    cost: float | None = None


Record = Start | Report


def feed(judge: Judge, records: Iterable[Record]) -> None:
    for record in records:
        if isinstance(record, Start):
            judge.start(record.task, "candidate" if record.candidate else "stable", record.share, record.at)
        else:
            judge.outcome(record.task, record.at, record.failed, record.intervened, record.cost)


def stream(
    seed: int,
    units: int = 400,
    share: float = 0.3,
    stable: float = 0.08,
    candidate: float = 0.08,
    *,
    pace: float = 10.0,
    slow: bool = False,
    cost: float = 1.0,
    routed: float | None = None,
) -> list[Record]:
    """Records in the order of time. `slow`: successes take an hour less a few seconds; `routed`: the share in truth."""
    chance = random.Random(seed)
    records: list[Record] = []
    at = 0.0
    for number in range(units):
        at += chance.expovariate(1 / pace)
        mine = chance.random() < (share if routed is None else routed)
        failed = chance.random() < (candidate if mine else stable)
        reported = at + (3590.0 if slow and not failed else 5 + 20 * chance.random())
        paid = min(2.0, chance.lognormvariate(math.log(0.08) - 0.72, 1.2) * (cost if mine else 1.0))
        records.append(Start(at, f"t{number}", mine, share))
        records.append(Report(reported, f"t{number}", failed, chance.random() < 0.05, paid))
    return sorted(records, key=lambda record: (record.at, isinstance(record, Report), record.task))
