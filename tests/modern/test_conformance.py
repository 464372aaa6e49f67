"""Recorded tensors of the original code, stage by stage: each stage gets the recorded inputs, so that rounding of
earlier stages on another processor cannot add up. Bounds are those of coverage.json. `python -m parity conform` runs
the whole chain.
"""

import pytest
import torch

from fixtures import seeded
from modern.action_units import ActionUnitClassifier
from modern.camera import orthographic, project
from modern.checkpoint import load_legacy_state, load_legacy_weights
from modern.clip import Clip
from modern.codes import FlameCodes, split_encoder, with_predicted
from modern.config import CoarseConfig, ModelConfig
from modern.encoders import EmotionNet
from modern.flame import Mesh
from modern.losses import action_units, deca, landmarks
from modern.losses.identity import IdentityNet, identity_distance
from modern.model import CoarseModel
from modern.renderer import SH_CONSTANTS
from modern.rotation import axis_angle_to_matrix, euler_to_axis_angle
from modern.train.step import CoarseStep
from parity.batch import seeded_batch
from parity.coverage import judge, load_rules, rule_for
from tests.modern.conftest import CONFORMANCE

HALF = (..., slice(None, None, 2), slice(None, None, 2))
CODES = {
    "shape": "shape_B100",
    "tex": "tex_B50",
    "exp": "exp_B50",
    "pose": "pose_B6",
    "cam": "cam_B3",
    "light": "light_B93",
}


@pytest.fixture(scope="module")
def check(vectors):
    """Judge computed tensors by the rules; the message lists name and figure of those outside their bound."""
    rules = {name: load_rules(CONFORMANCE / name / "coverage.json") for name in ("coarse", "deca_base")}

    def judged(computed, folder="coarse", faces=None):
        bad = {}
        for name, value in computed.items():
            recorded = vectors[name]
            value = value.detach().to(recorded.dtype) if recorded.is_floating_point() else value.to(torch.float64)
            assert value.shape == recorded.shape, name
            same = None if faces is None else faces == vectors["render/pix_to_face"].long()
            figure, within = judge(rule_for(name, rules[folder]), recorded, value, same)
            bad |= {} if within else {name: figure}
        assert not bad

    return judged


@pytest.fixture(scope="module")
def batch():
    return seeded_batch()


@pytest.fixture(scope="module")
def model(head, weights):
    model = CoarseModel(head, CoarseConfig(model=ModelConfig(dropout=0.0)))
    load_legacy_weights(model, weights, "seeded")
    return model


@pytest.fixture(scope="module")
def recorded_codes(vectors):
    return FlameCodes(**{field: vectors[f"encode/codedict_our/{name}"] for name, field in CODES.items()})


@torch.no_grad()
def test_encoders(check, model, batch, weights, vectors):
    parameters, feature = model.encoder(batch.image)
    tokens, afn = model.action_units(batch.image)
    expression = EmotionNet().eval()
    load_legacy_state(expression, "expression_net", weights["expression_net"])
    check(
        {
            "E_flame/parameters": parameters,
            "E_flame/global_feature": feature,
            "AUNet/afn": afn,
            "AUNet/tokens_strided": tokens[:, ::4, ::4],
            "AUNet/cl_use_gnn_true": model.action_units.probabilities(batch.image),
            "expression_net/features": expression(batch.image),
            "BiViT/out": model.sequence(vectors["AUNet/afn"], vectors["E_flame/global_feature"]),
        }
    )


@pytest.mark.slow
@torch.no_grad()
def test_action_unit_classifier(check, batch, weights):
    network = ActionUnitClassifier().eval()
    load_legacy_state(network, "AU_net", weights["AU_net"])
    tokens, probabilities, nodes = network(batch.image)
    check(
        {
            "AU_net/tokens_strided": tokens[:, ::8, ::8],
            "AU_net/cl": probabilities,
            "AU_net/nodes_strided": nodes[..., ::8],
        }
    )


def test_codes(check, vectors):
    theirs = split_encoder(vectors["E_flame/parameters"][1:2])
    books = {"codedict": theirs, "codedict_our": with_predicted(theirs, vectors["BiViT/out"])}
    check(
        {
            f"encode/{book}/{name}": getattr(codes, field)
            for book, codes in books.items()
            for name, field in CODES.items()
        }
    )


