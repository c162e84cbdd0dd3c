"""/v1/agents/{agent}/releases and blobs: taking in what a client built."""

from __future__ import annotations

import asyncio
import queue
import re
from collections.abc import Iterator
from functools import partial
from typing import Annotated

import anyio.to_thread
from fastapi import APIRouter, Query, Request
from fastapi.responses import Response, StreamingResponse
from pydantic import BaseModel, ConfigDict, Field
from starlette.requests import ClientDisconnect

from turnout.api.auth import Authenticated, Uploading
from turnout.domain.errors import DamagedContent, InvalidRequest, NotFound
from turnout.domain.models import Digest
from turnout.domain.policy import Verb
from turnout.schemas import (
    AttestationAnswer,
    AttestationList,
    DiffView,
    MissingBlobs,
    MissingChunks,
    ReleaseList,
    ReleaseView,
    ToolPinList,
    VerificationView,
)
from turnout.services import releases as services
from turnout.services import storage, tools, verification
from turnout.services.office import Office

router = APIRouter(prefix="/v1/agents/{agent}", tags=["releases"])
_STALLED_SECONDS = 60.0
_UPLOADS = anyio.CapacityLimiter(8)
_DIGEST = r"^sha256:[0-9a-f]{64}$"


class ReleaseBody(BaseModel):
    """A release whose blobs are uploaded."""

    model_config = ConfigDict(extra="forbid")

    bundles: list[str] = Field(
        default_factory=list, description="the bundles of chunks that were uploaded for it", max_length=10_000
    )
    tag: str | None = None
    git_sha: str | None = Field(default=None, max_length=64)


class BlobsBody(BaseModel):
    """Blobs by digest."""

    model_config = ConfigDict(extra="forbid")

    digests: list[str] = Field(max_length=10_000)


class AttestationBody(BaseModel):
    """A signed statement."""

    model_config = ConfigDict(extra="forbid")

    envelope: str = Field(description="the DSSE envelope, as text", max_length=2 << 20)


class WheelsBody(BaseModel):
    """Wheels that are uploaded, by file name."""

    model_config = ConfigDict(extra="forbid")

    wheels: dict[str, str] = Field(max_length=2_000)


class ChunksBody(BaseModel):
    """The data of a release, by its index."""

    model_config = ConfigDict(extra="forbid")

    index: str = Field(description="digest of the index, which is uploaded")
    verify: bool = Field(default=False, description="read what is stored, and do not count on what is damaged")


@router.get("/releases")
def list_releases(agent: str, call: Authenticated) -> ReleaseList:
    """All releases of an agent, newest first."""
    return services.list_releases(call.office, call.actor, agent)


@router.get("/releases/{ref}")
def show_release(agent: str, ref: str, call: Authenticated) -> ReleaseView:
    """One release, by version, digest or `ring:NAME`."""
    return services.show_release(call.office, call.actor, agent, ref)


@router.get("/releases/{ref}/tools")
def list_tools(agent: str, ref: str, call: Authenticated) -> ToolPinList:
    """The tools that a release may call through the gateway, with their rules."""
    return tools.list_tools(call.office, call.actor, agent, ref)


@router.put("/releases/{digest}")
def put_release(agent: str, digest: str, body: ReleaseBody, call: Authenticated) -> ReleaseView:
    """Record a release. Its blobs must be there; everything is verified."""
    bundles = [_check_digest(bundle) for bundle in body.bundles]
    return services.add_release(
        call.office, call.actor, agent, _check_digest(digest), bundles, tag=body.tag, git_sha=body.git_sha
    )


@router.get("/diff")
def diff(agent: str, a: Annotated[str, Query()], b: Annotated[str, Query()], call: Authenticated) -> DiffView:
    """What differs from release `a` to release `b`, by component."""
    return services.diff_releases(call.office, call.actor, agent, a, b)


@router.get("/releases/{ref}/verification")
def verify_release(agent: str, ref: str, call: Authenticated, ring: str | None = None) -> VerificationView:
    """Read everything of a release, check its attestations, and hold it against what a ring demands."""
    return verification.verify_release(call.office, call.actor, agent, ref, ring)


@router.get("/releases/{ref}/attestations")
def list_attestations(agent: str, ref: str, call: Authenticated) -> AttestationList:
    """The attestations of a release, each with whether it counts."""
    return verification.list_attestations(call.office, call.actor, agent, ref)


