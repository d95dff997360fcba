"""What the demo ships with: a small model, a feedback log of its answers, the training settings.

Both files are written by `python -m thumbs.demo.pretrain`. Knows no torch.
"""

from pathlib import Path
from typing import Any

# Dotted configuration keys. The rate suits a model of 1M parameters (the default is for 8B). Of
# 1e-4, 1.5e-4 and 2e-4 it lifts the sampled accuracy least, 25 points of 27 at seed 0, but alone
# leaves the greedy one where it was.
DEMO_SETTINGS: dict[str, Any] = {
    "model.dtype": "float32",  # the same numbers on every device that has float32
    "data.max_tokens": 256,
    "loss.beta": 0.1,
    "train.batch_size": 32,
    "train.epochs": 1,
    "train.learning_rate": 1e-4,
}

ASSETS = Path(__file__).parent / "assets"


def model_folder(assets: Path = ASSETS) -> Path:
    """The folder of the embedded model and its tokenizer, for `from_pretrained`."""
    return assets / "model"


def feedback_log(assets: Path = ASSETS) -> Path:
    """The embedded feedback log, in the shape of Open WebUI's feedback export."""
    return assets / "feedback-history-export.json.gz"
