"""How rows of different lengths become the batches of a runtime."""

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from components.shared.models.sessions import LENGTHS, OnnxSession, OpenvinoSession, Session

LISTS = st.lists(st.integers(1, 300), min_size=1, max_size=120)


class Counting(OpenvinoSession):
    """Gives each row its sum, and notes the shapes that it was fed with."""

    def _open(self, file, num_threads):
        self.inputs, self.width, self.shapes = ["input_ids"], 1, []

    def _run(self, feed):
        self.shapes.append(feed["input_ids"].shape)
        return feed["input_ids"].sum(1, keepdims=True).astype(np.float32)


@settings(max_examples=60, deadline=None)
@given(LISTS, st.integers(1, 4096), st.sampled_from([None, 300, 512]))
@example([297, 8], 4096, 300)
def test_openvino_sees_few_shapes_and_every_row_once(lengths, batch_tokens, max_tokens):
    session = Counting(None, 0, max_tokens=max_tokens)
    out = session.read({"input_ids": [[1] * length for length in lengths]}, batch_tokens)
    assert out[:, 0].tolist() == lengths
    for rows, width in session.shapes:
        assert rows & (rows - 1) == 0  # 1, 2, 4 ...
        assert width % LENGTHS == 0 or width == max_tokens
        assert width <= (max_tokens or width)
        assert rows == 1 or rows * width <= batch_tokens
    assert sum(rows for rows, _ in session.shapes) == len(lengths)


def test_shapes_of_many_requests_stay_few():
    session, rng = Counting(None, 0), np.random.default_rng(0)
    for _ in range(300):
        session.read({"input_ids": [[1] * int(one) for one in rng.integers(1, 129, rng.integers(1, 80))]}, 2048)
    assert len(set(session.shapes)) <= 8 * 128 // LENGTHS


@pytest.mark.parametrize("kind", [OnnxSession, OpenvinoSession])
@settings(max_examples=30, deadline=None)
@given(lengths=LISTS, batch_tokens=st.integers(1, 4096))
def test_batches_hold_every_row_once_and_none_is_cut(kind: type[Session], lengths, batch_tokens):
    session = object.__new__(kind)
    session.max_tokens = None
    batches = list(session._batches(np.array(lengths), batch_tokens))
    assert sorted(np.concatenate([rows for rows, _ in batches]).tolist()) == list(range(len(lengths)))
    assert all(np.array(lengths)[rows].max() <= width for rows, width in batches)
