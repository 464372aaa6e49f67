"""What the audit uses of the lab's code, by name: the table that a checkout is held against before anything runs.

It follows the adapters (`parity/legacy_*.py`); tests/parity/test_legacy_names.py compares the two. A call is written
with the arguments that the adapters pass: names for those given by position, `name=` for those given by keyword.
"""

from __future__ import annotations

from dataclasses import dataclass

from parity.checkout import COARSE, DETAIL, Fork

RENDERER = "the file that DECA takes SRenderY from"  # renderer3.py or renderer.py
_DECALIB = "decalib/"
_OPEN_GRAPH_AU = f"{_DECALIB}models/OpenGraphAU/model/"


@dataclass(frozen=True, kw_only=True)
class Place:
    """Names that the audit uses of one file.

    calls: functions, classes and methods with the arguments they are given. attributes: `Class.name`, set on instances.
    bound: names of the module. variables: `Class.method name ...`, locals read when the method returns. keys: of the
    dictionaries that the file's code fills or reads. settings: dotted keys of the configuration.
    found_by_object: the audit gets at the class through an attribute of DECA or Trainer, so the file need not be there;
    where it is, the calls must fit.
    """

    file: str
    calls: tuple[str, ...] = ()
    attributes: tuple[str, ...] = ()
    bound: tuple[str, ...] = ()
    variables: tuple[str, ...] = ()
    keys: tuple[str, ...] = ()
    settings: tuple[str, ...] = ()
    found_by_object: bool = False


def _words(*texts: str) -> tuple[str, ...]:
    return tuple(" ".join(texts).split())


def _of(owner: str, names: str) -> tuple[str, ...]:
    return tuple(f"{owner}.{name}" for name in names.split())


_WRITTEN = "output_dir train.write_summary train.resume"
_FLAME = Place(
    file=f"{_DECALIB}models/FLAME.py",
    calls=("FLAME.forward(shape_params=, expression_params=, pose_params=)", "FLAMETex.forward(texcode)"),
    found_by_object=True,
)

_COARSE = (
    Place(
        file=f"{_DECALIB}{COARSE.deca}.py",
        calls=(
            "DECA(config, device)",
            "DECA.encode(images_224)",
            "DECA.decode(codedict, codedict_old, rendering=, vis_lmk=, return_vis=)",
        ),
        attributes=_of("DECA", "E_flame BiViT AUNet flame flametex render image_size n_param_OnlyE"),
        bound=_words("SRenderY"),
        keys=_words(
            "images shape exp pose tex cam verts verts_old trans_verts landmarks2d landmarks3d mp_landmark",
            "landmarks3d_world rendered_images grid alpha_images v_colors albedo",
        ),
    ),
    Place(
        file=f"{_DECALIB}{COARSE.trainer}.py",
        calls=(
            "Trainer(model, config, device)",
            "Trainer.configure_optimizers()",
            "Trainer.training_step(batch, batch_nb)",
        ),
        attributes=_of("Trainer", "mymodel expression_net AU_net opt"),
        keys=_words("image_224 landmark landmark_dense mask all_loss"),
    ),
    Place(
        file=f"{_DECALIB}utils/config.py",
        calls=("get_cfg_defaults()",),
        settings=_words(_WRITTEN),
    ),
    Place(file=f"{_DECALIB}utils/util.py", calls=("vertex_normals(vertices, faces)",)),
    Place(
        file=RENDERER,
        calls=(
            "SRenderY.forward(vertices, transformed_vertices, albedos, lights, h=, w=)",
            "SRenderY.add_SHlight(normal_images, sh_coeff)",
        ),
        attributes=_of("SRenderY", "rasterizer faces face_uvcoords"),
        bound=_words("rasterize_meshes"),
        keys=_words(
            "normals transformed_normals shading_images albedo_images images grid alpha_images pos_mask v_colors"
        ),
    ),
    _FLAME,
    Place(
        file=f"{_DECALIB}models/vitVideo_Sequence_Cross.py",
        calls=("ViTEncoderSeque.forward(inputs, global_feature)",),
        found_by_object=True,
    ),
    Place(file=f"{_DECALIB}models/encoders.py", calls=("ResnetEncoder.forward(inputs)",), found_by_object=True),
    Place(file=f"{_OPEN_GRAPH_AU}ANFL.py", calls=("AFG.forward(x, use_gnn=)",), found_by_object=True),
    Place(
        file=f"{_DECALIB}models/expression_loss.py",
        calls=("ExpressionLossNet.forward(inputs)",),
        found_by_object=True,
    ),
)

