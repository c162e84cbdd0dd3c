"""The scanner that turnout brings along: kingfisher, from its wheel, without network, history or settings of its own."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from turnout.artifacts.scan.command import binary_stamp, run_scanner, time_limit
from turnout.artifacts.scan.finding import value_tag
from turnout.artifacts.scan.scanner import Hit, split_member
from turnout.artifacts.scan.staging import SCRATCH
from turnout.domain.errors import BuildFailed

_PACKAGE = "kingfisher-bin"
_BINARY = "kingfisher/bin/kingfisher"
_REVISION = 1  # raise it when the options change: what was judged with the old ones is judged again
_FOUND, _NOTHING_FOUND = 200, 0
_MOST_LOCATED = 50  # values in a large file whose lines are looked up
_PIECE = 16 << 20
# `--no-dedup`: the same secret in another file is another finding. `--no-ignore`: only the allow-list allows, with a
# reason. `--max-file-size 0`: without it files above 256 MB are passed over in silence.
_OPTIONS = (
    "--quiet",
    "--no-update-check",
    "--no-validate",
    "--git-history=none",
    "--confidence=low",
    "--no-dedup",
    "--no-ignore",
    "--max-file-size=0",
    "--format=json",
)


class Kingfisher:
    """Implements `Scanner`. `binary` is found in the environment that turnout runs in, unless it is given."""

    name = "kingfisher"

    def __init__(self, binary: Path | None = None, *, timeout: float | None = None) -> None:
        self._binary = binary or find_kingfisher()
        self._timeout = timeout

    @property
    def identity(self) -> str:
        """See `Scanner`."""
        return f"{self.name} {_REVISION} {binary_stamp(self.name, self._binary)}"

    def scan(self, folder: Path) -> tuple[Hit, ...]:
        """See `Scanner`."""
        sizes = {entry.name: entry.stat().st_size for entry in os.scandir(folder)}
        timeout = self._timeout or time_limit(sum(sizes.values()))
        command = [str(self._binary), "scan", *_OPTIONS, "."]
        code, output = run_scanner(self.name, command, folder, folder.parent / SCRATCH, timeout)
        report = _parse(output) if code in (_FOUND, _NOTHING_FOUND) else None
        if report is None:
            ending = f"was ended by signal {-code}" if code < 0 else f"ended with exit code {code}"
            raise BuildFailed(
                f"the secret scan failed: {self.name} {ending} and gave no report that can be read",
                hint=f"run `{self._binary} scan --no-validate FOLDER` to see why; nothing is built unscanned",
            )
        _check_complete(report, len(sizes))
        return tuple(_hits(report.findings, folder))


def find_kingfisher() -> Path:
    """The binary of the installed wheel, whatever PATH says. Raises `BuildFailed`."""
    places = [Path(sys.executable).parent / "kingfisher"]
    with suppress(PackageNotFoundError):
        places.insert(0, Path(str(distribution(_PACKAGE).locate_file(_BINARY))))
    found = next((place for place in places if place.is_file()), None)
    if found is None:
        raise _missing(f"neither {' nor '.join(map(str, places))} is there")
    return found


def _missing(reason: str) -> BuildFailed:
    return BuildFailed(
        f"the secret scanner kingfisher is not installed: {reason}",
        hint=f"install {_PACKAGE} into the environment of turnout; nothing is built unscanned",
    )


# --- its report ------------------------------------------------------------------------------------------------------


class _Part(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True, hide_input_in_errors=True)


class _Rule(_Part):
    id: str


class _Match(_Part):
    path: str
    line: int
    snippet: str = Field(repr=False)


class _Finding(_Part):
    rule: _Rule
    finding: _Match


class _Outcomes(_Part):
    scan_partial: int
    scan_failed: int


class _Audit(_Part):
    summary: _Outcomes


class _Counts(_Part):
    blobs_scanned: int


class _Metadata(_Part):
    summary: _Counts


class _Report(_Part):
    findings: tuple[_Finding, ...]
    audit: _Audit
    metadata: _Metadata


def _parse(output: bytes) -> _Report | None:
    """None for what is no report. The error is dropped here: it would carry the output."""
    try:
        return _Report.model_validate_json(output)
    except ValidationError:
        return None


def _check_complete(report: _Report, files: int) -> None:
    """What is in an archive is counted too, so there may be more blobs than files, but never fewer."""
    outcomes = report.audit.summary
    if report.metadata.summary.blobs_scanned < files or outcomes.scan_partial or outcomes.scan_failed:
        raise BuildFailed(
            f"the secret scan is not complete: kingfisher read {report.metadata.summary.blobs_scanned} of {files} files",
            hint="see whether all files of the agent can be read; nothing is built unscanned",
        )


def _hits(findings: Iterable[_Finding], folder: Path) -> Iterator[Hit]:
    matches = [(item.rule.id, item.finding, *split_member(item.finding.path)) for item in findings]
    unplaced: dict[str, set[bytes]] = {}
    for _, match, name, member in matches:
        if not match.line and not member:
            unplaced.setdefault(name, set()).add(match.snippet.encode())
    located = {name: _find_lines(folder / name, values) for name, values in unplaced.items()}
    for rule, match, name, member in matches:
        value, line = match.snippet.encode(), match.line
        if not line and not member:
            line = next(located[name].get(value, iter(())), 0)
        yield Hit(name, member, line, rule, value_tag(value))


def _find_lines(path: Path, values: Iterable[bytes]) -> dict[bytes, Iterator[int]]:
    """The lines where a file holds each value, in order: kingfisher counts no lines in large files.

    One pass, in pieces that overlap by the longest value. What was decoded before it was found has no line.
    """
    wanted = sorted(value for value in values if value)[:_MOST_LOCATED]
    lines: dict[bytes, list[int]] = {value: [] for value in wanted}
    overlap = max(map(len, wanted), default=1)
    line, window = 1, b""
    with path.open("rb") as file:
        while chunk := file.read(_PIECE):
            seen, window = len(window), window + chunk
            for value in wanted:
                lines[value] += _lines_of(_places(window, value, seen), window, line)
            kept = window[-overlap:]
            line += window.count(b"\n", 0, len(window) - len(kept))
            window = kept
    return {value: iter(found) for value, found in lines.items()}


def _places(window: bytes, value: bytes, seen: int) -> Iterator[int]:
    """Where a value begins, but for those places that lay within the first `seen` bytes, which were looked at before."""
    place = window.find(value, max(0, seen - len(value) + 1))
    while place >= 0:
        yield place
        place = window.find(value, place + len(value))


def _lines_of(places: Iterable[int], window: bytes, line: int) -> Iterator[int]:
    counted = 0
    for place in places:
        line += window.count(b"\n", counted, place)
        counted = place
        yield line
