"""Make the demo's embedded model and feedback log: `python -m thumbs.demo.pretrain`.

In: a seed and sizes. Out: a folder with
    model/                            a small Llama and its tokenizer, float16 safetensors
    feedback-history-export.json.gz   votes on its own answers, as Open WebUI exports them

The model learns the task from right solutions and then, for the last tenth of its steps, from text
of mixed quality: about a quarter of the solutions there are careless (careless.py). So it samples
wrong answers about as often, and some more where it errs on its own, though it knows better: its
likeliest answer is mostly right. Each vote of the log is the checker's verdict on a sampled answer;
then one vote in ten is flipped. One torch thread, so that a machine gives the same bytes again.
"""

import argparse
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Protocol

import torch
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM

from thumbs.demo.careless import careless_solution
from thumbs.demo.embedded import ASSETS, feedback_log, model_folder
from thumbs.demo.feedback_log import RatedChat, write_feedback_log
from thumbs.demo.task import (
    Problem,
    distinct_problems,
    is_correct,
    problems,
    prompt_messages,
)
from thumbs.demo.tokenizer import TURN_END, build_tokenizer
from thumbs.models.generate import generate
from thumbs.progress import progress_bar

MODEL_ID = "wordsums-1m"
CONTEXT = 1024  # tokens
VOCAB_SIZE = 768
NUM_TOKENIZER_TEXTS = 8000
MAX_NEW_TOKENS = 40  # the longest right answer has 27

# Settings found by trial on this task. Muon (its rate is for orthogonalised updates) reaches in
# 1,000 steps what AdamW alone has not reached in 3,000.
BATCH_SIZE = 32
MUON_LEARNING_RATE = 0.02
ADAMW_LEARNING_RATE = 3e-3
WEIGHT_DECAY = 0.01
WARMUP_STEPS = 100
STEPS = 2000
MIXED_QUALITY_SHARE = 0.1  # of the steps, the last ones
CARELESS_SHARE = 0.27  # of the solutions there

RECORDS = 3000
FLIPPED_SHARE = 0.1
REGENERATED_SHARE = 0.25  # of the chats have a second answer, rated as well
IGNORED = -100  # cross_entropy's own mark for positions without loss

Tokens = tuple[list[int], list[int]]  # prompt, completion
Optimizers = list[tuple[torch.optim.Optimizer, float]]  # each with its peak learning rate


@dataclass(frozen=True)
class Shape:
    """The sizes of a model; the default is the embedded one's, of 1M parameters."""

    hidden: int = 128
    intermediate: int = 384
    layers: int = 4
    heads: int = 4


EMBEDDED = Shape()


class Keeper(Protocol):
    """Keeps a pretraining on its way, so that a killed one goes on."""

    def begin(self, model: Any, optimizers: Optimizers) -> int:
        """Put both where they were left; the number of steps they have done."""

    def after(self, steps: int, model: Any, optimizers: Optimizers) -> None:
        """Called after every step with the number of those done."""


def main(arguments: list[str] | None = None) -> None:
    """Write the model, then the log of answers sampled from the model as written."""
    parser = argparse.ArgumentParser(prog="python -m thumbs.demo.pretrain", description=__doc__)
    parser.add_argument("--out", type=Path, default=ASSETS)
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--records", type=int, default=RECORDS, help="votes in the log")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    tokenizer = make_tokenizer(options.seed)
    model = pretrain(tokenizer, steps=options.steps, seed=options.seed)
    folder = model_folder(options.out)
    model.half().save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    stored = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    chats = rate_answers(stored, tokenizer, records=options.records, seed=options.seed)
    write_feedback_log(feedback_log(options.out), chats, model_id=MODEL_ID, seed=options.seed)


def make_tokenizer(seed: int) -> Any:
    """Learn the tokenizer from the first pretraining problems."""
    texts = (
        f"system\nuser\n{problem.question}\nassistant\n{problem.solution}\n"
        for problem in islice(problems("pretraining", seed), NUM_TOKENIZER_TEXTS)
    )
    return build_tokenizer(texts, vocab_size=VOCAB_SIZE, context=CONTEXT)


def muon_and_adamw(model: Any) -> Optimizers:
    """Muon for the layers' matrices, AdamW for the rest."""
    matrices, rest = matrices_and_rest(model)
    muon = torch.optim.Muon(matrices, weight_decay=WEIGHT_DECAY, adjust_lr_fn="original")
    return [(muon, MUON_LEARNING_RATE), adamw(rest, ADAMW_LEARNING_RATE)]


def adamw(weights: Any, rate: float) -> tuple[torch.optim.Optimizer, float]:
    """AdamW with the settings of the pretraining, and its peak rate."""
    return torch.optim.AdamW(weights, betas=(0.9, 0.98), weight_decay=WEIGHT_DECAY), rate


def matrices_and_rest(model: Any) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
    """The matrices of the layers, and all other weights."""
    layers = [p for p in model.model.layers.parameters() if p.ndim == 2]
    of_layers = set(map(id, layers))
    return layers, [p for p in model.parameters() if id(p) not in of_layers]


