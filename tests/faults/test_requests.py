"""Requests that cannot be met: the message names what is wrong and what to do, and the exit code says of which kind."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.e2e.callers import SteadyCaller
from tests.e2e.tiny_agent import write_agent
from tests.e2e.workshop import await_condition, await_ring, await_state, deploy, push_tiny
from tests.live import LiveInstance
from turnout.client import Client, Problem


@pytest.fixture(scope="module")
def known(instance: LiveInstance, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of an agent `known` with a release in dev."""
    folder = tmp_path_factory.mktemp("known")
    deploy(instance, "known", push_tiny(instance, folder, agent="known"))
    return folder


@pytest.mark.parametrize(
    ("verb", "code", "said"),
    [
        (("status", "nobody"), 4, ("no agent 'nobody'", "known agents:")),
        (("rollback", "known", "--ring", "nowhere"), 4, ("no ring 'nowhere'", "dev, staging, production")),
        (("promote", "known", "--to", "nowhere"), 4, ("no ring 'nowhere'", "dev, staging, production")),
        (("promote", "known", "--to", "staging", "--release", "v99"), 4, ("no release 'v99'", "history known")),
        (("promote", "known", "--to", "staging", "--release", "sha256:" + "0" * 64), 4, ("has no release",)),
        (("promote", "known", "--to", "production"), 5, ("nothing is active in staging",)),
        (("rollback", "known", "--ring", "dev"), 5, ("no release to go back to", "--version")),
        (("rollout", "advance", "known", "--ring", "dev"), 5, ("no canary runs", "turnout status known")),
        (("deployments", "status", "dep_0"), 4, ("no deployment 'dep_0'", "turnout deployments list")),
        (("diff", "v1", "v2", "--agent", "known"), 4, ("no release 'v2'",)),
        (("tokens", "revoke", "admin"), 5, ("last admin",)),
        (("promot", "known"), 2, ("no such command", "did you mean 'promote'?")),
    ],
)
def test_a_request_that_names_what_is_not_there_says_so(
    instance: LiveInstance, known: Path, verb: tuple[str, ...], code: int, said: tuple[str, ...]
) -> None:
    ended = instance.run(*verb, check=False)
    assert ended.returncode == code, ended.stderr
    assert [text for text in said if text not in ended.stderr] == []
    assert "Traceback" not in ended.stderr


def test_a_wrong_token_is_refused_before_anything_is_done(instance: LiveInstance, known: Path) -> None:
    events = instance.client().events(agent="known")["events"]
    for verb in (
        ("status",),
        ("promote", "known", "--to", "staging"),
        ("deploy", str(known), "--skip-build", "--tag", "v1"),
    ):
        ended = instance.run(*verb, check=False, token="tt_wrong")
        assert ended.returncode == 6, ended
        assert "not known to this instance" in ended.stderr
        assert "TURNOUT_TOKEN" in ended.stderr
    assert instance.client().events(agent="known")["events"] == events


def test_a_broken_manifest_is_refused_with_each_place(instance: LiveInstance, tmp_path: Path) -> None:
    write_agent(tmp_path, agent="misspelt")
    manifest = tmp_path / "turnout.toml"
    manifest.write_text(
        manifest.read_text().replace("start_timeout", "start_timeot") + "\n[rings.dev2]\nreplicas = 'two'\n"
    )
    ended = instance.run("deploy", str(tmp_path), check=False)
    assert ended.returncode == 3
    assert "health.start_timeot" in ended.stderr
    assert "start_timeout" in ended.stderr
    assert "rings.dev2.replicas" in ended.stderr
    assert instance.run("status", "misspelt", check=False).returncode == 4


def test_of_two_deployments_at_once_the_second_is_told_of_the_first(instance: LiveInstance, tmp_path: Path) -> None:
    rings = '[rings.dev]\ncanary = [{ weight = 10, time = "1h" }]\n'
    first = deploy(instance, "raced", push_tiny(instance, tmp_path, "one", agent="raced", rings=rings))["digest"]
    digests = [push_tiny(instance, tmp_path, note, agent="raced", rings=rings) for note in ("two", "three")]

    def try_deploy(digest: str) -> str | Problem:
        try:
            return str(Client(instance.api, token).deploy("raced", "dev", {"release": digest})["id"])
        except Problem as problem:
            return problem

    token = (instance.state / "admin.token").read_text().strip()
    with SteadyCaller(instance, "/raced/dev/") as caller, ThreadPoolExecutor(2) as pool:
        told = list(pool.map(try_deploy, digests))
    (winner,) = (item for item in told if isinstance(item, str))
    (problem,) = (item for item in told if isinstance(item, Problem))
    assert problem.status == 409
    assert winner in problem.message
    assert problem.hint is not None
    assert f"turnout deployments status {winner}" in problem.hint
    assert "turnout rollout abort raced --ring dev" in problem.hint
    caller.check()
    ring = instance.ring("raced", "dev")
    assert (ring["stable"], ring["in_progress"]["id"]) == (first, winner)


def test_a_deployment_is_refused_while_a_rollback_runs_and_a_rollback_ends_a_deployment(
    instance: LiveInstance, tmp_path: Path
) -> None:
    rings = '[rings.dev]\nwarm = "0s"\ndrain = "1s"\n\n[rings.production]\napprovals = 1\n'
    late = push_tiny(instance, tmp_path, "one", agent="contended", behaviour="late", rings=rings)
    others = [push_tiny(instance, tmp_path, note, agent="contended", rings=rings) for note in ("two", "three")]
    for digest in (late, *others):
        deploy(instance, "contended", digest)
    await_ring(instance, "contended", "dev", lambda ring: len(ring["replicas"]) == 2)
    client = instance.client()
    with SteadyCaller(instance, "/contended/dev/") as caller:
        rollback = client.roll_back("contended", "dev", {"version": late})
        refused = instance.run("deploy", str(tmp_path), "--skip-build", "--tag", "v2", check=False)
        assert await_state(instance, rollback["id"], {"active"})["kind"] == "rollback"
        caller.check()
    assert refused.returncode == 5
    assert rollback["id"] in refused.stderr
    assert caller.releases.keys() <= {late, others[-1]}

    deploy(instance, "contended", others[0])
    waiting = client.promote("contended", "production", {"source": "dev"})
    await_condition(instance, waiting["id"], "awaiting_approval")
    nothing = instance.run("rollback", "contended", "--ring", "production", check=False)
    assert nothing.returncode == 5  # no release was ever active there
    client.steer("contended", "production", {"action": "abort"})
    assert await_state(instance, waiting["id"], {"failed"})["transitions"][-1]["reason"].startswith("aborted by admin")
