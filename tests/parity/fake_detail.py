"""A detail subject that answers with numbers drawn from the question, its setup and inputs; a recording made of it."""

import json
from dataclasses import dataclass, field
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from fixtures import seeded
from parity.conform import RECIPES
from parity.conform_detail import DetailRecipe
from parity.conform_detail_table import MAPS, RUNS, TERMS
from parity.conform_material import load_folder
from parity.trace import Trace

BUNDLED = Path(__file__).parents[2] / "fixtures" / "conformance" / "detail"
PAINTERS = ("E_detail", "D_detail")
S, H = 256, 224
PLANES = {"grid": (3, H, H, 2), "nonvis_mask": 1, "uv_vis_mask": 1, "uv_vis_mask_patch": 1, "uv_z": 1}
TENSORS = {
    "action_units/afn": (3, 27, 512),
    "adversarial/output": (3, 1, 28, 28),
    "au_probabilities/input": (3, 41),
    "au_probabilities/target": (3, 41),
    "detail_code/detailcode": (3, 128, 1, 1),
    "discriminator/fake": (3, 1, 28, 28),
    "discriminator/real": (3, 1, 28, 28),
    "flame/vertices": (3, 5023, 3),
}
for name, key in MAPS.items():
    shape = PLANES.get(name, 3)
    size = H if name == "final_image" else S
    TENSORS[key] = shape if isinstance(shape, tuple) else (3, shape, size, size)
SCALARS = [*(f"losses/{term}" for term in (*TERMS, "all_loss")), *(f"losses/unweighted/{term}" for term in TERMS)]
SCALARS += [
    "d_losses/D_loss",
    "d_losses/real",
    "d_losses/fake",
    "g_losses/G_loss",
    "g_losses/adv_G",
    "g_losses/content",
]
AU = {"tokens": (3, 49, 512), "afn": (3, 27, 512), "cl": (3, 41)}
AFTER = ("backbone.bn1.running_mean", "backbone.bn1.running_var", "global_linear.bn.running_mean")
AFTER += ("global_linear.bn.running_var", "head.gnn.bnv.running_mean", "head.gnn.bnv.running_var")
AFTER += ("backbone.layer4.2.bn3.running_mean", "backbone.layer4.2.bn3.running_var")
REPLAYS = {
    "E_detail": {"out": (None, 128, 1, 1)},
    "D_detail": {"uv_z": (3, 1, S, S), "lin_cond": (3, 41, 1, 1)},
    "AUNet:eval": AU,
    "AUNet:train": AU | {f"after/{key}": (64,) for key in AFTER},
    "ACG:as_used": {"tokens": (3, 49, 512), "cl": (3, 41), "nodes": (3, 27, 512)},
    "ACG:eval": {"cl": (3, 41)},
    "IDMRF": {"loss": (), "style": (), "content": (), "grad": (2, 3, S, S), "relu3_2": (2, 9), "relu4_2": (2, 9)},
    "bce_logits_au": {"out": ()},
    "mrf_on_patches": {"mrf_unweighted": ()},
    "final_image": {"final_image": (3, 3, H, H)},
}
LEGACY_REPLAYS = {
    "E_detail_activations": {"l2": (14,)},
    "TDC": {"body_out": (2, 128)},
    "AUEncoder": {"out": (3, 41)},
    "AUEncoder_encoders_enc": {"out": (3, 50)},
    "AU_Feature_Loss": {"out": (3,)},
    "AU_Feature_Loss_": {"out": ()},
}


def start(tensor):
    """A number that depends on the tensor, and not on how many threads add it up."""
    return tensor.flatten()[:5].sum()


