"""A session's folder holds what was recorded, whatever ended the process that recorded it."""

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from fieldtune.errors import FieldtuneError, UserError
from ondevice.session import Session

CONFIG = {"model": "upydnet", "board": "native", "model_hash": 0x1234, "plan_hash": 0x5678, "lr": 0.05}


def sample(frame: int) -> dict[str, NDArray]:
    rng = np.random.default_rng(frame)
    return {
        "image": rng.integers(0, 256, (6, 8, 3), dtype=np.uint8),
        "disparity": rng.random((6, 8, 1), dtype=np.float32),
        "mask": rng.integers(0, 2, (6, 8, 1), dtype=np.uint8),
    }


def weights(step: int) -> dict[str, NDArray]:
    return {"decoder0.conv0.weight": np.full((3, 3, 4), step, np.float32), "file": np.arange(step + 1)}


def record(session: Session, first: int, last: int, frames: int = 4) -> None:
    for step in range(first, last + 1):
        session.record_sample(step, sample((step - 1) % frames))
        session.record_step(step, {"berhu": 1 / step}, 0.25, step % 2)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "session"


# --- creating and opening


def test_what_is_recorded_is_read_back(folder: Path) -> None:
    with Session.create(folder, CONFIG) as session:
        session.save_plan({"ram_bytes": 1000})
        session.save_weights("before", weights(0))
        record(session, 1, 6)
        session.save_checkpoint(6, weights(6))
        session.save_weights("after", weights(6))
        depth = np.ones((2, 6, 8), np.float32)
        session.save_predictions(np.zeros((2, 6, 8, 3), np.uint8), depth, depth * 2, depth * 3)
        session.finish({"steps": 6, "after": {"rmse": np.float32(0.5), "abs_rel": float("nan")}})

    session = Session.open(folder, {"model_hash": 0x1234})
    assert session.config == CONFIG
    assert session.plan() == {"ram_bytes": 1000}
    assert session.results() == {"steps": 6, "after": {"rmse": 0.5, "abs_rel": None}}
    np.testing.assert_array_equal(session.weights("after")["decoder0.conv0.weight"], np.full((3, 3, 4), 6))
    curve = session.curve()
    assert curve.loss_names == ("berhu",)
    assert curve.step.tolist() == [1, 2, 3, 4, 5, 6]
    assert curve.losses[:, 0].tolist() == [1 / step for step in range(1, 7)]
    assert (curve.seconds.sum(), curve.resent.sum()) == (1.5, 3)
    predictions = session.predictions()
    assert predictions is not None
    np.testing.assert_array_equal(predictions.after, depth * 3)
    checkpoint = session.load_checkpoint()
    assert checkpoint is not None
    assert checkpoint.step == 6
    assert set(checkpoint.arrays) == {"decoder0.conv0.weight", "file"}


def test_several_losses_have_a_column_each_even_with_a_comma_in_the_name(folder: Path) -> None:
    with Session.create(folder, CONFIG) as session:
        session.record_step(1, {"depth, near": 0.1, "class": float("nan")}, 0.5, 0)
        curve = session.curve()
    assert curve.loss_names == ("depth, near", "class")
    assert curve.losses[0, 0] == 0.1
    assert np.isnan(curve.losses[0, 1])


def test_a_folder_with_a_session_is_refused_and_left_as_it_is(folder: Path) -> None:
    with Session.create(folder, CONFIG) as session:
        record(session, 1, 2)
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    with pytest.raises(UserError, match="--resume or choose another -o"):
        Session.create(folder, {"model": "another"})
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before


def test_a_file_in_the_place_of_the_folder_is_an_error_that_names_it(folder: Path) -> None:
    folder.write_text("not a folder")
    with pytest.raises(UserError, match=str(folder)):
        Session.create(folder, CONFIG)


@pytest.mark.parametrize("key", ["model_hash", "plan_hash"])
def test_another_model_or_plan_is_refused(folder: Path, key: str) -> None:
    Session.create(folder, CONFIG).close()
    for use in (Session.open, Session.resume):
        with pytest.raises(UserError, match=rf"made with {key} = {CONFIG[key]}, not 1;"):
            use(folder, {key: 1})


