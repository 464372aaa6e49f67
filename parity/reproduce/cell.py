"""One cell of the matrix, the groups there are, and the lines that control causes (docs/reproduce.md)."""

from __future__ import annotations

from dataclasses import dataclass, replace

from parity.reproduce.run import Run

BASELINE, SHIPPED = "baseline", "as shipped"
RANDOM, DATA, KERNELS, UPDATE, BATCH, STATE, ELSEWHERE, FLOOR = (
    "random draws",
    "order and data",
    "kernels and threads",
    "optimizer, layout, compiler",
    "make-up of the batch",
    "save and resume",
    "other devices and libraries",
    "noise floor",
)


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One cause, switched alone.

    id: unique within a subject and pipeline. title: what is different, for a reader. group: part of the matrix.
    runs: fresh processes one after the other (a run that is interrupted and continued has two); the last is judged.
    against: id of the cell whose last run is the reference; empty for the baseline.
    cause: what the ranking counts it as; empty where that would count something twice.
    control: the line that takes the variation away.
    refusal: an error is the result, not a failure. why_not: why there is no run here; then `runs` is empty.
    """

    id: str
    title: str
    group: str
    runs: tuple[Run, ...] = ()
    against: str = BASELINE
    cause: str = ""
    control: str = ""
    refusal: bool = False
    why_not: str = ""


SEED_LINES = "random.seed(0); numpy.random.seed(0); torch.manual_seed(0)"
WORKER_LINE = "DataLoader(..., worker_init_fn=seed_worker, generator=torch.Generator().manual_seed(0))"
SORT_LINE = "sorted(glob(...))"
THREAD_LINE = "torch.set_num_threads(1)"
DETERMINISTIC_LINE = "torch.use_deterministic_algorithms(True)"
ISA_LINE = "ONEDNN_MAX_CPU_ISA=AVX2 MKL_ENABLE_INSTRUCTIONS=AVX2 ATEN_CPU_CAPABILITY=avx2 on every machine"
KEEP_LINE = "save optimizer, generators and place in the data too"


def switched(
    id: str,
    title: str,
    group: str,
    base: Run,
    *,
    against: str = BASELINE,
    cause: str = "",
    control: str = "",
    **switch: object,
) -> Cell:
    """A cell of one run that is `base` but for `switch`."""
    changed = replace(base, **switch)  # type: ignore[arg-type]
    return Cell(id=id, title=title, group=group, runs=(changed,), against=against, cause=cause, control=control)
