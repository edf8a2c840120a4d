"""Objects of a store as a source: Amazon S3 (``s3://bucket/…``) and Google Cloud Storage (``gs://bucket/…``).

What objects there are, and which of them were read, is told from listing: an object is known by its key and by the version that
the store says it has. A version that was not read is opened, and read as a file is (``sources.files``): its splits have a
``version``, and all that is fetched is of that version and no other. In the ledger an object is its content: a segment is a
fingerprint of its size and of its first 64 KiB, decompressed.
"""

from sources.objects.addresses import is_address, parse
from sources.objects.planning import OBJECT_SUFFIXES, find, look, plan
from sources.objects.stores import Object

__all__ = [
    "OBJECT_SUFFIXES",
    "Object",
    "find",
    "is_address",
    "look",
    "parse",
    "plan",
]
