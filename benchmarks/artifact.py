"""What releases with much data cost: bytes that move after a change, seconds, memory; and whether a flipped byte is found.

    python -m benchmarks.artifact [--quick]

The sample agent with one file of random bytes, from 1 MB to 2 GB, is built and pushed by the command line to a live
instance, which keeps its releases in a docker-registry if one is installed. Then 1 % of the file is changed in runs of 64 KB
and everything is pushed again. Beside it, in the same run: sha256 of the same file, and what `docker build` and `docker
push`, a tar layer and restic move or store for the same two states of the folder. `--quick` ends at 64 MB, where the
throughput of a build is not judged.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tests.contract.registry_server import COMMAND, RegistryServer, registry_server
from tests.live import LiveInstance, live_instance

from benchmarks.artifact_data import MEGABYTE, TURNOUT, Ran, data_file, make_agent, run, scatter
from benchmarks.artifact_flips import Flips, flip_large, flip_live, flip_small
from benchmarks.artifact_proxy import CountingProxy, counting_proxy
from benchmarks.artifact_rivals import Rival, rivals
from benchmarks.report import Figure, judge, on_this_machine, show_table

SIZES, QUICK_SIZES = (1, 16, 64, 256, 1024, 2048), (1, 16, 64)  # MB
MAIN = 1024  # the size that limits are held against, or the largest below it
FLIPPED, QUICK_FLIPPED = 64, 16
SHARE = 0.01
SETTLED = 2.5  # seconds until a file that was written is one that the cache can trust
MOVED_LIMIT, DOCKER_LIMIT, RESTIC_LIMIT = 0.03, 1 / 30, 1 / 8
UNCHANGED_LIMIT, THROUGHPUT_LIMIT, MEMORY_LIMIT = 1.0, 0.5, 200.0


@dataclass(frozen=True, slots=True)
class Moved:
    """What one way moved or stored: bytes and seconds of the first time, and after the change."""

    name: str
    first: int
    then: int
    first_seconds: float
    then_seconds: float


@dataclass
class Measured:
    """All of one size. Sizes in MB, times in seconds."""

    megabytes: int
    sha256: float = 0.0
    build: float = 0.0  # without the secret scan
    command: float = 0.0  # with it
    peak_build: float = 0.0
    peak_push: float = 0.0
    peak_server: float = 0.0
    unchanged: list[float] = field(default_factory=list)
    unchanged_blobs: int = 0
    moved: list[Moved] = field(default_factory=list)  # turnout first
    digests: set[str] = field(default_factory=set)  # of the changed release, with the cache and without

    @property
    def throughput(self) -> float:
        """Of a cold build, as a share of that of sha256."""
        return self.sha256 / self.build


def main() -> int:
    """Measure, print, judge."""
    parser = argparse.ArgumentParser(description="releases with much data")
    parser.add_argument("--quick", action="store_true", help="up to 64 MB, in about two minutes")
    quick = parser.parse_args().quick
    sizes = QUICK_SIZES if quick else SIZES
    main_size = max(size for size in sizes if size <= MAIN)
    with on_this_machine(), tempfile.TemporaryDirectory(prefix="artifact-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        measured = [measure(folder / str(size), size, beside=size == main_size) for size in sizes]
        flips = [
            flip_small(folder / "small"),
            flip_live(folder / "live"),
            flip_large(folder / "large", (QUICK_FLIPPED if quick else FLIPPED) * MEGABYTE, 200),
        ]
        twins = build_twins(folder)
    show(measured, flips)
    return judge(figures(measured, flips, twins, main_size))


# --- one size ----------------------------------------------------------------------------------------------------------


def measure(folder: Path, megabytes: int, *, beside: bool) -> Measured:
    """Build, push, change, push again; `beside`: let the others do the same."""
    print(f"{megabytes} MB …", flush=True)
    agent = make_agent(folder / "agent", megabytes * MEGABYTE)
    found = Measured(megabytes)
    measure_build(agent, found, runs=3 if megabytes < MAIN else 2)
    with ExitStack() as stack:
        registry, instance, proxy = stack.enter_context(platform(folder))
        env = {
            "TURNOUT_SERVER": f"http://127.0.0.1:{proxy.port}",
            "TURNOUT_TOKEN": (instance.state / "admin.token").read_text().strip(),
        }
        taking: list[Rival] = [Turnout(proxy, env, found)]
        if beside:
            taking += stack.enter_context(rivals(folder, instance, proxy, registry))
        first = [timed(rival, agent) for rival in taking]
        scatter(data_file(agent), SHARE, megabytes)
        time.sleep(SETTLED)
        then = [timed(rival, agent) for rival in taking]
        found.moved = [
            Moved(rival.name, before[0], after[0], before[1], after[1])
            for rival, before, after in zip(taking, first, then, strict=True)
        ]
        measure_unchanged(agent, env, found)
        found.peak_server = peak_of(instance)
    shutil.rmtree(folder, ignore_errors=True)
    return found


@contextmanager
def platform(folder: Path) -> Iterator[tuple[RegistryServer | None, LiveInstance, CountingProxy]]:
    """An instance with a registry behind it, if there is one, and a proxy before it."""
    with ExitStack() as stack:
        registry, flags = None, tuple[str, ...]()
        if COMMAND:
            (folder / "registry").mkdir()
            registry = stack.enter_context(registry_server(folder / "registry"))
            flags = ("--registry", f"registry+http://{registry.address}/team")
        instance = stack.enter_context(live_instance(folder / "state", flags=flags))
        yield registry, instance, stack.enter_context(counting_proxy(instance.port))


@dataclass(frozen=True, slots=True)
class Turnout:
    """`turnout build --push` through a counting proxy."""

    proxy: CountingProxy
    env: dict[str, str]
    found: Measured
    name: str = "turnout build --push"

    def take(self, folder: Path) -> int:
        """See `Rival`."""
        before = self.proxy.sent
        pushed = push(folder, self.env)
        self.found.peak_push = max(self.found.peak_push, pushed.megabytes)
        return self.proxy.sent - before


def measure_build(agent: Path, found: Measured, runs: int) -> None:
    """Cold builds: in one process with sha256 of the same file, and by the command, which looks for secrets too."""
    measured = json.loads(run(sys.executable, "-m", "benchmarks.artifact_build", str(agent), str(runs)).stdout)
    found.sha256, found.build = measured["sha256"], measured["build"]
    cold = run(TURNOUT, "build", "--no-push", "--no-cache", str(agent))
    found.command, found.peak_build = cold.seconds, cold.megabytes
    shutil.rmtree(agent / ".turnout")


def measure_unchanged(agent: Path, env: dict[str, str], found: Measured) -> None:
    """Nothing has changed since the last push: five times with the cache, once without."""
    for _ in range(5):
        again = push(agent, env)
        found.unchanged.append(again.seconds)
        found.unchanged_blobs += "push     nothing" not in again.stderr
        found.digests.add(json.loads(again.stdout)["digest"])
    proved = push(agent, env, "--no-cache")
    found.unchanged_blobs += "push     nothing" not in proved.stderr
    found.digests.add(json.loads(proved.stdout)["digest"])
    found.peak_push = max(found.peak_push, proved.megabytes)


def push(agent: Path, env: dict[str, str], *flags: str) -> Ran:
    """`turnout build --push`, as its user runs it."""
    return run(TURNOUT, "build", "--push", "--json", *flags, str(agent), env=env)


def timed(rival: Rival, folder: Path) -> tuple[int, float]:
    """Bytes and seconds."""
    began = time.perf_counter()
    moved = rival.take(folder)
    return moved, time.perf_counter() - began


def peak_of(instance: LiveInstance) -> float:
    """The most memory that the server had, in MB."""
    assert instance.process is not None
    status = Path(f"/proc/{instance.process.pid}/status").read_text()
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM")) / 1024


def build_twins(folder: Path) -> int:
    """How many digests two folders with the same content have."""
    twins = [make_agent(folder / name, 64 * MEGABYTE, files=16, reverse=name == "twin") for name in ("one", "twin")]
    built = [json.loads(run(TURNOUT, "build", "--no-push", "--json", str(twin)).stdout) for twin in twins]
    return len({item["digest"] for item in built})


# --- what is printed ---------------------------------------------------------------------------------------------------


def figures(measured: Sequence[Measured], flips: Sequence[Flips], twins: int, main_size: int) -> list[Figure]:
    """Each number beside its limit."""
    chief = next(item for item in measured if item.megabytes == main_size)
    ours, *others = chief.moved
    found = [
        Figure(
            f"pushed after a change of 1 % of {main_size} MB", _percent(ours.then, main_size), 100 * MOVED_LIMIT, "%"
        )
    ]
    whole = others[0]  # Docker, else the tar layer
    found.append(Figure(f"… beside {whole.name}", 100 * ours.then / whole.then, 100 * DOCKER_LIMIT, "%"))
    for restic in others:
        if restic.name.startswith("restic"):
            found.append(Figure(f"… beside {restic.name}", 100 * ours.then / restic.then, 100 * RESTIC_LIMIT, "%"))
    if main_size == MAIN:  # what a build costs beside its data weighs too much in a smaller one
        found.append(
            Figure(
                f"cold build of {main_size} MB without the secret scan, beside sha256",
                chief.throughput,
                THROUGHPUT_LIMIT,
                at_least=True,
            )
        )
    return [
        *found,
        Figure("unchanged: pushes that moved a blob, all sizes", sum(item.unchanged_blobs for item in measured), 0),
        Figure(f"unchanged {main_size} MB, the command", statistics.median(chief.unchanged), UNCHANGED_LIMIT, "s"),
        Figure("digests of it, with the cache and without", max(len(item.digests) for item in measured), 1),
        Figure("peak memory of a build, any size", max(item.peak_build for item in measured), MEMORY_LIMIT, "MB"),
        Figure("peak memory of a push, any size", max(item.peak_push for item in measured), MEMORY_LIMIT, "MB"),
        Figure("flips tried", sum(item.tried for item in flips), 200, at_least=True),
        Figure("flips not found, or started all the same", sum(item.missed for item in flips), 0),
        Figure("digests of two folders with the same content", twins, 1),
    ]


def show(measured: Sequence[Measured], flips: Sequence[Flips]) -> None:
    """By size, by rival, by flip."""
    print()
    show_table(
        (
            "MB of data",
            "sha256 ms",
            "cold build ms",
            "ratio",
            "with the scan ms",
            "pushed after 1 %",
            "unchanged ms",
            "build MB",
            "push MB",
            "server MB",
        ),
        [
            (
                str(item.megabytes),
                f"{1000 * item.sha256:.0f}",
                f"{1000 * item.build:.0f}",
                f"{item.throughput:.2f}",
                f"{1000 * item.command:.0f}",
                f"{_percent(item.moved[0].then, item.megabytes):.2f} %",
                f"{1000 * statistics.median(item.unchanged):.0f}",
                f"{item.peak_build:.0f}",
                f"{item.peak_push:.0f}",
                f"{item.peak_server:.0f}",
            )
            for item in measured
        ],
    )
    for item in measured:
        if len(item.moved) > 1:
            show_moved(item)
    show_table(
        ("one byte flipped in", "blobs", "flips", "found and named", "refused"),
        [(item.name, str(item.blobs), str(item.tried), str(item.found), str(item.refused)) for item in flips],
    )


def show_moved(item: Measured) -> None:
    """A row for each way; ratios are to turnout's bytes after the change."""
    show_table(
        (f"{item.megabytes} MB, 1 % changed", "first MB", "s", "then MB", "s", "of the data", "ratio"),
        [
            (
                moved.name,
                f"{moved.first / MEGABYTE:.1f}",
                f"{moved.first_seconds:.1f}",
                f"{moved.then / MEGABYTE:.1f}",
                f"{moved.then_seconds:.1f}",
                f"{_percent(moved.then, item.megabytes):.2f} %",
                f"{moved.then / item.moved[0].then:.1f}",
            )
            for moved in item.moved
        ],
    )


def _percent(moved: int, megabytes: int) -> float:
    return 100 * moved / (megabytes * MEGABYTE)


if __name__ == "__main__":
    sys.exit(main())
