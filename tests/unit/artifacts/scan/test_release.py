"""What is scanned and what is remembered, with a scanner that takes every `mark(…)` for a secret."""

from __future__ import annotations

import os
import time
from datetime import date
from pathlib import Path

import pytest

from tests.unit.artifacts.agents import FILES, MANIFEST
from tests.unit.artifacts.scan.planted import MarkScanner, agent, scan
from turnout.artifacts.scan import Allowance, Finding, check_findings
from turnout.artifacts.scan.finding import fingerprint, value_tag
from turnout.artifacts.scan.scanner import Hit
from turnout.domain.errors import BuildFailed

TODAY = date(2026, 6, 15)


def _age(folder: Path, seconds: float = 60.0) -> None:
    then = time.time() - seconds
    for path in folder.rglob("*"):
        if path.is_file():
            os.utime(path, (then, then))


def test_everything_of_a_release_is_scanned_and_nothing_else(tmp_path: Path) -> None:
    scanner = MarkScanner()
    scan(agent(tmp_path / "agent", notes__x_DOT_md="mark(left out)", index__empty=""), scanner)
    expected = [
        content
        for path, content in FILES.items()
        if path.startswith(("server", "lib", "requirements", "prompts", "tools", "index"))
    ]
    declared = next(content for content in scanner.seen if b"LOG_LEVEL" in content)
    assert sorted(scanner.seen) == sorted([*expected, b"", declared])
    assert b'env.LOG_LEVEL = "info"' in declared.splitlines()
    assert b'model.name = "claude-sonnet-4-5-20250929"' in declared.splitlines()


def test_findings_come_sorted_with_their_places(tmp_path: Path) -> None:
    manifest = MANIFEST.replace('"info"', '"mark(info)"')
    folder = agent(tmp_path / "agent", lib__b_DOT_py="\nmark(1)\n", lib__a_DOT_py="mark(2)", turnout_DOT_toml=manifest)
    found = scan(folder, MarkScanner())
    assert [(finding.path, finding.line, finding.place) for finding in found] == [
        ("lib/a.py", 1, None),
        ("lib/b.py", 2, None),
        ("turnout.toml", manifest.splitlines().index('LOG_LEVEL = "mark(info)"') + 1, "env.LOG_LEVEL"),
    ]
    assert found[0] == Finding(
        "lib/a.py", 1, "a-mark", "mark", fingerprint("lib/a.py", "a-mark", value_tag(b"mark(2)"))
    )


def test_each_scanner_has_its_say(tmp_path: Path) -> None:
    class Second(MarkScanner):
        name = "second"

    found = scan(agent(tmp_path / "agent", a_DOT_py="mark(1)"), MarkScanner(), Second("second 1"))
    assert [finding.scanner for finding in found] == ["mark", "second"]


# --- the cache -------------------------------------------------------------------------------------------------------


def test_what_did_not_change_is_not_scanned_again_and_still_found(tmp_path: Path) -> None:
    folder = agent(tmp_path / "agent", a_DOT_py="mark(1)", b_DOT_py="fine")
    _age(folder)
    cache = tmp_path / "deep" / "cache.json"
    first = scan(folder, MarkScanner(), cache=cache)
    again = MarkScanner()
    assert scan(folder, again, cache=cache) == first == scan(folder, MarkScanner())
    assert again.seen == []


@pytest.mark.parametrize("same_size", [True, False])
def test_a_changed_file_is_scanned_again_and_only_that(tmp_path: Path, same_size: bool) -> None:
    folder = agent(tmp_path / "agent", a_DOT_py="fine 23", b_DOT_py="fine")
    _age(folder)
    scan(folder, MarkScanner(), cache=tmp_path / "cache.json")
    before = (folder / "a.py").stat()
    content = b"mark(1)" if same_size else b"mark(12)"
    (folder / "a.py").write_bytes(content)
    os.utime(folder / "a.py", ns=(before.st_atime_ns, before.st_mtime_ns))  # the ctime gives it away
    scanner = MarkScanner()
    assert [finding.path for finding in scan(folder, scanner, cache=tmp_path / "cache.json")] == ["a.py"]
    assert scanner.seen == [content]


def test_a_changed_manifest_is_scanned_again(tmp_path: Path) -> None:
    folder = agent(tmp_path / "agent")
    _age(folder)
    scan(folder, MarkScanner(), cache=tmp_path / "cache.json")
    (folder / "turnout.toml").write_text(MANIFEST.replace('"info"', '"mark(info)"'))
    assert [finding.place for finding in scan(folder, MarkScanner(), cache=tmp_path / "cache.json")] == [
        "env.LOG_LEVEL"
    ]


def test_a_file_that_was_written_just_now_is_not_remembered(tmp_path: Path) -> None:
    folder = agent(tmp_path / "agent")
    _age(folder)
    (folder / "a.py").write_text("fine")
    scan(folder, MarkScanner(), cache=tmp_path / "cache.json")
    scanner = MarkScanner()
    scan(folder, scanner, cache=tmp_path / "cache.json")
    assert scanner.seen == [b"fine"]


