"""Geometry, files and drawing."""
import os

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from scipy.ndimage import binary_erosion as erode


def batch_orth_proj(X, camera):
    """Scaled orthographic projection: X [B,N,3], camera [B,3] = scale, tx, ty. Translation comes before scaling."""
    camera = camera.clone().view(-1, 1, 3)
    X_trans = X[:, :, :2] + camera[:, :, 1:]
    X_trans = torch.cat([X_trans, X[:, :, 2:]], 2)
    return camera[:, :, 0:1] * X_trans


def face_vertices(vertices, faces):
    """vertices [B,V,3], faces [B,F,3] -> corners [B,F,3,3]."""
    bs, nv = vertices.shape[:2]
    faces = faces + (torch.arange(bs, dtype=torch.int32).to(vertices.device) * nv)[:, None, None]
    vertices = vertices.reshape((bs * nv, vertices.shape[-1]))
    return vertices[faces.long()]


def vertex_normals(vertices, faces):
    """vertices [B,V,3], faces [B,F,3] -> unit normals [B,V,3], weighted by face area.

    Three cross products per face, added for the second corner of all faces, then the third, then the first.
    """
    bs, nv = vertices.shape[:2]
    normals = torch.zeros(bs * nv, 3).to(vertices.device)
    faces = faces + (torch.arange(bs, dtype=torch.int32).to(vertices.device) * nv)[:, None, None]
    vertices_faces = vertices.reshape((bs * nv, 3))[faces.long()]

    faces = faces.reshape(-1, 3)
    vertices_faces = vertices_faces.reshape(-1, 3, 3)
    normals.index_add_(0, faces[:, 1].long(),
                       torch.cross(vertices_faces[:, 2] - vertices_faces[:, 1],
                                   vertices_faces[:, 0] - vertices_faces[:, 1], dim=1))
    normals.index_add_(0, faces[:, 2].long(),
                       torch.cross(vertices_faces[:, 0] - vertices_faces[:, 2],
                                   vertices_faces[:, 1] - vertices_faces[:, 2], dim=1))
    normals.index_add_(0, faces[:, 0].long(),
                       torch.cross(vertices_faces[:, 1] - vertices_faces[:, 0],
                                   vertices_faces[:, 2] - vertices_faces[:, 0], dim=1))
    normals = F.normalize(normals, eps=1e-6, dim=1)
    return normals.reshape((bs, nv, 3))


def generate_triangles(h, w, margin_x=2, margin_y=5):
    """Triangles of an h x w grid inside the margins; vertex index y*w + x."""
    triangles = []
    for x in range(margin_x, w - 1 - margin_x):
        for y in range(margin_y, h - 1 - margin_y):
            corner = y * w + x
            triangles.append([corner, corner + 1, corner + w])
            triangles.append([corner + 1, corner + w + 1, corner + w])
    return np.array(triangles)[:, [0, 2, 1]]


def binary_erosion(tensor, kernel_size=5):
    """tensor [B,1,H,W]; any value but 0 counts as set, everything outside the picture as unset. On the CPU."""
    mask = tensor.detach().cpu().numpy()
    structure = np.ones((kernel_size, kernel_size))
    eroded = mask.copy()
    for i in range(mask.shape[0]):
        eroded[i, 0] = erode(mask[i, 0], structure)
    return torch.from_numpy(eroded.astype(np.float32)).to(tensor.device)


def load_local_mask(image_size=256, mode='bbx'):
    """Boxes of the face and its parts in texture space, rows of left, right, top, bottom."""
    if mode == 'bbx':
        face = np.array([400, 1648, 400, 1648])
        forehead = np.array([550, 1498, 430, 700 + 50])
        eye_nose = np.array([490, 490 + 1068, 700, 700 + 400])
        mouth = np.array([574, 574 + 900, 1050, 1050 + 500])
        ratio = image_size / 2048.
        return [(box * ratio).astype(int) for box in (face, forehead, eye_nose, mouth)]
    raise NotImplementedError(mode)


def load_obj(obj_filename):
    """Triangle mesh with texture coordinates: vertices [V,3], uvcoords [U,2], faces [F,3], uvfaces [F,3]."""
    verts, uvcoords, faces, uv_faces = [], [], [], []
    with open(obj_filename, 'r') as f:
        for line in f:
            tokens = line.split()
            if not tokens:
                continue
            if tokens[0] == 'v':
                verts.append([float(x) for x in tokens[1:4]])
            elif tokens[0] == 'vt':
                uvcoords.append([float(x) for x in tokens[1:3]])
            elif tokens[0] == 'f':
                corners = [t.split('/') for t in tokens[1:4]]
                faces.append([int(c[0]) - 1 for c in corners])
                uv_faces.append([int(c[1]) - 1 for c in corners])
    return (torch.tensor(verts, dtype=torch.float32), torch.tensor(uvcoords, dtype=torch.float32),
            torch.tensor(faces, dtype=torch.long), torch.tensor(uv_faces, dtype=torch.long))


