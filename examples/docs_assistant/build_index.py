"""The data build step: the topics of the running Python become a full-text index.

The index is `docs.sqlite3` in the folder that TURNOUT_DATA_DIR names, or in `index/` beside this file. The same topics
and the same SQLite library give the same bytes, so a rebuild that changes nothing keeps the digest of the release.
"""

from __future__ import annotations

import os
import re
import sqlite3
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from pydoc_data.topics import topics
from typing import NamedTuple

FILE_NAME = "docs.sqlite3"
LONG_ENOUGH = 500  # characters of prose, without which a passage says too little to be ranked fairly
LONGEST_PASSAGE = 4_000  # characters
UNDERLINE = re.compile(r"([*=\-~^\"])\1{2,}")

SCHEMA = """
PRAGMA page_size = 4096;
CREATE TABLE topic (id TEXT PRIMARY KEY, title TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE passage (id INTEGER PRIMARY KEY, topic TEXT NOT NULL, section TEXT NOT NULL, body TEXT NOT NULL);
CREATE VIRTUAL TABLE search USING fts5(
    title, section, body, content = '', tokenize = 'porter unicode61'
);
"""


class Passage(NamedTuple):
    """Some paragraphs, with their listings, under the heading of their section."""

    section: str
    body: str


def main() -> None:
    """Build the index where the data component of this agent is expected."""
    folder = Path(os.environ.get("TURNOUT_DATA_DIR") or Path(__file__).parent / "index")
    folder.mkdir(parents=True, exist_ok=True)
    passages = write_index(topics, folder / FILE_NAME)
    print(f"{folder / FILE_NAME}: {len(topics)} topics, {passages} passages")


def write_index(corpus: Mapping[str, str], target: Path) -> int:
    """Write the index of the corpus (topic → text) to the target, in one rename; returns the number of passages."""
    with tempfile.TemporaryDirectory(dir=target.parent) as scratch:
        draft, packed = Path(scratch, "draft"), Path(scratch, "packed")
        connection = sqlite3.connect(draft)
        try:
            connection.executescript(SCHEMA)
            count = _insert(connection, corpus)
            # VACUUM INTO writes pages in the order of the schema and leaves no trace of how the draft grew.
            connection.execute("VACUUM INTO ?", (str(packed),))
        finally:
            connection.close()
        packed.replace(target)
    return count


def split_passages(text: str) -> Iterator[Passage]:
    """The passages of a topic, in order: each ends with its section, or with the paragraph that makes it long enough."""
    section, parts = "", list[str]()
    for block in re.split(r"\n{2,}", text.strip("\n")):
        lines = block.split("\n")
        if len(lines) >= 2 and UNDERLINE.fullmatch(lines[1]):
            yield from _joined(section, parts)
            section, parts, lines = lines[0].strip(), [], lines[2:]
        elif _is_prose(block) and sum(len(part) for part in parts if _is_prose(part)) >= LONG_ENOUGH:
            yield from _joined(section, parts)
            parts = []
        if lines:
            parts.append("\n".join(lines))
    yield from _joined(section, parts)


def _is_prose(block: str) -> bool:
    """Listings and grammar are indented."""
    return not block.startswith(" ")


def _joined(section: str, parts: list[str]) -> Iterator[Passage]:
    if parts:
        yield Passage(section, "\n\n".join(parts)[:LONGEST_PASSAGE])


def _insert(connection: sqlite3.Connection, corpus: Mapping[str, str]) -> int:
    count = 0
    with connection:
        for topic in sorted(corpus):
            passages = list(split_passages(corpus[topic]))
            heading = next((passage.section for passage in passages if passage.section), "")
            title = f"{topic} {heading}".strip()
            connection.execute("INSERT INTO topic VALUES (?, ?)", (topic, title))
            for passage in passages:
                count += 1
                connection.execute("INSERT INTO passage VALUES (?, ?, ?, ?)", (count, topic, *passage))
                connection.execute(
                    "INSERT INTO search (rowid, title, section, body) VALUES (?, ?, ?, ?)", (count, title, *passage)
                )
        connection.execute("INSERT INTO search (search) VALUES ('optimize')")
    return count


if __name__ == "__main__":
    main()
