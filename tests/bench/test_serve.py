"""The serving benchmark's own arithmetic; its figures are not compared."""

import numpy as np

from server.compose.expression import parse_model
from tests.bench.serve import added, zipf
from tests.bench.serve.load import Figures, Table, percentile
from tests.engine.gateway import ADAPTERS


def test_ratios_compare_the_gateway_with_its_engine() -> None:
    """The document has the gateway's and the relay's ratios to the engine, and the composition's
    to the adapter."""
    table: Table = {
        name: {8: Figures(throughput, first_ms)}
        for name, throughput, first_ms in (
            ("engine", 100.0, 10.0), ("relay", 99.0, 11.0), ("name", 96.0, 12.0),
            ("composition", 95.04, 12.0),
        )
    }  # fmt: skip
    assert added.ratios(table) == {
        "throughput_ratio": {"8": 0.96}, "ttft_added_ms": {"8": 2.0},
        "bare_relay_ratio": {"8": 0.99}, "bare_relay_ttft_added_ms": {"8": 1.0},
        "warm_ratio": {"8": 0.99},
    }  # fmt: skip


def test_a_percentile_is_one_of_the_values() -> None:
    """99 % of the values do not exceed the 99th percentile."""
    assert 99.0 == percentile([float(value) for value in range(100)], 0.99)
    assert 3.0 == percentile([3.0], 0.99)


def test_compositions_differ_and_their_draws_follow_zipf() -> None:
    """There are a thousand expressions, each different, and the first is drawn most."""
    rng = np.random.default_rng(0)
    compositions = list(zipf.expressions([*ADAPTERS, "more"], rng))
    assert zipf.COMPOSITIONS == len(set(compositions))
    for expression in compositions[:20]:
        parse_model(expression)
    drawn = [one for _ in range(20) for one in zipf.draws(compositions, rng)]
    counts = [drawn.count(one) for one in compositions[:3]]
    assert counts == sorted(counts, reverse=True)
    assert 0.10 < counts[0] / len(drawn) < 0.17
