"""`turnout`: the verbs, each loaded when it is called, and errors that teach."""

from __future__ import annotations

import importlib
import json
import sys

import click

from turnout import __version__
from turnout.cli.exits import EXIT_CODES, exit_code
from turnout.domain.errors import TurnoutError

# verb → (module, command, one line of help). The help is here so that `turnout --help` loads nothing.
VERBS: dict[str, tuple[str, str, str]] = {
    "up": ("up", "up", "Start the platform on this machine: server, proxy, store."),
    "down": ("down", "down", "Stop the server, the proxy and every agent of this machine's instance."),
    "init": ("init", "init", "Write a commented turnout.toml for an existing folder."),
    "build": ("build", "build", "Build a release and push it; print its digest."),
    "eval": ("eval", "eval_", "Run the suites of this folder against a release."),
    "evals": ("evals", "evals", "Show what suites found; compare two runs."),
    "deploy": ("deploy", "deploy", "Validate, build, push and deploy to the first ring."),
    "promote": ("promote", "promote", "Promote the active release of a ring to the next one."),
    "approve": ("approve", "approve", "Approve a release for a ring."),
    "reject": ("approve", "reject", "Reject a release for a ring."),
    "rollout": ("rollout", "rollout", "Plan, show and steer the canary of a ring: advance, pause, resume, abort."),
    "rollback": ("rollback", "rollback", "Undo the last change of a ring: flip back to last-good."),
    "status": ("status", "status", "Show what is where."),
    "deployments": ("deployments", "deployments", "List deployments, or show one with its transitions."),
    "why": ("why", "why", "Explain a deployment on one page: what decided, the evidence, what to do next."),
    "history": ("history", "history", "Show what happened, or the releases of an agent."),
    "report": ("report", "report", "Say what became of a task: success, failure, intervention, cost."),
    "tasks": ("tasks", "tasks", "List or export the requests that were served."),
    "lineage": ("lineage", "lineage", "Show everything that answered a task, down to the prompt text."),
    "judge": ("judge", "judge", "Judge a recorded stream of starts and outcomes; needs no server."),
    "breakers": ("breakers", "breakers", "Show breakers; let calls of a release through again."),
    "budgets": ("budgets", "budgets", "Show what is spent of budgets; set them for the instance."),
    "recordings": ("recordings", "recordings", "List, show, keep, export and delete tasks that are kept for replay."),
    "replay": ("replay", "replay", "Ask recorded tasks of another release; show what it did otherwise."),
    "logs": ("logs", "logs", "Show what the replicas of a ring print."),
    "diff": ("diff", "diff", "Show what differs between two releases."),
    "tools": ("tools", "tools", "Pin the tools of MCP servers; list and check what is pinned."),
    "release": ("release", "release", "Hand releases over as files, let versions go, collect garbage."),
    "alerts": ("alerts", "alerts", "Show whom this instance tells what; test a target, send again."),
    "tokens": ("tokens", "tokens", "Create, list and revoke tokens."),
    "verify": ("verify", "verify", "Check a release: its bytes, its attestations, what a ring demands."),
    "keys": ("keys", "keys", "Make, list, rotate and trust the keys that sign releases."),
    "local-model": ("local_model", "local_model", "Serve a small language model on this machine, to try things."),
    "version": ("version", "version", "Print the version."),
}


class Verbs(click.Group):
    """Loads a verb's module when the verb is used, so that `turnout --help` answers at once."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        """In the order of use, not of the alphabet."""
        return list(VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        """Import the verb's module."""
        if cmd_name not in VERBS:
            return None
        module, name, _ = VERBS[cmd_name]
        command = getattr(importlib.import_module(f"turnout.cli.{module}"), name)
        assert isinstance(command, click.Command)  # noqa: S101
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        """From the table above, without loading anything."""
        with formatter.section("Commands"):
            formatter.write_dl([(verb, line) for verb, (_, _, line) in VERBS.items()])

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """An unknown verb gets the nearest known one as a suggestion."""
        if args and args[0] not in VERBS:
            import difflib

            near = difflib.get_close_matches(args[0], VERBS, 1)
            ctx.fail(f"no such command {args[0]!r}" + (f"; did you mean {near[0]!r}?" if near else ""))
        return super().resolve_command(ctx, args)


@click.group(cls=Verbs, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(__version__, prog_name="turnout", message="%(prog)s %(version)s")
def cli() -> None:
    """Release platform for AI agents: one artifact, canaries, rollback by a pointer flip.

    Exit codes: 0 done; 1 a fault of turnout; 2 wrong usage; 3 invalid manifest, request or build; 4 not found; 5 refused
    by the state of a ring or a policy; 6 not allowed; 7 not reachable just now; 8 the deployment failed or was rolled
    back; 9 a release is not verified; 10 an eval suite is not passed; 11 a replay
    changed too much; 130 interrupted.
    """


def main() -> None:
    """The entry point: run a verb, and turn errors into a message and an exit code."""
    try:
        # Outside standalone mode a verb's Exit comes back as its code.
        sys.exit(cli.main(standalone_mode=False) or 0)
    except click.ClickException as error:
        error.show()
        sys.exit(EXIT_CODES["usage"])
    except (click.Abort, KeyboardInterrupt):
        sys.exit(EXIT_CODES["interrupted"])
    except BrokenPipeError:
        sys.stderr.close()
        sys.exit(0)
    except TurnoutError as error:
        show_error(error)
        sys.exit(exit_code(error))


def show_error(error: TurnoutError) -> None:
    """What is wrong, each problem on its line, and what to do about it; on standard error.

    With --json also as the problem object that the API would answer, on standard output.
    """
    if "--json" in sys.argv:
        problem = {
            "type": f"urn:turnout:problem:{error.code}",
            "title": error.code.replace("_", " "),
            "status": error.status,
            "detail": error.message,
            "hint": error.hint,
            "problems": list(getattr(error, "problems", ())),
        }
        click.echo(json.dumps({name: value for name, value in problem.items() if value}, indent=2))
    click.echo(f"{click.style('error:', fg='red', bold=True)} {error.message}", err=True)
    for problem in getattr(error, "problems", ()):
        click.echo(f"  - {problem}", err=True)
    if error.hint:
        click.echo(f"{click.style('hint:', fg='cyan')} {error.hint}", err=True)


if __name__ == "__main__":
    main()
