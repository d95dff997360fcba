"""A trained run as judge: the answer with the higher implied reward is the better one.

reward = beta * (log pi(y|x) - log pi_ref(y|x)), nats, summed over the tokens that carry loss; the
policy is what the run trained, the reference what it trained from. Equal rewards are a tie.

In: questions, how to load both models. Out: judgements. Each answer is scored once, whatever its
order, so the order cannot matter.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import date

import torch

from thumbs.config import Config, ModelConfig
from thumbs.data.chat import render
from thumbs.data.templates import TemplateRefused
from thumbs.data.tokenizing import tokenizing_setting
from thumbs.data.tokens import Setting, Tokens, encode
from thumbs.data.truncation import Dropped, fit
from thumbs.evaluate.judging import Judgement, Question, Verdict
from thumbs.feedback.record import Feedback, Text
from thumbs.models.load import load_model, load_tokenizer, pick_device
from thumbs.scoring.backoff import Budget
from thumbs.scoring.forward import build_scorer, score_in_micro_batches

Answered = tuple[str, str]  # prompt as its repr, answer: what one reward belongs to


@dataclass(frozen=True)
class RewardJudge:
    """How to load and read both models, as the run did.

    micro_batch_tokens: of a forward; performance only.
    """

    name: str
    config: Config
    policy: ModelConfig
    reference: ModelConfig
    today: date
    micro_batch_tokens: int
    sees_order: bool = field(default=False, init=False)

    def judge(self, questions: Sequence[Question]) -> list[Judgement]:
        wanted = {
            _name(question.prompt, answer): (question.prompt, answer)
            for question in questions
            for answer in (question.first, question.second)
        }
        rewards = dict(zip(wanted, self._rewards(list(wanted.values())), strict=True))
        return [
            _judgement(
                rewards[_name(question.prompt, question.first)],
                rewards[_name(question.prompt, question.second)],
            )
            for question in questions
        ]

    def _rewards(self, answered: Sequence[tuple[Text, str]]) -> list[float | str]:
        """beta * log_ratio of each answer; where an answer cannot be scored, why."""
        data = self.config.data
        setting = tokenizing_setting(
            load_tokenizer(self.policy),
            max_tokens=data.max_tokens,
            min_completion_tokens=data.min_completion_tokens,
            chat_template=data.chat_template,
            keep_cut=True,
            today=self.today,
        )
        tokens = [_tokens(prompt, answer, setting) for prompt, answer in answered]
        rows = [row for row in tokens if isinstance(row, Tokens)]
        reference = self.reference.model_copy(update={"tokenizer": self.policy.name_or_path})
        before = self._scores(reference, rows)
        after = self._scores(self.policy, rows)
        ratios = iter(
            (torch.tensor(row.loss_mask) * (new.double() - old.double())).sum().item()
            for row, new, old in zip(rows, after, before, strict=True)
        )
        beta = self.config.loss.beta
        return [row.reason if isinstance(row, Dropped) else beta * next(ratios) for row in tokens]

    def _scores(self, model: ModelConfig, rows: Sequence[Tokens]) -> list[torch.Tensor]:
        """(tokens of its completion,) log-probs of each row; one set of weights in memory."""
        sequences = [(row.prompt_ids, row.completion_ids) for row in rows]
        scorer = build_scorer(
            load_model(model, device=pick_device()).model, dtype=self.config.model.dtype
        )
        scores = Budget(self.micro_batch_tokens, "tokens of a forward").spend(
            lambda tokens: score_in_micro_batches(scorer, sequences, max_tokens=tokens),
            what="the scoring of answers",
            longest=max(map(len, rows), default=0),
        )
        return [score.cpu() for score in scores]


def _judgement(first: float | str, second: float | str) -> Judgement:
    if isinstance(first, str) or isinstance(second, str):
        return Judgement(None, first if isinstance(first, str) else str(second))
    better: Verdict = "first" if first > second else "second"
    return Judgement("tie" if first == second else better)


def _tokens(prompt: Text, answer: str, setting: Setting) -> Tokens | Dropped:
    """The answer as the run would train on it, cut to its length."""
    completion: Text = (
        answer if isinstance(prompt, str) else [{"role": "assistant", "content": answer}]
    )
    record = Feedback(prompt=prompt, completion=completion, label=True)
    if not answer.strip():
        return Dropped("empty answer")
    try:
        tokens = encode([render(record, setting.tokenizer, setting.template)], setting)
    except TemplateRefused as error:
        return Dropped("the chat template refuses the conversation", str(error))
    return fit([record], tokens, setting)[0]


def _name(prompt: Text, answer: str) -> Answered:
    return repr(prompt), answer
