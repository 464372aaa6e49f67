"""Changes that must not be flagged: other settings, other processes, other ways to write the same formula."""

from __future__ import annotations

import shutil
from dataclasses import dataclass

from parity.pipelines import pipeline_of
from parity.selftest.mutation import Edit


@dataclass(frozen=True, kw_only=True)
class Harmless:
    """One harmless variant: source edits, a setting, or variables of a fresh process.

    step: modern's own training step is run too. needs: a program without which it cannot be exercised.
    sweep: left to the full sweep: it replays every stage, and the default set has its like.
    """

    id: str
    variant: str
    kind: str
    edits: tuple[Edit, ...] = ()
    setting: str = ""
    environment: tuple[tuple[str, str], ...] = ()
    step: bool = False
    needs: str = ""
    sweep: bool = False

    @property
    def pipeline(self) -> str:
        """The pipeline of its variant."""
        return pipeline_of(self.variant).name

    @property
    def missing(self) -> str:
        """Why it cannot be exercised here, "" if it can."""
        return f"{self.needs} is not installed" if self.needs and shutil.which(self.needs) is None else ""


def _setting(variant: str, name: str, *, step: bool = False, sweep: bool = False) -> Harmless:
    slug = f"{_letter(variant)}-{_slug(name)}"
    return Harmless(id=slug, variant=variant, kind="setting", setting=name, step=step, sweep=sweep)


def _process(variant: str, *, step: bool = False, sweep: bool = False, **variables: str) -> Harmless:
    name = ", ".join(f"{key}={value}" for key, value in variables.items())
    environment = tuple(variables.items())
    slug = f"{_letter(variant)}-{_slug(name)}"
    return Harmless(id=slug, variant=variant, kind="process", environment=environment, step=step, sweep=sweep)


def _source(variant: str, id: str, *edits: Edit, needs: str = "") -> Harmless:
    return Harmless(id=f"{_letter(variant)}-{id}", variant=variant, kind="source", edits=edits, needs=needs)


def _letter(variant: str) -> str:
    return pipeline_of(variant).name[0] + ("-dropout" if variant == "dropout" else "")


def _slug(name: str) -> str:
    return "-".join("".join(letter if letter.isalnum() else " " for letter in name).lower().split())


_CONV = """

def _unfolded(convolution: nn.Conv2d, features: Tensor) -> Tensor:
    columns = F.unfold(features, 3, padding=1, stride=2)
    size = features.shape[-1] // 2
    assert convolution.bias is not None
    product = convolution.weight.flatten(1) @ columns + convolution.bias[:, None]
    return product.unflatten(-1, (size, size))


class DetailEncoder("""
_PAINTERS = "painters = [*model.detail_encoder.parameters(), *model.generator.parameters()]"
_NORM = "            features = _leaky(F.instance_norm(features))\n        return torch.tanh"
_OWN_NORM = """            centred = features - features.mean(dim=(2, 3), keepdim=True)
            features = _leaky(centred * ((centred**2).mean(dim=(2, 3), keepdim=True) + 1e-5).rsqrt())
        return torch.tanh"""
_ADAM, _ADAM_G = "lr=config.train.lr, amsgrad=False", "lr=train.lr_generator, betas=betas"
_ENTROPY = "return F.binary_cross_entropy(probability_B1hw, torch.full_like(probability_B1hw, target))"
_OWN_ENTROPY = "return -(target * probability_B1hw.log() + (1 - target) * (1 - probability_B1hw).log()).mean()"
_SHADING = "return (light_BK3[..., None, None] * scaled[:, :, None]).sum(dim=1)"
_SAMPLED = "sampled = F.grid_sample(torch.cat([image_B3HW, mask_BHW[:, None]], dim=1), grid_BSS2, align_corners=False)"
_APART = """sampled = torch.cat(
        [F.grid_sample(part, grid_BSS2, align_corners=False) for part in (image_B3HW, mask_BHW[:, None])], dim=1
    )"""
_RODRIGUES = "return identity + sin_N11 * skew_N33 + (1 - cos_N11) * (skew_N33 @ skew_N33)"

