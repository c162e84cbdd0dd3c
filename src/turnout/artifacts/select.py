"""Which files of an agent's folder belong to which component.

A file belongs to exactly one: the lock file to code, the tool manifest to tools, then prompts by their globs, data by its
path, and everything else that is not excluded to code. What an eval suite consists of belongs to none of them. Links are
stored as what they point to, when that is inside the folder and not excluded itself.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from pathspec import GitIgnoreSpec

from turnout.artifacts.archive import FileEntry
from turnout.domain.errors import BuildFailed, ManifestError
from turnout.manifest.eval_schema import Evals
from turnout.manifest.load import ALLOW_NAME, MANIFEST_NAME
from turnout.manifest.schema import Manifest

DEFAULT_EXCLUDES = (
    ".git",
    ".turnout",
    "__pycache__",
    "*.pyc",
    ".venv",
    "venv",
    "node_modules",
    ".env",
    ".env.*",
    ".DS_Store",
    ".mypy_cache",
    ".pytest_cache",
    ".ruff_cache",
    "*.egg-info",
)


@dataclass(frozen=True, slots=True)
class Selection:
    """The files of the components, sorted by path. `tools` is None when none is declared."""

    code: tuple[FileEntry, ...]
    prompts: tuple[FileEntry, ...] = ()
    data: tuple[FileEntry, ...] = ()
    tools: FileEntry | None = None


def select_files(folder: Path, manifest: Manifest, *, data_folder: Path | None = None) -> Selection:
    """Divide the folder's files. `data_folder`: the file or folder with the data, if it is not at its path in `folder`.

    Raises `BuildFailed` for a link that leaves the folder, something that is no file, or data that is not there or empty;
    `ManifestError` for a prompt glob that matches nothing or an exclude pattern that cannot be read.
    """
    found = tuple(_walk_folder(folder))
    lock = manifest.code.lock
    tools = manifest.tools.manifest if manifest.tools else None
    data_path = manifest.data.path if manifest.data else None
    fixed = {path for path in (lock, tools, MANIFEST_NAME, ALLOW_NAME) if path}
    kept = GitIgnoreSpec.from_lines(DEFAULT_EXCLUDES)

    suites = _suite_spec(manifest)
    others = [item for item in found if item.path not in fixed and not _is_excluded(item, suites)]
    prompts = _match_prompts(manifest, [item for item in others if not kept.match_file(item.path)])
    prompt_paths = {item.path for item in prompts}
    data = _select_data(folder, data_path, data_folder, taken=fixed | prompt_paths, suites=suites)
    excluded = _exclude_spec(manifest)
    code = [
        item
        for item in others
        if item.path not in prompt_paths and not _is_under(item.path, data_path) and not _is_excluded(item, excluded)
    ]
    named = {item.path: item for item in found if item.path in (lock, tools)}
    return Selection(
        code=_entries([*code, *(_named(named, path) for path in (lock,) if path)]),
        prompts=_entries(prompts),
        data=_entries(data),
        tools=_entries([_named(named, tools)])[0] if tools else None,
    )


def select_suite(folder: Path, suite: Evals) -> tuple[FileEntry, ...]:
    """The files of an eval suite. Raises `BuildFailed` as `select_files` does, and `ManifestError` where there are none."""
    kept = GitIgnoreSpec.from_lines(DEFAULT_EXCLUDES)
    wanted = _spec(suite_patterns(suite), "evals.files")
    found = [item for item in _walk_folder(folder) if wanted.match_file(item.path) and not kept.match_file(item.path)]
    if not found:
        problem = f"evals.files: the suite {suite.name} has no files"
        raise ManifestError(problem, problems=(problem,), hint="correct the patterns or create the files")
    return _entries(found)


def suite_patterns(suite: Evals) -> tuple[str, ...]:
    """Which files belong to a suite, as in .gitignore."""
    named = (suite.cases, suite.dataset, suite.lock)
    return (*suite.files, *(f"/{path}" for path in named if path))


@dataclass(frozen=True, slots=True)
class _Found:
    """Something in the folder. `fault` says why it cannot be stored; it matters only if it is selected."""

    path: str
    source: Path
    fault: str | None = None


def _walk_folder(folder: Path) -> Iterator[_Found]:
    root = folder.resolve()
    if not root.is_dir():
        raise BuildFailed(f"{folder} is not a folder")
    yield from _walk(root, "", root, GitIgnoreSpec.from_lines(DEFAULT_EXCLUDES), (root,))


def _walk(
    place: Path, prefix: str, root: Path, excluded: GitIgnoreSpec, ancestors: tuple[Path, ...]
) -> Iterator[_Found]:
    """`place` is a real folder; `prefix` is its path in the release; `ancestors` are the real folders above, for loops."""
    try:
        names = sorted(os.listdir(place))  # noqa: PTH208  # names only, many of them
    except OSError as error:
        raise BuildFailed(f"{prefix or place} cannot be read: {error.strerror}") from error
    for name in names:
        path, source = prefix + name, place / name
        target, fault = _follow(source, path, root, excluded)
        if fault:
            yield _Found(path, source, fault)
        elif stat.S_ISDIR(target.lstat().st_mode):
            if excluded.match_file(path + "/"):
                continue
            if target in ancestors:
                yield _Found(path, source, "is a link to a folder that holds it")
            else:
                yield from _walk(target, path + "/", root, excluded, (*ancestors, target))
        elif stat.S_ISREG(target.lstat().st_mode):
            yield _Found(path, target)
        else:
            yield _Found(path, target, "is not a regular file")


def _follow(source: Path, path: str, root: Path, excluded: GitIgnoreSpec) -> tuple[Path, str | None]:
    """The real file or folder behind a name, or why it cannot be taken."""
    if not source.is_symlink():
        return source, None
    try:
        target = source.resolve(strict=True)
    except (OSError, RuntimeError):
        return source, "is a link to something that is not there"
    if not target.is_relative_to(root):
        return source, "is a link that leaves the agent's folder"
    inside = target.relative_to(root).as_posix()
    hidden = excluded.match_file(inside) or excluded.match_file(inside + "/")
    if hidden and not excluded.match_file(path):
        return source, f"is a link to {inside}, which is left out of releases"
    return target, None


def _match_prompts(manifest: Manifest, candidates: list[_Found]) -> list[_Found]:
    if manifest.prompts is None:
        return []
    globs = manifest.prompts.files
    spec = _spec(globs, "prompts.files")
    problems = tuple(
        f'prompts.files[{index}]: "{glob}" matches no file'
        for index, glob in enumerate(globs)
        if not glob.startswith("!") and not any(map(_spec([glob], "prompts.files").match_file, _paths(candidates)))
    )
    if problems:
        raise ManifestError("; ".join(problems), problems=problems, hint="correct the glob or create the files")
    return [item for item in candidates if spec.match_file(item.path)]


def _paths(found: Iterable[_Found]) -> Iterator[str]:
    return (item.path for item in found)


def _suite_spec(manifest: Manifest) -> GitIgnoreSpec:
    """What suites are made of: an agent must not find the answers in its own release."""
    return _spec([pattern for suite in manifest.evals for pattern in suite_patterns(suite)], "evals.files")


def _exclude_spec(manifest: Manifest) -> GitIgnoreSpec:
    return _spec((*DEFAULT_EXCLUDES, *manifest.code.exclude), "code.exclude")


def _spec(patterns: Iterable[str], place: str) -> GitIgnoreSpec:
    try:
        return GitIgnoreSpec.from_lines(patterns)
    except ValueError as error:
        problem = f"{place}: {error}"
        raise ManifestError(problem, problems=(problem,)) from None


def _is_excluded(item: _Found, excluded: GitIgnoreSpec) -> bool:
    """A link that cannot be followed may stand for a folder, so a pattern for folders leaves it out too."""
    return excluded.match_file(item.path) or (item.fault is not None and excluded.match_file(item.path + "/"))


def _is_under(path: str, folder: str | None) -> bool:
    return folder is not None and (path == folder or path.startswith(folder + "/"))


def _select_data(
    folder: Path, path: str | None, data_folder: Path | None, taken: set[str], suites: GitIgnoreSpec
) -> list[_Found]:
    """The data files with their paths in the release. Those that another component or a suite holds already stay there."""
    if path is None:
        return []
    source = data_folder or folder / path
    if source.is_file():
        data = [_Found(path, source.resolve())]
    elif source.is_dir():
        base = source.resolve()
        root = base if data_folder else folder.resolve()
        excluded = GitIgnoreSpec.from_lines(DEFAULT_EXCLUDES)
        walked = _walk(base, path + "/", root, excluded, (base,))
        data = [item for item in walked if not excluded.match_file(item.path.removeprefix(path + "/"))]
    else:
        raise BuildFailed(f"the data {path} is not there", hint="create it, or run the command of data.build first")
    data = [item for item in data if item.path not in taken and not _is_excluded(item, suites)]
    if not data:
        raise BuildFailed(f"the data {path} is empty", hint="put files there, or remove [data] from turnout.toml")
    return data


def _named(found: dict[str, _Found], path: str) -> _Found:
    if path not in found:
        raise BuildFailed(f"{path} is named by turnout.toml, but is not there or is left out of releases")
    return found[path]


def _entries(found: Iterable[_Found]) -> tuple[FileEntry, ...]:
    """The files, sorted. Raises `BuildFailed` for the first that cannot be stored."""
    items = sorted(found, key=lambda item: os.fsencode(item.path))
    for item in items:
        if item.fault:
            raise BuildFailed(
                f"{item.path} {item.fault}", hint="remove it, or leave it out with exclude = […] in [code]"
            )
    return tuple(FileEntry(item.path, item.source) for item in items)
