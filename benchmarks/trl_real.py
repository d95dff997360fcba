"""One epoch of TRL's KTOTrainer over a feedback file, unchanged.

Runs in TRL's own environment: python -m benchmarks.trl_real MODEL FILE SETTINGS_JSON OUT.
"""

import json
import sys
import time
from pathlib import Path
from typing import Any

import torch

from benchmarks.measured import versions
from benchmarks.trl_rows import kto_trainer, same_prompt_pairs


def main() -> None:
    """Write to OUT the rows TRL kept, its steps, its losses and its seconds."""
    model, file, out = (Path(sys.argv[i]) for i in (1, 2, 4))
    started = time.perf_counter()
    trainer = kto_trainer(model, file, out.parent, json.loads(sys.argv[3]))
    # Counted now: the training dataset gains columns of reference values later.
    pairs = same_prompt_pairs(trainer)
    result = trainer.train()
    losses = [float(entry["loss"]) for entry in trainer.state.log_history if "loss" in entry]
    record: dict[str, Any] = {
        "rows": len(trainer.train_dataset),
        "steps": int(trainer.state.global_step),
        "loss_last_step": losses[-1],
        "loss_mean": float(result.training_loss),
        "same_prompt_pairs": pairs,
        "threads": torch.get_num_threads(),
        "seconds_inside": time.perf_counter() - started,
        "versions": versions("trl", "transformers", "datasets", "accelerate", "torch"),
    }
    out.write_text(json.dumps(record), encoding="utf-8")


if __name__ == "__main__":
    main()
