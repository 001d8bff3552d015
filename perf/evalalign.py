"""EvalAlign's study on simulated images: shapes in the layout of EvalAlign's release, answered by two simulated annotators.

The release has prompts and questions, and neither images nor annotations, so that its study (a judge trained on people's options about skills,
24 generators ranked by it and by people) has nothing to run on. This writes what it needs, synthetic and called so:

    python -m perf.evalalign data/01_raw/evalalign --prompts 60
    kedro run --params=benchmark=evalalign,variant=skills
    python -m perf.evalalign --measured data/08_reporting/evalalign/tiny_vlm/skills/seed_0

The last one writes what the run measured to ``perf/results/evalalign.json``, beside what is there of other shares of the training prompts
(``examples.prompt_fraction``).

Options follow from the truth behind an image. Alignment, 0 to 2: nothing, some or all of what the prompt says about a skill holds. Faithfulness,
0 to 4: ``object`` is the structure of the objects, and people's bodies, hands and faces are not there (-1). An annotator gives the right
option or, in :data:`SLIPS` of the answers, a neighbouring one. Every third prompt asks about faithfulness, the others about alignment.
"""

from __future__ import annotations

import argparse
import csv
import json
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from t2i_eval_kedro.benchmarks.readers.evalalign_skills import ALIGNMENT, FAITHFULNESS, NOT_PRESENT, SKILLS
from t2i_eval_kedro.datasets.atomic import atomic_file, atomic_folder
from t2i_eval_kedro.provenance import commit
from t2i_eval_kedro.shapes.make import ShapesBenchmark, make_shapes

OUT = Path("perf/results/evalalign.json")
ASKED = {"object": "Object", "counting": "Count", "color": "Color", "spatial": "Spatial"}
"""Skills of elements of shapes -> alignment skills."""
ABSENT = ("body", "hand", "face")
ANNOTATORS = ("first", "second")
SLIPS = 0.15


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "folder", type=Path, nargs="?", help="Folder that is written; kedro reads it by its name, evalalign."
    )
    parser.add_argument("--measured", type=Path, help="Reports of a finished run; no benchmark is written.")
    parser.add_argument("--out", type=Path, default=OUT)
    parser.add_argument("--prompts", type=int, default=60)
    parser.add_argument("--generators", type=int, choices=(8, 24), default=24)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    if (arguments.folder is None) == (arguments.measured is None):
        parser.error("give a folder to write, or the reports of a run as --measured")
    if arguments.measured is not None:
        content = json.loads(arguments.out.read_text()) if arguments.out.is_file() else {"synthetic": True, "runs": {}}
        share, figures = measured(arguments.measured)
        content["runs"][str(share)] = figures
        with atomic_file(arguments.out) as path:
            path.write_text(json.dumps(content, indent=1) + "\n")
        print(json.dumps(figures, indent=1))
        return
    write(
        make_shapes(arguments.prompts, arguments.seed, generators=arguments.generators, structure=True),
        arguments.folder,
        arguments.seed,
    )
    print(f"{arguments.prompts} prompts of {arguments.generators} simulated generators are in {arguments.folder}.")


def measured(run: Path) -> tuple[float, dict[str, Any]]:
    """The share of the training prompts that a run learned from, and what it measured of judges of skills.

    Args:
        run: folder with the run's ``summary.json`` and ``diagnostics.json``.
    """
    summary = json.loads((run / "summary.json").read_text())
    study = json.loads((run / "diagnostics.json").read_text())
    recipe = summary["recipe"]
    spearman = {
        name: {
            dimension: figures["spearman"]
            for dimension, figures in dimensions.items()
            if figures["spearman"]["value"] is not None
        }
        for name, dimensions in summary["evaluators"].items()
        if name.endswith("_skills")
    }
    spearman = {name: known for name, known in spearman.items() if known}  # an untrained model answers in no option
    ceiling = {name: figures["spearman"] for name, figures in summary["noise_ceiling"].items()}
    return recipe["examples"]["prompt_fraction"], {
        "commit": commit(),
        "steps": recipe["sft"]["max_steps"],
        "kendall": study["skills_kendall"],
        "kappa": study["skills_kappa"],
        "spearman": spearman,
        "noise_ceiling": ceiling,
    }


