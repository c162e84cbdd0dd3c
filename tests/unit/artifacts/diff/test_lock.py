"""Dependencies by name, out of the lock files that a release can have."""

from __future__ import annotations

import pytest

from tests.unit.artifacts.agents import MANIFEST
from tests.unit.artifacts.diff.pairs import Workshop, short
from turnout.artifacts.diff.lock import Lock, Pin, diff_locks, parse_lock
from turnout.schemas import ChangeView

REQUIREMENTS = """\
# made by a tool
--index-url https://packages.example/simple
Flask==3.0.0 \\
    --hash=sha256:aa \\
    --hash=sha256:bb  # two files
typing_extensions==4.12.2 ; python_version < "3.13"
httpx[http2]==0.27.0
tool @ https://example.com/tool-1.0.whl ; sys_platform == "linux"
"""
UV = """
version = 1
requires-python = ">=3.11"
[[package]]
name = "agent"
source = { virtual = "." }
[[package]]
name = "httpx"
version = "0.27.0"
source = { registry = "https://packages.example/simple" }
sdist = { url = "https://packages.example/httpx.tar.gz", hash = "sha256:aa", size = 1 }
wheels = [{ url = "https://packages.example/httpx.whl", hash = "sha256:bb", size = 1 }]
[[package]]
name = "numpy"
version = "1.26.4"
source = { registry = "https://packages.example/simple" }
resolution-markers = ["python_full_version < '3.12'"]
[[package]]
name = "numpy"
version = "2.1.0"
source = { registry = "https://packages.example/simple" }
resolution-markers = ["python_full_version >= '3.12'"]
"""
PYLOCK = """
lock-version = "1.0"
requires-python = ">=3.11"
created-by = "a tool"
[[packages]]
name = "httpx"
version = "0.27.0"
marker = "sys_platform != 'win32'"
index = "https://packages.example/simple"
wheels = [{ url = "https://packages.example/httpx.whl", hashes = { sha256 = "bb" } }]
[[packages]]
name = "tool"
vcs = { type = "git", url = "https://example.com/tool", commit-id = "abc" }
"""


def parse(path: str, content: str) -> Lock:
    lock = parse_lock(path, content)
    assert lock is not None
    return lock


def told(path: str, before: str, after: str) -> list[ChangeView]:
    return list(diff_locks(parse(path, before), parse(path, after)))


def test_requirements_are_read() -> None:
    lock = parse("requirements.txt", REQUIREMENTS)
    assert lock.packages == {
        "flask": (Pin("3.0.0", hashes=frozenset({"sha256:aa", "sha256:bb"})),),
        "typing-extensions": (Pin("4.12.2", extra='python_version < "3.13"'),),
        "httpx": (Pin("0.27.0", extra="[http2]"),),
        "tool": (Pin("", "https://example.com/tool-1.0.whl", 'sys_platform == "linux"'),),
    }
    assert lock.options == ("--index-url https://packages.example/simple",)


def test_uv_locks_are_read() -> None:
    lock = parse("deep/uv.lock", UV)
    assert [pin.version for pin in lock.packages["numpy"]] == ["1.26.4", "2.1.0"]
    assert lock.packages["httpx"][0].hashes == {"sha256:aa", "sha256:bb"}
    assert lock.packages["httpx"][0].source == "registry https://packages.example/simple"
    assert lock.packages["agent"][0] == Pin("", "virtual .")
    assert lock.options == ("requires-python >=3.11",)


def test_pylocks_are_read() -> None:
    lock = parse("pylock.toml", PYLOCK)
    assert lock.packages["httpx"][0] == Pin(
        "0.27.0", "index https://packages.example/simple", "sys_platform != 'win32'", frozenset({"sha256:bb"})
    )
    assert lock.packages["tool"][0].source == "vcs commit-id abc, type git, url https://example.com/tool"


@pytest.mark.parametrize(
    ("path", "content"), [("requirements.txt", REQUIREMENTS), ("uv.lock", UV), ("pylock.toml", PYLOCK)]
)
def test_versions_are_told_old_and_new(path: str, content: str) -> None:
    assert told(path, content, content) == []
    assert ("dependency", "httpx", "changed", "0.27.0", "0.28.1") in short(
        told(path, content, content.replace("0.27.0", "0.28.1"))
    )
    assert ("dependency", "httpx", "added", None, "0.27.0") in short(list(diff_locks(Lock({}), parse(path, content))))
    assert ("dependency", "httpx", "removed", "0.27.0", None) in short(list(diff_locks(parse(path, content), Lock({}))))


