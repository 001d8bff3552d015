"""Figures of models of structure: each equals a plain computation, intervals resample prompts, families and sizes count faults."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from t2i_eval_kedro.agreement.regions import Flaws, ntire_structure
from t2i_eval_kedro.agreement.structure import JudgedImage, found_faults, pick_cases, summarise_structure
from t2i_eval_kedro.errors import T2IEvalError


def square(top: int, left: int, side: int, size: int = 256) -> np.ndarray:
    mask = np.zeros((size, size), np.uint8)
    mask[top : top + side, left : left + side] = 1
    return mask


def images(rng: np.random.Generator, error: float, n: int = 40) -> list[JudgedImage]:
    """Each picture has one fault but every fifth; a model of this error moves it and its score."""
    out = []
    for k in range(n):
        place = np.random.default_rng(k)
        top, left = place.integers(20, 150, 2)
        truth = square(int(top), int(left), 10 if k % 2 else 60) if k % 5 else np.zeros((256, 256), np.uint8)
        shift = int(rng.normal(0, 30 * error))
        said = np.roll(truth, shift, axis=1)
        if k % 5 == 0 and rng.random() < error:
            said = square(100, 100, 40)
        score = float(place.normal())
        out.append(
            JudgedImage(
                item_id=f"i{k}",
                prompt=f"p{k // 2}",
                seen=k < 30,
                families=(("torn" if k % 2 else "extra"),) if k % 5 else (),
                score=score,
                predicted_score=score + float(rng.normal(0, error)),
                mask=truth,
                predicted_mask=said,
                heat=said * 0.9,
            )
        )
    return out


@pytest.fixture(scope="module")
def judged() -> dict[str, list[JudgedImage]]:
    return {"good": images(np.random.default_rng(1), 0.2), "bad": images(np.random.default_rng(2), 1.0)}


@pytest.fixture(scope="module")
def summary(judged):
    return summarise_structure(judged, 50, 0.95, 0)


def test_figures_are_those_of_the_challenge(judged, summary) -> None:
    for name, chosen in judged.items():
        truth = {image.item_id: Flaws(image.score, image.mask) for image in chosen}
        said = {image.item_id: Flaws(image.predicted_score, image.predicted_mask) for image in chosen}
        for kept, stratum in (
            (chosen, "all"),
            ([i for i in chosen if i.seen], "seen"),
            ([i for i in chosen if not i.seen], "unseen"),
        ):
            ids = {image.item_id for image in kept}
            plain = ntire_structure({k: truth[k] for k in ids}, said, "corrected")
            part = summary["models"][name]["strata"][stratum]
            assert part["n"] == len(ids)
            for figure, entry in part["figures"].items():
                assert entry["value"] == pytest.approx(plain[figure], abs=1e-5), (name, stratum, figure)
        assert summary["models"][name]["official"]["F1_Score"] == pytest.approx(
            ntire_structure(truth, said)["F1_Score"], abs=1e-6
        )


def test_a_better_model_is_better_with_an_interval_above_zero(summary) -> None:
    difference = next(entry for entry in summary["differences"] if entry["stratum"] == "seen")
    assert (difference["a"], difference["b"]) == ("good", "bad")
    for figure in ("F1_Score", "SRCC", "Final_Score"):
        assert difference[figure]["low"] > 0
        assert difference[figure]["low"] <= difference[figure]["value"] <= difference[figure]["high"]
    assert summary["weights"]["reference"]["winners"] == ["good"]
    assert summary["weights"]["winners"]["good"] == 1


def test_faults_found_by_family_and_size(judged, summary) -> None:
    model = summary["models"]["good"]
    assert set(model["families"]) == {"torn", "extra"}
    assert model["families"]["torn"]["n"] + model["families"]["extra"]["n"] == 32
    assert set(model["sizes"]) == {"small", "large"}  # 10 x 10 is .15% of the picture, 60 x 60 is 5.5%
    assert model["sizes"]["small"]["found"] < model["sizes"]["large"]["found"] == 1
    assert model["false_alarms"]["n"] == 8
    by_hand = [
        hit
        for image in judged["good"]
        if image.families == ("torn",)
        for _, hit in found_faults(image.mask, image.predicted_mask)
    ]
    assert model["families"]["torn"]["found"] == pytest.approx(np.mean(by_hand), abs=1e-6)


def test_a_fault_is_found_above_the_iou_of_the_challenge() -> None:
    truth = square(100, 100, 40)
    (share, hit), *others = found_faults(truth, np.roll(truth, 30, axis=1))  # IoU 10/70
    assert share == pytest.approx(40 * 40 / 256**2, abs=1e-3)
    assert hit
    assert not others
    assert found_faults(truth, np.roll(truth, 34, axis=1))[0][1] is False  # IoU 6/74
    assert found_faults(square(0, 0, 0), truth) == []
    assert [hit for _, hit in found_faults(truth, square(0, 0, 0))] == [False]


def test_best_hits_worst_misses_and_false_alarms(judged) -> None:
    chosen = pick_cases(judged["bad"], 3)

    def iou(image: JudgedImage) -> float:
        a, b = image.mask > 0, image.predicted_mask > 0
        return float((a & b).sum() / (a | b).sum())

    faulty = sorted(iou(image) for image in judged["bad"] if image.mask.any())
    assert [iou(image) for image in chosen["worst misses"]] == faulty[:3]
    missed = [(iou(image), int(image.mask.sum())) for image in judged["bad"] if image.mask.any()]
    in_order = sorted(missed, key=lambda one: (one[0], -one[1]))  # of faults missed alike the larger first
    every = pick_cases(judged["bad"], len(missed))["worst misses"]
    assert [(iou(image), int(image.mask.sum())) for image in every] == in_order
    assert [iou(image) for image in chosen["best hits"]] == faulty[::-1][:3]
    assert all(not image.mask.any() and image.predicted_mask.any() for image in chosen["false alarms"])


def test_models_that_judged_different_images_are_refused(judged) -> None:
    with pytest.raises(T2IEvalError, match="did not judge the same images"):
        summarise_structure({"good": judged["good"], "bad": judged["bad"][1:]}, 100, 0.95, 0)
    with pytest.raises(T2IEvalError):
        summarise_structure({}, 100, 0.95, 0)


def test_a_model_that_marks_nothing_has_no_official_score_and_a_reason(judged) -> None:
    silent = [JudgedImage(**(vars(image) | {"predicted_mask": np.zeros_like(image.mask)})) for image in judged["good"]]
    model = summarise_structure({"silent": silent}, 20, 0.95, 0)["models"]["silent"]
    assert "no region at all" in model["official"]["reason"]
    assert model["strata"]["all"]["figures"]["F1_Score"]["value"] == 0


def test_heat_maps_have_figures_where_a_model_draws_them(judged, summary) -> None:
    assert summary["models"]["good"]["heat_maps"] is not None
    plain = [replace(image, heat=None) for image in judged["good"]]
    assert summarise_structure({"good": plain}, 50, 0.95, 0)["models"]["good"]["heat_maps"] is None
