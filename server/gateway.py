"""The components of a gateway, connected to each other."""

from registry.service import Registry
from registry.storage.blobs import BlobStore
from server.artifacts.build import Builder
from server.artifacts.canary import Canary
from server.artifacts.canary_file import read_canaries
from server.artifacts.evict import Evictor
from server.artifacts.leases import Leases
from server.artifacts.previews import Previews
from server.artifacts.provide import Provider
from server.artifacts.store import ArtifactStore
from server.artifacts.workers import BuildWorkers
from server.compose.meanings import Meanings
from server.compose.resolve import Resolver
from server.jobs.feed import JobFeed
from server.jobs.finish import Finisher
from server.jobs.launch import Launch
from server.jobs.publish import Publisher
from server.jobs.runner import Runner
from server.limits import BodyBudget
from server.meter import Meter
from server.pools import Pools
from server.salts import CacheSalts
from server.served_bases import ServedBases
from server.settings import Settings
from server.stopping import Stopping
from server.stores import artifact_bucket, job_storage
from server.telemetry.metrics import Metrics
from server.telemetry.recent_requests import RecentRequests


class Gateway:
    """The components of a gateway. The caller starts and stops them.

    Merges run in `workers`, and jobs in what `launch` starts; by default in processes of this
    machine.
    """

    def __init__(
        self, settings: Settings, *, registry: Registry, versions: BlobStore, bases: ServedBases,
        workers: BuildWorkers | None = None, launch: Launch | None = None,
    ) -> None:  # fmt: skip
        self.settings, self.bases = settings, bases
        self.registry, self.versions = registry, versions
        self.metrics, self.recent_requests = Metrics(), RecentRequests()
        self.pools = Pools()
        self.bodies = BodyBudget(settings.bodies_max_bytes)
        self.salts = CacheSalts(lambda: registry.access.secret("cache_salt"), self.pools.auth)
        self.stopping = Stopping()
        self.leases = Leases()
        self.artifacts = ArtifactStore(settings.artifacts, artifact_bucket(settings))
        self.meter = Meter(registry.access.usage, settings.key_limits)
        self.builder = Builder(
            settings, registry, versions, self.artifacts, self.metrics, self.meter, workers
        )
        self.previews = Previews(settings, versions)
        self.provider = Provider(
            registry, versions, self.artifacts, self.builder, bases, self.leases, self.metrics,
            self.pools, self._canary(),
        )  # fmt: skip
        self.evictor = Evictor(
            self.artifacts, bases, self.leases, self.provider, self.metrics,
            budget_bytes=settings.artifact_budget_bytes,
        )  # fmt: skip
        self.resolver = Resolver(registry, bases, settings.merge_limits, settings.weight_step)
        self.meanings = Meanings(self.resolver, self.pools)
        self.storage = job_storage(settings)
        self.publisher = Publisher(registry, self.storage, bases)
        self.finisher = Finisher(
            self.publisher, self.provider, self.artifacts, self.storage, bases, self.salts
        )
        self.feed = JobFeed(registry.jobs, self.pools.jobs)
        self.jobs = Runner(
            settings, registry, versions, self.storage, self.finisher, bases, launch=launch
        )

    def _canary(self) -> Canary | None:
        """Return the canary, or None without an engine: merges are then asked when served."""
        mode, file = self.settings.canary, self.settings.canary_file
        if mode == "off" or file is None or self.bases.default.fleet.absent is not None:
            return None
        return Canary(
            read_canaries(file), self.registry.canaries, self.leases, self.pools,
            enforce=mode == "enforce",
        )  # fmt: skip