def test_another_scanner_looks_for_itself(tmp_path: Path) -> None:
    folder = agent(tmp_path / "agent")
    _age(folder)
    scan(folder, MarkScanner("mark 1"), cache=tmp_path / "cache.json")
    newer = MarkScanner("mark 2")
    scan(folder, newer, cache=tmp_path / "cache.json")
    assert newer.seen


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"mark 1": {"a.py": 3}}', b"\xff\x00", b'{"mark 1": 5}'])
def test_a_damaged_cache_counts_as_empty(tmp_path: Path, content: bytes) -> None:
    folder = agent(tmp_path / "agent", a_DOT_py="mark(1)")
    (tmp_path / "cache.json").write_bytes(content)
    assert [finding.path for finding in scan(folder, MarkScanner(), cache=tmp_path / "cache.json")] == ["a.py"]


def test_a_cache_that_cannot_be_written_is_no_fault(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    folder = agent(tmp_path / "agent", a_DOT_py="mark(1)")
    assert len(scan(folder, MarkScanner(), cache=tmp_path / "file" / "cache.json")) == 1


def test_files_that_are_gone_leave_the_cache(tmp_path: Path) -> None:
    folder = agent(tmp_path / "agent", passing_DOT_py="fine")
    _age(folder)
    scan(folder, MarkScanner(), cache=tmp_path / "cache.json")
    assert "passing.py" in (tmp_path / "cache.json").read_text()
    (folder / "passing.py").unlink()
    scan(folder, MarkScanner(), cache=tmp_path / "cache.json")
    assert "passing.py" not in (tmp_path / "cache.json").read_text()


# --- what goes wrong -------------------------------------------------------------------------------------------------


def test_a_file_that_changes_meanwhile_refuses_the_build(tmp_path: Path) -> None:
    folder = agent(tmp_path / "agent", a_DOT_py="fine")

    class Slow(MarkScanner):
        def scan(self, place: Path) -> tuple[Hit, ...]:
            (folder / "a.py").write_text("changed")
            return super().scan(place)

    with pytest.raises(BuildFailed, match=r"a\.py changed while it was scanned"):
        scan(folder, Slow())


def test_a_scanner_that_speaks_of_another_file_refuses_the_build(tmp_path: Path) -> None:
    class Confused(MarkScanner):
        def scan(self, place: Path) -> tuple[Hit, ...]:
            return (Hit("elsewhere", "", 1, "a-mark", 0),)

    with pytest.raises(BuildFailed, match="not given"):
        scan(agent(tmp_path / "agent"), Confused())


# --- the verdict -----------------------------------------------------------------------------------------------------


def _finding(path: str = "a.py", line: int = 3, mark: str = "1" * 16) -> Finding:
    return Finding(path, line, "a-rule", "mark", mark)


def _allowance(expires: date = TODAY, line: int | None = 3, mark: str | None = None) -> Allowance:
    return Allowance("a.py", "a-rule", "of the documentation", expires, line, mark)


def test_no_finding_is_no_error() -> None:
    check_findings((), (), TODAY)


def test_a_refusal_names_file_line_and_rule_and_what_to_do() -> None:
    with pytest.raises(BuildFailed, match=r"a secret.*\n  a\.py, line 3: a-rule, fingerprint 1{16}") as refused:
        check_findings([_finding()], (), TODAY)
    assert "turnout-allow.toml" in str(refused.value.hint)
    assert "environment" in str(refused.value.hint)


def test_the_list_is_bounded() -> None:
    with pytest.raises(BuildFailed, match="5000 secrets") as refused:
        check_findings([_finding(line=line) for line in range(1, 5001)], (), TODAY)
    assert len(str(refused.value).splitlines()) == 22
    assert "4980 more" in str(refused.value)


@pytest.mark.parametrize("entry", [_allowance(), _allowance(line=None, mark="1" * 16), _allowance(mark="1" * 16)])
def test_what_is_allowed_passes_to_the_end_of_its_day(entry: Allowance) -> None:
    check_findings([_finding()], [entry], TODAY)


@pytest.mark.parametrize(
    "finding",
    [_finding(path="b.py"), _finding(line=4), Finding("a.py", 3, "other", "mark", "1" * 16), _finding(mark="2" * 16)],
)
def test_what_is_not_meant_does_not_pass(finding: Finding) -> None:
    with pytest.raises(BuildFailed):
        check_findings([finding], [_allowance(mark="1" * 16)], TODAY)


def test_an_expired_entry_does_not_count_and_is_named() -> None:
    with pytest.raises(BuildFailed, match=r"expired in turnout-allow\.toml: a\.py, line 3: a-rule, until 2026-06-14"):
        check_findings([_finding()], [_allowance(expires=date(2026, 6, 14))], TODAY)
