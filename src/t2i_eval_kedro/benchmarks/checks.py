"""Checks of a benchmark in canonical form: what its readers cannot see because it stands in no single row.

Each check returns rows for the table of data issues and changes nothing. Figures that decide what is noted are parameters; their
defaults are ours.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from t2i_eval_kedro.benchmarks.base import Benchmark
from t2i_eval_kedro.benchmarks.files import DataIssues
from t2i_eval_kedro.benchmarks.splits import UNUSED, near_form, normalised
from t2i_eval_kedro.errors import T2IEvalError

WARNING = "warning"
MEAN_RATER = "mean"
UNKNOWN_GENERATOR = "unknown"
EXAMPLES = 5


@dataclass(frozen=True)
class Thresholds:
    """When something is noted.

    Attributes:
        sparse_share: a rater with fewer ratings than this share of the median rater's "answered almost nothing".
        constant_ratings: a rater whose ratings of one dimension, at least this many, are all the same.
        follow_items: items that a rater must share with others before their dimensions are compared.
        follow_deviations: how many standard errors closer a rater's scores of one dimension must be to the others'
            scores of another dimension than to those of their own.
    """

    sparse_share: float = 0.1
    constant_ratings: int = 10
    follow_items: int = 20
    follow_deviations: float = 3.0


def check_benchmark(benchmark: Benchmark, thresholds: Thresholds | None = None) -> pd.DataFrame:
    """What is wrong with ``benchmark`` as a whole, as rows for its table of data issues."""
    thresholds = thresholds or Thresholds()
    issues = DataIssues()
    _items(benchmark, issues)
    _joins(benchmark, issues)
    _raters(benchmark.ratings, thresholds, issues)
    _followers(benchmark.ratings, thresholds, issues)
    _quotes(benchmark.transcripts, issues)
    return issues.frame()


def check_splits(items: pd.DataFrame, splits: pd.DataFrame) -> pd.DataFrame:
    """Prompt texts that stand in two folds of one split, and items without fold, as rows for the table of data issues."""
    issues = DataIssues()
    joined = splits.merge(items[["item_id", "prompt"]], on="item_id", how="left")
    for name, rows in joined[joined["fold"] != UNUSED].groupby("split_name"):
        folds = rows.groupby(rows["prompt"].map(near_form))["fold"].nunique()
        _several(
            issues, "prompt_in_two_folds", f"split {name}", list(folds.index[folds > 1]), "prompts are in two folds"
        )
        lacking = items.loc[~items["item_id"].isin(joined.loc[joined["split_name"] == name, "item_id"]), "item_id"]
        _several(issues, "item_without_fold", f"split {name}", list(lacking), "items have no fold")
    return issues.frame()


def count_excluded(issues: pd.DataFrame) -> int:
    """How many items, rows and ratings were excluded: the counts of all issues whose action says so."""
    gone = issues["action"].str.contains("excluded", regex=False)
    return int(issues.loc[gone, "count"].sum())


def refuse_bad_rows(benchmark: Benchmark, limit: float) -> None:
    """Check that at most the fraction ``limit`` of the ratings, scores and preferences that are there was excluded.

    Raises:
        T2IEvalError: more was; the sentence counts it and quotes the first place in that table.
    """
    used = {
        "ratings": int(benchmark.ratings["score"].notna().sum()),
        "scores": int(benchmark.scores["score"].notna().sum()),
        "preferences": len(benchmark.preferences),
    }
    for table, kept in used.items():
        bad = benchmark.excluded.get(table, 0)
        if bad > limit * (bad + kept):
            raise T2IEvalError(
                f"{bad} of {bad + kept} {table} of benchmark '{benchmark.name}' are off the scale, unreadable or of no item, "
                f"the first at {benchmark.first_excluded[table]}; correct them, or raise ingestion.max_bad_ratings above "
                f"{bad / (bad + kept):.3f}."
            )


def _several(
    issues: DataIssues, kind: str, where: str, names: Sequence[object], what: str, action: str = WARNING
) -> None:
    """Note many issues of one kind in one line."""
    if names:
        shown = ", ".join(map(str, names[:EXAMPLES])) + (", ..." if len(names) > EXAMPLES else "")
        issues.add(kind, where, f"{len(names)} {what}: {shown}", action, len(names))


def _items(benchmark: Benchmark, issues: DataIssues) -> None:
    items = benchmark.items
    without = items.loc[items["image"].isna(), "item_id"]
    if len(without) == len(items):
        issues.add("no_image", "items", f"none of the {len(items)} items has an image", WARNING, len(items))
    else:
        _several(issues, "no_image", "items", list(without), "items have no image")
    if len(benchmark.preferences):
        rated = set(benchmark.preferences["item_a"]) | set(benchmark.preferences["item_b"])
    else:
        rated = set()
    rated |= set(benchmark.ratings.loc[benchmark.ratings["score"].notna(), "item_id"])
    rated |= set(benchmark.element_ratings["item_id"])
    _several(issues, "no_rating", "items", [i for i in items["item_id"] if i not in rated], "items have no rating")
    texts = items["prompt"].map(normalised)
    known = items["generator"] != UNKNOWN_GENERATOR
    cells = pd.DataFrame({"text": texts, "generator": items["generator"]})[known]
    sizes = cells.value_counts()
    if len(sizes) > 1 and sizes.min() == sizes.max() > 1:  # by design: several seeds
        detail = f"{sizes.max()} images of each prompt by each generator (such as seeds)"
        issues.add("several_images", "items", detail, WARNING, len(cells))
    else:
        twins = list(items.loc[known, "item_id"][cells.duplicated()])
        _several(issues, "duplicate_item", "items", twins, "items are of a prompt and generator that stood before")
    ids = items.groupby(texts)["prompt_id"].nunique()
    _several(issues, "duplicate_prompt", "items", list(ids.index[ids > 1]), "prompts stand under several identifiers")
    forms = pd.DataFrame({"form": items["prompt"].map(near_form), "text": texts}).drop_duplicates()
    near = forms[forms["form"].duplicated(keep=False)].groupby("form")["text"].first()
    _several(
        issues,
        "near_duplicate_prompt",
        "items",
        list(near),
        "prompts differ from another in articles, accents or punctuation alone",
    )
    counts = items[known].groupby("generator")["prompt_id"].nunique()
    for generator, count in counts[counts < counts.max()].items():
        detail = f"{count} prompts where another generator has {counts.max()}"
        issues.add("incomplete_generator", generator, detail, WARNING, int(counts.max() - count))


def _joins(benchmark: Benchmark, issues: DataIssues) -> None:
    item_ids, prompt_ids = set(benchmark.items["item_id"]), set(benchmark.items["prompt_id"])
    columns = [
        ("ratings", "item_id", item_ids),
        ("element_ratings", "item_id", item_ids),
        ("preferences", "item_a", item_ids),
        ("preferences", "item_b", item_ids),
        ("scores", "item_id", item_ids),
        ("element_scores", "item_id", item_ids),
        ("transcripts", "item_id", item_ids),
        ("elements", "prompt_id", prompt_ids),
    ]
    for table, column, known in columns:
        strange = [name for name in getattr(benchmark, table)[column].unique() if name not in known]
        _several(issues, "not_joined", table, strange, f"values of {column} are in no item")
    prompt_of = benchmark.items.set_index("item_id")["prompt_id"]
    pairs = set(zip(benchmark.elements["prompt_id"], benchmark.elements["element_id"], strict=True))
    for table in ("element_ratings", "element_scores"):
        rows = getattr(benchmark, table)[["item_id", "element_id"]].drop_duplicates()
        prompts = rows["item_id"].map(prompt_of)
        strange = [
            f"{item} {element}"
            for item, prompt, element in zip(rows["item_id"], prompts, rows["element_id"], strict=True)
            if (prompt, element) not in pairs
        ]
        _several(issues, "not_joined", table, strange, "rows are about no element of their prompt")


def _raters(ratings: pd.DataFrame, thresholds: Thresholds, issues: DataIssues) -> None:
    used = ratings[ratings["score"].notna() & (ratings["rater_id"] != MEAN_RATER)]
    if used["rater_id"].nunique() < 2:
        return
    for dimension, rows in used.groupby("dimension"):
        counts = rows.groupby("rater_id").size()
        for rater, count in counts[counts < thresholds.sparse_share * counts.median()].items():
            detail = f"{count} ratings of {dimension}; the median rater gave {counts.median():g}"
            issues.add("sparse_rater", f"rater {rater}", detail, WARNING)
        scores = rows.groupby("rater_id")["score"]
        constant = scores.agg(["nunique", "size", "first"])
        constant = constant[(constant["nunique"] == 1) & (constant["size"] >= thresholds.constant_ratings)]
        for rater, row in constant.iterrows():
            detail = f"all {int(row['size'])} ratings of {dimension} are {row['first']:g}"
            issues.add("constant_rater", f"rater {rater}", detail, WARNING)


def _followers(ratings: pd.DataFrame, thresholds: Thresholds, issues: DataIssues) -> None:
    """Raters whose scores of one dimension follow what the others gave to another dimension, or copy their own.

    The rank correlation of a rater's scores with the others' mean is compared between dimensions by the difference
    of their Fisher transforms, with the standard error sqrt(2 / (n - 3)) of independent correlations; the two are
    not independent, so this errs on the side of noting less.
    """
    used = ratings[ratings["score"].notna()]
    dimensions = sorted(used["dimension"].unique())
    if len(dimensions) < 2:
        return
    wide = used.pivot(index="item_id", columns=["dimension", "rater_id"], values="score")
    for dimension in dimensions:
        for rater in wide[dimension].columns:
            rated = wide[dimension, rater].dropna()
            if len(rated) < thresholds.follow_items or rated.nunique() < 2:
                continue
            closeness = {}
            for other in dimensions:
                theirs = wide[other].drop(columns=rater, errors="ignore").reindex(rated.index).mean(axis=1)
                closeness[other] = _fisher(rated, theirs, thresholds.follow_items)
                if other > dimension and rater in wide[other] and rated.nunique() > 2:
                    _copies(rated, wide[other, rater], f"rater {rater}", dimension, other, issues)
            if not np.isfinite(closeness[dimension]):
                continue  # nobody else rated these items on the dimension, so there is nothing to compare with
            best = max(closeness, key=lambda name: closeness[name])
            error = np.sqrt(2 / max(len(rated) - 3, 1))
            if closeness[best] - closeness[dimension] > thresholds.follow_deviations * error:
                near, far = np.tanh(closeness[best]), np.tanh(closeness[dimension])
                detail = (
                    f"scores of {dimension} follow the others' {best} (rank correlation {near:.2f}) rather than their "
                    f"{dimension} ({far:.2f}), {len(rated)} items"
                )
                issues.add("follows_other_dimension", f"rater {rater}", detail, WARNING)


def _fisher(a: pd.Series, b: pd.Series, least: int) -> float:
    """Fisher transform of Spearman's correlation over the items that both have; -inf where they are too few."""
    both = b.notna()
    if both.sum() < least or b[both].nunique() < 2 or a[both].nunique() < 2:
        return -np.inf
    return float(np.arctanh(np.clip(a[both].corr(b[both], method="spearman"), -0.999999, 0.999999)))


