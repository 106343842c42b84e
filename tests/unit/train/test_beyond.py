"""CutMix, labelled images in the batch, several teachers, cross-context distillation, ranges of the residual stream."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from datk.config.augment_section import AugmentSection
from datk.config.beyond_sections import CrossContextSection, EncoderSection, LabelledSection
from datk.config.loss_section import LossSection
from datk.config.train_sections import ScheduleSection, StudentSection
from datk.errors import DataError, UsageError
from datk.models.depth_anything import DepthAnything
from datk.train.augment import augment, local_view
from datk.train.cross_context import CrossContext, OnlineTeacher, cross_context, region_of
from datk.train.cutmix import rectangle
from datk.train.features import Learner
from datk.train.mixed import MixedBatches, image_weights
from datk.train.objective import depth_loss
from datk.train.samples import Batches, TrainingSample
from datk.train.several_teachers import SeveralTeachers, several_teachers
from datk.train.sources import PseudoLabelSource
from datk.train.start import fresh_net
from datk.train.student_step import StudentStep
from datk.train.tails import watched, with_tails
from tests.unit.train.toys import ToySource

QUICK = settings(max_examples=20, deadline=None)
LOSS = LossSection(output="raw", scale_floor=1e-2, gradient_weight=0.5, anchor_weight=0.5, feature_weight=0.0)
SIZE = (28, 42)


@dataclass(frozen=True)
class FlatSource:
    """Picture n is of brightness 20 n, its disparity a ramp to the right or, for odd n, to the left.

    `mark`, the farthest value, tells sources apart.
    """

    count: int = 6
    mark: float = 0.0

    def __len__(self) -> int:
        return self.count

    def load(self, index: int) -> TrainingSample:
        ramp = np.tile(np.linspace(self.mark, 1, 48, dtype=np.float32), (32, 1))
        image = np.full((32, 48, 3), 20 * index, np.uint8)
        ramp = np.ascontiguousarray(ramp[:, :: -1 if index % 2 else 1])
        return TrainingSample(image, ramp, np.ones(ramp.shape, np.bool_))


def _batches(section: AugmentSection | None = None, **options: object) -> Batches:
    values = {"input_size": SIZE, "augment": section or AugmentSection(flip=False), "batch_size": 6, "seed": 3}
    return Batches(**({"source": FlatSource()} | values | options))  # type: ignore[arg-type]


# CutMix


@QUICK
@given(st.integers(0, 10_000), st.floats(0.02, 0.3), st.floats(0.3, 0.9))
def test_the_rectangle_keeps_to_its_area(seed: int, low: float, high: float) -> None:
    section = AugmentSection(cutmix=1.0, cutmix_area=(low, high))
    mask = rectangle((70, 98), section, np.random.default_rng(seed))
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    assert mask[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1].all(), "a rectangle"
    assert low * 0.8 <= mask.mean() <= high * 1.2 and not mask.all()


def test_cutmix_pastes_pixels_and_targets_of_another_picture() -> None:
    plain, mixed = _batches()(0), _batches(AugmentSection(flip=False, cutmix=1.0))(0)
    assert mixed.pasted is not None and plain.pasted is None
    same = (mixed.image == plain.image).all(1) & (mixed.target == plain.target)
    assert bool(same[~mixed.pasted].all()), "outside the rectangle nothing changes"
    changed = [bool((mixed.image[i, 0] != plain.image[i, 0]).any()) for i in range(6)]
    assert bool((mixed.target != plain.target)[mixed.pasted].any()), "the target is pasted as well"
    assert sum(changed) >= 3, "a partner may be the picture itself, mostly it is not"
    assert mixed.samples == plain.samples


def test_cutmix_happens_with_its_probability_and_depends_on_the_position_alone() -> None:
    batches = _batches(AugmentSection(cutmix=0.5), batch_size=60)
    batch = batches(0)
    assert batch.pasted is not None
    assert 18 <= int(batch.pasted.flatten(1).any(1).sum()) <= 42
    parts = [batches(0, rank, 3) for rank in range(3)]
    again = torch.stack([part.image for part in parts], dim=1).flatten(0, 1)
    assert torch.equal(again, batch.image), "three processes draw the same"


def test_a_batch_keeps_its_extras_through_split_and_device() -> None:
    batch = _batches(AugmentSection(cutmix=0.5), keep_clean=True)(0)
    first, second = batch.split(4)
    assert first.pasted is not None and second.pasted is not None and batch.pasted is not None
    assert torch.equal(torch.cat([first.pasted, second.pasted]), batch.pasted)
    assert (len(first.image), len(second.positions)) == (4, 2)
    moved = batch.to(torch.device("cpu"))
    assert set(moved.tensors()) == set(batch.tensors()) == {"image", "clean", "target", "valid", "pasted"}
    shared = _batches()(0)
    assert next(shared.split(2)).clean is next(shared.split(2)).image or shared.clean is shared.image


# labelled images beside pseudo-labelled ones


def test_every_third_image_is_a_labelled_one() -> None:
    mixed = MixedBatches(_batches(), _batches(source=FlatSource(4)), 3)
    batch = mixed(0)
    assert batch.labelled is not None and batch.labelled.tolist() == [True, False, False] * 2
    assert all((number >= 6) == bool(flag) for number, flag in zip(batch.samples, batch.labelled, strict=True))
    seen = [number for step in range(6) for number in mixed(step).samples]
    assert sorted(seen) == sorted([*range(6)] * 4 + [*range(6, 10)] * 3), "every set comes round in whole epochs"


def test_both_sets_count_alike_whatever_their_share() -> None:
    flags = torch.tensor([True, False, False, True, False, False])
    weights = image_weights(flags, LabelledSection(every=3))
    assert weights is not None and float(weights.mean()) == 1.0
    assert float(weights[flags].sum()) == float(weights[~flags].sum())
    assert image_weights(flags, LabelledSection(average="images")) is None
    raw, target = torch.randn(6, 5, 5), torch.rand(6, 5, 5)
    valid = torch.ones_like(raw, dtype=torch.bool)
    sets = [depth_loss(raw[f], raw[f], target[f], valid[f], LOSS, 1.0).total for f in (flags, ~flags)]
    both = depth_loss(raw, raw, target, valid, LOSS, 1.0, labelled=flags, weights=weights)
    assert float(both.total) == pytest.approx(float(sum(sets)) / 2, rel=1e-5)


# several teachers


def test_a_teacher_is_drawn_for_each_image_by_its_share_and_its_position_alone() -> None:
    source = SeveralTeachers([FlatSource(mark=0.0), FlatSource(mark=0.5)], (7, 3))  # type: ignore[list-item]
    drawn = [source.load_drawn(0, np.random.default_rng([9, 3, p])).disparity[0, 0] for p in range(2000)]
    assert 0.27 <= np.mean(np.array(drawn) == 0.5) <= 0.33
    batches = _batches(source=source, batch_size=30)
    assert torch.equal(batches(2).target, _batches(source=source, batch_size=30)(2).target)


@dataclass(frozen=True)
class Labels:
    """A folder's usable labels of a source of 26 photographs, named a to z."""

    teacher: str
    numbers: np.ndarray
    images_sha256: str = "same"

    def number(self, index: int) -> int:
        return int(self.numbers[index])


