"""Command line: `python -m modern train | predict | import | export`."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
import yaml

from modern.build import open_model
from modern.build_detail import open_detail_model
from modern.checkpoint_detail import beside
from modern.checkpoint_transfer import export_coarse, export_detail, import_coarse, import_detail
from modern.config import CoarseConfig, to_dict
from modern.config_common import Config, Pipeline, read_dict, read_legacy_yml, read_yaml
from modern.config_detail import DetailConfig
from modern.data.sources import Source
from modern.predict import predict_clip, predict_detail
from modern.train.interrupt import EXIT_CODE
from modern.train.run import AnyConfig
from modern.train.run import train as run

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, help=__doc__)

CANNOT = 2
_Config = Annotated[Path, typer.Option("--config", help="A legacy yml, or a config.yaml of an earlier run.")]
_Set = Annotated[list[str] | None, typer.Option("--set", help="Change one setting, e.g. train.lr=1e-5; repeatable.")]
_Device = Annotated[str, typer.Option(help="cpu, cuda or cuda:N; the default is CUDA where there is any.")]
_Pipeline = Annotated[Pipeline, typer.Option(help="coarse (AU_sequence) or detail (AUcGAN).")]
_DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


@app.command()
def train(
    config: _Config,
    data: Annotated[list[Path] | None, typer.Option(help="Search this tree for clips; repeatable.")] = None,
    out: Annotated[Path | None, typer.Option(help="Folder of the run.")] = None,
    settings: _Set = None,
    device: _Device = _DEVICE,
    pipeline: _Pipeline = "coarse",
) -> None:
    """Train, or continue a run. Ctrl-C finishes the step, saves and exits with 130."""
    chosen = _place(read_config(config, settings or [], pipeline), data, out)
    if not run(chosen, device):
        raise typer.Exit(EXIT_CODE)


@app.command()
def predict(
    model: Annotated[Path, typer.Argument(help="A run folder, or a folder written by import.")],
    clip: Annotated[Path, typer.Argument(help="A clip in the lab's layout; only its images are read.")],
    out: Annotated[Path, typer.Argument(help="Where codes, meshes and pictures go.")],
    settings: _Set = None,
    device: _Device = _DEVICE,
    pipeline: _Pipeline = "coarse",
) -> None:
    """Apply a model to every three consecutive frames of a clip, or (detail) to each of its images."""
    change = partial(override, settings=settings or [])
    if pipeline == "detail":
        count = predict_detail(open_detail_model(model, change).to(device), clip, out)
    else:
        count = predict_clip(open_model(model, change).to(device), clip, out)
    typer.echo(f"{count} frames -> {out}")


@app.command("import")
@app.command("import-legacy", hidden=True)
def import_legacy(
    tar: Annotated[Path, typer.Argument(help="A model.tar of the legacy trainer; nothing in it is executed.")],
    out: Annotated[Path, typer.Argument(help="Folder to write; it must not exist.")],
    config: _Config,
    settings: _Set = None,
    pipeline: _Pipeline = "coarse",
    fresh_discriminator: Annotated[
        bool, typer.Option("--fresh-discriminator", help="Begin with an untrained one where the file holds none.")
    ] = False,
) -> None:
    """Turn a legacy model.tar into a folder of safetensors and configuration, saying what the file lacks."""
    if out.exists():
        raise ValueError(f"{out} exists already; choose another folder")
    chosen = read_config(config, settings or [], pipeline)
    if isinstance(chosen, DetailConfig):
        notes = import_detail(tar, out, chosen, fresh_discriminator=fresh_discriminator)
    elif fresh_discriminator:
        raise ValueError("--fresh-discriminator: the coarse pipeline has none; leave it out, or pass --pipeline detail")
    else:
        notes = import_coarse(tar, out, chosen)
    typer.echo("\n".join(notes))


@app.command("export")
def export_legacy(
    source: Annotated[Path, typer.Argument(help="A run folder, or a folder written by import.")],
    tar: Annotated[Path, typer.Argument(help="File to write; it must not exist.")],
    settings: _Set = None,
    pipeline: _Pipeline = "coarse",
) -> None:
    """Write a model.tar that the legacy trainer reads, saying what it will not get from it."""
    for file in (tar, beside(tar)) if pipeline == "detail" else (tar,):
        if file.exists():
            raise ValueError(f"{file} exists already; choose another name")
    export = export_detail if pipeline == "detail" else export_coarse
    typer.echo("\n".join(export(source, tar, partial(override, settings=settings or []))))


def read_config(path: Path, settings: list[str], pipeline: Pipeline = "coarse") -> AnyConfig:
    """Read a legacy yml or a configuration of this package, told apart by the section `data`, and change settings.

    Raises:
        ValueError: on an unknown setting or an unusable value, or a configuration of the other pipeline.
        FileNotFoundError: if there is no such file.
    """
    if pipeline == "detail":
        return override(_read(DetailConfig, path), settings)
    return override(_read(CoarseConfig, path), settings)


def _read(kind: type[Config], path: Path) -> Config:
    content = read_yaml(path)
    if not isinstance(content, dict) or "data" not in content:
        return read_legacy_yml(kind, path)
    written = content.get("pipeline", "coarse")
    if written != kind.pipeline_name:
        raise ValueError(f"{path} is a configuration of the {written} pipeline; pass --pipeline {written}")
    return read_dict(kind, content, str(path))


def _place(config: AnyConfig, data: list[Path] | None, out: Path | None) -> AnyConfig:
    """The configuration with the data and the output folder of the command line, where given."""
    changes: dict[str, Any] = {}
    if data:
        changes["data"] = replace(config.data, sources=tuple(Source(root=root) for root in data))
    if out:
        changes["train"] = replace(config.train, output_dir=out)
    return replace(config, **changes)


def override(config: Config, settings: list[str]) -> Config:
    """`config` with settings of the form section.name=value changed; values are YAML.

    Raises:
        ValueError: on an unknown setting or an unusable value.
    """
    content = to_dict(config)
    for setting in settings:
        name, equals, value = setting.partition("=")
        section, _, key = name.rpartition(".")
        target: Any = content.get(section) if section else content
        if not equals or not isinstance(target, dict):
            raise ValueError(f"--set {setting}: expected section.name=value, sections {', '.join(content)}")
        target[key] = yaml.safe_load(value)
    return read_dict(type(config), content, "--set")


def main() -> None:
    """Run the command line; bad input ends in one line on stderr and exit code 2."""
    try:
        app()
    except FileNotFoundError as error:
        typer.echo(f"error: {error.filename or error}: no such file; correct the path", err=True)
        raise SystemExit(CANNOT) from None
    except (ValueError, FloatingPointError) as error:
        # An error of a loading process arrives with its traceback; our own messages are one line.
        typer.echo(f"error: {str(error).strip().splitlines()[-1]}", err=True)
        raise SystemExit(CANNOT) from None


if __name__ == "__main__":
    main()
