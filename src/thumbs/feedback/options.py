"""What the user asked of an import, as every source gets it.

In: the flags of `thumbs import`. Out: one value handed to `read`. Knows no tool.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal


@dataclass(frozen=True)
class ImportOptions:
    """How to read an export.

    edits: whether edited answers give their two records.
    keep: names of rules (`clean.RULES`) that are switched off.
    votes, contradictions: see `votes.py`.
    decontaminate: files whose prompts no record may have.
    up, down: raw votes that are desirable, undesirable, as text.
    threshold: what a score must reach: a number, "mean", "median" or "per-prompt-mean"; "" for
        none.
    score: dotted path of the score (rows without a tool of their own).
    score_name: which of several scores, questions or annotations is the vote; "" for the only one.
    query: what to read of a database, SQL.
    mapping: prompt, completion, label, ... to a dotted path (rows without a tool of their own).
    """

    edits: bool = True
    keep: frozenset[str] = frozenset()
    votes: Literal["majority", "all", "latest"] = "all"
    contradictions: Literal["keep", "majority", "drop"] = "keep"
    decontaminate: tuple[Path, ...] = ()
    up: tuple[str, ...] = ()
    down: tuple[str, ...] = ()
    threshold: str = ""
    score: str = ""
    score_name: str = ""
    query: str = ""
    mapping: Mapping[str, str] = field(default_factory=dict)
