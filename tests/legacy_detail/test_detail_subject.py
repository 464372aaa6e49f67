"""The detail fork as a subject: traces repeat, replays give the traced bytes, nothing is left behind."""

from pathlib import Path

import pytest
import torch

from modern.assets import load_head
from parity.environment import isolated_numerics
from parity.legacy_detail_build import NETWORKS, network
from parity.legacy_detail_subject import build_legacy_detail
from parity.legacy_detail_taps import GENERATOR, TERMS, cached_raster, frame_locals
from parity.subject import Plan
from tests.legacy_detail.detail_setup import batch, setup

ROOT = Path(__file__).resolve().parents[2]


def marks(trainer):
    """Everything a trace or a replay could leave behind."""
    modules = [*trainer.deca.modules(), *trainer.ACG.modules()]
    parameters = [*trainer.deca.parameters(), *trainer.ACG.parameters()]
    return {
        "values": [value.clone() for name in NETWORKS for value in network(trainer, name).state_dict().values()],
        "grads": [parameter.grad is None for parameter in parameters],
        "modes": [module.training for module in modules],
        "hooks": [(len(module._forward_hooks), len(module._forward_pre_hooks)) for module in modules],
        "patched": [sorted(set(vars(module)) & {"forward", "encode", "world2uv"}) for module in modules],
        "optimizers": [trainer.optimizer_G, trainer.optimizer_D],
        "configuration": trainer.cfg.dump(),
    }


def unequal(before, after):
    differ = [name for name in before if name != "values" and before[name] != after[name]]
    same = all(torch.equal(a, b) for a, b in zip(before["values"], after["values"], strict=True))
    return differ + ([] if same else ["values"])


def maps(*names):
    return {name: torch.rand(3, 3, 256, 256) for name in names}


def test_quick_replays_leave_the_subject_as_found(subject):
    before = marks(subject._trainer)
    image, afn = torch.rand(3, 3, 224, 224), torch.rand(3, 27, 512)
    keys = [key for key, _ in subject._trainer.deca.D.named_parameters() if not key.startswith("l1")]
    adam = {"step": torch.tensor(0)}
    for part in ("parameter", "gradient", "exp_avg", "exp_avg_sq"):
        adam |= {
            f"{part}/{key}": torch.ones_like(dict(subject._trainer.deca.D.named_parameters())[key]) for key in keys
        }
    given = {
        "action_units": {"image": image},
        "discriminator": {"image": image, "final_image": image, "afn": afn},
        "d_gradients": {"image": image, "final_image": image, "afn": afn},
        "d_adam": adam,
        "adversarial": {"final_image": image, "afn": afn, "parameter/model.11.bias": torch.full((1,), 9.0)},
        "g_losses": {"output": torch.full((3, 1, 28, 28), 0.5)} | dict.fromkeys(TERMS, torch.tensor(1.0)),
        "losses": maps("texture_patch", "texture_gt_patch", "uv_shading")
        | {"vis_patch": torch.ones(3, 1, 256, 256), "nonvis": torch.ones(3, 1, 256, 256)}
        | {"uv_z": torch.rand(3, 1, 256, 256), "input": torch.rand(3, 41), "target": torch.rand(3, 41)},
    }
    found = {stage: subject.replay(stage, inputs) for stage, inputs in given.items()}
    assert not unequal(before, marks(subject._trainer))
    assert sorted(found["d_adam"]) == sorted(
        f"{part}/{key}" for part in ("parameter", "exp_avg", "exp_avg_sq") for key in keys
    )
    assert torch.equal(found["d_gradients"]["l1.weight"], torch.zeros(41, 13824, 1, 1))
    assert float(found["adversarial"]["output"].min()) > 0.9, "the given parameter was used"
    assert float(found["g_losses"]["content"]) == 5.0
    assert float(found["losses"]["z_reg"]) == pytest.approx(0.005 * float(found["losses"]["unweighted/z_reg"]))


def test_a_stage_that_is_not_there_is_a_key_error(subject):
    with pytest.raises(KeyError, match="no stage 'sequence'"):
        subject.replay("sequence", {})
    with pytest.raises(KeyError, match="needs a head"):
        subject.replay("flame", {})


