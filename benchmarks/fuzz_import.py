"""Coverage-guided fuzzing of every importer.

`make fuzz-import`, or: python -m benchmarks.fuzz_import [--seconds N]

Each tool gets its share of --seconds in a process of its own (atheris, libFuzzer): inputs grow from
the exports in tests/fixtures and benchmarks/corpus. A tool's export is written to a file and
imported; that must end in a feedback file or in one line of FeedbackError, and leave nothing half
written. Before the tools, the harness must find a bug planted in one of them: else it finds none.

Results: executions, coverage reached, crashes; results/fuzz_import.json and .md. Inputs that
reached something new are kept in benchmarks/corpus/TOOL.zip, where the next run begins and which
tests/feedback/test_fuzz_corpus.py reads again; one that broke something in corpus/crashes.
"""

import argparse
import os
import re
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.measured import ROOT, machine, setting_lines, versions, write_results

FIXTURES, CORPUS = ROOT / "tests" / "fixtures", ROOT / "benchmarks" / "corpus"
LONGEST = 1 << 14  # bytes of an input
KEPT_LONGEST, KEPT_MOST = 4_000, 32  # bytes and number of the inputs kept of a tool
INPUT_SECONDS = 10  # one input that takes longer hangs
PLANTED = "planted"
STATUS = re.compile(r"#(\d+)\s.*cov: (\d+) ft: (\d+)")


def main() -> None:
    """Fuzz, print, write the results; the exit code is 1 where something broke."""
    parser = argparse.ArgumentParser(prog="benchmarks.fuzz_import", description=__doc__)
    parser.add_argument("--seconds", type=int, default=600, help="of all tools together")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--tool", help="inside: fuzz this one and end")
    options, rest = parser.parse_known_args()
    if options.tool:
        fuzz_tool(options.tool, rest)
        return
    from thumbs.feedback.tools import SOURCES

    each = max(5, options.seconds // len(SOURCES))
    rows = [run_tool(PLANTED, 60, options.seed)]
    rows += [run_tool(tool, each, options.seed) for tool in sorted(SOURCES)]
    record = {
        "command": f"python -m benchmarks.fuzz_import --seconds {options.seconds} "
        f"--seed {options.seed}",
        "machine": machine(),
        "versions": {"thumbs": versions("thumbs", "atheris", "orjson", "ijson")},
        "rows": rows,
    }
    write_results("fuzz_import", record, page(record))
    broken = [row["tool"] for row in rows[1:] if row["crash"]]
    if broken or not rows[0]["crash"]:
        raise SystemExit(f"error: broken: {', '.join(broken) or 'the harness: no planted bug'}")


def run_tool(tool: str, seconds: int, seed: int) -> dict[str, Any]:
    """One process; what libFuzzer said of it."""
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder) / "corpus"
        work.mkdir()
        for number, content in enumerate(seeds_of(tool)):
            (work / f"seed-{number}").write_bytes(content[:LONGEST])
        limits = [f"-max_total_time={seconds}", f"-timeout={INPUT_SECONDS}", f"-seed={seed}"]
        limits += [f"-max_len={LONGEST}", f"-artifact_prefix={folder}/", "-print_final_stats=1"]
        command = [sys.executable, "-m", "benchmarks.fuzz_import", "--tool", tool, *limits]
        done = subprocess.run(
            [*command, str(work)], cwd=ROOT, capture_output=True, text=True, errors="replace"
        )
        text = done.stdout + done.stderr
        status = STATUS.findall(text)
        executed = re.findall(r"stat::number_of_executed_units:\s*(\d+)", text)
        crash = ""
        if done.returncode:
            crash = next(
                iter(re.findall(r"=== Uncaught Python exception: ===\n(.*)", text)), text[-300:]
            )
            keep_crash(tool, Path(folder))
        elif tool != PLANTED:
            keep_corpus(tool, work)
    row = {
        "tool": tool,
        "seconds": seconds,
        "executions": int(executed[0]) if executed else int(status[-1][0]) if status else 0,
        "edges": int(status[-1][1]) if status else 0,
        "features": int(status[-1][2]) if status else 0,
        "crash": crash.strip()[:300],
    }
    print(row, file=sys.stderr, flush=True)
    return row


def keep_crash(tool: str, folder: Path) -> None:
    """Keep the input that broke it, unless it broke the planted bug."""
    if tool == PLANTED:
        return
    for path in folder.glob("*-*"):
        if path.is_file():
            kept = CORPUS / "crashes" / f"{tool}-{path.name[:24]}"
            kept.parent.mkdir(parents=True, exist_ok=True)
            kept.write_bytes(path.read_bytes())


