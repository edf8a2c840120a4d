"""Laws of sealing."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from transforms.sealed import SEAL_BYTES, Seal, SealError

KEYS = st.binary(min_size=1, max_size=64)


@given(KEYS, st.binary(max_size=400), st.binary(min_size=16, max_size=16))
def test_what_was_sealed_is_opened_as_it_was(key: bytes, data: bytes, whose: bytes) -> None:
    sealed = Seal(key).close(data, whose)
    assert Seal(key).open(sealed, whose) == data
    assert sealed == Seal(key).close(data, whose)
    assert len(sealed) == (len(data) + SEAL_BYTES if data else 0)
    if len(data) > 4:
        assert data not in sealed


@given(KEYS, KEYS, st.binary(min_size=1, max_size=99), st.integers(0, 2**16))
def test_another_key_another_owner_or_a_changed_bit_opens_nothing(key: bytes, other: bytes, data: bytes, bit: int) -> None:
    sealed = Seal(key).close(data, b"one")
    changed = bytearray(sealed)
    changed[bit // 8 % len(sealed)] ^= 1 << bit % 8
    for seal, some, whose in ((Seal(key), sealed, b"two"), (Seal(key), bytes(changed), b"one"), (Seal(other), sealed, b"one")):
        if seal is not None and (other != key or whose == "two" or some != sealed):
            with pytest.raises(SealError):
                seal.open(some, whose)
