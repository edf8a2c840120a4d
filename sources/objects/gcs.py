"""Objects of Google Cloud Storage, by google-cloud-storage, with the application's default credentials.

``STORAGE_EMULATOR_HOST`` of that client names another server.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from sources.files.splits import Gone, Refused, Replaced, SourceError, Version

try:
    from google.api_core.exceptions import Forbidden, GoogleAPICallError, GoogleAPIError, NotFound, TooManyRequests, Unauthorized
    from google.auth.exceptions import DefaultCredentialsError, GoogleAuthError
    from google.cloud import storage
    from google.cloud.storage.retry import DEFAULT_RETRY
    from requests import RequestException
except ImportError as error:
    raise SourceError("gs:// needs the client of Google Cloud Storage: pip install 'llm-finops[gcs]'") from error

_FIELDS: Final = "items(name,size,generation,timeCreated),nextPageToken"
_FAILURES: Final = (GoogleAPIError, GoogleAuthError, RequestException)


class Gcs:
    """An ``ObjectStore``. The mark of a version is its generation."""

    def __init__(self, patience_s: float) -> None:
        self._retry = DEFAULT_RETRY.with_timeout(patience_s)
        self._timeout = min(60.0, patience_s)
        try:
            self._client = storage.Client(project=None)  # objects are asked for by bucket: no project is needed
        except (GoogleAuthError, OSError, ValueError) as error:
            raise _said("gs://", error) from error

    def objects(self, bucket: str, prefix: str) -> Iterator[tuple[str, Version]]:
        try:
            yield from self._list(bucket, prefix)
        except NotFound as error:
            raise SourceError(f"gs://{bucket}: no such bucket") from error
        except _FAILURES as error:
            raise _said(f"gs://{bucket}", error) from error

    def _list(self, bucket: str, prefix: str, most: int | None = None) -> Iterator[tuple[str, Version]]:
        pages = self._client.list_blobs(
            bucket, prefix=prefix, max_results=most, fields=_FIELDS, timeout=self._timeout, retry=self._retry
        )
        for blob in pages:
            yield blob.name, Version(str(blob.generation), blob.size, int(blob.time_created.timestamp() * 1_000_000))

    def fetch(self, bucket: str, key: str, version: Version, start: int, end: int) -> bytes:
        path = f"gs://{bucket}/{key}"
        blob = self._client.bucket(bucket).blob(key, generation=int(version.tag))
        try:
            # Raw: of an object that is stored as gzip a server would else send the whole content, decompressed, for any range.
            data: bytes = blob.download_as_bytes(
                start=start, end=end - 1, raw_download=True, checksum=None, timeout=self._timeout, retry=self._retry
            )
        except NotFound as error:
            now = next((name for name, _ in self.objects(bucket, key)), "")
            raise (Replaced if now == key else Gone)(path) from error
        except (Forbidden, Unauthorized) as error:
            raise Refused(f"{path}: access denied; it takes the right storage.objects.get on the bucket") from error
        except _FAILURES as error:
            raise _said(path, error) from error
        if len(data) != end - start:
            raise SourceError(f"{path}: the answer breaks off: {len(data)} bytes of {end - start}")
        return data


def _said(place: str, error: Exception) -> SourceError:
    """One line that says what is wrong with a bucket or an object."""
    text = " ".join(str(error).split())
    if isinstance(error, Forbidden | Unauthorized):
        return SourceError(f"{place}: access denied; it takes the right storage.objects.list on the bucket")
    if isinstance(error, TooManyRequests):
        return SourceError(f"{place}: throttled; run the same command again later")
    if isinstance(error, DefaultCredentialsError):
        return SourceError(f"{place}: no credentials; set GOOGLE_APPLICATION_CREDENTIALS, or use a service account")
    if isinstance(error, GoogleAPICallError):
        return SourceError(f"{place}: refused: {text}")
    return SourceError(f"{place}: unreachable: {text}")
