"""``kedro judge --structure``: scores, masks and overlays that score-submission reads back; bad images are named and shift nothing."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner
from PIL import Image
from structure_models import write_random_model

from t2i_eval_kedro import load_structure
from t2i_eval_kedro.agreement.mask_folders import read_mask_folder
from t2i_eval_kedro.cli.judge import judge_images


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_random_model(tmp_path_factory.mktemp("structure"))


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    folder = tmp_path / "pictures"
    (folder / "more").mkdir(parents=True)
    rng = np.random.default_rng(0)
    for name, size in (("a.png", (64, 64)), ("b.jpg", (90, 50)), ("more/c.webp", (40, 60))):
        Image.fromarray(rng.integers(0, 255, (size[1], size[0], 3), dtype=np.uint8)).save(folder / name)
    (folder / "bad.png").write_bytes((folder / "a.png").read_bytes()[:100])
    (folder / "notes.txt").write_text("no image")
    return folder


def run(*arguments: object, ok: bool = True) -> str:
    done = CliRunner().invoke(judge_images, list(map(str, arguments)))
    assert (done.exit_code == 0) == ok, done.output
    return done.output


def test_a_folder_is_scored_and_what_is_written_is_a_submission(model: Path, pictures: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    said = run("--structure", pictures, "--model", model, "--out", out)
    assert "of 3 images" in said
    assert "1 of 4 images could not be read" in said
    table = pd.read_csv(out / "scores.csv", keep_default_na=False).set_index("image")
    assert list(table.index) == ["a.png", "b.jpg", "bad.png", "more/c.webp"]
    assert "not a readable image" in table.loc["bad.png", "error"]
    assert table.loc["bad.png", "score"] == ""
    loaded = load_structure(model, device="cpu")
    for name in ("a.png", "b.jpg", "more/c.webp"):
        picture = Image.open(pictures / name).convert("RGB")
        result = loaded.predict([picture])[0]
        mask = np.asarray(Image.open(out / "masks" / f"{name}.png"))
        assert mask.shape == (picture.height, picture.width)
        assert (mask == 255 * result.mask).mean() > 0.999
        assert float(table.loc[name, "score"]) == pytest.approx(result.score, abs=1e-4)
        assert float(table.loc[name, "marked"]) == pytest.approx((mask > 0).mean(), abs=2e-3)
        assert Image.open(out / "overlays" / f"{name}.png").size == picture.size
    read = read_mask_folder(out)
    assert {kind: len(texts) for kind, texts in read.problems.items()} == {"bad_score": 1, "missing_mask": 1}
    assert read.flaws["b.jpg"].mask.shape == (50, 90)


def test_rows_of_a_csv_and_one_file(model: Path, pictures: Path, tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text("prompt,image\na cat,b.jpg\na dog,a.png\n")
    run("--structure", pictures, "--csv", tmp_path / "rows.csv", "--model", model, "--out", tmp_path / "out")
    assert list(pd.read_csv(tmp_path / "out" / "scores.csv")["image"]) == ["b.jpg", "a.png"]
    run("--structure", pictures / "a.png", "--prompt", "a cat", "--model", model, "--out", tmp_path / "one")
    one, two = (
        pd.read_csv(tmp_path / name / "scores.csv").set_index("image")["score"]["a.png"] for name in ("one", "out")
    )
    assert one == pytest.approx(two, abs=1e-4)


def test_nothing_but_an_earlier_result_is_replaced(model: Path, pictures: Path, tmp_path: Path) -> None:
    table = tmp_path / "scores.csv"  # also the name that a CSV of scores often has
    table.write_text("prompt,image\na cat,a.png\n")
    (pictures / "scores.csv").write_text("image,score\na.png,3\n")
    truth = tmp_path / "truth"
    shutil.copytree(pictures, truth / "masks")
    (truth / "scores.csv").write_text("image,score\na.png,3\n")
    images = tmp_path / "drawn" / "overlays"
    shutil.copytree(pictures, images)
    (tmp_path / "drawn" / "masks").mkdir()
    (tmp_path / "drawn" / "scores.csv").write_text("prompt,image\na cat,a.png\n")
    link = tmp_path / "link"
    link.symlink_to(pictures)
    before = sorted(tmp_path.rglob("*"))
    for given, out, said in (
        ([pictures], pictures, "is read from it"),
        ([pictures], link, "is read from it"),
        ([pictures], tmp_path, "is read from it"),
        ([pictures / "a.png"], pictures, "is read from it"),
        ([images], tmp_path / "drawn", "is read from it"),
        ([pictures, "--csv", tmp_path / "drawn" / "scores.csv"], tmp_path / "drawn", "is read from it"),
        ([pictures, "--csv", table], tmp_path, "is read from it"),
        ([pictures], pictures / "more" / "out", "next time"),
        ([images], pictures, "no earlier result"),
        ([pictures], truth, "no earlier result"),
        ([pictures], table, "no earlier result"),
    ):
        lines = run("--structure", *given, "--model", model, "--out", out, ok=False).strip().splitlines()
        assert said in lines[-1]
        assert sorted(tmp_path.rglob("*")) == before
    out = pictures / "out"  # the rows alone are judged, so what is written there is not
    for _ in range(2):
        run("--structure", pictures, "--csv", table, "--model", model, "--out", out)
        assert sorted(path.name for path in out.iterdir()) == ["masks", "overlays", "scores.csv"]


def test_what_cannot_be_done_is_said(model: Path, pictures: Path, tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    assert "contains no image" in run("--structure", empty, "--model", model, "--out", tmp_path / "x", ok=False)
    assert "is not a model of structure" in run(
        "--structure", pictures, "--model", empty, "--out", tmp_path / "x", ok=False
    )
    assert "give --out" in run("--structure", pictures, "--model", model, ok=False)
    assert "--model names a model of structure" in run("--model", model, "--prompt", "a", "--image", "b", ok=False)
    (tmp_path / "rows.csv").write_text("prompt,image\na cat,../rows.csv\n")
    assert "leads out of" in run(
        "--structure", pictures, "--csv", tmp_path / "rows.csv", "--model", model, "--out", tmp_path / "x", ok=False
    )
    (pictures / "a.png").write_bytes(b"no")
    for _ in range(2):  # the result of the first is replaced
        assert "None of the images" in run(
            "--structure", pictures / "a.png", "--model", model, "--out", tmp_path / "y", ok=False
        )
    assert not (tmp_path / "x").exists()
