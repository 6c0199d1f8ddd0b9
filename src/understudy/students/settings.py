"""The settings of every kind of student; nothing heavy is imported here."""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeAlias

from pydantic import Discriminator, Field, Tag, model_validator

from understudy.settings import Settings

Name: TypeAlias = Annotated[str, Tag("<name>")]
NAME_OR_SETTINGS = Discriminator(lambda value: "<name>" if isinstance(value, str) else "<settings>")


class StudentSettings(Settings):
    """What every student has."""

    revision: str | None = None
    """Branch, tag or commit of a hub id."""
    steps: int | None = Field(default=400, ge=0)
    """How many optimiser steps the whole network is trained for; 0 leaves it as it is, null leaves it to tokens."""
    tokens: int | None = Field(default=None, ge=0)
    """How many tokens the whole network is trained on; whichever of steps and tokens is reached first ends it."""
    batch_size: int = Field(default=16, ge=1)
    """Rows a step; on several accelerators, or with gradient accumulation, so many each time."""
    weight_decay: float = Field(default=0.01, ge=0)
    """AdamW's weight decay."""
    warmup: float = Field(default=0.1, ge=0, lt=1)
    """The part of the training over which the learning rate rises; then it falls linearly to 0."""
    precision: Literal["auto", "bf16", "fp32"] = "auto"
    """Arithmetic of the network's training; auto takes bf16 where the processor has it. Weights stay float32."""
    threads: int | None = Field(default=None, ge=1)
    """Processor threads; null leaves them to PyTorch. One thread and fp32 give the same bits on every run."""
    checkpoint_every_s: float = Field(default=60, ge=0)
    """Seconds between two checkpoints."""

    @model_validator(mode="after")
    def _ends(self) -> StudentSettings:
        if self.steps is None and self.tokens is None:
            raise ValueError("steps or tokens: one of them must say when the training ends")
        return self


class ClassifierSettings(StudentSettings):
    """An encoder with a linear head, for tasks of the kinds classification and multilabel."""

    kind: Literal["classifier"] = "classifier"
    """Which student."""
    base: str = "all-MiniLM-L6-v2"
    """The encoder to start from: all-MiniLM-L6-v2 (from the installed package), a folder, or a hub id."""
    layers: int | None = Field(default=None, ge=1)
    """Only the first so many layers of the base; null is all of them."""
    learning_rate: float = Field(default=1e-4, gt=0)
    """Peak learning rate of the encoder."""
    head_learning_rate: float = Field(default=1e-3, gt=0)
    """Peak learning rate of the head, once it is trained together with the encoder."""
    max_length: int = Field(default=128, ge=4)
    """Tokens a row; what is longer is cut off."""
    held_back: float = Field(default=0.2, gt=0, le=0.5)
    """The part of the rows on which the trained network is compared with the head alone."""


class Scratch(Settings):
    """A network with random weights; its tokenizer, byte-level BPE, is trained on the training text."""

    hidden_size: int = Field(default=128, ge=2)
    """Width of the network."""
    layers: int = Field(default=4, ge=1)
    """Number of layers; an encoder-decoder has so many in each half."""
    heads: int = Field(default=4, ge=1)
    """Attention heads a layer."""
    vocab_size: int = Field(default=4096, ge=258)
    """The most tokens of the tokenizer: 256 bytes, two special ones, and merges."""

    @model_validator(mode="after")
    def _divides(self) -> Scratch:
        if self.hidden_size % (2 * self.heads):
            raise ValueError(f"hidden_size: {self.hidden_size} is no multiple of 2 x heads = {2 * self.heads}")
        return self


class CausalScratch(Scratch):
    """A causal language model with random weights."""

    architecture: Literal["llama", "gpt2"] = "llama"
    """Whose network: llama or gpt2; for seq2seq t5."""


class Seq2SeqScratch(Scratch):
    """An encoder-decoder with random weights."""

    architecture: Literal["t5"] = "t5"
    """Whose network: llama or gpt2; for seq2seq t5."""


class MaskedScratch(Scratch):
    """A masked language model with random weights."""

    architecture: Literal["roberta", "modernbert"] = "roberta"
    """Whose network."""
    vocab_size: int = Field(default=8192, ge=261)
    """The most tokens of the tokenizer: 256 bytes, five special ones, and merges."""


class Lora(Settings):
    """Low-rank adapters (peft): they alone are trained, and merged into the network at the end."""

    r: int = Field(default=8, ge=1)
    """Rank."""
    alpha: float = Field(default=16, gt=0)
    """Scale: the adapters' output is multiplied by alpha / r."""
    dropout: float = Field(default=0.0, ge=0, lt=1)
    """Dropout before the adapters."""
    targets: tuple[str, ...] | None = Field(default=None, min_length=1)
    """Names of the layers that get adapters, e.g. [q_proj, v_proj]; null is every linear layer but the output."""


class TrainerSettings(StudentSettings):
    """What the students have that transformers' Trainer trains."""

    learning_rate: float = Field(default=1e-4, gt=0)
    """Peak learning rate."""
    gradient_accumulation: int = Field(default=1, ge=1)
    """Batches a step."""
    report_to: str | tuple[str, ...] = "none"
    """Where the training is logged: none, or integrations of transformers such as wandb or tensorboard."""
    trainer: dict[str, Any] = {}
    """Any further transformers.TrainingArguments; they win over what stands above."""


