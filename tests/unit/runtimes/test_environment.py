"""Environments are built from locks, shared by equal locks, and never half of one is used. No network: wheels made here."""

from __future__ import annotations

import errno
import hashlib
import subprocess
import threading
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from uv import find_uv_bin

from turnout.domain.errors import BuildFailed, StorageFull
from turnout.runtimes.environment import Environments, environment_key


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of wheels, the only place where uv finds packages."""
    folder = tmp_path / "index"
    folder.mkdir()
    make_wheel(folder, "greeting", "1.0")
    make_wheel(folder, "greeting", "2.0")
    for name, value in {
        "UV_FIND_LINKS": str(folder),
        "UV_NO_INDEX": "1",
        "UV_OFFLINE": "1",
        "UV_CACHE_DIR": str(tmp_path / "cache"),
        "TURNOUT_TOKEN": "the server's own",
    }.items():
        monkeypatch.setenv(name, value)
    return folder


def make_wheel(folder: Path, name: str, version: str, needs: str | None = None) -> Path:
    wheel = folder / f"{name}-{version}-py3-none-any.whl"
    info = f"{name}-{version}.dist-info"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr(f"{name}.py", f"version = {version!r}\n")
        required = f"Requires-Dist: {needs}\n" if needs else ""
        metadata = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{required}"
        archive.writestr(f"{info}/METADATA", metadata)
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{info}/RECORD", f"{name}.py,,\n{info}/METADATA,,\n{info}/WHEEL,,\n{info}/RECORD,,\n")
    return wheel


def release_with(tmp_path: Path, name: str, files: dict[str, str]) -> Path:
    folder = tmp_path / name
    folder.mkdir()
    for file, text in files.items():
        (folder / file).write_text(text, encoding="utf-8")
    return folder


def python_in(environment: Path, code: str) -> str:
    done = subprocess.run([environment / "bin" / "python", "-c", code], capture_output=True, text=True, check=True)
    return done.stdout.strip()


GREETING = "import greeting; print(greeting.version)"


def test_without_a_lock_there_is_an_environment_with_nothing_in_it(tmp_path: Path, index: Path) -> None:
    environments = Environments(tmp_path / "envs")
    environment = environments.build(release_with(tmp_path, "release", {}), None, None)
    assert python_in(environment, "import sys; print(sys.prefix)") == str(environment)
    assert list(environment.glob("lib/python*/site-packages/*.dist-info")) == []
    assert environments.build(tmp_path / "release", None, None) == environment


def test_locked_requirements_are_installed_with_their_hashes(tmp_path: Path, index: Path) -> None:
    digest = hashlib.sha256((index / "greeting-1.0-py3-none-any.whl").read_bytes()).hexdigest()
    text = f"# locked\ngreeting==1.0 \\\n    --hash=sha256:{digest}\n"
    release = release_with(tmp_path, "release", {"requirements.txt": text})
    said: list[str] = []
    environment = Environments(tmp_path / "envs").build(release, "requirements.txt", None, said.append)
    assert python_in(environment, GREETING) == "1.0"
    assert any("greeting==1.0" in line for line in said)
    assert list(environment.glob("lib/python*/site-packages/__pycache__/greeting.*.pyc")), "starts need not compile"


def test_a_package_that_does_not_have_its_locked_hash_is_refused(tmp_path: Path, index: Path) -> None:
    text = f"greeting==1.0 --hash=sha256:{'0' * 64}\n"
    release = release_with(tmp_path, "release", {"requirements.txt": text})
    with pytest.raises(BuildFailed, match="greeting") as caught:
        Environments(tmp_path / "envs").build(release, "requirements.txt", None)
    assert "do not trust it" in str(caught.value.hint)


def test_a_dependency_that_does_not_install_is_named(tmp_path: Path, index: Path) -> None:
    release = release_with(tmp_path, "release", {"requirements.txt": "greeting==1.0\nno-such-thing==3.1\n"})
    environments = Environments(tmp_path / "envs")
    with pytest.raises(BuildFailed, match="no-such-thing") as caught:
        environments.build(release, "requirements.txt", None)
    assert caught.value.hint
    (release / "requirements.txt").write_text("greeting==1.0\n", encoding="utf-8")
    assert python_in(environments.build(release, "requirements.txt", None), GREETING) == "1.0"


def test_a_lock_that_leaves_out_what_a_package_needs_is_refused(tmp_path: Path, index: Path) -> None:
    make_wheel(index, "polite", "1.0", needs="greeting>=1")
    release = release_with(tmp_path, "release", {"requirements.txt": "polite==1.0\n"})
    with pytest.raises(BuildFailed, match="greeting") as caught:
        Environments(tmp_path / "envs").build(release, "requirements.txt", None)
    assert "uv pip compile" in (caught.value.hint or "")


def test_a_uv_lock_is_installed_without_the_project_itself(tmp_path: Path, index: Path) -> None:
    project = '[project]\nname = "agent"\nversion = "1"\nrequires-python = ">=3.11"\ndependencies = ["greeting<2"]\n'
    release = release_with(tmp_path, "release", {"pyproject.toml": project})
    subprocess.run([find_uv_bin(), "lock", "--quiet"], cwd=release, check=True)
    before = sorted(path.name for path in release.iterdir())
    environment = Environments(tmp_path / "envs").build(release, "uv.lock", None)
    assert python_in(environment, GREETING) == "1.0"
    assert [path.name[:8] for path in environment.glob("lib/python*/site-packages/*.dist-info")] == ["greeting"]
    assert sorted(path.name for path in release.iterdir()) == before, "the release is not written to"


def test_a_pylock_is_installed(tmp_path: Path, index: Path) -> None:
    release = release_with(tmp_path, "release", {"requirements.in": "greeting\n"})
    compile_ = [find_uv_bin(), "pip", "compile", "--quiet", "--format", "pylock.toml", "-o", "pylock.toml"]
    subprocess.run([*compile_, "requirements.in"], cwd=release, check=True, capture_output=True)
    environment = Environments(tmp_path / "envs").build(release, "pylock.toml", None)
    assert python_in(environment, GREETING) == "2.0"


def test_releases_with_the_same_lock_share_one_environment(tmp_path: Path, index: Path) -> None:
    environments = Environments(tmp_path / "envs")
    one, two, other = (
        release_with(tmp_path, name, {"requirements.txt": f"greeting=={version}\n", "agent.py": name})
        for name, version in (("one", "1.0"), ("two", "1.0"), ("other", "2.0"))
    )
    shared = environments.build(one, "requirements.txt", None)
    said: list[str] = []
    assert environments.build(two, "requirements.txt", None, said.append) == shared
    assert said == [], "nothing was installed for it"
    assert environments.build(other, "requirements.txt", None) != shared


def test_the_key_depends_on_all_that_decides_what_is_installed(tmp_path: Path) -> None:
    lock = 'version = 1\n[[package]]\nname = "agent"\nsource = { virtual = "." }\n'
    one = release_with(tmp_path, "one", {"uv.lock": lock, "pyproject.toml": "a", "requirements.txt": "greeting"})
    two = release_with(tmp_path, "two", {"uv.lock": lock, "pyproject.toml": "b", "requirements.txt": "greeting"})
    assert environment_key(one, "uv.lock", "3.11.7") != environment_key(two, "uv.lock", "3.11.7")
    assert environment_key(one, "requirements.txt", "3.11.7") == environment_key(two, "requirements.txt", "3.11.7")
    assert environment_key(one, "requirements.txt", "3.11.7") != environment_key(one, "requirements.txt", "3.12.1")
    (two / "pyproject.toml").write_text("a", encoding="utf-8")
    assert environment_key(one, "uv.lock", "3.11.7") == environment_key(two, "uv.lock", "3.11.7")


def test_a_lock_that_installs_files_of_the_release_is_not_shared(tmp_path: Path) -> None:
    one, two = (release_with(tmp_path, name, {"requirements.txt": "./vendored.whl\n"}) for name in ("one", "two"))
    assert environment_key(one, "requirements.txt", "3.11.7") != environment_key(two, "requirements.txt", "3.11.7")


def test_a_lock_that_is_not_in_the_release_is_an_error_that_names_it(tmp_path: Path) -> None:
    with pytest.raises(BuildFailed, match=r"uv\.lock is not in the release"):
        environment_key(release_with(tmp_path, "release", {}), "uv.lock", "3.11.7")


def test_an_interrupted_environment_is_thrown_away_and_built_again(tmp_path: Path, index: Path) -> None:
    release = release_with(tmp_path, "release", {"requirements.txt": "greeting==1.0\n"})
    environments = Environments(tmp_path / "envs")
    environment = environments.build(release, "requirements.txt", None)
    (environment / ".complete").unlink()
    (module,) = environment.glob("lib/python*/site-packages/greeting.py")
    module.unlink()
    (environment / "rubbish").touch()
    assert not environments.complete(environment)
    assert environments.build(release, "requirements.txt", None) == environment
    assert python_in(environment, GREETING) == "1.0"
    assert not (environment / "rubbish").exists()


def test_an_environment_whose_python_is_gone_is_built_again(tmp_path: Path, index: Path) -> None:
    environments = Environments(tmp_path / "envs")
    release = release_with(tmp_path, "release", {})
    environment = environments.build(release, None, None)
    (environment / "bin" / "python").unlink()
    (environment / "bin" / "python").symlink_to(tmp_path / "removed" / "python")
    assert not environments.complete(environment)
    assert python_in(environments.build(release, None, None), "print(1)") == "1"


def test_builds_of_one_environment_at_once_are_one_build(tmp_path: Path, index: Path) -> None:
    release = release_with(tmp_path, "release", {"requirements.txt": "greeting==1.0\n"})
    said: list[str] = []
    built: list[Path] = []

    def build() -> None:
        built.append(Environments(tmp_path / "envs").build(release, "requirements.txt", None, said.append))

    run_together(build, 4)
    assert len(built) == 4
    assert len(set(built)) == 1
    assert sum("greeting==1.0" in line for line in said) == 1


def test_the_python_that_a_release_asks_for_must_be_here(tmp_path: Path, index: Path) -> None:
    release = release_with(tmp_path, "release", {})
    with pytest.raises(
        BuildFailed, match=r"Python 3\.99, which the release asks for, is not on this machine"
    ) as caught:
        Environments(tmp_path / "envs").build(release, None, "3.99")
    assert "uv python install 3.99" in str(caught.value.hint)


def test_a_build_that_takes_too_long_is_ended_with_all_it_started(tmp_path: Path) -> None:
    pid_file = tmp_path / "pid"
    uv = script(tmp_path, f"echo resolving; echo $$ > {pid_file}; sleep 600")
    with pytest.raises(BuildFailed, match=r"not built within 0\.5 s; uv said last: resolving"):
        Environments(tmp_path / "envs", uv, timeout=0.5).build(release_with(tmp_path, "release", {}), None, None)
    assert not Path(f"/proc/{pid_file.read_text(encoding='ascii').strip()}").exists()


def test_a_full_disk_is_told_from_a_bad_dependency(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    uv = script(tmp_path, "echo 'error: failed to write: No space left on device (os error 28)' >&2; exit 2")
    release = release_with(tmp_path, "release", {})
    with pytest.raises(StorageFull):
        Environments(tmp_path / "envs", uv).build(release, None, None)

    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "mkdir", refuse)
    with pytest.raises(StorageFull):
        Environments(tmp_path / "other", uv).build(release, None, None)


def test_the_secrets_of_the_server_do_not_reach_what_is_built(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TURNOUT_TOKEN", "the server's own")
    monkeypatch.setenv("UV_FIND_LINKS", "/wheels")
    said: list[str] = []
    uv = script(tmp_path, "env; exit 1")
    with pytest.raises(BuildFailed):
        Environments(tmp_path / "envs", uv).build(release_with(tmp_path, "release", {}), None, None, said.append)
    assert "UV_FIND_LINKS=/wheels" in said
    assert not [line for line in said if line.startswith("TURNOUT_")]


def script(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "uv"
    path.write_text(f"#!/bin/sh\n{text}\n", encoding="utf-8")
    path.chmod(0o755)
    return path


def run_together(act: Callable[[], None], times: int) -> None:
    threads = [threading.Thread(target=act) for _ in range(times)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
