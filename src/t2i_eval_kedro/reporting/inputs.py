"""What a report is made from, and the names that it prints for evaluators, dimensions and statistics."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from t2i_eval_kedro import schema
from t2i_eval_kedro.summary_keys import with_current_keys


@dataclass(frozen=True)
class ReportInputs:
    """Everything that a report shows; only ``summary`` is needed, and what is absent is said to be absent.

    Attributes:
        summary: the measured figures: ``benchmark``, ``variant``, ``seed``, optionally ``primary`` (the dimension that
            the headline is about; else ``overall``, ``alignment``, ``O`` or the first); ``evaluators`` -> name ->
            dimension -> statistic -> ``{value, low, high, n}`` (``value`` null with a ``reason`` where undefined;
            oriented so that higher is more agreement whatever the direction of the scores); ``counts`` -> name ->
            dimension -> ``{ok, unparsed, failed, not_applicable}``; ``significance``, a list of paired differences ``{a, b,
            dimension, statistic, difference, low, high}`` (``a`` minus ``b``, optionally with ``p`` and ``p_holm``);
            and where measured ``settings`` (``confidence``), ``data``, ``within_group``, ``ranking``,
            ``raters``, ``noise_ceiling``, ``leave_one_rater_out`` as :func:`t2i_eval_kedro.agreement.summarise` gives them, and ``published`` (a list of
            records).
        card: the data card of the benchmark; any keys, of which ``title``, ``synthetic``, ``licence``, ``teacher``,
            ``dimensions`` and ``data_issues`` are known.
        items: canonical table of the items that the figures are measured on.
        ratings: canonical table of people's ratings of those items.
        diagnostics: ``chain`` (name -> list of records), ``kept_or_forgotten``, ``rationales`` and ``score_variety`` (lists of records), as the
            pipeline meta_evaluation gives them.
        scores: canonical table of the evaluators' scores of those items.
        transcripts: canonical table of what was asked and answered; may be empty.
        image: gives the encoded bytes of an image by its key (column ``image`` of ``items``); None where no image is
            at hand.
        sft_curve: columns ``step``, ``loss`` and, where measured, ``validation_loss``.
        grpo_curve: columns ``step``, ``reward`` and, where measured, ``reward_std``, ``best_constant_reward``,
            ``zero_variance_groups`` and ``unparsed``.
        grpo_seconds: seconds that a step of GRPO took, by part: ``generation``, ``reward``, ``update``.
        rebalancing: columns ``task``, ``aspect``, ``bin``, ``before``, ``after`` (numbers of training examples).
        teacher: ``costs`` (the account of the teacher), ``checks`` (name -> list of records) and ``break_even`` (figures), each
            empty where there is none.
        provenance: commit, versions, model, wall times and the like; nested mappings are allowed.
        commands: the shell commands that make this report again; by default the ``kedro run`` of the summary's
            benchmark, variant and seed.
    """

    summary: Mapping[str, Any]
    diagnostics: Mapping[str, Any] = field(default_factory=dict)
    card: Mapping[str, Any] = field(default_factory=dict)
    items: pd.DataFrame = field(default_factory=schema.ITEMS.empty)
    ratings: pd.DataFrame = field(default_factory=schema.RATINGS.empty)
    scores: pd.DataFrame = field(default_factory=schema.SCORES.empty)
    transcripts: pd.DataFrame = field(default_factory=schema.TRANSCRIPTS.empty)
    image: Callable[[str], bytes] | None = None
    sft_curve: pd.DataFrame | None = None
    grpo_curve: pd.DataFrame | None = None
    grpo_seconds: Mapping[str, float] = field(default_factory=dict)
    rebalancing: pd.DataFrame | None = None
    teacher: Mapping[str, Any] = field(default_factory=dict)
    provenance: Mapping[str, Any] = field(default_factory=dict)
    commands: Sequence[str] = ()

    def __post_init__(self) -> None:
        """Read a summary that was written with keys of an earlier release."""
        object.__setattr__(self, "summary", with_current_keys(self.summary))


_BASELINE_TITLES = {
    schema.GENERATOR_BASELINE: "baseline: the mean of the image’s generator in training",
    schema.GRADIENT_BASELINE: "baseline: the largest step in brightness",
    schema.LENGTH_BASELINE: "baseline: the shorter prompt",
}
_TITLES = {
    schema.BASE: "untrained judge",
    schema.SFT: "judge trained by SFT",
    schema.GRPO: "judge trained by GRPO",
    schema.TEACHER: "teacher of the training examples",
}
_STATISTICS = {
    "spearman": "Spearman ρ",
    "kendall_b": "Kendall τ-b",
    "kendall_c": "Kendall τ-c",
    "pearson": "Pearson r",
    "pearson_logistic": "Pearson r, logistic fit",
    "rmse": "RMSE",
    "pairwise_accuracy": "Pairwise accuracy",
    "krippendorff_alpha_interval": "Krippendorff α, interval",
    "krippendorff_alpha_ordinal": "Krippendorff α, ordinal",
    "fleiss_kappa": "Fleiss κ",
    "weighted_kappa": "Weighted κ",
    "icc_1": "ICC(1)",
    "icc_2": "ICC(2)",
    "icc_3": "ICC(3)",
    "ceiling spearman": "Ceiling of Spearman ρ",
    "ceiling pearson": "Ceiling of Pearson r",
}
HEADLINE = ("spearman", "kendall_b", "pearson")
LOWER_IS_BETTER = ("rmse",)
_PRIMARY_DIMENSIONS = ("overall", "alignment", "O")


def role(judge: str, protocol: str | None) -> str | None:
    """``judge`` where it is one of this project's (``base``, ``sft``, ``grpo``, ``teacher``), None for recorded scores."""
    return judge if judge in schema.JUDGES and protocol is not None else None


def evaluator_title(judge: str, protocol: str | None) -> str:
    """An evaluator in plain words: "judge trained by SFT, decomposed verdict"; "recorded scores" otherwise."""
    if role(judge, protocol) is None:
        return _BASELINE_TITLES.get(judge, "recorded scores")
    if schema.evaluator_id(judge, protocol) == judge:
        return _TITLES[judge]
    return f"{_TITLES[judge]}, {'decomposed verdict' if protocol == 'decomposed' else f'asked by {protocol}'}"


def statistic_label(name: str) -> str:
    """The printed name of a statistic."""
    return _STATISTICS.get(name, name.replace("_", " "))


def plain(name: str) -> str:
    """A dimension or another key as words."""
    return name.replace("_", " ")


def ordered(names: Sequence[str], first: Sequence[str]) -> list[str]:
    """``names`` without repeats in their order, those named in ``first`` before all others."""
    unique = list(dict.fromkeys(names))
    return [name for name in first if name in unique] + [name for name in unique if name not in first]


def order_dimensions(names: Sequence[str]) -> list[str]:
    """Dimensions in reading order: the overall one first, the rest as given."""
    return ordered(names, _PRIMARY_DIMENSIONS)


def order_statistics(names: Sequence[str]) -> list[str]:
    """Statistics in reading order: Spearman, Kendall, Pearson, the rest as given."""
    return ordered(names, HEADLINE)


def asked_in_both_orders(summary: Mapping[str, Any]) -> bool:
    """Whether a judge of ``summary`` compared the images of a pair in both orders."""
    compared = summary.get("preferences") or {}
    return any("order_consistency" in cell for dimensions in compared.values() for cell in dimensions.values())
