import numpy as np
import pytest
from chains import COMPOSER
from prepared import data_folder, music

from vqwave.data import melody, scores
from vqwave.dsp import beats
from vqwave.generators import GeneratorConfig
from vqwave.generators.composer import BANDS, STRUCK
from vqwave.io import weights
from vqwave.levels import DataConfig, TrainingConfig
from vqwave.train.options import RunOptions
from vqwave.train.training import train_generator


def test_a_set_knows_the_runs_of_notes_of_its_training_tracks(tmp_path):
    tracks = data_folder(tmp_path / "data", {"a": music(30, 1), "b": music(12, 2), "jingle": music(0.6, 3)})
    model = GeneratorConfig.model_validate(COMPOSER | {"name": "score", "books": 64})
    score = scores.of_track(tmp_path / "data", tracks[0])
    codes = score.in_steps(model.books)
    struck = codes[:, :-BANDS] >= STRUCK
    early = beats.steps(score.beats)[:-1] < 15
    known = {track.file: frozenset(melody.ngrams([scores.of_track(tmp_path / "data", track).in_steps(model.books)]))
             for track in tracks}

    def learn(steps):
        train_generator(model, tmp_path / "data", None, RunOptions(output_dir=tmp_path, promote=True),
                        TrainingConfig(steps=steps, epochs=1, batch_size=1, input_length=64 * 2048),
                        DataConfig(split={"validation": ["b"]}))
        corpus = weights.find(tmp_path, "score").load("corpus")
        # A label of the jingle has no strikes, because it is too short to learn from.
        np.testing.assert_array_equal(corpus["part_strikes"], [
            struck[early].sum(0), struck[~early].sum(0), 0 * struck[0]])
        assert corpus["strikes"] == pytest.approx(struck.sum(1).mean(), rel=1e-3)
        return melody.from_digits(corpus["ngrams"])

    assert known["a.ogg.u16"] and known["a.ogg.u16"] != known["b.ogg.u16"]
    assert learn(1) == learn(2) == known["a.ogg.u16"]