def test_a_session_is_written_by_one_process_at_a_time(folder: Path) -> None:
    with Session.create(folder, CONFIG):
        with pytest.raises(UserError, match="another process"):
            Session.resume(folder, CONFIG)
        Session.open(folder)
    Session.resume(folder, CONFIG).close()


def test_a_session_opened_to_read_refuses_to_write(folder: Path) -> None:
    Session.create(folder, CONFIG).close()
    session = Session.open(folder)
    for write in (
        lambda: session.log("no"),
        lambda: session.record_sample(1, sample(1)),
        lambda: session.record_step(1, {"l1": 1.0}, 1.0, 0),
        lambda: session.save_checkpoint(1, {}),
        lambda: session.finish({}),
    ):
        with pytest.raises(FieldtuneError, match="reading only"):
            write()
    assert [path.name for path in folder.iterdir()] == ["session.json"]


def test_a_folder_without_a_session_is_named(folder: Path) -> None:
    with pytest.raises(UserError, match=r"holds no session, session\.json is missing"):
        Session.open(folder)


# --- damage


@pytest.mark.parametrize(
    ("name", "content", "use"),
    [
        ("session.json", b"{", lambda s: Session.open(s.path)),
        ("session.json", b"[1]", lambda s: Session.open(s.path)),
        ("results.json", b"\xff\xfe", lambda s: s.results()),
        ("curve.csv", b"1,2,3\n", lambda s: s.curve()),
        ("curve.csv", b"step,l1,seconds,resent\n1,x,0.5,0\n", lambda s: s.curve()),
        ("curve.csv", b"step,l1,seconds,resent\n1,0.5,0\n", lambda s: s.curve()),
        ("curve.csv", b"step,l1,seconds,resent\n2,1,1,0\n1,1,1,0\n", lambda s: s.curve()),
        ("checkpoint.npz", b"PK\x03\x04", lambda s: s.load_checkpoint()),
        ("predictions.npz", b"", lambda s: s.predictions()),
        ("weights_after.npz", b"no zip", lambda s: s.weights("after")),
        ("samples.npz", b"no zip", lambda s: list(s.samples())),
        ("samples/index.csv", b"1;2\n", lambda s: list(s.samples())),
    ],
)
def test_a_damaged_file_is_named(folder: Path, name: str, content: bytes, use) -> None:
    Session.create(folder, CONFIG).close()
    session = Session.open(folder)
    (folder / name).parent.mkdir(exist_ok=True)
    (folder / name).write_bytes(content)
    with pytest.raises(UserError, match=rf"{name} is damaged: "):
        use(session)


def test_no_flipped_byte_of_a_checkpoint_goes_unnoticed(folder: Path) -> None:
    with Session.create(folder, CONFIG) as session:
        session.save_checkpoint(3, {"w": np.arange(40, dtype=np.float32)})
    path = folder / "checkpoint.npz"
    whole = path.read_bytes()
    for position in range(0, len(whole), 7):
        path.write_bytes(whole[:position] + bytes([whole[position] ^ 0x40]) + whole[position + 1 :])
        try:
            checkpoint = Session.open(folder).load_checkpoint()
        except UserError:
            continue
        # Dates, permissions and the like are in no checksum; the weights and the step are.
        assert checkpoint is not None
        assert checkpoint.step == 3
        np.testing.assert_array_equal(checkpoint.arrays.get("w", np.arange(40)), np.arange(40))


def test_missing_weights_are_named(folder: Path) -> None:
    Session.create(folder, CONFIG).close()
    with pytest.raises(UserError, match=r"weights_before\.npz: No such file"):
        Session.open(folder).weights("before")


# --- samples


def test_a_frame_that_comes_again_is_stored_once(folder: Path) -> None:
    with Session.create(folder, CONFIG) as session:
        record(session, 1, 10, frames=4)
        assert len(list((folder / "samples").glob("*.npz"))) == 4
        session.finish({})
    with np.load(folder / "samples.npz") as packed:
        assert packed["image"].shape == (4, 6, 8, 3)
        assert packed["sample_of_step"].tolist() == [[step, (step - 1) % 4] for step in range(1, 11)]
    assert not (folder / "samples").exists()


