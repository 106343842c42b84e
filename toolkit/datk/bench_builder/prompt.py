"""The text that asks a language model for more search words. datk sends it nowhere."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

PROMPT_TXT = "prompt.txt"

_HEAD = """\
You help to collect photographs for a benchmark of depth estimation. People will mark two points on each picture and
say which is closer to the camera. The benchmark has {n} scenarios:

{scenes}

For every scenario write 30 further search words for a photo sharing site.

Rules
- Each names one concrete place, thing or situation that a photographer would use as a title, two to four words.
- Cover different continents, seasons, times of day, distances and viewpoints; no two that return the same pictures.
- Prefer scenes with several things at different distances from the camera.
- No people as the main subject, no brands, no names of artists, nothing that is private or unsafe.
- Do not repeat the words listed above.

Answer with YAML alone, one list a scenario, so that it can be pasted below `keywords:` in plan.yaml:

{answer}
"""


def extension_prompt(scenes: Mapping[str, tuple[str, Sequence[str]]]) -> str:
    """The prompt for scenes given as {name: (what it is, keywords so far)}."""
    listed = "\n".join(f"- {name}: {about}. So far: {', '.join(words)}." for name, (about, words) in scenes.items())
    answer = "\n".join(f"{name}:\n  - ..." for name in scenes)
    return _HEAD.format(n=len(scenes), scenes=listed, answer=answer)
