"""A release that fails more tasks than the stable one, with all that is known of it: the real judge's own verdict."""

from __future__ import annotations

import copy
import random
from functools import cache
from typing import Any

from turnout.domain.judge import Judge, JudgeConfig, view_evidence
from turnout.domain.models import FULL_WEIGHT
from turnout.schemas import WhyView
from turnout.services.evidence import read_evidence, read_series
from turnout.services.views import view_time

START = 1_780_000_000.0


def judged(failing: float = 0.35, tasks: int = 1_500) -> dict[str, Any]:
    """What a judge says of a candidate that fails so many of its tasks where stable fails 5 %."""
    return copy.deepcopy(_judge(failing, tasks, 0.1))


@cache
def _judge(failing: float, tasks: int, share: float) -> dict[str, object]:
    dice = random.Random(7)
    judge = Judge(JudgeConfig(metrics=("failure", "intervention", "cost"), ages=(60.0,), ceiling=2.0))
    at = START
    for number in range(tasks):
        at = START + number * 3.0
        candidate = dice.random() < share
        judge.start(f"task-{number}", "candidate" if candidate else "stable", share, at)
        failed = dice.random() < (failing if candidate else 0.05)
        judge.outcome(f"task-{number}", at + 1.0, failed, dice.random() < 0.04, dice.lognormvariate(-2.5, 0.6))
        if judge.verdict(at + 1.0).kind == "fail":
            break
    return view_evidence(judge.verdict(at + 1.0))


def rolled_back(**fields: Any) -> WhyView:
    """The page of it."""
    verdict = judged()
    evidence = read_evidence(verdict)
    at = START + 300.0
    view: WhyView = {
        "at": view_time(at + 5),
        "headline": "support production: v5 was taken back by the judge",
        "deployment": {
            "id": "dep_0d1f5b7c9e2a4d6f8b01",
            "agent": "support",
            "ring": "production",
            "digest": "sha256:" + "5" * 64,
            "version": "v5",
            "state": "rolled_back",
            "kind": "promote",
            "condition": None,
            "actor": "ann",
            "reason": "answers with sources",
            "created_at": view_time(START - 80),
            "state_since": view_time(at + 1),
            "step": 1,
            "steps": 3,
            "weight": 0.0,
            "tasks": 0,
        },
        "release": {
            "digest": "sha256:" + "5" * 64,
            "agent": "support",
            "version": "v5",
            "tags": ["v5"],
            "components": {},
            "author": "ann@example.com",
            "created_at": view_time(START - 4_000),
            "git_sha": "8f14e45fceea167a5a36dedd4bea2543f1c0ffee",
            "success": "status",
            "quarantine": "taken out of the canary in production: the judge says fail",
        },
        "cause": {
            "kind": "judge",
            "text": f"the judge says fail: {evidence['metric']} 31.6% against 5.1% of stable after "
            f"{evidence['candidates']} tasks (evidence {evidence['against']:.3g})",
            "by": "turnout",
            "at": view_time(at),
            "metric": evidence["metric"],
        },
        "decision": {"seconds": 300.0, "tasks": evidence["candidates"]},
        "evidence": evidence,
        "breaker": None,
        "series": read_series(verdict),
        "diff": {
            "a_version": "v4",
            "b_version": "v5",
            "text": "prompts: 1 prompt changed; model: 1 parameter changed; code: 2 files changed",
            "lines": [
                "prompts: changed prompt prompts/system.md",
                "  -Answer in one short sentence.",
                "  +Answer at length, and name your sources.",
                "model: changed parameter temperature: 0.2 → 0.9",
                "code: changed file server.py",
            ],
            "left_out": 1,
            "problem": None,
        },
        "approvals": [{"by": "bob", "approved": True, "at": view_time(START - 20), "comment": "looks good"}],
        "overrides": [
            {
                "by": "root",
                "at": view_time(START - 80),
                "reason": "launch day",
                "overridden": ["v5 is not healthy in staging: none of its replicas is ready"],
            }
        ],
        "done": [
            _step(-80, "ann", "promote asked for: answers with sources"),
            _step(-79, "turnout", "building: a build slot is free"),
            _step(-20, "turnout", "deploying: approved by bob"),
            _step(-5, "turnout", "validating: 2 of 2 replicas are ready"),
            _step(0, "turnout", f"traffic: {1_000 * 100 / FULL_WEIGHT:g} % to v5"),
            _step(300, "turnout", "the judge says fail: failure 31.6% against 5.1% of stable"),
            _step(300.002, "turnout", "traffic: everything to v4, nothing to v5"),
            _step(300.003, "turnout", "v5 is put into quarantine"),
            _step(300.8, "turnout", "rolled_back: v4 serves production"),
        ],
        "serving": {
            "stable": "sha256:" + "4" * 64,
            "stable_version": "v4",
            "candidate": None,
            "candidate_version": None,
            "weight": 0.0,
        },
        "next": [
            {"what": "see that it is out of the traffic", "command": "turnout status support"},
            {"what": "look at the task that weighed most", "command": "turnout lineage task-17"},
            {"what": "read the whole difference", "command": "turnout diff v4 v5 --agent support"},
            {"what": "deploy a mended release", "command": "turnout deploy"},
        ],
    }
    return {**view, **fields}  # type: ignore[typeddict-item]


def _step(after: float, by: str, what: str) -> Any:
    return {"at": view_time(START + after), "after": after + 80, "by": by, "what": what}
