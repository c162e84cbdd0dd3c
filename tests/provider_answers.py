"""What the provider of the tests answers, in the protocols of OpenAI and Anthropic: whole, and as events of a stream."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

TOKENS_IN = 11
CACHED = 3

WHOLE_USAGE = ("usage_missing", "usage_negative", "usage_absurd")


def words(number: int) -> list[str]:
    """The text of an answer, in the pieces in which it is streamed."""
    return [f"word{index} " for index in range(number)]


def text(number: int = 8) -> str:
    """The text of an answer."""
    return "".join(words(number))


def whole(endpoint: str, body: Mapping[str, Any], number: int, fault: str = "") -> bytes:
    """A whole answer of `number` words."""
    model = body["model"]
    usage = _usage(endpoint, number, fault)
    answer: dict[str, Any]
    match endpoint:
        case "chat/completions":
            message = {"role": "assistant", "content": text(number), "refusal": None}
            choice = {"index": 0, "message": message, "finish_reason": "stop", "logprobs": None}
            answer = {
                "id": "chatcmpl-1",
                "object": "chat.completion",
                "created": 1,
                "model": model,
                "choices": [choice],
            }
        case "responses":
            answer = _response(model, number, "completed")
        case "embeddings":
            asked = body["input"]
            count = len(asked) if isinstance(asked, list) else 1
            data = [{"object": "embedding", "index": index, "embedding": [0.25, -0.5]} for index in range(count)]
            answer = {"object": "list", "data": data, "model": model}
        case "messages/count_tokens":
            return b'{"input_tokens": 11}'
        case _:
            answer = {
                "id": "msg_1",
                "type": "message",
                "role": "assistant",
                "model": model,
                "content": [{"type": "text", "text": text(number)}],
                "stop_reason": "end_turn",
                "stop_sequence": None,
            }
    if usage is not None:
        answer["usage"] = usage
    return json.dumps(answer).encode()


def events(endpoint: str, body: Mapping[str, Any], number: int, fault: str = "") -> Iterator[bytes]:
    """The events of a stream; the first is a preamble, the last one tells that the answer is whole."""
    match endpoint:
        case "chat/completions":
            return _chat_events(body, number, fault)
        case "responses":
            return _response_events(body, number, fault)
    return _message_events(body, number, fault)


def _chat_events(body: Mapping[str, Any], number: int, fault: str) -> Iterator[bytes]:
    wants_usage = (body.get("stream_options") or {}).get("include_usage")
    base = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": body["model"]}
    more = {"usage": None} if wants_usage else {}

    def chunk(delta: dict[str, Any], finish: str | None = None) -> bytes:
        choice = {"index": 0, "delta": delta, "finish_reason": finish}
        return _event({**base, "choices": [choice], **more})

    yield chunk({"role": "assistant", "content": ""})
    for word in words(number):
        yield chunk({"content": word})
    if fault != "unfinished":
        yield chunk({}, "stop")
    usage = _usage("chat/completions", number, fault)
    if wants_usage and usage is not None:
        yield _event({**base, "choices": [], "usage": usage})
    yield b"data: [DONE]\n\n"


def _response_events(body: Mapping[str, Any], number: int, fault: str) -> Iterator[bytes]:
    sequence = iter(range(1_000_000))

    def event(kind: str, **members: Any) -> bytes:
        return _event({"type": kind, "sequence_number": next(sequence), **members}, kind)

    begun = _response(body["model"], 0, "in_progress")
    yield event("response.created", response=begun)
    yield event("response.in_progress", response=begun)
    item = {"type": "message", "id": "msg_1", "status": "in_progress", "role": "assistant", "content": []}
    part = {"type": "output_text", "text": "", "annotations": []}
    yield event("response.output_item.added", output_index=0, item=item)
    yield event("response.content_part.added", item_id="msg_1", output_index=0, content_index=0, part=part)
    for word in words(number):
        yield event(
            "response.output_text.delta", item_id="msg_1", output_index=0, content_index=0, delta=word, logprobs=[]
        )
    done = _response(body["model"], number, "completed")
    usage = _usage("responses", number, fault)
    yield event("response.completed", response=done if usage is None else {**done, "usage": usage})


def _message_events(body: Mapping[str, Any], number: int, fault: str) -> Iterator[bytes]:
    usage = _usage("messages", number, fault)
    message = {"id": "msg_1", "type": "message", "role": "assistant", "model": body["model"], "content": []}
    message |= {"stop_reason": None, "stop_sequence": None}
    if usage is not None:
        message["usage"] = {**usage, "output_tokens": 1}
    yield _event({"type": "message_start", "message": message}, "message_start")
    start = {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}}
    yield _event(start, "content_block_start")
    yield _event({"type": "ping"}, "ping")
    for word in words(number):
        delta = {"type": "text_delta", "text": word}
        yield _event({"type": "content_block_delta", "index": 0, "delta": delta}, "content_block_delta")
    yield _event({"type": "content_block_stop", "index": 0}, "content_block_stop")
    end: dict[str, Any] = {"type": "message_delta", "delta": {"stop_reason": "end_turn", "stop_sequence": None}}
    if usage is not None:
        end["usage"] = {"output_tokens": usage["output_tokens"]}
    if fault != "unfinished":
        yield _event(end, "message_delta")
    yield _event({"type": "message_stop"}, "message_stop")


def _response(model: str, number: int, status: str) -> dict[str, Any]:
    part = {"type": "output_text", "text": text(number), "annotations": []}
    item = {"type": "message", "id": "msg_1", "status": "completed", "role": "assistant", "content": [part]}
    return {
        "id": "resp_1",
        "object": "response",
        "created_at": 1,
        "status": status,
        "error": None,
        "model": model,
        "output": [item] if number else [],
        "parallel_tool_calls": True,
        "tool_choice": "auto",
        "tools": [],
    }


def _usage(endpoint: str, number: int, fault: str) -> dict[str, Any] | None:
    if fault == "usage_missing":
        return None
    out = {"usage_negative": -5, "usage_absurd": 10**12}.get(fault, number)
    match endpoint:
        case "chat/completions":
            details = {"cached_tokens": CACHED}
            counts = {"prompt_tokens": TOKENS_IN, "completion_tokens": out, "total_tokens": TOKENS_IN + out}
            return {**counts, "prompt_tokens_details": details, "completion_tokens_details": {"reasoning_tokens": 2}}
        case "responses":
            return {
                "input_tokens": TOKENS_IN,
                "input_tokens_details": {"cached_tokens": CACHED},
                "output_tokens": out,
                "output_tokens_details": {"reasoning_tokens": 2},
                "total_tokens": TOKENS_IN + out,
            }
        case "embeddings":
            tokens = TOKENS_IN if out == number else out
            return {"prompt_tokens": tokens, "total_tokens": tokens}
    return {
        "input_tokens": TOKENS_IN - CACHED,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": CACHED,
        "output_tokens": out,
    }


def _event(data: dict[str, Any], name: str = "") -> bytes:
    head = f"event: {name}\n" if name else ""
    return f"{head}data: {json.dumps(data)}\n\n".encode()
