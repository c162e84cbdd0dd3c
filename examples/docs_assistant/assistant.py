"""The agent: a question becomes tool calls, and what the tools find becomes an answer in the words of the documentation.

Its parts are files of the release: `prompts/system.md` shapes the answer, `tools.json` says which tools may be called, and
the index is the data component. The "model" ranks passages (BM25) and quotes the best; where DOCS_MODEL names a language
model, that one says it in its own words.
"""

from __future__ import annotations

import json
import re
import sqlite3
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from queue import LifoQueue
from typing import Any

from model import Model

READERS = 4  # connections to the index; more would only wait for the interpreter's lock
SENTENCE_END = re.compile(r"(?<=[.!?])\s+(?=[\"“*A-Z])")
FILLERS = """
    a about an and any are at be can could do does from get give has have how i in into is it its me my of on or please
    python should so tell that the their there this to up use used using want was what when where which who why will
    work works would you your
"""
STOP_WORDS = frozenset(FILLERS.split())
SEARCH = """
SELECT found.id, passage.topic, passage.section, found.score
FROM (SELECT rowid AS id, bm25(search, 4.0, 3.0, 1.0) AS score FROM search WHERE search MATCH ?
      ORDER BY score, rowid LIMIT ?) AS found
JOIN passage ON passage.id = found.id ORDER BY found.score, found.id
"""


class ToolNotPermitted(Exception):
    """The agent wanted a tool, or an argument, that its tool manifest does not hold."""


@dataclass(frozen=True, slots=True)
class Prompt:
    """`prompts/system.md`, read: the settings among its instructions, and the template under `## Answer`."""

    template: str
    sentences: int
    sources: int
    citation: str
    nothing_found: str

    @classmethod
    def read(cls, path: Path) -> Prompt:
        """Raises `ValueError` when a setting is no number or the template has an unknown placeholder."""
        instructions, _, template = path.read_text("utf-8").partition("## Answer\n")
        given = dict(re.findall(r"^- ([A-Z][a-z ]+): (.+)$", instructions, re.MULTILINE))
        prompt = cls(
            template=template.strip() or "{answer}",
            sentences=int(given.get("Sentences", 3)),
            sources=int(given.get("Sources", 3)),
            citation=given.get("Citation", "[{id}]"),
            nothing_found=given.get("Nothing found", "Nothing found."),
        )
        try:
            prompt.render("", ["topic"])
        except (KeyError, IndexError) as error:
            raise ValueError(f"{path.name}: unknown placeholder {error}") from error
        return prompt

    def render(self, text: str, ids: list[str]) -> str:
        """The answer as the caller reads it. Without sources, the lines that would name them are left out."""
        lines = self.template.splitlines()
        if not ids:
            lines = [line for line in lines if "{sources}" not in line]
        sources = " ".join(self.citation.format(id=name) for name in ids)
        return "\n".join(lines).strip().format(answer=text, sources=sources)


class Index:
    """The data component, opened read-only. A few connections are lent out, one thread at a time each."""

    def __init__(self, path: Path) -> None:
        if not path.is_file():
            raise FileNotFoundError(f"there is no index at {path}: run build_index.py first")
        self._idle: LifoQueue[sqlite3.Connection] = LifoQueue()
        for _ in range(READERS):
            self._idle.put(
                sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro&immutable=1", uri=True, check_same_thread=False)
            )

    def search_docs(self, query: str, limit: int) -> list[dict[str, Any]]:
        """The passages that hold the query's words, best first; the score is higher for a better one."""
        words = [word for word in re.findall(r"\w+", query.lower()) if word not in STOP_WORDS]
        if not words:
            return []
        expression = " OR ".join(f'"{word}"' for word in dict.fromkeys(words[:32]))
        with self._reader() as reader:
            rows = reader.execute(SEARCH, (expression, limit)).fetchall()
        return [
            {"passage": number, "id": topic, "section": section, "score": round(-score, 4)}
            for number, topic, section, score in rows
        ]

    def read_topic(self, id: str, passage: int) -> str:
        """The text of one passage; empty when the topic has no such passage."""
        with self._reader() as reader:
            row = reader.execute("SELECT body FROM passage WHERE id = ? AND topic = ?", (passage, id)).fetchone()
        return str(row[0]) if row else ""

    @contextmanager
    def _reader(self) -> Iterator[sqlite3.Connection]:
        reader = self._idle.get()
        try:
            yield reader
        finally:
            self._idle.put(reader)


