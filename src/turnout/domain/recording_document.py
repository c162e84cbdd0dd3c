"""Recordings ↔ JSON documents, which are stored under their digest and exported one a line. Pure.

    {"schema": 1, "agent": …, "ring": …, "requests": [{"method": "POST", …}], "tools": […], "models": […], …}

A body is a text where it is UTF-8, and `{"base64": …}` where it is not. See `strict_documents.py`.
"""

from __future__ import annotations

import base64
import binascii

from turnout.domain.calls import Ended
from turnout.domain.recordings import RecordedModel, RecordedRequest, RecordedTool, Recording
from turnout.domain.strict_documents import Misshapen, StrictDocuments, read_text

SCHEMA = 1


def render_recording(recording: Recording) -> bytes:
    """The document, without a line feed."""
    return _documents.render(recording, _written)


def parse_recording(content: bytes) -> Recording:
    """The recording of a document. Raises `InvalidRequest` that names the place which is wrong."""
    return _documents.parse(content, Recording)


def _written(value: object) -> object:
    if not isinstance(value, bytes):
        return value
    try:
        return value.decode()
    except UnicodeDecodeError:
        return {"base64": base64.b64encode(value).decode()}


def _bytes(value: object, place: str) -> bytes:
    if isinstance(value, str):
        return value.encode(errors="replace")
    try:
        if isinstance(value, dict) and value.keys() == {"base64"}:
            return base64.b64decode(read_text(value["base64"], place), validate=True)
    except (binascii.Error, ValueError):
        pass
    raise Misshapen(place, 'expected a text or {"base64": …}')


_documents = StrictDocuments(
    "a recording", SCHEMA, (Recording, RecordedRequest, RecordedTool, RecordedModel), (Ended,), {"bytes": _bytes}
)
