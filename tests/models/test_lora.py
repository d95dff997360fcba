"""Adapters: where they start, what the reference is, how they are saved, what is refused."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import AutoModelForCausalLM, MambaConfig, MambaForCausalLM

from thumbs.config import ModelConfig
from thumbs.errors import ConfigError, ModelError
from thumbs.models.identity import weight_sha256
from thumbs.models.load import (
    LoadedModel,
    load_model,
    load_reference,
    merge_adapters,
    save_model,
    trained_model,
)
from thumbs.models.tiny import save_tiny, tiny_tokenizer
from thumbs.scoring.forward import build_scorer

CPU = torch.device("cpu")
PROMPTS = [[5, 6, 7], [8, 9]]
COMPLETIONS = [[10, 11, 12, 13], [14, 15]]
INITS = ["default", "gaussian", "orthogonal", "olora", "pissa", "pissa_niter_16"]


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    for family in ("llama", "qwen3", "gpt2"):
        save_tiny(folder / family, family)
    save_tiny(folder / "bfloat16", "llama", dtype=torch.bfloat16)
    return folder


def config_for(path: Path, lora: dict[str, Any] | None = None, **changes: Any) -> ModelConfig:
    return ModelConfig.model_validate({"name_or_path": str(path), "lora": lora, **changes})


def logps(model: Any) -> Tensor:
    with torch.no_grad():
        scored: Tensor = build_scorer(model)(PROMPTS, COMPLETIONS, [0, 1]).logps
    return scored


def plain_logps(folder: Path) -> Tensor:
    """What transformers and nothing of ours says about the model in `folder`."""
    model: Any = AutoModelForCausalLM.from_pretrained(folder)
    return own_logps(model.eval())


def own_logps(model: Any) -> Tensor:
    values = torch.zeros(2, 4)
    for i, (prompt, completion) in enumerate(zip(PROMPTS, COMPLETIONS, strict=True)):
        ids = torch.tensor([[*prompt, *completion]])
        with torch.no_grad():
            wide = torch.log_softmax(model(input_ids=ids).logits[0].float(), dim=-1)
        for t, token in enumerate(completion):
            values[i, t] = wide[len(prompt) - 1 + t, token]
    return values


def moved(loaded: LoadedModel, *, seed: int = 0, by: float = 0.1) -> LoadedModel:
    """As if trained: everything trainable has changed."""
    generator = torch.Generator().manual_seed(seed)
    for parameter in loaded.model.parameters():
        if parameter.requires_grad:
            parameter.data += by * torch.randn(parameter.shape, generator=generator)
    return loaded


@pytest.mark.parametrize("init", INITS)
def test_the_reference_at_step_0_is_the_model_loaded_without_adapters(
    models: Path, init: str
) -> None:
    loaded = load_model(config_for(models / "llama", {"init": init, "r": 4}), device=CPU)
    difference = (logps(loaded.model) - plain_logps(models / "llama")).abs().max().item()
    assert difference < 1e-5


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated")  # peft 0.21 itself
def test_the_reference_of_a_loaded_adapter_is_the_model_with_that_adapter(
    models: Path, tmp_path: Path
) -> None:
    trained = moved(load_model(config_for(models / "llama", {"r": 4}), device=CPU))
    save_model(trained, tmp_path / "adapter")
    again = load_model(config_for(models / "llama", adapter=str(tmp_path / "adapter")), device=CPU)
    separate = PeftModel.from_pretrained(
        AutoModelForCausalLM.from_pretrained(models / "llama"), tmp_path / "adapter"
    ).eval()
    expected = own_logps(separate)
    assert (logps(again.model) - expected).abs().max().item() < 1e-5
    assert (expected - plain_logps(models / "llama")).abs().max().item() > 0.01
    trainable = [n for n, p in again.model.named_parameters() if p.requires_grad]
    assert trainable
    assert all("lora_" in name for name in trainable)


@pytest.mark.parametrize(
    ("family", "init"),
    [("llama", init) for init in INITS] + [("gpt2", "default"), ("gpt2", "pissa")],
)
def test_saved_adapters_give_the_trained_model_back_on_the_stored_one(
    models: Path, tmp_path: Path, init: str, family: str
) -> None:
    trained = moved(load_model(config_for(models / family, {"init": init, "r": 4}), device=CPU))
    expected = logps(trained.model)
    save_model(trained, tmp_path / "adapter")
    assert (logps(trained.model) - expected).abs().max().item() == 0.0  # saving changes nothing
    loaded = load_model(
        trained_model(config_for(models / family), str(tmp_path / "adapter")), device=CPU
    )
    assert (logps(loaded.model) - expected).abs().max().item() < 1e-5
    merged = merge_adapters(trained)
    save_model(merged, tmp_path / "merged")
    assert (plain_logps(tmp_path / "merged") - expected).abs().max().item() < 1e-5
    assert (expected - plain_logps(models / family)).abs().max().item() > 0.01


def test_adapters_are_saved_as_small_safetensors_that_name_their_model(
    models: Path, tmp_path: Path
) -> None:
    loaded = load_model(config_for(models / "llama", {"r": 4}), device=CPU)
    save_model(loaded, tmp_path / "adapter")
    names = {path.name for path in (tmp_path / "adapter").iterdir()}
    assert {"adapter_config.json", "adapter_model.safetensors"} <= names
    assert not {"model.safetensors", "pytorch_model.bin", "adapter_model.bin"} & names
    told = json.loads((tmp_path / "adapter" / "adapter_config.json").read_text())
    assert told["base_model_name_or_path"] == str((models / "llama").resolve())


def test_new_adapters_depend_on_the_seed_only(models: Path) -> None:
    first, again, other = (
        weight_sha256(load_model(config_for(models / "llama", {}), device=CPU, seed=seed).model)
        for seed in (3, 3, 4)
    )
    assert first == again
    assert first != other


def test_the_identity_is_the_models_own_unless_adapters_change_what_it_says(
    models: Path, tmp_path: Path
) -> None:
    plain = load_model(config_for(models / "llama"), device=CPU).identity.weight_sha256
    fresh = load_model(config_for(models / "llama", {}), device=CPU)
    assert fresh.identity.weight_sha256 == plain  # so the cached reference values serve both
    pissa = load_model(config_for(models / "llama", {"init": "pissa"}), device=CPU)
    assert pissa.identity.weight_sha256 != plain
    for name, seed in (("a", 1), ("b", 2)):
        save_model(
            moved(load_model(config_for(models / "llama", {}), device=CPU), seed=seed),
            tmp_path / name,
        )
    hashes = {
        load_model(
            config_for(models / "llama", adapter=str(tmp_path / name)), device=CPU
        ).identity.weight_sha256
        for name in ("a", "b")
    }
    assert len(hashes | {plain}) == 3


@pytest.mark.parametrize(
    ("dtype", "frozen"), [("bfloat16", torch.bfloat16), ("auto", torch.float32)]
)
def test_adapters_are_float32_whatever_the_frozen_weights_are(
    models: Path, dtype: str, frozen: torch.dtype
) -> None:
    # auto keeps the stored bfloat16 on a GPU, where it is fast, and widens it on this CPU.
    config = config_for(models / "bfloat16", {"modules_to_save": ["lm_head"]}, dtype=dtype)
    model = load_model(config, device=CPU).model
    dtypes = {parameter.requires_grad: parameter.dtype for parameter in model.parameters()}
    assert dtypes == {True: torch.float32, False: frozen}
    assert torch.isfinite(logps(model)).all()


def test_an_adapter_on_the_head_counts(models: Path) -> None:
    settings = {"target_modules": ["lm_head", "q_proj"], "r": 4}
    trained = moved(load_model(config_for(models / "llama", settings), device=CPU), by=0.3)
    model: Any = trained.model
    head, scorer = model.get_output_embeddings(), build_scorer(model)
    assert scorer.head_last
    assert (logps(trained.model) - own_logps(trained.model)).abs().max().item() < 1e-4
    without = own_logps(trained.model)
    head.lora_B["default"].weight.data.zero_()
    assert (without - own_logps(trained.model)).abs().max().item() > 0.01
    scorer(PROMPTS, COMPLETIONS, [0, 1]).logps.sum().backward()
    assert head.lora_B["default"].weight.grad.norm().item() > 0


def test_an_adapter_on_the_head_is_saved_without_the_head(models: Path, tmp_path: Path) -> None:
    settings = {"target_modules": ["lm_head", "q_proj"], "r": 4}
    trained = moved(load_model(config_for(models / "llama", settings), device=CPU))
    save_model(trained, tmp_path / "adapter")
    names = load_file(tmp_path / "adapter" / "adapter_model.safetensors")
    assert all("lora_" in name for name in names)
    loaded = load_model(
        trained_model(config_for(models / "llama"), str(tmp_path / "adapter")), device=CPU
    )
    assert (logps(loaded.model) - logps(trained.model)).abs().max().item() < 1e-5


def test_a_head_trained_whole_counts(models: Path) -> None:
    trained = moved(
        load_model(config_for(models / "llama", {"modules_to_save": ["lm_head"]}), device=CPU)
    )
    assert (logps(trained.model) - own_logps(trained.model)).abs().max().item() < 1e-5


@pytest.mark.parametrize(
    "settings",
    [
        {"target_modules": ["q_proj", "lm_head"]},
        {"target_modules": ["embed_tokens"]},
        {"modules_to_save": ["lm_head"]},
    ],
)
def test_the_head_of_a_tied_model_is_no_target(models: Path, settings: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=r"tied.*tie_word_embeddings=False"):
        load_model(config_for(models / "qwen3", settings), device=CPU)


@pytest.mark.parametrize(
    ("settings", "finding"),
    [
        ({"target_modules": ["query"]}, "q_proj"),
        ({"modules_to_save": ["header"]}, "'header'.*lm_head"),
        ({"init": "orthogonal", "r": 5}, "even"),
    ],
)
def test_settings_that_do_not_fit_the_model_are_refused(
    models: Path, settings: dict[str, Any], finding: str
) -> None:
    with pytest.raises(ConfigError, match=finding) as caught:
        load_model(config_for(models / "llama", settings), device=CPU)
    assert "\n" not in str(caught.value)


def test_layers_that_peft_refuses_are_told_with_those_there_are(tmp_path: Path) -> None:
    config = MambaConfig(vocab_size=512, hidden_size=16, num_hidden_layers=1, state_size=2)
    MambaForCausalLM(config).save_pretrained(tmp_path)
    tiny_tokenizer().save_pretrained(tmp_path)
    with pytest.raises(
        ConfigError, match=r"^model\.lora\.target_modules: .*out_proj.*in_proj"
    ) as caught:
        load_model(config_for(tmp_path, {}), device=CPU)
    assert "base_layer" not in str(caught.value)


@pytest.mark.parametrize("init", ["pissa", "olora"])
def test_a_start_from_the_weights_has_at_most_their_rank(models: Path, init: str) -> None:
    found = r"model\.lora\.r: is 40, but with init .* is 32 for k_proj"
    with pytest.raises(ConfigError, match=found):
        load_model(config_for(models / "llama", {"init": init, "r": 40}), device=CPU)
    load_model(config_for(models / "llama", {"r": 40}), device=CPU)


def test_olora_is_refused_where_layers_are_transposed(models: Path) -> None:
    with pytest.raises(ConfigError, match="olora"):
        load_model(config_for(models / "gpt2", {"init": "olora"}), device=CPU)


@pytest.fixture
def adapter(models: Path, tmp_path: Path) -> Path:
    save_model(
        moved(load_model(config_for(models / "llama", {"r": 4}), device=CPU)), tmp_path / "adapter"
    )
    return tmp_path / "adapter"


def without_weights(folder: Path) -> None:
    (folder / "adapter_model.safetensors").unlink()


def with_pickles(folder: Path) -> None:
    (folder / "adapter_model.safetensors").rename(folder / "adapter_model.bin")


def with_cut_weights(folder: Path) -> None:
    path = folder / "adapter_model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])


def with_other_layers(folder: Path) -> None:
    path = folder / "adapter_model.safetensors"
    tensors = {n.replace("layers.1", "layers.7"): t for n, t in load_file(path).items()}
    save_file(tensors, path)


def without_config(folder: Path) -> None:
    (folder / "adapter_config.json").unlink()


def with_a_broken_config(folder: Path) -> None:
    (folder / "adapter_config.json").write_text("{")


@pytest.mark.parametrize(
    ("damage", "finding"),
    [
        (without_weights, "no weights"),
        (with_pickles, "pickle"),
        (with_cut_weights, "cannot be loaded"),
        (with_other_layers, "another model"),
        (without_config, "adapter_config.json"),
        (with_a_broken_config, "cannot be loaded"),
    ],
)
def test_a_damaged_adapter_is_refused_in_one_line(
    models: Path, adapter: Path, damage: Any, finding: str
) -> None:
    damage(adapter)
    with pytest.raises(ModelError, match=finding) as caught:
        load_model(config_for(models / "llama", adapter=str(adapter)), device=CPU)
    assert "\n" not in str(caught.value)
    assert str(adapter) in str(caught.value)


def test_an_adapter_of_a_wider_model_is_refused(adapter: Path, tmp_path: Path) -> None:
    save_tiny(tmp_path / "wide", "llama", hidden_size=128)
    with pytest.raises(ModelError, match="cannot be loaded"):
        load_model(config_for(tmp_path / "wide", adapter=str(adapter)), device=CPU)


def test_an_adapter_whose_model_is_gone_says_so(adapter: Path, tmp_path: Path) -> None:
    config = json.loads((adapter / "adapter_config.json").read_text())
    config["base_model_name_or_path"] = str(tmp_path / "gone")
    (adapter / "adapter_config.json").write_text(json.dumps(config))
    with pytest.raises(ModelError, match=r"gone.*model\.adapter="):
        load_model(config_for(adapter), device=CPU)


def test_an_adapter_may_be_the_reference(models: Path, adapter: Path) -> None:
    config = config_for(models / "llama", reference=str(adapter))
    reference = load_reference(config, load_model(config, device=CPU).tokenizer, device=CPU)
    expected = load_model(config_for(models / "llama", adapter=str(adapter)), device=CPU)
    assert torch.equal(logps(reference.model), logps(expected.model))
    assert not any(p.requires_grad for p in reference.model.parameters())


@pytest.mark.parametrize("quantization", ["nf4", "int8"])
def test_a_quantized_model_is_scored_and_its_adapters_get_a_gradient(
    models: Path, tmp_path: Path, quantization: str
) -> None:
    config = config_for(models / "llama", {"r": 4}, quantization=quantization)
    loaded = load_model(config, device=CPU)
    quantized = {
        p.dtype for n, p in loaded.model.named_parameters() if n.endswith("base_layer.weight")
    }
    assert quantized <= {torch.uint8, torch.int8}
    # 4 bits leave about 3 digits of a log-prob of these random weights, 8 bits more.
    difference = (logps(loaded.model) - plain_logps(models / "llama")).abs().max().item()
    assert 0 < difference < 0.3
    build_scorer(loaded.model)(PROMPTS, COMPLETIONS, [0, 1]).logps.sum().backward()
    gradients = [p.grad for p in loaded.model.parameters() if p.requires_grad]
    assert any(g is not None and g.norm().item() > 0 for g in gradients)
    expected = logps(moved(loaded).model)
    save_model(loaded, tmp_path / "adapter")
    again = load_model(trained_model(config, str(tmp_path / "adapter")), device=CPU)
    assert (logps(again.model) - expected).abs().max().item() < 1e-2


def test_damage_to_a_copy_leaves_the_original(models: Path, tmp_path: Path) -> None:
    before = (models / "llama" / "model.safetensors").read_bytes()
    copy = Path(shutil.copytree(models / "llama", tmp_path / "copy"))
    loaded = moved(load_model(config_for(copy, {"init": "pissa"}), device=CPU))
    save_model(merge_adapters(loaded), tmp_path / "merged")
    assert (copy / "model.safetensors").read_bytes() == before
