"""`turnout replay`."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from turnout.cli.agent import agent_here
from turnout.cli.connection import connected, note, print_json
from turnout.cli.evaluating import cache_folder, fetched, own_gateway
from turnout.cli.progress import show_progress
from turnout.cli.replay_diff import show_report, show_task
from turnout.cli.tables import local_time, release_label, show_table
from turnout.client import Client
from turnout.domain.errors import NotFound, ReplayNotHeld, TurnoutError
from turnout.domain.models import Digest
from turnout.domain.recordings import Recording
from turnout.domain.replay_document import LARGEST_REPORT, parse_report, render_within
from turnout.domain.replay_lines import read_recordings
from turnout.domain.replays import Came, TaskDiff, Unreadable
from turnout.schemas import RecordingView, ReleaseView, ReplayView

if TYPE_CHECKING:
    from turnout.domain.replays import ReplayReport
    from turnout.replay.engine import Replay

_MOST = 1_000  # recordings that one request may ask for
_OF_ONE = ("not_found", "damaged_content", "invalid_request")  # errors that are about one recording alone
_agent = click.option("--agent", help="Agent of the releases. Default: the one of turnout.toml in this folder.")


class _Replays(click.Group):
    """`turnout replay A B` is `turnout replay run A B`."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Put the missing word in."""
        if args and args[0] not in (*self.commands, "-h", "--help"):
            args = ["run", *args]
        return super().parse_args(ctx, args)


@click.group(cls=_Replays)
def replay() -> None:
    """Ask recorded tasks of one release of another; show what came of it.

    `turnout replay A B` is short for `turnout replay run A B`.
    """


@replay.command(short_help="Ask recorded tasks of release A of release B.")
@click.argument("baseline", metavar="A")
@click.argument("candidate", metavar="B")
@_agent
@click.option(
    "--tasks",
    default="50",
    show_default=True,
    help="How many recordings, the newest; or TASK,TASK…; or a file that `turnout recordings export` wrote.",
)
@click.option("--ring", help="Only recordings of this ring. Default: NAME where A is ring:NAME, else any.")
@click.option(
    "--models",
    type=click.Choice(["recorded", "live"]),
    default="recorded",
    show_default=True,
    help="What answers calls of models: the recording, or the routes of --gateway.",
)
@click.option("--live-tools", is_flag=True, help="Ask tools without side effects for what was not recorded.")
@click.option("--answers", is_flag=True, help="Another text of an answer counts as changed too.")
@click.option("--parallel", type=click.IntRange(1, 64), default=1, show_default=True, help="Tasks at a time.")
@click.option(
    "--timeout", type=click.FloatRange(0.1, 3_600), default=60.0, show_default=True, help="Seconds for a task."
)
@click.option(
    "--max-changed",
    type=click.FloatRange(0, 1),
    help="Exit with 11 unless at most this share is proven to change, by the upper bound of 95 %.",
)
@click.option(
    "--gateway",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    envvar="TURNOUT_GATEWAY",
    help="gateway.toml for what is asked live.",
)
@connected
def run(
    client: Client,
    baseline: str,
    candidate: str,
    agent: str | None,
    tasks: str,
    ring: str | None,
    models: str,
    live_tools: bool,
    answers: bool,
    parallel: int,
    timeout: float,
    max_changed: float | None,
    gateway: Path | None,
    as_json: bool,
) -> None:
    """Ask recorded tasks of release A of release B: versions, digests or ring:NAME. The report is kept on the server.

    B runs in a sandbox of this machine. Its calls of tools are answered from the recordings; what they do not hold is a
    divergence, and reaches no tool. Exits with 11 when --max-changed is not held.
    """
    from turnout.replay.engine import Replay

    name = agent or agent_here()
    old, new = client.release(name, baseline), client.release(name, candidate)
    ring = ring or (baseline.removeprefix("ring:") if baseline.startswith("ring:") else None)
    chosen = list(_chosen(client, name, old, tasks, ring))
    if not chosen:
        hint = f"[rings.NAME.record] in turnout.toml records; `turnout recordings list {name}` shows what there is"
        raise NotFound(f"no task of {old['version']} is recorded{f' in {ring}' if ring else ''}", hint=hint)
    described = Replay(
        agent=name,
        ring=ring or next((item.ring for item in chosen if isinstance(item, Recording)), ""),
        baseline=_digest(old),
        baseline_version=old["version"],
        candidate=_digest(new),
        candidate_version=new["version"],
        rule=old["success"],
        models=models,
        live_tools=live_tools,
        answers=answers,
        parallel=parallel,
        timeout=timeout,
    )
    report = _replayed(client, described, chosen, gateway)
    kept = client.record_replay(name, render_within(report, LARGEST_REPORT).decode())
    if as_json:
        print_json(kept)
    else:
        show_report(report, kept["id"])
    if max_changed is not None and not report.summary.holds(max_changed):
        raise ReplayNotHeld(
            f"it is not proven that at most {max_changed:.0%} of the tasks change: {report.summary.describe()}",
            hint=f"`turnout replay show {kept['id']} TASK` shows what a task did otherwise",
        )


