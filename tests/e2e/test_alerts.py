"""A rollback is told: to the receiver of the guide, on the page, and to Prometheus."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import urlopen

import pytest

from tests.e2e.workshop import await_ring, deploy, push_tiny
from tests.live import REPOSITORY, LiveInstance, free_port, live_instance, wait_until

JUDGED = """
[rings.dev]
canary = [{ weight = 30, time = "1h" }]

[rings.dev.judge]
ramp = "watch"
ages = ["1s", "2s"]
"""
FILE = re.compile(r"<!-- file: (\S+) -->\n```\w+\n(.*?)```", re.DOTALL)


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[LiveInstance, Path]]:
    """An instance with the settings of the guide, its receiver, and what the receiver printed."""
    folder, port = tmp_path_factory.mktemp("alerts"), free_port()
    state, printed = folder / "state", folder / "printed"
    state.mkdir()
    files = dict(FILE.findall((REPOSITORY / "docs" / "guides" / "alerts.md").read_text()))
    (state / "alerts.toml").write_text(files["alerts.toml"].replace(":9090/", f":{port}/"))
    (state / "ops.secret").write_text("a secret of tests that is long\n")
    (folder / "receiver.py").write_text(files["receiver.py"])
    command = [sys.executable, str(folder / "receiver.py"), str(port), str(state / "ops.secret")]
    with printed.open("wb") as output:
        receiver = subprocess.Popen(command, stdout=output)
    try:
        with live_instance(state) as instance:
            yield instance, printed
    finally:
        receiver.terminate()
        receiver.wait(10)


def test_a_rollback_is_told_to_the_receiver_of_the_guide(told: tuple[LiveInstance, Path], tmp_path: Path) -> None:
    instance, printed = told
    deploy(instance, "told", push_tiny(instance, tmp_path, "one", agent="told"))
    bad = deploy(instance, "told", push_tiny(instance, tmp_path, "two", agent="told"))
    instance.run("rollback", "told", "--ring", "dev", "--reason", "it lies")
    headline = "told dev: v2 was taken back by admin"
    wait_until(lambda: f"rolled_back {headline}" in printed.read_text(), 20, printed.read_text)
    lines = printed.read_text().splitlines()
    states = [line.split()[1] for line in lines if line.startswith("turnout.deployment.transitioned.v1")]
    assert states[:4] == ["building", "deploying", "validating", "active"]
    assert states.index("rolling_back") < states.index("rolled_back")
    assert any(line.startswith("turnout.release.quarantined.v1") for line in lines)

    page = instance.run("why", bad["id"]).stdout
    for part in (headline, "it lies", "WHAT DIFFERS from v1 to v2", "traffic: everything to v1, nothing to v2"):
        assert part in page, page
    left = instance.json("why", "told", "--ring", "dev")
    assert left["headline"] == headline, "a ring leads to what went wrong there, not to the rollback"


def test_what_the_judge_takes_back_is_told_with_its_evidence(told: tuple[LiveInstance, Path], tmp_path: Path) -> None:
    instance, printed = told
    deploy(instance, "judged", push_tiny(instance, tmp_path, "one", agent="judged", rings=JUDGED))
    bad = push_tiny(instance, tmp_path, "two", agent="judged", rings=JUDGED, behaviour="wrong")
    deployment = instance.client().deploy("judged", "dev", {"release": bad})["id"]
    await_ring(instance, "judged", "dev", lambda ring: ring["candidate"] is not None)

    def is_taken_back() -> bool:
        for _ in range(10):
            with suppress(HTTPError):
                urlopen(f"{instance.traffic}/judged/dev/smoke").close()
        return bool(instance.client().deployment(deployment)["state"] == "rolled_back")

    wait_until(is_taken_back, 60)
    headline = "judged dev: v2 was taken back by the judge"
    wait_until(lambda: f"rolled_back {headline}" in printed.read_text(), 20, printed.read_text)
    why = instance.json("why", deployment)
    assert (why["cause"]["kind"], why["cause"]["metric"], why["evidence"]["kind"]) == ("judge", "failure", "fail")
    assert why["evidence"]["against"] >= why["evidence"]["abort_at"]
    assert why["evidence"]["tasks"]
    page = instance.run("why", deployment).stdout
    for part in ("failed tasks    100.0%", "takes the release back", "turnout lineage"):
        assert part in page, page


def test_a_target_is_listed_tested_and_sent_again(told: tuple[LiveInstance, Path]) -> None:
    instance, printed = told
    assert instance.run("alerts", "test", "ops").stdout == "ops took the test\n"
    assert "turnout.alert.test.v1" in printed.read_text()
    sent = instance.client().alerts()["alerts"][0]["sent"]
    instance.run("alerts", "replay", "ops", "--after", "0")
    wait_until(lambda: instance.client().alerts()["alerts"][0]["sent"] >= 2 * sent, 20)
    (ops,) = instance.json("alerts", "list")["alerts"]
    assert (ops["name"], ops["state"], ops["skipped"]) == ("ops", "delivering", 0)
    refused = instance.run("alerts", "test", "nobody", check=False)
    assert (refused.returncode, "there are ops" in refused.stderr) == (4, True)


def test_prometheus_sees_it(told: tuple[LiveInstance, Path]) -> None:
    instance, _ = told
    answer = instance.client()._send("GET", "/metrics")
    assert answer.status == 200
    assert 'turnout_alert_lag_events{target="ops"}' in answer.data.decode()
