"""Three consecutive frames of MEAD and Aff-Wild2 with landmarks and masks."""
import os
import random
from glob import glob

import cv2
import numpy as np
import torch
from skimage.io import imread
from torch.utils.data import ConcatDataset, Dataset


def build_train(config, is_train=True):
    data_list = []
    if 'selfDataset' in config.training_data:
        data_list.append(SelfDataset(K=config.K, image_size=config.image_size, mediapipePath=config.mediapipePath,
                                     scale=[config.scale_min, config.scale_max], trans_scale=config.trans_scale,
                                     isSingle=config.isSingle, is_train=is_train))
    return ConcatDataset(data_list)


class SelfDataset(Dataset):
    """K, image_size, scale, trans_scale, isSingle and is_train are accepted and ignored: always three frames of 224."""

    def __init__(self, K=None, image_size=224, mediapipePath=None, scale=None, trans_scale=0., isSingle=False,
                 is_train=True):
        self.K = K
        self.image_size = 224
        self.windowsize = 3
        self.source1 = '/media/cine/de6afd1d-c444-4d43-a787-079519ace719/MEAD_Dataset_25/masks/'
        self.source2 = '/media/cine/First/Aff-wild2/masks/'
        self.source3 = '/media/cine/First/Aff-wild2/masks/'
        self.landmark_indices = np.load(mediapipePath, allow_pickle=True)['landmark_indices']
        self.mead_list = glob(self.source1 + '*/*/*/*/')
        self.affwild_list = glob(self.source2 + '*/*/')
        self._build_list()
        random.shuffle(self.data_list)

    def _build_list(self):
        random.shuffle(self.mead_list)
        self.data_list = self.mead_list[:3000] + self.affwild_list * 6

    def __len__(self):
        return len(self.data_list)

    def __getitem__(self, idx):
        directory = self.data_list[idx]
        if idx == 0 or idx == len(self.data_list) - 1:
            self._build_list()  # in this worker only, and no longer shuffled as a whole

        images = sorted(glob(os.path.join(directory.replace('masks', 'images'), '*.*')))
        if len(images) < self.windowsize:
            print('not enough frames in', directory)
        center = random.randint(1, len(images) - 2)

        images_list, kpt_list, dense_list, mask_list, names = [], [], [], [], []
        for path in images[center - 1:center + 2]:
            image = imread(path) / 255.
            stem = path.replace('.png', '.npy').replace('.jpg', '.npy')
            kpt = np.load(stem.replace('images', 'kpts'))
            dense = np.load(stem.replace('images', 'kpts_dense'))
            dense = dense[self.landmark_indices, :3]
            mask = self.load_mask(stem.replace('images', 'masks'), image.shape[0], image.shape[1])
            if image.shape[1] != 224:
                image = cv2.resize(image, (224, 224))
                mask = np.resize(mask, (224, 224, 3))  # repeats memory; not a scaling
            images_list.append(image.transpose(2, 0, 1))
            kpt_list.append(kpt)
            dense_list.append(dense)
            mask_list.append(mask.transpose(2, 0, 1))
            names.append(path)

        return {
            'image_224': torch.from_numpy(np.array(images_list)).type(dtype=torch.float32),
            'landmark': torch.from_numpy(np.array(kpt_list)).type(dtype=torch.float32),
            'landmark_dense': torch.from_numpy(np.array(dense_list)).type(dtype=torch.float32),
            'mask': torch.from_numpy(np.array(mask_list)).type(dtype=torch.float32),
            'imagesName': names,
        }

    def load_mask(self, maskpath, h, w):
        """Label map -> 0 elsewhere, 1 face, 2 eyes and mouth, [H,W,3]."""
        if os.path.getsize(maskpath) == 0 or not os.path.exists(maskpath):  # a missing file raises here already
            return np.ones((h, w, 3))
        label = np.load(maskpath)
        mask = np.zeros_like(label, dtype=np.float64)
        mask[label > 0] = 1
        mask[np.isin(label, [4, 5, 7, 8, 9])] = 2
        mask[np.isin(label, [10, 11, 12, 13])] = 0
        mask[label == 0] = 0
        return np.stack([mask] * 3, axis=-1)