@router.post("/releases/{ref}/attestations", status_code=201)
def attest_release(agent: str, ref: str, body: AttestationBody, call: Authenticated) -> AttestationAnswer:
    """Keep a signed statement about a release: an in-toto statement in a DSSE envelope."""
    note = verification.attest_release(call.office, call.actor, agent, ref, body.envelope.encode())
    return {"note": note}


@router.get("/releases/{ref}/archive", response_class=StreamingResponse)
def export_release(agent: str, ref: str, call: Authenticated) -> StreamingResponse:
    """A release with its attestations as one file: an OCI image layout in a tar archive."""
    archive = storage.export_release(call.office, call.actor, agent, ref)
    headers = {"Content-Length": str(archive.size), "Content-Disposition": f'attachment; filename="{archive.name}"'}
    return StreamingResponse(archive.content, media_type="application/x-tar", headers=headers)


@router.put("/releases/{ref}/wheels")
def put_wheels(agent: str, ref: str, body: WheelsBody, call: Authenticated) -> ReleaseView:
    """Let uploaded wheels refer to a release, which is then installed from them alone."""
    wheels = {name: _check_digest(digest) for name, digest in body.wheels.items()}
    return storage.attach_wheels(call.office, call.actor, agent, ref, wheels)


@router.delete("/tags/{tag}", status_code=204)
def remove_tag(agent: str, tag: str, call: Authenticated) -> Response:
    """Let a version name nothing any more."""
    storage.untag_release(call.office, call.actor, agent, tag)
    return Response(status_code=204)


@router.post("/blobs/missing")
def list_missing(agent: str, body: BlobsBody, call: Authenticated) -> MissingBlobs:  # noqa: ARG001
    """Which of these blobs have to be uploaded: those that are not stored yet."""
    call.actor.check(Verb.BUILD)
    wanted = [_check_digest(digest) for digest in body.digests]
    return {"missing": [digest for digest in wanted if not _is_intact(call.office, digest)]}


@router.post("/chunks/missing")
def list_missing_chunks(agent: str, body: ChunksBody, call: Authenticated) -> MissingChunks:
    """Which chunks of the data with this index have to be pushed in bundles, as [first, count] in the index's order."""
    return services.find_missing_chunks(call.office, call.actor, agent, _check_digest(body.index), verify=body.verify)


@router.put("/blobs/{digest}", status_code=204)
async def put_blob(agent: str, digest: str, request: Request, call: Uploading) -> Response:  # noqa: ARG001
    """Upload a blob. Its bytes must have the digest."""
    call.actor.check(Verb.BUILD)
    try:
        await _write(call.office, _check_digest(digest), request)
    except DamagedContent as error:  # of what was sent, not of what is stored
        raise InvalidRequest(error.message, hint="send it again; nothing was stored") from error
    return Response(status_code=204)


async def _write(office: Office, digest: Digest, request: Request) -> None:
    """Bytes come in asynchronously and are written by a thread; a short queue between them bounds the memory."""
    chunks: queue.Queue[bytes | None] = queue.Queue(maxsize=16)
    cut = InvalidRequest(f"the upload of {digest} was cut", hint="send it again: a cut upload leaves nothing behind")

    def taken() -> Iterator[bytes]:
        while True:
            try:
                chunk = chunks.get(timeout=_STALLED_SECONDS)
            except queue.Empty:
                raise cut from None
            if chunk is None:
                return
            yield chunk

    async def put(chunk: bytes | None) -> None:
        while not writing.done():
            try:
                chunks.put_nowait(chunk)
            except queue.Full:
                await asyncio.sleep(0.002)
            else:
                return

    # Threads of their own: slow uploads must not take the ones that answer a rollback. Who waits here reads nothing.
    work = partial(office.artifacts.write, taken(), digest)
    writing = asyncio.ensure_future(anyio.to_thread.run_sync(work, limiter=_UPLOADS))
    try:
        async for chunk in request.stream():
            await put(chunk)
    except ClientDisconnect:
        await put(None)  # the bytes so far do not have the digest, so that nothing is kept
        raise cut from None
    await put(None)
    await writing


def _is_intact(office: Office, digest: Digest) -> bool:
    """Read it: a damaged blob counts as missing, so that pushing the release again mends it."""
    try:
        for _ in office.artifacts.read(digest):
            pass
    except (NotFound, DamagedContent):
        return False
    return True


def _check_digest(text: str) -> Digest:
    if re.fullmatch(_DIGEST, text) is None:
        raise InvalidRequest(f"{text!r} is not a digest", hint="sha256: and 64 hexadecimal digits")
    return Digest(text)
