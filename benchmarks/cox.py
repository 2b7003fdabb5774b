"""Cox regression on thousands of latent dimensions: time and memory of our engines and of every peer installed.

``python -m benchmarks.cox [--part PART] [--time-out 20] [--peer-python PYTHON] [--plot FILE] [--json]``

Each fit runs in a process of its own with one thread, on data made beforehand; times, memory and time-out count the
fit alone (memory: the peak over what was resident before, Linux only). `cpu_seconds` is processor time, which other
work on the machine hardly changes, `seconds` passed on the clock; the time-out and the ratios count processor time.

All engines have the same penalties. A ridge path is five, under which the linear predictor has prior standard
deviations from 0.03 to 3; an elastic-net path is fifty, from where the first column enters to a tenth of that. Peers
without a path fit one: the fourth ridge penalty, the last of the elastic net. `nonzero` counts the coefficients there.

A peer that does not get along with our dependencies (adelie needs numpy < 2) runs in another environment, which needs
that peer and click alone: ``python -m venv peers; peers/bin/pip install adelie skglm glmstar click``, then
``--peer-python peers/bin/python`` (several times for several).
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import click
import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]

LAYERS, FACTORS, HELD_OUT = 18, 200, 1000
PRIOR_SDS = (0.03, 0.1, 0.3, 1.0, 3.0)
NET_PENALTIES, NET_SMALLEST, L1_RATIO = 50, 0.1, 0.5
MODULES = {
    "scikit-survival": "sksurv",
    "lifelines": "lifelines",
    "skglm": "skglm",
    "adelie": "adelie",
    "glmstar": "glmnet",
}
GROWTH_N = (500, 1000, 2000, 4000, 10000, 20000)
GROWTH_P = (512, 2048, 9216)
GOALS = {"2000x9216": 2.0, "10000x9216": 8.0, "nested": 30.0}
SEEDS, PERMUTATIONS = 10, 100


@dataclass(frozen=True)
class Settings:
    """Processor seconds that a fit may take, interpreters to look for peers in, names of the peers (none: all)."""

    time_out: int
    pythons: tuple[str, ...]
    engines: tuple[str, ...]


def planted(n: int, p: int, seed: int = 0) -> tuple[Array, Array]:
    """Data like W+: decaying factors that the columns share, noise, LP of SD 1, days, 40 % events.

    Returns X (n, p) float32 and scikit-survival's y (n,). The truth is the same for every n and seed.
    """
    return planted_with_truth(n, p, seed)


def planted_with_truth(
    n: int, p: int, seed: int = 0, truth: str = "dense", noise: float = 0.3
) -> tuple[Array, Array]:
    """`planted` with another truth or noise of the columns.

    The truth "dense" is normal coefficients in every column; "factors" weighs the factors alike, weak ones too;
    "20 columns" is the noise of 20 columns, which no other column shares.
    """
    rng = np.random.default_rng(seed)
    factors = rng.standard_normal((n, FACTORS), dtype=np.float32)
    X = factors @ loadings(p)
    own = np.float32(noise) * rng.standard_normal(X.shape, dtype=np.float32)
    X += own
    if truth == "dense":
        score = X @ np.random.default_rng(98).standard_normal(p, dtype=np.float32)
    else:
        score = {"factors": factors, "20 columns": own[:, :20]}[truth].sum(axis=1)
    time_of_death = rng.exponential(2000 * np.exp(-(score - score.mean()) / score.std()))
    censored = rng.exponential(np.quantile(time_of_death, 0.45), n)
    y = np.empty(n, dtype=[("event", bool), ("time", float)])
    y["event"], y["time"] = time_of_death <= censored, np.ceil(np.minimum(time_of_death, censored))
    return X, y


def loadings(p: int) -> Array:
    """What each factor adds to each column, (factors, p); the same for every sample."""
    weights = np.random.default_rng(99).standard_normal((FACTORS, p), dtype=np.float32)
    decay: Array = np.arange(1, FACTORS + 1, dtype=np.float32) ** -0.7
    return weights * decay[:, None]


def ridge_path(X: Array) -> list[float]:
    """Penalties alpha: total variance of X over the prior variances of the linear predictor."""
    spread = float(X[:2000].var(axis=0, dtype=np.float64).sum())
    return [spread / sd**2 for sd in PRIOR_SDS]


def net_path(X: Array, y: Array) -> list[float]:
    """Penalties alpha of an elastic net, from the one at which the first column enters (Breslow's ties)."""
    times = np.unique(y["time"][y["event"]])
    at_risk = len(y) - np.searchsorted(np.sort(y["time"]), times)
    hazard = np.cumsum(np.unique(y["time"][y["event"]], return_counts=True)[1] / at_risk)
    expected = np.r_[0.0, hazard][np.searchsorted(times, y["time"], side="right")]
    residual = (y["event"] - expected).astype(X.dtype)  # sums to 0: X need not be centred
    top = float(np.abs(residual @ X).max()) / L1_RATIO
    return list(np.geomspace(top, NET_SMALLEST * top, NET_PENALTIES))


# engines: fit on X and y with the penalties of a path, and give the coefficients (p,) -------------------------

Engine = Callable[[Array, Array, list[float]], Array]


def ours(X: Array, y: Array, alphas: list[float], **settings: Any) -> Array:
    from stylegan_surv.survival import CoxRidge

    return CoxRidge(alphas=alphas, alpha=alphas[-2], **settings).fit(X, y).coef_


def scikit_survival_ridge(X: Array, y: Array, alphas: list[float]) -> Array:
    from sksurv.linear_model import CoxPHSurvivalAnalysis

    return np.asarray(CoxPHSurvivalAnalysis(alpha=alphas[-2], ties="efron").fit(X, y).coef_)


def lifelines_ridge(X: Array, y: Array, alphas: list[float]) -> Array:
    import pandas as pd
    from lifelines import CoxPHFitter

    table = pd.DataFrame(X).assign(T=y["time"], E=y["event"])
    return np.asarray(CoxPHFitter(penalizer=alphas[-2] / len(X)).fit(table, "T", "E").params_)


def our_net(X: Array, y: Array, alphas: list[float]) -> Array:
    from stylegan_surv.survival import CoxElasticNet

    return CoxElasticNet(alphas=alphas, l1_ratio=L1_RATIO).fit(X, y).coef_


def scikit_survival_net(X: Array, y: Array, alphas: list[float]) -> Array:
    from sksurv.linear_model import CoxnetSurvivalAnalysis

    model = CoxnetSurvivalAnalysis(alphas=np.array(alphas) / len(X), l1_ratio=L1_RATIO)
    return np.asarray(model.fit(X, y).coef_[:, -1])


def skglm(X: Array, y: Array, alpha: float, l1_ratio: float) -> Array:
    """One penalty: skglm has no path."""
    from skglm.estimators import CoxEstimator

    if l1_ratio == 0:
        X = X.astype(np.float64)  # its L-BFGS takes nothing else
    model = CoxEstimator(alpha=alpha / len(X), l1_ratio=l1_ratio, method=ties(l1_ratio))
    return np.asarray(model.fit(X, np.column_stack([y["time"], y["event"]]).astype(X.dtype)).coef_)


def adelie(X: Array, y: Array, alphas: list[float], l1_ratio: float) -> Array:
    """Coefficients (m, p) of the path."""
    import adelie as ad

    status = y["event"].astype(X.dtype)
    times = {"start": np.full(len(y), -1, X.dtype), "stop": y["time"].astype(X.dtype)}
    family = ad.glm.cox(**times, status=status, tie_method=ties(l1_ratio), dtype=X.dtype.type)
    lambdas = np.array(alphas, X.dtype) / len(X)
    settings = {"early_exit": False, "progress_bar": False}
    path = ad.grpnet(np.asfortranarray(X), family, alpha=l1_ratio, lmda_path=lambdas, **settings)
    return np.asarray(path.betas.toarray())


def glmstar(X: Array, y: Array, alphas: list[float], l1_ratio: float) -> Array:
    """Coefficients (m, p) of the path."""
    import pandas as pd
    from glmnet import CoxNet
    from glmnet.cox import CoxFamily

    family = CoxFamily(tie_breaking=ties(l1_ratio))
    model = CoxNet(alpha=l1_ratio, lambda_values=np.array(alphas) / len(X), standardize=False, family=family)
    return np.asarray(model.fit(X, pd.DataFrame({"event": y["time"], "status": y["event"] * 1})).coefs_)


def ties(l1_ratio: float) -> str:
    """Efron's where every engine can; scikit-survival's elastic net has Breslow's alone."""
    return "efron" if l1_ratio == 0 else "breslow"


RIDGES: dict[str, Engine] = {
    "ours": ours,
    "scikit-survival ridge": scikit_survival_ridge,
    "lifelines ridge": lifelines_ridge,
    "skglm ridge": lambda X, y, alphas: skglm(X, y, alphas[-2], 0.0),
    "adelie ridge": lambda X, y, alphas: adelie(X, y, alphas, 0.0)[-2],
    "glmstar ridge": lambda X, y, alphas: glmstar(X, y, alphas, 0.0)[-2],
}
NETS: dict[str, Engine] = {
    "ours, elastic net": our_net,
    "scikit-survival elastic net": scikit_survival_net,
    "skglm elastic net": lambda X, y, alphas: skglm(X, y, alphas[-1], L1_RATIO),
    "adelie elastic net": lambda X, y, alphas: adelie(X, y, alphas, L1_RATIO)[-1],
    "glmstar elastic net": lambda X, y, alphas: glmstar(X, y, alphas, L1_RATIO)[-1],
}
SOLVERS: dict[str, Engine] = {
    "ours, Gram": lambda *data: ours(*data, solver="gram"),
    "ours, primal": lambda *data: ours(*data, solver="primal"),
}
ENGINES = RIDGES | NETS | SOLVERS


# one fit in a process of its own ---------------------------------------------------------------------------


def one_fit(engine: str, n: int, p: int, time_out: int) -> dict[str, Any]:
    """Run in the child process: the timer's default action ends it, whatever C code it is in."""
    X, y = planted(n + HELD_OUT, p)
    X, y, new, new_y = X[:n], y[:n], X[n:], y[n:]
    alphas = path_of(engine, X, y)
    warm_up(engine)
    before = reset_peak_memory()
    signal.setitimer(signal.ITIMER_PROF, time_out)
    begin, busy = time.perf_counter(), time.process_time()
    coefficients = ENGINES[engine](X, y, alphas)
    seconds, busy = time.perf_counter() - begin, time.process_time() - busy
    signal.setitimer(signal.ITIMER_PROF, 0)
    extra = (peak_memory() - before) / 1e6
    return {
        "version": version(package(engine)),
        "seconds": seconds,
        "cpu_seconds": busy,
        "extra_mb": extra,
        "x_mb": X.nbytes / 1e6,
        "nonzero": int(np.count_nonzero(coefficients)),
        "held_out": [new_y["time"].tolist(), new_y["event"].tolist(), (new @ coefficients).tolist()],
    }


def path_of(engine: str, X: Array, y: Array) -> list[float]:
    return net_path(X, y) if engine in NETS else ridge_path(X)


def warm_up(engine: str) -> None:
    """Import and compile before the clock starts."""
    X, y = planted(60, 5)
    ENGINES[engine](X, y, path_of(engine, X, y))


def reset_peak_memory() -> int:
    """Bytes in use now; the peak is counted from here."""
    Path("/proc/self/clear_refs").write_text("5")
    return memory("VmRSS")


def peak_memory() -> int:
    return memory("VmHWM")


def memory(field: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * int(next(line for line in lines if line.startswith(field)).split()[1])


def package(engine: str) -> str:
    """Distribution that an engine comes from."""
    return next((name for name in MODULES if engine.startswith(name)), "stylegan-surv")


@cache
def interpreter(distribution: str, pythons: tuple[str, ...]) -> str | None:
    """This Python, or the first of `pythons`, that can import a distribution's module; None where none can."""
    look = "import importlib.util, sys; sys.exit(importlib.util.find_spec(sys.argv[1]) is None)"
    for python in (sys.executable, *pythons):
        module = MODULES.get(distribution, "stylegan_surv")
        if subprocess.run([python, "-c", look, module], check=False).returncode == 0:
            return python
    return None


def measure(engine: str, n: int, p: int, settings: Settings) -> dict[str, Any]:
    """Row of the table, told on standard error as it comes."""
    row = {"engine": engine, "n": n, "p": p} | timed(engine, n, p, settings)
    click.echo(cells(row), err=True)
    return row


def timed(engine: str, n: int, p: int, settings: Settings) -> dict[str, Any]:
    """A fit in a new process, or why there is none."""
    python = interpreter(package(engine), settings.pythons)
    if python is None:
        return {"status": "not installed"}
    threads = {f"{name}_NUM_THREADS": "1" for name in ("OMP", "OPENBLAS", "MKL", "NUMBA")}
    command = [python, "-m", "benchmarks.cox", "--one", json.dumps([engine, n, p, settings.time_out])]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | threads, check=False)
    if done.returncode == -signal.SIGPROF:
        return {"status": f"time-out after {settings.time_out} s", "cpu_seconds": None}
    if done.returncode:
        return {"status": "failed: " + (done.stderr.strip().splitlines() or ["no message"])[-1][:120]}
    found = json.loads(done.stdout.splitlines()[-1])
    from stylegan_surv.survival import concordance

    held_out_time, held_out_event, risk = map(np.array, found.pop("held_out"))
    c = concordance(held_out_time, held_out_event, risk).estimate
    return {"status": "ok"} | found | {"held_out_c": c}


# parts -----------------------------------------------------------------------------------------------------


def peers(settings: Settings, n: int, p: int = 9216) -> dict[str, Any]:
    """Ridge and elastic-net paths against every peer."""
    chosen = [e for e in RIDGES | NETS if not settings.engines or e.startswith(("ours", *settings.engines))]
    rows = [measure(engine, n, p, settings) for engine in chosen]
    mine = rows[0]["cpu_seconds"]
    others = [row for row in rows[1:] if "cpu_seconds" in row]
    ratio = {f"{r['engine']}, {n}x{p}": (r["cpu_seconds"] or settings.time_out) / mine for r in others}
    return {"rows": rows, "ratio": ratio}


def growth(settings: Settings) -> dict[str, Any]:
    """Our two solvers as n and p grow."""
    rows, patient = [], replace(settings, time_out=3 * settings.time_out)
    for solver, most in (("ours, Gram", 4000), ("ours, primal", 20000)):
        rows += [measure(solver, n, GROWTH_P[-1], patient) for n in GROWTH_N if n <= most]
        rows += [measure(solver, 2000, p, settings) for p in GROWTH_P[:-1]]
    return {"rows": rows}


def nested(settings: Settings) -> dict[str, Any]:
    """Nested 5x5 cross-validation with 12 penalties, and with a penalty for each layer group."""
    rows = []
    for name in ("cox-ridge", "cox-ridge-groups"):
        rows.append(measure_nested(name))
    return {"rows": rows}


def measure_nested(name: str) -> dict[str, Any]:
    from threadpoolctl import threadpool_limits

    from stylegan_surv.survival import Outcome, Validation, make_model, nested_cv
    from stylegan_surv.survival.metrics.table import pooled_concordance

    X, y = planted(2000, 9216)
    outcome = Outcome(np.arange(2000).astype(str), y["time"], y["event"])
    model = make_model(name, LAYERS, X.shape[1] // LAYERS).set_params(alphas=12)
    with threadpool_limits(1):
        begin, busy = time.perf_counter(), time.process_time()
        found = nested_cv({name: model}, X, outcome, Validation(folds=5, inner=5))
        seconds, busy = time.perf_counter() - begin, time.process_time() - busy
    c = pooled_concordance(found.frame, outcome).estimate
    return {"model": name, "n": 2000, "p": 9216, "seconds": seconds, "cpu_seconds": busy, "c": c}


def agreement(settings: Settings) -> dict[str, Any]:
    """Largest difference of a coefficient from scikit-survival's ridge at 1,000 x 512."""
    from sksurv.linear_model import CoxPHSurvivalAnalysis

    from stylegan_surv.survival import CoxRidge
    from stylegan_surv.survival.cox import primal as _primal

    X, y = planted(1000, 512)
    alphas = ridge_path(X)
    exact = (
        CoxPHSurvivalAnalysis(alpha=alphas[-2], ties="efron", tol=1e-14, n_iter=100)
        .fit(X.astype(float), y)
        .coef_
    )
    rows = []
    _primal.SMALL = 0  # or a float32 X as small as this would be widened
    for solver in ("gram", "primal"):
        for dtype in (np.float64, np.float32):
            model = CoxRidge(alphas=alphas, alpha=alphas[-2], solver=solver).fit(X.astype(dtype), y)
            rows.append(
                {
                    "solver": solver,
                    "dtype": np.dtype(dtype).name,
                    "difference": float(np.abs(model.coef_ - exact).max()),
                    "largest_coefficient": float(np.abs(exact).max()),
                }
            )
    return {"rows": rows}


def direction(settings: Settings) -> dict[str, Any]:
    """How well coefficients and pattern are recovered, and how far two halves of the patients agree."""
    from stylegan_surv.survival import CoxRidge

    n, p = 2000, 2304
    X, y = planted_with_truth(n, p, truth="factors")
    L = loadings(p).astype(float)
    pattern = L.sum(axis=0)  # Cov(X, score) in the population
    beta = np.linalg.solve(L.T @ L + 0.3**2 * np.eye(p), pattern)  # the best linear score
    covariance = np.cov(X.T)
    model = CoxRidge(cv=5).fit(X, y)
    order = np.random.default_rng(0).permutation(n)
    halves = [CoxRidge(alphas=(model.alpha_,)).fit(X[h], y[h]).coef_ for h in np.array_split(order, 2)]
    rows = []
    for kind, matrix, truth in (("coefficient", np.eye(p), beta), ("pattern", covariance, pattern)):
        rows.append(
            {
                "direction": kind,
                "n": n,
                "p": p,
                "cosine_with_truth": cosine(matrix @ model.coef_, truth),
                "cosine_of_halves": cosine(*(matrix @ half for half in halves)),
            }
        )
    return {"rows": rows}


def cosine(a: Array, b: Array) -> float:
    return float(a @ b / np.linalg.norm(a) / np.linalg.norm(b))


def penalty(settings: Settings) -> dict[str, Any]:
    """Held-out C of ridge, elastic net and lasso when the truth is dense and when it is 20 columns."""
    from stylegan_surv.survival import CoxElasticNet, CoxRidge, concordance

    n, p = 1000, 2304
    models = {
        "ridge": CoxRidge(cv=5),
        "elastic net": CoxElasticNet(cv=5, l1_ratio=0.5),
        "lasso": CoxElasticNet(cv=5, l1_ratio=1.0),
    }
    rows = []
    for truth in ("factors", "20 columns"):
        X, y = planted_with_truth(n + HELD_OUT, p, truth=truth, noise=2.0)
        for name, model in models.items():
            risk = model.fit(X[:n], y[:n]).predict(X[n:])
            c = concordance(y["time"][n:], y["event"][n:], risk)
            rows.append({"truth": truth, "penalty": name, "n": n, "p": p, "c": c.estimate, "se": c.se})
    return {"rows": rows}


def permuted(settings: Settings) -> dict[str, Any]:
    """Out-of-fold C of ten times a hundred permuted outcomes: everything is chosen anew, the Gram matrices are kept.

    Within a fold every assignment of the held-out outcomes is equally likely whatever the fit, so the expectation is
    0.5 exactly: a mean must be within its standard error.
    """
    from stylegan_surv.survival import GramCV, Outcome, make_folds

    n, p = 500, 2560
    X, y = planted(n, p)
    outcome = Outcome(np.arange(n).astype(str), y["time"], y["event"])
    fold = make_folds(outcome, 5)[0]
    cv, rows, every = GramCV(X, fold), [], []
    for seed in range(SEEDS):
        rng, busy = np.random.default_rng(seed), time.process_time()
        c = np.array(
            [out_of_fold_c(cv, outcome.subset(rng.permutation(n)), fold) for _ in range(PERMUTATIONS)]
        )
        rows.append({"seed": seed, **mean_and_se(c), "cpu_seconds": time.process_time() - busy})
        every.append(c)
    observed = {"n": n, "p": p, "observed_c": out_of_fold_c(cv, outcome, fold)}
    return {"rows": [*rows, {"seed": "all", **mean_and_se(np.concatenate(every)), **observed}]}


def out_of_fold_c(cv: Any, outcome: Any, fold: Array) -> float:
    import pandas as pd

    from stylegan_surv.survival.metrics.table import pooled_concordance

    frame = pd.DataFrame({"patient_id": outcome.patient_id, "repeat": 0, "fold": fold})
    return float(pooled_concordance(frame.assign(risk=cv.out_of_fold_risk(outcome)), outcome).estimate)


def mean_and_se(c: Array) -> dict[str, Any]:
    sd = float(c.std(ddof=1))
    return {"permutations": len(c), "mean_c": float(c.mean()), "sd_c": sd, "se_of_mean": sd / len(c) ** 0.5}


PARTS: dict[str, Callable[[Settings], dict[str, Any]]] = {
    "peers-2000": lambda settings: peers(settings, 2000),
    "peers-10000": lambda settings: peers(settings, 10000),
    "nested": nested,
    "growth": growth,
    "agreement": agreement,
    "direction": direction,
    "penalty": penalty,
    "permuted": permuted,
}


def plot(rows: list[dict[str, Any]], path: Path) -> None:
    """Time and extra memory of the five-penalty path against n and p."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(2, 2, figsize=(8, 5.6), sharex="col", sharey="row", layout="constrained")
    panels = (("n", "p", GROWTH_P[-1]), ("p", "n", 2000))
    for column, (along, fixed, value) in enumerate(panels):
        for solver, marker in (("ours, Gram", "o"), ("ours, primal", "s")):
            some = [r for r in rows if r["engine"] == solver and r[fixed] == value and r["status"] == "ok"]
            some.sort(key=lambda r: r[along])
            for row, field in enumerate(("cpu_seconds", "extra_mb")):
                axes[row, column].loglog(
                    [r[along] for r in some], [r[field] for r in some], marker=marker, label=solver[6:]
                )
        axes[1, column].set_xlabel({"n": "patients (9,216 columns)", "p": "columns (2,000 patients)"}[along])
    size = sorted({(r["n"], r["x_mb"]) for r in rows if r["p"] == GROWTH_P[-1] and r["status"] == "ok"})
    axes[1, 0].loglog(*zip(*size), "k:", label="X itself")
    axes[0, 0].set_ylabel("processor seconds, five penalties")
    axes[1, 0].set_ylabel("extra memory, MB")
    axes[0, 0].legend()
    axes[1, 0].legend()
    for axis in axes.flat:
        axis.grid(alpha=0.3)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=130)


def show(result: dict[str, Any]) -> str:
    lines = []
    for part, found in result.items():
        lines += [f"\n{part}"]
        for row in found.get("rows", []) if isinstance(found, dict) else []:
            lines.append("  " + cells(row))
    return "\n".join(lines)


def cells(row: dict[str, Any]) -> str:
    return ", ".join(f"{k} {v:.4g}" if isinstance(v, float) else f"{k} {v}" for k, v in row.items())


@click.command()
@click.option("--part", "parts", multiple=True, type=click.Choice(list(PARTS)), help="default: all")
@click.option("--time-out", default=20, show_default=True, help="processor seconds for a fit of a peer")
@click.option(
    "--peer-python", "pythons", multiple=True, help="Python of an environment that holds further peers"
)
@click.option("--peer", "engines", multiple=True, help="only this peer, such as adelie; default: all")
@click.option("--plot", "picture", type=click.Path(dir_okay=False, path_type=Path))
@click.option("--json", "as_json", is_flag=True)
@click.option("--one", hidden=True)
def main(
    parts: tuple[str, ...],
    time_out: int,
    pythons: tuple[str, ...],
    engines: tuple[str, ...],
    picture: Path | None,
    as_json: bool,
    one: str | None,
) -> None:
    """Measure the survival engines."""
    if one:
        click.echo(json.dumps(one_fit(*json.loads(one))))
        return
    settings = Settings(time_out, pythons, engines)
    result: dict[str, Any] = {part: PARTS[part](settings) for part in parts or PARTS}
    result["ratio"] = {name: r for part in result.values() for name, r in part.get("ratio", {}).items()}
    result["goals"] = GOALS
    if picture is not None and "growth" in result:
        plot(result["growth"]["rows"], picture)
    click.echo(json.dumps(result) if as_json else show(result))


if __name__ == "__main__":
    main()
