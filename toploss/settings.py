"""Every setting, in one class. No other module reads the environment."""

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Literal

from pydantic import (
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    SecretStr,
    ValidationError,
)
from pydantic_settings import BaseSettings, SettingsConfigDict

from toploss.errors import BadSettings
from toploss.forms import (
    Address,
    BentoName,
    Endpoint,
    Folder,
    Namespace,
    Rate,
    Receivers,
    Secret,
    Share,
    Shares,
    long_enough,
    one_url,
)

PREFIX = "TOPLOSS_"


class Settings(BaseSettings):
    """Read once at start, from `TOPLOSS_…` variables and a `.env` file; the environment wins.

    What stands below a field says what it means; `docs/settings.md` is made of it.
    """

    model_config = SettingsConfigDict(
        env_prefix=PREFIX,
        env_file=".env",
        extra="ignore",
        frozen=True,
        env_ignore_empty=True,
        use_attribute_docstrings=True,
    )

    # Where things are
    home: Folder = Path("~/.toploss")
    """folder for everything local"""
    database_url: str = ""
    """SQLAlchemy URL; empty means SQLite at `HOME/toploss.db`"""
    database_url_file: Path | None = None
    """file with it, for it holds a password; goes before"""
    storage_url: str = ""
    """where images, snapshots, checkpoints, versions and logs lie: a folder, or
    `s3://bucket/prefix`; `HOME/storage`"""
    s3_endpoint_url: Endpoint = ""
    """of an S3 that is not Amazon's, as in `http://minio:9000`; credentials and region come from
    `AWS_…`, a profile or the machine's role"""
    s3_addressing: Literal["auto", "path", "virtual"] = "auto"
    """whether a bucket is named in the path or the host; auto: in the path where an endpoint is
    given"""
    name: BentoName = "toploss"
    """the classifier's name, and its BentoML model name"""

    # Who may come in
    admin_key_file: Path | None = None
    """file with an admin's key, beside those of `toploss keys`"""
    keys_file: Path | None = None
    """file with keys' names, roles and hashes, beside those, made by `toploss keys create --file`;
    see docs/bento.md"""
    rate_limit: NonNegativeFloat = 0
    """requests a second of one key, on average; 0: any number"""
    metrics_open: bool = False
    """`/metrics` needs no key"""

    log_format: Literal["text", "json"] = "text"
    """of the service's log lines"""
    log_level: Literal["info", "debug"] = "info"
    """likewise; debug: why a version does not load, with the whole traceback"""

    # Images
    max_bytes: PositiveInt = 20 * 2**20
    """bytes of one image"""
    max_archive: PositiveInt = 256 * 2**20
    """bytes of one archive, and of all that comes out of it"""
    max_bodies: PositiveInt = 512 * 2**20
    """bytes of all requests that are being read at a time"""
    max_pixels: PositiveInt = 64_000_000
    """pixels of one image"""
    split: Shares = "70/15/15"
    """shares of train/valid/test in percent; fixed at the first import"""
    split_seed: int = 42
    """seed of the split; fixed likewise"""

    # The review
    second_opinion: Share = 0
    """of the decisions, that somebody else is asked about, blind"""
    review_again: Share = 0
    """of the decisions, that come back to who made them, blind"""
    review_again_after: PositiveInt = 50
    """decisions of one's own in between, or a day"""
    holdout_slice: Share = 0.1
    """of the samples of test, drawn at random to be looked at"""

    # Serving
    serve_from: Literal["auto", "database", "bento"] = "auto"
    """what is served: `database`: production, and everything else; `bento`: the version that a
    built Bento carries, alone and read-only; auto: in a built Bento without `TOPLOSS_DATABASE_URL`
    and without a database in `HOME` the latter, else the former"""
    bento_version: str = "production"
    """the version that `bentoml build` packs, or the alias to it"""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """where networks run"""
    engine: Literal["auto", "ncnn", "onnx", "torch"] = "auto"
    """what computes predictions; auto: the fastest that agrees with training"""
    queue_size: PositiveInt = 64
    """predictions in flight before the service answers 503"""
    batch_size: Annotated[int, Field(ge=0, le=1024)] = 0
    """images computed at once; 0: the engine's best"""
    batch_wait_ms: Annotated[float, Field(ge=0, le=1000)] = 2
    """longest wait of a batch for images being decoded"""
    timeout_s: PositiveFloat = 30
    """seconds after which an image that waits is given up (504)"""
    cache_bytes: NonNegativeInt = 0
    """bytes of answers kept for images that come again; 0: none"""
    uncertain_below: Share = 0.7
    """confidence below which an answer is called uncertain"""
    shadow_share: Share = 0.1
    """of the images, that a candidate scores beside production"""
    poll_s: PositiveFloat = 1.0
    """seconds between two looks at the production alias"""
    threads: NonNegativeInt = 0
    """threads of one prediction or training; 0: one per core"""

    # Training, where the command line says nothing else
    train_arch: str = "resnet34"
    """torchvision's name of the architecture"""
    train_weights: str = "default"
    """`default` (ImageNet's, downloaded), `none`, or a file"""
    train_size: Annotated[int, Field(ge=8, le=2048)] = 224
    """side in pixels"""
    train_batch_size: Annotated[int, Field(ge=2)] = 32
    """images in a step"""
    train_epochs_head: NonNegativeInt = 4
    """epochs of stage one"""
    train_epochs_all: NonNegativeInt = 8
    """epochs of stage two"""
    train_lr: Rate = "auto"
    """`auto` (the rate finder) or stage one's peak rate"""
    train_seed: Annotated[int, Field(ge=0, lt=2**32)] = 42
    """seed of the training"""
    train_flip: bool = True
    """mirror training images; off where left and right matter"""
    train_balance: bool = False
    """draw training images so that every class comes as often"""
    train_cache: bool = True
    """stage one on features that the frozen body makes once"""
    train_folds: Annotated[int | None, Field(ge=0, le=100)] = None
    """folds for held-out losses of the whole pool; 0: none; not set: 5 where a pretrained body
    makes them cheap, or where TOPLOSS_TRAIN_FULL_FOLDS is set"""
    train_full_folds: bool | None = None
    """each fold by the whole recipe, not by a head on the frozen body's features; not set: from
    scratch alone"""
    train_workers: NonNegativeInt = 0
    """processes that decode pictures beside the training"""
    train_processes: Annotated[int, Field(ge=1, le=64)] = 1
    """processes that train one network together, with a GPU each where there are any; for runs that
    a dispatcher launches"""
    train_memory: NonNegativeInt = 0
    """bytes of memory that one of these processes may take; batches are taken in parts to fit; 0:
    any"""

    # Where trainings run
    executor: Literal["local", "kubernetes"] = "local"
    """what a dispatcher launches: processes beside it, or Jobs of a cluster"""
    kubernetes_namespace: Namespace = "toploss"
    """where the Jobs of trainings are made"""
    kubernetes_image: str = ""
    """the trainings' image; empty: the template's"""
    kubernetes_job: Path | None = None
    """the template of a training's Job (YAML); not set: ours"""
    kubernetes_start_s: NonNegativeFloat = 900
    """seconds that a pod may be unschedulable, or without its image, before its attempt is over"""

    # Captures
    capture_rate: Share = 0
    """share of the answered images kept for review; 0: none"""
    capture_per_day: Annotated[int, Field(ge=0, lt=2**31)] = 500
    """images kept on one day (UTC) at most, and as many that come with feedback"""
    capture_keep_days: Annotated[int, Field(ge=1, le=3650)] = 30
    """days after which one that no reviewer labelled is gone"""

    # Retraining
    retrain_after: PositiveInt = 50
    """changed samples of train or valid that make a run due"""
    retrain_quiet_s: NonNegativeFloat = 60
    """seconds without a change before a run starts"""
    retrain_cooldown_s: NonNegativeFloat = 900
    """seconds after a run ended before the next"""
    retrain_start: Literal["cold", "shrink-perturb", "fresh-head"] = "cold"
    """what a retraining begins with: what the first training began with, half of that and half of
    production's network, or production's body under a new head"""
    gate_margin: Share = 0.02
    """accuracy that a candidate may lose and still be promoted"""
    gate_class_margin: Share = 0.10
    """recall that one class may lose: beyond doubt more, on evidence corrected for the number of
    classes, and the candidate is rejected"""
    gate_new_recall: Share = 0.5
    """recall that is asked of a class that production lacks"""
    gate_new_count: NonNegativeInt = 8
    """holdout samples that it takes to judge such a class"""
    gate_slowdown: Annotated[float, Field(ge=1, le=1000)] = 1.5
    """times as slow as production, measured, that a candidate may be"""
    gate_cannot_tell: Literal["better", "hold", "promote"] = "better"
    """what to do with a candidate that the holdout cannot judge: promote it if it got as many right
    as production at least, or never, or always"""

    # A promotion under watch, and what is kept
    watch_s: NonNegativeFloat = 900
    """seconds after a promotion, in which it may be undone; 0: never"""
    watch_load_s: PositiveFloat = 60
    """seconds that most servers fail to load it, before that is done"""
    prune: bool = True
    """the dispatcher removes once a day what is kept no longer"""
    keep_versions: NonNegativeInt = 10
    """newest versions whose files are kept, beside those in use"""
    keep_rollbacks: PositiveInt = 3
    """versions that served before, kept to be returned to"""
    keep_days: NonNegativeFloat = 30
    """days that files of any version, and unnamed weights, are kept"""
    keep_checkpoint_days: NonNegativeFloat = 7
    """days after a run's end that its checkpoints are kept"""
    keep_log_days: NonNegativeFloat = 365
    """likewise, its logs"""

    # Drift
    drift_window_h: Annotated[int, Field(ge=1, le=720)] = 24
    """hours of traffic that are compared with the snapshot"""
    drift_answers: Annotated[int, Field(ge=50)] = 200
    """answers in these hours, below which nothing is said"""
    drift_alarm: Annotated[float, Field(gt=0, le=10)] = 0.25
    """population stability index from which a shift is an alarm; worth a look from two fifths of
    it"""
    drift_retrain: bool = False
    """an alarm makes a run due with a single changed sample, once; the policy's other rules stay"""

    # To and from the outside
    hook_secret: Secret = SecretStr("")
    """what calls of `/v1/hooks/retrain` are signed with; several, while one takes over from
    another, with spaces between; empty: none is taken"""
    hook_secret_file: Path | None = None
    """file with it, read at each call; goes before"""
    notify_urls: Receivers = SecretStr("")
    """where to tell what happened, with spaces between; `text+https://…` of a chat; see
    docs/triggers.md"""
    notify_secret: Secret = SecretStr("")
    """what those messages are signed with; empty: they are not"""
    notify_secret_file: Path | None = None
    """file with it, read at each message; goes before"""
    public_url: Address = ""
    """where people find the service's pages, for links in messages"""

    # Attempts at a run
    lease_s: Annotated[float, Field(gt=1)] = 30
    """silence in seconds after which a run counts as lost"""
    attempts: PositiveInt = 3
    """attempts that a run may lose before it counts as failed"""
    retry_s: Annotated[float, Field(ge=0, le=86400)] = 30
    """seconds that a run waits after its first lost attempt; twice as long after each further one,
    900 at most"""
    run_limit_s: NonNegativeFloat = 86400
    """seconds that an attempt may take before it is ended; 0: without end"""
    away_s: NonNegativeFloat = 300
    """seconds that a training waits for a database or a storage that is away"""

    def hook_secrets(self) -> list[str]:
        """What calls from outside may be signed with; none: they are not taken.

        Raises:
            BadSettings: the file cannot be read, or a secret is too short.
        """
        return _secrets(self.hook_secret, self.hook_secret_file, "hook_secret_file")

    def notify_secrets(self) -> list[str]:
        """What messages to the outside are signed with: the first. Raises BadSettings."""
        return _secrets(self.notify_secret, self.notify_secret_file, "notify_secret_file")

    @property
    def database(self) -> str:
        """The database's URL, spelled out. Raises BadSettings: its file cannot be read."""
        from sqlalchemy import URL  # late: only a command that opens the database pays for it

        if self.database_url_file is not None:
            return _text_of(self.database_url_file, "database_url_file", one_url).strip()
        # Not written by hand: a folder's name may hold `?` or `%`.
        made = URL.create("sqlite", database=str(self.database_file))
        return self.database_url or made.render_as_string()

    @property
    def database_file(self) -> Path:
        """Where the database lies that no URL is given for."""
        return self.home / "toploss.db"

    @property
    def storage(self) -> str:
        """The storage's URL or folder, spelled out."""
        return self.storage_url or str(self.home / "storage")

    @property
    def thread_count(self) -> int:
        """How many threads a prediction or a training uses: the setting, else the cores we may
        use (a container's CPU quota included). Threads above the quota are catastrophic."""
        return self.threads or available_cores()


