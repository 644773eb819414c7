"""Every registered method satisfies every law, or has an exemption whose law it truly breaks."""

import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from merge.factors import Stack
from merge.methods import METHODS
from merge.peft_format import digest_folder, open_folder
from merge.peft_io import read_peft
from merge.recipe import Member, plan
from merge.run import merge
from tests.adapters import BASE, make_adapter
from tests.laws.laws import D_IN, D_OUT, LAWS, laws_of, sample, update

CASES = [(name, law) for name, method in METHODS.items() for law in laws_of(method)]


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Use one thread: with many small products, waiting for threads would take most of the time."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize(("name", "law"), CASES)
def test_law_holds_or_the_exemption_is_real(name: str, law: str) -> None:
    """A method satisfies the law; if it is exempt, the law fails, so exemptions stay current."""
    method = METHODS[name]
    if law in method.exempt:
        with pytest.raises(AssertionError):
            LAWS[law](method)
    else:
        LAWS[law](method)


@pytest.mark.parametrize("name", METHODS)
def test_exemptions_name_laws_and_give_reasons(name: str) -> None:
    """Each exemption names an existing law and gives a reason."""
    for law, reason in METHODS[name].exempt.items():
        assert law in laws_of(METHODS[name])
        assert len(reason) > 20


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("scale", [2.5, -0.5])
def test_scale_multiplies_the_update(tmp_path: Path, name: str, scale: float) -> None:
    """The universal option `scale` multiplies every method's merged update, with either sign."""
    folders = {}
    members = []
    for seed in range(METHODS[name].requirements.members or 2):
        path = make_adapter(tmp_path / f"a{seed}", seed=seed)
        digest = digest_folder(path)
        folders[digest] = path
        members.append(Member.from_folder(path.name, open_folder(path), 1.0, digest))
    results = []
    for value in (1.0, scale):
        recipe = plan(
            name, members, options={"scale": value}, base=BASE, dtype="float32", rank_limit=None
        )
        out = tmp_path / str(value)
        merge(recipe, folders, out)
        results.append(open_folder(out))
    plain, scaled = results
    for module in plain.modules:
        expected = scale * update(read_peft(plain, plain.modules[module]))
        actual = update(read_peft(scaled, scaled.modules[module]))
        torch.testing.assert_close(actual, expected, rtol=1e-5, atol=1e-6)


def test_a_group_gives_what_its_modules_give() -> None:
    """Methods that take a group of modules return for each what they return for it alone."""
    for method in METHODS.values():
        if method.group is None:
            continue
        shapes = [(D_IN, D_OUT), (D_OUT, D_IN), (D_IN, D_OUT)]
        stacks = [
            replace(sample(method, *shape), module=f"m.{i}") for i, shape in enumerate(shapes)
        ]
        options = method.bind({"rank": 3} if "rank" in method.parameters else {})
        del options["scale"]
        for stack, merged in zip(stacks, method.group(stacks, **options), strict=True):
            alone = method.function(
                Stack(stack.module, tuple(stack.members), stack.weights), **options
            )
            assert torch.equal(alone.factors.a, merged.factors.a)
            assert torch.equal(alone.factors.b, merged.factors.b)
            assert alone.energy == merged.energy


_DIGESTS = """
import hashlib
from merge.methods import METHODS
from tests.laws.laws import apply, sample
for name, method in METHODS.items():
    given = sample(method)
    f = apply(method, given.members, given.weights, rank=3).factors
    print(name, hashlib.sha256(f.a.numpy().tobytes() + f.b.numpy().tobytes()).hexdigest())
"""


def test_same_seed_same_bytes_across_processes() -> None:
    """Two processes with different string hashing give the same bytes for every method."""
    outputs = [
        subprocess.run(
            [sys.executable, "-c", _DIGESTS],
            cwd=Path(__file__).parents[2],
            env={**os.environ, "PYTHONHASHSEED": seed, "OMP_NUM_THREADS": "1"},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    ]
    assert len(METHODS) == len(outputs[0].splitlines())
    assert outputs[0] == outputs[1]
