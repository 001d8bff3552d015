"""What a student cannot do is refused before the benchmark is read, the teacher asked, or anything trained."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from kedro_project import run_kedro

from t2i_eval_kedro.errors import T2IEvalError
from t2i_eval_kedro.models.processors import load_processor
from t2i_eval_kedro.models.settings import ModelSettings
from t2i_eval_kedro.training import ability

TURN = "{{- '<' + message['role'] + '>' -}}"
FORGETS = TURN + "{%- if message['role'] == 'assistant' and loop.last -%}{{- 'so ' -}}{%- endif -%}"


@pytest.fixture
def student(project: Path) -> Path:
    """The project's model, with a template that writes a word before the last answer of a conversation alone."""
    folder = project / "forgetful"
    shutil.copytree(project / "data/06_models/tiny_vlm", folder)
    template = (folder / "chat_template.jinja").read_text()
    assert TURN in template
    (folder / "chat_template.jinja").write_text(template.replace(TURN, FORGETS))
    return folder


def refusal(project: Path, *parameters: str) -> str:
    """The last line of a whole run, which must leave nothing."""
    before = sorted(project.glob("data/**/*"))
    done = run_kedro(project, "run", "--env=test", "--params=" + ",".join(parameters))
    assert done.returncode == 1, done.stdout + done.stderr
    assert sorted(project.glob("data/**/*")) == before
    return done.stderr.strip().splitlines()[-1]


def test_answers_that_cannot_be_learned_together_are_refused_before_the_teacher_is_asked(
    project: Path, student: Path
) -> None:
    said = refusal(project, f"model.model={student}", "variant=no_subtasks")
    assert "writes an earlier answer differently once the conversation goes on" in said
    assert "leave 'conversation' out of examples.tasks" in said


def test_a_model_that_is_not_there_is_named_before_the_teacher_is_asked(project: Path) -> None:
    assert "Model folder 'data/nothing' does not exist" in refusal(project, "model.model=data/nothing")


def test_a_network_that_gives_evidence_must_be_there_before_the_teacher_is_asked(project: Path) -> None:
    said = refusal(project, "judging.options.evidence=data/nothing")
    assert "'data/nothing' (judging.options.evidence) is not a trained network of structure" in said


def test_soft_labels_need_levels_of_one_token(project: Path) -> None:
    model = ModelSettings.model_construct(model=str(project / "data/06_models/tiny_vlm"))
    model = model.model_copy(update={"revision": None, "trust_remote_code": False, "thinking": "closed"})
    ability.require_able(model, tasks=["subtasks", "conversation"], choices=[("yes", "no"), ("A", "B")], soft=["5"])
    with pytest.raises(T2IEvalError, match="Soft labels need levels of one token, and the level 'A' is 2 tokens"):
        ability.require_able(model, tasks=["score"], choices=[], soft=["A", "B"])


def test_a_template_that_keeps_its_answers_is_told_from_one_that_does_not(project: Path, student: Path) -> None:
    assert ability.keeps_answers(load_processor(project / "data/06_models/tiny_vlm"))
    assert not ability.keeps_answers(load_processor(student))
