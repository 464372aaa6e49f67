"""BiViT: the only trained network."""
import torch.nn as nn

from .ViTVideoSequence_Cross import ViT


class ViTEncoderSeque(nn.Module):
    def __init__(self, num_features=236, frames=3, dim=512, depth=6, heads=4, mlp_dim=1024, dropout=0.1,
                 emb_dropout=0.1):
        super(ViTEncoderSeque, self).__init__()
        self.vit = ViT(num_classes=num_features, frames=frames, dim=dim, depth=depth, heads=heads, mlp_dim=mlp_dim,
                       patch_dim=27 * 512, dropout=dropout, emb_dropout=emb_dropout)

    def forward(self, inputs, global_feature):
        """inputs [3,27,512], global_feature [3,2048] -> [1,num_features]. One clip of three frames only."""
        inputs = inputs.view(1, 3, 27, 512)
        global_feature = global_feature.view(1, 3, -1)
        return self.vit(inputs, global_feature)
