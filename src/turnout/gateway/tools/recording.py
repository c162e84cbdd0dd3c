"""A call as it is written down: what is kept of arguments and result follows the capture policy of the ring."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import rfc8785

from turnout.domain.calls import Ended, ToolCall
from turnout.domain.grants import Grant, ToolPin
from turnout.domain.models import Capture
from turnout.redaction import Redactor

LARGE = 64 << 10  # bytes of arguments and result, from which closing a record takes its time
_LONGEST_ERROR = 2_000  # characters
_BEYOND = 64 << 10  # bytes after what is kept, that are looked at too: what is to be left out may end there
_redactor = Redactor()  # records that it has work for are closed in one thread


@dataclass(slots=True)
class Record:
    """A call while it is under way. `at` in seconds since the epoch, `began` by the monotonic clock."""

    id: str
    at: float
    began: float
    grant: Grant
    task: str | None
    tool: str
    arguments: Mapping[str, Any]
    pin: ToolPin | None = None
    ended: Ended = Ended.FAILED
    found: str = ""  # what the server describes now, where that is not the pin
    error: str = ""
    result: Mapping[str, Any] | None = None
    sent: bool = field(default=False)  # whether the server may have got it
    written: bytes = b""  # the result as JSON
    size: int = LARGE  # of arguments and result, as far as it is known

    @property
    def takes_long(self) -> bool:
        """Whether others should not wait until it is closed."""
        capture = self.grant.capture
        return self.size >= LARGE or bool(capture.size and capture.redact)

    def close(self, now: float) -> ToolCall:
        """The call as it is over now, by the monotonic clock."""
        capture = self.grant.capture
        arguments, arguments_digest = _written(_canonical(self.arguments), capture)
        result, result_digest = (None, "") if self.result is None else _written(self.written, capture)
        return ToolCall(
            id=self.id,
            at=self.at,
            duration=max(0.0, now - self.began),
            agent=self.grant.agent,
            ring=self.grant.ring,
            release=self.grant.release,
            task=self.task,
            server=self.pin.server if self.pin else "",
            tool=self.tool,
            ended=self.ended,
            failed=bool(self.result and self.result.get("isError")),
            arguments=arguments,
            arguments_digest=arguments_digest,
            result=result,
            result_digest=result_digest,
            schema=self.pin.schema if self.pin else "",
            found=self.found,
            error=self.error[:_LONGEST_ERROR],
        )


def arguments_digest(arguments: Mapping[str, Any]) -> str:
    """By what a call is known: the SHA-256, in hexadecimal digits, of its canonical arguments."""
    return hashlib.sha256(_canonical(arguments)).hexdigest()


def _written(content: bytes, capture: Capture) -> tuple[str | None, str]:
    """(what is kept, the digest of all of it)."""
    kept = _redactor.redact(content[: capture.size + _BEYOND], capture)
    return (None if kept is None else kept.decode(errors="replace")), hashlib.sha256(content).hexdigest()


def _canonical(value: Mapping[str, Any]) -> bytes:
    try:
        return rfc8785.dumps(dict(value))
    except (rfc8785.CanonicalizationError, UnicodeEncodeError, RecursionError):
        return in_order(value)  # such as whole numbers beyond 2^53


def in_order(value: Mapping[str, Any]) -> bytes:
    """JSON for results, which can be large: the canonical form takes a hundred times as long."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode(errors="replace")
