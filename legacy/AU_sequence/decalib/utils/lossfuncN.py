"""Losses. Landmarks are in [-1,1]; the third column of a ground truth is a weight (visibility)."""
import pickle

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
import torchvision

# ------------------------------------------------------------------------------------------
# Action-unit groups: indices of the 105 points, and the AU indices (of 41) that switch them on
# ------------------------------------------------------------------------------------------
brow = list(range(0, 20))
brow_inner = [1, 3, 5, 6, 8, 9, 11, 13, 15, 16, 18, 19]
brow_outer = [0, 1, 2, 4, 7, 8, 10, 11, 12, 14, 17, 18]
eye_low = [21, 22, 28, 29, 30, 31, 32, 34, 35, 37, 38, 44, 45, 46, 47, 48, 50, 51]
eye_up = [20, 21, 22, 23, 24, 25, 26, 27, 33, 36, 37, 38, 39, 40, 41, 42, 43, 49]
eye_all = list(range(20, 52))
nose = list(range(52, 65))
lip_up = [65, 66, 69, 70, 71, 72, 73, 74, 75, 76, 85, 86, 87, 88, 89, 90, 91, 92, 93, 94, 103, 104]
lip_end = [71, 72, 73, 74, 79, 80, 81, 82, 85, 86, 88, 89, 90, 91, 92, 93, 97, 98, 99, 100, 103, 104]
mouth = list(range(65, 105))
lip_out = [65, 68, 69, 70, 71, 72, 77, 80, 82, 84, 85, 87, 88, 89, 90, 95, 98, 100, 102, 103]

au_groups = [
    (brow, [2, 31, 32]),
    (brow_inner, [0, 27, 28]),
    (brow_outer, [1, 29, 30]),
    (eye_up, [4, 33, 34]),
    (eye_low, [3]),
    (eye_all, [5]),
    (nose, [6, 8, 25, 26, 37, 38]),
    (lip_up, [7, 8, 35, 36, 37, 38]),
    (lip_end, [9, 10, 11, 12, 13, 39, 40]),
    (mouth, list(range(14, 25))),
]

# distances between pairs of the 68 points, group by group
related_groups = [
    ([21, 22, 17, 26], [39, 42, 36, 45]),
    ([19, 37, 23, 43], [20, 38, 24, 44]),
    ([21], [22]),
    ([37, 40, 43, 46], [38, 41, 24, 44]),
    ([37, 40, 43, 46], [38, 41, 24, 44]),
    ([27], [29]),
    ([60, 62, 32, 33, 34, 41, 46], [65, 63, 50, 51, 52, 48, 54]),
    ([49, 39, 40, 41, 42, 46, 47], [54, 48, 48, 48, 54, 54, 54]),
    ([39, 40, 41, 42, 46, 47], [48, 48, 48, 54, 54, 54]),
    ([48], [54]),
    ([51], [57]),
    ([48, 51, 50, 52], [54, 57, 58, 56]),
]


def l2_distance(verts1, verts2):
    return torch.sqrt(((verts1 - verts2) ** 2).sum(2)).mean(1).mean()


def kl_loss(texcode):
    """texcode [B,2,D] = mean and log variance."""
    mu, logvar = texcode[:, 0, :], texcode[:, 1, :]
    KLD_element = mu.pow(2).add_(logvar.exp()).mul_(-1).add_(1).add_(logvar)
    return torch.sum(KLD_element).mul_(-0.5)


def shading_white_loss(shading):
    """Squared distance of the mean shading colour from white."""
    return torch.mean((shading.mean([0, 2, 3]) - 1) ** 2)


def shading_smooth_loss(shading):
    """Mean squared differences of neighbouring texels."""
    dx = shading[:, :, 1:-1, 1:] - shading[:, :, 1:-1, :-1]
    dy = shading[:, :, 1:, 1:-1] - shading[:, :, :-1, 1:-1]
    return (dx ** 2).mean() + (dy ** 2).mean()


def albedo_constancy_loss(albedo, alpha=15, weight=1.):
    """Neighbouring texels of similar chromaticity should have similar albedo."""
    albedo_chromaticity = albedo / (torch.sum(albedo, dim=1, keepdim=True) + 1e-6)
    weight_x = torch.exp(
        -alpha * (albedo_chromaticity[:, :, 1:, :] - albedo_chromaticity[:, :, :-1, :]) ** 2).detach()
    weight_y = torch.exp(
        -alpha * (albedo_chromaticity[:, :, :, 1:] - albedo_chromaticity[:, :, :, :-1]) ** 2).detach()
    loss_x = ((albedo[:, :, 1:, :] - albedo[:, :, :-1, :]) ** 2) * weight_x
    loss_y = ((albedo[:, :, :, 1:] - albedo[:, :, :, :-1]) ** 2) * weight_y
    return (loss_x.mean() + loss_y.mean()) * weight


