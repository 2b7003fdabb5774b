"""Names of models and metrics, as out-of-fold results and ``metrics.json`` have them."""

from __future__ import annotations

# models: what a risk is computed from; further engines follow their base, "photo/rsf"
CLINICAL = "clinical"
PHOTO = "photo"
BOTH = "both"
AGE_SEX = "age_sex"
APPARENT_AGE = "apparent_age"
FACE_RECOGNITION = "face_recognition"
NUISANCE = "nuisance"
BACKGROUND = "background"
NO_FACE = "no_face"
FROZEN = "frozen"

# metrics
HARRELL_C = "harrell_c"
UNO_C = "uno_c"
STRATIFIED_C = "stratified_c"
IBS = "ibs"
IBS_SKILL = "ibs_skill"
OE = "oe"
SLOPE = "slope"
ICI = "ici"
E50 = "e50"
E90 = "e90"
D_CALIBRATION = "d_calibration"
A_CALIBRATION = "a_calibration"

# metrics at a horizon or a threshold, see `at`
AUC = "auc"
BRIER = "brier"
NET_BENEFIT = "net_benefit"

THRESHOLDS = (0.1, 0.2, 0.3, 0.4, 0.5)  # of predicted risk, for net benefit; set before any result was seen


def at(metric: str, where: float) -> str:
    """A metric at a horizon or threshold.

    >>> at(AUC, 2.5)
    'auc_2.5'
    """
    return f"{metric}_{where:g}"


def if_perfect(metric: str) -> str:
    """A calibration error under simulated perfect calibration.

    >>> if_perfect(ICI)
    'ici_if_perfect'
    """
    return f"{metric}_if_perfect"


def base_of(model: str) -> str:
    """What a model is computed from, without its engine.

    >>> base_of("photo/rsf")
    'photo'
    """
    return model.partition("/")[0]


def recalibrated(model: str) -> str:
    """A frozen model with slope and baseline of new patients.

    >>> recalibrated(FROZEN)
    'frozen recalibrated'
    """
    return f"{model} recalibrated"


def difference(model: str, other: str) -> str:
    """Key of a paired difference, `model` less `other`.

    >>> difference(BOTH, CLINICAL)
    'both - clinical'
    """
    return f"{model} - {other}"
