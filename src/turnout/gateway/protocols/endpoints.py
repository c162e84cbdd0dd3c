"""The endpoints that agents call, and the paths of providers behind them."""

from __future__ import annotations

from enum import StrEnum

from turnout.gateway.values import Protocol


class Endpoint(StrEnum):
    """An endpoint that is passed on to a provider, by its path below /v1/."""

    CHAT = "chat/completions"
    RESPONSES = "responses"
    EMBEDDINGS = "embeddings"
    MESSAGES = "messages"

    @property
    def protocol(self) -> Protocol:
        """Whose endpoint it is."""
        return Protocol.ANTHROPIC if self is Endpoint.MESSAGES else Protocol.OPENAI


BY_PATH = {f"/v1/{endpoint}": endpoint for endpoint in Endpoint}
MODELS_PATH = "/v1/models"
