"""Counts, times, money and sizes of pictures against plain arithmetic."""

from __future__ import annotations

import base64
import io
import wave
from datetime import UTC, datetime, timedelta, timezone
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from transforms.decode.content import media
from transforms.decode.errors import Undecodable
from transforms.decode.values import count, pico_dollars, plausible, timestamp

MOMENTS = st.datetimes(datetime(2015, 1, 1), datetime(2060, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001


def micros(moment: datetime) -> int:
    return (moment - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)


@pytest.mark.parametrize(
    ("value", "expected"), [(0, 0), (63, 63), ("63", 63), (188.0, 188), (None, None), (" 7 ", 7), (10**12, 10**12)]
)
def test_counts(value: object, expected: int | None) -> None:
    assert count(value, "tokens") == expected


@pytest.mark.parametrize("value", [True, False, -1, -1.0, 1.5, "-3", "12.5", "", "x", "²", [], {}, 10**12 + 1, 1e300, "9" * 40])
def test_what_is_no_count_names_field_and_value(value: object) -> None:
    with pytest.raises(Undecodable, match=r"^usage\.prompt_tokens: ") as caught:
        count(value, "usage.prompt_tokens")
    assert caught.value.reason == "bad_value"
    assert repr(value)[:20] in caught.value.error


@given(MOMENTS)
def test_a_time_is_the_same_in_every_unit(moment: datetime) -> None:
    exact = micros(moment)
    assert timestamp(exact) == (exact, "exact")
    assert timestamp(exact * 1000) == (exact, "exact")
    assert timestamp(exact // 1000) == (exact // 1000 * 1000, "exact")
    assert timestamp(exact // 1_000_000) == (exact // 1_000_000 * 1_000_000, "second")
    assert timestamp(str(exact)) == (exact, "exact")
    read = timestamp(exact / 1_000_000)
    assert read is not None
    assert abs(read[0] - exact) <= 1  # a double holds a microsecond of our time to 0.2 µs
    ticks = exact * 10 + 621_355_968_000_000_000
    assert timestamp(ticks) == (exact, "exact")


@given(MOMENTS, st.integers(-12 * 60, 14 * 60))
def test_a_time_with_a_zone_is_the_same_moment(moment: datetime, minutes: int) -> None:
    there = moment.astimezone(timezone(timedelta(minutes=minutes)))
    read = timestamp(there.isoformat())
    assert read is not None
    assert read[0] == micros(moment)


@given(MOMENTS, st.integers(0, 9))
def test_a_time_has_zero_to_nine_digits_of_fraction_and_no_zone_is_utc(moment: datetime, digits: int) -> None:
    fraction = f"{moment.microsecond:06d}000"[:digits]
    written = f"{moment:%Y-%m-%dT%H:%M:%S}{'.' + fraction if digits else ''}"
    expected = micros(moment.replace(microsecond=0)) + int(fraction.ljust(6, "0")[:6] or 0)
    for text in (written, written + "Z", written.replace("T", " "), written + "+00:00"):
        assert timestamp(text) == (expected, "exact" if digits else "second")


@pytest.mark.parametrize("value", [True, None, "", "soon", "yesterday", [], float("inf"), -5, "2026-13-01T00:00:00Z"])
def test_what_is_no_time(value: object) -> None:
    assert timestamp(value) is None


def test_implausible_times() -> None:
    assert not plausible(0)
    assert not plausible(micros(datetime(2014, 12, 31, 23, 59, 59, tzinfo=UTC)))
    assert plausible(micros(datetime(2015, 1, 1, tzinfo=UTC)))
    assert not plausible(micros(datetime(2100, 1, 1, tzinfo=UTC)))


@given(st.integers(0, 10**15))
def test_money_is_exact(pico: int) -> None:
    dollars = f"{pico // 10**12}.{pico % 10**12:012d}"
    assert pico_dollars(dollars) == pico


@given(st.floats(0, 1000, allow_nan=False))
def test_money_of_a_float_is_the_decimal_it_is_written_as(dollars: float) -> None:
    read = pico_dollars(dollars)
    assert read is not None
    assert abs(read - Fraction(repr(dollars)) * 10**12) <= Fraction(1, 2)


@pytest.mark.parametrize("value", [None, True, "x", "NaN", "Infinity", "1e9999999", "-1e9999999", "1" * 10**6, -0.1, 1e30, [], {}])
def test_what_is_no_money(value: object) -> None:
    assert pico_dollars(value) is None


@pytest.mark.parametrize(
    ("link", "size"),
    [
        ("https://upload.example/thumb/d/dd/Boardwalk.jpg/2560px-Boardwalk.jpg", (2560, 1707)),
        ("https://media.example/photo/manhattan.jpg?s=612x612&w=0&k=20", (612, 408)),  # the room it was fitted into
        ("https://img.example/a-800x450.png", (800, 450)),
        ("https://shop.example/files/boots_1920x.jpg?v=1", (1920, 1280)),
        ("https://cdn.example/p.jpg?width=640&height=480", (640, 480)),
        ("https://cdn.example/p.jpg?w=300", (300, 200)),
        ("https://cdn.example/p.jpg?w=0&x=1", (0, 0)),
        ("https://cdn.example/0x1234abcd.png", (0, 0)),
        ("https://cdn.example/v-2024x10y.png", (0, 0)),
        ("https://cdn.example/" + "9" * 100_000 + "x", (0, 0)),
    ],
)
def test_what_a_link_hints_at_of_a_picture(link: str, size: tuple[int, int]) -> None:
    found = media("image", link)
    assert (found.width, found.height, found.guessed) == (*size, size != (0, 0))
    assert not media("file", link).guessed


@pytest.mark.parametrize(("channels", "width", "rate", "frames"), [(1, 2, 16_000, 3_200), (2, 2, 44_100, 44_100), (1, 1, 8_000, 9_999)])
def test_how_long_sound_lasts(channels: int, width: int, rate: int, frames: int) -> None:
    file = io.BytesIO()
    with wave.open(file, "wb") as sound:
        sound.setnchannels(channels)
        sound.setsampwidth(width)
        sound.setframerate(rate)
        sound.writeframes(bytes(frames * channels * width))
    data = file.getvalue()
    for written in (data, data.replace(b"data" + data[40:44], b"data\xff\xff\xff\xff")):  # a stream does not know its length
        text = base64.b64encode(written).decode()
        assert media("audio", text).milliseconds == media("audio", "data:audio/wav;base64," + text).milliseconds == frames * 1000 // rate
    assert media("file", text).milliseconds == 0


@pytest.mark.parametrize(
    "start", [b"", b"RIFF", b"RIFF\0\0\0\0WAVE", b"RIFF\0\0\0\0WAVEdata\xff\xff\xff\xff", b"RIFF\0\0\0\0WAVE" + bytes(9_000)]
)
def test_sound_that_does_not_tell_its_length(start: bytes) -> None:
    assert media("audio", base64.b64encode(start).decode()).milliseconds == 0
