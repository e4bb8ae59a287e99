"""A replica takes on so many rows at once, and refuses more at once."""

import pytest

from serving.transformer.admission import Admission
from serving.transformer.errors import RequestFailed


def test_what_is_beyond_the_room_is_refused_and_the_room_comes_back() -> None:
    admission = Admission(max_rows=10)
    with admission.room(6), admission.room(4):
        with (
            pytest.raises(RequestFailed, match=r"10 rows are under way .* takes 10") as refused,
            admission.room(1),
        ):
            pass
        assert refused.value.code == "UNAVAILABLE"
    with pytest.raises(ZeroDivisionError), admission.room(10):
        1 / 0  # noqa: B018 - a request that fails gives its room back
    with admission.room(10):
        pass


def test_a_request_alone_is_never_too_large() -> None:
    admission = Admission(max_rows=10)
    with admission.room(64), pytest.raises(RequestFailed), admission.room(1):
        pass
