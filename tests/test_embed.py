"""Embedding: identity never shifts, results do not depend on the company, runs go on where they stopped."""

from __future__ import annotations

import copy
import json
from dataclasses import replace
from importlib import import_module

import numpy as np
import pytest
import torch
from PIL import Image

from stylegan_surv.cohort import Cohort, read_cohort
from stylegan_surv.errors import InputError, Refused
from stylegan_surv.faces.align import METHOD
from stylegan_surv.faces.chips import Chips
from stylegan_surv.faces.masks.outline import face_mask
from stylegan_surv.gan import LPIPS, Encoder, EncoderConfig, Generator, GeneratorConfig
from stylegan_surv.inversion import EmbedSettings, Latents, Pictures, Schedule, Targets, embed, project
from stylegan_surv.inversion.dataset import read_metadata, read_noise
from stylegan_surv.inversion.noise import NoiseMaps
from stylegan_surv.inversion.optimizers import LBFGS, Adam
from stylegan_surv.inversion.projector import exchangeable
from stylegan_surv.inversion.settings import code_of
from stylegan_surv.inversion.verify import prune, verify
from stylegan_surv.inversion.writer import LatentsWriter
from stylegan_surv.study.data import Exposure

FEW = Schedule(steps=4)
TINY = GeneratorConfig(32, z_dim=8, w_dim=8, mapping_layers=2, channel_base=256, channel_max=8)


@pytest.fixture(scope="module")
def networks() -> tuple[Generator, Encoder]:
    torch.manual_seed(0)
    encoder = Encoder(EncoderConfig(32, TINY.num_ws, TINY.w_dim, channel_base=256, channel_max=8))
    return Generator(TINY).requires_grad_(False), encoder.requires_grad_(False)


@pytest.fixture(scope="module")
def chips(tmp_path_factory: pytest.TempPathFactory) -> Chips:
    """Eleven chips; of other size than the generator's images."""
    rng = np.random.default_rng(0)
    pictures = [np.full((64, 64, 3), rng.integers(0, 255, 3), np.uint8) for _ in range(11)]
    return Chips.create(tmp_path_factory.mktemp("chips"), pictures, [f"p{i:02d}" for i in range(11)])


def run(networks, photos, **options):
    generator, encoder = networks
    around = {name: options.pop(name) for name in ("cohort", "out", "progress") if name in options}
    names = options.pop("photo_ids", None)
    if options.get("method") != "encoder":
        options = {"schedule": FEW, **options}
    settings = EmbedSettings(**{"batch": 4, **options})
    photos = photos if names is None else Pictures(photos, names)
    return embed(photos, generator=generator, encoder=encoder, settings=settings, **around)


def cohort_of(names: list[str], folder) -> Cohort:
    """A table of these photographs, each of a patient of its own."""
    lines = [f"of {name},{name}.png,{i + 1},1" for i, name in enumerate(names)]
    (folder / "table.csv").write_text("\n".join(["patient_id,photo,time,event", *lines]))
    return read_cohort(folder / "table.csv")


def copy_of(chips: Chips, folder, landscape: str) -> Chips:
    """The same chips after one photograph was swapped for a landscape, in which no face is found."""
    for path in chips.folder.iterdir():
        if path.stem != landscape:
            (folder / path.name).write_bytes(path.read_bytes())
    table = chips.table.copy()
    table.loc[table["photo_id"] == landscape, ["status", "error"]] = ["failed", "no face found"]
    table.to_parquet(folder / "_chips.parquet")
    return Chips.open(folder)


@pytest.mark.parametrize(
    "options",
    [{"method": "encoder"}, {"schedule": FEW}, {"schedule": replace(FEW, optimizer="lbfgs", steps=9)}],
)
def test_a_landscape_changes_no_other_latent_in_any_bit(networks, chips, tmp_path, options):
    before = run(networks, chips, **options)
    after = run(networks, copy_of(chips, tmp_path, "p05"), **options)
    assert after.failed[["photo_id", "error"]].to_numpy().tolist() == [["p05", "no face found"]]
    assert list(after.ids) == [name for name in before.ids if name != "p05"]
    rest = before.select(after.ids)
    assert rest.w_plus.tobytes() == after.w_plus.tobytes()
    assert rest.frame[["lpips", "mse"]].equals(after.rows[["lpips", "mse"]])


