"""Importing from the Hub: pinned, checked, remembered. The client is the real one."""

import pytest

from registry.admission.admit import AdmissionPolicy
from registry.errors import AdmissionRefused, NameInvalid
from registry.references import parse_reference
from registry.service import Registry
from registry.sources.hub import HubImport
from registry.sources.hub_address import HubAddress, parse_address
from registry.sources.hub_client import HubClient
from registry.sources.outcome import Imported, tally
from registry.storage.blobs import LocalBlobs
from registry.storage.database import Database
from registry.types import Registration
from registry.versions.imports import Remembered
from tests.reading import read_adapter
from tests.registry.sources.conftest import CARD, TOKEN, Put
from tests.registry.sources.fake_hub import FakeHub, Repository

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"


def run(importer: HubImport, *addresses: str) -> list[Imported]:
    """Import addresses and return the outcomes by source."""
    found = importer.run([parse_address(text) for text in addresses])
    return sorted(found, key=lambda item: item.source)


def codes(item: Imported) -> list[str]:
    """Return the codes that refused an adapter."""
    assert isinstance(item.outcome, AdmissionRefused)
    return [problem.code for problem in item.outcome.report.problems]


def test_a_repository_becomes_a_version(importer: HubImport, hub: FakeHub, put: Put) -> None:
    """The address gives the name, and the version has the commit and the card's text and
    licence.
    """
    commit = put("Acme/Legal-QA").commit
    (done,) = run(importer, "hf:Acme/Legal-QA")
    assert isinstance(done.outcome, Registration)
    version = done.outcome.version
    source = f"hf:Acme/Legal-QA@{commit}"
    assert ("acme/legal-qa", 1, source) == (version.name, version.number, version.source)
    assert ("apache-2.0", CARD) == (version.licence, version.card)
    assert source == done.source


