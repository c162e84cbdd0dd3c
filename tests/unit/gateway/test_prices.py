from __future__ import annotations

from decimal import Decimal

import pytest

from turnout.domain.budget import NANOS
from turnout.domain.grants import ModelPin
from turnout.gateway.prices import PriceTable, read_terms
from turnout.gateway.protocols.usage import Usage
from turnout.gateway.values import Price

GPT = ModelPin("openai", "gpt-4o-2024-08-06")
CLAUDE = ModelPin("anthropic", "claude-haiku-4-5-20251001")
LOCAL = ModelPin("local", "gemma")


def test_a_call_costs_what_the_table_says() -> None:
    usage = Usage(tokens_in=1_000_000, cached=400_000, tokens_out=100_000)
    assert PriceTable({}).cost(GPT, usage) == (0.6 * 2.5 + 0.4 * 1.25 + 0.1 * 10) * NANOS


def test_what_is_written_to_a_cache_costs_more() -> None:
    table = PriceTable({})
    plain = table.cost(CLAUDE, Usage(tokens_in=100_000))
    written = table.cost(CLAUDE, Usage(tokens_in=100_000, written=100_000))
    for_long = table.cost(CLAUDE, Usage(tokens_in=100_000, written=100_000, written_long=100_000))
    assert plain is not None
    assert written == plain * 5 // 4
    assert for_long == plain * 2


@pytest.mark.parametrize("pin", [GPT, CLAUDE])
@pytest.mark.parametrize(
    "usage",
    [
        Usage(tokens_in=300_000, tokens_out=8_000),
        Usage(tokens_in=300_000, written=300_000, written_long=300_000, tokens_out=8_000),
        Usage(tokens_in=300_000, cached=300_000, tokens_out=8_000, reasoning=8_000),
        Usage(tokens_in=1, tokens_out=0),
    ],
)
def test_no_call_costs_more_than_its_worst_case(pin: ModelPin, usage: Usage) -> None:
    table = PriceTable({})
    rates, cost = table.rates(pin), table.cost(pin, usage)
    assert rates is not None
    assert cost is not None
    assert 0 < cost <= rates.most(usage.tokens_in, usage.tokens_out)


def test_the_window_of_a_model_is_known() -> None:
    rates = PriceTable({}).rates(GPT)
    assert rates is not None
    assert rates.window == 128_000


def test_a_price_of_the_configuration_goes_over_the_table() -> None:
    table = PriceTable({"local/gemma": Price(0.05, 0.10), "openai/gpt-4o-2024-08-06": Price(1, 2, cached=0.5)})
    assert table.cost(LOCAL, Usage(tokens_in=1_000_000, cached=1_000_000, tokens_out=500_000)) == NANOS // 10
    assert table.cost(GPT, Usage(tokens_in=1_000_000, cached=500_000, tokens_out=0)) == NANOS * 3 // 4
    rates = table.rates(LOCAL)
    assert rates is not None
    assert rates.nanos_out == Decimal(100)


def test_an_unknown_model_has_no_price() -> None:
    table = PriceTable({})
    assert table.rates(LOCAL) is None
    assert table.cost(LOCAL, Usage(tokens_in=1)) is None
    assert table.rates(ModelPin("openai", "no-such-model")) is None


def test_the_digest_changes_with_the_prices() -> None:
    digests = {PriceTable(own).digest for own in ({}, {"a/b": Price(1, 1)}, {"a/b": Price(1, 2)})}
    assert len(digests) == 3
    assert all(digest.startswith("sha256:") for digest in digests)
    assert PriceTable({}).digest == PriceTable({}).digest


def test_a_call_that_is_served_first_costs_more() -> None:
    table, pin, usage = PriceTable({}), ModelPin("openai", "gpt-5"), Usage(tokens_in=1_000, tokens_out=1_000)
    terms = read_terms({"service_tier": "priority", "speed": "no such", "model": "gpt-5"})
    assert terms == (("service_tier", "priority"),)
    plain, first = table.cost(pin, usage), table.cost(pin, usage, terms)
    assert plain is not None
    assert first is not None
    assert first > plain
    rates = table.rates(pin, terms)
    assert rates is not None
    assert rates.most(1_000, 1_000) >= first