def test_order_and_company_do_not_matter(networks, chips):
    images = torch.rand(7, 3, 32, 32, generator=torch.Generator().manual_seed(1)) * 2 - 1
    names = [f"n{i}" for i in range(7)]
    whole = run(networks, images, photo_ids=names)
    order = [3, 6, 0]
    part = run(networks, images[order], photo_ids=[names[i] for i in order])
    assert part.w_plus.tobytes() == whole.w_plus[order].tobytes()


def test_an_interrupted_run_goes_on_and_ends_the_same(networks, chips, tmp_path, monkeypatch):
    monkeypatch.setattr(import_module("stylegan_surv.inversion.embedding"), "BATCHES_PER_CHUNK", 1)
    undisturbed = run(networks, chips, out=tmp_path / "a")

    def stop(done: int, total: int) -> None:
        if done >= 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(networks, chips, out=tmp_path / "b", progress=stop)
    seen: list[int] = []
    resumed = run(networks, chips, out=tmp_path / "b", progress=lambda done, total: seen.append(done))
    assert seen[0] == 4
    assert resumed.frame.equals(undisturbed.frame)
    assert resumed.w_plus.tobytes() == undisturbed.w_plus.tobytes()


def test_another_seed_or_generator_is_refused(networks, chips, tmp_path):
    run(networks, chips, out=tmp_path / "a")
    with pytest.raises(Refused, match="seed = 0, not 1"):
        run(networks, chips, out=tmp_path / "a", seed=1)
    other = Generator(TINY), networks[1]
    with pytest.raises(Refused, match="generator_sha256"):
        run(other, chips, out=tmp_path / "a")


def test_chips_of_another_cut_are_not_mixed_in(networks, chips, tmp_path):
    same = copy_of(chips, tmp_path, "p05")
    settings = tmp_path / "_settings.json"
    settings.write_text(json.dumps({"size": 64, "method": METHOD}))
    run(networks, same, method="encoder", out=tmp_path / "a")
    settings.write_text(json.dumps({"size": 128, "method": METHOD}))
    with pytest.raises(Refused, match="size = 64, not 128"):
        run(networks, same, method="encoder", out=tmp_path / "a")


def test_a_photograph_that_changed_is_redone_and_the_others_are_kept(networks, chips, tmp_path):
    folder = tmp_path / "chips"
    folder.mkdir()
    broken = copy_of(chips, folder, "p05")
    first = run(networks, broken, out=tmp_path / "a")
    assert len(first.failed) == 1
    Image.new("RGB", (64, 64), (200, 40, 10)).save(folder / "p05.png")
    table = chips.table.copy()
    table.loc[table["photo_id"] == "p05", "source_sha256"] = "new"
    table.to_parquet(folder / "_chips.parquet")
    second = run(networks, Chips.open(folder), out=tmp_path / "a")
    assert len(second) == 11
    assert second.select(first.ids).w_plus.tobytes() == first.w_plus.tobytes()


def test_a_photograph_that_is_not_at_hand_keeps_its_latent(networks, chips, tmp_path):
    before = run(networks, chips, method="encoder", out=tmp_path / "a")
    cohort = cohort_of([f"p{i:02d}" for i in range(11)], tmp_path)
    few = Chips.create(tmp_path / "few", [chips.load("p03")], ["p03"])
    run(networks, few, cohort=cohort, method="encoder", out=tmp_path / "a")
    after = Latents.open(tmp_path / "a")
    assert len(after) == 11
    assert after.w_plus.tobytes() == before.w_plus.tobytes()


def test_a_table_names_the_patients_of_latents_that_are_there(networks, chips, tmp_path):
    before = run(networks, chips, method="encoder", out=tmp_path / "a")
    cohort = cohort_of([f"p{i:02d}" for i in range(11)], tmp_path)
    after = run(networks, chips, cohort=cohort, method="encoder", out=tmp_path / "a")
    assert list(after.patient_ids) == [f"of p{i:02d}" for i in range(11)]
    assert after.w_plus.tobytes() == before.w_plus.tobytes()
    assert verify(tmp_path / "a", chips, cohort) == []


