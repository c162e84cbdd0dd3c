"""Run a command and note its seconds and its peak memory: `python -S artifact_peak.py REPORT COMMAND…`.

A small process of its own, because a child begins with the peak of the process that made it.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import time


def main() -> int:
    """Run, report, end as the command ended."""
    report, *command = sys.argv[1:]
    began = time.perf_counter()
    code = subprocess.call(command)
    seconds = time.perf_counter() - began
    kilobytes = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    with open(report, "w", encoding="utf-8") as file:  # noqa: PTH123  (pathlib would cost memory)
        json.dump({"seconds": seconds, "megabytes": kilobytes / 1024}, file)
    return code


if __name__ == "__main__":
    sys.exit(main())
