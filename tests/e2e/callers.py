"""Callers of a ring: one that asks, and one that keeps asking and counts what went wrong."""

from __future__ import annotations

import http.client
import json
import threading
import time
import uuid
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from tests.live import LiveInstance


@dataclass(frozen=True)
class Answer:
    """What a caller got: status, the release and task of the response headers, and the body."""

    status: int
    release: str | None
    task: str | None
    text: str

    @property
    def fields(self) -> Any:
        """The body, read as JSON."""
        return json.loads(self.text)


def ask(instance: LiveInstance, path: str, headers: Mapping[str, str] | None = None, body: object = None) -> Answer:
    """One request on a connection of its own; see `Caller.ask`."""
    with Caller(instance) as caller:
        return caller.ask(path, headers, body)


class Caller:
    """A caller that keeps its connection."""

    def __init__(self, instance: LiveInstance, timeout: float = 30.0) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", instance.traffic_port, timeout=timeout)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def ask(self, path: str, headers: Mapping[str, str] | None = None, body: object = None) -> Answer:
        """GET, or POST when there is a body (sent as JSON)."""
        content = None if body is None else json.dumps(body).encode()
        given = {**(headers or {}), **({"content-type": "application/json"} if content else {})}
        self._connection.request("POST" if content else "GET", path, content, given)
        response = self._connection.getresponse()
        text = response.read().decode()
        return Answer(
            response.status, response.getheader("x-turnout-release"), response.getheader("x-turnout-task"), text
        )

    def close(self) -> None:
        """Close the connection; the next request opens another."""
        self._connection.close()


class SteadyCaller:
    """Asks a ring again and again in a thread of its own; `failures` says what went wrong, `releases` who answered."""

    def __init__(self, instance: LiveInstance, path: str, pause: float = 0.02) -> None:
        self.failures: list[str] = []
        self.releases: Counter[str] = Counter()
        self.between = threading.Lock()  # hold it to do something while no request is under way
        self._caller = Caller(instance, timeout=10.0)
        self._path = path
        self._pause = pause
        self._asked = threading.Event()  # something was, be it in vain
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._go_on, name="steady-caller", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        self._asked.wait(15)
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        self._thread.join(15)
        self._caller.close()

    @property
    def served(self) -> int:
        """How many requests were answered well."""
        return sum(self.releases.values())

    def check(self) -> None:
        """Fail unless all that was asked was answered, and something was asked at all."""
        assert not self.failures, self.failures[:10]
        assert self.served > 0, "nothing was asked"

    def _go_on(self) -> None:
        while True:
            self._ask()
            self._asked.set()
            if self._stopping.wait(self._pause):
                return

    def _ask(self) -> None:
        try:
            with self.between:
                answer = self._caller.ask(self._path, {"x-turnout-task": uuid.uuid4().hex})
        except (OSError, http.client.HTTPException) as error:
            self._caller.close()
            self.failures.append(f"{time.time():.3f} {error!r}")
            return
        if answer.status == 200 and answer.release:
            self.releases[answer.release] += 1
        else:
            self.failures.append(f"{time.time():.3f} {answer.status} {answer.text[:200]}")
