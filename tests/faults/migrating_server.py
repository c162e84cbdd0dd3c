"""A server of a later version: `turnout up` with one migration more, the file that EXTRA_MIGRATION names."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

from turnout.cli.main import main
from turnout.db import engine


def upgrade_turnout() -> None:
    """Let the migrations be those of turnout and the extra one."""
    folder = Path(tempfile.mkdtemp(prefix="turnout-migrations-"))
    shutil.copytree(engine._MIGRATIONS, folder, dirs_exist_ok=True)
    shutil.copy(os.environ["EXTRA_MIGRATION"], folder / "versions")
    engine._MIGRATIONS = folder


if __name__ == "__main__":
    upgrade_turnout()
    main()
