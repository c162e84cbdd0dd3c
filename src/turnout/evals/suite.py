"""A suite, ready to be run: its files in a folder of their own, its cases, and the digest that names exactly these."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import rfc8785

from turnout.domain.errors import BuildFailed, InvalidRequest
from turnout.domain.models import Digest
from turnout.evals.contract import parse_id, parse_object
from turnout.manifest.eval_schema import Evals

MOST_CASES = 100_000
_OURS = ("repeat", "task")  # what a case is given when it is run


@dataclass(frozen=True, slots=True)
class Suite:
    """`cases` by id, in their order; None where the command knows them alone."""

    table: Evals
    folder: Path
    digest: Digest
    cases: Mapping[str, Mapping[str, Any]] | None = None


def stage_suite(table: Evals, files: Iterable[tuple[str, Path]], folder: Path) -> Suite:
    """Copy the files (path in the agent's folder, where they are) into a new folder, and read the cases.

    Raises `InvalidRequest` for cases that are none, `BuildFailed` for a file that cannot be read.
    """
    copied = []
    for path, source in files:
        _copy(source, folder / path)
        copied.append((path, folder / path))
    digest = digest_suite(table, copied)  # of the copies: what is run is what is named
    cases = read_cases(folder / table.cases, table.cases) if table.cases else None
    return Suite(table, folder, digest, cases)


def digest_suite(table: Evals, files: Iterable[tuple[str, Path]]) -> Digest:
    """What names a suite of these files (path in the agent's folder, where they are). Raises `BuildFailed`."""
    content = {path: _hash(source) for path, source in files}
    definition = {"suite": _definition(table), "files": dict(sorted(content.items()))}
    return Digest(f"sha256:{hashlib.sha256(rfc8785.dumps(definition)).hexdigest()}")


def read_cases(path: Path, name: str) -> dict[str, Mapping[str, Any]]:
    """The cases of a file of JSON lines, by id. Raises `InvalidRequest` that names the line."""
    cases: dict[str, Mapping[str, Any]] = {}
    for number, line in enumerate(path.read_bytes().splitlines(), start=1):
        if not line.strip():
            continue
        try:
            case = parse_object(line)
            case_id = parse_id(case)
        except InvalidRequest as error:
            raise InvalidRequest(f"{name}, line {number}: {error.message}") from None
        if taken := [key for key in _OURS if key in case]:
            raise InvalidRequest(f'{name}, line {number}: "{taken[0]}" is what a run is given; call it otherwise')
        if case_id in cases:
            raise InvalidRequest(f'{name}, line {number}: the case "{case_id}" is there twice')
        cases[case_id] = case
    if not 0 < len(cases) <= MOST_CASES:
        raise InvalidRequest(f"{name} holds {len(cases):,} cases; 1 to {MOST_CASES:,} are possible")
    return cases


def _copy(source: Path, target: Path) -> None:
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, target)
    except OSError as error:
        raise _unreadable(source, error) from None


def _hash(path: Path) -> str:
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise _unreadable(path, error) from None


def _unreadable(path: Path, error: OSError) -> BuildFailed:
    return BuildFailed(f"{path} cannot be read: {error.strerror}")


def _definition(table: Evals) -> Any:
    """What decides the result: also how long a run may take, and how often it is tried. How many run at once does not."""
    return json.loads(table.model_dump_json(exclude={"parallel", "limit", "against"}))
