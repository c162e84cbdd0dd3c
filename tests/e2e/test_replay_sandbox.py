"""Recorded tasks against a real release in a sandbox: an agent that calls tools and a model."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.shop_agent import AGENT, MODEL, build_shop
from tests.unit.domain.recorded import recorded_model, recorded_request, recorded_tool, recording
from turnout.artifacts.layout import OciLayoutStore
from turnout.domain.errors import InvalidRequest
from turnout.domain.models import Release
from turnout.domain.recording_document import render_recording
from turnout.domain.recordings import Recording
from turnout.domain.replays import Came, ChangeKind, ReplayReport, Unreadable
from turnout.gateway.json_object import parse_object
from turnout.gateway.kept_answer import request_digest
from turnout.replay.engine import Replay
from turnout.replay.launch import Spec
from turnout.replay_process import replay_release
from turnout.runtimes.environment import Environments

TASKS = 8


@dataclass
class Shop:
    folder: Path
    store: OciLayoutStore
    stable: Release
    runs: int = 0

    def candidate(self, **how: str) -> Release:
        self.runs += 1
        return build_shop(self.folder / f"agent-{self.runs}", self.store, f"v{self.runs + 1}", **how)

    def replay(self, candidate: Release, recordings: Sequence[Recording | Unreadable], **how: Any) -> ReplayReport:
        self.runs += 1
        environments = Environments(self.folder / "runtime" / "envs")
        workspace = self.folder / f"run-{self.runs}"
        return replay_release(
            candidate, self.store, recordings, self.described(candidate, **how), workspace, environments=environments
        )

    def described(self, candidate: Release, **how: Any) -> Replay:
        stable = self.stable
        return Replay(
            AGENT, "dev", stable.digest, stable.version, candidate.digest, candidate.version, **{"timeout": 5.0, **how}
        )

    def recorded(self, number: int) -> Recording:
        """As the stable release answered it."""
        calls: list[tuple[str, dict[str, int]]] = [
            ("find", {"order": number}),
            ("refund", {"order": number, "amount": 5}),
        ]
        tools = [recorded_tool(tool, arguments) for tool, arguments in calls]
        asked = {"model": MODEL, "messages": [{"role": "user", "content": f"order {number}"}]}
        answer = {"choices": [{"message": {"role": "assistant", "content": "all well"}}]}
        digest = request_digest(parse_object(json.dumps(asked).encode()))
        said = [json.loads(tool.result or "")["content"][0]["text"] for tool in tools]
        request = recorded_request(
            json.dumps({"calls": calls, "think": f"order {number}"}).encode(),
            json.dumps({"said": [*said, "all well"]}).encode(),
        )
        return recording(
            tools,
            [recorded_model(json.dumps(answer), digest, model=MODEL)],
            task=f"t{number}",
            requests=(request,),
            agent=AGENT,
            release=self.stable.digest,
        )


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Shop:
    folder = tmp_path_factory.mktemp("shop")
    store = OciLayoutStore(folder / "artifacts")
    return Shop(folder, store, build_shop(folder / "agent-0", store, "v1"))


def test_a_release_against_itself_comes_out_the_same(shop: Shop) -> None:
    report = shop.replay(shop.stable, [shop.recorded(number) for number in range(TASKS)], parallel=2, answers=True)

    summary = report.summary
    assert [diff.changes for diff in report.tasks] == [()] * TASKS
    assert (summary.same, summary.divergences, summary.cost_ratio, report.strays) == (TASKS, 0, 1.0, 0)


def test_planted_changes_hanging_and_dying_are_found_by_task_and_touch_no_other(shop: Shop) -> None:
    recordings = [shop.recorded(number) for number in range(5)]
    planted = shop.replay(shop.candidate(odd="t1,t3", does="other"), [*recordings])
    died = shop.replay(shop.candidate(odd="t1", does="die"), [*recordings])
    hung = shop.replay(shop.candidate(odd="t1", does="hang"), recordings[:3], timeout=0.5)

    changed = {diff.task: [change.kind for change in diff.changes] for diff in planted.tasks if diff.changes}
    assert changed.keys() == {"t1", "t3"}
    assert all(ChangeKind.ARGUMENTS in kinds for kinds in changed.values())
    assert planted.summary.divergences == 2
    assert [diff.verdict for diff in died.tasks] == [Came.SAME, Came.FAILED, Came.SAME, Came.SAME, Came.SAME]
    assert died.tasks[1].why.endswith("the release ended: out of luck")
    assert [diff.verdict for diff in hung.tasks] == [Came.SAME, Came.FAILED, Came.SAME]


def test_live_models_need_a_gateway(shop: Shop) -> None:
    with pytest.raises(InvalidRequest, match="configuration of a gateway"):
        shop.replay(shop.stable, [shop.recorded(1)], models="live")


def _start(spec: Spec, folder: Path) -> subprocess.Popen[bytes]:
    path = folder / "spec.json"
    path.write_bytes(spec.render())
    command = [sys.executable, "-m", "turnout.replay_process", str(path)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)


def _spec(shop: Shop, folder: Path, candidate: Release, lines: list[bytes], **how: Any) -> Spec:
    (folder / "recordings.jsonl").write_bytes(b"\n".join(lines))
    return Spec(
        state=str(shop.folder),
        registry=None,
        recordings=str(folder / "recordings.jsonl"),
        report=str(folder / "report.json"),
        workspace=str(folder / "work"),
        gateway=None,
        replay=shop.described(candidate, **how),
    )


def test_the_process_ends_when_nobody_listens_any_more(shop: Shop, tmp_path: Path) -> None:
    candidate = shop.candidate(odd="t1", does="hang")
    spec = _spec(shop, tmp_path, candidate, [render_recording(shop.recorded(1))], timeout=60.0)
    process = _start(spec, tmp_path)
    assert process.stdout is not None
    assert any(b"its agent" in line for line in iter(process.stdout.readline, b""))
    _close(process)

    assert process.returncode == 1
    assert not (tmp_path / "work").exists()


def _close(process: subprocess.Popen[bytes]) -> None:
    assert process.stdin is not None
    process.stdin.close()
    process.wait(15)
    if process.stdout is not None:
        process.stdout.close()
