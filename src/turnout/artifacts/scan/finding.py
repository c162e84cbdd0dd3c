"""What a scan tells: where a secret is and which rule found it, never the secret."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

_TAG_BITS = 12


@dataclass(frozen=True, slots=True)
class Finding:
    """A secret in what a release would hold.

    `path` is that in the release ("data/a.zip!notes.txt" for what is inside of an archive), or `turnout.toml`; `place` is
    then the key there, such as `env.WEBHOOK`. `line` counts from 1; 0 where lines mean nothing.
    """

    path: str
    line: int
    rule: str
    scanner: str
    fingerprint: str
    place: str | None = None

    def describe(self) -> str:
        """One line for a person."""
        line = f", line {self.line}" if self.line else ""
        place = f" ({self.place})" if self.place else ""
        return f"{self.path}{line}{place}: {self.rule}, fingerprint {self.fingerprint}"


def value_tag(value: bytes) -> int:
    """All that is kept of a secret's value: 12 bits of its SHA-256.

    They tell another value in the same place from the allowed one (4095 times out of 4096), but cannot tell a weak secret
    to somebody who tries a list of them: of a million candidates some 250 fit. A longer or a slower hash would. Nothing
    else goes into the hash, so that a secret that is in many files gives away the same 12 bits each time.
    """
    return int.from_bytes(hashlib.sha256(value).digest()[:2], "big") >> (16 - _TAG_BITS)


def fingerprint(path: str, rule: str, tag: int) -> str:
    """16 hexadecimal digits that stay the same when the secret moves to another line of its file."""
    return hashlib.sha256(
        "\0".join(("turnout finding 1", path, rule, str(tag))).encode(errors="surrogateescape")
    ).hexdigest()[:16]
