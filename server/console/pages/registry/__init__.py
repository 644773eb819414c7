"""The pages of the registry: imports, keys, usage, the log of changes, garbage, artifacts."""

from server.console.pages.registry import artifacts, audit, garbage, imports, keys, usage
from server.console.pages.registry.frame import Part, pages_of

REGISTRY_PAGES = (
    *pages_of(
        [
            Part("/registry", "Imports", imports.build),
            Part("/registry/artifacts", "Artifacts", artifacts.build),
            Part("/registry/usage", "Usage", usage.build),
            Part("/registry/keys", "Keys", keys.build, lambda who: who.has("admin")),
            Part("/registry/audit", "Changes", audit.build, lambda who: who.has("admin")),
            Part("/registry/garbage", "Garbage", garbage.build, lambda who: who.operates),
        ],
        "Registry",
    ),
    artifacts.ARTIFACT,
)
