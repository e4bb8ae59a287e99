"""The parity chain: the golden requests' answers before and after each hand-over of the model.

torch → ONNX Runtime FP32 → ONNX Runtime, as served → Triton. The first link that breaks is named:
what is behind it only passes on what it was given.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
from pydantic import ValidationError

from recommender.agreement import TIE, Answers, agreement
from recommender.errors import Check, GateFailed
from recommender.schema import MASKED_SCORE
from recommender.settings import ExportConfig
from recommender.settings.parity import LinkLimits, ParityConfig
from serving.version import GoldenAnswer, GoldenRequest, ModelVersion, VersionError

TORCH, FP32, SERVED = "torch", "ONNX FP32", "ONNX as served"

Link = Literal["onnx", "served", "triton", "tensorrt"]


def link_row(link: Link, one: str, other: str, first: Answers, second: Answers) -> dict[str, Any]:
    """A link's row in kuberec.json: {link, from, to} and `recommender.agreement.agreement`."""
    found = agreement(first, second, TIE)
    return {"link": link, "from": one, "to": other} | found


def golden_lists(golden: Sequence[GoldenRequest | GoldenAnswer]) -> Answers:
    """Answers as arrays: ids [B, K], strings, and scores [B, K]. K is the longest list's length.

    Shorter ones get the padding that a ranker gives where items run out.
    """
    k = max((len(each.item_ids) for each in golden), default=0)
    missing = [k - len(each.item_ids) for each in golden]
    ids = [[*each.item_ids, *[""] * n] for each, n in zip(golden, missing, strict=True)]
    scores = [[*each.scores, *[MASKED_SCORE] * n] for each, n in zip(golden, missing, strict=True)]
    return Answers(np.array(ids, dtype=np.str_), np.array(scores, np.float32))


def sealed_limits(version: ModelVersion) -> ExportConfig:
    """`export.parity` as the version was exported with, and nothing else of `export`.

    Raises:
        VersionError: limits that this release does not know.
    """
    sections = (version.model_extra or {}).get("config") or {}
    sealed = (sections.get("export") or {}).get("parity") or {}
    known = {  # "any" was null once
        link: {key: "any" if value is None else value for key, value in limits.items()}
        for link, limits in sealed.items()
    }
    try:
        return ExportConfig(parity=ParityConfig.model_validate(known))
    except ValidationError as error:
        problems = "; ".join(
            f"export.parity.{'.'.join(map(str, each['loc']))}: {each['msg']}"
            for each in error.errors()
        )
        raise VersionError(
            f"model version {version.version} was exported with limits that this release does not "
            f"know ({problems}): export it again (`kuberec run CONFIG`), or use the release that "
            "made it"
        ) from error


def link_checks(row: Mapping[str, Any], config: ExportConfig) -> list[Check]:
    """A row against its link's limits."""
    limits: LinkLimits = getattr(config.parity, row["link"])
    name = f"{row['from']} → {row['to']}"
    lower = {"top-K overlap": ("top_k_overlap", limits.min_overlap)}
    lower["top-10 overlap"] = ("top_10_overlap", limits.min_top_10_overlap)
    upper = {"largest score difference": ("max_abs_score_diff", limits.max_score_difference)}
    upper["mean score difference"] = ("mean_abs_score_diff", limits.mean_score_difference)
    checks = [
        Check(f"{name}: {what}", row[key], f">= {least:g}", row[key] >= least)
        for what, (key, least) in lower.items()
    ]
    return checks + [
        Check(f"{name}: {what}", row[key], f"<= {most:g}", row[key] <= most)
        for what, (key, most) in upper.items()
        if most != "any"
    ]


def require_links(
    gate: str, rows: Sequence[Mapping[str, Any]], config: ExportConfig, others: Sequence[Check] = ()
) -> list[Check]:
    """Every check of the chain, and `others`.

    Raises:
        GateFailed: with all of them, and the first link that breaks by name.
    """
    of_rows = [(row, link_checks(row, config)) for row in rows]
    checks = [check for _, found in of_rows for check in found] + list(others)
    for row, found in of_rows:
        if not all(check.passed for check in found):
            where = f"the first link that breaks: {row['from']} → {row['to']}"
            raise GateFailed(gate, checks, f"{where}, limits export.parity.{row['link']}")
    if not all(check.passed for check in others):
        raise GateFailed(gate, checks)
    return checks
