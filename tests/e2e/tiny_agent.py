"""Folders with the small agent of `tiny/`, for tests that need many releases quickly."""

from __future__ import annotations

import shutil
from pathlib import Path

AGENT = "tiny"
PLAIN_RINGS = "[rings.dev]\n\n[rings.staging]\n\n[rings.production]\n"
_SOURCE = Path(__file__).parent / "tiny" / "agent.py"
_SMOKE = """
[[smoke]]
name = "answers"
method = "GET"
path = "/smoke"
expect_text = "note"
timeout = "1s"
"""


def write_agent(
    folder: Path,
    note: str = "one",
    *,
    agent: str = AGENT,
    behaviour: str = "",
    rings: str = PLAIN_RINGS,
    smoke: bool = False,
    start_timeout: str = "20s",
    lock: str | None = None,
) -> Path:
    """Write an agent, or change the one that is there. `note` and `behaviour` make the releases differ.

    `rings`: the [rings.*] tables. `lock`: the content of its requirements.txt.
    """
    (folder / "prompts").mkdir(parents=True, exist_ok=True)
    shutil.copyfile(_SOURCE, folder / "agent.py")
    (folder / "prompts" / "note.md").write_text(f"{note}\n")
    if lock is not None:
        (folder / "requirements.txt").write_text(lock)
    (folder / "turnout.toml").write_text(
        f'schema = 1\nagent = "{agent}"\n\n'
        '[code]\nstart = ["python", "-S", "agent.py"]\n'
        + ('lock = "requirements.txt"\n' if lock is not None else "")
        + '\n[prompts]\nfiles = ["prompts/**"]\n\n'
        + f'[env]\nBEHAVIOUR = "{behaviour}"\n\n'
        + f'[health]\ninterval = "100ms"\ntimeout = "1s"\nstart_timeout = "{start_timeout}"\n'
        + (_SMOKE if smoke else "")
        + f"\n{rings}"
    )
    return folder
