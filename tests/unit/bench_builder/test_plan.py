"""A plan and an image list: what is right is counted, what is wrong is named."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from datk.bench_builder.image_list import read_image_list
from datk.bench_builder.plan import Plan, draft, read_plan, write_draft
from datk.errors import DataError

ImageWriter = Callable[[Path, dict[str, list[str]]], None]


def test_a_new_plan_has_the_papers_scenes_and_shares_and_reads_back(tmp_path: Path) -> None:
    write_draft(tmp_path, name="our trucks", images=1000)
    plan = read_plan(tmp_path)
    assert plan == draft("our trucks", images=1000)
    assert plan.targets() == {
        "indoor": 200,
        "outdoor": 170,
        "non_real": 150,
        "transparent_reflective": 100,
        "adverse_style": 160,
        "aerial": 90,
        "underwater": 60,
        "object": 70,
    }
    assert [s for s, p in plan.scenes.items() if p.hand_picked] == ["transparent_reflective", "object"]
    assert plan.pair_rules.min_depth_ratio == 3


@pytest.mark.parametrize("images", [1, 7, 99, 1033])
def test_targets_add_up(images: int) -> None:
    assert sum(draft("x", images=images).targets().values()) == images


def test_a_second_draft_keeps_what_the_user_edited_and_renews_the_prompt(tmp_path: Path) -> None:
    write_draft(tmp_path, name="a", images=10)
    path = tmp_path / "plan.yaml"
    path.write_text(path.read_text().replace("- wine glasses", "- soap bubbles"))
    again = write_draft(tmp_path, name="b", images=99)
    assert read_plan(tmp_path).name == "a" and path in again.kept
    prompt = (tmp_path / "prompt.txt").read_text()
    assert "soap bubbles" in prompt and "wine glasses" not in prompt
    assert all(f"{scene}:" in prompt for scene in read_plan(tmp_path).scenes)


def test_the_prompts_answer_form_is_yaml(tmp_path: Path) -> None:
    write_draft(tmp_path, name="a", images=10)
    form = (tmp_path / "prompt.txt").read_text().split("plan.yaml:\n\n")[1]
    assert list(yaml.safe_load(form)) == list(read_plan(tmp_path).scenes)


def test_every_problem_of_a_plan_is_told_at_once(tmp_path: Path) -> None:
    write_draft(tmp_path, name="a", images=10)
    value = yaml.safe_load((tmp_path / "plan.yaml").read_text())
    value["pair_rules"]["min_deph_ratio"] = 2
    value["images"] = 0
    value["scenes"]["indoor"]["keywords"] = []
    (tmp_path / "plan.yaml").write_text(yaml.safe_dump(value))
    with pytest.raises(DataError) as caught:
        read_plan(tmp_path)
    for words in ("3 problems", "did you mean 'min_depth_ratio'", "images:", "indoor.keywords"):
        assert words in caught.value.message


@pytest.mark.parametrize(("share", "words"), [(0.5, "add up to 1.300"), (None, "scene '../up'")])
def test_shares_and_scene_names_are_checked(share: float | None, words: str) -> None:
    value = draft("a", images=10).model_dump()
    if share is None:
        value["scenes"]["../up"] = value["scenes"].pop("indoor")
    else:
        value["scenes"]["indoor"]["share"] = share
    with pytest.raises(ValueError, match=words):
        Plan.model_validate(value)


def test_pictures_are_present_missing_or_unlisted(tmp_path: Path, write_images: ImageWriter) -> None:
    write_draft(tmp_path, name="a", images=10)
    write_images(tmp_path, {"indoor": ["a.jpg", "b.jpg"], "aerial": ["c.png"]})
    (tmp_path / "images/indoor/b.jpg").unlink()
    (tmp_path / "images/aerial/stray.jpg").write_bytes(b"x")
    listed = read_image_list(tmp_path, scenes=read_plan(tmp_path).scenes)
    assert [i.path for i in listed.present] == ["images/indoor/a.jpg", "images/aerial/c.png"]
    assert [i.path for i in listed.missing] == ["images/indoor/b.jpg"]
    assert listed.unlisted == ("images/aerial/stray.jpg",)
    count = listed.counts(read_plan(tmp_path).targets())["indoor"]
    assert (count.target, count.listed, count.on_disk) == (2, 2, 1)


def test_every_bad_line_of_the_image_list_is_named(tmp_path: Path) -> None:
    write_draft(tmp_path, name="a", images=10)
    (tmp_path / "images.csv").write_text(
        "scene,file,url,licence,source,keyword\n"
        "indoor,../../etc/passwd.jpg,u,CC0,me,\n"
        "street,a.jpg,u,CC0,me,\n"
        "indoor,b.jpg,u,,me,\n"
        "indoor,c.gif,u,CC0,,\n"
        "indoor,d.jpg,u,CC0,me,\n"
        "indoor,d.jpg,u,CC0,me,\n"
    )
    with pytest.raises(DataError) as caught:
        read_image_list(tmp_path, scenes=read_plan(tmp_path).scenes)
    text = caught.value.message
    for words in (
        "line 2: file '../../etc/passwd.jpg'",
        "line 3: scene 'street'",
        "line 4: b.jpg has no licence",
        "line 5: file 'c.gif'",
        "line 5: c.gif has no source",
        "line 7: images/indoor/d.jpg is listed twice",
    ):
        assert words in text


def test_a_list_without_its_columns_says_which(tmp_path: Path) -> None:
    write_draft(tmp_path, name="a", images=10)
    (tmp_path / "images.csv").write_text("scene,file,url\nindoor,a.jpg,u\n")
    with pytest.raises(DataError, match="licence, source"):
        read_image_list(tmp_path, scenes=["indoor"])


def test_a_folder_without_a_plan_names_the_command(tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        read_plan(tmp_path)
    assert caught.value.hint is not None and "datk bench plan" in caught.value.hint
