"""A generator that has grown by a block: what is below it stays, and a run that was stopped goes on exactly."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import Image
from training import blobs, small_recipe

from stylegan_surv.cli import cli
from stylegan_surv.errors import InputError
from stylegan_surv.gan.data import ImageSet
from stylegan_surv.gan.formats.checkpoint import load_encoder, load_generator, save_network
from stylegan_surv.gan.networks import Encoder, Generator, upsample
from stylegan_surv.gan.networks.resampling import reduced
from stylegan_surv.gan.training import codes as codes_module
from stylegan_surv.gan.training.block import above, above_window, below, grown, top_block, widened
from stylegan_surv.gan.training.codes import Codes, encoded, projected
from stylegan_surv.gan.training.grow import Grower, GrowthRecipe
from stylegan_surv.gan.training.grow_run import grow, small_images
from stylegan_surv.gan.training.start import fresh_networks
from stylegan_surv.gan.training.state import tensors_of

SIZE = 32  # of the base; the grown one has twice
SMALL: dict[str, Any] = {
    "name": "test",
    "channels": 6,
    "images": 24,
    "batch": 4,
    "samples": 4,
    "pool": 8,
    "shots": 1,
    "judged": 2,
    "hold_out": 0.3,
    "projector_steps": 2,
    "features": {},
    "textures": {"projections": 4},
    "save_seconds": 1e9,
}


@pytest.fixture(scope="module")
def pair() -> tuple[Generator, Encoder]:
    generator, _, encoder = fresh_networks(small_recipe())
    return generator.eval().requires_grad_(False), encoder.eval().requires_grad_(False)


@pytest.fixture(scope="module")
def start(pair: tuple[Generator, Encoder], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pair")
    for name, net in zip(("generator", "encoder"), pair):
        save_network(net, folder / f"{name}.safetensors", {"licence": "Apache-2.0"})
    return folder


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("chips")
    chips = blobs(28, 2 * SIZE)
    for name, pixels in zip(chips.ids, chips.pixels):
        Image.fromarray(pixels).save(folder / f"{name}.png")
    return folder


def settings(**changes: Any) -> GrowthRecipe:
    return GrowthRecipe.model_validate({**SMALL, **changes})


def codes_of(encoder: Encoder, chips: ImageSet) -> Codes:
    small = small_images(chips, SIZE)
    parts = encoded(encoder, small), encoded(encoder, small.flip(3))
    return Codes(torch.cat([p.w for p in parts]), torch.cat([p.w_plus for p in parts]))


def grower(pair: tuple[Generator, Encoder], out: Path, **changes: Any) -> Grower:
    chips = blobs(12, 2 * SIZE)
    out.mkdir(exist_ok=True)
    return Grower(settings(**changes), pair[0], chips, codes_of(pair[1], chips), out)


def state(run: Grower) -> dict[str, torch.Tensor]:
    return {f"{n}/{k}": v for n, thing in run.objects().items() for k, v in tensors_of(thing).items()}


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


# ------------------------------------------------------------------------------------------------ the network


def test_the_bundled_generator_grows_and_its_picture_is_still_inside() -> None:
    """Cut its highest block off a grown generator, and every tensor and picture is the base's, bit for bit."""
    base = load_generator("synthetic-64")
    generator = grown(base, 32, seed=3)
    rest = Generator(base.config)
    rest.load_state_dict({k: v for k, v in generator.state_dict().items() if "b128" not in k})
    for net in (rest, generator):
        net.requires_grad_(False).to(memory_format=torch.channels_last)
    z = torch.randn(2, base.config.z_dim, generator=torch.Generator().manual_seed(1))
    assert torch.equal(rest(z), base(z))
    assert generator.config.num_ws == base.config.num_ws + 2
    # untrained, the block adds nothing to the enlarged picture
    enlarged = upsample(base(z), generator.synthesis.get_submodule("b128").get_buffer("resample_filter"))
    assert torch.equal(generator(z), enlarged)


