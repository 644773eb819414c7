"""Storing an admitted folder as a version: first the files, then the row that refers to them.

`registry.admission.admit` decides whether a folder is admitted.
"""

from dataclasses import dataclass

from merge.peft_format import normalise_folder
from registry.access import audit
from registry.admission.card import Card, read_card
from registry.errors import AdmissionRefused, ContentQuarantined
from registry.storage.blobs import BlobStore
from registry.storage.columns import now
from registry.storage.database import WriteSession
from registry.storage.errors import Conflict, StorageFailed
from registry.storage.insert import insert
from registry.storage.models import AdapterRow, AdapterVersionRow
from registry.types import AdapterFacts, AdmissionReport
from registry.versions import lineage_queries, modules, queries
from registry.versions.names import claim
from registry.versions.resolve import live


@dataclass(frozen=True, slots=True)
class StoredContent:
    """An adapter whose files are in the store, with the values for its row.

    A merge that was made here has the licences and the digests of what it was made of.
    """

    digest: str
    facts: AdapterFacts
    card: Card
    report: AdmissionReport
    licence: str | None
    made_of: frozenset[str] = frozenset()


def store(blobs: BlobStore, report: AdmissionReport) -> StoredContent:
    """Store the folder of a report in its normal form.

    Raises:
        AdmissionRefused: the report refuses the adapter.
        StorageFailed: the store is full or unavailable.
    """
    if not report.accepted or report.folder is None or report.facts is None:
        raise AdmissionRefused(report)
    try:
        card = read_card(report.folder.path)
        with blobs.workspace() as workspace:
            normalise_folder(report.folder, workspace, base=report.base)
            digest = blobs.adopt(workspace)
            return StoredContent(digest, report.facts, card, report, card.licence)
    except OSError as error:
        raise StorageFailed(str(error)) from error


def add_version(
    session: WriteSession, name: str, content: StoredContent, source: str | None, actor: str
) -> tuple[AdapterVersionRow, bool]:
    """Make stored content the newest version of an adapter; return it and whether it is new.

    Raises:
        NameTaken: the name belongs to a composition or a base.
        VersionRetired: the version of the name that has this content is retired.
        VersionQuarantined: the version of the name that has this content is quarantined.
        ContentQuarantined: a version of another name has this content and is quarantined.
    """
    _refuse_quarantined(session, name, content.digest)
    claim(session, AdapterRow(name=name), actor)
    row = _row(content)
    row.name, row.source, row.created_by = name, source, actor
    row.number = queries.next_number(session, AdapterVersionRow, name)
    if content.made_of:
        lineage_queries.add_sources(session, content.digest, content.made_of)
    try:
        insert(session, row)
    except Conflict as conflict:
        if conflict.constraint != "uq_adapter_versions_name_digest":
            raise
        existing = queries.version_by_content(session, AdapterVersionRow, name, content.digest)
        return live(existing), False
    modules.link(session, row.id, content.facts.modules)
    subject, detail = f"{name}@{row.number}", {"digest": row.digest, "source": source}
    audit.record(session, actor, "adapter.registered", subject, **detail)
    return row, True


def _refuse_quarantined(session: WriteSession, name: str, digest: str) -> None:
    versions = queries.with_digest(session, digest)
    quarantined = [row for row in versions if row.status == "quarantined"]
    for row in quarantined:
        if row.name == name:
            live(row)
    if quarantined:
        raise ContentQuarantined(name)


def _row(content: StoredContent) -> AdapterVersionRow:
    facts = content.facts
    return AdapterVersionRow(
        digest=content.digest,
        base=content.report.base,
        base_said=facts.base_said,
        rank=facts.rank,
        modules={name: module.to_json() for name, module in facts.modules.items()},
        use_rslora=facts.use_rslora,
        dtypes=list(facts.dtypes),
        bytes=facts.bytes,
        norm=facts.norm,
        peft_version=facts.peft_version,
        lora_dropout=facts.lora_dropout,
        chat_template=facts.chat_template,
        status="admitted",
        licence=content.licence,
        card=content.card.text,
        report=content.report.to_json(),
        created_at=now(),
    )
