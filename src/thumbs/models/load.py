"""Any causal language model of transformers, by folder or hub id, with its tokenizer.

In: names and options. Out: a loaded model with dropout off, its tokenizer and what identifies its
weights. Weights come from safetensors only; code that comes with a model runs only when asked for.
"""

import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    BitsAndBytesConfig,
    PreTrainedConfig,
    PreTrainedModel,
)
from transformers.utils import logging as transformers_logging

from thumbs.config import ModelConfig
from thumbs.errors import ConfigError, ModelError
from thumbs.files import sha256_bytes
from thumbs.models.adapter_folder import (
    ADAPTER_CONFIG,
    base_of_adapter,
    find_adapter,
    is_adapter_folder,
)
from thumbs.models.folder import (
    TOKENIZER_FILES,
    require_attention,
    require_folder_or_hub_id,
    require_name,
    require_tokenizer,
    require_weights,
)
from thumbs.models.identity import (
    ModelIdentity,
    code_sha256,
    settings_sha256_of,
    tensors_sha256,
    weight_sha256,
)
from thumbs.models.same_tokens import require_same_tokens

# On import bitsandbytes looks for a faster kernel on the hub, and says at length that it has none.
logging.getLogger("bitsandbytes.backends.cpu.ops").setLevel(logging.ERROR)


@dataclass
class LoadedModel:
    """A model ready to score: evaluation mode, dropout off, on its device.

    adapters: peft's wrapper of `model` where it has adapters. initial_adapters: see
    `lora.initial_weights`.
    """

    model: PreTrainedModel
    tokenizer: Any
    identity: ModelIdentity
    adapters: Any = None
    initial_adapters: Mapping[str, Tensor] | None = None


def load_model(config: ModelConfig, *, device: torch.device, seed: int = 0) -> LoadedModel:
    """The policy of `config` with its tokenizer, weights in the dtype the optimizer will keep.

    `name_or_path` may be an adapter's folder: the model it was trained on is loaded with it.
    `seed`: of the start of new adapters.

    Raises:
        ModelError: no such model, no safetensors, no tokenizer, or weights that do not fit.
        ConfigError: adapters that do not fit the model.
    """
    require_name(config.name_or_path)
    name, adapter = base_and_adapter(config)
    require_weights(name)
    tokenizer = load_tokenizer(config)
    trains_adapters = adapter is not None or config.lora is not None
    dtype = _weight_dtype(config, device, frozen=trains_adapters)
    loaded = _load(config, name, tokenizer, dtype, device)
    if adapter is not None:
        return _with_adapter(loaded, adapter, trainable=True)
    if config.lora is not None:
        from thumbs.models.lora import (  # brings peft, which most runs do without
            add_lora,
            initial_weights,
        )

        loaded.adapters = add_lora(loaded.model, config.lora, seed=seed)
        loaded.initial_adapters = initial_weights(loaded.adapters)
        if loaded.initial_adapters is not None:
            loaded.identity = _identity_with(loaded, loaded.initial_adapters)
    return loaded


def trained_model(config: ModelConfig, name: str) -> ModelConfig:
    """How to load the model or adapter `name` the way a run with `config` computes."""
    return config.model_copy(
        update={
            "name_or_path": name,
            **dict.fromkeys(("reference", "revision", "tokenizer", "adapter", "lora")),
        }
    )


def untrained_model(config: ModelConfig) -> ModelConfig:
    """How to load what a run with `config` started from, new adapters left out."""
    return config.model_copy(update={"lora": None})


def require_model(config: ModelConfig) -> None:
    """Refuse, before any work, a model whose files or settings cannot be right.

    Raises:
        ModelError: no such folder, files that are missing or damaged.
        ConfigError: an attention or quantization that is not there.
    """
    require_name(config.name_or_path)
    require_attention(config.attn_implementation)
    _require_quantization(config)
    require_weights(base_and_adapter(config)[0])
    require_tokenizer(_tokenizer_name(config))
    if config.reference is not None:
        require_folder_or_hub_id(config.reference)
        other = config.model_copy(update={"name_or_path": config.reference, "adapter": None})
        require_weights(base_and_adapter(other)[0])


