"""Samples go out to be labelled, by people or by rule; labels come back. Every step is a function, loaded on first use.

labels = labeling.simulate(samples, noise=0.1)
labeling.page(samples, output_dir="folder")
labeling.agreement(labels)
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from rlhf.foundation.lazy_names import lazily

if TYPE_CHECKING:
    from labeling.label_files import agreement, read_comparisons, read_labels
    from labeling.steps.annotate import annotate
    from labeling.steps.import_labels import import_labels
    from labeling.steps.page import page
    from labeling.steps.pull import pull
    from labeling.steps.push import push
    from labeling.steps.serve import serve
    from labeling.steps.simulate import simulate
    from labeling.steps.status import status
    from rlhf.foundation.records import Comparison, Label

__all__ = [
    "Comparison",
    "Label",
    "agreement",
    "annotate",
    "import_labels",
    "page",
    "pull",
    "push",
    "read_comparisons",
    "read_labels",
    "serve",
    "simulate",
    "status",
]

__getattr__ = lazily(
    "labeling",
    {
        "Comparison": "rlhf.foundation.records",
        "Label": "rlhf.foundation.records",
        "agreement": "labeling.label_files",
        "annotate": "labeling.steps.annotate",
        "import_labels": "labeling.steps.import_labels",
        "page": "labeling.steps.page",
        "pull": "labeling.steps.pull",
        "push": "labeling.steps.push",
        "read_comparisons": "labeling.label_files",
        "read_labels": "labeling.label_files",
        "serve": "labeling.steps.serve",
        "simulate": "labeling.steps.simulate",
        "status": "labeling.steps.status",
    },
)


def __dir__() -> list[str]:
    return sorted(__all__)
