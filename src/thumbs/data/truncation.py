"""Rows that are too long are cut: oldest turns, then the left of the prompt, then the answer.

In: the records of one prompt and their tokens. Out: tokens of at most max_tokens, or why there are
none; every cut is noted. Must not know: other prompts, batches.

Prompts are the same where their token ids are: were each row cut by its own length, the answers to
one prompt would seem to answer different ones. So the longest answer cuts the prompt for all.
"""

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, replace

from thumbs.data.templates import TemplateRefused
from thumbs.data.tokens import Setting, Tokens, encode_record, ids_and_offsets
from thumbs.feedback.record import Feedback

# Reasons a row was changed; chat.py has those of the text.
TURNS_DROPPED = "turns_dropped"  # oldest turns of the prompt
PROMPT_CUT = "prompt_cut"  # the left of a user message, or of a string prompt
COMPLETION_CUT = "completion_cut"  # the right of the completion: the row has no end token
# Reasons a record has no row.
TEMPLATE_REFUSED = "template_refused"
EMPTY_COMPLETION = "empty_completion"
EMPTY_PROMPT = "empty_prompt"  # and no token to stand for it
TOO_LONG = "too_long"  # min_completion_tokens do not fit beside what must stay of the prompt
DESIRABLE_CUT = "desirable_cut"  # would teach to stop nowhere; data.keep_cut keeps it
NO_LOSS_TOKEN = "no_loss_token"

_SYSTEM_ROLES = ("system", "developer")


@dataclass(frozen=True, slots=True)
class Dropped:
    """Why a record has no row; detail: what the template said."""

    reason: str
    detail: str = ""


def fit(
    records: Sequence[Feedback], tokens: Sequence[Tokens], setting: Setting
) -> list[Tokens | Dropped]:
    """Cut the rows of one prompt to max_tokens: the prompt first, then completions.

    The longest completion that fits beside a shortened prompt decides how short it is for all. Rows
    whose completion is cut as well have nothing of the prompt left to share.
    """
    outcomes: list[Tokens | Dropped] = list(tokens)
    shared: tuple[Feedback, Tokens] | None = None
    for i in sorted(range(len(tokens)), key=lambda i: -len(tokens[i].completion_ids)):
        record, row = records[i], tokens[i]
        try:
            if shared is not None:
                row = _with_prompt_of(*shared, record, row, setting)
            elif len(row) > setting.max_tokens:
                shorter, row = _shorten_prompt(record, row, setting)
                shared = (shorter, row) if len(row) <= setting.max_tokens else None
        except TemplateRefused as error:
            outcomes[i] = Dropped(TEMPLATE_REFUSED, str(error))
        else:
            outcomes[i] = _cut_completion(row, setting, desirable=record.label)
    return outcomes


def _cut_completion(row: Tokens, setting: Setting, *, desirable: bool) -> Tokens | Dropped:
    """Cut the right of a completion that is still too long; refuse rows nothing is learnt from."""
    if not row.prompt_ids:
        return Dropped(EMPTY_PROMPT)
    if len(row) > setting.max_tokens:
        room = setting.max_tokens - len(row.prompt_ids)
        if room < setting.min_completion_tokens:
            return Dropped(TOO_LONG)
        if desirable and not setting.keep_cut:
            return Dropped(DESIRABLE_CUT)
        completion, mask = row.completion_ids[:room], row.loss_mask[:room]
        row = Tokens(row.prompt_ids, completion, mask, (*row.notes, COMPLETION_CUT))
    return row if any(row.loss_mask) else Dropped(NO_LOSS_TOKEN)


def _with_prompt_of(
    shorter: Feedback, shorter_row: Tokens, record: Feedback, row: Tokens, setting: Setting
) -> Tokens:
    """A row with the prompt of another row that was shortened."""
    if isinstance(shorter.prompt, str):
        short = replace(row, prompt_ids=shorter_row.prompt_ids)
    else:
        short = encode_record(replace(record, prompt=shorter.prompt), setting)
    cuts = [note for note in (TURNS_DROPPED, PROMPT_CUT) if note in shorter_row.notes]
    return replace(short, notes=(*short.notes, *cuts))


def _shorten_prompt(record: Feedback, tokens: Tokens, setting: Setting) -> tuple[Feedback, Tokens]:
    """Drop whole oldest turns, then cut the left of the first user message that remains."""
    if isinstance(record.prompt, str):
        return record, _shorten_string(tokens, setting)
    shorter = _drop_turns(record, setting)
    if shorter is not record:
        tokens = encode_record(shorter, setting)
        tokens = replace(tokens, notes=(*tokens.notes, TURNS_DROPPED))
    return _cut_user_text(shorter, tokens, setting)


def _shorten_string(tokens: Tokens, setting: Setting) -> Tokens:
    """Cut the left of a string prompt, down to BOS and one token."""
    ids = tokens.prompt_ids
    head = setting.bos_ids if ids[: len(setting.bos_ids)] == setting.bos_ids else ()
    body = ids[len(head) :]
    over = min(len(tokens) - setting.max_tokens, len(body) - 1)
    if over <= 0:
        return tokens
    return replace(tokens, prompt_ids=head + body[over:], notes=(*tokens.notes, PROMPT_CUT))


def _drop_turns(record: Feedback, setting: Setting) -> Feedback:
    """The record without the fewest oldest turns that make it fit; its last turn stays.

    A turn is a user message with all that follows it, up to the next one; system messages stay.
    """
    prompt = record.prompt
    assert not isinstance(prompt, str)
    spoken = [i for i, message in enumerate(prompt) if message.get("role") not in _SYSTEM_ROLES]
    starts = [i for i in spoken if i == spoken[0] or prompt[i].get("role") == "user"]

    def without(num_turns: int) -> Feedback:
        first = starts[num_turns]
        return replace(
            record, prompt=[m for i, m in enumerate(prompt) if i >= first or i not in spoken]
        )

    def fits(num_turns: int) -> bool:
        return len(encode_record(without(num_turns), setting)) <= setting.max_tokens

    if len(starts) < 2:
        return record
    return without(1 + bisect_left(range(1, len(starts) - 1), True, key=fits))


def _cut_user_text(record: Feedback, tokens: Tokens, setting: Setting) -> tuple[Feedback, Tokens]:
    """Cut the left of the first user message, token by token, and render again; one token stays."""
    prompt = record.prompt
    assert not isinstance(prompt, str)
    user = next((i for i, message in enumerate(prompt) if message.get("role") == "user"), None)
    text = prompt[user].get("content") if user is not None else None
    if user is None or not isinstance(text, str) or not text:
        return record, tokens
    offsets = ids_and_offsets([text], setting)[0][1]
    notes, cut = tokens.notes, 0
    while len(tokens) > setting.max_tokens and cut < len(offsets) - 1:
        cut = min(cut + len(tokens) - setting.max_tokens, len(offsets) - 1)
        message = {**prompt[user], "content": text[offsets[cut][0] :]}
        record = replace(record, prompt=[*prompt[:user], message, *prompt[user + 1 :]])
        tokens = replace(encode_record(record, setting), notes=(*notes, PROMPT_CUT))
    return record, tokens
