"""Durations, sizes and weights."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.manifest.patience import PATIENT
from turnout.manifest.values import basis_points, format_duration, parse_duration, parse_size, path_fault, plain_json


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("30s", 30), ("5m", 300), ("1h30m", 5_400), ("2d", 172_800), ("1.5s", 1.5), ("250ms", 0.25), (7, 7), (0.5, 0.5)],
)
def test_a_duration_is_text_with_units_or_a_number_of_seconds(text: object, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize(
    "text", ["", "5", "5 m", "m5", "5x", "-5s", "1h 30m", True, -1, float("nan"), float("inf"), [1], None]
)
def test_what_is_no_duration_is_refused(text: object) -> None:
    with pytest.raises(ValueError, match="duration"):
        parse_duration(text)


@PATIENT
@given(st.integers(min_value=0, max_value=10**9))
def test_a_written_duration_reads_back(seconds: int) -> None:
    assert parse_duration(format_duration(float(seconds))) == seconds


@pytest.mark.parametrize(("text", "size"), [("512MB", 512_000_000), ("1GiB", 1 << 30), ("1 KB", 1_000), (4_096, 4_096)])
def test_a_size_is_text_with_a_unit_or_a_number_of_bytes(text: object, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "512", "1.5GB", "1TB", "-1MB", 0, -5, True, 1.5, 2**60])
def test_what_is_no_size_is_refused(text: object) -> None:
    with pytest.raises(ValueError, match="size"):
        parse_size(text)


@PATIENT
@given(st.integers(min_value=1, max_value=10_000))
def test_every_hundredth_of_a_percent_is_a_basis_point(points: int) -> None:
    assert basis_points(points / 100) == points


@pytest.mark.parametrize("percent", [0, -1, 100.01, 0.001, 33.333, float("nan")])
def test_other_weights_are_refused(percent: float) -> None:
    with pytest.raises(ValueError, match="weight"):
        basis_points(percent)


@pytest.mark.parametrize("path", ["", ".", "/etc/passwd", "../x", "a/../../x", "~/x", "C:/x", "a\\b"])
def test_a_path_that_is_not_inside_the_folder_has_a_fault(path: str) -> None:
    assert path_fault(path)


@pytest.mark.parametrize("path", ["a", "a/b.txt", "a..b/c", ".hidden", "./a"])
def test_a_path_inside_the_folder_has_none(path: str) -> None:
    assert path_fault(path) is None


@pytest.mark.parametrize("value", [float("inf"), 2**53, "\ud800", {"\udfff": 1}, [object()]])
def test_what_canonical_json_cannot_hold_is_refused(value: object) -> None:
    with pytest.raises(ValueError, match=r"number|surrogate|JSON"):
        plain_json({"deep": [value]})
