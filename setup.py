"""What pyproject.toml cannot say: the demo's files lie outside the package and are installed inside it."""

from setuptools import find_packages, setup

DATA = "trajkit.demo.data"

setup(packages=[*find_packages(include=["trajkit*"]), DATA], package_dir={DATA: "data/demo"})
