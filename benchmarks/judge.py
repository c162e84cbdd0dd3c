"""How often and how soon judges of canaries are right: turnout's and eight others, on the same simulated streams.

    python -m benchmarks.judge [--quick | --full [--minutes M] [--keep FILE]] [--jobs N] [--plot FILE.svg]

The scenarios are in `judge_streams.py`, the world in `judge_world.py`, the others in `judge_peers.py`. Every run of a
scenario is one stream of 24 hours; all judges see it, and look every minute where their rule says so. Some scenarios go on
after those for turnout's judge alone. turnout's is the shipped `Judge`, fed record by record.
`--quick` makes few runs, and allows each figure the noise of so few (one in a hundred would miss it by chance; a fifth for
processor times, so that work beside it may slow it down); `--full` allows none. With `--keep` it goes on where it was ended:
what was found is in the file, and counts as long as the judges, the world and the scenarios are the same.
"""

from __future__ import annotations

import argparse
import hashlib
import inspect
import json
import math
import os
import statistics
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from itertools import repeat
from pathlib import Path

from benchmarks.judge_plot import draw
from benchmarks.judge_streams import DEFAULT, OURS, SCENARIOS, Result, Scenario, run
from benchmarks.judge_world import FAILURE, FAR_FUTURE, Unit, World, units
from benchmarks.report import Figure, judge, on_this_machine, show_table
from turnout.domain.judge import Judge, Kind

PARTS = 40  # of a full run, each with some runs of every scenario
NOISE = 2.33  # standard errors that few runs are allowed: once in a hundred it is more
Results = dict[str, list[Result]]  # by judge


def main() -> int:
    """Draw, judge, print, compare with the limits."""
    parser = argparse.ArgumentParser(description="judges of canaries, on the same streams")
    size = parser.add_mutually_exclusive_group()
    size.add_argument("--quick", action="store_true", help="few runs, about two minutes on two cores (the default)")
    size.add_argument("--full", action="store_true", help="as many runs as the figures ask for: hours")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes (default: one a core)")
    parser.add_argument(
        "--minutes", type=float, default=math.inf, help="end --full after so long, every scenario alike"
    )
    parser.add_argument("--keep", type=Path, help="keep what --full finds in this file, and go on from it")
    parser.add_argument("--only", default="", help="only scenarios whose name holds this; no figures then")
    parser.add_argument("--plot", type=Path, help="write a picture (SVG) of tasks to decision and wrong aborts")
    options = parser.parse_args()
    chosen = [scenario for scenario in SCENARIOS if options.only in scenario.name]
    with on_this_machine():
        found = simulate(chosen, options.jobs, full=options.full, minutes=options.minutes, kept=Kept(options.keep))
        speeds = [] if options.only else [microseconds_a_unit(World()), microseconds_a_unit(World(slow=True))]
    show_abort(found)
    show_promotion(found)
    if options.plot:
        options.plot.write_text(draw(found))
    return 0 if options.only else judge(list(figures(found, speeds, noise=0.0 if options.full else NOISE)))


# --- drawing and judging ---------------------------------------------------------------------------------------------


def simulate(scenarios: Sequence[Scenario], jobs: int, *, full: bool, minutes: float, kept: Kept) -> dict[str, Results]:
    """What every judge did with every stream. The runs are made in parts of all scenarios, until the time is over."""
    found: dict[str, Results] = {scenario.name: {} for scenario in scenarios}
    parts, began, made = PARTS if full else 1, time.monotonic(), 0
    with ProcessPoolExecutor(max_workers=jobs) as pool:
        for part in range(parts):
            streams = kept.part(part) if full else None
            if streams is None:
                if made and (time.monotonic() - began) * (made + 1) / made > minutes * 60:
                    break
                streams = simulate_part(pool, scenarios, part, parts, full=full)
                made += 1
                if full:
                    kept.add(part, streams)
            for name, results in streams:
                for who, result in results.items():
                    found[name].setdefault(who, []).append(result)
            print(f"part {part + 1} of {parts} after {time.monotonic() - began:.0f} s", file=sys.stderr, flush=True)
    return found


