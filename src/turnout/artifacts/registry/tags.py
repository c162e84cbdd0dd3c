"""Names in a registry: version tags, the tag that every release has, and the tags that carry referrers.

A registry's tag has letters, digits and `. _ -`, a version tag of turnout also `/ : @ +` as separators. These four become
pairs that no version tag holds, so the way back is exact: `support/v1+3` is `support__v1_.3`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from turnout.artifacts.digest import digest_from_hex, hex_digits
from turnout.artifacts.index import check_tags
from turnout.artifacts.registry.answers import not_a_registry
from turnout.artifacts.registry.client import RegistryClient
from turnout.domain.errors import InvalidRequest
from turnout.domain.models import Digest

_PAIRS = {"/": "__", "+": "_.", ":": "_-", "@": "._"}
_SIGNS = {pair: sign for sign, pair in _PAIRS.items()}
_LONGEST = 128
_DIGEST_TAG = re.compile(r"[0-9a-f]{64}")
_MANIFEST_TAG = re.compile(r"[0-9a-f]{32}\.[0-9a-f]{64}")
_REFERRERS_TAG = re.compile(r"sha256-[0-9a-f]{64}(?:\..*)?")
_PAGE = 1_000


def encode_tags(tags: Iterable[str]) -> tuple[str, ...]:
    """Version tags as a registry can hold them. Raises `InvalidRequest` for one that cannot be."""
    return tuple(_encode(tag) for tag in check_tags(tags))


def decode_tag(name: str) -> str | None:
    """The version tag that a registry's tag stands for; None when it is none of turnout's."""
    tag = re.sub(r"__|_\.|_-|\._", lambda pair: _SIGNS[pair[0]], name)
    try:
        return check_tags([tag])[0]
    except InvalidRequest:
        return None


def release_tag(release: Digest) -> str:
    """The tag that every release has."""
    return hex_digits(release)


def release_of_tag(name: str) -> Digest | None:
    """The release that a tag names by its digest."""
    return digest_from_hex(name) if _DIGEST_TAG.fullmatch(name) else None


def manifest_tag(release: Digest, manifest: Digest) -> str:
    """A tag that says which manifest a release has, should the registry not be able to give it out any more."""
    return f"{hex_digits(release)[:32]}.{hex_digits(manifest)}"


def manifest_of_tag(name: str, release: Digest) -> Digest | None:
    """The manifest that such a tag of the release names."""
    digits = name.removeprefix(f"{hex_digits(release)[:32]}.")
    return digest_from_hex(digits) if _MANIFEST_TAG.fullmatch(name) and digits != name else None


def is_manifest_tag(name: str) -> bool:
    """Whether a tag says which manifest a release has."""
    return _MANIFEST_TAG.fullmatch(name) is not None


def referrers_tag(subject: Digest) -> str:
    """The tag of the list of referrers, where the registry keeps none itself."""
    return f"sha256-{hex_digits(subject)}"


def referrer_tag(subject: Digest, referrer: Digest) -> str:
    """The tag of one referrer beside that list; see `referrers.py`."""
    return f"{referrers_tag(subject)}.{hex_digits(referrer)[:32]}"


def is_referrers_tag(name: str) -> bool:
    """Whether a tag is about referrers."""
    return _REFERRERS_TAG.fullmatch(name) is not None


def list_tags(client: RegistryClient) -> Iterator[str]:
    """All tags of the repository, page by page."""
    for answer in client.pages(f"{client.path('tags', 'list')}?n={_PAGE}"):
        body = answer.json()
        tags = (body.get("tags") or []) if isinstance(body, dict) else body
        if not isinstance(tags, list) or not all(isinstance(tag, str) for tag in tags):
            raise not_a_registry(answer)
        yield from tags


def _encode(tag: str) -> str:
    name = re.sub(r"[/+:@]", lambda sign: _PAIRS[sign[0]], tag)
    if len(name) > _LONGEST:
        raise InvalidRequest(
            f'"{tag[:80]}" cannot be a tag in a registry', hint=f"at most {_LONGEST} characters; / : @ + count twice"
        )
    return name
