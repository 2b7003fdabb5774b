"""The latents dataset: what is written is read, nothing twice, nothing lost."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from stylegan_surv.errors import InputError, Refused
from stylegan_surv.inversion import Latents
from stylegan_surv.inversion import writer as store
from stylegan_surv.inversion.dataset import read_noise, shards
from stylegan_surv.inversion.export import export
from stylegan_surv.inversion.verify import verify
from stylegan_surv.inversion.writer import LatentsWriter

META = {"num_ws": 2, "w_dim": 3, "generator_sha256": "g", "method": "encoder", "settings": {"seed": 0}}


def rows(*names: str, status: str = "ok") -> list[dict]:
    return [
        {
            "photo_id": name,
            "patient_id": f"patient-{name}",
            "source_sha256": name,
            "status": status,
            "error": None if status == "ok" else "no face",
            "w_plus": np.full(6, ord(name[0]), np.float32) if status == "ok" else None,
            "lpips": 0.25,
            "steps": 3,
            "seed": 0,
        }
        for name in names
    ]


def test_what_is_written_is_read(tmp_path):
    with LatentsWriter(tmp_path / "l", META) as writer:
        writer.write(rows("c", "a"))
        writer.write(rows("b", status="failed"))
    latents = Latents.open(tmp_path / "l")
    assert list(latents.ids) == ["a", "c"]
    assert list(latents.patient_ids) == ["patient-a", "patient-c"]
    assert latents.w_plus.dtype == np.float32
    assert latents.w_plus[:, 0, 0].tolist() == [97, 99]
    assert latents.failed[["photo_id", "error"]].to_numpy().tolist() == [["b", "no face"]]
    assert latents.metadata["num_ws"] == 2
    frame = latents.to_frame()
    assert frame["w_plus"][1].tolist() == [99] * 6
    assert not any(path.name.endswith(".tmp") for path in (tmp_path / "l").iterdir())


def test_other_readers_see_the_same_rows(tmp_path):
    with LatentsWriter(tmp_path, META) as writer:
        writer.write(rows("a"))
        writer.write(rows("b", status="failed"))
    frame = pd.read_parquet(tmp_path)
    assert list(frame["photo_id"]) == ["a", "b"]
    assert frame["w_plus"][0].tolist() == [97] * 6
    assert frame["w_plus"][1] is None
    assert pq.read_table(tmp_path).schema.field("w_plus").type.list_size == 6


def test_a_second_process_is_refused(tmp_path):
    with LatentsWriter(tmp_path, META), pytest.raises(Refused, match="is writing"):
        LatentsWriter(tmp_path, META).__enter__()
    with LatentsWriter(tmp_path, META):
        pass


def test_a_file_system_without_locks_is_named(tmp_path, monkeypatch):
    def none(*_):
        raise OSError(37, "No locks available")

    monkeypatch.setattr(store.fcntl, "flock", none)
    with pytest.raises(InputError, match=r"Cannot lock .*No locks available.*file locks"):
        LatentsWriter(tmp_path, META).__enter__()


def test_other_settings_are_refused_with_the_difference(tmp_path):
    with LatentsWriter(tmp_path, {**META, "settings": {"seed": 3}}):
        pass  # stores nothing, and binds nobody
    with LatentsWriter(tmp_path, META) as writer:
        writer.write(rows("a"))
    with pytest.raises(Refused, match="seed = 0, not 1"):
        LatentsWriter(tmp_path, {**META, "settings": {"seed": 1}}).__enter__()
    with pytest.raises(Refused, match="generator_sha256 = g, not h"):
        LatentsWriter(tmp_path, {**META, "generator_sha256": "h"}).__enter__()


def test_rows_of_changed_photographs_are_dropped(tmp_path):
    with LatentsWriter(tmp_path, META) as writer:
        writer.write(rows("a", "b"))
        writer.write(rows("c"))
        writer.discard(["a", "c", "unknown"])
        assert list(writer.present) == ["b"]
        writer.write(rows("a"))
    assert list(Latents.open(tmp_path).ids) == ["a", "b"]


def test_compacting_keeps_every_row_once(tmp_path):
    with LatentsWriter(tmp_path, META) as writer:
        for name in "fedcba":
            writer.write(rows(name))
    before = Latents.open(tmp_path)
    spare = shards(tmp_path)[0].read_bytes()
    with LatentsWriter(tmp_path, META) as writer:
        assert writer.compact(rows_per_shard=4) == 2
    (tmp_path / "part-000000.parquet").write_bytes(spare)  # as if killed before the parts were deleted
    again = Latents.open(tmp_path)
    export(tmp_path, tmp_path.with_suffix(".csv"))
    assert list(pd.read_csv(tmp_path.with_suffix(".csv"))["photo_id"]) == ["f", "e", "d", "c", "b", "a"]
    assert again.frame.equals(before.frame)
    assert again.w_plus.tobytes() == before.w_plus.tobytes()
    with LatentsWriter(tmp_path, META):
        assert len(pd.read_parquet(tmp_path)) == 6  # the next writer removes the spare copy
    with LatentsWriter(tmp_path, META) as writer:
        assert writer.compact() == 1
    assert len(pd.read_parquet(tmp_path)) == 6
    assert Latents.open(tmp_path).w_plus.tobytes() == before.w_plus.tobytes()


def test_a_shard_of_failures_alone_is_sound(tmp_path):
    with LatentsWriter(tmp_path, META) as writer:
        writer.write(rows("a"))
        writer.write([{**row, "status": "failed", "w_plus": None} for row in rows("b", "c")])
    assert verify(tmp_path) == []


def test_files_of_other_names_are_not_taken_for_shards(tmp_path):
    with LatentsWriter(tmp_path, META) as writer:
        writer.write(rows("a"))
        (tmp_path / "backup.parquet").write_bytes(b"the user's own")
        writer.write(rows("b"))
    assert list(Latents.open(tmp_path).ids) == ["a", "b"]


def test_a_failed_write_leaves_nothing_behind(tmp_path, monkeypatch):
    def full(path, tables):
        path.write_bytes(b"PAR1")
        raise OSError(28, "No space left on device")

    with LatentsWriter(tmp_path, META) as writer:
        writer.write(rows("a"))
        with monkeypatch.context() as patch:
            patch.setattr(store, "write_tables", full)
            with pytest.raises(InputError, match=r"No space left on device.*1 photographs are saved"):
                writer.write(rows("b"))
    assert list(Latents.open(tmp_path).ids) == ["a"]
    with LatentsWriter(tmp_path, META) as writer:
        assert list(writer.present) == ["a"]
        writer.write(rows("b"))


def test_a_damaged_shard_is_named(tmp_path):
    with LatentsWriter(tmp_path, META) as writer:
        writer.write(rows("a"))
    shard = shards(tmp_path)[0]
    shard.write_bytes(shard.read_bytes()[:-10])
    with pytest.raises(InputError, match=r"part-000000.parquet is damaged"):
        Latents.open(tmp_path)


def test_latents_in_memory_are_saved_and_selected(tmp_path):
    array = np.arange(12, dtype=np.float32).reshape(2, 2, 3)
    latents = Latents.from_arrays(array, ["x", "y"], ["p", "p"], {"method": "simulated"}, lpips=[0.1, 0.2])
    latents.save(tmp_path / "l")
    read = Latents.open(tmp_path / "l")
    assert read.w_plus.tobytes() == array.tobytes()
    assert list(read.patient_ids) == ["p", "p"]
    assert read.rows["lpips"].tolist() == pytest.approx([0.1, 0.2])
    assert read.select(["y"]).w_plus.tobytes() == array[1:].tobytes()
    with pytest.raises(InputError, match="not in these latents"):
        read.select(["z"])
    with pytest.raises(Refused, match="holds latents already"):
        latents.save(tmp_path / "l")


def test_further_columns_are_saved_too(tmp_path):
    array = np.arange(12, dtype=np.float32).reshape(2, 2, 3)
    more = {"site": ["A", None], "age": [61, 48], "score": [0.5, None], "seen": [True, False]}
    Latents.from_arrays(array, ["x", "y"], **more, taken=pd.to_datetime(["2020-01-31", None])).save(
        tmp_path / "l"
    )
    read = Latents.open(tmp_path / "l")
    assert read.frame["site"].tolist() == ["A", None]
    assert read.frame["age"].tolist() == [61, 48]
    assert read.frame["score"].tolist() == [0.5, pytest.approx(np.nan, nan_ok=True)]
    assert read.frame["seen"].tolist() == [True, False]
    assert read.frame["taken"].tolist() == [pd.Timestamp("2020-01-31"), pd.NaT]
    assert not verify(tmp_path / "l")
    export(tmp_path / "l", tmp_path / "l.csv")
    assert pd.read_csv(tmp_path / "l.csv")["site"].tolist() == ["A", pytest.approx(np.nan, nan_ok=True)]
    read.save(tmp_path / "again")
    pd.testing.assert_frame_equal(Latents.open(tmp_path / "again").frame, read.frame)
    with pytest.raises(InputError, match="column 'odd' cannot be stored"):
        Latents.from_arrays(array, odd=[{1}, 2]).save(tmp_path / "odd")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((np.zeros((2, 6)),), r"expected \[n, num_ws, w_dim\]"),
        ((np.zeros((2, 2, 3)), ["a", "a"]), "occurs twice"),
        ((np.zeros((2, 2, 3)), ["a"]), "expected as many"),
    ],
)
def test_wrong_arrays_are_explained(arguments, message):
    with pytest.raises(InputError, match=message):
        Latents.from_arrays(*arguments)


def test_a_folder_without_latents_is_explained(tmp_path):
    with pytest.raises(InputError, match="not a latents folder"):
        Latents.open(tmp_path)


NOISY = {**META, "noise": 5}


def noisy(*names: str, status: str = "ok") -> list[dict]:
    maps = {name: np.full(5, ord(name[0]) / 3, np.float16) if status == "ok" else None for name in names}
    return [{**row, "noise": maps[row["photo_id"]]} for row in rows(*names, status=status)]


def test_noise_maps_stay_with_their_photographs_through_everything(tmp_path):
    folder = tmp_path / "l"
    with LatentsWriter(folder, NOISY) as writer:
        for name in "dcba":
            writer.write(noisy(name))
        writer.write(noisy("f", status="failed"))
        writer.discard(["c"])
        assert writer.compact() == 1
    assert verify(folder) == []
    assert read_noise(folder, ["a", "d"]).tolist() == np.float16([[97 / 3] * 5, [100 / 3] * 5]).tolist()
    assert list(Latents.open(folder).ids) == ["a", "b", "d"]
    assert pq.read_schema(shards(folder)[0]).field("noise").type.value_type == "halffloat"
    assert export(folder, tmp_path / "x.npz") == 3
    stored = np.load(tmp_path / "x.npz", allow_pickle=False)
    assert stored["noise"].tobytes() == read_noise(folder, list(stored["photo_id"])).tobytes()
    export(folder, tmp_path / "x.csv")
    assert "noise" not in pd.read_csv(tmp_path / "x.csv")


def test_noise_maps_that_are_missing_are_named(tmp_path):
    with LatentsWriter(tmp_path / "l", NOISY) as writer:
        writer.write([*noisy("a"), {**noisy("b")[0], "noise": None}])
        writer.write([{**noisy("c")[0], "noise": np.float16([np.nan] * 5)}])
    assert [fault.split(": ")[1] for fault in verify(tmp_path / "l")] == [
        "b is ok without noise maps",
        "c has noise maps that are not finite",
    ]
    with pytest.raises(InputError, match="'z' has no latent"):
        read_noise(tmp_path / "l", ["a", "z"])
    with LatentsWriter(tmp_path / "m", META) as writer:
        writer.write(rows("a"))
    with pytest.raises(InputError, match="holds no noise maps"):
        read_noise(tmp_path / "m", ["a"])
    Latents.open(tmp_path / "l").save(tmp_path / "n")
    assert verify(tmp_path / "n") == []
