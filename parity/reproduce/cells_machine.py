"""Cells of the machine: threads, instruction sets, numeric switches, implementations, other devices."""

from __future__ import annotations

from parity.reproduce.cell import DETERMINISTIC_LINE, ELSEWHERE, ISA_LINE, KERNELS, THREAD_LINE, UPDATE, Cell, switched
from parity.reproduce.run import Run


def kernels(base: Run) -> list[Cell]:
    """Threads, the race that deterministic algorithms prevent, instruction sets, precision."""

    def machine(id: str, title: str, cause: str, control: str, **variables: str) -> Cell:
        environment = (*base.environment, *variables.items())
        return switched(id, title, KERNELS, base, cause=cause, control=control, environment=environment)

    isa = "instruction set"
    found = [
        switched("threads 2", "2 threads instead of 1", KERNELS, base, cause="threads", control=THREAD_LINE, threads=2),
        switched(
            "race",
            "2 threads, deterministic algorithms off",
            KERNELS,
            base,
            against="threads 2",
            cause="race",
            control=DETERMINISTIC_LINE,
            threads=2,
            deterministic=False,
        ),
        switched(
            "race again",
            "the same, once more: does it repeat itself?",
            KERNELS,
            base,
            against="race",
            control=DETERMINISTIC_LINE,
            threads=2,
            deterministic=False,
        ),
        machine("onednn avx2", "oneDNN limited to AVX2", isa, ISA_LINE, ONEDNN_MAX_CPU_ISA="AVX2"),
        machine("mkl avx2", "MKL limited to AVX2", isa, ISA_LINE, MKL_ENABLE_INSTRUCTIONS="AVX2"),
        switched("onednn off", "oneDNN switched off", KERNELS, base, cause=isa, control="oneDNN left on", onednn=False),
    ]
    if base.pipeline == "coarse":
        found += [
            switched(
                "threads 4", "4 threads instead of 1", KERNELS, base, cause="threads", control=THREAD_LINE, threads=4
            ),
            machine("aten avx2", "ATen limited to AVX2", isa, ISA_LINE, ATEN_CPU_CAPABILITY="avx2"),
            machine("aten default", "ATen without vector instructions", isa, ISA_LINE, ATEN_CPU_CAPABILITY="default"),
            machine("mkl compatible", "MKL_CBWR=COMPATIBLE", isa, ISA_LINE, MKL_CBWR="COMPATIBLE"),
            switched(
                "matmul medium",
                "matmul precision 'medium' (bfloat16 where the processor has it)",
                KERNELS,
                base,
                cause="matmul precision",
                control="torch.set_float32_matmul_precision('highest')",
                precision="medium",
            ),
        ]
    return found


def update(base: Run) -> list[Cell]:
    """Adam's implementations, memory layout, compilation."""
    plain = "torch.optim.Adam(..., foreach=False, fused=False)"
    found = [
        switched("adam fused", "Adam fused", UPDATE, base, cause="Adam's implementation", control=plain, adam="fused"),
        switched(
            "channels last",
            "channels last in memory",
            UPDATE,
            base,
            cause="memory layout",
            control="one layout everywhere",
            channels_last=True,
        ),
    ]
    if base.pipeline == "coarse":
        found += [
            switched(
                "adam foreach",
                "Adam over lists (foreach)",
                UPDATE,
                base,
                cause="Adam's implementation",
                control=plain,
                adam="foreach",
            ),
            switched(
                "adam single",
                "Adam parameter by parameter",
                UPDATE,
                base,
                cause="Adam's implementation",
                control=plain,
                adam="single",
            ),
            switched(
                "compile",
                "BiViT compiled (its kernels draw dropout masks their own way)",
                UPDATE,
                base,
                cause="compiler",
                control="do not compile, or always",
                compiled=True,
            ),
        ]
    return found


def elsewhere(base: Run) -> list[Cell]:
    """What cannot run here, and why."""
    gone = {
        "cuda generator": ("generator of CUDA left unseeded", "no CUDA device in this run"),
        "device": ("on a GPU instead of the CPU", "no CUDA device in this run"),
        "tf32": ("TF32 in matrix products and cuDNN", "not exercised on the CPU, which has no TF32"),
        "cudnn": ("cudnn.benchmark and cudnn.deterministic", "not exercised on the CPU, which does not use cuDNN"),
        "libraries": ("other library versions", "needs a recording from another environment; none was given"),
    }
    found = [Cell(id=id, title=title, group=ELSEWHERE, why_not=why) for id, (title, why) in gone.items()]
    if base.subject == "legacy":
        why = "the fork has no distributed code, and its batch is one clip"
        found.append(Cell(id="ddp", title="under DDP with 1 and 2 processes", group=ELSEWHERE, why_not=why))
    elif base.pipeline == "detail":
        why = (
            "cannot be equal: ACG and AUNet normalise with the statistics of a process's own batch (D39), "
            "and z_sym sums over it (D43)"
        )
        found.append(
            Cell(id="ddp", title="under DDP with 2 processes at equal global batch", group=ELSEWHERE, why_not=why)
        )
    return found
