"""The tables below `[prompt_learning]` that describe the task: data, prompt, score and models.

Every field carries its description: `docs/configuration.md` and the JSON schema are generated from here.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, JsonValue, Strict

from rollouts.experiments import config_compat as compat
from rollouts.experiments.config_base import Table, Texts, setting

Size = Annotated[int, Field(ge=1)] | Annotated[float, Field(gt=0, le=1)]
TestSize = Annotated[int, Field(ge=0)] | Annotated[float, Field(gt=0, le=1)]
Folds = Annotated[int, Field(ge=2, le=100)]
Rows = dict[Literal["start", "end", "step"], int] | Annotated[tuple[Annotated[int, Field(ge=0)], ...], Strict(False)]
EnvName = Annotated[str, Field(pattern=r"^[A-Z_][A-Z0-9_]*$")]


def _rows(meaning: str, shown: str = "") -> Any:
    """A setting that names rows."""
    kind = "list of row numbers in file order, from 0; or `{ start = 0, end = 50, step = 1 }`, the end left out"
    return setting(None, meaning, shown=shown, kind=kind)


class DatasetTable(Table):
    """Where the rows come from, which columns matter, and how the rows are divided."""

    path: str | None = setting(
        None,
        "File with all rows, relative to this file; or `hf:owner/name` for a Hugging Face data set. Training, "
        "validation and test rows are drawn from it.",
        min_length=1,
    )
    name: str | None = setting(None, "Name of a built-in data set, instead of `path`: `tickets` or `banking77`.")
    data_dir: str | None = setting(
        None, "Folder in which a built-in data set is looked for before it is downloaded, relative to this file."
    )
    split: str | None = setting(None, "Split to read, for `hf:` data sets and `banking77`.", shown="the first one")
    train_path: str | None = setting(None, "File with the training rows alone, instead of `path`.")
    val_path: str | None = setting(None, "File with the validation rows alone.")
    test_path: str | None = setting(None, "File with the test rows alone.")
    format: Literal["csv", "tsv", "jsonl", "json", "parquet", "hf"] | None = setting(
        None, "Format of the files.", shown="from the file's name"
    )
    delimiter: str | None = setting(
        None,
        "Character between the columns of a text file.",
        shown="from the file's name and content",
        min_length=1,
        max_length=1,
    )
    quoting: bool | None = setting(None, "Read quotes around values as quotes.", shown="yes for CSV, no for TSV")
    columns: Texts | None = setting(
        None, "Names of the columns of a file without a header, in order.", shown="the header", min_length=1
    )
    inputs: dict[str, str] | Texts | None = setting(
        None,
        'Which column fills which placeholder: `{ query = "text" }`. A list of names where both are the same.',
        shown="every column but ground truth and id, under its own name",
    )
    ground_truth: str | None = setting(None, "Column with the right answer.", shown="detected from the column names")
    id: str | None = setting(None, "Column that names the row in reports.", shown="the row number")
    labels: Texts | None = setting(
        None, "Labels to keep (the new names where renamed); rows with another ground truth are left out.", min_length=1
    )
    rename_labels: dict[str, str] = setting({}, 'New names of labels: `{ "0" = "negative" }`.')
    limit: int | None = setting(
        None, "Most rows to use of each file: a sample drawn with the job's seed.", shown="all", ge=1
    )
    train: Size | None = setting(
        None,
        "Training rows: a number of rows, or a share such as `0.5`. Parts without a size share the rows left in the "
        "proportion 30 : 35 : 35.",
        shown="their share, at most 200",
    )
    val: Size | None = setting(
        None, "Validation rows, on which candidates are compared: rows or share.", shown="their share, at most 300"
    )
    test: TestSize | None = setting(
        None,
        "Test rows, which the search never sees: rows or share. 0 means no verdict.",
        shown="their share, at most 500",
    )
    folds: Folds | None = setting(
        None,
        "Cross-validation, instead of `test`: the test rows are one of so many equal parts, and the seed says which. "
        "Seeds 0 to `folds` - 1 together test every row once. Other shares are of the rows that are not tested.",
    )
    train_rows: Rows | None = _rows("Training rows by their numbers, instead of `train`; needs `val_rows` too.")
    val_rows: Rows | None = _rows("Validation rows by their numbers, instead of `val`; needs `train_rows` too.")
    test_rows: Rows | None = _rows("Test rows by their numbers.", shown="of the rows left, as many as `test` says")
    stratify: bool = setting(True, "Keep the shares of the labels alike in training, validation and test rows.")


class FewShotTable(Table):
    """One demonstration of the starting prompt."""

    input: str = setting(..., "The user message of the demonstration, already filled in.")
    output: str = setting(..., "The answer that is shown for it.")


class MessageTable(Table):
    """One message of the starting prompt."""

    no_effect = compat.INITIAL_PROMPT
    role: Literal["system", "user", "assistant"] = setting(..., "Who speaks.")
    content: str = setting(
        ..., "The text; placeholders in system messages and the last user message.", aliases=("pattern",)
    )
    order: int | None = setting(None, "Position among the messages.", shown="as written")


class InitialPromptTable(Table):
    """The prompt that you have today. Placeholders are `{name}` or `{{name}}`; any other brace is plain text. A
    backslash before one makes it plain text, too; in TOML it needs single quotes."""

    no_effect = compat.INITIAL_PROMPT
    system: str | None = setting(None, "The instruction: the text that is optimized.", shown="empty")
    user: str | None = setting(
        None,
        "How a row becomes the user message.",
        shown="one line `name: {name}` for each input; the bare value for a single one",
    )
    messages: Annotated[tuple[MessageTable, ...], Strict(False)] | None = setting(
        None,
        "The prompt as messages, instead of `system` and `user`. A user message followed by an assistant message is a "
        "demonstration, which has no placeholders; what shows the row is the last user message.",
        aliases=("sections",),
        min_length=1,
    )
    few_shot_examples: Annotated[tuple[FewShotTable, ...], Strict(False)] = setting(
        (), "Demonstrations that the starting prompt shows."
    )
    frozen: Texts = setting((), "Texts of the prompt that every candidate must keep word for word.")
    wildcards: dict[str, Literal["REQUIRED", "OPTIONAL"]] = setting(
        {},
        "Placeholders that the prompt must use or may use.",
        kind='table whose values are "REQUIRED" or "OPTIONAL"',
    )


class PriceTable(Table):
    """What the model costs, in dollars per million tokens."""

    input: float = setting(..., "Dollars per million prompt tokens.", ge=0)
    output: float = setting(..., "Dollars per million answer tokens.", ge=0)
    cached_input: float | None = setting(
        None, "Dollars per million prompt tokens served from the provider's cache.", shown="as `input`", ge=0
    )


class ModelTable(Table):
    """A model behind a provider, each setting of which may be left to another table."""

    no_effect = compat.POLICY
    provider: str | None = setting(
        None,
        "Provider: `openai`, `anthropic`, `groq`, `ollama`, `local` (the embedded model), ...",
        shown="the part of `model` before its first `/`",
        min_length=1,
    )
    model: str | None = setting(
        None,
        "Model name as the provider spells it; `provider/model` where `provider` is not set.",
        min_length=1,
    )
    base_url: str | None = setting(
        None,
        "Address of an OpenAI-compatible server.",
        shown="the provider's own",
        kind="text that starts with http:// or https://",
        pattern=r"^https?://",
    )
    api_key_env: EnvName | None = setting(
        None,
        "Environment variable that holds the key. The key itself never stands in the file.",
        shown="the provider's own",
        kind="name of an environment variable, in capitals",
    )
    temperature: float | None = setting(None, "Sampling temperature.", shown="the task model's", ge=0, le=2)
    max_completion_tokens: int | None = setting(
        None,
        "Most tokens of one answer; also the worst case that is reserved for it.",
        aliases=("max_tokens",),
        shown="the task model's",
        ge=1,
    )
    top_p: float | None = setting(
        None, "Nucleus sampling: share of probability kept.", shown="the task model's", gt=0, le=1
    )
    seed: int | None = setting(None, "Sampling seed sent to the provider.", shown="the task model's")
    stop: Texts | None = setting(None, "Texts that end an answer.", shown="the task model's")
    timeout_s: float | None = setting(
        None, "Seconds after which one attempt is given up.", shown="the task model's, or 60", gt=0
    )
    stream: bool | None = setting(None, "Ask for a streamed answer.", shown="as the task model, or false")
    price: PriceTable | None = setting(None, "Price of the model.", shown="the built-in price list")
    extra: dict[str, JsonValue] | None = setting(
        None,
        "Provider fields, sent as they are.",
        shown="the task model's where it is the same model, else empty",
        kind="table of JSON values",
    )


class EndpointTable(ModelTable):
    """A model behind a provider."""

    temperature: float = setting(0.0, "Sampling temperature.", ge=0, le=2)
    max_completion_tokens: int = setting(
        1024, "Most tokens of one answer; also the worst case that is reserved for it.", aliases=("max_tokens",), ge=1
    )
    top_p: float | None = setting(
        None, "Nucleus sampling: share of probability kept.", shown="the provider's", gt=0, le=1
    )
    seed: int | None = setting(None, "Sampling seed sent to the provider.", shown="none is sent")
    stop: Texts = setting((), "Texts that end an answer.")


class PolicyTable(EndpointTable):
    """The task model: the one whose prompt is optimized."""

    timeout_s: float = setting(60.0, "Seconds after which one attempt is given up.", gt=0)
    stream: bool = setting(False, "Ask for a streamed answer.")
    extra: dict[str, JsonValue] = setting({}, "Provider fields, sent as they are.", kind="table of JSON values")


class ProposerTable(EndpointTable):
    """The model that writes new instructions. Where it names no model, the task model writes them."""

    no_effect = compat.PROPOSER
    provider: str | None = setting(None, "Provider of the proposer.", shown="the task model's", min_length=1)
    model: str | None = setting(
        None, "Model that writes instructions.", aliases=("meta_model",), shown="the task model", min_length=1
    )
    temperature: float = setting(1.0, "Sampling temperature of proposals.", ge=0, le=2)
    max_completion_tokens: int = setting(1024, "Most tokens of one proposal.", aliases=("max_tokens",), ge=1)


class JudgeTable(EndpointTable):
    """The model that scores answers for `metric = "judge"`. Where it names no model, the task model judges."""

    rubric: str = setting(..., "What a good answer is, in words.", min_length=1)
    provider: str | None = setting(None, "Provider of the judge.", shown="the task model's", min_length=1)
    model: str | None = setting(None, "Model that judges.", shown="the task model", min_length=1)
    max_completion_tokens: int = setting(512, "Most tokens of one judgement.", aliases=("max_tokens",), ge=1)


class ScoreTable(Table):
    """How an answer becomes a number, and how sure the verdict must be."""

    metric: str | None = setting(
        None,
        "`exact_match`, `contains`, `f1`, `regex`, `numeric_match`, `json_schema`, `judge`, or your own as "
        "`package.module:function` with `(trajectory, sample) -> Score` or a number.",
        shown="`exact_match`, or `judge` where a judge is set",
        min_length=1,
    )
    pattern: str | None = setting(None, "Regular expression that a right answer matches, for `regex`.")
    tolerance: float | None = setting(None, "Largest difference that counts as right, for `numeric_match`.", ge=0)
    schema_path: str | None = setting(
        None,
        "File with the JSON schema of a right answer, for `json_schema`, relative to this file.",
        aliases=("schema",),
    )
    options: dict[str, JsonValue] = setting({}, "Further options of the metric.", kind="table of JSON values")
    judge: JudgeTable | None = setting(None, "The judging model.")
    failure_share: float = setting(
        0.5, "Share of failed rollouts above which the run stops, since something is broken.", gt=0, le=1
    )
    min_effect: float = setting(0.0, "Smallest gain in score that is worth shipping.", ge=0)
    confidence: float = setting(
        0.95, "Confidence of the verdict and its intervals, and of the interval of `rollouts evaluate`.", gt=0.5, lt=1
    )