class Alphabet:
    def key(self, index: int) -> str:
        return chr(ord("a") + index)


def _labels(teacher: str, names: str, source: str = "same") -> Labels:
    return Labels(teacher, np.array(sorted(ord(name) - ord("a") for name in names)), source)


def test_teachers_share_the_photographs_all_of_them_labelled() -> None:
    source = several_teachers([_labels("a", "xyz"), _labels("b", "zxw")], Alphabet(), (0.7, 0.3))
    assert isinstance(source, SeveralTeachers) and [source.key(i) for i in range(len(source))] == ["x", "z"]
    assert [[s.key(i) for i in range(2)] for s in source.sources] == [["x", "z"], ["x", "z"]]
    assert [s.labels.teacher for s in source.sources] == ["a", "b"]
    assert isinstance(several_teachers([_labels("a", "xy")], Alphabet(), None), PseudoLabelSource)


def test_labels_of_different_sources_are_never_mixed() -> None:
    with pytest.raises(DataError, match="different sources"):
        several_teachers([_labels("a", "xyz"), _labels("b", "xyz", "other")], Alphabet(), (0.7, 0.3))


def test_shares_and_folders_must_belong_together() -> None:
    with pytest.raises(UsageError, match="one folder of pseudo-labels, 2 given"):
        several_teachers([_labels("a", "x"), _labels("b", "x")], Alphabet(), None)
    with pytest.raises(UsageError, match="2 folders of pseudo-labels, 1 given"):
        several_teachers([_labels("a", "x")], Alphabet(), (7, 3))
    with pytest.raises(DataError, match="no photograph in common"):
        several_teachers([_labels("a", "x"), _labels("b", "y")], Alphabet(), (7, 3))


