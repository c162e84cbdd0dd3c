"""The command that makes the data: what it sees, and how it can go wrong."""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path

import pytest

from tests.unit.artifacts.agents import MANIFEST, write_agent
from turnout.artifacts.build import build_release
from turnout.artifacts.data import run_data_build
from turnout.artifacts.fake import MemoryArtifactStore
from turnout.domain.errors import BuildFailed
from turnout.manifest import load_manifest

HEAD = "import os, pathlib, sys, json, time\ntarget = pathlib.Path(os.environ['TURNOUT_DATA_DIR'])\n"


def agent(tmp_path: Path, script: str) -> Path:
    folder = write_agent(
        tmp_path / "agent",
        manifest=MANIFEST.replace('path = "index"', f'path = "index"\nbuild = ["{sys.executable}", "make.py"]'),
    )
    (folder / "make.py").write_text(HEAD + script)
    return folder


def run(folder: Path, lines: list[str] | None = None, *, bin_dir: Path | None = None, timeout: float = 20) -> Path:
    output = lines if lines is not None else []
    workspace = folder.parent / "work"
    return run_data_build(folder, load_manifest(folder), bin_dir, workspace, output.append, timeout=timeout)


def test_what_the_command_wrote_becomes_the_data(tmp_path: Path) -> None:
    folder = agent(tmp_path, "target.mkdir()\n(target / 'new.bin').write_bytes(b'new')\nprint('one')\nprint('two')\n")
    lines: list[str] = []
    result = run(folder, lines)
    assert lines == ["one", "two"]
    store = MemoryArtifactStore()
    built = build_release(folder, load_manifest(folder), store, data_folder=result)
    content = store.read_all(built.components["data"].digest)
    assert b"index/new.bin" in content
    assert b"part-0.bin" not in content, "what lay in the folder before is not data"


def test_the_command_sees_code_and_prompts_and_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret")
    folder = agent(
        tmp_path,
        "files = sorted(str(p.relative_to('.')) for p in pathlib.Path('.').rglob('*') if p.is_file())\n"
        "target.write_text(json.dumps([files, dict(os.environ), pathlib.Path('server.py').stat().st_mtime]))\n",
    )
    tools = tmp_path / "bin"
    files, env, mtime = json.loads(run(folder, bin_dir=tools).read_text())
    assert files == [
        "lib/answer.py",
        "make.py",
        "prompts/de/system.md",
        "prompts/system.md",
        "requirements.txt",
        "server.py",
    ]
    assert mtime == 0
    assert set(env) - {"LC_CTYPE"} == {
        "PATH",
        "HOME",
        "LANG",
        "PYTHONHASHSEED",
        "SOURCE_DATE_EPOCH",
        "TURNOUT_DATA_DIR",
    }
    assert env["PATH"].split(os.pathsep)[0] == str(tools)
    assert env["HOME"].startswith(str(tmp_path / "work"))


def test_a_second_run_starts_clean(tmp_path: Path) -> None:
    folder = agent(
        tmp_path, "target.mkdir()\n(target / str(len(list(pathlib.Path('.').rglob('*'))))).write_text('x')\n"
    )
    first = [path.name for path in run(folder).iterdir()]
    assert [path.name for path in run(folder).iterdir()] == first


def test_a_command_that_fails_tells_its_last_lines(tmp_path: Path) -> None:
    folder = agent(tmp_path, "[print('line', n) for n in range(50)]\nsys.exit('no corpus')\n")
    with pytest.raises(BuildFailed, match="failed with exit code 1") as caught:
        run(folder)
    assert caught.value.message.endswith("no corpus")
    assert "line 49" in caught.value.message
    assert "line 10\n" not in caught.value.message


def test_a_command_that_takes_too_long_is_ended_with_its_children(tmp_path: Path) -> None:
    folder = agent(
        tmp_path,
        "import subprocess\nchild = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'])\n"
        "print(child.pid, flush=True)\ntime.sleep(60)\n",
    )
    lines: list[str] = []
    began = time.monotonic()
    with pytest.raises(BuildFailed, match="took longer than 3 seconds"):
        run(folder, lines, timeout=3)
    assert time.monotonic() - began < 30
    assert is_gone(int(lines[0]))


def test_a_child_that_was_left_behind_does_not_hold_up_the_build(tmp_path: Path) -> None:
    folder = agent(
        tmp_path,
        "import subprocess\ntarget.write_text('x')\n"
        "print(subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)']).pid, flush=True)\n",
    )
    lines: list[str] = []
    began = time.monotonic()
    assert run(folder, lines).read_text() == "x"
    assert time.monotonic() - began < 30
    assert is_gone(int(lines[0]))


@pytest.mark.parametrize(
    "script", ["", "target.mkdir()\n", "target.write_text('')\n", "(target / 'deep').mkdir(parents=True)\n"]
)
def test_no_data_is_a_failed_build(tmp_path: Path, script: str) -> None:
    with pytest.raises(BuildFailed, match="made nothing at index"):
        run(agent(tmp_path, script))


def test_a_command_that_is_not_there_is_named(tmp_path: Path) -> None:
    folder = agent(tmp_path, "")
    (folder / "turnout.toml").write_text(MANIFEST.replace('path = "index"', 'path = "index"\nbuild = ["no-such-tool"]'))
    with pytest.raises(BuildFailed, match="no-such-tool cannot be run"):
        run(folder)


def test_an_error_of_the_reader_of_the_output_ends_the_command(tmp_path: Path) -> None:
    folder = agent(tmp_path, "print('x', flush=True)\ntime.sleep(60)\n")

    def refuse(line: str) -> None:
        raise BrokenPipeError(line)

    began = time.monotonic()
    with pytest.raises(BrokenPipeError):
        run_data_build(folder, load_manifest(folder), None, tmp_path / "work", refuse)
    assert time.monotonic() - began < 30


def test_without_a_command_there_is_nothing_to_run(tmp_path: Path) -> None:
    folder = write_agent(tmp_path / "agent")
    with pytest.raises(BuildFailed, match=r"declares no data\.build"):
        run(folder)


def is_gone(pid: int) -> bool:
    """Whether a process has ended, within ten seconds; a zombie has."""
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except (FileNotFoundError, ProcessLookupError):
            return True
        if state == "Z":
            return True
        time.sleep(0.01)
    return False
