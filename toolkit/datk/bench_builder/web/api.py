"""The page itself and the few calls its script makes."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Annotated, Any, TypeVar

from flask import Blueprint, abort, current_app, jsonify, render_template, request
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from datk.bench_builder.answering import add_pair, save_answer, undo_answer
from datk.bench_builder.database import Database
from datk.bench_builder.pictures import pictures
from datk.bench_builder.plan import Plan
from datk.bench_builder.queue import QueuedPair, Turn, all_pairs, next_turn
from datk.bench_builder.voting import Choice
from datk.bench_builder.web.login import csrf_token, require_person

pages = Blueprint("api", __name__)
Token = Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{16,64}$")]
T = TypeVar("T", bound=BaseModel)


@dataclass(frozen=True, kw_only=True)
class Bench:
    """What every call works on."""

    db: Database
    plan: Plan


class _Body(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class AnswerBody(_Body):
    """One answer. `token` is made by the page; the same one again saves nothing new."""

    token: Token
    pair_id: int
    choice: Choice
    seconds: float | None = Field(default=None, ge=0, le=86400)


class UndoBody(_Body):
    """An answer of one's own to take back."""

    answer_id: int


class PairBody(_Body):
    """A pair of one's own; points are [row, column] in pixels of the original."""

    token: Token
    image_id: int
    first: tuple[int, int]
    second: tuple[int, int]
    choice: Choice


@pages.get("/")
def index() -> Any:
    """The page."""
    person = require_person()
    return render_template("annotate.html", plan=_bench().plan, person=person, csrf=csrf_token())


@pages.get("/api/turn")
def turn() -> Any:
    """What this person sees next."""
    return _turn(require_person().id)


@pages.post("/api/answers")
def answer() -> Any:
    """Save an answer, then the next turn. It is on disk before the reply leaves."""
    person, body = require_person(), _body(AnswerBody)
    save_answer(
        _bench().db,
        annotator_id=person.id,
        pair_id=body.pair_id,
        choice=body.choice,
        token=body.token,
        seconds=body.seconds,
    )
    return _turn(person.id)


@pages.post("/api/undo")
def undo() -> Any:
    """Take back an answer; its pair is shown again."""
    person, body = require_person(), _body(UndoBody)
    return _turn(person.id, show=undo_answer(_bench().db, annotator_id=person.id, answer_id=body.answer_id))


@pages.post("/api/pairs")
def own_pair() -> Any:
    """Save a pair of one's own with its answer."""
    person, body = require_person(), _body(PairBody)
    add_pair(
        _bench().db,
        annotator_id=person.id,
        image_id=body.image_id,
        first=body.first,
        second=body.second,
        choice=body.choice,
        token=body.token,
    )
    return _turn(person.id)


@pages.get("/api/pictures")
def picture_list() -> Any:
    """Every picture with its number of pairs, scene by scene in the plan's order: where to add pairs of one's own."""
    require_person()
    bench = _bench()
    counts: dict[str, int] = {}
    for pair in all_pairs(bench.db):
        counts[pair.path] = counts.get(pair.path, 0) + 1
    order = {scene: k for k, scene in enumerate(bench.plan.scenes)}
    shots = sorted(pictures(bench.db), key=lambda p: (order.get(p.scene, len(order)), p.path))
    return jsonify(
        pictures=[
            {
                "id": p.id,
                "scene": p.scene,
                "name": p.path.rsplit("/", 1)[-1],
                "height": p.height,
                "width": p.width,
                "pairs": counts.get(p.path, 0),
                "by_hand": p.scene in bench.plan.scenes and bench.plan.scenes[p.scene].hand_picked,
            }
            for p in shots
        ]
    )


def _bench() -> Bench:
    bench: Bench = current_app.extensions["datk_bench"]
    return bench


def _body(model: type[T]) -> T:
    try:
        return model.model_validate_json(request.get_data())
    except ValidationError as error:
        first = error.errors()[0]
        abort(400, f"{'.'.join(map(str, first['loc'])) or 'body'}: {first['msg']}")


def _turn(annotator_id: int, *, show: int | None = None) -> Any:
    bench = _bench()
    found = next_turn(bench.db, annotator_id, checkers=bench.plan.checkers, show=show)
    return jsonify(_turn_json(found))


def _turn_json(found: Turn) -> dict[str, Any]:
    value = asdict(found)
    value["pair"] = _pair_json(found.pair)
    value["upcoming"] = _pair_json(found.upcoming)
    return value


def _pair_json(pair: QueuedPair | None) -> dict[str, Any] | None:
    return None if pair is None else asdict(pair)
