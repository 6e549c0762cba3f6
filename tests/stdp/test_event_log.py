"""TensorBoard events: what is written, to a stand-in and, where tensorboardX is installed, to a file."""

import importlib.util
import tempfile
import unittest
from pathlib import Path
from unittest import mock

import numpy as np

from bats.stdp.event_log import EventLog, open_writer
from bats.training import plots


class EventLogTest(unittest.TestCase):
    def test_rows_become_scalars_by_epoch(self):
        writer = mock.Mock()
        log = EventLog(writer)
        log("layer", {"layer": "conv1", "epoch": 2, "convergence": 0.1})
        log("decision", {"epoch": 3, "test_correct_percent": 95.0})
        expected = [mock.call("conv1/convergence", 0.1, 2), mock.call("decision/test_correct_percent", 95.0, 3)]
        self.assertEqual(writer.add_scalar.call_args_list, expected)

    def test_a_picture_keeps_its_pixels(self):
        writer = mock.Mock()
        with tempfile.TemporaryDirectory() as name:
            path = Path(name) / "curves.png"
            plots.metric_curves([1, 2], {"test": [1, 2]}, "title", "label", path)
            EventLog(writer).picture("curves", path)
        (tag, pixels), named = writer.add_image.call_args
        self.assertEqual((tag, named["dataformats"], pixels.dtype, pixels.shape[2]), ("curves", "HWC", np.uint8, 3))
        self.assertEqual((pixels.max(), pixels[0, 0].tolist()), (255, [255, 255, 255]))

    @unittest.skipUnless(importlib.util.find_spec("tensorboardX"), "tensorboardX is not installed")
    def test_a_file_is_written(self):
        with tempfile.TemporaryDirectory() as name:
            log = EventLog(open_writer(name))
            log("decision", {"epoch": 1, "test_correct_percent": 95.0})
            log.close()
            (path,) = Path(name).glob("events*")
            self.assertIn(b"decision/test_correct_percent", path.read_bytes())


if __name__ == "__main__":
    unittest.main()
