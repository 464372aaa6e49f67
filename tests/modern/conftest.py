"""Small things to test the model with: the bundled head, seeded weights, one small clip."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from fixtures import seeded
from modern.assets import load_head
from modern.checkpoint import load_legacy_weights
from modern.clip import Clip
from modern.codes import FlameCodes
from modern.config import CoarseConfig, ModelConfig
from modern.model import CoarseModel
from parity.weights import seeded_weights

CONFORMANCE = Path(__file__).resolve().parents[2] / "fixtures" / "conformance"
SMALL = 64  # raster of the fast tests


@pytest.fixture(scope="session")
def head():
    cells = seeded.uniform("assets/tex_dir_32", (32, 32, 3, 50), -12, 12)
    return load_head(CONFORMANCE / "coarse" / "assets_coarse.npz", tex_dir_low=cells)


@pytest.fixture(scope="session")
def weights():
    return seeded_weights()


@pytest.fixture(scope="session")
def legacy_keys():
    keys = json.loads((CONFORMANCE / "coarse" / "keys.json").read_text())
    identity = json.loads((CONFORMANCE / "deca_base" / "keys.json").read_text())["FRNet"]
    return keys | {"AU_net": keys["AU_net_MEFARG"], "FRNet": identity}


@pytest.fixture(scope="session")
def vectors():
    found = {}
    for name in ("coarse", "deca_base"):
        found |= load_file(CONFORMANCE / name / f"vectors_{name}.safetensors")
    return found


@pytest.fixture(scope="session")
def small_config():
    return CoarseConfig(model=ModelConfig(image_size=SMALL, dropout=0.0))


@pytest.fixture(scope="session")
def _small_model(head, weights, small_config):
    model = CoarseModel(head, small_config)
    load_legacy_weights(model, weights, "seeded")
    return model


@pytest.fixture
def small_model(_small_model):
    """Seeded weights, raster of 64; weights, gradients and mode are put back after the test."""
    before = {name: tensor.clone() for name, tensor in _small_model.sequence.state_dict().items()}
    yield _small_model
    _small_model.sequence.load_state_dict(before)
    _small_model.zero_grad()
    _small_model.train()


def small_clip(name: str = "clip") -> Clip:
    def points(count: int) -> torch.Tensor:
        xy = seeded.uniform(f"{name}/xy{count}", (3, count, 2), -0.7, 0.7)
        return torch.cat([xy, seeded.uniform(f"{name}/c{count}", (3, count, 1))], dim=2)

    return Clip(
        image_T3HW=seeded.uniform(f"{name}/image", (3, 3, SMALL, SMALL)),
        landmark_T683=points(68),
        landmark_dense_T1053=points(105),
        mask_T3HW=torch.floor(3 * seeded.uniform(f"{name}/mask", (3, 1, SMALL, SMALL))).repeat(1, 3, 1, 1),
    )


def some_codes(batch: int = 1, name: str = "codes") -> FlameCodes:
    """A head that fills the picture."""
    cam = torch.tensor([[8.0, 0.002, 0.03]]).repeat(batch, 1)
    return FlameCodes(
        shape_B100=seeded.uniform(f"{name}/shape", (batch, 100), -1, 1),
        tex_B50=seeded.uniform(f"{name}/tex", (batch, 50), -1, 1),
        exp_B50=seeded.uniform(f"{name}/exp", (batch, 50), -1, 1),
        pose_B6=seeded.uniform(f"{name}/pose", (batch, 6), -0.3, 0.3),
        cam_B3=cam,
        light_B93=seeded.uniform(f"{name}/light", (batch, 9, 3), -0.5, 1.0),
    )
