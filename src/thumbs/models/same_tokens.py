"""A reference that reads the policy's token ids must number tokens as the policy does."""

from typing import Any

from transformers import AutoTokenizer

from thumbs.errors import ModelError


def require_same_tokens(reference: str, whole_model: str, tokenizer: Any) -> None:
    """Refuse a reference whose own tokenizer, where it has one, gives tokens other numbers."""
    for name in (reference, whole_model):
        try:
            own = AutoTokenizer.from_pretrained(name).get_vocab()
            break
        except Exception:  # noqa: BLE001, a reference needs no tokenizer: the policy's serves both
            continue
    else:
        return
    vocabulary = tokenizer.get_vocab()
    other = [token for token, i in vocabulary.items() if own.get(token, i) != i]
    taken = set(own.values())
    other += [token for token, i in vocabulary.items() if token not in own and i in taken]
    if other:
        raise ModelError(
            f"model.reference: {reference} gives {len(other):,} of the policy's tokens another "
            f"number, for example {other[0]!r}: it would read another text. Name a reference with "
            "the policy's tokenizer."
        )