def test_withdrawn_photographs_are_named_and_can_be_removed(networks, chips, tmp_path):
    run(networks, chips, method="encoder", out=tmp_path / "a")
    cohort = cohort_of([f"p{i:02d}" for i in range(9)], tmp_path)
    faults = verify(tmp_path / "a", chips, cohort)
    assert [fault.split()[0] for fault in faults] == ["p09", "p10"]
    assert prune(tmp_path / "a", chips, cohort) == ["p09", "p10"]
    assert verify(tmp_path / "a", chips, cohort) == []


def test_a_refused_run_looks_at_no_photograph(networks, chips, tmp_path):
    run(networks, chips, method="encoder", out=tmp_path / "a")
    with (
        LatentsWriter(tmp_path / "a", read_metadata(tmp_path / "a")),
        pytest.raises(Refused, match="is writing"),
    ):
        run(networks, tmp_path / "raw photographs would be aligned", method="encoder", out=tmp_path / "a")
    with pytest.raises(Refused, match="seed = 0, not 1"):
        run(networks, tmp_path / "likewise", method="encoder", seed=1, out=tmp_path / "a")


def test_what_earlier_latents_networks_had_seen_stays_seen(networks, chips, tmp_path):
    generator, encoder = (copy.deepcopy(net) for net in networks)
    generator.card, encoder.card = {"provenance": {"kind": "synthetic"}}, {"provenance": None}
    cohort = cohort_of([f"p{i:02d}" for i in range(11)], tmp_path)
    first = run((generator, encoder), chips, method="encoder")
    again = Schedule(steps=1, start="previous")
    second = run((generator, None), chips, method="projector", schedule=again, start=first)
    assert Exposure.of(second, cohort).unknown == ("start",)
    encoder.card = {"provenance": {"kind": "synthetic"}}
    first = run((generator, encoder), chips, method="encoder")
    second = run((generator, None), chips, method="projector", schedule=again, start=first)
    assert not Exposure.of(second, cohort).leak


def test_two_distances_of_your_own_are_two_runs(networks, chips, tmp_path):
    one = lambda a, b, weight=None: (a - b).square().mean(dim=(1, 2, 3))  # noqa: E731
    two = lambda a, b, weight=None: 100 * (a - b).abs().mean(dim=(1, 2, 3))  # noqa: E731
    run(networks, chips, perceptual=one, out=tmp_path / "a")
    assert "0x" not in repr(
        code_of((lambda a: [(lambda: x)() for x in a]).__code__)
    )  # no address of this process
    with pytest.raises(Refused, match="perceptual"):
        run(networks, chips, perceptual=two, out=tmp_path / "a")


def test_a_photograph_that_failed_is_tried_again_once_it_has_a_chip(networks, chips, tmp_path):
    """Its face is found by now: the original, and its hash, are the same."""
    first = run(networks, copy_of(chips, tmp_path, "p05"), method="encoder", out=tmp_path / "a")
    assert list(first.failed["photo_id"]) == ["p05"]
    assert run(networks, Chips.open(tmp_path), method="encoder", out=tmp_path / "a").frame.equals(first.frame)
    second = run(networks, chips, method="encoder", out=tmp_path / "a")
    assert len(second) == 11
    assert second.select(first.ids).w_plus.tobytes() == first.w_plus.tobytes()


def test_a_chip_that_cannot_be_read_is_a_failed_row(networks, chips, tmp_path):
    broken = copy_of(chips, tmp_path, "none")
    (tmp_path / "p02.png").write_bytes(b"no picture")
    latents = run(networks, broken, method="encoder")
    assert list(latents.failed["photo_id"]) == ["p02"]
    assert "cannot be read" in latents.failed["error"][0]


