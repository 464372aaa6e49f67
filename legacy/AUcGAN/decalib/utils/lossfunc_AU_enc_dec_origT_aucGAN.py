"""Losses. There are two copies of this file, _adv and _aucGAN; the trainer imports _adv."""
import pickle

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
import torchvision

from ..models.OpenGraphAU.conf import get_config, set_env


def l2_distance(verts1, verts2):
    return torch.sqrt(((verts1 - verts2) ** 2).sum(2)).mean(1).mean()


# ------------------------------------------------------------------------------------------
# Regularisation
# ------------------------------------------------------------------------------------------
def kl_loss(texcode):
    """texcode [B,2,D] = mean and log variance."""
    mu, logvar = texcode[:, 0, :], texcode[:, 1, :]
    KLD_element = mu.pow(2).add_(logvar.exp()).mul_(-1).add_(1).add_(logvar)
    return torch.sum(KLD_element).mul_(-0.5)


def shading_white_loss(shading):
    """Squared distance of the mean shading colour from white."""
    return torch.mean((shading.mean([0, 2, 3]) - 1) ** 2)


def shading_smooth_loss(shading):
    """Mean squared differences of neighbouring texels, the outermost ones left out across the direction."""
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
# Landmarks (not used in the detail stage)
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
    """landmarks_gt [B,L,2]; a third column of ones is appended."""
    if torch.is_tensor(landmarks_gt) is not True:
        real_2d = torch.cat(landmarks_gt).to(predicted_landmarks.device)
    else:
        real_2d = torch.cat([landmarks_gt, torch.ones((landmarks_gt.shape[0], 68, 1)).to(predicted_landmarks.device)],
                            dim=-1)
    return batch_kp_2d_l1_loss(real_2d, predicted_landmarks) * weight


def weighted_landmark_loss(predicted_landmarks, landmarks_gt, weight=1.):
    """68 points; nose, mouth and some of the contour count more."""
    real_2d = landmarks_gt
    weights = torch.ones((68,)).to(predicted_landmarks.device)
    weights[[5, 6, 10, 11]] = 2
    weights[27:36] = 1.5
    weights[[30, 31, 35]] = 3
    weights[48:68] = 1.5
    weights[[48, 54]] = 3
    return batch_kp_2d_l1_loss(real_2d, predicted_landmarks, weights) * weight


def point_distance(landmarks, start, end):
    """Euclidean distances [B,P] between points of landmarks [B,L,2..3], by index."""
    dis = landmarks[:, start, :2] - landmarks[:, end, :2]
    return torch.sqrt((dis ** 2).sum(2))


def eye_dis(landmarks):
    return point_distance(landmarks, [37, 38, 43, 44], [41, 40, 47, 46])


def eyed_loss(predicted_landmarks, landmarks_gt, weight=1.):
    return (eye_dis(predicted_landmarks) - eye_dis(landmarks_gt)).abs().mean() * weight


def lip_dis(landmarks):
    return point_distance(landmarks, [61, 62, 63], [67, 66, 65])


def lipd_loss(predicted_landmarks, landmarks_gt, weight=1.):
    return (lip_dis(predicted_landmarks) - lip_dis(landmarks_gt)).abs().mean() * weight


# ------------------------------------------------------------------------------------------
# Identity: only the constructor branch of the coarse stage asks for it
# ------------------------------------------------------------------------------------------
class VGGFace2Loss(nn.Module):
    """1 - cosine of VGGFace2 features; the checkpoint is a pickle of {name: array}."""

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
        self.reg_model = model.eval().cuda()
        self.mean_bgr = torch.tensor([91.4953, 103.8827, 131.0912]).cuda()

    def reg_features(self, x):
        margin = 10
        x = x[:, :, margin:224 - margin, margin:224 - margin]
        x = F.interpolate(x * 2. - 1., [224, 224], mode='bilinear', align_corners=False)
        return self.reg_model(x).view(x.size(0), -1)

    def transform(self, img):
        img = img[:, [2, 1, 0], :, :].permute(0, 2, 3, 1) * 255 - self.mean_bgr
        return img.permute(0, 3, 1, 2)

    def _cos_metric(self, x1, x2):
        return 1.0 - F.cosine_similarity(x1, x2, dim=1)

    def forward(self, gen, tar, is_crop=True):
        gen_out = self.reg_features(self.transform(gen))
        tar_out = self.reg_features(self.transform(tar))
        return self._cos_metric(gen_out, tar_out).mean()


