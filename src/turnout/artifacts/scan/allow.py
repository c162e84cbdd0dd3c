"""`turnout-allow.toml`: findings that are no secrets, each with a reason and a day on which that is to be asked again."""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError, model_validator
from pydantic_core import ErrorDetails

from turnout.artifacts.scan.finding import Finding
from turnout.domain.errors import ManifestError
from turnout.manifest.load import ALLOW_NAME

LONGEST = timedelta(days=366)
_LARGEST_FILE = 1 << 20


@dataclass(frozen=True, slots=True)
class Allowance:
    """One entry: it fits a finding of this path and rule, on this line or with this fingerprint, to the end of `expires`."""

    path: str
    rule: str
    reason: str
    expires: date
    line: int | None = None
    fingerprint: str | None = None

    def fits(self, finding: Finding) -> bool:
        """Whether it is this finding that is meant."""
        return (
            (self.path, self.rule) == (finding.path, finding.rule)
            and self.line in (None, finding.line)
            and self.fingerprint in (None, finding.fingerprint)
        )

    def describe(self) -> str:
        """One line for a person."""
        line = f", line {self.line}" if self.line is not None else ""
        mark = f", fingerprint {self.fingerprint}" if self.fingerprint else ""
        return f"{self.path}{line}: {self.rule}{mark}, until {self.expires}"


def load_allowed(folder: Path, today: date) -> tuple[Allowance, ...]:
    """Read the allow-list beside `turnout.toml`; nothing is allowed when there is none.

    Raises `ManifestError` with every problem: not TOML, an unknown key, no reason, an entry for more than a year from today.
    """
    path = folder / ALLOW_NAME
    try:
        raw = _read(path)
    except FileNotFoundError:
        return ()
    except OSError as error:
        raise ManifestError(f"{path} cannot be read: {error.strerror}") from None
    except (UnicodeDecodeError, tomllib.TOMLDecodeError, RecursionError) as error:
        raise _error([f"{ALLOW_NAME}: is not valid TOML: {error}"]) from None
    try:
        entries = _File.model_validate(raw).allow
    except ValidationError as error:
        raise _error([_problem(detail) for detail in error.errors(include_url=False)]) from None
    problems = list(_far_problems(entries, today))
    if problems:
        raise _error(problems)
    return tuple(Allowance(**entry.model_dump()) for entry in entries)


def stale_allowances(findings: Iterable[Finding], allowed: Iterable[Allowance]) -> tuple[Allowance, ...]:
    """The entries that fit no finding: what they allowed is gone, or stands elsewhere. Worth a warning."""
    found = tuple(findings)
    return tuple(entry for entry in allowed if not any(map(entry.fits, found)))


# --- the closed shape of the file ------------------------------------------------------------------------------------

_Filled = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1)]


class _Entry(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    path: _Filled
    rule: _Filled
    reason: _Filled
    expires: date
    line: int | None = Field(default=None, ge=1)
    fingerprint: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{16}$")] | None = None

    @model_validator(mode="after")
    def _names_one(self) -> Self:
        if self.line is None and self.fingerprint is None:
            raise ValueError("give the line or the fingerprint of the finding")
        return self


class _File(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    allow: tuple[_Entry, ...] = Field(default=(), strict=False)


def _read(path: Path) -> dict[str, Any]:
    with path.open("rb") as file:
        content = file.read(_LARGEST_FILE + 1)
    if len(content) > _LARGEST_FILE:
        raise _error([f"{ALLOW_NAME}: is larger than 1 MiB"])
    return tomllib.loads(content.decode("utf-8-sig").replace("\r\n", "\n"))


def _far_problems(entries: Iterable[_Entry], today: date) -> Iterator[str]:
    for index, entry in enumerate(entries):
        if entry.expires > today + LONGEST:
            yield f"allow[{index}].expires: {entry.expires} is more than a year away; ask again within a year"


def _problem(detail: ErrorDetails) -> str:
    location = tuple(str(part) if isinstance(part, str) else part for part in detail["loc"])
    place = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in location).lstrip(".") or ALLOW_NAME
    if detail["type"] == "extra_forbidden":
        known = sorted((_Entry if len(location) > 1 else _File).model_fields)
        nearest = difflib.get_close_matches(str(location[-1]), known, n=1, cutoff=0.5)
        return f"{place}: unknown key" + (
            f'; did you mean "{nearest[0]}"?' if nearest else f"; known here: {', '.join(known)}"
        )
    if detail["type"] == "missing":
        return f"{place}: is missing"
    if detail["type"] == "date_type":
        return f"{place}: expected a date such as 2027-01-31, without quotes"
    return f"{place}: {detail['msg'].removeprefix('Value error, ')}"


def _error(problems: list[str]) -> ManifestError:
    count = "1 problem" if len(problems) == 1 else f"{len(problems)} problems"
    return ManifestError(
        f"{ALLOW_NAME} has {count}",
        problems=tuple(problems),
        hint="an entry is [[allow]] with path, rule, line or fingerprint, reason and expires",
    )
