"""Command line: `python -m modern train | predict | import-legacy`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
import yaml

from modern.build import build_model, open_model
from modern.checkpoint import load_model_tar, save_model
from modern.config import CoarseConfig, from_dict, from_legacy_yml, to_dict
from modern.data.sources import Source
from modern.predict import predict_clip
from modern.train.interrupt import EXIT_CODE
from modern.train.run import train as run

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, help=__doc__)

CANNOT = 2
_Config = Annotated[Path, typer.Option("--config", help="A legacy yml, or a config.yaml of an earlier run.")]
_Set = Annotated[list[str] | None, typer.Option("--set", help="Change one setting, e.g. train.lr=1e-5; repeatable.")]
_Device = Annotated[str, typer.Option(help="cpu, cuda or cuda:N; the default is CUDA where there is any.")]
_DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


@app.command()
def train(
    config: _Config,
    data: Annotated[list[Path] | None, typer.Option(help="Search this tree for clips; repeatable.")] = None,
    out: Annotated[Path | None, typer.Option(help="Folder of the run.")] = None,
    settings: _Set = None,
    device: _Device = _DEVICE,
) -> None:
    """Train, or continue a run. Ctrl-C finishes the step, saves and exits with 130."""
    chosen = read_config(config, settings or [])
    if data:
        chosen = replace(chosen, data=replace(chosen.data, sources=tuple(Source(root=root) for root in data)))
    if out:
        chosen = replace(chosen, train=replace(chosen.train, output_dir=out))
    if not run(chosen, device):
        raise typer.Exit(EXIT_CODE)


@app.command()
def predict(
    model: Annotated[Path, typer.Argument(help="A run folder, or a folder written by import-legacy.")],
    clip: Annotated[Path, typer.Argument(help="A clip in the lab's layout; only its images are read.")],
    out: Annotated[Path, typer.Argument(help="Where codes, meshes and pictures go.")],
    settings: _Set = None,
    device: _Device = _DEVICE,
) -> None:
    """Apply a model to every three consecutive frames of a clip."""
    count = predict_clip(open_model(model, lambda config: override(config, settings or [])).to(device), clip, out)
    typer.echo(f"{count} frames -> {out}")


@app.command()
def import_legacy(
    tar: Annotated[Path, typer.Argument(help="A model.tar of the legacy trainer; nothing in it is executed.")],
    out: Annotated[Path, typer.Argument(help="Folder to write; it must not exist.")],
    config: _Config,
    settings: _Set = None,
) -> None:
    """Turn a legacy model.tar into a folder of safetensors and configuration."""
    if out.exists():
        raise ValueError(f"{out} exists already; choose another folder")
    chosen = read_config(config, settings or [])
    model = build_model(replace(chosen, model=replace(chosen.model, pretrained=None)))
    steps = load_model_tar(model, tar)
    save_model(out, model, chosen)
    typer.echo(f"{tar} after {steps} steps -> {out}")


def read_config(path: Path, settings: list[str]) -> CoarseConfig:
    """Read a legacy yml or a configuration of this package, told apart by the section `data`, and change settings.

    Raises:
        ValueError: on an unknown setting or an unusable value.
        FileNotFoundError: if there is no such file.
    """
    content = yaml.safe_load(path.read_text(encoding="utf-8"))
    known = isinstance(content, dict) and "data" in content
    return override(from_dict(content, str(path)) if known else from_legacy_yml(path), settings)


def override(config: CoarseConfig, settings: list[str]) -> CoarseConfig:
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
    return from_dict(content, "--set")


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
