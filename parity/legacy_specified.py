"""What the specification names of both forks beyond what the audit uses: a checkout without it is audited too.

`name(parameters)` is a function, class or method as specified; a trailing `...` leaves further parameters open.
"""

from __future__ import annotations

from parity.checkout import COARSE, DETAIL, Fork

_LANDMARKS = "(predicted_landmarks, landmarks_gt, weight)"
_LOSSES = (
    *(f"{name}{_LANDMARKS}" for name in ("landmark_loss", "landmark_HRNet_loss", "eyed_loss", "lipd_loss")),
    *(f"{name}{_LANDMARKS}" for name in ("relative_landmark_loss", "weighted_landmark_loss")),
    "weighted_au_landmark_loss",
    "related_au_landmark_loss",
    "batch_kp_2d_l1_loss(real_2d_kp, predicted_2d_kp, weights)",
    *("eye_dis", "lip_dis", "rel_dis", "landmark_loss_tensor", "l2_distance", "kl_loss", "shading_white_loss"),
    *("shading_smooth_loss", "albedo_constancy_loss", "albedo_ring_loss", "albedo_same_loss", "VGGFace2Loss"),
)
_CONFIG = ("cfg", "get_cfg_defaults()", "update_cfg(cfg, cfg_file)", "parse_args(cfg_name)")
_VIT = "ViT(num_classes, frames, dim, depth, heads, mlp_dim, patch_dim, pool, channels, dim_head, dropout, ...)"
_DECA = ("DECA.displacement2normal(uv_z, coarse_verts, coarse_normals)", "DECA.visofp(normals)")
_SHOWN = ("DECA.save_obj(filename, opdict)", "DECA.model_dict()")
_TRAINER = ("Trainer(model, config, device)", "Trainer.configure_optimizers()", "Trainer.load_checkpoint()")
_LOOP = ("Trainer.training_step(batch, batch_nb, training_type)", "Trainer.prepare_data()", "Trainer.fit()")

_COARSE = {
    "main_AU_video_OnlyE.py": ("main(cfg)",),
    "main_AU_video_OnlyE2.py": ("main(cfg)",),
    f"decalib/{COARSE.deca}.py": (
        "DECA(config, device)",
        "DECA._setup_renderer(model_cfg)",
        "DECA._create_model(model_cfg)",
        "DECA.decompose_code(code, num_dict)",
        "DECA.decompose_code_part(code, num_dict)",
        "DECA.encode(images_224)",
        "DECA.decode(codedict, codedict_old, rendering, iddict, vis_lmk, vis_au, return_vis, use_detail, use_gnn)",
        "DECA.visualize(visdict, size, dim)",
        *_DECA,
        *_SHOWN,
    ),
    f"decalib/{COARSE.trainer}.py": (*_TRAINER, *_LOOP),
    "decalib/models/vitVideo_Sequence_Cross.py": ("ViTEncoderSeque(num_features, frames, dim, ...)",),
    "decalib/models/ViTVideoSequence_Cross.py": ("FeedForward", "Attention", "Cross_Attention", "Transformer", _VIT),
    "decalib/models/encoders.py": ("ResnetEncoder(outsize, last_op)",),
    "decalib/models/FLAME.py": ("FLAME(config)", "FLAMETex(config)", "FLAMETex.forward(texcode)"),
    "decalib/models/expression_loss.py": ("ExpressionLossNet",),
    "decalib/models/OpenGraphAU/model/ANFL.py": ("AFG",),
    "decalib/models/OpenGraphAU/model/MEFL.py": ("MEFARG",),
    "decalib/models/GATE.py": ("GATE(nfeat, nhid, noutput, dropout, alpha, nheads, batchsize)",),
    "decalib/models/decoders.py": ("Generator(latent_dim, ...)",),
    "decalib/models/encoders_au.py": ("AUEncoder",),
    "decalib/models/encoders_au_v2.py": ("AUEncoder2",),
    "decalib/models/enc_net.py": (),
    "decalib/models/vitVideo.py": (),
    "decalib/utils/lossfuncN.py": _LOSSES,
    "decalib/utils/config.py": _CONFIG,
    "decalib/utils/util.py": ("batch_orth_proj",),
    "decalib/utils/rotation_converter.py": (),
    "decalib/datasets/build_datasets_video.py": ("build_train", "SelfDataset"),
}

_DETAIL = {
    "main_train_EM_AU_enc_dec_origT_aucGAN.py": ("main(cfg)",),
    f"decalib/{DETAIL.deca}.py": (
        "DECA(config, device)",
        "DECA.decompose_code(code, num_dict)",
        "DECA.encode(images, batch, use_detail)",
        "DECA.decode(codedict, rendering, iddict, vis_lmk, return_vis, use_detail, ...)",
        "DECA.visualize",
        *_DECA,
        *_SHOWN,
    ),
    f"decalib/{DETAIL.trainer}.py": (
        *_TRAINER,
        *_LOOP,
        "Trainer.discriminator_step(cond_img, images_gt, final_image, losses, codedict)",
        "Trainer.generator_step",
        "ConditionalDiscriminator",
    ),
    "decalib/models/decoders_AU_dec_aucGAN.py": (
        *("Generator", "Generator2", "ConditionalGenerator", "GANDecoder", "Encoder"),
        "ConditionalDiscriminator.forward(img, condition)",
        "Generator3(latent_dim, out_channels, out_scale, sample_mode)",
        "Generator3.forward(noise, cond)",
    ),
    "decalib/models/encoders_enc.py": (
        *("GANEncoder", "Encoder", "ResnetEncoder", "ResnetEncoder_feat", "DetailAUTransformer", "AUEncoder"),
        "TDC(nfeat, nhid, noutput, dropout, alpha, nheads, batchsize, detail_dim, au_dim)",
    ),
    "decalib/utils/lossfunc_AU_enc_dec_origT_adv.py": (
        *("adversarial_loss", "improved_adversarial_loss", "gradient_dif_loss", "laplacian_hq_loss"),
        *("PerceptualLoss", "AU_Feature_Loss", "AU_Feature_Loss_", "IDMRFLoss", "VGG19FeatLayer", "VGG_16"),
    ),
    "decalib/utils/config.py": _CONFIG,
}

SPECIFIED: dict[Fork, dict[str, tuple[str, ...]]] = {COARSE: _COARSE, DETAIL: _DETAIL}
