"""Sharded models save lazily through torch's distributed checkpoints."""

from pathlib import Path


def test_a_sharded_model_saves_lazily_and_goes_on_from_it(tmp_path, zygote):
    script, meeting = Path(__file__).with_name("sharded_saves.py"), f"file://{tmp_path}/meeting"
    both = [zygote.start([script, meeting, rank, tmp_path], tmp_path, rank) for rank in range(2)]
    assert [one.wait() for one in both] == [0, 0], [one.error.read_text() for one in both]
