"""The server ends and comes back; callers, agents and the proxy take no notice. And two instances on one machine."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.e2e.callers import SteadyCaller, ask
from tests.e2e.processes import proxy_pid
from tests.e2e.workshop import await_ring, deploy, push_tiny
from tests.live import LiveInstance, live_instance


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


def _terminate(instance: LiveInstance) -> None:
    assert instance.process is not None
    instance.process.send_signal(signal.SIGTERM)
    assert instance.process.wait(20) == 0


@pytest.mark.parametrize("end", [_terminate, LiveInstance.kill], ids=["SIGTERM", "kill -9"])
def test_a_restart_of_the_server_leaves_agents_and_proxy_as_they_are(
    other: LiveInstance, tmp_path: Path, end: Callable[[LiveInstance], None]
) -> None:
    agent = f"lasting-{end.__name__.strip('_')}"
    digest = deploy(other, agent, push_tiny(other, tmp_path, "one", agent=agent))["digest"]
    proxy, replica = proxy_pid(other), ask(other, f"/{agent}/dev/").fields["pid"]
    with SteadyCaller(other, f"/{agent}/dev/") as caller:
        end(other)
        unreached = other.run("status", agent, check=False)
        other.start()
        after = deploy(other, agent, push_tiny(other, tmp_path, "two", agent=agent))["digest"]
        caller.check()
    assert unreached.returncode == 7
    assert "turnout up" in unreached.stderr
    assert caller.releases.keys() == {digest, after}
    assert proxy_pid(other) == proxy
    assert ask(other, f"/{agent}/dev/", {"x-turnout-release": digest}).fields["pid"] == replica
    served = 2 + caller.served
    await_ring(
        other,
        agent,
        "dev",
        lambda ring: sum(count["total"] for count in ring["requests"].values()) == served,
    )


def test_a_stream_goes_on_across_promotions_until_its_end(instance: LiveInstance, tmp_path: Path) -> None:
    settings = {"agent": "streamed", "rings": '[rings.dev]\nwarm = "0s"\ndrain = "30s"\n'}
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
