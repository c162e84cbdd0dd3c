"""Reports of suites over HTTP: what the server makes of them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from tests.unit.api.service import ONE, THREE, TWO, URL, Api, key
from tests.unit.domain.values import AGENT, make_digest
from turnout.domain.eval_report import EvalReport, render_report
from turnout.domain.evals import Bar, Run
from turnout.domain.models import Pointer

CASES = tuple(f"c{number}" for number in range(60))


def report(cases: tuple[str, ...] = CASES, failed: int = 0, **changes: Any) -> EvalReport:
    """A run of the suite against the second release; of the first `failed` cases none is passed."""
    base = EvalReport(
        agent=AGENT,
        release=TWO.digest,
        suite="answers",
        suite_digest=make_digest("suite"),
        bar=Bar(at_least={"success": 0.9}),
        repeat=1,
        expected=cases,
        runs=tuple(Run(case, 0, float(at >= failed)) for at, case in enumerate(cases)),
        began=1.0,
        ended=2.0,
    )
    return replace(base, **changes)


def hand_in(api: Api, content: EvalReport) -> Any:
    path = f"{URL}/releases/{content.release}/evals"
    answer = api.clients["developer"].post(path, {"document": render_report(content).decode()}, headers=key())
    assert answer.status_code < 300, answer.text
    return answer.json()


def make_stable(api: Api, ring: str = "production") -> None:
    with api.office.store.transaction() as transaction:
        transaction.save_pointer(Pointer(AGENT, ring, stable=ONE.digest), actor="ann", reason="")


NO_WORSE = Bar(at_least={"success": 0.5}, no_worse={"success": 0.2})


def test_a_report_is_judged_and_kept_once(api: Api) -> None:
    first, again = hand_in(api, report()), hand_in(api, report())
    assert first == again
    assert (first["passed"], first["verdict"]["confidence"], first["verdict"]["baseline"]) == (True, 0.9, False)
    assert not hand_in(api, report(failed=20))["passed"]


def test_a_run_of_a_slow_clock_is_still_the_newest(api: Api) -> None:
    hand_in(api, report(ended=500.0))
    late = hand_in(api, report(failed=30, ended=3.0))
    found = api.clients["viewer"].get(f"{URL}/evals").json()["runs"]
    assert found[0]["id"] == late["id"]
    with api.office.store.snapshot() as snapshot:
        assert [run.at for run in snapshot.eval_runs(AGENT)] == [3.0, 500.0]


def test_what_has_to_be_no_worse_is_compared_with_what_is_stable(api: Api) -> None:
    free = hand_in(api, report(bar=NO_WORSE))
    make_stable(api)
    alone = hand_in(api, report(bar=NO_WORSE, ended=4.0))
    baseline = hand_in(api, report(bar=NO_WORSE, release=ONE.digest, baseline=True))
    compared = hand_in(api, report(bar=NO_WORSE, stable=ONE.digest))

    assert (free["passed"], alone["passed"], compared["passed"]) == (True, False, True)
    assert alone["verdict"]["problems"] == ["it was compared with nothing, and not with the stable release"]
    assert baseline["verdict"]["baseline"] is True


def test_what_was_stable_once_is_nothing_to_be_compared_with(api: Api) -> None:
    hand_in(api, report(bar=NO_WORSE, release=ONE.digest, baseline=True))
    with api.office.store.transaction() as transaction:
        transaction.save_pointer(Pointer(AGENT, "production", stable=THREE.digest), actor="ann", reason="")
    old = hand_in(api, report(bar=NO_WORSE, stable=ONE.digest))
    assert not old["passed"]
    assert "which is stable in no ring" in old["verdict"]["problems"][0]


def test_a_command_that_loses_cases_is_not_passed(api: Api) -> None:
    assert hand_in(api, report())["passed"]
    less = hand_in(api, report(CASES[5:]))
    assert less["verdict"]["problems"] == [
        "5 cases of an earlier run of the same suite are not there: c0, c1, c2, c3, c4"
    ]
    assert hand_in(api, report((*CASES, "more")))["passed"]
    assert hand_in(api, report(CASES[:40], suite_digest=make_digest("other")))["passed"]


def test_only_who_builds_sees_what_the_agent_answered(api: Api) -> None:
    run = hand_in(api, report())
    assert api.clients["viewer"].get(f"{URL}/evals/{run['id']}").status_code == 403
    shown = api.clients["developer"].get(f"{URL}/evals/{run['id']}").json()
    assert shown["document"].encode() == render_report(report())
