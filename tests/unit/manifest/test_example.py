"""The example, the reference and the schema are one source."""

from __future__ import annotations

import tomllib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.manifest.patience import PATIENT
from turnout.manifest import Manifest, field_reference
from turnout.manifest.example import example_manifest, toml_value

PLAIN = st.none().map(lambda _: True) | st.integers(-(2**53), 2**53) | st.text(st.characters(exclude_categories=["Cs"]))
VALUES = st.recursive(PLAIN, lambda inner: st.lists(inner) | st.dictionaries(st.text('ab .é"', min_size=1), inner))


def test_the_example_is_a_valid_manifest() -> None:
    manifest = Manifest.model_validate(tomllib.loads(example_manifest()))
    assert manifest.agent == "support"
    assert [step.weight for step in manifest.rings["production"].canary] == [10, 50]


def test_the_example_shows_every_field_of_the_reference() -> None:
    text = example_manifest()
    missing = [doc.path for doc in field_reference() if doc.path.split(".")[-1].removesuffix("[]") not in text]
    assert missing == []


def test_every_field_has_a_type_and_a_meaning_of_one_line() -> None:
    for doc in field_reference():
        assert doc.type, doc
        assert doc.meaning, doc
        assert "\n" not in doc.meaning
        assert len(doc.meaning) <= 80, doc


@pytest.mark.parametrize(
    ("path", "kind", "default"),
    [
        ("agent", "name", "required"),
        ("code.start", "array of strings", ""),
        ("health.interval", "duration", '"1s"'),
        ("limits.memory", "size", ""),
        ("rings.<name>.canary", "array of tables", ""),
        ("rings.<name>.canary[].weight", "number", "required"),
        ("rings.<name>.approval_expiry", "duration", '"1d"'),
        ("rings.<name>.floating_models", "boolean", "false"),
    ],
)
def test_the_reference_tells_type_and_default(path: str, kind: str, default: str) -> None:
    (doc,) = [doc for doc in field_reference() if doc.path == path]
    assert (doc.type, doc.default) == (kind, default)


@PATIENT
@given(VALUES)
def test_a_written_value_reads_back(value: Any) -> None:
    assert tomllib.loads(f"x = {toml_value(value)}") == {"x": value}