@torch.no_grad()
def test_head(check, model, recorded_codes, vectors):
    def named(prefix, mesh, vertices):
        points = {"landmarks2d": mesh.landmarks2d, "landmarks3d": mesh.landmarks3d_B683, "mp": mesh.landmarks_dense}
        return {f"{prefix}/{name}": value for name, value in points.items()} | vertices

    mesh = model.mesh(recorded_codes)
    pose = seeded.uniform("flame4/pose", (4, 6), -0.3, 0.3)
    pose[1, 1], pose[2, 1], pose[3, 1] = 0.5, -0.5, -1.0
    four = model.flame(
        seeded.uniform("flame4/shape", (4, 100), -1, 1), seeded.uniform("flame4/exp", (4, 50), -1, 1), pose
    )
    points = {name: vectors[f"FLAME/{name}"] for name in ("landmarks2d", "landmarks3d", "mp")}
    recorded = Mesh(
        vertices_BV3=vectors["FLAME/verts"],
        landmarks2d=points["landmarks2d"],
        landmarks3d_B683=points["landmarks3d"],
        landmarks_dense=points["mp"],
    )
    albedo = model.texture(recorded_codes.tex_B50)
    check(
        named("FLAME", mesh, {"FLAME/verts": mesh.vertices_BV3})
        | named("FLAME4", four, {"FLAME4/verts_strided": four.vertices_BV3[:, ::16]})
        | {
            "FLAMETex/albedo_strided": albedo[HALF],
            "FLAMETex/albedo_corner": albedo[:, :, 100:132, 100:132],
            "project/trans_verts": project(recorded, recorded_codes.cam_B3).vertices_BV3,
        }
    )


@torch.no_grad()
def test_rendering(check, model, recorded_codes, vectors, batch):
    vertices, projected = vectors["FLAME/verts"], vectors["project/trans_verts"]
    albedo = model.texture(recorded_codes.tex_B50)
    rendering = model.renderer(vertices, projected, albedo, recorded_codes.light_B93)
    surface, raster = rendering.surface, rendering.surface.raster
    face, full = model.renderer.shape(surface, batch.image[1:2])
    check(
        {
            "render/pix_to_face": raster.face_ids_BHW[0],
            "render/bary_strided": raster.barycentric_BHW3[0, ::4, ::4],
            "render/normals": surface.normals_BV3,
            "render/transformed_normals": surface.projected_normals_BV3,
            "render/grid_strided": surface.grid_BHW2[:, ::2, ::2],
            "render/normal_images": surface.normal_images_B3HW,
            "render/alpha_images": surface.alpha_images_B1HW,
            "render/pos_mask": surface.pos_mask_B1HW,
            "render/v_colors": surface.face_region_B1HW,
            "render/shading_images_strided": rendering.shading_images_B3HW[HALF],
            "render/albedo_images_strided": rendering.albedo_images_B3HW[HALF],
            "render/images": rendering.images_B3HW,
            "render/constant_factor": torch.tensor(SH_CONSTANTS),
            "render_shape/face_strided": face[HALF],
            "render_shape/full_strided": full[HALF],
        },
        faces=raster.face_ids_BHW[0],
    )
    visible = model.landmark_visibility(surface)[0, :, 0]
    assert torch.equal(visible, vectors["decode_vis/landmarks3d_vis"][0, :, 3])


def points(name, count, vis, batch=2):
    xy = seeded.uniform(name, (batch, count, 2), -1, 1)
    return torch.cat([xy, seeded.uniform(vis, (batch, count, 1))], dim=2)


def test_loss_functions(check):
    pred68, pred105 = (seeded.uniform(f"loss/pred{count}", (2, count, 2), -1, 1) for count in (68, 105))
    gt68, gt105 = (points(f"loss/gt{count}", count, f"loss/vis{count}") for count in (68, 105))
    active = seeded.uniform("loss/au", (1, 41))
    check(
        {
            "loss/batch_kp_2d_l1_loss": landmarks.weighted_l1(pred68, gt68),
            "loss/landmark_loss": landmarks.weighted_l1(pred68, gt68),
            "loss/landmark_HRNet_loss": landmarks.weighted_l1(pred68, gt68, landmarks.CONTOUR_WEIGHTS_68),
            "loss/weighted_landmark_loss": landmarks.weighted_l1(pred105, gt105, landmarks.DENSE_WEIGHTS_105),
            "loss/eyed_loss": landmarks.dense_eye_distance(pred105, gt105),
            "loss/lipd_loss": landmarks.dense_lip_distance(pred105, gt105),
            "loss/relative_landmark_loss": landmarks.relative_landmark(pred68, gt68),
            "loss/related_au_landmark_loss": action_units.au_distance(pred68, gt68),
            "loss/weighted_au_landmark_loss_b1": action_units.au_landmark(pred105[:1], gt105[:1], active),
        }
    )


