"""The pipelines that can be audited, by name, and how a user names stages of them."""

from __future__ import annotations

from collections.abc import Mapping

from parity.coarse_stages import COARSE
from parity.detail_stages import DETAIL
from parity.stages import Pipeline

PIPELINES: Mapping[str, Pipeline] = {COARSE.name: COARSE, DETAIL.name: DETAIL}
BOTH = "both"


def choose(name: str) -> tuple[Pipeline, ...]:
    """The pipelines a user means by `coarse`, `detail` or `both`.

    Raises:
        ValueError: another name.
    """
    if name == BOTH:
        return tuple(PIPELINES.values())
    if name not in PIPELINES:
        raise ValueError(f"unknown pipeline {name!r}; known: {', '.join(PIPELINES)}, {BOTH}")
    return (PIPELINES[name],)


def pipeline_of(variant: str) -> Pipeline:
    """The pipeline that has `variant`; variant names are unique."""
    return next(pipeline for pipeline in PIPELINES.values() if variant in pipeline.variants)


def select_stages(patterns: str | None, pipelines: tuple[Pipeline, ...]) -> dict[str, tuple[str, ...]]:
    """Pipeline -> stages named in a comma-separated list; None means all.

    Raises:
        ValueError: a name that none of `pipelines` has; the message lists the known ones.
    """
    if not patterns:
        return {pipeline.name: pipeline.names for pipeline in pipelines}
    wanted = [name.strip() for name in patterns.split(",") if name.strip()]
    known = list(dict.fromkeys(name for pipeline in pipelines for name in pipeline.names))
    if unknown := [name for name in wanted if name not in known]:
        raise ValueError(f"unknown stage {', '.join(unknown)}; known: {', '.join(known)}")
    return {pipeline.name: pipeline.select(wanted) for pipeline in pipelines}
