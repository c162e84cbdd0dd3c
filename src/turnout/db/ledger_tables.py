"""The tables of the ledger, in a file of its own or beside others, and how values are written in them.

Amounts are JSON numbers, which have no end: an absurd limit is stored as it was given.
"""

from __future__ import annotations

import json
from json.encoder import encode_basestring_ascii as _quoted
from typing import Any

from sqlalchemy import Column, Connection, Float, Index, Integer, MetaData, Table, Text, insert, inspect, select, text

from turnout.domain.budget import Balance, Charge, Hold, Unit, over_at
from turnout.domain.errors import SetupFailed

VERSION = 1
metadata = MetaData()

accounts = Table(
    "ledger_accounts",
    metadata,
    Column("name", Text, primary_key=True),
    Column("balance", Text, nullable=False),
    Column("over_at", Float),  # when it can be forgotten; not while something is held on it
    sqlite_with_rowid=False,
)

holds = Table(
    "ledger_holds",
    metadata,
    Column("call", Text, primary_key=True),
    Column("until", Float, nullable=False),  # no index: of calls under way there are few, and each would pay for it
    Column("charges", Text, nullable=False),
    sqlite_with_rowid=False,
)

# Not on SQLite: every order would pay for it, and a look at all accounts a minute costs less.
_by_end = Index("ix_ledger_accounts_over_at", accounts.c.over_at).ddl_if(dialect="postgresql")

schema = Table("ledger_schema", metadata, Column("version", Integer, primary_key=True))


def create_tables(connection: Connection) -> None:
    """Make what is missing. Raises `SetupFailed` for a ledger that a newer turnout wrote."""
    if inspect(connection).has_table(schema.name):
        version = connection.execute(select(schema.c.version)).scalar_one()
        if version > VERSION:
            raise SetupFailed(
                f"the ledger at {connection.engine.url.render_as_string()} was written by a newer turnout "
                f"(version {version} of its tables; this one knows {VERSION})",
                hint="start the newer version",
            )
        if connection.dialect.name == "sqlite":  # made by a former turnout
            connection.execute(text(f"DROP INDEX IF EXISTS {_by_end.name}"))
        return
    metadata.create_all(connection)
    connection.execute(insert(schema), {"version": VERSION})


def balance_to_row(name: str, balance: Balance) -> tuple[Any, ...]:
    """In the order of the columns, as `balance_from_json` reads it."""
    window = "null" if balance.window is None else repr(balance.window)
    steps = ", ".join([f"[{step}, {amount}]" for step, amount in balance.steps])  # by hand: twice as quick as json
    text = f"[{window}, [{steps}], {balance.held}, {balance.limit}, {balance.at!r}]"
    return name, text, over_at(name, balance)


def balance_from_json(text: str) -> Balance:
    """The inverse of `balance_to_row`."""
    window, steps, held, limit, at = json.loads(text)
    return Balance(window, tuple((step, amount) for step, amount in steps), held, limit, at)


def hold_to_row(call: str, hold: Hold) -> tuple[Any, ...]:
    """In the order of the columns, as `hold_from_row` reads it."""
    charges = ", ".join([f'[{_quoted(one.account)}, "{one.unit}", {one.amount}]' for one in hold.charges])
    return call, hold.until, f"[{charges}]"


def hold_from_row(until: float, charges: str) -> Hold:
    """The inverse of `hold_to_row`."""
    return Hold(until, tuple(Charge(account, Unit(unit), amount) for account, unit, amount in json.loads(charges)))
