"""What the search for a culprit yields, as plain values that results.json can hold."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, kw_only=True)
class Place:
    """An operation: `op` as PyTorch names it, the module that ran it ("" outside of any), and its source.

    file: relative to the repository where it lies inside. function: qualified name. backward: it computes a gradient of
    what stands there.
    """

    op: str
    module: str
    file: str
    line: int
    function: str
    backward: bool

    @property
    def source(self) -> str:
        """`file:line`."""
        return f"{self.file}:{self.line}" if self.file else ""


@dataclass(frozen=True, kw_only=True)
class Located(Place):
    """Where a stage's difference is made; the fields of `Place` are those of modern's operation.

    legacy: its counterpart, None if there is none. differences: what differs in its arguments, in words.
    rel_l2: distance of its output to legacy's nearest value, about 10 % exact. tensors: the results that are unequal.
    agreed, operations: how many of modern's operations before it yield values that legacy has too, and how many there
    are before it. others: further places where a difference is made, less well founded.
    """

    stage: str
    legacy: Place | None
    differences: list[str]
    rel_l2: float
    tensors: list[str]
    agreed: int
    operations: int
    others: list[Place] = field(default_factory=list)

    @property
    def sentence(self) -> str:
        """The finding in one sentence."""
        where = f" of {self.module}" if self.module else ""
        why = f": {self.differences[0]}" if self.differences else ""
        kind = "the gradient of " if self.backward else ""
        return f"It is made by {kind}{self.op}{where} at {self.source}{why}."

    @property
    def lines(self) -> list[str]:
        """The finding in a few lines of text."""
        where = f" in {self.module}" if self.module else ""
        gradient = ", gradient of what stands there" if self.backward else ""
        found = [f"modern  {self.op}{where}, {self.source} ({self.function}){gradient}"]
        if self.legacy:
            where = f" in {self.legacy.module}" if self.legacy.module else ""
            found.append(f"legacy  {self.legacy.op}{where}, {self.legacy.source} ({self.legacy.function})")
        found += [f"differs {text}" for text in self.differences]
        return found


@dataclass(frozen=True, kw_only=True)
class StageError:
    """The error of one stage, by its worst tensor of the first step; all relative L2, None where it was not measured.

    injected: born here, seen on legacy's own inputs. inherited: largest error among what it reads in modern's own run.
    passed_on: the part of `total` that came in, sqrt(total^2 - injected^2). condition: passed_on / inherited, or where
    nothing came in, what one-ULP noise grows by (`condition_from` says which). total: in modern's own run.
    """

    pipeline: str
    stage: str
    variant: str
    tensor: str
    injected: float | None
    inherited: float | None
    passed_on: float | None
    condition: float | None
    condition_from: str
    total: float | None
    origin: str
