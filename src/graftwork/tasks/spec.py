"""What a task is, as data: one ``[tasks.NAME]`` table of a recipe."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)

Positive = Annotated[int, Field(ge=1, le=10**9)]
Length = Annotated[int, Field(ge=4, le=10**6)]
Weight = Annotated[float, Field(gt=0, allow_inf_nan=False)]
# one text may be given in place of a list of one
LISTED = BeforeValidator(lambda value: (value,) if isinstance(value, str) else value)
Texts = Annotated[tuple[str, ...], LISTED]


class TaskSpec(BaseModel):
    """Data, kind, labels and metrics of a task; paths are relative to the recipe's folder.

    Attributes:
        kind: The kind of the task, one of `kinds`.
        data: A folder with ``train``, ``dev`` and ``test`` files (of the forms that `read_rows` takes) and perhaps a
            ``meta.json`` with ``{"labels": [...]}``; a folder of images (``train/LABEL/*.png``); a folder that
            ``save_to_disk`` of the library `datasets` has written; or a data set of the Hub, ``"owner/name"`` or
            ``"owner/name/configuration"``.
        train: A file of rows to train on, in place of the folder's.
        dev: A file of rows that decide which epoch is the best. Where there is none, a share of ``train`` is held out.
        test: A file of rows that nothing is decided by; they may be without answers.
        dev_share: The share of ``train`` that is held out where there is no ``dev``, the same for each label.
        folds: Cross-validation: the rows of ``train`` and ``dev`` are dealt into so many parts, each with the same share of each
            label. A training with the seed n has part ``n % folds`` as its dev rows and trains on the others, so that after
            as many seeds every row was scored once. For targets; their tables are of these rows even where there is a ``test``.
        language: The language of its rows, a ``[languages.NAME]`` of the recipe: the task's adapter is stacked on that
            language's.
        evaluate_in: More data that the task is only scored on, by name: a file, or a folder of which the ``test`` rows are
            taken, or where it has none the ``dev`` rows. Where ``language`` is given the names are languages too, and each
            is scored with that language's adapter in place of the task's.
        knowledge: Knowledge of the recipe (``[knowledge.NAME]``) on whose adapters the task's adapter is stacked.
        beside: Knowledge whose adapters are fused with the task's, where it is a target.
        base: ``"trained"``: the base is tuned on the task on top of the adapters of its ``knowledge``, and the task gets no
            adapter of its own (the second stage of arXiv:2002.01808 and 2005.11787); ``"frozen"``: an adapter of the task is
            stacked on them.
        adapters: The adapters of its knowledge while the base is tuned: ``"fixed"``, or ``"trained"`` with it.
        description: What the task is, in a sentence: texts are compared with it to find the task of a text.
        prompts: Texts that ask for the task, for the same purpose.
        text: Column of the text.
        pair: Column of a second text; not used where no row has it.
        label: Column of the label: a name, or the number of one; for regression a number.
        choices: Column of the choices, a list of texts. For generation, where it is given, also a list of words: the choices of
            every row. The answer is then the choice that is likeliest after the prompt.
        tokens: Column of the words, a list.
        tags: Column of the words' tags, a list.
        question: Column of the question.
        context: Column of the text that holds the answer.
        answers: Column of the answers: ``{"text": [...], "answer_start": [...]}``, or one text.
        answer_start: Column of where the answer starts, where the answer is one text.
        target: Column of the text to write, or of a list of right ones, of which the first is trained on.
        prompt: Column of the text that a decoder continues.
        messages: Column of conversations in place of prompt and target: a list of ``{"role": ..., "content": ...}``. All of the
            assistant's messages are trained on; the last message is the answer.
        image: Column of the image: a path relative to the file, an image, or numbers.
        labels: Names of the labels in order, so that rows may have their numbers. By default those of ``meta.json``, else the
            labels of ``train``, sorted; then rows may not mix names and numbers.
        positive: Which of two labels the metric ``f1`` is of. By default the second of ``labels``; must be given where neither
            the task nor the data gives an order of the labels.
        class_weights: The weight of a row of each label in the training loss: ``"balanced"`` (every label counts as much as
            any other, however many rows it has), a table of weights by label (the others 1), or a list in the order of
            ``labels``. Scores do not change by it.
        threshold: The probability from which the positive one of two labels is predicted, or where a row has several labels
            each of them: a number, or ``"dev"`` for the one with the best F1 on the dev rows. By default the likeliest label,
            or one half.
        calibrate: Whether a temperature is fitted on the dev rows, by which probabilities become reliable and predictions stay.
        rows: The most training rows; more are left out by one fixed draw.
        scored_rows: The most dev rows and the most test rows, drawn likewise: scores are faster and less certain.
        max_length: The most tokens of a text; by default the recipe's. For generation, of the prompt and the answer together:
            the beginning of a prompt is left out.
        max_target_length: The most tokens of a text to write.
        metrics: By default those of the kind. The first one decides the best epoch; higher is better for each.
        pooling: ``"first"``, ``"last"`` or ``"mean"``; by default what suits the base.
        prefix: Put in front of every text, for text to text.
        stride: How many tokens two windows of a long context share.
        no_answer: Whether a question may have no answer in its context.
        white: The number that is white, in images given as numbers: by default 255 for whole numbers, else 1.
        num_beams: The beams of the generation.
        max_new_tokens: The most tokens that are generated.
        temperature: The temperature that tokens are drawn with; without it, ``top_p`` and ``top_k`` the likeliest is taken.
        top_p: Tokens are drawn among the likeliest whose probabilities sum to this.
        top_k: Tokens are drawn among this many.
        sampling_seed: The seed of what is drawn, for each batch.
        system: The system's message before every prompt, where the tokenizer has a chat template; else the first line.
        packing: Train on several rows behind one another in blocks of ``max_length`` tokens, none of which sees another.
        shots: How many training rows stand before each prompt where the frozen base is asked with examples (``few_shot``).
        length_normalized: Choose by the mean log-probability of a choice's tokens, not by their sum.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: str = "classification"
    data: str | None = None
    train: str | None = None
    dev: str | None = None
    test: str | None = None
    dev_share: Annotated[float, Field(gt=0, lt=1)] = 0.1
    folds: Annotated[int, Field(ge=2, le=100)] | None = None

    language: str | None = None
    evaluate_in: dict[str, str] = {}
    knowledge: Texts = ()
    beside: Texts = ()
    base: Literal["frozen", "trained"] = "frozen"
    adapters: Literal["fixed", "trained"] = "fixed"
    description: str | None = None
    prompts: Texts = ()

    text: str = "text"
    pair: str = "text_pair"
    label: str = "label"
    choices: str | tuple[str, ...] = "choices"
    tokens: str = "tokens"
    tags: str = "tags"
    question: str = "question"
    context: str = "context"
    answers: str = "answers"
    answer_start: str = "answer_start"
    target: str = "target"
    prompt: str = "prompt"
    messages: str | None = None
    image: str = "image"

    labels: tuple[str, ...] | None = None
    positive: str | None = None
    class_weights: Literal["balanced"] | dict[str, Weight] | tuple[Weight, ...] | None = None
    threshold: Annotated[float, Field(gt=0, lt=1)] | Literal["dev"] | None = None
    calibrate: bool = False
    rows: Positive | None = None
    scored_rows: Positive | None = None
    max_length: Length | None = None
    max_target_length: Positive | None = None
    metrics: Annotated[tuple[str, ...], Field(min_length=1), LISTED] | None = None
    pooling: str | None = None
    prefix: str | None = None
    stride: Annotated[int, Field(ge=0, le=10**6)] = 128
    no_answer: bool = False
    white: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None
    num_beams: Positive = 1
    max_new_tokens: Positive = 64
    temperature: Annotated[float, Field(gt=0, le=100)] | None = None
    top_p: Annotated[float, Field(gt=0, le=1)] | None = None
    top_k: Positive | None = None
    sampling_seed: Annotated[int, Field(ge=0, lt=2**31)] = 0
    system: str | None = None
    packing: bool = False
    shots: Annotated[int, Field(ge=0, le=1000)] = 0
    length_normalized: bool = False

    @property
    def described(self) -> tuple[str, ...]:
        """The description and the prompts."""
        return self.prompts if self.description is None else (self.description, *self.prompts)

    @field_validator("description", "prompts")
    @classmethod
    def _not_empty(cls, value: Any) -> Any:
        if not all(text.strip() for text in ([value] if isinstance(value, str) else value or ())):
            raise ValueError("an empty text describes nothing; give some words, or leave it out")
        return value

    @field_validator("class_weights", mode="wrap")
    @classmethod
    def _weights(cls, value: Any, handler: Callable[[Any], Any]) -> Any:
        try:
            return handler(value)
        except ValidationError:  # it would say what is wrong for each of the three forms
            form = 'give "balanced", a table {label = weight} or a list of weights, numbers above 0'
            raise ValueError(form) from None

    @field_validator("threshold", mode="wrap")
    @classmethod
    def _number_or_dev(cls, value: Any, handler: Callable[[Any], Any]) -> Any:
        try:
            return handler(value)
        except ValidationError:
            raise ValueError('give a number between 0 and 1, or "dev"') from None

    @field_validator("labels", "choices")
    @classmethod
    def _each_label_once(cls, value: str | tuple[str, ...] | None, info: ValidationInfo) -> Any:
        counts = Counter(() if isinstance(value, str) else value or ())
        twice = sorted(name for name, times in counts.items() if times > 1)
        if twice:
            one = str(info.field_name).removesuffix("s")
            raise ValueError(f"the {one} {twice[0]!r} stands there twice; give each once")
        return value

    @model_validator(mode="after")
    def _two_columns(self) -> TaskSpec:
        if self.text == self.pair:
            raise ValueError(f"text and pair are both the column {self.text!r}; name two columns")
        return self
