"""Import adapters from the Hugging Face Hub: one, a list, or the results of a query, in parallel.

An adapter's folder is pinned to the commit of its revision. Admission checks first the names and
sizes that the commit lists, then the small files; the weights are fetched last. The outcome of each
commit is stored, so a second run fetches only what is missing.
Not covered: adapters that need files other than config, weights, card and tokenizer.
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
_MAX_CARD_BYTES = 2**22  # admission reads only the beginning
_MAX_PROBLEMS_KEPT = 20


@dataclass(frozen=True, slots=True)
class HubImport:
    """The options of an import from the Hub.

    `name` replaces the name derived from the address of a single adapter; `namespace` is put before
    the name. `base`, `alias` and `actor` are those of `Adapters.register`; `max_bytes` limits the
    weights file.
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
        """Import every address, `workers` at a time, and yield the outcomes as they complete.

        A refused or failed adapter does not stop the others. A failure of the store or the database
        stops the import, and so does leaving the iteration early: running imports finish, and no
        others start.

        Raises:
            StorageFailed, DatabaseUnavailable: the store or the database is full or unavailable.
        """
        conditions = self.registry.imports.conditions(self.base)
        pool = ThreadPoolExecutor(workers, thread_name_prefix="weft-hub")
        try:
            unique = dict.fromkeys(addresses)
            futures = [pool.submit(self.one, address, conditions) for address in unique]
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
            if address.pinned:  # an earlier outcome needs no request to the Hub
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

    def register(self, address: HubAddress) -> Registration:
        """Import one address now, whatever came of it before.

        Outcomes of earlier imports are neither used nor kept: the token of another caller may have
        opened what this one's does not.

        Raises:
            AdmissionRefused: the adapter cannot be served.
            HubNotFound, HubDenied, HubFailed, and what else `Adapters.register` raises.
        """
        name = self.name or address.name()
        check_name(name)
        return self._register(self.client.look(address), name)

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
            registration = self._register(listing, name)
        except AdmissionRefused as error:
            problems = [str(problem) for problem in error.report.problems[:_MAX_PROBLEMS_KEPT]]
            log.remember(source, name, conditions, digest=None, problems=problems, actor=self.actor)
            return error
        digest = registration.version.digest
        log.remember(source, name, conditions, digest=digest, problems=(), actor=self.actor)
        return registration

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
        """Fill workspace/adapter, with the small files first, because they may cause a refusal."""
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
    """Return the findings that follow from the names and sizes of a folder's files."""
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
