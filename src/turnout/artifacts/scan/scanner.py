"""What turnout asks of a program that looks for secrets."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

MEMBER = "!"  # between the name of an archive and that of what is inside of it


@dataclass(frozen=True, slots=True)
class Hit:
    """A secret in a file that was given to a scanner. Neither the value nor a piece of it is kept; see `value_tag`."""

    name: str
    member: str  # what it is in, when the file is an archive; else empty
    line: int  # from 1; 0 where it is not known
    rule: str
    tag: int


class Scanner(Protocol):
    """Finds secrets in files."""

    @property
    def name(self) -> str:
        """How it is called in messages."""

    @property
    def identity(self) -> str:
        """Another one whenever the same file may be judged in another way: another version, other rules or options."""

    def scan(self, folder: Path) -> tuple[Hit, ...]:
        """Look into every file of a folder, which holds nothing but regular files with plain names.

        Raises `BuildFailed` when it cannot run, fails, takes too long or has not read every file: never a silent pass.
        """


def split_member(path: str) -> tuple[str, str]:
    """("f1", "notes.txt") of "./f1!notes.txt"; the member is empty for a file itself."""
    name, _, member = path.removeprefix("./").partition(MEMBER)
    return name, member
