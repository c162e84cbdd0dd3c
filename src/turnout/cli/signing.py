"""The user's own keys, and the provenance that is signed with them when a release is pushed."""

from __future__ import annotations

import getpass
import os
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from turnout import __version__
from turnout.cli.connection import note
from turnout.domain.errors import InvalidRequest, NotFound, TurnoutError
from turnout.domain.models import Digest

if TYPE_CHECKING:
    from turnout.artifacts.attest.keys import SigningKey, TrustedKey
    from turnout.artifacts.build import ReleaseParts
    from turnout.client import Client
    from turnout.domain.eval_report import EvalReport
    from turnout.schemas import EvalRunView

PASSPHRASE = "TURNOUT_KEY_PASSPHRASE"  # noqa: S105  (the name of a variable)
_BUILDER = "urn:turnout:builder:command-line"

sign_option = click.option(
    "--sign/--no-sign",
    "sign",
    default=None,
    help="Sign, or not. Default: sign what you have not signed yet, if you have a key.",
)


@dataclass(frozen=True, slots=True)
class Signing:
    """How a push is signed. `wanted`: as `sign_option` gives it."""

    folder: Path
    git_sha: str | None
    began: float
    wanted: bool | None

    def unlock(self, client: Client, parts: ReleaseParts, *, results: bool = False) -> SigningKey | None:
        """The key to sign with; None when nothing is to be signed, or the release was signed with this key before.

        `results`: there are results of suites, which are signed each time. To be called before anything is sent.
        Raises `NotFound`, `InvalidRequest` when it was asked for and cannot be done.
        """
        if self.wanted is False:
            return None
        public = find_key(asked=bool(self.wanted))
        if public is None or not (results or self.wanted or not _is_signed(client, parts, public.keyid)):
            return None
        return unlock_key(public, asked=bool(self.wanted))

    def is_due(self, client: Client, parts: ReleaseParts, key: SigningKey) -> bool:
        """Whether the provenance is to be signed: it was asked for, or this key has not done so yet."""
        return bool(self.wanted) or not _is_signed(client, parts, key.key.keyid)

    def sign(self, parts: ReleaseParts, key: SigningKey) -> str:
        """The envelope with the provenance of a release."""
        from turnout.artifacts.attest.envelope import sign_statement
        from turnout.artifacts.attest.predicates import Provenance, build_provenance
        from turnout.artifacts.digest import sha256_digest
        from turnout.manifest import MANIFEST_NAME

        provenance = Provenance(
            builder=_BUILDER,
            builder_version=__version__,
            user=user_name(),
            manifest=sha256_digest((self.folder / MANIFEST_NAME).read_bytes()),
            components={name: ref.digest for name, ref in parts.components.items()},
            started_at=self.began,
            finished_at=time.time(),
            git_sha=self.git_sha,
        )
        statement = build_provenance(parts.spec.agent, parts.digest, provenance)
        note(f"sign     provenance, with the key {key.key.label}")
        return sign_statement(statement, key).decode()


def sign_result(report: EvalReport, run: EvalRunView, key: SigningKey) -> str:
    """The envelope with what came of a suite: which cases passed in all of their runs, and the digest of the report."""
    from turnout.artifacts.attest.envelope import sign_statement
    from turnout.artifacts.attest.predicates import SuiteResult, build_test_result

    failed = set(run["verdict"]["failed"])
    result = SuiteResult(
        result="PASSED" if run["passed"] else "FAILED",
        configuration={report.suite: report.suite_digest},
        passed=tuple(case for case in report.expected if case not in failed),
        failed=tuple(case for case in report.expected if case in failed),
        at=report.ended,
        report=Digest(run["report"]),
    )
    note(f"sign     the result of {report.suite}, with the key {key.key.label}")
    return sign_statement(build_test_result(report.agent, report.release, result), key).decode()


def unlock_for_results(wanted: bool | None) -> SigningKey | None:
    """The key to sign results of suites with. `wanted`: as `sign_option` gives it. Raises as `Signing.unlock`."""
    public = find_key(asked=bool(wanted)) if wanted is not False else None
    return unlock_key(public, asked=bool(wanted)) if public is not None else None


def attest_results(
    client: Client, release: Digest, reports: Sequence[EvalReport], runs: Sequence[EvalRunView], key: SigningKey | None
) -> None:
    """Sign what came of suites that were run against a release; not of those that it was only compared with."""
    for report, run in zip(reports, runs, strict=True):
        if key is not None and report.release == release and not report.baseline:
            client.attest(report.agent, release, sign_result(report, run, key))


def user_name() -> str:
    """Who runs this; the number of the user where no name is known, as in a container."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return f"user-{os.getuid()}"


def keys_folder() -> Path:
    """TURNOUT_KEYS, else `keys` in the user's configuration folder."""
    if given := os.environ.get("TURNOUT_KEYS"):
        return Path(given)
    base = os.environ.get("XDG_CONFIG_HOME")
    return (Path(base) if base else Path.home() / ".config") / "turnout" / "keys"


def find_key(*, asked: bool) -> TrustedKey | None:
    """The newest key that can sign. None when there is none and it was not asked for."""
    folder, now = keys_folder(), time.time()
    if not folder.is_dir():
        if asked:
            raise NotFound(f"there is no key in {folder}", hint="make one with `turnout keys init`")
        return None
    from turnout.artifacts.attest.keyring import list_keys

    usable = [kept for kept in list_keys(folder) if kept.can_sign(now)]
    if not usable:
        if asked:
            raise NotFound(
                f"no key in {folder} can sign", hint="make one with `turnout keys init`, or rotate the old one"
            )
        return None
    return usable[-1].public


def unlock_key(public: TrustedKey, *, asked: bool) -> SigningKey | None:
    """A key, ready to sign. None when its passphrase is not to be had and it was not asked for."""
    from turnout.artifacts.attest.keyring import load_signing_key

    passphrase = os.environ.get(PASSPHRASE)
    if not passphrase and not sys.stdin.isatty():
        if asked:
            raise InvalidRequest("the key has a passphrase", hint=f"give it in {PASSPHRASE}")
        note(f"not signed: give the passphrase of the key {public.label} in {PASSPHRASE}")
        return None
    passphrase = passphrase or click.prompt(f"passphrase of the key {public.label}", hide_input=True, err=True)
    try:
        return load_signing_key(keys_folder(), public.keyid, str(passphrase), now=time.time())
    except InvalidRequest as error:
        hint = f"correct {PASSPHRASE}; for a passphrase that is lost, `turnout keys rotate` makes a new key"
        raise InvalidRequest(error.message, hint=hint) from None


def _is_signed(client: Client, parts: ReleaseParts, keyid: str) -> bool:
    try:
        found = client.attestations(parts.spec.agent, parts.digest)["attestations"]
    except TurnoutError as error:
        if error.code == NotFound.code:  # it is new
            return False
        raise
    return any(item["kind"] == "provenance" and item["keyid"] == keyid for item in found)


def new_passphrase() -> str:
    """From the environment, else typed twice. Raises `InvalidRequest` where neither is possible."""
    given = os.environ.get(PASSPHRASE)
    if given:
        return given
    if not sys.stdin.isatty():
        raise InvalidRequest("a key needs a passphrase", hint=f"give it in {PASSPHRASE}, or run this in a terminal")
    return str(click.prompt("passphrase of the new key", hide_input=True, confirmation_prompt=True, err=True))
