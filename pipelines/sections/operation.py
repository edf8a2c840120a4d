"""Sections of how it is operated: metrics, logs, `serve`, how long rows are kept, and of whom."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import (
    AfterValidator,
    BeforeValidator,
    ByteSize,
    Field,
    ValidationInfo,
    field_validator,
    model_validator,
)

from pipelines.sections.kinds import (
    PREFIX,
    Allowed,
    Keys,
    Section,
    Size,
    Whole,
    dated_keys,
    no_bool,
)


class Metrics(Section):
    """How a run is watched: `/metrics` for Prometheus, `/health`."""

    host: str = Field(default="127.0.0.1", min_length=1, description="Address that a run answers at.")
    port: Whole = Field(default=0, ge=0, le=65_535, description="Port that a run answers at; 0: it does not.")
    stalled_seconds: Whole = Field(
        default=120, ge=1, le=86_400, description="A run that follows is not well when nothing was done for so long."
    )
    behind_seconds: Whole = Field(
        default=900, ge=1, le=30 * 86_400, description="Nor when more waits and the watermark is older than this."
    )


class Log(Section):
    """What is written to standard error."""

    format: Literal["text", "json"] = Field(default="text", description="Lines for a person, or one JSON object each.")


class ServeUser(Section):
    """A user of ``llm-finops serve``, as the configuration names it."""

    name: str = Field(min_length=1, max_length=64, pattern=r"^[^:\s]+$")
    role: Literal["reader", "writer"]
    password_env: str = Field(default="", pattern=r"^([A-Za-z_]\w*)?$")
    password_sha256: str = Field(default="", pattern=r"^([0-9a-fA-F]{64})?$", repr=False)
    tenants: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _makes_sense(self) -> ServeUser:
        if bool(self.password_env) == bool(self.password_sha256):
            raise ValueError(f"{self.name} needs one of password_env and password_sha256")
        if self.password_env.startswith(PREFIX):
            raise ValueError(f"{self.name}: variables {PREFIX}… are settings; choose another for its password")
        if "tenants" in self.model_fields_set and not self.tenants:
            raise ValueError(f"{self.name}: name the tenants, or leave them out for all")
        if self.tenants and self.role != "reader":
            raise ValueError(f"{self.name}: only a reader is held to tenants")
        return self


def _distinct(users: tuple[ServeUser, ...]) -> tuple[ServeUser, ...]:
    if len({user.name for user in users}) != len(users):
        raise ValueError("two users have one name")
    return users


Users = Annotated[
    tuple[ServeUser, ...],
    AfterValidator(_distinct),
    Allowed("a list of users, see [serve.md](serve.md)", shown=False),
]


class Serve(Section):
    """Who `llm-finops serve` lets in, and how much a query of a reader may use."""

    host: str = Field(default="127.0.0.1", min_length=1, max_length=255, description="Address to listen on.")
    port: Whole = Field(default=8123, ge=0, le=65_535, description="Port to listen on; 0: any that is free.")
    users: Users = Field(default=(), description="Who may log in, with which role.")
    max_seconds: Whole = Field(default=60, ge=1, le=86_400, description="How long a query of a reader may take.")
    max_memory: Size = Field(
        default=ByteSize(2 << 30), ge=1 << 20, le=1 << 40, description="Memory that a query of a reader may use."
    )
    max_result_rows: Whole = Field(default=10_000_000, ge=1, le=10**12, description="Rows of one result, at most.")
    max_result_bytes: Size = Field(
        default=ByteSize(1 << 30), ge=1 << 10, le=1 << 40, description="Size of one result in memory, at most."
    )
    max_queries: Whole = Field(default=8, ge=1, le=1000, description="Queries of readers at once, and of writers; more wait.")
    max_body_bytes: Size = Field(default=ByteSize(512 << 20), ge=1 << 20, le=1 << 36, description="Size of one insert, at most.")
    stop_seconds: Whole = Field(
        default=10, ge=0, le=3600, description="How long queries may go on once the server is told to stop."
    )



Days = Annotated[int, BeforeValidator(no_bool), Field(ge=0, le=3650)]


class Retention(Section):
    """For how many days rows are kept, by table, after the day they belong to; 0: for good."""

    calls: Days = Field(default=0, description="Calls, by their event time. Minutes older than this are closed.")
    receipts: Days = Field(default=90, description="Receipts, by when they were written.")
    dead_letters: Days = Field(default=90, description="Dead letters, by when they were written.")
    minutes: Days = Field(default=0, description="Sums by minute; no shorter than calls.")
    hours: Days = Field(default=0, description="Sums by hour; no shorter than minutes.")
    days: Days = Field(default=0, description="Sums by day; no shorter than hours.")
    audit_days: Days = Field(default=0, description="The drift audit by day; no shorter than calls.")
    runs: Days = Field(default=400, description="What runs read, by their start.")
    parts: Days = Field(default=2, description="Parts of calls, by when they were written: how late a part may come.")
    call_prices: Days = Field(default=0, description="What calls cost under each pricing of history.")
    charges: Days = Field(default=0, description="Lines of invoices, by the start of what they charge for.")

    @field_validator("minutes", "hours", "days", "audit_days")
    @classmethod
    def _no_shorter(cls, value: int, info: ValidationInfo) -> int:
        below = {"minutes": "calls", "hours": "minutes", "days": "hours", "audit_days": "calls"}[str(info.field_name)]
        days = info.data.get(below, 0)
        if value and (not days or value < days):
            raise ValueError(f"{below} are kept {f'{days:,} days' if days else 'for good'}, and what is made of them no shorter")
        return value


class Privacy(Section):
    """How people are kept out of the store."""

    pseudonym_keys: Keys | None = Field(
        default=None,
        description="Keys of the hashes that stand in for end users: one, or several with the date from which each holds.",
    )

    @property
    def keys(self) -> tuple[tuple[int, bytes], ...]:
        """Each key with its first instant in UTC microseconds; the first one stands for all time before it, too."""
        return dated_keys(self.pseudonym_keys.get_secret_value()) if self.pseudonym_keys else ()
