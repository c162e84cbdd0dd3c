"""Which models by which routes may answer a call. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from turnout.domain.budget import Amount, Budget, Unit
from turnout.domain.errors import CallRefused
from turnout.domain.grants import Grant, ModelPin
from turnout.gateway.failover import Candidate
from turnout.gateway.prices import PriceTable
from turnout.gateway.requests import Asked
from turnout.gateway.values import GatewayConfig

_COUNTED = frozenset((Unit.USD, Unit.TOKENS))


def find_pins(grant: Grant, model: str) -> tuple[ModelPin, ...]:
    """The pin that a name means, `model` or `provider/model`, and what may stand in for it, in order.

    Raises `CallRefused` for a model that the release does not list.
    """
    for number, pin in enumerate(grant.models):
        if model in (pin.name, f"{pin.provider}/{pin.name}"):
            return (pin, *grant.fallbacks) if number == 0 else (pin,)
    raise _not_allowed(grant, f"the model {model[:100]!r}")


def check_tool_models(grant: Grant, models: tuple[str, ...]) -> None:
    """Raise `CallRefused` for a model that a tool of the provider is to use, and that the release does not list."""
    for model in models:
        if all(model != pin.name for pin in grant.models):
            raise _not_allowed(grant, f"the model {model[:100]!r} of a tool")


def find_candidates(
    pins: tuple[ModelPin, ...], asked: Asked, config: GatewayConfig, prices: PriceTable
) -> tuple[Candidate, ...]:
    """Every route of the caller's protocol to the pins, in order. Raises `CallRefused` where there is none."""
    found = tuple(_candidates(pins, asked, config, prices))
    if found:
        return found
    provider, protocol = pins[0].provider, asked.endpoint.protocol
    if provider in config.providers:
        message = f"no route to {provider} speaks the protocol of {protocol}: add one to gateway.toml"
    else:
        message = f"there is no route to the provider {provider}: add [[providers.{provider}.routes]] to gateway.toml"
    raise CallRefused(message, status=503, code="no_route")


def keep_priced(candidates: tuple[Candidate, ...], budgets: tuple[Budget, ...]) -> tuple[Candidate, ...]:
    """Those whose cost can be bounded, where a budget counts dollars. Raises `CallRefused` where none is left."""
    if not any(budget.unit is Unit.USD for budget in budgets):
        return candidates
    priced = tuple(candidate for candidate in candidates if candidate.rates is not None)
    if priced:
        return priced
    pin = candidates[0].pin
    raise CallRefused(
        f"the price of {pin.provider}/{pin.name} is not known, and a budget in dollars applies: add"
        f' [prices."{pin.provider}/{pin.name}"] to gateway.toml',
        status=403,
        code="price_unknown",
    )


def is_limited(budgets: tuple[Budget, ...]) -> bool:
    """Whether tokens out have to have a limit."""
    return any(budget.unit in _COUNTED for budget in budgets)


def worst_case(asked: Asked, candidates: tuple[Candidate, ...]) -> Amount:
    """What the call takes at most, by whichever route."""
    nanos = tokens = 0
    for candidate in candidates:
        most_in = asked.demand.most_in(candidate.rates.window if candidate.rates else None)
        most_out = asked.demand.most_out(candidate.route.max_output)
        tokens = max(tokens, most_in + most_out)
        if candidate.rates is not None:
            nanos = max(nanos, candidate.rates.most(most_in, most_out))
    return Amount(nanos=nanos, tokens=tokens)


def _not_allowed(grant: Grant, what: str) -> CallRefused:
    listed = ", ".join(pin.name for pin in grant.models) or "none"
    return CallRefused(
        f"{what} is not in this release, which may call: {listed}; another one has to be added to [model] in its"
        " turnout.toml",
        status=403,
        code="model_not_allowed",
    )


def _candidates(
    pins: tuple[ModelPin, ...], asked: Asked, config: GatewayConfig, prices: PriceTable
) -> Iterator[Candidate]:
    for pin in pins:
        for route in config.providers.get(pin.provider, ()):
            if route.protocol is asked.endpoint.protocol:
                yield Candidate(pin, route, route.models.get(pin.name, pin.name), prices.rates(pin, asked.terms))