def _copies(ratings: pd.Series, other: pd.Series, where: str, dimension: str, name: str, issues: DataIssues) -> None:
    shared = other.reindex(ratings.index)
    if shared.notna().all() and (shared == ratings).all():
        detail = f"all {len(ratings)} scores of {dimension} are those of {name}"
        issues.add("copied_dimension", where, detail, WARNING)


_NUMBER = r"(?<![\d.])(-?\d+(?:\.\d+)?)(?!\.?\d)"
_QUOTE = re.compile(
    rf"\b(?:score|scores|scored|rating|rated|rate|grade)\b[^\d.!?\n]{{0,30}}{_NUMBER}|{_NUMBER}\s*(?:/|out of)\s*\d+",
    re.IGNORECASE,
)


def quotes_score(text: str, score: float) -> bool:
    """Whether ``text`` states ``score`` as a score ("a score of 7", "7/10"), so that nothing is left to predict."""
    return any(float(match[1] or match[2]) == score for match in _QUOTE.finditer(text))


def _quotes(transcripts: pd.DataFrame, issues: DataIssues) -> None:
    """Explanations that state the score which a later request of the same question asks for."""
    paired = transcripts[transcripts["question_id"].duplicated(keep=False) & transcripts["answer"].notna()]
    quoting = []
    for question_id, rows in paired.groupby("question_id"):
        numbers = pd.to_numeric(rows["answer"], errors="coerce")
        texts = rows.loc[numbers.isna(), "answer"]
        if any(quotes_score(text, score) for text in texts for score in numbers.dropna()):
            quoting.append(question_id)
    _several(issues, "quoted_label", "transcripts", quoting, "explanations state the score that is asked for next")


def check_examples(examples: pd.DataFrame) -> pd.DataFrame:
    """Training examples whose request states the score that they should teach, as rows for a table of data issues.

    An example is noted where the explanation of the same question (same ``question_id``) stands in its request and
    states the score.
    """
    issues = DataIssues()
    explained = examples[examples["score"].isna()].groupby("question_id")["completion"].agg(list).to_dict()
    scored = examples[examples["score"].notna()]
    stating = [
        example_id
        for example_id, question_id, score in zip(
            scored["example_id"], scored["question_id"], scored["score"], strict=True
        )
        if any(quotes_score(text, score) for text in explained.get(question_id, []))
    ]
    _several(issues, "quoted_label", "examples", stating, "requests state the score that should be predicted")
    return issues.frame()
