"""Answers to the prompts of a comparison, from a model here or from a server.

In: prompts, a loaded model or a server, how to sample. Out: `samples` answers to each prompt, side
by side. What was generated is kept in a journal and not generated again.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import date
from typing import Any

from thumbs.data.templates import (
    ChatTemplate,
    adds_bos,
    allowed_templates,
    load_template,
    render_messages,
)
from thumbs.errors import ConfigError, ModelError
from thumbs.evaluate.chat_server import ChatServer
from thumbs.evaluate.journal import Journal, content_key
from thumbs.evaluate.paid_work import Outcome, do_paid
from thumbs.evaluate.prompts_file import PromptItem
from thumbs.feedback.record import Text
from thumbs.models.generate import context_of, generate, stop_ids_of
from thumbs.models.load import LoadedModel
from thumbs.progress import console


@dataclass(frozen=True)
class Sampling:
    """How answers are drawn: temperature 0 is greedy; top_p in (0, 1].

    samples: answers to each prompt. batch_size: prompts per forward; performance only.
    """

    temperature: float = 0.0
    top_p: float = 1.0
    max_new_tokens: int = 512
    seed: int = 0
    samples: int = 1
    batch_size: int = 16

    def settings(self) -> dict[str, Any]:
        """What decides an answer."""
        names = ("temperature", "top_p", "max_new_tokens", "seed")
        return {name: value for name, value in asdict(self).items() if name in names}


def local_answers(
    loaded: LoadedModel,
    items: Sequence[PromptItem],
    sampling: Sampling,
    journal: Journal,
    *,
    chat_template: str | None,
    today: date,
) -> list[str]:
    """Answers of a model in memory. Plain text is continued; messages go through the template.

    Raises:
        ConfigError: messages, and no template. ModelError: a prompt that does not fit the model.
    """
    tokenizer = loaded.tokenizer
    template = load_template(chat_template, tokenizer, today=today)
    if template is not None and isinstance(items[0].prompt, str):
        console.print(
            f"{loaded.identity.name_or_path}: prompts are plain text and are continued as they "
            "stand; --chat makes them a user's messages",
            markup=False,
        )
    prompts = [_ids(item.prompt, tokenizer, template) for item in items]
    _require_room(loaded, items, prompts, sampling.max_new_tokens)
    prompts = [ids for ids in prompts for _ in range(sampling.samples)]
    stops = stop_ids_of(loaded.model, tokenizer) | _turn_ends(tokenizer, template)
    model = [loaded.identity.sha256, loaded.identity.dtype, sorted(stops), sampling.settings()]
    # The place decides the random numbers, so it belongs to the key.
    keys = [content_key("here", model, place, ids) for place, ids in enumerate(prompts)]
    if any(journal.get(key) is None for key in keys):
        found = generate(
            loaded.model,
            tokenizer,
            prompts,
            max_new_tokens=sampling.max_new_tokens,
            temperature=sampling.temperature,
            top_p=sampling.top_p,
            seed=sampling.seed,
            batch_size=sampling.batch_size,
            stop_ids=stops,
        )
        texts = tokenizer.batch_decode(found, skip_special_tokens=True)
        for key, text in zip(keys, texts, strict=True):
            if journal.get(key) is None:
                journal.add(key, {"text": text.strip()})
    return [str((journal.get(key) or {})["text"]) for key in keys]


def server_answers(
    server: ChatServer,
    items: Sequence[PromptItem],
    sampling: Sampling,
    journal: Journal,
    *,
    concurrency: int,
) -> list[str | None]:
    """Answers of a server; plain text goes as a user's message. None: the server refused it.

    Raises:
        Interrupted: the server gave no reply; what has come is kept.
    """

    def ask(asked: tuple[Text, int]) -> Outcome:
        prompt, number = asked
        reply = server.reply(
            [{"role": "user", "content": prompt}] if isinstance(prompt, str) else prompt,
            temperature=sampling.temperature,
            top_p=sampling.top_p,
            max_tokens=sampling.max_new_tokens,
            seed=sampling.seed + number,
        )
        if reply.refusal:
            return Outcome({}, reply.refusal)
        tokens = {
            "prompt_tokens": reply.prompt_tokens,
            "completion_tokens": reply.completion_tokens,
        }
        return Outcome({"text": reply.text.strip(), **tokens})

    model = [server.endpoint, server.model, dict(server.options), sampling.settings()]
    wanted = [(item.prompt, number) for item in items for number in range(sampling.samples)]
    keys = [content_key("server", model, *asked) for asked in wanted]
    refusals = do_paid(
        ask,
        dict(zip(keys, wanted, strict=True)),
        journal,
        concurrency=concurrency,
        title=f"answers of {server.model}",
        unit="answers",
        give_up=server.stop.set,
    )
    return [None if key in refusals else str((journal.get(key) or {})["text"]) for key in keys]


def _ids(prompt: Text, tokenizer: Any, template: ChatTemplate | None) -> list[int]:
    if isinstance(prompt, str):
        bos = tokenizer("x").input_ids[:1] if adds_bos(tokenizer) else []
        return [*bos, *tokenizer(prompt, add_special_tokens=False).input_ids]
    if template is None:
        raise ConfigError(
            "--chat-template: the tokenizer has no template, but the prompts are messages; allowed "
            f"are {allowed_templates()}"
        )
    text = render_messages(prompt, tokenizer, template, add_generation_prompt=True)
    return list(tokenizer(text, add_special_tokens=False).input_ids)


def _require_room(
    loaded: LoadedModel,
    items: Sequence[PromptItem],
    prompts: Sequence[Sequence[int]],
    max_new_tokens: int,
) -> None:
    context = context_of(loaded.model)
    if context is None:
        return
    too_long = [
        (item.place, len(ids))
        for item, ids in zip(items, prompts, strict=True)
        if len(ids) + max_new_tokens > context
    ]
    if too_long:
        place, length = too_long[0]
        others = f", and {len(too_long) - 1:,} more are too long" if too_long[1:] else ""
        raise ModelError(
            f"{place}: the prompt has {length:,} tokens, which with {max_new_tokens:,} new ones "
            f"exceed the context of {loaded.identity.name_or_path}, {context:,} tokens{others}. "
            "Shorten it, leave it out, or lower --max-new-tokens."
        )


def _turn_ends(tokenizer: Any, template: ChatTemplate | None) -> set[int]:
    """The tokens with which the template ends an assistant's turn."""
    if template is None:
        return set()
    known = tokenizer.get_added_vocab().items()
    return {number for token, number in known if template.turn_end.fullmatch(token)}
