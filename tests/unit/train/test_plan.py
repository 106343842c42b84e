"""The plan counts instead of guessing, and says with figures what does not fit."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from datk.config.beyond_sections import CrossContextSection
from datk.config.schema import Recipe
from datk.config.train_sections import ScheduleSection, StudentSection, TeacherSection
from datk.errors import EnvironmentLacks, UsageError
from datk.models.depth_anything import DepthAnything
from datk.pipeline.training_plan import plan_json, plan_rows
from datk.train.cost import cost_of_one_image
from datk.train.plan import plan, require_fit
from datk.train.projection import GPUS, Projection, gpu_named

ON_CPU = ScheduleSection(steps=100, batch_size=8, device="cpu", precision="fp32")


def test_parameters_and_flops_are_the_published_ones() -> None:
    planned = plan(TeacherSection(size="small", input_size=(252, 252), schedule=ON_CPU), measure=False)
    assert planned.parameters == 24_785_089
    assert planned.flops_per_step == pytest.approx(8 * 3 * 21.1e9, rel=0.05), "three times 21.1 G an image at 252"
    assert planned.optimiser_bytes == pytest.approx(2 * 4 * 24.8e6, rel=0.02)
    assert planned.gradients_bytes == pytest.approx(4 * 24.8e6, rel=0.02)
    assert planned.images == 800
    assert planned.step_s_source == "estimated" and planned.fits


def test_activations_grow_with_the_batch_and_the_picture() -> None:
    def kept(batch: int, side: int) -> int:
        schedule = ON_CPU.model_copy(update={"batch_size": batch})
        return plan(
            TeacherSection(size="tiny", input_size=(side, side), schedule=schedule), measure=False
        ).activations_bytes

    assert kept(8, 28) == 8 * kept(1, 28)
    assert 2.5 < kept(1, 56) / kept(1, 28) < 5


def test_a_measured_step_is_marked_as_such_and_a_budget_sets_the_steps() -> None:
    schedule = ON_CPU.model_copy(update={"budget_s": 60.0})
    planned = plan(TeacherSection(size="tiny", input_size=(28, 28), schedule=schedule))
    assert planned.step_s_source == "measured"
    assert planned.total_s == pytest.approx(60.0, rel=0.2)


def test_the_reference_encoder_is_counted() -> None:
    section = StudentSection(size="tiny", input_size=(28, 28), schedule=ON_CPU)
    planned = plan(section, teacher_size="small", measure=False)
    assert planned.reference_bytes == pytest.approx(4 * 22.06e6, rel=0.01)


@pytest.mark.parametrize("shared_weight", [0.0, 1.0])
def test_closer_looks_are_counted_with_the_teacher_that_labels_them(shared_weight: float) -> None:
    looks = CrossContextSection(input_size=(56, 56), shared_weight=shared_weight)
    section = StudentSection(size="tiny", input_size=(28, 28), schedule=ON_CPU, feature_source="off")
    plain = plan(section, measure=False)
    looking = section.model_copy(update={"cross_context": looks})
    planned = plan(looking, teacher_size="small", measure=False)
    teacher, own = cost_of_one_image("small", (56, 56)), cost_of_one_image("tiny", (56, 56))
    assert planned.reference_bytes == 4 * 24_785_089
    assert planned.flops_per_image - plain.flops_per_image == teacher.flops_forward + (shared_weight > 0) * own.flops
    assert planned.activations_bytes - plain.activations_bytes == 8 * own.kept * (shared_weight > 0)
    with pytest.raises(UsageError, match="its size is not"):
        plan(looking, measure=False)


def test_what_does_not_fit_is_told_with_the_arithmetic() -> None:
    planned = plan(TeacherSection(size="tiny", input_size=(28, 28), schedule=ON_CPU), measure=False)
    none = dataclasses.replace(planned, available_bytes=1024**2)
    assert not none.fits
    with pytest.raises(
        EnvironmentLacks, match=r"tiny, batch 8: weights 0\.02 \+ .* = 0\.\d+ GiB, available 0\.00"
    ) as caught:
        require_fit(none)
    assert "smaller --size" in (caught.value.hint or "")
    roomy = dataclasses.replace(planned, available_bytes=planned.memory_bytes - planned.activations_bytes // 2)
    with pytest.raises(EnvironmentLacks) as caught:
        require_fit(roomy)
    assert "micro_batch: 4 would fit and gives the same steps" in (caught.value.hint or "")


def test_recomputing_counts_the_blocks_inputs_one_block_and_a_second_forward() -> None:
    net, cost = DepthAnything("tiny"), cost_of_one_image("tiny", (56, 56))
    tokens, blocks = 1 + 4 * 4, len(net.pretrained.blocks)
    saved = 0

    def note(tensor: torch.Tensor) -> torch.Tensor:
        nonlocal saved
        saved += tensor.nbytes
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda t: t):
        net.depth_head(net.pretrained(torch.zeros(1, 3, 56, 56)), (4, 4))
    assert cost.kept <= saved, "each storage once, weights not at all"
    assert cost.kept_recomputing < 0.6 * cost.kept
    assert cost.kept_recomputing > blocks * tokens * net.preset.dim * 4
    net.pretrained.gradient_checkpointing = True
    with FlopCounterMode(display=False) as counter:
        net.forward_train(torch.zeros(1, 3, 56, 56))[0].sum().backward()
    real = counter.get_total_flops()  # stops recomputing a block at the last thing its backward pass needs
    assert 0.97 * cost.flops_recomputing <= real <= cost.flops_recomputing
    assert real > 1.1 * cost.flops


def test_fsdp_shares_weights_gradients_and_optimiser_and_micro_batches_shrink_the_activations() -> None:
    schedule = ON_CPU.model_copy(update={"sharding": "fsdp", "micro_batch": 2})
    section = TeacherSection(size="tiny", input_size=(28, 28), schedule=schedule)
    one, four = (plan(section, measure=False, processes=n) for n in (1, 4))
    assert four.weights_bytes == one.weights_bytes // 4 and four.optimiser_bytes == one.optimiser_bytes // 4
    assert four.gathered_bytes > 0 == one.gathered_bytes
    assert four.images_at_once == one.images_at_once == 2
    whole = plan(TeacherSection(size="tiny", input_size=(28, 28), schedule=ON_CPU), measure=False)
    assert whole.activations_bytes == 4 * one.activations_bytes
    assert "fsdp over 4" in four.memory_words() and "gathered blocks" in four.memory_words()


def test_the_projection_is_operations_over_what_the_card_does() -> None:
    """70.8 A100-hours for a student S: 345 GFLOP x 92.16 million images at 40 % of 312 TFLOP/s, by hand."""
    found = Projection(3 * 115e9, 480_000 * 192, GPUS["a100"], 64)
    assert found.gpu_hours == pytest.approx(345e9 * 92.16e6 / (312e12 * 0.4) / 3600)
    assert found.gpu_hours == pytest.approx(70.8, rel=0.01) and found.hours == pytest.approx(70.8 / 64, rel=0.01)
    assert "= 70.8 a100 hours (62.9 to 113 at 0.45 to 0.25); on 64: 66.3 min" in found.arithmetic()
    with pytest.raises(UsageError, match="no GPU named 'h10'") as caught:
        gpu_named("h10")
    assert "did you mean 'h100'" in (caught.value.hint or "")


def test_a_plan_for_a_card_asks_nothing_of_this_machine() -> None:
    schedule = ScheduleSection(steps=100, batch_size=8, device="cuda", precision="bf16")
    section = TeacherSection(size="tiny", input_size=(28, 28), schedule=schedule)
    planned = plan(section, processes=4, card=GPUS["a100"])
    assert (planned.device, planned.precision, planned.available_bytes) == ("a100", "bf16", 80 * 10**9)
    assert planned.step_s == pytest.approx(2 * planned.flops_per_image / (312e12 * 0.4))
    assert planned.images_at_once == 2


def test_float32_is_planned_at_the_cards_rate_for_float32() -> None:
    """An A100 multiplies float32 at 19.5 TFLOP/s, sixteen times slower than bf16: the metric recipes ask for it."""
    size = {"size": "tiny", "input_size": (28, 28)}
    plain, half = (
        plan(TeacherSection(**size, schedule=ScheduleSection(steps=100, precision=p)), card=GPUS["a100"])
        for p in ("fp32", "auto")
    )
    assert plain.step_s == pytest.approx(16 * half.step_s) and "(19.5 TFLOP/s in fp32 x 0.40)" in plain.step_s_source
    rows = {figure: value for _, figure, value in plan_rows({"metric": plain}, [(GPUS["h100"], 8)])}
    assert "/ (67 TFLOP/s in fp32 x 0.40)" in rows["on 8 h100"]
    here = plan(TeacherSection(**size, schedule=ON_CPU.model_copy(update={"precision": "auto"})), measure=False)
    assert plan_json({"t": here}, [(GPUS["a100"], 8)])["t"]["projections"][0]["precision"] == "bf16"


def test_the_plan_of_a_recipe_says_every_figure_and_its_arithmetic() -> None:
    recipe = Recipe(
        name="p",
        teacher=TeacherSection(size="tiny", input_size=(28, 28), schedule=ON_CPU),
        student=StudentSection(size="tiny", input_size=(28, 28), schedule=ON_CPU),
    )
    plans = {"teacher": plan(recipe.teacher, measure=False)} if recipe.teacher else {}
    rows = {figure: value for _, figure, value in plan_rows(plans, [(GPUS["h100"], 8)])}
    assert rows["samples"] == "100 steps x 8 images = 800 seen, in fp32"
    assert "with activation_checkpointing (not used)" in rows["activations"]
    assert "x 800 images / (67 TFLOP/s in fp32 x 0.40)" in rows["on 8 h100"]
    said = plan_json(plans, [(GPUS["h100"], 8)])["teacher"]
    assert said["images"] == 800 and said["projections"][0]["gpus"] == 8
