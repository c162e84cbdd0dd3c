"""A second opinion where PATH has it: gitleaks. It shows no values (`--redact`), so what it found is read from the file."""

from __future__ import annotations

import shutil
from itertools import islice
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from turnout.artifacts.scan.command import LARGEST_REPORT, binary_stamp, run_scanner, time_limit
from turnout.artifacts.scan.finding import value_tag
from turnout.artifacts.scan.scanner import Hit, split_member
from turnout.artifacts.scan.staging import SCRATCH
from turnout.domain.errors import BuildFailed

_REVISION = 2  # raise it when the options change: what was judged with the old ones is judged again
_REPORT = "gitleaks.json"
_LONGEST = 64 << 20  # bytes of a file in which the value is looked up: it may be one line
# With the built-in rules, and deaf to comments that ask to look away: only the allow-list allows, with a reason.
_OPTIONS = ("--redact", "--ignore-gitleaks-allow", "--no-banner", "--log-level=error", "--exit-code=0")


class Gitleaks:
    """Implements `Scanner`."""

    name = "gitleaks"

    def __init__(self, binary: Path) -> None:
        self._binary = binary

    @property
    def identity(self) -> str:
        """See `Scanner`."""
        return f"{self.name} {_REVISION} {binary_stamp(self.name, self._binary)}"

    def scan(self, folder: Path) -> tuple[Hit, ...]:
        """See `Scanner`."""
        scratch = folder.parent / SCRATCH
        report = scratch / _REPORT
        size = sum(path.stat().st_size for path in folder.iterdir())
        command = [str(self._binary), "dir", *_OPTIONS, "--report-format=json", f"--report-path={report}", "."]
        code, _ = run_scanner(self.name, command, folder, scratch, time_limit(size))
        findings = _parse(report) if code == 0 else None
        if findings is None:
            raise BuildFailed(
                f"the secret scan failed: {self.name} ended with exit code {code} and gave no report that can be read",
                hint=f"{self._binary} must be version 8.19 or newer; mend it, or take it off PATH to build without it",
            )
        return tuple(_hit(item, folder) for item in findings)


def find_gitleaks() -> Gitleaks | None:
    """The one on PATH, if there is one."""
    binary = shutil.which("gitleaks")
    return Gitleaks(Path(binary)) if binary else None


class _Finding(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True, hide_input_in_errors=True)

    rule: str = Field(alias="RuleID")
    path: str = Field(alias="File")
    line: int = Field(alias="StartLine", ge=1)
    last: int = Field(alias="EndLine", ge=1)
    start: int = Field(alias="StartColumn")
    end: int = Field(alias="EndColumn")
    context: str = Field(alias="Match", repr=False)


_FINDINGS = TypeAdapter(tuple[_Finding, ...])


def _parse(report: Path) -> tuple[_Finding, ...] | None:
    """None for what is no report. The error is dropped here: it would carry the content."""
    try:
        with report.open("rb") as file:
            content = file.read(LARGEST_REPORT + 1)
        return _FINDINGS.validate_json(content) if len(content) <= LARGEST_REPORT else None
    except (OSError, ValidationError):
        return None


def _hit(item: _Finding, folder: Path) -> Hit:
    name, member = split_member(item.path)
    value = b"" if member else _matched(folder / name, item)
    return Hit(name, member, item.line, item.rule, value_tag(value or item.context.encode()))


def _matched(path: Path, item: _Finding) -> bytes:
    """What the rule found; empty where it cannot be read.

    Columns are of bytes and count from 1, in the first line; in all others from the newline before it.
    """
    try:
        if path.stat().st_size > _LONGEST:
            return b""
        with path.open("rb") as file:
            lines = list(islice(file, item.line - 1, item.last))
    except OSError:
        return b""
    if not lines:
        return b""
    behind = len(lines[-1]) - max(0, item.end - (item.last > 1))
    text = b"".join(lines)
    return text[max(0, item.start - 1 - (item.line > 1)) : len(text) - max(0, behind)]