@dataclass
class FakeDetail:
    """`spoil` adds to a tensor by name, `lost` withholds it."""

    setup: object
    name: str = "legacy"
    spoil: dict = field(default_factory=dict)
    lost: frozenset = frozenset()

    def draw(self, name, shape, used=0.0):
        setting = str(sorted(self.setup.overrides.items()))
        weights = (
            self.setup.weights["D_detail"]["model.32.weight"].flatten()[0]
            + self.setup.weights["ACG"]["backbone.conv1.weight"].flatten()[0]
        )
        values = seeded.uniform(name, shape, 0.5, 1.5, prefix=setting) * (2 + weights)
        return values + start(self.setup.parameters_B236) + start(self.setup.expression_B50) + used

    def trace(self, batch, plan):
        trace = Trace(subject=self.name, structure=self.structure())
        used = start(batch.image)
        for step in range(plan.steps):
            suffix = f"@{step}" if step else ""
            values = {key: self.draw(key, shape, used) for key, shape in TENSORS.items()} if step == 0 else {}
            values |= {key: self.draw(key + suffix, (), used) for key in SCALARS}
            values |= self.parameters(suffix)
            values |= {f"buffers/ACG/{key}": self.draw(f"ACG {key}{suffix}", (64,)) for key in AFTER}
            trace.tensors |= {key + suffix: value for key, value in values.items()}
            trace.extras |= {key + suffix: value for key, value in self.extras(suffix).items()}
        for key in ("shape", "tex", "exp", "pose", "cam", "light"):
            trace.tensors[f"codes/{key}"] = self.code(key)
        for term in TERMS:
            trace.tensors[f"map_gradients/{term}"] = self.draw(f"map {term}", (3, 1, S, S))
        for key, amount in self.spoil.items():
            for held in (trace.tensors, trace.extras):
                if key in held:
                    held[key] = held[key] + amount
        trace.tensors = {key: value for key, value in trace.tensors.items() if key not in self.lost}
        return trace

    def code(self, key):
        sizes = {"shape": 100, "tex": 50, "exp": 50, "pose": 6, "cam": 3, "light": 27}
        parts = dict(zip(sizes, self.setup.parameters_B236.split(list(sizes.values()), dim=1), strict=True))
        parts["exp"] = self.setup.expression_B50
        return parts[key].reshape(3, 9, 3) if key == "light" else parts[key]

    def parameters(self, suffix):
        found = {}
        for module in (*PAINTERS, "D"):
            path = "d" if module == "D" else "g"
            for key, value in self.setup.weights[module].items():
                name = key if module == "D" else f"{module}/{key}"
                dead = key.startswith("l1.")
                found[f"{path}_gradients/{name}"] = (
                    value * 0 if dead else self.draw(f"{module}/{key}{suffix}", value.shape)
                )
                if not dead:
                    for what in ("exp_avg", "exp_avg_sq"):
                        found[f"{path}_adam/{what}/{name}"] = self.draw(f"{what} {name}{suffix}", value.shape)
                    found[f"{path}_adam/parameter/{name}"] = value + 1e-6
        return found

    def extras(self, suffix):
        found = {f"AUNet/{key}": self.draw(f"AUNet {self.name} {key}{suffix}", (64,)) for key in AFTER}
        for key, value in self.setup.weights["D"].items():
            found[f"after_G_backward/D/{key}"] = self.draw(f"both {key}{suffix}", value.shape)
        if self.name == "legacy":
            for module in PAINTERS:
                for key, value in self.setup.weights[module].items():
                    found[f"after_D_backward/{module}/{key}"] = self.draw(f"leak {module}/{key}{suffix}", value.shape)
        return found

    def structure(self):
        legacy = self.name == "legacy"
        twice = 2 if legacy else 1
        return {
            "module_calls": {"E_flame": 1, "E_detail": twice, "AUNet": twice, "D_detail": 1, "ACG": 2, "D": 3},
            "batchnorm_updates": {"AUNet": twice, "ACG": 2},
            "unowned_gradients": {"AUNet": 271 * legacy, "ACG": 307 * legacy},
            "optimizers": {
                "G": {"lr": 5e-6, "betas": [0.5, 0.999], "tensors": 36},
                "D": {"lr": 1e-4, "betas": [0.5, 0.999], "tensors": 12 if legacy else 10},
            },
        }

    def replay(self, stage, inputs):
        used = sum(start(tensor) for tensor in inputs.values())
        if stage == "D":
            columns = inputs["afn"].reshape(-1, 3, 9, 512)[..., ::2].sum(dim=-1)  # every odd column has no influence
            maps = columns.repeat_interleave(H // 9 + 1, 2)[:, :, :H, None].expand(-1, -1, -1, H)
            return {"out": self.draw("D out", (len(maps), 1, 28, 28), used), "cond_map": maps}
        if stage == "g_gradients":
            modules = {module: self.setup.weights[module] for module in PAINTERS}
            return {f"{m}/{key}": value * used for m, state in modules.items() for key, value in state.items()}
        shapes = REPLAYS | (LEGACY_REPLAYS if self.name == "legacy" else {})
        size = len(next(iter(inputs.values())))
        drawn = {key: tuple(size if n is None else n for n in shape) for key, shape in shapes[stage].items()}
        found = {key: self.draw(f"{stage} {key}", shape, used) for key, shape in drawn.items()}
        return {key: value + self.spoil.get(f"{stage} {key}", 0.0) for key, value in found.items()}


def small(shape):
    """A shape with few elements, for a network nobody runs."""
    return [min(size, 6) for size in shape]


def record(folder, prefix):
    """Make a folder of detail vectors with other weights and inputs, recorded from a fake legacy."""
    folder.mkdir()
    keys = json.loads((BUNDLED / "keys.json").read_text())
    for entries in keys["state_dict_keys"].values():
        for entry in entries.values():
            entry[0] = small(entry[0])
    (folder / "keys.json").write_text(json.dumps(keys))
    (folder / "coverage.json").write_bytes((BUNDLED / "coverage.json").read_bytes())
    document = json.loads((BUNDLED / "vectors_detail.json").read_text()) | {"seed_prefix": prefix}
    for facts in document["runs"].values():
        facts["threads"] = 1  # two would only wait for each other on a busy machine
    stored = load_file(BUNDLED / "vectors_detail.safetensors")
    (folder / "vectors_detail.json").write_text(json.dumps(document))
    save_file({"modules/placeholder": torch.zeros(1)}, folder / "vectors_detail.safetensors")
    recipe = DetailRecipe(load_folder(folder, RECIPES).material, FakeDetail)
    run_of = {name: name.partition("/")[0] for name in stored}
    computed = {}
    for run in ("modules", *RUNS):
        names = [name for name in stored if run_of[name] == run]
        computed |= {name: recipe.compute(name).to(stored[name].dtype).contiguous().clone() for name in names}
        if run in RUNS:
            fill(document, run, lambda item, run=run: recipe.compute(f"json/{run}/{item}"), keys["state_dict_keys"])
    (folder / "vectors_detail.json").write_text(json.dumps(document))
    save_file(computed, folder / "vectors_detail.safetensors")
    return folder


def fill(document, run, figure, keys):
    """Put the figures of one run into the document where the recording keeps them."""
    from parity.conform_detail_table import live_keys

    facts = document["runs"][run]
    for step, losses in enumerate(facts["losses"]):
        losses.update({name: float(figure(f"losses/{step}/{name}")) for name in losses})
        for place in ("after_D_backward/E_detail", "after_D_backward/D_detail", "after_D_backward/D"):
            for when in (place, place.replace("after_D", "after_G")):
                module = when.split("/")[1]
                values = figure(f"grads/{step}/{when}").tolist()
                facts["grads"][f"{step}/{when}"].update(zip(live_keys(module, keys[module]), values, strict=True))
        for name, state in facts["adam"][step].items():
            _, _, module, key = name.split("/", 3)
            live = live_keys(module, keys[module])
            for what in ("exp_avg", "exp_avg_sq"):
                if key in live:
                    state[f"{what}_l2"] = float(figure(f"adam/{step}/{what}/{module}")[live.index(key)])
    facts["losses_unweighted"] = {name: float(figure(f"losses_unweighted/{name}")) for name in TERMS}
    facts["mrf_weighted_as_disabled_term"] = float(figure("mrf_weighted_as_disabled_term"))
    for term, norms in facts.get("grad_l2_by_loss", {}).items():
        norms.update(zip(norms, figure(f"grad_l2_by_loss/{term}").tolist(), strict=True))
    for name, stats in document["stats"].items():
        if name.startswith(f"{run}/"):
            stats["l2_per_sample"] = figure(f"stats/{name.split('/')[1]}/l2_per_sample").tolist()
