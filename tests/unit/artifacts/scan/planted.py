"""Secrets to plant. They are put together here, so that no file of the tests holds one; none of them opens anything."""

from __future__ import annotations

import base64
import random
from pathlib import Path

from tests.unit.artifacts.agents import write_agent
from turnout.artifacts.scan import Finding, Hit, ScanCache, scan_release
from turnout.artifacts.scan.finding import value_tag
from turnout.artifacts.scan.scanner import Scanner
from turnout.artifacts.select import select_files
from turnout.manifest import load_manifest

GITHUB = "ghp" + "_" + "n7XQpaR2vKz8mWbT4cYdLs9JfHgEu3Vx1AoZ"
OTHER_GITHUB = "ghp" + "_" + "Zk4TgW9rBq2XvN7mLc5JdYs8PfHaEu3Rx6oM"
AWS_ID = "AKI" + "A" + "QYLPMN5HHHFPZAM2"
AWS_SECRET = "wJalrXUtnF" + "EMIK7MDENGbPxRfiCYzzAbcD12EFgh"
SLACK = "https://hooks." + "slack.com/services/" + "T01ABCD2EFG/B02HIJK3LMN/aBcD3fGh1jKlMn0pQrStUvWx"
PRIVATE_KEY = "\n".join(
    (
        "-----BEGIN RSA " + "PRIVATE KEY-----",
        *(base64.b64encode(random.Random(line).randbytes(48)).decode() for line in range(20)),
        "-----END RSA " + "PRIVATE KEY-----",
    )
)
VALUES = (GITHUB, OTHER_GITHUB, AWS_ID, AWS_SECRET, SLACK, PRIVATE_KEY)


class MarkScanner:
    """A `Scanner` that takes every `mark(…)` for a secret. It remembers what it was given."""

    name = "mark"

    def __init__(self, identity: str = "mark 1") -> None:
        self.identity = identity
        self.seen: list[bytes] = []

    def scan(self, folder: Path) -> tuple[Hit, ...]:
        hits = []
        for path in sorted(folder.iterdir()):
            content = path.read_bytes()
            self.seen.append(content)
            for number, line in enumerate(content.split(b"\n"), 1):
                if b"mark(" in line:
                    hits.append(Hit(path.name, "", number, "a-mark", value_tag(line)))
        return tuple(hits)


def agent(folder: Path, **changed: str | bytes) -> Path:
    """The small agent; `changed` replaces files, named with __ for a slash and _DOT_ for a dot."""
    write_agent(folder)
    for name, content in changed.items():
        place = folder / name.replace("__", "/").replace("_DOT_", ".")
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(content if isinstance(content, bytes) else content.encode())
    return folder


def scan(folder: Path, *scanners: Scanner, cache: Path | None = None) -> tuple[Finding, ...]:
    """Scan an agent, with kingfisher and what else is there unless scanners are given."""
    manifest = load_manifest(folder)
    selection = select_files(folder, manifest)
    return scan_release(folder, manifest, selection, scanners=scanners or None, cache=ScanCache(cache), staging=folder)
