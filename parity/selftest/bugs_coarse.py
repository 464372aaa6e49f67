"""Bugs planted in the coarse pipeline, one line each: variant, stage, id, kind, file, old, new."""

from __future__ import annotations

from parity.selftest.bug import bug

_SPLIT = 'SEQUENCE_LAYOUT = {"tex": 50, "exp": 50, "light": 27}'
_KEPT = "return kept_BHW3.permute(0, 3, 1, 2).flip(1).contiguous()"
_SELF = '_attention("0", "self_attention", ("norm.", "norm."), '
_CROSS = '_attention("1", "cross_attention", ("norm.", "norm."), '
_CAT = "torch.cat([class_B1D, frames_BTD], dim=1)"

_ADAM = "lr=config.train.lr, amsgrad=False"
_UPDATE = "    optimizer.zero_grad()\n    total.backward()\n    optimizer.step()"
_STEP = "train/step.py"
_ATTEND = """    weights = (query_BHSC @ key_BHSC.transpose(-1, -2) * _HEAD_WIDTH**-0.5).softmax(dim=-1)
    mixed_BHSC = F.dropout(weights, dropout, training) @ value_BHSC
"""
_FUSED = "    mixed_BHSC = F.scaled_dot_product_attention(query_BHSC, key_BHSC, value_BHSC)\n"

