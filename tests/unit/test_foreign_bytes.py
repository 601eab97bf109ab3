"""Every parser of foreign bytes, whatever the bytes: what it read, or the documented error. Never a crash."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from tests.support.parsers import PARSERS

NESTED = b"[" * 200_000
SLOWER = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
each_parser = pytest.mark.parametrize("name", PARSERS)


@each_parser
def test_it_takes_what_it_is_for(name: str) -> None:
    assert PARSERS[name].survives(PARSERS[name].sample())


@each_parser
@SLOWER
@given(data=st.binary(max_size=400))
@example(data=b"")
@example(data=NESTED)
@example(data=b'{"protocol": ' + NESTED)
@example(data=b'{"format": "etcdguard/1", "id": ' + b"9" * 5000 + b"}")
def test_any_bytes(name: str, data: bytes) -> None:
    PARSERS[name].survives(data)


@each_parser
@SLOWER
@given(data=st.data())
def test_damaged_bytes(name: str, data: st.DataObject) -> None:
    """A few bytes of what it takes are changed, left out or doubled."""
    damaged = bytearray(PARSERS[name].sample())
    for _ in range(data.draw(st.integers(1, 6))):
        at = data.draw(st.integers(0, max(0, len(damaged) - 1)))
        length = data.draw(st.integers(0, 40))
        kind = data.draw(st.sampled_from(["change", "cut", "double"]))
        if kind == "change":
            damaged[at : at + length] = data.draw(st.binary(min_size=length, max_size=length))
        elif kind == "cut":
            del damaged[at : at + length]
        else:
            damaged[at:at] = damaged[at : at + length]
    PARSERS[name].survives(bytes(damaged))
