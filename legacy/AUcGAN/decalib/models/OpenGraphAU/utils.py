"""Checkpoint reading of the action-unit networks."""
import torch


def load_state_dict(model, path):
    """Second-stage checkpoint {'state_dict': ...} into either stage; what does not fit is dropped silently."""
    checkpoints = torch.load(path, map_location=torch.device('cpu'))
    state_dict = checkpoints['state_dict']
    renamed = {}
    for k, v in state_dict.items():
        if 'module.' in k:
            k = k[7:]
        renamed[k] = v
    model.load_state_dict(renamed, strict=False)
    return model
