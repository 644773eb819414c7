"""The hashing encoder."""

import subprocess
import sys

import numpy as np
import pytest

from registry.search.encoder import HashingEncoder, unit_rows

ENCODER = HashingEncoder()


def test_a_row_per_text_of_length_one() -> None:
    """Rows have the documented shape, dtype and length."""
    rows = ENCODER.encode(["answers questions about contracts", "x"])
    assert ((2, ENCODER.dim), "float32") == (rows.shape, str(rows.dtype))
    np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-6)


@pytest.mark.parametrize("text", ["", "  \n", "the and of", "!?…"])
def test_a_text_that_says_nothing_is_zero(text: str) -> None:
    """A text of stop words is zero."""
    assert not ENCODER.encode([text]).any()


def test_the_same_text_is_the_same_row_whatever_stands_beside_it() -> None:
    """A row does not depend on the batch, so a search is repeatable."""
    alone = ENCODER.encode(["contracts"])[0]
    among = ENCODER.encode(["soup", "contracts", "tax"])[1]
    np.testing.assert_array_equal(alone, among)


def test_rows_do_not_depend_on_the_process() -> None:
    """Vectors are stored, so they must not depend on a process's hash seed."""
    code = (
        "from registry.search.encoder import HashingEncoder as H;"
        "print(float((H().encode(['contract law'])[0] * range(1, 1025)).sum()))"
    )
    said = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={"PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert 1 == len(said)


def test_spelling_is_what_it_knows() -> None:
    """An inflected word is near, another word is far."""
    query, near, far = ENCODER.encode(["contracts", "a contract", "soup recipes"])
    assert query @ near > 0.4
    assert abs(query @ far) < 0.2


def test_case_and_order_do_not_matter() -> None:
    """Case and order of words do not matter."""
    first, second = ENCODER.encode(["Tax LAW", "law tax"])
    np.testing.assert_allclose(first, second, atol=1e-6)


def test_rows_of_zeros_stay_zero_and_others_get_length_one() -> None:
    """Scaling never divides by nothing."""
    rows = unit_rows(np.array([[0.0, 0.0], [3.0, 4.0]]))
    np.testing.assert_allclose(rows, np.array([[0, 0], [0.6, 0.8]]), atol=1e-7)