def test_wrong_requests_say_what_is_expected(networks, chips, tmp_path):
    with pytest.raises(InputError, match="expected one of encoder, hybrid, projector"):
        run(networks, chips, method="magic")
    with pytest.raises(InputError, match="There is no folder"):
        run(networks, tmp_path / "nowhere")
    wrong = Encoder(EncoderConfig(32, 6, 8, channel_base=256, channel_max=8))
    with pytest.raises(InputError, match="do not belong together"):
        run((networks[0], wrong), chips)
    with pytest.raises(InputError, match="no 'stepps'; expected one of space, start"):
        run(networks, chips, schedule={"stepps": 3})
    for wrong in ({"space": "W+"}, {"start": "avg"}, {"optimizer": "sgd"}):
        with pytest.raises(InputError, match=r"expected one of (w, w|encoder, mean, previous|adam, lbfgs)"):
            Schedule(**wrong)
    for wrong in ({"noise": True}, {"exploration": 0.05}):
        with pytest.raises(InputError, match="take optimizer = 'adam'"):
            Schedule(optimizer="lbfgs", **wrong)


@pytest.mark.parametrize(
    "images", [np.full((2, 3, 32, 32), 255, np.uint8), torch.full((2, 3, 32, 32), -1.01)]
)
def test_pictures_in_other_units_are_refused(networks, images):
    with pytest.raises(InputError, match=r"values from (255 to 255|-1.01 to -1.01); expected −1 to 1"):
        run(networks, images, method="encoder")
    nearly = torch.full((2, 3, 32, 32), 1.0005)
    nearly[0, 0, 0, 0] = torch.nan
    assert list(run(networks, nearly, method="encoder").ids) == ["1"]


def test_parts_of_a_schedule_replace_the_methods_own(networks):
    settings = EmbedSettings("projector", schedule={"penalty": 1.0, "steps": 7}).decide()
    own = EmbedSettings("projector").decide().schedule
    assert settings.schedule == replace(own, penalty=1.0, steps=7)


def test_projecting_brings_the_picture_closer_than_the_encoder(networks):
    generator, _ = networks
    w = generator.mapping(torch.randn(6, 8, generator=torch.Generator().manual_seed(2)))
    images = generator.synthesis(w).clamp(-1, 1)
    start = run(networks, images, method="encoder").rows["lpips"].mean()
    fitted = run(networks, images, schedule=Schedule(steps=40, penalty=0.0, rate=0.1)).rows["lpips"].mean()
    assert fitted < 0.5 * start


def test_lbfgs_gets_further_than_adam(networks):
    generator, _ = networks
    w = generator.mapping(torch.randn(6, 8, generator=torch.Generator().manual_seed(2)))
    images = generator.synthesis(w).clamp(-1, 1)
    plans = Schedule(steps=25), Schedule(steps=25, optimizer="lbfgs")
    adam, lbfgs = (run(networks, images, schedule=plan).rows for plan in plans)
    loss = [part["lpips"] + part["mse"] for part in (adam, lbfgs)]
    assert loss[1].mean() < loss[0].mean()


@pytest.mark.parametrize(
    "others", [{"exploration": 0.05, "noise": True, "noise_weight": 10.0}, {"optimizer": "lbfgs"}]
)
def test_slots_are_refilled_without_a_trace(networks, others):
    """Photographs end after different numbers of steps, and still each result is that of a run alone."""
    images = torch.rand(9, 3, 32, 32, generator=torch.Generator().manual_seed(3)) * 2 - 1
    names = [f"n{i}" for i in range(9)]
    first = run(networks, images, photo_ids=names, schedule=Schedule(steps=12))
    schedule = Schedule(steps=12, target=float(np.median(first.frame["lpips"])), **others)
    together = run(networks, images, photo_ids=names, schedule=schedule)
    assert together.frame["steps"].nunique() > 1
    for i in (0, 4, 8):
        alone = run(networks, images[i : i + 1], photo_ids=names[i : i + 1], schedule=schedule)
        assert alone.w_plus.tobytes() == together.w_plus[i : i + 1].tobytes()
        assert alone.frame["steps"][0] == together.frame["steps"][i]