def load_reference(config: ModelConfig, tokenizer: Any, *, device: torch.device) -> LoadedModel:
    """The model `config.reference`, frozen.

    Raises:
        ModelError: it cannot be loaded, or reads other tokens than `tokenizer` gives it.
    """
    assert config.reference is not None, "without model.reference the policy is its own reference"
    other = config.model_copy(
        update={"name_or_path": config.reference, "adapter": None, "revision": None}
    )
    name, adapter = base_and_adapter(other)
    loaded = _load(other, name, tokenizer, _weight_dtype(other, device, frozen=True), device)
    if adapter is not None:
        loaded = _with_adapter(loaded, adapter, trainable=False)
    require_same_tokens(config.reference, name, tokenizer)
    loaded.model.requires_grad_(False)
    return loaded


def base_and_adapter(config: ModelConfig) -> tuple[str, Path | None]:
    """The whole model to load and the adapter that goes on it.

    Raises:
        ModelError: an adapter that cannot be found, or does not name its model.
    """
    if config.adapter is not None:
        return config.name_or_path, find_adapter(config.adapter)
    if not is_adapter_folder(config.name_or_path):
        return config.name_or_path, None
    folder = find_adapter(config.name_or_path)
    return base_of_adapter(folder), folder


def save_model(loaded: LoadedModel, folder: Path) -> None:
    """Write the weights as safetensors: the whole model, or its adapters where it has some."""
    if loaded.adapters is None:
        loaded.model.save_pretrained(folder)
    else:
        from thumbs.models.lora import save_adapter  # brings peft, which most runs do without

        save_adapter(loaded.adapters, folder, loaded.initial_adapters)


def merge_adapters(loaded: LoadedModel) -> LoadedModel:
    """The model with its adapters added to its weights; `loaded` is used up."""
    assert loaded.adapters is not None, "nothing to merge"
    merged: Any = loaded.adapters.merge_and_unload()
    return LoadedModel(merged, loaded.tokenizer, loaded.identity)


def load_tokenizer(config: ModelConfig) -> Any:
    """The tokenizer of `config`, a fast one (offsets are needed to place the loss mask)."""
    name = _tokenizer_name(config)
    require_tokenizer(name)
    try:
        tokenizer = AutoTokenizer.from_pretrained(
            name, revision=config.revision, trust_remote_code=config.trust_remote_code
        )
    except Exception as error:  # noqa: BLE001, tokenizers raises nothing narrower
        raise ModelError(
            f"{name}: the tokenizer cannot be loaded: {_one_line(error)}. Copy or download the "
            "folder again, or name another with --set model.tokenizer=FOLDER."
        ) from None
    if not tokenizer.is_fast:
        raise ModelError(
            f"{name}: is a slow tokenizer ({type(tokenizer).__name__}), which gives no offsets. "
            "Convert it once with AutoTokenizer.from_pretrained(...).save_pretrained(FOLDER)."
        )
    return tokenizer


def pick_device() -> torch.device:
    """The first GPU where there is one, else the CPU."""
    return torch.device("cuda") if torch.cuda.is_available() else torch.device("cpu")


def multiplies_bfloat16(device: torch.device) -> bool:
    """Has `device` instructions of its own for products of bfloat16?"""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported())
    if device.type != "cpu" or torch.backends.cpu.get_cpu_capability() == "AVX2":
        return False
    found = torch.cpu.get_capabilities()
    return any(found.get(name, False) for name in ("avx512_bf16", "amx_bf16"))


def _load(
    config: ModelConfig,
    name: str,
    tokenizer: Any,
    dtype: torch.dtype | str,
    device: torch.device,
) -> LoadedModel:
    require_weights(name)
    transformers_logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    revision = config.revision if name == config.name_or_path else None
    loaded: Any
    try:
        loaded = AutoModelForCausalLM.from_pretrained(
            name,
            revision=revision,
            dtype=dtype,
            attn_implementation=config.attn_implementation,
            trust_remote_code=config.trust_remote_code,
            use_safetensors=True,
            output_loading_info=True,
            **_quantized(config, device),
        )
    except Exception as error:  # noqa: BLE001, a damaged config.json trips it anywhere
        raise ModelError(f"{name}: the model cannot be loaded: {_one_line(error)}") from None
    model, info = loaded
    if info["missing_keys"]:
        missing = sorted(info["missing_keys"])
        raise ModelError(
            f"{name}: {len(missing)} weights are missing from the files, for example "
            f"{missing[0]!r}; training would start from random values there. Use a whole model."
        )
    _require_vocabulary(name, model, tokenizer)
    switch_off_dropout(model)
    _keep_differentiable(model)
    settings, _ = PreTrainedConfig.get_config_dict(name, revision=revision)
    identity = ModelIdentity(
        name,
        config.revision,
        weight_sha256(model),
        str(model.dtype)[6:],
        settings_sha256_of({**settings, "code": code_sha256(model)}),
    )
    placed = model.eval() if config.quantization else model.eval().to(device)
    return LoadedModel(placed, tokenizer, identity)


