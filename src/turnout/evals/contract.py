"""What a suite writes: one JSON object a line for each run of a case. Nothing else may be on its standard output."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from turnout.domain.errors import InvalidRequest
from turnout.domain.eval_report import finite
from turnout.domain.evals import Run

LONGEST_LINE = 1 << 20  # bytes
LONGEST_ID = 200  # characters
LONGEST_DETAIL = 2_000
MOST_SCORES = 50
_KNOWN = frozenset({"id", "passed", "score", "scores", "cost", "duration", "detail", "error", "repeat"})


def parse_result(line: bytes, repeat: int) -> Run:
    """A run, as a line tells of it. Raises `InvalidRequest` that says what is wrong with the line."""
    content = parse_object(line)
    unknown = sorted(content.keys() - _KNOWN)
    if unknown:
        raise InvalidRequest(f'"{unknown[0]}" is no part of a result; known are {", ".join(sorted(_KNOWN))}')
    error = _text(content, "error")
    return Run(
        case=parse_id(content),
        repeat=repeat,
        success=0.0 if error else _success(content),
        scores=_scores(content),
        cost=_number(content, "cost"),
        duration=_number(content, "duration"),
        detail=_text(content, "detail"),
        error=error,
    )


def parse_object(line: bytes) -> Mapping[str, Any]:
    """The JSON object of a line. Raises `InvalidRequest`."""
    try:
        content = json.loads(line, parse_constant=_refuse)
    except (ValueError, RecursionError):
        raise InvalidRequest(f"no JSON object: {quote(line)}") from None
    if not isinstance(content, Mapping):
        raise InvalidRequest(f"no JSON object: {quote(line)}")
    return content


def parse_id(content: Mapping[str, Any]) -> str:
    """The id of a case. Raises `InvalidRequest`."""
    name = content.get("id")
    if not isinstance(name, str) or not 0 < len(name) <= LONGEST_ID or not name.isprintable():
        raise InvalidRequest(f'"id" has to be 1 to {LONGEST_ID} printable characters')
    return name


def quote(line: bytes) -> str:
    """The beginning of what was written, for a sentence."""
    text = line.decode(errors="replace").strip()
    shown = text if len(text) <= 100 else f"{text[:100]}…"
    return "".join(sign if sign.isprintable() else "·" for sign in shown) or "an empty line"


def _success(content: Mapping[str, Any]) -> float:
    if "passed" in content:
        if not isinstance(content["passed"], bool):
            raise InvalidRequest('"passed" has to be true or false')
        return float(content["passed"])
    score = content.get("score")
    if isinstance(score, bool) or not isinstance(score, int | float) or not 0 <= score <= 1:
        raise InvalidRequest('a result needs "passed", true or false, or a "score" from 0 to 1')
    return float(score)


def _scores(content: Mapping[str, Any]) -> dict[str, float]:
    scores = content.get("scores", {})
    if not isinstance(scores, Mapping) or len(scores) > MOST_SCORES:
        raise InvalidRequest(f'"scores" has to be an object of at most {MOST_SCORES} numbers')
    for name, value in scores.items():
        if finite(value) is None:
            raise InvalidRequest(f'"scores": "{name[:100]}" has to be a number')
    given = {name: float(value) for name, value in scores.items()}
    if "passed" in content and (score := finite(content.get("score"))) is not None:
        given.setdefault("score", score)
    return given


def _number(content: Mapping[str, Any], key: str) -> float | None:
    value = content.get(key)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 1e9:
        raise InvalidRequest(f'"{key}" has to be a number from 0 to a thousand million')
    return float(value)


def _text(content: Mapping[str, Any], key: str) -> str:
    value = content.get(key, "")
    if value is None:
        return ""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text[:LONGEST_DETAIL].encode(errors="replace").decode()  # without halves of characters


def _refuse(name: str) -> float:
    raise ValueError(f"{name} is no JSON")
