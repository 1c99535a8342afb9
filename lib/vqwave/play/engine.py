"""What plays: one object for each model, the same for every engine, numpy in and numpy out.

`onnx` samples with int8 weights and `onnx-float32` with float32 weights. Both use ONNX Runtime, and
need no TensorFlow once their graphs are cached. `keras` is the reference, and runs on GPUs.
"""

import os
import threading
from collections.abc import Mapping
from functools import cached_property, partial
from itertools import pairwise

import numpy as np

from .. import stderr
from ..config import PERIOD, Sampling
from ..data import chunking, melody
from ..data.vocoders import vocoder
from ..errors import UserError
from ..onnx import export, packing
from ..onnx.loops import loop_kind, precision
from .labels import Mixture, find_labels, read_labels
from .sampling import loop_settings

ENGINES = ("onnx", "onnx-float32", "keras")


def check_engine(engine: str) -> str:
    """`engine`. Raises `UserError` where there is none of that name."""
    if engine not in ENGINES:
        raise UserError(f"no engine is called {engine!r}; there are {', '.join(ENGINES)}")
    return engine


def check_chain(codec, generators, kept: int = 0):
    """Raises `UserError` where a generator does not fit the one above it, or the last one `codec`.

    Args:
        codec, generators: anything with a `.config`; the top of the chain first.
        kept: the level whose codes the first is given, 0 where it begins the chain.
    """
    if not generators:
        raise UserError("a chain needs at least one generator")
    configs = [g.config for g in generators]
    if configs[0].source_level != kept:
        above = (f"the variation keeps level {kept}" if kept
                 else "no level stands above it in this chain")
        raise UserError(f"{configs[0].name} reads level {configs[0].source_level}, but {above}")
    for above, below in pairwise(configs):
        if below.source_level != above.level:
            raise UserError(f"{below.name} reads level {below.source_level}, but {above.name} "
                            f"makes {above.level}")
        check_source(below, above)
    for above, below in pairwise(c for c in configs if c.labels):
        ours, theirs = below.labels, above.labels
        if (ours.of, ours.names) != (theirs.of, theirs.names):
            raise UserError(f"{below.name} has {ours.summary}, but {above.name} has "
                            f"{theirs.summary}: a chain has one vocabulary")
    check_codec(generators[-1], codec)


def check_codec(generator, codec):
    """Raises `UserError` where the generator's codes are not those that the codec decodes."""
    ours, theirs = generator.config, codec.config
    if (ours.level, ours.num_codes, ours.books) != (theirs.level, theirs.num_codes, theirs.books):
        raise UserError(f"{theirs.name} decodes {_frame(theirs)} of level {theirs.level}, "
                        f"but {ours.name} makes {_frame(ours)} of level {ours.level}")


def check_source(below, above):
    """Raises `UserError` where generator `below` reads other codes than `above` makes."""
    source = below.source
    if (source.num_codes, source.books) != (above.num_codes, above.books):
        raise UserError(f"{below.name} reads {_frame(source)}, but {above.name} makes "
                        f"{_frame(above)}")


def _frame(config) -> str:
    return (f"{config.num_codes} codes" if config.books == 1
            else f"{config.books} books of {config.num_codes} codes")


def check_trained_on(codecs, generators):
    """Raises `UserError` where the generators were trained on codes from different codecs, or from
    other codecs than those that play. A later step of one run changes its codes little.

    Args:
        codecs, generators: `WeightSet`s. codecs: those that decode, or that encode the prompt.
    """
    def run_of(codes_id: str) -> str:  # "" where a set does not say
        return codes_id.rpartition(":")[0]

    runs = {codec.name: (run_of(codec.codes_id), f"the one in {codec.folder}") for codec in codecs}
    for generator in generators:
        for name, codes_id in (generator.record.get("codecs") or {}).items():
            run, whose = runs.setdefault(name, (run_of(codes_id), f"that of {generator.name}"))
            if run and run_of(codes_id) not in ("", run):
                raise UserError(f"{generator.name} in {generator.folder} was trained on the codes "
                                f"of another {name} than {whose}; play it with its own codec")


