"""ports.Ledger on SQLAlchemy: an SQLite file or PostgreSQL, shared by all processes of the gateway.

One writer at a time loads the accounts and holds that its orders name, decides in memory, and writes what changed; all in
one transaction. What was answered is there when a process is killed. A power cut can take the last moments of an SQLite
file with it: it waits for the disk at checkpoints alone, so that a call waits for none.

Orders on SQLite go to the driver by statements that were compiled once: SQLAlchemy would take three times as long for each
as the database, and every call of a model waits for them.
"""

from __future__ import annotations

import math
import random
import sqlite3
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, TypeVar

from sqlalchemy import URL, Connection, Engine, bindparam, create_engine, delete, event, make_url, select, text, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import ArgumentError, DBAPIError, SQLAlchemyError

from turnout.db.ledger_tables import (
    accounts,
    balance_from_json,
    balance_to_row,
    create_tables,
    hold_from_row,
    hold_to_row,
    holds,
)
from turnout.db.reads import in_parts
from turnout.domain.budget import (
    Amount,
    Balance,
    Budget,
    Change,
    Hold,
    Order,
    Refusal,
    Reserve,
    Settle,
    Spender,
    account_of,
    plan_order,
    plan_reap,
    settled,
)
from turnout.domain.errors import LedgerUnavailable, SetupFailed, StorageFull
from turnout.ports import Account

_AT_ONCE = 500  # holds that one transaction reaps
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
_FIND_BALANCE = select(accounts.c.balance).where(accounts.c.name == bindparam("name"))
_FIND_HOLD = select(holds.c.until, holds.c.charges).where(holds.c.call == bindparam("call"))
_FIND_OVER = select(accounts.c.name).where(accounts.c.over_at <= bindparam("now")).limit(1)
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
        self._patience = patience
        self._driver: Any = None  # a connection of SQLite for orders alone
        dialect: Any = postgresql if self._postgresql else sqlite
        save = dialect.insert(accounts)
        self._save_balance = save.on_conflict_do_update(
            index_elements=["name"], set_={"balance": save.excluded.balance, "over_at": save.excluded.over_at}
        )
        self._add_hold = dialect.insert(holds)
        self._compiled = {
            name: str(statement.compile(dialect=sqlite.dialect()))
            for name, statement in (
                ("find balance", _FIND_BALANCE),
                ("find hold", _FIND_HOLD),
                ("end hold", _END_HOLD),
                ("save balance", self._save_balance),
                ("add hold", self._add_hold),
            )
        }

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
            if self._driver is not None:
                self._driver.close()
                self._driver = None
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
        if self._postgresql:
            return self._transact(lambda connection, now: self._decide(connection, orders, now))
        with self._lock, _translated():
            return self._write_to_driver(orders)

    def extend(self, calls: Iterable[str], until: float) -> None:
        """Let holds count for longer."""
        named = list(calls)
        if named:
            self._transact(lambda connection, _: _extend(connection, named, until))

    def reap(self) -> int:
        """Settle in full what nobody settled in time, and forget what is over. Takes no lock where there is nothing."""
        reaped = 0
        while self._has_chores():
            found = self._transact(self._reap)
            reaped += found
            if found < _AT_ONCE:
                break
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
        answers = tuple(book.take(plan_order(order, book.balances, book.holds, now)) for order in orders)
        self._save(connection, book)
        return answers

    def _write_to_driver(self, orders: Sequence[Order]) -> tuple[Refusal | None, ...]:
        """`_decide` on SQLite."""
        if self._driver is None:
            self._driver = self._engine.raw_connection()
        driver = self._driver.driver_connection
        _take_lock(driver, self._patience)
        try:
            book = _Book()
            for call in {order.call for order in orders}:
                for row in driver.execute(self._compiled["find hold"], (call,)):
                    book.holds[call] = hold_from_row(*row)
            for name in _named(orders, book):
                for row in driver.execute(self._compiled["find balance"], (name,)):
                    book.balances[name] = balance_from_json(*row)
            now = time.time() if self._clock is None else self._clock()
            answers = tuple(book.take(plan_order(order, book.balances, book.holds, now)) for order in orders)
            for what, rows in zip(("end hold", "save balance", "add hold"), book.rows(), strict=True):
                if rows:
                    driver.executemany(self._compiled[what], [tuple(row.values()) for row in rows])
            driver.execute("COMMIT")
        except BaseException:
            if driver.in_transaction:
                driver.execute("ROLLBACK")
            raise
        return answers

    def _has_chores(self) -> bool:
        with _translated(), self._engine.connect() as connection:
            now = {"now": self._now(connection)}
            return any(connection.execute(query, now).first() is not None for query in (_FIND_LATE, _FIND_OVER))

    def _reap(self, connection: Connection, now: float) -> int:
        book = _Book()
        for call, until, charges in connection.execute(_FIND_LATE, {"now": now}):
            book.holds[call] = hold_from_row(until, charges)
        book.load_balances(connection, {charge.account for hold in book.holds.values() for charge in hold.charges})
        change = plan_reap(book.balances, book.holds, now)
        book.take(change)
        self._save(connection, book)
        connection.execute(_FORGET, {"now": now})
        return len(change.holds)

    def _save(self, connection: Connection, book: _Book) -> None:
        for statement, rows in zip((_END_HOLD, self._save_balance, self._add_hold), book.rows(), strict=True):
            if rows:
                connection.execute(statement, rows)