class Toolbox:
    """The tools that the agent has, behind the manifest that says which of them it may call."""

    def __init__(self, manifest: Path, index: Index) -> None:
        declared = json.loads(manifest.read_text("utf-8"))["tools"]
        self._schemas: dict[str, dict[str, Any]] = {tool["name"]: tool["inputSchema"] for tool in declared}
        self._tools: dict[str, Callable[..., Any]] = {"search_docs": index.search_docs, "read_topic": index.read_topic}

    def call(self, name: str, arguments: Mapping[str, Any], log: list[dict[str, Any]]) -> Any:
        """Call a tool and note the call in the log. Defaults come from the schema. Raises `ToolNotPermitted`."""
        schema = self._schemas.get(name)
        if schema is None or name not in self._tools:
            raise ToolNotPermitted(f"tools.json does not permit the tool {name}")
        properties: dict[str, Any] = schema["properties"]
        unknown = sorted(set(arguments) - set(properties))
        if unknown:
            raise ToolNotPermitted(f"tools.json declares no argument {unknown[0]} for the tool {name}")
        defaults = {key: value["default"] for key, value in properties.items() if "default" in value}
        complete = {**defaults, **arguments}
        started = time.perf_counter()
        result = self._tools[name](**complete)
        elapsed = round((time.perf_counter() - started) * 1000, 3)
        log.append({"name": name, "arguments": complete, "milliseconds": elapsed})
        return result


@dataclass(frozen=True, slots=True)
class Answer:
    """What the agent says, where it has it from, and which tools it called."""

    text: str
    sources: list[dict[str, Any]]
    tool_calls: list[dict[str, Any]]


class Assistant:
    """One agent, ready to answer; safe to share between threads."""

    def __init__(self, folder: Path, index: Path, *, citations: bool) -> None:
        """Read the parts of the release. Raises `FileNotFoundError`, `KeyError` or `ValueError` when one is unusable."""
        self._prompt = Prompt.read(folder / "prompts" / "system.md")
        self._tools = Toolbox(folder / "tools.json", Index(index))
        self._citations = citations
        self._model = Model.from_environment()

    def answer(self, question: str, task: str | None = None) -> Answer:
        """Answer one question, for a task. Raises `ToolNotPermitted`, `ModelFailed`."""
        calls: list[dict[str, Any]] = []
        found = self._tools.call("search_docs", {"query": question}, calls)
        if not found:
            return Answer(self._prompt.nothing_found, [], calls)
        topic = found[0]["id"]
        # Of the best topic's passages the first explains, the later ones go into detail.
        best = {"id": topic, "passage": min(hit["passage"] for hit in found if hit["id"] == topic)}
        passage = self._tools.call("read_topic", best, calls)
        text = first_sentences(passage, self._prompt.sentences)
        if self._model is not None:
            text = self._model.phrase(question, passage, task)
        scores: dict[str, float] = {}
        for hit in found:
            scores.setdefault(hit["id"], hit["score"])
        cited = list(scores)[: self._prompt.sources]
        sources = [{"id": name, "score": scores[name]} for name in cited]
        return Answer(self._prompt.render(text, cited if self._citations else []), sources, calls)


def first_sentences(passage: str, count: int) -> str:
    """The first sentences of a passage, on one line; listings are left out unless there is nothing else."""
    prose = " ".join(line for line in passage.splitlines() if not line.startswith(" "))
    sentences = split_sentences(" ".join(prose.split()))
    whole = [sentence for sentence in sentences if not sentence.endswith(":")]  # a colon opens a listing
    return " ".join(whole[:count]) or passage.strip()


def split_sentences(text: str) -> list[str]:
    """Sentences in order, without the white space between them."""
    return SENTENCE_END.split(text)
