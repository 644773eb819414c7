"""Every setting of the gateway, read once: flags, then `WEFT_*` variables, then a TOML file.

An invalid value stops the start with an error that names the setting. Names include units.
"""

from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, SecretStr, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict
from pydantic_settings.sources import PydanticBaseSettingsSource

from merge.limits import Limits
from registry.admission.admit import MAX_BYTES, MAX_RANK, AdmissionPolicy, RequiredField
from registry.callers import KeyLimits
from server.base_settings import BasesSettings
from server.config_file import ConfigFile, check_variables
from server.sites import checked_origin, checked_url
from server.store_settings import StoreSettings
from server.telemetry.logs import Format

# Variables of the command line and of a child engine, which are not settings of a gateway.
_CLIENT_VARIABLES = ("WEFT_SERVER", "WEFT_KEY", "WEFT_ARTIFACTS", "WEFT_LIFELINE", "WEFT_NODE_URL")
# The text encoder that does not need a model.
HASHING = "hashing"


class Settings(BasesSettings, StoreSettings):
    """Frozen settings; a field's description is its row in REFERENCE.md."""

    model_config = SettingsConfigDict(
        env_prefix="WEFT_", frozen=True, extra="forbid", hide_input_in_errors=True
    )

    config: Path | None = Field(
        None, description="TOML file of settings; default: weft.toml in `home`, if it exists"
    )
    database_url: str | None = Field(None, description="SQLAlchemy URL; default: SQLite in `home`")
    host: str = Field("127.0.0.1", description="address the gateway listens on")
    port: int = Field(8000, ge=0, le=65535, description="port the gateway listens on")
    api_keys: Annotated[tuple[SecretStr, ...], NoDecode] = Field(
        (), description="comma-separated admin keys; if set, routes need a key (README, Security)"
    )
    allowed_hosts: Annotated[tuple[str, ...], NoDecode] = Field(
        (),
        description="comma-separated hosts that requests may name, such as `weft.example.com` or "
        "`*.example.com`; default: any with keys, loopback names without",
    )
    cors_origins: Annotated[tuple[str, ...], NoDecode] = Field(
        (),
        description="comma-separated origins of web pages that may call the server, such as "
        "`https://chat.example.com`; `*`: any page that has a key; default: none",
    )
    engine_url: Annotated[tuple[str, ...], NoDecode] = Field(
        (),
        description="comma-separated URLs of vLLMs with weft's plug-in; default: weft starts one",
    )
    engine_key: SecretStr | None = Field(None, description="VLLM_API_KEY of these engines")
    engine_start_seconds: float = Field(
        900, gt=0, description="time limit of one start of the engine"
    )
    engine_probe_seconds: float = Field(
        20, gt=0, description="time in which the engine's core must answer a probe"
    )
    engine_probe_misses: int = Field(
        3, ge=1, description="missed probes in a row after which the engine is restarted"
    )
    engine_env: Annotated[tuple[str, ...], NoDecode] = Field(
        (),
        description="comma-separated names of more environment variables for the child engine",
    )
    stream_idle_seconds: float = Field(
        120, gt=0, description="longest pause between two parts of a streamed answer"
    )
    drain_seconds: float = Field(
        20, ge=0, description="time that answers in progress have when the server is told to stop"
    )
    warm_artifacts: int = Field(8, ge=0, description="adapters loaded at engine start; 0: none")
    merge_workers: int = Field(
        1, ge=1, description="builds that run at once, each in its own process"
    )
    merge_threads: int = Field(2, ge=1, description="processes of one large build")
    merge_queue: int = Field(
        64, ge=1, description="builds that may run or wait; further ones are refused"
    )
    merge_queue_share: int = Field(
        16, ge=1, description="builds of one namespace or key that may wait; more are refused"
    )
    merge_max_weight: float = Field(
        1e4, gt=0, description="largest size of a weight or a scale that clients may ask for"
    )
    merge_max_ingredients: int = Field(
        64, ge=1, description="ingredients of a merge that clients may ask for"
    )
    merge_max_total_rank: int = Field(
        4096, ge=1, description="largest sum of the ingredients' ranks in a module"
    )
    merge_max_bytes: int = Field(
        8 * 2**30, gt=0, description="memory that one build may take, as estimated and in fact"
    )
    weight_step: float = Field(
        0.01, ge=0, description="grid to which weights in requests are rounded; 0: exact"
    )
    merge_timeout_seconds: float = Field(
        120, gt=0, description="time limit of one build, as estimated and in fact"
    )
    norm_limit: float = Field(
        1000, gt=0, description="largest Frobenius norm of the update of an adapter or a merge"
    )
    factor_limit: float = Field(
        1e4, gt=0, description="largest Frobenius norm of a factor of a module"
    )
    norm_minimum: float = Field(
        0,
        ge=0,
        description="smallest norm of an update; the 960-adapter pool of arXiv 2602.12323 used 1",
    )
    import_max_rank: int = Field(
        MAX_RANK, ge=1, le=MAX_RANK, description="largest rank of an adapter that is admitted"
    )
    import_max_bytes: int = Field(
        MAX_BYTES, gt=0, description="largest weights file that is admitted, downloaded or uploaded"
    )
    licences: Annotated[tuple[str, ...], NoDecode] = Field(
        (), description="comma-separated licences that are admitted; default: any or no licence"
    )
    required_fields: Annotated[tuple[RequiredField, ...], NoDecode] = Field(
        (), description="comma-separated fields that an adapter must have, of base, card, licence"
    )
    import_roots: Annotated[tuple[Path, ...], NoDecode] = Field(
        (), description="comma-separated folders from which clients may import; default: none"
    )
    protected_aliases: Annotated[tuple[str, ...], NoDecode] = Field(
        ("prod",), description="comma-separated aliases that only admins may move"
    )
    hub_endpoint: str | None = Field(
        None, description="URL of the Hub to import from; default: HF_ENDPOINT or huggingface.co"
    )
    hub_owners: Annotated[tuple[str, ...], NoDecode] = Field(
        (), description="comma-separated owners on the Hub that clients may import from; `*`: any"
    )
    hub_workers: int = Field(4, ge=1, le=32, description="downloads from the Hub that run at once")
    text_encoder: str = Field(
        HASHING,
        description="encoder for text search: `hashing` or a sentence-transformers model",
    )
    job_devices: Annotated[tuple[str, ...], NoDecode] = Field(
        ("auto",),
        description="comma-separated torch devices, one job at a time on each; empty: none",
    )
    job_memory_bytes: int | None = Field(
        None, gt=0, description="memory limit of a job; default: the free memory of its device"
    )
    job_timeout_seconds: float = Field(
        6 * 3600, gt=0, description="time limit of a job, from its start to its publication"
    )
    events_days: float | None = Field(
        None, gt=0, description="days that `weft gc` keeps logs of ended jobs; default: for good"
    )
    job_files_days: float | None = Field(
        None,
        gt=0,
        description="days that `weft gc` keeps candidates of ended jobs; then only "
        "published ones can be served",
    )
    recipes_days: float | None = Field(
        None, gt=0, description="days that `weft gc` keeps recipes that nothing uses"
    )
    audit_days: float | None = Field(
        None, gt=0, description="days that `weft gc` keeps entries of the audit log"
    )
    file_max_bytes: int = Field(
        100 * 2**20, gt=0, description="largest file of examples that may be uploaded"
    )
    limit_requests: int | None = Field(
        None, ge=0, description="chats and completions per key and minute; default: no limit"
    )
    limit_tokens: int | None = Field(
        None, ge=0, description="tokens, in and out, per key and minute; default: no limit"
    )
    limit_compositions: int | None = Field(
        None, ge=0, description="new compositions per key and minute; default: no limit"
    )
    limit_build_seconds: float | None = Field(
        None, ge=0, description="seconds of builds per key and minute; default: no limit"
    )
    max_answers: int = Field(
        128, ge=1, description="answers that one request may ask for: prompts times `n`"
    )
    prompt_tokens_details: bool = Field(
        False, description="tell clients in `usage` how many tokens of a prompt were cached"
    )
    chat_max_bytes: int = Field(
        4 * 2**20, gt=0, description="largest body of a chat or completion request"
    )
    json_max_bytes: int = Field(
        2**20, gt=0, description="largest JSON body of any other request; uploads have own limits"
    )
    bodies_max_bytes: int = Field(
        256 * 2**20, gt=0, description="bytes of all bodies of running requests; more are refused"
    )
    body_seconds: float = Field(
        60, gt=0, description="time limit for receiving a body, or the next part of an upload"
    )
    header_seconds: float = Field(
        10, gt=0, description="time limit for the head of a request; then the connection is closed"
    )
    write_idle_seconds: float = Field(
        60, gt=0, description="time after which a client that reads nothing loses its connection"
    )
    max_connections: int = Field(
        1000, ge=1, description="open connections; a request on one more is answered 503"
    )
    statement_seconds: float = Field(
        10, gt=0, description="time limit of one statement of the database for a request"
    )
    otlp_endpoint: str | None = Field(
        None,
        description="URL of an OpenTelemetry collector for spans (OTLP over HTTP); default: none",
    )
    log_format: Format = Field(
        "text", description="format of the log: `text`, or `json` with one object per line"
    )
    canary: Literal["off", "report", "enforce"] = Field(
        "off",
        description="ask every new merge the prompts of `canary_file`: only report the result, or "
        "refuse requests for merges that fail",
    )
    canary_file: Path | None = Field(
        None, description="file of prompts with expected answers (deploy/README.md, Canary)"
    )
    self_test: bool = Field(
        True, description="check at start that a batch does not mix the base and adapters"
    )

    @model_validator(mode="before")
    @classmethod
    def _no_misspelt_variable(cls, values: Any) -> Any:
        known = [f"WEFT_{name.upper()}" for name in cls.model_fields]
        check_variables([*known, *_CLIENT_VARIABLES])
        return values

    @field_validator(
        "api_keys", "licences", "required_fields", "import_roots", "protected_aliases",
        "job_devices", "engine_env", "engine_url", "allowed_hosts", "cors_origins", "hub_owners",
        mode="before",
    )  # fmt: skip
    @classmethod
    def _split(cls, value: object) -> object:
        return [part.strip() for part in value.split(",")] if isinstance(value, str) else value

    @field_validator("job_devices", "engine_env", "allowed_hosts", "cors_origins", "hub_owners")
    @classmethod
    def _no_empty_name(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(filter(None, names))

    @field_validator("cors_origins")
    @classmethod
    def _whole_origins(cls, origins: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(map(checked_origin, origins))

    @field_validator("engine_url")
    @classmethod
    def _whole_urls(cls, urls: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(map(checked_url, filter(None, urls)))

    @field_validator("api_keys")
    @classmethod
    def _no_empty_key(cls, keys: tuple[SecretStr, ...]) -> tuple[SecretStr, ...]:
        if not all(key.get_secret_value().strip() for key in keys):
            raise ValueError("an empty key would let everybody in")
        return keys

    @field_validator("import_roots")
    @classmethod
    def _whole_paths(cls, roots: tuple[Path, ...]) -> tuple[Path, ...]:
        if not all(root.is_absolute() for root in roots):
            raise ValueError("every folder needs its whole path, from /")
        return roots

    @model_validator(mode="after")
    def _canary_with_prompts(self) -> Self:
        if self.canary != "off" and self.canary_file is None:
            raise ValueError(f"canary={self.canary} needs the prompts of a canary_file")
        return self

    @property
    def policy(self) -> AdmissionPolicy:
        """The requirements for admitting an adapter."""
        return AdmissionPolicy(
            norm_limit=self.norm_limit,
            factor_limit=self.factor_limit,
            norm_minimum=self.norm_minimum,
            max_rank=self.import_max_rank,
            max_bytes=self.import_max_bytes,
            licences=frozenset(licence.lower() for licence in self.licences),
            required=frozenset(self.required_fields),
        )

    @property
    def merge_limits(self) -> Limits:
        """The largest merge that a client may ask for."""
        return Limits(
            weight=self.merge_max_weight,
            ingredients=self.merge_max_ingredients,
            total_rank=self.merge_max_total_rank,
            nbytes=self.merge_max_bytes,
            seconds=self.merge_timeout_seconds,
            threads=self.merge_threads,
            names={
                "weight": "WEFT_MERGE_MAX_WEIGHT", "ingredients": "WEFT_MERGE_MAX_INGREDIENTS",
                "total_rank": "WEFT_MERGE_MAX_TOTAL_RANK", "nbytes": "WEFT_MERGE_MAX_BYTES",
                "seconds": "WEFT_MERGE_TIMEOUT_SECONDS",
            },
        )  # fmt: skip

    @property
    def key_limits(self) -> KeyLimits:
        """What a key without limits of its own may use in a minute."""
        return KeyLimits(
            self.limit_requests, self.limit_tokens, self.limit_compositions,
            self.limit_build_seconds,
        )  # fmt: skip

    @property
    def database(self) -> str:
        """The effective database URL."""
        return self.database_url or f"sqlite:///{self.home.resolve() / 'weft.db'}"

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Read the command line first, then the environment, then the file of settings."""
        return init_settings, env_settings, ConfigFile(settings_cls)
