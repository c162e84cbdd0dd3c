"""Which commands install a lock, and whether an environment of it may be shared."""

from __future__ import annotations

from pathlib import Path

import pytest

from turnout.domain.errors import BuildFailed
from turnout.runtimes.locks import all_hashed, build_commands, is_self_contained


@pytest.mark.parametrize(
    ("text", "hashed"),
    [
        ("a==1 --hash=sha256:00\nb==2 \\\n  --hash=sha256:01\n", True),
        ("--index-url https://example.com/simple\na==1 --hash=sha256:00  # why\n", True),
        ("a==1 --hash=sha256:00\nb==2\n", False),
        ("# nothing\n", False),
    ],
)
def test_hashes_are_demanded_when_every_requirement_has_one(tmp_path: Path, text: str, hashed: bool) -> None:
    lock = tmp_path / "requirements.txt"
    lock.write_text(text, encoding="utf-8")
    assert all_hashed(lock) is hashed
    sync = build_commands("uv", tmp_path, "requirements.txt", Path("/env"), "/usr/bin/python3")[1]
    assert ("--require-hashes" in sync) is hashed


@pytest.mark.parametrize(
    ("line", "shared"),
    [
        ("a==1", True),
        ("a @ git+https://example.com/a.git@0123", True),
        ("--extra-index-url https://example.com/simple", True),
        ("https://example.com/a-1-py3-none-any.whl", True),
        ("-e .", False),
        ("./a.whl", False),
        ("wheels/a.whl", False),
        ("/opt/a.whl", False),
        ("a @ file:///opt/a.whl", False),
        ("-r base.txt", False),
        ("--find-links wheels", False),
        ("a @ ${HERE}/a.whl", False),
    ],
)
def test_requirements_that_name_files_are_not_shared(tmp_path: Path, line: str, shared: bool) -> None:
    lock = tmp_path / "requirements.txt"
    lock.write_text(f"b==2\n{line}\n", encoding="utf-8")
    assert is_self_contained(lock) is shared


@pytest.mark.parametrize(
    ("source", "shared"),
    [
        ('{ registry = "https://example.com/simple" }', True),
        ('{ git = "https://example.com/a.git#0123" }', True),
        ('{ virtual = "." }', True),
        ('{ editable = "." }', True),
        ('{ editable = "packages/a" }', False),
        ('{ directory = "packages/a" }', False),
        ('{ path = "wheels/a.whl" }', False),
        ('{ registry = "../wheels" }', False),
    ],
)
def test_a_uv_lock_with_local_sources_is_not_shared(tmp_path: Path, source: str, shared: bool) -> None:
    lock = tmp_path / "uv.lock"
    lock.write_text(f'version = 1\n[[package]]\nname = "a"\nsource = {source}\n', encoding="utf-8")
    assert is_self_contained(lock) is shared


@pytest.mark.parametrize(
    ("entry", "shared"),
    [
        ('wheels = [{ url = "https://example.com/a.whl" }]', True),
        ('wheels = [{ path = "wheels/a.whl" }]', False),
        ('archive = { path = "a.zip" }', False),
        ('directory = { path = "a" }', False),
    ],
)
def test_a_pylock_with_local_files_is_not_shared(tmp_path: Path, entry: str, shared: bool) -> None:
    lock = tmp_path / "pylock.toml"
    lock.write_text(f'lock-version = "1.0"\n[[packages]]\nname = "a"\n{entry}\n', encoding="utf-8")
    assert is_self_contained(lock) is shared


def test_a_lock_of_an_unknown_kind_or_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BuildFailed, match=r"poetry\.lock is no lock file"):
        build_commands("uv", tmp_path, "poetry.lock", Path("/env"), "/usr/bin/python3")
    (tmp_path / "uv.lock").write_text("version = ", encoding="utf-8")
    with pytest.raises(BuildFailed, match=r"uv\.lock cannot be read"):
        is_self_contained(tmp_path / "uv.lock")