def test_a_grown_generator_of_any_width_is_read_again(
    pair: tuple[Generator, Encoder], tmp_path: Path
) -> None:
    for channels in (None, 3, 6):
        generator = grown(pair[0], channels, seed=1)
        torch.nn.init.normal_(top_block(generator).torgb.weight)
        save_network(generator, tmp_path / "g.safetensors", {})
        again = load_generator(tmp_path / "g.safetensors")
        assert again.config == generator.config
        assert again.config.channels(2 * SIZE) == (channels or 2)
        z = torch.randn(2, generator.config.z_dim)
        torch.testing.assert_close(again(z), generator(z))  # other strides
    if channels:
        with pytest.raises(InputError, match="cannot be grown"):
            grown(generator, None, seed=1)


def test_a_window_is_that_of_the_whole_picture(pair: tuple[Generator, Encoder]) -> None:
    block = top_block(grown(pair[0], 6, seed=1))
    torch.nn.init.normal_(block.torgb.weight)
    w = torch.randn(3, pair[0].config.num_ws, pair[0].config.w_dim)
    inputs = below(pair[0], Codes(w[:, 0], w), torch.float32)
    whole = above(block, inputs)
    for top, left in ((0, 0), (3, 16), (16, 11)):
        window, beneath = above_window(block, inputs, top, left, 16)
        expected = whole[:, :, 2 * top : 2 * top + 32, 2 * left : 2 * left + 32]
        torch.testing.assert_close(window, expected, rtol=1e-5, atol=1e-5)
        assert torch.equal(beneath.image, inputs.image[:, :, top : top + 16, left : left + 16])


def test_blocks_apart_are_the_generator(pair: tuple[Generator, Encoder]) -> None:
    """The base's maps with the block above them: what the grown generator draws, of rows that all differ."""
    generator = grown(pair[0], 6, seed=1)
    torch.nn.init.normal_(top_block(generator).torgb.weight)
    w_plus = torch.randn(2, pair[0].config.num_ws, pair[0].config.w_dim)
    w = torch.randn(2, pair[0].config.w_dim)
    drawn = above(top_block(generator), below(pair[0], Codes(w, w_plus), torch.float32))
    full = torch.cat([w_plus, w[:, None].expand(-1, 2, -1)], dim=1)
    torch.testing.assert_close(drawn, generator.synthesis(full), rtol=1e-5, atol=1e-5)


def test_the_encoder_says_the_same_and_w_for_the_new_rows(pair: tuple[Generator, Encoder]) -> None:
    images = blobs(4, SIZE).images()
    wide = widened(pair[1])
    w, offsets = pair[1].split(images)
    codes = wide(images)
    num_ws = pair[0].config.num_ws
    torch.testing.assert_close(codes[:, :num_ws], w[:, None] + offsets)
    torch.testing.assert_close(codes[:, num_ws:], w[:, None].expand(-1, 2, -1), rtol=0, atol=0)


def test_pictures_are_made_smaller_as_pillow_does() -> None:
    pixels = np.random.default_rng(0).integers(80, 176, (1, 64, 64, 3), dtype=np.uint8)  # no clipping
    chips = ImageSet(("a",), pixels)
    for size in (32, 48):
        theirs = np.asarray(Image.fromarray(pixels[0]).resize((size, size), Image.Resampling.LANCZOS), float)
        ours = (reduced(chips.images(), size)[0].permute(1, 2, 0).numpy() + 1) * 127.5
        assert np.abs(ours - theirs).max() < 1.5  # theirs is rounded twice
    with pytest.raises(ValueError, match="64 and 64; expected squares of 65"):
        reduced(chips.images(), 65)


# ---------------------------------------------------------------------------------------------------- the run


def test_a_resumed_run_is_the_run_that_never_stopped(pair: tuple[Generator, Encoder], tmp_path: Path) -> None:
    """Block, average, critic and optimisers, bit for bit; the pool of samples changes on the way."""
    straight = grower(pair, tmp_path / "a")
    for _ in range(5):
        straight.advance()
    broken = grower(pair, tmp_path / "b")
    for steps in (3, 2):
        broken = grower(pair, tmp_path / "b")
        broken.resume()
        for _ in range(steps):
            broken.advance()
        broken.save()
    assert broken.step == straight.step == 5
    assert same(state(broken), state(straight))
    for name, tensor in pair[0].state_dict().items():
        assert torch.equal(broken.generator.state_dict()[name], tensor)
    other = grower(pair, tmp_path / "b", seed=1)
    with pytest.raises(InputError, match="another seed"):
        other.resume()


