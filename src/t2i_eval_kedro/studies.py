"""Studies: a comparison of variants over seeds. Runs what is missing of one, and measures its variants against each other.

A run of a study is one variant with one seed, the pipeline ``ablation_run``.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from functools import cache, cached_property
from itertools import chain
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
import pandas as pd
from kedro.validation.parameter_validator import ParameterValidator

from t2i_eval_kedro import schema
from t2i_eval_kedro.agreement.across_seeds import Kept, adjust, compare_variants
from t2i_eval_kedro.agreement.rated_items import RatedItems, build
from t2i_eval_kedro.agreement.slices import prompt_slices
from t2i_eval_kedro.config import ExperimentConfigLoader, catalog_entries, load_config
from t2i_eval_kedro.datasets.atomic import atomic_file
from t2i_eval_kedro.errors import T2IEvalError
from t2i_eval_kedro.judging.evaluators import in_fold
from t2i_eval_kedro.pipeline_registry import ABLATION_RUN, register_pipelines
from t2i_eval_kedro.provenance import commit, differing, recipe
from t2i_eval_kedro.reporting.ablations import build_ablations, judge_claims, pairs
from t2i_eval_kedro.steps import CONVERSATION

SCORES: Mapping[str, tuple[str, tuple[str, ...]]] = {
    "free_form": ("Free-form score", ("decomposed", CONVERSATION, "direct")),
    "expected": ("Expected score", ("decomposed_levels", "direct_levels", "pn_vqa")),
    "request": ("Direct request, expected score", ("levels",)),
}
"""The scores that a variant is measured by -> title and protocols, of which its judge has one: what it writes at the end of its own way
of judging, the expectation over rating tokens at the same place, and that of one direct request for a score."""
PERMUTATIONS_PER_TEST = 100
"""Permutations per test of the family, so that Holm's correction can leave a p-value of 0.01: with a thousand for sixty tests no difference,
however large, could be below 0.06."""
SHARED = ("ingestion", "teacher_distillation")
"""The pipelines whose results all runs of a study share."""
TRAINED = ("rebalancing", "sft")
"""The pipelines that make a run's scores of them; the summary beside them is no part of the table."""
NO_SCORES = (
    *("judging.batch_size", "judging.baseline_", "judging.attribution_items", "teacher.attribution_items"),
    *("teacher.batch", "teacher.poll_s", "teacher.budget", "teacher.prices"),
    *(
        f"{server}.{name}"
        for server in ("judging.server", "teacher.openai")
        for name in ("requests_per_minute", "tokens_per_minute", "in_flight", "timeout_s", "retries")
    ),
)
"""What settings begin with that a run's scores do not depend on: how fast it is asked, what it costs, what else is asked."""
_DATASETS = (
    "items",
    "splits",
    "ratings",
    "elements",
    "data_card",
    "teacher_scores",
    "sft_scores",
    "sft_time",
    "summary",
)


