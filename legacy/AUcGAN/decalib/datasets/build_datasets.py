"""K pictures of one identity with landmarks and masks."""
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
    """scale, trans_scale, isSingle and is_train are accepted and ignored."""

    def __init__(self, K=1, image_size=224, mediapipePath=None, scale=None, trans_scale=0., isSingle=False,
                 is_train=True):
        self.K = K
        self.image_size = image_size
        self.sources = [f'/data/identities_K{K}/']
        self.landmark_indices = np.load(mediapipePath, allow_pickle=True)['landmark_indices']
        self.data_list = []
        for source in self.sources:
            self.data_list += sorted(glob(os.path.join(source, '*', 'masks')))

    def __len__(self):
        return len(self.data_list)

    def __getitem__(self, idx):
        directory = self.data_list[idx % len(self.data_list)]
        files = glob(os.path.join(directory, '*.npy'))
        if len(files) < self.K:
            return self.__getitem__(idx + 1)  # for ever if no folder has enough
        random.shuffle(files)

        images_list, kpt_list, dense_list, mask_list, names = [], [], [], [], []
        for mask_path in files[:self.K]:
            image_path = mask_path.replace('masks', 'images').replace('.npy', '.jpg')
            if not os.path.exists(image_path):
                image_path = image_path.replace('.jpg', '.png')
            image = imread(image_path) / 255.
            kpt = np.load(mask_path.replace('masks', 'kpts'))
            dense = np.load(mask_path.replace('masks', 'kpts_dense'))[self.landmark_indices, :3]
            mask = self.load_mask(mask_path, image.shape[0], image.shape[1])
            image = cv2.resize(image, (self.image_size, self.image_size))
            mask = cv2.resize(mask, (self.image_size, self.image_size))  # soft edges from here on
            images_list.append(image.transpose(2, 0, 1))
            kpt_list.append(kpt)
            dense_list.append(dense)
            mask_list.append(mask)
            names.append(image_path)

        return {
            'image_224': torch.from_numpy(np.array(images_list)).type(dtype=torch.float32),
            'landmark': torch.from_numpy(np.array(kpt_list)).type(dtype=torch.float32),
            'landmark_dense': torch.from_numpy(np.array(dense_list)).type(dtype=torch.float32),
            'mask': torch.from_numpy(np.array(mask_list)).type(dtype=torch.float32),
            'imagesName': names,
        }

    def load_mask(self, maskpath, h, w):
        """Label map -> 1 on the face, 0 elsewhere, [H,W]; without a file three channels of ones."""
        if not os.path.exists(maskpath) or os.path.getsize(maskpath) == 0:
            return np.ones((h, w, 3))
        label = np.load(maskpath)
        mask = np.zeros_like(label, dtype=np.float64)
        mask[label > 0] = 1
        mask[np.isin(label, [10, 11, 12, 13])] = 0
        return mask