@pytest.mark.parametrize("packed", [False, True])
def test_a_session_replays_the_samples_in_the_order_of_the_steps(folder: Path, packed: bool) -> None:
    with Session.create(folder, CONFIG) as session:
        record(session, 1, 6)
        if packed:
            session.finish({})
    replayed = dict(Session.open(folder).samples())
    assert list(replayed) == [1, 2, 3, 4, 5, 6]
    for step, arrays in replayed.items():
        assert arrays.keys() == sample(0).keys()
        for name, array in sample((step - 1) % 4).items():
            np.testing.assert_array_equal(arrays[name], array)


def test_samples_of_another_shape_are_not_packed(folder: Path) -> None:
    with Session.create(folder, CONFIG) as session:
        session.record_sample(1, {"image": np.zeros((2, 2))})
        session.record_sample(2, {"image": np.zeros((3, 2))})
        with pytest.raises(FieldtuneError, match="differ in names, shapes or types"):
            session.finish({})


# --- resuming


@pytest.mark.parametrize("packed", [False, True])
def test_resume_goes_back_to_the_checkpoint(folder: Path, packed: bool) -> None:
    with Session.create(folder, CONFIG) as session:
        record(session, 1, 4)
        session.save_checkpoint(4, weights(4))
        record(session, 5, 7)
        if packed:
            session.finish({})
    with Session.resume(folder, CONFIG) as session:
        assert session.curve().step.tolist() == [1, 2, 3, 4]
        assert [step for step, _ in session.samples()] == [1, 2, 3, 4]
        record(session, 5, 6)
        session.finish({})
    assert session.curve().step.tolist() == [1, 2, 3, 4, 5, 6]
    assert [step for step, _ in session.samples()] == [1, 2, 3, 4, 5, 6]


def test_resume_without_a_checkpoint_begins_anew(folder: Path) -> None:
    with Session.create(folder, CONFIG) as session:
        record(session, 1, 3)
    with Session.resume(folder, CONFIG) as session:
        assert session.curve().step.size == 0
        assert list(session.samples()) == []
        session.record_step(1, {"another": 2.0}, 0.1, 0)
        assert session.curve().loss_names == ("another",)


def test_a_checkpoint_beyond_the_curve_is_damage(folder: Path) -> None:
    with Session.create(folder, CONFIG) as session:
        record(session, 1, 3)
        session.save_checkpoint(4, weights(4))
    with pytest.raises(UserError, match="ends before the checkpoint's step 4"):
        Session.resume(folder, CONFIG)


def test_the_log_goes_on_counting_after_a_resume(folder: Path) -> None:
    with Session.create(folder, CONFIG) as session:
        session.log("begun")
    (folder / "log.txt").write_text("   100.000 s  step 7\n   101.000 s  ste")
    with Session.resume(folder, CONFIG) as session:
        session.log("resumed\nin two lines")
    lines = (folder / "log.txt").read_text().splitlines()
    assert lines[0].endswith("step 7")
    assert [line.split(" s  ")[1] for line in lines] == ["step 7", "resumed", "in two lines"]
    assert all(float(line.split(" s ")[0]) >= 100 for line in lines)


def test_a_line_cut_at_any_byte_is_passed_over(folder: Path) -> None:
    with Session.create(folder, CONFIG) as session:
        record(session, 1, 2)
    files = {name: (folder / name).read_bytes() for name in ("curve.csv", "samples/index.csv")}
    for name, whole in files.items():
        path = folder / name
        for length in range(len(whole)):
            path.write_bytes(whole[:length])
            session = Session.open(folder)
            lines = whole[:length].count(b"\n")
            if name == "curve.csv":
                assert session.curve().step.tolist() == [1, 2][: max(lines - 1, 0)]
            else:
                assert [step for step, _ in session.samples()] == [1, 2][:lines]
            Session.resume(folder, CONFIG).close()
