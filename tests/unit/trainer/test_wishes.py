"""A wish for a checkpoint is seen once, with everything it says."""

from pathlib import Path

from services.trainer import wishes


def test_without_a_wish_there_is_none(tmp_path: Path) -> None:
    assert not wishes.are_there(tmp_path)
    assert not wishes.are_there(tmp_path / "not made yet")
    assert wishes.taken(tmp_path) == ()


def test_wishes_are_taken_together_and_then_gone(tmp_path: Path) -> None:
    for label in ("late", "", "early", "late"):
        wishes.leave(tmp_path / "c", label)
    assert wishes.are_there(tmp_path / "c")
    assert wishes.taken(tmp_path / "c") == ("early", "late")
    assert not wishes.are_there(tmp_path / "c")
    assert list((tmp_path / "c").iterdir()) == []


def test_what_is_no_wish_is_cleared_away_and_asks_for_nothing_more(tmp_path: Path) -> None:
    for number, text in enumerate(("", "{", "[]", '{"label": "../x"}', '{"label": 5}', '{"label": "UPPER"}')):
        (tmp_path / f".{number}.wish").write_text(text)
    assert wishes.are_there(tmp_path)
    assert wishes.taken(tmp_path) == ("5",)
    assert not wishes.are_there(tmp_path)


def test_checkpoints_and_unfinished_ones_are_no_wishes(tmp_path: Path) -> None:
    for name in ("step-3", ".step-4.1.part", ".0123abcd"):
        (tmp_path / name).mkdir()
    assert not wishes.are_there(tmp_path)
