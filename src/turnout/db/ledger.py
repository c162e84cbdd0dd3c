"""ports.Ledger on SQLAlchemy: an SQLite file or PostgreSQL, shared by all processes of the gateway.

One writer at a time loads the accounts and holds that its orders name, decides in memory, and writes what changed; all in
one transaction. What was answered is there when a process is killed. A power cut can take the last moments of an SQLite
file with it: it waits for the disk at checkpoints alone, so that a call waits for none. Orders on SQLite are written by
`ledger_sqlite`.
"""

from __future__ import annotations

import math
import sqlite3
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import Any, TypeVar

from sqlalchemy import (
    URL,
    Connection,
    Engine,
    Select,
    bindparam,
    create_engine,
    delete,
    event,
    func,
    make_url,
    select,
    text,
    update,
)
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import ArgumentError, DBAPIError, SQLAlchemyError

from turnout.db.ledger_book import Book
from turnout.db.ledger_sqlite import SqliteOrders, take_lock
from turnout.db.ledger_tables import accounts, balance_from_json, create_tables, hold_from_row, holds
from turnout.db.reads import in_parts
from turnout.domain import budget
from turnout.domain.budget import (
    Amount,
    Budget,
    Order,
    Refusal,
    Reserve,
    Settle,
    Spender,
    plan_order,
    plan_reap,
    settled,
)
from turnout.domain.errors import LedgerUnavailable, SetupFailed, StorageFull
from turnout.ports import Account

_AT_ONCE = 500  # holds that one transaction reaps
_LOOK_EVERY = 60.0  # seconds, for accounts that can be forgotten: all of them are looked at
_LOCK = 0x7475726E6F7574  # "turnout": the advisory lock of the writers on PostgreSQL
# The clock of the database, read once the lock is held: gateways on other machines then agree about windows.
_LOCK_AND_TELL_TIME = text(
    "WITH locked AS MATERIALIZED (SELECT pg_advisory_xact_lock(:key)) "
    "SELECT extract(epoch FROM clock_timestamp())::float8 FROM locked"
).bindparams(key=_LOCK)
_TELL_TIME = text("SELECT extract(epoch FROM clock_timestamp())::float8")
_FIND_BALANCES = select(accounts.c.name, accounts.c.balance).where(
    accounts.c.name.in_(bindparam("names", expanding=True))
)
_FIND_HOLDS = select(holds.c.call, holds.c.until, holds.c.charges).where(
    holds.c.call.in_(bindparam("calls", expanding=True))
)
_FIND_LATE = (
    select(holds.c.call, holds.c.until, holds.c.charges).where(holds.c.until <= bindparam("now")).limit(_AT_ONCE)
)
_END_HOLD = delete(holds).where(holds.c.call == bindparam("ended"))
_FIND_OVER = select(accounts.c.name).where(accounts.c.over_at <= bindparam("now")).limit(1)
_COUNT = select(func.count()).select_from(accounts)
_FORGET = delete(accounts).where(accounts.c.over_at <= bindparam("now"))

Result = TypeVar("Result")


def open_ledger(url: str, clock: Callable[[], float] | None = None, *, patience: float = 5.0) -> SqlLedger:
    """The ledger at a database URL, made where there is none. Without a `clock` PostgreSQL tells the time for all.

    `patience`: seconds that a writer waits for the others, and that one which stands still keeps them waiting.
    Raises `SetupFailed` where there is something else, or what a newer turnout wrote; `LedgerUnavailable`.
    """
    engine = _open_engine(url, patience)
    ledger = SqlLedger(engine, clock, patience)
    try:
        ledger.create()
    except BaseException:
        engine.dispose()
        raise
    return ledger


