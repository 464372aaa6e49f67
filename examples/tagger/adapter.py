"""The pair for `python -m parity pair examples/tagger/adapter.py`."""

import torch
from new_tagger import Tagger
from old_tagger import OldTagger


def reference():
    return OldTagger().train()


def candidate():
    return Tagger().train()


def inputs(seed):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 50, (3, 7), generator=generator)


def loss(outputs, inputs):
    return torch.nn.functional.cross_entropy(outputs.flatten(0, 1), inputs.flatten() % 5)


def optimizer(model):
    return torch.optim.Adam(model.parameters(), lr=1e-3)


# reference -> candidate, modules or single weights. What is not listed is matched by equal name, else by equal use:
# here ln1, ln2, fc1 and fc2 are found that way, because no other weight of their shapes is used in their places.
NAMES = {"block0.attn.out_proj": "blocks.0.attention.project", "block1.attn.out_proj": "blocks.1.attention.project"}

# candidate weight -> reference weight, or how to gather it. One fused weight became three.
WEIGHTS = {
    f"blocks.{b}.attention.{part}.{kind}": (
        lambda ref, b=b, place=place, kind=kind: ref[f"block{b}.attn.in_proj_{kind}"].chunk(3)[place]
    )
    for b in (0, 1)
    for place, part in enumerate(("query", "key", "value"))
    for kind in ("weight", "bias")
}

# stage -> (module of the reference, module of the candidate): compared whatever operations lie in between.
STAGES = {
    "embedding": ("emb", "embedding"),
    "block 0": ("block0", "blocks.0"),
    "block 1": ("block1", "blocks.1"),
    "tags": ("out", "classifier"),
}
