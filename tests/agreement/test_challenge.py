"""Challenge scores against vectors made with the organisers' code."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage

from t2i_eval_kedro.agreement import challenge, regions
from t2i_eval_kedro.errors import T2IEvalError

GOLDEN = Path(__file__).parents[1] / "fixtures" / "golden"


def golden(name):
    return json.loads((GOLDEN / f"{name}.json").read_text())


def mask(encoded):
    out = np.zeros(encoded["shape"], np.uint8).ravel()
    for start, length in encoded["runs"]:
        out[start : start + length] = 1
    return out.reshape(encoded["shape"])


def flaws(side):
    return {name: regions.Flaws(entry["score"], mask(entry["pred_area"])) for name, entry in side.items()}


def test_alignment_as_published_and_corrected():
    vector = golden("ntire_track1")
    expected = vector["expected"]
    found = challenge.ntire_alignment(vector["truth"], vector["submission"])
    assert found["SRCC"] == pytest.approx(expected["SRCC"], abs=1e-12)
    assert found["PLCC"] == pytest.approx(expected["PLCC"], abs=1e-9)
    assert found["ACC"] == expected["ACC"]
    assert found["Final_Score"] == pytest.approx(expected["Final"], abs=1e-9)
    corrected = challenge.ntire_alignment(vector["truth"], vector["submission"], "corrected")
    assert corrected["PLCC"] == pytest.approx(expected["plcc_if_arguments_not_swapped"], abs=1e-9)
    assert (corrected["SRCC"], corrected["ACC"]) == (found["SRCC"], found["ACC"])


def test_alignment_counts_what_a_submission_lacks_as_wrong():
    vector = golden("ntire_track1")
    short = vector["submission"][1:]
    with pytest.raises(T2IEvalError, match="needs equal numbers"):
        challenge.ntire_alignment(vector["truth"], short)
    full = challenge.ntire_alignment(vector["truth"], vector["submission"], "corrected")
    assert challenge.ntire_alignment(vector["truth"], short, "corrected")["ACC"] < full["ACC"]
    bare = [dict(entry, element_score={}) for entry in vector["submission"]]
    with pytest.raises(T2IEvalError, match="has no element"):
        challenge.ntire_alignment(vector["truth"], bare)
    assert challenge.ntire_alignment(vector["truth"], bare, "corrected")["ACC"] == 0


def test_alignment_of_constant_scores_is_null_with_its_reason():
    vector = golden("ntire_track1")
    flat = [dict(entry, total_score=3.0) for entry in vector["submission"]]
    found = challenge.ntire_alignment(vector["truth"], flat)
    assert found["SRCC"] is None
    assert found["reason"] == "the scores are all equal"
    assert found["ACC"] is not None


@pytest.mark.parametrize(
    "broken", [[{"img_path": "a"}], "doubled", [{"img_path": "a", "total_score": "x", "element_score": {}}]]
)
def test_broken_entries_are_named(broken):
    vector = golden("ntire_track1")
    entries = vector["truth"] + vector["truth"][:1] if broken == "doubled" else broken
    with pytest.raises(T2IEvalError, match=r"needs img_path|twice|no finite number"):
        challenge.ntire_alignment(entries, entries)


def test_structure_as_published():
    vector = golden("ntire_track2")
    names = {"precision": "Precision", "recall": "Recall", "f1_score": "F1_Score", "giou": "GIoU", "srcc": "SRCC"}
    truth, submission = flaws(vector["gt"]), flaws(vector["pred"])
    for key, area in (
        ("expected", regions.PREDICTED_AREA),
        ("expected_with_function_default_ratio_0.0001", 0.0001 * 512 * 512),
    ):
        found, expected = regions.ntire_structure(truth, submission, area=area), vector[key]
        for theirs, ours in names.items():
            assert found[ours] == pytest.approx(expected[theirs], abs=1e-12), ours
        assert found["PLCC"] == pytest.approx(expected["plcc"], abs=1e-9)
        assert found["Final_Score"] == pytest.approx(expected["final_score"], abs=1e-9)


def box(*corners):
    out = np.zeros((512, 512), np.uint8)
    for top, left, bottom, right in corners:
        out[top:bottom, left:right] = 1
    return out


def test_corrected_structure_matches_one_to_one():
    truth = {f"i{k}": regions.Flaws(k, box((0, 0, 100, 45), (0, 55, 100, 100))) for k in range(2)}
    said = {f"i{k}": regions.Flaws(k, box((0, 0, 100, 100))) for k in range(2)}
    assert regions.ntire_structure(truth, said)["Recall"] == 1
    corrected = regions.ntire_structure(truth, said, "corrected")
    assert (corrected["Recall"], corrected["Precision"]) == (0.5, 1)


def test_one_to_one_changes_the_matching_alone():
    truth = {f"i{k}": regions.Flaws(k, box((0, 0, 100, 45), (0, 55, 100, 100))) for k in range(2)}
    said = {f"i{k}": regions.Flaws(k, box((0, 0, 100, 100))) for k in range(2)}
    found = regions.ntire_structure(truth, said, "one_to_one")
    assert (found["Precision"], found["Recall"]) == (1, 0.5)
    assert found["GIoU"] == regions.ntire_structure(truth, said)["GIoU"]
    # 13 x 14 pixels: a polygon of 156, above the script's limit for true regions (150) and below the other (157.3).
    tiny = {name: regions.Flaws(f.score, box((0, 0, 13, 14), (200, 200, 260, 260))) for name, f in truth.items()}
    for mode, true_regions in (("as_published", 2), ("one_to_one", 2), ("corrected", 1)):
        assert regions.compare_image(tiny["i0"].mask, None, mode).true == true_regions
    vector = golden("ntire_track2")
    truth, submission = flaws(vector["gt"]), flaws(vector["pred"])
    by_mode = {mode: regions.ntire_structure(truth, submission, mode)["F1_Score"] for mode in regions.STRUCTURE_MODES}
    assert by_mode["one_to_one"] <= by_mode["as_published"]


@pytest.mark.parametrize("seed", range(8))
def test_regions_are_those_of_the_plain_definition(seed):
    rng = np.random.default_rng(seed)
    mask = np.zeros((60, 80), np.uint8)
    for _ in range(12):
        y, x, h, w = rng.integers(0, (50, 70, 20, 20))
        mask[y : y + h, x : x + w] = rng.random() < 0.7
    filled = ndimage.binary_fill_holes(mask > 0)
    labels, number = ndimage.label(filled, structure=np.ones((3, 3)))
    plain = [labels == k for k in range(1, number + 1)]
    expected = [region for region in plain if regions.polygon_area(region) > 20]
    found = regions.regions(mask, 20)
    assert len(found) == len(expected)
    assert all((a == b).all() for a, b in zip(found, expected, strict=True))


def test_empty_masks():
    nothing = {f"i{k}": regions.Flaws(k, box()) for k in range(3)}
    with pytest.raises(T2IEvalError, match="divides by zero"):
        regions.ntire_structure(nothing, nothing)
    found = regions.ntire_structure(nothing, nothing, "corrected")
    assert (found["F1_Score"], found["GIoU"], found["Precision"]) == (1, 1, None)


def test_regions_have_their_holes_filled_and_their_polygon_measured():
    ring = box((10, 10, 60, 60))
    ring[20:50, 20:50] = 0
    (region,) = regions.regions(ring, 150)
    assert region.sum() == 2500
    assert regions.polygon_area(region) == 49 * 49
    assert regions.regions(box((0, 0, 13, 13)), 150) == []
    diagonal = np.eye(30, dtype=np.uint8)
    assert [int(r.sum()) for r in regions.regions(diagonal, -1)] == [30]


def test_resize_of_a_block_is_the_known_number_of_pixels():
    small = np.zeros((384, 384), np.uint8)
    small[100:149, 100:149] = 1
    assert abs(int(regions.resize_mask(small).sum()) - 49 * 49 * (4 / 3) ** 2) < 100
    np.testing.assert_array_equal(regions.resize_mask(box((3, 4, 9, 9))), box((3, 4, 9, 9)))


def test_t2i_eval_fills_with_the_mean():
    vector = golden("t2i_eval_scores")["corr"]
    found = challenge.t2i_eval_correlation(vector["result"], vector["ref"])
    assert found["spearman"] == pytest.approx(vector["spearman_mean"], abs=1e-12)
    assert found["kendall_b"] == pytest.approx(vector["kendall_b_mean"], abs=1e-12)
    assert found["n"] == 10
    assert challenge.t2i_eval_correlation(vector["result"], vector["ref"], "corrected")["n"] == 8


def test_dsg_zeroes_one_level_as_published_and_all_levels_corrected():
    for case in golden("dsg")["cases"]:
        parents = {key: [str(p) for p in above] for key, above in case["deps"].items()}
        assert challenge.dsg_score(case["answers"], parents) == pytest.approx(case["with_dep"])
        assert challenge.dsg_score(case["answers"], parents, dependencies=False) == pytest.approx(case["without_dep"])
    chain = {"1": "no", "2": "yes", "3": "Yes"}
    above = {"2": ["1"], "3": ["2"]}
    assert challenge.dsg_score(chain | {"3": "yes"}, above) == pytest.approx(1 / 3)
    assert challenge.dsg_score(chain, above, "corrected") == 0
    assert challenge.dsg_score({"1": "yes", "2": "yes"}, {"1": ["2"], "2": ["1"]}, "corrected") == 1
    assert np.isnan(challenge.dsg_score({}, {}))


def test_viescore_average():
    vector = golden("viescore_average")
    assert challenge.viescore_average(vector["r"]) == pytest.approx(vector["official_average_correlation"], abs=1e-12)
    assert challenge.viescore_average(vector["r"], "corrected") == pytest.approx(vector["fisher_proper"], abs=1e-12)
    assert challenge.viescore_overall([8, 2], [8]) == 4


def test_evalalign_s_scores_are_those_of_the_release():
    """The examples of its README: 769 over 470 that apply, and 727 over 120 images."""
    body = [2] * 384 + [1] + [0] * 85 + [-1]
    assert challenge.evalalign_faithfulness({"body": body})["overall"] == pytest.approx(769 / 470)
    skills = ("Object", "Count", "Color", "Style", "Spatial", "Action")
    images = {str(n): dict.fromkeys(skills, 1) | ({"Object": 2} if n < 7 else {}) for n in range(120)}
    assert challenge.evalalign_alignment(images)["overall"] == pytest.approx(727 / 120)


def test_evalalign_leaves_what_does_not_apply_out_of_the_denominator():
    found = challenge.evalalign_faithfulness({"body": [4, -1, 2], "hand": [-1, -1, 0], "face": [-1, -1, -1]})
    assert found["by_skill"] == {"body": 3, "hand": 0, "face": None}
    assert (found["overall"], found["macro"]) == (2, 1.5)
    images = {"a": {"Object": 2, "Count": 1}, "b": {"Object": 1}}
    assert challenge.evalalign_alignment(images)["overall"] == 2
    assert challenge.evalalign_alignment(images, "corrected")["overall"] == pytest.approx(4 / 3)


def test_vqascore_accuracy_is_not_tuned_on_what_it_scores_when_corrected():
    rng = np.random.default_rng(0)
    y, x, prompt = rng.integers(1, 6, 200).astype(float), rng.normal(size=200), np.repeat(np.arange(40), 5)
    i, j = np.triu_indices(len(x), 1)
    gap, by_people = x[i] - x[j], np.sign(y[i] - y[j])

    def accuracy(threshold):
        return np.mean(np.where(np.abs(gap) <= threshold, 0, np.sign(gap)) == by_people)

    published = challenge.vqascore_accuracy(x, y)
    assert published["accuracy"] == pytest.approx(accuracy(published["threshold"]))
    assert published["accuracy"] == pytest.approx(
        max(accuracy(t) for t in np.quantile(np.abs(gap), np.arange(0, 1, 0.01))), abs=0.002
    )
    # A judge of pure noise gains from a threshold chosen on the pairs that it scores.
    tuned = np.mean([challenge.vqascore_accuracy(x[prompt == p], y[prompt == p])["accuracy"] for p in range(40)])
    assert challenge.vqascore_accuracy(x, y, prompt, "corrected")["accuracy"] < tuned - 0.05
    with pytest.raises(T2IEvalError, match="prompt of every item"):
        challenge.vqascore_accuracy(x, y, mode="corrected")


def test_unknown_mode():
    with pytest.raises(T2IEvalError, match="Unknown mode 'official'"):
        challenge.viescore_average([0.1], "official")
