"""Which file belongs to which component, and what is refused."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from tests.unit.artifacts.agents import MANIFEST, write_agent
from turnout.artifacts.archive import FileEntry
from turnout.artifacts.select import Selection, select_files
from turnout.domain.errors import BuildFailed, ManifestError
from turnout.manifest import Manifest, load_manifest


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_agent(tmp_path / "agent")


def select(folder: Path, data_folder: Path | None = None) -> Selection:
    return select_files(folder, load_manifest(folder), data_folder=data_folder)


def paths(entries: tuple[FileEntry, ...]) -> list[str]:
    return [entry.path for entry in entries]


def test_every_file_belongs_to_one_component(folder: Path) -> None:
    found = select(folder)
    assert paths(found.code) == ["lib/answer.py", "requirements.txt", "server.py"]
    assert paths(found.prompts) == ["prompts/de/system.md", "prompts/system.md"]
    assert paths(found.data) == ["index/part-0.bin", "index/part-1.bin"]
    assert found.tools is not None
    assert found.tools.path == "tools.json"


def test_the_lock_file_is_code_even_when_a_pattern_leaves_it_out(folder: Path) -> None:
    text = MANIFEST.replace('exclude = ["notes/", "*.log"]', 'exclude = ["*.txt", "!.env"]')
    (folder / "turnout.toml").write_text(text)
    found = paths(select(folder).code)
    assert "requirements.txt" in found
    assert ".env" in found, "the reader asked for it"
    assert "debug.log" in found


def test_a_prompt_below_the_data_is_a_prompt(folder: Path) -> None:
    (folder / "turnout.toml").write_text(MANIFEST.replace('["prompts/**"]', '["prompts/**", "*.prompt"]'))
    (folder / "index" / "rank.prompt").write_text("Rank.")
    found = select(folder)
    assert "index/rank.prompt" in paths(found.prompts)
    assert "index/rank.prompt" not in paths(found.data)


def test_a_glob_that_matches_nothing_is_named(folder: Path) -> None:
    (folder / "turnout.toml").write_text(MANIFEST.replace('["prompts/**"]', '["prompts/**", "prompt/*.md"]'))
    with pytest.raises(ManifestError) as caught:
        select(folder)
    assert caught.value.problems == ('prompts.files[1]: "prompt/*.md" matches no file',)


def test_a_prompt_can_be_left_out_by_its_own_pattern(folder: Path) -> None:
    (folder / "turnout.toml").write_text(MANIFEST.replace('["prompts/**"]', '["prompts/**", "!prompts/de/**"]'))
    assert paths(select(folder).prompts) == ["prompts/system.md"]


def test_data_can_come_from_another_folder_or_be_one_file(folder: Path, tmp_path: Path) -> None:
    built = tmp_path / "built"
    built.mkdir()
    (built / "new.bin").write_bytes(b"x")
    assert paths(select(folder, built).data) == ["index/new.bin"]
    assert paths(select(folder, built / "new.bin").data) == ["index"]


def test_missing_and_empty_data_are_refused(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(BuildFailed, match="index is empty"):
        select(folder, tmp_path / "empty")
    with pytest.raises(BuildFailed, match="index is not there"):
        select(folder, tmp_path / "gone")


def test_links_inside_the_folder_stand_for_what_they_point_to(folder: Path) -> None:
    (folder / "alias.py").symlink_to("server.py")
    (folder / "again").symlink_to("lib")
    found = {entry.path: entry.source for entry in select(folder).code}
    assert found["alias.py"] == (folder / "server.py").resolve()
    assert found["again/answer.py"].read_bytes() == b"ANSWER = 42\n"


@pytest.mark.parametrize(
    ("target", "reason"),
    [
        ("/etc/hostname", "leaves the agent's folder"),
        ("../outside.py", "leaves the agent's folder"),
        ("gone.py", "is not there"),
        ("loop.py", "is not there"),
        (".env", "which is left out of releases"),
        ("..", "leaves the agent's folder"),
        (".", "a folder that holds it"),
    ],
)
def test_other_links_are_refused_unless_they_are_left_out(folder: Path, target: str, reason: str) -> None:
    (folder.parent / "outside.py").write_text("")
    (folder / "loop.py").symlink_to(target)
    with pytest.raises(BuildFailed, match=reason) as caught:
        select(folder)
    assert caught.value.message.startswith("loop.py ")
    (folder / "turnout.toml").write_text(MANIFEST.replace('"*.log"', '"loop.py/"'))
    assert "loop.py" not in paths(select(folder).code)


def test_links_in_a_circle_end(folder: Path) -> None:
    (folder / "lib" / "up").symlink_to("../other")
    (folder / "other").mkdir()
    (folder / "other" / "back").symlink_to("../lib")
    with pytest.raises(BuildFailed, match="a folder that holds it"):
        select(folder)


def test_what_is_no_file_is_refused_unless_it_is_left_out(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    os.mkfifo(folder / "pipe.log")
    assert "pipe.log" not in paths(select(folder).code)
    with socket.socket(socket.AF_UNIX) as listener:
        monkeypatch.chdir(folder)
        listener.bind("ipc")
    with pytest.raises(BuildFailed, match="ipc is not a regular file"):
        select(folder)


def test_a_linked_environment_is_left_out_without_a_word(folder: Path) -> None:
    (folder / ".venv").symlink_to("/usr")
    assert paths(select(folder).code) == ["lib/answer.py", "requirements.txt", "server.py"]


def test_an_exclude_pattern_that_cannot_be_read_is_named(folder: Path) -> None:
    (folder / "turnout.toml").write_text(MANIFEST.replace('"*.log"', '"!"'))
    with pytest.raises(ManifestError, match=r"code\.exclude: "):
        select(folder)


def test_a_folder_that_is_not_there_is_refused(tmp_path: Path) -> None:
    manifest = Manifest.model_validate({"schema": 1, "agent": "ab", "code": {"start": ["x"]}})
    with pytest.raises(BuildFailed, match="is not a folder"):
        select_files(tmp_path / "gone", manifest)


def test_what_a_suite_consists_of_is_in_no_component(folder: Path) -> None:
    for path in ("evals/judge.md", "index/golden.jsonl", "evals/check.py", "prompts/answers.md"):
        (folder / path).parent.mkdir(exist_ok=True)
        (folder / path).write_text("the answers")
    suite = """
[[evals]]
name = "answers"
command = ["python", "evals/check.py"]
cases = "index/golden.jsonl"
files = ["evals/**", "prompts/answers.md"]
require = { success = 0.9 }
"""
    text = (
        MANIFEST.replace('["prompts/**"]', '["prompts/**", "e*/*.md", "!*.txt"]').replace(
            '"notes/"', '"notes/", "!evals/**"'
        )
        + suite
    )
    (folder / "turnout.toml").write_text(text)
    with pytest.raises(ManifestError, match="matches no file"):  # nothing but the suite matches
        select(folder)
    (folder / "turnout.toml").write_text(text.replace('"e*/*.md", ', ""))
    found = select(folder)
    assert paths(found.prompts) == ["prompts/de/system.md", "prompts/system.md"]
    assert paths(found.data) == ["index/part-0.bin", "index/part-1.bin"]
    assert not [path for path in paths(found.code) if path.startswith("evals/")]
    assert select(folder, folder / "index").data == found.data