def albedo_ring_loss(texcode, ring_elements, margin, weight=1.):
    """Codes of the same subject (all but the last of a ring) closer than to the last one, by a margin."""
    tot_ring_length = int(texcode.shape[0] / ring_elements)
    loss = 0
    for ring in texcode.view(tot_ring_length, ring_elements, -1):
        same, other = ring[:-1], ring[-1]
        for i in range(ring_elements - 1):
            for j in range(i + 1, ring_elements - 1):
                within = ((same[i] - same[j]) ** 2).sum()
                across = ((same[i] - other) ** 2).sum()
                loss = loss + F.relu(within - across + margin)
    return loss * weight


def albedo_same_loss(albedo, ring_elements, weight=1.):
    """Squared differences of the albedos of one subject."""
    tot_ring_length = int(albedo.shape[0] / ring_elements)
    loss = 0
    for ring in albedo.view(tot_ring_length, ring_elements, -1):
        for i in range(ring_elements - 1):
            for j in range(i + 1, ring_elements - 1):
                loss = loss + ((ring[i] - ring[j]) ** 2).mean()
    return loss * weight


# ------------------------------------------------------------------------------------------
# Landmarks
# ------------------------------------------------------------------------------------------
def batch_kp_2d_l1_loss(real_2d_kp, predicted_2d_kp, weights=None):
    """Weighted L1: sum vis (|dx| + |dy|) / (2 sum vis + 1e-8). Weights are multiplied into real_2d_kp itself."""
    if weights is not None:
        real_2d_kp[:, :, 2] = weights * real_2d_kp[:, :, 2]
    kp_gt = real_2d_kp.view(-1, 3)
    kp_pred = predicted_2d_kp.contiguous().view(-1, 2)
    vis = kp_gt[:, 2]
    k = torch.sum(vis) * 2.0 + 1e-8
    dif_abs = torch.abs(kp_gt[:, :2] - kp_pred).sum(1)
    return torch.matmul(dif_abs, vis) * 1.0 / k


def landmark_loss(predicted_landmarks, landmarks_gt, weight=1.):
    real_2d = landmarks_to_tensor(landmarks_gt, predicted_landmarks)
    return batch_kp_2d_l1_loss(real_2d, predicted_landmarks) * weight


def landmarks_to_tensor(landmarks_gt, predicted_landmarks):
    if torch.is_tensor(landmarks_gt):
        return landmarks_gt
    return torch.cat(landmarks_gt).to(predicted_landmarks.device)


def landmark_loss_tensor(predicted_landmarks, landmarks_gt, weight=1.):
    """Unweighted mean over the visible points."""
    return batch_kp_2d_l1_loss(landmarks_gt, predicted_landmarks) * weight


def landmark_HRNet_loss(predicted_landmarks, landmarks_gt, weight=1.):
    """The 17 contour points of the 68 only; 5, 6, 10, 11 count double."""
    real_2d = landmarks_to_tensor(landmarks_gt, predicted_landmarks)
    weights = torch.ones((68,)).to(predicted_landmarks.device)
    weights[:17] = 1.5
    weights[17:] = 0
    weights[[5, 6, 10, 11]] = 3
    return batch_kp_2d_l1_loss(real_2d, predicted_landmarks, weights) * weight


def weighted_landmark_loss(predicted_landmarks, landmarks_gt, weight=1.):
    """All 105 points; eye corners and lips count more."""
    real_2d = landmarks_gt
    weights = torch.ones((105,)).to(predicted_landmarks.device) * 1.5
    weights[[21, 22, 37, 38, 65, 66, 67, 68, 72, 73, 90, 91]] = 3
    weights[[24, 30, 40, 46]] = 2
    return batch_kp_2d_l1_loss(real_2d, predicted_landmarks, weights) * weight


def weighted_au_landmark_loss(predicted_landmarks, landmarks_gt, au, weight=1.):
    """105 points, groups of active action units raised; au [1,41] probabilities. Works on a copy of the truth."""
    real_2d = landmarks_gt.clone()
    real_2d[:, :, 2] = 1
    weights = torch.ones((105,)).to(predicted_landmarks.device)
    for points, units in au_groups:
        if (au[:, units] >= 0.5).any():
            weights[points] = 5. / len(points)  # a later group overwrites an earlier one
    weights[lip_out] = weights[lip_out] / 5.
    return 5 * batch_kp_2d_l1_loss(real_2d, predicted_landmarks, weights) * weight


