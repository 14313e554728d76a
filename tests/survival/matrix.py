"""The fault matrix: what is done to a run, at which point, and how the run is to end."""

from dataclasses import dataclass

# Every point of the trainer's, from its start to its end, in order.
STARTED, TAKEN, SNAPSHOT, STAGE, EXPORT = "started", "taken", "snapshot", "stage-1", "export"
HALF, PUBLISHED, UNCOMMITTED, COMMITTED = "half-published", "published", "uncommitted", "committed"
TRAINER = (STARTED, TAKEN, SNAPSHOT, STAGE, EXPORT, HALF, PUBLISHED, UNCOMMITTED, COMMITTED)
DISPATCHER = ("claimed", "launched", "giving-up", "gave-up")


@dataclass(frozen=True, kw_only=True)
class Case:
    """One fault."""

    fault: str  # a method of `tests.survival.test_matrix.Play`
    at: str  # the point where the run stays until the fault has struck: who-attempt-where
    end: str = "succeeded"
    attempts: tuple[int, ...] = (2,)  # the run may have had
    cause: str | None = None
    also: bool = False  # somebody asks again when the run is under way
    settings: tuple[tuple[str, str], ...] = ()
    skew: tuple[float, float] = (0, 0)  # seconds that the dispatcher's, the trainer's clock is fast
    only: str | None = None  # this database alone

    def __str__(self) -> str:
        skewed = f" skew {self.skew[0]:+g} {self.skew[1]:+g}" if any(self.skew) else ""
        failed = " for good" if self.end == "failed" else ""
        return f"{self.fault} {self.at}{skewed}{failed}{' also' if self.also else ''}"


def kills() -> list[Case]:
    """`kill -9` of each, at each point where it can be."""
    made = []
    for place, where in enumerate(TRAINER):
        at, over = f"trainer-1-{where}", where == COMMITTED
        attempts = (1,) if over else (2,)
        made.append(Case(fault="kill_trainer", at=at, attempts=attempts, also=place % 2 == 1))
        made.append(Case(fault="kill_dispatcher", at=at, attempts=attempts, also=place % 3 == 1))
        made.append(Case(fault="kill_both", at=at, attempts=attempts))
        # The trainer waits for its database, but where it is in the midst of a transaction.
        made.append(Case(fault="kill_database", at=at, attempts=(1, 2), only="postgresql"))
    for where in DISPATCHER:
        at = f"a-1-{where}"
        lost = where.startswith("g")  # its trainer has been killed before
        fault = "kill_dispatcher_of_lost" if lost else "kill_dispatcher"
        made.append(Case(fault=fault, at=at))
        made.append(Case(fault=fault, at=at, also=True))
        fault = "kill_database_of_lost" if lost else "kill_database"
        made.append(Case(fault=fault, at=at, attempts=(1, 2, 3), only="postgresql"))
    return made


def storage() -> list[Case]:
    """A disk that is full, a storage that is away: for as long as one attempt, or for less."""
    # It is lost again while the fault lasts.
    patient, some = (("away_s", "60"),), tuple(range(2, 9))
    made = []
    for fault in ("fill", "take_away"):
        for where in (SNAPSHOT, EXPORT, HALF):
            at = f"trainer-1-{where}"
            made.append(Case(fault=fault, at=at, attempts=some))
            made.append(Case(fault=f"{fault}_a_moment", at=at, attempts=(1,), settings=patient))
    made.append(Case(fault="take_away", at="a-1-claimed", attempts=some))
    few = {"settings": (("attempts", "1"),), "attempts": (1,), "end": "failed", "cause": "away"}
    made.append(Case(fault="fill", at=f"trainer-1-{EXPORT}", **few))
    return made


def clocks() -> list[Case]:
    """Clocks ten minutes apart, either way, before two dispatchers."""
    skews = ((600, 0), (-600, 0), (0, 600), (0, -600))
    return [
        Case(fault=fault, at=f"trainer-1-{STAGE}", skew=skew, attempts=attempts)
        for skew in skews
        for fault, attempts in (("look_on", (1,)), ("zombie", (2,)))
    ]


def zombies() -> list[Case]:
    """A trainer that is stopped, and comes back when its run is another attempt's, or over."""
    made = [
        Case(fault=fault, at=f"trainer-1-{where}")
        for where in (TAKEN, STAGE, HALF, PUBLISHED)
        for fault in ("zombie", "silence")
        if fault == "zombie" or where in (STAGE, PUBLISHED)
    ]
    return [*made, Case(fault="zombie", at=f"trainer-1-{STARTED}")]


def rivals() -> list[Case]:
    """Two dispatchers, of which one acts."""
    made = [Case(fault="rival", at=f"trainer-1-{where}", attempts=(1,)) for where in (TAKEN, HALF)]
    points = "a-1-claimed", *(f"trainer-1-{where}" for where in (STARTED, STAGE, PUBLISHED))
    return [*made, *(Case(fault="rival_takes_over", at=at) for at in points)]


def ends() -> list[Case]:
    """What somebody wants, and what no attempt can heal."""
    at, gone = f"trainer-1-{STAGE}", {"end": "cancelled", "attempts": (1,)}
    points = "a-1-claimed", *(f"trainer-1-{where}" for where in (STARTED, TAKEN, STAGE, PUBLISHED))
    made = [Case(fault="cancel", at=point, **gone) for point in points]
    made.append(Case(fault="cancel_and_kill", at=at, **gone))
    made.append(Case(fault="cancel_the_endless", at=at, **gone))
    once, limit = {"end": "failed", "attempts": (1,)}, (("run_limit_s", "4"),)
    return [
        *made,
        Case(fault="cancel_too_late", at=f"trainer-1-{UNCOMMITTED}", attempts=(1,)),
        Case(fault="cancel_again", at=f"trainer-1-{COMMITTED}", attempts=(1,)),
        Case(fault="bad_data", at=at, cause="bad_data", **once),
        Case(fault="last_for_ever", at=at, cause="time_limit", settings=limit, **once),
    ]


CASES = [*kills(), *storage(), *clocks(), *zombies(), *rivals(), *ends()]
MATRIX = [
    (case, database)
    for case in CASES
    for database in ("sqlite", "postgresql")
    if case.only in (None, database)
]
