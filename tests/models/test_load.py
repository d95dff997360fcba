"""A model folder is loaded whole, or refused in one line that says what to do."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, Gemma2Config

from thumbs.config import ModelConfig
from thumbs.errors import ModelError
from thumbs.models.identity import weight_sha256
from thumbs.models.load import load_model, load_reference, load_tokenizer, pick_device
from thumbs.models.tiny import save_tiny, tiny_model, tiny_tokenizer

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny(tmp_path_factory.mktemp("models") / "llama", "llama")


@pytest.fixture
def folder(saved: Path, tmp_path: Path) -> Path:
    """A copy of the model folder, to be damaged."""
    return Path(shutil.copytree(saved, tmp_path / "model"))


def config_for(path: Path, **changes: Any) -> ModelConfig:
    return ModelConfig.model_validate({"name_or_path": str(path), **changes})


def without_weights(folder: Path) -> None:
    (folder / "model.safetensors").unlink()


def with_pickles_only(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")


def without_config(folder: Path) -> None:
    (folder / "config.json").unlink()


def without_tokenizer(folder: Path) -> None:
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (folder / name).unlink()


def with_cut_weights(folder: Path) -> None:
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])


def without_one_weight(folder: Path) -> None:
    tensors = load_file(folder / "model.safetensors")
    del tensors["model.layers.1.mlp.up_proj.weight"]
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


def with_unknown_architecture(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "model_type": "no_such_model"}))


def with_weights_of_another_shape(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "intermediate_size": 96}))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (without_config, "holds no config.json, so it is not a model folder"),
        (without_weights, r"holds no weights \(\*.safetensors\)"),
        (with_pickles_only, r"holds pickle weights only \(pytorch_model.bin\).*Convert them once"),
        (without_tokenizer, "holds no tokenizer .*--set model.tokenizer=FOLDER"),
        (with_cut_weights, r"model\.safetensors: is cut or damaged"),
        (without_one_weight, "1 weights are missing.*'model.layers.1.mlp.up_proj.weight'"),
        (with_weights_of_another_shape, "the model cannot be loaded: .*mismatch"),
        (with_unknown_architecture, "cannot be loaded: .*no_such_model"),
    ],
)
def test_a_folder_that_is_not_whole_is_refused(
    folder: Path, damage: Callable[[Path], None], message: str
) -> None:
    damage(folder)
    with pytest.raises(ModelError, match=message) as error:
        load_model(config_for(folder), device=CPU)
    assert str(error.value).startswith(str(folder))
    assert "\n" not in str(error.value)


def test_what_is_no_folder_is_refused_before_anything_is_asked_of_the_hub(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="--model: is missing"):
        load_model(ModelConfig(), device=CPU)
    with pytest.raises(ModelError, match="no such folder"):
        load_model(config_for(tmp_path / "absent"), device=CPU)
    file = tmp_path / "weights.safetensors"
    file.write_bytes(b"")
    with pytest.raises(ModelError, match=r"is a file\. Give the folder"):
        load_model(config_for(file), device=CPU)


def test_a_tokenizer_with_more_tokens_than_the_model_embeds_is_refused(
    saved: Path, tmp_path: Path
) -> None:
    tokenizer = tiny_tokenizer()
    tokenizer.add_tokens([f"<new{i}>" for i in range(513 - len(tokenizer))])
    tokenizer.save_pretrained(tmp_path / "larger")
    with pytest.raises(ModelError, match="the tokenizer has 513 tokens but the model embeds 512"):
        load_model(config_for(saved, tokenizer=str(tmp_path / "larger")), device=CPU)


def test_a_tokenizer_comes_from_a_folder_that_holds_nothing_else(
    folder: Path, tmp_path: Path
) -> None:
    (tmp_path / "only").mkdir()
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (folder / name).rename(tmp_path / "only" / name)
    loaded = load_model(config_for(folder, tokenizer=str(tmp_path / "only")), device=CPU)
    assert loaded.tokenizer("the dog").input_ids == tiny_tokenizer()("the dog").input_ids


def test_the_loaded_weights_are_those_that_were_saved(saved: Path) -> None:
    loaded = load_model(config_for(saved), device=CPU)
    assert not loaded.model.training
    assert loaded.identity.weight_sha256 == weight_sha256(tiny_model("llama"))
    assert loaded.identity.dtype == "float32"


def test_on_a_cpu_policy_and_reference_are_float32_whatever_is_stored(tmp_path: Path) -> None:
    half = save_tiny(tmp_path / "half", "llama", dtype=torch.bfloat16)
    config = config_for(half, reference=str(half))
    assert load_model(config, device=CPU).model.dtype == torch.float32
    reference = load_reference(config, load_tokenizer(config), device=CPU)
    assert reference.model.dtype == torch.float32  # a CPU is slow at bfloat16
    assert reference.identity.dtype == "float32"
    assert not any(weight.requires_grad for weight in reference.model.parameters())
    mixed = load_model(config_for(half, dtype="mixed_bfloat16"), device=CPU)
    assert mixed.model.dtype == torch.float32
    wide = config_for(half, dtype="float64")
    assert load_model(wide, device=CPU).identity.dtype == "float64"


def test_a_reference_that_numbers_tokens_otherwise_is_refused(saved: Path, tmp_path: Path) -> None:
    policy = load_tokenizer(config_for(saved))
    other = tiny_tokenizer(["zzyzx qwop vroom", "jumbled hyphens and kayaks"])
    folder = save_tiny(tmp_path / "other", "llama", tokenizer=other)
    config = config_for(saved, reference=str(folder))
    with pytest.raises(ModelError, match=r"^model\.reference: .*other gives .* another number"):
        load_reference(config, policy, device=CPU)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (folder / name).unlink()  # one without a tokenizer reads what the policy's gives it
    load_reference(config, policy, device=CPU)


def test_the_code_of_a_model_is_part_of_what_it_is(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    config |= {"auto_map": {"AutoModelForCausalLM": "modeling_x.XModel"}}
    (folder / "config.json").write_text(json.dumps(config))
    code = "from transformers import LlamaForCausalLM\n\nclass XModel(LlamaForCausalLM):\n    0\n"
    hashes = []
    for note in ("", "# scaled otherwise\n"):
        (folder / "modeling_x.py").write_text(code + note)
        loaded = load_model(config_for(folder, trust_remote_code=True), device=CPU)
        assert type(loaded.model).__name__ == "XModel"
        hashes.append(loaded.identity.sha256)
    assert hashes[0] != hashes[1]


def test_the_hash_of_the_weights_changes_with_one_weight_or_the_dtype() -> None:
    model = tiny_model("gpt2")
    before = weight_sha256(model)
    assert weight_sha256(tiny_model("gpt2")) == before
    with torch.no_grad():
        next(model.parameters())[3, 5] += 1e-6
    assert weight_sha256(model) != before
    assert weight_sha256(tiny_model("gpt2", dtype=torch.float64)) != before


@pytest.mark.parametrize("family", ["gpt2", "llama"])
def test_pitfall_19_dropout_is_off_even_in_training_mode(tmp_path: Path, family: str) -> None:
    gpt2 = {"resid_pdrop": 0.5, "embd_pdrop": 0.5, "attn_pdrop": 0.5}
    changes: dict[str, Any] = gpt2 if family == "gpt2" else {"attention_dropout": 0.5}
    folder = save_tiny(tmp_path / family, family, **changes)
    model = load_model(config_for(folder), device=CPU).model
    ids = torch.arange(5, 25)[None]
    with torch.no_grad():
        evaluated = model(input_ids=ids).logits
        trained = model.train()(input_ids=ids).logits
    assert torch.equal(trained, evaluated)


def test_a_model_without_sdpa_is_loaded_with_eager_attention(saved: Path, tmp_path: Path) -> None:
    shape: dict[str, Any] = {"hidden_size": 32, "num_attention_heads": 2, "num_key_value_heads": 2}
    gemma2 = Gemma2Config(
        vocab_size=512, intermediate_size=64, num_hidden_layers=2, head_dim=16, **shape
    )
    build: Any = AutoModelForCausalLM.from_config
    build(gemma2).save_pretrained(tmp_path)
    config = config_for(tmp_path, tokenizer=str(saved))
    assert load_model(config, device=CPU).model.config._attn_implementation == "eager"
    # sdpa has no soft cap of attention scores: asked for by name, it is refused.
    refused = config_for(tmp_path, tokenizer=str(saved), attn_implementation="sdpa")
    with pytest.raises(ModelError, match="does not support an attention implementation"):
        load_model(refused, device=CPU)
    assert load_model(config_for(saved), device=CPU).model.config._attn_implementation == "sdpa"


def test_the_device_is_the_gpu_where_there_is_one() -> None:
    assert pick_device().type == ("cuda" if torch.cuda.is_available() else "cpu")
