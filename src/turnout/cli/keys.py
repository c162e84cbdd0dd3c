"""`turnout keys`."""

from __future__ import annotations

import time
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import click

from turnout.cli.connection import connect, connected, note, print_json
from turnout.cli.durations import Duration
from turnout.cli.signing import keys_folder, new_passphrase, user_name
from turnout.cli.tables import local_time, show_table
from turnout.client import Client
from turnout.domain.errors import NotFound, ServerUnreachable, TurnoutError, Unauthenticated

if TYPE_CHECKING:
    from turnout.artifacts.attest.keyring import KeptKey


@click.group()
def keys() -> None:
    """Keys that sign how releases were built: your own, and those that an instance trusts."""


_lifetime = click.option(
    "--lifetime", type=Duration(), default="365d", show_default=True, help="How long the key signs, such as 90d."
)
_name = click.option("--name", default=user_name, help="Whose key it is. Default: your user name.")


@keys.command(short_help="Make a key of your own.")
@_name
@_lifetime
@click.option("--json", "as_json", is_flag=True, help="Print JSON with stable keys.")
def init(name: str, lifetime: float, as_json: bool) -> None:
    """Make a key. Its private half stays on this machine, encrypted with a passphrase (TURNOUT_KEY_PASSPHRASE, or asked)."""
    from turnout.artifacts.attest.keyring import create_key

    made = create_key(keys_folder(), name, new_passphrase(), now=time.time(), lifetime=lifetime)
    _show_made(made, as_json=as_json)


@keys.command(short_help="Replace a key of your own by a new one.")
@_name
@_lifetime
@click.option("--json", "as_json", is_flag=True, help="Print JSON with stable keys.")
def rotate(name: str, lifetime: float, as_json: bool) -> None:
    """Make a new key and retire the old one, which signs no more; what it signed counts until it expires."""
    from turnout.artifacts.attest.keyring import rotate_key

    made = rotate_key(keys_folder(), name, new_passphrase(), now=time.time(), lifetime=lifetime)
    _show_made(made, as_json=as_json)


@keys.command("list", short_help="List your own keys, and those that the instance trusts.")
@click.option("--server", help="URL of the API. Default: TURNOUT_SERVER, or the instance of --state.")
@click.option("--state", type=click.Path(path_type=Path, file_okay=False), help="State folder of the instance.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON with stable keys.")
def list_(server: str | None, state: Path | None, as_json: bool) -> None:
    """List your own keys, and those that the instance trusts if one answers."""
    from turnout.artifacts.attest.keyring import list_keys
    from turnout.artifacts.attest.times import format_time

    now = time.time()
    own: list[dict[str, Any]] = [
        {
            "keyid": kept.public.keyid,
            "name": kept.public.name,
            "expires_at": format_time(kept.public.expires_at),
            "signs": kept.can_sign(now),
        }
        for kept in list_keys(keys_folder())
    ]
    try:
        trusted = connect(server, state).trusted_keys()["keys"]
    except TurnoutError as error:
        if error.code not in (ServerUnreachable.code, Unauthenticated.code) or server or state:
            raise
        trusted = []
        note(f"what an instance trusts is not known: {error.message}")
    if as_json:
        print_json({"own": own, "trusted": trusted})
        return
    click.echo(f"your own, in {keys_folder()}")
    rows = [
        (key["keyid"][:12], key["name"], local_time(key["expires_at"]), "yes" if key["signs"] else "no") for key in own
    ]
    show_table(("KEY", "NAME", "EXPIRES", "SIGNS"), rows)
    click.echo("\ntrusted by the instance")
    listed = [
        (
            key["keyid"][:12],
            key["name"] + (" (instance)" if key["instance"] else ""),
            local_time(key["expires_at"]),
            f"revoked {local_time(key['revoked_at'])}" if key["revoked_at"] else f"by {key['added_by']}",
        )
        for key in trusted
    ]
    show_table(("KEY", "NAME", "EXPIRES", "TRUSTED"), listed)


