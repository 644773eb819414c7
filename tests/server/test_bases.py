"""A gateway of two bases whose modules have different shapes, over fake engines."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from merge.errors import IncompatibleAdapters
from registry.callers import LOCAL
from registry.errors import UnknownBase
from registry.service import Registry
from registry.storage.blobs import LocalBlobs
from server.compose.composition import CompositionInvalid
from server.compose.explain import Explainer
from server.compose.resolve import Bare, Planned, RankTooLarge, Resolver, Stored, WrongBase
from server.compose.retrieve import NothingFound, RetrievalInvalid
from server.engine.fake import FakeEngine
from server.engine.fleet import Fleet
from server.errors import RequestInvalid
from server.gateway import Gateway
from server.jobs.create import JobRequest, create_job
from server.live import live_of
from server.readiness import Readiness
from server.served_bases import BasesAlike, ServedBase, ServedBases
from server.settings import Settings
from server.warmer import Warmer
from tests.adapters import make_adapter
from tests.server.conftest import BASE, DEMO, MakeClient, MakeSettings
from tests.server.jobs.conftest import examples, send_file
from tests.server.test_api import ask, compose, told

OTHER = "acme/other"
SHAPES = {"model.layers.0.self_attn.q_proj": (16, 16), "model.layers.0.mlp.up_proj": (24, 16)}
MODULES = {name: (d_in, d_out) for name, (d_out, d_in) in SHAPES.items()}


@pytest.fixture
def two(make_settings: MakeSettings, registry: Registry, tmp_path: Path) -> Settings:
    """Settings of the demo base and of another one, called `other`, with its own limits."""
    registry.bases.add(OTHER, shapes=SHAPES)
    for number, name in enumerate(("north", "south")):
        folder = make_adapter(tmp_path / name, seed=number, modules=MODULES, base=OTHER)
        registry.adapters.register(folder, name=name, alias="prod")
    bases = {
        BASE: {"model": str(DEMO / "base"), "dtype": "float32"},
        "other": {"model": "/models/other", "dtype": "float16", "max_lora_rank": 8},
    }
    plain = make_settings()
    return Settings(home=plain.home, bases=bases, max_loras=4, max_cpu_loras=16, merge_threads=1)


@pytest.fixture
def engines() -> tuple[FakeEngine, FakeEngine]:
    """The engine of each base."""
    return FakeEngine(BASE, "first"), FakeEngine("other", "second")


@pytest.fixture
def gateway(
    two: Settings,
    registry: Registry,
    versions: LocalBlobs,
    engines: tuple[FakeEngine, FakeEngine],
    shared_workers: None,
) -> Gateway:
    """The gateway of both."""
    bases = ServedBases(
        ServedBase(name, own, Fleet([engine]))
        for name, own, engine in zip((BASE, OTHER), two.of_bases(), engines, strict=True)
    )
    return Gateway(two, registry=registry, versions=versions, bases=bases)


@pytest.fixture
def resolver(gateway: Gateway) -> Resolver:
    """The gateway's resolver."""
    return gateway.resolver


@pytest.mark.parametrize(("text", "base"), [(BASE, BASE), ("other", OTHER), (OTHER, OTHER)])
def test_each_base_is_meant_by_either_of_its_names(
    resolver: Resolver, text: str, base: str
) -> None:
    """The name for clients and the one in the registry both mean the base."""
    assert Bare(base) == resolver.resolve(text)


def test_a_reference_finds_its_base_in_the_registry(resolver: Resolver, registry: Registry) -> None:
    """Adapters, aliases, compositions and digests are for the base that the registry says."""
    targets = [resolver.resolve(text) for text in ("zorp", "north", "north@prod")]
    assert [BASE, OTHER, OTHER] == [target.base for target in targets]
    assert isinstance(targets[1], Stored)
    assert targets[1] == resolver.resolve(targets[1].digest)


def test_a_merge_is_for_the_base_of_its_ingredients(resolver: Resolver) -> None:
    """Base, dtype and the limit of ranks are those of the ingredients' base."""
    demo, other = resolver.resolve("zorp + blim"), resolver.resolve("linear(north, south)")
    assert isinstance(demo, Planned)
    assert isinstance(other, Planned)
    assert (BASE, "float32") == (demo.recipe.base, demo.recipe.dtype)
    assert (OTHER, "float16") == (other.recipe.base, other.recipe.dtype)
    assert 8 == dict(resolver.resolve("linear(north, south, 2*north)").recipe.options)["rank"]  # type: ignore[union-attr]


def test_bases_do_not_mix(resolver: Resolver) -> None:
    """A merge over two bases is refused, and the ingredient at fault and its base are named."""
    with pytest.raises(IncompatibleAdapters, match=OTHER):
        resolver.resolve("zorp + north")
    with pytest.raises(IncompatibleAdapters, match=BASE):
        resolver.resolve("north + zorp")


