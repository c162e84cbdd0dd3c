"""Help is complete and answers at once, and a slip of the finger gets a suggestion."""

from __future__ import annotations

import subprocess
import sys

import click
import pytest

from tests.unit.cli.command import CommandLine
from turnout import __version__
from turnout.cli.main import VERBS, cli

HEAVY = {"fastapi", "starlette", "uvicorn", "sqlalchemy", "alembic", "pydantic", "psutil", "httpx", "rich", "anyio"}


def commands() -> list[tuple[str, ...]]:
    """Every verb, and every verb within a verb."""
    found: list[tuple[str, ...]] = []
    context = click.Context(cli)
    for verb in VERBS:
        found.append((verb,))
        command = cli.get_command(context, verb)
        if isinstance(command, click.Group):
            found.extend((verb, name) for name in command.list_commands(context))
    return found


@pytest.mark.parametrize("command", commands(), ids=" ".join)
def test_every_verb_explains_itself(turnout: CommandLine, command: tuple[str, ...]) -> None:
    done = turnout(*command, "--help")
    assert (done.code, done.err) == (0, "")
    assert done.out.startswith(f"Usage: turnout {' '.join(command)}")
    assert turnout(*command, "-h").out == done.out


@pytest.mark.parametrize("command", commands(), ids=" ".join)
def test_every_option_has_a_help_text(command: tuple[str, ...]) -> None:
    found: click.Command | None = cli
    for name in command:
        assert isinstance(found, click.Group)
        found = found.get_command(click.Context(found), name)
    assert found is not None
    options = [item for item in found.params if isinstance(item, click.Option)]
    assert [item.name for item in options if not item.help] == []


def test_the_help_names_every_verb_in_the_order_of_use(turnout: CommandLine) -> None:
    lines = turnout("--help").out.split("Commands:")[1].splitlines()
    assert [line.split()[0] for line in lines if line.startswith("  ") and line[2] != " "] == list(VERBS)


def test_the_line_in_the_table_is_true_to_the_verb(turnout: CommandLine) -> None:
    shown = " ".join(turnout("--help").out.split())
    for _, _, line in VERBS.values():
        assert " ".join(line.split()) in shown


@pytest.mark.parametrize("arguments", [("--help",), ("status", "--help"), ("rollback", "--help"), ("deploy", "--help")])
def test_help_loads_nothing_heavy(arguments: tuple[str, ...]) -> None:
    code = (
        "import sys; from turnout.cli.main import cli\n"
        f"cli.main({list(arguments)!r}, standalone_mode=False)\n"
        f"print('loaded', sorted({HEAVY!r} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.splitlines()[-1] == "loaded []"


@pytest.mark.parametrize(
    ("typed", "meant"), [("stauts", "status"), ("deplyo", "deploy"), ("promot", "promote"), ("roll-back", "rollback")]
)
def test_an_unknown_verb_gets_the_nearest_known_one(turnout: CommandLine, typed: str, meant: str) -> None:
    done = turnout(typed)
    assert done.code == 2
    assert f"did you mean {meant!r}?" in done.err


def test_a_verb_that_resembles_nothing_gets_no_suggestion(turnout: CommandLine) -> None:
    done = turnout("xyzzy")
    assert done.code == 2
    assert "did you mean" not in done.err


@pytest.mark.parametrize("arguments", [("promote", "a"), ("up", "--port", "0"), ("status", "--nonsense"), ("rollout",)])
def test_wrong_usage_is_two(turnout: CommandLine, arguments: tuple[str, ...]) -> None:
    done = turnout(*arguments)
    assert done.code == 2
    assert done.err


def test_the_version(turnout: CommandLine) -> None:
    assert turnout("version").out == turnout("--version").out == f"turnout {__version__}\n"
    assert turnout("version", "--json").json() == {"version": __version__}
