"""What becomes of a call when its provider goes wrong, with a second route that does not.

    python -m benchmarks.gateway_faults [--rounds 6]

A gateway on a real port, two real HTTP servers behind it. Each fault is met by streamed and whole calls in three protocols;
what breaks in the middle of a stream does so at another event in each round, the first one among them. A call ends well when
its answer is the whole one, or an error of its protocol that no client can take for an answer, within the deadline. The
worst that can happen, a part of an answer that looks whole, is counted by itself.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count

from tests.model_gateway import LiveGateway, ask, config, grant, is_error, is_whole, model_gateway
from tests.provider import Provider, deaf_port, provider, refused_port

from benchmarks.report import Figure, judge, on_this_machine, show_table

DEADLINE = 2.0  # seconds
SLACK = 0.3  # for a machine that is busy
TIMES = {"connect_timeout": 0.3, "first_byte_timeout": 0.4, "idle_timeout": 0.4, "deadline": DEADLINE}
CALLS = tuple(
    (endpoint, stream) for endpoint in ("chat/completions", "messages", "responses") for stream in (True, False)
)
FAULTS = {
    "rate_limited": "429 with Retry-After",
    "rate_limited_bare": "429 without Retry-After",
    "error_500": "500",
    "error_503": "503",
    "refused": "connection refused",
    "deaf": "connection never made",
    "silent": "silence before the first byte",
    "silent_midway": "silence in the middle",
    "cut_midway": "cut in the middle",
    "malformed_event": "an event that is no JSON",
    "broken_chunking": "broken chunked encoding",
    "truncated_json": "half a JSON",
    "short_length": "fewer bytes than content-length",
    "wrong_type": "HTML with status 200",
    "empty": "status 200 and nothing",
    "trickle": "one byte at a time",
    "flapping": "every second request fails",
    "error_event": "an error in a stream with status 200",
    "closed": "the connection ends without an answer",
    "chatter": "something after the end of a stream",
    "pings": "nothing but pings from the middle on",
    "unfinished": "an end that does not say why",
    "wrong_key": "the key of the route is refused",
    "usage_missing": "no usage",
    "usage_negative": "negative usage",
    "usage_absurd": "absurd usage",
}
LEAST_FAULTS = 16


def main() -> int:
    """Measure and print. Returns the exit code."""
    parser = argparse.ArgumentParser(description="what becomes of a call when its provider goes wrong")
    parser.add_argument("--rounds", type=int, default=6, help="calls of each kind for each fault (default 6)")
    rounds = parser.parse_args().rounds
    with on_this_machine():
        ends = measure_faults(rounds)
    show(ends)
    return judge(fault_figures(ends))


def show(ends: dict[str, Counter[str]]) -> None:
    """How the calls ended, a line for each fault."""
    kinds = ("whole", "error", "truncated", "late", "other")
    show_table(
        ("fault", *kinds), [(FAULTS[name], *(str(found[kind]) for kind in kinds)) for name, found in ends.items()]
    )


def fault_figures(ends: dict[str, Counter[str]]) -> list[Figure]:
    """The figures of all faults."""
    well = sum(not (found["truncated"] or found["late"] or found["other"]) for found in ends.values())
    return [
        Figure("faults that were tried", len(ends), LEAST_FAULTS, at_least=True),
        Figure("of which all calls end as they should", well, len(ends), at_least=True),
        Figure("truncated answers that look whole", sum(found["truncated"] for found in ends.values()), 0),
        Figure("calls that end after their deadline", sum(found["late"] for found in ends.values()), 0),
    ]


def measure_faults(rounds: int) -> dict[str, Counter[str]]:
    """How calls ended, by fault."""
    marks = count()
    with two_routes() as (live, bad, good), refused_port() as refused, deaf_port() as deaf:
        found = {}
        for fault in FAULTS:
            url = {"refused": refused, "deaf": deaf}.get(fault, bad.url)
            found[fault] = Counter[str]()
            for number in range(rounds):
                for endpoint, stream in CALLS:
                    # Routes of which the gateway knows nothing yet: a breaker would keep it from the fault.
                    live.config = config([url, good.url], mark=f"{next(marks)}-", **TIMES)  # type: ignore[arg-type]
                    headers = {"x-fault": fault, "x-break": str(number), "x-pace": "0.002"}
                    found[fault][_end(live, endpoint, headers, stream=stream)] += 1
        return found


@contextmanager
def two_routes() -> Iterator[tuple[LiveGateway, Provider, Provider]]:
    """A gateway, a provider with the fault that a call asks for, and one without."""
    with provider() as bad, provider(sound=True) as good, model_gateway(config([bad.url]), grant()) as live:
        yield live, bad, good


def _end(live: LiveGateway, endpoint: str, headers: dict[str, str], *, stream: bool) -> str:
    answer = ask(live, endpoint, stream=stream, headers=headers)
    if answer.seconds > DEADLINE + SLACK:
        return "late"
    if is_whole(endpoint, answer, stream=stream):
        return "whole"
    if is_error(endpoint, answer):
        return "error"
    return "truncated" if answer.status == 200 else "other"


if __name__ == "__main__":
    sys.exit(main())