def pretrain(
    tokenizer: Any,
    *,
    steps: int,
    seed: int,
    shape: Shape = EMBEDDED,
    optimizers_of: Callable[[Any], Optimizers] = muon_and_adamw,
    keeper: Keeper | None = None,
) -> Any:
    """Train a fresh model on worked solutions; loss on the completions only."""
    torch.manual_seed(seed)
    model: Any = LlamaForCausalLM(_architecture(tokenizer, shape))
    optimizers = optimizers_of(model)
    first = keeper.begin(model, optimizers) if keeper else 0
    batches = islice(_batches(tokenizer, steps, seed), first, steps)
    with progress_bar("pretrain", steps - first, "steps") as bar:
        for step, batch in enumerate(batches, start=first):
            loss: Any = _loss(model, batch)
            model.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            for optimizer, peak in optimizers:
                optimizer.param_groups[0]["lr"] = peak * _share_of_peak(step, steps)
                optimizer.step()
            bar.advance(1, f"loss {loss.item():.3f}")
            if keeper:
                keeper.after(step + 1, model, optimizers)
    return model.eval()


def rate_answers(model: Any, tokenizer: Any, *, records: int, seed: int) -> list[RatedChat]:
    """Sample answers to the log's problems, vote by the checker, flip one vote in ten."""
    asked = _asked(records, seed)
    prompts = [prompt_ids(tokenizer, problem) for problem in asked]
    # A seed of its own, so that no problem of a test is answered with the log's random numbers.
    answers = generate(
        model, tokenizer, prompts, max_new_tokens=MAX_NEW_TOKENS, seed=seed + 1, batch_size=128
    )
    texts = tokenizer.batch_decode(answers, skip_special_tokens=True)
    flipped = flipped_votes(records, seed)
    chats: list[RatedChat] = []
    for i, (problem, text) in enumerate(zip(asked, texts, strict=True)):
        vote = is_correct(problem, text) != (i in flipped)
        if i > 0 and asked[i - 1] is problem:
            chats[-1].answers.append(text)
            chats[-1].votes.append(vote)
        else:
            chats.append(RatedChat(problem.question, [text], [vote]))
    return chats


def flipped_votes(records: int, seed: int) -> set[int]:
    """Return the positions, in the log's order, of the votes that contradict the checker."""
    rng = random.Random(f"flips:{seed}")
    return set(rng.sample(range(records), round(FLIPPED_SHARE * records)))


def prompt_ids(tokenizer: Any, problem: Problem) -> list[int]:
    """Return the token ids that ask `problem` and open the assistant's turn."""
    text = tokenizer.apply_chat_template(
        prompt_messages(problem), add_generation_prompt=True, tokenize=False
    )
    ids: list[int] = tokenizer(text, add_special_tokens=False)["input_ids"]
    return ids


def _asked(records: int, seed: int) -> list[Problem]:
    """Return the problem of each answer; one that is regenerated stands twice in a row."""
    rng = random.Random(f"regenerated:{seed}")
    asked: list[Problem] = []
    for problem in distinct_problems("log", records, seed):
        asked += [problem] * (2 if rng.random() < REGENERATED_SHARE else 1)
    return asked[:records]


def _architecture(tokenizer: Any, shape: Shape) -> LlamaConfig:
    return LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=shape.hidden,
        intermediate_size=shape.intermediate,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.heads,
        max_position_embeddings=CONTEXT,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )


def _share_of_peak(step: int, steps: int) -> float:
    """Warm up, hold, and fall linearly to 0 over the second half."""
    return min(1.0, (step + 1) / WARMUP_STEPS, 2 * (1 - step / steps))


def _batches(tokenizer: Any, steps: int, seed: int) -> Iterator[list[Tokens]]:
    """Yield batches of solutions of similar length, shuffled within pools of 16 batches."""
    solutions = _solutions(steps, seed)
    rng = random.Random(seed)
    while True:
        pool = [
            (prompt_ids(tokenizer, problem), _completion_ids(tokenizer, solution))
            for problem, solution in islice(solutions, 16 * BATCH_SIZE)
        ]
        pool.sort(key=lambda tokens: len(tokens[0]) + len(tokens[1]))
        batches = [pool[i : i + BATCH_SIZE] for i in range(0, len(pool), BATCH_SIZE)]
        rng.shuffle(batches)
        yield from batches


def _solutions(steps: int, seed: int) -> Iterator[tuple[Problem, str]]:
    """Yield problems with right solutions, then, from the last tenth on, some careless ones."""
    rng = random.Random(f"careless:{seed}")
    first_mixed = round((1 - MIXED_QUALITY_SHARE) * steps) * BATCH_SIZE
    stream = islice(problems("pretraining", seed), NUM_TOKENIZER_TEXTS, None)
    for i, problem in enumerate(stream):
        is_careless = i >= first_mixed and rng.random() < CARELESS_SHARE
        yield problem, careless_solution(problem, rng) if is_careless else problem.solution


def _completion_ids(tokenizer: Any, solution: str) -> list[int]:
    ids: list[int] = tokenizer(solution + TURN_END, add_special_tokens=False)["input_ids"]
    return ids


def _loss(model: Any, batch: list[Tokens]) -> torch.Tensor:
    """Return the mean negative log-likelihood, in nats, of the completion tokens."""
    longest = max(len(prompt) + len(completion) for prompt, completion in batch)
    rows, targets = [], []
    for prompt, completion in batch:
        padding = longest - len(prompt) - len(completion)
        rows.append(prompt + completion + [0] * padding)
        targets.append([IGNORED] * len(prompt) + completion + [IGNORED] * padding)
    # Right padding under a causal mask: no token of a row sees its padding.
    hidden = model.model(torch.tensor(rows)).last_hidden_state[:, :-1]
    target = torch.tensor(targets)[:, 1:]
    has_loss = target != IGNORED
    logits = model.lm_head(hidden[has_loss])
    return torch.nn.functional.cross_entropy(logits, target[has_loss])


if __name__ == "__main__":
    main()