@dataclass(frozen=True)
class Study:
    """One study of one student on one benchmark.

    Attributes:
        name: name in ``studies`` of ``parameters_ablations.yml``.
        benchmark: benchmark that is measured on.
        student: student that is trained.
        variants: variants to compare; the first is what the others are compared with.
        seeds: variant -> its seeds; a lesser row may have fewer.
        env: configuration environment of the runs.
        config: the configuration that all of this comes from.
    """

    name: str
    benchmark: str
    student: str
    variants: tuple[str, ...]
    seeds: Mapping[str, tuple[int, ...]]
    env: str
    config: ExperimentConfigLoader

    @classmethod
    def load(cls, name: str, benchmark: str | None, student: str | None, env: str) -> Study:
        """The study ``name``, of the benchmark and student of the parameters where none is given.

        Raises:
            T2IEvalError: there is no such study, student or environment.
        """
        chosen = {"benchmark": benchmark, "student": student}
        config = load_config(Path("conf"), env, {axis: value for axis, value in chosen.items() if value})
        axes, studies = config.resolved.axes, config.resolved.parameters["studies"]
        if name not in studies:
            raise T2IEvalError(f"There is no study '{name}'; the studies are {', '.join(studies)}.")
        seeds = seeds_of(studies[name])
        return cls(name, axes.benchmark, axes.student, tuple(seeds), seeds, env, config)

    def parameters(self, variant: str, seed: int) -> dict[str, Any]:
        """The parameters of one run."""
        return self.config.resolve(variant=f"{self.name}/{variant}", seed=seed).parameters

    def files(self, variant: str, seed: int) -> dict[str, Path]:
        """Dataset -> file of one run."""
        return self._files[variant, seed]

    @cached_property  # the catalog is read anew for each run
    def _files(self) -> dict[tuple[str, int], dict[str, Path]]:
        files = {}
        for variant, seed in self.runs:
            axes = self.config.resolve(variant=f"{self.name}/{variant}", seed=seed).axes
            entries = catalog_entries(self.config.catalog_of(asdict(axes)), _DATASETS)
            files[variant, seed] = {name: Path(entry["filepath"]) for name, entry in entries.items()}
        return files

    @property
    def folder(self) -> Path:
        """The study's report folder."""
        return self.files(*self.runs[0])["summary"].parents[2]

    @property
    def runs(self) -> list[tuple[str, int]]:
        """Every variant with every seed of it; one seed of all variants before the next, so that a study that is cut off compares them all."""
        seeds = sorted({seed for some in self.seeds.values() for seed in some})
        return [(variant, seed) for seed in seeds for variant in self.variants if seed in self.seeds[variant]]

    def made(self) -> dict[tuple[str, int], list[str] | None]:
        """Each run that is complete, and the settings that were others when it was made; None where its summary does not say."""
        return {run: self._changed(*run) for run in self.runs if self._complete(*run)}

    def missing(self) -> list[tuple[str, int]]:
        """The runs that are not complete, or were made with other settings than those of now."""
        made = self.made()
        return [run for run in self.runs if made.get(run, True)]

    def _complete(self, variant: str, seed: int) -> bool:
        files = self.files(variant, seed)
        return all(files[name].is_file() for name in ("sft_time", "sft_scores"))

    def _changed(self, variant: str, seed: int) -> list[str] | None:
        summary = self.files(variant, seed)["summary"]
        kept = json.loads(summary.read_text(encoding="utf-8")).get("recipe") if summary.is_file() else None
        if kept is None:
            return None
        # As kedro run checks its parameters, which adds defaults.
        checked = ParameterValidator({ABLATION_RUN: register_pipelines()[ABLATION_RUN]})
        now = json.loads(json.dumps(recipe(checked.validate_raw_params(self.parameters(variant, seed)))))
        groups = groups_of(*SHARED, *TRAINED)
        names = differing({name: kept.get(name) for name in groups}, {name: now.get(name) for name in groups})
        return [name for name in names if not name.startswith(NO_SCORES)]

    @property
    def again(self) -> str:
        """The command that makes what is missing of this study, and its table."""
        given = f"--study {self.name} --benchmark {self.benchmark} --student {self.student} --env {self.env}"
        return f"kedro ablations {given} --jobs 2"

    def command(self, pipelines: str, **axes: object) -> list[str]:
        """The command that runs ``pipelines`` with the study's student on its benchmark."""
        fixed: dict[str, object] = {"benchmark": self.benchmark, "student": self.student}
        given = ",".join(f"{name}={value}" for name, value in (fixed | axes).items())
        return ["kedro", "run", f"--env={self.env}", f"--pipelines={pipelines}", f"--params={given}"]


def run_missing(study: Study, jobs: int, report: Callable[[str], None]) -> list[str]:
    """Make the missing runs, ``jobs`` at a time with one thread each; ``report`` gets each command before it starts.

    Returns:
        A line on each run that failed, with the last line of its error.

    Raises:
        T2IEvalError: what all runs share could not be made.
    """
    runs = study.missing()
    if not runs:
        return []
    files = study.files(*runs[0])
    changed = {name.split(".")[0] for names in study.made().values() for name in names or ()}
    if changed & groups_of(*SHARED) or not all(files[name].is_file() for name in ("items", "teacher_scores")):
        _run(study.command(",".join(SHARED)), report)
    with ThreadPoolExecutor(jobs) as pool:
        waiting = [
            pool.submit(_run, study.command(ABLATION_RUN, variant=f"{study.name}/{variant}", seed=seed), report)
            for variant, seed in runs
        ]
        return [str(error) for run in waiting if (error := run.exception())]


@cache
def groups_of(*pipelines: str) -> set[str]:
    """The groups of parameters that these pipelines are given."""
    registered = register_pipelines()
    inputs = {name for pipeline in pipelines for name in registered[pipeline].inputs()}
    return {name.removeprefix("params:").split(".")[0] for name in inputs if name.startswith("params:")}


def notes(study: Study, jobs: int) -> list[str]:
    """A sentence on the runs that were made with other settings than those of now, and one on those that do not say with which."""
    made = study.made()
    changed = [run for run, names in made.items() if names]
    unknown = [run for run, names in made.items() if names is None]
    lines = []
    if changed:
        names = ", ".join(sorted({name for run in changed for name in made[run] or ()}))
        then = "are made again" if jobs else f"are left out; '{study.again}' makes them again"
        lines.append(f"{_listed(changed)} were made with other settings ({names}) and {then}.")
    if unknown:
        lines.append(
            f"{_listed(unknown)} have no summary that says with which settings, and are taken to be of those of now."
        )
    return lines


