"""How the parameters of each legacy network are called here: ONE table per network, read in both directions.

A row pairs two name prefixes; `*` stands for an index and is carried over. The first row that fits a name is used.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property

from torch import Tensor

Rows = tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class WeightTable:
    """Names of one network.

    Attributes:
        rows: (legacy prefix, prefix here).
        dropped: legacy prefix -> why this package has no such parameter.
    """

    rows: Rows
    dropped: Mapping[str, str] = field(default_factory=dict)

    def modern(self, legacy_key: str) -> str | None:
        """The name here, or None if the parameter is dropped on purpose.

        Raises:
            KeyError: if the table does not know the name.
        """
        if any(legacy_key.startswith(prefix) for prefix in self.dropped):
            return None
        return _rename(legacy_key, self._forward)

    def legacy(self, modern_key: str) -> str:
        """The legacy name.

        Raises:
            KeyError: if the table does not know the name.
        """
        return _rename(modern_key, self._backward)

    def to_modern(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """A legacy state dict under the names here; the tensors are shared."""
        renamed = {self.modern(key): tensor for key, tensor in state.items()}
        return {key: tensor for key, tensor in renamed.items() if key is not None}

    def to_legacy(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """A state dict of this package under legacy names; the tensors are shared."""
        return {self.legacy(key): tensor for key, tensor in state.items()}

    @cached_property
    def _forward(self) -> tuple[tuple[re.Pattern[str], str], ...]:
        return _compiled(self.rows)

    @cached_property
    def _backward(self) -> tuple[tuple[re.Pattern[str], str], ...]:
        return _compiled((here, legacy) for legacy, here in self.rows)


def _compiled(rows: Iterable[tuple[str, str]]) -> tuple[tuple[re.Pattern[str], str], ...]:
    return tuple((re.compile(re.escape(source).replace(r"\*", r"(\d+)")), target) for source, target in rows)


def _rename(key: str, rows: tuple[tuple[re.Pattern[str], str], ...]) -> str:
    for pattern, target in rows:
        if match := pattern.match(key):
            for index in match.groups():
                target = target.replace("*", index, 1)
            return target + key[match.end() :]
    raise KeyError(key)


def _attention(legacy: str, here: str, *names: tuple[str, str]) -> Rows:
    return tuple((f"vit.transformer.layers.*.{legacy}.{old}", f"layers.*.{here}.{new}") for old, new in names)


_NODES: Rows = (
    ("backbone.", "trunk."),
    ("global_linear.fc.", "token.linear."),
    ("global_linear.bn.", "token.norm."),
    ("head.main_class_linears.*.fc.", "nodes.*.linear."),
    ("head.main_class_linears.*.bn.", "nodes.*.norm."),
    ("head.main_sc", "similarity.main"),
    ("head.sub_sc", "similarity.sub"),
)
_EDGES = "head.edge_extractor."
_PROJECTIONS = (("linear_q.", "query."), ("linear_k.", "key."), ("linear_v.", "value."))
_GATED = {
    "U.": "node_own.",
    "V.": "node_sent.",
    "A.": "edge_to.",
    "B.": "edge_from.",
    "E.": "edge_own.",
    "bnv.": "node_norm.",
    "bne.": "edge_norm.",
}


def _numbered(legacy: str, indices: Iterable[int], here: str) -> Rows:
    """Layers that are numbered with gaps in legacy and without gaps here."""
    return tuple((f"{legacy}{index}.", f"{here}.{position}.") for position, index in enumerate(indices))


_VGG_CONVOLUTIONS, _VGG_UNREAD = (0, 2, 5, 7, 10, 12, 14, 16, 19), (21, 23, 25, 28, 30, 32, 34)

TABLES: dict[str, WeightTable] = {
    "E_flame": WeightTable((("encoder.", "trunk."), ("layers.", "regressor."))),
    "BiViT": WeightTable(
        (
            ("vit.pos_embedding", "position"),
            ("vit.cls_token", "class_token"),
            ("vit.FC_glob.", "context."),
            ("vit.to_patch_embedding.1.", "embed.0."),
            ("vit.to_patch_embedding.2.", "embed.1."),
            ("vit.to_patch_embedding.3.", "embed.2."),
            ("vit.transformer.norm.", "norm."),
            *_attention("0", "self_attention", ("norm.", "norm."), ("to_qkv.", "qkv."), ("to_out.0.", "out.")),
            *_attention("1", "cross_attention", ("norm.", "norm."), ("to_q.", "q."), ("to_kv.", "kv.")),
            *_attention("1", "cross_attention", ("to_out.0.", "out.")),
            *_attention("2.net", "feed_forward", ("0.", "norm."), ("1.", "expand."), ("4.", "contract.")),
            ("vit.mlp_head.", "head."),
        )
    ),
    "AUNet": WeightTable(
        (
            *_NODES,
            ("head.gnn.U.", "graph.own."),
            ("head.gnn.V.", "graph.neighbour."),
            ("head.gnn.bnv.", "graph.norm."),
        )
    ),
    "AU_net": WeightTable(
        (
            *_NODES,
            *((f"{_EDGES}FAM.{old}", f"face_attention.{new}") for old, new in _PROJECTIONS),
            *((f"{_EDGES}ARM.{old}", f"pair_attention.{new}") for old, new in _PROJECTIONS),
            (f"{_EDGES}edge_proj.", "edge_projection."),
            (f"{_EDGES}bn.", "edge_norm."),
            *((f"head.gnn.graph_layers.*.{old}", f"graph.*.{new}") for old, new in _GATED.items()),
        )
    ),
    "expression_net": WeightTable(
        (("backbone.", "trunk."),), dropped={"linear.": "classifier on top of the features; nothing reads it"}
    ),
    "FRNet": WeightTable(
        (("layer", "trunk.layer"), ("conv1.", "trunk.conv1."), ("bn1.", "trunk.bn1.")),
        dropped={"fc.": "classifier on top of the features; nothing reads it"},
    ),
    "E_detail": WeightTable(_numbered("conv", range(1, 9), "convolutions")),
    "D_detail": WeightTable(
        (
            ("lin.", "condition."),
            *_numbered("model.", range(1, 30, 4), "convolutions"),
            ("model.32.", "paint."),
        )
    ),
    "D": WeightTable(
        _numbered("model.", (0, 2, 5, 8, 11), "convolutions"), dropped={"l1.": "a layer that is never called"}
    ),
    "VGG19": WeightTable(
        tuple((f"{index}.", f"layers.{index}.") for index in _VGG_CONVOLUTIONS),
        dropped={f"{index}.": "behind the last layer that is read" for index in _VGG_UNREAD},
    ),
}
TABLES["ACG"] = TABLES["AU_net"]