def simulate_part(
    pool: ProcessPoolExecutor, scenarios: Sequence[Scenario], part: int, parts: int, *, full: bool
) -> list[tuple[str, dict[str, Result]]]:
    """Some runs of every scenario: its name, and what each judge did."""
    drawn = []
    for scenario in scenarios:
        runs = scenario.full + scenario.alone if full else scenario.quick
        numbers = range(runs * part // parts, runs * (part + 1) // parts)
        drawn.append((scenario.name, pool.map(run, repeat(scenario), numbers, chunksize=2)))
    return [(name, stream) for name, streams in drawn for stream in streams]


class Kept:
    """Parts of a full run that were made before, by the same judges on the same streams. A line of the file is one part."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._parts: dict[int, list[tuple[str, dict[str, Result]]]] = {}
        here = Path(__file__).parent
        sources = [*here.glob("judge_*.py"), *Path(inspect.getfile(Judge)).parent.glob("*.py")]
        texts = (source.read_bytes() for source in sorted(sources) if source.name != "judge_plot.py")
        self._mark = hashlib.sha256(b"".join(texts)).hexdigest()
        if path is None or not path.exists():
            return
        for line in path.read_text().splitlines():
            content = json.loads(line)
            if content["mark"] == self._mark:
                self._parts[content["part"]] = [
                    (name, {who: Result(Kind(kind), hours, known) for who, (kind, hours, known) in stream.items()})
                    for name, stream in content["streams"]
                ]

    def part(self, number: int) -> list[tuple[str, dict[str, Result]]] | None:
        """What was found in a part; None if it was not made yet."""
        return self._parts.get(number)

    def add(self, number: int, streams: list[tuple[str, dict[str, Result]]]) -> None:
        """Keep a part."""
        if self._path is None:
            return
        plain = [
            (name, {who: (result.kind, result.hours, result.known) for who, result in stream.items()})
            for name, stream in streams
        ]
        with self._path.open("a") as file:
            file.write(json.dumps({"mark": self._mark, "part": number, "streams": plain}) + "\n")


def microseconds_a_unit(world: World) -> float:
    """Processor time of the judge for a unit: start, outcome, everything that follows; the best of five."""
    records: list[tuple[float, int, Unit]] = []
    for number, unit in enumerate(units(world, 1, lambda at: 0.02)):
        records.append((unit.at, number, unit))
        if unit.reported < FAR_FUTURE:
            records.append((unit.reported, -number, unit))
    records.sort(key=lambda record: record[:2])
    best = math.inf
    for _ in range(5):
        ours, began = Judge(DEFAULT), time.process_time()
        for at, number, unit in records:
            if at == unit.at:
                ours.start(str(number), "candidate" if unit.candidate else "stable", unit.share, at)
            else:
                ours.outcome(str(-number), at, unit.failed, unit.intervened, unit.cost)
        best = min(best, time.process_time() - began)
    return 1e6 * best / sum(at == unit.at for at, _, unit in records)


# --- saying it -------------------------------------------------------------------------------------------------------


def show_abort(found: dict[str, Results]) -> None:
    """For each judge the part of the releases that it aborts, and how many units of the candidate that took."""
    for name, results in found.items():
        rows = []
        for who, runs in results.items():
            known = [result.known for result in runs if result.kind is Kind.FAIL]
            rows.append(
                (
                    who,
                    f"{len(runs):,}",
                    f"{len(known) / len(runs):.1%}",
                    f"{statistics.median(known):.0f}" if known else "",
                    f"{statistics.mean(known):.0f}" if known else "",
                    f"{sum(result.kind is Kind.HOLD for result in runs) / len(runs):.1%}",
                )
            )
        show_table((name, "runs", "aborted", "median tasks", "mean tasks", "on hold at the end"), rows)


def show_promotion(found: dict[str, Results]) -> None:
    """For the scenarios with a ramp the part of the releases that is promoted, and when."""
    by_name = {scenario.name: scenario for scenario in SCENARIOS}
    rows = []
    for name, results in found.items():
        if not by_name[name].ramp:
            continue
        for who, runs in results.items():
            hours = [result.hours for result in runs if result.kind is Kind.PASS]
            median = f"{statistics.median(hours):.1f}" if hours else ""
            rows.append((name, who, f"{len(runs):,}", f"{len(hours) / len(runs):.1%}", median))
    if rows:
        show_table(("scenario", "judge", "runs", "promoted", "median hours"), rows)


def figures(found: dict[str, Results], speeds: Sequence[float], noise: float) -> Iterator[Figure]:
    """All figures of this page. `noise` is how many standard errors are allowed."""
    ours = {name: results[OURS] for name, results in found.items()}
    for name, runs in ours.items():
        if name.startswith("equal") and name != "equal, ramp":
            yield share(f"aborted: {name}", runs, Kind.FAIL, 0.03, noise)
    yield tasks("median tasks: total failure, 2 %", ours["total failure, 2 %"], 3, noise)
    yield tasks("median tasks: −10 points, 2 %", ours["−10 points, 2 %"], 100, noise)
    yield efficiency("mean / (log(1/α) / KL): −10 points, one metric", ours["−10 points, 2 %, one metric"], 1.4, noise)
    yield efficiency("mean / (log(1/α) / KL): −10 points, three metrics", ours["−10 points, 2 %"], 1.8, noise)
    yield share("detected: −3 points, 2 %", ours["−3 points, 2 %"], Kind.FAIL, 0.24, noise, at_least=True)
    yield tasks("median tasks: cost +50 %, 2 %", ours["cost +50 %, 2 %"], 100, noise)
    ceiling = ours["ceiling hit by 2 %, 2 %"]
    yield share("detected: ceiling hit by 2 %, 2 %", ceiling, Kind.FAIL, 0.98, noise, at_least=True)
    for name in ("−3 points, ramp", "+2.5 points intervention, ramp", "cost +25 %, ramp", "−5 points, ramp"):
        yield share(f"promoted: {name}", ours[name], Kind.PASS, 0.05, noise)
    ramp = ours["equal, ramp"]
    yield share("promoted: equal, ramp", ramp, Kind.PASS, 0.97, noise, at_least=True)
    hours = [result.hours for result in ramp if result.kind is Kind.PASS]
    yield Figure("median hours: equal, ramp", statistics.median(hours), 4.2 + noise * _error(hours, median=True), "h")
    yield share("aborted: −1 point, tolerance, 5 %", ours["−1 point, tolerance, 5 %"], Kind.FAIL, 0.05, noise)
    unreported = ours["−5 points, 60 % unreported, ramp"]
    yield share("promoted: −5 points, 60 % unreported, ramp", unreported, Kind.PASS, 0.01, noise)
    slowest = 25.0 * (1.2 if noise else 1.0)
    yield Figure("processor time of a unit, reported in time", speeds[0], slowest, "µs")
    yield Figure("processor time of a unit, slow successes", speeds[1], slowest, "µs")


def share(
    name: str, runs: Sequence[Result], kind: Kind, limit: float, noise: float, *, at_least: bool = False
) -> Figure:
    """The part of the runs that ended in a way, in percent."""
    part = sum(result.kind is kind for result in runs) / len(runs)
    if noise and at_least:
        limit = 1 - _unlucky(1 - limit, len(runs), noise)
    elif noise:
        limit = _unlucky(limit, len(runs), noise)
    return Figure(name, 100 * part, 100 * limit, "%", at_least)


def _unlucky(rate: float, runs: int, noise: float) -> float:
    """The part of the runs that things of this rate exceed as seldom as a normal value does `noise` standard errors."""
    least, seen = statistics.NormalDist().cdf(noise), 0.0
    for number in range(runs):
        seen += math.comb(runs, number) * rate**number * (1 - rate) ** (runs - number)
        if seen >= least:
            return number / runs
    return 1.0


def tasks(name: str, runs: Sequence[Result], limit: float, noise: float) -> Figure:
    """The median of the units of the candidate that had reported when it was aborted. Not aborted is never."""
    known = [float(result.known) if result.kind is Kind.FAIL else math.inf for result in runs]
    return Figure(name, statistics.median(known), limit + noise * _error(known, median=True), "tasks")


def efficiency(name: str, runs: Sequence[Result], limit: float, noise: float) -> Figure:
    """The mean of the same, over what a test that knows both rates would need."""
    bound = math.log(20) / information(0.02, FAILURE + 0.10, FAILURE)
    known = [result.known / bound for result in runs if result.kind is Kind.FAIL]
    return Figure(name, statistics.mean(known), limit + noise * _error(known, median=False))


def information(share: float, candidate: float, stable: float) -> float:
    """Nats that a unit of the candidate, with the units of the stable arm that go with it, tells of which arm is which."""
    mixed = share * candidate + (1 - share) * stable
    return _divergence(candidate, mixed) + (1 - share) / share * _divergence(stable, mixed)


def _divergence(p: float, q: float) -> float:
    return p * math.log(p / q) + (1 - p) * math.log((1 - p) / (1 - q))


def _error(values: Sequence[float], *, median: bool) -> float:
    finite = [value for value in values if math.isfinite(value)]
    if len(finite) < 2:
        return 0.0
    return statistics.stdev(finite) / math.sqrt(len(finite)) * (1.2533 if median else 1.0)


if __name__ == "__main__":
    sys.exit(main())