_PATHS = (
    "topology dense_template fixed_displacement flame_model flame_lmk_embedding face_mask face_eye_mask mean_tex tex"
)
_DETAIL = (
    Place(
        file=f"{_DECALIB}{DETAIL.deca}.py",
        calls=(
            "DECA(config, device)",
            "DECA.encode(images, batch)",
            "DECA.decode(codedict, rendering=, vis_lmk=, return_vis=, use_detail=)",
        ),
        attributes=_of(
            "DECA",
            "E_flame E_detail D_detail D AUNet emoca flame flametex render uv_face_eye_mask displacement2normal",
        ),
        bound=_words("SRenderY load_model"),
        keys=_words("images shapecode expcode posecode texcode trans_verts landmarks2d landmarks3d afn"),
    ),
    Place(
        file=f"{_DECALIB}{DETAIL.trainer}.py",
        calls=(
            "Trainer(model, config, device)",
            "Trainer.configure_optimizers()",
            "Trainer.training_step(batch, batch_nb)",
            "Trainer.discriminator_step(cond_img, images_gt, final_image, losses, codedict)",
        ),
        attributes=_of("Trainer", "deca ACG optimizer_G optimizer_D cfg device image_size uv_size transform mrf_loss"),
        variables=(
            "Trainer.training_step ops albedo landmarks2d normals detailcode uv_z uv_texture_gt uv_vis_mask",
            "Trainer.training_step uv_detail_normals uv_shading uv_texture final_image au_input au_target losses",
            "Trainer.training_step nonvis_mask uv_texture_patch uv_texture_gt_patch uv_vis_mask_patch",
            "Trainer.discriminator_step output_real output_fake d_loss_real d_loss_fake D_loss",
            "Trainer.discriminator_step output adv_loss content_loss G_loss",
        ),
        keys=_words(
            "image_224 landmark mask shape exp pose tex cam light afn images verts",
            "photo_detail z_reg z_diff z_sym au_feature_loss all_loss",
        ),
    ),
    Place(
        file=f"{_DECALIB}utils/config.py",
        calls=("get_cfg_defaults()",),
        settings=(
            *_words(_WRITTEN, "pretrained_modelpath loss.photo_D loss.reg_z loss.reg_diff loss.reg_sym"),
            *(f"model.{name}_path" for name in _PATHS.split()),
        ),
    ),
    Place(
        file=f"{_DECALIB}utils/util.py",
        calls=("vertex_normals(vertices, faces)",),
        bound=_words("binary_erosion"),
    ),
    Place(
        file=RENDERER,
        calls=(
            "SRenderY.forward(vertices, transformed_vertices, albedos)",
            "SRenderY.add_SHlight(normal_images, sh_coeff)",
            "SRenderY.world2uv(vertices)",
        ),
        attributes=_of("SRenderY", "rasterizer faces face_uvcoords render_shape"),
        bound=_words("rasterize_meshes"),
        keys=("grid", "images", "alpha_images", "normals"),
    ),
    _FLAME,
    Place(
        file=f"{_DECALIB}models/encoders_enc.py",
        calls=("Encoder.forward(x)", "ResnetEncoder.forward(inputs)"),
        found_by_object=True,
    ),
    Place(
        file=f"{_DECALIB}models/decoders_AU_dec_aucGAN.py",
        calls=("Generator3.forward(noise, cond)", "ConditionalDiscriminator.forward(img, condition)"),
        found_by_object=True,
    ),
    Place(
        file=f"{_OPEN_GRAPH_AU}ANFL.py",
        calls=("AFG.forward(x, use_gnn=)",),
        attributes=("AFG.backbone",),
        found_by_object=True,
    ),
    Place(
        file=f"{_OPEN_GRAPH_AU}MEFL.py",
        calls=("MEFARG.forward(x)",),
        attributes=("MEFARG.backbone",),
        found_by_object=True,
    ),
    Place(
        file=f"{_DECALIB}utils/lossfunc_AU_enc_dec_origT_adv.py",
        attributes=("IDMRFLoss.featlayer", "VGG19FeatLayer.vgg19"),
        found_by_object=True,
    ),
)

NEEDED: dict[Fork, tuple[Place, ...]] = {COARSE: _COARSE, DETAIL: _DETAIL}
# Packages whose import the adapters answer themselves.
ANSWERED: dict[Fork, frozenset[str]] = {COARSE: frozenset(), DETAIL: frozenset({"gdl_apps"})}
