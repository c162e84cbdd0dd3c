"""An agent that knows nothing of turnout: what it is asked for reaches its model by OpenTelemetry alone."""

import os

import httpx
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route


async def ask(_: Request) -> JSONResponse:
    """Ask the model, with what the environment says."""
    headers = {"authorization": f"Bearer {os.environ['OPENAI_API_KEY']}"}
    body = {"model": os.environ["MODEL"], "messages": [{"role": "user", "content": "hello"}]}
    async with httpx.AsyncClient(trust_env=False) as client:
        url = os.environ["OPENAI_BASE_URL"] + "/chat/completions"
        answer = await client.post(url, json=body, headers=headers, timeout=20)
    return JSONResponse(answer.json(), answer.status_code)


async def health(_: Request) -> JSONResponse:
    """It lives."""
    return JSONResponse({"ok": True})


app = Starlette(routes=[Route("/ask", ask), Route("/ping", health)])
