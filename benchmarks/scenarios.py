"""What `make bench` compares: the scenarios, the settings of each side, models and rows.

In: a scenario's name, a number of rows. Out: settings for both trainers, a model folder, feedback
files. Both sides get the same rows, model, batch, learning rate, dtype and threads.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from transformers import LlamaConfig

from benchmarks.measured import ROOT
from benchmarks.synthetic_text import pair_lines
from thumbs.feedback.file import read_feedback, write_feedback
from thumbs.feedback.importing import import_feedback
from thumbs.feedback.record import Feedback
from thumbs.models.tiny import llama_25m, random_model, train_bpe

PAIRS = ROOT.parent / "shared" / "data" / "hh-harmless" / "pairs.jsonl"
NUM_TEXTS = 1_200  # pairs the tokenizer is trained on: all of hh-harmless
VOCAB_SIZE = 16_000  # of the tokenizer
MAX_TOKENS = 1_024  # TRL's default; no row of the scenarios is longer, so nothing is cut
BATCH_ROWS = 16
SWEEP_ROWS = 48
FORWARD_ROWS = (2, 4, 8)  # swept for each peer; TRL takes no single row
DEFAULT_FORWARD_ROWS = 4
LEARNING_RATE = 1e-4  # the models are random and small; both trainers get the same
LORA_RANK = 16
SEED = 0
THREADS = 2
# Every trainer here makes the same tokens of it: nothing follows the end of a turn (TRL 1.16 gives
# such text loss), the end is the end token (TRL 0.24 appends one else), and none opens the text.
TEMPLATE = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)


@dataclass(frozen=True, kw_only=True)
class Scenario:
    """One comparison. follows_losses: whether the loss curves are compared, too."""

    name: str
    title: str
    in_bfloat16: bool = True
    lora_rank: int | None = None
    has_one_answer: bool = False
    has_large_vocabulary: bool = False
    has_default_peer: bool = False
    follows_losses: bool = False


SCENARIOS = {
    scenario.name: scenario
    for scenario in (
        Scenario(
            name="bf16",
            title="products in bfloat16, weights in float32",
            has_default_peer=True,
            follows_losses=True,
        ),
        Scenario(name="fp32", title="float32", in_bfloat16=False, follows_losses=True),
        Scenario(name="lora", title=f"adapters of rank {LORA_RANK}", lora_rank=LORA_RANK),
        Scenario(name="one-answer", title="one answer per prompt", has_one_answer=True),
        Scenario(name="large-vocab", title="151,936 words", has_large_vocabulary=True),
    )
}


@dataclass(frozen=True)
class Peer:
    """A TRL version."""

    key: str
    title: str
    prompt_limit: bool  # cuts prompts by a limit of its own


PEERS = (
    Peer("trl116", "TRL 1.16", prompt_limit=False),
    Peer("trl024", "TRL 0.24", prompt_limit=True),
)


@dataclass(frozen=True)
class Inputs:
    """The files of a scenario. few: the first rows, for the sweep."""

    model: Path
    feedback: Path
    few: Path
    config: LlamaConfig
    parameters: int
    source: str


def model_config(scenario: Scenario) -> LlamaConfig:
    """25M parameters with 32,000 words, or 43M with 151,936, most of them in the embedding."""
    if not scenario.has_large_vocabulary:
        return llama_25m()
    changes = {
        "hidden_size": 256,
        "intermediate_size": 640,
        "num_hidden_layers": 6,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 64,
    }
    return LlamaConfig(**{**llama_25m(vocab_size=151_936).to_dict(), **changes})


def save_inputs(scenario: Scenario, folder: Path, num_rows: int) -> Inputs:
    """Write the model, the feedback file and its first rows."""
    texts, source = _pair_lines()
    model, feedback, few = (folder / name for name in ("model", "feedback.jsonl", "few.jsonl"))
    config = model_config(scenario)
    parameters = save_model(model, config, texts)
    write_rows(feedback, texts, num_rows, one_answer=scenario.has_one_answer)
    first = islice(read_feedback(feedback), min(SWEEP_ROWS, num_rows))
    write_feedback(few, first)
    return Inputs(model, feedback, few, config, parameters, source)


def save_model(folder: Path, config: Any, pairs: Sequence[str]) -> int:
    """Write a random model with a tokenizer of the pairs' texts; its number of parameters."""
    texts = [text for line in pairs for text in json.loads(line).values()]
    tokenizer = train_bpe(texts, VOCAB_SIZE, chat_template=TEMPLATE)
    tokenizer.eos_token, tokenizer.bos_token = "<|im_end|>", None
    tokenizer.save_pretrained(folder)
    model = random_model(config, seed=SEED)
    model.save_pretrained(folder)
    return sum(parameter.numel() for parameter in model.parameters())