def test_functions_of_the_original_deca(check, vectors):
    pred = seeded.uniform("deca/pred68", (4, 68, 2), -1, 1)
    seen = (seeded.uniform("deca/vis68", (4, 68, 1)) >= 0.2).float()
    gt = torch.cat([seeded.uniform("deca/gt68", (4, 68, 2), -1, 1), seen], dim=2)
    cloud, cam = seeded.uniform("deca/ortho_x", (3, 10, 3), -1, 1), seeded.uniform("deca/ortho_cam", (3, 3), 0.5, 2)
    check(
        {
            "rodrigues/out": axis_angle_to_matrix(vectors["rodrigues/in"]),
            "euler/axis": euler_to_axis_angle(vectors["euler/in"]),
            "erosion/out": deca.eroded(vectors["erosion/in"]),
            "orth_proj/out": orthographic(cloud, cam),
            "shading_smooth": deca.shading_smoothness(seeded.uniform("deca/shading", (2, 3, 16, 17))),
            "landmark/plain": landmarks.weighted_l1(pred, gt),
            "landmark/two_columns": deca.unweighted_l1(pred, gt[..., :2]),
            "landmark/weighted": landmarks.weighted_l1(pred, gt, deca.WEIGHTS_68),
            "landmark/eyed": deca.eye_distance(pred, gt),
            "landmark/lipd": deca.lip_distance(pred, gt),
            "landmark/eye_dis": deca.eye_openings(pred),
            "landmark/lip_dis": deca.lip_openings(pred),
        },
        "deca_base",
    )


@pytest.fixture(scope="module")
def identity(legacy_keys):
    network = IdentityNet().eval().requires_grad_(False)
    load_legacy_state(network, "FRNet", seeded.state_dict("FRNet", legacy_keys["FRNet"]))

    def picture(name):
        low = seeded.uniform(f"{name}_low", (3, 3, 8, 8)).repeat_interleave(28, 2).repeat_interleave(28, 3)
        return 0.75 * low + 0.25 * seeded.uniform(f"{name}_high", (3, 3, 224, 224))

    def run(dtype):
        net = network.to(dtype)
        gen = picture("deca/id_gen").to(dtype).requires_grad_()
        features = net(picture("deca/id_tar").to(dtype))
        loss = identity_distance(net(gen), features)
        return features, loss.detach(), torch.autograd.grad(loss, gen)[0][..., ::16, ::16]

    return run


@pytest.mark.slow
def test_identity(check, identity, vectors):
    features, loss, gradient = identity(torch.float32)
    _, true_loss, true_gradient = identity(torch.float64)
    check({"identity/features_tar": features}, "deca_base")
    # 1 - cosine of nearly equal vectors and its gradient are ill-conditioned: the kernels that one processor chooses
    # differ by more than coverage.json allows. Both must be as near to the float64 truth as the recording is.
    recorded_loss, recorded_gradient = (vectors[f"identity/{name}"] for name in ("loss", "grad_gen_strided16"))
    assert (loss - recorded_loss).abs() <= 2 * torch.finfo(torch.float32).eps
    assert (true_loss - recorded_loss).abs() <= 2 * torch.finfo(torch.float32).eps
    assert (gradient - recorded_gradient).norm() <= (recorded_gradient - true_gradient).norm()


@pytest.mark.slow
def test_step_losses_and_their_gradients(check, model, batch, weights):
    expression = EmotionNet()
    load_legacy_state(expression, "expression_net", weights["expression_net"])
    clip = Clip(
        image_T3HW=batch.image,
        landmark_T683=batch.landmark,
        landmark_dense_T1053=batch.landmark_dense,
        mask_T3HW=batch.mask,
    )
    output = CoarseStep(model, CoarseConfig(), expression).losses(clip)
    computed = {f"step_eval/loss/{name}": value for name, value in output.losses.items()}
    for name, value in output.losses.items():
        if value.requires_grad:
            (gradient,) = torch.autograd.grad(value, output.encoding.out_B127, retain_graph=True)
            computed[f"step_eval/dloss_dours/{name}"] = gradient
    check(computed)
