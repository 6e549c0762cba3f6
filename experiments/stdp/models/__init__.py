"""The models by name: modules with EPOCHS and build(n_inputs, make)."""

from . import deep2024, deeper2024, deepr2024, deepr2024_2, inception2024, majority2024, mozafari2018, resnet2024

MODELS = {
    module.__name__.rsplit(".", 1)[-1]: module
    for module in (mozafari2018, deep2024, deepr2024, deepr2024_2, inception2024, majority2024, resnet2024, deeper2024)
}
