"""The commands ``agreement`` and ``score-submission``, on files as people bring them."""

from __future__ import annotations

import json
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner
from pages import outside
from PIL import Image

from t2i_eval_kedro.cli.agreement import agreement, score_submission

GOLDEN = Path(__file__).parents[1] / "fixtures" / "golden"


@pytest.fixture
def files(tmp_path):
    rng = np.random.default_rng(0)
    ratings, scores = [], []
    for p in range(12):
        for g in "abc":
            truth = rng.normal()
            for rater in "12":
                value = int(np.clip(np.round(3 + truth + rng.normal()), 1, 5))
                ratings.append((f"{p}{g}", f"p{p}", g, rater, "overall", value, "colour;count" if p % 2 else "count"))
            scores += [(f"{p}{g}", "good", truth), (f"{p}{g}", "low<b>", 5 - truth)]
    columns = ["item_id", "prompt_id", "generator", "rater_id", "dimension", "score", "skill"]
    pd.DataFrame(ratings, columns=columns).to_csv(tmp_path / "ratings.csv", index=False)
    pd.DataFrame(scores, columns=["item_id", "evaluator", "score"]).to_csv(tmp_path / "scores.csv", index=False)
    return tmp_path


def run(files, *more, ok=True):
    arguments = ["--ratings", str(files / "ratings.csv"), "--scores", str(files / "scores.csv"), *map(str, more)]
    result = CliRunner().invoke(agreement, arguments)
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    assert (result.exit_code == 0) is ok, result.output
    return result.output


def append(path, *rows):
    with path.open("a") as handle:
        handle.writelines(",".join(map(str, row)) + "\n" for row in rows)


def test_table_and_files(files):
    out = run(files, "--lower-is-better", "low<b>", "--scale", "1:5", "--out", files / "o")
    assert "good" in out
    summary = json.loads((files / "o" / "agreement.json").read_text())
    figures = summary["evaluators"]
    assert figures["good"]["overall"]["spearman"] == figures["low<b>"]["overall"]["spearman"]
    assert figures["good"]["overall"]["spearman"]["value"] > 0.5
    page = (files / "o" / "agreement.html").read_text()
    assert "low&lt;b&gt;" in page
    assert "low<b>" not in page
    assert outside(page) == []
    again = run(files, "--lower-is-better", "low<b>", "--scale", "1:5", "--out", files / "o2")
    assert (files / "o2" / "agreement.json").read_bytes() == (files / "o" / "agreement.json").read_bytes()
    assert again.replace("o2", "o") == out


@pytest.mark.parametrize("by", ["none", "prompt", "generator", "skill"])
def test_every_grouping(files, by):
    out = run(files, "--by", by)
    assert ("averaged within" in out) is (by != "none")
    differences = "Kendall tau-b within prompts" if by == "prompt" else "Spearman over all items"
    assert f"Paired differences in {differences}" in out


def test_preferences(files):
    table = pd.DataFrame(
        [
            ("p0", "0a", "0b", "1", "a"),
            ("p0", "0a", "zz", "1", "b"),
            ("p1", "1a", "1b", "1", "?"),
            ("p1", "1a", "1c", "2", "tie"),
        ],
        columns=["prompt_id", "item_a", "item_b", "rater_id", "label"],
    )
    table.to_csv(files / "p.csv", index=False)
    out = run(files, "--preferences", files / "p.csv", "--out", files, "--max-unreadable", 0.5)
    assert "people's preferences" in out
    summary = json.loads((files / "agreement.json").read_text())
    assert summary["input"]["preferences_of_unknown_items"] == 1
    assert summary["input"]["unreadable_preferences"] == 1
    assert summary["preferences"]["good"][""]["accuracy"]["n"] == 2


def test_faults_are_counted_and_nothing_is_dropped_in_silence(files):
    append(
        files / "ratings.csv",
        ("0a", "p0", "a", "7", "overall", "nan", ""),
        ("0a", "p0", "a", "8", "overall", 9, ""),
        ("0b", "p0", "b", "9", "overall", 2, ""),
        ("0b", "p0", "b", "9", "overall", 4, ""),
        ("only", "p0", "c", "1", "overall", 3, ""),
    )
    append(
        files / "scores.csv",
        ("0a", "other", "inf"),
        ("0b", "other", 1),
        ("0b", "other", 1),
        ("no", "other", 1),
        ("0c", "good", 99),
    )
    assert "1 of 4 scores of 'other' cannot be used" in run(files, "--scale", "1:5", ok=False)
    run(files, "--scale", "1:5", "--out", files, "--max-unreadable", 0.5)
    summary = json.loads((files / "agreement.json").read_text())
    found = summary["input"]
    assert {name: count for name, count in found.items() if count} == {
        "missing_ratings": 1,
        "off_scale_ratings": 1,
        "contradicting_ratings": 1,
        "unreadable_scores": 1,
        "repeated_scores": 1,
        "contradicting_scores": 1,
        "items_with_scores_only": 1,
        "rated_items_without_any_score": 1,
    }
    assert summary["counts"]["other"]["overall"] == {"ok": 1, "unparsed": 1, "failed": 0, "not_applicable": 35}
    assert summary["counts"]["good"]["overall"] == {"ok": 35, "unparsed": 1, "failed": 0, "not_applicable": 1}
    assert "fewer than 2 items" in summary["evaluators"]["other"]["overall"]["spearman"]["reason"]