COARSE_BUGS = (
    bug("eval", "encoder", "encoder-bgr", "RGB/BGR", "encoders.py", "        features = image_N3HW\n", "        features = image_N3HW.flip(1)\n"),
    bug("eval", "encoder", "encoder-max-pool", "wrong reduction", "encoders.py", "F.avg_pool2d(features_NCHW", "F.max_pool2d(features_NCHW"),
    bug("eval", "encoder", "encoder-batch-statistics", "train/eval flag", "model.py", "super().train(False)", "super().train(mode)", manifest="encoders.py:ResNetTrunk.forward,encoders.py:FlameEncoder.forward"),
    bug("eval", "encoder", "encoder-half", "dtype downcast", "encoders.py", "return self.regressor(feature_N2048), feature_N2048", "return self.regressor(feature_N2048.bfloat16().float()), feature_N2048"),
    bug("eval", "action_units", "au-norm-eps", "BatchNorm eps", "action_units.py", "self.norm = nn.BatchNorm1d(outputs)", "self.norm = nn.BatchNorm1d(outputs, eps=1e-3)", manifest="action_units.py:_LinearBlock.forward"),
    bug("eval", "action_units", "au-not-normalised", "missing normalisation", "action_units.py", "return tokens_NPC, F.normalize(self._nodes(tokens_NPC), dim=-1, eps=_NORM_EPS)", "return tokens_NPC, self._nodes(tokens_NPC)"),
    bug("eval", "action_units", "au-axis", "wrong reduction axis", "action_units.py", "self.trunk(image_N3HW).flatten(2).transpose(1, 2)", "self.trunk(image_N3HW).transpose(2, 3).flatten(2).transpose(1, 2)"),
    bug("eval", "action_units", "au-nodes-max", "wrong reduction", "action_units.py", "self.node_tokens(tokens_NPC).mean(dim=-2)", "self.node_tokens(tokens_NPC).amax(dim=-2)"),
    bug("eval", "sequence", "no-position", "dropped term", "sequence.py", _CAT + " + self.position", _CAT),
    bug("eval", "sequence", "attention-scale", "wrong constant", "sequence.py", "* _HEAD_WIDTH**-0.5", "* _INNER**-0.5"),
    bug("eval", "sequence", "gelu-tanh", "approximation", "sequence.py", "F.gelu(self.expand(self.norm(tokens_BSD)))", 'F.gelu(self.expand(self.norm(tokens_BSD)), approximate="tanh")'),
    bug("eval", "gradients", "norm-eps", "wrong eps", "sequence.py", "        self.norm = nn.LayerNorm(_WIDTH)\n        self.layers", "        self.norm = nn.LayerNorm(_WIDTH, eps=1e-4)\n        self.layers", manifest="sequence.py:BiViT.forward"),
    bug("eval", "sequence", "context-sum", "mean for sum", "sequence.py", ".mean(dim=1, keepdim=True)", ".sum(dim=1, keepdim=True)"),
    bug("eval", "sequence", "no-residual", "dropped term", "sequence.py", "self.feed_forward(tokens_BSD) + tokens_BSD", "self.feed_forward(tokens_BSD)"),
    bug("eval", "sequence", "doubled-residual", "doubled term", "sequence.py", "tokens_BSD = self.self_attention(tokens_BSD) + tokens_BSD", "tokens_BSD = self.self_attention(tokens_BSD) + 2 * tokens_BSD"),
    bug("eval", "sequence", "softmax-axis", "wrong reduction axis", "sequence.py", "_HEAD_WIDTH**-0.5).softmax(dim=-1)", "_HEAD_WIDTH**-0.5).softmax(dim=-2)"),
    bug("eval", "sequence", "norms-swapped", "key mapping swapped", "weight_table.py", f"*{_SELF}(\"to_qkv.\", \"qkv.\"), (\"to_out.0.\", \"out.\")),\n            *{_CROSS}", f"*{_SELF.replace('0', '1')}(\"norm.\", \"norm.\")),\n            *{_CROSS.replace('1', '0')}(\"norm.\", \"norm.\")),\n            *{_SELF}(\"to_qkv.\", \"qkv.\"), (\"to_out.0.\", \"out.\")),\n            *{_CROSS}", manifest="sequence.py:_SelfAttention.forward,sequence.py:_CrossAttention.forward"),
    bug("dropout", "sequence", "extra-draw", "one extra random draw", "sequence.py", "        class_B1D = self.class_token", "        torch.rand(1)\n        class_B1D = self.class_token"),
    bug("dropout", "sequence", "reseeded", "seeding slip", "sequence.py", "        class_B1D = self.class_token", "        torch.manual_seed(1)\n        class_B1D = self.class_token"),
    bug("dropout", "sequence", "dropout-order", "order of draws", "sequence.py", "        hidden = F.dropout(F.gelu(self.expand(self.norm(tokens_BSD))), self.dropout, self.training)", "        hidden = F.gelu(F.dropout(self.expand(self.norm(tokens_BSD)), self.dropout, self.training))"),
    bug("dropout", "flame", "stray-draw", "one extra random draw", "flame.py", "        rotation_BJ33 = self._rotations(pose_B6)\n", "        rotation_BJ33 = self._rotations(pose_B6)\n        torch.rand(1)\n"),
    bug("dropout", "prediction", "dropout-at-evaluation", "train/eval flag", "model.py", "    model.eval()\n", "", step=True, manifest="sequence.py:BiViT.forward,sequence.py:_attend"),
    bug("eval", "deca_codes", "light-transposed", "transposed axis", "codes.py", '["light"].reshape(-1, *_LIGHT)', '["light"].reshape(-1, 3, 9).transpose(1, 2)'),
    bug("eval", "deca_codes", "frame-before", "off by one", "clip.py", "CENTRE = 1", "CENTRE = 0", manifest="model.py:CoarseModel.centre_codes"),
    bug("eval", "codes", "exp-tex-swapped", "swapped entries", "codes.py", _SPLIT, _SPLIT.replace("tex", "TEX").replace("exp", "tex").replace("TEX", "exp"), manifest="codes.py:with_predicted,codes.py:_split"),
    bug("eval", "codes", "old-light", "stale value", "codes.py", 'light_B93=part["light"])', "light_B93=codes.light_B93)"),
    bug("eval", "flame", "rotation-sign", "sign", "rotation.py", "return identity + sin_N11 * skew_N33", "return identity - sin_N11 * skew_N33"),
    bug("eval", "flame", "pose-transposed", "transposed axis", "flame.py", "pose_feature = (rotation_BJ33[:, 1:] - identity)", "pose_feature = (rotation_BJ33[:, 1:].mT - identity)"),
    bug("eval", "flame", "joint-chain", "wrong index", "flame.py", "chain.append(chain[parent] @ local[:, joint])", "chain.append(chain[joint - 1] @ local[:, joint])"),
    bug("eval", "flame", "contour-row", "off by one", "flame.py", ".clamp(max=_MAX_YAW).round().long()", ".clamp(max=_MAX_YAW).round().long() + 1"),
    bug("eval", "flame", "pi-3.1416", "constant wrong in the 4th digit", "flame.py", "yaw * 180.0 / math.pi", "yaw * 180.0 / 3.1416", below="yaw is rounded to degrees, and this head's stays in its degree"),
    bug("eval", "flame", "rotation-eps", "wrong eps", "rotation.py", "_EPS = 1e-8", "_EPS = 1e-6", manifest="rotation.py:axis_angle_to_matrix", below="the angle divides the axis and is in the sine: of a small angle t, only t x eps / 3 is left"),
    bug("eval", "flame_deca", "stale-mesh", "stale buffer", "flame.py", "        vertices_BV3 = self._skinned(torch.cat([shape_B100, exp_B50], dim=1), rotation_BJ33)\n", '        if not hasattr(self, "_skin"):\n            self._skin = self._skinned(torch.cat([shape_B100, exp_B50], dim=1), rotation_BJ33).detach()\n        vertices_BV3 = self._skin\n'),
    bug("eval", "texture", "bilinear-texture", "wrong interpolation", "texture.py", 'mode="nearest"', 'mode="bilinear"', step=True),
    bug("eval", "texture", "bgr-kept", "RGB/BGR", "texture.py", _KEPT, _KEPT.replace(".flip(1)", "")),
    bug("eval", "texture", "next-texel", "off by one", "texture.py", "every = slice(None, None,", "every = slice(1, None,"),
    bug("eval", "texture", "mean-over-256", "wrong constant", "texture.py", "head.tex_mean_bgr.flatten() / 255.0", "head.tex_mean_bgr.flatten() / 256.0", manifest="texture.py:FlameTexture._kept,texture.py:FlameTexture.forward"),
    bug("eval", "projection", "shift-after-scale", "order of operations", "camera.py", "return scale * torch.cat([points_BL3[..., :2] + shift, points_BL3[..., 2:]], dim=2)", "return torch.cat([scale * points_BL3[..., :2] + shift, scale * points_BL3[..., 2:]], dim=2)"),
    bug("eval", "projection", "depth-sign", "sign", "camera.py", "return torch.cat([projected[..., :1], -projected[..., 1:]], dim=2)", "return torch.cat([projected[..., :1], -projected[..., 1:2], projected[..., 2:]], dim=2)"),
    bug("eval", "normals", "normals-inward", "sign", "mesh.py", "torch.linalg.cross(following - here, preceding - here)", "torch.linalg.cross(preceding - here, following - here)"),
    bug("eval", "normals", "unweighted-normals", "missing weight", "mesh.py", "normals = normals.index_add(0, ids_N3[:, corner], area_vector)", "normals = normals.index_add(0, ids_N3[:, corner], F.normalize(area_vector, dim=1))"),
    bug("eval", "normals", "two-corners", "dropped term", "mesh.py", "for corner in (1, 2, 0):", "for corner in (1, 2):"),
    bug("eval", "raster", "not-mirrored", "sign", "renderer.py", "projected_BV3.new_tensor([-1.0, -1.0, 1.0])", "projected_BV3.new_tensor([1.0, -1.0, 1.0])"),
    bug("eval", "raster", "pixel-corner", "half a pixel", "renderer.py", "return torch.cat([x * self.image_size / self.image_size, yz], dim=2)", "return torch.cat([x + 1 / self.image_size, yz], dim=2)"),
    bug("eval", "attributes", "v-not-flipped", "sign", "renderer.py", "uv_U2 = (head.uvcoords * 2 - 1) * torch.tensor([1.0, -1.0])", "uv_U2 = head.uvcoords * 2 - 1", manifest="renderer.py:Renderer.surface"),
    bug("eval", "attributes", "facing-away", "wrong threshold", "renderer.py", "_FACING = -0.05", "_FACING = 0.05", manifest="renderer.py:Renderer.surface"),
    bug("eval", "attributes", "wrong-normals", "wrong index", "renderer.py", "uv1, projected_normal, _, normal, region = interpolate", "uv1, normal, _, projected_normal, region = interpolate"),
    bug("eval", "shading", "harmonics-order", "permuted channels", "renderer.py", "        n[:, 1],\n        n[:, 2],\n        n[:, 0],\n", "        n[:, 0],\n        n[:, 1],\n        n[:, 2],\n"),
    bug("eval", "shading", "pi-3.142", "constant wrong in the 4th digit", "renderer.py", "    linear = (2 * math.pi / 3) * math.sqrt(3 / math.pi) / 2", "    linear = (2 * 3.142 / 3) * math.sqrt(3 / math.pi) / 2", manifest="renderer.py:sh_shading"),
    bug("eval", "rendering", "corners-aligned", "align_corners flipped", "renderer.py", "albedo = F.grid_sample(albedo_B3SS, surface.grid_BHW2, align_corners=False)", "albedo = F.grid_sample(albedo_B3SS, surface.grid_BHW2, align_corners=True)"),
    bug("eval", "rendering", "no-alpha", "dropped factor", "renderer.py", "images_B3HW=albedo * shading * surface.alpha_images_B1HW", "images_B3HW=albedo * shading"),
    bug("eval", "features", "expression-bgr", "RGB/BGR", "encoders.py", "return pooled(self.trunk(F.interpolate(image_N3HW, size,", "return pooled(self.trunk(F.interpolate(image_N3HW.flip(1), size,"),
    bug("eval", "features", "resize-aligned", "align_corners flipped", "encoders.py", 'mode="bilinear", align_corners=False', 'mode="bilinear", align_corners=True', below="the picture already has the size it is resized to"),
    bug("eval", "features", "unlit-features", "wrong tensor", _STEP, "image, rendered = encoding.image_B3HW, decoding.rendering.images_B3HW", "image, rendered = encoding.image_B3HW, decoding.rendering.albedo_images_B3HW", step=True),
    bug("eval", "losses", "lid-index", "wrong index", "losses/landmarks.py", "_LIDS = (24, 30, 40, 46)", "_LIDS = (24, 30, 40, 47)", manifest="losses/landmarks.py:weighted_l1"),
    bug("eval", "losses", "squares-mean", "mean for sum", "losses/regularisation.py", "return (code**2).sum() / 2", "return (code**2).mean() / 2"),
    bug("eval", "losses", "photo-squared", "wrong norm", "losses/photometric.py", "(pred_B3HW - image_B3HW).abs()", "(pred_B3HW - image_B3HW).square()"),
    bug("eval", "losses", "weight-4th-digit", "constant wrong in the 4th digit", "config.py", "eye_distance: float = 1.0\n    lip_distance: float = 0.0", "eye_distance: float = 1.0003\n    lip_distance: float = 0.0", manifest="losses/table.py:weighted_losses,losses/table.py:_term"),
    bug("eval", "losses", "term-twice", "doubled term", "losses/table.py", "TOTAL: sum(losses.values(), inputs.image_B3HW.new_zeros(()))", 'TOTAL: sum(losses.values(), losses["light_reg"])'),
    bug("eval", "losses", "mask-in-place", "aliasing", _STEP, "        clips = [clip] if isinstance(clip, Clip) else list(clip)\n", "        clips = [clip] if isinstance(clip, Clip) else list(clip)\n        clips[0].mask_T3HW.clamp_(max=1)\n", step=True),
    bug("eval", "code_gradients", "lost-detach", "lost detach", "model.py", "grid = surface.grid_BHW2.detach()", "grid = surface.grid_BHW2"),
    bug("eval", "code_gradients", "normals-detached", "lost gradient", "renderer.py", "normal_images_B3HW=normal * alpha", "normal_images_B3HW=normal.detach() * alpha"),
    bug("eval", "gradients", "context-detached", "lost gradient", "sequence.py", "tokens_BSD = layer(tokens_BSD, context_B1D)", "tokens_BSD = layer(tokens_BSD, context_B1D.detach())"),
    bug("eval", "gradients", "value-detached", "lost gradient", "sequence.py", "F.dropout(weights, dropout, training) @ value_BHSC", "F.dropout(weights, dropout, training).detach() @ value_BHSC"),
    # The single key of the cross attention has weight 1, so its query has a gradient of exactly zero. A fused kernel leaves
    # rounding there, and Adam turns any rounding into a step.
    bug("eval", "gradients", "fused-attention", "noise for an exact zero", "sequence.py", _ATTEND, _FUSED),
    bug("eval", "adam", "adam-eps", "Adam eps", _STEP, _ADAM, "lr=config.train.lr, eps=1e-7"),
    bug("eval", "adam", "adam-betas", "momentum order", _STEP, _ADAM, "lr=config.train.lr, betas=(0.999, 0.9)"),
    bug("eval", "adam", "adam-lr", "constant wrong in the 4th digit", "config.py", "    lr: float = 1e-4", "    lr: float = 1.0003e-4", manifest="train/step.py:make_optimizer"),
    bug("eval", "adam", "adam-decay", "weight decay", _STEP, _ADAM, "lr=config.train.lr, weight_decay=1e-4"),
    bug("eval", "adam", "adam-decoupled", "weight decay", _STEP, "return torch.optim.Adam(", "return torch.optim.AdamW("),
    bug("eval", "gradients", "cleared-late", "order of updates", _STEP, _UPDATE, "    total.backward()\n    optimizer.zero_grad(set_to_none=False)\n    optimizer.step()", step=True),
    bug("eval", "adam", "stepped-twice", "off-by-one step", _STEP, "    optimizer.step()", "    optimizer.step()\n    optimizer.step()", step=True),
    bug("eval", "adam", "never-cleared", "stale buffer", _STEP, "    optimizer.zero_grad()\n", "", step=True, below="gradients are empty before the first step; only the second would show it"),
)  # fmt: skip
