"""What every reader of the database has: a connection, and two ways to ask it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any, TypeVar

from sqlalchemy import Connection, Select

from turnout.db import rows

Item = TypeVar("Item")
_MOST_VALUES = 500  # of an IN; databases bound the parameters of a statement


class Reads:
    """Reads on one connection."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def _one(self, query: Select[Any]) -> rows.Row | None:
        return self._connection.execute(query).mappings().one_or_none()

    def _all(self, query: Select[Any]) -> list[rows.Row]:
        return list(self._connection.execute(query).mappings())


def in_parts(values: Iterable[Item]) -> Iterator[list[Item]]:
    """The values in lists that are short enough for one statement."""
    rest = iter(values)
    while part := list(islice(rest, _MOST_VALUES)):
        yield part
