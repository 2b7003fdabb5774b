"""Cox regression on thousands of latent dimensions: time and memory of our engines and of every peer installed.

``python -m benchmarks.cox [--part PART] [--time-out 20] [--plot FILE] [--json]``

Each fit runs in a process of its own with one thread, on data made beforehand; times, memory and time-out count the
fit alone (memory: the peak over what was resident before, Linux only). `cpu_seconds` is processor time, which other
work on the machine hardly changes, `seconds` passed on the clock; the time-out and the ratios count processor time.
The penalty is one and the same: a ridge path is five penalties under which the linear predictor has prior standard
deviations from 0.03 to 3; peers without a path fit one of them.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import click
import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]

LAYERS, FACTORS, HELD_OUT = 18, 200, 1000
PRIOR_SDS = (0.03, 0.1, 0.3, 1.0, 3.0)
PEERS = (
    "scikit-survival ridge",
    "lifelines ridge",
    "scikit-survival elastic net",
    "skglm elastic net",
    "adelie ridge",
)
MODULES = {"scikit-survival": "sksurv", "lifelines": "lifelines", "skglm": "skglm", "adelie": "adelie"}
PEER_SIZES = ((2000, 9216), (10000, 9216))
GROWTH_N = (500, 1000, 2000, 4000, 10000, 20000)
GROWTH_P = (512, 2048, 9216)
GOALS = {"2000x9216": 2.0, "10000x9216": 8.0, "nested": 30.0}


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


def penalties(X: Array) -> list[float]:
    """The ridge path: total variance of X over the prior variances of the linear predictor."""
    spread = float(X[:2000].var(axis=0, dtype=np.float64).sum())
    return [spread / sd**2 for sd in PRIOR_SDS]


# engines: fit and give the risk function -------------------------------------------------------------------

Risk = Callable[[Array], Array]


def ours(X: Array, y: Array, alphas: list[float], **settings: Any) -> Risk:
    from stylegan_surv.survival import CoxRidge

    model = CoxRidge(alphas=alphas, alpha=alphas[-2], **settings).fit(X, y)
    return model.predict


def scikit_survival_ridge(X: Array, y: Array, alphas: list[float]) -> Risk:
    from sksurv.linear_model import CoxPHSurvivalAnalysis

    return CoxPHSurvivalAnalysis(alpha=alphas[-2], ties="efron").fit(X, y).predict


def lifelines_ridge(X: Array, y: Array, alphas: list[float]) -> Risk:
    import pandas as pd
    from lifelines import CoxPHFitter

    table = pd.DataFrame(X).assign(T=y["time"], E=y["event"])
    fitted = CoxPHFitter(penalizer=alphas[-2] / len(X)).fit(table, "T", "E")
    return lambda new: np.asarray(fitted.predict_log_partial_hazard(pd.DataFrame(new)))


def scikit_survival_elastic_net(X: Array, y: Array, alphas: list[float]) -> Risk:
    from sksurv.linear_model import CoxnetSurvivalAnalysis

    return CoxnetSurvivalAnalysis(n_alphas=50, l1_ratio=0.5, alpha_min_ratio=0.1).fit(X, y).predict


def skglm_elastic_net(X: Array, y: Array, alphas: list[float]) -> Risk:
    from skglm.estimators import CoxEstimator

    model = CoxEstimator(alpha=alphas[-2] / len(X), l1_ratio=0.5)
    model.fit(X, np.column_stack([y["time"], y["event"]]).astype(X.dtype))
    return lambda new: new @ model.coef_


def adelie_ridge(X: Array, y: Array, alphas: list[float]) -> Risk:
    import adelie

    family = adelie.glm.cox(stop=y["time"], status=y["event"].astype(float))
    path = adelie.grpnet(np.asfortranarray(X), family, alpha=0.0, lmda_path=[a / len(X) for a in alphas])
    return lambda new: new @ path.betas[-1].toarray().ravel()


ENGINES: dict[str, Callable[..., Risk]] = {
    "ours": ours,
    "ours, Gram": lambda *data: ours(*data, solver="gram"),
    "ours, primal": lambda *data: ours(*data, solver="primal"),
    "scikit-survival ridge": scikit_survival_ridge,
    "lifelines ridge": lifelines_ridge,
    "scikit-survival elastic net": scikit_survival_elastic_net,
    "skglm elastic net": skglm_elastic_net,
    "adelie ridge": adelie_ridge,
}


# one fit in a process of its own ---------------------------------------------------------------------------


def one_fit(engine: str, n: int, p: int, time_out: int) -> dict[str, Any]:
    """Run in the child process: the timer's default action ends it, whatever C code it is in."""
    X, y = planted(n + HELD_OUT, p)
    X, y, new, new_y = X[:n], y[:n], X[n:], y[n:]
    alphas = penalties(X)
    warm_up(ENGINES[engine])
    before = reset_peak_memory()
    signal.setitimer(signal.ITIMER_PROF, time_out)
    begin, busy = time.perf_counter(), time.process_time()
    risk = ENGINES[engine](X, y, alphas)
    seconds, busy = time.perf_counter() - begin, time.process_time() - busy
    signal.setitimer(signal.ITIMER_PROF, 0)
    extra = (peak_memory() - before) / 1e6
    from stylegan_surv.survival import concordance

    c = concordance(new_y["time"], new_y["event"], risk(new)).estimate
    return {
        "seconds": seconds,
        "cpu_seconds": busy,
        "extra_mb": extra,
        "x_mb": X.nbytes / 1e6,
        "held_out_c": c,
    }


