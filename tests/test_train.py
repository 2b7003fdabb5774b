"""The trainer: a run that is resumed, killed or shared is the run that never stopped."""

from __future__ import annotations

import errno
import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from training import SMALL, blobs, everything, gradients, small_recipe, small_trainer

from stylegan_surv.errors import InputError
from stylegan_surv.gan.networks import Encoder, Generator
from stylegan_surv.gan.training import parallel, precision
from stylegan_surv.gan.training.optimisers import set_rates
from stylegan_surv.gan.training.prepare import fold_offsets, match_mapping
from stylegan_surv.gan.training.start import Start, fresh_networks
from stylegan_surv.gan.training.trainer import STATE_FILE, Diverged, Trainer

SCRIPT = Path(__file__).with_name("training.py")


def assert_same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> None:
    assert a.keys() == b.keys()
    different = [k for k in a if not torch.equal(a[k], b[k])]
    assert not different


def steps(trainer: Trainer, n: int) -> Trainer:
    for _ in range(n):
        trainer.train_step()
    return trainer


@pytest.mark.gpu
def test_recorded_steps_are_the_steps(tmp_path: Path) -> None:
    """A CUDA graph replays what its launches would have done, random numbers and ADA's p included."""
    runs = {}
    for recorded in (True, False):
        changes: dict[str, Any] = {"micros": 1, "cuda_graphs": recorded, "images": 400}
        trainer = small_trainer(tmp_path / str(recorded), device="cuda", **changes)
        runs[recorded] = [trainer.train_step() for _ in range(40)]
        assert (trainer.recorded is not None and len(trainer.recorded.recordings) > 1) == recorded
    for one, other in zip(runs[True][:20], runs[False]):  # later, rounding has led them apart
        losses = [k for k in other if not k.startswith("gradient")]
        assert [one[k] for k in losses] == pytest.approx([other[k] for k in losses], rel=0.1, abs=0.02)


def test_resumed_run_equals_one_that_never_stopped(tmp_path: Path) -> None:
    straight = steps(small_trainer(tmp_path / "a"), 6)
    broken = steps(small_trainer(tmp_path / "b"), 3)
    broken.save()
    again = small_trainer(tmp_path / "b")
    assert again.resume()
    steps(again, 3)
    assert_same(everything(straight), everything(again))
    assert (again.step, again.banked, again.ada.p) == (straight.step, straight.banked, straight.ada.p)


@pytest.mark.parametrize(
    ("moment", "length"), [(3, 8), *(pytest.param(k, 40, marks=pytest.mark.slow) for k in (1, 20, 33))]
)
def test_killed_run_equals_one_that_never_stopped(tmp_path: Path, moment: int, length: int) -> None:
    """kill −9 at any moment, also while saving; the state on disk is whole and the run goes on bit for bit."""
    process = subprocess.Popen([sys.executable, str(SCRIPT), str(tmp_path / "b"), str(length)])
    saved = tmp_path / "b" / STATE_FILE
    while process.poll() is None and not (saved.exists() and _step(saved) >= moment):
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert moment <= _step(saved) < length
    subprocess.run([sys.executable, str(SCRIPT), str(tmp_path / "b"), str(length)], check=True)
    again = small_trainer(tmp_path / "b")
    again.resume()
    assert_same(everything(steps(small_trainer(tmp_path / "a"), length)), everything(again))


def _step(path: Path) -> int:
    """Read in one go: the run replaces the file meanwhile, and `safe_open` opens it twice."""
    content = path.read_bytes()
    end = 8 + int.from_bytes(content[:8], "little")
    return int(json.loads(json.loads(content[8:end])["__metadata__"]["numbers"])["step"])


def pair_of_processes(out: Path, length: int, precision: str) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, str(SCRIPT), str(out), str(length)]
    pair = [subprocess.Popen([*command, str(rank), "2", str(port), precision]) for rank in (0, 1)]
    assert [p.wait(timeout=300) for p in pair] == [0, 0]


def test_two_processes_equal_one(tmp_path: Path) -> None:
    """The same global batch on one process and on two: parameters to 1e-9 in float64 after 10 steps."""
    pair_of_processes(tmp_path / "two", 10, "float64")
    alone = everything(steps(small_trainer(tmp_path / "one", precision="float64"), 10))
    shared = small_trainer(tmp_path / "two", precision="float64")
    shared.resume()
    for name, tensor in everything(shared).items():
        torch.testing.assert_close(tensor, alone[name], rtol=0, atol=1e-9, msg=lambda m, n=name: f"{n}: {m}")