def test_given_codes_replace_the_encoder_that_still_runs():
    parameters = torch.rand(3, 236)
    subject = build_legacy_detail(setup(parameters_B236=parameters))
    assert torch.equal(subject.replay("encoder", {"image": torch.rand(3, 3, 224, 224)})["parameters"], parameters)
    codes = subject.replay("codes", {"parameters": parameters * 2, "exp": torch.ones(3, 50)})
    assert torch.equal(codes["shape"], parameters[:, :100] * 2)
    assert torch.equal(codes["exp"], torch.ones(3, 50))


def test_frames_show_local_variables_even_when_left_by_an_exception():
    def leave(value):
        doubled = value * 2
        raise ValueError(doubled)

    frames = {}
    with frame_locals(frames, leave), pytest.raises(ValueError, match="4"):
        leave(2)
    assert frames["leave"] == [{"value": 2, "doubled": 4}]


def test_rasters_are_cached_by_content_and_only_while_inside(trainer, monkeypatch):
    from parity.legacy_detail_build import import_legacy_detail

    renderer, calls = import_legacy_detail("utils.renderer"), []
    original = renderer.rasterize_meshes

    def counted(*args, **kwargs):
        calls.append(1)
        return original(*args, **kwargs)

    monkeypatch.setattr(renderer, "rasterize_meshes", counted)
    raster = renderer.Pytorch3dRasterizer(8)
    mesh, faces = torch.tensor([[[-1.0, -1, 5], [1, -1, 5], [0, 1, 5]]]), torch.tensor([[[0, 1, 2]]])
    attributes = torch.rand(1, 1, 3, 2)
    with cached_raster():
        first, again = raster(mesh, faces, attributes), raster(mesh.clone(), faces, attributes)
        raster(mesh + 0.01, faces, attributes)
        assert len(calls) == 2
        raster(mesh.clone().requires_grad_(), faces, attributes).sum().backward()
        assert len(calls) == 3
    assert torch.equal(first, again)
    raster(mesh, faces, attributes)
    assert len(calls) == 4


def replay_inputs(trace, clip, trainer):
    """Inputs of each stage from the trace itself; updates start from the trainer's weights."""
    t = trace.stage
    image, mask = {"image": clip.image}, {"mask": clip.face_mask_BHW}
    code, afn = t("codes"), {"afn": t("action_units")["afn"]}
    surface = t("uv_surface")
    updated = {key: value for key, value in t("d_adam").items() if key.startswith("parameter/")}
    maps_in = t("generator") | t("texture") | t("attributes") | t("visibility") | image | mask
    maps_in |= {name: surface[name] for name in ("uv_vertices", "uv_normals")}
    maps_in |= {"light": code["light"], "input": t("au_probabilities")["input"]}
    final = t("final_image")
    terms = {name: t("losses")[name] for name in TERMS}
    discriminator = dict(trainer.deca.D.named_parameters())
    generator = {f"{name}/{key}": p for name in GENERATOR for key, p in network(trainer, name).named_parameters()}
    return {
        "encoder": image,
        "expression": image,
        "codes": t("encoder") | t("expression"),
        "action_units": image,
        "detail_code": image,
        "generator": {"pose": code["pose"], "exp": code["exp"]} | t("detail_code") | afn,
        "texture": {"tex": code["tex"]},
        "visibility": surface | image | mask,
        "displacement": maps_in,
        "uv_shading": t("displacement") | {"light": code["light"]},
        "uv_texture": t("texture") | t("uv_shading"),
        "final_image": t("uv_texture") | t("attributes") | image | mask,
        "patches": t("uv_texture") | t("visibility"),
        "au_probabilities": image | final,
        "losses": t("patches") | t("generator") | t("uv_shading") | t("visibility") | t("au_probabilities"),
        "map_gradients": maps_in,
        "discriminator": image | final | afn,
        "d_losses": t("discriminator"),
        "d_gradients": image | final | afn,
        "d_adam": adam_inputs(discriminator, {k: g for k, g in t("d_gradients").items() if not k.startswith("l1")}),
        "adversarial": final | afn | updated,
        "g_losses": t("adversarial") | terms,
        "map_cotangent": maps_in | afn | updated,
        "g_gradients": image
        | afn
        | {"pose": code["pose"], "exp": code["exp"], "cotangent": t("map_cotangent")["G_loss"]},
        "g_adam": adam_inputs(generator, t("g_gradients")),
    }