def write(shapes: ShapesBenchmark, folder: Path, seed: int) -> None:
    """Write ``shapes``, which has structural faults, to ``folder`` as EvalAlign's files."""
    prompts = {
        prompt: ALIGNMENT if n % 3 else FAITHFULNESS
        for n, prompt in enumerate(dict.fromkeys(shapes.items["prompt_id"]))
    }
    stated: dict[str, dict[str, dict[str, str]]] = defaultdict(lambda: defaultdict(dict))
    for row in shapes.elements.itertuples():
        if row.skill in ASKED:
            stated[str(row.prompt_id)][ASKED[str(row.skill)]][str(row.element_id)] = str(row.text)
    texts = dict(zip(shapes.items["prompt_id"], shapes.items["prompt"], strict=True))
    with atomic_folder(folder) as work:
        for aspect in (FAITHFULNESS, ALIGNMENT):
            listed = [_prompt(name, texts[name], stated[name], aspect) for name in prompts if prompts[name] == aspect]
            (work / f"test_{aspect}_prompt.json").write_text(json.dumps(listed, indent=1) + "\n", encoding="utf-8")
        paths = {
            row.image: Path("images", prompts[row.prompt_id], row.generator, f"{row.prompt_id}.png")
            for row in shapes.items.itertuples()
        }
        for key, content in shapes.images:
            if key in paths:  # the others are masks
                (work / paths[key]).parent.mkdir(parents=True, exist_ok=True)
                (work / paths[key]).write_bytes(content)
        with (work / "annotations.csv").open("w", newline="", encoding="utf-8") as file:
            table = csv.writer(file)
            table.writerow(["image", "skill", "rater_id", "option"])
            rng = np.random.default_rng(seed)
            for row in shapes.items.itertuples():
                aspect = prompts[row.prompt_id]
                for skill, option in options(json.loads(row.attributes), stated[row.prompt_id], aspect):
                    for annotator in ANNOTATORS:
                        table.writerow([paths[row.image].as_posix(), skill, annotator, slipped(skill, option, rng)])


def _prompt(name: str, text: str, stated: dict[str, dict[str, str]], aspect: str) -> dict[str, Any]:
    if aspect == FAITHFULNESS:
        return {"prompt_id": name, "prompt": text}
    contents = {skill: " , ".join(stated[skill].values()) for skill in stated}
    questions = {
        skill: f"<image>\n{content} , is it right ?" for skill, content in contents.items()
    }  # in words of the tiny model
    return {"prompt_id": name, "prompt": text, "result_info": contents, "question_info": questions}


def options(attributes: dict[str, Any], stated: dict[str, dict[str, str]], aspect: str) -> Iterator[tuple[str, int]]:
    """The right option of each skill of ``aspect`` that applies to an image.

    Args:
        attributes: the truth behind the image, with structural faults.
        stated: what its prompt says, alignment skill -> element -> text.
        aspect: ``alignment`` or ``faithfulness``.
    """
    if aspect == FAITHFULNESS:
        yield f"{FAITHFULNESS}/object", round(0.4 * attributes["truth"]["structure"])
        for skill in ABSENT:
            yield f"{FAITHFULNESS}/{skill}", NOT_PRESENT
        return
    for skill, parts in stated.items():
        held = [attributes["elements"][name] for name in parts]
        yield f"{ALIGNMENT}/{skill}", 2 if all(held) else int(any(held))


def slipped(skill: str, option: int, rng: np.random.Generator) -> int:
    """``option``, or in :data:`SLIPS` of the answers a neighbouring one; that something is not there is never missed."""
    if option == NOT_PRESENT or rng.random() >= SLIPS:
        return option
    low, high = SKILLS[skill].options[0], SKILLS[skill].options[-1]
    return int(rng.choice([near for near in (option - 1, option + 1) if low <= near <= high]))


if __name__ == "__main__":
    main()