def test_two_processes_reduce_to_the_gradients_of_one(tmp_path: Path) -> None:
    """In float32, to 1e-5 of each tensor's largest gradient; Adam would turn the rest into whole steps."""
    pair_of_processes(tmp_path / "two", 1, "float32")
    alone = gradients(steps(small_trainer(tmp_path / "one"), 1))
    for rank in (0, 1):
        shared = load_file(tmp_path / "two" / f"gradients-{rank}.safetensors")
        assert shared.keys() == alone.keys()
        assert {name.split("/")[0] for name in shared} == {"G", "E", "D", "C"}
        for name, expected in alone.items():
            largest = float(expected.abs().max())
            torch.testing.assert_close(shared[name], expected, rtol=0, atol=1e-5 * largest + 1e-12, msg=name)


def test_micro_batches_add_up_to_the_gradient_of_the_batch(tmp_path: Path) -> None:
    """A step over two micro-batches has the mean of the gradients that each has alone."""
    trainer = small_trainer(tmp_path)
    trainer.train_step()
    whole = [p.grad.clone() for p in trainer.players.G.parameters()]
    other = small_trainer(tmp_path / "x")
    from stylegan_surv.gan.training.objective import Memory

    total = [torch.zeros_like(g) for g in whole]
    for micro in range(2):
        memory = Memory(other.bank[:0], other.path_mean, other.ada.p, 0)
        other.objective.backward(other._real_images(micro), memory, 1.0)
        for t, p in zip(total, other.players.G.parameters()):
            t += p.grad / 2
            p.grad = None
    for g, t in zip(whole, total):
        torch.testing.assert_close(g, t, rtol=1e-4, atol=1e-6)


def test_training_reduces_the_reconstruction_error(tmp_path: Path) -> None:
    trainer = small_trainer(tmp_path, adversarial=None, features=None)
    first = trainer.train_step()["pixel"]
    steps(trainer, 60)
    assert sum(trainer.train_step()["pixel"] for _ in range(4)) / 4 < 0.85 * first


def test_state_of_other_images_or_networks_is_refused(tmp_path: Path) -> None:
    steps(small_trainer(tmp_path), 1).save()
    recipe = small_recipe()
    other = Trainer(recipe, blobs(20), tmp_path, Start(*fresh_networks(recipe)))
    with pytest.raises(InputError, match="other ids"):
        other.resume()
    larger = {**SMALL["networks"], "w_dim": 24}  # type: ignore[dict-item]
    with pytest.raises(InputError, match="does not hold the state of this run"):
        small_trainer(tmp_path, networks=larger).resume()


def test_full_disk_leaves_the_old_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trainer = steps(small_trainer(tmp_path), 1)
    trainer.save()
    before = (tmp_path / STATE_FILE).read_bytes()

    def full(_: object, partial: Path, **__: object) -> None:
        partial.write_bytes(b"half")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("safetensors.torch.save_file", full)
    steps(trainer, 1)
    with pytest.raises(InputError, match=r"cannot save.*No space left.*before is intact"):
        trainer.save()
    assert (tmp_path / STATE_FILE).read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == [STATE_FILE]


def test_nan_stops_before_anything_is_updated(tmp_path: Path) -> None:
    trainer = steps(small_trainer(tmp_path), 2)
    with torch.no_grad():
        trainer.players.G.synthesis.b4.const[0, 0, 0] = float("nan")
    before = everything(trainer)
    with pytest.raises(Diverged, match=r"is nan at step 2 .*last saved state"):
        trainer.train_step()
    after = everything(trainer)
    assert all(
        torch.equal(before[k].nan_to_num(7), after[k].nan_to_num(7)) for k in before if "w_avg" not in k
    )


def test_a_gradient_that_is_not_finite_stops_too(tmp_path: Path) -> None:
    """Where the loss is finite and its gradient is not, the networks are still whole."""
    trainer = steps(small_trainer(tmp_path), 1)
    trainer.players.G.synthesis.b4.const.register_hook(lambda gradient: gradient * float("inf"))
    before = everything(trainer)
    with pytest.raises(Diverged, match=r"'gradient_G' is (nan|inf) at step 1"):
        trainer.train_step()
    assert_same(before, everything(trainer))


def test_state_knows_the_batch_size(tmp_path: Path) -> None:
    """Its position in the data is counted in batches."""
    steps(small_trainer(tmp_path), 1).save()
    with pytest.raises(InputError, match="other batch size"):
        small_trainer(tmp_path, micros=1).resume()


def test_state_knows_the_pixels(tmp_path: Path) -> None:
    """The same file names, aligned again, are other images."""
    steps(small_trainer(tmp_path), 1).save()
    recipe = small_recipe()
    with pytest.raises(InputError, match="other pixels"):
        Trainer(recipe, blobs(seed=1), tmp_path, Start(*fresh_networks(recipe))).resume()


