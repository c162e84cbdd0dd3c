from __future__ import annotations

from typing import Any

import pytest

from turnout.cli.deploy import _check_pins
from turnout.domain.errors import ManifestError
from turnout.manifest import Manifest

DATED = {"provider": "openai", "name": "gpt-4o-2024-08-06"}
FLOATING = {"provider": "openai", "name": "gpt-4o"}


@pytest.mark.parametrize(
    ("changes", "place"),
    [
        (FLOATING, "model.name"),
        ({"fallbacks": [DATED, FLOATING]}, "model.fallbacks[1].name"),
        ({"others": [FLOATING]}, "model.others[0].name"),
    ],
)
def test_every_model_that_may_be_called_is_pinned(changes: dict[str, Any], place: str) -> None:
    document = {"schema": 1, "agent": "ab", "code": {"start": ["a"]}, "model": {**DATED, **changes}}
    manifest = Manifest.model_validate(document)
    with pytest.raises(ManifestError) as raised:
        _check_pins(manifest, "dev", None)
    assert [line.partition(": ")[0] for line in raised.value.problems] == [place]
    _check_pins(manifest, "dev", "it is only for a day")
