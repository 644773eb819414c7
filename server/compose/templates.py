"""Whether the ingredients of a merge were trained with different chat templates.

One merge is asked with one chat template, the base's. An ingredient that was trained with another
may answer worse than it does elsewhere.
"""

from collections.abc import Sequence

from registry.service import Registry

_SHORT = 12  # digits of a digest in a message


def mixed_templates(registry: Registry, base: str, digests: Sequence[str]) -> str | None:
    """Return a sentence if the contents carry different templates, else None."""
    templates = registry.catalogue.chat_templates(digests)
    # An ingredient that carries no template was trained with the base's, as far as is known.
    usual = registry.bases.get(base).chat_template
    if len({templates.get(digest, usual) for digest in digests} - {None}) < 2:
        return None
    own = ", ".join(d[:_SHORT] for d in digests if templates.get(d, usual) != usual)
    return (
        f"the ingredients were trained with different chat templates (not the base's: {own}); "
        "the server applies the base's to all of them"
    )
