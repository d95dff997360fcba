"""What the page needs of a run's files: which values must be numbers, texts, lists.

In: what JSON held. Out: nothing, or the first value of the wrong kind in words. Keys the page does
not read are free.
"""

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from thumbs.errors import shown

LARGEST = 1e100  # beyond it no chart can be drawn, and no run gets there
Finite = Annotated[float, Field(ge=-LARGEST, le=LARGEST)]
Number = Finite | None
Count = Annotated[int, Field(ge=0)] | None
Text = str | None
Interval = Annotated[list[Finite], Field(min_length=2, max_length=2)] | None
Counts = dict[str, Annotated[int, Field(ge=0)]] | None


class _Part(BaseModel):
    model_config = ConfigDict(extra="allow", strict=True, allow_inf_nan=False)


class Named(_Part):
    """A file or a model: its name, hash, size."""

    path: str = ""
    sha256: Text = None
    records: Count = None
    name_or_path: Text = None
    revision: Text = None
    weight_sha256: Text = None


class Weights(_Part):
    """The weights of the two labels and why."""

    desirable_weight: Number = None
    undesirable_weight: Number = None
    reason: Text = None


class Imported(_Part):
    """What the import of the feedback file counted."""

    source: Text = None
    dropped: Counts = None
    changed: Counts = None
    skipped: Counts = None


class Data(_Part):
    """RUN/data.json."""

    feedback: Named | None = None
    reference: Named | None = None
    weights: Weights | None = None
    imported: Imported | None = Field(default=None, alias="import")
    counts: Counts = None
    drops: Counts = None
    cuts: Counts = None
    train_rows: Count = None
    heldout_rows: Count = None
    desirable: Count = None
    undesirable: Count = None
    prompts: Count = None
    warnings: list[str] | None = None


class Baseline(_Part):
    """A score that needs no training."""

    auc: Number = None
    auc_ci: Interval = None
    gain: Number = None
    gain_ci: Interval = None


class Curve(_Part):
    """A ROC."""

    fpr: Annotated[list[Finite], Field(min_length=1)]
    tpr: Annotated[list[Finite], Field(min_length=1)]


class Histogram(_Part):
    """Counts of rewards by label, bin by bin."""

    edges: Annotated[list[Finite], Field(min_length=2)]
    desirable: list[Annotated[int, Field(ge=0)]]
    undesirable: list[Annotated[int, Field(ge=0)]]


class Calibration(_Part):
    """What groups of rows were said to be, and what they were."""

    predicted: Annotated[list[Finite], Field(min_length=1)]
    observed: list[Finite]
    low: list[Finite]
    high: list[Finite]
    rows: list[Annotated[int, Field(ge=0)]]
    error: Finite


class Heldout(Baseline):
    """The held-out numbers before or after training."""

    n: Count = None
    num_desirable: Count = None
    num_undesirable: Count = None
    num_prompts: Count = None
    auc_within_prompt: Number = None
    auc_within_prompt_ci: Interval = None
    accuracy: Number = None
    accuracy_ci: Interval = None
    margin: Number = None
    margin_ci: Interval = None
    saturation: Number = None
    z0: Number = None
    missing: dict[str, str] | None = None
    baselines: dict[str, Baseline] | None = None
    roc: dict[str, Curve] | None = None
    beta: Number = None
    histogram: Histogram | None = None
    calibration: Calibration | None = None


class Sides(_Part):
    """Held-out numbers of both times."""

    before: Heldout | None = None
    after: Heldout | None = None


class _Shares(_Part):
    before: Finite
    after: Finite
    difference: Finite
    ci_low: Finite
    ci_high: Finite


class Demo(_Shares):
    """What `thumbs demo` measured."""

    before_ci: Interval = None
    after_ci: Interval = None
    greedy_before: Number = None
    greedy_after: Number = None
    examples: list[dict[str, str]] | None = None


class Summary(_Part):
    """RUN/summary.json."""

    heldout: Sides | None = None
    demo: Demo | None = None
    seconds: Number = None
    loss: Number = None
    steps: Count = None
    model_step: Count = None
    model: Text = None
    command: Text = None
    versions: dict[str, str] | None = None


class Doubted(_Part):
    """A row that the trained policy disbelieves."""

    id: str
    label: bool
    reward: Finite
    gradient_weight: Finite
    split: str
    prompt: str
    completion: str


class Part(_Part):
    """How many rows of a part of the run were flagged."""

    rows: Annotated[int, Field(ge=0)]
    flagged: Annotated[int, Field(ge=0)]


class Audit(Part):
    """RUN/audit.json."""

    splits: dict[str, Part]
    top: list[Doubted]


class Samples(_Part):
    """RUN/samples.json."""

    examples: list[dict[str, str]]


class _Numbered(_Part):
    step: Annotated[int, Field(ge=0)]


class Step(_Numbered):
    """A line of RUN/metrics.jsonl."""

    epoch: Number = None
    loss: Number = None
    z0: Number = None
    z0_raw: Number = None
    z0_se: Number = None
    unmatched: Number = None
    reward_desirable: Number = None
    reward_undesirable: Number = None
    margin: Number = None
    accuracy: Number = None
    saturation: Number = None
    num_desirable: Number = None
    num_undesirable: Number = None
    grad_norm: Number = None
    tokens: Number = None
    padding: Number = None
    clamped_share: Number = None
    learning_rate: Number = None
    seconds: Number = None


class Evaluation(_Numbered):
    """A line of RUN/heldout.jsonl."""

    auc: Number = None
    auc_low: Number = None
    auc_high: Number = None


STEPS: TypeAdapter[Any] = TypeAdapter(list[Step])
EVALUATIONS: TypeAdapter[Any] = TypeAdapter(list[Evaluation])
DATA: TypeAdapter[Any] = TypeAdapter(Data)
SUMMARY: TypeAdapter[Any] = TypeAdapter(Summary)
AUDIT: TypeAdapter[Any] = TypeAdapter(Audit)
SAMPLES: TypeAdapter[Any] = TypeAdapter(Samples)


def wrong_value(shape: TypeAdapter[Any], found: object) -> str:
    """The first value of `found` that does not have its shape, in words; "" if all do."""
    try:
        shape.validate_python(found)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        if not first["loc"]:
            return f"holds {type(found).__name__}, must be an object"
        key = ".".join(str(part) for part in first["loc"])
        message = first["msg"].removeprefix("Input ")
        return f"{key} is {shown(first['input'])}, but {message}"
    return ""
