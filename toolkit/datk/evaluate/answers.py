"""Answers kept by content: a model's score on an image is not computed twice, whoever asks and whenever.

One file a model and scorer, a JSON line an answer, appended and flushed as it comes: a kill loses the line being
written, nothing else. The key of an answer is a digest of everything it depends on.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from datk.artifact.files import sha256_json

VERSION = 1


class AnswerFile:
    """The answers of one model. Open it once; only one process may append."""

    def __init__(self, folder: Path, model: dict[str, Any]) -> None:
        """model: everything about the model that decides its answers; its digest names the file."""
        self._model = {"answers": VERSION, **model}
        self.path = folder / f"{sha256_json(self._model)[:32]}.jsonl"
        self.who: dict[str, Any] | None = None
        self._known: dict[str, Any] = {}
        self._read()

    def get(self, key: str | None) -> Any | None:
        """The answer kept under a key, or None."""
        return self._known.get(key) if key is not None else None

    def __len__(self) -> int:
        return len(self._known)

    def introduce(self, who: dict[str, Any]) -> None:
        """Write down who answers, once."""
        if self.who is None:
            self.who = who
            self._append({"who": who})

    def add(self, key: str | None, value: Any) -> None:
        """Keep an answer. Without a key it cannot be kept."""
        if key is not None and key not in self._known:
            self._known[key] = value
            self._append({"key": key, "value": value})

    def _append(self, line: dict[str, Any]) -> None:
        new = not self.path.exists()
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("a", encoding="utf-8") as handle:
            if new:
                handle.write(json.dumps({"model": self._model}) + "\n")
            handle.write(json.dumps(line, separators=(",", ":")) + "\n")

    def _read(self) -> None:
        """Lines that are whole. What a kill left of the last is cut off, so that the next begins on its own line."""
        try:
            data = self.path.read_bytes()
        except FileNotFoundError:
            return
        whole = data[: data.rfind(b"\n") + 1]
        if len(whole) < len(data):
            with self.path.open("r+b") as handle:
                handle.truncate(len(whole))
        for text in whole.splitlines():
            try:
                line = json.loads(text)
            except ValueError:
                continue  # torn by a crash of the machine: computed again
            if "who" in line:
                self.who = line["who"]
            elif "key" in line:
                self._known[line["key"]] = line["value"]