def adam_inputs(parameters, gradients):
    found = {"step": torch.tensor(0)}
    for key, gradient in gradients.items():
        found |= {f"parameter/{key}": parameters[key].detach().clone(), f"gradient/{key}": gradient}
        found |= {f"{moment}/{key}": torch.zeros_like(gradient) for moment in ("exp_avg", "exp_avg_sq")}
    return found


@pytest.mark.slow
def test_a_step_repeats_replays_to_the_same_bytes_and_leaves_no_mark(subject):
    clip, before = batch(), marks(subject._trainer)
    with isolated_numerics(threads=1):
        first = subject.trace(clip, Plan(steps=1))
        assert not unequal(before, marks(subject._trainer))
        second = subject.trace(clip, Plan(steps=1, term_gradients=False))
        differing = [
            f"{stage}/{name}"
            for stage, inputs in replay_inputs(first, clip, subject._trainer).items()
            for name, value in {**first.stage(stage), **subject.replay(stage, inputs)}.items()
            if not torch.equal(value, first.stage(stage)[name])
        ]
    assert not differing
    assert all(torch.equal(value, first.tensors[key]) for key, value in second.tensors.items())
    assert not unequal(before, marks(subject._trainer))
    facts = first.structure
    assert facts["module_calls"] == {"E_flame": 1, "E_detail": 2, "D_detail": 1, "D": 3, "AUNet": 2, "ACG": 2}
    assert facts["batchnorm_updates"] == {"AUNet": 2, "ACG": 2}
    assert facts["unowned_gradients"] == {"AUNet": 271, "ACG": 307}
    assert facts["leaked_gradients"] == ["D_detail", "E_detail"]
    assert facts["discriminator_gradients_after_step"]
    assert facts["mutated_inputs"] == []
    assert [facts["optimizers"][name]["tensors"] for name in ("G", "D")] == [36, 12]


@pytest.mark.slow
def test_mesh_stages_follow_from_one_another():
    head = load_head(ROOT / "fixtures" / "assets" / "head.npz")
    subject = build_legacy_detail(setup(head=head, surface=None))
    codes = {"shape": torch.zeros(3, 100), "exp": torch.zeros(3, 50), "pose": torch.zeros(3, 6)}
    codes["pose"][:, 1] = torch.tensor([0.0, 0.2, -0.2])
    cam = torch.tensor([[8.0, 0.0, 0.03]]).expand(3, -1).contiguous()
    mesh = subject.replay("flame", codes)
    seen = subject.replay("projection", mesh | {"cam": cam})
    assert seen["landmarks2d"].shape == (3, 68, 2)
    assert torch.equal(seen["vertices"][..., 0], 8 * mesh["vertices"][..., 0])
    assert torch.equal(seen["vertices"][..., 2], -8 * mesh["vertices"][..., 2])
    normals = subject.replay("normals", {"vertices": mesh["vertices"], "projected": seen["vertices"]})
    raster = subject.replay("raster", {"projected": seen["vertices"]})
    assert raster["face_ids"].shape == (3, 224, 224)
    assert int(raster["face_ids"].min()) == -1
    assert int(raster["face_ids"].max()) < len(head.faces)
    pixels = subject.replay("attributes", {"vertices": mesh["vertices"], "projected": seen["vertices"], **raster})
    hit = raster["face_ids"] >= 0
    assert torch.equal(pixels["alpha_images"][:, 0] == 1, hit)
    assert not pixels["grid"][~hit].any()
    texels = subject.replay(
        "uv_surface",
        {"vertices": mesh["vertices"], "projected": seen["vertices"], **normals},
    )
    island = texels["uv_projected"][0, 2] != 0
    assert float(texels["uv_projected"][0, 2][island].min()) > 5, "the mesh was moved away from the viewer"
    assert not texels["uv_normals"][0][:, ~island].any()
