"""Frozen action-unit networks (coarse spec 2.3, 2.5; OpenGraphAU): features AFG and classifier MEFARG.

27 main action units are nodes of a graph; 14 left/right sub-units hang on 7 of them.
Axes: N images, P positions of the feature map (49 at 224 x 224), U = 27 nodes, C = 512 channels, E = 729 edges.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from modern.encoders import FEATURES, ResNetTrunk

NODES, SUBUNITS, CHANNELS = 27, 14, 512
EDGES = NODES**2
_NEIGHBOURS = 4
_SUBUNIT_OF = (0, 1, 2, 4, 7, 8, 11)  # node that each left/right pair of sub-units hangs on
_QUERY = CHANNELS // 2
_NORM_EPS = 1e-12
_IMAGENET_MEAN, _IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def imagenet_normalised(image_N3HW: Tensor) -> Tensor:
    """RGB in 0..1 as the networks were trained on it (fix D13)."""
    mean, std = (image_N3HW.new_tensor(values)[:, None, None] for values in (_IMAGENET_MEAN, _IMAGENET_STD))
    return (image_N3HW - mean) / std


class _LinearBlock(nn.Module):
    """Linear, batch normalisation over channels, ReLU."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.linear = nn.Linear(inputs, outputs)
        self.norm = nn.BatchNorm1d(outputs)

    def forward(self, tokens_NPC: Tensor) -> Tensor:
        return F.relu(self.norm(self.linear(tokens_NPC).transpose(1, 2)).transpose(1, 2))


class _AuNodes(nn.Module):
    """What both networks begin with: image tokens and one feature per node and position.

    Args:
        imagenet: normalise the input (fix D13).
    """

    def __init__(self, imagenet: bool) -> None:
        super().__init__()
        self.imagenet = imagenet
        self.trunk = ResNetTrunk()
        self.token = _LinearBlock(FEATURES, CHANNELS)
        self.nodes = nn.ModuleList(_LinearBlock(CHANNELS, CHANNELS) for _ in range(NODES))

    def tokens(self, image_N3HW: Tensor) -> Tensor:
        image_N3HW = imagenet_normalised(image_N3HW) if self.imagenet else image_N3HW
        return self.token(self.trunk(image_N3HW).flatten(2).transpose(1, 2))

    def node_tokens(self, tokens_NPC: Tensor) -> Tensor:
        """[N,U,P,C]."""
        return torch.stack([node(tokens_NPC) for node in self.nodes], dim=1)


class _Similarity(nn.Module):
    """Cosine of each node with a learned prototype: probabilities of 27 main and 14 sub-units."""

    def __init__(self) -> None:
        super().__init__()
        self.main = nn.Parameter(torch.empty(NODES, CHANNELS))
        self.sub = nn.Parameter(torch.empty(SUBUNITS, CHANNELS))
        nn.init.xavier_uniform_(self.main)
        nn.init.xavier_uniform_(self.sub)

    def forward(self, nodes_NUC: Tensor) -> Tensor:
        unit_NUC = F.normalize(nodes_NUC, dim=-1, eps=_NORM_EPS)
        main_UC = F.normalize(F.relu(self.main), dim=-1, eps=_NORM_EPS)
        sub_S2C = F.normalize(F.relu(self.sub), dim=-1, eps=_NORM_EPS).unflatten(0, (-1, 2))
        pairs_NS2 = (unit_NUC[:, list(_SUBUNIT_OF), None] * sub_S2C).sum(dim=-1)
        return torch.cat([(unit_NUC * main_UC).sum(dim=-1), pairs_NS2.flatten(1)], dim=1)


