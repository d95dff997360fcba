"""One epoch of a TRL KTOTrainer over a feedback file, with the seconds of every step.

Runs in TRL's own environment (1.16 or 0.24): python -m benchmarks.trl_bench MODEL FILE JOB OUT.
JOB is JSON: {"config": KTOConfig's settings, "lora_rank": null, "wants_reference": false}.
"""

import json
import sys
import time
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig
from transformers import TrainerCallback

from benchmarks.measured import versions
from benchmarks.trl_rows import kto_trainer

REFERENCE_COLUMNS = ("ref_logps", "reference_logps")  # TRL 1.16, TRL 0.24


class Clock(TrainerCallback):  # type: ignore[misc,unused-ignore]
    """The seconds of every optimizer step; the reference pass lies before the first."""

    def __init__(self) -> None:
        self.begun = 0.0
        self.seconds: list[float] = []

    def on_step_begin(self, *_: Any, **__: Any) -> None:
        """The first micro-batch of a step is about to be computed."""
        self.begun = time.perf_counter()

    def on_step_end(self, *_: Any, **__: Any) -> None:
        """The weights have moved."""
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        self.seconds.append(time.perf_counter() - self.begun)


def main() -> None:
    """Write to OUT what was trained on, the losses and the seconds of each step."""
    model, file, out = (Path(sys.argv[i]) for i in (1, 2, 4))
    job = json.loads(sys.argv[3])
    adapters: dict[str, Any] = {}
    if job["lora_rank"]:
        rank = job["lora_rank"]
        adapters["peft_config"] = LoraConfig(
            r=rank, lora_alpha=2 * rank, target_modules="all-linear", task_type="CAUSAL_LM"
        )
    clock = Clock()
    trainer = kto_trainer(model, file, out.parent, job["config"], callbacks=[clock], **adapters)
    rows = len(trainer.train_dataset)
    trainer.train()
    losses = [float(entry["loss"]) for entry in trainer.state.log_history if "loss" in entry]
    record: dict[str, Any] = {
        "rows": rows,
        "steps": int(trainer.state.global_step),
        "losses": losses,
        "step_seconds": clock.seconds,
        "trained_parameters": sum(p.numel() for p in trainer.model.parameters() if p.requires_grad),
        "threads": torch.get_num_threads(),
        "versions": versions("trl", "transformers", "datasets", "accelerate", "peft", "torch"),
    }
    if torch.cuda.is_available():
        record["device_peak_bytes"] = torch.cuda.max_memory_allocated()
    if job["wants_reference"]:
        columns = set(trainer.train_dataset.column_names)
        name = next(name for name in REFERENCE_COLUMNS if name in columns)
        record["reference_logps"] = [float(value) for value in trainer.train_dataset[name]]
    out.write_text(json.dumps(record), encoding="utf-8")


if __name__ == "__main__":
    main()
