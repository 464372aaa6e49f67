import shutil
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modern.data.clip_folder import ClipFolder
from modern.data.frames import DataError
from modern.data.sources import Source, split_clips


def make_tree(root: Path, clips: int) -> Path:
    """Folders dataset/{images,masks}/person/clip; only names matter here."""
    for index in range(clips):
        for kind in ("images", "masks"):
            folder = root / kind / f"p{index % 2}" / f"c{index}"
            folder.mkdir(parents=True)
            (folder / "0000.png").write_bytes(b"")
    return root


def test_depth_and_search_find_the_same_clips(tmp_path: Path) -> None:
    root = make_tree(tmp_path / "set", 5)
    by_depth = Source(root=root / "masks", depth=2).clips(seed=0)
    assert [clip.images.name for clip in by_depth] == ["c0", "c2", "c4", "c1", "c3"]
    assert Source(root=root / "masks").clips(seed=0) == by_depth
    assert Source(root=root).clips(seed=0) == by_depth


def test_limit_is_a_seeded_choice(tmp_path: Path) -> None:
    source = Source(root=make_tree(tmp_path / "set", 12) / "masks", depth=2, limit=4)
    choices = [tuple(source.clips(seed)) for seed in range(6)]
    assert all(len(set(choice)) == 4 for choice in choices)
    assert choices == [tuple(source.clips(seed)) for seed in range(6)]
    assert len(set(choices)) > 1


@given(fraction=st.floats(0, 0.8), seed=st.integers(0, 2**31), repeat=st.integers(1, 6))
def test_split_is_disjoint_complete_and_seeded(tree: Path, fraction: float, seed: int, repeat: int) -> None:
    sources = [Source(root=tree, repeat=repeat)]
    split = split_clips(sources, fraction, seed)
    train, validation = set(split.train), set(split.validation)
    assert not train & validation
    assert train | validation == set(sources[0].clips(seed))
    assert len(split.validation) == len(validation) == round(fraction * 10)
    assert all(split.train.count(clip) == repeat for clip in train)
    assert split == split_clips(sources, fraction, seed)


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tree(tmp_path_factory.mktemp("tree") / "set", 10)


def test_seeds_choose_different_validation_clips(tree: Path) -> None:
    chosen = {split_clips([Source(root=tree)], 0.3, seed).validation for seed in range(10)}
    assert len(chosen) > 1


def test_a_clip_of_two_sources_is_refused(tree: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="found by two sources"):
        split_clips([Source(root=tree / "masks", depth=2), Source(root=tree)], 0.0, 0)
    copied = Path(shutil.copytree(tree, tmp_path / "copy"))
    assert len(split_clips([Source(root=tree), Source(root=copied)], 0.0, 0).train) == 20


def test_record_names_every_item(tree: Path) -> None:
    split = split_clips([Source(root=tree, repeat=2)], 0.2, 0)
    record = split.record()
    assert len(record["train"]) == 16
    assert [ClipFolder(Path(path)) for path in record["validation"]] == list(split.validation)


def test_bad_sources_say_what_to_do(tmp_path: Path, tree: Path) -> None:
    with pytest.raises(DataError, match="no such folder; mount it"):
        split_clips([Source(root=tmp_path / "gone")], 0.0, 0)
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="no clip below it"):
        split_clips([Source(root=tmp_path / "empty")], 0.0, 0)
    with pytest.raises(DataError, match="no clip 4 levels below it"):
        split_clips([Source(root=tree / "masks", depth=4)], 0.0, 0)
    with pytest.raises(ValueError, match="repeat >= 1"):
        Source(root=tree, repeat=0)
    with pytest.raises(DataError, match="no training clip left of 10"):
        split_clips([Source(root=tree)], 0.99, 0)
