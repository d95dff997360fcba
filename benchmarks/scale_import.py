"""Seconds and memory of `thumbs import` and `thumbs check` on logs of votes of any size.

`make scale-import`, or: python -m benchmarks.scale_import [--records N] [--large-records M]

A log of N records as JSON lines and as one JSON list is imported, cleaned and checked, each verb a
process of its own; then one of M records is imported, for its memory.
"""

import argparse
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.measured import machine, run_measured, setting_lines, versions, write_results

THREADS = 2
PARTS = ("lines", "near", "list", "large")


def main() -> None:
    """Measure, print, write results/scale_import.json and .md."""
    parser = argparse.ArgumentParser(prog="benchmarks.scale_import", description=__doc__)
    parser.add_argument("--records", type=int, default=1_000_000)
    parser.add_argument("--large-records", type=int, default=4_000_000)
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--folder", type=Path, help="where the logs are made; default: temporary")
    options = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory(dir=options.folder) as name:
        folder = Path(name)
        near = "near" in options.parts
        if "lines" in options.parts:
            rows += measured(folder, options.records, as_list=False, checks=True, near=near)
        if "list" in options.parts:
            rows += measured(folder, options.records, as_list=True, checks=True)
        if "large" in options.parts:
            rows += measured(folder, options.large_records, as_list=False, checks=False)
    record = {
        "command": f"python -m benchmarks.scale_import --records {options.records} "
        f"--large-records {options.large_records} --parts {' '.join(options.parts)}",
        "machine": machine(),
        "versions": {"thumbs": versions("thumbs", "orjson", "ijson")},
        "rows": rows,
    }
    write_results("scale_import", record, page(record))


def measured(
    folder: Path, count: int, *, as_list: bool, checks: bool, near: bool = False
) -> list[dict[str, Any]]:
    """A row per verb."""
    log, out = folder / ("log.json" if as_list else "log.jsonl"), folder / "feedback.jsonl"
    make = [sys.executable, "-m", "benchmarks.feedback_log", str(count), str(log)]
    run_measured([*make, *(["--list"] if as_list else [])], threads=THREADS, scratch=folder)
    kind = "one JSON list" if as_list else "JSON lines"
    size = log.stat().st_size
    thumbs = [sys.executable, "-m", "thumbs"]
    verbs = {"import": [*thumbs, "import", str(log), "--out", str(out), "--json"]}
    if checks:
        verbs["check"] = [*thumbs, "check", str(out), "--json"]
        if near:
            verbs["check --near-duplicates"] = [*verbs["check"], "--near-duplicates"]
    rows = []
    for verb, command in verbs.items():
        done = run_measured(command, threads=THREADS, scratch=folder)
        told = json.loads(done.stdout)
        row = {
            "verb": verb,
            "source": kind,
            "bytes": size,
            "records": count,
            "kept": told["records"],
            "seconds": round(done.seconds, 1),
            "others_cpu_seconds": done.others_cpu_seconds and round(done.others_cpu_seconds, 1),
            "peak_mb": round(done.peak_bytes / 1e6),
        }
        print(row, file=sys.stderr, flush=True)
        rows.append(row)
    log.unlink()
    out.unlink()
    return rows


def page(record: dict[str, Any]) -> str:
    """The results as Markdown."""
    lines = [
        "# Import and check at scale",
        "",
        "`make scale-import`; whole processes; the log is made by `benchmarks/feedback_log.py`.",
        "",
        "| verb | source | GB | records | kept | seconds | others' CPU s | peak MB | records/s |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for row in record["rows"]:
        speed = row["records"] / row["seconds"]
        sizes = f"{row['bytes'] / 1e9:.2f} | {row['records']:,} | {row['kept']:,}"
        times = f"{row['seconds']} | {row['others_cpu_seconds']} | {row['peak_mb']:,}"
        lines.append(f"| {row['verb']} | {row['source']} | {sizes} | {times} | {speed:,.0f} |")
    return "\n".join([*lines, "", setting_lines(record)]) + "\n"


if __name__ == "__main__":
    main()