def test_where_the_slot_counts_photographs_keep_theirs(networks, chips, tmp_path, monkeypatch):
    """As with several threads: no slot is refilled, and a resumed run gives every photograph its old place."""
    module = import_module("stylegan_surv.inversion.embedding")
    monkeypatch.setattr(module, "BATCHES_PER_CHUNK", 1)
    reference = run(networks, chips)
    monkeypatch.setattr(module.Inverter, "exchangeable", False)
    seen: list[list[str]] = []
    load = module.Inverter.load

    def watched(self, source, photos):
        seen.append([photo.photo_id for photo in photos])
        return load(self, source, photos)

    monkeypatch.setattr(module.Inverter, "load", watched)
    folder = tmp_path / "chips"
    folder.mkdir()
    first = run(networks, copy_of(chips, folder, "p05"), out=tmp_path / "a")
    assert first.w_plus.tobytes() == reference.select(first.ids).w_plus.tobytes()
    seen.clear()
    Image.fromarray(chips.load("p05")).save(folder / "p05.png")
    table = chips.table.assign(
        source_sha256=chips.table["source_sha256"].where(chips.table["photo_id"] != "p05", "new")
    )
    table.to_parquet(folder / "_chips.parquet")
    second = run(networks, Chips.open(folder), out=tmp_path / "a")
    assert seen == [["p04", "p05", "p06", "p07"]]
    assert second.w_plus.tobytes() == reference.w_plus.tobytes()


def test_a_distance_of_your_own_is_used_as_if_it_had_features(networks):
    """An identity term beside LPIPS, as anybody may plug in; one that hides its features gives the same latents."""
    images = torch.rand(5, 3, 32, 32, generator=torch.Generator().manual_seed(9)) * 2 - 1
    lpips = LPIPS()
    known = run(networks, images)
    assert run(
        networks, images, perceptual=lambda a, b, weight=None: lpips(a, b, weight)
    ).w_plus == pytest.approx(known.w_plus, abs=1e-5)

    def identity(a, b, weight=None):
        faces = torch.stack([a, b]).mean(dim=2).flatten(2)
        return lpips(a, b, weight) + 1 - torch.cosine_similarity(*faces, dim=1)

    moved = run(networks, images, perceptual=identity)
    assert np.abs(moved.w_plus - known.w_plus).max() > 1e-3


def test_exchangeable_slots_are_told_from_others(networks):
    class Uneven(torch.nn.Module):
        """Slot 0 is computed a little differently."""

        def forward(self, a, b, weight=None):
            return (a - b).square().mean(dim=(1, 2, 3)) * (1 + 1e-6 * (torch.arange(len(a)) == 0))

    assert exchangeable(networks[0], LPIPS(), 4)
    assert exchangeable(networks[0], LPIPS(), 4, networks[1])
    assert not exchangeable(networks[0], LPIPS(), 4, lambda images: Uneven()(images, 0 * images))
    assert exchangeable(networks[0], Uneven(), 1)
    assert not exchangeable(networks[0], Uneven(), 4)


@pytest.mark.parametrize("optimizer", ["adam", "lbfgs"])
def test_in_double_precision_the_batch_shape_does_not_matter(networks, optimizer):
    generator, encoder = (copy.deepcopy(net).double() for net in networks)
    images = torch.rand(5, 3, 32, 32, generator=torch.Generator().manual_seed(4)).double() * 2 - 1
    start = encoder(images)
    names = [f"n{i}" for i in range(5)]
    schedule = Schedule(steps=10, optimizer=optimizer)
    fits = [
        project(generator, Targets(images, start, names), schedule, batch=batch).w_plus for batch in (1, 8)
    ]
    for fit in fits[1:]:
        assert torch.allclose(fit, fits[0], rtol=0, atol=1e-5)


def test_w_space_keeps_one_vector(networks):
    images = torch.zeros(2, 3, 32, 32)
    latents = run(networks, images, method="projector", schedule=Schedule("w", "mean", steps=3))
    assert np.ptp(latents.w_plus, axis=1).max() == 0


def test_previous_latents_are_gone_on_from(networks):
    images = torch.rand(3, 3, 32, 32, generator=torch.Generator().manual_seed(5)) * 2 - 1
    names = ["a", "b", "c"]
    first = run(networks, images, photo_ids=names)
    still = Schedule(start="previous", steps=1, rate=1e-9)
    again = run(networks, images, photo_ids=names, method="projector", schedule=still, start=first)
    assert np.allclose(again.w_plus, first.w_plus, atol=1e-6)


