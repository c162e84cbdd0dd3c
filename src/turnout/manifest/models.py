"""Names of models: which of them change their meaning, and the dated name to pin instead.

What is known comes from the price table of the installed `genai-prices`, as it was published: nothing is fetched. The table
is read when a name is asked about, not when this module is imported.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from genai_prices.types import MatchLogic, ModelInfo, Provider

_LATEST = re.compile(r"(?:^|[-:@/._])latest$")
_FULL_DATE = r"20\d{2}-\d{2}-\d{2}|20\d{6}|\d{2}-20\d{2}"
_SHORT_DATE = r"\d{4}"
# Those whose own names end in four digits (0613, 2411), and mean a date by them. Elsewhere such digits tell two models
# with open weights apart, of which neither changes.
_SHORT_DATED = frozenset({"openai", "mistral", "x-ai"})
_SEPARATORS = {"google": "@"}  # Vertex writes claude-haiku-4-5@20251001


def is_floating(provider: str, name: str) -> bool:
    """Whether a name means another model later: one that says "latest", or an alias of a dated name that the table knows.

    A model of a provider that the table does not know, such as a local one, floats only by "latest".
    """
    return _says_latest(name) or dated_name(provider, name) is not None


def dated_name(provider: str, name: str) -> str | None:
    """The newest dated name that the table knows for an alias; None for a name that is no alias, or an unknown one."""
    return _dated_name(provider.strip().lower(), name.strip().lower())


def floating_fault(provider: str, name: str) -> str | None:
    """A sentence that says what is wrong with a floating name and what to pin; None for one that does not float."""
    if not is_floating(provider, name):
        return None
    dated = dated_name(provider, name)
    pin = f'pin a dated snapshot such as "{dated}"' if dated else "pin a dated snapshot"
    return f'the model "{name}" of {provider} floats: {pin}'


def _says_latest(name: str) -> bool:
    return _LATEST.search(name.strip().lower()) is not None


@cache
def _dated_name(provider: str, name: str) -> str | None:
    found = _find_provider(provider)
    if found is None:
        return None
    stem = _LATEST.sub("", name)
    model = found.find_model(name)
    everywhere = _newest(_dated_in(_names(found.models), stem, short=found.id in _SHORT_DATED))
    if _says_latest(name) and everywhere:
        return everywhere
    beside = _newest(_dated_in(_names([model]), stem, short=found.id in _SHORT_DATED)) if model else None
    return beside or everywhere or (_dated_elsewhere(found, model, stem) if model else None)


def _dated_elsewhere(provider: Provider, model: ModelInfo, stem: str) -> str | None:
    """A date that others give the same model. `claude-sonnet-4-0` stands for `claude-sonnet-4-20250514`."""
    separator = _SEPARATORS.get(provider.id, "-")
    for short_stem in dict.fromkeys((stem, stem.removesuffix("-0"))):
        names = (f"{short_stem}{separator}{date}" for date in sorted(_dates_elsewhere(short_stem), reverse=True))
        found = next((name for name in names if provider.find_model(name) is model), None)
        if found:
            return found
    return None


def _dates_elsewhere(stem: str) -> set[str]:
    pattern = re.compile(rf"(?:^|[./]){re.escape(stem)}[-@]({_FULL_DATE})(?:-v\d+(?::\d+)?)?$")
    return {match[1] for name in _all_names() if (match := pattern.search(name))}


def _dated_in(names: Iterable[str], stem: str, *, short: bool) -> Iterator[tuple[str, str]]:
    """(date, name) of those names that are the stem and a date."""
    pattern = re.compile(rf"{re.escape(stem)}[-@]({_FULL_DATE}{'|' + _SHORT_DATE if short else ''})")
    return ((match[1], name) for name in names if (match := pattern.fullmatch(name)))


def _newest(dated: Iterable[tuple[str, str]]) -> str | None:
    return max(((_sortable(date), name) for date, name in dated), default=("", None))[1]


def _sortable(date: str) -> str:
    """Year first, for those that are written as month-year."""
    month, _, year = date.partition("-")
    return f"{year}{month}" if len(month) == 2 else date.replace("-", "")


# --- the table -------------------------------------------------------------------------------------------------------


@cache
def _providers() -> tuple[Provider, ...]:
    from genai_prices.data import providers

    return tuple(providers)


def _find_provider(name: str) -> Provider | None:
    from genai_prices.data_snapshot import find_provider_by_id

    return find_provider_by_id(list(_providers()), name)


@cache
def _all_names() -> frozenset[str]:
    return frozenset(name for provider in _providers() for name in _names(provider.models))


def _names(models: Iterable[ModelInfo]) -> Iterator[str]:
    """Every name that the entries of models spell out."""
    for model in models:
        yield model.id.lower()
        yield from _spelled(model.match)


def _spelled(clause: MatchLogic) -> Iterator[str]:
    for part in (*getattr(clause, "or_", ()), *getattr(clause, "and_", ())):
        yield from _spelled(part)
    for field in ("equals", "starts_with", "contains", "ends_with"):
        if text := getattr(clause, field, None):
            yield text.lower()
