"""Which names of models float, and what to pin instead, by the price table that is installed."""

from __future__ import annotations

import socket
import subprocess
import sys
import threading

import pytest

from turnout.manifest.models import dated_name, floating_fault, is_floating


@pytest.mark.parametrize(
    ("provider", "name", "dated"),
    [
        ("openai", "gpt-4o", "gpt-4o-2024-11-20"),
        ("openai", "gpt-4o-mini", "gpt-4o-mini-2024-07-18"),
        ("openai", "gpt-4", "gpt-4-0613"),
        ("openai", "gpt-3.5-turbo", "gpt-3.5-turbo-0125"),
        ("OpenAI", "GPT-4.1", "gpt-4.1-2025-04-14"),
        ("openai", "o1", "o1-2024-12-17"),
        ("anthropic", "claude-sonnet-4-5", "claude-sonnet-4-5-20250929"),
        ("anthropic", "claude-haiku-4-5", "claude-haiku-4-5-20251001"),
        ("anthropic", "claude-opus-4-1", "claude-opus-4-1-20250805"),
        ("anthropic", "claude-sonnet-4", "claude-sonnet-4-20250514"),
        ("anthropic", "claude-sonnet-4-0", "claude-sonnet-4-20250514"),
        ("anthropic", "claude-opus-4-0", "claude-opus-4-20250514"),
        ("anthropic", "claude-3-5-haiku-latest", "claude-3-5-haiku-20241022"),
        ("anthropic", "claude-3-7-sonnet-latest", "claude-3-7-sonnet-20250219"),
        ("google", "claude-haiku-4-5", "claude-haiku-4-5@20251001"),
        ("mistral", "mistral-large-latest", "mistral-large-2512"),
        ("mistral", "mistral-small-latest", "mistral-small-2603"),
        ("cohere", "command-r", "command-r-08-2024"),
        ("x-ai", "grok-4", "grok-4-0709"),
    ],
)
def test_an_alias_floats_and_its_dated_name_does_not(provider: str, name: str, dated: str) -> None:
    assert is_floating(provider, name)
    assert dated_name(provider, name) == dated
    assert not is_floating(provider, dated)
    assert dated_name(provider, dated) is None


@pytest.mark.parametrize(
    ("provider", "name"),
    [
        ("openai", "chatgpt-4o-latest"),
        ("ollama", "llama3.2:latest"),
        ("openrouter", "~anthropic/claude-opus-latest"),
        ("nobody", "latest"),
        ("nobody", "model@latest"),
        ("nobody", "model-LATEST"),
    ],
)
def test_latest_floats_also_where_no_dated_name_is_known(provider: str, name: str) -> None:
    assert is_floating(provider, name)
    assert dated_name(provider, name) is None


@pytest.mark.parametrize(
    ("provider", "name"),
    [
        ("openai", "gpt-4o-2024-08-06"),
        ("openai", "gpt-4o-2024-05-13"),
        ("openai", "gpt-4-0314"),
        ("anthropic", "claude-sonnet-4-5-20250929"),
        ("anthropic", "claude-opus-4-6"),  # has no other name
        ("google", "gemini-2.5-flash"),
        ("aws", "anthropic.claude-sonnet-4-5-20250929-v1:0"),
        ("groq", "moonshotai/kimi-k2-instruct"),  # another model than -0905
        ("huggingface_novita", "deepseek-ai/DeepSeek-V3"),
        ("ollama", "llama3.2"),
        ("extractive", "fts5-bm25-2026-01-01"),
        ("local", "gpt-4o"),
        ("vllm", "mistral-large"),
        ("openai", "a-model-of-tomorrow"),
        ("anthropic", "latest-news-summariser"),
        ("", ""),
        ("openai", "(["),
    ],
)
def test_what_is_pinned_or_not_known_does_not_float(provider: str, name: str) -> None:
    assert not is_floating(provider, name)
    assert dated_name(provider, name) is None


def test_the_fault_names_what_to_pin() -> None:
    assert floating_fault("openai", "gpt-4o") == (
        'the model "gpt-4o" of openai floats: pin a dated snapshot such as "gpt-4o-2024-11-20"'
    )
    assert (
        floating_fault("ollama", "llama3:latest") == 'the model "llama3:latest" of ollama floats: pin a dated snapshot'
    )
    assert floating_fault("ollama", "llama3") is None


def test_nothing_is_fetched_and_no_thread_is_started(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object) -> None:
        raise AssertionError("a connection")

    monkeypatch.setattr(socket.socket, "connect", refused)
    before = threading.active_count()
    assert is_floating("openai", "gpt-5")
    assert threading.active_count() == before


def test_importing_the_manifest_does_not_read_the_table() -> None:
    code = "import sys, turnout.manifest.models, turnout.manifest; sys.exit('genai_prices' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