def test_the_block_learns_to_draw_its_chips(pair: tuple[Generator, Encoder], tmp_path: Path) -> None:
    run = grower(pair, tmp_path / "a", features=None, textures=None, lpips=0, base_picture=0, rate=0.02)
    errors = [run.advance()["pixel"] for _ in range(48)]  # each chip eight times
    assert sum(errors[-12:]) < 0.98 * sum(errors[:12])
    assert float(run.block.conv1.noise_strength) == 0


def test_codes_are_optimised_once(
    pair: tuple[Generator, Encoder], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stopped after a chunk, they go on with the next; of other settings, they are refused."""
    monkeypatch.setattr(codes_module, "CHUNK", 4)
    small = small_images(blobs(10, 2 * SIZE), SIZE)
    first = encoded(pair[1], small)
    turns = iter([False, True])
    path = tmp_path / "codes.safetensors"
    stopped = projected(pair[0], first, small, path, steps=3, key="k", stop=lambda: next(turns))
    assert stopped is None
    done = projected(pair[0], first, small, path, steps=3, key="k")
    fresh = projected(pair[0], first, small, tmp_path / "fresh.safetensors", steps=3, key="k")
    assert done is not None
    assert fresh is not None
    assert torch.equal(done.w_plus, fresh.w_plus)
    assert torch.equal(done.w, first.w)
    assert not torch.equal(done.w_plus, first.w_plus)
    with pytest.raises(InputError, match="expected k, 4 steps"):
        projected(pair[0], first, small, path, steps=4, key="k")


def test_growing_from_the_command_line(start: Path, photos: Path, tmp_path: Path) -> None:
    """Interrupted and gone on with, it writes the files of a run without a break; the pair loads."""
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(json.dumps(SMALL))
    arguments = ["grow", "--start", str(start), "--photos", str(photos), "--recipe", str(recipe), "--json"]
    said = CliRunner().invoke(cli, [*arguments, "-o", str(tmp_path / "run")], catch_exceptions=False)
    result = json.loads(said.stdout.splitlines()[-1])
    assert result["finished"]
    assert result["images"] == 24
    assert result["errors"]["lpips"] > 0
    asked = iter([False] * 3 + [True] * 9)
    cut = grow(settings(), photos, tmp_path / "cut", start=start, stop=lambda: next(asked))
    assert not cut.finished
    assert 0 < cut.images < 24
    assert grow(settings(), photos, tmp_path / "cut", start=start).finished
    for file in ("state.safetensors", "codes.safetensors"):
        assert load_tensors(tmp_path / "cut" / file) == load_tensors(tmp_path / "run" / file)
    generator, encoder = load_generator(tmp_path / "run"), load_encoder(tmp_path / "run")
    assert generator.config.resolution == 2 * encoder.shape.resolution == 2 * SIZE
    assert generator.config.num_ws == encoder.shape.num_ws == generator.card["survival_ws"] + 2
    assert generator.card["base_sha256"] == load_generator(start).card["sha256"]
    assert generator.card["licence"] == "Apache-2.0"
    assert load_tensors(tmp_path / "cut/generator.safetensors") == load_tensors(
        tmp_path / "run/generator.safetensors"
    )


def load_tensors(path: Path) -> dict[str, list[Any]]:
    from safetensors.torch import load_file

    return {k: v.tolist() for k, v in load_file(path).items()}


def test_wrong_input_is_said(start: Path, photos: Path, tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(json.dumps({**SMALL, "chanels": 3}))
    arguments = ["grow", "--start", str(start), "--photos", str(photos), "-o", str(tmp_path / "run")]
    said = CliRunner().invoke(cli, [*arguments, "--recipe", str(recipe)])
    assert isinstance(said.exception, InputError)
    assert "chanels" in str(said.exception)
    small = tmp_path / "small"
    small.mkdir()
    Image.new("RGB", (SIZE, SIZE)).save(small / "a.png")
    with pytest.raises(InputError, match="expected a square of 64"):
        grow(settings(), small, tmp_path / "run", start=start)
