"""`turnout diff`."""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from turnout.cli.connection import connected, print_json
from turnout.cli.tables import release_label
from turnout.client import Client
from turnout.domain.errors import NotFound
from turnout.domain.models import COMPONENT_NAMES
from turnout.schemas import ChangeView, ComponentDiff, DiffView

if TYPE_CHECKING:
    from rich.text import Text

_MARKS = {"added": ("+", "green"), "removed": ("-", "red"), "changed": ("~", "yellow"), "renamed": (">", "cyan")}
_WORD = re.compile(r"\w+|\s+|.", re.DOTALL)
_LONGEST_VALUE = 200  # characters of a value that are shown in its line
_LONGEST_LINE = 1_000  # characters of a line in which changed words are looked for


@click.command()
@click.argument("a")
@click.argument("b")
@click.option("--agent", help="Agent of the releases. Default: the one of turnout.toml in this folder.")
@click.option(
    "--component",
    "names",
    multiple=True,
    type=click.Choice(COMPONENT_NAMES),
    help="Only this component; repeatable.",
)
@click.option("--stat", is_flag=True, help="Only one line a component; with --json the summary without the changes.")
@connected
def diff(client: Client, a: str, b: str, agent: str | None, names: tuple[str, ...], stat: bool, as_json: bool) -> None:
    """Show what differs from release A to release B (versions, digests, or ring:NAME), by component."""
    view = client.diff(agent or _agent_here(), a, b)
    wanted = [component for component in view["components"] if not names or component["component"] in names]
    if as_json:
        shown = {**view, "components": wanted}
        print_json({key: value for key, value in shown.items() if not (stat and key == "components")})
    else:
        _show(_lines(view, wanted, stat=stat))


def _agent_here() -> str:
    from turnout.manifest import MANIFEST_NAME, load_manifest

    if not Path(MANIFEST_NAME).exists():
        raise NotFound("no agent was named and there is no turnout.toml here", hint="name it with --agent")
    return load_manifest(Path()).agent


def _show(lines: Iterator[Text]) -> None:
    """In colour on a terminal, unless NO_COLOR is set. Long lines are left to the terminal."""
    from rich.console import Console

    console = Console(highlight=False, soft_wrap=True)
    with console.capture() as captured:
        for line in lines:
            console.print(line)
    click.echo(captured.get(), nl=False, color=True)


def _lines(view: DiffView, components: Sequence[ComponentDiff], *, stat: bool) -> Iterator[Text]:
    """The releases, one line a component, then component by component what differs."""
    old, new = release_label(view["a_version"], view["a"]), release_label(view["b_version"], view["b"])
    if view["a"] == view["b"]:
        yield _line((f"{new}: the same release", "bold"))
        return
    yield _line((f"{old} → {new}", "bold"))
    if not components:
        yield _line(("nothing differs" if not view["changed"] else "nothing differs in what was asked for", ""))
    for component in components:
        yield _line((f"  {component['component']:<8}", "bold"), (f" {component['summary']['text']}", ""))
    for component in () if stat else components:
        yield _line(("", ""))
        yield _line((component["component"], "bold underline"))
        for change in component["changes"]:
            yield from _change_lines(change)
        if component["left_out"]:
            yield _line((f"  … {component['left_out']:,} more changes", "dim"))


def _change_lines(change: ChangeView) -> Iterator[Text]:
    mark, colour = _MARKS.get(change["change"], ("~", "yellow"))
    note = f"  ({change['note']})" if "note" in change else ""
    yield _line(
        (f"  {mark} ", colour),
        (f"{change['kind']} ", "dim"),
        (change["path"], colour),
        (_described(change), ""),
        (note, "dim"),
    )
    yield from _diff_lines(change.get("diff", ""))


