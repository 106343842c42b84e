"""Error maps of the worst images of a dense benchmark: predicted once more, while the models are at hand."""

from __future__ import annotations

from collections.abc import Sequence

from datk.depth.runner import DepthMap
from datk.errors import DataError
from datk.evaluate.benchmarks.dense import DenseSet
from datk.evaluate.benchmarks.dense_error import DenseError, dense_error
from datk.evaluate.benchmarks.source import predict_full_size
from datk.evaluate.benchmarks.task import TaskRequest, open_task
from datk.pipeline.judging import Contender
from datk.report.error_pictures import error_pictures
from datk.report.judged_file import ErrorPictures, JudgedFile
from datk.report.worst_images import WorstImage, worst_images

DRAWN = 6
"""Images drawn at most."""


def with_error_maps(judged: JudgedFile, contenders: Sequence[Contender], request: TaskRequest) -> JudgedFile:
    """The record with its worst images drawn; the same record for point pairs and sets without depth maps.

    contenders: in the order of the record's rows. Each that is drawn is opened once and asked for at most DRAWN
    photographs. Raises what opening a model or reading a picture raises.
    """
    if judged.rows[0].dense is None:
        return judged
    task = open_task(request)
    if not isinstance(task, DenseSet):
        return judged
    by_name = {row.name: contender for row, contender in zip(judged.rows, contenders, strict=True)}
    worst: dict[str, WorstImage] = {}
    for item in worst_images(judged, DRAWN * len(judged.rows)):
        if len(worst) < DRAWN:
            worst.setdefault(item.image, item)
    wanted: dict[str, list[str]] = {}
    for item in worst.values():
        for name in filter(None, (item.reference, item.model)):
            wanted.setdefault(name, []).append(item.image)
    errors = {
        (name, image): error
        for name, images in wanted.items()
        for image, error in _errors(by_name[name], images, task).items()
    }
    return judged.model_copy(update={"error_maps": tuple(_drawn(item, errors, task) for item in worst.values())})


def _errors(contender: Contender, images: Sequence[str], task: DenseSet) -> dict[str, DenseError]:
    """Image -> error of one model. An image it was scored on is one it can be drawn on."""
    found = {}
    runner = contender.open()
    try:
        for image in images:
            sample = task.dataset.read(task.keys.index(image))
            pred: DepthMap = predict_full_size(runner, sample.image, key=image)
            error = dense_error(pred, runner.depth_kind, sample, task.protocol)
            if error is None:
                raise DataError(f"{image}: scored before, cannot be scored now; has the data changed?")
            found[image] = error
    finally:
        runner.close()
    return found


def _drawn(item: WorstImage, errors: dict[tuple[str, str], DenseError], task: DenseSet) -> ErrorPictures:
    photo = task.dataset.read(task.keys.index(item.image)).image
    names = [name for name in (item.reference, item.model) if name]
    return error_pictures(item.image, item.text, photo, [(name, errors[name, item.image]) for name in names])
