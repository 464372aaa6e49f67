"""What a run says while it trains: `logs/train.log`, TensorBoard scalars and the terminal."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Literal, TextIO

from rich.console import Console
from torch.utils.tensorboard import SummaryWriter


class RunLog:
    """Writes every loss of a step to a text log, to TensorBoard and, shortened, to the terminal.

    Args:
        folder: where `train.log` and the TensorBoard event files go; an existing log is continued.
        name: of the experiment, repeated on every line of losses.
        step: the run continues from here; TensorBoard drops what an interrupted run wrote at later steps.
        tensorboard: whether to write scalars.
        console: terminal to talk to.
    """

    def __init__(
        self, folder: Path, *, name: str, step: int = 0, tensorboard: bool = True, console: Console | None = None
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._name = name
        self._console = console or Console(stderr=True)
        self._file: TextIO = (folder / "train.log").open("a", encoding="utf-8")
        self._writer = SummaryWriter(str(folder), purge_step=step) if tensorboard else None

    def say(self, text: str) -> None:
        """Write one line of text to log and terminal."""
        self._write(text)
        self._console.print(text, markup=False, highlight=False, soft_wrap=True)

    def losses(self, split: Literal["train", "val"], step: int, where: str, losses: Mapping[str, float]) -> None:
        """Write the losses of one step, with 9 significant digits so that each float32 can be read back.

        Args:
            split: TensorBoard names are `train_loss/<term>` and `val_loss/<term>`.
            step: updates done before.
            where: position for the reader, e.g. "epoch 3, 5/7".
            losses: one figure per term, `all_loss` among them.
        """
        terms = ", ".join(f"{name}: {value:.9g}" for name, value in losses.items())
        self._write(f"{self._name} {split} step {step} ({where}) {terms}")
        total = f"{split} step {step} ({where}) all_loss {losses['all_loss']:.6g}"
        self._console.print(total, markup=False, highlight=False, soft_wrap=True)
        if self._writer:
            for name, value in losses.items():
                self._writer.add_scalar(f"{split}_loss/{name}", value, step)

    def close(self) -> None:
        """Flush and close; the log must not be used afterwards."""
        self._file.close()
        if self._writer:
            self._writer.close()

    def _write(self, text: str) -> None:
        self._file.write(f"{time.strftime('%Y-%m-%d %H:%M:%S')} {text}\n")
        self._file.flush()
