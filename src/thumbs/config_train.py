"""The settings of training: the optimizer, the order of work, what is saved and when to look.

Importable without torch.
"""

from typing import Annotated, Literal

from pydantic import Field, field_validator

from thumbs.config_model import Auto, Stage

Decay = Annotated[float, Field(ge=0.0, lt=1.0)]


class TrainConfig(Stage):
    """The optimizer and the order of work."""

    epochs: int = Field(default=1, ge=1, le=100_000)
    """Passes over the training rows."""
    max_steps: int | None = Field(default=None, ge=1)
    """Stop after this many optimizer steps; null runs every epoch to its end."""
    batch_size: int = Field(default=32, ge=1)
    """Rows per optimizer step over all ranks; statistical (arXiv 2402.01306v4: 8 to 128)."""
    micro_batch_tokens: int | Auto = "auto"
    """Tokens (padding included) of one forward; memory and speed only, never the result. auto takes
    the most that pays and fits what is free, and says so."""
    group_prompts: bool = True
    """Rows of one prompt meet in one batch where the label proportion allows."""
    optimizer: Literal["adamw", "adamw_kahan", "adamw_8bit"] = "adamw"
    """adamw_kahan: AdamW that keeps what rounding takes from bfloat16 weights, so that they move as
    float32 weights do; the same as adamw for float32 weights. adamw_8bit: AdamW with moments of 8
    bits, those of embeddings and small weights of 32 (arXiv 2110.02861v2; bitsandbytes, extra
    [quant])."""
    learning_rate: float = Field(default=5e-6, gt=0.0)
    """Peak learning rate. 5e-6 suits 8B parameters; the smaller the model, the higher. Where
    adapters are trained the default is 5e-5."""
    betas: tuple[Decay, Decay] = (0.9, 0.999)
    """Decay of AdamW's two moments."""
    weight_decay: float = Field(default=0.0, ge=0.0)
    """Decoupled decay of matrices; vectors (norms, biases) are never decayed."""
    schedule: Literal["linear", "cosine", "constant"] = "linear"
    """Learning rate after the warm-up: down to 0 (linear, cosine), or constant."""
    warmup_fraction: float = Field(default=0.1, ge=0.0, le=1.0)
    """Share of the steps over which the learning rate rises from 0."""
    max_grad_norm: float = Field(default=1.0, gt=0.0)
    """The gradient is scaled down to this Euclidean norm where it is longer."""
    seed: int = Field(default=0, ge=0, lt=2**63)
    """Split, order, pairings, sampling: same seed and machine, same bytes."""
    save_every: int | None = Field(default=None, ge=1)
    """Steps between checkpoints; null saves every ten minutes. The end of an
    epoch is always saved."""
    keep_last: int = Field(default=2, ge=1)
    """Checkpoints kept; older ones are deleted."""
    eval_every: int | None = Field(default=None, ge=1)
    """Steps between evaluations on held-out rows, with one after the last step; null evaluates
    before and after training. The checkpoint of the best one is kept beside the newest."""
    early_stopping: int | None = Field(default=None, ge=1)
    """End training after this many evaluations in a row without a better held-out AUC; null trains
    to the end. RUN/model is then that of the best evaluation."""
    keep_best: bool = False
    """RUN/model is that of the evaluation with the best held-out AUC (the first of equals), not of
    the last step. With early_stopping it is so anyway."""
    guard: Literal["warn", "stop", "ignore"] = "warn"
    """What to do where the rewards of both labels fall together over 40 steps, the sign of a
    learning rate that is too high (arXiv 2402.01306v4): say so once, or save a checkpoint and
    stop."""
    gradient_checkpointing: bool = False
    """Recompute activations in the backward pass: less memory, about a third more time."""
    compile: bool = False
    """Compile the decoder layers (torch.compile; on a CPU it needs a C++ compiler). The result is
    the same up to rounding. Meant for GPUs: on a CPU it did not pay for a Llama of 25M."""

    @property
    def takes_best(self) -> bool:
        """Whether the trained model is that of the best evaluation, not of the last step."""
        return self.keep_best or self.early_stopping is not None

    @field_validator("micro_batch_tokens")
    @classmethod
    def _tokens_positive(cls, tokens: int | str) -> int | str:
        if isinstance(tokens, int) and tokens < 1:
            raise ValueError("a number of tokens >= 1, or auto")
        return tokens