def test_the_same_adapter_from_a_folder_is_the_same_content(
    importer: HubImport, registry: Registry, put: Put, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Equal content has one digest, wherever it comes from."""
    repository = put("acme/legal")
    (done,) = run(importer, "acme/legal")
    folder = tmp_path_factory.mktemp("local")
    for name, data in repository.files.items():
        (folder / name).write_bytes(data)
    assert isinstance(done.outcome, Registration)
    assert (
        done.outcome.version.digest
        == registry.adapters.register(folder, name="local").version.digest
    )


def test_a_subfolder_is_an_adapter_of_its_own(importer: HubImport, hub: FakeHub, put: Put) -> None:
    """Files outside the subfolder are neither fetched nor used."""
    put("acme/many", subfolder="loras/v1")
    hub.repositories["acme/many"].files[CONFIG] = b"{}"
    (done,) = run(importer, "acme/many#loras/v1")
    assert "admitted" == done.verdict
    assert "acme/many/loras/v1" == done.name
    assert done.source.endswith("#loras/v1")


def test_nothing_but_the_three_files_is_fetched(
    importer: HubImport, hub: FakeHub, put: Put
) -> None:
    """Pickles and other files of a repository are not fetched."""
    repository = put("acme/legal")
    repository.files |= {"training_args.bin": b"\x80", "config.json": b"{}", "x/" + CONFIG: b""}
    (done,) = run(importer, "acme/legal")
    assert "admitted" == done.verdict
    assert ["README.md", CONFIG, WEIGHTS] == hub.bodies()


def test_a_revision_is_pinned_when_it_is_asked_for(
    importer: HubImport, hub: FakeHub, put: Put
) -> None:
    """A branch resolves to its current commit; after it moves, an import makes a new version."""
    old = put("acme/legal", seed=1).commit
    run(importer, "acme/legal@main")
    hub.repositories.clear()
    put("acme/legal", seed=2)
    run(importer, "acme/legal@main")
    versions = read_adapter(importer.registry, "acme/legal").versions
    assert [1, 2] == [version.number for version in versions]
    assert f"hf:acme/legal@{old}" == versions[0].source


def test_the_token_of_the_environment_is_shown(importer: HubImport, hub: FakeHub, put: Put) -> None:
    """Every request carries HF_TOKEN."""
    put("acme/legal")
    run(importer, "acme/legal")
    assert {f"Bearer {TOKEN}"} == set(hub.tokens)


def test_weights_that_cannot_be_admitted_are_not_fetched(
    importer: HubImport, hub: FakeHub, put: Put
) -> None:
    """Names, sizes and config are checked before the weights are fetched."""
    put("acme/no-config").files.pop(CONFIG)
    pickle = put("acme/pickle").files
    pickle["adapter_model.bin"] = pickle.pop(WEIGHTS)
    put("acme/large").lies[WEIGHTS] = 2**40
    put("acme/long-config").lies[CONFIG] = 2**21
    put("acme/ia3", peft_type="IA3")
    put("acme/nothing").files.clear()
    done = {item.name: codes(item) for item in run(importer, *hub.repositories)}
    assert {
        "acme/ia3": ["A011 not-lora"],
        "acme/large": ["A072 too-large"],
        "acme/long-config": ["A010 config-invalid"],
        "acme/no-config": ["A001 config-missing"],
        "acme/nothing": ["A001 config-missing", "A002 weights-missing"],
        "acme/pickle": ["A003 pickle-weights"],
    } == done
    assert [] == [path for path in hub.bodies() if path.endswith(WEIGHTS)]


def test_what_arrives_goes_through_admission(importer: HubImport, put: Put) -> None:
    """Files of the Hub are checked like all others."""
    put("acme/wrong", r=7)
    put("acme/other", base_model_name_or_path="acme/Unknown")
    assert [["A030 base-unknown"], ["A021 rank-mismatch"]] == [
        codes(item) for item in run(importer, "acme/wrong", "acme/other")
    ]
    assert () == importer.registry.catalogue.models()


def test_no_file_is_left_beside_the_store(
    importer: HubImport, put: Put, blobs: LocalBlobs, tmp_path: object
) -> None:
    """Workspaces are empty after every import."""
    put("acme/good")
    put("acme/bad", r=7)
    run(importer, "acme/good", "acme/bad")
    assert 1 == len(blobs.digests())
    assert 0 == blobs.sweep(older_than_seconds=-1)


# Many


def test_a_query_finds_adapters_of_a_base(hub: FakeHub, put: Put) -> None:
    """A query returns, over all pages, exactly the PEFT adapters of the base."""
    tags = ("peft", "base_model:adapter:acme/Tiny-Instruct")
    for number in range(5):
        hub.repositories[f"acme/a{number}"] = Repository({}, tags=tags)
    hub.repositories["acme/other"] = Repository({}, tags=("peft",))
    client = HubClient(hub.endpoint)
    expected = [HubAddress(f"acme/a{number}") for number in range(5)]
    assert expected == list(client.find("acme/Tiny-Instruct"))
    assert expected[:3] == list(client.find("acme/Tiny-Instruct", limit=3))


def test_one_bad_adapter_stops_no_other(importer: HubImport, hub: FakeHub, put: Put) -> None:
    """Each adapter has its outcome, and the summary names every reason."""
    for number in range(4):
        put(f"acme/a{number}", seed=number)
    put("acme/bad", r=7)
    done = run(importer, *hub.repositories, "acme/gone", "acme/a0")
    assert {"admitted": 4, "known": 0, "A021 rank-mismatch": 1, "HubNotFound": 1} == tally(done)
    assert ["acme/bad", "acme/gone"] == sorted(item.name for item in done if item.refused)


def test_a_namespace_goes_in_front(importer: HubImport, put: Put) -> None:
    """An invalid namespace is refused before a request to the Hub."""
    put("acme/legal")
    (done,) = HubImport(importer.registry, importer.client, 2**30, namespace="pool").run(
        [HubAddress("acme/legal")]
    )
    assert "pool/acme/legal" == done.name
    (bad,) = HubImport(importer.registry, importer.client, 2**30, namespace="Pool").run(
        [HubAddress("acme/legal")]
    )
    assert isinstance(bad.outcome, NameInvalid)


# Again


def test_importing_again_fetches_nothing(importer: HubImport, hub: FakeHub, put: Put) -> None:
    """Admitted and refused commits are known: one lookup each, and no file."""
    commit = put("acme/good").commit
    put("acme/bad", r=7)
    run(importer, "acme/good", "acme/bad")
    hub.seen.clear()
    bad, good = run(importer, "acme/good", "acme/bad")
    digest = read_adapter(importer.registry, "acme/good").versions[0].digest
    assert (Remembered(1, digest, ()), False) == (good.outcome, good.refused)
    assert isinstance(bad.outcome, Remembered)
    assert ("A021 rank-mismatch", True) == (bad.verdict, bad.refused)
    assert [] == hub.bodies()
    hub.seen.clear()
    (pinned,) = run(importer, f"acme/good@{commit}")
    assert "known" == pinned.verdict
    assert 0 == hub.seen.total()


def test_a_new_commit_is_looked_at_again(importer: HubImport, hub: FakeHub, put: Put) -> None:
    """A new commit of a refused adapter is checked again."""
    put("acme/bad", r=7)
    run(importer, "acme/bad")
    hub.repositories.clear()
    put("acme/bad")
    (done,) = run(importer, "acme/bad")
    assert "admitted" == done.verdict


def test_a_refusal_does_not_outlive_its_policy(
    importer: HubImport, database: Database, blobs: LocalBlobs, hub: FakeHub, put: Put
) -> None:
    """A commit is checked again under another policy or with another known base."""
    put("acme/legal")
    strict = Registry(database, blobs, AdmissionPolicy(norm_limit=1e-3))
    client = HubClient(hub.endpoint)
    assert ["A051 norm-limit"] == [
        i.verdict for i in run(HubImport(strict, client, 2**30), "acme/legal")
    ]
    assert ["A051 norm-limit"] == [
        i.verdict for i in run(HubImport(strict, client, 2**30), "acme/legal")
    ]
    assert ["admitted"] == [i.verdict for i in run(importer, "acme/legal")]


def test_a_base_made_known_opens_refused_adapters(
    importer: HubImport, put: Put, registry: Registry
) -> None:
    """Registering the base lets a refused adapter be admitted."""
    put("acme/legal", base_model_name_or_path="acme/Other")
    (before,) = run(importer, "acme/legal")
    assert "A030 base-unknown" == before.verdict
    shapes = registry.bases.list()[0].shapes
    registry.bases.add("acme/Other", shapes=shapes)
    (after,) = run(importer, "acme/legal")
    assert "admitted" == after.verdict


def test_a_retired_version_is_imported_again_only_to_be_told(
    importer: HubImport, put: Put, registry: Registry
) -> None:
    """A stored outcome does not hide that the version is retired."""
    put("acme/legal")
    run(importer, "acme/legal")
    registry.versions.retire(parse_reference("acme/legal@1"), "ann")
    (done,) = run(importer, "acme/legal")
    assert "VersionRetired" == done.verdict


def test_an_alias_is_moved_also_for_what_is_known(
    importer: HubImport, put: Put, registry: Registry
) -> None:
    """Importing known content with an alias moves the alias."""
    put("acme/legal")
    run(importer, "acme/legal")
    run(HubImport(registry, importer.client, 2**30, alias="prod"), "acme/legal")
    assert ["acme/legal", "acme/legal@prod"] == [model.id for model in registry.catalogue.models()]
