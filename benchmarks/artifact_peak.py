"""Run a command and note its seconds and its most memory: `python -S artifact_peak.py REPORT COMMAND…`.

Memory is what the command's processes have together of their own (anonymous and shared memory). Pages of files that one of
them has mapped are not counted: they belong to the system, which takes them back when it needs them.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time

_EVERY = 0.01  # seconds between two looks


def main() -> int:
    """Run, report, end as the command ended."""
    report, *command = sys.argv[1:]
    most = 0
    began = time.perf_counter()
    process = subprocess.Popen(command)
    while True:
        try:
            code = process.wait(_EVERY)
            break
        except subprocess.TimeoutExpired:
            most = max(most, _own_memory(process.pid))
    seconds = time.perf_counter() - began
    with open(report, "w", encoding="utf-8") as file:  # noqa: PTH123  (a small process: no pathlib)
        json.dump({"seconds": seconds, "megabytes": most / 1024}, file)
    return code


def _own_memory(pid: int) -> int:
    """Kilobytes of a process and all below it. What ends meanwhile counts as nothing."""
    try:
        with open(f"/proc/{pid}/status", encoding="utf-8") as file:  # noqa: PTH123
            own = sum(int(line.split()[1]) for line in file if line.startswith(("RssAnon", "RssShmem")))
        for thread in os.listdir(f"/proc/{pid}/task"):  # noqa: PTH208
            with open(f"/proc/{pid}/task/{thread}/children", encoding="utf-8") as file:  # noqa: PTH123
                own += sum(_own_memory(int(child)) for child in file.read().split())
    except (OSError, ValueError):
        return 0
    return own


if __name__ == "__main__":
    sys.exit(main())
