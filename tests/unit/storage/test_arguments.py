from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from etcdguard.errors import RepositoryError
from etcdguard.storage.arguments import check_key, check_prefix


@given(st.text(max_size=40))
def test_an_accepted_key_stays_inside_any_folder(text: str) -> None:
    try:
        key = check_key(text)
    except RepositoryError:
        return
    assert key == text
    assert not key.startswith("/")
    assert not {"", ".", ".."} & set(key.split("/"))
    assert "\x00" not in key


@given(st.text(max_size=40))
def test_an_accepted_key_is_an_accepted_prefix_at_every_length(text: str) -> None:
    try:
        key = check_key(text)
    except RepositoryError:
        return
    for end in range(len(key) + 1):
        assert check_prefix(key[:end]) == key[:end]


@pytest.mark.parametrize("key", ["é" * 127, "a/" + "b" * 255, "/".join(["x" * 200] * 5)])
def test_long_keys_within_the_limits_are_accepted(key: str) -> None:
    assert check_key(key) == key


@pytest.mark.parametrize("key", ["é" * 128, "b" * 256, "/".join(["x" * 200] * 6), "a\ud800"])
def test_keys_beyond_the_limits_are_refused(key: str) -> None:
    with pytest.raises(RepositoryError) as caught:
        check_key(key)
    assert caught.value.hint
    assert caught.value.message.isprintable()
