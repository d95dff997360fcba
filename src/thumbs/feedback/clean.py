"""What holds for the records of every source: no machine blocks, no empty answers, no repeats.

In: records as a source read them. Out: the records to keep, in the same order, and a tally of what
was dropped or changed and why. Knows no tool and no file.
"""

import re
from collections import Counter
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field, replace

from thumbs.feedback.record import Feedback, Text, content_id, is_blank

# What a model thought or did between the lines, as chat interfaces store it inside the answer.
BLOCKS = {
    "reasoning block stripped": re.compile(
        r'<details\b[^>]*\btype="reasoning"[^>]*>.*?</details>', re.DOTALL | re.IGNORECASE
    ),
    "tool-call block stripped": re.compile(
        r'<details\b[^>]*\btype="tool_calls"[^>]*>.*?</details>', re.DOTALL | re.IGNORECASE
    ),
    "unfinished reasoning stripped": re.compile(
        r'\A\s*(?:<think>|<details\b[^>]*\btype="(?:reasoning|tool_calls)").*', re.DOTALL
    ),
}
THOUGHT, UNOPENED = "think block stripped", "reasoning without its opening tag stripped"
THINK_TAGS = re.compile("</?think>")
LEADING_THINK = re.compile(r"\s*<think>")
# After a closing tag: the end of its line, or at once the first letter of the answer.
LINE_END = re.compile(r"[^\S\n]*(?:\n|\Z)|(?=\w)")
CLOSED_CODE = re.compile(r"```.*?```|`[^`\n]*`", re.DOTALL)
EMPTY_ANSWER, EMPTY_PROMPT = "empty answer", "empty prompt"
EMPTY_SIDES = (EMPTY_ANSWER, EMPTY_PROMPT)
REPEATED = "repeated record"


# Tokens of chat templates that models leave in their answers when they run on.
TURN_ENDS = (
    *("<|im_end|>", "<|eot_id|>", "<|end_of_text|>", "<|endoftext|>", "<end_of_turn>"),
    *("<|end|>", "<|return|>", "</s>"),
)
TEMPLATE_TOKENS = re.compile(
    "|".join(
        map(
            re.escape,
            (
                *TURN_ENDS,
                *("<|im_start|>", "<|start_header_id|>", "<|end_header_id|>", "<start_of_turn>"),
                *("<|begin_of_text|>", "<|user|>", "<|assistant|>", "<|system|>"),
                *("[INST]", "[/INST]", "<<SYS>>", "<</SYS>>"),
            ),
        )
    )
)
TRAILING_ENDS = re.compile(rf"(?:\s*(?:{'|'.join(map(re.escape, TURN_ENDS))}))+\s*\Z")
CODE = re.compile(r"```.*?(?:```|\Z)|`[^`\n]*`", re.DOTALL)
LEAKED_TOKEN = "answer with a template's token inside"
END_TOKEN = "template's end token stripped from an answer"
CLEAN_DROPS = (*EMPTY_SIDES, REPEATED, LEAKED_TOKEN)  # what is left out whatever the source

# What `--keep` switches off. Empty answers are not among them: training would refuse them.
RULES = {
    "reasoning": "blocks of reasoning inside answers are stripped",
    "tool-blocks": "blocks of tool calls inside answers are stripped",
    "template-tokens": "end tokens of templates are stripped from answers; an answer with other "
    "template tokens outside of code is left out",
    "duplicates": "repeats (prompt, completion, label, rater) are left out",
    "unfinished": "answers that were stopped or never finished are left out",
    "cut": "answers that an export has cut are left out",
}
RULES_OF_BLOCK = {  # each of which switches it off
    "reasoning block stripped": {"reasoning"},
    "tool-call block stripped": {"tool-blocks"},
    "unfinished reasoning stripped": {"reasoning", "tool-blocks"},
}


@dataclass
class Tally:
    """What an import left out and altered, by reason.

    dropped: records (or votes) that are not in the result.
    changed: records that are, but not word for word; columns without use; assumptions made.
    keep: names of RULES that are switched off.
    """

    dropped: Counter[str] = field(default_factory=Counter)
    changed: Counter[str] = field(default_factory=Counter)
    keep: frozenset[str] = frozenset()


def clean(records: Iterable[Feedback], tally: Tally) -> Iterator[Feedback]:
    """The records without machine blocks, leaving out empty ones."""
    keep = tally.keep
    for record in records:
        record = strip_blocks(record, tally.changed, keep)
        if "template-tokens" not in keep and not isinstance(record.completion, str):
            record = strip_ends(record, tally.changed)
            if has_template_token(record):
                tally.dropped[LEAKED_TOKEN] += 1
                continue
        emptiness = empty_side(record.prompt, record.completion)
        if emptiness:
            tally.dropped[emptiness] += 1
            continue
        yield record