def point_distance(landmarks, start, end):
    """Euclidean distances [B,P] between points of landmarks [B,L,2..3], by index."""
    dis = landmarks[:, start, :2] - landmarks[:, end, :2]
    return torch.sqrt((dis ** 2).sum(2))


def related_au_landmark_loss(predicted_landmarks, landmarks_gt, weight=1.):
    """Sum over 12 groups of the mean difference of distances, 68 points."""
    loss = 0
    for start, end in related_groups:
        dist_gt = point_distance(landmarks_gt, start, end)
        dist_pred = point_distance(predicted_landmarks, start, end)
        loss = loss + torch.abs(dist_gt - dist_pred).mean()
    return loss * weight


def eye_dis(landmarks):
    """Four lid distances of 105 points, each over twice the width between inner corner points, [B,4]."""
    dis = point_distance(landmarks, [23, 25, 41, 39], [31, 29, 45, 47])
    right = 2 * point_distance(landmarks, [21], [22])
    left = 2 * point_distance(landmarks, [38], [37])
    return torch.cat([dis[:, :2] / right, dis[:, 2:] / left], dim=1)


def eyed_loss(predicted_landmarks, landmarks_gt, weight=1.):
    """Half the SUM of absolute differences, not a mean."""
    pred_eyed = eye_dis(predicted_landmarks[:, :, :2])
    gt_eyed = eye_dis(landmarks_gt[:, :, :2])
    return (pred_eyed - gt_eyed).abs().sum() / 2 * weight


def lip_dis(landmarks):
    """Twenty lip distances of 105 points, [B,20]."""
    right = [65, 72, 73, 85, 71, 70, 69, 87, 88, 89, 103, 86, 74, 75, 76, 66, 94, 93, 92, 104]
    left = [61, 90, 91, 82, 80, 84, 77, 95, 102, 98, 100, 81, 79, 83, 78, 67, 96, 101, 97, 99]
    return point_distance(landmarks, right, left)


def lipd_loss(predicted_landmarks, landmarks_gt, weight=1.):
    pred_lipd = lip_dis(predicted_landmarks[:, :, :2])
    gt_lipd = lip_dis(landmarks_gt[:, :, :2])
    return (pred_lipd - gt_lipd).abs().mean() * weight


def rel_dis(landmarks):
    """Seven distances of the 68 points, [B,7]."""
    return point_distance(landmarks, [57, 51, 48, 60, 61, 62, 63], [8, 33, 54, 64, 67, 66, 65])


def relative_landmark_loss(predicted_landmarks, landmarks_gt, weight=1.):
    pred_reld = rel_dis(predicted_landmarks[:, :, :2])
    gt_reld = rel_dis(landmarks_gt[:, :, :2])
    return (pred_reld - gt_reld).abs().mean() * weight


# ------------------------------------------------------------------------------------------
# Identity (never used in this fork)
# ------------------------------------------------------------------------------------------
class VGGFace2Loss(nn.Module):
    """1 - cosine of VGGFace2 features; the checkpoint is a pickle of {name: array} without chumpy or torch."""

    def __init__(self, pretrained_model, pretrained_data='vggface2'):
        super(VGGFace2Loss, self).__init__()
        model = torchvision.models.resnet50(num_classes=8631)
        model.maxpool = nn.MaxPool2d(kernel_size=3, stride=2, padding=0, ceil_mode=True)
        for layer in (model.layer2, model.layer3, model.layer4):
            layer[0].conv1.stride, layer[0].conv2.stride = (2, 2), (1, 1)
        with open(pretrained_model, 'rb') as f:
            weights = pickle.load(f, encoding='latin1')
        own_state = model.state_dict()
        for name, param in weights.items():
            own_state[name].copy_(torch.from_numpy(np.asarray(param)))
        model.fc = nn.Identity()
        self.reg_model = model.eval()
        self.mean_bgr = torch.tensor([91.4953, 103.8827, 131.0912])

    def reg_features(self, x):
        margin = 10
        x = x[:, :, margin:224 - margin, margin:224 - margin]
        x = F.interpolate(x * 2. - 1., [224, 224], mode='bilinear', align_corners=False)
        return self.reg_model(x).view(x.size(0), -1)

    def transform(self, img):
        img = img[:, [2, 1, 0], :, :].permute(0, 2, 3, 1) * 255 - self.mean_bgr.to(img.device)
        return img.permute(0, 3, 1, 2)

    def _cos_metric(self, x1, x2):
        return 1.0 - F.cosine_similarity(x1, x2, dim=1)

    def forward(self, gen, tar, is_crop=True):
        gen_out = self.reg_features(self.transform(gen))
        tar_out = self.reg_features(self.transform(tar))
        return self._cos_metric(gen_out, tar_out).mean()
