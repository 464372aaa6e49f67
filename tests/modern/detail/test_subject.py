"""Modern's detail stage as a subject: what it records is what its stages give, and it leaves itself as it was."""

import pytest
import torch

from fixtures import seeded
from modern.action_units import ActionUnitClassifier
from modern.checkpoint import legacy_state
from parity.batch import load_batch
from parity.modern_detail_subject import build_modern_detail
from parity.subject import DetailSetup, Plan, SyntheticSurface
from tests.modern.detail.small import DrawnGeometry, small_model, with_seeded_weights

pytestmark = pytest.mark.slow
CODES = ("shape", "tex", "exp", "pose", "cam", "light")


def drawn_surface():
    geometry = DrawnGeometry(images=3, size=224)
    maps = geometry.surface
    return SyntheticSurface(
        uv_vertices=maps.uv_vertices_B3SS,
        uv_normals=maps.uv_normals_B3SS,
        uv_projected=maps.uv_projected_B3SS,
        uv_projected_normals=maps.uv_projected_normals_B3SS,
        uv_face_eye_mask=geometry.uv_face_eye_mask_11SS,
        fixed_uv_dis=geometry.fixed_displacement_SS,
        albedo=maps.albedo_B3SS,
        grid=maps.grid_BHW2,
    )


@pytest.fixture(scope="module")
def subject():
    from modern.config_detail import DetailConfig

    model = small_model(DetailConfig())
    parts = {
        "E_flame": model.encoder,
        "E_detail": model.detail_encoder,
        "AUNet": model.action_units,
        "D_detail": model.generator,
        "ACG": with_seeded_weights(ActionUnitClassifier(), "ACG"),
        "D": model.discriminator,
    }
    weights = {name: legacy_state(part, name) for name, part in parts.items()}
    weights["D"] |= {"l1.weight": torch.zeros(41, 13824, 1, 1), "l1.bias": torch.zeros(41)}
    return build_modern_detail(
        DetailSetup(
            weights=weights,
            head=None,
            surface=drawn_surface(),
            expression_B50=seeded.uniform("exp", (3, 50), -0.6, 0.6),
            overrides={"loss.reg_sym": 5e-6},
        )
    )


@pytest.fixture(scope="module")
def batch():
    return load_batch("seeded")


@pytest.fixture(scope="module")
def trace(subject, batch):
    return subject.trace(batch, Plan(steps=2))


def test_structure(trace):
    facts = trace.structure
    assert facts["loss_keys"] == ["photo_detail", "z_reg", "z_diff", "z_sym", "au_feature_loss", "all_loss"]
    assert facts["mutated_inputs"] == facts["leaked_gradients"] == []
    assert facts["batchnorm_updates"] == {"AUNet": 1, "ACG": 2}
    assert facts["unowned_gradients"] == {"AUNet": 0, "ACG": 0}
    assert not facts["discriminator_gradients_after_step"]
    assert facts["module_calls"] == {"E_flame": 1, "E_detail": 1, "AUNet": 1, "D_detail": 1, "ACG": 2, "D": 3}
    assert not trace.draws


def test_a_trace_leaves_the_subject_as_it_was(subject, batch, trace):
    again = subject.trace(batch, Plan(steps=1, term_gradients=False))
    assert all(torch.equal(value, trace.tensors[name]) for name, value in again.tensors.items())


MAPS = {
    "uv_z": "generator/uv_z",
    "uv_vertices": "uv_surface/uv_vertices",
    "uv_normals": "uv_surface/uv_normals",
    "albedo": "texture/albedo",
    "light": "codes/light",
    "grid": "attributes/grid",
    "texture_gt": "visibility/texture_gt",
    "vis": "visibility/vis",
    "nonvis": "visibility/nonvis",
    "input": "au_probabilities/input",
}
INPUTS = {
    "encoder": {},
    "expression": {},
    "codes": {"parameters": "encoder/parameters", "exp": "expression/exp"},
    "action_units": {},
    "detail_code": {},
    "generator": {
        "pose": "codes/pose",
        "exp": "codes/exp",
        "detailcode": "detail_code/detailcode",
        "afn": "action_units/afn",
    },
    "visibility": {
        "uv_projected": "uv_surface/uv_projected",
        "uv_projected_normals": "uv_surface/uv_projected_normals",
    },
    "displacement": {name: MAPS[name] for name in ("uv_z", "uv_vertices", "uv_normals")},
    "uv_shading": {"uv_detail_normals": "displacement/uv_detail_normals", "light": "codes/light"},
    "uv_texture": {"albedo": "texture/albedo", "uv_shading": "uv_shading/uv_shading"},
    "final_image": {"uv_texture": "uv_texture/uv_texture", "grid": "attributes/grid"},
    "patches": {
        "uv_texture": "uv_texture/uv_texture",
        "texture_gt": "visibility/texture_gt",
        "vis": "visibility/vis",
    },
    "au_probabilities": {"final_image": "final_image/final_image"},
    "map_gradients": MAPS,
    "discriminator": {"final_image": "final_image/final_image", "afn": "action_units/afn"},
    "d_losses": {"real": "discriminator/real", "fake": "discriminator/fake"},
    "d_gradients": {"final_image": "final_image/final_image", "afn": "action_units/afn"},
    "g_gradients": {
        "pose": "codes/pose",
        "exp": "codes/exp",
        "afn": "action_units/afn",
        "cotangent": "map_cotangent/G_loss",
    },
}


@pytest.mark.parametrize("stage", INPUTS)
def test_a_replayed_stage_gives_what_was_recorded(subject, batch, trace, stage):
    given = {name: trace.tensors[key] for name, key in INPUTS[stage].items()}
    given |= {"image": batch.image, "mask": batch.face_mask_BHW}
    found, recorded = subject.replay(stage, given), trace.stage(stage)
    assert found.keys() == recorded.keys()
    assert not [name for name in found if not torch.equal(found[name], recorded[name])]


def test_the_generators_update_is_judged_by_the_updated_discriminator(subject, batch, trace):
    updated = {name: value for name, value in trace.stage("d_adam").items() if name.startswith("parameter/")}
    given = {name: trace.tensors[key] for name, key in MAPS.items()} | {"afn": trace.tensors["action_units/afn"]}
    given |= {"image": batch.image, "mask": batch.face_mask_BHW, **updated}
    assert torch.equal(subject.replay("map_cotangent", given)["G_loss"], trace.tensors["map_cotangent/G_loss"])
    given = {"final_image": trace.tensors["final_image/final_image"], "afn": given["afn"], **updated}
    assert torch.equal(subject.replay("adversarial", given)["output"], trace.tensors["adversarial/output"])


def test_unknown_stages_are_refused(subject):
    with pytest.raises(KeyError):
        subject.replay("flame", {})