class SqlLedger:
    """The accounts of the gateway in a database."""

    def __init__(self, engine: Engine, clock: Callable[[], float] | None = None, patience: float = 5.0) -> None:
        self._engine = engine
        self._postgresql = engine.dialect.name == "postgresql"
        self._clock = clock if clock is not None or self._postgresql else time.time
        self._lock = threading.Lock()  # fairer to the threads of one process than the lock of a database
        self._looked = -math.inf  # when accounts that can be forgotten were looked for
        self._orders = None if self._postgresql else SqliteOrders(engine, self._clock or time.time, patience)
        dialect: Any = postgresql if self._postgresql else sqlite
        save = dialect.insert(accounts)
        self._save_balance = save.on_conflict_do_update(
            index_elements=["name"], set_={"balance": save.excluded.balance, "over_at": save.excluded.over_at}
        )
        self._add_hold = dialect.insert(holds)

    def create(self) -> None:
        """Make the tables where they are missing. Raises `SetupFailed`."""
        try:
            self._transact(lambda connection, _: create_tables(connection))
        except LedgerUnavailable as error:
            if "not a database" not in error.message:
                raise
            raise SetupFailed(
                f"there is something else than a ledger at {self._engine.url.render_as_string()}: {error.message}",
                hint="move the file away: budgets then begin anew",
            ) from error

    def close(self) -> None:
        """Give back the connections."""
        with self._lock:
            if self._orders is not None:
                self._orders.close()
        self._engine.dispose()

    def reserve(
        self, call: str, spender: Spender, budgets: Sequence[Budget], most: Amount, until: float
    ) -> Refusal | None:
        """Hold the worst case of a call, or say which budget is in the way."""
        return self.write((Reserve(call, spender, tuple(budgets), most, until),))[0]

    def settle(self, call: str, spent: Amount) -> None:
        """End the hold of a call."""
        self.write((Settle(call, spent),))

    def write(self, orders: Sequence[Order]) -> tuple[Refusal | None, ...]:
        """Many orders in one transaction."""
        if not orders:
            return ()
        orders = tuple(orders)
        if self._orders is None:
            return self._transact(lambda connection, now: self._decide(connection, orders, now))
        with self._lock, _translated():
            answers = self._orders.write(orders, at_once=False)
        with _translated():
            self._orders.tidy()
        return answers or ()

    def write_at_once(self, orders: Sequence[Order]) -> tuple[Refusal | None, ...] | None:
        """The same, where it takes no waiting: on SQLite, while nobody else writes."""
        if self._orders is None or not self._lock.acquire(blocking=False):
            return None
        try:
            return self._orders.write(orders, at_once=True)
        except sqlite3.Error as error:
            raise _translate(error) from error
        finally:
            self._lock.release()

    def extend(self, calls: Iterable[str], until: float) -> None:
        """Let holds count for longer."""
        named = list(calls)
        if named:
            self._transact(lambda connection, now: _extend(connection, named, until + self._ahead(now)))

    def reap(self) -> int:
        """Settle in full what nobody settled in time, and forget what is over. Takes no lock where there is nothing."""
        reaped = 0
        while self._finds(_FIND_LATE):
            found = self._transact(self._reap)
            reaped += found
            if found < _AT_ONCE:
                break
        now = (self._clock or time.time)()
        if not 0 <= now - self._looked < _LOOK_EVERY:
            self._looked = now
            self._forget()
        return reaped

    def accounts(self) -> tuple[Account, ...]:
        """Every account, by name."""
        with _translated(), self._engine.connect() as connection:
            now = self._now(connection)
            found = connection.execute(select(accounts.c.name, accounts.c.balance).order_by(accounts.c.name))
            balances = [(name, balance_from_json(balance)) for name, balance in found]
        return tuple(
            Account(name, settled(balance, now), balance.held, balance.limit) for name, balance in sorted(balances)
        )

    def _transact(self, work: Callable[[Connection, float], Result]) -> Result:
        """`work` in a transaction that no other writer is beside, with the time in it."""
        with self._lock, _translated():
            try:
                return self._transact_once(work)
            except DBAPIError as error:
                if not error.connection_invalidated:
                    raise
            return self._transact_once(work)  # the database was restarted; asked twice, an order still counts once

    def _transact_once(self, work: Callable[[Connection, float], Result]) -> Result:
        with self._engine.connect() as connection:
            now = self._begin(connection)
            result = work(connection, now)
            connection.commit()
            return result

    def _begin(self, connection: Connection) -> float:
        """Take the lock of the writers. Returns the time since when it is held."""
        if self._postgresql:
            now: float = connection.execute(_LOCK_AND_TELL_TIME).scalar_one()
            return now if self._clock is None else self._clock()
        connection.execution_options(turnout_write=True)
        connection.begin()
        return self._now(connection)

    def _now(self, connection: Connection) -> float:
        now: float = connection.execute(_TELL_TIME).scalar_one() if self._clock is None else self._clock()
        return now

    def _decide(self, connection: Connection, orders: Sequence[Order], now: float) -> tuple[Refusal | None, ...]:
        book = _load(connection, orders)
        ahead = self._ahead(now)
        answers = tuple(book.take(plan_order(_later(order, ahead), book.balances, book.holds, now)) for order in orders)
        self._save(connection, book)
        return answers

    def _ahead(self, now: float) -> float:
        """Seconds that the clock of the database is ahead of that of this machine, by which a hold's end was told.

        Both ends of a lease have to be told by one clock: else a machine whose clock is late has its holds reaped at once.
        """
        return now - time.time() if self._clock is None else 0.0

    def _forget(self) -> None:
        if self._finds(_FIND_OVER):
            self._transact(lambda connection, now: connection.execute(_FORGET, {"now": now}))
        if self._is_crowded():
            self._transact(lambda connection, _: _forget_surplus(connection))

    def _finds(self, query: Select[Any]) -> bool:
        with _translated(), self._engine.connect() as connection:
            return connection.execute(query, {"now": self._now(connection)}).first() is not None

    def _is_crowded(self) -> bool:
        with _translated(), self._engine.connect() as connection:
            return connection.execute(_COUNT).scalar_one() > budget.MOST_TASKS

    def _reap(self, connection: Connection, now: float) -> int:
        book = Book()
        for call, until, charges in connection.execute(_FIND_LATE, {"now": now}):
            book.holds[call] = hold_from_row(until, charges)
        _load_balances(connection, book, {charge.account for hold in book.holds.values() for charge in hold.charges})
        change = plan_reap(book.balances, book.holds, now)
        book.take(change)
        self._save(connection, book)
        return len(change.holds)

    def _save(self, connection: Connection, book: Book) -> None:
        statements = (_END_HOLD, self._save_balance, self._add_hold)
        names = (("ended",), accounts.c.keys(), holds.c.keys())
        for statement, columns, rows in zip(statements, names, book.rows(), strict=True):
            if rows:
                connection.execute(statement, [dict(zip(columns, row, strict=True)) for row in rows])


