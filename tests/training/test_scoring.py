"""Scores of generated images: the judge's verdict against the scene, Frechet distance, diversity."""

from __future__ import annotations

import numpy as np
import pytest

from clipkit.training import scoring
from clipkit.training.judge import Verdict, targets


class TestScores:
    def test_the_verdict_is_compared_with_the_scene(self):
        scenes = scoring.evaluation_scenes(20, things=2, held_out=False)
        present, places, settings_ = targets([(scene, [True, True]) for scene in scenes])
        one_hot = np.eye(16, dtype=np.float32)[settings_.numpy()]
        right = Verdict(present.numpy(), places.numpy(), one_hot, np.zeros((20, 2), np.float32))
        assert scoring.score_verdict(right, scenes) == {"both": 1.0, "placed": 1.0, "background": 1.0, "nothing": 0.0}
        unsure = Verdict(present.numpy() * 0.1, places.numpy(), one_hot, right.features)
        assert (
            scoring.score_verdict(unsure, scenes)["both"] == 0.0
            and scoring.score_verdict(unsure, scenes)["nothing"] == 1.0
        )
        swapped = Verdict(present.numpy(), 1 - places.numpy(), one_hot[::-1], right.features)
        wrong = scoring.score_verdict(swapped, scenes)
        assert wrong["placed"] == 0.0 and wrong["background"] < 0.5

    def test_frechet_distance_of_normal_distributions(self):
        rng = np.random.default_rng(0)
        a, b = rng.normal(size=(20000, 3)), rng.normal(size=(20000, 3)) * 2 + [1, 0, 0]
        assert scoring.frechet_distance(a, a) == pytest.approx(0, abs=1e-6)
        # |mean difference|^2 + sum (s1 - s2)^2 = 1 + 3
        assert scoring.frechet_distance(a, b) == pytest.approx(4, rel=0.05)

    def test_diversity_is_zero_for_equal_features(self):
        assert scoring.diversity(np.ones((5, 4))) == pytest.approx(0)
        assert scoring.diversity(np.eye(4)) == pytest.approx(1)
