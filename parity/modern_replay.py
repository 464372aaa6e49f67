"""Modern's stages one at a time, on given inputs; names of stages, inputs and outputs are those of the contract."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from modern.camera import project
from modern.clip import Clip
from modern.codes import with_predicted
from modern.flame import Mesh
from modern.losses.identity import identity_distance
from modern.model import Encoding, evaluating, over_photograph
from modern.renderer import Raster, sh_shading
from modern.train.step import StepOutput, make_optimizer
from modern.weight_table import TABLES
from parity.modern_functions import DECA_FUNCTIONS, LOSS_FUNCTIONS
from parity.modern_networks import Networks
from parity.modern_raster import recorded_raster
from parity.modern_taps import (
    Tensors,
    adam_tensors,
    attribute_tensors,
    centre,
    code_tensors,
    mesh_tensors,
    normal_tensors,
    parameter_gradients,
    raster_tensors,
    rendering_tensors,
    term_gradients,
)

Inputs = Mapping[str, Tensor]
_BIVIT = TABLES["BiViT"]


class Replay:
    """Runs single stages of modern.

    `losses` and `code_gradients` do not search for the visible faces again: the recorded face ids and barycentric
    coordinates are used, and gradients flow to the mesh through pytorch3d's own backward pass for those faces.
    """

    def __init__(self, networks: Networks) -> None:
        self._networks, self._model = networks, networks.model

    def __call__(self, stage: str, inputs: Inputs) -> Tensors:
        """Outputs of `stage`; raises KeyError for an unknown one."""
        family, _, name = stage.partition(":")
        if family == "loss_function":
            return {"value": LOSS_FUNCTIONS[name](inputs)}
        if family == "deca":
            return self._identity(inputs) if name == "identity" else DECA_FUNCTIONS[name](inputs)
        return self._stages[stage](inputs)

    @property
    def _stages(self) -> dict[str, Callable[[Inputs], Tensors]]:
        free = {name: torch.no_grad()(function) for name, function in self._without_gradients.items()}
        return free | {
            "code_gradients": lambda x: term_gradients(self._output(x)),
            "gradients": self._gradients,
            "adam": self._adam,
        }

    @property
    def _without_gradients(self) -> dict[str, Callable[[Inputs], Tensors]]:
        model, renderer = self._model, self._model.renderer
        return {
            "encoder": lambda x: dict(zip(("parameters", "global_feature"), model.encoder(x["image"]), strict=True)),
            "action_units": lambda x: dict(zip(("tokens", "afn"), model.action_units(x["image"]), strict=True)),
            "sequence": lambda x: {"out": self._sequence(x)},
            "prediction": lambda x: {"out": self._prediction(x)},
            "deca_codes": lambda x: code_tensors(model.centre_codes(x["parameters"][None])[0]),
            "codes": lambda x: code_tensors(with_predicted(model.centre_codes(x["parameters"][None])[0], x["out"])),
            "flame": lambda x: mesh_tensors(model.flame(x["shape"], x["exp"], x["pose"])),
            "flame_deca": lambda x: {"vertices": model.flame(x["shape"], x["exp"], x["pose"]).vertices_BV3},
            "texture": lambda x: {"albedo": model.texture(x["tex"])},
            "projection": lambda x: mesh_tensors(project(_mesh(x), x["cam"])),
            "normals": lambda x: normal_tensors(renderer.surface(x["vertices"], x["projected"], _empty_raster(x))),
            "raster": lambda x: raster_tensors(renderer.rasterize(x["projected"])),
            "attributes": lambda x: attribute_tensors(renderer.surface(x["vertices"], x["projected"], _raster(x))),
            "shading": lambda x: {"shading_images": sh_shading(x["normal_images"], x["light"])},
            "rendering": lambda x: rendering_tensors(
                renderer(x["vertices"], x["projected"], x["albedo"], x["light"], _raster(x))
            ),
            "features": self._features,
            "losses": lambda x: dict(self._output(x).losses),
            "au_graph": lambda x: {"cl": model.action_units.probabilities(x["image"])},
            "au_classifier": self._au_classifier,
            "expression": lambda x: {"features": self._networks.expression(x["image"])},
            "shape_render": self._shape_render,
            "visualisation": self._visualisation,
        }

    def _sequence(self, x: Inputs) -> Tensor:
        self._model.train()
        return self._model.sequence(x["afn"], x["global_feature"])

    def _prediction(self, x: Inputs) -> Tensor:
        with evaluating(self._model):
            return self._model.sequence(x["afn"], x["global_feature"])

    def _features(self, x: Inputs) -> Tensors:
        found: Tensors = {}
        for name in ("image", "rendered"):
            found[f"afn_{name}"] = self._model.action_units(x[name])[1]
            found[f"emotion_{name}"] = self._networks.expression(x[name])
        return found

    def _au_classifier(self, x: Inputs) -> Tensors:
        return dict(zip(("tokens", "cl", "nodes"), self._networks.au_classifier(x["image"]), strict=True))

    def _shape_render(self, x: Inputs) -> Tensors:
        renderer = self._model.renderer
        surface = renderer.surface(x["vertices"], x["projected"], renderer.rasterize(x["projected"]))
        return dict(zip(("face", "full"), renderer.shape(surface, x["image"]), strict=True))

    def _visualisation(self, x: Inputs) -> Tensors:
        decoding = self._model.predict(x["image"]).decoding
        visible = self._model.landmark_visibility(decoding.rendering.surface)
        return {
            "landmarks3d_vis": torch.cat([decoding.projected.landmarks3d_B683, visible], dim=-1),
            "render_images": over_photograph(decoding, centre(x["image"])),
        }

    def _output(self, x: Inputs) -> StepOutput:
        """A step from BiViT's output on, with the recorded raster."""
        out = x["out"].detach().clone().requires_grad_()
        with torch.no_grad():
            tokens, afn = self._model.action_units(x["image"])
        deca, euler_jaw = self._model.centre_codes(x["parameters"][None])
        encoding = Encoding(
            parameters_BT236=x["parameters"][None],
            global_feature_BT2048=x["parameters"].new_zeros(1, 3, 2048),  # read by no term
            tokens_BTPC=tokens[None],
            afn_BTUC=afn[None],
            out_B127=out,
            image_B3HW=centre(x["image"]),
            deca=deca,
            codes=with_predicted(deca, out),
            euler_jaw_B3=euler_jaw,
        )
        with recorded_raster(self._model, _raster(x)):
            return self._networks.step.terms(encoding, [clip_of(x)])

    def _gradients(self, x: Inputs) -> Tensors:
        self._model.zero_grad()
        self._sequence(x).backward(x["cotangent"])
        found = parameter_gradients(self._model)
        self._model.zero_grad()
        return found

    def _adam(self, x: Inputs) -> Tensors:
        """One update by the trainer's own optimizer; the model's weights are put back afterwards."""
        sequence = self._model.sequence
        before = {name: parameter.detach().clone() for name, parameter in sequence.named_parameters()}
        optimizer = make_optimizer(self._model, self._networks.step.config)
        with torch.no_grad():
            for name, parameter in sequence.named_parameters():
                key = _BIVIT.legacy(name)
                parameter.copy_(x[f"parameter/{key}"])
                parameter.grad = x[f"gradient/{key}"].clone()
                optimizer.state[parameter] = {
                    "step": torch.tensor(float(x["step"])),
                    "exp_avg": x[f"exp_avg/{key}"].clone(),
                    "exp_avg_sq": x[f"exp_avg_sq/{key}"].clone(),
                }
        optimizer.step()
        found = {name: tensor.detach().clone() for name, tensor in adam_tensors(self._model, optimizer).items()}
        sequence.load_state_dict(before)
        self._model.zero_grad()
        return found

    def _identity(self, x: Inputs) -> Tensors:
        network = self._networks.identity
        gen = x["gen"].clone().requires_grad_()
        with torch.no_grad():
            reference = network(x["tar"])
        loss = identity_distance(network(gen), reference)
        return {"loss": loss, "features_tar": reference, "grad_gen": torch.autograd.grad(loss, gen)[0]}


def clip_of(x: Inputs) -> Clip:
    """The clip among the inputs of a stage, or a batch by its field names."""
    return Clip(
        image_T3HW=x["image"],
        landmark_T683=x["landmark"],
        landmark_dense_T1053=x["landmark_dense"],
        mask_T3HW=x["mask"],
    )


def _mesh(x: Inputs) -> Mesh:
    return Mesh(
        vertices_BV3=x["vertices"],
        landmarks2d=x["landmarks2d"],
        landmarks3d_B683=x["landmarks3d"],
        landmarks_dense=x["landmarks_dense"],
    )


def _raster(x: Inputs) -> Raster:
    return Raster(face_ids_BHW=x["face_ids"][None], barycentric_BHW3=x["barycentric"][None])


def _empty_raster(x: Inputs) -> Raster:
    """One background pixel, for what needs vertex normals only."""
    return Raster(
        face_ids_BHW=torch.full((1, 1, 1), -1, device=x["vertices"].device),
        barycentric_BHW3=x["vertices"].new_full((1, 1, 1, 3), -1),
    )
