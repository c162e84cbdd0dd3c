"""Calls of a model over kept connections, as bare as can be, so that what is measured is what answers."""

from __future__ import annotations

import asyncio
import json
import time
from dataclasses import dataclass

from tests.model_gateway import KEY, OPENAI_MODEL

HOST = "127.0.0.1"
PATH = "/v1/chat/completions"
TEXT = "What does a release of an agent consist of, and which part of it may change on its way to production? " * 8


@dataclass(frozen=True, slots=True)
class Target:
    """Who is called, and with which key and model."""

    port: int
    key: str = KEY
    model: str = OPENAI_MODEL

    def request(self, *, stream: bool = False, headers: str = "") -> bytes:
        """The bytes of a call."""
        question = {"model": self.model, "messages": [{"role": "user", "content": TEXT}], "max_tokens": 200}
        body = json.dumps({**question, "stream": True} if stream else question).encode()
        lines = f"host: {HOST}\r\ncontent-type: application/json\r\nauthorization: Bearer {self.key}\r\n"
        lines += f"accept: application/json\r\nuser-agent: benchmark\r\nx-turnout-task: task-1\r\n{headers}"
        return f"POST {PATH} HTTP/1.1\r\n{lines}content-length: {len(body)}\r\n\r\n".encode() + body


@dataclass(slots=True)
class Line:
    """One connection."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def call(self, request: bytes) -> float:
        """Seconds for a whole answer. Raises ValueError for anything but 200."""
        began = time.perf_counter()
        self.writer.write(request)
        await self._receive()
        return time.perf_counter() - began

    async def first_chunk(self, request: bytes) -> float:
        """Seconds until the first event of a stream came; the rest of it is read, too."""
        began = time.perf_counter()
        await self.begin(request)
        took = time.perf_counter() - began
        await self.reader.readuntil(b"0\r\n\r\n")
        return took

    async def begin(self, request: bytes) -> None:
        """Send a call and wait for the first event of its stream."""
        self.writer.write(request)
        await self._head()
        await self.reader.readuntil(b"data: ")

    async def _receive(self) -> None:
        head = await self._head()
        length = head.partition(b"content-length:")[2].split(b"\r\n", 1)[0]
        if length:
            await self.reader.readexactly(int(length))
        else:
            await self.reader.readuntil(b"0\r\n\r\n")

    async def _head(self) -> bytes:
        head = (await self.reader.readuntil(b"\r\n\r\n")).lower()
        if b" 200 " not in head.split(b"\r\n", 1)[0]:
            raise ValueError(f"no answer: {head[:300]!r}")
        return head


async def connect(port: int) -> Line:
    """A new connection."""
    return Line(*await asyncio.open_connection(HOST, port))


async def steady(target: Target, rate: float, seconds: float, *, stream: bool = False) -> list[float]:
    """Seconds of each of the calls that begin at a steady rate, whether or not those before have ended.

    Of a stream the seconds until its first event.
    """
    request = target.request(stream=stream)
    free: list[Line] = []
    taken: list[float] = []

    async def one() -> None:
        line = free.pop() if free else await connect(target.port)
        taken.append(await (line.first_chunk(request) if stream else line.call(request)))
        free.append(line)

    free += [await connect(target.port) for _ in range(4)]
    began, calls = time.perf_counter(), []
    for number in range(int(rate * seconds)):
        await asyncio.sleep(max(0.0, began + number / rate - time.perf_counter()))
        calls.append(asyncio.ensure_future(one()))
    await asyncio.gather(*calls)
    for line in free:
        line.writer.close()
    return taken


async def saturated(target: Target, connections: int, seconds: float) -> float:
    """Answers a second when every connection calls again as soon as it is answered."""
    request, until, answers = target.request(), time.perf_counter() + seconds, 0

    async def one() -> None:
        nonlocal answers
        line = await connect(target.port)
        while time.perf_counter() < until:
            await line.call(request)
            answers += 1
        line.writer.close()

    began = time.perf_counter()
    await asyncio.gather(*(one() for _ in range(connections)))
    return answers / (time.perf_counter() - began)


async def open_streams(target: Target, number: int, pace: float, words: int) -> list[Line]:
    """So many streams at once, each of which has begun. They go on until their lines are closed."""
    request = target.request(stream=True, headers=f"x-pace: {pace}\r\nx-words: {words}\r\n")
    lines: list[Line] = []

    async def one() -> None:
        line = await connect(target.port)
        lines.append(line)
        await line.begin(request)

    for start in range(0, number, 100):
        await asyncio.gather(*(one() for _ in range(min(100, number - start))))
    return lines
