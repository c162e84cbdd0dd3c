"""What differs between two releases, by component, down to what a reviewer needs."""

from __future__ import annotations

from turnout.artifacts.diff.releases import diff_releases

__all__ = ["diff_releases"]
