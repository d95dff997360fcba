"""Where a chat template comes from, and that it is saved as it was written."""

from datetime import date
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from thumbs.data.chat import render
from thumbs.data.templates import adopt_template, load_template
from thumbs.errors import ConfigError
from thumbs.feedback.record import Feedback
from thumbs.models.tiny import CHATML, train_bpe

TODAY = date(2026, 3, 7)
DATED = "{{ strftime_now('%d %b %Y') }}\n" + CHATML
NAMED = {"default": CHATML, "tool_use": "TOOLS {{ tools | length }} " + DATED}


def saved(folder: Path, tokenizer: PreTrainedTokenizerFast) -> PreTrainedTokenizerFast:
    """The tokenizer as it is after a save and a load."""
    tokenizer.save_pretrained(folder)
    load: Any = AutoTokenizer.from_pretrained
    loaded: PreTrainedTokenizerFast = load(str(folder))
    return loaded


def prompt_of(tokenizer: PreTrainedTokenizerFast, tools: str = "null") -> str:
    record = Feedback(
        [{"role": "user", "content": "Hi"}],
        [{"role": "assistant", "content": "Yo"}],
        label=True,
        tools=tools,
    )
    return render(record, tokenizer, load_template(None, tokenizer, today=TODAY)).prompt_text


def test_a_named_template_is_saved_as_it_was_written_and_its_date_goes_on(tmp_path: Path) -> None:
    (tmp_path / "chat.jinja").write_text(DATED)
    tokenizer = train_bpe([], 261, chat_template=CHATML)
    adopt_template(str(tmp_path / "chat.jinja"), tokenizer)
    assert prompt_of(tokenizer).startswith("07 Mar 2026\n<|im_start|>user")
    served = saved(tmp_path / "model", tokenizer)
    assert served.chat_template == DATED
    chat = [{"role": "user", "content": "Hi"}]
    assert str(served.apply_chat_template(chat, tokenize=False))[:11] != "07 Mar 2026"


def test_a_built_in_template_is_saved_with_the_bos_it_was_trained_with(tmp_path: Path) -> None:
    tokenizer = train_bpe([], 261, add_bos=True)
    adopt_template("chatml", tokenizer)
    chat = [{"role": "user", "content": "Hi"}]
    served = saved(tmp_path, tokenizer)
    assert served.apply_chat_template(chat, tokenize=False) == "<s><|im_start|>user\nHi<|im_end|>\n"


def test_no_name_leaves_the_tokenizers_own_template() -> None:
    tokenizer = train_bpe([], 261, chat_template=DATED)
    adopt_template(None, tokenizer)
    assert tokenizer.chat_template == DATED


@pytest.mark.parametrize("form", ["files", "list"])
def test_named_templates_are_read_used_and_saved(tmp_path: Path, form: str) -> None:
    tokenizer = train_bpe([], 261)
    tokenizer.chat_template = NAMED
    if form == "files":
        loaded = saved(tmp_path / "model", tokenizer)
    else:  # as in a tokenizer_config.json
        listed: Any = [{"name": name, "template": text} for name, text in NAMED.items()]
        as_list: Any = PreTrainedTokenizerFast
        loaded = as_list(
            tokenizer_object=tokenizer.backend_tokenizer, chat_template=listed, eos_token="</s>"
        )
    assert loaded.chat_template == NAMED
    assert prompt_of(loaded).startswith("<|im_start|>user")
    tools = '[{"type": "function", "function": {"name": "f"}}]'
    assert prompt_of(loaded, tools).startswith("TOOLS 1 07 Mar 2026\n<|im_start|>user")
    assert saved(tmp_path / "again", loaded).chat_template == NAMED


def test_named_templates_without_a_default_ask_for_one() -> None:
    tokenizer = train_bpe([], 261)
    tokenizer.chat_template = {"rag": CHATML, "tool_use": CHATML}
    with pytest.raises(
        ConfigError, match=r"data\.chat_template: the tokenizer has the templates rag, tool_use and"
    ):
        load_template(None, tokenizer, today=TODAY)
    assert load_template("chatml", tokenizer, today=TODAY) is not None
