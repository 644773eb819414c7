"""`weft adapters probe | quarantine | release`, `weft convert`: is an adapter fit to be served?"""

from pathlib import Path
from typing import Annotated

import typer

from registry.references import Reference, parse_reference
from registry.service import Registry
from registry.types import AdapterVersion
from server.cli.client import Home, Key, Server
from server.cli.console import (
    AsJson,
    actor,
    fail,
    print_json,
    print_table,
    progress_bar,
    say,
)
from server.cli.versions import set_status
from server.home import open_registry
from server.probe.prompts import NAME
from server.probe.run import ProbeReport, probe
from server.settings import Settings
from server.unpickle import Limits
from server.unpickle import convert as convert_folder

Version = Annotated[str, typer.Argument(help="name@version, name@alias, name or digest.")]
Numbered = Annotated[str, typer.Argument(help="name@version.")]


def probe_adapters(
    references: Annotated[list[str], typer.Argument(help="name, name@3, name@alias.")],
    model: Annotated[
        str | None, typer.Option(help="The base's weights: folder or Hub id (WEFT_MODEL).")
    ] = None,
    device: Annotated[str, typer.Option(help="Where torch runs: cpu, cuda.")] = "cpu",
    as_json: AsJson = False,
    home: Home = None,
) -> None:
    """Try adapters on the base, outside of the engine; quarantine what is not fit to be served.

    What an adapter does is kept as its behaviour, to find others that do the same.
    """
    settings = _settings(home)
    registry, blobs = open_registry(settings)
    versions = [_version(registry, parse_reference(text)) for text in references]
    folders = [blobs.path(version.digest) for version in versions]
    reports: list[ProbeReport] = []
    with progress_bar("probing") as show:
        for report in probe(model or _base_of(settings, versions), folders, device=device):
            _record(registry, versions[len(reports)], report)
            reports.append(report)
            show(len(reports), len(versions))
    pairs = list(zip(versions, reports, strict=True))
    if as_json:
        print_json([_json(*pair) for pair in pairs])
    else:
        columns = ("adapter", "result", "effect in nats", "findings")
        print_table("Probe", columns, [_row(*pair) for pair in pairs])
    if not all(report.passed for report in reports):
        raise typer.Exit(1)


def _version(registry: Registry, reference: Reference) -> AdapterVersion:
    """Return a version whatever its status: a quarantined one may be probed again."""
    if reference.name is None:
        raise fail(f"{reference} is a digest: name the adapter, as name@version")
    return registry.catalogue.adapter_version(reference)


def _base_of(settings: Settings, versions: list[AdapterVersion]) -> str:
    """Return the base to load when none was said: the served one that is theirs."""
    models = {own.served_base: own.model for own in settings.of_bases()}
    for version in versions:
        if version.base not in models or version.base != versions[0].base:
            raise fail(f"{version.name} is for {version.base}: say with --model where that is")
    return models[versions[0].base]


def _record(registry: Registry, version: AdapterVersion, report: ProbeReport) -> None:
    if report.signature is not None and report.signature.any():
        registry.search.embeddings.record_behaviour(
            version.digest, f"{NAME} {version.base}", report.signature
        )
    if not report.passed:
        reason = "; ".join(str(each.problem) for each in report.findings)
        registry.versions.quarantine(Reference(digest=version.digest), reason, actor())


def _row(version: AdapterVersion, report: ProbeReport) -> tuple[str, str, str, str]:
    effect = "" if report.effect is None else f"{report.effect:.4g}"
    result = "passed" if report.passed else "quarantined"
    found = "; ".join(str(each.problem) for each in report.findings)
    return f"{version.name}@{version.number}", result, effect, found


def _json(version: AdapterVersion, report: ProbeReport) -> dict[str, object]:
    return {
        "adapter": f"{version.name}@{version.number}", "digest": version.digest,
        "passed": report.passed, "effect_nats": report.effect,
        "findings": [str(each.problem) for each in report.findings],
    }  # fmt: skip


def quarantine(
    reference: Numbered,
    reason: Annotated[str, typer.Option(help="The reason that callers get.")],
    home: Home = None,
    server: Server = None,
    key: Key = None,
) -> None:
    """Keep a content and all that was made of it from being served."""
    set_status(reference, {"status": "quarantined", "reason": reason}, home, server, key)


def release(reference: Numbered, home: Home = None, server: Server = None, key: Key = None) -> None:
    """Let a quarantined content, and what was made of it, be served again."""
    set_status(reference, {"status": "admitted"}, home, server, key)


def convert(
    folder: Annotated[Path, typer.Argument(help="An adapter folder with adapter_model.bin.")],
    out: Annotated[Path, typer.Option(help="Folder to write; must not exist or be empty.")],
    seconds: Annotated[float, typer.Option(help="How long it may take.")] = 300.0,
) -> None:
    """Turn pickled weights into safetensors, offline, in a process that may do nothing else."""
    count = convert_folder(folder, out, Limits(seconds=seconds))
    say(f"{out}: {count} tensors; see `weft check {out}`")


def _settings(home: Path | None) -> Settings:
    return Settings() if home is None else Settings(home=home)
