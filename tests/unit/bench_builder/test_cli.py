"""The commands, from an empty folder to a benchmark `validate` can load; and what they say when something lacks."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest

from datk.bench_builder.database import Database
from datk.bench_builder.image_list import IMAGES_CSV
from datk.bench_builder.queue import all_pairs
from datk.evaluate.benchmarks import da2k

pytest.importorskip("flask", reason="flask (extra 'bench') is not installed")


@pytest.fixture
def say(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Any:
    """Run a `datk bench` line in an empty working folder; (exit code, stdout, stderr)."""
    monkeypatch.chdir(tmp_path)

    def run(*words: str, typed: str = "") -> tuple[int, str, str]:
        from datk.cli.main import main

        monkeypatch.setattr("sys.argv", ["datk", "bench", *words])
        monkeypatch.setattr("sys.stdin", io.StringIO(typed))
        with pytest.raises(SystemExit) as ended:
            main()
            raise SystemExit(0)
        told = capsys.readouterr()
        assert "Traceback" not in told.err, told.err
        return int(ended.value.code or 0), told.out, " ".join(told.err.split())

    return run


def checkpoint(path: Path, seed: int) -> str:
    """A tiny net of random weights whose map has relief, trained (it says) at 28x28."""
    import torch

    from datk.models.depth_anything import DepthAnything
    from datk.models.weights import save_checkpoint

    torch.manual_seed(seed)
    net = DepthAnything("tiny").eval()
    with torch.no_grad():
        net.depth_head.scratch.output_conv2[2].bias.fill_(0.3)
        net.depth_head.scratch.output_conv2[2].weight.mul_(6)
    save_checkpoint(net, path, metadata={"licence": "Apache-2.0", "input_size": "28x28"})
    return str(path)


def test_a_benchmark_is_made_from_plan_to_export(say: Any, tmp_path: Path, write_images: Any) -> None:
    assert say("plan", "trucks", "--images", "4")[0] == 0
    folder = tmp_path / "trucks"
    write_images(folder, {"indoor": ["a.jpg", "b.jpg"], "aerial": ["c.jpg"], "object": ["d.jpg"]})
    counts = json.loads(say("plan", "trucks", "--json")[1])
    assert counts["scenes"]["indoor"]["on_disk"] == 2 and counts["missing"] == []
    plan = folder / "plan.yaml"
    plan.write_text(
        plan.read_text().replace("min_depth_ratio: 3.0", "min_depth_ratio: 1.0").replace("checkers: 2", "checkers: 1")
    )
    experts = [w for k in range(3) for w in ("--expert", checkpoint(tmp_path / f"net{k}.safetensors", k))]
    code, out, told = say("propose", "trucks", *experts, "--json")
    assert code == 0 and "3 experts vote; the paper has 4" in told, told
    proposed = json.loads(out)
    db = Database(folder)
    pairs = all_pairs(db)
    assert proposed["pictures"] == 3 and proposed["added"] == len(pairs) > 0, proposed
    for name in ("ann", "bob"):
        assert say("annotator", "add", "trucks", name, "--password-stdin", typed="correct horse\n")[0] == 0
    assert say("annotator", "list", "trucks")[1].split() == ["ann", "bob"]
    with db.writing() as tx:
        for person in (1, 2):
            tx.execute(
                "INSERT INTO answer(pair_id, annotator_id, choice, token, at) VALUES (?, ?, 'second', ?, '')",
                (pairs[0].id, person, f"token{person}"),
            )
    assert json.loads(say("stats", "trucks", "--json")[1])["pairs"] == {"open": len(pairs) - 1, "accepted": 1}
    assert "accepted" in say("stats", "trucks")[1]
    code, _, told = say("export", "trucks", "out")
    assert code == 0 and "1 pairs on 1 images" in told
    made = da2k.load(tmp_path / "out")
    assert made.images[0].pairs[0].nearer == pairs[0].second


@pytest.mark.parametrize(
    ("words", "code", "told"),
    [
        (["propose", "none", "--expert", "x"], 2, "datk bench plan none"),
        (["propose", "trucks", "--expert", "nothing.pth"], 2, "no such model"),
        (["annotate", "trucks"], 2, "datk bench annotator add trucks NAME"),
        (["stats", "trucks"], 2, "nothing has been proposed or annotated"),
        (["annotator", "add", "trucks", "ann", "--password-stdin"], 2, "at least 8"),
    ],
)
def test_what_lacks_is_said_with_the_next_command(say: Any, words: list[str], code: int, told: str) -> None:
    say("plan", "trucks")
    ended, _, err = say(*words, typed="short\n")
    assert ended == code and told in err


def test_the_page_without_its_libraries_names_the_extra(say: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    say("plan", "trucks")
    monkeypatch.setattr("datk.bench_builder.annotators.importlib.util.find_spec", lambda name: None)
    code, _, told = say("annotate", "trucks")
    assert code == 4 and "datk[bench]" in told


def test_an_edited_image_list_is_never_overwritten(say: Any, tmp_path: Path) -> None:
    say("plan", "trucks")
    path = tmp_path / "trucks" / IMAGES_CSV
    path.write_text(path.read_text() + "indoor,a.jpg,u,CC0,me,\n")
    say("plan", "trucks")
    assert path.read_text().endswith("indoor,a.jpg,u,CC0,me,\n")