@replay.command("list", short_help="List replays, newest first.")
@click.argument("agent", required=False)
@click.option("--release", help="Only against this release: a version, digest or ring:NAME.")
@click.option("--limit", type=click.IntRange(1, 1_000), default=50, show_default=True, help="At most so many.")
@connected
def list_(client: Client, agent: str | None, release: str | None, limit: int, as_json: bool) -> None:
    """List the replays of AGENT, newest first."""
    found = client.replays(agent or agent_here(), release=release, limit=limit)
    if as_json:
        print_json(found)
        return
    header = ("replay", "recorded", "asked", "at", "by", "tasks", "same", "changed", "failed", "unusable", "share")
    show_table(header, (_row(item) for item in found["replays"]))


@replay.command(short_help="Show a replay, or what one task did otherwise.")
@click.argument("replay_id", metavar="[ID]", default="latest")
@click.argument("task", required=False)
@_agent
@click.option("--all", "everything", is_flag=True, help="List the tasks that came out the same too.")
@connected
def show(client: Client, replay_id: str, task: str | None, agent: str | None, everything: bool, as_json: bool) -> None:
    """Show the replay ID (default: the latest), or, side by side, what TASK did then and does now."""
    view = client.replay(agent or agent_here(), replay_id)
    if as_json and task is None:
        print_json(view)
        return
    report = parse_report(view["document"].encode())
    if task is None:
        show_report(report, view["id"], everything=everything)
        return
    diff = next((item for item in report.tasks if item.task == task), None)
    if diff is None:
        raise NotFound(
            f"the task {task[:80]!r} is not in the replay {view['id']}", hint="`turnout replay show --all` lists them"
        )
    if as_json:
        from dataclasses import asdict

        print_json(asdict(diff))
    else:
        show_task(report, diff)


# --- which recordings -------------------------------------------------------------------------------------------------


def _chosen(
    client: Client, agent: str, old: ReleaseView, tasks: str, ring: str | None
) -> Iterator[Recording | Unreadable]:
    if tasks.isdigit():
        found = _newest(client, agent, old["digest"], int(tasks), ring)
        yield from (_read(client, agent, item) for item in found)
    elif Path(tasks).is_file():
        with Path(tasks).open("rb") as file:
            yield from read_recordings(file)
    else:
        for task in filter(None, tasks.split(",")):
            named = client.recordings(agent, task=task, ring=ring)["recordings"]
            mine = [item for item in named if item["digest"] == old["digest"]] or named
            yield _read(client, agent, mine[0]) if mine else Unreadable(task, "no recording of it is kept")


def _newest(client: Client, agent: str, release: str, count: int, ring: str | None) -> Iterator[RecordingView]:
    seen = 0
    while seen < count:
        page = client.recordings(agent, ring=ring, release=release, limit=min(_MOST, count - seen), skip=seen)
        yield from page["recordings"]
        seen += len(page["recordings"])
        if len(page["recordings"]) < _MOST:
            return


def _read(client: Client, agent: str, item: RecordingView) -> Recording | Unreadable:
    """One that is missing or damaged is named and stops nothing."""
    try:
        found = next(read_recordings([client.recording(agent, item["document"])]))
    except TurnoutError as error:
        if error.code not in _OF_ONE:
            raise
        return Unreadable(item["task"], error.message)
    return found if isinstance(found, Recording) else Unreadable(item["task"], found.why)


# --- running ----------------------------------------------------------------------------------------------------------


def _replayed(
    client: Client, described: Replay, chosen: Sequence[Recording | Unreadable], gateway: Path | None
) -> ReplayReport:
    from turnout.replay_process import replay_release
    from turnout.runtimes.environment import Environments

    with (
        tempfile.TemporaryDirectory(prefix="turnout-replay-") as work,
        fetched(client, described.agent, described.candidate, Path(work) / "fetched") as subject,
        show_progress() as show,
    ):
        note(f"replay   {len(chosen):,} tasks of {described.baseline_version} against {described.candidate_version}")
        workspace = Path(work) / "run"
        workspace.mkdir()
        live = described.live_tools or described.models == "live"
        return replay_release(
            subject.release,
            subject.artifacts,
            chosen,
            described,
            workspace,
            environments=Environments(cache_folder() / "environments"),
            gateway=gateway or (own_gateway() if live else None),
            say=lambda what: note(f"replay   {what}"),
            on_progress=_count(described.candidate_version, show),
        )


def _count(version: str, show: Callable[[str, bool], None]) -> Callable[[int, int, TaskDiff], None]:
    other = 0

    def on_progress(done: int, of: int, diff: TaskDiff) -> None:
        nonlocal other
        other += diff.verdict is not Came.SAME
        show(f"replay   {version}: {done:,} of {of:,} tasks, {other:,} not the same", done >= of)

    return on_progress


def _digest(view: ReleaseView) -> Digest:
    return Digest(view["digest"])


def _row(item: ReplayView) -> list[str]:
    summary = item["summary"]
    counts = (str(summary["tasks"]), str(summary["same"]), str(summary["changed"]), str(summary["failed"]))
    return [
        item["id"],
        release_label(item["baseline_version"], item["baseline"]),
        release_label(item["candidate_version"], item["candidate"]),
        local_time(item["at"]),
        item["actor"],
        *counts,
        str(summary["unusable"]),
        f"{summary['share']:.1%} [{summary['low']:.1%}, {summary['high']:.1%}]",
    ]
