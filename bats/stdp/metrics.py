"""How well decisions agree with labels: rates of correct, wrong and silent images, and the usual figures per class.

A silent image (decision -1) is a wrong answer in every figure here: it lowers accuracy, recall and F1 of its class.
"""

import numpy as np

from bats.evaluation.classification import classification_figures
from bats.training.evaluation import confusion

SILENT = -1


def rates(decisions, labels):
    """{"correct", "wrong", "silent"}: shares of the images that add up to 1.

    decisions, labels: integers [n], -1 = silent. Errors: ValueError for other shapes or no image at all.
    """
    decisions, labels = np.asarray(decisions), np.asarray(labels)
    if decisions.shape != labels.shape or decisions.ndim != 1:
        raise ValueError(f"decisions: expected one per label, shape {labels.shape}, received {decisions.shape}")
    if not len(labels):
        raise ValueError("labels: expected at least 1 image, received none")
    correct = float(np.mean(decisions == labels))
    silent = float(np.mean(decisions == SILENT))
    return {"correct": correct, "wrong": float(np.mean((decisions != labels) & (decisions != SILENT))), "silent": silent}


def roc_auc(scores, labels):
    """Area under the ROC curve of every class against all others, float64 [n_classes]; NaN for a class without images
    or with all of them.

    scores: [n, n_classes], how much speaks for the class: here the largest potential among the class's neurons, 0 where
    none received a spike.
    """
    from sklearn.metrics import roc_auc_score

    scores, labels = np.asarray(scores), np.asarray(labels)
    areas = np.full(scores.shape[1], np.nan)
    for c in range(scores.shape[1]):
        members = labels == c
        if 0 < members.sum() < len(labels):
            areas[c] = roc_auc_score(members, scores[:, c])
    return areas


def relative(scores):
    """Each class's score over the largest of the other classes for the same image, float64 [n, n_classes]; above 1 for the
    class that decides. Potentials grow with the number of spikes, which differs from image to image; this ratio does not."""
    scores = np.asarray(scores, dtype=np.float64)
    highest = np.partition(scores, -2, axis=1)
    others = np.where(scores == highest[:, -1:], highest[:, -2:-1], highest[:, -1:])
    return scores / np.maximum(others, np.finfo(np.float32).tiny)


def evaluate(decisions, scores, labels, n_classes):
    """Every figure of one evaluation, as values that JSON knows.

    decisions int [n], -1 = silent; scores float [n, n_classes]; labels int [n]. Macro averages run over the classes that
    have images; macro_roc_auc over those for which the area is defined, None if there is none.
    """
    figures = classification_figures(labels, decisions, n_classes)
    areas = roc_auc(scores, labels)
    of_ratios = _mean(roc_auc(relative(scores), labels)) if areas.size > 1 else None
    shares = rates(decisions, labels)
    return {
        "images": len(labels),
        "accuracy": shares["correct"],
        **shares,
        **{name: figures[name] for name in ("macro_precision", "macro_recall", "macro_f1")},
        "macro_roc_auc": _mean(areas),
        "macro_roc_auc_relative": of_ratios,
        "roc_auc_per_class": [None if np.isnan(area) else float(area) for area in areas],
        "roc_auc_scores": "one class against all others; score: largest potential of the class; relative: over that of the best other",
        "silent_images": "counted as wrong in accuracy, recall and F1",
        "confusion": confusion(labels, decisions, n_classes).tolist(),
    }


def _mean(areas):
    known = areas[~np.isnan(areas)]
    return float(known.mean()) if len(known) else None