SETTINGS = (
    *(_setting("eval", name, step=True) for name in ("2 threads", "oneDNN off", "inputs channels_last")),
    *(_setting("eval", name) for name in ("inputs in reverse order", "run twice")),
    *(_setting("detail", name) for name in ("2 threads", "oneDNN off", "inputs strided")),
    _setting("detail", "run twice", sweep=True),
    _setting("eval", "4 threads", step=True, sweep=True),
    _setting("dropout", "2 threads", step=True, sweep=True),
    *(_setting("eval", name, sweep=True) for name in ("matmul precision high", "non-deterministic algorithms allowed")),
    *(_setting("eval", name, sweep=True) for name in ("inputs copied", "inputs strided", "inputs unaligned")),
    *(_setting("eval", name, sweep=True) for name in ("another thread", "inference mode")),
)
PROCESSES = (
    _process("eval", MKL_CBWR="COMPATIBLE", ATEN_CPU_CAPABILITY="default", ONEDNN_MAX_CPU_ISA="SSE41", step=True),
    _process("detail", MKL_CBWR="COMPATIBLE", ATEN_CPU_CAPABILITY="default", ONEDNN_MAX_CPU_ISA="SSE41"),
    _process("eval", MKL_CBWR="COMPATIBLE", step=True, sweep=True),
    _process("eval", ATEN_CPU_CAPABILITY="default", step=True, sweep=True),
    _process("eval", ATEN_CPU_CAPABILITY="avx2", sweep=True),
    _process("eval", ONEDNN_MAX_CPU_ISA="SSE41", sweep=True),
    _process("eval", PYTHONHASHSEED="1", sweep=True),
)
SOURCES = (
    _source("eval", "rotation-reassociated", Edit("rotation.py", _RODRIGUES, "return (sin_N11 * skew_N33 + (1 - cos_N11) * (skew_N33 @ skew_N33)) + identity")),
    _source("eval", "blendshapes-matmul", Edit("flame.py", 'torch.einsum("bl,mkl->bmk", betas_BK, self.shapedirs)', "(self.shapedirs @ betas_BK[:, None, :, None])[..., 0]")),
    _source("eval", "joints-matmul", Edit("flame.py", 'torch.einsum("bik,ji->bjk", shaped_BV3, self.J_regressor)', "self.J_regressor @ shaped_BV3")),
    _source("eval", "posed-the-other-way", Edit("flame.py", "(pose_feature @ self.posedirs.T).view(batch, -1, 3) + shaped_BV3", "shaped_BV3 + (self.posedirs @ pose_feature.T).T.view(batch, -1, 3)")),
    _source("eval", "contour-index-select", Edit("flame.py", "corners, weights = corners[row_B], weights[row_B]", "corners, weights = corners.index_select(0, row_B), weights.index_select(0, row_B)")),
    _source("eval", "corners-in-order", Edit("mesh.py", "for corner in (1, 2, 0):", "for corner in (0, 1, 2):")),
    _source("eval", "norm-spelled-out", Edit("mesh.py", "F.normalize(normals, dim=1, eps=_EPS)", "(normals / (normals**2).sum(dim=1, keepdim=True).sqrt().clamp_min(_EPS))")),
    _source("eval", "texture-matmul", Edit("texture.py", "return mean + (basis * tex_K).sum(dim=-1)", "return mean + basis @ tex_K")),
    _source("eval", "projection-distributed", Edit("camera.py", "scale * torch.cat([points_BL3[..., :2] + shift, points_BL3[..., 2:]], dim=2)", "torch.cat([scale * points_BL3[..., :2] + scale * shift, scale * points_BL3[..., 2:]], dim=2)")),
    _source("eval", "interpolation-einsum", Edit("renderer.py", "(raster.barycentric_BHW3[..., None] * at_pixel_BHW3D).sum(dim=-2)", 'torch.einsum("bhwc,bhwcd->bhwd", raster.barycentric_BHW3, at_pixel_BHW3D)')),
    _source("eval", "shading-einsum", Edit("renderer.py", _SHADING, 'return torch.einsum("bkc,bkhw->bchw", light_BK3, scaled)')),
    _source("eval", "shading-compiled", Edit("renderer.py", "def sh_shading(", "@torch.compile\ndef sh_shading("), needs="g++"),
    _source("eval", "photo-sum-over-count", Edit("losses/photometric.py", "return (mask * (pred_B3HW - image_B3HW).abs()).mean()", "return (mask * (pred_B3HW - image_B3HW).abs()).sum() / image_B3HW.numel()")),
    _source("eval", "landmarks-without-dot", Edit("losses/landmarks.py", "torch.dot(distance_N, gt_N3[:, 2])", "(distance_N * gt_N3[:, 2]).sum()")),
    _source("eval", "terms-from-the-end", Edit("losses/table.py", "sum(losses.values(), inputs", "sum(reversed(losses.values()), inputs")),
    _source("eval", "squares-in-float64", Edit("losses/regularisation.py", "return (code**2).sum() / 2", "return ((code.double() ** 2).sum() / 2).to(code.dtype)")),
    _source("eval", "scaled-query", Edit("sequence.py", "(query_BHSC @ key_BHSC.transpose(-1, -2) * _HEAD_WIDTH**-0.5)", "((query_BHSC * _HEAD_WIDTH**-0.5) @ key_BHSC.transpose(-1, -2))")),
    _source("eval", "linear-without-addmm", Edit("sequence.py", "return self.head(self.norm(tokens_BSD)[:, 0])", "return self.norm(tokens_BSD)[:, 0] @ self.head.weight.T + self.head.bias")),
    _source("eval", "mean-before-linear", Edit("sequence.py", "self.context(global_feature.reshape(-1, FRAMES, _GLOBAL_FEATURES)).mean(dim=1, keepdim=True)", "self.context(global_feature.reshape(-1, FRAMES, _GLOBAL_FEATURES).mean(dim=1, keepdim=True))")),
    _source("eval", "pooled-in-float64", Edit("encoders.py", "F.avg_pool2d(features_NCHW, features_NCHW.shape[-2:]).flatten(1)", "F.avg_pool2d(features_NCHW.double(), features_NCHW.shape[-2:]).flatten(1).float()")),
    _source("eval", "channels-last-trunk", Edit("encoders.py", "        features = image_N3HW\n", "        features = image_N3HW.contiguous(memory_format=torch.channels_last)\n"), Edit("encoders.py", "from torch import Tensor, nn\n", "import torch\nfrom torch import Tensor, nn\n")),
    _source("eval", "other-module-names", Edit("encoders.py", "self.regressor", "self.readout", 2), Edit("weight_table.py", '"regressor."', '"readout."')),
    _source("eval", "other-layer-names", Edit("sequence.py", "self.feed_forward", "self.mlp", 2), Edit("weight_table.py", '"feed_forward"', '"mlp"')),
    _source("eval", "adam-foreach", Edit("train/step.py", _ADAM, _ADAM + ", foreach=True")),
    _source("eval", "adam-fused", Edit("train/step.py", _ADAM, _ADAM + ", fused=True")),
    _source("eval", "adam-single-tensor", Edit("train/step.py", _ADAM, _ADAM + ", foreach=False")),
    _source("eval", "adam-order", Edit("train/step.py", "torch.optim.Adam(model.sequence.parameters()", "torch.optim.Adam(reversed(list(model.sequence.parameters()))")),
    _source("detail", "adam-fused", Edit("detail/step.py", _ADAM_G, _ADAM_G + ", fused=True")),
    _source("detail", "painters-in-other-order", Edit("detail/step.py", _PAINTERS, "painters = [*model.generator.parameters(), *model.detail_encoder.parameters()]")),
    _source("detail", "convolution-by-unfolding", Edit("detail/networks.py", "F.relu(first(features), inplace=True)", "F.relu(_unfolded(first, features), inplace=True)"), Edit("detail/networks.py", "\n\nclass DetailEncoder(", _CONV)),
    _source("detail", "instance-norm-spelled-out", Edit("detail/networks.py", _NORM, _OWN_NORM)),
    _source("detail", "sampled-apart", Edit("detail/visibility.py", _SAMPLED, _APART)),
    _source("detail", "displacements-first", Edit("detail/displacement.py", "return uv_vertices_B3SS + uv_z_B1SS * uv_normals_B3SS + fixed_SS * uv_normals_B3SS", "return uv_vertices_B3SS + (uv_z_B1SS + fixed_SS) * uv_normals_B3SS")),
    _source("detail", "shading-einsum", Edit("renderer.py", _SHADING, 'return torch.einsum("bkc,bkhw->bchw", light_BK3, scaled)')),
    _source("detail", "cross-entropy-spelled-out", Edit("detail/step.py", _ENTROPY, _OWN_ENTROPY)),
    _source("detail", "tokens-projected-once", Edit("action_units.py", "if torch.is_grad_enabled() and faces.requires_grad:", "if False:")),
    _source("detail", "content-from-the-end", Edit("losses/detail.py", "first, *others = weighted.values()", "first, *others = reversed(weighted.values())")),
    _source("detail", "masked-difference", Edit("losses/detail.py", "(x.texture_patch_B3SS * seen - x.texture_gt_patch_B3SS * seen).abs()", "((x.texture_patch_B3SS - x.texture_gt_patch_B3SS) * seen).abs()")),
)  # fmt: skip
HARMLESS = (*PROCESSES, *SETTINGS, *SOURCES)
