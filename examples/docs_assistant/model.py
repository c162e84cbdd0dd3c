"""The language model of the agent, where the release has one: it says in its own words what the documentation says.

Any OpenAI-compatible API will do; address and key come from the environment, as every OpenAI client reads them.
"""

from __future__ import annotations

import json
import os
import urllib.error
import urllib.request
from dataclasses import dataclass
from typing import Any

PASSAGE = 2_000  # characters of the documentation that the model is shown
TIMEOUT = 60.0  # seconds


class ModelFailed(Exception):
    """The model gave no answer."""


@dataclass(frozen=True, slots=True)
class Model:
    """Where the model answers, and how much it may say."""

    url: str
    key: str
    name: str
    tokens: int

    @classmethod
    def from_environment(cls) -> Model | None:
        """The model that DOCS_MODEL names; None where the agent only quotes."""
        name = os.environ.get("DOCS_MODEL")
        if not name:
            return None
        url = os.environ.get("OPENAI_BASE_URL", "https://api.openai.com/v1")
        return cls(url, os.environ.get("OPENAI_API_KEY", ""), name, int(os.environ.get("DOCS_MODEL_TOKENS", "48")))

    def phrase(self, question: str, passage: str, task: str | None) -> str:
        """The answer to a question in the model's words. Raises `ModelFailed`."""
        body = {
            "model": self.name,
            "max_tokens": self.tokens,
            "messages": [
                {"role": "system", "content": "Answer the question from the documentation that you are given."},
                {"role": "user", "content": f"{passage[:PASSAGE]}\n\nQuestion: {question}"},
            ],
        }
        # The task goes with the call, so that it can be told later what the call was made for.
        headers = {
            "Content-Type": "application/json",
            "Authorization": f"Bearer {self.key}",
            **({"x-turnout-task": task} if task else {}),
        }
        request = urllib.request.Request(f"{self.url}/chat/completions", json.dumps(body).encode(), headers)
        try:
            with urllib.request.urlopen(request, timeout=TIMEOUT) as answer:
                said: dict[str, Any] = json.load(answer)
            return str(said["choices"][0]["message"]["content"]).strip()
        except urllib.error.HTTPError as error:
            raise ModelFailed(f"{error.code}: {error.read(500).decode(errors='replace')}") from error
        except (OSError, ValueError, LookupError, TypeError) as error:
            raise ModelFailed(f"{type(error).__name__}: {error}") from error
