"""`thumbs train` in this process, then the peak of the device's memory.

python -m benchmarks.thumbs_job OUT train FEEDBACK --model M --out RUN ...
"""

import json
import sys
from pathlib import Path

import torch

from thumbs.cli import main as thumbs


def main() -> None:
    """Write to OUT the most bytes torch held on the GPU, null without one; end as thumbs ends."""
    out = Path(sys.argv[1])
    sys.argv = ["thumbs", *sys.argv[2:]]
    try:
        thumbs()
    finally:
        has_gpu = torch.cuda.is_available()
        peak = torch.cuda.max_memory_allocated() if has_gpu else None
        out.write_text(json.dumps({"device_peak_bytes": peak}), encoding="utf-8")


if __name__ == "__main__":
    main()
