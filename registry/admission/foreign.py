"""The keys of a config that `merge.peft_format` does not read: foreign formats, task, provenance.

Not covered: every key that decides how an adapter is computed.
"""

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from merge.peft_format import CONFIG_NAME
from merge.peft_format.config import MAX_CONFIG_BYTES, not_lora
from merge.peft_format.problems import brief
from registry.admission.findings import finding, graded
from registry.types import Finding

_MAX_NAMED = 5
_VERSION = re.compile(r"[0-9A-Za-z.+!@-]{1,60}")


def load_raw(folder: Path) -> Mapping[str, object]:
    """Return the JSON object in a folder's config, or an empty one if it has no valid config.

    Raises:
        OSError: the file cannot be read.
    """
    path = folder / CONFIG_NAME
    if path.is_symlink() or not path.is_file() or path.stat().st_size > MAX_CONFIG_BYTES:
        return {}
    try:
        document = json.loads(path.read_bytes().decode("utf-8-sig"))
    except (ValueError, RecursionError):
        return {}
    return document if isinstance(document, dict) else {}


def foreign_format(document: Mapping[str, object]) -> Finding | None:
    """Return the finding about a config that is not LoRA, or None if it may be LoRA.

    MLX writes `lora_parameters` and `fine_tune_type`; AdapterHub nests a `config` beside the
    model's class. Both use the file name adapter_config.json.
    """
    kind = document.get("peft_type")
    if isinstance(kind, str) and kind != "LORA":
        return graded(not_lora(CONFIG_NAME, kind))
    if "peft_type" in document:
        return None
    expected = "a PEFT adapter: convert it with the tool that wrote it"
    if "lora_parameters" in document or "fine_tune_type" in document:
        return finding("A023 mlx-format", CONFIG_NAME, expected, "an MLX adapter")
    if isinstance(document.get("config"), dict) and "model_class" in document:
        return finding("A024 adapterhub-format", CONFIG_NAME, expected, "an AdapterHub adapter")
    return None


def named_base(document: Mapping[str, object]) -> str | None:
    """Return the base that the config names: a Hub id, a path, or None."""
    named = document.get("base_model_name_or_path")
    return named if isinstance(named, str) and named else None


def task_note(document: Mapping[str, object]) -> Iterator[Finding]:
    """Report a task other than CAUSAL_LM, the one that weft serves; null is accepted."""
    task = document.get("task_type")
    if task and task != "CAUSAL_LM":
        expected = "CAUSAL_LM, the only task that is served"
        yield finding("A029 task-type", CONFIG_NAME, expected, brief(task))


def peft_version(document: Mapping[str, object]) -> str | None:
    """Return the release of PEFT that wrote the config, such as "0.18.0"; None if not stated."""
    version = document.get("peft_version")
    valid = isinstance(version, str) and _VERSION.fullmatch(version) is not None
    return str(version) if valid else None


def lora_dropout(document: Mapping[str, object]) -> float | None:
    """Return the dropout of the training, between 0 and 1; None if not stated."""
    dropout = document.get("lora_dropout")
    if isinstance(dropout, bool) or not isinstance(dropout, int | float) or not 0 <= dropout <= 1:
        return None
    return float(dropout)


def target_note(document: Mapping[str, object], modules: Mapping[str, object]) -> Iterator[Finding]:
    """Report differences between the listed target modules and the modules with tensors.

    A pattern is not compared, because it is an untrusted regular expression; the tensors decide.
    """
    listed = document.get("target_modules")
    if not isinstance(listed, list) or not all(isinstance(item, str) for item in listed):
        return
    targets, used = set(listed), set()
    others = []
    for name in modules:
        endings = {name.split(".", cut)[-1] for cut in range(name.count(".") + 1)}
        used |= endings & targets
        if not endings & targets:
            others.append(name)
    for what, names in (("no tensors of", sorted(targets - used)), ("also tensors of", others)):
        if names:
            more = f" and {len(names) - _MAX_NAMED} more" if len(names) > _MAX_NAMED else ""
            difference = (
                f"{what} {', '.join(ascii(n[:80])[1:-1] for n in names[:_MAX_NAMED])}{more}"
            )
            yield finding(
                "A025 target-modules", CONFIG_NAME, "tensors of target_modules", difference
            )
