"""Orders on an SQLite file, by a connection of their own: every call of a model waits for one of them.

SQLAlchemy would take three times as long for each as the database. Statements are compiled once, and what was loaded or
written last is remembered for as long as nobody else has written (`PRAGMA data_version`), so that an order mostly reads
nothing. What is in the file is copied to its main part by `tidy`, in the time of nobody who waits for an order.
"""

from __future__ import annotations

import random
import sqlite3
import time
from collections.abc import Callable, Sequence
from typing import Any

from sqlalchemy import Engine, bindparam, delete, select
from sqlalchemy.dialects import sqlite

from turnout.db.ledger_book import Book
from turnout.db.ledger_tables import accounts, balance_from_json, hold_from_row, holds
from turnout.domain.budget import Order, Refusal, Settle, plan_order

_REMEMBERED = 10_000  # accounts, and holds
_TIDY_AFTER = 200  # transactions
_TIDY_PATIENCE = 0.2  # seconds
_MANY = 4_000  # pages beside the main part; with more, writers have to wait for `tidy`
_AT_LAST = 10_000  # with more, a commit does its work

_insert = sqlite.insert(accounts)


def _compiled(statement: Any) -> str:
    return str(statement.compile(dialect=sqlite.dialect()))


_FIND_BALANCE = _compiled(select(accounts.c.balance).where(accounts.c.name == bindparam("name")))
_FIND_HOLD = _compiled(select(holds.c.until, holds.c.charges).where(holds.c.call == bindparam("call")))
_END_HOLD = _compiled(delete(holds).where(holds.c.call == bindparam("ended")))
_ADD_HOLD = _compiled(sqlite.insert(holds))
_SAVE_BALANCE = _compiled(
    _insert.on_conflict_do_update(
        index_elements=["name"], set_={"balance": _insert.excluded.balance, "over_at": _insert.excluded.over_at}
    )
)


class SqliteOrders:
    """Used by one thread at a time; `tidy` by any."""

    def __init__(self, engine: Engine, clock: Callable[[], float], patience: float) -> None:
        self._engine = engine
        self._clock = clock
        self._patience = patience
        self._connection: Any = None
        self._driver: Any = None  # what is below it
        self._book = Book()
        self._version: int | None = None  # of the file that the book is of
        self._untidy = 0  # transactions

    def close(self) -> None:
        """Give back the connection."""
        if self._connection is not None:
            self._connection.close()
            self._connection = self._driver = None

    def write(self, orders: Sequence[Order], *, at_once: bool) -> tuple[Refusal | None, ...] | None:
        """Many orders in one transaction; None, if it is to be `at_once`, where another process is writing.

        Raises `sqlite3.Error`.
        """
        try:
            return self._transact(orders, 0.0 if at_once else self._patience, sure=False)
        except _HeldAlready:
            return self._transact(orders, 0.0 if at_once else self._patience, sure=True)
        except sqlite3.OperationalError as error:
            if at_once and is_busy(error):
                return None
            raise

    def tidy(self) -> None:
        """Copy what was committed to the main part of the file, when that is due, so that the rest can be written over.

        Keeps no writer waiting, unless so many write that there is always something left to copy.
        """
        if self._untidy < _TIDY_AFTER:
            return
        self._untidy = 0
        with self._engine.connect() as connection:
            pages = connection.exec_driver_sql("PRAGMA wal_checkpoint(PASSIVE)").one()[1]
            until = time.monotonic() + _TIDY_PATIENCE
            while pages > _MANY and time.monotonic() < until:
                busy = connection.exec_driver_sql("PRAGMA wal_checkpoint(RESTART)").one()[0]
                if not busy:
                    return
                _step_aside()

    def _transact(self, orders: Sequence[Order], patience: float, *, sure: bool) -> tuple[Refusal | None, ...]:
        driver = self._driver or self._connect()
        take_lock(driver, patience)
        try:
            book = self._remembered(driver)
            _load(driver, orders, book, sure=sure)
            now = self._clock()
            answers = tuple(book.take(plan_order(order, book.balances, book.holds, now)) for order in orders)
            if not sure:
                _check_refused(driver, orders, answers)
            _save(driver, book)
            driver.execute("COMMIT")
        except BaseException:
            self._version = None  # the book may tell what is not stored
            if driver.in_transaction:
                driver.execute("ROLLBACK")
            raise
        book.written()
        self._untidy += 1
        return answers

    def _connect(self) -> Any:
        self._connection = self._engine.raw_connection()
        self._driver = self._connection.driver_connection
        self._driver.execute(f"PRAGMA wal_autocheckpoint={_AT_LAST}")
        return self._driver

    def _remembered(self, driver: sqlite3.Connection) -> Book:
        """What is known of the file as it is now. Called with the lock held."""
        version = driver.execute("PRAGMA data_version").fetchone()[0]
        full = len(self._book.balances) > _REMEMBERED or len(self._book.holds) > _REMEMBERED
        if version != self._version or full:
            self._book, self._version = Book(), version
        return self._book


class _HeldAlready(Exception):
    """A call was taken to be new, and is not."""


def take_lock(driver: sqlite3.Connection, patience: float) -> None:
    """Taking the write lock at the start means that a transaction never fails half-way for want of it.

    SQLite would wait for it too, but up to 100 ms at a time: whoever waits for long then waits for longest. Raises
    `sqlite3.OperationalError` after `patience` seconds.
    """
    until = time.monotonic() + patience
    while True:
        try:
            driver.execute("BEGIN IMMEDIATE")
        except sqlite3.OperationalError as error:
            if not is_busy(error) or time.monotonic() >= until:
                raise
            _step_aside()
        else:
            return


def is_busy(error: sqlite3.Error) -> bool:
    """Whether somebody else writes just now."""
    return error.sqlite_errorcode & 0xFF == sqlite3.SQLITE_BUSY


def _step_aside() -> None:
    time.sleep(random.uniform(0.0002, 0.001))  # noqa: S311  not to keep step with the others


def _load(driver: sqlite3.Connection, orders: Sequence[Order], book: Book, *, sure: bool) -> None:
    """Into the book what it lacks. Unless it is to be `sure`, a call that reserves is taken to be new."""
    for order in orders:
        if order.call not in book.holds and (sure or isinstance(order, Settle)):
            for row in driver.execute(_FIND_HOLD, (order.call,)):
                book.holds[order.call] = hold_from_row(*row)
    for name in book.named(orders):
        if name not in book.balances:
            for row in driver.execute(_FIND_BALANCE, (name,)):
                book.balances[name] = balance_from_json(*row)


def _check_refused(driver: sqlite3.Connection, orders: Sequence[Order], answers: Sequence[Refusal | None]) -> None:
    """A call that was refused may have been asked for again, and be in its own way."""
    for order, answer in zip(orders, answers, strict=True):
        if answer is not None and driver.execute(_FIND_HOLD, (order.call,)).fetchone() is not None:
            raise _HeldAlready


def _save(driver: sqlite3.Connection, book: Book) -> None:
    ended, balances, added = book.rows()
    if ended:
        driver.executemany(_END_HOLD, ended)
    if balances:
        driver.executemany(_SAVE_BALANCE, balances)
    if added:
        try:
            driver.executemany(_ADD_HOLD, added)
        except sqlite3.IntegrityError:
            raise _HeldAlready from None
