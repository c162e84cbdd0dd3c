"""A steady load on the rings of an agent, and a record of every request. A process of its own.

Requests are sent when they are due, whether or not earlier ones were answered, on kept connections; none is sent a second
time. Ends when its standard input does, after the requests under way. Each line of the record is a JSON object, see `Call`.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path

QUESTIONS = (
    "how do I format a string",
    "what does the with statement do",
    "how are exceptions raised",
    "what is a generator expression",
    "how does the import system find modules",
)
PATIENCE = 30.0  # seconds until a request that is not answered counts as failed
END_OF_CHUNKS = b"\r\n0\r\n\r\n"
LARGEST_ANSWER = 1 << 22  # bytes

Connection = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@dataclass(frozen=True, slots=True)
class Call:
    """One request. Times are seconds since the epoch; `release` is "" if no answer named one, `failure` if all is well."""

    ring: str
    streamed: bool
    due: float
    began: float
    ended: float
    status: int
    release: str
    failure: str


class Callers:
    """Calls the rings at a rate until told to stop."""

    def __init__(self, port: int, agent: str, rings: dict[str, float], rate: float, streamed: float) -> None:
        """`rings`: ring → its share of the requests. `rate`: requests a second. `streamed`: share that asks for a stream."""
        self._port = port
        self._agent = agent
        self._rings = rings
        self._rate = rate
        self._streamed = streamed
        self._idle: list[Connection] = []
        self.calls: list[Call] = []

    async def run(self, stop: asyncio.Event) -> None:
        """Send each request at its time; return when the last one is answered."""
        chooser = random.Random(1)
        began = time.time()
        async with asyncio.TaskGroup() as under_way:
            number = 0
            while not stop.is_set():
                due = began + number / self._rate
                number += 1
                if (early := due - time.time()) > 0:
                    await asyncio.sleep(early)
                ring = chooser.choices(list(self._rings), list(self._rings.values()))[0]
                streamed = chooser.random() < self._streamed
                under_way.create_task(self._call(ring, chooser.choice(QUESTIONS), due, streamed=streamed))
        for _, writer in self._idle:
            writer.close()

    async def _call(self, ring: str, question: str, due: float, *, streamed: bool) -> None:
        began, status, release = time.time(), 0, ""
        try:
            async with asyncio.timeout(PATIENCE):
                connection = self._idle.pop() if self._idle else await self._connect()
                status, release, body = await self._exchange(connection, ring, question, streamed=streamed)
            self._idle.append(connection)
            failure = _find_fault(status, body, streamed=streamed)
        except (OSError, ValueError, asyncio.IncompleteReadError, asyncio.LimitOverrunError) as error:
            failure = f"{type(error).__name__}: {error}"
        self.calls.append(Call(ring, streamed, due, began, time.time(), status, release, failure))

    async def _connect(self) -> Connection:
        return await asyncio.open_connection("127.0.0.1", self._port, limit=LARGEST_ANSWER)

    async def _exchange(
        self, connection: Connection, ring: str, question: str, *, streamed: bool
    ) -> tuple[int, str, bytes]:
        """Send a question; status, release and body of the whole answer."""
        reader, writer = connection
        body = json.dumps({"prompt": question, "stream": streamed}).encode()
        head = f"POST /{self._agent}/{ring}/invocations HTTP/1.1\r\nHost: benchmark\r\nContent-Length: {len(body)}"
        writer.write(head.encode() + b"\r\nContent-Type: application/json\r\n\r\n" + body)
        first, *lines = (await reader.readuntil(b"\r\n\r\n"))[:-4].decode().split("\r\n")
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
        if headers.get("transfer-encoding") == "chunked":
            answer = await reader.readuntil(END_OF_CHUNKS)
        else:
            answer = await reader.readexactly(int(headers["content-length"]))
        return int(first.split()[1]), headers.get("x-turnout-release", ""), answer


def main() -> None:
    """Call until standard input ends, then write the record."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--agent", required=True)
    parser.add_argument("--ring", action="append", required=True, help="NAME=SHARE, once for each ring")
    parser.add_argument("--rate", type=float, required=True, help="requests a second")
    parser.add_argument("--streamed", type=float, required=True, help="share of the requests that ask for a stream")
    parser.add_argument("--record", type=Path, required=True)
    arguments = parser.parse_args()
    shares = dict(given.split("=") for given in arguments.ring)
    rings = {name: float(share) for name, share in shares.items()}
    callers = Callers(arguments.port, arguments.agent, rings, arguments.rate, arguments.streamed)
    asyncio.run(_run_until_told(callers))
    arguments.record.write_text("".join(json.dumps(asdict(call)) + "\n" for call in callers.calls))


async def _run_until_told(callers: Callers) -> None:
    stop = asyncio.Event()
    asyncio.get_running_loop().add_reader(sys.stdin, stop.set)
    await callers.run(stop)


def _find_fault(status: int, body: bytes, *, streamed: bool) -> str:
    """What is wrong with an answer; "" when nothing is."""
    if status != 200:
        return f"status {status}"
    if streamed and b"event: done" not in body:
        return "the stream ended before its last event"
    return "" if b'"success": true' in body else "the answer is not the agent's"


if __name__ == "__main__":
    main()
