import torch
from hypothesis import given
from hypothesis import strategies as st

from modern.codes import (
    ENCODER_LAYOUT,
    join_encoder,
    join_predicted,
    split_encoder,
    with_axis_angle_jaw,
    with_predicted,
)
from modern.rotation import axis_angle_to_matrix, euler_to_axis_angle

angles = st.lists(st.floats(-3, 3, width=32), min_size=3, max_size=3)


@given(angles)
def test_rotations_are_orthogonal(values):
    rotation = axis_angle_to_matrix(torch.tensor([values], dtype=torch.float64))[0]
    # 1e-8 enters the norm of the axis (coarse spec 5.1), so its length is off by about 1e-8 / angle.
    slack = 1e-6 if torch.tensor(values).norm() > 0.1 else 1e-3
    torch.testing.assert_close(rotation @ rotation.T, torch.eye(3, dtype=torch.float64), atol=slack, rtol=0)
    assert torch.linalg.det(rotation) > 0


def test_no_rotation_is_exactly_the_identity():
    assert torch.equal(axis_angle_to_matrix(torch.zeros(1, 3))[0], torch.eye(3))


@given(st.integers(0, 2), st.floats(-3, 3, width=32))
def test_euler_about_one_axis_is_that_axis_times_the_angle(axis, angle):
    euler = torch.zeros(1, 3, dtype=torch.float64)
    euler[0, axis] = angle
    torch.testing.assert_close(euler_to_axis_angle(euler), euler, atol=1e-12, rtol=1e-9)


def test_euler_gradient_is_finite_at_zero():
    euler = torch.zeros(2, 3, requires_grad=True)
    euler_to_axis_angle(euler).sum().backward()
    assert torch.isfinite(euler.grad).all()


def test_splitting_and_joining_are_inverse():
    vector = torch.arange(2 * sum(ENCODER_LAYOUT.values()), dtype=torch.float32).view(2, -1)
    assert torch.equal(join_encoder(split_encoder(vector)), vector)
    out = -torch.arange(2 * 127, dtype=torch.float32).view(2, -1)
    merged = with_predicted(split_encoder(vector), out)
    assert torch.equal(join_predicted(merged), out)
    assert torch.equal(merged.shape_B100, vector[:, :100])
    assert torch.equal(merged.tex_B50, out[:, :50])
    assert torch.equal(merged.light_B93[:, 2, 1], out[:, 100 + 3 * 2 + 1])


def test_euler_jaw_is_turned_and_the_input_kept():
    vector = torch.zeros(1, 236)
    vector[0, 203] = 0.4
    codes = split_encoder(vector)
    turned = with_axis_angle_jaw(codes)
    torch.testing.assert_close(turned.pose_B6[0, 3], torch.tensor(0.4))
    assert torch.equal(codes.pose_B6, vector[:, 200:206])


def test_wrong_width_is_refused():
    import pytest

    with pytest.raises(ValueError, match="236"):
        split_encoder(torch.zeros(1, 235))
