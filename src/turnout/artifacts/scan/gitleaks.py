"""A second opinion where PATH has it: gitleaks. It shows no values (`--redact`), so a finding's tag is of its context."""

from __future__ import annotations

import shutil
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from turnout.artifacts.scan.command import LARGEST_REPORT, binary_stamp, run_scanner, time_limit
from turnout.artifacts.scan.finding import value_tag
from turnout.artifacts.scan.scanner import Hit, split_member
from turnout.artifacts.scan.staging import SCRATCH
from turnout.domain.errors import BuildFailed

_REVISION = 1  # raise it when the options change: what was judged with the old ones is judged again
_REPORT = "gitleaks.json"
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
        return tuple(_hit(item) for item in findings)


def find_gitleaks() -> Gitleaks | None:
    """The one on PATH, if there is one."""
    binary = shutil.which("gitleaks")
    return Gitleaks(Path(binary)) if binary else None


class _Finding(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True, hide_input_in_errors=True)

    rule: str = Field(alias="RuleID")
    path: str = Field(alias="File")
    line: int = Field(alias="StartLine")
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


def _hit(item: _Finding) -> Hit:
    name, member = split_member(item.path)
    return Hit(name, member, item.line, item.rule, value_tag(item.context.encode()))