# ------------------------------------------------------------------------------------------
# ID-MRF: built by the trainer, its term is commented out
# ------------------------------------------------------------------------------------------
class VGG19FeatLayer(nn.Module):
    """VGG19 features of pictures [B,3,H,W] in 0..1, by layer name.

    The counter grows at every conv and every relu, so 'relu3_2' is the relu behind the first conv of block 3, and
    'relu4_2' the one behind the first conv of block 4.
    """

    def __init__(self):
        super(VGG19FeatLayer, self).__init__()
        self.vgg19 = torchvision.models.vgg19(pretrained=True).features.eval().cuda()
        self.mean = torch.tensor([0.485, 0.456, 0.406]).view(1, 3, 1, 1).cuda()
        self.std = torch.tensor([0.229, 0.224, 0.225]).view(1, 3, 1, 1).cuda()

    def forward(self, x):
        out = {}
        x = x - self.mean
        x = x / self.std
        ci, ri = 1, 0
        for layer in self.vgg19.children():
            if isinstance(layer, nn.Conv2d):
                ri += 1
                name = 'conv{}_{}'.format(ci, ri)
            elif isinstance(layer, nn.ReLU):
                ri += 1
                name = 'relu{}_{}'.format(ci, ri)
                layer = nn.ReLU(inplace=False)
            elif isinstance(layer, nn.MaxPool2d):
                ri = 0
                name = 'pool_{}'.format(ci)
                ci += 1
            else:
                raise RuntimeError('Unrecognized layer: {}'.format(layer.__class__.__name__))
            x = layer(x)
            out[name] = x
        return out


class IDMRFLoss(nn.Module):
    """Every patch of the target should be found somewhere in gen. Sum over the batch."""

    def __init__(self, featlayer=VGG19FeatLayer):
        super(IDMRFLoss, self).__init__()
        self.featlayer = featlayer()
        self.feat_style_layers = {'relu3_2': 1.0, 'relu4_2': 1.0}
        self.feat_content_layers = {'relu4_2': 1.0}
        self.bias = 1.0
        self.nn_stretch_sigma = 0.5
        self.lambda_style = 1.0
        self.lambda_content = 1.0
        self.style_loss = 0
        self.content_loss = 0

    def sum_normalize(self, featmaps):
        return featmaps / torch.sum(featmaps, dim=1, keepdim=True)

    def patch_extraction(self, featmaps):
        """[1,C,H,W] -> H*W filters of 1x1, [H*W,C,1,1], rows first."""
        c = featmaps.shape[1]
        return featmaps.permute(0, 2, 3, 1).reshape(-1, c, 1, 1)

    def compute_relative_distances(self, cdist):
        div = torch.min(cdist, dim=1, keepdim=True)[0]
        return cdist / (div + 1e-5)

    def exp_norm_relative_dist(self, relative_dist):
        dist_before_norm = torch.exp((self.bias - relative_dist) / self.nn_stretch_sigma)
        return self.sum_normalize(dist_before_norm)

    def mrf_loss(self, gen, tar):
        meanT = torch.mean(tar, 1, keepdim=True)
        gen_feats, tar_feats = gen - meanT, tar - meanT
        gen_feats_norm = torch.norm(gen_feats, p=2, dim=1, keepdim=True)
        tar_feats_norm = torch.norm(tar_feats, p=2, dim=1, keepdim=True)
        gen_normalized, tar_normalized = gen_feats / gen_feats_norm, tar_feats / tar_feats_norm
        cosine_dist_l = []
        for i in range(tar.size(0)):
            patches = self.patch_extraction(tar_normalized[i:i + 1])
            cosine_dist_l.append(F.conv2d(gen_normalized[i:i + 1], patches))
        cosine_dist = torch.cat(cosine_dist_l, dim=0)
        cosine_dist_zero_2_one = -(cosine_dist - self.bias) / 2
        relative_dist = self.compute_relative_distances(cosine_dist_zero_2_one)
        rela_dist = self.exp_norm_relative_dist(relative_dist)
        div_mrf = torch.amax(rela_dist.view(rela_dist.size(0), rela_dist.size(1), -1), dim=2)
        div_mrf_sum = torch.mean(div_mrf, dim=1)
        return torch.sum(-torch.log(div_mrf_sum))

    def forward(self, gen, tar):
        gen_vgg_feats = self.featlayer(gen)
        tar_vgg_feats = self.featlayer(tar)
        self.style_loss = sum(weight * self.mrf_loss(gen_vgg_feats[layer], tar_vgg_feats[layer])
                              for layer, weight in self.feat_style_layers.items())
        self.content_loss = sum(weight * self.mrf_loss(gen_vgg_feats[layer], tar_vgg_feats[layer])
                                for layer, weight in self.feat_content_layers.items())
        return self.style_loss * self.lambda_style + self.content_loss * self.lambda_content


