"""Names, aliases, references and digests cannot leave the store."""

import contextlib
from collections.abc import Callable
from pathlib import Path

import pytest

from registry.errors import (
    AliasInvalid,
    DigestInvalid,
    NameInvalid,
    ReferenceInvalid,
    RegistryError,
    UnknownReference,
)
from registry.references import parse_reference
from registry.service import Registry
from registry.sources.errors import HubAddressInvalid
from registry.sources.hub_address import parse_address
from registry.storage.blobs import LocalBlobs
from server.compose.expression import ExpressionInvalid, parse_model
from server.engine.pinned import AdapterRejected, pin, unpin
from tests.attacks.strings import LONG, LOOK_ALIKES, NO_DIGESTS, NO_NAMES, TRAVERSALS
from tests.reading import read_adapter
from tests.registry.conftest import BASE

pytestmark = pytest.mark.usefixtures("watched")


def test_no_such_name_can_be_given(registry: Registry, store: LocalBlobs, root: Path) -> None:
    """An invalid name is refused before anything is stored; its error is printable and short."""
    for text in NO_NAMES:
        with pytest.raises(NameInvalid) as caught:
            registry.adapters.register(root / "in" / "good", name=text)
        assert str(caught.value).isprintable(), repr(text)
        assert len(str(caught.value)) < 1000
    assert (frozenset(), ()) == (store.digests(), registry.catalogue.models())


def test_the_form_of_a_digest_is_no_name(registry: Registry, root: Path) -> None:
    """A name in the form of a digest is refused, because it could be read as one."""
    with pytest.raises(NameInvalid, match="form of a digest"):
        registry.adapters.register(root / "in" / "good", name="a" * 64)


def test_no_such_composition_can_be_named(registry: Registry) -> None:
    """A composition with an invalid name is refused."""
    for text in NO_NAMES:
        with pytest.raises(NameInvalid):
            registry.compositions.add(text, expression="a", recipe_text="a", recipe_digest="a" * 64,
                             base=BASE, ingredients=[], actor="me")  # fmt: skip


def test_no_such_alias_can_be_given(registry: Registry, root: Path) -> None:
    """An invalid alias is refused for a new version and for an existing one."""
    registry.adapters.register(root / "in" / "good", name="legal")
    for text in (*NO_NAMES, "a/b", "7", "a" * 61):
        with pytest.raises(AliasInvalid):
            registry.adapters.register(root / "in" / "good", name="legal", alias=text)
        with pytest.raises(AliasInvalid):
            registry.versions.set_alias("legal", text, 1, "me")
    assert () == read_adapter(registry, "legal").aliases


def test_no_such_reference_means_anything(registry: Registry, root: Path) -> None:
    """Invalid references do not resolve, even if they look like an existing name."""
    registry.adapters.register(root / "in" / "good", name="legal", alias="prod")
    for text in (*NO_NAMES, *(f"{text}@1" for text in NO_NAMES), *(f"legal@{t}" for t in NO_NAMES)):
        with pytest.raises((ReferenceInvalid, UnknownReference)):
            registry.versions.resolve(parse_reference(text))


def test_no_such_model_can_be_asked_for() -> None:
    """The `model` of a request does not parse if it has an invalid name."""
    for text in NO_NAMES:
        for model in (text, f"cat({text}, b)", f"0.5*{text} + 0.5*b"):
            with contextlib.suppress(ExpressionInvalid, ReferenceInvalid):
                # White space around a reference is ignored.
                assert text.strip() in ("a", "-rf"), parse_model(model)


def test_no_such_digest_leads_anywhere(store: LocalBlobs) -> None:
    """Every method of the store refuses a malformed digest before it makes a path."""
    ways: tuple[Callable[[str], object], ...] = (
        store.path, store.has, store.verify, store.delete, store.touch, store.used_at, store.size,
        lambda digest: store.discard(digest, idle_seconds=0),
    )  # fmt: skip
    for text in NO_DIGESTS:
        for way in ways:
            with pytest.raises(DigestInvalid):
                way(text)


def test_no_such_digest_is_written_down(registry: Registry) -> None:
    """A malformed digest of a recipe, an ingredient or an artifact is refused, also by lineage."""
    registry.compositions.save_recipe("text", "e" * 64, BASE, [])
    for text in NO_DIGESTS:
        with pytest.raises(DigestInvalid):
            registry.compositions.save_recipe("text", text, BASE, [])
        with pytest.raises(DigestInvalid):
            registry.compositions.save_recipe("text", "f" * 64, BASE, [(text, 1.0)])
        with pytest.raises(DigestInvalid):
            registry.compositions.record_artifact("e" * 64, text, bytes=1, seconds=0.1, report={})
        with pytest.raises((DigestInvalid, UnknownReference)):  # 63 digits may be a start
            registry.compositions.lineage(text)


def test_the_engine_links_and_drops_nothing_else(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The engine's plug-in, which any route can reach, accepts only digests."""
    monkeypatch.setenv("WEFT_ARTIFACTS", str(root / "store" / "blobs"))
    for text in NO_DIGESTS:
        with pytest.raises(AdapterRejected, match="not a digest"):
            pin(text)
        unpin(text)


def test_no_such_address_on_the_hub() -> None:
    """A Hub address whose repository, revision or folder leads out of a workspace is refused."""
    for text in (*TRAVERSALS, *LOOK_ALIKES, *LONG, "a\0b"):
        with pytest.raises(HubAddressInvalid):
            parse_address(f"hf:{text}")
        with pytest.raises(HubAddressInvalid):
            parse_address(f"hf:owner/{text}/../..")
    for part in ("..", "a/..", "/a", "a//b", "a/./b", "a\0", "a\\..\\b"):
        with pytest.raises(HubAddressInvalid):
            parse_address(f"hf:owner/name#{part}")
    for revision in ("../x", "/x", "a\0", "refs/../../x"):
        with pytest.raises(HubAddressInvalid):
            parse_address(f"hf:owner/name@{revision}")


def test_errors_of_ours_alone(registry: Registry) -> None:
    """Looking up an invalid name raises only the registry's own errors."""
    for text in NO_NAMES:
        for ask in (registry.catalogue.adapter, registry.catalogue.composition, registry.bases.get):
            with pytest.raises(RegistryError):
                ask(text)
