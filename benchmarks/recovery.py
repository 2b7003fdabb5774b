"""How much of a planted truth comes back: simulated cohorts through camera, inversion and ridge Cox.

``python -m benchmarks.recovery --seeds 20 --n 1000 [--json]`` prints, for the true latents and each way of embedding,
the mean over seeds of the photo model's C, of the oracle's C, and of the share of C − 0.5 that is recovered. With
``--work DIR`` every cohort's result is kept there, and the command goes on after an interruption; ``--kept`` prints
what is there so far, over the cohorts that were embedded in all of the ways.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import click
import numpy as np

from cuda_ops import tune_allocator
from stylegan_surv.inversion.inverter import networks
from stylegan_surv.inversion.origin import network_sha256
from stylegan_surv.inversion.settings import Settings

WAYS = ("true", "encoder", "hybrid")


def one(way: str, n: int, seed: int, generator: str, encoder: str | None) -> dict[str, float]:
    """One cohort, embedded one way."""
    from stylegan_surv.demo import DemoSettings, demo

    with tempfile.TemporaryDirectory() as folder:
        found, study, _ = demo(
            Path(folder),
            DemoSettings(
                n, seed, generator=generator, encoder=encoder, method="encoder" if way == "true" else way,
                models=("cox-ridge",), permutations=0, pictures=False, true_latents=way == "true",
                truth="latent",
            ),
        )  # fmt: skip
    split = study.metrics["attribute"]["split_half"]
    return {
        **found.to_dict(),
        "split_half_pattern": split["pattern"],
        "split_half_coefficient": split["coefficient"],
    }


def kept(
    work: Path | None, way: str, n: int, seed: int, generator: str, encoder: str | None
) -> dict[str, float]:
    """The result of :func:`one`, from the folder ``work`` if it is there and of the same networks."""
    file = None if work is None else work / f"{way}-{n}-{seed}.json"
    pair = networks(generator, encoder, Settings("encoder"))
    names = {
        f"{part}_sha256": network_sha256(net) for part, net in zip(("generator", "encoder"), pair) if net
    }
    if file is not None and file.exists():
        stored: dict[str, Any] = json.loads(file.read_text())
        if other := [name for name, value in names.items() if stored.pop(name, None) != value]:
            raise click.UsageError(f"{file} is of another network ({other[0]}): choose another --work")
        return stored
    found = one(way, n, seed, generator, encoder)
    if file is not None:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps({**found, **names}))
    return found


@click.command()
@click.option("--seeds", default=20, show_default=True)
@click.option("--n", default=1000, show_default=True)
@click.option("--ways", default=",".join(WAYS), show_default=True)
@click.option("--generator", default="synthetic-64", show_default=True)
@click.option("--encoder", default=None, help="Another than the generator's own.")
@click.option("--work", type=click.Path(path_type=Path), help="Where the cohorts' results are kept.")
@click.option("--kept", "only_kept", is_flag=True, help="Only the cohorts whose results are in --work.")
@click.option("--json", "as_json", is_flag=True)
def main(
    seeds: int,
    n: int,
    ways: str,
    generator: str,
    encoder: str | None,
    work: Path | None,
    only_kept: bool,
    as_json: bool,
) -> None:
    """Recover the planted truth over many seeds."""
    tune_allocator()
    import torch

    torch.set_num_threads(1)
    keep = (
        "photo_c",
        "oracle_c",
        "clinical_c",
        "both_c",
        "score_cosine",
        "pattern_cosine",
        "split_half_pattern",
    )
    chosen = list(range(seeds))
    if only_kept:
        folder = work or Path()
        chosen = [k for k in chosen if all((folder / f"{w}-{n}-{k}.json").exists() for w in ways.split(","))]
    if not chosen:
        raise click.UsageError(f"{work} keeps no cohort that was embedded in all of the ways: {ways}")
    table: dict[str, dict[str, float]] = {}
    for way in ways.split(","):
        rows = [kept(work, way, n, k, generator, encoder) for k in chosen]
        mean: dict[str, float] = {"cohorts": len(rows)}
        mean |= {k: float(np.mean([row[k] for row in rows])) for k in keep}
        mean["recovered"] = (mean["photo_c"] - 0.5) / (mean["oracle_c"] - 0.5)
        mean["recovered_sd_over_seeds"] = float(np.std([row["recovered"] for row in rows]))
        table[way] = mean
        if not as_json:
            click.echo(f"{way:<10}" + "  ".join(f"{k} {v:.3g}" for k, v in mean.items()))
    if as_json:
        click.echo(
            json.dumps(
                {
                    "n": n,
                    "seeds": seeds,
                    "ways": table,
                    "ratio": {k: v["recovered"] for k, v in table.items()},
                }
            )
        )


if __name__ == "__main__":
    main()