@pytest.mark.parametrize(
    ("path", "content", "old", "new", "note"),
    [
        ("requirements.txt", REQUIREMENTS, "sha256:aa", "sha256:cc", "other hashes under the same version"),
        ("requirements.txt", REQUIREMENTS, "[http2]", "", "other conditions"),
        ("requirements.txt", REQUIREMENTS, "tool-1.0", "tool-1.1", "another source"),
        ("uv.lock", UV, 'hash = "sha256:aa"', 'hash = "sha256:cc"', "other hashes under the same version"),
        ("uv.lock", UV, 'virtual = "."', 'virtual = "agent"', "another source"),
        ("pylock.toml", PYLOCK, "abc", "abd", "another source"),
        ("pylock.toml", PYLOCK, "win32", "cygwin", "other conditions"),
    ],
)
def test_what_differs_under_the_same_version_is_told(path: str, content: str, old: str, new: str, note: str) -> None:
    (found,) = told(path, content, content.replace(old, new))
    assert (found["change"], found["note"]) == ("changed", note)


def test_another_index_is_told() -> None:
    found = told("requirements.txt", REQUIREMENTS, REQUIREMENTS.replace("packages.example", "elsewhere.example"))
    assert [(change["kind"], change["path"], change["change"]) for change in found] == [
        ("option", "--index-url https://elsewhere.example/simple", "added"),
        ("option", "--index-url https://packages.example/simple", "removed"),
    ]


@pytest.mark.parametrize(
    "content", ["[", "package = 3", "package = [3]", "[[package]]\nversion = '1'", "package = {a = 1}"]
)
def test_a_malformed_lock_is_none(content: str) -> None:
    assert parse_lock("uv.lock", content) is None


def test_a_release_tells_dependencies_apart_from_files(shop: Workshop) -> None:
    one = shop.release({"requirements.txt": b"httpx==0.27.0\nflask==3.0.0\n"})
    two = shop.release({"requirements.txt": b"httpx==0.28.1\nrich==14.0\n", "lib/answer.py": b"ANSWER = 43\n"})
    found = shop.diff(one, two)["code"]
    assert short(found["changes"])[:3] == [
        ("dependency", "flask", "removed", "3.0.0", None),
        ("dependency", "httpx", "changed", "0.27.0", "0.28.1"),
        ("dependency", "rich", "added", None, "14.0"),
    ]
    lock = found["changes"][-1]
    assert (lock["path"], lock["note"]) == ("requirements.txt", "its dependencies are compared by name")
    assert "diff" not in lock
    assert found["summary"]["text"].startswith("1 dependency added, 1 dependency removed, 1 dependency changed")


def test_a_lock_that_differs_in_no_dependency_is_shown_as_text(shop: Workshop) -> None:
    one, two = (shop.release({"requirements.txt": content}) for content in (b"a==1\n", b"# pinned\na==1\n"))
    (found,) = shop.changes(one, two, "code")
    assert found["diff"] == "@@ -1 +1,2 @@\n+# pinned\n a==1"


def test_a_lock_of_another_format_is_compared_by_what_it_locks(shop: Workshop) -> None:
    lock = b"[[packages]]\nname = 'httpx'\nversion = '0.28.1'\n[[packages]]\nname = 'rich'\nversion = '14.0'\n"
    one = shop.release({"requirements.txt": b"httpx==0.27.0\nrich==14.0\n"})
    manifest = MANIFEST.replace('lock = "requirements.txt"', 'lock = "pylock.toml"')
    two = shop.release({"pylock.toml": lock, "requirements.txt": None}, manifest)
    found = shop.diff(one, two)["code"]["changes"]
    assert short(found)[0] == ("dependency", "httpx", "changed", "0.27.0", "0.28.1")
    assert [(change["path"], change["change"]) for change in found[1:]] == [
        ("pylock.toml", "added"),
        ("requirements.txt", "removed"),
    ]


def test_a_lock_that_cannot_be_read_is_shown_as_text(shop: Workshop) -> None:
    manifest = MANIFEST.replace('lock = "requirements.txt"', 'lock = "pylock.toml"')
    one, two = (shop.release({"pylock.toml": content}, manifest) for content in (b"[", b"]"))
    (found,) = shop.changes(one, two, "code")
    assert found["diff"].startswith("@@ -1 +1 @@\n-[")