def write_obj(obj_name, vertices, faces, colors=None, texture=None, uvcoords=None, uvfaces=None,
              inverse_face_order=False, normal_map=None):
    """Write a mesh, with vertex colours or a texture (.mtl and .png beside it)."""
    if os.path.splitext(obj_name)[-1] != '.obj':
        obj_name = obj_name + '.obj'
    mtl_name = obj_name.replace('.obj', '.mtl')
    texture_name = obj_name.replace('.obj', '.png')
    material_name = 'FaceTexture'
    faces = faces.copy() + 1
    if inverse_face_order:
        faces = faces[:, [2, 1, 0]]
        uvfaces = uvfaces[:, [2, 1, 0]] if uvfaces is not None else None
    with open(obj_name, 'w') as f:
        if texture is not None:
            f.write('mtllib %s\n\n' % os.path.basename(mtl_name))
        for i, v in enumerate(vertices):
            c = [] if colors is None else list(colors[i])
            f.write('v ' + ' '.join(str(x) for x in list(v) + c) + '\n')
        if texture is None:
            for face in faces:
                f.write('f {} {} {}\n'.format(*face))
            return
        for uv in uvcoords:
            f.write('vt {} {}\n'.format(uv[0], uv[1]))
        f.write('usemtl %s\n' % material_name)
        for face, uvface in zip(faces, uvfaces + 1):
            f.write('f {}/{} {}/{} {}/{}\n'.format(face[0], uvface[0], face[1], uvface[1], face[2], uvface[2]))
    with open(mtl_name, 'w') as f:
        f.write('newmtl %s\n' % material_name)
        f.write('map_Kd %s\n' % os.path.basename(texture_name))
        if normal_map is not None:
            name = texture_name.replace('.png', '_normals.png')
            f.write('disp %s\n' % os.path.basename(name))
            cv2.imwrite(name, normal_map)
    cv2.imwrite(texture_name, texture)


def copy_state_dict(cur_state_dict, pre_state_dict, prefix='', load_name=None):
    """Copy entry by entry; whatever does not fit is passed over without a word.

    For an optimizer's state dict nothing fits: its entries are dicts and lists.
    """
    def _get_params(key):
        key = prefix + key
        if key in pre_state_dict:
            return pre_state_dict[key]
        return None

    for k in cur_state_dict.keys():
        if load_name is not None and load_name not in k:
            continue
        v = _get_params(k)
        try:
            if v is None:
                continue
            cur_state_dict[k].copy_(v)
        except:
            continue


def dict2obj(d):
    if not isinstance(d, dict):
        return d
    obj = type('C', (object,), {})()
    for k in d:
        obj.__dict__[k] = dict2obj(d[k])
    return obj


def tensor2image(tensor):
    """[3,H,W] RGB 0..1 -> uint8 [H,W,3] BGR (truncated, not rounded)."""
    image = tensor.detach().cpu().numpy()
    image = image * 255.
    image = np.maximum(np.minimum(image, 255), 0)
    image = image.transpose(1, 2, 0)[:, :, [2, 1, 0]]
    return image.astype(np.uint8).copy()


# first index of each open contour of the 68 points
end_list = np.array([17, 22, 27, 42, 48, 31, 36, 68], dtype=np.int32) - 1


def plot_kpts(image, kpts, color='r'):
    """The 68 points with the lines between them."""
    c = {'r': (255, 0, 0), 'g': (0, 255, 0), 'b': (255, 0, 0)}[color]
    image = image.copy()
    kpts = kpts.copy()
    radius = max(int(min(image.shape[0], image.shape[1]) / 200), 1)
    for i in range(kpts.shape[0]):
        st = kpts[i, :2]
        if kpts.shape[1] == 4:
            c = (0, 255, 0) if kpts[i, 3] > 0.5 else (0, 0, 255)
        image = cv2.circle(image, (int(st[0]), int(st[1])), radius, c, radius * 2)
        if i in end_list:
            continue
        ed = kpts[min(i + 1, kpts.shape[0] - 1), :2]
        image = cv2.line(image, (int(st[0]), int(st[1])), (int(ed[0]), int(ed[1])), (255, 255, 255), radius)
    return image


def plot_verts(image, kpts, color='r'):
    """Points only."""
    c = {'r': (255, 0, 0), 'g': (0, 255, 0), 'b': (0, 0, 255), 'y': (0, 255, 255)}[color]
    image = image.copy()
    for i in range(kpts.shape[0]):
        st = kpts[i, :2]
        image = cv2.circle(image, (int(st[0]), int(st[1])), 1, c, 5)
    return image


def tensor_vis_landmarks(images, landmarks, gt_landmarks=None, color='g', isScale=True):
    """images [B,3,H,W], landmarks [B,N,2..4] in [-1,1] -> pictures with points [B,3,H,W].

    On the CPU the numpy array is the tensor's own memory, so the caller's landmarks end in pixels.
    """
    vis_landmarks = []
    images = images.cpu().numpy()
    predicted_landmarks = landmarks.detach().cpu().numpy()
    gt_landmarks_np = None if gt_landmarks is None else gt_landmarks.detach().cpu().numpy()
    for i in range(images.shape[0]):
        image = images[i].transpose(1, 2, 0)[:, :, [2, 1, 0]].copy() * 255
        predicted_landmark = predicted_landmarks[i]
        if isScale:
            predicted_landmark[..., 0] = predicted_landmark[..., 0] * image.shape[1] / 2 + image.shape[1] / 2
            predicted_landmark[..., 1] = predicted_landmark[..., 1] * image.shape[0] / 2 + image.shape[0] / 2
        draw = plot_kpts if predicted_landmark.shape[0] == 68 else plot_verts
        image_landmarks = draw(image, predicted_landmark, color)
        if gt_landmarks_np is not None:
            gt = gt_landmarks_np[i].copy()
            gt[:, :2] = gt[:, :2] * image.shape[0] / 2 + image.shape[0] / 2
            image_landmarks = draw(image_landmarks, gt, 'r')
        vis_landmarks.append(image_landmarks)
    vis_landmarks = np.stack(vis_landmarks)
    return torch.from_numpy(vis_landmarks[:, :, :, [2, 1, 0]].transpose(0, 3, 1, 2)) / 255.