def test_a_base_that_is_not_served_is_told(
    resolver: Resolver, registry: Registry, tmp_path: Path
) -> None:
    """The error names the adapter's base and every base that is served."""
    registry.bases.add("acme/third", shapes=SHAPES)
    folder = make_adapter(tmp_path / "third", modules=MODULES, base="acme/third")
    registry.adapters.register(folder, name="third")
    with pytest.raises(WrongBase, match=f"acme/third; this server serves {BASE} and {OTHER}"):
        resolver.resolve("third")


def test_a_rank_above_its_base_s_limit_is_refused(
    resolver: Resolver, registry: Registry, tmp_path: Path
) -> None:
    """The limit is that of the adapter's base: 8 here, and 64 for the other base."""
    folder = make_adapter(tmp_path / "wide", rank=16, modules=MODULES, base=OTHER)
    registry.adapters.register(folder, name="wide")
    with pytest.raises(RankTooLarge, match="rank 16, and the engine's limit is 8"):
        resolver.resolve("wide")
    assert BASE == resolver.resolve("plov").base  # of rank 16, too


def composed(*names: str, **more: str) -> bytes:
    """Return a `composition` object."""
    document = {"method": "linear", "adapters": [{"name": name} for name in names], **more}
    return json.dumps(document).encode()


@pytest.mark.parametrize(
    ("model", "more"), [("", {}), ("other", {}), ("", {"base": OTHER}), ("other", {"base": OTHER})]
)
def test_a_composition_object_may_name_its_base(
    resolver: Resolver, model: str, more: dict[str, str]
) -> None:
    """`model`, the object's `base` or its adapters say which base is meant."""
    target = resolver.resolve(model, composition=composed("north", "south", **more))
    assert isinstance(target, Planned)
    assert (OTHER, "float16") == (target.base, target.recipe.dtype)


def test_a_composition_object_contradicts_neither_model_nor_adapters(resolver: Resolver) -> None:
    """Where two of them name different bases, the error says so."""
    with pytest.raises(CompositionInvalid, match="Leave out one"):
        resolver.resolve(BASE, composition=composed("north", base="other"))
    with pytest.raises(IncompatibleAdapters, match=OTHER):
        resolver.resolve(BASE, composition=composed("north", "south"))
    with pytest.raises(CompositionInvalid, match=f"give the base, {BASE} or other"):
        resolver.resolve("gpt-4", composition=composed("north"))


def test_a_retrieval_is_over_the_first_base_unless_it_names_another(resolver: Resolver) -> None:
    """`auto(…)` takes a base in any spelling; one that is not served, or unknown, is told."""
    assert BASE == resolver.resolve("auto(; near=-1, k=2)", "zorp: apple").base
    for name in ("other", f'"{OTHER}"', '"acme/OTHER"'):
        target = resolver.resolve(f"auto(; base={name}, near=-1, k=2)", "north")
        assert OTHER == target.base
    with pytest.raises(UnknownBase):
        resolver.resolve("auto(; base=nowhere)", "north")
    with pytest.raises(RetrievalInvalid, match="base must be the name of a base, not 3"):
        resolver.resolve("auto(; base=3)", "north")
    with pytest.raises(NothingFound, match=OTHER):
        resolver.resolve("auto(; base=other, tag=none-has-it)", "north")


def test_an_explanation_names_the_base(resolver: Resolver) -> None:
    """What a model means is explained for its own base."""
    explainer = Explainer(resolver, threads=1)
    bases = [explainer.explain(text).base for text in ("other", "north", "north + south", "zorp")]
    assert [OTHER, OTHER, OTHER, BASE] == bases


async def test_requests_reach_the_engine_of_their_base(
    gateway: Gateway, engines: tuple[FakeEngine, FakeEngine], make_client: MakeClient
) -> None:
    """Bases, adapters, merges and tokens are asked of the engine that serves the base, by the name
    that it has there; the others never hear of them."""
    first, second = engines
    async with make_client(gateway) as client:
        for model in ("other", OTHER, "north", "north + south", "zorp", BASE):
            assert 200 == (await ask(client, model)).status_code
        tokens = await client.post("/tokenize", json={"model": "south", "prompt": "ab"})
        assert 2 == tokens.json()["count"]
    assert 2 == len(second.loads)
    assert ["other", "other", *second.loads, "other"] == [body["model"] for body in second.bodies]
    assert [*first.loads, BASE] == [body["model"] for body in first.bodies]