def _described(change: ChangeView) -> str:
    """`: old → new` of a value, sizes of a file, the share of data that differs."""
    if change["kind"] == "document" or "diff" in change:
        return ""
    before, after = (change.get(side) for side in ("before", "after"))
    if any(isinstance(value, dict) and "size" in value for value in (before, after)):
        return _described_file(change, before, after)
    values = [_shown(change[side]) for side in ("before", "after") if side in change]
    return f": {' → '.join(values)}" if values else ""


def _described_file(change: ChangeView, before: Any, after: Any) -> str:
    sizes = [_size(value["size"]) for value in (before, after) if isinstance(value, dict) and "size" in value]
    text = f": {' → '.join(dict.fromkeys(sizes))}"
    if "bytes" in change:
        text += f", {change['bytes']['share']:.1%} of the bytes"
    if change["change"] == "renamed" and isinstance(before, dict):
        text += f", was {before.get('path')}"
    return text


def _shown(value: Any) -> str:
    if isinstance(value, dict) and list(value) == ["sha256"]:
        return f"sha256:{value['sha256'][:12]}"
    text = value if isinstance(value, str) and value else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= _LONGEST_VALUE else text[:_LONGEST_VALUE] + "…"


def _size(count: int) -> str:
    if count < 1_000:
        return f"{count} B"
    for unit, size in (("kB", 10**3), ("MB", 10**6), ("GB", 10**9)):
        if count < 999.5 * size:
            return f"{count / size:.3g} {unit}"
    return f"{count / 10**12:,.3g} TB"


# --- unified diffs ---------------------------------------------------------------------------------------------------


def _diff_lines(diff: str) -> Iterator[Text]:
    """The lines in colour; where as many lines came as went, the words that differ stand out."""
    removed: list[str] = []
    added: list[str] = []
    for line in [*diff.split("\n"), None] if diff else []:
        if line is not None and line.startswith("-") and not added:
            removed.append(line)
        elif line is not None and line.startswith("+"):
            added.append(line)
        else:
            yield from _replaced_lines(removed, added)
            removed, added = [], []
            if line is not None and line.startswith("-"):
                removed.append(line)
            elif line is not None:
                yield _line(("      ", ""), (line, "cyan" if line.startswith("@@") else "dim"))


def _replaced_lines(removed: Sequence[str], added: Sequence[str]) -> Iterator[Text]:
    pairs = list(zip(removed, added, strict=True)) if len(removed) == len(added) else []
    words = [_changed_words(old, new) for old, new in pairs]
    for side, (lines, colour) in enumerate(((removed, "red"), (added, "green"))):
        for number, line in enumerate(lines):
            parts = words[number][side] if words else [(line[1:], False)]
            styled = [(text, f"{colour} reverse" if differs else colour) for text, differs in parts]
            yield _line(("      ", ""), (line[:1], colour), *styled)


def _changed_words(old: str, new: str) -> tuple[list[tuple[str, bool]], list[tuple[str, bool]]]:
    """Both lines in parts, and whether each differs. Lines that have little in common are not taken apart."""
    whole = [(old[1:], False)], [(new[1:], False)]
    if max(len(old), len(new)) > _LONGEST_LINE:
        return whole
    left, right = _WORD.findall(old[1:]), _WORD.findall(new[1:])
    matcher = difflib.SequenceMatcher(None, left, right, autojunk=False)
    if matcher.ratio() < 0.5:
        return whole
    parts: tuple[list[tuple[str, bool]], list[tuple[str, bool]]] = ([], [])
    for what, i, j, k, m in matcher.get_opcodes():
        for side, text in enumerate(("".join(left[i:j]), "".join(right[k:m]))):
            if text:
                parts[side].append((text, what != "equal"))
    return parts


def _line(*parts: tuple[str, str]) -> Text:
    from rich.text import Text

    line = Text()
    for text, style in parts:
        line.append(_printable(text), style)
    return line


def _printable(text: str) -> str:
    """What a release holds must not act on the terminal, nor hide: what has no sign of its own is spelt out."""
    return "".join(c if c.isprintable() or c == "\t" else c.encode("unicode_escape").decode() for c in text)
