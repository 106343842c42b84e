"""The teacher: trained on labelled images, synthetic ones in the paper, and on nothing else.

Source: Depth Anything V2 sections 5.1 and 7.1: scale-and-shift-invariant and gradient matching loss, 1:2, on
min-max normalised inverse depth.
"""

from __future__ import annotations

from pathlib import Path

from datk.artifact.files import sha256_file
from datk.config.train_sections import TeacherSection
from datk.train.fit_and_save import fit_and_save, training_set
from datk.train.labelled import LabelledSets, labelled_digest, labelled_name, labelled_source
from datk.train.loop import Progress, StepLoss
from datk.train.objective import depth_loss
from datk.train.result import TrainResult
from datk.train.samples import Batch
from datk.train.start import begun_from, fingerprint, fresh_net, net_from_checkpoint, weights_digest
from datk.train.tails import watched, with_tails


def train_teacher(
    section: TeacherSection,
    labelled: Path | LabelledSets,
    out: Path,
    *,
    seed: int,
    progress: Progress | None = None,
    stop_after: int | None = None,
    licence: str = "Apache-2.0",
) -> TrainResult:
    """Train on labelled images; write out/teacher.safetensors and out/loss.csv.

    labelled: data sets, or a folder that datk.data.synthetic.generate wrote. licence: of the weights, for the file.
    Resumes where an interrupted call with the same settings and data stopped. stop_after: pause after that many
    steps in all (weights are written as they are then). Raises TrainingError, CheckpointError, DataError,
    EnvironmentLacks; see datk.train.loop.fit.
    """
    source = labelled_source(labelled, out)
    if section.checkpoint is not None:
        net, started_from = net_from_checkpoint(section.checkpoint, section.size, seed=seed)
    else:
        net = fresh_net(section.size, seed=seed, encoder=section.encoder)
        started_from = begun_from(section.encoder)
    data = training_set(source, section.schedule, input_size=section.input_size, augment=section.augment, seed=seed)

    def step(batch: Batch, done: float) -> StepLoss:
        with watched(net.pretrained, section.loss) as stream:
            raw, _ = net.forward_train(batch.image)
        loss = depth_loss(raw, net.activate(raw), batch.target, batch.valid, section.loss, done, pasted=batch.pasted)
        return with_tails(loss, stream, section.loss)

    inputs = {
        "seed": seed,
        "data": labelled_digest(labelled),
        "start": sha256_file(section.checkpoint) if section.checkpoint else started_from,
    }
    if section.encoder is not None and section.encoder.weights is not None:
        inputs["encoder"] = weights_digest(net.pretrained)
    return fit_and_save(
        net,
        step,
        data,
        section.schedule,
        out,
        name="teacher",
        metadata={
            "role": "teacher",
            "training_data": labelled_name(labelled),
            "licence": licence,
            "input_size": f"{section.input_size[0]}x{section.input_size[1]}",
        },
        fingerprint=fingerprint(section, **inputs),
        seed=seed,
        loss=section.loss,
        facts={"started_from": started_from},
        record={"size": section.size, "loss": section.loss.model_dump(mode="json")},
        sample_name=lambda number: source.key(data.number(number)),
        progress=progress,
        stop_after=stop_after,
    )
