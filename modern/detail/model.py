"""The detail model: images in, a head with a painted displacement map out (detail spec 2 to 4).

Axes: B images, H W rows and columns, S = 256 texels, P positions, U = 27 action-unit nodes, C = 512 channels.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from modern.action_units import ActionUnitFeatures
from modern.assets import HeadAssets
from modern.codes import FlameCodes, split_encoder
from modern.config_detail import DetailConfig
from modern.detail.displacement import detail_normals, grid_faces
from modern.detail.expression import ExpressionSource
from modern.detail.geometry import Geometry, HeadGeometry, HeadSurface
from modern.detail.networks import DetailEncoder, DisplacementGenerator, PatchDiscriminator
from modern.encoders import FlameEncoder
from modern.model import evaluating
from modern.renderer import Harmonics, sh_shading


@dataclass(frozen=True, kw_only=True, slots=True)
class DetailCodes:
    """All that is decoded.

    Attributes:
        flame: the smooth head, without gradient.
        detail_B128: [B,128,1,1] code of the displacement.
        afn_BUC: action-unit features, without gradient.
    """

    flame: FlameCodes
    detail_B128: Tensor
    afn_BUC: Tensor


@dataclass(frozen=True, kw_only=True, slots=True)
class DetailEncoding:
    """What the networks say about each image.

    Attributes:
        image_B3HW: the images.
        parameters_B236: of the frozen encoder.
        tokens_BPC: of the action-unit network.
        codes: what is decoded; the expression is not the encoder's if there is another source.
    """

    image_B3HW: Tensor
    parameters_B236: Tensor
    tokens_BPC: Tensor
    codes: DetailCodes


@dataclass(frozen=True, kw_only=True, slots=True)
class DetailDecoding:
    """A detailed head and its picture.

    Attributes:
        surface: the smooth head.
        uv_z_B1SS: displacement along the normal.
        uv_normals_B3SS: normals of the displaced surface.
        uv_shading_B3SS: light on it.
        uv_texture_B3SS: lit albedo.
        picture_B3HW: seen by the camera; background pixels show the centre of the map.
    """

    surface: HeadSurface
    uv_z_B1SS: Tensor
    uv_normals_B3SS: Tensor
    uv_shading_B3SS: Tensor
    uv_texture_B3SS: Tensor
    picture_B3HW: Tensor


@dataclass(frozen=True, kw_only=True, slots=True)
class DetailPrediction:
    """Codes and head of each image."""

    encoding: DetailEncoding
    decoding: DetailDecoding


class DetailModel(nn.Module):
    """Frozen encoder, action-unit network and head; trained detail encoder, generator and discriminator.

    In training mode the action-unit network normalises with the statistics of the batch, as the original does although
    it is frozen (defect D39); the encoder stays in evaluation mode whatever mode is asked for.

    Args:
        geometry: the head under the displacement.
        config: fixes and the largest displacement.
        expression: where the expression comes from; None takes the encoder's own.
    """

    def __init__(
        self, geometry: Geometry, config: DetailConfig | None = None, *, expression: ExpressionSource | None = None
    ) -> None:
        super().__init__()
        config = config or DetailConfig()
        self.fixes, self._max_displacement = config.fixes, config.model.max_displacement
        self.geometry, self.expression = geometry, expression
        self.encoder = FlameEncoder().requires_grad_(False)
        self.action_units = ActionUnitFeatures(imagenet="D13" in self.fixes).requires_grad_(False)
        self.detail_encoder = DetailEncoder()
        self.generator = DisplacementGenerator()
        self.discriminator = PatchDiscriminator()
        self.grid_faces: Tensor
        size = geometry.uv_face_eye_mask_11SS.shape[-1]
        self.register_buffer("grid_faces", grid_faces(size), persistent=False)
        self.train()

    def train(self, mode: bool = True) -> DetailModel:
        """Set the mode of all but the encoder; with fix D39 the action-unit network stays in evaluation mode too."""
        super().train(mode)
        self.encoder.eval()
        if "D39" in self.fixes:
            self.action_units.eval()
        return self

    def encode(self, image_B3HW: Tensor) -> DetailEncoding:
        """Run the networks once on images [B,3,H,W], RGB in 0..1; gradients reach the detail encoder only.

        Raises:
            ValueError: on another shape.
        """
        if image_B3HW.ndim != 4 or image_B3HW.shape[1] != 3:
            raise ValueError(f"images have shape {tuple(image_B3HW.shape)}, expected [B,3,H,W]; crop and resize them")
        with torch.no_grad():
            parameters = self.encoder(image_B3HW)[0]
            flame = self.flame_codes(parameters, image_B3HW)
            tokens, afn = self.action_units(image_B3HW)
        codes = DetailCodes(flame=flame, detail_B128=self.detail_encoder(image_B3HW), afn_BUC=afn)
        return DetailEncoding(image_B3HW=image_B3HW, parameters_B236=parameters, tokens_BPC=tokens, codes=codes)

    def flame_codes(self, parameters_B236: Tensor, image_B3HW: Tensor) -> FlameCodes:
        """The encoder's codes with the expression of the expression source."""
        codes = split_encoder(parameters_B236)
        return codes if self.expression is None else replace(codes, exp_B50=self.expression(image_B3HW))

    def decode(self, codes: DetailCodes) -> DetailDecoding:
        """Smooth head, displacement, texture and picture, one head per image."""
        flame = codes.flame
        uv_z = self.displacement(flame.pose_B6, flame.exp_B50, codes.detail_B128, codes.afn_BUC)
        return self.lit(self.geometry(flame), uv_z, flame.light_B93)

    def displacement(self, pose_B6: Tensor, exp_B50: Tensor, detail_B128: Tensor, afn_BUC: Tensor) -> Tensor:
        """Displacement map [B,1,S,S]; in (-1,1) unless fix D25 scales it to metres.

        Args:
            pose_B6: root and jaw; only the jaw is read.
            exp_B50: expression.
            detail_B128: [B,128,1,1] detail code.
            afn_BUC: action-unit features.
        """
        expression = torch.cat([pose_B6[:, 3:], exp_B50], dim=1)[..., None, None]
        uv_z = self.generator(torch.cat([expression, detail_B128], dim=1), afn_BUC)
        return uv_z * self._max_displacement if "D25" in self.fixes else uv_z

    def lit(self, surface: HeadSurface, uv_z_B1SS: Tensor, light_B93: Tensor) -> DetailDecoding:
        """The displaced surface under light; gradients flow to the displacement alone."""
        normals = self.normals(uv_z_B1SS, surface.uv_vertices_B3SS, surface.uv_normals_B3SS)
        shading = sh_shading(normals, light_B93.detach(), Harmonics.DECA)
        texture = surface.albedo_B3SS * shading
        return DetailDecoding(
            surface=surface,
            uv_z_B1SS=uv_z_B1SS,
            uv_normals_B3SS=normals,
            uv_shading_B3SS=shading,
            uv_texture_B3SS=texture,
            picture_B3HW=F.grid_sample(texture, surface.grid_BHW2, align_corners=False),
        )

    def normals(self, uv_z_B1SS: Tensor, uv_vertices_B3SS: Tensor, uv_normals_B3SS: Tensor) -> Tensor:
        """Normals of the displaced surface [B,3,S,S]."""
        return detail_normals(
            uv_z_B1SS,
            uv_vertices_B3SS,
            uv_normals_B3SS,
            mask_11SS=self.geometry.uv_face_eye_mask_11SS,
            fixed_SS=self.geometry.fixed_displacement_SS,
            faces_F3=self.grid_faces,
        )

    @torch.no_grad()
    def predict(self, image_B3HW: Tensor) -> DetailPrediction:
        """Encode and decode in evaluation mode and without gradients; the mode is left as it was."""
        with evaluating(self):
            encoding = self.encode(image_B3HW)
            return DetailPrediction(encoding=encoding, decoding=self.decode(encoding.codes))


def detail_model(head: HeadAssets, config: DetailConfig | None = None, image_size: int = 224) -> DetailModel:
    """The model of a head, with the encoder's own expression."""
    return DetailModel(HeadGeometry(head, image_size), config)


def pasted(picture_B3HW: Tensor, image_B3HW: Tensor, mask_B1HW: Tensor) -> Tensor:
    """The picture within the mask, the photograph outside it."""
    return picture_B3HW * mask_B1HW + image_B3HW * (1 - mask_B1HW)
