"""What judges that predict numbers learn on the embedded benchmark, over seeds; written to ``perf/results/heads.json``.

Needs an ingested benchmark (``kedro run --pipelines=ingestion``), and for ``fga_blip2`` and ``blip2_score`` the networks of
``kedro build-towers``. A row is a judge, or a variant of the pipeline that changes one. What a row says after a training is kept in ``--work``
and not trained again, so that rows and seeds can be added, and a study that was cut off goes on:

    python -m perf.heads                                                  # judges without towers, ensembles, pseudo-labels, transfer
    python -m perf.heads --rows fga_blip2 blip2_score heads_variance_weight

The rows ``sft`` and ``sft_<protocol>`` are a student that is fine-tuned already, by default that of the study's first variant (--adapters):

    kedro ablations --study ablation
    python -m perf.heads --rows sft sft_decomposed level_tokens
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pandas as pd
import torch

from t2i_eval_kedro import schema
from t2i_eval_kedro.agreement.label_agreement import prompt_weights
from t2i_eval_kedro.config import load_config
from t2i_eval_kedro.datasets.atomic import atomic_file
from t2i_eval_kedro.datasets.image_store import ImageStoreDataset
from t2i_eval_kedro.judging.ensembles import EnsembleSettings, Method, ensemble_scores
from t2i_eval_kedro.judging.evaluators import JudgingSettings, judge_items, phrases_of
from t2i_eval_kedro.judging.local_models import open_backend
from t2i_eval_kedro.judging.protocols import Wording
from t2i_eval_kedro.models.image_text import open_scorer, score
from t2i_eval_kedro.models.settings import ModelSettings
from t2i_eval_kedro.pipelines.heads.nodes import HeadsSettings
from t2i_eval_kedro.provenance import commit
from t2i_eval_kedro.schema import SFT
from t2i_eval_kedro.statistics.estimates import bootstrap_estimate
from t2i_eval_kedro.statistics.pooled import pooled_statistics
from t2i_eval_kedro.training.heads.data import VALIDATION, HeadItem, head_data
from t2i_eval_kedro.training.heads.fga import FGAJudge
from t2i_eval_kedro.training.heads.judges import HeadJudge, Predictions, trained
from t2i_eval_kedro.training.heads.results import element_summary, score_table, tables
from t2i_eval_kedro.training.heads.score_head import ScoreHeadJudge

OUT, WORK = Path("perf/results/heads.json"), Path("data/07_model_output/heads_study")
ADAPTERS = "data/06_models/shapes/tiny_vlm/ablation/full/seed_{seed}/sft"
RESAMPLES, CONFIDENCE = 1000, 0.95
ROWS = ("score_head", "level_tokens", "vqa_score", "heads_few_labels", "heads_pseudo_labels")
COMPARED = {
    "score_head": "level_tokens",
    "heads_adapted": "level_tokens",
    "heads_pseudo_labels": "heads_few_labels",
    "heads_variance_weight": "fga_blip2",
    "heads_shared_tokens": "fga_blip2",
    "heads_released_loss": "fga_blip2",
    "heads_letters": "level_tokens",
    "heads_categories": "level_tokens",
    "heads_prompt_kind": "level_tokens",
    "heads_perturbed": "level_tokens",
    "heads_augmented": "level_tokens",
    "heads_token_focus": "level_tokens",
}
"""What each row is compared with, seed by seed, where both are measured."""
WITH_STUDENT = {
    f"{method}_with_student{suffix}": EnsembleSettings(members=members, method=method)
    for suffix, members in (
        ("", ("sft_decomposed", "sft", "level_tokens")),
        ("_and_head", ("sft_decomposed", "sft", "level_tokens", "score_head")),
    )
    for method in get_args(Method)
}
"""Ensembles with a fine-tuned student, whose chain of sub-tasks errs elsewhere than judges that read an image once."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=Path("data/02_intermediate/shapes"), help="Ingested benchmark.")
    parser.add_argument("--rows", nargs="*", default=ROWS, help="Judges, published scores, and variants.")
    parser.add_argument("--seeds", nargs="*", type=int, default=[0, 1, 2])
    parser.add_argument("--transfer", action="store_true", help="Train the score head on parts of the images.")
    parser.add_argument("--adapters", default=ADAPTERS, help="Folder of a student's adapter; {seed} in it is the seed.")
    parser.add_argument("--work", type=Path, default=WORK, help="Folder that keeps what each row says.")
    parser.add_argument("--out", type=Path, default=OUT)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    study = Study(arguments.folder, arguments.work, arguments.adapters)
    content: dict[str, Any] = json.loads(arguments.out.read_text()) if arguments.out.is_file() else {}
    rows: dict[str, Any] = content.get("rows", {})
    for name in arguments.rows:
        known = [seed for seed in rows.get(name, {}).get("seeds", ()) if study.keeps(name, seed)]
        rows[name] = study.row(name, sorted({*arguments.seeds, *known}))
        print(name, json.dumps(rows[name]), flush=True)
    if arguments.transfer:
        content["transfer"] = study.transfer() | {"command": "python -m perf.heads --transfer", "commit": commit()}
    # Rows of the file whose answers are not kept here stay as they are: nothing is trained that was not asked for.
    kept = {name: row for name, row in rows.items() if all(study.keeps(name, seed) for seed in row["seeds"])}
    content |= {
        "synthetic": True,
        "items": len(study.data.items),
        "held_out": len(study.held_out),
        "rows": rows,
        "differences": content.get("differences", {}) | study.differences(kept),
        "ensembles": content.get("ensembles", {}) | study.ensembles(kept),
    }
    with atomic_file(arguments.out) as path:
        path.write_text(json.dumps(content, indent=1) + "\n")
    print(json.dumps({name: content[name] for name in ("differences", "ensembles")}, indent=1))


