"""A store whose first write claims an idempotency key in the same transaction."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace

from turnout.ports import Snapshot, Store, StoredResponse, Transaction


class AlreadyClaimed(Exception):
    """The key was used before; `response` is what is recorded under it."""

    def __init__(self, response: StoredResponse) -> None:
        super().__init__()
        self.response = response


@dataclass(frozen=True, slots=True)
class ClaimingStore:
    """Implements `ports.Store` for one request. Raises `AlreadyClaimed` instead of doing a write twice."""

    store: Store
    actor: str
    key: str
    claim: StoredResponse
    at: float

    def snapshot(self) -> AbstractContextManager[Snapshot]:
        """As the store itself."""
        return self.store.snapshot()

    @contextmanager
    def transaction(self) -> Iterator[Transaction]:
        """A transaction that commits with the claim, or not at all."""
        with self.store.transaction() as transaction:
            recorded = transaction.response(self.actor, self.key)
            if recorded is not None:
                raise AlreadyClaimed(recorded)
            yield transaction
            # The newest event of the write names the deployment that it is about: the answer, should the real one be lost.
            newest = transaction.events(newest_first=True, limit=1)
            about = newest[0].event.deployment if newest else None
            transaction.save_response(self.actor, self.key, replace(self.claim, body=about or ""), self.at)
