"""The API over a stage: one client a role."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

import httpx
from fastapi import FastAPI

from tests.unit.controller.stage import ADMIN, Stage, staged
from tests.unit.domain.values import AGENT, make_release
from turnout.api.app import create_app
from turnout.artifacts.attest.keys import SigningKey
from turnout.artifacts.attest.notary import StoreNotary
from turnout.artifacts.diff import diff_releases
from turnout.artifacts.fake import MemoryArtifactStore
from turnout.artifacts.intake import Intake
from turnout.artifacts.release import read_release
from turnout.domain.models import CanaryStep, Digest, RingSettings
from turnout.domain.policy import Role
from turnout.services.office import Office, ReadRelease
from turnout.services.tokens import create_token

RINGS = (
    RingSettings("dev"),
    RingSettings("staging"),
    RingSettings("production", approvals=1, canary=(CanaryStep(1_000, duration=60.0),)),
)
ONE, TWO, THREE = (make_release(f"v{number}", rings=RINGS) for number in (1, 2, 3))
URL = f"/v1/agents/{AGENT}"
_keys = count(1)


@dataclass(frozen=True)
class Caller:
    """Calls an application without a network, each request in a loop of its own. A stream is read to its end."""

    app: FastAPI
    headers: dict[str, str]

    def request(self, method: str, path: str, **content: Any) -> httpx.Response:
        """Send a request and wait for the answer."""

        async def send() -> httpx.Response:
            transport = httpx.ASGITransport(self.app, raise_app_exceptions=False)
            async with httpx.AsyncClient(
                transport=transport, base_url="http://turnout", headers=self.headers
            ) as client:
                return await client.request(method, path, **content)

        return asyncio.run(send())

    def get(self, path: str) -> httpx.Response:
        """Read."""
        return self.request("GET", path)

    def post(self, path: str, body: Any = None, **content: Any) -> httpx.Response:
        """Write."""
        return self.request("POST", path, json=body, **content)


@dataclass
class Api:
    """A server's API, the stage behind it, and a client for each role; the token of a role is the name of it."""

    stage: Stage
    office: Office
    clients: dict[str, Caller]
    anonymous: Caller

    @property
    def admin(self) -> Caller:
        """The client of the role admin."""
        return self.clients["admin"]

    def post(self, path: str, body: dict[str, Any], role: str = "admin", **headers: str) -> Any:
        """A write; the answer's body. Fails unless it was accepted."""
        answer = self.clients[role].post(f"{URL}{path}", body, headers=headers)
        assert answer.status_code in (200, 201, 202), answer.text
        return answer.json()


@contextmanager
def served(folder: Path) -> Iterator[Api]:
    """An API that knows three releases, none of them deployed."""
    with staged(folder, (ONE, TWO, THREE)) as stage:
        artifacts = MemoryArtifactStore()
        office = replace(
            stage.office,
            artifacts=artifacts,
            intake=Intake(artifacts),
            notary=StoreNotary(artifacts, _no_key),
            read_release=partial(_read, artifacts),
            diff=partial(diff_releases, artifacts),
        )
        app = create_app(office)
        clients = {}
        for role in Role:
            secret = f"secret of the {role.value}"
            create_token(office, ADMIN, f"{role.value}-1", role.value, secret)
            headers = {"Authorization": f"Bearer {secret}"}
            clients[role.value] = Caller(app, headers)
        yield Api(stage, office, clients, Caller(app, {}))


def to_canary(api: Api) -> None:
    """v1 is active in every ring; v2 runs its canary in production."""
    for release in (ONE, TWO):
        api.stage.deploy(release)
        api.stage.promote("dev", "staging")
        api.stage.promote("staging", "production")
        api.stage.approve("production")
        api.stage.look("production")
    assert api.stage.pointer("production").candidate == TWO.digest


def key() -> dict[str, str]:
    """The header of an idempotency key that was not used yet."""
    return {"Idempotency-Key": f"key-{next(_keys):08}"}


def _read(artifacts: MemoryArtifactStore, digest: Digest) -> ReadRelease:
    read = read_release(artifacts, digest)
    return ReadRelease(read.components, read.spec, artifacts.read_all(read.components["config"].digest))


def _no_key() -> SigningKey:
    raise AssertionError("nothing is signed here")
