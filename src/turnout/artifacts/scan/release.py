"""Look for secrets in everything that a release would hold, and refuse the build when there are any."""

from __future__ import annotations

import hashlib
import os
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import date
from pathlib import Path

from turnout.artifacts.scan.allow import Allowance
from turnout.artifacts.scan.cache import Known, ScanCache, file_signature, is_settled
from turnout.artifacts.scan.declared import Declared, declared_text
from turnout.artifacts.scan.finding import Finding, fingerprint
from turnout.artifacts.scan.gitleaks import find_gitleaks
from turnout.artifacts.scan.kingfisher import Kingfisher
from turnout.artifacts.scan.scanner import MEMBER, Hit, Scanner
from turnout.artifacts.scan.staging import Subject, staged
from turnout.artifacts.select import Selection
from turnout.domain.errors import BuildFailed
from turnout.manifest.load import ALLOW_NAME, MANIFEST_NAME
from turnout.manifest.schema import Manifest

_SHOWN = 20


def find_scanners() -> tuple[Scanner, ...]:
    """kingfisher, and gitleaks where PATH has it. Raises `BuildFailed` when kingfisher is not there."""
    gitleaks = find_gitleaks()
    return (Kingfisher(), gitleaks) if gitleaks else (Kingfisher(),)


def scan_release(
    folder: Path,
    manifest: Manifest,
    selection: Selection,
    *,
    scanners: Sequence[Scanner] | None = None,
    cache: ScanCache | None = None,
    staging: Path | None = None,
) -> tuple[Finding, ...]:
    """What the scanners find in code, prompts, tools, data and in what `turnout.toml` declares, in that order of paths.

    `staging` is an existing folder on the disk of the large files, where links to them are made while they are scanned
    (without it they may have to be copied). Making a link changes a file's ctime, so scan before anything else notes it.
    Raises `BuildFailed` when a scanner cannot do its work or a file cannot be read or changes meanwhile; `StorageFull`.
    """
    cache = cache or ScanCache(None)
    roots = [*([staging.absolute()] if staging else []), Path(tempfile.gettempdir())]
    declared = declared_text(manifest, _manifest_text(folder))
    subjects = tuple(_subjects(selection, declared))
    found: dict[str, Known] = {}
    findings: list[Finding] = []
    for scanner in find_scanners() if scanners is None else scanners:
        hits, found[scanner.identity] = _scan(scanner, subjects, cache.read(scanner.identity), roots)
        findings += (_finding(hit, scanner.name, declared) for hit in hits)
    cache.write(found)
    return tuple(
        sorted(set(findings), key=lambda item: (item.path, item.line, item.rule, item.scanner, item.fingerprint))
    )


def check_findings(findings: Iterable[Finding], allowed: Iterable[Allowance], today: date) -> None:
    """Raise `BuildFailed` for findings that no entry of the allow-list fits, naming them; expired entries do not count."""
    allowed = tuple(allowed)
    valid = [entry for entry in allowed if entry.expires >= today]
    refused = [finding for finding in findings if not any(entry.fits(finding) for entry in valid)]
    if not refused:
        return
    expired = [entry for entry in allowed if entry.expires < today and any(map(entry.fits, refused))]
    lines = [f"  {finding.describe()}" for finding in refused[:_SHOWN]]
    if len(refused) > _SHOWN:
        lines.append(f"  … and {len(refused) - _SHOWN} more")
    lines += [f"  expired in {ALLOW_NAME}: {entry.describe()}" for entry in expired[:_SHOWN]]
    count = "a secret" if len(refused) == 1 else f"{len(refused)} secrets"
    raise BuildFailed(
        f"the release would hold {count}; nothing was built:\n" + "\n".join(lines),
        hint="take it out, let the agent read it from its environment, and revoke it if others have seen it; if it is no "
        f"secret, allow it in {ALLOW_NAME} with path, rule, fingerprint, reason and expires",
    )


def _manifest_text(folder: Path) -> str:
    """Only for line numbers, so a file that cannot be read now is no fault."""
    try:
        return (folder / MANIFEST_NAME).read_text(encoding="utf-8-sig", errors="replace")
    except OSError:
        return ""


def _subjects(selection: Selection, declared: Declared) -> Iterator[Subject]:
    yield Subject(MANIFEST_NAME, content=declared.text.encode(errors="surrogateescape"))
    tools = (selection.tools,) if selection.tools else ()
    for entry in (*selection.code, *selection.prompts, *tools, *selection.data):
        yield Subject(entry.path, source=entry.source)


def _scan(
    scanner: Scanner, subjects: Sequence[Subject], known: Known, roots: Sequence[Path]
) -> tuple[list[Hit], Known]:
    """The hits under their paths in the release, and what is to be remembered of this scanner."""
    before = {subject.path: _status(subject) for subject in subjects}
    kept: dict[str, tuple[str, tuple[Hit, ...]]] = {}
    fresh: list[Subject] = []
    for subject in subjects:
        entry = known.get(subject.path)
        if entry and entry[0] == _signature(subject, before[subject.path]):
            kept[subject.path] = entry
        else:
            fresh.append(subject)
    if fresh:
        began = time.time_ns()
        hits = _scan_fresh(scanner, fresh, roots)
        for subject in fresh:
            after = _status(subject)
            _check_unchanged(subject, before[subject.path], after)
            sign = _signature(subject, after) if after is None or is_settled(after, began) else ""
            kept[subject.path] = sign, tuple(hits.get(subject.path, ()))
    return (
        [hit for _, hits_of_one in kept.values() for hit in hits_of_one],
        {path: entry for path, entry in kept.items() if entry[0]},
    )


def _scan_fresh(scanner: Scanner, subjects: Sequence[Subject], roots: Sequence[Path]) -> Mapping[str, list[Hit]]:
    hits: dict[str, list[Hit]] = {}
    with staged(subjects, roots) as (place, names):
        for hit in scanner.scan(place):
            if hit.name not in names:
                raise BuildFailed(f"the secret scan failed: {scanner.name} speaks of a file that it was not given")
            path = names[hit.name].path
            hits.setdefault(path, []).append(Hit(path, hit.member, hit.line, hit.rule, hit.tag))
    return hits


def _status(subject: Subject) -> os.stat_result | None:
    if subject.source is None:
        return None
    try:
        return subject.source.stat()
    except OSError as error:
        raise BuildFailed(f"{subject.path} cannot be read: {error.strerror}") from error


def _signature(subject: Subject, status: os.stat_result | None) -> str:
    if status is None:
        return hashlib.sha256(subject.content or b"").hexdigest()
    return file_signature(status)


def _check_unchanged(subject: Subject, before: os.stat_result | None, after: os.stat_result | None) -> None:
    """The ctime is left out: the link that a scanner reads changes it."""
    if before and after and (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns):
        raise BuildFailed(
            f"{subject.path} changed while it was scanned", hint="build again when nothing writes to the folder"
        )


def _finding(hit: Hit, scanner: str, declared: Declared) -> Finding:
    path = hit.name + (MEMBER + hit.member if hit.member else "")
    mark = fingerprint(path, hit.rule, hit.tag)
    if hit.name != MANIFEST_NAME:
        return Finding(path, hit.line, hit.rule, scanner, mark)
    place = declared.place(hit.line)
    return Finding(path, place.line, hit.rule, scanner, mark, place.key or None)