def _weight_dtype(config: ModelConfig, device: torch.device, *, frozen: bool) -> torch.dtype | str:
    """float32 for what is trained; frozen weights as they are stored, unless a dtype is given.

    On a CPU frozen weights are widened too: without instructions of its own for bfloat16 it takes
    6 to 17 times as long for a product (measured with torch 2.13 on an AMD EPYC).
    """
    if config.dtype not in ("auto", "mixed_bfloat16"):
        given: torch.dtype = getattr(torch, config.dtype)
        return given
    return "auto" if frozen and device.type != "cpu" else torch.float32


def _with_adapter(loaded: LoadedModel, adapter: Path, *, trainable: bool) -> LoadedModel:
    from thumbs.models.lora import (  # brings peft, which most runs do without
        adapter_weights,
        load_adapter,
    )

    loaded.adapters = load_adapter(loaded.model, adapter, trainable=trainable)
    identity = _identity_with(loaded, adapter_weights(loaded.adapters))
    settings = json.loads((adapter / ADAPTER_CONFIG).read_text(encoding="utf-8"))
    both = f"{identity.settings_sha256} {settings_sha256_of(settings)}"
    loaded.identity = replace(identity, settings_sha256=sha256_bytes(both.encode()))
    switch_off_dropout(loaded.model)
    return loaded


def _identity_with(loaded: LoadedModel, adapters: Mapping[str, Tensor]) -> ModelIdentity:
    """The identity of a model whose adapters change what it says from the start."""
    both = f"{loaded.identity.weight_sha256} {tensors_sha256(adapters)}"
    return replace(loaded.identity, weight_sha256=sha256_bytes(both.encode()))


def _quantized(config: ModelConfig, device: torch.device) -> dict[str, Any]:
    """Arguments of from_pretrained that hold the weights in 4 or 8 bits (arXiv 2305.14314v1)."""
    if config.quantization is None:
        return {}
    _require_quantization(config)
    build: Any = BitsAndBytesConfig
    settings = build(
        load_in_8bit=config.quantization == "int8",
        load_in_4bit=config.quantization == "nf4",
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=torch.bfloat16,
    )
    return {"quantization_config": settings, "device_map": {"": device}}


def _keep_differentiable(model: torch.nn.Module) -> None:
    """Keep 4-bit weights in the layout whose product has a gradient.

    In evaluation mode on a CPU with AVX512-BF16 bitsandbytes 0.50.2 (nn/modules.py, Linear4bit)
    packs them for a kernel that has none: adapters below would silently learn nothing.
    """
    for module in model.modules():
        if hasattr(module, "support_avx512bf16_for_cpu"):
            module.support_avx512bf16_for_cpu = False  # type: ignore[assignment]


def _require_quantization(config: ModelConfig) -> None:
    if config.quantization is not None and find_spec("bitsandbytes") is None:
        raise ConfigError(
            f"model.quantization: {config.quantization!r} needs bitsandbytes, which is not "
            "installed. Install it with: pip install bitsandbytes"
        )


def _tokenizer_name(config: ModelConfig) -> str:
    name = config.tokenizer or config.name_or_path
    has_own = any((Path(name) / file).is_file() for file in TOKENIZER_FILES)
    return base_of_adapter(Path(name)) if is_adapter_folder(name) and not has_own else name


def switch_off_dropout(model: torch.nn.Module) -> None:
    """Set every dropout probability to 0, so that training mode scores like evaluation mode."""
    for module in model.modules():
        for name, value in vars(module).items():
            if "dropout" in name and isinstance(value, float):
                setattr(module, name, 0.0)
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0


def _require_vocabulary(name: str, model: PreTrainedModel, tokenizer: Any) -> None:
    embeddings: Any = model.get_input_embeddings()
    rows = embeddings.weight.shape[0]
    if len(tokenizer) > rows:
        raise ModelError(
            f"{name}: the tokenizer has {len(tokenizer):,} tokens but the model embeds {rows:,}; "
            "they do not belong together. Name the right one with --set model.tokenizer=FOLDER."
        )


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:300]
