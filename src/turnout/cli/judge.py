"""`turnout judge`."""

from __future__ import annotations

import json
import math
import tomllib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import click

from turnout.cli.connection import print_json
from turnout.cli.evidence import show_evidence
from turnout.domain.errors import InvalidRequest
from turnout.domain.judge import Judge, JudgeConfig, view_evidence
from turnout.domain.judge.judge import FURTHEST_AHEAD

_START, _OUTCOME = "start", "outcome"
_NUMBER, _FLAG, _TEXT = "a number", "true, false or null", "text"
_KEYS: dict[str, dict[str, str]] = {
    _START: {_START: _TEXT, "arm": _TEXT, "probability": _NUMBER, "at": _NUMBER},
    _OUTCOME: {_OUTCOME: _TEXT, "at": _NUMBER, "failed": _FLAG, "intervened": _FLAG, "cost": f"{_NUMBER} or null"},
}
_NEEDED = {_START: {"arm", "probability", "at"}, _OUTCOME: {"at"}}
_HINT = (
    '{"start": TASK, "arm": "stable" or "candidate", "probability": that of the candidate, "at": seconds} or '
    '{"outcome": TASK, "at": seconds, "failed": true, "intervened": false, "cost": 0.08}'
)


@dataclass(frozen=True, slots=True)
class Record:
    """A line of the file. `values` has the names and values of `Judge.start` or `Judge.outcome`."""

    kind: str
    values: dict[str, Any]

    @property
    def at(self) -> float:
        """Seconds; what is no time counts as never."""
        at: float = self.values["at"]
        return at if -math.inf < at < math.inf else -math.inf


@click.command()
@click.argument("records", metavar="FILE", type=click.File("rb"))
@click.option(
    "--config",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="Settings of the judge, JSON or TOML.",
)
@click.option(
    "--at", type=float, help="Time of the verdict in seconds; later records are left out. Default: the latest record."
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON with stable keys.")
def judge(records: IO[bytes], config: Path | None, at: float | None, as_json: bool) -> None:
    """Judge a recorded stream of starts and outcomes; FILE has one JSON object a line, - is standard input.

    A start is {"start": TASK, "arm": "stable" or "candidate", "probability": P, "at": SECONDS}, P being the router's
    probability of the candidate. An outcome is {"outcome": TASK, "at": SECONDS, "failed": true, "intervened": false,
    "cost": 0.08}; what is null or left out is unknown. Needs no server.
    """
    judged = Judge(_read_config(config) if config else None)
    _feed(judged, _read(records), math.inf if at is None else at)
    latest = judged.clock if math.isfinite(judged.clock) else 0.0
    view = view_evidence(judged.verdict(latest if at is None else at))
    if as_json:
        print_json(view)
    else:
        show_evidence(view)


def _read_config(file: Path) -> JudgeConfig:
    try:
        text = file.read_text(encoding="utf-8")
        state = tomllib.loads(text) if file.suffix == ".toml" else json.loads(text)
        return JudgeConfig.from_state(state)
    except (OSError, ValueError, RecursionError) as error:
        raise InvalidRequest(f"{file} cannot be read: {error}", hint="settings are JSON, or TOML in *.toml") from error
    except InvalidRequest as error:
        raise InvalidRequest(f"{file}: {error.message}", hint=error.hint) from error


def _feed(judged: Judge, records: Iterable[Record], until: float) -> None:
    """Give the judge the records up to a time."""
    for record, following in _pairs(record for record in records if record.at <= until):
        if -math.inf < judged.clock < min(record.at, following) - FURTHEST_AHEAD:
            judged.verdict(min(record.at, following))  # nothing came for more than a day: no clock was wrong
        (judged.start if record.kind == _START else judged.outcome)(**record.values)


def _pairs(records: Iterable[Record]) -> Iterator[tuple[Record, float]]:
    """Each record with the time of the next one, the last with none."""
    previous: Record | None = None
    for record in records:
        if previous is not None:
            yield previous, record.at
        previous = record
    if previous is not None:
        yield previous, -math.inf


def _read(lines: IO[bytes]) -> Iterator[Record]:
    """One record a line; empty lines are passed over. Raises `InvalidRequest` with file and line."""
    named = getattr(lines, "name", "<stdin>")
    name = "standard input" if named == "<stdin>" else str(named)
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            yield _parse(json.loads(line))
        except (ValueError, RecursionError) as error:
            raise InvalidRequest(f"{name}, line {number}: {error}", hint=f"a line is {_HINT}") from error


def _parse(value: object) -> Record:
    if not isinstance(value, dict):
        raise ValueError("a record is a JSON object")
    kinds = [kind for kind in _KEYS if kind in value]
    if len(kinds) != 1:
        raise ValueError("a record has either a key 'start' or a key 'outcome', which names the task")
    kind, keys = kinds[0], _KEYS[kinds[0]]
    if unknown := sorted(value.keys() - keys.keys()):
        raise ValueError(f"{kind} of a task has no key {unknown[0]!r}")
    if missing := sorted(_NEEDED[kind] - value.keys()):
        raise ValueError(f"{kind} of a task needs a key {missing[0]!r}")
    for key, found in value.items():
        if not _fits(found, keys[key]):
            raise ValueError(f"{key!r} is {json.dumps(found)[:60]}, which is not {keys[key]}")
    return Record(kind, {"task" if key == kind else key: found for key, found in value.items()})


def _fits(value: object, kind: str) -> bool:
    if kind == _TEXT:
        return isinstance(value, str) and value != ""
    if kind == _FLAG:
        return value is None or isinstance(value, bool)
    if value is None:
        return kind != _NUMBER
    return isinstance(value, int | float) and not isinstance(value, bool)
