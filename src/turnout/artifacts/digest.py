"""sha256 digests and canonical JSON (RFC 8785): the identity of everything that is stored."""

from __future__ import annotations

import hashlib
import re
from typing import Any

import rfc8785

from turnout.domain.errors import BuildFailed, InvalidRequest
from turnout.domain.models import Digest

_PREFIX = "sha256:"
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")


def sha256_digest(content: bytes) -> Digest:
    """The digest of some bytes."""
    return Digest(_PREFIX + hashlib.sha256(content).hexdigest())


def digest_from_hex(hexadecimal: str) -> Digest:
    """64 hexadecimal digits, as a digest."""
    return Digest(_PREFIX + hexadecimal)


def hex_digits(digest: Digest) -> str:
    """The 64 hexadecimal digits of a digest. Raises `InvalidRequest` for what is none: it may become a file's name."""
    return parse_digest(digest).removeprefix(_PREFIX)


def parse_digest(text: str) -> Digest:
    """Check that a text is `sha256:` and 64 lower-case hexadecimal digits. Raises `InvalidRequest`."""
    if not _DIGEST.fullmatch(text):
        raise InvalidRequest(f'"{text[:80]}" is no digest', hint="a digest is sha256: and 64 hexadecimal digits")
    return Digest(text)


def canonical_json(value: Any) -> bytes:
    """The one way to write a JSON value (RFC 8785). Raises `BuildFailed` for a value that has none."""
    try:
        return rfc8785.dumps(value)
    except (rfc8785.CanonicalizationError, UnicodeEncodeError, RecursionError) as error:
        raise BuildFailed(f"this has no canonical JSON form: {error}") from None
