"""Objects of Amazon S3, and of stores that speak its protocol, by boto3.

Where the store is, who asks and how often a request is tried is what boto3's own environment and files say
(``AWS_PROFILE``, ``AWS_ENDPOINT_URL_S3``, ``AWS_MAX_ATTEMPTS`` …).
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any, Final

from sources.files.splits import Gone, Refused, Replaced, SourceError, Version
from sources.objects.addresses import AT_ONCE, PATIENCE_S

try:
    import boto3
    from botocore.config import Config
    from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError, PartialCredentialsError
    from botocore.session import get_session
except ImportError as error:
    raise SourceError("s3:// needs the client of AWS: pip install 'llm-finops[s3]'") from error

_TRIES: Final = 8
_BROKEN_OFF: Final = 5
"""How often a range whose answer breaks off is asked for again: the client tries requests again, not their bodies."""

_DENIED: Final = frozenset({"AccessDenied", "AllAccessDisabled", "403"})
_THROTTLED: Final = frozenset({"SlowDown", "Throttling", "ThrottlingException", "RequestLimitExceeded", "TooManyRequests"})


class S3:
    """An ``ObjectStore``. The mark of a version is its entity tag."""

    def __init__(self, patience_s: float) -> None:
        core = get_session()
        retries: dict[str, Any] = {"mode": core.get_config_variable("retry_mode") or "standard"}
        if not core.get_config_variable("max_attempts"):
            retries["total_max_attempts"] = _TRIES if patience_s >= PATIENCE_S else 2
        timeout = min(60, patience_s)
        config = Config(retries=retries, max_pool_connections=AT_ONCE, connect_timeout=min(10, timeout), read_timeout=timeout)
        try:
            self._client = boto3.session.Session(botocore_session=core).client("s3", config=config)
        except (BotoCoreError, ValueError) as error:  # a profile that is not there, an endpoint that is no address
            raise SourceError(f"s3://: {_line(error)}") from error

    def objects(self, bucket: str, prefix: str) -> Iterator[tuple[str, Version]]:
        pages = self._client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix)
        try:
            for page in pages:
                for one in page.get("Contents", ()):
                    changed = int(one["LastModified"].timestamp() * 1_000_000)
                    yield one["Key"], Version(one["ETag"], one["Size"], changed)
        except (BotoCoreError, ClientError) as error:
            raise _said(f"s3://{bucket}", error) from error

    def fetch(self, bucket: str, key: str, version: Version, start: int, end: int) -> bytes:
        path = f"s3://{bucket}/{key}"
        for broken_off in range(_BROKEN_OFF):
            try:
                found = self._client.get_object(Bucket=bucket, Key=key, Range=f"bytes={start}-{end - 1}", IfMatch=version.tag)
            except ClientError as error:
                code, status = _code(error)
                if code == "PreconditionFailed" or status == 412:
                    raise Replaced(path) from error
                if code == "NoSuchKey":
                    raise Gone(path) from error
                if code in _DENIED:
                    raise Refused(f"{path}: access denied; it takes the right s3:GetObject on the objects") from error
                if code == "InvalidObjectState":
                    raise Refused(f"{path}: in an archive storage class; restore it, or name a folder without it") from error
                raise _said(path, error) from error
            except BotoCoreError as error:
                raise _said(path, error) from error
            try:
                data: bytes = found["Body"].read()
            except (BotoCoreError, OSError) as error:
                failed: Exception = error
            else:
                if len(data) == end - start:
                    return data
                failed = EOFError(f"{len(data)} bytes of {end - start}")
            time.sleep(0.2 * 2**broken_off)
        raise SourceError(f"{path}: the answer breaks off: {_line(failed)}") from failed


def _code(error: ClientError) -> tuple[str, int]:
    return str(error.response.get("Error", {}).get("Code", "")), int(
        error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    )


def _said(place: str, error: Exception) -> SourceError:
    """One line that says what is wrong with a bucket or an object."""
    if isinstance(error, ClientError):
        code, status = _code(error)
        if code == "NoSuchBucket":
            return SourceError(f"{place}: no such bucket")
        if code in _DENIED:
            return SourceError(f"{place}: access denied; it takes the right s3:ListBucket on the bucket")
        if code in _THROTTLED or status == 429:
            return SourceError(f"{place}: throttled; run the same command again later")
        return SourceError(f"{place}: refused: {code}: {error.response.get('Error', {}).get('Message', '')}")
    if isinstance(error, NoCredentialsError | PartialCredentialsError):
        return SourceError(f"{place}: no credentials; set AWS_PROFILE or AWS_ACCESS_KEY_ID, or use a role")
    return SourceError(f"{place}: unreachable: {_line(error)}")


def _line(error: Exception) -> str:
    return " ".join(str(error).split())
