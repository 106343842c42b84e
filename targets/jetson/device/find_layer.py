"""Which layer of an engine goes wrong first: build_and_check.py --layers, on the device.

layers.npz holds a few values of every computed tensor of the float32 graph on the first golden photograph. Tensors
become outputs of the network, a handful a build, the engine is built and run, and their values at the same places are
compared. Reading a tensor out keeps TensorRT from fusing across it: where the answer then comes out right, the fault
lies in a fusion, and that is said.

Rule, as datk's own detector has it: a tensor is out of line when its relative L2 error is more than 0.1 % (fp32),
0.5 % (fp16) or 8 % (int8), and more than 8 times the largest error of the tensors it is computed from. The one named
is out of line while everything it is computed from is not.
"""

# Runs on devices, unpackaged and with Python 3.8: checked by its own tests rather than by strict typing.
# mypy: disallow_untyped_defs=False, disallow_untyped_calls=False, check_untyped_defs=False

import json
import time

import numpy as np

FLOORS = {"fp32": 1e-3, "fp16": 5e-3, "int8": 0.08}
MANY_TIMES = 8.0
HANDFUL = 6
MOST_BUILDS = 12
NOTHING = {"status": "none", "builds": 0, "first": None, "detail": "the golden photographs come out right"}
UNKNOWN = {"status": "not_measured", "builds": 0, "first": None, "detail": "no golden photographs to run"}


class Samples:
    """layers.npz: what the float32 graph computes, at a few places of every tensor."""

    def __init__(self, path):
        with np.load(str(path), allow_pickle=False) as stored:
            index = json.loads(stored["index"].tobytes().decode())
            values = stored["values"].astype(np.float64)
        self.rows = index["tensors"]
        ends = np.cumsum([row["count"] for row in self.rows])
        self.values = np.split(values, ends[:-1])
        self.before = []  # places of all tensors that each is computed from
        for row in self.rows:
            self.before.append(set(row["reads"]).union(*(self.before[p] for p in row["reads"])))

    def error(self, place, array):
        """Relative L2 error of a whole tensor's values at the sampled places; infinity where it holds nan."""
        row = self.rows[place]
        flat = np.asarray(array).ravel()
        if flat.size != int(np.prod(row["shape"])):
            return float("inf")
        found = flat[:: row["stride"]][: row["count"]].astype(np.float64)
        if not np.isfinite(found).all():
            return float("inf")
        wanted = self.values[place]
        return float(np.linalg.norm(found - wanted)) / (float(np.linalg.norm(wanted)) or 1.0)


def out_of_line(samples, errors, floor):
    """The first measured tensor that is out of line, by place; None when all keep in it."""
    for place in sorted(errors):
        usual = usual_error(samples, errors, place)
        if not errors[place] <= max(floor, MANY_TIMES * usual):
            return place
    return None


def first_of(found, otherwise):
    return otherwise if found is None else found


def usual_error(samples, errors, place):
    """Largest error of the measured tensors that one is computed from; 0 where none was measured."""
    return max((errors[p] for p in errors if p in samples.before[place]), default=0.0)


def spread(places, count):
    """At most count of the places, evenly."""
    picked = np.linspace(0, len(places) - 1, min(count, len(places)) + 2)[1:-1] if len(places) > count else None
    return places if picked is None else sorted({places[round(float(p))] for p in picked})


def find(samples, precision, probe, seconds, certain=False):
    """Narrow down. probe(names) -> (values by name, names the network has not) of a build with these as outputs too;
    of the engine as it is where there are none. certain: the map of this photograph is wrong whatever the rule says
    of it, as a fault just before the map's offset hardly changes its relative error.

    Returns what build_and_check.py writes under "layers": JSON values.
    """
    floor, started, builds = FLOORS[precision], time.perf_counter(), 0
    last = len(samples.rows) - 1  # the map itself
    known = {row["tensor"]: place for place, row in enumerate(samples.rows)}
    errors, absent, gone_at, stopped = {}, set(), None, None

    def measure(places):
        """Error of the map in this build; those of the places go into errors."""
        values, missing = probe([samples.rows[p]["tensor"] for p in places])
        absent.update(known[name] for name in missing)
        found = {known[name]: samples.error(known[name], value) for name, value in values.items()}
        whole = found.pop(last)
        errors.update(found)
        return whole

    errors[last] = measure([])
    wrong = last if certain else None
    suspect = first_of(out_of_line(samples, errors, floor), wrong)
    while suspect is not None:
        fine = {p for p in errors if p < suspect and p in samples.before[suspect]}
        cleared = set().union(fine, *(samples.before[p] for p in fine))
        unseen = sorted(samples.before[suspect] - cleared - absent)
        if not unseen:
            break
        if builds >= MOST_BUILDS or time.perf_counter() - started > seconds:
            stopped = f"stopped after {builds} builds and {time.perf_counter() - started:.0f} s"
            break
        picked = spread(unseen, HANDFUL)
        whole = measure(picked)
        builds += 1
        if whole * MANY_TIMES < errors[last]:
            gone_at = picked
            break
        suspect = first_of(out_of_line(samples, errors, floor), wrong)
    if stopped is None:
        suspect = out_of_line(samples, errors, floor)
    return told(samples, errors, floor, suspect, builds=builds, absent=absent, gone_at=gone_at, stopped=stopped)


def told(samples, errors, floor, suspect, *, builds, absent, gone_at, stopped):
    """The finding as JSON values, with a sentence in `detail`."""
    rows = samples.rows
    common = {
        "photograph": 0,
        "rule": f"relative L2 error above {floor:g} and above {MANY_TIMES:g} times the largest of what it reads",
        "builds": builds,
        "n_tensors": len(rows),
        "looked_at": [dict(named(rows[p]), error=finite(errors[p])) for p in sorted(errors)],
        "not_in_network": len(absent),
        "first": None,
    }
    if gone_at is not None:
        names = ", ".join(rows[p]["tensor"] for p in gone_at)
        between = [named(rows[p]) for p in gone_at]
        detail = "read out, the answer is right: a fusion across one of these is wrong: " + names
        return dict(common, status="hidden", between=between, detail=detail)
    if suspect is None:
        worst = max(errors.values())
        detail = f"no layer is out of line on the first golden photograph (largest error {100 * worst:.3g} %)"
        return dict(common, status="none", detail=detail)
    usual = usual_error(samples, errors, suspect)
    first = dict(named(rows[suspect]), error=finite(errors[suspect]), usual_error=usual)
    how = "not finite" if first["error"] is None else f"off by {100 * first['error']:.3g} %"
    which = "first" if stopped is None else stopped + ": at or before this"
    where = f"{first['layer']} ({first['op']}), tensor {first['tensor']}"
    detail = f"{which} wrong layer: {where}, {how}; what it is computed from at most {100 * usual:.3g} %"
    return dict(common, status="found" if stopped is None else "narrowed", first=first, detail=detail)


def named(row):
    return {"layer": row["layer"], "op": row["op"], "tensor": row["tensor"]}


def finite(error):
    return error if np.isfinite(error) else None