def test_previous_latents_are_part_of_what_a_run_is(networks, tmp_path):
    images = torch.zeros(2, 3, 32, 32)
    first = run(networks, images, method="encoder")
    options = {"method": "projector", "schedule": Schedule(start="previous", steps=1)}
    run(networks, images, start=first, out=tmp_path / "l", **options)
    run(networks, images, start=first.select(["1", "0"]), out=tmp_path / "l", **options)
    other = Latents.from_arrays(first.w_plus + 1, metadata=first.metadata)
    with pytest.raises(Refused, match="start_sha256"):
        run(networks, images, start=other, out=tmp_path / "l", **options)
    other.metadata["generator_sha256"] = "another"
    with pytest.raises(Refused, match="of another generator"):
        run(networks, images, start=other, **options)
    with pytest.raises(InputError, match="such a schedule is missing"):
        run(networks, images, start=first)
    with pytest.raises(InputError, match="the latents are missing"):
        run(networks, images, **options)


def test_the_penalty_keeps_latents_near_their_start(networks):
    images = torch.rand(4, 3, 32, 32, generator=torch.Generator().manual_seed(6)) * 2 - 1
    start = run(networks, images, method="encoder").w_plus
    moved = []
    for penalty in (0.0, 10.0):
        fit = run(networks, images, schedule=Schedule(steps=25, penalty=penalty))
        moved.append(np.abs(fit.w_plus - start).mean())
    assert moved[1] < 0.5 * moved[0]


def test_the_mask_makes_the_background_not_matter(networks):
    images = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(7)) * 2 - 1
    other = images.clone()
    other[:, :, 30:, :3] = 1.0  # a corner, outside the face
    start = torch.zeros(2, TINY.num_ws, TINY.w_dim)
    mask = torch.from_numpy(face_mask(32)).expand(2, 1, 32, 32)
    schedule = Schedule(steps=5, lpips=0.0)
    fits = [
        project(networks[0], Targets(x, start, ["a", "b"], mask), schedule, batch=2).w_plus
        for x in (images, other)
    ]
    assert torch.equal(*fits)


def test_the_reference_preset_is_what_the_paper_says(networks):
    settings = EmbedSettings(preset="reference").decide()
    assert (settings.method, settings.perceptual) == ("projector", "vgg")
    assert EmbedSettings(preset="reference", perceptual="alex").decide().perceptual == "alex"
    assert EmbedSettings().decide().perceptual == "alex"
    schedule = settings.schedule
    assert (schedule.steps, schedule.space, schedule.start, schedule.noise) == (1000, "w", "mean", True)
    t = torch.tensor([0.0, 0.025, 0.05, 0.5, 0.875, 0.9999])
    assert schedule.rate_at(t).tolist() == pytest.approx([0.002, 0.052, 0.1, 0.1, 0.05, 0.0], abs=1e-6)
    assert schedule.exploration_at(t)[[0, 3, 4]].tolist() == pytest.approx([0.05, 0.05 / 9, 0.0])


def test_the_reference_preset_without_its_weights_says_what_to_do(networks, tmp_path, monkeypatch):
    monkeypatch.setenv("STYLEGAN_SURV_CACHE", str(tmp_path))
    with pytest.raises(InputError, match=r"fetch-weights lpips-vgg.*--perceptual alex"):
        run(networks, torch.zeros(1, 3, 32, 32), preset="reference", schedule=None)


def test_a_step_knows_its_slots_on_any_device():
    """``meta`` stands for a GPU: tensors of it and of the CPU do not mix either."""
    adam = Adam(torch.zeros(2, 8, device="meta"))
    adam.advance(adam.trial, torch.zeros(2, device="meta"), torch.tensor([1, 1]), torch.tensor([True, False]))
    assert adam.trial.device.type == "meta"