def _listed(runs: Sequence[tuple[str, int]]) -> str:
    return ", ".join(f"{variant}/seed_{seed}" for variant, seed in runs)


def _run(command: Sequence[str], report: Callable[[str], None]) -> None:
    report(" ".join(command))
    done = subprocess.run(
        [sys.executable, "-m", *command], env=os.environ | {"OMP_NUM_THREADS": "1"}, capture_output=True, text=True
    )
    if done.returncode:
        # What is logged begins with the time, and may come after the error.
        *_, last = ["", *(line for line in done.stderr.strip().splitlines() if not re.match(r"\d\d:\d\d:\d\d ", line))]
        raise T2IEvalError(f"'{' '.join(command)}' failed with status {done.returncode}: {last}")


def measure(study: Study, *, n_resamples: int | None = None) -> dict[str, Any]:
    """The result that :func:`~t2i_eval_kedro.reporting.ablations.build_ablations` draws.

    Raises:
        T2IEvalError: fewer than two variants have a run with the same seed, or no judge has one of :data:`SCORES`.
    """
    missing = study.missing()
    first_seeds = {seed for seed in study.seeds[study.variants[0]] if (study.variants[0], seed) not in missing}
    seeds = {
        variant: done
        for variant in study.variants
        if first_seeds.intersection(done := [seed for seed in study.seeds[variant] if (variant, seed) not in missing])
    }
    variants = list(seeds)
    if len(variants) < 2:
        raise T2IEvalError(
            f"Study '{study.name}' needs a run of '{study.variants[0]}' and one of another variant with the same seed; make the runs with "
            f"'{study.again}'."
        )
    first = variants[0]
    files, config = study.files(*study.runs[0]), study.parameters(*study.runs[0])
    meta = config["meta_evaluation"]
    tables = {name: pd.read_parquet(files[name]) for name in ("items", "splits", "ratings", "elements")}
    card = json.loads(files["data_card"].read_text(encoding="utf-8"))
    items = in_fold(tables["items"], tables["splits"], config["judging"]["fold"])
    dimensions = [entry["name"] for entry in card["dimensions"]]
    dimension = "overall" if "overall" in dimensions else dimensions[0]
    ratings = tables["ratings"][tables["ratings"]["dimension"] == dimension]
    judges = {variant: {seed: f"{variant}/{seed}" for seed in seeds[variant]} for variant in variants}
    scores = _scores_of_runs(study, judges)
    left_out = {variant: study.parameters(variant, seeds[variant][0])["examples"]["leave_out"] for variant in variants}
    chosen = {"n_resamples": n_resamples or meta["n_resamples"], "confidence": meta["confidence"], "seed": meta["seed"]}
    columns: dict[str, Any] = {}
    samples: dict[str, RatedItems] = {}
    for kind, (title, protocols) in SCORES.items():
        (rated,) = build(items, ratings, _by_first(scores, protocols), missing="worst").values() or (None,)
        if rated is None:
            raise T2IEvalError(f"Nobody rated '{dimension}' in the fold '{config['judging']['fold']}'.")
        (readable,) = build(items, ratings, _by_first(scores, protocols)).values()
        samples[kind] = rated
        if shares := _readable(readable, judges):  # a score that no judge has is no column
            columns[kind] = {"title": title, "readable": shares}
    if not columns:
        raise T2IEvalError(
            f"No judge of study '{study.name}' has a score of '{dimension}' by {', '.join(chain(*(names for _, names in SCORES.values())))}; "
            "add one of them to judging.protocols of the study's overrides."
        )
    sample = next(iter(samples.values()))
    generators = np.array([*sample.generators, None])[sample.generator]
    unseen = {variant: np.isin(generators, names) for variant, names in left_out.items() if names}
    compared = pairs(variants, first)
    permutations = max(chosen["n_resamples"], PERMUTATIONS_PER_TEST * len(compared) * len(columns))
    for kind, column in columns.items():
        column |= _compared(samples[kind], judges, compared, unseen, chosen | {"n_permutations": permutations})
    adjust(entry for column in columns.values() for entry in column["differences"])
    rated_rows = items.set_index("item_id").loc[list(sample.item_ids)].reset_index()
    held_out = [*config["ingestion"]["split"]["leave_out"], *config["ingestion"]["shapes"]["held_out"]]
    of_slices: list[str] = [kind for kind in ("free_form", "expected") if kind in columns] or list(columns)
    slices: dict[str, Any] = {}
    for name, part in prompt_slices(rated_rows, tables["elements"], held_out).items():
        kept = {variant: part.rows & unseen.get(variant, True) for variant in variants}
        measured = {kind: _compared(samples[kind], judges, compared, kept, chosen) for kind in of_slices}
        slices[name] = {"title": part.title, "n": int(part.rows.sum()), "scores": measured}
    adjust(entry for part in slices.values() for column in part["scores"].values() for entry in column["differences"])
    return {
        "study": study.name,
        "benchmark": card["name"],
        "student": study.student,
        "synthetic": card["synthetic"],
        "dimension": dimension,
        "statistic": "spearman",
        "level": chosen["confidence"],
        "n_resamples": chosen["n_resamples"],
        "n_permutations": permutations,
        "first": first,
        "seeds": seeds,
        "variants": {variant: _facts(study, variant, seeds[variant], left_out[variant]) for variant in variants},
        "scores": columns,
        "slices": slices,
        "claims": judge_claims({kind: column["differences"] for kind, column in columns.items()}),
        "missing": [f"{variant}/seed_{seed}" for variant, seed in missing],
        "command": study.again,
        "commit": commit(),
    }