def test_missing_scores(files):
    append(files / "ratings.csv", ("new", "p0", "a", "1", "overall", 3, ""))
    assert "has no score for 1 of 37 items" in run(files, "--missing", "refuse", ok=False)
    run(files, "--missing", "worst", "--out", files)
    summary = json.loads((files / "agreement.json").read_text())
    assert summary["evaluators"]["good"]["overall"]["spearman"]["n"] == 37
    assert summary["counts"]["good"]["overall"]["not_applicable"] == 1


@pytest.mark.parametrize(
    ("rows", "dimension", "constant_reason", "judge_value"),
    [
        ([("x", "p", "g", "1", "d", 3)], "d", "fewer than 2 items", None),
        ([("x", "p", "g", "1", "d", 3), ("y", "p", "g", "1", "d", 3)], "d", "scores are all equal", None),
        (
            [("x", "p", "g", "1", "d", 1), ("y", "q", "g", "1", "d", 5), ("z", "q", "g", "1", "d", 5)],
            "d",
            "scores are all equal",
            0.866025,
        ),
    ],
    ids=["one item", "all tied", "one rater and one generator"],
)
def test_hardly_any_data_gives_nulls_with_reasons(files, rows, dimension, constant_reason, judge_value):
    columns = ["item_id", "prompt_id", "generator", "rater_id", "dimension", "score"]
    pd.DataFrame(rows, columns=columns).to_csv(files / "ratings.csv", index=False)
    scores = [(row[0], "judge", k) for k, row in enumerate(rows)] + [(row[0], "constant", 1) for row in rows]
    pd.DataFrame(scores, columns=["item_id", "evaluator", "score"]).to_csv(files / "scores.csv", index=False)
    out = run(files, "--out", files, ok=judge_value is not None)
    assert ("No figure can be computed" in out) is (judge_value is None)
    evaluators = json.loads((files / "agreement.json").read_text())["evaluators"]
    assert set(evaluators) == {"judge", "constant"}
    for name, dimensions in evaluators.items():
        assert set(dimensions) == {dimension}
        for statistic, cell in dimensions[dimension].items():
            assert cell["value"] is not None or cell["reason"], (name, statistic)
            assert cell["low"] is not None or cell["reason"], (name, statistic)
    constant, judge = (evaluators[name][dimension]["spearman"] for name in ("constant", "judge"))
    assert constant["value"] is None
    assert constant_reason in constant["reason"]
    assert judge["value"] == judge_value


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (["--scale", "5:1"], "is not a rating scale"),
        (["--scale", "1-5"], "is not a rating scale"),
        (["--lower-is-better", "nobody"], "is not an evaluator of the scores"),
        (["--preferences", "/nowhere.csv"], "There is no file"),
    ],
)
def test_wrong_options_end_in_one_sentence(files, change, sentence):
    out = run(files, *change, ok=False)
    assert sentence in out
    assert "Traceback" not in out


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "is not a readable CSV"),
        ("item_id,prompt_id,generator,rater_id,dimension,score\nx,p,g,1,d,bad\n", "No rating in"),
        ("item_id,score\na,1\n", "does not have the column"),
        (b"\xff\xfe\x00", "is not a readable CSV"),
    ],
)
def test_wrong_files_end_in_one_sentence(files, text, sentence):
    (files / "ratings.csv").write_bytes(text if isinstance(text, bytes) else text.encode())
    assert sentence in run(files, ok=False)


def test_an_item_of_two_prompts_is_refused(files):
    append(files / "ratings.csv", ("0a", "p9", "a", "1", "overall", 3, ""))
    assert "item '0a' more than one prompt or generator" in run(files, ok=False)


def test_torch_is_not_imported():
    code = "import sys, t2i_eval_kedro.agreement; assert not {'torch', 'transformers', 'kedro'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def score(*arguments, ok=True):
    result = CliRunner().invoke(score_submission, [str(a) for a in arguments])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    assert (result.exit_code == 0) is ok, result.output
    return json.loads(result.output) if ok else result.output


