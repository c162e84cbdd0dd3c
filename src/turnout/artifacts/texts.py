"""The files of a component that is an archive, as texts for people: such as the prompts that a task was answered with."""

from __future__ import annotations

import hashlib

from turnout.artifacts.unpack import ArchivedFile, read_archive
from turnout.domain.models import ComponentRef
from turnout.ports import ArtifactStore
from turnout.schemas import PromptView

LONGEST_TEXT = 256 << 10  # bytes of one file; of a longer one size and digest are shown
MOST_TEXT = 2 << 20  # bytes of all that is shown
MOST_FILES = 500


def read_texts(store: ArtifactStore, ref: ComponentRef) -> list[PromptView]:
    """Every file of an archive by path, verified; with its text where it is one, and there is room.

    Raises `NotFound`, `DamagedContent`, `UnsafeArchive`.
    """
    found: list[PromptView] = []
    room, left_out = MOST_TEXT, 0
    for file in read_archive(store.read(ref.digest), size=ref.size):
        if len(found) == MOST_FILES:  # read to the end all the same, which verifies it
            left_out += 1
            continue
        view, shown = _view(file, min(room, LONGEST_TEXT))
        room -= shown
        found.append(view)
    found.sort(key=lambda view: view["path"])
    if left_out:
        found.append({"path": "…", "size": 0, "digest": "", "text": None, "note": f"{left_out:,} more files"})
    return found


def _view(file: ArchivedFile, room: int) -> tuple[PromptView, int]:
    """A file, and how many bytes of it are shown."""
    seen, kept = hashlib.sha256(), bytearray()
    for part in file.content:
        seen.update(part)
        if file.size <= room:
            kept += part
    text, note = None, ""
    if file.size > room:
        note = "too large to be shown"
    else:
        text = decode_text(bytes(kept))
        note = "" if text is not None else "not a text"
    view: PromptView = {
        "path": file.path,
        "size": file.size,
        "digest": f"sha256:{seen.hexdigest()}",
        "text": text,
        "note": note,
    }
    return view, len(kept)


def decode_text(content: bytes) -> str | None:
    """The text that a file holds; None where it holds none."""
    if b"\0" in content:
        return None
    try:
        return content.decode()
    except UnicodeDecodeError:
        return None