def warm_up(engine: Callable[..., Risk]) -> None:
    """Import and compile before the clock starts."""
    X, y = planted(60, 5)
    engine(X, y, penalties(X))


def reset_peak_memory() -> int:
    """Bytes in use now; the peak is counted from here."""
    Path("/proc/self/clear_refs").write_text("5")
    return memory("VmRSS")


def peak_memory() -> int:
    return memory("VmHWM")


def memory(field: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * int(next(line for line in lines if line.startswith(field)).split()[1])


def measure(engine: str, n: int, p: int, time_out: int) -> dict[str, Any]:
    """Row of the table: a fit in a new process, or why there is none."""
    row: dict[str, Any] = {"engine": engine, "n": n, "p": p}
    package = next((module for name, module in MODULES.items() if engine.startswith(name)), None)
    if package is not None and find_spec(package) is None:
        return row | {"status": "not installed"}
    threads = {f"{name}_NUM_THREADS": "1" for name in ("OMP", "OPENBLAS", "MKL", "NUMBA")}
    command = [sys.executable, "-m", "benchmarks.cox", "--one", json.dumps([engine, n, p, time_out])]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | threads, check=False)
    if done.returncode == -signal.SIGPROF:
        return row | {"status": f"time-out after {time_out} s", "cpu_seconds": None}
    if done.returncode:
        return row | {"status": "failed: " + done.stderr.strip().splitlines()[-1][:120]}
    return row | {"status": "ok"} | json.loads(done.stdout.splitlines()[-1])


# parts -----------------------------------------------------------------------------------------------------


def peers(time_out: int) -> dict[str, Any]:
    """Five-penalty ridge path against every peer at the sizes of the goals."""
    rows = [measure(engine, n, p, time_out) for n, p in PEER_SIZES for engine in ("ours", *PEERS)]
    mine = {(r["n"], r["p"]): r["cpu_seconds"] for r in rows if r["engine"] == "ours"}
    ratio = {
        f"{r['engine']}, {r['n']}x{r['p']}": (r["cpu_seconds"] or time_out) / mine[r["n"], r["p"]]
        for r in rows
        if r["engine"] != "ours" and "cpu_seconds" in r
    }
    return {"rows": rows, "ratio": ratio}


def growth(time_out: int) -> dict[str, Any]:
    """Our two solvers as n and p grow."""
    rows = []
    for solver, most in (("ours, Gram", 4000), ("ours, primal", 20000)):
        rows += [measure(solver, n, GROWTH_P[-1], 3 * time_out) for n in GROWTH_N if n <= most]
        rows += [measure(solver, 2000, p, time_out) for p in GROWTH_P[:-1]]
    return {"rows": rows}


