"""`turnout deploy`."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from turnout.cli.building import (
    WORK_FOLDER,
    build_store,
    built,
    cache_option,
    find_git_sha,
    last_build,
    missing_blobs,
    push,
    remember_build,
)
from turnout.cli.connection import connected, note
from turnout.cli.evaluating import Evaluating, evals_option, gateway_option
from turnout.cli.follow import follow
from turnout.cli.preview import show_preview
from turnout.cli.signing import Signing, sign_option
from turnout.client import Client
from turnout.domain.errors import InvalidRequest, ManifestError, NotFound
from turnout.domain.models import short_digest

if TYPE_CHECKING:
    from turnout.manifest import Manifest
    from turnout.manifest.schema import Fallback, Model, OtherModel


@click.command()
@click.argument("folder", type=click.Path(path_type=Path, exists=True, file_okay=False), default=".")
@click.option("--agent", help="Deploy a release of this agent that the server has, named by --tag; FOLDER is not read.")
@click.option("--ring", help="Ring to deploy to. Default: the first one.")
@click.option("--tag", help="Version of the release; with --skip-build the release to deploy.")
@click.option("--skip-build", is_flag=True, help="Deploy what was built last, or the release named by --tag.")
@cache_option
@sign_option
@evals_option
@gateway_option
@click.option("--force", is_flag=True, help="Deploy again even if the ring runs this release already.")
@click.option("--override", help="Reason for passing over a policy (order of rings, quarantine, evals, replay); admins only.")
@click.option("--reason", default="", help="Why, for the history.")
@click.option("--dry-run", is_flag=True, help="Print what would happen and change nothing.")
@click.option("--wait", is_flag=True, help="Wait through approvals and canary steps too.")
@click.option("--no-wait", is_flag=True, help="Return at once.")
@connected
def deploy(
    client: Client,
    folder: Path,
    agent: str | None,
    ring: str | None,
    tag: str | None,
    skip_build: bool,
    cached: bool,
    sign: bool | None,
    evals: bool | None,
    gateway: Path | None,
    dry_run: bool,
    wait: bool,
    no_wait: bool,
    as_json: bool,
    **wish: Any,
) -> None:
    """Validate, build, push and deploy the agent in FOLDER to its first ring."""
    if agent is not None:
        _deploy_pushed(client, agent, ring, tag, wish, dry_run=dry_run, wait=wait, no_wait=no_wait, as_json=as_json)
        return
    from turnout.manifest import load_manifest

    began = time.time()
    manifest = load_manifest(folder)
    note("validate turnout.toml is valid")
    target = ring or next(iter(manifest.ring_tables))
    if target not in manifest.ring_tables:
        hint = f"its rings are {', '.join(manifest.ring_tables)}; rings are declared in turnout.toml"
        raise NotFound(f"{manifest.agent} has no ring {target!r}", hint=hint)
    if not skip_build:
        _check_pins(manifest, target, wish["override"])
    if dry_run:
        _preview(client, folder, manifest, target, tag, wish, skip_build=skip_build, cached=cached, as_json=as_json)
        return
    if skip_build:
        release = tag or last_build(folder)
    else:
        with build_store(folder, throw_away=False) as store, built(folder, manifest, store, cached=cached) as parts:
            spool, git_sha = folder / WORK_FOLDER, find_git_sha(folder)
            signing = Signing(folder, git_sha, began, sign)
            reports = Evaluating(folder, manifest, client, evals, gateway).built(store, parts)
            release = push(client, store, parts, signing, reports, spool=spool, tag=tag, verify=not cached)["digest"]
            remember_build(folder, manifest.agent, release)
    _start(client, manifest.agent, target, {"release": release, **wish}, wait=wait, no_wait=no_wait, as_json=as_json)


def _deploy_pushed(
    client: Client,
    agent: str,
    ring: str | None,
    tag: str | None,
    wish: dict[str, Any],
    *,
    dry_run: bool,
    wait: bool,
    no_wait: bool,
    as_json: bool,
) -> None:
    """A release that was imported, or pushed by somebody else: nothing here tells of it but its name."""
    if tag is None:
        raise InvalidRequest(f"no release of {agent} was named", hint="name its version or digest with --tag")
    target = ring or client.agent(agent)["rings"][0]["ring"]
    body = {"release": tag, **wish}
    if dry_run:
        show_preview(client.preview(agent, target, "deployments", body), [], as_json=as_json)
    else:
        _start(client, agent, target, body, wait=wait, no_wait=no_wait, as_json=as_json)


def _start(
    client: Client, agent: str, target: str, body: dict[str, Any], *, wait: bool, no_wait: bool, as_json: bool
) -> None:
    deployment = client.deploy(agent, target, body)
    if deployment["state"] == "active":
        note(f"deploy   nothing to do: {target} runs {deployment['version']} already; --force deploys it again")
        follow(client, deployment, wait=False, no_wait=True, as_json=as_json)
        return
    note(f"deploy   {agent} {deployment['version']} ({short_digest(deployment['digest'])}) to {target}")
    follow(client, deployment, wait=wait, no_wait=no_wait, as_json=as_json)


def _check_pins(manifest: Manifest, ring: str, override: str | None) -> None:
    """Refuse before anything is built what the server would refuse. Raises `ManifestError`."""
    if manifest.model is None or manifest.ring_tables[ring].floating_models or override is not None:
        return
    from turnout.manifest.models import floating_fault

    pins: dict[str, Model | Fallback | OtherModel] = {"model.name": manifest.model}
    pins |= {f"model.fallbacks[{index}].name": pin for index, pin in enumerate(manifest.model.fallbacks)}
    pins |= {f"model.others[{index}].name": pin for index, pin in enumerate(manifest.model.others)}
    faults = {place: floating_fault(pin.provider, pin.name) for place, pin in pins.items()}
    problems = tuple(f"{place}: {fault}" for place, fault in faults.items() if fault)
    if problems:
        raise ManifestError(
            f"{ring} takes no model whose name changes its meaning",
            problems=problems,
            hint=f"pin a dated name, or set floating_models = true in [rings.{ring}]",
        )


def _preview(
    client: Client,
    folder: Path,
    manifest: Any,
    ring: str,
    tag: str | None,
    wish: dict[str, Any],
    *,
    skip_build: bool,
    cached: bool,
    as_json: bool,
) -> None:
    """Build into a folder that is thrown away, ask the server what it would do, and say so."""
    if skip_build:
        body = {"release": tag or last_build(folder), **wish}
        show_preview(client.preview(manifest.agent, ring, "deployments", body), [], as_json=as_json)
        return
    with build_store(folder, throw_away=True) as store, built(folder, manifest, store, cached=cached) as parts:
        config = json.loads(store.read_all(parts.components["config"].digest))
        unpushed = {
            "digest": parts.digest,
            "components": {name: ref.digest for name, ref in parts.components.items()},
            "config": config,
            "version": tag or f"sha-{short_digest(parts.digest)}",
        }
        missing = missing_blobs(client, parts)
        pushes = [f"push: {len(missing)} blobs, {sum(store.size(digest) for digest in missing):,} bytes"]
        if parts.data and parts.components["data"].digest in missing:
            pushes.append(
                f"push: of {parts.data.index.size:,} bytes of data those chunks that the server does not have"
            )
    body = {"unpushed": unpushed, **wish}
    show_preview(client.preview(manifest.agent, ring, "deployments", body), pushes, as_json=as_json)