def _later(order: Order, seconds: float) -> Order:
    return replace(order, until=order.until + seconds) if isinstance(order, Reserve) and seconds else order


def _load(connection: Connection, orders: Sequence[Order]) -> Book:
    book = Book()
    for part in in_parts({order.call for order in orders}):
        for call, until, charges in connection.execute(_FIND_HOLDS, {"calls": part}):
            book.holds[call] = hold_from_row(until, charges)
    _load_balances(connection, book, book.named(orders))
    return book


def _forget_surplus(connection: Connection) -> None:
    ends: dict[str, float | None] = {
        row.name: row.over_at for row in connection.execute(select(accounts.c.name, accounts.c.over_at))
    }
    for part in in_parts(budget.find_surplus(ends)):
        connection.execute(delete(accounts).where(accounts.c.name.in_(part)))


def _load_balances(connection: Connection, book: Book, names: Iterable[str]) -> None:
    for part in in_parts(names):
        for name, balance in connection.execute(_FIND_BALANCES, {"names": part}):
            book.balances[name] = balance_from_json(balance)


def _extend(connection: Connection, calls: Sequence[str], until: float) -> None:
    for part in in_parts(calls):
        later = update(holds).where(holds.c.call.in_(part), holds.c.until < until)
        connection.execute(later.values(until=until))


def _open_engine(url: str, patience: float) -> Engine:
    try:
        parsed = make_url(url)
        if parsed.get_backend_name() == "sqlite":
            return _open_sqlite(parsed, patience)
        if parsed.get_backend_name() == "postgresql":
            return _open_postgresql(parsed, patience)
    except ArgumentError:
        pass  # as any other that is not known
    except ModuleNotFoundError as error:
        raise SetupFailed(
            f"a ledger in PostgreSQL needs the package {error.name}", hint="install psycopg[binary] beside turnout"
        ) from error
    raise SetupFailed(
        "this is not the URL of a ledger, which is in SQLite or PostgreSQL",
        hint="such as sqlite:////var/lib/turnout/gateway/ledger.db, or postgresql://user@host/database",
    )


def _open_sqlite(url: URL, patience: float) -> Engine:
    engine = create_engine(url, pool_size=4)
    event.listen(engine, "connect", partial(_set_up_sqlite, round(patience * 1000)))
    event.listen(engine, "begin", partial(_begin_sqlite, patience))
    return engine


def _open_postgresql(url: URL, patience: float) -> Engine:
    timeouts = ("statement_timeout", "lock_timeout", "idle_in_transaction_session_timeout")
    return create_engine(
        url.set(drivername="postgresql+psycopg"),
        pool_size=4,
        connect_args={
            "connect_timeout": max(2, math.ceil(patience)),  # less is taken as 2 s
            "options": " ".join(f"-c {timeout}={round(patience * 1000)}" for timeout in timeouts),
        },
    )


def _set_up_sqlite(milliseconds: int, connection: Any, _record: object) -> None:
    connection.isolation_level = None  # SQLAlchemy begins transactions (see _begin_sqlite), not the driver
    cursor = connection.cursor()
    for pragma in (f"busy_timeout={milliseconds}", "journal_mode=WAL", "synchronous=NORMAL", "busy_timeout=0"):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _begin_sqlite(patience: float, connection: Connection) -> None:
    if not connection.get_execution_options().get("turnout_write", False):
        connection.exec_driver_sql("BEGIN")
        return
    driver: Any = connection.connection.driver_connection
    take_lock(driver, patience)


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except (SQLAlchemyError, sqlite3.Error) as error:
        raise _translate(error) from error


def _translate(error: Exception) -> LedgerUnavailable | StorageFull:
    reason = str(getattr(error, "orig", None) or error)
    if "disk is full" in reason or "No space left" in reason:
        return StorageFull(
            f"the disk of the ledger is full: {reason}", hint="free some space; calls that no budget applies to go on"
        )
    return LedgerUnavailable(f"the ledger cannot be used just now: {reason}", hint="try again in a moment")