def test_the_first_process_says_whether_a_run_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another one may come to look after the first has saved its own beginning."""
    steps(small_trainer(tmp_path), 1).save()
    late = small_trainer(tmp_path)
    votes: list[bool] = []
    monkeypatch.setattr(parallel, "rank", lambda: 1)
    monkeypatch.setattr(parallel, "agree", lambda flag: votes.append(flag) or False)
    assert not late.resume()
    assert votes == [False]


def test_stop_saves_and_returns(tmp_path: Path) -> None:
    trainer = small_trainer(tmp_path)
    trainer.run(stop=lambda: trainer.step == 3)
    assert _step(tmp_path / STATE_FILE) == 3


def test_rates_cool_down_and_layers_differ(tmp_path: Path) -> None:
    rates = {"generator": 0.002, "per_layer": {"synthesis.b4": 0.5}}
    trainer = small_trainer(tmp_path, images=80, cool_down=0.5, rates=rates)
    trainer.step = 5  # of 10: the start of the cooling
    set_rates(trainer.optimisers, trainer.recipe, trainer.images, trainer.batch)
    groups = trainer.optimisers["adam_G"].param_groups
    assert {g["base"] for g in groups} == {0.0025, 0.002, 0.001}
    assert all(g["lr"] == g["base"] for g in groups)
    trainer.step = 9
    set_rates(trainer.optimisers, trainer.recipe, trainer.images, trainer.batch)
    assert all(g["lr"] == pytest.approx(0.2 * g["base"]) for g in groups)


def test_rates_warm_up(tmp_path: Path) -> None:
    trainer = small_trainer(tmp_path, warm_up=32)  # 4 steps
    shares = []
    for trainer.step in range(6):
        set_rates(trainer.optimisers, trainer.recipe, trainer.images, trainer.batch)
        group = trainer.optimisers["adam_E"].param_groups[0]
        shares.append(group["lr"] / group["base"])
    assert shares == [0.25, 0.5, 0.75, 1, 1, 1]


def test_a_frozen_encoder_gives_codes_and_stays(tmp_path: Path) -> None:
    textures = {"adversarial": None, "features": None, "textures": {"projections": 4}}
    trainer = small_trainer(tmp_path, freeze_encoder=True, **textures)
    assert "adam_E" not in trainer.optimisers
    before = everything(trainer)
    terms = trainer.train_step()
    after = everything(trainer)
    moved = {k for k in before if k in after and not torch.equal(before[k], after[k])}
    assert any(k.startswith("G/synthesis") for k in moved)
    assert not any(k.startswith("E") for k in moved)
    assert terms["textures"] > 0
    assert terms["lpips"] > 0


def test_folding_leaves_reconstructions_and_improves_those_from_w_alone(tmp_path: Path) -> None:
    trainer = small_trainer(tmp_path, reconstruction={"bank": 16, "fold_offsets": 1e-6})
    out = trainer.players.E.b4.out  # type: ignore[union-attr]
    with torch.no_grad():  # offsets that follow w
        for layer in range(1, len(out.weight) // 16):
            out.weight[16 * layer : 16 * (layer + 1)] = 0.5 * out.weight[:16].flip(0)
    trainer.E_ema.load_state_dict(trainer.players.E.state_dict())  # type: ignore[union-attr]
    real = trainer.data.images()

    def drawn(net: Generator, encoder: Encoder) -> tuple[torch.Tensor, torch.Tensor]:
        w, offsets = encoder.split(real)
        return net.synthesis(w[:, None] + offsets), net.synthesis(w[:, None].expand_as(offsets))

    with torch.no_grad():
        before, plain = drawn(trainer.G_ema, trainer.E_ema)  # type: ignore[arg-type]
        assert fold_offsets(trainer) == pytest.approx(1, abs=1e-3)
        for networks in ((trainer.G_ema, trainer.E_ema), (trainer.players.G, trainer.players.E)):
            after, of_w = drawn(*networks)  # type: ignore[arg-type]
            torch.testing.assert_close(after, before, rtol=1e-3, atol=1e-3)
            assert (of_w - before).abs().mean() < 0.1 * (plain - before).abs().mean()


@pytest.mark.parametrize(
    "adversarial", [{"freeze": 1}, {"freeze": 1, "path_weight": 2.0, "style_mixing": 0.9}]
)
def test_frozen_parts_do_not_move(adversarial: dict[str, Any], tmp_path: Path) -> None:
    trainer = small_trainer(tmp_path, freeze_mapping=True, adversarial=adversarial)
    before = everything(trainer)
    assert match_mapping(trainer) is None
    after = everything(steps(trainer, 3))
    moved = {k for k in before if k in after and not torch.equal(before[k], after[k])}
    assert not any(k.startswith(("D/b32", "G/mapping.fc")) for k in moved)
    assert any(k.startswith("D/b16") for k in moved)


def test_a_factor_of_zero_freezes_a_layer_and_spares_its_gradient(tmp_path: Path) -> None:
    trainer = small_trainer(tmp_path, rates={"per_layer": {"synthesis.b4": 0.0}})
    before = everything(trainer)
    after = everything(steps(trainer, 2))
    moved = {k for k in before if k in after and not torch.equal(before[k], after[k])}
    assert not any(k.startswith("G/synthesis.b4") for k in moved)
    assert any(k.startswith("G/synthesis.b8") for k in moved)
    frozen = [p for name, p in trainer.players.G.named_parameters() if name.startswith("synthesis.b4")]
    assert frozen
    assert all(p.grad is None for p in frozen)


def test_recipes_that_freeze_all_or_name_no_layer_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="freezes all of D"):
        small_trainer(tmp_path, adversarial={"freeze": 9})
    with pytest.raises(InputError, match=r"begins with 'synthesis\.b5'"):
        small_trainer(tmp_path, rates={"per_layer": {"synthesis.b5": 0.1}})


# ------------------------------------------------------------------------------------------------- precision


def test_precision_is_measured_once_and_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A resumed run does not measure again: another answer would make it another run."""
    monkeypatch.setattr("stylegan_surv.gan.training.trainer.choose", lambda device: "bf16")
    trainer = small_trainer(tmp_path, precision="auto")
    assert trainer.recipe.precision == "bf16"
    trainer.save()
    monkeypatch.setattr("stylegan_surv.gan.training.trainer.choose", lambda device: "float32")
    assert small_trainer(tmp_path, precision="auto").recipe.precision == "bf16"
    assert small_trainer(tmp_path / "new", precision="auto").recipe.precision == "float32"