class CodecEngine:
    """audio <-> codes at one level; `config` is its `CodecConfig`.

    A codec without codes has vectors instead: float32 [batch, N, dim], not int32 [batch, N, books].
    label: the piece's label in any form that `labels.read_labels` takes, for a codec trained with
    labels; None: no label.

    Attributes:
        rows: rows of a batch that one run of the decoder takes fastest; None: all of them. Rows
            decoded together or apart are the same, bit for bit, where this is a number.
        splits: whether a part of a window can be decoded alone.
    """

    def __init__(self, weight_set, engine: str = "onnx"):
        self.config, self.weight_set = weight_set.config, weight_set
        self.engine = check_engine(engine)
        # What the layers between convolutions read and write then stays in the caches.
        self.rows = None if engine == "keras" else 2
        self.splits = engine != "keras" and self.config.can_decode_part
        self._models = (_KerasCodec if engine == "keras" else _Graphs)(weight_set)
        self._vocode = vocoder(self.config)

    def encode(self, audio, label=None) -> np.ndarray:
        """audio float32 [batch, T] in [-1, 1] -> codes int32 [batch, ceil(T / level), books], in
        constant memory. Raises `UserError` where the codec knows no such label.
        """
        return chunking.encode(partial(self.encode_window, label=label), audio, self.config.level,
                               self.encode_halo, segment=self.config.quantizer.segment)

    def decode(self, codes, label=None) -> np.ndarray:
        """codes int32 [batch, N, books] -> audio float32 [batch, N·level], in constant memory.

        A residual codec takes any number of its first books. Raises `UserError` where the codec
        knows no such label.
        """
        codes = np.asarray(codes, self.config.frame_dtype)
        return chunking.decode(partial(self.decode_window, label=label), codes, self.config.level,
                               self.decode_halo)

    @property
    def encode_halo(self) -> int:
        """Codes' worth of samples to either side that one code can see."""
        return self._models.fact("encode", "encode_halo")

    @property
    def decode_halo(self) -> int:
        """Codes to either side that one code's samples can see."""
        # Both graphs know it; streams open the first.
        return self._models.fact("decode_part" if self.splits else "decode", "decode_halo")

    @property
    def latency(self) -> float:
        """Algorithmic latency: seconds of audio that the codec needs before its first sample."""
        return self._models.fact("encode", "latency") / self.config.sample_rate

    def encode_window(self, audio, label=None) -> np.ndarray:
        """One run of the encoder: float32 [batch, n·level] -> int32 [batch, n, books]."""
        audio = np.asarray(audio, np.float32)
        return self._models("encode", audio, *self._label_input(label, len(audio)))[0]

    def decode_window(self, codes, start: int = 0, label=None) -> np.ndarray:
        """One run of the decoder: int32 [batch, n, books] -> float32 [batch, n·level].

        start: the number of the first of these codes in the piece, which tones and noise are a
            function of.
        """
        codes = np.asarray(codes, self.config.frame_dtype)
        return self._vocode(self._models("decode", codes, *self._start_input(start, len(codes)),
                                         *self._label_input(label, len(codes)))[0])

    def decode_part(self, codes, start: int, first: int, count: int) -> np.ndarray:
        """The audio of the frames `first` … `first + count − 1` of these codes, equal to that part
        of `decode_window`: float32 [batch, count·level], fewer samples where the codes end before.
        """
        level = self.config.level
        if not self.splits:
            return self.decode_window(codes, start)[:, first * level : (first + count) * level]
        near = self._models.fact("decode_part", "decode_near")
        begin = max(0, first - near)
        places = np.arange(begin, min(first + count + near, codes.shape[1]), dtype=np.int32)
        audio = self._models("decode_part", np.asarray(codes, self.config.frame_dtype),
                             np.tile(places, (len(codes), 1)),
                             *self._start_input(start, len(codes)))[0]
        return audio[:, (first - begin) * level : (first + count - begin) * level]

    def _label_input(self, label, batch: int) -> list[np.ndarray]:
        """The input of labels, int32 [batch, 1, n, 2]; none where the codec has none."""
        if self.config.labels is None and not label:
            return []
        shares = read_labels(label, find_labels([self.config]), batch)
        return [Mixture(shares, shares).pairs(0, 1)]

    def _start_input(self, start: int, batch: int) -> list[np.ndarray]:
        """Where the piece's codes begin, int32 [batch]; none where the decoder need not know."""
        if not self.config.head.needs_position:
            return []
        return [np.full(batch, start % (PERIOD // self.config.level), np.int32)]

    def in_blocks(self, batch: int = 1) -> "CodecBlocks":
        """`batch` pieces, block by block. Raises `UserError` where the codec is not causal."""
        if not self.config.in_blocks:
            raise UserError(f"{self.config.name} has a padding of {self.config.padding}; only "
                            f"codecs with causal padding can run block by block")
        return CodecBlocks(self.config, self._models, batch)


class CodecBlocks:
    """A causal codec, block by block: the blocks' codes and audio equal those of whole pieces.

    held, encoding, decoding: the whole state, float32 arrays. A copy of them continues the pieces.
    """

    def __init__(self, config, models, batch: int):
        self.config, self._models = config, models
        self.held = np.zeros((batch, 0), np.float32)
        self.encoding, self.decoding = (
            np.zeros((batch, models.fact(kind, "state")), np.float32)
            for kind in ("encode_block", "decode_block"))

    def encode(self, audio) -> np.ndarray:
        """The next samples float32 [batch, n], any n -> int32 [batch, m, books], the codes of the
        frames that they end.
        """
        audio = np.concatenate([self.held, np.asarray(audio, np.float32)], axis=1)
        whole = audio.shape[1] // self.config.level * self.config.level
        self.held = audio[:, whole:]
        if not whole:
            return np.zeros((len(audio), 0, self.config.frame_width), self.config.frame_dtype)
        codes, self.encoding = self._models("encode_block", audio[:, :whole], self.encoding)
        return codes

    def decode(self, codes) -> np.ndarray:
        """The next codes int32 [batch, n, books], n at least 1 -> float32 [batch, n·level]."""
        codes = np.asarray(codes, self.config.frame_dtype)
        audio, self.decoding = self._models("decode_block", codes, self.decoding)
        return audio


class GeneratorEngine:
    """Codes of one level, a chunk at a time. precision: the number format of the weights."""

    def __init__(self, weight_set, engine: str = "onnx"):
        self.config, self.weight_set = weight_set.config, weight_set
        self.engine = check_engine(engine)
        self.precision = precision(engine)
        self._models = (_KerasGenerator(weight_set) if engine == "keras"
                        else _OnnxGenerator(weight_set, self.precision))

    @cached_property
    def quietness(self) -> np.ndarray | None:
        """See `packing.quietness`."""
        return packing.quietness(self.weight_set)

    @cached_property
    def ngrams(self) -> frozenset[int]:
        """What a score must not copy, see `melody.ngrams`."""
        return melody.from_digits(self.weight_set.load("ngrams")["ngrams"])

    def context(self, inputs: Mapping[str, np.ndarray]) -> np.ndarray:
        """The conditions' inputs by name -> context float32 [batch, n, context_channels].

        The level above is "source", int32 [batch, N + 2·halo, books above]: n is N·ratio. Without
        it n may be 1, for all frames.
        """
        return self._models.context({condition.input: np.asarray(inputs[condition.input], np.int32)
                                     for condition in self.config.conditions})

    def initial_state(self, batch: int) -> list[np.ndarray]:
        """Zeros float32 [batch, …], one array for each of the core's states."""
        shapes = self.config.states
        return [np.zeros((batch, *shape), np.float32) for shape in shapes.values()]

    def sample(self, context, uniforms, previous, state, sampling: Sampling | None = None,
               forced=None, log_probs: bool = True, bias=None):
        """n steps: (codes int32 [B, n, books], log_probs float32 of that shape or None, state).

        Args:
            context: float32 [B, n, C], None without conditions. Where the sampling is guided, it
                and the state have 2·B rows: those with labels, then those without.
            uniforms: float32 [B, n, books] in [0, 1).
            previous: int32 [B, books], the frame before the first; `config.start_token` where a
                piece begins.
            state: as `initial_state`.
            sampling: None is the generator's own. Temperature 0: the likeliest code.
            forced: int32 [B, n, books], a code that is given instead of drawn, or -1.
            log_probs: whether to return the natural log of each code's probability under what it
                was drawn from.
            bias: float32 [books, codes], added to the logits before the temperature; None: zeros.
        """
        sampling = sampling or self.config.sampling
        inverse, top_k, top_p = loop_settings(sampling)
        guided = self.config.is_guided(sampling)
        full = bool(log_probs or forced is not None or top_k or top_p < 1 or bias is not None
                    or guided)

        def by_step(array, dtype):
            return np.ascontiguousarray(np.swapaxes(np.asarray(array, dtype), 0, 1))

        feeds = {
            "uniforms": by_step(uniforms, np.float32),
            "previous": np.asarray(previous, np.int32),
            "inverse_temperature": np.array(inverse, np.float32),
        }
        if self.config.conditions:
            feeds["context"] = by_step(context, np.float32)
        if full:
            if forced is None:
                forced = np.full(np.shape(uniforms), -1)
            if bias is None:
                bias = np.zeros((self.config.books, self.config.num_codes))
            feeds |= {"forced": by_step(forced, np.int32), "top_k": np.array(top_k, np.int64),
                      "top_p": np.array(top_p, np.float32), "bias": np.asarray(bias, np.float32)}
        if guided:
            feeds["guidance"] = np.array(sampling.guidance, np.float32)
        state = [np.ascontiguousarray(x, np.float32) for x in state]
        codes, scores, state = self._models.run(feeds, state, full)
        return (np.ascontiguousarray(codes.swapaxes(0, 1)),
                np.ascontiguousarray(scores.swapaxes(0, 1)) if log_probs else None, state)


# --- ONNX Runtime ---------------------------------------------------------------------------------


def session(graph: bytes, arena: bool = True):
    """An ONNX Runtime session that keeps to the thread it is called from, so that levels can run
    side by side. Loops run 3 % faster without the arena, convolutions slower.
    """
    # ONNX Runtime 1.29 and later send telemetry for each session, from background threads that also
    # use memory.
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    options.log_severity_level = 3
    options.enable_cpu_mem_arena = arena
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])


_opening = threading.Lock()


class _Graphs:
    """The sessions of a set, each opened when it is first wanted."""

    def __init__(self, weight_set):
        self.weight_set, self.sessions = weight_set, {}

    def session(self, kind: str):
        if kind not in self.sessions:
            # Levels run side by side, and an export silences the whole process while it
            # lasts.
            with _opening:
                if kind not in self.sessions:
                    graph = export.cached_graph(self.weight_set, kind)
                    self.sessions[kind] = session(graph, arena=not kind.startswith("loop"))
        return self.sessions[kind]

    def fact(self, kind: str, key: str) -> int:
        """A number that a graph's metadata hold."""
        return int(self.session(kind).get_modelmeta().custom_metadata_map[key])

    def __call__(self, kind: str, *inputs: np.ndarray) -> list[np.ndarray]:
        """The outputs of a graph; the inputs in their order."""
        names = [x.name for x in self.session(kind).get_inputs()]
        return self.session(kind).run(None, dict(zip(names, inputs, strict=True)))


class _OnnxGenerator:
    """The graphs of a generator: its context, and its loops."""

    def __init__(self, weight_set, precision: str):
        self.graphs, self.precision = _Graphs(weight_set), precision
        self.states = list(weight_set.config.states)

    def context(self, inputs):
        return self.graphs.session("context").run(None, inputs)[0]

    def run(self, feeds, state, full: bool):
        """(codes [n, B, books], log_probs [n, B, books], state) from feeds with time first.

        Not `full`: no code is forced, no filter, bias or guidance is fed, and log_probs is None.
        """
        guided = "guidance" in feeds
        streams = len(feeds["previous"]) * (1 + guided)
        loop = self.graphs.session(loop_kind(self.precision, streams, full, guided))
        codes, *rest = loop.run(None, feeds | dict(zip(self.states, state, strict=True)))
        return (codes, rest[0], rest[1:]) if full else (codes, None, rest)


# --- Keras ----------------------------------------------------------------------------------------


def _predict(model, inputs):
    """The outputs of a model: an array, or a list where there are several."""
    inputs = list(inputs)
    return model.predict_on_batch(inputs if len(inputs) > 1 else inputs[0])


def _runnable(model):
    """Run as a graph, but not through XLA, which would compile for minutes each time a length is
    new.
    """
    model.compile(jit_compile=False)
    return model


class _KerasCodec:
    """The models of a codec, as `_Graphs` has its graphs."""

    def __init__(self, weight_set):
        stderr.import_keras()
        from ..nn.codec import load_codec

        self._codec = load_codec(weight_set)
        blocks = ["encode_block", "decode_block"] * weight_set.config.in_blocks
        self._models = {kind: _runnable(getattr(self._codec, f"{kind}_model")())
                        for kind in ("encode", "decode", *blocks)}

    def fact(self, kind: str, key: str) -> int:
        if key == "state":
            return self._models[kind].inputs[1].shape[-1]
        return getattr(self._codec, key)

    def __call__(self, kind: str, *inputs: np.ndarray) -> list[np.ndarray]:
        outputs = _predict(self._models[kind], inputs)
        return [np.asarray(x) for x in (outputs if isinstance(outputs, list) else [outputs])]


class _KerasGenerator:
    """The models of a generator, as `_OnnxGenerator` has its graphs."""

    def __init__(self, weight_set):
        stderr.import_keras()
        from ..nn.generator import load_generator
        from ..nn.sampler import KerasLoop

        self._generator, self._loops = load_generator(weight_set), {}
        self._new_loop = KerasLoop
        if self._generator.conditions:
            self._context = _runnable(self._generator.context_model())

    def context(self, inputs):
        return np.asarray(_predict(self._context, inputs.values()))

    def run(self, feeds, state, full: bool):
        kind = full and bool(feeds["top_k"] or feeds["top_p"] < 1), "guidance" in feeds
        if kind not in self._loops:
            self._loops[kind] = self._new_loop(self._generator, *kind)
        config = self._generator.config
        feeds.setdefault("forced", np.full(feeds["uniforms"].shape, -1, np.int32))
        feeds.setdefault("bias", np.zeros((config.books, config.num_codes), np.float32))
        # Keras wants a batch axis on every input.
        for name in ("inverse_temperature", "top_k", "top_p", "guidance"):
            if name in feeds:
                feeds[name] = feeds[name].reshape(1)
        codes, log_probs, state = self._loops[kind].predict_on_batch(feeds | {"state": state})
        return codes, log_probs, list(state)