class ActionUnitFeatures(_AuNodes):
    """`AUNet`: first stage, whose node features BiViT reads."""

    def __init__(self, *, imagenet: bool = False) -> None:
        super().__init__(imagenet)
        self.graph = _NearestGraph()
        self.similarity = _Similarity()

    def forward(self, image_N3HW: Tensor) -> tuple[Tensor, Tensor]:
        """Tokens [N,P,512] and unit-length node features `afn` [N,27,512], all entries >= 0."""
        tokens_NPC = self.tokens(image_N3HW)
        return tokens_NPC, F.normalize(self._nodes(tokens_NPC), dim=-1, eps=_NORM_EPS)

    def probabilities(self, image_N3HW: Tensor) -> Tensor:
        """Action-unit probabilities [N,41] by way of the nearest-neighbour graph (legacy: `use_gnn=True`)."""
        return self.with_probabilities(image_N3HW)[2]

    def with_probabilities(self, image_N3HW: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Tokens [N,P,512], node features [N,27,512] and probabilities [N,41] in one pass."""
        tokens_NPC = self.tokens(image_N3HW)
        nodes_NUC = self._nodes(tokens_NPC)
        afn_NUC = F.normalize(nodes_NUC, dim=-1, eps=_NORM_EPS)
        return tokens_NPC, afn_NUC, self.similarity(self.graph(nodes_NUC))

    def _nodes(self, tokens_NPC: Tensor) -> Tensor:
        return self.node_tokens(tokens_NPC).mean(dim=-2)


class _NearestGraph(nn.Module):
    """One graph convolution over the nodes with the largest dot products; ties are all neighbours."""

    def __init__(self) -> None:
        super().__init__()
        self.own = nn.Linear(CHANNELS, CHANNELS)
        self.neighbour = nn.Linear(CHANNELS, CHANNELS)
        self.norm = nn.BatchNorm1d(NODES)

    def forward(self, nodes_NUC: Tensor) -> Tensor:
        adjacency_NUU = _nearest_adjacency(nodes_NUC.detach())
        message = adjacency_NUU @ self.neighbour(nodes_NUC) + self.own(nodes_NUC)
        return F.relu(nodes_NUC + self.norm(message))


def _nearest_adjacency(nodes_NUC: Tensor) -> Tensor:
    """Symmetrically normalised by the row sums: D^-1/2 A D^-1/2."""
    likeness_NUU = nodes_NUC @ nodes_NUC.transpose(1, 2)
    threshold = likeness_NUU.topk(_NEIGHBOURS, dim=-1).values[..., -1:]
    adjacency_NUU = (likeness_NUU >= threshold).to(nodes_NUC.dtype)
    scale_NU = adjacency_NUU.sum(dim=-1) ** -0.5
    return scale_NU[:, :, None] * adjacency_NUU * scale_NU[:, None, :]


class ActionUnitClassifier(_AuNodes):
    """`AU_net` (MEFARG): second stage with multi-dimensional edges; only AU-dependent losses read it."""

    def __init__(self, *, imagenet: bool = False) -> None:
        super().__init__(imagenet)
        self.face_attention = _CrossAttention()
        self.pair_attention = _CrossAttention()
        self.edge_projection = nn.Linear(CHANNELS, CHANNELS)
        self.edge_norm = nn.BatchNorm2d(EDGES)
        self.graph = nn.ModuleList(_GatedGraphLayer() for _ in range(2))
        self.similarity = _Similarity()

    def forward(self, image_N3HW: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Tokens [N,P,512], probabilities [N,41] and unit-length nodes [N,27,512]."""
        tokens_NPC = self.tokens(image_N3HW)
        node_tokens_NUPC = self.node_tokens(tokens_NPC)
        nodes_NUC = node_tokens_NUPC.mean(dim=-2)
        edges_NEC = self._edges(node_tokens_NUPC, tokens_NPC)
        for layer in self.graph:
            nodes_NUC, edges_NEC = layer(nodes_NUC, edges_NEC)
        return tokens_NPC, self.similarity(nodes_NUC), F.normalize(nodes_NUC, dim=-1, eps=_NORM_EPS)

    def _edges(self, node_tokens_NUPC: Tensor, tokens_NPC: Tensor) -> Tensor:
        """Edge 27 i + j: what node j's tokens find in node i's.

        The original projects the tokens anew for each edge. Projecting them once per node gives the same values but
        adds up their gradients in another order, so it is done only where there are none.
        """
        faces = self.face_attention(node_tokens_NUPC, tokens_NPC[:, None].repeat(1, NODES, 1, 1))
        asking, asked = faces[:, None], faces[:, :, None]
        if torch.is_grad_enabled() and faces.requires_grad:
            asking, asked = asking.repeat(1, NODES, 1, 1, 1), asked.repeat(1, 1, NODES, 1, 1)
        pairs_NUUPC = self.pair_attention(asking, asked)
        edges_NEPC = self.edge_norm(self.edge_projection(pairs_NUUPC).flatten(1, 2))
        return edges_NEPC.mean(dim=-2)


class _CrossAttention(nn.Module):
    """Single head; leading axes broadcast after the projections, so each set of tokens is projected once."""

    def __init__(self) -> None:
        super().__init__()
        self.query = nn.Linear(CHANNELS, _QUERY)
        self.key = nn.Linear(CHANNELS, _QUERY)
        self.value = nn.Linear(CHANNELS, CHANNELS)

    def forward(self, asking: Tensor, asked: Tensor) -> Tensor:
        weights = (self.query(asking) @ self.key(asked).transpose(-1, -2) * _QUERY**-0.5).softmax(dim=-1)
        return weights @ self.value(asked)


class _GatedGraphLayer(nn.Module):
    """Edges gate what nodes receive from each other (coarse spec 2.5). Edge 27 i + j: node i receives, node j sends.

    Ends of edges are looked up, and edges added up, by matrix products with the graph's incidence: the original does,
    and another way of adding would round otherwise, forwards and backwards.
    """

    def __init__(self) -> None:
        super().__init__()
        self.node_own, self.node_sent, self.edge_to, self.edge_from, self.edge_own = (
            nn.Linear(CHANNELS, CHANNELS, bias=False) for _ in range(5)
        )
        self.node_norm = nn.BatchNorm1d(NODES)
        self.edge_norm = nn.BatchNorm1d(EDGES)

    def forward(self, nodes_NUC: Tensor, edges_NEC: Tensor) -> tuple[Tensor, Tensor]:
        node_UU = torch.eye(NODES, dtype=nodes_NUC.dtype, device=nodes_NUC.device)
        receiver_EU, sender_EU = node_UU.repeat_interleave(NODES, dim=0), node_UU.repeat(NODES, 1)
        to, sent_by = _at_edges(receiver_EU, self.edge_to(nodes_NUC)), _at_edges(sender_EU, self.edge_from(nodes_NUC))
        edges_NEC = edges_NEC + F.relu(self.edge_norm(to + sent_by + self.edge_own(edges_NEC)))
        gate_NEC = edges_NEC.sigmoid().unflatten(1, (NODES, NODES)).softmax(dim=2).flatten(1, 2)
        sent_NEC = gate_NEC * _at_edges(sender_EU, self.node_sent(nodes_NUC))
        received = torch.einsum("ue,nec->nuc", receiver_EU.T, sent_NEC) / NODES
        return nodes_NUC + F.relu(self.node_norm(self.node_own(nodes_NUC) + received)), edges_NEC


def _at_edges(incidence_EU: Tensor, nodes_NUC: Tensor) -> Tensor:
    return torch.einsum("eu,nuc->nec", incidence_EU, nodes_NUC)
