"""What is kept of captured requests and answers."""

from __future__ import annotations

import time

import pytest

from turnout.domain.models import Capture
from turnout.redaction import PAUSE_SECONDS, Redactor

PLAIN = Capture(100, (r"\d{4,}",))
ENDLESS = Capture(100, (r"(a+)+$",))
TRAP = b"a" * 5_000 + b"!"


def test_what_a_ring_calls_secret_is_not_kept_and_neither_is_what_is_too_long() -> None:
    redact = Redactor().redact
    capture = Capture(20, (r"\d{4,}", "token=[^ ]+"))
    assert redact(b"card 12345 token=abc and more", capture) == b"card [redacted] [red"
    assert redact(b"anything", Capture()) is None
    assert redact(None, capture) is None


def test_what_cannot_be_redacted_in_time_is_not_kept_and_holds_up_nobody_else(caplog: pytest.LogCaptureFixture) -> None:
    now = [0.0]
    redact = Redactor(lambda: now[0]).redact
    began = time.monotonic()
    assert [redact(TRAP, ENDLESS) for _ in range(50)] == [None] * 50
    assert time.monotonic() - began < 5.0, "tried once, not with every payload"
    assert redact(b"card 12345", PLAIN) == b"card [redacted]"
    assert len(caplog.records) == 1
    now[0] += PAUSE_SECONDS
    assert redact(b"b", ENDLESS) == b"b"


def test_patterns_that_cannot_be_applied_keep_nothing() -> None:
    assert Redactor().redact(b"anything", Capture(100, ("(",))) is None
