"""The simulation of the placement agrees with the gateway's code, and with queueing theory."""

import math
import random

import pytest

from server.engine.placement import Candidate, choose
from tests.bench import placement
from tests.bench.placement import Gateway, Model, Simulation, Traffic, name_of, traffic, urls_of


def test_the_simulated_rule_is_the_gateways() -> None:
    """In whatever state a gateway is, the simulation chooses the engine that `choose` does."""
    draw = random.Random(0)
    rule, urls = placement.placed(6), urls_of(6)
    for _ in range(300):
        gateway = Gateway(6, slots=2)
        gateway.holders = {9: frozenset(draw.sample(range(6), draw.randrange(4)))}
        begun = [(draw.randrange(6), draw.randrange(6, 12)) for _ in range(draw.randrange(20))]
        for engine, adapter in begun:
            gateway.begin(engine, adapter)
        candidates = [
            Candidate(
                urls[n], gateway.running[n], n in gateway.holders[9] or (n, 9) in begun,
                len({adapter for engine, adapter in begun if engine == n} - {9}) < 2,
            )
            for n in range(6)
        ]  # fmt: skip
        assert choose(name_of(9), candidates).url == urls[rule(9, gateway)]


def test_waits_are_those_of_a_queue() -> None:
    """One engine that loads nothing waits as Erlang's formula says: the model's queue is M/M/c."""
    model = Model(adapters=1, load_seconds=0, fetch_seconds=0, at_once=4, slots=4, busy=0.8)
    figures = Simulation(model, 1, placement.at_random(1), traffic(model, 1, 60_000)).run()
    offered = 4 * 0.8
    queued = offered**4 / math.factorial(4) / (1 - 0.8)
    waiting = queued / (sum(offered**k / math.factorial(k) for k in range(4)) + queued)
    wait_p99 = 1000 * math.log(waiting / 0.01) / (4 * (1 - 0.8))
    assert wait_p99 == pytest.approx(figures["wait_p99_ms"], rel=0.1)
    assert figures["hit_rate"] == figures["busiest"] == 1.0


def test_a_slot_is_waited_for() -> None:
    """A request whose adapter has no slot waits for one; those behind it that have one go ahead."""
    model = Model(slots=1, load_seconds=0, fetch_seconds=0)
    requests = Traffic([0, 0, 0, 9], [1, 2, 1, 1], [0, 0, 0, 0], [5, 1, 1, 0])
    simulation = Simulation(model, 1, placement.at_random(1), requests)
    simulation._counted_from = 0
    simulation.run()
    assert [0, 0, 5, 0] == simulation._waits


def test_residency_and_load_are_both_kept() -> None:
    """On eight engines weft's rule loads less than the simple ones, and is as even as they are."""
    drawn = traffic(Model(), 8, 8000)
    figures = {
        name: Simulation(Model(), 8, make(8), drawn).run() for name, make in placement.RULES.items()
    }
    weft, even = figures["weft"], figures["least busy"]
    assert weft["hit_rate"] > 1.4 * even["hit_rate"]
    assert weft["wait_p99_ms"] <= 1.1 * even["wait_p99_ms"]
    assert weft["busiest"] < 1.1
