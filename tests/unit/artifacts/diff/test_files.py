"""Files of code and prompts: texts as diffs, the rest by size and digest, moves and executable bits."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from tests.unit.artifacts.agents import write_agent
from tests.unit.artifacts.diff.pairs import Workshop, paths
from turnout.artifacts.diff import files as files_room
from turnout.domain.errors import DamagedContent, UnsafeArchive


def test_files_come_go_and_change(shop: Workshop) -> None:
    one = shop.release({"lib/gone.py": b"gone\n"})
    two = shop.release({"lib/come.py": b"come\n", "lib/answer.py": b"ANSWER = 43\n"})
    found = shop.changes(one, two, "code")
    assert paths(found) == [
        ("file", "lib/answer.py", "changed"),
        ("file", "lib/come.py", "added"),
        ("file", "lib/gone.py", "removed"),
    ]
    assert [change["diff"] for change in found] == [
        "@@ -1 +1 @@\n-ANSWER = 42\n+ANSWER = 43",
        "@@ -0,0 +1 @@\n+come",
        "@@ -1 +0,0 @@\n-gone",
    ]
    assert "before" not in found[1]
    assert "after" not in found[2]


def test_what_is_no_text_is_told_by_size_and_digest(shop: Workshop) -> None:
    contents = [b"\0\1\2", b"\0\1\2\3"]
    one, two = (shop.release({"logo.png": content}) for content in contents)
    (found,) = shop.changes(one, two, "code")
    assert "diff" not in found
    assert found["note"].startswith("not a text")
    for side, content in (("before", contents[0]), ("after", contents[1])):
        digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
        assert found[side] == {"size": len(content), "digest": digest, "executable": False}  # type: ignore[literal-required]


def test_a_large_text_is_not_shown(shop: Workshop) -> None:
    one, two = (shop.release({"big.txt": letter * (files_room.LONGEST_TEXT + 1)}) for letter in (b"a", b"b"))
    (found,) = shop.changes(one, two, "code")
    assert "diff" not in found
    assert found["note"] == "too large to be shown"


def test_a_moved_file_is_told_once(shop: Workshop) -> None:
    one = shop.release({"lib/a.py": b"same\n", "lib/empty.py": b""})
    two = shop.release({"src/a.py": b"same\n", "src/empty.py": b""})
    found = shop.changes(one, two, "code")
    assert paths(found) == [
        ("file", "lib/empty.py", "removed"),
        ("file", "src/a.py", "renamed"),
        ("file", "src/empty.py", "added"),
    ]
    assert found[1]["before"]["path"] == "lib/a.py"
    assert "diff" not in found[1]


def test_two_copies_that_moved_are_two_moves(shop: Workshop) -> None:
    one = shop.release({"lib/a.py": b"same\n", "lib/b.py": b"same\n"})
    two = shop.release({"src/a.py": b"same\n", "src/b.py": b"same\n", "src/c.py": b"same\n"})
    found = shop.changes(one, two, "code")
    assert [(change["path"], change["change"]) for change in found] == [
        ("src/a.py", "renamed"),
        ("src/b.py", "renamed"),
        ("src/c.py", "added"),
    ]
    assert [change["before"]["path"] for change in found[:2]] == ["lib/a.py", "lib/b.py"]


def test_an_executable_bit_is_a_change_of_its_own(shop: Workshop, tmp_path: Path) -> None:
    folders = [write_agent(tmp_path / name) for name in ("plain", "executable")]
    (folders[1] / "lib" / "answer.py").chmod(0o755)
    (found,) = shop.changes(shop.of(folders[0]), shop.of(folders[1]), "code")
    assert (found["path"], found["change"], found["note"]) == ("lib/answer.py", "changed", "executable now")
    assert (found["before"]["executable"], found["after"]["executable"]) == (False, True)
    assert "diff" not in found
    (back,) = shop.changes(shop.of(folders[1]), shop.of(folders[0]), "code")
    assert back["note"] == "no longer executable"


def test_the_diffs_of_all_files_together_are_bounded(shop: Workshop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files_room, "MOST_SHOWN", 10)
    one, two = (shop.release({"a.txt": letter * 20, "b.txt": letter * 20}) for letter in (b"a", b"b"))
    found = shop.changes(one, two, "code")
    assert "diff" in found[0]
    assert found[1]["note"] == "not shown: too much differs"


def test_the_texts_that_are_kept_are_bounded(shop: Workshop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files_room, "MOST_TEXT", 30)
    one, two = (shop.release({"a.txt": letter * 20, "b.txt": letter * 20}) for letter in (b"a", b"b"))
    found = shop.changes(one, two, "code")
    assert ["diff" in change for change in found] == [True, False]


def test_too_many_files_are_not_compared_one_by_one(shop: Workshop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files_room, "MOST_FILES", 2)
    (found,) = shop.changes(shop.release(), shop.release({"lib/answer.py": b"43"}), "code")
    assert "files" in found["note"]


def test_a_byte_that_was_flipped_in_an_archive_is_found_wherever_it_is(shop: Workshop) -> None:
    one = shop.release()
    two = shop.release({"lib/answer.py": b"ANSWER = 43\n"})
    digest = two.components["code"].digest
    whole = shop.store.read_all(digest)
    for place in range(0, len(whole), 97):
        shop.store.blobs[digest] = whole[:place] + bytes([whole[place] ^ 4]) + whole[place + 1 :]
        with pytest.raises(DamagedContent, match=digest):
            shop.diff(one, two)


def test_an_archive_of_another_kind_is_refused(shop: Workshop) -> None:
    one = shop.release()
    with pytest.raises(UnsafeArchive):
        shop.diff(one, shop.with_blob(one, "code", b"no archive" * 100))