def _scores_of_runs(study: Study, judges: Mapping[str, Mapping[int, str]]) -> pd.DataFrame:
    """The canonical table ``scores`` of all runs, each under its own judge's name."""
    read = [
        schema.SCORES.check(pd.read_parquet(study.files(variant, seed)["sft_scores"])).assign(judge=name)
        for variant, by_seed in judges.items()
        for seed, name in by_seed.items()
    ]
    return pd.concat(read, ignore_index=True)


def _by_first(scores: pd.DataFrame, protocols: Sequence[str]) -> pd.DataFrame:
    """The scores by the first of ``protocols`` that each judge was asked by, as if there were no other."""
    order = scores["protocol"].map({name: place for place, name in enumerate(protocols)})
    first = order.groupby(scores["judge"]).transform("min")
    return scores[order.notna() & (order == first)].assign(protocol=None)


def _readable(sample: RatedItems, judges: Mapping[str, Mapping[int, str]]) -> dict[str, float]:
    """Variant -> share of the rated items whose scores could be read, the mean over its seeds."""
    return {
        variant: round(fmean(float(np.isfinite(sample.scores[name]).mean()) for name in names.values()), 3)
        for variant, names in judges.items()
        if all(name in sample.scores for name in names.values())
    }


def _compared(
    sample: RatedItems,
    judges: Mapping[str, Mapping[int, str]],
    compared: Sequence[tuple[str, str]],
    kept: Mapping[str, Kept],
    chosen: Mapping[str, Any],
) -> dict[str, Any]:
    """Figures and differences of the variants that have this score; a score that could not be read is the judge's worst."""
    having = {
        variant: names for variant, names in judges.items() if all(name in sample.scores for name in names.values())
    }
    asked = [(a, b) for a, b in compared if a in having and b in having]
    figures, differences = compare_variants(sample, having, asked, kept=kept, **chosen)
    return {"figures": figures, "differences": differences}


def _facts(study: Study, variant: str, seeds: Sequence[int], left_out: Sequence[str]) -> dict[str, Any]:
    """What the training of a variant took, the mean over its seeds, and what it is measured on where not on all."""
    took = pd.DataFrame(
        json.loads(study.files(variant, seed)["sft_time"].read_text(encoding="utf-8")) for seed in seeds
    ).mean()
    facts: dict[str, Any] = {name: round(float(took[name])) for name in ("steps", "examples", "distinct")}
    return facts | {"seconds": round(float(took["seconds"]), 1), "measured_on": ", ".join(left_out)}


def seeds_of(study: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    """Variant -> its seeds in a study of the settings: ``seeds``, or what ``fewer_seeds`` gives a lesser row.

    Raises:
        T2IEvalError: ``fewer_seeds`` names no variant of the study, or seeds that the study does not have.
    """
    seeds, fewer = tuple(study["seeds"]), study.get("fewer_seeds") or {}
    for variant, some in fewer.items():
        if variant not in study["variants"] or not some or not set(some) <= set(seeds):
            raise T2IEvalError(
                f"'{variant}: {list(some)}' in a study's fewer_seeds must be one of its variants with some of its seeds, "
                f"{', '.join(map(str, seeds))}."
            )
    return {variant: tuple(fewer.get(variant, seeds)) for variant in study["variants"]}


def write(result: Mapping[str, Any], folder: Path) -> Path:
    """Write the result as ``ablations.json`` and as the page ``ablations.html`` into ``folder``; returns the page."""
    folder.mkdir(parents=True, exist_ok=True)
    page = folder / "ablations.html"
    for path, text in (
        (folder / "ablations.json", json.dumps(result, indent=2, allow_nan=False) + "\n"),
        (page, build_ablations(result)),
    ):
        with atomic_file(path) as work:
            work.write_text(text, encoding="utf-8")
    return page
