"""The settings of folders and of the object store; `server.settings` inherits them."""

from pathlib import Path

from pydantic import Field, field_validator
from pydantic_settings import BaseSettings

from registry.storage.errors import StoreUrlInvalid
from registry.storage.objects import RequestLimits, checked_store_url


class StoreSettings(BaseSettings):
    """Where files are kept."""

    home: Path = Field(Path("weft-home"), description="folder of the database, blobs and artifacts")
    artifacts_dir: Path | None = Field(
        None, description="folder of merged adapters; default: `home`/artifacts; tmpfs loads faster"
    )
    artifact_budget_bytes: int = Field(
        20 * 2**30, gt=0, description="size limit of the artifacts; least recently used are removed"
    )
    store: str | None = Field(
        None,
        description="URL of an object store for adapters, merged adapters and the files of jobs: "
        "`s3://`, `gs://` or `az://` with a bucket, or `file:///`; default: the folders of `home`",
    )
    store_timeout_seconds: float = Field(
        30, gt=0, description="time limit of one request to the store, of up to 16 MiB"
    )
    store_retry_seconds: float = Field(
        30, ge=0, description="time for which a failed request to the store is repeated; 0: never"
    )
    store_cache_bytes: int = Field(
        20 * 2**30,
        gt=0,
        description="size limit of this machine's copies of registered adapters in the store; "
        "those used within an hour stay",
    )
    store_budget_bytes: int | None = Field(
        None, gt=0, description="size limit of merged adapters in the store; `weft gc` keeps it"
    )

    @field_validator("store")
    @classmethod
    def _store_url(cls, url: str | None) -> str | None:
        try:
            return url and checked_store_url(url)
        except StoreUrlInvalid as error:
            raise ValueError(str(error)) from None

    @property
    def store_limits(self) -> RequestLimits:
        """The time limits of requests to the store."""
        return RequestLimits(self.store_timeout_seconds, self.store_retry_seconds)

    @property
    def blobs(self) -> Path:
        """Folder of the registered versions' files, or of copies from the store."""
        return self.home.resolve() / "blobs"

    @property
    def jobs(self) -> Path:
        """Folder of uploaded files and of the files that jobs write."""
        return self.home.resolve() / "jobs"

    @property
    def artifacts(self) -> Path:
        """Folder from which the engine loads adapters."""
        return (self.artifacts_dir or self.home / "artifacts").resolve()
