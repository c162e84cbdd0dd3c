"""A registry in memory behind the HTTP client, which a test can make fail where it wants."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import count

import httpx

from turnout.artifacts.digest import sha256_digest
from turnout.artifacts.registry.auth import Credentials
from turnout.artifacts.registry.client import RegistryClient
from turnout.artifacts.registry.location import parse_location
from turnout.artifacts.registry.store import OciRegistryStore

URL = "https://registry.example/team"
REPOSITORY = "team/releases"
Intercept = Callable[[httpx.Request], httpx.Response | None]


@dataclass
class FakeRegistry:
    """Speaks distribution 1.1. `intercept` sees each request first: it answers, raises, or leaves it to the registry."""

    referrers_api: bool = True
    page: int = 1_000
    digest_header: bool = True
    intercept: Intercept | None = None
    blobs: dict[str, bytes] = field(default_factory=dict)
    manifests: dict[str, bytes] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    uploads: dict[str, bytes] = field(default_factory=dict)
    requests: list[httpx.Request] = field(default_factory=list)
    numbers: Iterator[int] = field(default_factory=count)

    def __call__(self, request: httpx.Request) -> httpx.Response:
        request.read()
        assert b"%" not in request.url.raw_path.partition(b"?")[0], "not every registry decodes a path"
        self.requests.append(request)
        answer = self.intercept(request) if self.intercept else None
        return answer or self.answer(request)

    def answer(self, request: httpx.Request) -> httpx.Response:
        """What a registry without faults answers."""
        path = request.url.path.removeprefix(f"/v2/{REPOSITORY}/")
        kind, _, reference = path.partition("/")
        if path == "tags/list":
            return self._list_tags(request)
        if path == "blobs/uploads/":
            return self._start(request)
        if path.startswith("blobs/uploads/"):
            return self._upload(request, path.rpartition("/")[2])
        if kind == "blobs":
            return self._give(request, self.blobs.get(reference))
        if kind == "referrers" and self.referrers_api:
            return httpx.Response(200, json={"schemaVersion": 2, "manifests": self._referrers(reference)})
        if kind == "manifests":
            return self._manifest(request, reference)
        return httpx.Response(404, text="404 page not found")

    def sent(self, method: str) -> list[str]:
        """The paths of all requests of a method."""
        return [request.url.path for request in self.requests if request.method == method]

    def _give(self, request: httpx.Request, content: bytes | None) -> httpx.Response:
        if content is None:
            return refuse(404, "BLOB_UNKNOWN")
        headers = {"Docker-Content-Digest": sha256_digest(content)} if self.digest_header else {}
        if request.method == "HEAD":
            return httpx.Response(200, headers={"Content-Length": str(len(content)), **headers})
        wanted = re.fullmatch(r"bytes=(\d+)-", request.headers.get("range", ""))
        if not wanted:
            return httpx.Response(200, content=content, headers=headers)
        first = int(wanted[1])
        if first >= len(content):
            return httpx.Response(416)
        span = {"Content-Range": f"bytes {first}-{len(content) - 1}/{len(content)}"}
        return httpx.Response(206, content=content[first:], headers=headers | span)

    def _start(self, request: httpx.Request) -> httpx.Response:
        name = f"upload{next(self.numbers)}"
        self.uploads[name] = b""
        return self._standing(202, name)

    def _upload(self, request: httpx.Request, name: str) -> httpx.Response:
        if name not in self.uploads:
            return refuse(404, "BLOB_UPLOAD_UNKNOWN")
        if request.method in ("GET", "DELETE"):
            if request.method == "DELETE":
                del self.uploads[name]
            return self._standing(204, name)
        begins = request.headers.get("content-range")
        if begins and int(begins.partition("-")[0]) != len(self.uploads[name]):
            return self._standing(416, name)
        self.uploads[name] += request.content
        if request.method == "PATCH":
            return self._standing(202, name)
        digest, content = request.url.params["digest"], self.uploads.pop(name)
        if sha256_digest(content) != digest:
            return refuse(400, "DIGEST_INVALID")
        self.blobs[digest] = content
        return httpx.Response(201)

    def _standing(self, status: int, name: str) -> httpx.Response:
        end = max(len(self.uploads.get(name, b"")) - 1, 0)
        return httpx.Response(
            status, headers={"Location": f"/v2/{REPOSITORY}/blobs/uploads/{name}", "Range": f"0-{end}"}
        )

    def _manifest(self, request: httpx.Request, reference: str) -> httpx.Response:
        if request.method != "PUT":
            return self._give(request, self.manifests.get(self.tags.get(reference, reference)))
        digest, document = sha256_digest(request.content), json.loads(request.content)
        named = [blob["digest"] for blob in (*filter(None, [document.get("config")]), *document.get("layers", []))]
        if not set(named) <= set(self.blobs):
            return refuse(400, "MANIFEST_BLOB_UNKNOWN")
        self.manifests[digest] = request.content
        if reference != digest:
            self.tags[reference] = digest
        subject = document.get("subject")
        return httpx.Response(201, headers={"OCI-Subject": subject["digest"]} if subject and self.referrers_api else {})

    def _referrers(self, subject: str) -> list[dict[str, object]]:
        return [
            {
                "mediaType": document["mediaType"],
                "digest": digest,
                "size": len(content),
                "artifactType": document.get("artifactType", ""),
            }
            for digest, content in self.manifests.items()
            if (document := json.loads(content)).get("subject", {}).get("digest") == subject
        ]

    def _list_tags(self, request: httpx.Request) -> httpx.Response:
        names = sorted(name for name in self.tags if name > request.url.params.get("last", ""))
        shown, headers = names[: self.page], {}
        if len(names) > self.page:
            headers["Link"] = f'</v2/{REPOSITORY}/tags/list?last={shown[-1]}&n={self.page}>; rel="next"'
        return httpx.Response(200, json={"name": REPOSITORY, "tags": shown or None}, headers=headers)


@dataclass
class Clock:
    """Counts what was slept."""

    pauses: list[float] = field(default_factory=list)
    passed: float = 0.0

    def sleep(self, seconds: float) -> None:
        self.pauses.append(seconds)
        self.passed += seconds

    def monotonic(self) -> float:
        return self.passed


def open_client(
    registry: Intercept | FakeRegistry,
    clock: Clock | None = None,
    credentials: Credentials | None = None,
    url: str = URL,
) -> RegistryClient:
    """A client that speaks to the fake and never really sleeps."""
    clock = clock or Clock()

    def respond(request: httpx.Request) -> httpx.Response:
        answer = registry(request)
        assert answer is not None
        return answer

    return RegistryClient(
        parse_location(url),
        credentials,
        transport=httpx.MockTransport(respond),
        sleep=clock.sleep,
        monotonic=clock.monotonic,
    )


def open_store(registry: Intercept | FakeRegistry, clock: Clock | None = None) -> OciRegistryStore:
    """A store on the fake."""
    client = open_client(registry, clock)
    return OciRegistryStore(client.location, client=client)


def refuse(status: int, code: str, message: str = "", headers: dict[str, str] | None = None) -> httpx.Response:
    """A refusal as registries write it."""
    return httpx.Response(status, json={"errors": [{"code": code, "message": message}]}, headers=headers)
