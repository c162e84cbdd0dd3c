from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from turnout.domain.tool_rules import arguments_fault, rules_faults


def matches(pattern: str, text: str) -> bool:
    return re.fullmatch(pattern, text) is not None


def fault(rule: dict[str, Any], value: Any) -> str | None:
    return arguments_fault({"a": rule}, {"a": value}, matches)


ALLOWED: list[tuple[dict[str, Any], Any]] = [
    ({"any": True}, {"deep": [1]}),
    ({"const": 1}, 1.0),
    ({"const": None}, None),
    ({"const": {"x": [1, True]}}, {"x": [1, True]}),
    ({"enum": ["eu", "us"]}, "us"),
    ({"pattern": "[a-z]+"}, "abc"),
    ({"max_length": 3}, "abc"),
    ({"minimum": 1, "maximum": 5}, 5),
    ({"minimum": 0.5}, 0.5),
    ({"folders": ["docs"]}, "docs/a/b.md"),
    ({"folders": ["docs"]}, "./docs//a"),
    ({"folders": ["docs", "/srv/data"]}, "/srv/data"),
    ({"folders": ["."]}, "any/relative"),
    ({"hosts": ["example.com"]}, "https://example.com/a?b=c#d"),
    ({"hosts": ["example.com"]}, "HTTPS://EXAMPLE.com".replace("HTTPS", "https")),
    ({"hosts": ["*.example.com"]}, "https://a.b.example.com"),
    ({"hosts": ["127.0.0.1:8080"]}, "http://127.0.0.1:8080/x"),
    ({"items": {"enum": [1, 2]}, "max_items": 2}, [1, 2]),
    ({"fields": {"to": {"pattern": ".+@example.com"}, "cc": {"any": True}}}, {"to": "a@example.com"}),
]

REFUSED: list[tuple[dict[str, Any], Any]] = [
    ({"const": 1}, True),
    ({"const": {"x": 1}}, {"x": 1, "y": 2}),
    ({"enum": [0]}, False),
    ({"pattern": "[a-z]+"}, "abc\n"),
    ({"pattern": "[a-z]+"}, 5),
    ({"pattern": "[a-z]+"}, ["abc"]),
    ({"max_length": 3}, "abcd"),
    ({"max_length": 3}, [1]),
    ({"minimum": 1}, True),
    ({"minimum": 1}, "5"),
    ({"minimum": 1}, float("nan")),
    ({"maximum": 5}, float("inf")),
    ({"folders": ["docs"]}, "docs/../secret"),
    ({"folders": ["docs"]}, "docs-secret/a"),
    ({"folders": ["docs"]}, "/docs/a"),
    ({"folders": ["/srv"]}, "srv/a"),
    ({"folders": ["docs"]}, "docs\\..\\secret"),
    ({"folders": ["docs"]}, "docs/%2e%2e/secret"),
    ({"folders": ["docs"]}, "docs/a\0.md"),
    ({"folders": ["docs"]}, "~/docs"),
    ({"folders": ["."]}, "file:///etc/passwd"),
    ({"folders": ["."]}, "C:/windows"),
    ({"folders": ["docs"]}, ""),
    ({"hosts": ["example.com"]}, "https://example.com.evil.org"),
    ({"hosts": ["example.com"]}, "https://evil.org/example.com"),
    ({"hosts": ["example.com"]}, "https://example.com@evil.org/"),
    ({"hosts": ["example.com"]}, "https://example.com:8443/"),
    ({"hosts": ["example.com"]}, "https://example.com\\@evil.org"),
    ({"hosts": ["example.com"]}, "https://evil.org\n.example.com"),
    ({"hosts": ["example.com"]}, "https://sub.example.com"),
    ({"hosts": ["*.example.com"]}, "https://example.com"),
    ({"hosts": ["*.example.com"]}, "https://evilexample.com"),
    ({"hosts": ["example.com"]}, "https://example.com./"),
    ({"hosts": ["example.com"]}, "ftp://example.com"),
    ({"hosts": ["example.com"]}, "//example.com"),
    ({"hosts": ["example.com"]}, " https://example.com"),
    ({"items": {"enum": [1]}}, [1, 2]),
    ({"items": {"enum": [1]}}, 1),
    ({"any": True, "max_items": 1}, [1, 2]),
    ({"fields": {"to": {"any": True}}}, {"to": 1, "bcc": 2}),
    ({"fields": {"to": {"any": True, "required": True}}}, {}),
    ({"fields": {"to": {"any": True}}}, "to"),
    ({"required": True}, 1),
    ({}, 1),
    ({"unknown": True}, 1),
]


