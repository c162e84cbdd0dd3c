"""Simulated callers for the demonstration: a steady load on one ring, and a record of every request."""

from __future__ import annotations

import http.client
import json
import random
import threading
import time
from dataclasses import dataclass

from turnout.sdk import Reporter

QUESTIONS = (
    "how do I format a string",
    "what does the with statement do",
    "how are exceptions raised",
    "what is a generator expression",
    "how does the import system find modules",
)
STREAMED = 0.1  # share of the requests that ask for a stream


@dataclass(frozen=True, slots=True)
class Served:
    """One request as its caller saw it. `status` 0: no whole answer came."""

    began: float
    ended: float
    status: int
    release: str
    good: bool  # the answer cites the documentation


class Callers:
    """Threads that ask one question after the other until stopped, and report which answers were good."""

    def __init__(self, port: int, path: str, reporter: Reporter, *, threads: int = 4, rate: float = 120.0) -> None:
        self._address = ("127.0.0.1", port)
        self._path = path
        self._reporter = reporter
        self._threads_a_rate = threads
        self.rate = rate  # requests a second
        self._stopping = threading.Event()
        self._lock = threading.Lock()
        self._served: list[Served] = []
        self._threads = [threading.Thread(target=self._call, args=(number,), daemon=True) for number in range(threads)]

    def start(self) -> None:
        """Begin to ask."""
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Finish the questions under way."""
        self._stopping.set()
        for thread in self._threads:
            thread.join()

    def served(self) -> list[Served]:
        """Every request so far."""
        with self._lock:
            return list(self._served)

    def _call(self, number: int) -> None:
        chooser = random.Random(number)
        connection = http.client.HTTPConnection(*self._address, timeout=30)
        following = time.monotonic()
        while not self._stopping.is_set():
            streamed = chooser.random() < STREAMED
            served = self._ask(connection, chooser.choice(QUESTIONS), streamed=streamed)
            if served.status == 0:
                connection.close()
            with self._lock:
                self._served.append(served)
            following += self._threads_a_rate / self.rate
            self._stopping.wait(max(0.0, following - time.monotonic()))
        connection.close()

    def _ask(self, connection: http.client.HTTPConnection, question: str, *, streamed: bool) -> Served:
        began = time.time()
        body = json.dumps({"prompt": question, "stream": streamed})
        try:
            connection.request("POST", self._path, body, {"Content-Type": "application/json"})
            response = connection.getresponse()
            answer = response.read().decode()
        except (OSError, http.client.HTTPException):
            return Served(began, time.time(), 0, "", good=False)
        release, good = response.headers.get("x-turnout-release", ""), '"id"' in answer
        self._reporter.report(response.headers.get("x-turnout-task", ""), success=good)
        return Served(began, time.time(), response.status, release, good)