# cross-context distillation


@QUICK
@given(st.integers(0, 10_000))
def test_a_closer_look_shows_the_very_part_it_names(seed: int) -> None:
    """On a picture of linear colour, each pixel tells where it came from."""
    y, x = np.mgrid[:120, :160]
    image = np.stack([y * 2, x, np.zeros_like(x)], axis=2).astype(np.uint8)
    ramp, rng = np.zeros((120, 160), np.float32), np.random.default_rng(seed)
    view = augment(image, ramp, ramp == 0, (56, 70), AugmentSection(min_crop=0.6, max_stretch=1.2), rng)
    local, place = local_view(image, view, (42, 42), 0.4, 0.8, rng)
    whole = torch.from_numpy(view.clean).permute(2, 0, 1)  # (3, 56, 70)
    cut = region_of(whole, torch.from_numpy(np.tile(place, (3, 1))), (42, 42)).permute(1, 2, 0).numpy()
    inner = (slice(4, -4), slice(4, -4))  # cubic resizing overshoots at the rim
    assert np.abs(cut[inner] - local[inner]).max() < 3 / 255


def test_region_of_the_whole_is_the_map_itself_and_passes_gradients_to_its_part_alone() -> None:
    maps = torch.randn(2, 9, 12, dtype=torch.float64, requires_grad=True)
    whole = torch.tensor([[0.0, 0.0, 1.0, 1.0]]).repeat(2, 1)
    torch.testing.assert_close(region_of(maps, whole, (9, 12)), maps)
    quarter = torch.tensor([[0.0, 0.0, 1 / 3, 0.25], [0.0, 0.5, 1.0, 1.0]])
    region_of(maps, quarter, (3, 3))[0].sum().backward()
    assert maps.grad is not None and bool((maps.grad[0, 4:] == 0).all()) and bool((maps.grad[1] == 0).all())
    assert torch.autograd.gradcheck(lambda m: region_of(m, quarter, (4, 5)), maps)


