"""Calls of models and tools, as the gateway's journal tells of them. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from turnout.domain.models import Digest


class Ended(StrEnum):
    """How a call ended."""

    DONE = "done"  # answered in full
    REFUSED = "refused"  # by the gateway: a budget, a pin, a breaker
    FAILED = "failed"  # no route answered
    CUT = "cut"  # the answer broke off, and the agent was told
    CANCELLED = "cancelled"  # the agent went away
    TIMEOUT = "timeout"


FAULTS = frozenset({Ended.FAILED, Ended.CUT, Ended.TIMEOUT})  # of models and routes, as breakers count them


@dataclass(frozen=True, slots=True)
class Attempt:
    """One try at one route."""

    route: str
    model: str  # as the route calls it
    seconds: float
    status: int | None = None  # of the answer; None where there was none
    error: str = ""  # what went wrong, for a person; "" for an answer


@dataclass(frozen=True, slots=True)
class ModelCall:
    """One call of a model. Times in seconds since the epoch, durations in seconds, cost in nano-dollars."""

    id: str
    at: float
    duration: float
    agent: str
    ring: str
    release: Digest
    task: str | None
    endpoint: str  # such as chat/completions, messages, embeddings
    provider: str
    model: str  # as it was asked for
    answered_by: str = ""  # the model that the answer names
    route: str = ""  # that answered
    stream: bool = False
    first_chunk: float | None = None  # seconds until it
    status: int = 0  # that the agent got
    ended: Ended = Ended.DONE
    tokens_in: int = 0
    tokens_cached: int = 0  # of those in
    tokens_out: int = 0
    tokens_reasoning: int = 0  # of those out
    estimated: bool = False  # whether tokens and cost are an estimate
    nanos: int = 0
    prices: str = ""  # the digest of the price table; "" where nothing was charged
    attempts: tuple[Attempt, ...] = ()
    error: str = ""
    # Where the ring records what models answer, else empty.
    request_digest: str = ""  # SHA-256 of what was asked
    answer: str | None = None  # as the agent got it, by the capture policy of the ring; None is not kept
    answer_digest: str = ""  # SHA-256 of all of it
    content_type: str = ""  # of it


@dataclass(frozen=True, slots=True)
class ToolCall:
    """One call of a tool. `arguments` and `result` are JSON, by the capture policy of the ring; None is not kept."""

    id: str
    at: float
    duration: float
    agent: str
    ring: str
    release: Digest
    task: str | None
    server: str
    tool: str
    ended: Ended = Ended.DONE
    failed: bool = False  # the tool itself said so
    arguments: str | None = None
    arguments_digest: str = ""  # SHA-256 of the canonical arguments
    result: str | None = None
    result_digest: str = ""
    schema: str = ""  # the pin
    found: str = ""  # SHA-256 of what the server describes now, or a word for nothing; set where it was not the pin
    error: str = ""


Call = ModelCall | ToolCall


@dataclass(frozen=True, slots=True)
class RouteChange:
    """A route that went down or came back, as one process of the gateway sees it. `at` in seconds since the epoch."""

    at: float
    route: str  # and the model: openai/us/gpt-4o
    down: bool
    why: str = ""  # for a person
