"""Times on the command line, such as 30s or 2d."""

from __future__ import annotations

from typing import Any

import click


class Duration(click.ParamType[float]):
    """Seconds, from text such as 90s, 5m or 1h30m."""

    name = "time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Raises a usage error for anything else."""
        from turnout.manifest.values import parse_duration  # it loads slowly

        try:
            return parse_duration(value)
        except ValueError as error:
            return self.fail(str(error), param, ctx)