async def test_one_base_without_an_engine_leaves_the_other_alone(
    gateway: Gateway, engines: tuple[FakeEngine, FakeEngine], make_client: MakeClient
) -> None:
    """Requests for the base are answered 503; /ready names it, and the metric is 0."""
    engines[1].up = False
    async with make_client(gateway) as client:
        assert 503 == (await ask(client, "north")).status_code
        assert 200 == (await ask(client, "zorp")).status_code
    assert {"engine of other"} == (await Readiness(gateway).problems()).keys()
    live = await live_of(gateway)
    assert (False, 1) == (live.up, live.engines)
    assert live.adapters.known == engines[0].loaded


async def test_all_bases_are_listed_with_what_is_for_them(
    gateway: Gateway, make_client: MakeClient
) -> None:
    """Bases come first; every listed name has an address, and its parent is its own base."""
    compose(gateway, "mix", "north + south")
    async with make_client(gateway) as client:
        cards = (await client.get("/v1/models")).json()["data"]
        assert [BASE, "other"] == [card["id"] for card in cards if card["kind"] == "base"]
        parents = {card["id"]: card.get("parent") for card in cards}
        names = {"north", "north@prod", "south", "south@prod", "mix"}
        assert names == {name for name, parent in parents.items() if parent == OTHER}
        for model in (*names, "other", "north + south"):
            card = (await client.get(f"/v1/models/{model}")).json()
            assert (model, parents.get(model, OTHER)) == (card["id"], card.get("parent"))


async def test_lorax_answers_with_the_first_base(
    gateway: Gateway, engines: tuple[FakeEngine, FakeEngine], make_client: MakeClient
) -> None:
    """A request in LoRAX's form that names no adapter is for the first base."""
    async with make_client(gateway) as client:
        for parameters in ({}, {"adapter_id": "north"}):
            body = {"inputs": "x", "parameters": parameters}
            assert 200 == (await client.post("/generate", json=body)).status_code
    assert [BASE] == [body["model"] for body in engines[0].bodies]
    assert engines[1].loads == [body["model"] for body in engines[1].bodies]


async def test_a_job_is_for_the_base_that_it_names(
    gateway: Gateway, make_client: MakeClient
) -> None:
    """A job names a base by `model` or `base`, or has that of its recipe, or the first one."""
    file = send_file(gateway, examples(), LOCAL)

    def base_of(**wish: object) -> str:
        return create_job(gateway.resolver, JobRequest(file, **wish), LOCAL).base  # type: ignore[arg-type]

    recipe = {"method": "scale", "recipe": "linear(north, south)"}
    assert [BASE, OTHER, OTHER] == [base_of(), base_of(base="other"), base_of(options=recipe)]
    with pytest.raises(RequestInvalid, match=f"base must be {BASE} or other, not 'x'"):
        base_of(base="x")
    with pytest.raises(IncompatibleAdapters):
        base_of(base=BASE, options=recipe)
    async with make_client(gateway) as client:
        body = {"model": "other", "training_file": file, "method": {"type": "adaptive_merge"}}
        made = await client.post("/v1/fine_tuning/jobs", json=body)
        assert OTHER == made.json()["model"]
        wrong = await client.post("/v1/fine_tuning/jobs", json=body | {"model": "x"})
        assert f"must be the base, {BASE} or other" in told(wrong)["message"]
        own = {"training_file": file, "base": OTHER}
        assert OTHER == (await client.post("/registry/jobs", json=own)).json()["base"]


async def test_each_base_is_warmed(
    gateway: Gateway,
    engines: tuple[FakeEngine, FakeEngine],
    digest_of: Callable[[str], str],
) -> None:
    """An engine gets the adapters of its base alone, as many as it runs at once."""
    await Warmer(gateway).warm()
    theirs = {digest_of("north"), digest_of("south")}
    assert theirs == engines[1].loaded
    assert 4 == len(engines[0].loaded - theirs) == len(engines[0].loaded)


async def test_an_artifact_is_removed_from_every_engine_that_is_up(
    gateway: Gateway, engines: tuple[FakeEngine, FakeEngine], make_client: MakeClient
) -> None:
    """Removal asks the engines of all bases; a base whose engines are lost holds nothing up."""
    async with make_client(gateway) as client:
        await ask(client, "north + south")
    (digest,) = engines[1].loaded
    engines[0].up = False
    await gateway.evictor.remove(digest)
    assert not engines[1].loaded


def test_two_bases_with_one_name_are_refused(two: Settings) -> None:
    """Names for clients and names in the registry each mean one base."""
    first, second = two.of_bases()
    with pytest.raises(BasesAlike, match=OTHER):
        ServedBases([ServedBase(OTHER, first), ServedBase(OTHER, second)])
    with pytest.raises(BasesAlike, match="other"):
        ServedBases([ServedBase("other", first), ServedBase(OTHER, second)])
