"""Times as exports write them, to the one form a feedback file holds.

In: seconds, milliseconds, microseconds or nanoseconds since 1970, or ISO 8601 text.
Out: text like 2026-01-01T00:00:00.000000+00:00, which `datasets` leaves as text.
"""

from datetime import UTC, datetime

# Larger counts since 1970 are of the next finer unit: 1e11 s is the year 5138, 1e11 ms is 1973.
LARGEST_SECONDS = 1e11


def utc_text(value: object) -> str:
    """`value` in UTC with microseconds; "" for None and "". A time without a zone counts as UTC.

    Raises:
        ValueError: it is no time.
    """
    if value is None or value == "":
        return ""
    if isinstance(value, str):
        time = datetime.fromisoformat(value)
        time = time.replace(tzinfo=UTC) if time.tzinfo is None else time
    elif isinstance(value, int | float) and not isinstance(value, bool):
        time = _from_epoch(value)
    else:
        raise ValueError(f"{value!r} is no time")
    try:
        return time.astimezone(UTC).isoformat(timespec="microseconds")
    except OverflowError as error:
        raise ValueError(f"{value!r} is out of range") from error


def time_has_no_zone(text: str) -> bool:
    """Whether ISO 8601 text leaves its time zone open."""
    return bool(text) and datetime.fromisoformat(text).tzinfo is None


def _from_epoch(count: float) -> datetime:
    units_per_second = 1
    while abs(count) / units_per_second > LARGEST_SECONDS and units_per_second < 10**9:
        units_per_second *= 1000
    try:
        return datetime.fromtimestamp(count / units_per_second, UTC)
    except (OverflowError, OSError) as error:
        raise ValueError(f"{count!r} is out of range") from error
