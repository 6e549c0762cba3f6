"""Images with one spike per pixel as the data of a study."""

from bats.data import load_image_data
from bats.sources import LatencyImages
from bats.training.experiment import Task

SUBSET_EPOCHS = 10  # default on a set that is only a part of the published one


def load_image_task(name, path, t_input, epochs):
    """The set `name` ("mnist", "fashion_mnist", "emnist"), or another one from the .npz file `path`, as a Task.

    path: as in bats.data.load_image_data, None searches; t_input: time of the latest input spike in seconds; epochs: the default
    on the whole set. Raises what load_image_data raises.
    """
    data = load_image_data(name, path)
    return Task(
        dataset=data.describe(),
        n_train=len(data.x_train),
        make_source=lambda part: LatencyImages(data.x_train[part], data.y_train[part], t_input, data.n_classes),
        test_source=LatencyImages(data.x_test, data.y_test, t_input, data.n_classes),
        class_names=list(data.class_names),
        default_epochs=SUBSET_EPOCHS if data.is_subset else epochs,
    )
