"""What the events of a stream are: where it ends, what it took, whether anything was said yet. One reader a stream."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from enum import Enum
from typing import Any

from turnout.domain.errors import RouteFailed
from turnout.gateway.prices import Terms, read_terms
from turnout.gateway.protocols.endpoints import Endpoint
from turnout.gateway.protocols.usage import Usage, read_usage
from turnout.gateway.sse import Event

_NO_REASON = "the stream ended without saying why the answer ends"


class Kind(Enum):
    """What an event means to the gateway."""

    SILENT = "silent"  # a comment, a ping
    PREAMBLE = "preamble"  # opens the answer, nothing of it yet
    CONTENT = "content"
    USAGE = "usage"  # tells nothing but what the call took
    END = "end"  # the answer is whole


class StreamReader(ABC):
    """Reads the events of one stream of one endpoint, in order.

    `strict`: a stream whose end does not say why the answer ends broke off. (What stands between the gateway and a model
    often ends a stream properly when the model's own broke off.)
    """

    endpoint: Endpoint

    def __init__(self, *, strict: bool = True) -> None:
        self._strict = strict
        self.model = ""
        self.terms: Terms = ()
        self.usage: Usage | None = None  # as far as it was told
        self.parts = 0  # events that carried text
        self.letters = 0  # bytes of it

    def read(self, event: Event) -> Kind:
        """What an event is. Raises `RouteFailed` for an error of the provider, and for what is no event of the protocol."""
        if event.data is None:
            return Kind.SILENT
        if event.data.strip() == b"[DONE]":
            return self._read_done()
        try:
            data = json.loads(event.data)
        except (ValueError, RecursionError):
            raise RouteFailed("an event of the stream is no JSON", answered=200, sent=True) from None
        if not isinstance(data, dict):
            raise RouteFailed("an event of the stream is no JSON object", answered=200, sent=True)
        if event.name == b"error" or data.get("error") or data.get("type") == "error":
            raise RouteFailed("the provider broke the stream off with an error", answered=200, sent=True)
        return self._read(data)

    def estimate_out(self) -> int:
        """Tokens out so far: at least one for each event with text, about four bytes each."""
        return max(self.parts, self.letters // 4)

    @abstractmethod
    def _read(self, data: dict[str, Any]) -> Kind: ...

    def _read_done(self) -> Kind:
        return Kind.SILENT

    def _count(self, *texts: Any) -> bool:
        """Take note of text, and say whether there was any."""
        letters = sum(len(text.encode(errors="replace")) for text in texts if isinstance(text, str))
        self.parts += letters > 0
        self.letters += letters
        return letters > 0

    def _take_model(self, answer: dict[str, Any]) -> None:
        self.terms = read_terms(answer) or self.terms
        if not self.model and isinstance(model := answer.get("model"), str):
            self.model = model[:200]


class ChatReader(StreamReader):
    """Chat completions: chunks, and `[DONE]` at the end."""

    endpoint = Endpoint.CHAT

    def __init__(self, *, strict: bool = True) -> None:
        super().__init__(strict=strict)
        self._begun: set[object] = set()  # choices, by index
        self._finished: set[object] = set()

    def _read(self, data: dict[str, Any]) -> Kind:
        choices = data.get("choices")
        if not isinstance(choices, list):
            raise RouteFailed("an event of the stream has no choices", answered=200, sent=True)
        self._take_model(data)
        if (said := data.get("usage")) is not None:
            self.usage = read_usage(self.endpoint, said)
            if not choices:
                return Kind.USAGE
        # Each choice is looked at: one of them may be done while another one speaks.
        spoke = [self._speaks(choice) for choice in choices if isinstance(choice, dict)]
        return Kind.CONTENT if any(spoke) else Kind.PREAMBLE

    def _speaks(self, choice: dict[str, Any]) -> bool:
        delta, index = choice.get("delta"), str(choice.get("index"))
        self._begun.add(index)
        if choice.get("finish_reason") is not None:
            self._finished.add(index)
        if not isinstance(delta, dict):
            return choice.get("finish_reason") is not None
        texts = [value for name, value in delta.items() if name != "role"]
        calls = delta.get("tool_calls") or []
        if not isinstance(calls, list):
            raise RouteFailed("an event of the stream has calls of tools that are none", answered=200, sent=True)
        functions = [call.get("function") for call in calls if isinstance(call, dict)]
        for function in (*functions, delta.get("function_call")):
            texts += function.values() if isinstance(function, dict) else ()
        # What is no text is said too: an old call of a function, audio, details of reasoning.
        other = any(value for value in delta.values() if not isinstance(value, str))
        return self._count(*texts) or other or choice.get("finish_reason") is not None

    def _read_done(self) -> Kind:
        if not self._begun:
            raise RouteFailed("the stream ended before anything was said", answered=200, sent=True)
        if self._strict and self._begun - self._finished:
            raise RouteFailed(_NO_REASON, answered=200, sent=True)
        return Kind.END


class ResponsesReader(StreamReader):
    """Responses: typed events, and one of three that end it."""

    endpoint = Endpoint.RESPONSES

    def _read(self, data: dict[str, Any]) -> Kind:
        kind = data.get("type")
        if not isinstance(kind, str):
            raise RouteFailed("an event of the stream has no type", answered=200, sent=True)
        answer = data.get("response")
        if isinstance(answer, dict):
            self._take_model(answer)
        if kind == "response.failed":
            raise RouteFailed("the provider broke the stream off with an error", answered=200, sent=True)
        if kind in ("response.completed", "response.incomplete"):
            self.usage = read_usage(self.endpoint, answer.get("usage")) if isinstance(answer, dict) else None
            return Kind.END
        if kind in ("response.created", "response.queued", "response.in_progress"):
            return Kind.PREAMBLE
        self._count(data.get("delta"))
        return Kind.CONTENT


class MessagesReader(StreamReader):
    """Messages: typed events from message_start to message_stop; what it took stands in both the first and the last."""

    endpoint = Endpoint.MESSAGES

    def __init__(self, *, strict: bool = True) -> None:
        super().__init__(strict=strict)
        self._said: dict[str, Any] = {}
        self._stopped = False

    def _read(self, data: dict[str, Any]) -> Kind:
        match data.get("type"):
            case "message_start":
                message = data.get("message")
                if isinstance(message, dict):
                    self._take_model(message)
                    self._take_usage(message.get("usage"))
                return Kind.PREAMBLE
            case "message_delta":
                self._take_usage(data.get("usage"))
                delta = data.get("delta")
                self._stopped = self._stopped or (isinstance(delta, dict) and delta.get("stop_reason") is not None)
                return Kind.CONTENT
            case "content_block_delta":
                delta = data.get("delta")
                if isinstance(delta, dict):
                    self._count(*(value for name, value in delta.items() if name not in ("type", "signature")))
                return Kind.CONTENT
            case "message_stop":
                if self._strict and not self._stopped:
                    raise RouteFailed(_NO_REASON, answered=200, sent=True)
                return Kind.END
            case "ping":
                return Kind.SILENT
            case str():
                return Kind.CONTENT
        raise RouteFailed("an event of the stream has no type", answered=200, sent=True)

    def _take_usage(self, said: Any) -> None:
        """Later numbers are sums, and take the place of former ones."""
        if isinstance(said, dict):
            self._said |= {name: value for name, value in said.items() if value is not None}
            self.usage = read_usage(self.endpoint, self._said)


READERS: dict[Endpoint, type[StreamReader]] = {
    Endpoint.CHAT: ChatReader,
    Endpoint.RESPONSES: ResponsesReader,
    Endpoint.MESSAGES: MessagesReader,
}
