"""Bugs planted in the detail pipeline, one line each: variant, stage, id, kind, file, old, new."""

from __future__ import annotations

from functools import partial

from parity.selftest.bug import bug
from parity.selftest.mutation import Edit

_bug = partial(bug, "detail")
_STEP, _NETWORKS, _MODEL = "detail/step.py", "detail/networks.py", "detail/model.py"
_ADAM_G = "torch.optim.Adam(painters, lr=train.lr_generator, betas=betas)"
_ADAM_D = "torch.optim.Adam(model.discriminator.parameters(), lr=train.lr_discriminator, betas=betas)"
_TURN = """        discriminator = self.update_discriminator(output, optimizers)
        generator = self.update_generator(output, optimizers)
"""
_RETURN = """        generator = self.update_generator(output, optimizers)
        discriminator = self.update_discriminator(output, optimizers)
"""
_PATCHES = "return face_patch(texture_B3SS), face_patch(texture_gt_B3SS), face_patch(visible_B1SS)"
_TRUNK = "for name, layer in resnet50(weights=None).named_children():"
_SPECIES = '(("linear_q.", "query."), ("linear_k.", "key.")'
_PAINTERS = "painters = [*model.detail_encoder.parameters(), *model.generator.parameters()]"

DETAIL_BUGS = (
    _bug("encoder", "encoder-batch-statistics", "train/eval flag", _MODEL, "        self.encoder.eval()\n", "", manifest="encoders.py:ResNetTrunk.forward,encoders.py:FlameEncoder.forward"),
    _bug("expression", "expression-half", "dtype downcast", "detail/expression.py", "return self.exp_B50\n", "return self.exp_B50.half().float()\n"),
    _bug("expression", "expression-double", "dtype", "detail/expression.py", "return self.exp_B50\n", "return self.exp_B50.double()\n"),
    _bug("codes", "camera-before-pose", "swapped entries", "codes.py", '"exp": 50, "pose": 6, "cam": 3, "light": 27}', '"exp": 50, "cam": 3, "pose": 6, "light": 27}', manifest="codes.py:split_encoder,codes.py:_split"),
    _bug("action_units", "au-stored-statistics", "train/eval flag", _MODEL, '        if "D39" in self.fixes:\n            self.action_units.eval()', '        if "D39" not in self.fixes:\n            self.action_units.eval()', manifest="action_units.py:_LinearBlock.forward,encoders.py:ResNetTrunk.forward"),
    _bug("detail_code", "resize-aligned", "align_corners flipped", _NETWORKS, 'F.interpolate(image_B3HW, size, mode="bilinear", align_corners=False)', 'F.interpolate(image_B3HW, size, mode="bilinear", align_corners=True)'),
    _bug("detail_code", "last-not-leaky", "missing activation", _NETWORKS, "return _leaky(last(features))", "return last(features)"),
    _bug("generator", "condition-order", "condition order", _NETWORKS, "torch.cat([latent_B181, self.conditioning(afn_BUC)], dim=1)", "torch.cat([self.conditioning(afn_BUC), latent_B181], dim=1)"),
    _bug("generator", "bilinear-upsampling", "wrong interpolation", _NETWORKS, 'scale_factor=2, mode="nearest"', 'scale_factor=2, mode="bilinear"'),
    _bug("generator", "max-z-on", "max_z scaling on", _MODEL, 'if "D25" in self.fixes else', 'if "D25" not in self.fixes else'),
    _bug("generator", "root-for-jaw", "wrong index", _MODEL, "torch.cat([pose_B6[:, 3:], exp_B50], dim=1)", "torch.cat([pose_B6[:, :3], exp_B50], dim=1)"),
    _bug("generator", "instance-eps", "wrong eps", _NETWORKS, "            features = _leaky(F.instance_norm(features))\n        return torch.tanh", "            features = _leaky(F.instance_norm(features, eps=1e-4))\n        return torch.tanh"),
    _bug("flame", "first-head-only", "wrong index", "flame.py", "corners_BL3D = vertices_BVD[batch, corners]", "corners_BL3D = vertices_BVD[0 * batch, corners]"),
    _bug("texture", "first-texture-only", "wrong index", "texture.py", "for tex_K in tex_BK])", "for tex_K in tex_BK[:1].expand_as(tex_BK)])"),
    _bug("projection", "tx-ty-swapped", "swapped entries", "camera.py", "cam_B3[:, None, :1], cam_B3[:, None, 1:]", "cam_B3[:, None, :1], cam_B3[:, None, 1:].flip(-1)"),
    _bug("normals", "head-offset", "wrong index", "mesh.py", "ids_N3 = (faces_F3 + offset_B11).flatten(0, 1)", "ids_N3 = (faces_F3 + 0 * offset_B11).flatten(0, 1)"),
    _bug("raster", "packed-ids", "missing offset", "renderer.py", "face_ids_BHW=torch.where(packed_BHW >= 0, packed_BHW - offset_B11, packed_BHW)", "face_ids_BHW=packed_BHW"),
    _bug("attributes", "uv-swapped", "permuted channels", "renderer.py", "grid_BHW2=uv1[:, :2].permute(0, 2, 3, 1)", "grid_BHW2=uv1[:, :2].flip(1).permute(0, 2, 3, 1)"),
    _bug("uv_surface", "no-depth-shift", "dropped term", "detail/geometry.py", "attributes = (vertices_BV3, normals_BV3, in_front(projected_BV3), projected_normals_BV3)", "attributes = (vertices_BV3, normals_BV3, projected_BV3, projected_normals_BV3)"),
    _bug("uv_surface", "corner-offset", "wrong index", "renderer.py", "ids_BHW = torch.where(hit_BHW1[..., 0], raster.face_ids_BHW + offset_B11, 0)", "ids_BHW = torch.where(hit_BHW1[..., 0], raster.face_ids_BHW, 0)"),
    _bug("visibility", "erosion-3x3", "erosion 3x3", "losses/deca.py", "size: int = 5", "size: int = 3", manifest="losses/deca.py:eroded"),
    _bug("visibility", "facing-sign", "sign", "detail/visibility.py", "(uv_projected_normals_B3SS[:, 2:] < _FACING)", "(uv_projected_normals_B3SS[:, 2:] > _FACING)"),
    _bug("visibility", "nearest-photograph", "wrong interpolation", "detail/visibility.py", "grid_BSS2, align_corners=False)", 'grid_BSS2, mode="nearest", align_corners=False)'),
    _bug("displacement", "no-fixed-part", "dropped term", "detail/displacement.py", " + fixed_SS * uv_normals_B3SS", ""),
    _bug("displacement", "margins-swapped", "swapped entries", "detail/displacement.py", "_MARGIN_COLUMNS, _MARGIN_ROWS = 2, 5", "_MARGIN_COLUMNS, _MARGIN_ROWS = 5, 2", manifest="detail/displacement.py:detail_normals,detail/displacement.py:grid_faces"),
    _bug("displacement", "inward", "sign", "detail/displacement.py", "uv_vertices_B3SS + uv_z_B1SS * uv_normals_B3SS", "uv_vertices_B3SS - uv_z_B1SS * uv_normals_B3SS"),
    _bug("uv_shading", "harmonic-4th-digit", "constant wrong in the 4th digit", "renderer.py", "zonal = (math.pi / 4) * (1 / 2) * math.sqrt(5 / (4 * math.pi))", "zonal = (math.pi / 4) * 0.5003 * math.sqrt(5 / (4 * math.pi))", manifest="renderer.py:sh_shading"),
    _bug("uv_shading", "other-harmonics", "wrong constant", _MODEL, "sh_shading(normals, light_B93.detach(), Harmonics.DECA)", "sh_shading(normals, light_B93.detach(), Harmonics.SEQUENCE)", step=True),
    _bug("uv_texture", "clamped-light", "wrong clamp", _MODEL, "texture = surface.albedo_B3SS * shading\n", "texture = surface.albedo_B3SS * shading.clamp(0, 1)\n", step=True),
    _bug("final_image", "mask-swapped", "swapped operands", _MODEL, "return picture_B3HW * mask_B1HW + image_B3HW * (1 - mask_B1HW)", "return picture_B3HW * (1 - mask_B1HW) + image_B3HW * mask_B1HW"),
    _bug("final_image", "photograph-in-place", "aliasing", _MODEL, "image_B3HW * (1 - mask_B1HW)", "image_B3HW.mul_(1 - mask_B1HW)"),
    _bug("patches", "patch-bounds", "off by one", "detail/visibility.py", "_PATCH = (400, 1648)", "_PATCH = (400, 1640)", manifest="detail/visibility.py:face_patch"),
    _bug("patches", "masked-before", "order of operations", "detail/visibility.py", _PATCHES, _PATCHES.replace("(texture_B3SS)", "(texture_B3SS * visible_B1SS)").replace("(texture_gt_B3SS)", "(texture_gt_B3SS * visible_B1SS)")),
    _bug("au_probabilities", "query-key-mapped", "key mapping swapped", "weight_table.py", _SPECIES, '(("linear_q.", "key."), ("linear_k.", "query.")', manifest="action_units.py:_CrossAttention.forward"),
    _bug("map_gradients", "asking-asked", "transposed axis", "action_units.py", "asking, asked = faces[:, None], faces[:, :, None]", "asking, asked = faces[:, :, None], faces[:, None]"),
    _bug("au_probabilities", "sub-unit-index", "wrong index", "action_units.py", "_SUBUNIT_OF = (0, 1, 2, 4, 7, 8, 11)", "_SUBUNIT_OF = (0, 1, 2, 4, 7, 8, 12)", manifest="action_units.py:_Similarity.forward"),
    _bug("au_probabilities", "trunk-stored-statistics", "train/eval flag", _STEP, 'self.au_classifier.trunk.train("D39" not in config.fixes)', 'self.au_classifier.trunk.train("D39" in config.fixes)', manifest="encoders.py:ResNetTrunk.forward,action_units.py:ActionUnitClassifier.forward"),
    _bug("losses", "cross-entropy-swapped", "BCE input/target swapped", "losses/detail.py", "with_logits(x.au_photograph_B41, x.au_painted_B41)", "with_logits(x.au_painted_B41, x.au_photograph_B41)"),
    _bug("losses", "size-sum", "mean for sum", "losses/detail.py", "return x.uv_z_B1SS.abs().mean()", "return x.uv_z_B1SS.abs().sum()"),
    _bug("losses", "weight-4th-digit", "constant wrong in the 4th digit", "config_detail.py", "    smoothness: float = 0.005", "    smoothness: float = 0.005001", manifest="losses/detail.py:detail_losses"),
    _bug("losses", "smooth-rows-only", "dropped term", "losses/deca.py", "return (dx**2).mean() + (dy**2).mean()", "return (dx**2).mean() + (dx**2).mean()"),
    _bug("map_gradients", "flip-not-detached", "lost detach", "losses/detail.py", "x.uv_z_B1SS.flip(-1).detach()", "x.uv_z_B1SS.flip(-1)"),
    _bug("map_gradients", "au-gradient-twice", "doubled term", _STEP, "cotangent = adversarial_B3HW + output.au_cotangent_B3HW", "cotangent = adversarial_B3HW + 2 * output.au_cotangent_B3HW"),
    _bug("discriminator", "condition-first", "condition order", _NETWORKS, "torch.cat([image_B3HW, condition_B3HW], dim=1)", "torch.cat([condition_B3HW, image_B3HW], dim=1)"),
    _bug("discriminator", "no-instance-norm", "missing normalisation", _NETWORKS, "            features = _leaky(F.instance_norm(convolution(features)))\n        return last(features)", "            features = _leaky(convolution(features))\n        return last(features)"),
    _bug("discriminator", "condition-axis", "transposed axis", _NETWORKS, "plane_B39C = afn_BUC.reshape(-1, 3, NODES // 3, CHANNELS)", "plane_B39C = afn_BUC.reshape(-1, NODES // 3, 3, CHANNELS).transpose(1, 2)"),
    _bug("d_losses", "targets-swapped", "target .9/.1 swapped", _STEP, "_REAL, _FAKE, _CONVINCING = 0.9, 0.1, 1.0", "_REAL, _FAKE, _CONVINCING = 0.1, 0.9, 1.0", manifest="detail/step.py:DetailStep.discriminator_losses"),
    _bug("d_losses", "half-sum", "dropped factor", _STEP, '"D_loss": real + fake}', '"D_loss": (real + fake) / 2}'),
    _bug("d_gradients", "real-detached", "lost gradient", _STEP, "losses=self.discriminator_losses(real, fake))", "losses=self.discriminator_losses(real.detach(), fake))"),
    _bug("d_adam", "adam-betas-d", "Adam betas", _STEP, _ADAM_D, _ADAM_D.replace(", betas=betas", "")),
    _bug("d_adam", "adam-lr-d", "constant wrong in the 4th digit", "config_detail.py", "lr_discriminator: float = 1e-4", "lr_discriminator: float = 1.0003e-4", manifest="detail/step.py:make_optimizers"),
    _bug("d_adam", "last-layer-left-out", "missing group", _STEP, "torch.optim.Adam(model.discriminator.parameters()", "torch.optim.Adam(list(model.discriminator.parameters())[:-2]"),
    _bug("adversarial", "d-after-g", "D after G", _STEP, _TURN, _RETURN, step=True),
    _bug("adversarial", "no-condition", "wrong tensor", _STEP, "judged = self.model.discriminator(picture, self.condition(output))", "judged = self.model.discriminator(picture, 0 * self.condition(output))", step=True),
    _bug("g_losses", "smoothed-aim", "wrong constant", _STEP, "_REAL, _FAKE, _CONVINCING = 0.9, 0.1, 1.0", "_REAL, _FAKE, _CONVINCING = 0.9, 0.1, 0.9", manifest="detail/step.py:DetailStep.adversarial_loss"),
    _bug("g_losses", "difference", "sign", _STEP, '"G_loss": adversarial + total}', '"G_loss": adversarial - total}'),
    _bug("map_cotangent", "adversarial-summed", "sum for mean", _STEP, "cotangent = adversarial_B3HW + output.au_cotangent_B3HW", "cotangent = len(adversarial_B3HW) * adversarial_B3HW + output.au_cotangent_B3HW"),
    _bug("map_gradients", "classified-subtracted", "sign", _STEP, "cotangent = adversarial_B3HW + output.au_cotangent_B3HW", "cotangent = adversarial_B3HW - output.au_cotangent_B3HW"),
    # It acts in map_cotangent, by 4.6 floors of that stage's own large noise: first seen in the update it leads to.
    _bug("g_adam", "adversarial-twice", "doubled term", _STEP, "cotangent = adversarial_B3HW + output.au_cotangent_B3HW", "cotangent = 2 * adversarial_B3HW + output.au_cotangent_B3HW"),
    _bug("g_gradients", "code-detached", "lost gradient", _MODEL, "torch.cat([expression, detail_B128], dim=1), afn_BUC)", "torch.cat([expression, detail_B128.detach()], dim=1), afn_BUC)"),
    _bug("g_adam", "adam-betas-g", "Adam betas", _STEP, _ADAM_G, _ADAM_G.replace(", betas=betas", "")),
    _bug("g_adam", "adam-lr-shared", "wrong constant", _STEP, _ADAM_G, _ADAM_G.replace("lr_generator", "lr_discriminator")),
    _bug("g_adam", "generator-left-out", "missing group", _STEP, _PAINTERS, "painters = [*model.detail_encoder.parameters()]"),
    _bug("buffers", "batchnorm-momentum", "BatchNorm momentum", "encoders.py", _TRUNK, "for name, layer in resnet50(weights=None, norm_layer=partial(nn.BatchNorm2d, momentum=0.01)).named_children():", step=True, more=(Edit("encoders.py", "from torch import Tensor, nn\n", "from functools import partial\n\nfrom torch import Tensor, nn\n"),), manifest="encoders.py:ResNetTrunk.forward"),
    _bug("buffers", "classified-twice", "doubled update", _STEP, "            photograph = self.au_classifier(batch.image_B3HW)[1]", "            self.au_classifier(batch.image_B3HW)\n            photograph = self.au_classifier(batch.image_B3HW)[1]", step=True, manifest="detail/step.py:DetailStep.losses"),
)  # fmt: skip
