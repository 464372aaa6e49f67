"""The coarse model: three frames in, a textured and lit head of the centre frame out (coarse spec 0, 4, 5).

Axes: B clips, T = 3 frames, H W rows and columns, V vertices.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from modern.action_units import ActionUnitFeatures
from modern.assets import HeadAssets
from modern.camera import project
from modern.clip import CENTRE, FRAMES
from modern.codes import FlameCodes, split_encoder, with_axis_angle_jaw, with_predicted
from modern.config import CoarseConfig
from modern.encoders import FlameEncoder
from modern.flame import Flame, Mesh
from modern.renderer import Renderer, Rendering, Surface
from modern.sequence import BiViT
from modern.texture import FlameTexture

_VISIBLE = 0.1  # a landmark counts as visible where the projected normal's z is below this


@dataclass(frozen=True, kw_only=True, slots=True)
class Encoding:
    """What the networks say about each clip.

    Attributes:
        parameters_BT236: of the frozen encoder, each frame.
        global_feature_BT2048: of the frozen encoder, each frame.
        tokens_BTPC: of the action-unit network, P = 49 positions, C = 512 channels.
        afn_BTUC: its U = 27 node features.
        out_B127: BiViT's output.
        image_B3HW: the centre frames.
        deca: the frozen encoder's codes of the centre frame.
        codes: `deca` with texture, expression and light from BiViT; these are decoded.
        euler_jaw_B3: the jaw as the encoder gives it, if that is Euler angles.
    """

    parameters_BT236: Tensor
    global_feature_BT2048: Tensor
    tokens_BTPC: Tensor
    afn_BTUC: Tensor
    out_B127: Tensor
    image_B3HW: Tensor
    deca: FlameCodes
    codes: FlameCodes
    euler_jaw_B3: Tensor | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Decoding:
    """A head and its picture.

    Attributes:
        mesh: model space, metres.
        projected: image space.
        albedo_B3SS: texture map.
        rendering: the picture and all that led to it.
    """

    mesh: Mesh
    projected: Mesh
    albedo_B3SS: Tensor
    rendering: Rendering


@dataclass(frozen=True, kw_only=True, slots=True)
class Prediction:
    """Codes and head of each clip."""

    encoding: Encoding
    decoding: Decoding


class CoarseModel(nn.Module):
    """Frozen encoder and action-unit network, trained BiViT, head model, renderer.

    Only `sequence` is trained; the frozen networks stay in evaluation mode whatever mode is asked for.

    Args:
        head: mesh model and texture.
        config: sizes, dropout, fixes.
    """

    def __init__(self, head: HeadAssets, config: CoarseConfig | None = None) -> None:
        super().__init__()
        config = config or CoarseConfig()
        self.jaw = config.model.jaw
        self.encoder = FlameEncoder().requires_grad_(False)
        self.action_units = ActionUnitFeatures(imagenet="D13" in config.fixes).requires_grad_(False)
        self.sequence = BiViT(config.model.dropout)
        self.flame = Flame(head)
        self.texture = FlameTexture(head)
        self.renderer = Renderer(head, config.model.image_size)
        self.uv_face_eye_mask: Tensor
        self.register_buffer("uv_face_eye_mask", head.uv_face_eye_mask[None, None], persistent=False)
        self.train()

    def train(self, mode: bool = True) -> CoarseModel:
        """Set the mode of BiViT; everything else stays in evaluation mode."""
        super().train(False)
        self.training = mode
        self.sequence.train(mode)
        return self

    def encode(self, frames: Tensor) -> Encoding:
        """Run the networks.

        Args:
            frames: [B,3,3,H,W] clips of three frames, or [3,3,H,W] for one clip; RGB in 0..1.

        Raises:
            ValueError: on another shape.
        """
        frames_BT3HW = self._checked(frames)
        flat_N3HW = frames_BT3HW.flatten(0, 1)
        with torch.no_grad():
            parameters, features = (self._by_clip(part) for part in self.encoder(flat_N3HW))
            tokens, afn = (self._by_clip(part) for part in self.action_units(flat_N3HW))
        out_B127 = self.sequence(afn, features)
        deca, euler_jaw = self.centre_codes(parameters)
        return Encoding(
            parameters_BT236=parameters,
            global_feature_BT2048=features,
            tokens_BTPC=tokens,
            afn_BTUC=afn,
            out_B127=out_B127,
            image_B3HW=frames_BT3HW[:, CENTRE],
            deca=deca,
            codes=with_predicted(deca, out_B127),
            euler_jaw_B3=euler_jaw,
        )

    def centre_codes(self, parameters_BT236: Tensor) -> tuple[FlameCodes, Tensor | None]:
        """The encoder's codes of the centre frame, and its jaw [B,3] as given if that is in Euler angles."""
        codes = split_encoder(parameters_BT236[:, CENTRE])
        if self.jaw == "aa":
            return codes, None
        return with_axis_angle_jaw(codes), codes.pose_B6[:, 3:]

    def decode(self, codes: FlameCodes) -> Decoding:
        """Head, projection, texture and picture of `codes`, one head per clip."""
        mesh = self.mesh(codes)
        projected = project(mesh, codes.cam_B3)
        albedo = self.texture(codes.tex_B50)
        rendering = self.renderer(mesh.vertices_BV3, projected.vertices_BV3, albedo, codes.light_B93)
        return Decoding(mesh=mesh, projected=projected, albedo_B3SS=albedo, rendering=rendering)

    def mesh(self, codes: FlameCodes) -> Mesh:
        """The head alone, in model space; for `Encoding.deca` it is the frozen encoder's own head."""
        return self.flame(codes.shape_B100, codes.exp_B50, codes.pose_B6)

    @torch.no_grad()
    def predict(self, frames: Tensor) -> Prediction:
        """Encode and decode without dropout and gradients, whatever the mode; the mode is left as it was."""
        with evaluating(self):
            encoding = self.encode(frames)
            return Prediction(encoding=encoding, decoding=self.decode(encoding.codes))

    @torch.no_grad()
    def shape_pictures(self, codes: FlameCodes, background_B3HW: Tensor) -> tuple[Tensor, Tensor]:
        """Grey heads over pictures: (face region only, whole head), each [B,3,H,W]."""
        mesh = self.mesh(codes)
        projected = project(mesh, codes.cam_B3).vertices_BV3
        surface = self.renderer.surface(mesh.vertices_BV3, projected, self.renderer.rasterize(projected))
        return self.renderer.shape(surface, background_B3HW)

    def face_eye_mask(self, surface: Surface) -> Tensor:
        """Which pixels belong to face and eyes in texture space, 0..1 [B,1,H,W]; detached.

        Background pixels sample the centre of the map and have to be masked by alpha.
        """
        grid = surface.grid_BHW2.detach()
        return F.grid_sample(self.uv_face_eye_mask.expand(len(grid), -1, -1, -1), grid, align_corners=False)

    def landmark_visibility(self, surface: Surface) -> Tensor:
        """1 where the surface at each of the 68 fixed landmarks faces the viewer [B,68,1] (coarse spec 5.5)."""
        normals_B683 = self.flame.full(surface.projected_normals_BV3)
        return (normals_B683[..., 2:] < _VISIBLE).to(normals_B683.dtype)

    def _checked(self, frames: Tensor) -> Tensor:
        frames = frames[None] if frames.ndim == 4 else frames
        size = self.renderer.image_size
        if frames.ndim != 5 or tuple(frames.shape[1:]) != (FRAMES, 3, size, size):
            found = tuple(frames.shape)
            raise ValueError(
                f"frames have shape {found}, expected [clips,{FRAMES},3,{size},{size}]; crop and resize them"
            )
        return frames

    @staticmethod
    def _by_clip(values_N: Tensor) -> Tensor:
        return values_N.unflatten(0, (-1, FRAMES))


def over_photograph(decoding: Decoding, image_B3HW: Tensor) -> Tensor:
    """The rendered face region laid over the photograph [B,3,H,W] (coarse spec 5.5)."""
    region = decoding.rendering.surface.face_region_B1HW
    return image_B3HW * (1 - region) + decoding.rendering.images_B3HW * region


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Evaluation mode for a while; every submodule then returns to the mode it was in."""
    modes = {module: module.training for module in model.modules()}
    model.eval()
    try:
        yield
    finally:
        for module, training in modes.items():
            module.training = training
