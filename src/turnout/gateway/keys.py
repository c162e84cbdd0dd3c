"""Keys of the gateway: one for a release in a ring, derived from a secret of the instance.

A key is never stored: it can be derived again, and what is published is its SHA-256.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
from pathlib import Path

from turnout.domain.errors import SetupFailed
from turnout.domain.models import Digest
from turnout.durable import PRIVATE, replace_file

PREFIX = "tk_"
SECRET_BYTES = 32


def keep_secret(folder: Path) -> bytes:
    """The secret of the instance, which is made once. Raises `SetupFailed` when it cannot be read or is damaged.

    A new one would refuse every agent that runs, so a damaged one is never replaced.
    """
    path = folder / "secret"
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        if not path.exists():
            replace_file(path, secrets.token_bytes(SECRET_BYTES), PRIVATE)
        found = path.read_bytes()
    except OSError as error:
        raise SetupFailed(f"the secret of the gateway, {path}, cannot be used: {error.strerror}") from error
    if len(found) != SECRET_BYTES:
        raise SetupFailed(
            f"the secret of the gateway, {path}, is damaged: {len(found)} bytes instead of {SECRET_BYTES}",
            hint="restore it; or remove it and start every agent again, as their keys end with it",
        )
    return found


def mint_key(secret: bytes, agent: str, ring: str, digest: Digest) -> str:
    """The key of a release in a ring: `tk_` and 43 characters. The same whenever it is asked for."""
    mark = hmac.digest(secret, f"{agent}/{ring}/{digest}".encode(), "sha256")
    return PREFIX + base64.urlsafe_b64encode(mark).rstrip(b"=").decode()


def key_digest(key: str) -> str:
    """The SHA-256 of a key in hexadecimal digits, which says nothing about the key."""
    return hashlib.sha256(key.encode()).hexdigest()