def test_lbfgs_finds_the_bottom_of_a_valley_from_every_start():
    """Rosenbrock's function in ten dimensions, its minimum 0 at 1; each row is refused steps at other times."""
    start = 2 * torch.rand(5, 10, generator=torch.Generator().manual_seed(0), dtype=torch.float64)

    def valley(x):
        return (100 * (x[:, 1:] - x[:, :-1] ** 2) ** 2 + (1 - x[:, :-1]) ** 2).sum(dim=1)

    def descend(rows):
        found, refused, losses = LBFGS(torch.zeros(len(rows), 10, dtype=torch.float64)), 0, []
        for row, begin in enumerate(rows):
            found.reset(row, begin)
        for _ in range(200):
            x = found.trial.clone().requires_grad_(True)
            loss = valley(x)
            taken = found.advance(torch.autograd.grad(loss.sum(), x)[0], loss.detach())
            refused += int((~taken).sum())
            losses.append(valley(found.best))
        return found.best, refused, torch.stack(losses)

    best, refused, losses = descend(start)
    assert refused > 0
    assert bool((losses.diff(dim=0) <= 0).all())
    assert valley(best).max() < 1e-10
    for row in range(5):
        assert torch.allclose(descend(start[row : row + 1])[0], best[row : row + 1], rtol=0, atol=1e-8)


def test_lbfgs_survives_a_loss_that_is_no_number_and_a_flat_one():
    found = LBFGS(torch.zeros(2, 3))
    found.reset(0, torch.full((3,), 2.0))
    found.advance(torch.zeros(2, 3), torch.tensor([5.0, 5.0]))
    assert torch.equal(found.trial[0], torch.full((3,), 2.0))
    found.reset(0, torch.full((3,), 2.0))
    found.advance(torch.ones(2, 3), torch.tensor([3.0, 5.0]))
    first = found.trial[0].clone()
    found.advance(torch.full((2, 3), torch.nan), torch.tensor([torch.nan, 1.0]))
    assert torch.allclose(found.trial[0] - 2, 0.1 * (first - 2))
    assert torch.equal(found.best[0], torch.full((3,), 2.0))


@pytest.mark.gpu
@pytest.mark.parametrize("schedule", [FEW, replace(FEW, noise=True, exploration=0.05, face_mask=True)])
def test_a_gpu_embeds_as_the_cpu_does(networks, schedule):
    images = torch.rand(6, 3, 32, 32, generator=torch.Generator().manual_seed(10)) * 2 - 1
    found = [
        run([copy.deepcopy(net).to(device) for net in networks], images, schedule=schedule)
        for device in ("cpu", "cuda")
    ]
    assert found[1].failed.empty
    assert found[1].rows["lpips"].to_numpy() == pytest.approx(found[0].rows["lpips"].to_numpy(), abs=0.02)


def test_optimised_noise_maps_are_stored_and_redraw_the_picture(networks, tmp_path):
    images = torch.rand(3, 3, 32, 32, generator=torch.Generator().manual_seed(8)) * 2 - 1
    generator = copy.deepcopy(networks[0])
    for name, strength in generator.named_parameters():
        if name.endswith("noise_strength"):
            strength.fill_(0.5)
    target = generator.synthesis(generator.mapping(torch.randn(3, 8))).lerp(images, 0.3).clamp(-1, 1)
    schedule = Schedule(steps=40, noise=True, noise_weight=0.0, penalty=0.0, lpips=0.0)
    latents = run(
        (generator, networks[1]), target, out=tmp_path / "l", photo_ids=list("cab"), schedule=schedule
    )
    assert verify(tmp_path / "l") == []
    w_plus = torch.from_numpy(latents.w_plus)
    noise = torch.from_numpy(read_noise(tmp_path / "l", list(latents.ids)).astype(np.float32))
    errors = [
        (picture - target).square().mean(dim=(1, 2, 3))
        for picture in (NoiseMaps(generator).draw(w_plus, noise), generator.synthesis(w_plus))
    ]
    assert (errors[0] < errors[1]).all()


def test_noise_maps_are_rebuilt_and_their_regulariser_sees_structure(networks):
    torch.manual_seed(0)
    maps = NoiseMaps(networks[0])
    w = networks[0].mapping(torch.randn(2, 8))
    own = maps.own().expand(2, -1)
    assert torch.equal(maps.draw(w, own), networks[0].synthesis(w))
    white = maps.normalise(torch.randn(16, maps.total))
    smooth = torch.cat([m.roll(1, 3).add(m).flatten(1) for m in maps.split(white).values()], dim=1)
    assert maps.correlation(maps.normalise(smooth)).mean() > 5 * maps.correlation(white).mean()
    assert white.mean().abs() < 1e-5
