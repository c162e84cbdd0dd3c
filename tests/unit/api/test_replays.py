"""Reports of replays over HTTP, and the gate that asks for one."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from typing import Any

import pytest

from tests.unit.api.service import ONE, TWO, URL, Api, key
from tests.unit.domain.values import AGENT, make_deployment
from turnout.domain.errors import DamagedContent
from turnout.domain.models import Deployment, Digest, Pointer, Release, ReplaySettings
from turnout.domain.phases import Phase
from turnout.domain.replay_document import render_report
from turnout.domain.replays import Came, ReplayReport, TaskDiff
from turnout.ports import StoredRecording
from turnout.services.replays import replay_for_gate

ASKED = ReplaySettings("production", changed=0.1)


def report(same: int = 50, changed: int = 0, **changes: Any) -> ReplayReport:
    tasks = [
        *(TaskDiff(f"s{number}", Came.SAME) for number in range(same)),
        *(TaskDiff(f"c{number}", Came.CHANGED, divergences=1) for number in range(changed)),
    ]
    values: dict[str, Any] = {
        "agent": AGENT,
        "ring": "production",
        "baseline": ONE.digest,
        "baseline_version": "v1",
        "candidate": TWO.digest,
        "candidate_version": "v2",
        "models": "recorded",
        "answers": False,
        "at": 1.0,
        "duration": 2.0,
        "strays": 0,
        "tasks": tuple(tasks),
    }
    return ReplayReport(**{**values, **changes})


def hand_in(api: Api, content: ReplayReport, role: str = "developer") -> Any:
    return api.clients[role].post(f"{URL}/replays", {"document": render_report(content).decode()}, headers=key())


def test_a_report_is_kept_once_listed_and_shown(api: Api) -> None:
    first = hand_in(api, report(48, 2)).json()
    again = hand_in(api, report(48, 2)).json()
    newer = hand_in(api, report(50)).json()

    assert first == again
    assert (first["baseline_version"], first["candidate_version"], first["actor"]) == ("v1", "v2", "developer-1")
    assert (first["summary"]["same"], first["summary"]["changed"], first["summary"]["divergences"]) == (48, 2, 2)
    reader = api.clients["viewer"]
    assert [item["id"] for item in reader.get(f"{URL}/replays").json()["replays"]] == [newer["id"], first["id"]]
    assert len(reader.get(f"{URL}/replays?release=v2&limit=1").json()["replays"]) == 1
    assert reader.get(f"{URL}/replays?release=v1").json()["replays"] == []
    builder = api.clients["developer"]
    shown = builder.get(f"{URL}/replays/{first['id']}").json()
    assert shown["document"].encode() == render_report(report(48, 2))
    assert builder.get(f"{URL}/replays/latest").json()["id"] == newer["id"]


def test_reports_of_others_are_refused(api: Api) -> None:
    foreign = hand_in(api, report(agent="other"))
    unknown = hand_in(api, report(candidate=Digest("sha256:" + "f" * 64)))
    garbage = api.clients["developer"].post(f"{URL}/replays", {"document": "{}"}, headers=key())

    assert (foreign.status_code, unknown.status_code, garbage.status_code) == (422, 404, 422)
    assert "about the agent other" in foreign.json()["detail"]
    assert api.clients["developer"].get(f"{URL}/replays/replay_9").status_code == 404
    assert api.clients["developer"].get(f"{URL}/replays/latest").status_code == 404


# --- the gate ---------------------------------------------------------------------------------------------------------


class Gate:
    """A ring that asks for a replay, with recordings of production, and a process that answers with a report."""

    def __init__(self, api: Api, recorded: int, found: ReplayReport) -> None:
        self.api = api
        self.found = found
        self.heard: list[bytes] = []
        self.wanted: list[bool] = []
        self.deployment = make_deployment(TWO, phase=Phase.BUILDING, ring="staging")
        digest = Digest("sha256:" + "d" * 64)
        with api.stage.store.transaction() as transaction:
            pointer = Pointer(AGENT, "production", stable=ONE.digest, generation=1)
            transaction.save_pointer(pointer, actor="ann", reason="test")
            for number in range(recorded):
                item = StoredRecording(AGENT, "production", f"t{number}", ONE.digest, 1.0, 9e9, digest, 10)
                transaction.add_recording(item)
            transaction.add_deployment(self.deployment)

    def ask(
        self,
        deployment: Deployment,
        releases: tuple[Release, Release],
        asked: ReplaySettings,
        recordings: Iterable[bytes],
        say: Callable[[str], None],
        wanted: Callable[[], bool],
    ) -> bytes:
        assert (deployment.id, [item.version for item in releases], asked) == (self.deployment.id, ["v1", "v2"], ASKED)
        say("half of it")
        assert isinstance(recordings, Iterator)  # all of them may be larger than memory
        self.heard = list(recordings)
        self.wanted.append(wanted())
        return render_report(self.found)

    def run(self, asked: ReplaySettings = ASKED) -> str | None:
        return replay_for_gate(self.api.office, self.ask, self.deployment, asked, lambda _: None)


@pytest.mark.parametrize(("changed", "fault"), [(0, None), (20, "the replay does not show")])
def test_the_report_of_a_gate_is_kept_and_decides(api: Api, changed: int, fault: str | None) -> None:
    gate = Gate(api, 3, report(50, changed))

    found = gate.run()

    assert (found is None) if fault is None else (found is not None and found.startswith(fault))
    (kept,) = api.clients["viewer"].get(f"{URL}/replays").json()["replays"]
    assert (kept["deployment"], kept["actor"]) == (gate.deployment.id, "turnout")
    assert gate.wanted == [True]


def test_documents_that_are_missing_or_damaged_are_named(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    gate = Gate(api, 2, report(0))

    def read(_: Digest) -> bytes:
        raise DamagedContent("its bytes are not what its digest says")

    monkeypatch.setattr(api.office.recordings, "read", read)
    fault = gate.run()

    assert fault is not None
    assert fault.startswith("no recording of production can be replayed")
    assert len(gate.heard) == 2
    assert b"its bytes are not what its digest says" in gate.heard[0]


def test_without_recordings_a_threshold_is_not_held_and_nothing_is_asked(api: Api) -> None:
    gate = Gate(api, 0, report(0))

    assert gate.run(replace(ASKED, changed=None)) is None
    fault = gate.run()
    assert fault is not None
    assert gate.wanted == []


def test_where_nothing_serves_there_is_nothing_to_compare(api: Api) -> None:
    gate = Gate(api, 0, report(0))

    assert gate.run(replace(ASKED, source="dev")) is None


def test_a_replay_of_a_deployment_that_was_taken_back_is_wanted_no_more(api: Api) -> None:
    gate = Gate(api, 1, report(50))
    with api.stage.store.transaction() as transaction:
        transaction.move(gate.deployment, Phase.FAILED, at=1.0, actor="ann", reason="no")
    gate.run()

    assert gate.wanted == [False]
