"""Concurrent calls: the database serialises them, none fails, and no change is lost."""

import multiprocessing
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from registry.references import parse_reference
from registry.service import Registry
from registry.testing import temporary_registry
from registry.types import Registration, ResolvedAdapter
from tests.reading import read_adapter
from tests.registry.conftest import BASE, SHAPES, Register, tensors, write_adapter

THREADS = 8


def _at_once(work: Callable[[int], object]) -> list[object]:
    with ThreadPoolExecutor(THREADS) as pool:
        return list(pool.map(work, range(THREADS)))


def test_threads_that_register_the_same_thing_make_one_version(
    registry: Registry, tmp_path: Path
) -> None:
    """Exactly one call creates the version; all return the same version."""
    folder = write_adapter(tmp_path / "a")
    done = _at_once(lambda _: registry.adapters.register(folder, name="legal", alias="prod"))
    registrations = [one for one in done if isinstance(one, Registration)]
    assert THREADS == len(registrations)
    assert 1 == sum(one.created for one in registrations)
    assert 1 == len({one.version.digest for one in registrations})
    adapter = read_adapter(registry, "legal")
    assert (1, 1) == (len(adapter.versions), len(adapter.alias_moves))


def test_threads_that_register_different_things_get_numbers_without_gaps(
    registry: Registry, tmp_path: Path
) -> None:
    """Each content is a version; the numbers are 1 to 8."""
    folders = [write_adapter(tmp_path / f"a{n}", tensors(seed=n)) for n in range(THREADS)]
    _at_once(lambda n: registry.adapters.register(folders[n], name="legal"))
    versions = read_adapter(registry, "legal").versions
    assert list(range(1, THREADS + 1)) == [version.number for version in versions]
    assert THREADS == len({version.digest for version in versions})


def test_every_move_of_an_alias_is_in_the_history(registry: Registry, register: Register) -> None:
    """Concurrent moves form one chain, and the alias points at its end."""
    for seed in range(THREADS):
        register("legal", seed=seed)
    _at_once(lambda n: registry.versions.set_alias("legal", "prod", n + 1, f"mover {n}"))
    adapter = read_adapter(registry, "legal")
    moves = adapter.alias_moves
    assert set(range(1, THREADS + 1)) == {move.to_number for move in moves}
    assert [None, *(move.to_number for move in moves[:-1])] == [m.from_number for m in moves]
    assert [moves[-1].to_number] == [alias.number for alias in adapter.aliases]


def test_the_first_of_many_writers_wins_and_all_agree(registry: Registry) -> None:
    """Eight builds of one recipe return the same artifact."""
    registry.compositions.save_recipe("text", "e" * 64, BASE, [])

    def record(number: int) -> str:
        return registry.compositions.record_artifact(
            "e" * 64, f"{number:x}" * 64, bytes=1, seconds=0.1, report={}
        )

    digests = set(_at_once(record))
    assert {registry.compositions.artifact_of("e" * 64)} == digests


def test_requests_resolve_while_others_write(registry: Registry, register: Register) -> None:
    """Readers do not wait, do not fail, and see only complete states."""
    register("legal", alias="prod")
    register("legal", seed=1)

    def work(number: int) -> object:
        if number % 2:
            return registry.versions.set_alias("legal", "prod", 1 + number % 4 // 2, "me")
        return [registry.versions.resolve(parse_reference("legal@prod")) for _ in range(10)]

    for result in _at_once(work):
        for resolved in result if isinstance(result, list) else []:
            assert isinstance(resolved, ResolvedAdapter)
            assert resolved.number in (1, 2)


def _import(root: Path, folder: Path) -> None:
    registry = temporary_registry(root)
    registry.bases.add(BASE, shapes=SHAPES)
    registry.adapters.register(folder, name="legal", alias="prod")


@pytest.mark.parametrize("ready", [True, False])
def test_processes_that_import_the_same_thing_make_one_version(tmp_path: Path, ready: bool) -> None:
    """Concurrent first uses also work when the database does not exist yet."""
    folder = write_adapter(tmp_path / "a")
    if ready:
        temporary_registry(tmp_path / "store").bases.add(BASE, shapes=SHAPES)
    spawn = multiprocessing.get_context("spawn")
    processes = [spawn.Process(target=_import, args=(tmp_path / "store", folder)) for _ in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [0, 0] == [process.exitcode for process in processes]
    adapter = read_adapter(temporary_registry(tmp_path / "store"), "legal")
    assert (1, 1) == (len(adapter.versions), len(adapter.alias_moves))
