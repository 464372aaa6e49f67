"""AUEncoder: action-unit features to 41 numbers. Imported by DECA, never built."""
import torch.nn as nn
import torch.nn.functional as F


class AUEncoder(nn.Module):
    """afn [B,27,512] -> [B,outsize]"""

    def __init__(self, outsize=41):
        super(AUEncoder, self).__init__()
        self.fc1 = nn.Linear(27 * 512, 256)
        self.fc2 = nn.Linear(256, 128)
        self.fc3 = nn.Linear(128, 64)
        self.fc4 = nn.Linear(64, outsize)

    def forward(self, x):
        x = x.view(x.size(0), -1)
        x = F.relu(self.fc1(x))
        x = F.relu(self.fc2(x))
        x = F.relu(self.fc3(x))
        return self.fc4(x)