def nested(time_out: int) -> dict[str, Any]:
    """Nested 5x5 cross-validation with 12 penalties, and with a penalty for each layer group."""
    rows = []
    for name in ("cox-ridge", "cox-ridge-groups"):
        rows.append(measure_nested(name))
    return {"rows": rows}


def measure_nested(name: str) -> dict[str, Any]:
    from threadpoolctl import threadpool_limits

    from stylegan_surv.survival import Outcome, make_model, nested_cv
    from stylegan_surv.survival.metrics import pooled_concordance

    X, y = planted(2000, 9216)
    outcome = Outcome(np.arange(2000).astype(str), y["time"], y["event"])
    model = make_model(name, LAYERS, X.shape[1] // LAYERS, alphas=12)
    with threadpool_limits(1):
        begin, busy = time.perf_counter(), time.process_time()
        found = nested_cv({name: model}, X, outcome, folds=5, inner=5)
        seconds, busy = time.perf_counter() - begin, time.process_time() - busy
    c = pooled_concordance(found.frame, outcome).estimate
    return {"model": name, "n": 2000, "p": 9216, "seconds": seconds, "cpu_seconds": busy, "c": c}


def agreement(time_out: int) -> dict[str, Any]:
    """Largest difference of a coefficient from scikit-survival's ridge at 1,000 x 512."""
    from sksurv.linear_model import CoxPHSurvivalAnalysis

    from stylegan_surv.survival import CoxRidge, _primal

    X, y = planted(1000, 512)
    alphas = penalties(X)
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


def direction(time_out: int) -> dict[str, Any]:
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


def penalty(time_out: int) -> dict[str, Any]:
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


def permuted(time_out: int) -> dict[str, Any]:
    """Out-of-fold C of 100 permuted outcomes: everything is chosen anew for each, the Gram matrices are kept."""
    import pandas as pd

    from stylegan_surv.survival import GramCV, Outcome, make_folds
    from stylegan_surv.survival.metrics import pooled_concordance

    n, p = 500, 2560
    X, y = planted(n, p)
    outcome = Outcome(np.arange(n).astype(str), y["time"], y["event"])
    fold = make_folds(outcome, 5)[0]
    rng, found = np.random.default_rng(0), []
    busy = time.process_time()
    cv = GramCV(X, fold)
    for order in [np.arange(n), *(rng.permutation(n) for _ in range(100))]:
        other = outcome.subset(order)
        frame = pd.DataFrame({"patient_id": other.patient_id, "repeat": 0, "fold": fold})
        found.append(pooled_concordance(frame.assign(risk=cv.out_of_fold_risk(other)), other).estimate)
    busy = time.process_time() - busy
    row = {"n": n, "p": p, "observed_c": found[0], "mean_c": np.mean(found[1:]), "sd_c": np.std(found[1:])}
    return {"rows": [{k: float(v) for k, v in row.items()} | {"permutations": 100, "cpu_seconds": busy}]}


PARTS: dict[str, Callable[[int], dict[str, Any]]] = {
    "peers": peers,
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
            cells = (f"{k} {v:.4g}" if isinstance(v, float) else f"{k} {v}" for k, v in row.items())
            lines.append("  " + ", ".join(cells))
    return "\n".join(lines)


@click.command()
@click.option("--part", "parts", multiple=True, type=click.Choice(list(PARTS)), help="default: all")
@click.option("--time-out", default=20, show_default=True, help="processor seconds for a fit of a peer")
@click.option("--plot", "picture", type=click.Path(dir_okay=False, path_type=Path))
@click.option("--json", "as_json", is_flag=True)
@click.option("--one", hidden=True)
def main(parts: tuple[str, ...], time_out: int, picture: Path | None, as_json: bool, one: str | None) -> None:
    """Measure the survival engines."""
    if one:
        click.echo(json.dumps(one_fit(*json.loads(one))))
        return
    result: dict[str, Any] = {part: PARTS[part](time_out) for part in parts or PARTS}
    result["ratio"] = result.get("peers", {}).get("ratio", {})
    result["goals"] = GOALS
    if picture is not None and "growth" in result:
        plot(result["growth"]["rows"], picture)
    click.echo(json.dumps(result) if as_json else show(result))


if __name__ == "__main__":
    main()
