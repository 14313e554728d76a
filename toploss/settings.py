"""Every setting, in one class. No other module reads the environment."""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from toploss.errors import BadSettings

PREFIX = "TOPLOSS_"
TEXT = "text+"  # before the address of a receiver that is a chat
SHORTEST = 20  # characters of a secret that signs
SECRET = ("hook_secret", "notify_secret", "notify_urls")  # never shown, not in an error either


class Settings(BaseSettings):
    """Read once at start, from `TOPLOSS_…` variables and a `.env` file; the environment wins."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, env_file=".env", extra="ignore", frozen=True, env_ignore_empty=True
    )

    # Where things are
    home: Annotated[Path, Field(description="folder for everything local")] = Path("~/.toploss")
    database_url: Annotated[
        str, Field(description="SQLAlchemy URL; empty means SQLite at `HOME/toploss.db`")
    ] = ""
    database_url_file: Annotated[
        Path | None, Field(description="file with it, for it holds a password; goes before")
    ] = None
    storage_url: Annotated[
        str,
        Field(
            description="where images, snapshots, checkpoints, versions and logs lie: a folder, or "
            "`s3://bucket/prefix`; `HOME/storage`"
        ),
    ] = ""
    s3_endpoint_url: Annotated[
        str,
        Field(
            description="of an S3 that is not Amazon's, as in `http://minio:9000`; credentials and "
            "region come from `AWS_…`, a profile or the machine's role",
            pattern=r"^(https?://[^/\s]+(/\S*)?)?$",
        ),
    ] = ""
    s3_addressing: Annotated[
        Literal["auto", "path", "virtual"],
        Field(
            description="whether a bucket is named in the path or the host; auto: in the path "
            "where an endpoint is given"
        ),
    ] = "auto"
    name: Annotated[
        str,
        Field(
            description="the classifier's name, and its BentoML model name",
            pattern=r"^[a-z0-9]([-._a-z0-9]*[a-z0-9])?$",
            max_length=63,
        ),
    ] = "toploss"

    # Who may come in
    admin_key_file: Annotated[
        Path | None, Field(description="file with an admin's key, beside those of `toploss keys`")
    ] = None
    keys_file: Annotated[
        Path | None,
        Field(
            description="file with keys' names, roles and hashes, beside those, made by "
            "`toploss keys create --file`; see docs/bento.md"
        ),
    ] = None
    rate_limit: Annotated[
        float, Field(ge=0, description="requests a second of one key, on average; 0: any number")
    ] = 0
    metrics_open: Annotated[bool, Field(description="`/metrics` needs no key")] = False

    log_format: Annotated[
        Literal["text", "json"], Field(description="of the service's log lines")
    ] = "text"

    # Images
    max_bytes: Annotated[int, Field(gt=0, description="bytes of one image")] = 20 * 2**20
    max_archive: Annotated[
        int, Field(gt=0, description="bytes of one archive, and of all that comes out of it")
    ] = 256 * 2**20
    max_bodies: Annotated[
        int, Field(gt=0, description="bytes of all requests that are being read at a time")
    ] = 512 * 2**20
    max_pixels: Annotated[int, Field(gt=0, description="pixels of one image")] = 64_000_000
    split: Annotated[
        str, Field(description="shares of train/valid/test in percent; fixed at the first import")
    ] = "70/15/15"
    split_seed: Annotated[int, Field(description="seed of the split; fixed likewise")] = 42

    # The review
    second_opinion: Annotated[
        float,
        Field(ge=0, le=1, description="of the decisions, that somebody else is asked about, blind"),
    ] = 0
    review_again: Annotated[
        float,
        Field(ge=0, le=1, description="of the decisions, that come back to who made them, blind"),
    ] = 0
    review_again_after: Annotated[
        int, Field(ge=1, description="decisions of one's own in between, or a day")
    ] = 50
    holdout_slice: Annotated[
        float,
        Field(ge=0, le=1, description="of the samples of test, drawn at random to be looked at"),
    ] = 0.1

    # Serving
    serve_from: Annotated[
        Literal["auto", "database", "bento"],
        Field(
            description="what is served: `database`: production, and everything else; `bento`: the "
            "version that a built Bento carries, alone and read-only; auto: in a built Bento "
            "without `TOPLOSS_DATABASE_URL` and without a database in `HOME` the latter, else the "
            "former"
        ),
    ] = "auto"
    bento_version: Annotated[
        str, Field(description="the version that `bentoml build` packs, or the alias to it")
    ] = "production"
    device: Annotated[Literal["auto", "cpu", "cuda"], Field(description="where networks run")] = (
        "auto"
    )
    engine: Annotated[
        Literal["auto", "ncnn", "onnx", "torch"],
        Field(description="what computes predictions; auto: the fastest that agrees with training"),
    ] = "auto"
    queue_size: Annotated[
        int, Field(gt=0, description="predictions in flight before the service answers 503")
    ] = 64
    batch_size: Annotated[
        int, Field(ge=0, le=1024, description="images computed at once; 0: the engine's best")
    ] = 0
    batch_wait_ms: Annotated[
        float,
        Field(ge=0, le=1000, description="longest wait of a batch for images being decoded"),
    ] = 2
    timeout_s: Annotated[
        float, Field(gt=0, description="seconds after which an image that waits is given up (504)")
    ] = 30
    cache_bytes: Annotated[
        int,
        Field(ge=0, description="bytes of answers kept for images that come again; 0: none"),
    ] = 0
    uncertain_below: Annotated[
        float,
        Field(ge=0, le=1, description="confidence below which an answer is called uncertain"),
    ] = 0.7
    shadow_share: Annotated[
        float,
        Field(ge=0, le=1, description="of the images, that a candidate scores beside production"),
    ] = 0.1
    poll_s: Annotated[
        float, Field(gt=0, description="seconds between two looks at the production alias")
    ] = 1.0
    threads: Annotated[
        int, Field(ge=0, description="threads of one prediction or training; 0: one per core")
    ] = 0

    # Training, where the command line says nothing else
    train_arch: Annotated[str, Field(description="torchvision's name of the architecture")] = (
        "resnet34"
    )
    train_weights: Annotated[
        str, Field(description="`default` (ImageNet's, downloaded), `none`, or a file")
    ] = "default"
    train_size: Annotated[int, Field(ge=8, le=2048, description="side in pixels")] = 224
    train_batch_size: Annotated[int, Field(ge=2, description="images in a step")] = 32
    train_epochs_head: Annotated[int, Field(ge=0, description="epochs of stage one")] = 4
    train_epochs_all: Annotated[int, Field(ge=0, description="epochs of stage two")] = 8
    train_lr: Annotated[
        str, Field(description="`auto` (the rate finder) or stage one's peak rate")
    ] = "auto"
    train_seed: Annotated[int, Field(ge=0, lt=2**32, description="seed of the training")] = 42
    train_flip: Annotated[
        bool, Field(description="mirror training images; off where left and right matter")
    ] = True

    train_balance: Annotated[
        bool, Field(description="draw training images so that every class comes as often")
    ] = False
    train_cache: Annotated[
        bool, Field(description="stage one on features that the frozen body makes once")
    ] = True
    train_folds: Annotated[
        int | None,
        Field(
            ge=0,
            le=100,
            description="folds for held-out losses of the whole pool; 0: none; not set: 5 where a "
            "pretrained body makes them cheap, or where TOPLOSS_TRAIN_FULL_FOLDS is set",
        ),
    ] = None
    train_full_folds: Annotated[
        bool | None,
        Field(
            description="each fold by the whole recipe, not by a head on the frozen body's "
            "features; not set: from scratch alone"
        ),
    ] = None
    train_workers: Annotated[
        int, Field(ge=0, description="processes that decode pictures beside the training")
    ] = 0

    train_processes: Annotated[
        int,
        Field(
            ge=1,
            le=64,
            description="processes that train one network together, with a GPU each where there "
            "are any; for runs that a dispatcher launches",
        ),
    ] = 1
    train_memory: Annotated[
        int,
        Field(
            ge=0,
            description="bytes of memory that one of these processes may take; batches are taken "
            "in parts to fit; 0: any",
        ),
    ] = 0

    # Where trainings run
    executor: Annotated[
        Literal["local", "kubernetes"],
        Field(description="what a dispatcher launches: processes beside it, or Jobs of a cluster"),
    ] = "local"
    kubernetes_namespace: Annotated[
        str,
        Field(
            pattern=r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$",
            max_length=63,
            description="where the Jobs of trainings are made",
        ),
    ] = "toploss"
    kubernetes_image: Annotated[
        str, Field(description="the trainings' image; empty: the template's")
    ] = ""
    kubernetes_job: Annotated[
        Path | None, Field(description="the template of a training's Job (YAML); not set: ours")
    ] = None
    kubernetes_start_s: Annotated[
        float,
        Field(
            ge=0,
            description="seconds that a pod may be unschedulable, or without its image, before its "
            "attempt is over",
        ),
    ] = 900

    # Captures
    capture_rate: Annotated[
        float,
        Field(ge=0, le=1, description="share of the answered images kept for review; 0: none"),
    ] = 0
    capture_per_day: Annotated[
        int,
        Field(
            ge=0,
            lt=2**31,
            description="images kept on one day (UTC) at most, and as many that come with feedback",
        ),
    ] = 500
    capture_keep_days: Annotated[
        int,
        Field(ge=1, le=3650, description="days after which one that no reviewer labelled is gone"),
    ] = 30

    # Retraining
    retrain_after: Annotated[
        int, Field(ge=1, description="changed samples of train or valid that make a run due")
    ] = 50
    retrain_quiet_s: Annotated[
        float, Field(ge=0, description="seconds without a change before a run starts")
    ] = 60
    retrain_cooldown_s: Annotated[
        float, Field(ge=0, description="seconds after a run ended before the next")
    ] = 900
    retrain_start: Annotated[
        Literal["cold", "shrink-perturb", "fresh-head"],
        Field(
            description="what a retraining begins with: what the first training began with, half "
            "of that and half of production's network, or production's body under a new head"
        ),
    ] = "cold"
    gate_margin: Annotated[
        float,
        Field(ge=0, le=1, description="accuracy that a candidate may lose and still be promoted"),
    ] = 0.02
    gate_class_margin: Annotated[
        float,
        Field(
            ge=0,
            le=1,
            description="recall that one class may lose: beyond doubt more, on evidence corrected "
            "for the number of classes, and the candidate is rejected",
        ),
    ] = 0.10
    gate_new_recall: Annotated[
        float,
        Field(ge=0, le=1, description="recall that is asked of a class that production lacks"),
    ] = 0.5
    gate_new_count: Annotated[
        int, Field(ge=0, description="holdout samples that it takes to judge such a class")
    ] = 8
    gate_slowdown: Annotated[
        float,
        Field(
            ge=1,
            le=1000,
            description="times as slow as production, measured, that a candidate may be",
        ),
    ] = 1.5
    gate_cannot_tell: Annotated[
        Literal["better", "hold", "promote"],
        Field(
            description="what to do with a candidate that the holdout cannot judge: promote it if "
            "it got as many right as production at least, or never, or always"
        ),
    ] = "better"
    # A promotion under watch, and what is kept
    watch_s: Annotated[
        float,
        Field(ge=0, description="seconds after a promotion, in which it may be undone; 0: never"),
    ] = 900
    watch_load_s: Annotated[
        float,
        Field(gt=0, description="seconds that most servers fail to load it, before that is done"),
    ] = 60
    prune: Annotated[
        bool, Field(description="the dispatcher removes once a day what is kept no longer")
    ] = True
    keep_versions: Annotated[
        int, Field(ge=0, description="newest versions whose files are kept, beside those in use")
    ] = 10
    keep_rollbacks: Annotated[
        int, Field(ge=1, description="versions that served before, kept to be returned to")
    ] = 3
    keep_days: Annotated[
        float, Field(ge=0, description="days that the files of any version are kept")
    ] = 30
    keep_checkpoint_days: Annotated[
        float, Field(ge=0, description="days after a run's end that its checkpoints are kept")
    ] = 7
    keep_log_days: Annotated[float, Field(ge=0, description="likewise, its logs")] = 365

    # Drift
    drift_window_h: Annotated[
        int, Field(ge=1, le=720, description="hours of traffic that are compared with the snapshot")
    ] = 24
    drift_answers: Annotated[
        int, Field(ge=50, description="answers in these hours, below which nothing is said")
    ] = 200
    drift_alarm: Annotated[
        float,
        Field(
            gt=0,
            le=10,
            description="population stability index from which a shift is an alarm; worth a look "
            "from two fifths of it",
        ),
    ] = 0.25
    drift_retrain: Annotated[
        bool,
        Field(
            description="an alarm makes a run due with a single changed sample, once; the policy's "
            "other rules stay"
        ),
    ] = False

    # To and from the outside
    hook_secret: Annotated[
        SecretStr,
        Field(
            description="what calls of `/v1/hooks/retrain` are signed with; several, while one "
            "takes over from another, with spaces between; empty: none is taken"
        ),
    ] = SecretStr("")
    hook_secret_file: Annotated[
        Path | None, Field(description="file with it, read at each call; goes before")
    ] = None
    notify_urls: Annotated[
        SecretStr,
        Field(
            description="where to tell what happened, with spaces between; `text+https://…` of a "
            "chat; see docs/triggers.md"
        ),
    ] = SecretStr("")
    notify_secret: Annotated[
        SecretStr, Field(description="what those messages are signed with; empty: they are not")
    ] = SecretStr("")
    notify_secret_file: Annotated[
        Path | None, Field(description="file with it, read at each message; goes before")
    ] = None
    public_url: Annotated[
        str, Field(description="where people find the service's pages, for links in messages")
    ] = ""

    lease_s: Annotated[
        float, Field(gt=1, description="silence in seconds after which a run counts as lost")
    ] = 30
    attempts: Annotated[
        int, Field(ge=1, description="attempts that a run may lose before it counts as failed")
    ] = 3
    retry_s: Annotated[
        float,
        Field(
            ge=0,
            le=86400,
            description="seconds that a run waits after its first lost attempt; twice as long "
            "after each further one, 900 at most",
        ),
    ] = 30
    run_limit_s: Annotated[
        float,
        Field(
            ge=0, description="seconds that an attempt may take before it is ended; 0: without end"
        ),
    ] = 86400
    away_s: Annotated[
        float,
        Field(
            ge=0,
            description="seconds that a training waits for a database or a storage that is away",
        ),
    ] = 300

    @field_validator("home")
    @classmethod
    def _absolute(cls, home: Path) -> Path:
        return Path(os.path.abspath(home.expanduser()))

    @field_validator("split")
    @classmethod
    def _three_shares(cls, split: str) -> str:
        try:
            shares = [float(share) for share in split.split("/")]
        except ValueError as exc:
            raise ValueError("expected three numbers, as in 70/15/15") from exc
        if len(shares) != 3 or min(shares) < 0 or shares[0] <= 0 or sum(shares) > 100.0001:
            raise ValueError("expected three shares, the first above 0, of 100 together")
        if not abs(sum(shares) - 100) <= 1e-4:  # so that nan is refused too
            raise ValueError(f"the shares add up to {sum(shares):g}, not to 100")
        return split

    @field_validator("train_lr")
    @classmethod
    def _rate(cls, rate: str) -> str:
        if rate != "auto":
            try:
                if not 0 < float(rate) <= 10:
                    raise ValueError
            except ValueError as exc:
                raise ValueError("expected 'auto' or a rate above 0 and at most 10") from exc
        return rate

    @field_validator("hook_secret", "notify_secret")
    @classmethod
    def _long(cls, secret: SecretStr) -> SecretStr:
        _long_enough(secret.get_secret_value())
        return secret

    @field_validator("notify_urls")
    @classmethod
    def _receivers(cls, urls: SecretStr) -> SecretStr:
        for url in urls.get_secret_value().split():
            _check_url(url.removeprefix(TEXT))
        return urls

    @field_validator("public_url")
    @classmethod
    def _address(cls, url: str) -> str:
        if url:
            _check_url(url)
        return url.rstrip("/")

    def hook_secrets(self) -> list[str]:
        """What calls from outside may be signed with; none: they are not taken.

        Raises:
            BadSettings: the file cannot be read, or a secret is too short.
        """
        return self._secret("hook")

    def notify_secrets(self) -> list[str]:
        """What messages to the outside are signed with: the first. Raises BadSettings."""
        return self._secret("notify")

    def _secret(self, what: str) -> list[str]:
        file: Path | None = getattr(self, f"{what}_secret_file")
        if file is None:
            given: SecretStr = getattr(self, f"{what}_secret")
            return given.get_secret_value().split()
        name = f"{PREFIX}{what.upper()}_SECRET_FILE"
        try:
            told = file.expanduser().read_text(encoding="utf-8")
            _long_enough(told)
        except (OSError, ValueError) as exc:  # of text that is none, too
            reason = exc.strerror if isinstance(exc, OSError) else str(exc)
            raise BadSettings(f"{name}={str(file)!r} is not usable: {reason}; correct it") from exc
        return told.split()

    @property
    def database(self) -> str:
        """The database's URL, spelled out. Raises BadSettings: its file cannot be read."""
        from sqlalchemy import URL  # late: only a command that opens the database pays for it

        if self.database_url_file is not None:
            return self._database_in(self.database_url_file)
        # Not written by hand: a folder's name may hold `?` or `%`.
        made = URL.create("sqlite", database=str(self.database_file))
        return self.database_url or made.render_as_string()

    @staticmethod
    def _database_in(file: Path) -> str:
        try:
            url = file.expanduser().read_text(encoding="utf-8").strip()
            if len(url.split()) != 1:
                raise ValueError("expected one URL")
        except (OSError, ValueError) as exc:  # of text that is none, too
            reason = exc.strerror if isinstance(exc, OSError) else str(exc)
            raise BadSettings(
                f"{PREFIX}DATABASE_URL_FILE={str(file)!r} is not usable: {reason}; correct it"
            ) from exc
        return url

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


def _long_enough(secrets: str) -> None:
    if any(len(secret) < SHORTEST for secret in secrets.split()):
        raise ValueError(f"expected secrets of at least {SHORTEST} characters")


def _check_url(url: str) -> None:
    """Raises ValueError, which does not show it."""
    expected = "expected http(s)://HOST[:PORT]/PATH, without a user in it"
    try:
        parts = urlsplit(url)
        sound = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError as exc:
        raise ValueError(expected) from exc
    if not sound or parts.username is not None or not (url.isascii() and url.isprintable()):
        raise ValueError(expected)


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
        shown = "(not shown)" if fault["loc"] and fault["loc"][0] in SECRET else fault["input"]
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
