"""What Prometheus is told. Labels are bounded: no path as it came, no version, no id."""

from prometheus_client import Counter, Gauge, Histogram

from toploss.answers import Answer
from toploss.captures import Why

OF_ALL: set[str] = set()  # names of gauges that every server reads from the same database


def _of_one(name: str, meaning: str, labels: tuple[str, ...] = ()) -> Gauge:
    """Of the live worker: BentoML merges the files of its processes."""
    return Gauge(name, meaning, labels, multiprocess_mode="livemostrecent")


def _of_all(name: str, meaning: str, labels: tuple[str, ...] = ()) -> Gauge:
    OF_ALL.add(name)
    return _of_one(name, meaning, labels)


REQUESTS = Counter(
    "toploss_requests", "Requests answered, by route.", ["method", "route", "status"]
)
PREDICTIONS = Counter(
    "toploss_predictions", "Images asked about, by what became of it.", ["outcome"]
)
REFUSED = Counter(
    "toploss_refused", "Requests that were not let in or not read to their end.", ["reason"]
)
STAGE_SECONDS = Histogram(
    "toploss_prediction_stage_seconds",
    "What an image's answer takes: wait for a decoder, decode, queue for a lane, infer, and whole.",
    ["stage"],
    buckets=(0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10),
)
BATCH_IMAGES = Histogram(
    "toploss_batch_images", "Images computed at once.", buckets=(1, 2, 4, 8, 16, 32, 64)
)
CONFIDENCE = Histogram(
    "toploss_confidence",
    "Confidence of the best guess.",
    buckets=(0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99, 1),
)
NOVELTY = Histogram(
    "toploss_novelty",
    "Distance to the nearest training images, 0 to 2.",
    buckets=(0.02, 0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.6, 1, 2),
)
CACHE = Counter("toploss_cache", "Images looked for among the answers once given.", ["result"])
LABELS = Counter("toploss_predicted", "Answers by predicted class.", ["label"])
UNCERTAIN = Counter("toploss_uncertain", "Answers that are not to be gone by without a look.")
INSIDE = Gauge(
    "toploss_predictions_inside",
    "Images asked about and not answered yet.",
    multiprocess_mode="livesum",
)
GENERATION = _of_one(
    "toploss_generation", "Generation of the production alias that this server answers with."
)
PUBLISHED = _of_one(
    "toploss_model_published_timestamp_seconds",
    "When the version that this server answers with was published: its name would be a label "
    "without bound.",
)
SHADOWED = Counter(
    "toploss_shadowed",
    "Images of the sampled share, by what became of them beside production.",
    ["result"],
)
SHADOW_LOADS = Counter(
    "toploss_shadow_loads", "Attempts to load a candidate beside production.", ["result"]
)
DRIFT = _of_all(
    "toploss_drift",
    "How far the traffic has shifted from the snapshot (population stability index); "
    "NaN: too few answers.",
    ("kind",),
)
DRIFT_ALARM = _of_all("toploss_drift_alarm", "1 while such a shift is an alarm.", ("kind",))
CAPTURES = Counter("toploss_captures", "Images kept for review, by why.", ["reason"])
CAPTURES_DROPPED = Counter(
    "toploss_captures_dropped", "Images chosen for review and not kept, by why.", ["reason"]
)
CAPTURES_WAITING = _of_all(
    "toploss_captures_waiting", "Captures that wait for a reviewer; looked at every minute."
)
MESSAGES_WAITING = _of_all(
    "toploss_messages_waiting",
    "Messages to the outside that have not arrived yet; looked at every minute.",
)
MESSAGES_GIVEN_UP = _of_all(
    "toploss_messages_given_up",
    "Those of the last 30 days that never did; looked at every minute.",
)
ROLLBACKS = _of_all(
    "toploss_rollbacks",
    "Roll-backs of production on record, by cause; asked: by somebody.",
    ("cause",),
)
SWAPS = Counter("toploss_swaps", "Changes of the model that answers.", ["result"])
READY = _of_one(
    "toploss_ready", "1 while this server answers: its model is loaded, or none was ever promoted."
)
# From here on by `service.vitals`. A time is in seconds since 1970; 0: there is none.
LOOKED = _of_one(
    "toploss_looked_timestamp_seconds",
    "When this server last read what is of all from the database.",
)
PRODUCTION = _of_all(
    "toploss_production_generation", "Generation of the production alias; 0: none was promoted."
)
RUN_QUEUED = _of_all(
    "toploss_run_queued_timestamp_seconds", "Since when a run waits that could begin; 0: none."
)
RUN_ACTIVE = _of_all(
    "toploss_run_active_timestamp_seconds", "When the run that is worked on began; 0: none."
)
RUN_LEFT = _of_all(
    "toploss_run_left_seconds", "That it still takes; NaN: none is, or nothing is known of it."
)
RUN_LOSS = _of_all(
    "toploss_run_loss",
    "Its last epoch's loss, in nats; NaN: none is, or it has not come so far.",
    ("of",),
)
RUN_ENDED = _of_all(
    "toploss_run_ended_timestamp_seconds",
    "When one of the last 20 runs ended so; 0: none of them.",
    ("state",),
)
REFUSALS = _of_all(
    "toploss_gate_refusals", "Candidates that the gate has refused since it let one pass, up to 20."
)
DUE = _of_all(
    "toploss_retraining_due", "1 while the policy wants a run and nobody has asked for one."
)
PAUSED = _of_all("toploss_retraining_paused", "1 while the policy is paused.")
CHANGED = _of_all("toploss_changed_samples", "Samples changed since the last verdict.")
NEEDED = _of_all("toploss_changed_samples_needed", "So many make a run due.")
SAMPLES = _of_all("toploss_samples", "Samples that ever came in.")
SAMPLE_ADDED = _of_all("toploss_sample_added_timestamp_seconds", "When the last one did; 0: none.")
DATA_CHANGED = _of_all(
    "toploss_data_changed_timestamp_seconds", "When data or labels last changed; 0: never."
)
REVIEW = _of_all("toploss_review_samples", "Samples of the review list.", ("state",))
DISPATCHER = _of_all(
    "toploss_dispatcher_seen_timestamp_seconds", "When a dispatcher last said it works; 0: never."
)
DISK_FREE = _of_one(
    "toploss_disk_free_bytes",
    "Free where this server keeps its home, its storage (if a folder), BentoML's models.",
    ("place",),
)
DISK_SIZE = _of_one("toploss_disk_size_bytes", "The size of that disk.", ("place",))

