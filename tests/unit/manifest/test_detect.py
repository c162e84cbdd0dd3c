"""What `turnout init` finds in a folder, and that the file it writes from that is accepted."""

from __future__ import annotations

from pathlib import Path

import pytest

from turnout.domain.errors import ManifestError
from turnout.manifest import Detected, detect_project, load_manifest, render_manifest


def write(folder: Path, files: dict[str, str]) -> Path:
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(content)
    return folder


FULL = {
    "server.py": "parser.add_argument('--port')\nif path == '/healthz': pass\n",
    "uv.lock": "",
    "pyproject.toml": "",
    "prompts/system.md": "You are kind.",
    "greeting.prompt.md": "Hello",
    "tools.json": "[]",
    "data/a.txt": "a",
}


def test_everything_in_a_full_folder_is_found(tmp_path: Path) -> None:
    folder = write(tmp_path / "My Support_Agent!", FULL)
    assert detect_project(folder) == Detected(
        agent="my-support-agent",
        start=("python", "server.py", "--port", "{port}"),
        lock="uv.lock",
        prompts=("prompts/**", "*.prompt.md"),
        tools="tools.json",
        data="data",
        health="/healthz",
    )


@pytest.mark.parametrize(
    "files",
    [
        FULL,
        {"main.py": "from fastapi import FastAPI\napp = FastAPI()\n", "requirements.txt": ""},
        {"agent.py": "", "build_index.py": ""},
        {"app.py": "", "Dockerfile": 'FROM x\nCMD ["python", "app.py", "--port", "8000"]\n'},
    ],
)
def test_the_file_that_is_written_is_accepted(tmp_path: Path, files: dict[str, str]) -> None:
    folder = write(tmp_path / "agent", files)
    detected = detect_project(folder)
    (folder / "turnout.toml").write_text(render_manifest(detected))
    manifest = load_manifest(folder)
    assert manifest.agent == "agent"
    assert manifest.code.asgi == detected.asgi
    assert manifest.code.start == detected.start
    assert manifest.code.lock == detected.lock
    assert (manifest.prompts.files if manifest.prompts else ()) == detected.prompts
    assert (manifest.data.build if manifest.data else ()) == detected.data_build
    assert manifest.health.path == (detected.health or "/ping")
    assert list(manifest.rings) == ["dev", "staging", "production"]


@pytest.mark.parametrize(
    ("source", "entry"),
    [
        ("app = FastAPI(title='x')", "main:app"),
        ("api: FastAPI = fastapi.FastAPI()", "main:api"),
        ("service = Starlette(routes=[])", "main:service"),
        ("app = FastAPI()\nuvicorn.run(app)", None),
        ("# app = FastAPI()", None),
    ],
)
def test_an_asgi_application_is_an_entry_point_unless_it_serves_itself(
    tmp_path: Path, source: str, entry: str | None
) -> None:
    assert detect_project(write(tmp_path, {"main.py": source})).asgi == entry


@pytest.mark.parametrize(
    ("command", "start"),
    [
        ('CMD ["./agent", "-p", "80"]', ("./agent", "-p", "{port}")),
        ('CMD ["./agent", "--port=80"]', ("./agent", "--port={port}")),
        ('CMD ["python", "gone.py"]', ("python", "main.py")),
        ("CMD ./agent", ("python", "main.py")),
        ("CMD [broken]", ("python", "main.py")),
    ],
)
def test_a_docker_command_in_exec_form_gets_the_port_of_turnout(
    tmp_path: Path, command: str, start: tuple[str, ...]
) -> None:
    folder = write(tmp_path, {"Dockerfile": f"FROM scratch\n{command}\n", "main.py": ""})
    assert detect_project(folder).start == start


def test_an_empty_folder_gives_a_file_that_says_what_is_missing(tmp_path: Path) -> None:
    folder = tmp_path / "-"
    folder.mkdir()
    detected = detect_project(folder)
    assert detected == Detected(agent="agent")
    (folder / "turnout.toml").write_text(render_manifest(detected))
    with pytest.raises(ManifestError) as caught:
        load_manifest(folder)
    assert "say how to start the agent" in caught.value.problems[0]


def test_a_tool_file_that_is_no_json_and_a_lock_without_project_are_left_out(tmp_path: Path) -> None:
    detected = detect_project(write(tmp_path, {"tools.json": "{", "uv.lock": "", "prompts/.keep/x": ""}))
    assert detected.tools is None
    assert detected.lock is None
    assert detected.prompts == ("prompts/**",)
