"""Signatures under webhooks, as Standard Webhooks (https://www.standardwebhooks.com) describes them. Pure."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from collections.abc import Sequence

_PREFIX = "whsec_"
_SHORTEST = 16  # bytes of a key


def read_keys(text: str) -> tuple[bytes, ...]:
    """The keys of a secret: one a line, so that a new one can be brought in beside the old one.

    `whsec_` and base64, or any text. Raises `ValueError` for what is no key; the message does not hold it.
    """
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    if not lines:
        raise ValueError("the secret is empty")
    return tuple(_read_key(line) for line in lines)


def sign(keys: Sequence[bytes], message: str, at: float, body: bytes) -> dict[str, str]:
    """The headers that prove who sent a body and when: id, time in whole seconds, one signature a key."""
    timestamp = str(int(at))
    signed = f"{message}.{timestamp}.".encode() + body
    signatures = [base64.b64encode(hmac.digest(key, signed, hashlib.sha256)).decode() for key in keys]
    return {
        "webhook-id": message,
        "webhook-timestamp": timestamp,
        "webhook-signature": " ".join(f"v1,{signature}" for signature in signatures),
    }


def _read_key(line: str) -> bytes:
    if line.startswith(_PREFIX):
        try:
            key = base64.b64decode(line.removeprefix(_PREFIX), validate=True)
        except (binascii.Error, ValueError):
            raise ValueError(f"the secret opens with {_PREFIX}, and what follows is not base64") from None
    else:
        key = line.encode()
    if len(key) < _SHORTEST:
        raise ValueError(f"the secret is too short: {_SHORTEST} bytes or more, such as of `openssl rand -base64 32`")
    return key
