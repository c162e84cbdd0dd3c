"""A release that runs apart: what it reaches, what it outlives, and that nothing outlives it."""

from __future__ import annotations

import os
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.shop_agent import build_shop
from tests.live import wait_until
from turnout.artifacts.layout import OciLayoutStore
from turnout.domain.errors import BuildFailed
from turnout.domain.models import Release
from turnout.runtimes import sealed
from turnout.runtimes.environment import Environments
from turnout.sandbox import OPEN, Sandbox, find_openings, sandbox

pytestmark = pytest.mark.skipif(bool(find_openings()), reason="this machine cannot close a sandbox")


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, OciLayoutStore, Release]:
    folder = tmp_path_factory.mktemp("apart")
    store = OciLayoutStore(folder / "artifacts")
    return folder, store, build_shop(folder / "agent", store, "v1")


@pytest.fixture
def live(world: tuple[Path, OciLayoutStore, Release], tmp_path: Path) -> Iterator[Sandbox]:
    folder, store, release = world
    state = tmp_path / "state"
    state.mkdir()
    (state / "token").write_text("of an admin", encoding="utf-8")
    environments = Environments(folder / "runtime" / "envs")
    with sandbox(release, store, tmp_path / "runs" / "one", environments=environments, hidden=(state,)) as started:
        yield started


def _said(live: Sandbox, code: str) -> str:
    own = live.workspace.parent / "beside"
    env = {**live.env, "HOME": str(own / "home"), "TMPDIR": str(own / "tmp")}
    pipe = subprocess.PIPE
    process = live.start(["python", "-c", code], env, live.folder, own, stdout=pipe, stderr=subprocess.STDOUT)
    return process.communicate(timeout=20.0)[0].decode().strip()


def test_the_state_of_an_instance_is_out_of_its_reach(live: Sandbox, tmp_path: Path) -> None:
    token = tmp_path / "state" / "token"
    assert "PermissionError" in _said(live, f"open({str(token)!r})")
    assert "PermissionError" in _said(live, f"open({str(token)!r}, 'a')")
    assert "PermissionError" in _said(live, f"import os; os.listdir({str(live.workspace.parent.parent)!r})")


def test_an_agent_outlives_the_thread_that_restarted_it(live: Sandbox) -> None:
    thread = threading.Thread(target=live.restart)
    thread.start()
    thread.join()
    assert "200" in _said(
        live,
        f"import urllib.request; print(urllib.request.urlopen('{live.url}{live.release.spec.health.path}').status)",
    )
    assert live.alive()


@pytest.mark.parametrize("env", ["None", "{}"])
def test_what_left_its_session_ends_with_the_sandbox(
    world: tuple[Path, OciLayoutStore, Release], tmp_path: Path, env: str
) -> None:
    folder, store, release = world
    environments = Environments(folder / "runtime" / "envs")
    with sandbox(release, store, tmp_path / "run", environments=environments) as live:
        code = (
            "import subprocess, sys\n"
            f"print(subprocess.Popen(['/bin/sleep', '600'], start_new_session=True, env={env}, stdout=subprocess.DEVNULL,"
            " stderr=subprocess.DEVNULL).pid)"
        )
        pid = int(_said(live, code))
        assert _runs(pid)
    wait_until(lambda: not _runs(pid), 10.0)


def test_a_machine_that_cannot_close_a_sandbox_refuses_unless_it_is_told_to_go_on(
    world: tuple[Path, OciLayoutStore, Release], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, store, release = world
    monkeypatch.setattr(sealed, "MACHINES", {})
    environments = Environments(folder / "runtime" / "envs")
    with (
        pytest.raises(BuildFailed, match="cannot keep a sandbox from UDP"),
        sandbox(release, store, tmp_path / "shut", environments=environments),
    ):
        pass
    monkeypatch.setenv(OPEN, "1")
    said: list[str] = []
    with sandbox(release, store, tmp_path / "open", environments=environments, say=said.append) as live:
        assert live.alive()
        assert not live.closed
    assert said[0].startswith("the sandbox is open to UDP")


def _runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
        state = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(") ")[2][0]
    except (ProcessLookupError, FileNotFoundError):
        return False
    return state not in "ZX"
