"""Adapters from the Hugging Face Hub: one, a list of them, or what a query finds, in parallel.

An adapter's folder is pinned to the commit that its revision means. It is judged by the names and
sizes that the commit lists, then by its small files, and only then are the weights fetched. The
outcome of each commit is remembered, so running again does only what is missing.
Not covered: adapters that need other files than config, weights, card and tokenizer.
"""

from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path

from merge.peft_format import CONFIG_NAME, PICKLED_WEIGHTS, WEIGHTS_NAME
from registry.admission.card import CARD_NAME
from registry.admission.findings import finding
from registry.admission.tokenizer import MAX_TOKENIZER_BYTES, TOKENIZER_FILES
from registry.errors import AdmissionRefused, RegistryError
from registry.references import check_name
from registry.service import Registry
from registry.sources.hub_address import HubAddress
from registry.sources.hub_client import HubClient, Listing
from registry.sources.outcome import Imported
from registry.storage.errors import StorageFailed
from registry.types import AdmissionReport, Finding, Registration
from registry.versions.imports import Remembered

_MAX_CONFIG_BYTES = 2**20
_MAX_CARD_BYTES = 2**22  # of which admission reads the beginning
_MAX_PROBLEMS_KEPT = 20


@dataclass(frozen=True, slots=True)
class HubImport:
    """How adapters of the Hub are to be imported.

    `name` is for the one adapter there is, instead of the name that its address suggests;
    `namespace` goes in front of that. `base`, `alias` and `actor` are as `Registry.register` has
    them; `max_bytes` bounds the weights file.
    """

    registry: Registry
    client: HubClient
    max_bytes: int
    name: str | None = None
    namespace: str | None = None
    base: str | None = None
    alias: str | None = None
    actor: str = "local"

    def run(self, addresses: Iterable[HubAddress], *, workers: int = 4) -> Iterator[Imported]:
        """Import every address, several at once, and yield what came of each as it is known.

        A refused or failed one stops no other, but a store or a database that fails stops all; so
        does leaving the iteration early. Those under way are waited for, and no more are begun.

        Raises:
            StorageFailed, DatabaseUnavailable: the store or the database is full or gone.
        """
        conditions = self.registry.imports.conditions(self.base)
        pool = ThreadPoolExecutor(workers, thread_name_prefix="weft-hub")
        try:
            wanted = dict.fromkeys(addresses)
            futures = [pool.submit(self.one, address, conditions) for address in wanted]
            for future in as_completed(futures):
                done = future.result()
                if done.fatal is not None:
                    raise done.fatal
                yield done
        finally:
            pool.shutdown(cancel_futures=True)

    def one(self, address: HubAddress, conditions: str) -> Imported:
        """Import one address; `conditions` are those of `ImportLog.conditions`."""
        name = self.name or address.name()
        if self.namespace is not None:
            name = f"{self.namespace}/{name}"
        try:
            check_name(name)
            if address.pinned:  # known or not without asking the Hub
                known = self._recall(address, name, conditions)
                if known is not None:
                    return Imported(str(address), name, known)
            listing = self.client.look(address)
            source = str(listing.address)
            known = self._recall(listing.address, name, conditions)
            outcome = self._import(listing, name, conditions) if known is None else known
        except RegistryError as error:
            return Imported(str(address), name, error)
        return Imported(source, name, outcome)

    def _recall(self, address: HubAddress, name: str, conditions: str) -> Remembered | None:
        known = self.registry.imports.recall(str(address), name, conditions)
        if known is not None and known.number is not None and self.alias is not None:
            self.registry.versions.set_alias(name, self.alias, known.number, self.actor)
        return known

    def _import(
        self, listing: Listing, name: str, conditions: str
    ) -> Registration | AdmissionRefused:
        log, source = self.registry.imports, str(listing.address)
        try:
            made = self._register(listing, name)
        except AdmissionRefused as error:
            problems = [str(problem) for problem in error.report.problems[:_MAX_PROBLEMS_KEPT]]
            log.remember(source, name, conditions, digest=None, problems=problems, actor=self.actor)
            return error
        digest = made.version.digest
        log.remember(source, name, conditions, digest=digest, problems=(), actor=self.actor)
        return made

    def _register(self, listing: Listing, name: str) -> Registration:
        _refuse(_listed_findings(listing, self.max_bytes))
        try:
            with self.registry.adapters.workspace() as workspace:
                folder = workspace / "adapter"
                self._fetch(listing, workspace)
                return self.registry.adapters.register(
                    folder, name=name, base=self.base, alias=self.alias,
                    source=str(listing.address), actor=self.actor,
                )  # fmt: skip
        except OSError as error:
            raise StorageFailed(str(error)) from error

    def _fetch(self, listing: Listing, workspace: Path) -> None:
        """Fill workspace/adapter: the small files first, since they may refuse the adapter."""
        folder = workspace / "adapter"
        folder.mkdir()
        scratch = workspace / "download"
        optional = {CARD_NAME: _MAX_CARD_BYTES} | dict.fromkeys(
            TOKENIZER_FILES, MAX_TOKENIZER_BYTES
        )
        for name in (CONFIG_NAME, *optional):
            file = listing.files.get(name)
            if file is not None and file.size <= optional.get(name, _MAX_CONFIG_BYTES):
                self.client.fetch(listing, name, folder / name, scratch=scratch)
        early = self.registry.adapters.check(folder, base=self.base)
        _refuse([f for f in early.findings if f.problem.code != "A002 weights-missing"])
        self.client.fetch(listing, WEIGHTS_NAME, folder / WEIGHTS_NAME, scratch=scratch)


def _listed_findings(listing: Listing, max_bytes: int) -> list[Finding]:
    """Judge a folder by the names and sizes of its files alone."""
    findings: list[Finding] = []
    files = listing.files
    if CONFIG_NAME not in files:
        findings.append(finding("A001 config-missing", CONFIG_NAME, "a file", "none"))
    elif files[CONFIG_NAME].size > _MAX_CONFIG_BYTES:
        size = f"{files[CONFIG_NAME].size} bytes"
        expected = f"at most {_MAX_CONFIG_BYTES} bytes"
        findings.append(finding("A010 config-invalid", CONFIG_NAME, expected, size))
    if WEIGHTS_NAME not in files:
        pickles = [name for name in PICKLED_WEIGHTS if name in files]
        code = "A003 pickle-weights" if pickles else "A002 weights-missing"
        findings.append(finding(code, WEIGHTS_NAME, "safetensors", ", ".join(pickles) or "none"))
    elif files[WEIGHTS_NAME].size > max_bytes:
        size = f"{files[WEIGHTS_NAME].size} bytes"
        findings.append(finding("A072 too-large", WEIGHTS_NAME, f"at most {max_bytes} bytes", size))
    return findings


def _refuse(findings: list[Finding]) -> None:
    if any(item.severity == "refuse" for item in findings):
        raise AdmissionRefused(AdmissionReport(None, tuple(findings), None, None))
