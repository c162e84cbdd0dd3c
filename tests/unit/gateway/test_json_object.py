from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from turnout.gateway.json_object import parse_object

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=10,
)


@given(st.dictionaries(st.text(), values, max_size=5), st.booleans(), st.sampled_from([None, 2]))
def test_what_is_read_is_what_json_reads(written: dict[str, object], ascii_only: bool, indent: int | None) -> None:
    text = json.dumps(written, ensure_ascii=ascii_only, indent=indent)
    try:
        body = text.encode()
    except UnicodeEncodeError:
        return
    read = parse_object(body)
    assert {name: member.value for name, member in read.members.items()} == json.loads(text)
    assert read.changed({}) == body


@given(
    st.dictionaries(st.text("abc"), values, max_size=4), st.dictionaries(st.sampled_from("abcdef"), values, max_size=3)
)
def test_a_change_changes_nothing_else(written: dict[str, object], changes: dict[str, object]) -> None:
    read = parse_object(json.dumps(written).encode())
    assert json.loads(read.changed(changes)) == {**written, **changes}


def test_the_bytes_of_other_members_stay() -> None:
    body = b' { "model" : "a" ,\n "seed":1.50e1, "big": 123456789012345678901234567890, "t":"\\u00e9 \xc3\xa9" } '
    changed = parse_object(body).changed({"model": "b", "limit": 7})
    assert changed == (
        b' { "model" : "b" ,\n "seed":1.50e1, "big": 123456789012345678901234567890, "t":"\\u00e9 \xc3\xa9" ,"limit":7} '
    )


def test_an_empty_object_gets_no_comma() -> None:
    assert parse_object(b"{ }").changed({"a": 1}) == b'{ "a":1}'


@pytest.mark.parametrize(
    ("body", "fault"),
    [
        (b"", "not a JSON object"),
        (b"[]", "not a JSON object"),
        (b'{"a": 1', "comma"),
        (b'{"a": }', "Expecting value"),
        (b'{"a" 1}', "colon"),
        (b"{a: 1}", "name in quotes"),
        (b'{"a": 1,}', "name in quotes"),
        (b'{"a": 1} {}', "follows"),
        (b'{"a": 1, "a": 2}', "twice"),
        (b'{"a": 1, "\\u0061": 2}', "twice"),
        (b'{"a": NaN}', "NaN"),
        (b'{"a": "\xff"}', "UTF-8"),
        (b'\xef\xbb\xbf{"a": 1}', "not a JSON object"),
        (b'{"a": ' + b"[" * 100_000, "deep"),
        (b'{"a": ' + b"9" * 5_000 + b"}", "digits"),
    ],
)
def test_what_is_no_object_is_told(body: bytes, fault: str) -> None:
    with pytest.raises(ValueError, match=fault):
        parse_object(body)
