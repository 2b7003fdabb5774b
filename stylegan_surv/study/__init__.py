"""The whole study in two calls: ``evaluate`` cross-validates, ``fit`` gives the model for use on new patients."""

from stylegan_surv.study.evaluate import Study, evaluate, fit, predict

__all__ = ["Study", "evaluate", "fit", "predict"]
