"""The allow-list: a closed file in which every entry has a reason and an end."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import pytest

from turnout.artifacts.scan import Allowance, Finding, load_allowed, stale_allowances
from turnout.domain.errors import ManifestError

TODAY = date(2026, 6, 15)
GOOD = '[[allow]]\npath = "a.py"\nrule = "a-rule"\nline = 3\nreason = "an example"\nexpires = 2026-12-31\n'


def _load(folder: Path, text: str) -> tuple[Allowance, ...]:
    (folder / "turnout-allow.toml").write_text(text)
    return load_allowed(folder, TODAY)


def test_without_a_file_nothing_is_allowed(tmp_path: Path) -> None:
    assert load_allowed(tmp_path, TODAY) == ()


def test_entries_are_read(tmp_path: Path) -> None:
    by_mark = GOOD.replace("line = 3", 'fingerprint = "0123456789abcdef"')
    assert _load(tmp_path, GOOD + by_mark) == (
        Allowance("a.py", "a-rule", "an example", date(2026, 12, 31), line=3),
        Allowance("a.py", "a-rule", "an example", date(2026, 12, 31), fingerprint="0123456789abcdef"),
    )


def test_an_empty_file_and_expired_entries_are_no_error(tmp_path: Path) -> None:
    assert _load(tmp_path, "") == ()
    assert len(_load(tmp_path, GOOD.replace("2026-12-31", "2020-01-01"))) == 1


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ("reason", "raeson", 'allow[0].raeson: unknown key; did you mean "reason"?'),
        ("[[allow]]", "[[alow]]", 'alow: unknown key; did you mean "allow"?'),
        ('reason = "an example"\n', "", "allow[0].reason: is missing"),
        ('"an example"', '"  "', "allow[0].reason: String should have at least 1 character"),
        ("expires = 2026-12-31\n", "", "allow[0].expires: is missing"),
        ("2026-12-31", '"2026-12-31"', "allow[0].expires: expected a date such as 2027-01-31, without quotes"),
        ("2026-12-31", "2027-06-17", "allow[0].expires: 2027-06-17 is more than a year away; ask again within a year"),
        ("line = 3\n", "", "allow[0]: give the line or the fingerprint of the finding"),
        ("line = 3", "line = 0", "allow[0].line: Input should be greater than or equal to 1"),
        ("line = 3", 'fingerprint = "abc"', "allow[0].fingerprint: String should match pattern '^[0-9a-f]{16}$'"),
    ],
)
def test_problems_are_named_with_their_place(tmp_path: Path, old: str, new: str, problem: str) -> None:
    with pytest.raises(ManifestError) as error:
        _load(tmp_path, GOOD.replace(old, new))
    assert problem in error.value.problems


@pytest.mark.parametrize("content", [b"[[allow]", b"\xff\xfe", b"a = 1\na = 2\n", b"#" * (1 << 21)])
def test_what_is_no_such_file_is_an_error(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "turnout-allow.toml").write_bytes(content)
    with pytest.raises(ManifestError, match=r"turnout-allow\.toml"):
        load_allowed(tmp_path, TODAY)


def test_a_folder_of_that_name_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "turnout-allow.toml").mkdir()
    with pytest.raises(ManifestError, match="cannot be read"):
        load_allowed(tmp_path, TODAY)


def test_an_entry_that_fits_nothing_is_stale() -> None:
    used = Allowance("a.py", "a-rule", "why", TODAY, line=3)
    unused = Allowance("b.py", "a-rule", "why", TODAY, line=3)
    assert stale_allowances([Finding("a.py", 3, "a-rule", "mark", "0" * 16)], [used, unused]) == (unused,)
