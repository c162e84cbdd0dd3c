"""Settings for generated examples on a machine that may be busy: no limit on how long one takes."""

from __future__ import annotations

from hypothesis import HealthCheck, settings

PATIENT = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
