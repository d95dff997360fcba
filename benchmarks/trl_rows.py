"""What TRL makes of a file: its KTOTrainer, and counts over the rows it will train on.

Runs in TRL's own environment. In: a model folder, a JSONL file. Out: a trainer, plain counts.
"""

from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from datasets import load_dataset  # type: ignore[import-not-found,import-untyped,unused-ignore]
from transformers import PreTrainedTokenizerFast
from trl import KTOConfig, KTOTrainer  # type: ignore[import-not-found,import-untyped,unused-ignore]


def kto_trainer(
    model: Path, file: Path, scratch: Path, settings: Mapping[str, Any], **arguments: Any
) -> Any:
    """A KTOTrainer over the JSONL `file`, read by `datasets` and given to TRL as it is.

    settings: of KTOConfig. arguments: of KTOTrainer.
    """
    dataset = load_dataset("json", data_files=str(file), split="train")
    config = KTOConfig(
        output_dir=str(scratch / "trl"),
        **{"use_cpu": True, "report_to": "none", "save_strategy": "no", **settings},
    )
    # The class itself: the name that transformers 5 writes is unknown to TRL 0.24's transformers 4.
    load: Any = PreTrainedTokenizerFast.from_pretrained
    return KTOTrainer(
        model=str(model),
        args=config,
        train_dataset=dataset,
        processing_class=load(str(model)),
        **arguments,
    )


def same_prompt_pairs(trainer: Any) -> int:
    """How many of TRL's mismatched pairs (x, y') have a y' that was written for x itself."""
    answers: dict[tuple[int, ...], set[tuple[int, ...]]] = defaultdict(set)
    rows = list(trainer.train_dataset)
    for row in rows:
        answers[tuple(row["prompt_ids"])].add(tuple(row["completion_ids"]))
    return sum(tuple(row["KL_completion_ids"]) in answers[tuple(row["prompt_ids"])] for row in rows)
