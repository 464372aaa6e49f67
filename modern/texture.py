"""FLAME's texture space: an albedo map from 50 coefficients (coarse spec 5.2).

Axes: B heads, N = 512 x 512 x 3 values of the full map, K = 50 coefficients.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from modern.assets import HeadAssets

_SIZE = 256


class FlameTexture(nn.Module):
    """Linear texture model.

    Resizing drops three of four texels. With gradients they are computed all the same: in the gradient of the codes
    they are zeros, but leaving them out would change the order of summation and so the last bits of every training
    step. Without gradients they are left out, and one map is computed at a time: the same numbers in a twelfth of the
    memory.
    """

    def __init__(self, head: HeadAssets) -> None:
        super().__init__()
        self.mean_N: Tensor
        self.basis_NK: Tensor
        self.size = head.tex_mean_bgr.shape[0]
        self.register_buffer("mean_N", head.tex_mean_bgr.flatten() / 255.0, persistent=False)
        self.register_buffer("basis_NK", head.tex_dir_bgr.flatten(0, 2) / 255.0, persistent=False)

    def forward(self, tex_BK: Tensor) -> Tensor:
        """Albedo [B,3,256,256], RGB, about 0..1, not clamped."""
        if self.size % _SIZE == 0 and not (torch.is_grad_enabled() and tex_BK.requires_grad):
            kept_BHW3 = torch.stack([self._kept(tex_K) for tex_K in tex_BK])
            # Planes in memory, as resizing leaves them: means over the map are summed in memory order.
            return kept_BHW3.permute(0, 3, 1, 2).flip(1).contiguous()
        map_BN = self.mean_N + (self.basis_NK * tex_BK[:, None]).sum(dim=-1)
        bgr_B3HW = map_BN.view(-1, self.size, self.size, 3).permute(0, 3, 1, 2)
        return F.interpolate(bgr_B3HW, (_SIZE, _SIZE), mode="nearest").flip(1)

    def _kept(self, tex_K: Tensor) -> Tensor:
        """The texels of one map that resizing keeps [256,256,3], BGR."""
        every = slice(None, None, self.size // _SIZE)
        mean = self.mean_N.view(self.size, self.size, 3)[every, every]
        basis = self.basis_NK.view(self.size, self.size, 3, -1)[every, every]
        return mean + (basis * tex_K).sum(dim=-1)
