"""What calls cost: the table of the installed `genai-prices`, and over it the prices of the configuration.

Nothing is fetched: a price changes with an update of the package or of the configuration, and the digest of both is in the
record of every call.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from decimal import ROUND_CEILING, Decimal
from functools import cache, partial
from pathlib import Path
from typing import Any, Protocol

from turnout.domain.budget import NANOS
from turnout.domain.grants import ModelPin
from turnout.gateway.protocols.usage import Usage
from turnout.gateway.values import Price

Terms = tuple[tuple[str, str], ...]  # of a call, such as (("service_tier", "priority"),)
_CostOf = Callable[[Usage], Decimal]  # in dollars

FRESH = 60.0  # seconds for which a price of the table is kept: some depend on the time of the day
MILLION = 1_000_000
_TERMS = (("service_tier", ("default", "fast", "flex", "priority")), ("speed", ("fast",)))


@dataclass(frozen=True, slots=True)
class Rates:
    """What a model costs at most, in nano-dollars a token, and how long its input may be in tokens, where that is known.

    `nanos_in` is the dearest of all ways in (written to a cache, beyond a long context), `nanos_out` of all ways out.
    """

    nanos_in: Decimal
    nanos_out: Decimal
    window: int | None = None

    def most(self, tokens_in: int, tokens_out: int) -> int:
        """Nano-dollars at most."""
        return _whole(self.nanos_in * tokens_in + self.nanos_out * tokens_out)


class Said(Protocol):
    """A request or an answer."""

    def get(self, name: str, /) -> Any:
        """A member of it; None where it is not there."""


class PriceTable:
    """Prices of models by pin. `own` is by `provider/model`."""

    def __init__(self, own: Mapping[str, Price]) -> None:
        self._own = dict(own)
        self._found: dict[tuple[ModelPin, Terms], tuple[float, Rates | None, _CostOf | None]] = {}
        lines = {name: asdict(price) for name, price in sorted(self._own.items())}
        text = f"{_table_digest()}\n{json.dumps(lines, sort_keys=True)}" if lines else _table_digest()
        self.digest = "sha256:" + hashlib.sha256(text.encode()).hexdigest() if lines else _table_digest()

    def rates(self, pin: ModelPin, terms: Terms = ()) -> Rates | None:
        """The most that a model can cost on the terms of a call; None where no price is known."""
        return self._find(pin, terms)[0]

    def cost(self, pin: ModelPin, usage: Usage, terms: Terms = ()) -> int | None:
        """Nano-dollars, rounded up; None where no price is known."""
        own = self._own.get(f"{pin.provider}/{pin.name}")
        if own is not None:
            cached = own.input if own.cached is None else own.cached
            dollars = (
                own.input * (usage.tokens_in - usage.cached) + cached * usage.cached + own.output * usage.tokens_out
            )
            return _whole(Decimal(repr(dollars)) * NANOS / MILLION)
        cost_of = self._find(pin, terms)[1]
        return None if cost_of is None else _whole(cost_of(usage) * NANOS)

    def _find(self, pin: ModelPin, terms: Terms) -> tuple[Rates | None, _CostOf | None]:
        now = time.monotonic()
        kept = self._found.get((pin, terms))
        if kept is None or kept[0] < now - FRESH:
            rates, cost_of = self._look_up(pin, terms)
            kept = self._found[pin, terms] = (now, rates, cost_of)
        return kept[1], kept[2]

    def _look_up(self, pin: ModelPin, terms: Terms) -> tuple[Rates | None, _CostOf | None]:
        window, price = _find_in_table(pin, terms)
        own = self._own.get(f"{pin.provider}/{pin.name}")
        if own is not None:
            dearest = max(own.input, own.cached or 0.0)
            return Rates(_per_token(Decimal(repr(dearest))), _per_token(Decimal(repr(own.output))), window), None
        if price is None:
            return None, None
        return Rates(_dearest(price, "input", "cache"), _dearest(price, "output"), window), _cost_of(price)


def read_terms(said: Said) -> Terms:
    """What a request or an answer says of the terms that prices depend on. Pure."""
    return tuple((name, value) for name, known in _TERMS if (value := said.get(name)) in known)


def _find_in_table(pin: ModelPin, terms: Terms) -> tuple[int | None, Any]:
    """The context window and the price that counts now, of a model that the table knows."""
    from genai_prices.data_snapshot import get_snapshot

    try:
        _, model = get_snapshot().find_provider_model(pin.name, None, pin.provider.lower(), None)
    except LookupError:
        return None, None
    return model.context_window, model.get_prices(datetime.now(UTC), dict(terms))


def _cost_of(price: Any) -> _CostOf:
    """Dollars of a usage. Where every token of a kind costs the same, the table is asked once for each kind."""
    if any(hasattr(value, "tiers") for value in vars(price).values()):
        return partial(_calculate, price)
    many = MILLION
    plain, out = _calculate(price, Usage(tokens_in=many)), _calculate(price, Usage(tokens_out=many))
    cached = _calculate(price, Usage(tokens_in=many, cached=many))
    written = _calculate(price, Usage(tokens_in=many, written=many))
    written_long = _calculate(price, Usage(tokens_in=many, written=many, written_long=many))

    def cost(usage: Usage) -> Decimal:
        dollars = (
            plain * (usage.tokens_in - usage.cached - usage.written) + cached * usage.cached + out * usage.tokens_out
        )
        dollars += written * (usage.written - usage.written_long) + written_long * usage.written_long
        return dollars / many

    return cost


def _calculate(price: Any, usage: Usage) -> Decimal:
    """Dollars."""
    from genai_prices import Usage as PricedUsage

    parts = {
        "input_tokens": usage.tokens_in,
        "cache_read_tokens": usage.cached,
        "cache_write_tokens": usage.written,
        "cache_write_1h_tokens": usage.written_long,
        "output_tokens": usage.tokens_out,
    }
    counted = PricedUsage(**{name: count for name, count in parts.items() if count})
    return Decimal(price.calc_price(counted)["total_price"])


def _dearest(price: Any, *directions: str) -> Decimal:
    found = [Decimal(0)]
    for name, value in vars(price).items():
        if value is not None and name.endswith("_mtok") and name.startswith(directions):
            found += [tier.price for tier in value.tiers] + [value.base] if hasattr(value, "tiers") else [value]
    return _per_token(max(found))


def _per_token(dollars_of_million: Decimal) -> Decimal:
    return dollars_of_million * NANOS / MILLION


def _whole(nanos: Decimal) -> int:
    return int(nanos.to_integral_value(ROUND_CEILING))


@cache
def _table_digest() -> str:
    """Of the table as it is installed."""
    import genai_prices.data

    return "sha256:" + hashlib.sha256(Path(genai_prices.data.__file__).read_bytes()).hexdigest()
