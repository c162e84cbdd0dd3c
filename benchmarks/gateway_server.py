"""A process of the model gateway for measurements: its whole data path, with budgets in a ledger and a journal on the disk.

python -m benchmarks.gateway_server --port 9001 --upstream http://127.0.0.1:9000/v1 --journal FOLDER [--budgets]
"""

from __future__ import annotations

import argparse
import asyncio
from pathlib import Path

from tests.model_gateway import KEY, WallClock, config, grant, secret_of

from turnout.db.ledger import open_ledger
from turnout.domain.budget import NANOS, Budget, BudgetScope
from turnout.domain.grants import Grant
from turnout.gateway.accounts import Accounts
from turnout.gateway.journal import Journal
from turnout.gateway.model_app import create_model_app
from turnout.gateway.serve import build_server, listen

BUDGETS = (Budget(BudgetScope.RING, 10**9 * NANOS), Budget(BudgetScope.TASK, 10**9 * NANOS))


class OneGrant:
    """Knows the key of the tests."""

    def __init__(self, *, budgets: bool) -> None:
        self._grant = grant(budgets=BUDGETS if budgets else ())

    def find(self, key: str) -> Grant | None:
        """As `GrantSource.find`."""
        return self._grant if key == KEY else None


async def serve(port: int, upstream: str, journal: Path, *, budgets: bool) -> None:
    """Until SIGTERM."""
    routes = config([upstream], deadline=600.0)
    accounts, calls = Accounts(open_ledger(f"sqlite:///{journal / 'ledger.db'}")), Journal(journal, "model-0")
    grants, clock = OneGrant(budgets=budgets), WallClock()
    app = create_model_app(grants, lambda: routes, accounts, calls, clock, secret_of, close=accounts.close)
    with listen("127.0.0.1", port) as listener:
        await build_server(app, drain=1).serve([listener])


def main() -> None:
    """Serve in the foreground."""
    parser = argparse.ArgumentParser(description="a process of the model gateway for measurements")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--upstream", required=True)
    parser.add_argument("--journal", type=Path, required=True)
    parser.add_argument("--budgets", action="store_true", help="two budgets apply to each call")
    options = parser.parse_args()
    import uvloop

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serve(options.port, options.upstream, options.journal, budgets=options.budgets))


if __name__ == "__main__":
    main()
