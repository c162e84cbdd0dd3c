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
    COUNT_TOKENS = "messages/count_tokens"

    @property
    def protocol(self) -> Protocol:
        """Whose endpoint it is."""
        return Protocol.ANTHROPIC if self in (Endpoint.MESSAGES, Endpoint.COUNT_TOKENS) else Protocol.OPENAI

    @property
    def writes(self) -> bool:
        """Whether tokens come out, which can be streamed."""
        return self not in (Endpoint.EMBEDDINGS, Endpoint.COUNT_TOKENS)

    @property
    def is_free(self) -> bool:
        """Whether providers charge nothing for it: no budget counts it."""
        return self is Endpoint.COUNT_TOKENS


BY_PATH = {f"/v1/{endpoint}": endpoint for endpoint in Endpoint}
MODELS_PATH = "/v1/models"