def _secrets(given: SecretStr, file: Path | None, setting: str) -> list[str]:
    if file is None:
        return given.get_secret_value().split()
    return _text_of(file, setting, long_enough).split()


def _text_of(file: Path, setting: str, check: Callable[[str], None]) -> str:
    """What a file says that a setting names. Raises BadSettings, which does not show it."""
    try:
        told = file.expanduser().read_text(encoding="utf-8")
        check(told)
    except (OSError, ValueError) as exc:  # of text that is none, too
        reason = exc.strerror if isinstance(exc, OSError) else str(exc)
        name = PREFIX + setting.upper()
        raise BadSettings(f"{name}={str(file)!r} is not usable: {reason}; correct it") from exc
    return told


def available_cores() -> int:
    """Cores that this process may use: its affinity, bounded by the control group's quota."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
        cores = min(cores or 1, max(1, int(quota) // int(period)))
    except (OSError, ValueError):
        pass  # no control group, or no quota ("max")
    return max(1, cores or 1)


def read_settings(**overrides: object) -> Settings:
    """The settings of this process.

    Raises:
        BadSettings: naming the variable, its value and what was expected.
    """
    try:
        return Settings(**overrides)  # type: ignore[arg-type]  # pydantic checks them
    except ValidationError as exc:
        fault = exc.errors()[0]
        key = PREFIX + str(fault["loc"][0]).upper() if fault["loc"] else "settings"
        reason = fault["msg"].removeprefix("Value error, ")
        field = Settings.model_fields.get(str(fault["loc"][0])) if fault["loc"] else None
        secret = field is not None and field.annotation is SecretStr
        shown = "(not shown)" if secret else fault["input"]
        raise BadSettings(
            f"{key}={shown!r} is not usable: {reason}; correct the variable or .env"
        ) from exc


@contextmanager
def environment(values: Mapping[str, str]) -> Iterator[None]:
    """These variables too, for as long as it takes: for a library that reads them when it is
    loaded. They are the whole process's meanwhile."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            del os.environ[name]
            if value is not None:
                os.environ[name] = value


def torchrun_places() -> tuple[int, int]:
    """What torchrun has told this process: its number among all, on all machines, and how many
    there are on this one. (0, 1) where it is none of torchrun's."""
    return int(os.environ.get("RANK", "0")), int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
