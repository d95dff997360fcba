"""results/bench.json: measurements by scenario, written after each, so that `make bench` can go on.

In: measurements. Out: a JSON file; figures of other conditions are never mixed with new ones.
"""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from thumbs.files import write_bytes


class Results:
    """The file of results and the scenario that is being measured."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.record: dict[str, Any] = {"scenarios": {}}
        if path.is_file():
            self.record = json.loads(path.read_text(encoding="utf-8"))
        self._now: dict[str, Any] = {}

    def open(self, name: str, conditions: Mapping[str, Any], *, again: str | None = None) -> None:
        """Go on with a scenario, or begin it anew where the conditions are others.

        again: "full" forgets the runs over all rows, "all" everything.
        """
        scenarios = self.record["scenarios"]
        now = scenarios.get(name, {})
        if again == "all" or now.get("conditions") != conditions:
            now = {"conditions": dict(conditions), "measurements": {}}
        if again == "full":
            kept = {k: v for k, v in now["measurements"].items() if k.startswith("sweep")}
            now["measurements"] = kept
        scenarios[name] = self._now = now

    def keep(self, key: str, value: Any) -> None:
        """Note what is not measured, such as counts of the rows."""
        self._now[key] = value
        self._write()

    def once(self, key: str, measure: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """The measurement `key`, made now if it is not there."""
        measurements: dict[str, dict[str, Any]] = self._now["measurements"]
        if key not in measurements:
            measurements[key] = measure()
            self._write()
        return measurements[key]

    def figure(self, key: str, name: str) -> float | None:
        """A figure of a measurement; None where it failed."""
        found: float | None = self._now["measurements"][key].get(name)
        return found

    def _write(self) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        write_bytes(self.path, (json.dumps(self.record, indent=1) + "\n").encode())
