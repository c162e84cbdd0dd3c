"""What the tool gateway asks of the rest of the gateway's process, beside the seams of all its applications."""

from __future__ import annotations

from typing import Protocol

from turnout.domain.grants import Grant


class GrantSource(Protocol):
    """Who may do what."""

    def find(self, key: str) -> Grant | None:
        """The grant of a key; None for one that is not known."""
