"""The labels of every micro-batch of TRL's own dataloader, and its mismatched pairs.

Runs in TRL's own environment: python -m benchmarks.trl_label_blocks MODEL FILE ROWS OUT.
"""

import json
import sys
from collections import Counter
from pathlib import Path
from typing import Any

from benchmarks.measured import versions
from benchmarks.trl_rows import kto_trainer, same_prompt_pairs


def main() -> None:
    """Write to OUT how many micro-batches of ROWS rows hold how many desirable ones."""
    model, file, out = (Path(sys.argv[i]) for i in (1, 2, 4))
    batch_rows = int(sys.argv[3])
    settings = {"per_device_train_batch_size": batch_rows, "bf16": False, "disable_tqdm": True}
    trainer = kto_trainer(model, file, out.parent, settings)
    labels = [batch["label"].tolist() for batch in trainer.get_train_dataloader()]
    desirable = Counter(sum(batch) for batch in labels)
    record: dict[str, Any] = {
        "rows": sum(map(len, labels)),
        "batches": len(labels),
        "batches_of_one_label": sum(len(set(batch)) == 1 for batch in labels),
        "batches_by_desirable_rows": {str(count): desirable[count] for count in sorted(desirable)},
        "same_prompt_pairs": same_prompt_pairs(trainer),
        "versions": versions("trl", "transformers", "datasets", "torch"),
    }
    out.write_text(json.dumps(record), encoding="utf-8")


if __name__ == "__main__":
    main()
