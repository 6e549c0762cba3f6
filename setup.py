"""Maps the top-level folder cuda/ into the package, so that the kernels travel in the wheel; the rest is in pyproject.toml."""

from setuptools import find_packages, setup

setup(
    packages=[*find_packages(include=["bats", "bats.*"]), "bats.cuda_sources"],
    package_dir={"bats.cuda_sources": "cuda"},
    package_data={"bats.cuda_sources": ["**/*.cu", "**/*.cuh"], "bats": ["data/embedded/*.npz"]},
)
