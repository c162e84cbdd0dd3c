"""What a grant says of what is kept: as much as the ring shows, or as much as its recordings need."""

from __future__ import annotations

import pytest

from tests.unit.domain.values import RING, make_release
from turnout.domain.grants import Pins, build_grant
from turnout.domain.models import Capture, Record, RingSettings


@pytest.mark.parametrize(
    ("record", "size", "models"),
    [
        (None, 100, False),
        (Record(size=50), 100, True),
        (Record(size=5_000), 5_000, True),
        (Record(size=5_000, models=False), 5_000, False),
    ],
)
def test_what_is_kept_of_calls_follows_capture_and_recording(record: Record | None, size: int, models: bool) -> None:
    release = make_release("v1", rings=(RingSettings(RING, capture=Capture(100, ("x",)), record=record),))
    grant = build_grant(release, RING, Pins(), "key")
    assert (grant.capture, grant.record_models) == (Capture(size, ("x",)), models)
    elsewhere = build_grant(release, "staging", Pins(), "key")
    assert (elsewhere.capture, elsewhere.record_models) == (Capture(), False)
