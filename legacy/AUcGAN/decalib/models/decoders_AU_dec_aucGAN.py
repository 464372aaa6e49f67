"""Displacement generators and the discriminator. In use: Generator3 (= D_detail) and ConditionalDiscriminator (= D)."""
import torch
import torch.nn as nn
import torch.nn.functional as F


class Generator(nn.Module):
    """DECA's generator: noise [B,latent_dim] -> [B,1,256,256], scaled by out_scale. Not in use."""

    def __init__(self, latent_dim=100, out_channels=1, out_scale=0.01, sample_mode='bilinear'):
        super(Generator, self).__init__()
        self.out_scale = out_scale
        self.init_size = 32 // 4
        self.l1 = nn.Sequential(nn.Linear(latent_dim, 128 * self.init_size ** 2))

        def up():
            return nn.Upsample(scale_factor=2, mode=sample_mode)

        def block(in_channels, channels):
            # 0.8 lands on eps, not on momentum
            return [nn.Conv2d(in_channels, channels, 3, stride=1, padding=1), nn.BatchNorm2d(channels, 0.8),
                    nn.LeakyReLU(0.2, inplace=True)]

        self.conv_blocks = nn.Sequential(
            nn.BatchNorm2d(128),
            up(), *block(128, 128),
            up(), *block(128, 64),
            up(), *block(64, 64),
            up(), *block(64, 32),
            up(), *block(32, 16),
            nn.Conv2d(16, out_channels, 3, stride=1, padding=1),
            nn.Tanh(),
        )

    def forward(self, noise):
        out = self.l1(noise)
        out = out.view(out.shape[0], 128, self.init_size, self.init_size)
        img = self.conv_blocks(out)
        return img * self.out_scale


class Generator2(nn.Module):
    """Not built anywhere; only its name is on record."""

    def __init__(self, *args, **kwargs):
        super(Generator2, self).__init__()
        raise NotImplementedError('Generator2: only its name is on record')


class ConditionalGenerator(nn.Module):
    """Not built anywhere; only its name is on record."""

    def __init__(self, *args, **kwargs):
        super(ConditionalGenerator, self).__init__()
        raise NotImplementedError('ConditionalGenerator: only its name is on record')


class GANDecoder(nn.Module):
    """Not built anywhere; only its name is on record."""

    def __init__(self, *args, **kwargs):
        super(GANDecoder, self).__init__()
        raise NotImplementedError('GANDecoder: only its name is on record')


class Encoder(nn.Module):
    """A second Encoder beside the one of encoders_enc.py. Not built anywhere; only its name is on record."""

    def __init__(self, *args, **kwargs):
        super(Encoder, self).__init__()
        raise NotImplementedError('Encoder of decoders_AU_dec_aucGAN: only its name is on record')


class ConditionalDiscriminator(nn.Module):
    """(img [B,3,224,224], condition [B,27,512]) -> how real each of 28 x 28 patches looks, [B,1,28,28] in (0,1).

    The condition is laid out as a picture: 9 rows of action units and 512 features in each of 3 channels.
    """

    def __init__(self):
        super(ConditionalDiscriminator, self).__init__()
        self.l1 = nn.Conv2d(27 * 512, 41, 1)  # never called
        self.model = nn.Sequential(
            nn.Conv2d(6, 64, 3, stride=2, padding=1),
            nn.LeakyReLU(0.2),
            nn.Conv2d(64, 128, 3, stride=2, padding=1),
            nn.InstanceNorm2d(128),
            nn.LeakyReLU(0.2),
            nn.Conv2d(128, 256, 3, stride=2, padding=1),
            nn.InstanceNorm2d(256),
            nn.LeakyReLU(0.2),
            nn.Conv2d(256, 512, 3, stride=1, padding=1),
            nn.InstanceNorm2d(512),
            nn.LeakyReLU(0.2),
            nn.Conv2d(512, 1, 3, stride=1, padding=1),
            nn.Sigmoid(),
        )

    def forward(self, img, condition):
        condition = condition.squeeze(0)  # takes the batch axis away when there is one image
        condition = condition.view(condition.size(0), 3, 9, 512)
        condition = F.interpolate(condition, size=(224, 224), mode='bilinear', align_corners=False)
        x = torch.cat([img, condition], dim=1)
        return self.model(x)


class Generator3(nn.Module):
    """(noise [B,181,1,1], cond [B,27,512]) -> uv_z [B,1,256,256] in (-1,1).

    noise = jaw pose 3, expression 50, detail code 128. All constructor arguments are without effect.
    """

    def __init__(self, latent_dim=100, out_channels=1, out_scale=0.01, sample_mode='bilinear'):
        super(Generator3, self).__init__()
        self.out_scale = out_scale
        self.lin = nn.Conv2d(27 * 512, 41, 1)
        channels = [222, 256, 512, 256, 128, 64, 32, 16, 8]
        layers = []
        for i in range(8):
            layers += [
                nn.Upsample(scale_factor=2),
                nn.Conv2d(channels[i], channels[i + 1], 3, stride=1, padding=1),
                nn.InstanceNorm2d(channels[i + 1]),
                nn.LeakyReLU(0.2),
            ]
        layers += [nn.Conv2d(8, 1, 3, stride=1, padding=1), nn.Tanh()]
        self.model = nn.Sequential(*layers)

    def forward(self, noise, cond):
        cond = cond.reshape(cond.size(0), -1, 1, 1)
        cond = self.lin(cond)
        x = torch.cat([noise, cond], dim=1)
        return self.model(x)
