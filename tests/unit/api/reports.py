"""What the tests of outcomes and tasks share: requests in the store, reports through the API."""

from __future__ import annotations

from typing import Any

from tests.unit.api.service import ONE, Api
from tests.unit.domain.values import AGENT
from turnout.domain.models import Release, Task
from turnout.domain.outcomes import read_task


def serve(
    api: Api, *names: str, release: Release = ONE, ring: str = "dev", rule: str = "report", **fields: Any
) -> None:
    """Requests that were served: one a name, of the task of that name unless `task` says otherwise."""
    given: dict[str, Any] = {"at": api.stage.clock.at, "duration": 0.5, "status": 200, "method": "GET", "path": "/"}
    tasks = [
        Task(
            **{"request": f"req-{name}", "task": name, "agent": AGENT, "ring": ring, "release": release.digest}
            | given
            | fields
        )
        for name in names
    ]
    read = {task.request: read_task(task, rule) for task in tasks}
    said = {request: outcome for request, outcome in read.items() if outcome is not None}
    with api.stage.store.transaction() as transaction:
        transaction.add_tasks(tasks, said, f"{api.stage.clock.at}-{names}")


def report(api: Api, task: str, role: str = "reporter", **body: Any) -> Any:
    """Report by HTTP; what the answer says."""
    answer = api.clients[role].post(f"/v1/tasks/{task}/outcome", body)
    assert answer.status_code == 200, answer.text
    return answer.json()


def known(api: Api, task: str) -> Any:
    """What counts of a task."""
    return api.admin.get(f"/v1/tasks/{task}").json()["outcome"]