class Study:
    """What the rows say of the validation and the test fold, and how well that agrees with people.

    Args:
        folder: ingested benchmark.
        work: folder that keeps what each row says.
        adapters: folder of a student's adapter, with ``{seed}`` for the seed.
    """

    def __init__(self, folder: Path, work: Path, adapters: str = ADAPTERS) -> None:
        self.folder, self.work, self.adapters = folder, work, adapters
        self.parameters, self.settings = settings_of(None)
        frames = {
            name: schema.TABLES[name].check(pd.read_parquet(folder / f"{name}.parquet"))
            for name in ("items", "splits", "ratings", "elements", "element_ratings")
        }
        self.items = frames["items"]
        self.data = head_data(*frames.values(), self.settings.dimension)
        self.images = ImageStoreDataset(filepath=str(folder / "images")).load()
        self.held_out = [item for item in self.data.fold("test") if item.rating is not None]
        self.asked = self.data.fold(VALIDATION, "test")
        self._frozen: dict[str, HeadJudge] = {}

    def _file(self, name: str, seed: int) -> Path:
        return (
            self.work / f"{name}_{0 if name in self.settings.baselines else seed}.json"
        )  # a published score is not trained

    def keeps(self, name: str, seed: int) -> bool:
        """Whether what the row ``name`` says with the seed ``seed`` is kept."""
        return self._file(name, seed).is_file()

    def said(self, name: str, seed: int) -> tuple[Predictions, dict[str, Any]]:
        """What the row ``name`` says with the training seed ``seed``, and how it came about: ``seconds`` of processor, ``commit``."""
        kept = self._file(name, seed)
        if not kept.is_file():
            said, seconds = self._asked(name, seed)
            content = {"scores": said.scores, "elements": said.elements, "seconds": seconds, "commit": commit()}
            self.work.mkdir(parents=True, exist_ok=True)
            with atomic_file(kept) as path:
                path.write_text(json.dumps(content))
        content = json.loads(kept.read_text())
        return Predictions(content.pop("scores"), content.pop("elements")), content

    def _asked(self, name: str, seed: int) -> tuple[Predictions, dict[str, float]]:
        start = time.process_time()
        seconds: dict[str, float] = {}
        if name in self.settings.baselines:
            chosen = self.settings.baselines[name]
            scores = score(open_scorer(chosen), chosen, self.images, [(i.image, i.prompt) for i in self.asked])
            said = Predictions(dict(zip((i.item_id for i in self.asked), scores, strict=True)))
        elif name.partition("_")[0] == SFT:
            said = self.student(name.partition("_")[2] or "levels", seed)
        else:
            variant = None if name in self.settings.judges or name == "fga_blip2" else name
            parameters, settings = settings_of(variant)
            kind = settings.judges[0] if variant else name
            judge, _, counts = trained(lambda: self.judge(kind, parameters, settings), self.data, settings.data, seed)
            seconds = {"training": round(time.process_time() - start, 1)} | counts
            start = time.process_time()
            said = judge.predict(self.asked)
        return said, seconds | {"an_image": round((time.process_time() - start) / len(self.asked), 5)}

    def student(self, protocol: str, seed: int) -> Predictions:
        """What a fine-tuned student says by ``protocol``; an image whose score cannot be parsed has none."""
        model, judging, wording, phrase = self._asking(self.parameters)
        adapter = Path(self.adapters.format(seed=seed))
        judged = judge_items(
            self.items[self.items["item_id"].isin({item.item_id for item in self.asked})],
            open_backend(model, adapter, self.images, judging),
            wording,
            {self.data.dimension: phrase},
            [protocol],
            name=SFT,
            options=judging.options,
            chunk_size=judging.batch_size,
        ).scores.dropna(subset="score")
        return Predictions(dict(zip(judged["item_id"], judged["score"].astype(float) / 10, strict=True)))

    def _asking(self, parameters: Mapping[str, Any]) -> tuple[ModelSettings, JudgingSettings, Wording, str]:
        """The student's model, how it is asked, in which wording, and the phrase for what people rated."""
        judging = JudgingSettings.model_validate(parameters["judging"])
        wording = Wording.load(Path("conf/base/prompts"), judging.wording, judging.wordings[judging.wording])
        phrase = phrases_of(json.loads((self.folder / "data_card.json").read_text()))[self.data.dimension]
        return ModelSettings.model_validate(parameters["model"]), judging, wording, phrase

    def judge(self, kind: str, parameters: Mapping[str, Any], settings: HeadsSettings) -> HeadJudge:
        """An untrained judge; that of a frozen student is used again, as its states are the same."""
        if kind == "fga_blip2":
            return FGAJudge(settings.fga_blip2, self.data, self.images)
        chosen = settings.score_head if kind == "score_head" else settings.level_tokens
        key = chosen.model_dump_json()
        if key not in self._frozen or chosen.lora is not None:
            model, _, wording, phrase = self._asking(parameters)
            self._frozen[key] = ScoreHeadJudge(chosen, model, wording, phrase, self.data, self.images)
        return self._frozen[key]

    def row(self, name: str, seeds: Sequence[int]) -> dict[str, Any]:
        """Agreement and element accuracy on the test fold, mean over seeds; intervals over prompts and seeds."""
        answers = [self.said(name, seed) for seed in seeds]
        said = [one for one, _ in answers]
        out = {"command": f"python -m perf.heads --rows {name} --seeds {' '.join(map(str, seeds))}"} | answers[0][1]
        out |= {"seeds": list(seeds)} | self.agreement(said, self.held_out)
        if said[0].elements:
            found = []
            for one in said:
                _, elements = tables("judge", one, self.asked, self.data.dimension)
                found.append(
                    element_summary(self.data, self.items, "test", elements, RESAMPLES, CONFIDENCE, 0)["judge"]
                )
            balanced = [round(entry["balanced_accuracy"]["value"], 4) for entry in found]
            fitted = [round(entry["balanced_accuracy_fitted"]["value"], 4) for entry in found]
            out["elements"] = found[0] | {  # with the intervals of the first seed
                "balanced_by_seed": balanced,
                "balanced_fitted_by_seed": fitted,
            }
        return out

    def agreement(self, said: Sequence[Predictions], items: Sequence[HeadItem]) -> dict[str, Any]:
        """Spearman over the ``items`` that have a score, mean over the trainings ``said``."""
        values = np.stack([self.spearman(one.scores, scored(items, one.scores)) for one in said])
        prompts = len({item.prompt_id for item in items})
        unscored = [len(items) - len(scored(items, one.scores)) for one in said]
        return ({"unscored": unscored} if any(unscored) else {}) | {
            "spearman": estimate(values, prompts),
            "by_seed": [round(float(v), 4) for v in values[:, 0]],
        }

    def spearman(
        self, scores: Mapping[str, float], items: Sequence[HeadItem], resamples: int = RESAMPLES
    ) -> np.ndarray:
        """Spearman over ``items`` and over ``resamples`` of their prompts, (1 + resamples,)."""
        row, weights = prompt_weights(self.items, pd.Index([item.item_id for item in items]), resamples, 0)
        gold = np.array([item.rating for item in items], dtype=float)
        given = np.array([scores[item.item_id] for item in items])
        return np.asarray(pooled_statistics(given, gold, row, weights, ("spearman",))["spearman"])

    def difference(self, pairs: Sequence[tuple[Mapping[str, float], Mapping[str, float]]]) -> dict[str, Any]:
        """Paired difference in Spearman of the scores of each pair, on the images that both scored; mean over pairs (one a seed)."""
        both = [scored(self.held_out, a, b) for a, b in pairs]
        values = np.stack([self.spearman(a, i) - self.spearman(b, i) for (a, b), i in zip(pairs, both, strict=True)])
        found = estimate(values, len({item.prompt_id for item in self.held_out}))
        verdict = "helps" if found["low"] > 0 else "hurts" if found["high"] < 0 else "open"
        return found | {"verdict": verdict, "by_seed": [round(float(v), 4) for v in values[:, 0]]}

    def differences(self, rows: Mapping[str, Any]) -> dict[str, Any]:
        """Each row of :data:`COMPARED` against its other, over the seeds that both have."""
        found = {}
        for a, b in COMPARED.items():
            if a in rows and b in rows:
                seeds = sorted({*rows[a]["seeds"]} & {*rows[b]["seeds"]})
                pairs = [(self.said(a, seed)[0].scores, self.said(b, seed)[0].scores) for seed in seeds]
                found[f"{a} - {b}"] = self.difference(pairs) | {"seeds": seeds}
        return found

    def ensembles(self, rows: Mapping[str, Any]) -> dict[str, Any]:
        """What ensembles of the measured rows gain over their best member, and the mean of a row's seeds over its best seed."""
        found = {}
        for name, settings in (self.settings.ensembles | WITH_STUDENT).items():
            if {*settings.members} <= {*rows}:
                seeds = sorted(set.intersection(*({*rows[member]["seeds"]} for member in settings.members)))
                said = [{member: self.said(member, seed)[0].scores for member in settings.members} for seed in seeds]
                seconds = sum(rows[member]["seconds"]["an_image"] for member in settings.members)
                found[name] = self.ensemble(settings, said) | {"seeds": seeds, "seconds_an_image": round(seconds, 5)}
        for name, row in rows.items():
            seeds = row["seeds"]
            if len(seeds) > 2 and name not in self.settings.baselines:
                members = {f"{name}_{seed}": self.said(name, seed)[0].scores for seed in seeds}
                settings = EnsembleSettings(members=tuple(members), method="mean")
                seconds = len(seeds) * row["seconds"]["an_image"]
                found[f"seeds_of_{name}"] = self.ensemble(settings, [members]) | {"seconds_an_image": round(seconds, 5)}
        return found

    def ensemble(self, settings: EnsembleSettings, said: Sequence[Mapping[str, Mapping[str, float]]]) -> dict[str, Any]:
        """Agreement of an ensemble, and its gain over the member that agrees best on validation prompts, mean over the trainings
        ``said`` (member -> item -> score)."""
        validation = [item for item in self.data.fold(VALIDATION) if item.rating is not None]
        combined = [self.combined(one, settings, validation) for one in said]
        best = []
        for one in said:
            common = scored(validation, *one.values())
            checked = {member: self.spearman(scores, common, 1)[0] for member, scores in one.items()}
            best.append(max(checked, key=checked.__getitem__))
        return self.agreement([Predictions(scores) for scores, _ in combined], self.held_out) | {
            "method": settings.method,
            "members": list(settings.members),
            "best_member": best,
            "weights": [{member: round(weight, 3) for member, weight in weights.items()} for _, weights in combined],
            "gain": self.difference(
                [(scores, one[b]) for (scores, _), one, b in zip(combined, said, best, strict=True)]
            ),
        }

    def combined(
        self,
        said: Mapping[str, Mapping[str, float]],
        settings: EnsembleSettings,
        validation: Sequence[HeadItem],
    ) -> tuple[dict[str, float], dict[str, float]]:
        """Scores of one ensemble of ``said`` by item, and the weight of each member."""
        known = pd.concat([score_table(name, scores, self.data.dimension) for name, scores in said.items()])
        people = {item.item_id: item.rating for item in validation if item.rating is not None}
        asked = [item.item_id for item in self.asked]
        scores, weights = ensemble_scores(known, {"ensemble": settings}, people, self.data.dimension, asked)
        scores = scores.dropna(subset="score")
        return dict(zip(scores["item_id"], scores["score"].astype(float), strict=True)), weights["ensemble"]

    def transfer(self) -> dict[str, Any]:
        """The score head trained on one kind of prompts, or without one fault, and tested on each kind or on images with that fault."""
        judge = self.judge("score_head", self.parameters, self.settings)
        known, _ = self.data.training_items(1.0, 0)

        def after(items: Sequence[HeadItem]) -> Predictions:
            judge.fit(items, self.settings.data, 0)
            return judge.predict(self.held_out)

        kinds = sorted({item.kind for item in known})
        by_kind: dict[str, Any] = {}
        everything = after(known)
        for kind in ["all", *kinds]:
            some = [item for item in known if kind in ("all", item.kind)]
            said = everything if kind == "all" else after(some)
            by_kind[kind] = {"trained_on": len(some)} | {
                other: self.agreement([said], [i for i in self.held_out if i.kind == other]) for other in kinds
            }
        faults = {
            str(row.item_id): frozenset(json.loads(row.attributes)["faults"])  # type: ignore[arg-type]
            for row in self.items.itertuples()
        }
        by_fault: dict[str, Any] = {}
        for fault in sorted(frozenset().union(*faults.values())):
            has: Callable[[HeadItem], bool] = lambda item, fault=fault: fault in faults[item.item_id]  # noqa: E731
            tested = [item for item in self.held_out if has(item) or not faults[item.item_id]]
            some = [item for item in known if not has(item)]
            said = after(some)
            prompts = len({item.prompt_id for item in tested})
            change = self.spearman(said.scores, tested) - self.spearman(everything.scores, tested)
            by_fault[fault] = {
                "trained_on": len(some),
                "with_fault": sum(map(has, tested)),
                "unseen": self.agreement([said], tested)["spearman"],
                "seen": self.agreement([everything], tested)["spearman"],
                "difference": estimate(change[None], prompts),
            }
        return {"prompt_kinds": by_kind, "faults": by_fault}


def scored(items: Sequence[HeadItem], *scores: Mapping[str, float]) -> list[HeadItem]:
    """The ``items`` that all of ``scores`` score."""
    return [item for item in items if all(item.item_id in some for some in scores)]


def settings_of(variant: str | None) -> tuple[dict[str, Any], HeadsSettings]:
    """All parameters of the embedded benchmark with the variant ``variant``, and those of the pipeline ``heads``."""
    parameters = load_config(Path("conf"), "base", {"variant": variant} if variant else None).resolved.parameters
    return parameters, HeadsSettings.model_validate(parameters["heads"])


def estimate(values: np.ndarray, prompts: int) -> dict[str, Any]:
    """``(seeds, 1 + B)`` to the mean over seeds, and over each resample's seeds."""
    rng = np.random.default_rng(0)
    picked = rng.integers(len(values), size=(values.shape[1] - 1, len(values)))
    resampled = values[picked, np.arange(1, values.shape[1])[:, None]].mean(axis=1)
    return bootstrap_estimate(np.concatenate([[values[:, 0].mean()], resampled]), CONFIDENCE, prompts)


if __name__ == "__main__":
    main()
