"""The documents that people read are true: made from the code, complete, and without dead links."""

from __future__ import annotations

import dataclasses
import importlib.util
import re
from pathlib import Path
from types import ModuleType

import pytest

from turnout.cli.main import VERBS
from turnout.domain.phases import Phase
from turnout.settings import Settings

REPOSITORY = Path(__file__).parents[3]
PAGES = sorted(
    [*REPOSITORY.glob("*.md"), *(REPOSITORY / "docs").rglob("*.md"), *(REPOSITORY / "examples").rglob("*.md")]
)


def load_reference() -> ModuleType:
    spec = importlib.util.spec_from_file_location("build_reference", REPOSITORY / "docs" / "build_reference.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


REFERENCE = load_reference().pages()


@pytest.mark.parametrize("name", sorted(REFERENCE))
def test_reference_page_is_what_the_code_says(name: str) -> None:
    written = (REPOSITORY / "docs" / "reference" / name).read_text(encoding="utf-8")

    assert written == REFERENCE[name], "run `make docs`"


def test_every_verb_and_setting_is_in_the_reference() -> None:
    commands = REFERENCE["commands.md"]

    assert all(f"## `turnout {verb}`" in commands for verb in VERBS)
    options = {f"--{field.name.replace('_', '-')}" for field in dataclasses.fields(Settings)}
    assert all(option in commands for option in options)


def test_every_state_is_explained_in_the_guide_and_the_glossary() -> None:
    guide = (REPOSITORY / "docs" / "guides" / "rings.md").read_text()
    glossary = (REPOSITORY / "GLOSSARY.md").read_text()

    assert [phase for phase in Phase if phase.value not in guide] == []
    assert "state" in glossary


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(REPOSITORY)))
def test_links_lead_somewhere(page: Path) -> None:
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    targets = re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", text)
    local = [target for target in targets if "://" not in target]

    assert [target for target in local if not (page.parent / target).exists()] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(REPOSITORY)))
def test_commands_that_pages_name_exist(page: Path) -> None:
    named = set(re.findall(r"(?:^|`)turnout ([a-z][a-z-]*)", page.read_text(encoding="utf-8"), flags=re.MULTILINE))

    assert named - set(VERBS) == set()
