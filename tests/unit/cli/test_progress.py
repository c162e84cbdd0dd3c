"""How far long work is, told on stderr."""

from __future__ import annotations

import sys

import pytest

from turnout.cli.progress import show_progress


def test_where_there_is_no_terminal_only_the_end_is_told_of_what_is_short(capsys: pytest.CaptureFixture[str]) -> None:
    with show_progress() as show:
        for done in range(1, 4):
            show(f"{done} of 3", done == 3)

    assert capsys.readouterr().err == "3 of 3\n"


def test_on_a_terminal_one_line_is_written_over(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    with show_progress() as show:
        show("1 of 2", True)
        show("2 of 2", True)

    assert capsys.readouterr().err == "\r1 of 2\033[K\r2 of 2\033[K\n"
