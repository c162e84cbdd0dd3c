from __future__ import annotations

import errno
import json
from pathlib import Path

import pytest

from turnout.domain.budget import Budget, BudgetScope, Unit
from turnout.domain.errors import StorageFull
from turnout.domain.grant_document import parse_grants, render_grants
from turnout.domain.grants import Grant, Grants, ModelPin, ToolPin
from turnout.domain.models import Capture, Digest
from turnout.durable import replace_file
from turnout.gateway.followed import Followed
from turnout.gateway.grants import GrantsFile, read_grants, write_grants
from turnout.gateway.keys import key_digest

KEY = "tk_one"


def grant(key: str = KEY, **fields: object) -> Grant:
    given = {
        "agent": "support",
        "ring": "dev",
        "release": Digest("sha256:" + "a" * 64),
        "version": "v1",
        "models": (ModelPin("openai", "gpt"), ModelPin("openai", "embeddings")),
        "fallbacks": (ModelPin("anthropic", "claude"),),
        "restart_streams": True,
        "tools": (ToolPin("docs", "search", "ab", {"name": "search"}, {"query": {"type": "string"}}, 3.0, False),),
        "budgets": (Budget(BudgetScope.TASK, 5), Budget(BudgetScope.RING, 7, Unit.CALLS, 60.0)),
        "capture": Capture(10, ("x+",)),
        "record_models": True,
        "stopped": "a breaker tripped",
    }
    return Grant(key=key_digest(key), **{**given, **fields})  # type: ignore[arg-type]


def grants(*several: Grant) -> Grants:
    return Grants({item.key: item for item in several})


class Clock:
    def __init__(self) -> None:
        self.at = 0.0

    def now(self) -> float:
        return self.at


def test_a_document_gives_back_what_was_written() -> None:
    both = grants(grant(), grant("tk_two", ring="production", tools=(), budgets=(), stopped=None))
    assert parse_grants(render_grants(both, "1.0")) == (both, "1.0")


def test_a_document_of_another_version_is_read_as_far_as_it_is_understood() -> None:
    document = json.loads(render_grants(grants(grant()), "9.0"))
    document["grants"][0]["mood"] = "new"
    del document["grants"][0]["restart_streams"]
    del document["grants"][0]["capture"]
    del document["grants"][0]["record_models"]
    found = parse_grants(json.dumps(document).encode())[0].grants[key_digest(KEY)]
    assert found == grant(restart_streams=False, capture=Capture(), record_models=False)


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[]", b'{"schema": 2, "writer": "1", "grants": []}', b'{"schema": 1, "writer": "1", "grants": [{}]}'],
)
def test_anything_else_is_no_document(content: bytes) -> None:
    with pytest.raises(ValueError, match=r"document|schema|Expecting"):
        parse_grants(content)


def test_a_key_is_found_from_when_it_is_published_until_it_is_withdrawn(tmp_path: Path) -> None:
    clock, path = Clock(), tmp_path / "grants.json"
    file = GrantsFile(path, clock.now)
    assert file.find(KEY) is None
    write_grants(path, "1.0", grants(grant()))
    assert file.find(KEY) is None  # it was looked at a moment ago
    clock.at += 0.1
    assert file.find(KEY) == grant()
    assert file.of_digest(key_digest(KEY)) == grant()
    assert file.find("tk_two") is None
    assert path.stat().st_mode & 0o777 == 0o600
    write_grants(path, "1.0", grants())
    clock.at += 0.1
    assert file.find(KEY) is None


def test_a_damaged_or_lost_file_changes_nothing_and_is_told_of_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    clock, path = Clock(), tmp_path / "grants.json"
    file = GrantsFile(path, clock.now)
    write_grants(path, "1.0", grants(grant()))
    assert file.find(KEY) == grant()
    path.write_bytes(path.read_bytes()[:-5])
    for _ in range(3):
        clock.at += 0.1
        assert file.find(KEY) == grant()
    assert len(caplog.records) == 1
    path.unlink()
    clock.at += 0.1
    assert file.find(KEY) == grant()


def test_a_server_goes_on_with_what_was_published_and_knows_by_whom(tmp_path: Path) -> None:
    path = tmp_path / "grants.json"
    assert read_grants(path) == (Grants(), "")
    write_grants(path, "1.0", grants(grant()))
    assert read_grants(path) == (grants(grant()), "1.0")
    path.write_bytes(b"{")
    assert read_grants(path) == (Grants(), "")


def test_a_damaged_file_is_not_read_again_and_again_and_yet_when_what_it_names_may_be_there(tmp_path: Path) -> None:
    reads, times = [], [0.0]

    def read(path: Path) -> str:
        reads.append(path)
        if len(reads) < 3:
            raise ValueError("damaged")
        return path.read_text()

    path = tmp_path / "file"
    path.write_text("what it says")
    followed = Followed(path, read, "", 0.1, lambda: times[-1])
    seen = []
    for now in (0.0, 0.5, 1.0, 2.5, 3.0, 5.0):
        times.append(now)
        seen.append((followed.current, len(reads)))
    assert seen == [("", 1), ("", 1), ("", 1), ("", 2), ("", 2), ("what it says", 3)]
    path.write_text("something else")
    times.append(5.2)
    assert followed.current == "something else"


def test_a_release_can_be_stopped_on_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, reserve = tmp_path / "grants.json", tmp_path / "grants.reserve"
    write_grants(path, "1.0", grants(grant(stopped=None)))
    assert reserve.stat().st_size > 2 * path.stat().st_size
    assert reserve.stat().st_mode & 0o777 == 0o600

    def full(target: Path, content: bytes, mode: int) -> None:
        if reserve.exists() or target == reserve:
            raise OSError(errno.ENOSPC, "no space")
        replace_file(target, content, mode)

    monkeypatch.setattr("turnout.gateway.grants.replace_file", full)
    write_grants(path, "1.0", grants(grant()))
    assert read_grants(path)[0].grants[key_digest(KEY)].stopped == "a breaker tripped"
    assert not reserve.exists()

    monkeypatch.setattr("turnout.gateway.grants.replace_file", replace_file)
    write_grants(path, "1.0", grants(grant()))
    assert reserve.exists()  # there is space again


def test_a_disk_that_is_full_to_the_last_byte_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "no space")

    monkeypatch.setattr("turnout.gateway.grants.replace_file", full)
    with pytest.raises(StorageFull):
        write_grants(tmp_path / "grants.json", "1.0", grants(grant()))
