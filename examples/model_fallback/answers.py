r"""Answers that move to another model when the first one is out of breath.

Claude is asked at most 50 times a minute by all runs together. When it says 429, its own `retry-after` is waited for,
durably; after the third the answer comes from another provider. Five failures within a minute, counted over all runs,
open the breaker: then nobody asks Claude for 30 seconds, and every answer comes from the other one at once.

    ANTHROPIC_API_KEY=... OPENAI_API_KEY=... stepwell dev examples/model_fallback/answers.py
    stepwell trigger answer --wait -p '{"question": "What is durable execution?"}'
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

import httpx2

from stepwell import AbortRun, Retry, RetryAfter, breaker, ctx, limiter, retry_after_header, step, task
from stepwell.errors import BreakerOpen

CLAUDE = os.environ.get("ANTHROPIC_BASE_URL", "https://api.anthropic.com")
OPENAI = os.environ.get("OPENAI_BASE_URL", "https://api.openai.com/v1")

claude_is_up = breaker("claude", failures=5, window="1m", cool_down="30s")
claude_pace = limiter("claude", 50, per="1m")


class RateLimited(Exception):
    """The provider said 429. What it says of the time is in the headers of the error that this one was raised from."""


@dataclass
class Answer:
    text: str
    model: str


def when(error: BaseException, attempt: int) -> RetryAfter | AbortRun | None:
    """Asked right after each failure, with the very error; its answer is journaled with it."""
    match error:
        case BreakerOpen():
            return AbortRun("nobody asks now: the task goes another way")
        case RateLimited():
            return retry_after_header(error, longest="1m")  # what the provider asks for, or None: as the policy says
        case httpx2.HTTPStatusError() if error.response.status_code < 500:
            return AbortRun("another try will not help")
        case _:
            return None


@step(retry=Retry(max_attempts=3, when=when), timeout="2m", breaker=claude_is_up)
async def ask_claude(question: str) -> Answer:
    await claude_pace.acquire()
    said = await post(
        f"{CLAUDE}/v1/messages",
        {"x-api-key": os.environ.get("ANTHROPIC_API_KEY", ""), "anthropic-version": "2023-06-01"},
        {"model": "claude-sonnet-4-5", "max_tokens": 1024, "messages": [{"role": "user", "content": question}]},
    )
    return Answer(said["content"][0]["text"], said["model"])


@step(retry=Retry(max_attempts=3, when=when), timeout="2m")
async def ask_gpt(question: str) -> Answer:
    said = await post(
        f"{OPENAI}/chat/completions",
        {"authorization": f"Bearer {os.environ.get('OPENAI_API_KEY', '')}"},
        {"model": "gpt-5", "messages": [{"role": "user", "content": question}]},
    )
    return Answer(said["choices"][0]["message"]["content"], said["model"])


async def post(url: str, headers: dict[str, str], body: dict[str, Any]) -> Any:
    async with httpx2.AsyncClient(timeout=110) as http:
        response = await http.post(url, headers=headers, json=body)
    try:
        response.raise_for_status()
    except httpx2.HTTPStatusError as error:
        if response.status_code == 429:
            raise RateLimited(f"{url} said 429") from error
        raise
    return response.json()


@task(id="answer", retry=Retry(max_attempts=5, min_timeout="30s", max_timeout="10m"))
async def answer(question: str) -> Answer:
    try:
        return await ask_claude(question)
    except (RateLimited, BreakerOpen) as error:
        ctx.log.warning("not by Claude: %s", error)
    return await ask_gpt(question)
