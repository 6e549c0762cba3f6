"""Figures of a classification, by scikit-learn; a silent sample (prediction -1) counts as wrong."""

import numpy as np


def classification_figures(labels, predictions, n_classes):
    """labels [n], predictions [n] (-1: silent) -> {accuracy, silent, macro_precision, macro_recall, macro_f1 (fractions),
    per_class: {samples, accuracy, precision, f1: arrays [n_classes]}}.

    The accuracy of a class is the share of its samples that are predicted as it (its recall); of a class without samples, or never
    predicted, what has no value counts as 0, and the macro means go over the classes that have samples.
    Raises ValueError for arrays of different lengths, empty ones, labels outside 0 .. n_classes - 1.
    """
    from sklearn.metrics import precision_recall_fscore_support

    labels, predictions = np.asarray(labels), np.asarray(predictions)
    if labels.shape != predictions.shape or labels.ndim != 1 or not labels.size:
        raise ValueError(f"expected one prediction for each label, at least one, received {predictions.shape} for {labels.shape}")
    if labels.min() < 0 or labels.max() >= n_classes:
        raise ValueError(f"labels: expected classes from 0 to {n_classes - 1}, received {labels.min()} to {labels.max()}")
    precision, recall, f1, samples = precision_recall_fscore_support(labels, predictions, labels=range(n_classes), zero_division=0)
    present = samples > 0
    return {
        "accuracy": float((labels == predictions).mean()),
        "silent": float((predictions < 0).mean()),
        "macro_precision": float(precision[present].mean()),
        "macro_recall": float(recall[present].mean()),
        "macro_f1": float(f1[present].mean()),
        "per_class": {"samples": samples, "accuracy": recall, "precision": precision, "f1": f1},
    }