@keys.command(short_help="Write the public half of a key of your own, or of the instance's.")
@_name
@click.option("--instance", is_flag=True, help="The key of the instance itself, which attests what was decided there.")
@click.option("-o", "--output", type=click.File("wb"), default="-", help="File to write. Default: standard output.")
@click.option("--server", help="URL of the API, for --instance. Default: TURNOUT_SERVER, or the instance of --state.")
@click.option("--state", type=click.Path(path_type=Path, file_okay=False), help="State folder of the instance.")
def export(name: str, instance: bool, output: IO[bytes], server: str | None, state: Path | None) -> None:
    """Write the public half of the newest key, as `turnout keys trust` reads it."""
    if instance:
        output.write(_instance_key(connect(server, state)) + b"\n")
        return
    from turnout.artifacts.attest.keyring import list_keys
    from turnout.artifacts.attest.keys import export_public

    mine = [kept for kept in list_keys(keys_folder()) if kept.public.name == name and kept.can_sign(time.time())]
    if not mine:
        others = sorted({kept.public.name for kept in list_keys(keys_folder())})
        hint = f"there are keys of {', '.join(others)}: --name" if others else "make one with `turnout keys init`"
        raise NotFound(f"{name} has no key in {keys_folder()} that can sign", hint=hint)
    output.write(export_public(mine[-1].public) + b"\n")


@keys.command(short_help="Let an instance trust a key.")
@click.argument("file", type=click.File("rb"))
@click.option("--instance", is_flag=True, help="It is the key of another instance, which attests what others decided.")
@connected
def trust(client: Client, file: IO[bytes], instance: bool, as_json: bool) -> None:
    """Trust the public key in FILE (- for standard input): what it signed counts from now on. For admins."""
    view = client.trust_key(file.read().decode(errors="replace").strip(), instance=instance)
    if as_json:
        print_json(view)
    else:
        click.echo(f"trusts {view['keyid'][:12]} ({view['name']}) until {local_time(view['expires_at'])}")


@keys.command(short_help="Let an instance trust a key no longer.")
@click.argument("keyid")
@connected
def revoke(client: Client, keyid: str, as_json: bool) -> None:
    """Trust the key KEYID no longer (its first eight digits or more), nor anything that it ever signed. For admins."""
    found = [
        key["keyid"] for key in client.trusted_keys()["keys"] if len(keyid) >= 8 and key["keyid"].startswith(keyid)
    ]
    if len(found) != 1:
        raise NotFound(f"no one key begins with {keyid!r}", hint="see `turnout keys list`; give eight digits or more")
    client.revoke_key(found[0])
    if as_json:
        print_json({"keyid": found[0], "revoked": True})
    else:
        click.echo(f"revoked {found[0][:12]}: nothing that it signed counts any more; what runs goes on running")


def _instance_key(client: Client) -> bytes:
    """The newest key that the instance has added by itself and that was not revoked."""
    from turnout.artifacts.attest.keys import TrustedKey, export_public
    from turnout.artifacts.attest.times import parse_time

    own = [key for key in client.trusted_keys()["keys"] if key["instance"] and key["added_by"] == "turnout"]
    usable = [key for key in own if key["revoked_at"] is None]
    if not usable:
        raise NotFound("the instance has no key that counts", hint="its next start makes one")
    newest = max(usable, key=lambda key: key["created_at"])
    times = parse_time(newest["created_at"]), parse_time(newest["expires_at"])
    return export_public(TrustedKey(newest["keyid"], newest["name"], newest["public"], *times, instance=True))


def _show_made(made: KeptKey, *, as_json: bool) -> None:
    public = made.public
    if as_json:
        print_json({"keyid": public.keyid, "name": public.name, "file": str(made.path)})
        return
    click.echo(f"{public.label}  {made.path}")
    named = "" if public.name == user_name() else f" --name {public.name}"
    note(f"let an instance trust it: `turnout keys export{named} | turnout keys trust -`")
