"""Secrets of Secret Manager into the environment of a process: workers and launcher take passwords and keys from there.

``LLM_FINOPS_SECRETS`` of the image names them, between spaces; it holds names, no secrets::

    LLM_FINOPS_STORE__PASSWORD=projects/PROJECT/secrets/NAME/versions/latest

As a program it starts what the image of Beam starts, ``/opt/apache/beam/boot``, with those secrets in its environment.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Mapping
from typing import Final

VARIABLE: Final = "LLM_FINOPS_SECRETS"
BOOT: Final = "/opt/apache/beam/boot"

_ITEM: Final = re.compile(r"(LLM_FINOPS_[A-Z0-9_]+)=(projects/[^/\s]+/secrets/[^/\s]+/versions/[^/\s]+)")


def named(text: str) -> dict[str, str]:
    """Variables and the secrets they get.

    Raises:
        ValueError: an item is not ``VARIABLE=projects/…/secrets/…/versions/…``, or a variable is named twice.
    """
    found: dict[str, str] = {}
    for item in text.split():
        match = _ITEM.fullmatch(item)
        if match is None:
            raise ValueError(f"{VARIABLE}: not VARIABLE=projects/P/secrets/S/versions/V: {item}")
        if match[1] in found:
            raise ValueError(f"{VARIABLE}: {match[1]} is named twice")
        found[match[1]] = match[2]
    return found


def fetched(environ: Mapping[str, str], access: Callable[[str], bytes] | None = None) -> dict[str, str]:
    """The variables that ``environ`` asks for, with their values. ``access`` gives a secret; Secret Manager's if not given.

    A variable that is set already stays as it is.

    Raises:
        ValueError: as ``named`` does.
        google.api_core.exceptions.GoogleAPICallError: a secret is not there, or this account may not read it.
    """
    wanted = {variable: name for variable, name in named(environ.get(VARIABLE, "")).items() if not environ.get(variable)}
    if not wanted:
        return {}
    access = access or _secret_manager()
    return {variable: access(name).decode().rstrip("\n") for variable, name in wanted.items()}


def _secret_manager() -> Callable[[str], bytes]:
    from google.cloud import secretmanager

    client = secretmanager.SecretManagerServiceClient()
    return lambda name: bytes(client.access_secret_version(name=name).payload.data)


if __name__ == "__main__":
    os.environ.update(fetched(os.environ))
    os.execv(BOOT, [BOOT, *sys.argv[1:]])
