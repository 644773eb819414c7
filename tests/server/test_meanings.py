"""What `model` fields mean is remembered until the registry changes, and not a request longer."""

from collections.abc import Callable
from typing import Any

import pytest

from registry.callers import LOCAL, NO_NAMESPACE, Caller
from registry.errors import CompositionDenied, UnknownReference, VersionQuarantined
from registry.references import parse_reference
from server.compose import meanings
from server.compose.meanings import Meanings
from server.compose.resolve import Planned, Resolver, Stored, Target
from server.gateway import Gateway
from server.home import open_registry
from tests.server.conftest import BASE, MakeSettings

EIGHT = "linear(blim, dwen, frob, glix, krun, plov, tref, zorp; rank=16)"


async def of(meanings: Meanings, model: str, caller: Caller = LOCAL) -> Target:
    """Return what `model` means now."""
    return await meanings.of(model, "", caller)


@pytest.mark.parametrize("kind", ["name", "alias", "digest", "composition", "expression", "base"])
async def test_a_meaning_is_read_once(
    gateway: Gateway, digest_of: Callable[[str], str], monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """While nothing changes, the same text needs no thread and no session of the database."""
    mix = gateway.resolver.resolve("cat(zorp, blim)")
    assert isinstance(mix, Planned)
    gateway.registry.compositions.add(
        "mix", expression="cat(zorp, blim)", recipe_text=mix.recipe.canonical(),
        recipe_digest=mix.digest, base=BASE, ingredients=mix.recipe.lineage, actor="ann",
    )  # fmt: skip
    models = {
        "name": "zorp", "alias": "zorp@prod", "digest": digest_of("zorp"), "composition": "mix",
        "expression": EIGHT, "base": BASE,
    }  # fmt: skip
    first = await of(gateway.meanings, models[kind])

    async def run(*_: Any, **__: Any) -> None:
        pytest.fail("a thread runs")

    monkeypatch.setattr(gateway.pools.resolve, "run", run)
    assert first is await of(gateway.meanings, models[kind])


async def test_an_alias_moves_at_once_for_every_gateway(
    gateway: Gateway, make_settings: MakeSettings
) -> None:
    """Whatever moves an alias, the next request to any gateway of the database follows it."""
    registry = gateway.registry
    folder = gateway.versions.path(registry.catalogue.adapter("blim").digest)
    registry.adapters.register(folder, name="zorp", base=BASE)
    other, _ = open_registry(make_settings())
    second = Meanings(Resolver(other, gateway.bases), gateway.pools)
    digests = {n: await of(gateway.meanings, f"zorp@{n}") for n in (1, 2)}
    for turn in range(40):
        number = 1 + turn % 2
        (registry if turn % 3 else other).versions.set_alias("zorp", "prod", number, actor="ann")
        for known in (second, gateway.meanings):
            assert digests[number] == await of(known, "zorp@prod")


async def test_a_caller_gets_no_answer_of_another(gateway: Gateway) -> None:
    """What one namespace was answered stays unknown to another, and to a key without one."""
    folder = gateway.versions.path(gateway.registry.catalogue.adapter("blim").digest)
    gateway.registry.adapters.register(folder, name="acme/own", base=BASE)
    ann = Caller("ann", "chat", "acme")
    assert isinstance(await of(gateway.meanings, "acme/own", ann), Stored)
    for caller in (Caller("bob", "chat", "else"), Caller("eve", "chat", NO_NAMESPACE)):
        with pytest.raises(UnknownReference):
            await of(gateway.meanings, "acme/own", caller)


async def test_rights_that_end_end_with_the_next_request(gateway: Gateway) -> None:
    """A quarantine and a policy apply to texts that were answered before."""
    registry = gateway.registry
    await of(gateway.meanings, "cat(zorp, blim)")
    await of(gateway.meanings, "tref")
    policy = registry.access.policies.add("deny", ["adapter:zorp", "adapter:blim"], reason="why")
    with pytest.raises(CompositionDenied):
        await of(gateway.meanings, "cat(zorp, blim)")
    registry.access.policies.remove(policy.id)
    await of(gateway.meanings, "cat(zorp, blim)")
    registry.versions.quarantine(parse_reference("tref"), "in verse", "ann")
    with pytest.raises(VersionQuarantined):
        await of(gateway.meanings, "tref")


async def test_unknown_names_take_no_memory(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Names that mean nothing are not kept, and those that do are kept up to a number."""
    monkeypatch.setattr(meanings, "_KEPT", 3)
    for number in range(20):
        with pytest.raises(UnknownReference):
            await of(gateway.meanings, f"no-{number}")
    for model in ("zorp", "blim", "tref", "frob", "krun"):
        await of(gateway.meanings, model)
    assert ["tref", "frob", "krun"] == [model for model, *_ in gateway.meanings._known]
