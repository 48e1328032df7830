"""Builds the Cython kernels of ratingcore; everything else about the package is in pyproject.toml."""

from pathlib import Path

import numpy
from Cython.Build import cythonize
from setuptools import Extension, setup

KERNELS = [
    Extension(
        f"ratingcore.{path.stem}",
        [f"ratingcore/{path.name}"],
        include_dirs=[numpy.get_include()],
        define_macros=[("NPY_NO_DEPRECATED_API", "NPY_2_0_API_VERSION")],
        extra_compile_args=["-O3"],
    )
    for path in sorted(Path("ratingcore").glob("*.pyx"))
]

setup(ext_modules=cythonize(KERNELS, build_dir="build", language_level=3))
