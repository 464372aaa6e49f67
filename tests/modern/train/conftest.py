from pathlib import Path

import pytest
from hypothesis import settings

from tests.modern.data.clip_files import write_clip

settings.register_profile("shared machine", deadline=None)
settings.load_profile("shared machine")


@pytest.fixture(scope="session")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four synthetic clips of 3 to 6 frames."""
    root = tmp_path_factory.mktemp("train") / "clips"
    for index, frames in enumerate((3, 5, 6, 4)):
        write_clip(root / f"clip{index}", frames, seed=10 * index)
    return root