def write_rows(feedback: Path, pairs: Sequence[str], num_rows: int, *, one_answer: bool) -> None:
    """The first `num_rows` answers, both of each prompt, or of one the better, of the next the
    worse."""
    pair_file = feedback.with_name("pairs.jsonl")
    pair_file.write_text("".join(filter(_has_answers, pairs)), encoding="utf-8")
    import_feedback([pair_file], feedback)
    records = read_feedback(feedback)
    write_feedback(feedback, list(islice(_one_each(records) if one_answer else records, num_rows)))


def thumbs_settings(scenario: Scenario) -> dict[str, Any]:
    """Dotted keys of thumbs' configuration; all else is its default."""
    settings: dict[str, Any] = {
        "model.dtype": "mixed_bfloat16" if scenario.in_bfloat16 else "float32",
        "data.heldout_fraction": 0,  # so that both sides train on every row
        "data.max_tokens": MAX_TOKENS,
        "train.batch_size": BATCH_ROWS,
        "train.learning_rate": LEARNING_RATE,
        "train.schedule": "constant",
        "train.warmup_fraction": 0,
        "train.seed": SEED,
    }
    if scenario.lora_rank:
        settings["model.lora.r"] = scenario.lora_rank
    return settings


def trl_settings(
    scenario: Scenario, peer: Peer, forward_rows: int, *, default: bool = False
) -> dict[str, Any]:
    """KTOConfig's settings. default: checkpointing and the reference in every step, as it comes."""
    settings: dict[str, Any] = {
        "per_device_train_batch_size": forward_rows,
        "gradient_accumulation_steps": BATCH_ROWS // forward_rows,
        "num_train_epochs": 1,
        "max_length": MAX_TOKENS,
        "learning_rate": LEARNING_RATE,
        "lr_scheduler_type": "constant",  # the versions round the steps of a warm-up differently
        "bf16": scenario.in_bfloat16,
        "logging_steps": 1,
        "disable_tqdm": True,
        "seed": SEED,
    }
    if peer.prompt_limit:
        settings["max_prompt_length"] = MAX_TOKENS - 1
    if not default:
        settings |= {"precompute_ref_log_probs": True, "gradient_checkpointing": False}
    return settings


def _pair_lines() -> tuple[list[str], str]:
    """Lines of pairs and where they come from."""
    if PAIRS.is_file():
        with PAIRS.open(encoding="utf-8") as lines:
            return list(islice(lines, NUM_TEXTS)), "hh-harmless"
    return list(pair_lines(NUM_TEXTS, SEED)), "made-up words of the lengths of hh-harmless"


def _has_answers(line: str) -> bool:
    answers = (text.rpartition("\n\nAssistant:")[2] for text in json.loads(line).values())
    return all(answer.strip() for answer in answers)


def _one_each(records: Iterator[Feedback]) -> Iterator[Feedback]:
    """Of each prompt the first answer whose label is the one that is due; labels alternate."""
    seen: set[str] = set()
    is_due = True
    for record in records:
        prompt = json.dumps(record.prompt)
        if prompt not in seen and record.label is is_due:
            seen.add(prompt)
            is_due = not is_due
            yield record