class LanguageSettings(TrainerSettings):
    """What the students have that read a question and write an answer, for every task but pretraining."""

    max_length: int = Field(default=512, ge=8)
    """Tokens that are read: a causal student's whole row, a seq2seq student's question. Of what is longer the last
    ones are kept, and the row is counted."""
    lora: Lora | None = None
    """Train low-rank adapters only; null trains the whole network."""
    rank_by: Literal["letter", "text"] = "letter"
    """How a row with options is answered, in training and after: by the letter of one, chosen by its likelihood, or
    by its text, chosen by the likelihood of its mean token."""
    prompt: Literal["question", "instruction", "bare"] = "question"
    """What stands around a question: Q: and A: alone, or the task's instruction, examples, Input and Response; with
    bare nothing, and what follows is the target as it stands."""
    shots: int = Field(default=0, ge=0)
    """How many of the arm's gold rows stand solved in a prompt with the instruction."""
    max_new_tokens: int = Field(default=64, ge=1)
    """The most tokens of an answer that is written out."""
    held_back: float = Field(default=0.0, ge=0, le=0.5)
    """The part of the rows, drawn by the seed, that is not trained on: the weights with the lowest loss on it are
    kept; 0 keeps the last ones."""
    evaluate_every: int = Field(default=50, ge=1)
    """Steps between two measurements of the loss on rows held back; the last step is measured too."""
    patience: int = Field(default=3, ge=1)
    """The training ends when the loss on rows held back has not fallen for so many measurements."""

    @model_validator(mode="after")
    def _shows(self) -> LanguageSettings:
        if self.shots and self.prompt != "instruction":
            raise ValueError("shots: they stand in prompts with the instruction; add prompt: instruction")
        return self


class CausalSettings(LanguageSettings):
    """A causal language model: one text of question, answer and explanations."""

    kind: Literal["causal"] = "causal"
    """Which student."""
    base: Annotated[Name | Annotated[CausalScratch, Tag("<settings>")], NAME_OR_SETTINGS]
    """The model to start from: a folder, a hub id, or the settings of a network with random weights."""
    loss_on: Literal["all", "target"] = "target"
    """The tokens that are learnt: all of them, or those after the question. The stop token always is."""
    packing: bool = True
    """Lay several rows of a batch into one sequence, none sees another; where the base cannot, group by length."""
    lines: bool = False
    """For kind: pretraining: learn each line of a text by itself; false learns whole texts."""
    measurements: int = Field(default=10, ge=1)
    """For kind: pretraining: how often on the way, evenly spaced, the student is measured on what nobody learns."""


SCORING = ("within_word", "score_precision")  # how a trained student is asked: they change no weight


class MaskedSettings(TrainerSettings):
    """A masked language model: it learns to fill gaps in raw text."""

    kind: Literal["masked"] = "masked"
    """Which student."""
    base: Annotated[Name | Annotated[MaskedScratch, Tag("<settings>")], NAME_OR_SETTINGS]
    """The model to start from: a folder, a hub id, or the settings of a network with random weights."""
    max_length: int = Field(default=128, ge=8)
    """Tokens of a sequence."""
    batch_size: int = Field(default=32, ge=1)
    """Sequences a step; on several accelerators, or with gradient accumulation, so many each time."""
    learning_rate: float = Field(default=5e-4, gt=0)
    """Peak learning rate."""
    lines: bool = True
    """Learn each line of a text by itself; false learns whole texts."""
    packing: bool = False
    """Fill each sequence with texts, or lines, none of which sees another; what is longer goes on in a further
    sequence. Otherwise each has a sequence of its own, and what is longer is cut off and counted."""
    mask: float = Field(default=0.15, gt=0, lt=1)
    """The part of the tokens that is to be found; of these 8 in 10 are hidden, 1 is another token, 1 stays."""
    within_word: bool = False
    """Of the sentences of a test, hide the later tokens of a hidden token's word too."""
    score_precision: Literal["auto", "bf16", "fp32"] = "fp32"
    """Arithmetic in which the sentences of a test are scored."""
    measurements: int = Field(default=10, ge=1)
    """How often on the way, evenly spaced, the student is measured on what nobody learns."""


class Seq2SeqSettings(LanguageSettings):
    """An encoder-decoder: it reads the question and writes the answer, and in training the explanations."""

    kind: Literal["seq2seq"] = "seq2seq"
    """Which student."""
    base: Annotated[Name | Annotated[Seq2SeqScratch, Tag("<settings>")], NAME_OR_SETTINGS]
    """The model to start from: a folder, a hub id, or the settings of a network with random weights."""
    max_target_length: int = Field(default=512, ge=8)
    """Tokens that are learnt to be written; what is longer is cut off at its end, without a stop token, and counted."""


AnyLanguageSettings: TypeAlias = CausalSettings | Seq2SeqSettings


def _by_kind(*kinds: str) -> Discriminator:
    """Tells the settings of students apart by their kind, which must be one of these."""
    return Discriminator(
        lambda value: f"<{value.get('kind') if isinstance(value, dict) else getattr(value, 'kind', '')}>",
        custom_error_type="kind",
        custom_error_message=f"give the settings of a student, with {' or '.join(f'kind: {kind}' for kind in kinds)}",
    )


TunableSettings: TypeAlias = Annotated[
    Annotated[CausalSettings, Tag("<causal>")] | Annotated[ClassifierSettings, Tag("<classifier>")],
    _by_kind("causal", "classifier"),
]
"""Those of the students that can be a teacher."""

WritingSettings: TypeAlias = Annotated[
    Annotated[CausalSettings, Tag("<causal>")] | Annotated[Seq2SeqSettings, Tag("<seq2seq>")],
    _by_kind("causal", "seq2seq"),
]
"""Those of the students that write."""
