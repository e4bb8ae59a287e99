"""What becomes of a live event, and how many there were of each."""

from collections import Counter

APPLIED = "applied"  # it is in the user's history now
DUPLICATE = "duplicate"  # it was there already
TOO_OLD = "too old"  # the history is full of later ones, so it has no effect
FILTERED = "filtered"  # the run's source leaves such events out
ERASED = "erased user"  # nothing of it is kept
REFUSED = "refused"  # it cannot be used: kept among the rejects, with the reason
OUTCOMES = (APPLIED, DUPLICATE, TOO_OLD, FILTERED, ERASED, REFUSED)


class Tally:
    """Counts of events by outcome; of what was left out or refused, by reason too."""

    def __init__(self) -> None:
        self.outcomes: Counter[str] = Counter(dict.fromkeys(OUTCOMES, 0))
        self.reasons: Counter[tuple[str, str]] = Counter()  # (outcome, reason)
        self.untimed = 0  # histories whose events had no times
        self.last_us: int | None = None  # time of the newest event applied, since 1970

    def add(self, outcome: str, reason: str = "") -> None:
        self.outcomes[outcome] += 1
        if reason:
            self.reasons[outcome, reason] += 1

    def seen(self, time_us: int) -> None:
        """An event of this time was applied."""
        self.last_us = time_us if self.last_us is None else max(self.last_us, time_us)

    def update(self, other: "Tally") -> None:
        self.outcomes.update(other.outcomes)
        self.reasons.update(other.reasons)
        self.untimed += other.untimed
        if other.last_us is not None:
            self.seen(other.last_us)

    @property
    def total(self) -> int:
        return sum(self.outcomes.values())

    def __str__(self) -> str:
        """ "3 events: 2 applied, 1 refused"; what there is none of is left out."""
        parts = [f"{self.outcomes[name]:,} {name}" for name in OUTCOMES if self.outcomes[name]]
        events = "event" if self.total == 1 else "events"
        return f"{self.total:,} {events}" + (f": {', '.join(parts)}" if parts else "")
