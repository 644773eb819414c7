"""kill -9 at every step of a Hub import leaves no version or a complete one; a second run
completes it.
"""

from pathlib import Path

import pytest
from huggingface_hub import file_download
from sqlalchemy.orm import Session

from merge.peft_format import WeightsWriter
from registry.adapters import Adapters
from registry.admission.admit import MAX_BYTES
from registry.sources.hub import HubImport
from registry.sources.hub_address import HubAddress
from registry.sources.hub_client import HubClient
from registry.storage.blobs import LocalBlobs
from registry.versions import adapters
from registry.versions.imports import ImportLog
from tests.registry.crashing import (
    Fault,
    Place,
    check_tidy,
    check_whole,
    die_at,
    killed,
    sqlite_place,
)
from tests.registry.sources.conftest import Put
from tests.registry.sources.fake_hub import FakeHub

STEPS = {
    "after the look": Fault(HubClient, "look", after=True),
    "before the first download": Fault(HubClient, "fetch", after=False),
    "in the middle of a download": Fault(file_download, "http_get", after=False, call=3),
    "after a download, before its hash": Fault(file_download, "http_get", after=True, call=3),
    "after the config": Fault(HubClient, "fetch", after=True),
    "after the weights": Fault(HubClient, "fetch", after=True, call=3),
    "before admission": Fault(Adapters, "check", after=False, call=2),
    "in the middle of the copy": Fault(WeightsWriter, "write", after=True),
    "after the files are stored": Fault(LocalBlobs, "adopt", after=True),
    "before the name": Fault(adapters, "claim", after=False),
    "before the commit": Fault(Session, "commit", after=False),
    "after the commit": Fault(Session, "commit", after=True),
    "before the memory": Fault(ImportLog, "remember", after=False),
    "before the memory's commit": Fault(Session, "commit", after=False, call=2),
    "after the memory": Fault(ImportLog, "remember", after=True),
}
WHOLE = {
    "after the commit", "before the memory", "before the memory's commit", "after the memory",
}  # fmt: skip


def run(place: Place, endpoint: str, fault: Fault | None = None) -> str:
    """Import the adapter; return the outcome."""
    with place.opened() as registry:
        if fault is not None:
            die_at(fault)
        importer = HubImport(registry, HubClient(endpoint), MAX_BYTES, alias="prod")
        (done,) = importer.run([HubAddress("acme/legal")])
        return done.verdict


@pytest.mark.parametrize("step", STEPS)
def test_a_crash_leaves_nothing_or_a_whole_version(
    tmp_path: Path, empty_database: Path, hub: FakeHub, put: Put, step: str
) -> None:
    """Every version after a crash is complete, and the next run knows or completes it."""
    place = sqlite_place(tmp_path / "store", empty_database)
    put("acme/legal")
    killed(lambda: run(place, hub.endpoint, STEPS[step]))
    check_whole(place, ["acme/legal"] if step in WHOLE else [])
    assert ("known" if step in WHOLE else "admitted") == run(place, hub.endpoint)
    assert "known" == run(place, hub.endpoint)
    check_whole(place, ["acme/legal"])
    check_tidy(place)
