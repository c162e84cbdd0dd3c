"""What is kept of a call of a model where a ring records: the digest of the request, the answer as the agent got it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from turnout.domain.models import Capture
from turnout.gateway.json_object import JsonObject
from turnout.redaction import Redactor

_WITHOUT_MEANING = frozenset(("stream", "stream_options", "user", "metadata"))  # for what a model answers
_LONGEST_TYPE = 200  # characters
_redactor = Redactor()  # calls end in the one thread of the event loop


def request_digest(body: JsonObject) -> str:
    """SHA-256, in hexadecimal digits, of a request with sorted keys, without what changes nothing of its answer.

    Read from its text once more: values are not kept while a call is under way.
    """
    asked = {name: value for name, value in json.loads(body.text).items() if name not in _WITHOUT_MEANING}
    content = json.dumps(asked, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(content.encode(errors="replace")).hexdigest()


class KeptAnswer:
    """Collects one answer while it is passed on. One that is larger than the ring keeps is left out as a whole."""

    def __init__(self, capture: Capture) -> None:
        self._capture = capture
        self._digest = hashlib.sha256()
        self._parts: list[bytes] = []
        self._size = 0
        self._type = ""

    def add(self, part: bytes, content_type: bytes = b"") -> None:
        """The next bytes that the agent gets."""
        self._type = self._type or content_type.decode("latin-1")[:_LONGEST_TYPE]
        self._digest.update(part)
        self._size += len(part)
        if self._size <= self._capture.size:
            self._parts.append(part)
        else:
            self._parts.clear()

    def fields(self, body: JsonObject) -> Mapping[str, Any]:
        """The fields of a `ModelCall`. `body`: of the request."""
        kept = None
        if 0 < self._size <= self._capture.size:
            kept = _redactor.redact(b"".join(self._parts), self._capture)
        return {
            "request_digest": request_digest(body),
            "answer": None if kept is None else kept.decode(errors="replace"),
            "answer_digest": self._digest.hexdigest() if self._size else "",
            "content_type": self._type,
        }
