"""Pub/Sub as a source: messages of one subscription, acknowledged when their rows are in the store.

The client holds the leases of what it was given and extends them; a process that dies loses them, and the service hands the
messages out again, perhaps to another. Such a message is the same call, by its id. Nothing tells how many messages wait.
"""

from sources.pubsub.messages import published
from sources.pubsub.pulling import Subscription, hold, probe, read
from sources.pubsub.settings import PubSubSettings, is_address, parse

__all__ = ["PubSubSettings", "Subscription", "hold", "is_address", "parse", "probe", "published", "read"]
