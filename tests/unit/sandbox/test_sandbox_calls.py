"""The gateway of a sandbox: what answers, what it may cost, what is remembered."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from tests.unit.domain.recorded import RELEASE
from turnout.domain.budget import NANOS
from turnout.domain.calls import ModelCall, ToolCall
from turnout.domain.errors import InvalidRequest
from turnout.domain.grants import Grant, ToolPin
from turnout.evaluation import SuiteBench
from turnout.gateway.keys import key_digest
from turnout.gateway.tools import upstream
from turnout.gateway.values import GatewayConfig, ToolServer
from turnout.sandbox import Sandbox
from turnout.sandbox_calls import MOST_DOLLARS, CallLog, OneGrant, Purse, SandboxGateway, build_live_tools, most_nanos
from turnout.sandbox_network import Refusals

GRANT = Grant(key_digest("tk_key"), "shop", "sandbox", RELEASE, "v1", tools=(ToolPin("orders", "refund"),))


def model_call(task: str | None, nanos: int = 0) -> ModelCall:
    return ModelCall(
        "c1", 1.0, 0.1, "shop", "sandbox", RELEASE, task, "messages", "openai", "gpt", nanos=nanos, answer="long"
    )


def tool_call(task: str | None) -> ToolCall:
    return ToolCall("c1", 1.0, 0.1, "shop", "sandbox", RELEASE, task, "shop", "refund", arguments="{}", result="{}")


def test_a_server_that_something_stands_in_for_is_not_known_before_its_stand_in_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Callable[[], Mapping[str, ToolServer]]] = []
    original = upstream.Upstreams.__init__

    def spy(
        self: upstream.Upstreams, servers: Callable[[], Mapping[str, ToolServer]], *more: Any, **named: Any
    ) -> None:
        seen.append(servers)
        original(self, servers, *more, **named)

    monkeypatch.setattr(upstream.Upstreams, "__init__", spy)
    real = {name: ToolServer(name, url=f"https://{name}.example.com/mcp") for name in ("orders", "weather")}
    stand_ins: dict[str, ToolServer | None] = {"orders": None}
    build_live_tools(GRANT, GatewayConfig(tool_servers=real), CallLog(), tmp_path, stand_ins)

    assert seen[0]().keys() == {"weather"}
    stand_ins["orders"] = ToolServer("orders", command=("python", "orders.py"))
    assert seen[0]()["orders"].command == ("python", "orders.py")


def test_nothing_is_let_through_once_models_have_cost_what_they_may() -> None:
    log = CallLog()
    purse = Purse(100, log)
    source = OneGrant(GRANT, purse)
    purse.write(model_call("t1", 99))
    within = source.find("tk_key")
    purse.write(model_call("t1", 1))
    beyond = source.find("tk_key")

    assert within == GRANT
    assert beyond is not None
    assert beyond.stopped is not None
    assert MOST_DOLLARS in beyond.stopped
    assert source.find("tk_other") is None
    assert len(log.of("t1")) == 2


def test_a_suite_whose_models_have_cost_what_they_may_is_not_passed(tmp_path: Path) -> None:
    log = CallLog()
    gateway = SandboxGateway("tk_key", log, withheld=frozenset({"refund"}), purse=Purse(100, log))
    refused = SimpleNamespace(refused=Refusals(1))
    bench = SuiteBench(cast(Sandbox, refused), tmp_path, tmp_path, gateway)
    assert gateway.purse is not None
    gateway.purse.write(model_call("t1", 99))
    assert bench.find_breaches() == []
    gateway.purse.write(model_call("t1", 1))
    (breach,) = bench.find_breaches()
    assert breach.startswith("models have cost the 1e-07 dollars")


def test_what_models_may_cost_is_set_in_dollars(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(MOST_DOLLARS, raising=False)
    usual = most_nanos()
    monkeypatch.setenv(MOST_DOLLARS, "2.5")
    assert (usual, most_nanos()) == (50 * NANOS, 2.5 * NANOS)
    for wrong in ("much", "-1", "nan"):
        monkeypatch.setenv(MOST_DOLLARS, wrong)
        with pytest.raises(InvalidRequest, match=MOST_DOLLARS):
            most_nanos()


def test_calls_are_found_by_their_task_and_kept_without_what_was_said() -> None:
    log = CallLog()
    for call in (model_call("t1"), tool_call("t2"), tool_call("t1"), tool_call(None)):
        log.write(call)

    first, second = log.of("t1")
    assert isinstance(first, ModelCall)
    assert first.answer is None
    assert isinstance(second, ToolCall)
    assert (second.arguments, second.result) == (None, None)
    assert len(log.of(None)) == 1
    assert len(log.take()) == 4
    assert log.take() == ()
