"""What an agent or its caller installs to say what became of tasks. Standard library only, and never in the way.

`Reporter` sends reports in the background; `turnout.sdk.asgi` ties them to the request that is being answered.
"""

from turnout.sdk.reporter import Counts, Reporter

__all__ = ["Counts", "Reporter"]