def keep_corpus(tool: str, work: Path) -> None:
    """Keep some of the inputs that reached something new, spread over all of them."""
    grown = (path for path in work.iterdir() if not path.name.startswith("seed-"))
    inputs = sorted(path.read_bytes() for path in grown if path.stat().st_size <= KEPT_LONGEST)
    chosen = inputs[:: max(1, -(-len(inputs) // KEPT_MOST))]
    if chosen:
        CORPUS.mkdir(exist_ok=True)
        with zipfile.ZipFile(CORPUS / f"{tool}.zip", "w", zipfile.ZIP_DEFLATED) as archive:
            for number, content in enumerate(chosen):
                archive.writestr(zipfile.ZipInfo(f"{number:03}"), content, zipfile.ZIP_DEFLATED)


def kept_inputs(tool: str) -> list[bytes]:
    """The inputs of earlier runs, and those that broke something."""
    found = [p.read_bytes() for p in sorted((CORPUS / "crashes").glob(f"{tool}-*"))]
    packed = CORPUS / f"{tool}.zip"
    if packed.is_file():
        with zipfile.ZipFile(packed) as archive:
            found += [archive.read(name) for name in archive.namelist()]
    return found


def seeds_of(tool: str) -> list[bytes]:
    """What to grow inputs from: kept ones, and exports of the tool among the fixtures."""
    from thumbs.errors import FeedbackError
    from thumbs.feedback.entries import first_entry
    from thumbs.feedback.tools import SOURCES

    name = "streamlit" if tool == PLANTED else tool
    found = kept_inputs(name)
    for path in sorted(FIXTURES.rglob("*")):
        if path.is_dir() or path.suffix == ".jinja":
            continue
        try:
            if SOURCES[name].detect(first_entry(path)) or name == "generic":
                found.append(path.read_bytes())
        except (FeedbackError, UnicodeError):
            continue
    return found


def fuzz_tool(tool: str, arguments: list[str]) -> None:
    """Inside of its own process: instrument, then hand over to libFuzzer."""
    import atheris

    with atheris.instrument_imports(include=["thumbs.feedback"]):
        from thumbs.errors import FeedbackError
        from thumbs.feedback.import_record import import_record_of
        from thumbs.feedback.importing import import_feedback
        from thumbs.feedback.options import ImportOptions
        from thumbs.feedback.tools import SOURCES
    from thumbs.progress import silence

    silence()
    name = "streamlit" if tool == PLANTED else tool
    if tool == PLANTED:
        plant(SOURCES[name])
    mapping = {"prompt": "prompt", "completion": "response", "label": "rating"}
    options = ImportOptions(mapping=mapping if name == "generic" else {})
    folder = Path(tempfile.mkdtemp(prefix="thumbs-fuzz-"))
    out = folder / "feedback.jsonl"

    def one_input(data: bytes) -> None:
        source = folder / suffixed(data)
        source.write_bytes(data)
        try:
            import_feedback([source], out, tool=name, options=options)
        except FeedbackError as error:
            if "\n" in str(error) or out.exists():
                raise RuntimeError("an error of several lines, or a file left behind") from error
        finally:
            out.unlink(missing_ok=True)
            import_record_of(out).unlink(missing_ok=True)
            source.unlink()
            if left := [path.name for path in folder.iterdir()]:
                raise RuntimeError(f"left behind: {left}")

    atheris.Setup([sys.argv[0], *arguments], one_input)
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    atheris.Fuzz()


def suffixed(data: bytes) -> str:
    """A name with the ending that data of this kind would have."""
    head = data[:64].lstrip()
    if head.startswith((b"{", b"[")):
        return "export.json"
    return "export.db" if head.startswith(b"SQLite") else "export.csv"


def plant(source: Any) -> None:
    """A bug for the harness to find: a traceback on one key among those of a row."""
    read: Callable[..., Any] = source.read

    def broken(paths: Any, tally: Any, *, options: Any) -> Any:
        text = Path(paths[0]).read_bytes()
        if b"score" in text and b"\xf0\x9f\x91\x8e" in text and b"tt" in text:
            raise ZeroDivisionError("the planted bug")
        return read(paths, tally, options=options)

    source.read = broken


def page(record: dict[str, Any]) -> str:
    """The results as Markdown."""
    lines = [
        "# Coverage-guided fuzzing of the importers",
        "",
        "`make fuzz-import`. Edges and features as libFuzzer counts them in `thumbs.feedback`.",
        "",
        "| tool | seconds | executions | edges | features | broke |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for row in record["rows"]:
        sizes = f"{row['executions']:,} | {row['edges']:,} | {row['features']:,}"
        crash = row["crash"].replace("|", "\\|").replace("\n", " ") or "nothing"
        lines.append(f"| {row['tool']} | {row['seconds']} | {sizes} | {crash} |")
    return "\n".join([*lines, "", setting_lines(record)]) + "\n"


if __name__ == "__main__":
    main()
