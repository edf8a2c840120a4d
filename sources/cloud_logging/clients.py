"""The service's client: how it is made, paced and retried."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from sources.cloud_logging.settings import LoggingSettings
from sources.google import explained, missing

if TYPE_CHECKING:
    from google.api_core.retry import Retry
    from google.cloud.logging_v2.services.logging_service_v2 import LoggingServiceV2Client

BURST: Final = 10
"""Reads that may follow each other at once; then they are spread evenly."""


class Pace:
    """At most ``per_minute`` reads a minute, after a burst. The quota is one of the project: all its readers share it."""

    def __init__(
        self, per_minute: int, clock: Callable[[], float] = time.monotonic, sleep: Callable[[float], None] = time.sleep
    ) -> None:
        self._rest = 60 / per_minute
        self._clock = clock
        self._sleep = sleep
        self._free = clock() - BURST * self._rest  # when the bucket that leaks one read each rest would be empty
        self.refused = 0  # reads that the service refused because its quota was used up

    def wait(self) -> None:
        """Wait until a read may be made, and count it."""
        now = self._clock()
        self._free = max(self._free, now - BURST * self._rest)
        if self._free > now:
            self._sleep(self._free - now)
        self._free += self._rest


def client_of(settings: LoggingSettings) -> LoggingServiceV2Client:
    """A client with the application's default credentials.

    Raises:
        SourceError: the library is not installed, or there are no credentials.
    """
    try:
        from google.api_core.client_options import ClientOptions
        from google.auth.exceptions import GoogleAuthError
        from google.cloud.logging_v2.services.logging_service_v2 import LoggingServiceV2Client
    except ImportError as error:
        raise missing(str(settings)) from error
    try:
        return LoggingServiceV2Client(client_options=ClientOptions(api_endpoint=settings.endpoint or None))
    except (GoogleAuthError, OSError, ValueError) as error:
        raise explained(error, str(settings)) from error


def patient(settings: LoggingSettings, pace: Pace) -> Retry:
    """Tries again what may pass: a quota that is used up for now, a service that is away."""
    from google.api_core import exceptions
    from google.api_core.retry import Retry, if_exception_type

    def count(error: Exception) -> None:
        pace.refused += isinstance(error, exceptions.ResourceExhausted)

    passing = if_exception_type(
        exceptions.ResourceExhausted,
        exceptions.ServiceUnavailable,
        exceptions.InternalServerError,
        exceptions.BadGateway,
        exceptions.DeadlineExceeded,
        exceptions.Aborted,
    )
    return Retry(predicate=passing, initial=1.0, maximum=20.0, multiplier=2.0, timeout=settings.patience_s, on_error=count)
