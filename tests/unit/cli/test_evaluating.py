"""What `build`, `deploy` and `eval` do with what a server answers, or does not, and what they sign."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.unit.cli.command import CommandLine
from turnout.artifacts.attest.keyring import list_keys
from turnout.cli.evaluating import LARGEST_REPORT, Evaluating, hand_in
from turnout.cli.signing import Signing, attest_results, unlock_for_results
from turnout.domain.errors import InvalidRequest, NotFound, ServerUnreachable, TurnoutError
from turnout.domain.eval_report import EvalReport, render_report, verdict_document
from turnout.domain.evals import Bar, Run
from turnout.domain.models import Digest
from turnout.manifest.eval_schema import Evals

DIGEST = Digest("sha256:" + "a" * 64)
STABLE = Digest("sha256:" + "b" * 64)
SUITE = Evals.model_validate(
    {"name": "answers", "command": ["x"], "require": {"success": 0.5}, "no_worse": {"success": 0.1}}
)
REPORT = EvalReport(
    agent="shop",
    release=STABLE,
    suite="answers",
    suite_digest=DIGEST,
    bar=Bar(at_least={"success": 0.5}),
    repeat=1,
    expected=("a", "b"),
    runs=(Run("a", 0, 1.0), Run("b", 0, 1.0)),
)


class Server:
    """What a server answers. `stops`: what it does instead."""

    def __init__(self, report: EvalReport = REPORT, stops: TurnoutError | None = None) -> None:
        self.report, self.stops = report, stops
        self.envelopes: list[str] = []

    def agent(self, agent: str) -> dict[str, Any]:
        if self.stops:
            raise self.stops
        return {"rings": [{"ring": "production", "stable": STABLE}]}

    def release(self, agent: str, ref: str) -> dict[str, Any]:
        return {"digest": ref}

    def evals(self, agent: str, **which: Any) -> dict[str, Any]:
        return {"runs": [{"agent": agent, "id": "e1", "suite_digest": DIGEST}]}

    def eval_run(self, agent: str, run: str) -> dict[str, Any]:
        return {"document": render_report(self.report).decode()}

    def record_eval(self, agent: str, ref: str, document: str) -> dict[str, Any]:
        if self.stops:
            raise self.stops
        verdict = verdict_document(self.report.judge(None, ["it was compared with nothing"]), self.report)
        return {"suite": "answers", "passed": verdict["passed"], "verdict": verdict, "report": DIGEST}

    def attestations(self, agent: str, ref: str) -> dict[str, Any]:
        return {"attestations": [{"kind": "provenance", "keyid": self.keyid}]}

    def attest(self, agent: str, ref: str, envelope: str) -> dict[str, Any]:
        self.envelopes.append(envelope)
        return {"note": None}

    keyid = ""


def evaluating(server: Any, folder: Path) -> Any:
    manifest: Any = SimpleNamespace(agent="shop", evals=(SUITE,))
    return Evaluating(folder, manifest, server, None, None)


def test_a_server_that_does_not_answer_is_not_taken_for_one_without_a_stable_release(tmp_path: Path) -> None:
    away = evaluating(Server(stops=ServerUnreachable("away")), tmp_path)
    with pytest.raises(ServerUnreachable):
        away._find_stable(SUITE)
    assert evaluating(Server(stops=NotFound("nobody knows it")), tmp_path)._find_stable(SUITE) is None
    assert evaluating(Server(), tmp_path)._find_stable(SUITE) == STABLE


def test_a_broken_run_of_stable_is_not_used_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    release: Any = SimpleNamespace(digest=DIGEST, agent="shop")
    known = evaluating(Server(), tmp_path)._stable_report(release, SUITE, DIGEST, tmp_path)
    assert (known.report, known.to_hand_in) == (REPORT, ())

    broken = replace(REPORT, problems=("it ended",))
    anew = evaluating(Server(broken), tmp_path)
    monkeypatch.setattr("turnout.cli.evaluating.fetched", lambda *_: nullcontext())
    monkeypatch.setattr(Evaluating, "_evaluate", lambda *_: REPORT)
    made = anew._stable_report(release, SUITE, DIGEST, tmp_path)
    assert [(item.release, item.baseline) for item in made.to_hand_in] == [(STABLE, True)]


def test_what_a_server_refuses_to_keep_does_not_hide_that_a_suite_is_not_passed(tmp_path: Path) -> None:
    subject: Any = SimpleNamespace(release=SimpleNamespace(agent="shop", digest=DIGEST, version="v1"))
    refusing = evaluating(Server(stops=InvalidRequest("too large")), tmp_path)
    assert refusing._hand_in_failures(subject, [REPORT]) is False
    assert evaluating(Server(), tmp_path)._hand_in_failures(subject, [REPORT]) is True


def test_that_the_server_judges_otherwise_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    server: Any = Server()
    hand_in(server, [REPORT])
    assert "does not count answers as passed: it was compared with nothing" in capsys.readouterr().err


def test_a_suite_whose_report_nobody_could_take_is_refused_before_it_is_run(tmp_path: Path) -> None:
    cases = "".join(f'{{"id": "case-{number}"}}\n' for number in range(20_000))
    (tmp_path / "evals").mkdir()
    (tmp_path / "evals" / "cases.jsonl").write_text(cases)
    many = SUITE.model_copy(update={"cases": "evals/cases.jsonl", "repeat": 5})
    with pytest.raises(InvalidRequest, match="100,000 runs, more than a server takes"):
        evaluating(Server(), tmp_path)._suite_digest(many)
    few = many.model_copy(update={"repeat": 1})
    assert evaluating(Server(), tmp_path)._suite_digest(few).startswith("sha256:")
    assert [path.name for path in tmp_path.iterdir()] == ["evals"]  # nothing was copied
    assert LARGEST_REPORT < 4 << 20


def test_results_are_signed_although_the_release_was_signed_before(
    turnout: CommandLine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TURNOUT_KEYS", str(tmp_path / "keys"))
    monkeypatch.setenv("TURNOUT_KEY_PASSPHRASE", "correct horse battery")
    server: Any = Server()
    assert unlock_for_results(None) is None
    turnout("keys", "init")
    server.keyid = list_keys(tmp_path / "keys")[0].public.keyid
    parts: Any = SimpleNamespace(spec=SimpleNamespace(agent="shop"), digest=STABLE)
    signing = Signing(tmp_path, None, 0.0, None)
    assert signing.unlock(server, parts) is None
    key = signing.unlock(server, parts, results=True)
    assert key is not None
    assert not signing.is_due(server, parts, key)
    run = {"passed": True, "report": DIGEST, "verdict": {"failed": []}}
    baseline = replace(REPORT, baseline=True)
    runs: Any = [run, run]
    attest_results(server, STABLE, [REPORT, baseline], runs, unlock_for_results(True))
    assert len(server.envelopes) == 1
    assert unlock_for_results(False) is None
