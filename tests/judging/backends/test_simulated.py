from __future__ import annotations

import pytest

from t2i_eval_kedro.agreement import summarise
from t2i_eval_kedro.errors import T2IEvalError
from t2i_eval_kedro.judging.backends.simulated import SimulatedBackend
from t2i_eval_kedro.judging.evaluators import judge_items
from t2i_eval_kedro.judging.protocols import Wording
from t2i_eval_kedro.judging.protocols.registry import PROTOCOLS
from t2i_eval_kedro.shapes.make import make_shapes

SHAPES = make_shapes(24, seed=5)
DIMENSIONS = PROTOCOLS["decomposed"].dimensions
PHRASES = {name: name for name in DIMENSIONS}


def teach(wording: Wording, **settings: float):
    noise = {"seed": 0, "error_rate": 0.0, "score_noise": 0.0} | settings
    backend = SimulatedBackend(SHAPES.items, wording, **noise)
    return judge_items(SHAPES.items, backend, wording, PHRASES, ["decomposed"], name="t")


def test_the_teacher_agrees_with_the_raters_because_it_sees_the_truth(wording: Wording) -> None:
    said = teach(wording)
    figures = summarise(SHAPES.items, SHAPES.ratings, said.scores, n_resamples=100)["evaluators"]["t_decomposed"]
    assert {name: figure["spearman"]["value"] > 0.7 for name, figure in figures.items()} == dict.fromkeys(figures, True)
    assert set(figures) == set(DIMENSIONS)


def test_errors_and_noise_lower_the_agreement(compact: Wording) -> None:
    def spearman(said):
        return summarise(SHAPES.items, SHAPES.ratings, said.scores, n_resamples=100)["evaluators"]["t_decomposed"][
            "overall"
        ]["spearman"]["value"]

    assert spearman(teach(compact, error_rate=0.4, score_noise=3.0)) < spearman(teach(compact)) - 0.1


def test_the_same_seed_gives_the_same_transcripts(compact: Wording) -> None:
    noisy = {"error_rate": 0.1, "score_noise": 1.0}
    assert teach(compact, **noisy).transcripts.equals(teach(compact, **noisy).transcripts)
    assert not teach(compact, **noisy).transcripts.equals(teach(compact, **noisy, seed=1).transcripts)


def test_it_needs_a_truth_to_see(compact: Wording) -> None:
    items = SHAPES.items.assign(attributes=None)
    with pytest.raises(T2IEvalError, match=r"teacher\.kind=human"):
        SimulatedBackend(items, compact, seed=0, error_rate=0, score_noise=0)
