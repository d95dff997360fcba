"""How settings are read, and those of the model; `config.py` has the other stages.

Importable without torch.
"""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator

LARGEST_WHOLE = 2**63  # what the JSON of a run and PyTorch's seeds can hold
Auto = Literal["auto"]
AdapterInit = Literal["default", "gaussian", "orthogonal", "olora", "pissa", "pissa_niter_16"]


class Stage(BaseModel):
    """A group of settings: no unknown key, no infinite number, no value of another kind."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, use_attribute_docstrings=True, allow_inf_nan=False
    )

    @field_validator("*", mode="before")
    @classmethod
    def _refuse_lookalikes(cls, value: Any, info: ValidationInfo) -> Any:
        """true is no 1 and "" no name, though both would pass for one."""
        field = cls.model_fields[str(info.field_name)]
        parts = value if isinstance(value, list) else [value]
        if field.annotation is not bool and any(isinstance(part, bool) for part in parts):
            raise ValueError("true and false are no value here; give a number or a name")
        if any(isinstance(part, int) and abs(part) >= LARGEST_WHOLE for part in parts):
            raise ValueError("a whole number is below 2^63; write a larger one as 1e30")
        if value == "" and field.default is None:
            raise ValueError("an empty text is no value here; give one, or null")
        return value


class LoraConfig(Stage):
    """Low-rank adapters are trained, the model's own weights stay (arXiv 2106.09685v2). Any key of
    this group switches them on; `model.lora={}` takes the defaults."""

    r: int = Field(default=16, ge=1)
    """Rank of an adapter; more learns more and takes more memory."""
    alpha: float = Field(default=32.0, gt=0.0)
    """An adapter's output is scaled by alpha / r."""
    dropout: float = Field(default=0.0, ge=0.0, lt=1.0)
    """Share of an adapter's inputs zeroed in the forward that is differentiated, drawn per step,
    row and layer. Every other dropout of a model is off."""
    target_modules: list[str] | Literal["all-linear"] = "all-linear"
    """Names of the layers that get an adapter, such as [q_proj, v_proj]; all-linear is every linear
    layer but the head."""
    modules_to_save: list[str] = []
    """Names of layers that are trained whole beside the adapters and saved with them."""
    init: AdapterInit = "default"
    """How adapters start. default, gaussian, orthogonal: at no change. pissa (arXiv 2404.02948v4),
    its faster pissa_niter_16 and olora (arXiv 2406.01775v1): from the main directions of the
    weights; saved as plain adapters of twice the rank."""
    merge: bool = False
    """Save the model with its adapters merged in RUN/model, the adapters in RUN/adapter."""


class ModelConfig(Stage):
    """Which policy is trained, and against which reference."""

    name_or_path: str = ""
    """Folder or hub id of a causal language model; `--model` on the command line."""
    revision: str | None = None
    """Branch, tag or commit on the hub; null is the default branch."""
    tokenizer: str | None = None
    """Folder or hub id of the tokenizer; null takes the model's own."""
    reference: str | None = None
    """Folder or hub id of another reference; null is the policy exactly as loaded at step 0."""
    dtype: Literal["auto", "mixed_bfloat16", "float32", "float64", "bfloat16"] = "auto"
    """Trainable weights and products. mixed_bfloat16: float32 weights, products in bfloat16
    (autocast). auto: the same where the device is good at it: a GPU that has bfloat16, a CPU that
    has it (avx512_bf16, AMX) for models of width 256 and more; else float32. bfloat16: weights and
    gradients of half the size, with train.optimizer=adamw_kahan only."""
    attn_implementation: str | None = None
    """Attention of transformers: sdpa, eager, flash_attention_2 (GPU); null is sdpa where the model
    has it, else eager."""
    trust_remote_code: bool = False
    """Run Python code that comes with the model. Only for models whose authors you trust."""
    adapter: str | None = None
    """Folder or hub id of a LoRA adapter (peft, safetensors) that is put on the model and trained
    on; the reference has it too, as it is at step 0."""
    lora: LoraConfig | None = None
    """Train new adapters and leave the model's own weights as they are; null trains the weights."""
    quantization: Literal["nf4", "int8"] | None = None
    """Hold the frozen weights in 4 or 8 bits (QLoRA, arXiv 2305.14314v1; bitsandbytes, extra
    [quant]). Needs adapters: quantized weights cannot be trained."""