# ------------------------------------------------------------------------------------------
# Action units
# ------------------------------------------------------------------------------------------
class AU_Feature_Loss(nn.Module):
    """(au_in [B,41], au_tar [B,41]) -> all, chin, dimples. Built by the trainer, never called."""

    def __init__(self):
        super(AU_Feature_Loss, self).__init__()
        conf = get_config()
        set_env(conf)  # seeds everything once more
        self.mse_loss = nn.MSELoss()

    def forward(self, au_in, au_tar):
        au_loss = self.mse_loss(au_in, au_tar)
        chin, dimple = [14], [11, 39, 40]
        chin_loss, dimple_loss = 0, 0
        for i in range(au_in.shape[0]):
            chin_loss = chin_loss + self.mse_loss(au_in[i, chin], au_tar[i, chin])
            dimple_loss = dimple_loss + self.mse_loss(au_in[i, dimple], au_tar[i, dimple])
        return au_loss, 2 * chin_loss, 4 * dimple_loss


class AU_Feature_Loss_(nn.Module):
    """30 times the mean squared error. Never built."""

    def __init__(self):
        super(AU_Feature_Loss_, self).__init__()
        self.mse_loss = nn.MSELoss()

    def forward(self, au_in, au_tar):
        return 30 * self.mse_loss(au_in, au_tar)


# ------------------------------------------------------------------------------------------
# Only the names of these are on record; nothing calls them
# ------------------------------------------------------------------------------------------
def adversarial_loss(*args, **kwargs):
    raise NotImplementedError('adversarial_loss: only its name is on record')


def improved_adversarial_loss(*args, **kwargs):
    raise NotImplementedError('improved_adversarial_loss: only its name is on record')


def gradient_dif_loss(*args, **kwargs):
    raise NotImplementedError('gradient_dif_loss: only its name is on record')


def laplacian_hq_loss(*args, **kwargs):
    raise NotImplementedError('laplacian_hq_loss: only its name is on record')


class PerceptualLoss(nn.Module):
    def __init__(self, *args, **kwargs):
        super(PerceptualLoss, self).__init__()
        raise NotImplementedError('PerceptualLoss: only its name is on record')


class VGG_16(nn.Module):
    def __init__(self, *args, **kwargs):
        super(VGG_16, self).__init__()
        raise NotImplementedError('VGG_16: only its name is on record')
