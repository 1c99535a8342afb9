"""Tones and noise as a head."""

from keras import layers

from ...levels.kinds import layer_for
from ..blocks_layer import ReceptiveField
from ..heads_layer import Head
from ..source_layer import Loudness, NoiseBank, ToneBank
from .tones import TonesHead


@layer_for(TonesHead)
class TonesAndNoise(Head):
    """A bank of tones, controlled by an early stage, and a bank of noise, by the last stage."""

    def __init__(self, config):
        super().__init__(config)
        self.tones = None

    def _first_frame(self, start, hop: int):
        """The position of the first frame, in frames of `hop` samples."""
        return start * (self.config.level // hop)

    def tap(self, stage: int, features, start, field: ReceptiveField):
        config = self.config
        if not config.head.tones or stage != config.tone_stage:
            return
        hop = config.hop(stage)
        loudness = Loudness(config.head.tones, name="loudness")
        bank = ToneBank(config.head.tones, hop, config.sample_rate, name="tones")
        self.tones = bank(loudness(features), self._first_frame(start, hop))
        self.receptive_fields.append(field.copy().add(loudness).add(bank))

    def synthesise(self, features, start, field: ReceptiveField, gains=None):
        hop = self.config.hop(0)
        bank = NoiseBank(self.config.stages[0].channels, hop, name="noise")
        noise = bank(features, self._first_frame(start, hop))
        self.receptive_fields.append(field.add(bank))
        if self.tones is None:
            return noise
        return layers.Add(name="sum", dtype="float32")([noise, self.tones])
