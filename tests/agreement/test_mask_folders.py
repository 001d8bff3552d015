"""Folders of masks as people bring them: any size and values, and what is bad is named, counted and joined to no other image."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from t2i_eval_kedro.agreement.mask_folders import read_mask_folder
from t2i_eval_kedro.agreement.submissions import score_submissions
from t2i_eval_kedro.errors import T2IEvalError

N = 12


def masks() -> dict[str, np.ndarray]:
    """One square a picture, at a place of its own; the last picture is sound."""
    out = {}
    for k in range(N):
        mask = np.zeros((512, 512), np.uint8)
        if k < N - 1:
            mask[40 * k : 40 * k + 36, 30 * k : 30 * k + 36] = 1
        out[f"im{k}"] = mask
    return out


def write(folder: Path, table: dict[str, np.ndarray], scores: dict[str, object] | None = None) -> Path:
    folder.mkdir(parents=True)
    for name, mask in table.items():
        Image.fromarray(mask).save(folder / f"{name}.png")
    given = scores if scores is not None else {name: k + (k % 3) for k, name in enumerate(table)}
    (folder / "scores.json").write_text(json.dumps(given))
    return folder


@pytest.fixture
def truth(tmp_path: Path) -> Path:
    return write(tmp_path / "truth", masks())


@pytest.mark.parametrize(
    ("change", "values"),
    [
        (lambda m: m, "0 and 1"),
        (lambda m: m * 255, "0 and 255"),
        (lambda m: m.astype(bool), "true and false"),
        (lambda m: m * np.float32(0.7), "several levels"),
        (lambda m: m * np.linspace(0.1, 1, 512), "decimal numbers"),
        (lambda m: m.astype(np.int64), "0 and 1"),
        (lambda m: (m * 255)[None], "0 and 255"),
        (lambda m: m[::2, ::2], "0 and 1"),
    ],
)
def test_values_and_sizes_of_masks_make_no_difference(tmp_path: Path, truth: Path, change, values: str) -> None:
    changed = tmp_path / "changed"
    changed.mkdir()
    for name, mask in masks().items():
        np.save(changed / f"{name}.npy", change(mask))
    (changed / "scores.csv").write_text("image,score\n" + "".join(f"im{k}.jpg,{k + k % 3}\n" for k in range(N)))
    read = read_mask_folder(changed)
    assert read.values[values] >= N - 1
    assert sum(read.sizes.values()) == N
    assert read.n_empty == 1
    (changed / "scores.csv").unlink()
    (changed / "scores.json").write_text((truth / "scores.json").read_text())
    found = score_submissions("structure", truth, [changed], "as_published")
    assert found["F1_Score"] == pytest.approx(1)
    assert found["Final_Score"] == pytest.approx(1, abs=0.01)
    assert found["GIoU"] == pytest.approx(1, abs=0.1)


def test_one_corrupt_file_is_named_and_shifts_no_other(tmp_path: Path, truth: Path) -> None:
    folder = write(tmp_path / "s", masks())
    (folder / "im3.png").write_bytes((folder / "im3.png").read_bytes()[:60])
    (folder / "im5.png").unlink()
    Image.fromarray(masks()["im0"]).save(folder / "im99.png")
    for mode in ("as_published", "one_to_one"):
        with pytest.raises(T2IEvalError, match=r"1 unreadable mask, 1 missing mask.*im3\.png"):
            score_submissions("structure", truth, [folder], mode)
    found = score_submissions("structure", truth, [folder], "corrected")
    assert found["Precision"] == 1
    assert found["Recall"] == pytest.approx((N - 3) / (N - 1))
    problems = found["input"]["problems"]
    assert {kind: entry["n"] for kind, entry in problems.items()} == {
        "unreadable_mask": 1,
        "missing_mask": 1,
        "extra_mask": 1,
    }
    assert "im3.png" in problems["unreadable_mask"]["first"][0]
    assert found["SRCC"] == pytest.approx(1)


def test_missing_and_extra_images_and_bad_scores_are_counted(tmp_path: Path, truth: Path) -> None:
    table = masks() | {"more": masks()["im0"]}
    del table["im2"]
    scores: dict[str, object] = {name: int(name[2:]) if name != "more" else 99 for name in table} | {"im4": "?"}
    folder = write(tmp_path / "s", table, scores)
    with pytest.raises(T2IEvalError, match="1 bad score"):
        score_submissions("structure", truth, [folder], "as_published")
    found = score_submissions("structure", truth, [folder], "corrected")
    problems = found["input"]["problems"]
    assert problems["missing_image"] == {"n": 1, "first": ["im2"]}
    assert problems["extra_image"] == {"n": 1, "first": ["more"]}
    assert problems["bad_score"]["n"] == 1
    assert found["Precision"] == 1  # the extra image counts nowhere
    (folder / "scores.json").write_text(json.dumps(dict.fromkeys(table, 1.5)))
    with pytest.raises(T2IEvalError, match="lacks 1 images, the first 'im2'"):
        score_submissions("structure", truth, [folder], "as_published")


def test_what_cannot_be_joined_is_refused(tmp_path: Path) -> None:
    folder = write(tmp_path / "s", {"a": masks()["im0"]}, {"a.jpg": 1, "a.png": 2})
    with pytest.raises(T2IEvalError, match=r"'a\.jpg' and 'a\.png' would share the mask"):
        read_mask_folder(folder)
    (folder / "scores.csv").write_text("image,score\na,1\n")
    with pytest.raises(T2IEvalError, match=r"has scores\.csv and scores\.json"):
        read_mask_folder(folder)
    (folder / "scores.json").unlink()
    (folder / "scores.csv").write_text("image,score\na,1\na,2\n")
    with pytest.raises(T2IEvalError, match="twice"):
        read_mask_folder(folder)
    (folder / "scores.csv").write_text("picture,mos\na,1\n")
    with pytest.raises(T2IEvalError, match="needs a column score"):
        read_mask_folder(folder)
    (folder / "scores.csv").write_text("image,score\na,1\n")
    np.save(folder / "a.npy", np.array([{}], dtype=object), allow_pickle=True)
    (folder / "a.png").unlink()
    assert read_mask_folder(folder).problems.keys() == {"unreadable_mask"}


def test_alignment_has_no_matching(tmp_path: Path) -> None:
    with pytest.raises(T2IEvalError, match="is for structure"):
        score_submissions("alignment", tmp_path, [tmp_path], "one_to_one")
