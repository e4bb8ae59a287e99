"""The model that serves today, on the users that its challenger is measured on.

It ranks its own catalogue, as it would serve it: items that it does not know are missing from its
histories, a target that it does not know is a miss, and what it alone knows stays in its way.
"""

from dataclasses import replace
from pathlib import Path

import numpy as np

from recommender.errors import KuberecError
from recommender.evaluation.baselines import Scorer
from recommender.evaluation.metrics import MISS, model_scorer
from recommender.evaluation.ranking import masked_ranks
from recommender.sequences import Split, Vocabulary


class Champion:
    """A trained model and its own vocabulary.

    Args:
        model_dir: as `train` wrote it.
        vocabulary: of the splits that it is to rank.

    Raises:
        KuberecError: the folder holds no model that this code can load.
    """

    def __init__(self, model_dir: Path, vocabulary: Vocabulary) -> None:
        from recommender.model import load_model

        model_dir = Path(model_dir)
        try:
            self.model = load_model(model_dir)
        # A missing file; weights or settings of another version of this code.
        except (OSError, RuntimeError, KeyError, ValueError, KuberecError) as error:
            raise KuberecError(
                f"the champion in '{model_dir}' cannot be loaded by this code: "
                f"{str(error).splitlines()[0]}\n  compare with the code that trained it, or set "
                "evaluation.against_champion: false to release without a comparison"
            ) from error
        self.scorer: Scorer = model_scorer(self.model)
        known = Vocabulary.load(model_dir / "vocabulary.json")
        self.items = len(known)
        # Our index → its index; 0 for what it does not know.
        self.theirs_N1 = np.array([0, *(known.index(item) for item in vocabulary.items)])

    def ranks(self, split: Split, scorer: Scorer | None = None) -> np.ndarray:
        """The rank of each user's target, int64 [U], history masked; MISS where it is unknown.

        Args:
            scorer: something that scores with this model's items, instead of the model.

        Raises:
            KuberecError: the model reads times, and the split has none.
        """
        split.times_for(self.model.config)
        theirs = self.translated(split)
        known = theirs.targets > 0
        ranks = np.full(len(split), MISS, dtype=np.int64)
        if known.any():
            rows = np.flatnonzero(known)
            times = theirs.times
            judged = replace(
                theirs,
                users=[theirs.users[row] for row in rows],
                histories=[theirs.histories[row] for row in rows],
                targets=theirs.targets[rows],
                times=None if times is None else [times[row] for row in rows],
            )
            ranks[rows] = masked_ranks(scorer or self.scorer, judged, self.items)
        return ranks

    def translated(self, split: Split) -> Split:
        """The split in its indices: unknown items left out of histories, unknown targets 0."""
        mapped = [self.theirs_N1[history] for history in split.histories]
        times = split.times
        if times is not None:
            times = [own[items > 0] for own, items in zip(times, mapped, strict=True)]
        histories = [items[items > 0] for items in mapped]
        return Split(split.users, histories, self.theirs_N1[split.targets], times)
