"""The server ends and comes back; callers, agents and the proxy take no notice. And two instances on one machine."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import pytest

from tests.e2e.callers import SteadyCaller, ask
from tests.e2e.processes import all_pids, proxy_pid
from tests.e2e.workshop import await_ring, deploy, push_tiny
from tests.live import LiveInstance, live_instance, wait_until


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveInstance]:
    """An instance that the tests of this file may end."""
    with live_instance(tmp_path_factory.mktemp("other")) as started:
        yield started


def test_two_instances_run_side_by_side(instance: LiveInstance, other: LiveInstance, tmp_path: Path) -> None:
    here = deploy(instance, "twin", push_tiny(instance, tmp_path, "here", agent="twin"))
    there = deploy(other, "twin", push_tiny(other, tmp_path, "there", agent="twin"))
    answers = [ask(each, "/twin/dev/") for each in (instance, other)]
    assert [answer.release for answer in answers] == [here["digest"], there["digest"]]
    assert [answer.fields["note"] for answer in answers] == ["here", "there"]
    other.run("rollback", "twin", "--ring", "dev", check=False)
    assert instance.ring("twin", "dev")["stable"] == here["digest"]


def test_a_restart_of_the_server_leaves_agents_and_proxy_as_they_are(other: LiveInstance, tmp_path: Path) -> None:
    first = deploy(other, "lasting", push_tiny(other, tmp_path, "one", agent="lasting"))["digest"]
    proxy, replica = proxy_pid(other), ask(other, "/lasting/dev/").fields["pid"]
    with SteadyCaller(other, "/lasting/dev/") as caller:
        assert other.process is not None
        other.process.send_signal(signal.SIGTERM)
        assert other.process.wait(20) == 0
        unreached = other.run("status", "lasting", check=False)
        other.start()
        second = deploy(other, "lasting", push_tiny(other, tmp_path, "two", agent="lasting"))["digest"]
        other.kill()
        served = caller.served
        wait_until(lambda: caller.served > served, 10)  # nobody else is needed to serve
        other.start()
        caller.check()
    assert unreached.returncode == 7
    assert "turnout up" in unreached.stderr
    assert caller.releases.keys() == {first, second}
    assert proxy_pid(other) == proxy
    assert ask(other, "/lasting/dev/", {"x-turnout-release": first}).fields["pid"] == replica
    asked = 2 + caller.served  # what was served while no server ran is counted too
    await_ring(other, "lasting", "dev", lambda ring: sum(each["total"] for each in ring["requests"].values()) == asked)


def test_after_everything_was_killed_at_once_a_start_brings_it_all_back(other: LiveInstance, tmp_path: Path) -> None:
    digest = deploy(other, "revived", push_tiny(other, tmp_path, agent="revived"))["digest"]
    other.kill()
    for pid in all_pids(other):
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    wait_until(lambda: not all_pids(other), 10)
    other.start()
    await_ring(other, "revived", "dev", lambda ring: [item["state"] for item in ring["replicas"]] == ["ready"])
    wait_until(lambda: ask(other, "/revived/dev/").release == digest, 10)
    other.stop()
    assert all_pids(other) == set()


def test_a_stream_goes_on_across_promotions_until_its_end(instance: LiveInstance, tmp_path: Path) -> None:
    settings = {"agent": "streamed", "rings": '[rings.dev]\nwarm = "0s"\ndrain = "2m"\n'}
    first = deploy(instance, "streamed", push_tiny(instance, tmp_path, "one", **settings))["digest"]
    end = tmp_path / "end"
    with ThreadPoolExecutor(1) as pool:
        listening = pool.submit(ask, instance, f"/streamed/dev/stream?until={end}")
        for note in ("two", "three"):
            newest = deploy(instance, "streamed", push_tiny(instance, tmp_path, note, **settings))["digest"]
        assert ask(instance, "/streamed/dev/").release == newest
        leaving = await_ring(instance, "streamed", "dev", lambda ring: not ring["retired"])
        assert first in {replica["digest"] for replica in leaving["replicas"]}  # it still answers the stream
        assert not listening.done()
        end.touch()
        heard = listening.result(20)
    numbers = [int(line.removeprefix("data: ")) for line in heard.text.splitlines() if line]
    assert heard.release == first
    assert numbers == list(range(len(numbers)))
    await_ring(instance, "streamed", "dev", lambda ring: len(ring["replicas"]) == 2)
