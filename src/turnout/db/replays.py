"""Reads and writes about replays."""

from __future__ import annotations

import zstandard
from sqlalchemy import RowMapping, insert, select

from turnout.db.reads import Reads
from turnout.db.tables import replays
from turnout.domain.models import Digest
from turnout.domain.replay_document import parse_summary, summary_document
from turnout.domain.replays import KeptReplay

_COLUMNS = tuple(replays.c[name] for name in KeptReplay.__dataclass_fields__)


class ReplayReads(Reads):
    """The part of `ports.Snapshot` that is about replays; see there for the meaning of each."""

    def replays(
        self, agent: str, candidate: Digest | None = None, *, deployment: str | None = None, limit: int = 100
    ) -> tuple[KeptReplay, ...]:
        """Replays, newest first."""
        query = select(*_COLUMNS).where(replays.c.agent == agent).order_by(replays.c.seq.desc()).limit(limit)
        if candidate is not None:
            query = query.where(replays.c.candidate == candidate)
        if deployment is not None:
            query = query.where(replays.c.deployment == deployment)
        return tuple(_replay(row) for row in self._all(query))

    def replay(self, replay_id: str) -> KeptReplay | None:
        """One of them."""
        row = self._one(select(*_COLUMNS).where(replays.c.id == replay_id))
        return _replay(row) if row else None

    def replay_report(self, replay_id: str) -> bytes | None:
        """Its whole report."""
        row = self._one(select(replays.c.content).where(replays.c.id == replay_id))
        return zstandard.decompress(row["content"]) if row else None


class ReplayWrites(ReplayReads):
    """The part of `ports.Transaction` that is about replays; see there for the meaning of each."""

    def add_replay(self, replay: KeptReplay, report: bytes) -> None:
        """Keep a replay with its report."""
        values = {name: getattr(replay, name) for name in KeptReplay.__dataclass_fields__}
        values |= {"summary": summary_document(replay.summary), "content": zstandard.compress(report)}
        self._connection.execute(insert(replays).values(**values))


def _replay(row: RowMapping) -> KeptReplay:
    return KeptReplay(**{**row, "summary": parse_summary(row["summary"])})
