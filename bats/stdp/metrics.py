"""How well decisions agree with labels: rates of correct, wrong and silent images, and the usual figures per class.

A silent image (decision -1) is a wrong answer in every figure here: it lowers accuracy, recall and F1 of its class.
"""

import numpy as np

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


def confusion(decisions, labels, n_classes):
    """Counts int64 [label, decision], n_classes rows; a last column holds the silent images if there are any."""
    from sklearn.metrics import confusion_matrix

    decisions = np.asarray(decisions)
    columns = np.where(decisions == SILENT, n_classes, decisions)
    matrix = confusion_matrix(labels, columns, labels=range(n_classes + 1))[:n_classes]
    return matrix if (decisions == SILENT).any() else matrix[:, :n_classes]


def roc_auc(scores, labels):
    """Area under the ROC curve of every class against all others, float64 [n_classes]; NaN for a class without images
    or with all of them.

    scores: [n, n_classes], any monotone measure of how much speaks for the class: here the largest potential among the
    class's neurons, 0 where none received a spike.
    """
    from sklearn.metrics import roc_auc_score

    scores, labels = np.asarray(scores), np.asarray(labels)
    areas = np.full(scores.shape[1], np.nan)
    for c in range(scores.shape[1]):
        members = labels == c
        if 0 < members.sum() < len(labels):
            areas[c] = roc_auc_score(members, scores[:, c])
    return areas


def evaluate(decisions, scores, labels, n_classes):
    """Every figure of one evaluation, as values that JSON knows.

    decisions int [n], -1 = silent; scores float [n, n_classes]; labels int [n]. Macro averages run over the classes that
    have images; roc_auc_macro over those for which the area is defined, None if there is none.
    """
    from sklearn.metrics import precision_recall_fscore_support

    present = np.unique(labels)
    precision, recall, f1, _ = precision_recall_fscore_support(
        labels, decisions, labels=present, average="macro", zero_division=0
    )  # fmt: skip
    areas = roc_auc(scores, labels)
    known = areas[~np.isnan(areas)]
    shares = rates(decisions, labels)
    return {
        "images": len(labels),
        "accuracy": shares["correct"],
        **shares,
        "precision_macro": float(precision),
        "recall_macro": float(recall),
        "f1_macro": float(f1),
        "roc_auc_macro": float(known.mean()) if len(known) else None,
        "roc_auc_per_class": [None if np.isnan(area) else float(area) for area in areas],
        "roc_auc_scores": "one class against all others; score = largest potential of the class",
        "silent_images": "counted as wrong in accuracy, recall and F1",
        "confusion": confusion(decisions, labels, n_classes).tolist(),
    }