def without_repeats(
    records: Iterable[Feedback], tally: Tally, *, without_rater_too: bool = True
) -> Iterator[Feedback]:
    """The records that have not the prompt, completion, label and rater of an earlier one.

    without_rater_too: whether records without a rater can be repeats; else each is a rater's own.
    """
    if "duplicates" in tally.keep:
        yield from records
        return
    seen = set[int]()
    for record in records:
        if record.rater or without_rater_too:
            key = int(content_id(record), 16)  # a number takes half the memory of its text
            if key in seen:
                tally.dropped[REPEATED] += 1
                continue
            seen.add(key)
        yield record


def empty_side(prompt: object, completion: object) -> str:
    """The reason to drop a record whose prompt or completion, checked or not, is blank; else "".

    An answer that called tools and then said nothing is empty too.
    """
    last_words = completion[-1:] if isinstance(completion, list) else completion
    if is_blank(completion) or is_blank(last_words):
        return EMPTY_ANSWER
    return EMPTY_PROMPT if is_blank(prompt) else ""


def strip_ends(record: Feedback, changed: Counter[str]) -> Feedback:
    """The record, its answer in messages without a template's end token at its end."""
    last = record.completion[-1]
    if not isinstance(last, dict) or ">" not in last["content"][-20:]:
        return record
    kept = TRAILING_ENDS.sub("", last["content"])
    if kept == last["content"]:
        return record
    changed[END_TOKEN] += 1
    completion = [*record.completion[:-1], {**last, "content": kept}]
    own_id = "" if record.id == content_id(record) else record.id
    return replace(record, completion=completion, id=own_id)


def has_template_token(record: Feedback) -> bool:
    """Whether an assistant's message of the answer holds a template's token outside of code."""
    return any(
        isinstance(turn, dict)
        and turn["role"] == "assistant"
        and TEMPLATE_TOKENS.search(turn["content"]) is not None
        and TEMPLATE_TOKENS.search(CODE.sub("", turn["content"])) is not None
        for turn in record.completion
    )


def strip_blocks(record: Feedback, changed: Counter[str], keep: Collection[str] = ()) -> Feedback:
    """The record, its answers (the judged one and the earlier ones) without machine blocks."""
    completion = _strip_side(record.completion, changed, keep)
    prompt = record.prompt
    if not isinstance(prompt, str):
        prompt = _strip_side(prompt, changed, keep)
    if completion == record.completion and prompt == record.prompt:
        return record
    own_id = "" if record.id == content_id(record) else record.id
    return replace(record, prompt=prompt, completion=completion, id=own_id)


def strip_text(text: str, changed: Counter[str] | None = None, keep: Collection[str] = ()) -> str:
    """An answer without its machine blocks, each counted by kind; else the text as it is."""
    if "<" not in text:
        return text
    kept = text
    if "reasoning" not in keep:
        kept = strip_thinking(text, changed)
    for name, pattern in BLOCKS.items():
        if not RULES_OF_BLOCK[name].isdisjoint(keep):
            continue
        kept, count = pattern.subn("", kept)
        if count and changed is not None:
            changed[name] += count
    return text if kept == text else kept.strip()


def strip_thinking(text: str, changed: Counter[str] | None = None) -> str:
    """An answer without `<think>` ... `</think>`, whole blocks of them where they are nested.

    A block at the start may hold anything; later ones do not count inside of code. A `</think>`
    that nothing opens, at the end of a line or before a letter, ends reasoning whose opening tag
    stood in the prompt: all before it goes.
    """
    start = 0
    while lead := LEADING_THINK.match(text, start):
        spans, _ = _thinking(text, lead.end() - len("<think>"), only_first=True)
        if not spans:
            break
        _count(changed, THOUGHT)
        start = spans[0][1]
    rest = text[start:]
    readable = CLOSED_CODE.sub(lambda code: "\0" * len(code.group()), rest)
    spans, unopened = _thinking(readable, 0)
    if unopened:
        _count(changed, UNOPENED)
    kept, place = "", unopened
    for opening, end in spans:
        _count(changed, THOUGHT)
        kept += rest[place:opening]
        place = end
    return kept + rest[place:]


def _thinking(
    text: str, start: int, *, only_first: bool = False
) -> tuple[list[tuple[int, int]], int]:
    """Where blocks lie from `start` on, and where the last reasoning without an opening tag ends.

    A block that is left open ends at its last closing tag; without any it is none.
    """
    spans: list[tuple[int, int]] = []
    depth = opening = end = unopened = 0
    for tag in THINK_TAGS.finditer(text, start):
        if tag.group() == "<think>":
            if depth == 0:
                opening, end = tag.start(), 0
            depth += 1
        elif depth:
            depth, end = depth - 1, tag.end()
            if depth == 0:
                spans.append((opening, end))
                if only_first:
                    return spans, unopened
        elif LINE_END.match(text, tag.end()):
            unopened, spans = tag.end(), []
    if depth and end:
        spans.append((opening, end))
    return spans, unopened


def _count(changed: Counter[str] | None, name: str) -> None:
    if changed is not None:
        changed[name] += 1


def _strip_side(side: Text, changed: Counter[str], keep: Collection[str]) -> Text:
    if isinstance(side, str):
        return strip_text(side, changed, keep)
    return [
        {**message, "content": strip_text(message["content"], changed, keep)}
        if message["role"] == "assistant"
        else message
        for message in side
    ]
