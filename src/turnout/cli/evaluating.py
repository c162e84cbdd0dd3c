"""Running suites on this machine: shared by `build`, `deploy` and `eval`."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import click

from turnout.cli.connection import note
from turnout.cli.evidence_table import show_verdict
from turnout.cli.progress import show_progress
from turnout.cli.tables import to_seconds
from turnout.domain.errors import EvalsNotPassed, NotFound, ServerUnreachable, TurnoutError, Unauthenticated
from turnout.domain.eval_report import EvalReport, parse_report, render_report, verdict_document
from turnout.domain.evals import Bar, Run
from turnout.domain.models import Digest, Release, short_digest

if TYPE_CHECKING:
    from turnout.artifacts.build import ReleaseParts
    from turnout.artifacts.layout import OciLayoutStore
    from turnout.client import Client
    from turnout.evals.run import Progress
    from turnout.evaluation import Subject
    from turnout.manifest import Manifest
    from turnout.manifest.eval_schema import Evals
    from turnout.schemas import EvalRunView

R = TypeVar("R")

LARGEST_REPORT = 4_000_000  # bytes of a report within a request; a server takes 4 MiB
_LEAST_RUN = Run(
    "", 0, 1.0, cost=0.012345678901234567, duration=12.345678901234567
)  # as short as one that tells its cost

evals_option = click.option(
    "--evals/--no-evals",
    "evals",
    default=None,
    help="Run all suites, or none. Default: those that this release has not passed yet.",
)
gateway_option = click.option(
    "--gateway",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    envvar="TURNOUT_GATEWAY",
    help="gateway.toml with the routes of models. Default: TURNOUT_GATEWAY, or that of this machine's instance.",
)


@dataclass(frozen=True, slots=True)
class Evaluating:
    """How suites are run. `wanted`: as `evals_option` gives it; `client` is None where there is no server."""

    folder: Path
    manifest: Manifest
    client: Client | None
    wanted: bool | None
    gateway: Path | None

    def built(self, store: OciLayoutStore, parts: ReleaseParts) -> list[EvalReport]:
        """Run the suites of the manifest against a release that was built just now. Raises `EvalsNotPassed`.

        Returns the reports to hand in with the release.
        """
        if not self.manifest.evals or self.wanted is False:
            if self.manifest.evals:
                note("evals    not run: --no-evals")
            return []
        from turnout.artifacts.build import record_parts
        from turnout.evaluation import Subject

        version = f"sha-{short_digest(parts.digest)}"
        release = Release(parts.digest, self.manifest.agent, version, parts.components, parts.spec, "", time.time())
        due = self._find_due(release, self.manifest.evals)
        if due:
            record_parts(parts, store)
        return self._run_due(Subject(release, store), due)

    def run(self, subject: Subject, suites: Sequence[Evals]) -> list[EvalReport]:
        """Run suites against a release. Raises `EvalsNotPassed` when all were run and some are not passed."""
        return self._run_due(subject, self._find_due(subject.release, suites))

    def _find_due(self, release: Release, suites: Sequence[Evals]) -> list[_Due]:
        """The suites that the release has not passed yet."""
        due = []
        for suite in suites:
            digest = self._suite_digest(suite)
            known = self._find_known(release, suite, digest)
            if known is None:
                due.append(_Due(suite, digest))
            else:
                note(f"eval     {suite.name}: passed by this release on {known['at'][:19]}; not run again")
        return due

    def _run_due(self, subject: Subject, due: Sequence[_Due]) -> list[EvalReport]:
        reports: list[EvalReport] = []
        failed: list[str] = []
        for one in due:
            done = self._run_suite(subject, one)
            reports.extend(done.reports)
            if not done.passed:
                failed.append(one.suite.name)
        if failed:
            handed_in = self._hand_in_failures(subject, reports)
            seen = f"; `turnout evals list {self.manifest.agent}` names the reports" if handed_in else ""
            raise EvalsNotPassed(
                f"{short_digest(subject.release.digest)} has not passed {', '.join(failed)}",
                hint=f"nothing was pushed or deployed{seen}",
            )
        return reports

    def _run_suite(self, subject: Subject, due: _Due) -> _Done:
        suite = due.suite
        with tempfile.TemporaryDirectory(prefix="turnout-eval-") as work:
            stable = self._stable_report(subject.release, suite, due.digest, Path(work))
            report = self._evaluate(subject, suite, Path(work) / "candidate")
            report = replace(report, stable=stable.report.release if stable.report else None).within(LARGEST_REPORT)
            verdict = report.judge(stable.report)
            show_verdict(suite.name, verdict_document(verdict, report), err=True)
            return _Done(verdict.passed, (*stable.to_hand_in, report))

    def _evaluate(self, subject: Subject, suite: Evals, workspace: Path) -> EvalReport:
        from turnout.evaluation import evaluate
        from turnout.runtimes.environment import Environments

        workspace.mkdir()
        environments = Environments(cache_folder() / "environments")
        version = subject.release.version
        with show_progress() as show:

            def on_progress(progress: Progress) -> None:
                of = f" of {progress.total:,}" if progress.total else ""
                text = f"eval     {suite.name} {version}: {progress.done:,}{of} runs, {progress.failed:,} not passed"
                show(text, progress.done == progress.total)

            return evaluate(
                subject,
                suite,
                self.folder,
                workspace,
                environments=environments,
                gateway=self.gateway or own_gateway(),
                say=lambda what: note(f"eval     {suite.name}: {what}"),
                on_progress=on_progress,
            )

    def _suite_digest(self, suite: Evals) -> Digest:
        from turnout.artifacts.select import select_suite
        from turnout.evals.suite import digest_suite, read_cases

        entries = select_suite(self.folder, suite)
        digest = digest_suite(suite, ((entry.path, entry.source) for entry in entries))
        if suite.cases:
            _check_size(suite, digest, tuple(read_cases(self.folder / suite.cases, suite.cases)))
        return digest

    def _find_known(self, release: Release, suite: Evals, digest: Digest) -> EvalRunView | None:
        """A run of exactly this suite that the release has passed, and that every ring still takes."""
        if self.wanted:
            return None
        ages = [ring.eval_age for ring in release.spec.rings]
        runs = self._runs(release.digest, suite.name)
        found = next((run for run in runs if run["suite_digest"] == digest), None)
        if found is None or not found["passed"]:
            return None
        age = time.time() - to_seconds(found["at"])
        return found if age < min(ages, default=0.0) / 2 else None

    def _stable_report(self, release: Release, suite: Evals, digest: Digest, work: Path) -> _Stable:
        """What the stable release did in the same suite; it is run where nobody has done so."""
        if suite.no_worse is None:
            return _Stable()
        stable = self._find_stable(suite)  # an error is no answer: without one, nothing would be compared
        if stable is None or stable == release.digest or self.client is None:
            note(f"eval     {suite.name}: there is no stable release to compare with")
            return _Stable()
        for run in self._runs(stable, suite.name):
            if run["suite_digest"] == digest:
                known = parse_report(self.client.eval_run(run["agent"], run["id"])["document"].encode())
                if known.can_be_compared_with():
                    return _Stable(known)
        note(f"eval     {suite.name}: the stable release {short_digest(stable)} was not run with these cases yet")
        with fetched(self.client, release.agent, stable, work / "stable-store") as subject:
            report = self._evaluate(subject, suite, work / "stable")
        report = replace(report, baseline=True).within(LARGEST_REPORT)
        return _Stable(report, (report,))

    def _find_stable(self, suite: Evals) -> str | None:
        agent = self._ask(lambda client: client.agent(self.manifest.agent), needed=True)
        rings = agent["rings"] if agent is not None else []
        named = [ring for ring in rings if suite.against is None or ring["ring"] == suite.against]
        return next((ring["stable"] for ring in reversed(named) if ring["stable"]), None)

    def _runs(self, release: str, suite: str) -> list[EvalRunView]:
        found = self._ask(lambda client: client.evals(self.manifest.agent, release=release, suite=suite))
        return found["runs"] if found is not None else []

    def _hand_in_failures(self, subject: Subject, reports: Sequence[EvalReport]) -> bool:
        """Keep what was found of a release that the server knows already; of others nothing is kept."""
        release = subject.release
        try:
            known = self._ask(lambda client: client.release(release.agent, release.digest))
            if known is None or self.client is None:
                return False
            hand_in(self.client, reports)
        except TurnoutError as error:  # that the suite is not passed is what matters
            note(f"evals    the reports were not handed in: {error.message}")
            return False
        return True

    def _ask(self, ask: Callable[[Client], R], *, needed: bool = False) -> R | None:
        """What a server answers; None without one, and for what it does not know.

        `needed`: raise where there is a server that does not answer.
        """
        if self.client is None:
            return None
        try:
            return ask(self.client)
        except TurnoutError as error:
            silent = error.code in (ServerUnreachable.code, Unauthenticated.code) and not needed
            if silent or error.code == NotFound.code:
                return None  # where a server is needed, the push says so
            raise


@dataclass(frozen=True, slots=True)
class _Due:
    suite: Evals
    digest: Digest  # of the suite's files


@dataclass(frozen=True, slots=True)
class _Done:
    passed: bool
    reports: tuple[EvalReport, ...]


@dataclass(frozen=True, slots=True)
class _Stable:
    report: EvalReport | None = None
    to_hand_in: tuple[EvalReport, ...] = ()


def hand_in(client: Client, reports: Sequence[EvalReport]) -> list[EvalRunView]:
    """Give reports to the server. It judges them once more, and may know what this machine does not."""
    views = [client.record_eval(report.agent, report.release, render_report(report).decode()) for report in reports]
    for view in views:
        if not view["passed"] and not view["verdict"]["baseline"]:
            problems = "; ".join(view["verdict"]["problems"]) or "see its findings"
            note(f"evals    the server does not count {view['suite']} as passed: {problems}")
    return views


def _check_size(suite: Evals, digest: Digest, cases: tuple[str, ...]) -> None:
    """Raise `InvalidRequest` where even the shortest report could not be handed in, before anything is run."""
    runs = tuple(replace(_LEAST_RUN, case=case, repeat=repeat) for case in cases for repeat in range(suite.repeat))
    bar = Bar(suite.confidence)
    EvalReport("", digest, suite.name, digest, bar, suite.repeat, cases, runs).within(LARGEST_REPORT)


@contextmanager
def fetched(client: Client, agent: str, ref: str, folder: Path) -> Iterator[Subject]:
    """A release of the server, brought here."""
    from turnout.artifacts.handover import receive
    from turnout.artifacts.release import read_release
    from turnout.evaluation import Subject

    folder.mkdir(parents=True)
    view = client.release(agent, ref)
    archive = folder / "archive"
    with archive.open("wb") as file:
        for chunk in client.archive(agent, view["digest"]):
            file.write(chunk)
    received = receive(archive, folder / "layout")
    archive.unlink()
    stored = read_release(received.store, received.release)
    release = Release(received.release, agent, view["version"], stored.components, stored.spec, "", time.time())
    yield Subject(release, received.store)


def cache_folder() -> Path:
    """Where environments are kept between builds."""
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "turnout"


def own_gateway() -> Path | None:
    """gateway.toml of this machine's instance, where it has one."""
    from turnout.settings import GATEWAY_FILE, default_state

    path = default_state() / GATEWAY_FILE
    return path if path.exists() else None
