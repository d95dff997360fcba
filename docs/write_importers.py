"""Write docs/importers.md, the table of what `thumbs import` reads and leaves out, from the code.

`make docs`, or: python docs/write_importers.py
"""

from pathlib import Path

from thumbs.feedback.clean import CLEAN_DROPS
from thumbs.feedback.tools import SOURCES
from thumbs.feedback.votes import VOTE_DROPS

PAGE = Path(__file__).with_name("importers.md")


def page() -> str:
    """The page as the code has it."""
    lines = [
        "# What `thumbs import` reads and leaves out",
        "",
        "Written by `make docs` from the sources. What is left out is counted by these reasons and",
        "printed. More about each tool:",
        "[feedback-format.md](feedback-format.md#what-thumbs-import-does).",
        "",
        "| `--from` | what is read | what is left out |",
        "|---|---|---|",
    ]
    for name, source in sorted(SOURCES.items()):
        drops = "; ".join(dict.fromkeys(source.DROPS))
        lines.append(f"| `{name}` | {_cell(source.READS)} | {_cell(drops)} |")
    everywhere = "; ".join((*CLEAN_DROPS, *VOTE_DROPS))
    lines.append(f"| every tool | | {_cell(everywhere)}; prompt that occurs in FILE |")
    return "\n".join(lines) + "\n"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