def test_alignment_submission(tmp_path):
    vector = json.loads((GOLDEN / "ntire_track1.json").read_text())
    for side in ("truth", "submission"):
        (tmp_path / f"{side}.json").write_text(json.dumps(vector[side]))
    sides = ["--truth", tmp_path / "truth.json", "--submission", tmp_path / "submission.json"]
    found = score("alignment", *sides)
    assert found["Final_Score"] == pytest.approx(vector["expected"]["Final"], abs=1e-9)
    assert set(found) == {"SRCC", "PLCC", "ACC", "Final_Score"}
    assert score("alignment", *sides, "--mode", "corrected")["PLCC"] > found["PLCC"]


def test_several_submissions_are_compared_over_all_weights(tmp_path):
    vector = json.loads((GOLDEN / "ntire_track1.json").read_text())
    flat = [{**entry, "total_score": 3.0} for entry in vector["submission"]]
    sides = {"truth": vector["truth"], "mine": vector["submission"], "same": vector["truth"], "flat": flat}
    paths = {name: tmp_path / f"{name}.json" for name in sides}
    for name, side in sides.items():
        paths[name].write_text(json.dumps(side))
    given = [word for name in ("mine", "same", "flat") for word in ("--submission", paths[name])]
    found = score("alignment", "--truth", paths["truth"], *given)
    assert found["submissions"][str(paths["mine"])]["Final_Score"] == pytest.approx(
        vector["expected"]["Final"], abs=1e-9
    )
    assert found["weights"]["reference"]["winners"] == [str(paths["same"])]
    assert found["weights"]["winners"][str(paths["same"])] == 1
    assert found["weights"]["left_out"] == [str(paths["flat"])]


def folder(path, side):
    path.mkdir()
    scores = {}
    for name, entry in side.items():
        mask = np.zeros(entry["pred_area"]["shape"], np.uint8).ravel()
        for start, length in entry["pred_area"]["runs"]:
            mask[start : start + length] = 255
        Image.fromarray(mask.reshape(entry["pred_area"]["shape"])).save(path / f"{name}.png")
        scores[name] = entry["score"]
    (path / "scores.json").write_text(json.dumps(scores))
    return path


def test_structure_submission(tmp_path):
    vector = json.loads((GOLDEN / "ntire_track2.json").read_text())
    truth, submission = folder(tmp_path / "t", vector["gt"]), folder(tmp_path / "s", vector["pred"])
    found = score("structure", "--truth", truth, "--submission", submission)
    assert found["Final_Score"] == pytest.approx(vector["expected"]["final_score"], abs=1e-9)
    assert found["GIoU"] == pytest.approx(vector["expected"]["giou"], abs=1e-12)
    assert set(found) == {"SRCC", "PLCC", "Precision", "Recall", "F1_Score", "GIoU", "Final_Score", "mode", "input"}
    assert found["input"]["problems"] == {}
    name = next(iter(vector["pred"]))
    (submission / f"{name}.png").write_bytes(b"\x89PNG no")
    assert "is not a readable PNG" in score("structure", "--truth", truth, "--submission", submission, ok=False)
    (submission / f"{name}.png").unlink()
    assert "There is no mask" in score("structure", "--truth", truth, "--submission", submission, ok=False)
    (submission / "scores.json").write_text('{"../t/im000": 1}')
    assert "leads out of" in score("structure", "--truth", truth, "--submission", submission, ok=False)


@pytest.mark.parametrize("track", ["alignment", "structure"])
def test_a_pickle_is_refused_unread(tmp_path, track):
    class Trap:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "run",))

    for name in ("gt.pkl", "disguised.json"):
        (tmp_path / name).write_bytes(pickle.dumps(Trap()))
        out = score(track, "--truth", tmp_path / name, "--submission", tmp_path / name, ok=False)
        assert "is a pickle" in out
        assert "convert it" in out
    assert not (tmp_path / "run").exists()


def test_files_that_are_no_submission(tmp_path):
    (tmp_path / "a.json").write_text("{}")
    (tmp_path / "b.json").write_text("[")
    assert "is not a JSON list" in score(
        "alignment", "--truth", tmp_path / "a.json", "--submission", tmp_path / "a.json", ok=False
    )
    assert "is not valid JSON in UTF-8" in score(
        "alignment", "--truth", tmp_path / "b.json", "--submission", tmp_path / "b.json", ok=False
    )
    assert "is not a folder" in score("structure", "--truth", tmp_path / "x", "--submission", tmp_path / "x", ok=False)
