"""LoRA adapters on a causal language model, through peft: new ones, saved ones, and saving them.

In: a loaded model and the LoRA settings, or an adapter's folder. Out: peft's wrapper of the same
model, whose layers now hold adapters; only what is trained requires a gradient. Adapters come from
safetensors only. Must not know: feedback, rows, losses.
"""

import tempfile
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig as PeftLoraConfig
from peft import PeftConfig, PeftModel, PeftType, get_peft_model, get_peft_model_state_dict
from peft.tuners.lora import LoraLayer
from peft.tuners.tuners_utils import check_target_module_exists
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from thumbs.config import FROM_WEIGHTS, LoraConfig
from thumbs.errors import ConfigError, ModelError, ThumbsError
from thumbs.models.adapter_folder import ADAPTER_WEIGHTS, one_line
from thumbs.models.row_dropout import RowDropout

LOADING_ERRORS = (ValueError, RuntimeError, KeyError, TypeError, OSError, SafetensorError)
PEFT_SAYS = "[PEFT:PeftType.LORA] "


def add_lora(model: Any, settings: LoraConfig, *, seed: int) -> PeftModel:
    """New adapters in the layers that `settings` names; their start depends on `seed` only.

    Raises:
        ConfigError: layers the model does not have, or the head of a model with tied embeddings.
    """
    config = PeftLoraConfig(
        task_type="CAUSAL_LM",
        r=settings.r,
        lora_alpha=settings.alpha,  # type: ignore[arg-type]
        lora_dropout=settings.dropout,
        target_modules=settings.target_modules,
        modules_to_save=settings.modules_to_save or None,
        init_lora_weights=True if settings.init == "default" else settings.init,  # type: ignore[arg-type]
        fan_in_fan_out=any(isinstance(module, Conv1D) for module in model.modules()),
    )
    if settings.init == "olora" and config.fan_in_fan_out:
        raise ConfigError(
            "model.lora.init: 'olora' does not fit a model whose layers hold their weights "
            "transposed, as GPT-2's do; allowed: default, gaussian, orthogonal, pissa"
        )
    _require_untied_head(model, config)
    _require_layers(model, settings.modules_to_save)
    layers = _layer_names(model)  # before peft puts its own in
    try:
        with _seeded(model, seed), _peft_on_transformers_5():
            wrapped = get_peft_model(model, config)
    except ValueError as error:
        key = "model.lora.target_modules" if "module" in str(error).lower() else "model.lora"
        raise ConfigError(
            f"{key}: {one_line(error).removeprefix(PEFT_SAYS)} Name the layers to adapt, as "
            f"--set model.lora.target_modules='[NAME, NAME]'; {layers}"
        ) from None
    if settings.init.startswith(FROM_WEIGHTS):
        _require_rank(wrapped, settings)
    if settings.dropout:
        _drop_by_row(wrapped, settings.dropout)
    return _with_wide_adapters(wrapped)


def load_adapter(model: Any, folder: Path, *, trainable: bool) -> PeftModel:
    """The adapter saved in `folder` on `model`.

    Raises:
        ModelError: damaged files, or an adapter of another kind of model.
        ConfigError: an adapter on the head of a model with tied embeddings.
    """
    try:
        config = PeftConfig.from_pretrained(str(folder))
        if config.peft_type != PeftType.LORA:
            raise ModelError(f"{folder}: is an adapter of type {config.peft_type}; allowed: LORA")
        _require_untied_head(model, config)
        with warnings.catch_warnings(action="ignore"):  # what is missing is looked at below
            wrapped = PeftModel.from_pretrained(model, str(folder), is_trainable=trainable)
        with safe_open(folder / ADAPTER_WEIGHTS, framework="pt") as file:
            stored = set(file.keys())
    except LOADING_ERRORS as error:
        if isinstance(error, ThumbsError):
            raise
        raise ModelError(f"{folder}: the adapter cannot be loaded: {one_line(error)}") from None
    different = sorted(stored ^ adapter_weights(wrapped).keys())
    if different:
        raise ModelError(
            f"{folder}: the adapter belongs to another model: {len(different)} of its weights and "
            f"the model's layers do not meet, for example {different[0]!r}."
        )
    return _with_wide_adapters(wrapped)


def adapter_weights(wrapped: PeftModel) -> dict[str, Tensor]:
    """What is saved of the adapters, by the names it is saved under; never the model's own weights,
    which peft would add where the head has an adapter."""
    weights: dict[str, Tensor] = get_peft_model_state_dict(wrapped, save_embedding_layers=False)
    return weights


