"""What the model makes of an item that it was not trained on: a row of its item table.

A trained item's row is what its content says (text and image, projected) plus what only its id
says. Of a new item the second part is not known, but it is not noise either: items of like texts
have like ids' parts. So it is predicted from the text, by ridge regression over the trained items:
attribute-to-feature mapping (Gantner et al. 2010, "Learning Attribute-to-Feature Mappings for
Cold-Start Recommendations", ICDM, section 4.2). With the projection that is one linear map from a
text's vector to a row, small enough to travel with every model version. Where a gate weighs id
and text, a new item has the weights of no events; where scores are cosines, its row has length 1.

What is predicted is smaller than what is learnt, so that new items stand behind known ones of like
content: hardly any gets into a list. A *boost* is added to their scores for that. It is found by
treating some trained items as new, and is the one at which these have the share of the lists that
they have of the events (`calibrate`).

Shapes: N trained items, n new ones, T text and I image dimensions, D the model's width.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from recommender.errors import KuberecError
from recommender.evaluation.metrics import mask_history, users_at_once
from recommender.files import read_json, write_json
from recommender.sequences import Split, pad

MAP, ARRAYS = "new_items.json", "new_items.safetensors"
# Text vectors and ids' parts of known items, and text vectors of new ones, to the latter's parts.
Rule = Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]
PRETENDED, HISTORIES, PLACES = 0.2, 2000, 10  # of `calibrate`
PENALTIES = tuple(10.0 ** (power / 2) for power in range(-6, 9))  # of vectors of length one


@dataclass(frozen=True)
class ItemMap:
    """A text's vector, and an image's, to a row of the item table.

    Attributes:
        text: float32 [T, D].
        bias: float32 [D].
        image: float32 [I, D], and
        no_image: float32 [D], in the place of an image; None both where the model reads none.
        about: JSON-ready: the penalty, how much of the ids' part it explains (leave-one-out R²),
            whether rows have length 1 ("normalised") and, of a version, what made the text vectors
            (`parts` of encoder.json).
    """

    text: np.ndarray
    bias: np.ndarray
    image: np.ndarray | None
    no_image: np.ndarray | None
    about: dict[str, Any]

    def rows(self, text_nT: np.ndarray, images: Sequence[np.ndarray | None] = ()) -> np.ndarray:
        """float32 [n, D].

        Args:
            images: a vector or None for each item; may be left out where the model reads none.

        Raises:
            KuberecError: vectors of another width than the model's.
        """
        if text_nT.ndim != 2 or text_nT.shape[1] != len(self.text):
            raise KuberecError(
                f"text vectors of shape {text_nT.shape}, but the model reads {len(self.text)} "
                "dimensions: they come from another encoder, or other text.features, than it was "
                "trained with"
            )
        rows_nD = text_nT.astype(np.float32) @ self.text + self.bias
        if self.image is None or self.no_image is None:
            return self._scaled(rows_nD)
        for row, image in enumerate(images or [None] * len(rows_nD)):
            if image is not None and len(image) != len(self.image):
                raise KuberecError(
                    f"an image vector of {len(image)} numbers, but the model reads "
                    f"{len(self.image)}: give vectors of the images' encoder that it was trained "
                    "with, or null"
                )
            rows_nD[row] += self.no_image if image is None else image @ self.image
        return self._scaled(rows_nD)

    def _scaled(self, rows_nD: np.ndarray) -> np.ndarray:
        return normalised(rows_nD) if self.about.get("normalised") else rows_nD

    def save(self, directory: Path) -> None:
        """Write new_items.json and new_items.safetensors into an existing folder."""
        from safetensors.numpy import save_file

        arrays = {"text": self.text, "bias": self.bias}
        if self.image is not None and self.no_image is not None:
            arrays |= {"image": self.image, "no_image": self.no_image}
        save_file(arrays, directory / ARRAYS)
        write_json(directory / MAP, self.about)

    @classmethod
    def load(cls, directory: Path) -> "ItemMap":
        """What `save` wrote."""
        from safetensors.numpy import load_file

        arrays = load_file(Path(directory) / ARRAYS)
        return cls(
            arrays["text"],
            arrays["bias"],
            arrays.get("image"),
            arrays.get("no_image"),
            read_json(Path(directory) / MAP),
        )


def fit_item_map(model: Any, parts: Sequence[dict[str, Any]] = ()) -> ItemMap | None:
    """The map of a trained SequentialRecommender; None where it knows items by id alone.

    Args:
        parts: of encoder.json, kept with the map.
    """
    weights = {name: value.detach().cpu().numpy() for name, value in model.state_dict().items()}
    text_NT = weights["text_vectors"][1:]
    if not text_NT.shape[1]:
        return None
    id_ND = ids_parts(model)
    ridge_TD, bias_D, found = ridge(text_NT, id_ND)
    projection_TD = weights["text_projection.weight"].T
    id_D, text_D = weights_of_new(model)
    image_ID = no_image_D = None
    if model.image is not None:
        image_ID = np.ascontiguousarray(weights["image.projection.weight"].T)
        no_image_D = weights["image.default"]
    about = {"items": len(id_ND), "parts": list(parts), **found}
    if model.config.similarity == "cosine":
        about["normalised"] = True
    return ItemMap(
        np.ascontiguousarray(projection_TD * text_D + ridge_TD * id_D, np.float32),
        (bias_D * id_D).astype(np.float32),
        image_ID,
        no_image_D,
        about,
    )


def ids_parts(model: Any) -> np.ndarray:
    """What the ids alone say of the trained items, float32 [N, D].

    Of a model whose items are codes it is what texts and images leave of their rows.
    """
    import torch

    if model.item_codes is None:
        return np.asarray(model.id_embedding.weight.detach().cpu().numpy()[1:])
    with torch.inference_mode():
        rows = model.item_rows(None)
        if model.item_codes.lengths is not None:
            rows = rows * model.item_codes.lengths[:, None]
        rows = rows - model.composed(rows.new_zeros(()), None)
        if model.gate is not None:
            rows = rows / model.gate()
    return np.asarray(rows.cpu().numpy()[1:])


def weights_of_new(model: Any) -> tuple[np.ndarray, np.ndarray]:
    """What a new item's id and text are weighed by, float32 [D] each: a gate's at no events."""
    if model.gate is None:
        return np.ones(1, np.float32), np.ones(1, np.float32)
    id_D = model.gate.of_new().detach().cpu().numpy()
    return id_D, 1 - id_D


def normalised(rows_nD: np.ndarray) -> np.ndarray:
    """The rows at length 1, float32."""
    lengths = np.linalg.norm(rows_nD, axis=1, keepdims=True)
    return np.asarray(rows_nD / np.maximum(lengths, 1e-12), np.float32)


def rows_as_new(model: Any, new_N: np.ndarray, id_nD: np.ndarray) -> np.ndarray:
    """Trained items' rows, float32 [n, D], if they were new and `id_nD` were their ids' parts.

    Of a model whose items are codes they are as near as its centroids are.
    """
    import torch

    index = torch.from_numpy(np.flatnonzero(new_N) + 1).to(model.log_popularity.device)
    weight_id, weight_text = weights_of_new(model)
    with torch.inference_mode():
        text_nD = model.text_projection(model.text_vectors[index]).cpu().numpy()
        rows_nD = id_nD * weight_id + text_nD * weight_text
        if model.image is not None:
            rows_nD = rows_nD + model.image(index).cpu().numpy()
    rows_nD = np.asarray(rows_nD, np.float32)
    cosine = model.config.similarity == "cosine"
    if cosine:
        rows_nD = normalised(rows_nD)
    if model.item_codes is not None:
        rows_nD = model.item_codes.nearest(rows_nD)
        return normalised(rows_nD) if cosine else rows_nD
    return rows_nD


def ridge(x_NT: np.ndarray, y_ND: np.ndarray) -> tuple[np.ndarray, np.ndarray, dict[str, float]]:
    """(weights [T, D], intercept [D], {"penalty", "r2"}) of y ≈ x · weights + intercept.

    The penalty is the one of PENALTIES with the least leave-one-out error, which for ridge needs
    no second fit: residual / (1 - leverage) (Golub, Heath and Wahba 1979, Technometrics 21(2)).
    """
    x_mean, y_mean = x_NT.mean(axis=0, dtype=np.float64), y_ND.mean(axis=0, dtype=np.float64)
    x, y = x_NT - x_mean, y_ND - y_mean
    values, vectors = np.linalg.eigh(x.T @ x)
    rotated = x @ vectors
    target = rotated.T @ y
    total = float(np.square(y).sum())
    best: tuple[float, float] | None = None
    for penalty in PENALTIES:
        shrunk = 1.0 / (np.maximum(values, 0.0) + penalty)
        residual = y - (rotated * shrunk) @ target
        # 1 / N is the intercept's own leverage.
        leverage = np.square(rotated) @ shrunk + 1.0 / len(x)
        error = float(np.square(residual / np.maximum(1.0 - leverage, 1e-9)[:, None]).sum())
        if best is None or error < best[0]:
            best = error, penalty
    assert best is not None
    error, penalty = best
    weights = vectors @ (target / (np.maximum(values, 0.0) + penalty)[:, None])
    found = {"penalty": penalty, "r2": 1.0 - error / total if total else 0.0}
    return weights, y_mean - x_mean @ weights, found


def predicted(text_NT: np.ndarray, id_ND: np.ndarray, new_nT: np.ndarray) -> np.ndarray:
    """New items' ids' parts by `ridge`: the rule that serves."""
    weights_TD, bias_D, _ = ridge(text_NT, id_ND)
    return new_nT @ weights_TD + bias_D


def calibrate(
    model: Any, split: Split, rule: Rule = predicted, seed: int = 0
) -> dict[str, float] | None:
    """The boost at which items that are treated as new get as much room as they have events.

    A fifth of the items lose what their ids say, and get what `rule` makes of the others'. The
    split's histories are answered; these items' share of the first 10 places is then to be their
    share of the split's targets (a calibrated recommendation: Steck 2018, RecSys, on groups).

    Args:
        split: validation: histories with targets, not trained on.

    Returns:
        {"boost", "places", "events"}: the boost, and both shares; None without texts, or without
        events of both kinds.
    """
    import torch

    text_NT = model.text_vectors.cpu().numpy()[1:]
    if not text_NT.shape[1]:
        return None
    id_ND = ids_parts(model)
    table = model.item_table().detach().cpu().numpy().copy()
    rng = np.random.default_rng(seed)
    new_N = rng.random(len(id_ND)) < PRETENDED
    rows = rng.permutation(len(split))[:HISTORIES]
    targets = split.targets[rows]
    events = float(new_N[targets - 1].mean())
    if not 0 < events < 1:
        return None
    told_nD = rule(text_NT[~new_N], id_ND[~new_N], text_NT[new_N])
    table[1:][new_N] = rows_as_new(model, new_N, told_nD)
    table_ND = torch.from_numpy(table)
    new_N = np.append(False, new_N)
    times = split.times_for(model.config)
    best: dict[bool, list[np.ndarray]] = {True: [], False: []}
    at_once = users_at_once(len(new_N) - 1)
    for start in range(0, len(rows), at_once):
        these = slice(start, start + at_once)
        histories = [split.histories[row] for row in rows[these]]
        history_BL = torch.from_numpy(pad(histories, model.config.max_length))
        times_BL = times and torch.from_numpy(
            pad([times[row] for row in rows[these]], model.config.max_length)
        )
        with torch.inference_mode():
            hidden_BD = model.encode(history_BL, table_ND, last_only=True, times_BL=times_BL)[:, 0]
            scores_BN = (hidden_BD @ table_ND.T).numpy()
        masked_BN = mask_history(scores_BN, histories, targets[these])
        for kind, found in best.items():
            part = masked_BN[:, new_N == kind]
            width = min(PLACES, part.shape[1])
            found.append(np.partition(part, part.shape[1] - width, axis=1)[:, -width:])
    ours, others = np.concatenate(best[True]), np.concatenate(best[False])

    def places(boost: float) -> float:
        both = np.concatenate([ours + boost, others], axis=1)
        first = np.argsort(-both, axis=1, kind="stable")[:, :PLACES]
        return float((first < ours.shape[1]).mean())

    low, high = -50.0, 50.0
    for _ in range(30):
        middle = (low + high) / 2
        low, high = (middle, high) if places(middle) < events else (low, middle)
    boost = round(high, 2)
    return {"boost": boost, "places": round(places(boost), 4), "events": round(events, 4)}
