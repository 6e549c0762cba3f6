"""The loss on the logits of a MembraneReadout."""

import numpy as np

from bats import ops
from bats.device import is_cupy
from bats.losses import Loss, check_labels


class MaxMembraneCrossEntropy(Loss):
    """-ln softmax(logits)[label]; labels [batch], integers from 0. The prediction is the largest logit, the first on ties; -1
    if all are NaN."""

    rule = "largest"

    def predict(self, logits):
        """logits [batch, n_classes] -> classes [batch] int32."""
        xp, logits, counts = _arrays(logits)
        predictions = xp.empty(len(logits), dtype=np.int32)
        ops.predict(self.rule, logits, counts, predictions)
        return predictions

    def compute_loss_and_errors(self, logits, labels):
        """(loss [batch], errors [batch, n_classes] = dL/dlogits of each sample; the mean over the batch is taken by backward)."""
        xp, logits, counts = _arrays(logits)
        labels = check_labels(xp, labels, len(logits), logits.shape[2])
        loss, errors = xp.empty(len(logits), dtype=logits.dtype), xp.empty_like(logits)
        self.launch(logits, counts, labels, loss, errors)
        return loss, errors[:, 0]

    def compute_loss(self, logits, labels):
        """loss [batch]."""
        return self.compute_loss_and_errors(logits, labels)[0]

    def compute_errors(self, logits, labels):
        """errors [batch, n_classes]."""
        return self.compute_loss_and_errors(logits, labels)[1]

    def launch(self, logits, counts, labels, loss, errors):
        ops.softmax_cross_entropy(logits, counts, labels, loss, errors)


def _arrays(logits):
    """(array module, logits [batch, 1, n_classes], ones [batch, n_classes]), checked."""
    if is_cupy(logits):
        import cupy as xp
    else:
        xp, logits = np, np.asarray(logits)
    if logits.ndim != 2:
        raise ValueError(f"logits: expected shape [batch, classes], received {logits.shape}")
    if logits.dtype not in (np.float32, np.float64):
        raise TypeError(f"logits: expected float32 or float64, received {logits.dtype}")
    return xp, xp.ascontiguousarray(logits)[:, None], xp.ones(logits.shape, dtype=np.int32)
