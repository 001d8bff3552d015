"""Evidence is what a network of structure says, looked at once, by a network that has not learned from the image."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from kedro_project import ROOT
from structure_models import write_random_model

from t2i_eval_kedro import load_judge
from t2i_eval_kedro.datasets.answer_store import AnswerStore
from t2i_eval_kedro.datasets.image_store import decode
from t2i_eval_kedro.errors import T2IEvalError
from t2i_eval_kedro.judging.evidence import EvidenceSource, evidence_source, marked_regions
from t2i_eval_kedro.judging.project import Project
from t2i_eval_kedro.judging.protocols import EvaluationItem
from t2i_eval_kedro.judging.protocols.evidence import NO_EVIDENCE, StructureEvidence
from t2i_eval_kedro.judging.shards import BatchImages
from t2i_eval_kedro.models.structure.model import load_structure, write_learned_from
from t2i_eval_kedro.shapes.make import make_shapes

MADE = make_shapes(1, structure=True)
ENCODED = {key: data for key, data in MADE.images if not key.startswith("masks/")}
ITEMS = [EvaluationItem(f"i{k}", "two red circles", key) for k, key in enumerate([*ENCODED][:4])]


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_random_model(tmp_path_factory.mktemp("structure"))


@pytest.fixture
def other(network: Path) -> Path:
    """The same network whose scores are lower by 3."""
    copy = network.with_name("other")
    shutil.copytree(network, copy, dirs_exist_ok=True)
    config = json.loads((copy / "structure_config.json").read_text())
    config["calibration"]["offset"] -= 0.3
    (copy / "structure_config.json").write_text(json.dumps(config))
    for folder in (network, copy):
        (folder / "learned_from.json").unlink(missing_ok=True)
    return copy


def scores(source: EvidenceSource, items: list[EvaluationItem] = ITEMS) -> list[float]:
    return [item.evidence.score for item in source.add(items)]  # type: ignore[union-attr,misc]


def test_evidence_is_the_networks_score_on_0_to_10_and_its_regions(network: Path) -> None:
    results = load_structure(network).predict([decode(ENCODED[item.image]) for item in ITEMS])
    found = EvidenceSource([str(network)], BatchImages(ENCODED)).add(ITEMS)
    assert [item.item_id for item in found] == [item.item_id for item in ITEMS]
    for item, result in zip(found, results, strict=True):
        assert item.evidence == StructureEvidence(pytest.approx(result.score, abs=1e-3), marked_regions(result.mask))


def test_regions_are_named_by_size_and_place_the_largest_first() -> None:
    mask = np.zeros((64, 64), bool)
    assert marked_regions(mask) == ()
    mask[2:8, 4:10] = mask[28:34, 30:33] = mask[40:62, 40:62] = True
    first, second, third = marked_regions(mask)
    assert (first.size, first.place, first.share) == ("large", "lower right", pytest.approx(484 / 4096, rel=0.1))
    assert (second.size, second.place, second.share) == ("medium", "upper left", pytest.approx(36 / 4096, rel=0.2))
    assert (third.size, third.place) == ("small", "middle")


def test_what_was_said_is_kept_and_the_network_not_asked_again(network: Path, tmp_path: Path) -> None:
    copy = tmp_path / "network"
    shutil.copytree(network, copy)
    first = scores(EvidenceSource([str(copy)], BatchImages(ENCODED), AnswerStore(tmp_path / "kept.sqlite")))
    config = json.loads((copy / "structure_config.json").read_text())
    assert Path(config["settings"]["vit"]).is_dir()
    again = EvidenceSource([str(copy)], BatchImages(ENCODED), AnswerStore(tmp_path / "kept.sqlite"))
    assert scores(again) == first
    assert "model" not in vars(again._witnesses[0])  # it was not even loaded
    changed = EvidenceSource([str(copy)], BatchImages(ENCODED), AnswerStore(tmp_path / "kept.sqlite"))
    config["calibration"]["offset"] -= 0.1
    (copy / "structure_config.json").write_text(json.dumps(config))
    assert scores(changed) == pytest.approx([one - 1 for one in first], abs=1e-3)


def test_the_first_network_that_did_not_learn_from_an_image_speaks(
    network: Path, other: Path, caplog: pytest.LogCaptureFixture
) -> None:
    images, both = BatchImages(ENCODED), [str(network), str(other)]
    plain = scores(EvidenceSource([str(network)], images))
    lower = [one - 3 for one in plain]
    encoded = [ENCODED[item.image] for item in ITEMS]
    write_learned_from(network, [encoded[0], encoded[2]])
    write_learned_from(other, [encoded[1]])
    caplog.clear()
    mixed = scores(EvidenceSource(both, images))
    assert mixed == pytest.approx([lower[0], plain[1], lower[2], plain[3]], abs=1e-3)
    assert not [record for record in caplog.records if "learned from" in record.getMessage()]
    write_learned_from(other, [encoded[1], encoded[2]])
    with caplog.at_level("WARNING"):
        mixed = scores(EvidenceSource(both, images))
    assert mixed == pytest.approx([lower[0], plain[1], plain[2], plain[3]], abs=1e-3)
    (warning,) = [record.getMessage() for record in caplog.records if "learned from" in record.getMessage()]
    assert warning.startswith("1 of 4 images were learned from by every network")


def test_an_unreadable_image_costs_its_own_evidence_alone(network: Path, tmp_path: Path) -> None:
    images = BatchImages(ENCODED | {"bad.png": b"no image", "cut.png": ENCODED[ITEMS[0].image][:400]})
    given = [ITEMS[0], *(EvaluationItem(key, "a", key) for key in ("bad.png", "cut.png", "absent.png")), ITEMS[1]]
    store = AnswerStore(tmp_path / "kept.sqlite")
    found = [item.evidence for item in EvidenceSource([str(network)], images, store).add(given)]
    assert found[1:4] == [NO_EVIDENCE] * 3
    assert len(store) == 2
    alone = EvidenceSource([str(network)], images).add(ITEMS[:2])
    for a, b in zip((found[0], found[4]), alone, strict=True):
        assert a is not None
        assert b.evidence is not None
        assert a.score == pytest.approx(b.evidence.score, abs=1e-3)


def test_a_folder_without_a_network_is_refused(tmp_path: Path) -> None:
    images = BatchImages(ENCODED)
    with pytest.raises(T2IEvalError, match=r"nothing' \(judging.options.evidence\) is not a trained network"):
        EvidenceSource([str(tmp_path / "nothing")], images)
    asked: dict[str, Any] = {"judging.options.evidence": str(tmp_path)}
    judging = Project.open(None, None, {"student": "tiny_vlm"}).judging
    assert evidence_source(judging, images) is None
    options = judging.options.model_copy(update={"evidence": tuple(asked.values())})
    with pytest.raises(T2IEvalError, match="is not a trained network of structure; train one with"):
        evidence_source(judging.model_copy(update={"options": options}), images)


def test_a_judge_is_told_and_says_so(network: Path, tmp_path: Path) -> None:
    for item in ITEMS[:2]:
        (tmp_path / item.image).write_bytes(ENCODED[item.image])
    tiny, options = ROOT / "data/06_models/tiny_vlm", {"evidence": str(network)}

    def judge_with(**chosen: Any) -> Any:
        return load_judge(
            tiny,
            untrained=True,
            images=tmp_path,
            protocol="decomposed",
            params={"judging": {"options": chosen}},
        )

    told, plain = judge_with(**options), judge_with()
    assert told(ITEMS[0].image, "a red circle").prompt_version == "decomposed_text_evidence@2/compact@2"
    assert plain(ITEMS[0].image, "a red circle").prompt_version == "decomposed_text@2/compact@2"
    told.compare(ITEMS[0].image, ITEMS[1].image, "a red circle")  # each is scored alone, with its own evidence
    with pytest.raises(T2IEvalError, match="is not a trained network"):
        judge_with(evidence="nowhere")
