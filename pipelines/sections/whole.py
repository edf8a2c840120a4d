"""All sections together."""

from __future__ import annotations

from pipelines.sections.inputs import CloudLogging, Kafka, PubSub, Source
from pipelines.sections.kinds import Section
from pipelines.sections.operation import Log, Metrics, Privacy, Retention, Serve
from pipelines.sections.work import Count, DeadLetters, Decode, Join, Owners, Price, Runner, Store, Terms, Windows


class Settings(Section):
    """All settings; see ``load``."""

    source: Source = Source()
    kafka: Kafka = Kafka()
    cloud_logging: CloudLogging = CloudLogging()
    pubsub: PubSub = PubSub()
    store: Store = Store()
    dead_letters: DeadLetters = DeadLetters()
    decode: Decode = Decode()
    join: Join = Join()
    count: Count = Count()
    price: Price = Price()
    owners: Owners = Owners()
    terms: Terms = Terms()
    windows: Windows = Windows()
    runner: Runner = Runner()
    metrics: Metrics = Metrics()
    log: Log = Log()
    serve: Serve = Serve()
    retention: Retention = Retention()
    privacy: Privacy = Privacy()