MOST_LABELS = 1000  # classes with a label of their own
_labels: set[str] = set()

METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})


def _begin() -> None:
    """Count from nought: of a series that begins with 1, Prometheus misses the first."""
    for counter, label, values in (
        (PREDICTIONS, "outcome", "answered refused overloaded timed_out no_model gone failed"),
        (STAGE_SECONDS, "stage", "wait decode queue infer whole"),
        (REFUSED, "reason", "host origin no_key role token rate room coding signature"),
        (REFUSED, "reason", "framing head slow bytes memory"),
        (CACHE, "result", "hit miss"),
        (SHADOWED, "result", "agreed differed missed failed"),
        (SHADOW_LOADS, "result", "done failed"),
        (SWAPS, "result", "done failed"),
        (CAPTURES, "reason", " ".join(Why)),
        (CAPTURES_DROPPED, "reason", "cap room known failed"),
    ):
        for value in values.split():
            counter.labels(**{label: value})


_begin()


def count_request(method: str, route: str | None, status: int) -> None:
    """Count an answer under its route's template; what no route answers is one label."""
    REQUESTS.labels(
        method=method if method in METHODS else "other", route=route or "other", status=str(status)
    ).inc()


def answered(answer: Answer) -> None:
    """Count what was answered: what a drift shows in."""
    best = answer.guesses[0]
    PREDICTIONS.labels(outcome="answered").inc()
    CONFIDENCE.observe(best.confidence)
    if len(_labels) < MOST_LABELS:
        _labels.add(best.label)
    LABELS.labels(label=best.label if best.label in _labels else "other").inc()
    if answer.novelty is not None:
        NOVELTY.observe(answer.novelty)
    if answer.uncertain:
        UNCERTAIN.inc()