@pytest.mark.parametrize(("rule", "value"), ALLOWED)
def test_a_value_that_every_condition_allows_is_let_through(rule: dict[str, Any], value: Any) -> None:
    assert fault(rule, value) is None


@pytest.mark.parametrize(("rule", "value"), REFUSED)
def test_a_value_that_a_condition_does_not_allow_is_refused_with_its_place(rule: dict[str, Any], value: Any) -> None:
    found = fault(rule, value)

    assert found is not None
    assert found.startswith("a")


def test_an_argument_without_a_rule_is_refused() -> None:
    assert arguments_fault({"a": {"any": True}}, {"a": 1, "b": 2}, matches) == "b: no rule allows this argument"
    assert arguments_fault({}, {"b": 2}, matches) == "b: no rule allows this argument"


def test_a_required_argument_has_to_be_there() -> None:
    assert arguments_fault({"a": {"any": True, "required": True}}, {}, matches) == "a: a rule requires this argument"
    assert arguments_fault({"a": {"any": True}}, {}, matches) is None


@given(st.lists(st.sampled_from(["..", ".", "docs", "a", "", "etc", "%2e", "\\", "~", "C:"]), max_size=6))
def test_no_path_that_is_allowed_leaves_its_folder(parts: list[str]) -> None:
    import posixpath

    path = "/".join(parts)

    if fault({"folders": ["docs"]}, path) is None:
        assert posixpath.normpath(path).split("/")[0] == "docs"


@pytest.mark.parametrize(
    ("rules", "place"),
    [
        ([], ""),
        ({"a": 5}, ".a"),
        ({"a": {}}, ".a"),
        ({"a": {"required": True}}, ".a"),
        ({"a": {"any": False}}, ".a.any"),
        ({"a": {"enum": []}}, ".a.enum"),
        ({"a": {"pattern": 5}}, ".a.pattern"),
        ({"a": {"pattern": "("}}, ".a.pattern"),
        ({"a": {"minimum": "1"}}, ".a.minimum"),
        ({"a": {"minimum": True}}, ".a.minimum"),
        ({"a": {"max_length": -1}}, ".a.max_length"),
        ({"a": {"folders": "docs"}}, ".a.folders"),
        ({"a": {"folders": ["../x"]}}, ".a.folders"),
        ({"a": {"hosts": ["https://example.com"]}}, ".a.hosts"),
        ({"a": {"items": {"pattern": "("}}}, ".a.items.pattern"),
        ({"a": {"fields": {"b": {}}}}, ".a.fields.b"),
        ({"a": {"patern": "x"}}, ".a.patern"),
    ],
)
def test_rules_that_make_no_sense_are_named_by_their_place(rules: Any, place: str) -> None:
    found = list(rules_faults(rules, lambda pattern: "is wrong" if pattern == "(" else None))

    assert place in [at for at, _ in found]


def test_a_slip_of_the_pen_gets_the_nearest_condition() -> None:
    found = dict(rules_faults({"a": {"patern": "x"}}, lambda _: None))

    assert found[".a.patern"] == 'is no condition; did you mean "pattern"?'


@pytest.mark.parametrize(("rule", "value"), ALLOWED)
def test_rules_of_these_tests_are_in_order(rule: dict[str, Any], value: Any) -> None:
    assert list(rules_faults({"a": rule}, lambda _: None)) == []