class Brightness(nn.Module):
    """Disparity is the red channel, whatever the size: teacher and student agree on every part."""

    max_depth_m = None

    def __init__(self, gain: float = 1.0) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.tensor(gain))

    def forward_train(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return x[:, 0] * self.gain + 5, x

    def activate(self, raw: torch.Tensor) -> torch.Tensor:
        return torch.relu(raw)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.activate(self.forward_train(x)[0])


def test_both_contexts_are_judged_against_the_teachers_closer_look() -> None:
    section = CrossContextSection(shared_weight=1.0, local_global_weight=0.5, stored_weight=2.0)
    loss = LossSection(output="raw", gradient_weight=0.0)
    teacher = OnlineTeacher(Brightness())  # type: ignore[arg-type]
    batch = _batches(source=ToySource(), input_size=(56, 70), cross_context=section)(0)
    assert batch.local is not None and batch.place is not None and batch.local.shape == (6, 3, 56, 70)
    for gain, (low, high) in ((1.0, (0.0, 0.35)), (-1.0, (1.0, 9.0))):
        net = Brightness(gain)
        raw, _ = net.forward_train(batch.image)
        stored = depth_loss(raw, raw, batch.target, batch.valid, loss, 1.0)
        found = CrossContext(section, loss, teacher).add(net, stored, batch.local, batch.place, 1.0)
        parts = {name: float(value.detach()) for name, value in found.parts.items()}
        assert low <= parts["local_global"] <= high
        assert (parts["shared_ssi"] < 1e-5) if gain > 0 else (parts["shared_ssi"] > 1)
        expected = 2 * float(stored.total.detach()) + parts["shared_ssi"] + 0.5 * parts["local_global"]
        assert float(found.total.detach()) == pytest.approx(expected, rel=1e-5)


def test_a_student_learns_from_closer_looks_alone_and_the_teacher_stays_as_it_is() -> None:
    section = StudentSection(
        size="tiny", input_size=(28, 28), feature_source="off", loss=LOSS, cross_context=CrossContextSection()
    )
    teacher, net = fresh_net("tiny", seed=1), fresh_net("tiny", seed=2)
    before = [value.clone() for value in teacher.state_dict().values()]
    step = StudentStep(
        section, net, Learner(net, None, seed=0), None, cross_context(section.cross_context, LOSS, teacher)
    )
    batch = _batches(source=ToySource(), input_size=(28, 28), cross_context=section.cross_context)(0)
    loss = step(batch, 0.5)
    loss.total.backward()
    assert {"ssi", "shared_ssi", "local_global"} <= set(loss.parts)
    assert all(parameter.grad is None for parameter in teacher.parameters())
    assert all(torch.equal(a, b) for a, b in zip(before, teacher.state_dict().values(), strict=True))
    assert net.depth_head.projects[0].weight.grad is not None


def test_cross_context_needs_a_teacher_and_excludes_cutmix() -> None:
    with pytest.raises(UsageError, match="the teacher labels while training"):
        cross_context(CrossContextSection(), LOSS, None)
    with pytest.raises(ValueError, match="exclude each other"):
        StudentSection(cross_context=CrossContextSection(), augment=AugmentSection(cutmix=0.5))
    with pytest.raises(ValueError, match="smallest"):
        CrossContextSection(smallest=0.9, largest=0.5)


def test_a_metric_teachers_depth_is_turned_into_disparity() -> None:
    from datk.depth.io_spec import DepthKind

    net = DepthAnything("tiny", depth_kind=DepthKind.DEPTH_METRIC_M, max_depth_m=20.0)
    images = torch.randn(2, 3, 28, 28)
    label = OnlineTeacher(net)(images)
    depth = net(images)
    assert float(label.min()) == 0.0 and float(label.max()) == pytest.approx(1.0)
    assert int(label[0].argmax()) == int(depth[0].argmin()), "nearest is 1"


# ranges


def test_ranges_are_those_of_the_block_outputs_and_logging_changes_no_loss() -> None:
    net = fresh_net("tiny", seed=0)
    with torch.no_grad():
        net.pretrained.blocks[3].mlp.fc2.bias[5] = 80.0
    image, outputs = torch.randn(2, 3, 28, 28), []
    handles = [b.register_forward_hook(lambda _m, _i, out: outputs.append(out.detach())) for b in net.pretrained.blocks]
    section = LossSection(output="raw", log_ranges=True)
    with watched(net.pretrained, section) as stream:
        raw, _ = net.forward_train(image)
    for handle in handles:
        handle.remove()
    target, valid = torch.rand(2, 28, 28), torch.ones(2, 28, 28, dtype=torch.bool)
    dense = depth_loss(raw, raw, target, valid, section, 1.0)
    logged = with_tails(dense, stream, section)
    largest = torch.stack([out.abs().flatten(1).amax(1) for out in outputs]).amax(0).mean()
    assert len(stream) == 8 and float(logged.parts["range"]) == pytest.approx(float(largest))
    assert float(logged.parts["kurtosis"]) > 50, "one channel of 192 stands out"
    assert logged.total is dense.total
    assert net.pretrained.watch is None
    with watched(net.pretrained, LossSection()) as nothing:
        net.forward_train(image)
    assert nothing == [] and with_tails(dense, nothing, LossSection()) is dense


def test_the_penalty_pulls_an_outlier_down() -> None:
    net = fresh_net("tiny", seed=0)
    with torch.no_grad():
        net.pretrained.blocks[3].mlp.fc2.bias[5] = 80.0
    section = LossSection(output="raw", ssi_weight=0.0, gradient_weight=0.0, outlier_weight=1.0)
    optimiser = torch.optim.Adam(net.parameters(), lr=3e-2)
    image, target = torch.randn(2, 3, 28, 28), torch.rand(2, 28, 28)
    kurtosis = []
    for _ in range(5):
        with watched(net.pretrained, section) as stream:
            raw, _ = net.forward_train(image)
        dense = depth_loss(raw, raw, target, torch.ones_like(target, dtype=torch.bool), section, 1.0)
        loss = with_tails(dense, stream, section)
        optimiser.zero_grad()
        loss.total.backward()
        optimiser.step()
        kurtosis.append(float(loss.parts["kurtosis"]))
    assert kurtosis[-1] < 0.7 * kurtosis[0]


# the student as a whole


@pytest.fixture(scope="module")
def material(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Eight synthetic images with exact depth, and their pictures labelled by two teachers."""
    from datk.config.train_sections import PseudoLabelSection
    from datk.data.sources import open_images
    from datk.data.synthetic import generate, load
    from datk.train.labelling.net_teacher import NetTeacher
    from datk.train.pseudo_label import label_images

    root = tmp_path_factory.mktemp("material")
    generate(root / "synthetic", count=8, size=(56, 70), seed=0, workers=1)
    items = load(root / "synthetic")
    images = open_images(Path(items[0].image_path).parent)
    section = PseudoLabelSection(input_size=(28, 28))
    for number in (1, 2):
        net = fresh_net("tiny", seed=number)
        teacher = NetTeacher(net, source="test", licence="MIT", input_size=(28, 28), device="cpu")
        label_images(teacher, images, root / f"labels{number}", section)
    return {name: root / name for name in ("synthetic", "labels1", "labels2")}


@pytest.mark.parametrize(
    ("keys", "columns"),
    [
        (
            {
                "loss": LOSS.model_copy(update={"outlier_weight": 0.1, "alignment": "hierarchical"}),
                "cross_context": CrossContextSection(),
            },
            {"range", "crest", "kurtosis", "outlier", "shared_ssi", "local_global"},
        ),
        (
            {
                "augment": AugmentSection(cutmix=0.5),
                "labelled": LabelledSection(every=2),
                "teacher_weights": (7.0, 3.0),
            },
            set(),
        ),
    ],
    ids=["online", "in the batch"],
)
def test_the_keys_train_together_and_resume_bit_for_bit(
    material: dict[str, Path], tmp_path: Path, keys: dict[str, object], columns: set[str]
) -> None:
    from datk.train.student import distill

    schedule = ScheduleSection(steps=2, batch_size=4, device="cpu", precision="fp32")
    base = StudentSection(size="tiny", input_size=(28, 28), feature_source="off", loss=LOSS, schedule=schedule)
    section = base.model_copy(update=keys)
    folders = [material["labels1"], material["labels2"]] if section.teacher_weights else material["labels1"]
    teacher = fresh_net("tiny", seed=1)
    options = {"seed": 5, "labelled": material["synthetic"]}
    whole = distill(section, folders, teacher, tmp_path / "whole", **options)  # type: ignore[arg-type]
    distill(section, folders, teacher, tmp_path / "halves", stop_after=1, **options)  # type: ignore[arg-type]
    halves = distill(section, folders, teacher, tmp_path / "halves", **options)  # type: ignore[arg-type]
    assert halves.weights.read_bytes() == whole.weights.read_bytes()
    with (tmp_path / "whole/loss.csv").open() as handle:
        rows = list(csv.DictReader(handle))
    assert columns <= set(rows[0]) and all(float(row["loss"]) > 0 for row in rows)


def test_labelled_images_must_be_given(material: dict[str, Path], tmp_path: Path) -> None:
    from datk.train.student import distill

    section = StudentSection(size="tiny", input_size=(28, 28), feature_source="off", labelled=LabelledSection())
    with pytest.raises(UsageError, match="no images with depth are given"):
        distill(section, material["labels1"], fresh_net("tiny", seed=1), tmp_path, seed=5)


@pytest.mark.parametrize("family", ["beit", "sam"])
def test_a_student_on_another_encoder_trains_follows_the_teachers_features_and_comes_back(
    material: dict[str, Path], tmp_path: Path, family: str
) -> None:
    from datk.models.weights import load_checkpoint
    from datk.train.plan import plan
    from datk.train.student import distill

    config = {"num_hidden_layers": 4, "image_size": 64} | ({"window_size": 2} if family == "sam" else {})
    section = StudentSection(
        size="tiny",
        input_size=(28, 28),
        encoder=EncoderSection(family=family, config=config),  # type: ignore[arg-type]
        loss=LOSS.model_copy(update={"feature_weight": 1.0, "log_ranges": True}),
        schedule=ScheduleSection(steps=2, batch_size=4, device="cpu", precision="fp32", activation_checkpointing=True),
    )
    result = distill(section, material["labels1"], fresh_net("tiny", seed=1), tmp_path, seed=5)
    assert result.facts["started_from"] == f"scratch, encoder {family}"
    net = load_checkpoint(result.weights).net
    assert net.encoder_spec is not None and net.encoder_spec.family == family
    planned = plan(section, teacher_size="tiny", measure=False)
    assert planned.parameters == sum(p.numel() for p in net.parameters()) and family in planned.net
    with pytest.raises(ValueError, match="encoder goes with init: scratch"):
        StudentSection(init="teacher", encoder=EncoderSection(family="beit"))
