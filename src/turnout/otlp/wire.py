"""Requests and answers of OTLP/HTTP: protobuf or JSON, plain or gzip, and never more of it than is read quickly."""

from __future__ import annotations

import json
import zlib
from enum import StrEnum
from typing import Any, TypeVar

from google.protobuf import json_format
from google.protobuf.message import DecodeError, Message
from google.rpc.status_pb2 import Status  # type: ignore[import-untyped]

from turnout.domain.errors import InvalidRequest

LARGEST = 4 << 20  # bytes of a request when it is unpacked; a message takes up to fifty times its size in memory
_MOST_MEMBERS = 100  # of a gzip body: the rest of the body is copied after each
_INVALID_ARGUMENT, _EXHAUSTED, _UNAVAILABLE = 3, 8, 14

M = TypeVar("M", bound=Message)


class Encoding(StrEnum):
    """How a message is written; the value is its content type."""

    PROTOBUF = "application/x-protobuf"
    JSON = "application/json"


def choose_encoding(content_type: str) -> Encoding | None:
    """The encoding that a content type names, or None."""
    name = content_type.partition(";")[0].strip().lower()
    return next((encoding for encoding in Encoding if encoding.value == name), None)


def unpack(content: bytes, compression: str) -> bytes:
    """The body of a request without its content encoding. Raises `InvalidRequest`."""
    name = compression.strip().lower()
    if name == "gzip":
        content = _gunzip(content)
    elif name not in ("", "identity"):
        raise InvalidRequest(f"content encoding {name[:40]!r} is not known", hint="send it plain, or with gzip")
    if len(content) > LARGEST:
        raise InvalidRequest(f"the body has more than {LARGEST:,} bytes", hint="send smaller batches")
    return content


def parse_protobuf(content: bytes, message: M) -> M:
    """Fill a message; fields that are not known are passed over, as the protocol asks. Raises `InvalidRequest`."""
    try:
        message.ParseFromString(content)
    except DecodeError as error:
        raise InvalidRequest(f"the body is no {message.DESCRIPTOR.name}: {str(error)[:200]}") from None
    return message


def parse_json(content: bytes) -> dict[str, Any]:
    """The document of a request. Raises `InvalidRequest`."""
    try:
        document = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise InvalidRequest(f"the body is no JSON: {str(error)[:200]}") from None
    if not isinstance(document, dict):
        raise InvalidRequest("the body is no JSON object")
    return document


def write_message(message: Message, encoding: Encoding) -> bytes:
    """A message as the body of an answer."""
    if encoding is Encoding.PROTOBUF:
        return message.SerializeToString()
    return json_format.MessageToJson(message, indent=None).encode()


def write_error(status: int, text: str, encoding: Encoding) -> bytes:
    """The body of an answer with an error: `google.rpc.Status`, as the protocol asks."""
    code = _EXHAUSTED if status == 429 else _INVALID_ARGUMENT if status < 500 else _UNAVAILABLE
    return write_message(Status(code=code, message=text), encoding)


def _gunzip(content: bytes) -> bytes:
    """All members of the body, one after the other; no more of them than show that it is too large."""
    unpacked = b""
    for _ in range(_MOST_MEMBERS):
        unzip = zlib.decompressobj(wbits=31)
        try:
            unpacked += unzip.decompress(content, LARGEST + 1 - len(unpacked))
        except zlib.error:
            raise InvalidRequest("the body is no gzip") from None
        if len(unpacked) <= LARGEST and not unzip.eof:
            raise InvalidRequest("the body is cut off")
        content = unzip.unused_data
        if len(unpacked) > LARGEST or not content:
            return unpacked
    raise InvalidRequest(f"the body has more than {_MOST_MEMBERS} gzip members", hint="send it as one")
