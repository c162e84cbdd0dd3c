"""What differs between two releases: nothing for the same, and of what differs what a reviewer needs."""

from __future__ import annotations

import json

import pytest

from tests.unit.artifacts.agents import COMPONENTS, MANIFEST
from tests.unit.artifacts.diff.pairs import Workshop, paths, short
from turnout.artifacts.diff import changes as changes_room
from turnout.domain.errors import DamagedContent, InvalidRequest
from turnout.domain.models import Digest


def test_the_same_release_differs_in_nothing(shop: Workshop) -> None:
    one = shop.release()
    assert shop.diff(one, one) == {}


def test_two_builds_of_the_same_files_differ_in_nothing(shop: Workshop) -> None:
    assert shop.diff(shop.release(), shop.release()) == {}


def test_only_components_that_differ_are_told_of(shop: Workshop) -> None:
    one = shop.release()
    two = shop.release({"prompts/system.md": b"You are terse.\n", "index/part-1.bin": b"new"})
    found = shop.diff(one, two)
    assert list(found) == ["prompts", "data"]
    assert (found["data"]["a"], found["data"]["b"]) == tuple(
        release.components["data"].digest for release in (one, two)
    )


def test_a_changed_prompt_is_shown_line_by_line(shop: Workshop) -> None:
    found = shop.changes(shop.release(), shop.release({"prompts/system.md": b"You are kind.\nBe brief.\n"}), "prompts")
    assert paths(found) == [("prompt", "prompts/system.md", "changed")]
    assert found[0]["diff"] == "@@ -1 +1,2 @@\n You are kind.\n+Be brief."
    assert found[0]["before"]["size"] == len(b"You are kind.\n")


def test_a_component_that_is_new_is_told_as_added(shop: Workshop) -> None:
    without = MANIFEST.replace('[model]\nprovider = "anthropic"\nname = "claude-sonnet-4-5-20250929"\n', "").replace(
        "parameters = { temperature = 0.2 }\n", ""
    )
    found = shop.diff(shop.release(manifest=without), shop.release())["model"]
    assert found["a"] is None
    assert short(found["changes"]) == [
        ("provider", "provider", "added", None, "anthropic"),
        ("name", "name", "added", None, "claude-sonnet-4-5-20250929"),
        ("parameter", "parameters", "added", None, {"temperature": 0.2}),
    ]
    assert found["summary"]["text"].startswith("none → anthropic/claude-sonnet-4-5-20250929")
    gone = shop.diff(shop.release(), shop.release(manifest=without))["model"]
    assert {change["change"] for change in gone["changes"]} == {"removed"}


def test_another_model_pin_is_the_first_thing_said(shop: Workshop) -> None:
    other = (
        MANIFEST.replace("20250929", "20260101")
        .replace("temperature = 0.2", "temperature = 0.7, top_k = 4")
        .replace("[prompts]", '[[model.fallbacks]]\nprovider = "openai"\nname = "gpt-4o-2024-08-06"\n[prompts]', 1)
    )
    found = shop.diff(shop.release(), shop.release(manifest=other))["model"]
    assert short(found["changes"]) == [
        ("name", "name", "changed", "claude-sonnet-4-5-20250929", "claude-sonnet-4-5-20260101"),
        ("parameter", "parameters.temperature", "changed", 0.2, 0.7),
        ("parameter", "parameters.top_k", "added", None, 4),
        (
            "fallback",
            "fallbacks.openai/gpt-4o-2024-08-06",
            "added",
            None,
            {"provider": "openai", "name": "gpt-4o-2024-08-06"},
        ),
    ]
    assert found["summary"]["text"] == (
        "anthropic/claude-sonnet-4-5-20250929 → anthropic/claude-sonnet-4-5-20260101, "
        "1 parameter added, 1 parameter changed, 1 fallback added"
    )


def test_fallbacks_in_another_order_are_a_change(shop: Workshop) -> None:
    models = [f'[[model.fallbacks]]\nprovider = "local"\nname = "m{number}-2025-01-01"\n' for number in (1, 2)]
    one, two = (MANIFEST.replace("[prompts]", "".join(order) + "[prompts]", 1) for order in (models, models[::-1]))
    found = shop.changes(shop.release(manifest=one), shop.release(manifest=two), "model")
    assert paths(found) == [("fallback", "fallbacks", "changed")]
    assert found[0]["after"] == ["local/m2-2025-01-01", "local/m1-2025-01-01"]


def test_config_is_compared_by_dotted_path(shop: Workshop) -> None:
    other = (
        MANIFEST.replace('LOG_LEVEL = "info"', 'LOG_LEVEL = "debug"\nREGION = "eu"\n[flags]\nbrief = true')
        .replace("weight = 10", "weight = 20")
        .replace("[rings.dev]", "[rings.dev]\nenv = { A = '1' }\n[rings.uat]")
        + "\n[limits]\nmemory = '1MB'\n[health]\npath = '/up'\n[[smoke]]\nname = 'it answers'\npath = '/ask'\n"
    )
    found = shop.changes(shop.release(), shop.release(manifest=other), "config")
    told = {path: (kind, change, before, after) for kind, path, change, before, after in short(found)}
    assert told["env.LOG_LEVEL"] == ("env", "changed", "info", "debug")
    assert told["env.REGION"] == ("env", "added", None, "eu")
    assert told["env.FEATURE_BRIEF"] == ("flag", "added", None, "true")
    assert told["rings.production.canary[0].weight"] == ("ring", "changed", 1_000, 2_000)
    assert told["rings.dev.env.A"] == ("env", "added", None, "1")
    assert told["rings.uat"][:2] == ("ring", "added")
    assert told["limits.memory"] == ("limit", "changed", None, 1_000_000)
    assert told["health.path"] == ("health", "changed", "/ping", "/up")
    assert told['smoke["it answers"]'][:2] == ("smoke", "added")
    assert len(told) == 9


