"""An instance that keeps its releases in a real OCI registry."""

from __future__ import annotations

from pathlib import Path

from tests.contract.registry_server import registry_server
from tests.live import copy_agent, live_instance, wait_until


def test_releases_live_in_the_registry_and_are_started_from_there(tmp_path: Path) -> None:
    agent = copy_agent(tmp_path / "agent", rings="[rings.dev]\n")
    (tmp_path / "registry").mkdir()
    with registry_server(tmp_path / "registry") as registry:
        url = f"registry+http://{registry.address}/team"
        with live_instance(tmp_path / "state", flags=("--registry", url)) as instance:
            deployed = instance.json("deploy", str(agent))
            assert deployed["state"] == "active"
            assert not (tmp_path / "state" / "artifacts").exists()
            assert instance.json("verify") == {"damages": []}
            with live_instance(tmp_path / "other", flags=("--registry", url)) as other:
                adopted = other.json("release", "adopt", "docs-assistant", deployed["digest"])
                assert adopted["digest"] == deployed["digest"]
                again = other.json("deploy", str(agent), "--skip-build", "--tag", adopted["version"])
                assert (again["digest"], again["state"]) == (deployed["digest"], "active")
            instance.run("down", "--server-only")
            instance.flags = ()  # the registry is remembered
            instance.start()
            wait_until(lambda: instance.ring("docs-assistant", "dev")["stable"] == deployed["digest"], 20)
            assert instance.json("verify") == {"damages": []}