def initial_weights(wrapped: PeftModel) -> dict[str, Tensor] | None:
    """Adapters at step 0 where their init changed the model's own weights too; else None."""
    config: Any = wrapped.peft_config["default"]
    init = str(config.init_lora_weights)
    if not init.startswith(FROM_WEIGHTS):
        return None
    return {n: w.detach().cpu().clone() for n, w in adapter_weights(wrapped).items()}


def save_adapter(wrapped: PeftModel, folder: Path, initial: Mapping[str, Tensor] | None) -> None:
    """Write the adapters so that they load onto the model as it is stored.

    Where their init moved part of the model's weights into them (`initial`), what is saved is the
    difference to their start, A B - A0 B0: plain adapters of twice the rank.
    Source: arXiv 2404.02948v4, appendix.
    """
    base = Path(wrapped.peft_config["default"].base_model_name_or_path or "")
    if base.is_dir():  # found again from any folder
        wrapped.peft_config["default"].base_model_name_or_path = str(base.resolve())
    if initial is None:
        wrapped.save_pretrained(str(folder), save_embedding_layers=False)
        return
    with tempfile.TemporaryDirectory() as start, warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".* changes the base weights of the model")
        save_file(dict(initial), Path(start) / ADAPTER_WEIGHTS)
        wrapped.save_pretrained(
            str(folder),
            save_embedding_layers=False,
            path_initial_model_for_weight_conversion=start,
        )


def _drop_by_row(wrapped: PeftModel, p: float) -> None:
    adapted = (module for module in wrapped.modules() if isinstance(module, LoraLayer))
    for layer, module in enumerate(adapted):
        module.lora_dropout["default"] = RowDropout(p, layer)


def _with_wide_adapters(wrapped: PeftModel) -> PeftModel:
    """Everything trained in float32 or wider; the rest keeps the dtype it is stored in."""
    for parameter in wrapped.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.to(torch.promote_types(parameter.dtype, torch.float32))
    return wrapped


def _require_untied_head(model: Any, config: Any) -> None:
    """An adapter on one of two layers that share their weights would silently untie them."""
    head, embeddings = model.get_output_embeddings(), model.get_input_embeddings()
    if head is None or head.weight is not embeddings.weight:
        return
    names = {name for name, module in model.named_modules() if module in (head, embeddings)}
    targets = set() if config.target_modules == "all-linear" else names
    touched = [name for name in targets if check_target_module_exists(config, name)]
    saved = config.modules_to_save or ()
    touched += [n for n in names if any(n == key or n.endswith(f".{key}") for key in saved)]
    if touched:
        raise ConfigError(
            f"model.lora: {sorted(touched)[0]!r} is among the target modules, but the model's "
            "head and its embedding are one tensor (tied). Leave it out, or save the model untied: "
            "from_pretrained(..., tie_word_embeddings=False).save_pretrained(FOLDER)."
        )


def _require_rank(wrapped: PeftModel, settings: LoraConfig) -> None:
    """An adapter that starts from the directions of a matrix has no more of them than it."""
    for name, module in wrapped.named_modules():
        if isinstance(module, LoraLayer) and "default" in module.lora_A:
            matrix: Any = module.lora_A["default"].weight  # (rank, inputs)
            rank = matrix.shape[0]
            if rank < settings.r:
                layer = name.rsplit(".", 1)[-1]
                raise ConfigError(
                    f"model.lora.r: is {settings.r}, but with init {settings.init} an adapter has "
                    f"at most the rank of its layer, which is {rank} for {layer}. Set it to {rank} "
                    "or less, leave the layer out of target_modules, or take init default."
                )


def _require_layers(model: Any, names: list[str]) -> None:
    known = {name.rsplit(".", 1)[-1] for name, _ in model.named_modules()}
    for name in names:
        if name.rsplit(".", 1)[-1] not in known:
            finding = f"model.lora.modules_to_save: the model has no layer {name!r}"
            raise ConfigError(f"{finding}; {_layer_names(model)}")


def _layer_names(model: Any) -> str:
    linear = (nn.Linear, nn.Embedding, Conv1D)
    layers = (name for name, module in model.named_modules() if isinstance(module, linear))
    names = {name.rsplit(".", 1)[-1] for name in layers}
    return f"its layers: {', '.join(sorted(names))}"


@contextmanager
def _peft_on_transformers_5() -> Iterator[None]:
    """peft 0.21 reads a property that transformers 5.23 calls by another name now."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "`is_gradient_checkpointing` is deprecated")
        yield


@contextmanager
def _seeded(model: Any, seed: int) -> Iterator[None]:
    devices = [model.device] if model.device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(seed)
        yield