def test_rings_in_another_order_are_a_change(shop: Workshop) -> None:
    other = MANIFEST.replace("[rings.dev]\n", "") + "[rings.dev]\n"
    found = shop.changes(shop.release(), shop.release(manifest=other), "config")
    assert short(found) == [("ring", "rings", "changed", ["dev", "production"], ["production", "dev"])]


def test_the_summary_counts_by_kind(shop: Workshop) -> None:
    one = shop.release({"lib/old.py": b"0\n"})
    two = shop.release({"server.py": b"print('hi')\n", "lib/more.py": b"1\n", "start.py": b"2\n"})
    summary = shop.diff(one, two)["code"]["summary"]
    assert summary["kinds"] == {"file": {"added": 2, "removed": 1, "changed": 1, "renamed": 0}}
    assert summary["text"] == "2 files added, 1 file removed, 1 file changed"


def test_more_changes_than_are_listed_are_counted_all_the_same(shop: Workshop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(changes_room, "MOST_LISTED", 2)
    two = shop.release({f"lib/{number}.py": b"%d\n" % number for number in range(5)})
    found = shop.diff(shop.release(), two)["code"]
    assert (len(found["changes"]), found["left_out"]) == (2, 3)
    assert found["summary"]["kinds"]["file"]["added"] == 5


@pytest.mark.parametrize("component", COMPONENTS)
def test_a_damaged_blob_is_named_with_its_component_and_release(shop: Workshop, component: str) -> None:
    one, two = shop.release(), shop.release()
    content = shop.store.read_all(two.components[component].digest)
    other = shop.with_blob(two, component, content[:-1] + b" ")
    digest = other.components[component].digest
    for broken in (None, bytes([content[0] ^ 1]) + content[1:]):
        if broken is None:
            del shop.store.blobs[digest]
        else:
            shop.store.blobs[digest] = broken
        with pytest.raises(DamagedContent, match=digest) as raised:
            shop.diff(one, other)
        assert f"component {component} of release odd" in raised.value.message
        assert raised.value.hint


@pytest.mark.parametrize("component", ["model", "tools", "config"])
@pytest.mark.parametrize("content", [b"{", b"\xff", b'"\\ud800"', b"[" * 100_000])
def test_what_is_no_json_is_refused(shop: Workshop, component: str, content: bytes) -> None:
    one = shop.release()
    other = shop.with_blob(one, component, content)
    with pytest.raises(InvalidRequest, match=rf"component {component} .* is (no JSON|nested)"):
        shop.diff(one, other)


@pytest.mark.parametrize(("depth", "outcome"), [(50, "told"), (700, "either"), (5_000, "refused")])
def test_json_that_is_nested_very_deeply_does_no_harm(shop: Workshop, depth: int, outcome: str) -> None:
    one = shop.release()
    contents = [b'{"a":' * depth + number + b"}" * depth for number in (b"1", b"2")]
    other, third = (shop.with_blob(one, "tools", content) for content in contents)
    try:
        changes = shop.diff(other, third)["tools"]["changes"]
    except InvalidRequest:
        changes = []
    assert outcome in ("told" if changes else "refused", "either")


def test_long_values_are_shortened(shop: Workshop) -> None:
    one, two = (MANIFEST.replace('"info"', f'"{letter * 20_000}"') for letter in "ab")
    found = shop.changes(shop.release(manifest=one), shop.release(manifest=two), "config")
    assert found[0]["note"] == "shortened"
    assert len(json.dumps(found)) < 8_000


def test_a_release_whose_component_is_written_otherwise_says_so(shop: Workshop) -> None:
    one = shop.release()
    content = shop.store.read_all(one.components["model"].digest)
    found = shop.diff(one, shop.with_blob(one, "model", content + b"\n"))
    assert found["model"]["changes"] == []
    assert "nothing in it differs" in found["model"]["summary"]["text"]


def test_a_diff_is_the_other_way_round_from_the_other_side(shop: Workshop) -> None:
    one = shop.release()
    two = shop.release({"lib/more.py": b"1\n", "index/part-2.bin": b"2"}, MANIFEST.replace("info", "debug"))
    turned = {"added": "removed", "removed": "added", "changed": "changed", "renamed": "renamed"}
    forth = {(c, *paths([change])[0]) for c, found in shop.diff(one, two).items() for change in found["changes"]}
    back = {(c, *paths([change])[0]) for c, found in shop.diff(two, one).items() for change in found["changes"]}
    assert {(c, kind, path, turned[change]) for c, kind, path, change in back} == forth


def test_digests_are_those_of_the_components(shop: Workshop) -> None:
    one, two = shop.release(), shop.release({"tools.json": b'{"tools": []}'})
    found = shop.diff(one, two)["tools"]
    assert Digest(found["b"] or "") == two.components["tools"].digest
