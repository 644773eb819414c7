"""What a config says beyond what `merge.peft_format` reads: foreign formats, `target_modules`.

Not covered: everything that decides how an adapter is read, which is the format's alone.
"""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path

from merge.peft_format import CONFIG_NAME
from merge.peft_format.config import MAX_CONFIG_BYTES
from registry.admission.findings import finding
from registry.types import Finding

_MAX_NAMED = 5


def load_raw(folder: Path) -> Mapping[str, object]:
    """Return the JSON object in a folder's config, or an empty one where there is none to read.

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


def foreign_format(document: Mapping[str, object]) -> Iterator[Finding]:
    """Name the tool whose format this is, when it is not PEFT's.

    MLX writes `lora_parameters` and `fine_tune_type`; AdapterHub a nested `config` beside the
    model's class. Both use the file name adapter_config.json.
    """
    if "peft_type" in document:
        return
    expected = "a PEFT adapter: convert it with the tool that made it"
    if "lora_parameters" in document or "fine_tune_type" in document:
        yield finding("A023 mlx-format", CONFIG_NAME, expected, "an MLX adapter")
    if isinstance(document.get("config"), dict) and "model_class" in document:
        yield finding("A024 adapterhub-format", CONFIG_NAME, expected, "an AdapterHub adapter")


def target_note(document: Mapping[str, object], modules: Mapping[str, object]) -> Iterator[Finding]:
    """Say where a list of target modules and the modules that have tensors differ.

    A pattern is not held against anything: it is a stranger's regular expression, and the tensors
    decide in any case.
    """
    listed = document.get("target_modules")
    if not isinstance(listed, list) or not all(isinstance(item, str) for item in listed):
        return
    targets, used = set(listed), set()
    strangers = []
    for name in modules:
        endings = {name.split(".", cut)[-1] for cut in range(name.count(".") + 1)}
        used |= endings & targets
        if not endings & targets:
            strangers.append(name)
    for what, names in (("no tensors of", sorted(targets - used)), ("also tensors of", strangers)):
        if names:
            more = f" and {len(names) - _MAX_NAMED} more" if len(names) > _MAX_NAMED else ""
            found = f"{what} {', '.join(ascii(n[:80])[1:-1] for n in names[:_MAX_NAMED])}{more}"
            yield finding("A025 target-modules", CONFIG_NAME, "tensors of target_modules", found)
