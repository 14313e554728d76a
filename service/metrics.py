"""What Prometheus is told. Labels are bounded: no path as it came, no version, no id."""

from prometheus_client import Counter, Gauge, Histogram

from toploss.answers import Answer

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
# Of the live worker: BentoML merges the files of its processes.
GENERATION = Gauge(
    "toploss_generation",
    "Generation of the production alias that this server answers with.",
    multiprocess_mode="livemostrecent",
)
PUBLISHED = Gauge(
    "toploss_model_published_timestamp_seconds",
    "When the version that this server answers with was published: its name would be a label "
    "without bound.",
    multiprocess_mode="livemostrecent",
)
SHADOWED = Counter(
    "toploss_shadowed",
    "Images of the sampled share, by what became of them beside production.",
    ["result"],
)
SHADOW_LOADS = Counter(
    "toploss_shadow_loads", "Attempts to load a candidate beside production.", ["result"]
)
DRIFT = Gauge(
    "toploss_drift",
    "How far the traffic has shifted from the snapshot (population stability index); "
    "NaN: too few answers.",
    ["kind"],
    multiprocess_mode="livemostrecent",
)
DRIFT_ALARM = Gauge(
    "toploss_drift_alarm",
    "1 while such a shift is an alarm.",
    ["kind"],
    multiprocess_mode="livemostrecent",
)
CAPTURES = Counter("toploss_captures", "Images kept for review, by why.", ["reason"])
CAPTURES_DROPPED = Counter(
    "toploss_captures_dropped", "Images chosen for review and not kept, by why.", ["reason"]
)
CAPTURES_WAITING = Gauge(
    "toploss_captures_waiting",
    "Captures that wait for a reviewer, of all servers; looked at every minute.",
    multiprocess_mode="livemostrecent",
)
MESSAGES_WAITING = Gauge(
    "toploss_messages_waiting",
    "Messages to the outside that have not arrived yet; looked at every minute.",
    multiprocess_mode="livemostrecent",
)
MESSAGES_GIVEN_UP = Gauge(
    "toploss_messages_given_up",
    "Those of the last 30 days that never did; looked at every minute.",
    multiprocess_mode="livemostrecent",
)
ROLLBACKS = Gauge(
    "toploss_rollbacks",
    "Roll-backs of production on record, by cause; asked: by somebody.",
    ["cause"],
    multiprocess_mode="livemostrecent",
)
SWAPS = Counter("toploss_swaps", "Changes of the model that answers.", ["result"])

MOST_LABELS = 1000  # classes with a label of their own
_labels: set[str] = set()

METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})


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