@pytest.mark.parametrize(("ratio", "chosen"), [(1.5, "bf16"), (1.1, "float32"), (0.1, "float32")])
def test_cpus_take_bf16_where_it_is_faster(
    ratio: float, chosen: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    seconds = {torch.float32: 1.0, torch.bfloat16: 1 / ratio}
    monkeypatch.setattr(precision, "_seconds", lambda device, dtype: seconds[dtype])
    assert precision.choose(torch.device("cpu")) == chosen


GAN_ALONE = {
    "reconstruction": None,
    "features": None,
    "micros": 1,
}  # half precision is slow where it is emulated


@pytest.mark.parametrize(("kind", "error"), [("bf16", 0.1), ("fp16", 0.02)])
def test_half_precision_has_the_gradients_of_single(kind: str, error: float, tmp_path: Path) -> None:
    """Direction and length of every network's gradient, scaled back."""
    single = gradients(steps(small_trainer(tmp_path / "a", **GAN_ALONE), 1))
    half = gradients(steps(small_trainer(tmp_path / "b", precision=kind, **GAN_ALONE), 1))
    for net in "GD":
        a, b = (torch.cat([g[k].flatten() for k in g if k.startswith(net)]) for g in (single, half))
        assert float((a - b).norm() / a.norm()) < error


def test_fp16_leaves_out_a_step_that_overflows(tmp_path: Path) -> None:
    trainer = steps(small_trainer(tmp_path, precision="fp16", **GAN_ALONE), 1)
    start = trainer.scale.value
    hook = trainer.players.G.synthesis.b4.const.register_hook(lambda gradient: gradient * float("inf"))
    before = everything(trainer)
    trainer.train_step()
    after = everything(trainer)
    assert all(
        torch.equal(before[k], after[k]) for k in before if k.startswith(("G/synthesis", "D/", "adam"))
    )
    assert trainer.scale.value == start / 2
    trainer.save()
    again = small_trainer(tmp_path, precision="fp16", **GAN_ALONE)
    again.resume()
    assert (again.scale.value, again.scale.good) == (start / 2, 0)
    hook.remove()
    assert_same(everything(steps(trainer, 1)), everything(steps(again, 1)))


def test_loss_scale_stops_at_one_and_doubles_after_good_steps() -> None:
    scale = precision.LossScale("fp16")
    assert scale.fits(True)
    for _ in range(12):
        assert not scale.fits(False)
    assert scale.value == 1
    assert scale.fits(False)  # nothing left to lower: the caller has to stop
    assert all(scale.fits(True) for _ in range(scale.PATIENCE))
    assert scale.value == 2
