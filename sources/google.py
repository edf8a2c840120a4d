"""What the clients of Google's services have in common: their errors, in words for a person."""

from __future__ import annotations

from typing import Any

from sources.files import SourceError


def missing(named: str) -> SourceError:
    """The client's library is not installed."""
    return SourceError(f"{named}: needs the gcp extra: pip install 'llm-finops[gcp]'")


def explained(error: BaseException, named: str) -> SourceError:
    """One line that says what a person can do about an error."""
    from google.api_core import exceptions
    from google.auth.exceptions import GoogleAuthError

    cause: Any = error.cause if isinstance(error, exceptions.RetryError) and error.cause else error
    text = " ".join(str(getattr(cause, "message", "") or cause).split())[:300]
    if isinstance(cause, GoogleAuthError):
        text = text.partition(" To set up ")[0].rstrip(".")
        said = f"no credentials: {text}; set GOOGLE_APPLICATION_CREDENTIALS, or run gcloud auth application-default login"
    elif isinstance(cause, exceptions.Unauthenticated):
        said = f"credentials refused: {text}"
    elif isinstance(cause, exceptions.Forbidden):
        said = f"not allowed: {text}"
    elif isinstance(cause, exceptions.NotFound):
        said = f"not there: {text}"
    elif isinstance(cause, exceptions.ResourceExhausted):
        said = f"the quota is used up: {text}"
    elif isinstance(cause, exceptions.InvalidArgument):
        said = f"refused: {text}"
    elif isinstance(cause, exceptions.ServiceUnavailable | exceptions.GatewayTimeout | exceptions.RetryError):
        said = f"unreachable: {text}"
    else:
        said = f"{type(cause).__name__}: {text}"
    return SourceError(f"{named}: {said}")