class _Book:
    """The part of the ledger that one transaction is about, and what changed in it."""

    def __init__(self) -> None:
        self.balances: dict[str, Balance] = {}
        self.holds: dict[str, Hold] = {}
        self.changed: set[str] = set()  # balances
        self.added: set[str] = set()  # holds
        self.ended: set[str] = set()  # holds that are stored

    def load_balances(self, connection: Connection, names: Iterable[str]) -> None:
        for part in in_parts(names):
            for name, balance in connection.execute(_FIND_BALANCES, {"names": part}):
                self.balances[name] = balance_from_json(balance)

    def rows(self) -> tuple[list[dict[str, Any]], list[dict[str, Any]], list[dict[str, Any]]]:
        """What is to be written: holds that ended, balances, new holds; keys in the order of the columns."""
        return (
            [{"ended": call} for call in self.ended],
            [balance_to_row(name, self.balances[name]) for name in sorted(self.changed)],
            [hold_to_row(call, self.holds[call]) for call in self.added],
        )

    def take(self, change: Change) -> Refusal | None:
        """Apply a change, and remember it."""
        self.balances.update(change.balances)
        self.changed.update(change.balances)
        for call, hold in change.holds.items():
            if hold is not None:
                self.holds[call] = hold
                self.added.add(call)
                continue
            del self.holds[call]
            if call in self.added:  # reserved and settled in one transaction
                self.added.discard(call)
            else:
                self.ended.add(call)
        return change.refusal


def _load(connection: Connection, orders: Sequence[Order]) -> _Book:
    book = _Book()
    for part in in_parts({order.call for order in orders}):
        for call, until, charges in connection.execute(_FIND_HOLDS, {"calls": part}):
            book.holds[call] = hold_from_row(until, charges)
    book.load_balances(connection, _named(orders, book))
    return book


def _named(orders: Sequence[Order], book: _Book) -> set[str]:
    """The accounts that orders are about, whose holds are in the book."""
    names = {charge.account for hold in book.holds.values() for charge in hold.charges}
    for order in orders:
        if isinstance(order, Reserve):
            names.update(filter(None, (account_of(budget, order.spender) for budget in order.budgets)))
    return names


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
    _take_lock(driver, patience)


def _take_lock(driver: sqlite3.Connection, patience: float) -> None:
    """Taking the write lock at the start means that a transaction never fails half-way for want of it.

    SQLite would wait for it too, but up to 100 ms at a time: whoever waits for long then waits for longest.
    """
    until = time.monotonic() + patience
    while True:
        try:
            driver.execute("BEGIN IMMEDIATE")
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() >= until:
                raise
            time.sleep(random.uniform(0.0002, 0.001))  # noqa: S311  not to keep step with the others
        else:
            return


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except (SQLAlchemyError, sqlite3.Error) as error:
        reason = str(getattr(error, "orig", None) or error)
        if "disk is full" in reason or "No space left" in reason:
            raise StorageFull(
                f"the disk of the ledger is full: {reason}",
                hint="free some space; calls that no budget applies to go on",
            ) from error
        raise LedgerUnavailable(
            f"the ledger cannot be used just now: {reason}", hint="try again in a moment"
        ) from error
